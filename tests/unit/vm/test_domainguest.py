"""A guest that libvirt has started, as its node sees it: the way to its monitor, and the other host's domain."""

import asyncio
import os
from pathlib import Path

import msgspec
import pytest

from pycolo.config import parse
from pycolo.domain.anymonitor import DomainMonitor
from pycolo.domain.connection import Connection
from pycolo.domain.definition import arguments_of, interfaces
from pycolo.domain.host import DomainHost
from pycolo.errors import ConnectError, PeerError, StateError
from pycolo.qmp.client import Qmp
from pycolo.vm import domainguest
from pycolo.vm.domainguest import DomainGuest, DomainSource, domain_guest, why_missing
from support.domaindisks import FILE, VDA, disk
from support.fakeqmp import FakeQmp
from support.standinlibvirt import StandInDaemon, StandInNetwork

TWO_CARDS = """[qemu]
directory = "{place}/qemu"
[[card]]
netdev = "hostnet0"
[[card]]
netdev = "hostnet1"
"""


class StandInWire:
    """What a card is told of its place."""

    node_tap = "colo-vm1"

    def __init__(self):
        self.assumed = []
        self.home_bridge = None

    def assume(self, bridge):
        self.assumed.append(bridge)


@pytest.fixture
def config(tmp_path):
    return parse((FILE + TWO_CARDS).format(place=tmp_path).encode(), "vm1.toml")


@pytest.fixture
def host(monkeypatch):
    """Makes the part of one host: its libvirtd, its bridges."""
    bridges = []
    monkeypatch.setattr(domainguest, "make_private_bridge", bridges.append)
    monkeypatch.setattr(DomainHost, "pid", lambda one: os.getpid())

    def make(config, daemon):
        monkeypatch.setattr(domainguest, "Connection", lambda uri: Connection(uri, daemon.library))
        return DomainGuest(config)

    make.bridges = bridges
    return make


def play(scene):
    async def limited():
        async with asyncio.timeout(20):
            await scene()

    asyncio.run(limited())


def test_the_other_host_starts_what_the_primary_is(config, host):
    async def scene():
        ours, theirs = StandInDaemon("vm1"), StandInDaemon()
        first, second = host(config, ours), host(config, theirs)
        wires = [StandInWire(), StandInWire()]
        for number, wire in enumerate(wires):
            second.wire(number, f"hostnet{number}", wire)

        async def ask(order, arguments):
            assert order == "domain"
            return await second.hear(arguments)

        with pytest.raises(StateError, match=r"guest.domain in both files"):
            await second.start()
        await first.tell(ask)
        assert [wire.assumed for wire in wires] == [["br0"], ["br1"]]
        assert await second.start() == os.getpid()
        assert host.bridges == ["cop-vm1", "cop-vm1.1"]
        (made,) = theirs.created
        assert [card.bridge for card in interfaces(made)] == ["cop-vm1", "cop-vm1.1"]
        assert arguments_of(made)[-2:] == ("-incoming", "defer")
        assert arguments_of(made)[1] == f"unix:{config.qemu.qmp},server=on,wait=off"
        assert config.qemu.directory.is_dir()

    play(scene)


def test_a_network_is_the_bridge_that_it_has_on_the_other_host(config, host):
    lan = "<network><name>lan</name><forward mode='bridge'/><bridge name='{}'/></network>"

    async def scene():
        ours, theirs = StandInDaemon("vm1"), StandInDaemon()
        ours.domains["vm1"].inactive = (
            ours.domains["vm1"]
            .xml.replace("bridge='br0'", "network='lan'")
            .replace("type='bridge'", "type='network'", 1)
        )
        first, second = host(config, ours), host(config, theirs)
        wires = [StandInWire(), StandInWire()]
        for number, wire in enumerate(wires):
            second.wire(number, f"hostnet{number}", wire)
        with pytest.raises(PeerError, match=r"vm1: its card 52:.*:01: this host has no network lan: virsh net-define"):
            await first.tell(lambda order, arguments: second.hear(arguments))
        theirs.networks["lan"] = StandInNetwork(lan.format("br7"))
        theirs.networks["lan"].is_on = False
        with pytest.raises(PeerError, match="virsh net-start lan"):
            await first.tell(lambda order, arguments: second.hear(arguments))
        theirs.networks["lan"].is_on = True
        await first.tell(lambda order, arguments: second.hear(arguments))
        assert [wire.assumed for wire in wires] == [["br7"], ["br1"]]

    play(scene)


