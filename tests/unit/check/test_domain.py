"""A domain beforehand: what libvirt says of it, and each thing that speaks against protecting it."""

import asyncio

import pytest

from pycolo.check import domain as domains
from pycolo.check.domain import domain_items, look_at_domain
from pycolo.check.moment import Moment
from pycolo.check.table import Level
from pycolo.config import parse
from pycolo.domain.connection import Connection
from pycolo.domain.host import Domain
from pycolo.link.hello import Role
from support.domaindisks import CDROM, FILE
from support.standinlibvirt import UUID, XML, StandInDaemon, StandInNetwork

PRIMARY, SECONDARY = Moment(Role.PRIMARY), Moment(Role.SECONDARY)
HERE = XML.format(uuid=UUID).replace("br0", "lo").replace("br1", "lo").replace("/usr/bin/qemu-system-x86_64", "/bin/sh")


def found(**changed):
    values = {
        "uuid": UUID,
        "is_active": False,
        "is_persistent": True,
        "starts_by_itself": False,
        "has_saved_state": False,
        "xml": HERE,
    }
    return Domain(**values | changed)


def judged(moment, **changed):
    return [(item.level, item.text) for item in domain_items("vm1", found(**changed), moment)]


def test_a_domain_that_can_be_protected_is_one_good_line():
    assert judged(PRIMARY, is_active=True) == [(Level.OK, f"vm1, UUID {UUID}, runs")]
    assert judged(SECONDARY) == [(Level.OK, f"vm1, UUID {UUID}, shut off")]


@pytest.mark.parametrize(
    ("changed", "level", "says"),
    [
        ({"is_active": True}, Level.REFUSED, "runs on this host, which is the secondary: virsh destroy vm1"),
        ({"starts_by_itself": True}, Level.REFUSED, "virsh autostart --disable vm1"),
        ({"has_saved_state": True}, Level.WARNING, "virsh managedsave-remove vm1"),
        ({"xml": HERE.replace("'bridge'", "'direct'")}, Level.REFUSED, "of type 'direct'"),
        (
            {"xml": HERE.replace("<devices>", f"<devices>{CDROM}")},
            Level.REFUSED,
            "/iso/a.iso, which the guest only reads, is not on this host",
        ),
        ({"xml": HERE.replace("/bin/sh", "/no/qemu")}, Level.REFUSED, "/no/qemu is not on this host"),
        (
            {"xml": HERE.replace("bridge='lo'", "bridge='no-such'")},
            Level.REFUSED,
            "is in bridge no-such, which this host",
        ),
    ],
)
def test_each_fault_has_its_line(changed, level, says):
    assert [text for found_level, text in judged(SECONDARY, **changed) if found_level is level and says in text]


def test_a_secondary_that_runs_is_no_fault_of_a_pair():
    moment = Moment(Role.SECONDARY, 1, may_take_over=True)
    assert judged(moment, is_active=True) == [(Level.OK, f"vm1, UUID {UUID}, runs")]


def test_a_domain_that_is_not_defined_yet_is_wanted_on_the_primary_only():
    (item,) = domain_items("vm1", None, PRIMARY)
    assert (item.level, "virsh define" in item.text) == (Level.WARNING, True)
    (item,) = domain_items("vm1", None, SECONDARY)
    assert item.level is Level.OK


def test_libvirt_is_asked_once_and_let_go(monkeypatch):
    daemon = StandInDaemon("vm1")
    monkeypatch.setattr(domains, "Connection", lambda uri: Connection(uri, daemon.library))

    looked_now, text = [], [FILE.format(place="/s")]

    async def said(level):
        """Of networks."""
        looked_now.append(await look_at_domain(parse(text[-1].encode(), "vm1.toml"), PRIMARY))
        return [item.text for item in looked_now[-1].items if item.level is level and item.name.startswith("network")]

    async def scene():
        looked = await look_at_domain(parse(FILE.format(place="/s").encode(), "vm1.toml"), PRIMARY)
        assert looked.items[0].text == "libvirt 9.0.0, QEMU 7.2.22"
        assert looked.bridges == {"hostnet0": "br0", "hostnet1": "br1"}
        assert daemon.connections == []
        lan = "<network><name>lan</name><forward mode='{}'/><bridge name='br7'/></network>"
        daemon.domains["vm1"].xml = daemon.domains["vm1"].xml.replace("bridge='br0'", "network='lan'")
        assert (await said(Level.REFUSED)) == [
            "this host has no network lan: virsh net-define it here, as on the other host"
        ]
        daemon.networks["lan"] = StandInNetwork(lan.format("bridge"))
        assert "active, its bridge is br7" in await said(Level.OK)
        assert looked_now[-1].bridges == {"hostnet0": "br7", "hostnet1": "br1"}
        assert await said(Level.WARNING) == []
        daemon.networks["lan"] = StandInNetwork(lan.format("nat"))
        assert "is this host's own" in (await said(Level.WARNING))[0]
        text.append(text[0].replace('domain = "vm1"', 'domain = "vm1"\nown_networks = ["lan"]'))
        assert await said(Level.REFUSED) == await said(Level.WARNING) == []
        assert "this host's own (nat)" in (await said(Level.OK))[0]
        daemon.networks["lan"].is_on = False
        assert "virsh net-start lan" in (await said(Level.REFUSED))[0]
        daemon.die()
        looked = await look_at_domain(parse(FILE.format(place="/s").encode(), "vm1.toml"), PRIMARY)
        (item,) = looked.items
        assert (item.level, "cannot be reached" in item.text, looked.bridges) == (Level.REFUSED, True, {})

    asyncio.run(scene())
