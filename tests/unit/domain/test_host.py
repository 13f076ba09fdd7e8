"""What a node asks and tells its host's libvirt about one domain."""

import asyncio
import os
from pathlib import Path

import pytest

from pycolo.domain.connection import Connection
from pycolo.domain.definition import Placed, arguments_of, interfaces
from pycolo.domain.disks import DiskImage, writable_disks
from pycolo.domain.host import DomainHost, Versions, process_mark
from pycolo.errors import PeerError
from support.domaindisks import READ_ONLY, VDA
from support.standinlibvirt import UUID, StandInDaemon, StandInNetwork

OWN = ("-qmp", "unix:/q", "-incoming", "defer")


def play(scene, *names, pids=None):
    daemon = StandInDaemon(*names)

    async def limited():
        async with asyncio.timeout(20):
            connection = Connection("u", daemon.library)
            await scene(DomainHost("vm1", connection, pids) if pids else DomainHost("vm1", connection), daemon)

    asyncio.run(limited())


def test_a_domain_is_found_with_what_a_check_needs():
    async def scene(host, daemon):
        found = await host.find()
        assert (found.uuid, found.is_active, found.is_persistent, found.starts_by_itself) == (UUID, True, True, False)
        daemon.domains["vm1"].starts = 1
        daemon.domains["vm1"].is_saved = True
        found = await host.find()
        assert (found.starts_by_itself, found.has_saved_state) == (True, True)
        assert await host.versions() == Versions(9_000_000, 7_002_022)
        assert (await host.versions()).shown == "libvirt 9.0.0, QEMU 7.2.22"
        del daemon.domains["vm1"]
        assert await host.find() is None
        assert not await host.is_active()

    play(scene, "vm1")


def test_a_secondary_is_defined_as_on_the_other_host_and_started_apart(tmp_path, monkeypatch):
    monkeypatch.setattr(DomainHost, "pid", lambda host: 77)
    told = []

    async def first(host, daemon):
        told.append(await host.portrait(OWN))

    async def scene(host, daemon):
        assert await host.start_secondary(told[0], OWN, {"hostnet0": "cop-vm1"}) == 77
        assert daemon.domains["vm1"].starts == 0
        made = daemon.created[0]
        assert arguments_of(made) == OWN
        assert [card.bridge for card in interfaces(made)] == ["cop-vm1", "br1"]
        assert await host.waits_here("unix:/q")
        assert not await host.waits_here("unix:/other")
        with pytest.raises(PeerError, match=r"runs on this host too.*virsh destroy vm1"):
            await host.start_secondary(told[0], OWN, {})

    play(first, "vm1")
    play(scene)


def with_disk(daemon, name="vm1", xml=VDA):
    """Its disk is a file."""
    one = daemon.domains[name]
    one.xml = one.xml.replace("<devices>", f"<devices>{xml}").replace("<name>vm1<", f"<name>{name}<")


def test_a_secondary_has_this_hosts_copies_and_so_has_its_next_start(monkeypatch):
    monkeypatch.setattr(DomainHost, "pid", lambda host: 77)
    told = []

    async def first(host, daemon):
        with_disk(daemon)
        told.append(await host.portrait(OWN))

    async def scene(host, daemon):
        assert await host.kept_definition() is None
        with pytest.raises(PeerError, match="disk vda of the primary's domain is not among those that are copied"):
            await host.start_secondary(told[0], OWN, {}, {})
        images = {"vda": DiskImage(Path("/b/vm1.raw"), "raw")}
        await host.start_secondary(told[0], OWN, {}, images)
        for xml in (*daemon.defined, *daemon.created):
            assert [disk.image for disk in writable_disks(xml)] == [images["vda"]]
        assert "report" in daemon.created[0]
        assert "report" not in daemon.defined[0]
        assert await host.kept_definition() is not None

    play(first, "vm1")
    play(scene)


def test_images_of_other_domains_are_known():
    async def scene(host, daemon):
        for name in ("vm1", "web"):
            with_disk(daemon, name)
        assert await host.users_of(["/images/a.qcow2", "/images/b"]) == {"/images/a.qcow2": "web"}
        assert await host.users_of([]) == {}

    play(scene, "vm1", "web")