NAT = """<network><name>default</name><forward mode='nat'/><bridge name='virbr0'/><mac address='52:54:00:00:00:0a'/>
<ip address='192.168.122.1' netmask='255.255.255.0'/></network>"""
MACVTAP = "<network><name>default</name><forward mode='bridge'><interface dev='eth0'/></forward></network>"


def on_the_default_network(first, second):
    """Two daemons; the domain is on the first, its card on a network that is `first` there and `second` here."""
    ours, theirs = StandInDaemon("vm1"), StandInDaemon()
    domain = ours.domains["vm1"]
    domain.xml = domain.xml.replace("bridge='br0'", "network='default' bridge='virbr0'")
    domain.xml = domain.xml.replace("type='bridge'", "type='network'", 1)
    ours.networks["default"], theirs.networks["default"] = StandInNetwork(first), StandInNetwork(second)
    return ours, theirs


def test_a_network_of_one_host_is_taken_and_its_gateway_is_known(config, host):
    async def scene():
        ours, theirs = on_the_default_network(NAT, NAT.replace("0a'", "0b'"))
        assert config.guest is not None
        named = msgspec.structs.replace(config, guest=msgspec.structs.replace(config.guest, own_networks=["default"]))
        first, second = host(config, ours), host(named, theirs)
        await first.tell(lambda order, arguments: second.hear(arguments))
        assert await first.gateways() == {"default": "52:54:00:00:00:0a, 192.168.122.1/255.255.255.0"}
        assert await second.gateways() == {"default": "52:54:00:00:00:0b, 192.168.122.1/255.255.255.0"}

    play(scene)


@pytest.mark.parametrize("has_no_bridge", ["the primary's host", "the secondary's host"])
def test_a_network_without_a_bridge_is_refused_on_either_host_before_anything_is_moved(config, host, has_no_bridge):
    async def scene():
        is_first = has_no_bridge == "the primary's host"
        ours, theirs = on_the_default_network(*((MACVTAP, NAT) if is_first else (NAT, MACVTAP)))
        first, second = host(config, ours), host(config, theirs)
        asked = []

        async def ask(order, arguments):
            asked.append(order)
            return await second.hear(arguments)

        with pytest.raises(PeerError, match=r"network default .* has no bridge"):
            await first.tell(ask)
        assert asked == ([] if is_first else ["domain"])
        assert not ours.domains["vm1"].moved
        assert not theirs.defined

    play(scene)


def test_a_transient_survivor_tells_where_its_taps_belong_not_where_they_are(config, host):
    async def scene():
        ours, theirs = StandInDaemon("vm1"), StandInDaemon()
        ours.domains["vm1"].is_kept = False
        ours.domains["vm1"].xml = ours.domains["vm1"].xml.replace("br0", "cop-vm1")
        first, second = host(config, ours), host(config, theirs)
        stands, wires = StandInWire(), [StandInWire(), StandInWire()]
        stands.home_bridge = "br0"
        first.wire(0, "hostnet0", stands)
        for number, wire in enumerate(wires):
            second.wire(number, f"hostnet{number}", wire)
        await first.tell(lambda order, arguments: second.hear(arguments))
        assert [wire.assumed for wire in wires] == [["br0"], ["br1"]]

    play(scene)


def test_what_an_earlier_process_has_left_is_ended_first(config, host, monkeypatch):
    ended = []

    async def scene():
        theirs = StandInDaemon()
        second = host(config, theirs)

        def end(pid, mark):
            ended.append(mark)
            theirs.domains["vm1"].is_on = False

        monkeypatch.setattr(domainguest, "end_leftover_qemu", end)
        await host(config, StandInDaemon("vm1")).tell(lambda order, arguments: second.hear(arguments))
        await second.start()
        await second.start()
        assert (ended, len(theirs.created)) == ([b"guest=vm1,"], 2)

    play(scene)


def test_a_domain_that_cannot_be_protected_is_told_to_nobody(config, host):
    async def scene():
        daemon = StandInDaemon("vm1")
        one = host(config, daemon)
        daemon.domains["vm1"].xml = daemon.domains["vm1"].xml.replace("type='bridge'", "type='direct'")
        with pytest.raises(PeerError, match=r"domain vm1 cannot be protected: its card 52:.* of type 'direct'"):
            await one.tell(None)
        daemon.domains["vm1"].is_on = False
        with pytest.raises(ConnectError, match="does not run on this host: virsh start vm1"):
            await one.tell(None)

    play(scene)


def test_disks_have_the_definitions_names_and_those_that_cannot_be_copied_are_refused(config, host):
    """Without [disks] that is the judge's matter: a writable disk is refused as such."""

    async def scene():
        daemon = StandInDaemon("vm1")
        one, told = host(config, daemon), [disk("libvirt-1-format", "virtio-disk0")]
        domain = daemon.domains["vm1"]
        domain.xml = domain.xml.replace("<devices>", f"<devices>{VDA}")
        (found,) = await one.named(told)
        assert (found.name, found.file) == ("vda", "/images/a.qcow2")
        domain.xml = domain.xml.replace("<backingStore/>", "<shareable/>")
        assert await one.named(told)
        copying = host(
            parse((FILE + TWO_CARDS + "[disks]\n").format(place=config.state.parent).encode(), "vm1.toml"), daemon
        )
        with pytest.raises(PeerError, match="cannot be protected: its disk vda is shared with other guests"):
            await copying.named(told)
        del daemon.domains["vm1"]
        assert await copying.named(told) == told

    play(scene)


def test_a_node_has_its_folder_from_the_start(config, host):
    """What a takeover keeps is written there, and is taken away when the node leaves the network: also a primary's."""

    async def scene():
        assert not config.qemu.directory.exists()
        assert domain_guest(config) is not None
        assert config.qemu.directory.is_dir()

    play(scene)


def test_another_domains_definition_is_refused(config, host):
    async def scene():
        one = host(config, StandInDaemon())
        with pytest.raises(StateError, match=r"guest.domain 'vm1'"):
            await one.hear({"name": "vm2", "uuid": "u", "migratable": "<domain/>", "inactive": None})
        with pytest.raises(PeerError, match="cannot be read"):
            await one.hear({"name": 7})

    play(scene)


def test_a_survivors_own_socket_is_used_and_else_libvirts_monitor(config, monkeypatch):
    async def scene():
        daemon = StandInDaemon("vm1")
        host = DomainHost("vm1", Connection("u", daemon.library))
        source = DomainSource(config, host)
        monkeypatch.setattr(DomainHost, "pid", lambda one: os.getpid())
        lent = await source.open("pair", lambda event: None, lambda text: None, 5)
        assert isinstance(lent, DomainMonitor)
        assert (source.yank, source.pid(), await source.taps()) == (
            None,
            os.getpid(),
            {"hostnet0": "vnet0", "hostnet1": "vnet1"},
        )
        await lent.close()
        Path(config.qemu.directory).mkdir()
        async with FakeQmp(config.qemu.qmp):
            own = await source.open("pair", lambda event: None, lambda text: None, 5)
            assert isinstance(own, Qmp)
            assert source.yank == config.qemu.yank
            await own.close()
            monkeypatch.setattr(DomainHost, "pid", lambda one: 1)
            lent = await source.open("pair", lambda event: None, lambda text: None, 5)
            assert isinstance(lent, DomainMonitor), "somebody else listens there"
            await lent.close()
        daemon.die()
        assert await source.taps() == {}

    play(scene)


def test_without_a_guest_the_message_says_where_it_was_looked_for(config):
    assert why_missing(config) == "domain vm1 does not run here, or libvirt (qemu:///system) does not lend its monitor"

    async def scene():
        assert domain_guest(config) is not None

    play(scene)