BELOW = """<backingStore type='file'><format type='qcow2'/><source file='/images/base.qcow2'/>
  <backingStore type='block'><format type='raw'/><source dev='/dev/vg0/golden'/></backingStore></backingStore>"""


def test_whatever_another_domain_has_is_known_by_each_of_its_names(tmp_path):
    """An image below others, or one that is only read, would be overwritten as well."""
    (tmp_path / "pool").mkdir()
    (tmp_path / "link").symlink_to("pool")
    image = tmp_path / "link" / "a.qcow2"

    async def scene(host, daemon):
        with_disk(daemon, "web", VDA.replace("/images/a.qcow2", str(image)).replace("<backingStore/>", BELOW))
        with_disk(daemon, "tools", READ_ONLY)
        asked = [
            str(tmp_path / "pool" / "a.qcow2"),
            "/images/./base.qcow2",
            "/dev/vg0/golden",
            "/images/tools.img",
            "/x",
        ]
        assert await host.users_of(asked) == dict(zip(asked, ["web", "web", "web", "tools"], strict=False))

    play(scene, "vm1", "web", "tools")


def test_another_domain_of_the_same_name_is_not_replaced(monkeypatch):
    monkeypatch.setattr(DomainHost, "pid", lambda host: 77)

    async def scene(host, daemon):
        told = await host.portrait(OWN)
        daemon.domains["vm1"].is_on = False
        daemon.domains["vm1"].xml = daemon.domains["vm1"].xml.replace(UUID, "0" * 36)
        with pytest.raises(PeerError, match=rf"another one .UUID 0+, the primary's has {UUID}"):
            await host.start_secondary(told, OWN, {})
        assert not daemon.created

    play(scene, "vm1")


def test_a_card_is_moved_by_libvirt_which_believes_it_there_then():
    async def scene(host, daemon):
        assert await host.placed("hostnet1") == Placed("vnet1", "br1")
        await host.move_card("hostnet1", "cop-vm1.1")
        assert await host.placed("hostnet1") == Placed("vnet1", "cop-vm1.1")
        assert await host.placed("hostnet0") == Placed("vnet0", "br0")
        daemon.domains["vm1"].is_on = False
        assert await host.placed("hostnet0") is None

    play(scene, "vm1")


LAN = "<network><name>lan</name><forward mode='bridge'/><bridge name='br0'/></network>"


@pytest.mark.parametrize("state", ["active", "shut off", "another bridge", "none", "refused"])
def test_a_card_comes_home_to_its_network_while_that_is_there_and_else_to_the_bridge(state):
    async def scene(host, daemon):
        domain = daemon.domains["vm1"]
        domain.inactive = domain.xml.replace("bridge='br0'", "network='lan'").replace("'bridge'", "'network'", 1)
        if state != "none":
            daemon.networks["lan"] = StandInNetwork(LAN.replace("br0", "br9") if state == "another bridge" else LAN)
            daemon.networks["lan"].is_on = state != "shut off"
            daemon.refused = {"network"} if state == "refused" else set()
        await host.move_card("hostnet0", "cop-vm1")
        await host.move_card("hostnet0", "br0")
        daemon.refused.clear()
        away, back = domain.moved
        assert '<source bridge="cop-vm1" />' in away
        assert ('<source network="lan" />' if state == "active" else '<source bridge="br0" />') in back
        found = await host.network("lan")
        assert (found is None) == (state == "none")
        assert found is None or found.is_active == (state != "shut off")

    play(scene, "vm1")


def test_the_process_is_that_of_the_domain_or_none(tmp_path):
    async def scene(host, daemon):
        assert host.pid() == 0
        (tmp_path / "vm1.pid").write_text(f"{os.getpid()}\n")
        assert host.pid() == 0, "a process of another program has this number by now"

    play(scene, pids=tmp_path)
    assert process_mark("a,b") == b"guest=a,,b,"
