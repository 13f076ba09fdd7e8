"""What the other host is told of a domain, and what its secondary's differs in."""

import re
import xml.etree.ElementTree as ET

import pytest

from pycolo.domain.definition import (
    Home,
    Placed,
    arguments_of,
    emulator,
    home_of,
    in_bridge,
    interfaces,
    mac_of,
    moved_interface,
    placed,
    portrait,
    refusals,
    secondary_xml,
)
from pycolo.errors import PeerError
from support.standinlibvirt import UUID, XML

LIVE = XML.format(uuid=UUID)
OWN = ("-qmp", "unix:/run/colo/vm1/qmp.sock,server=on,wait=off", "-incoming", "defer")


def test_cards_are_read_in_their_order_with_the_ids_that_qemu_has_for_them():
    found = interfaces(LIVE)
    assert [(card.netdev, card.mac, card.bridge) for card in found] == [
        ("hostnet0", "52:54:00:00:00:01", "br0"),
        ("hostnet1", "52:54:00:00:00:02", "br1"),
    ]
    without = re.sub(r"<alias[^>]*>", "", LIVE)
    assert [card.netdev for card in interfaces(without)] == ["hostnet0", "hostnet1"], "the ids that a start gives them"


def test_a_secondary_waits_with_its_taps_apart_and_names_of_its_own_host():
    told = portrait("vm1", UUID, LIVE, LIVE, OWN)
    made = secondary_xml(told, OWN, {"hostnet0": "cop-vm1", "hostnet1": "cop-vm1.1"})
    assert arguments_of(made) == OWN
    assert [card.bridge for card in interfaces(made)] == ["cop-vm1", "cop-vm1.1"]
    assert "vnet" not in made, "the taps of this host have other names"
    assert UUID in made
    assert emulator(made) == "/usr/bin/qemu-system-x86_64"


def test_a_survivor_tells_what_it_was_before_a_node_touched_it():
    """Twice round: the secondary of a secondary of a domain differs from the first one's in nothing."""
    told = portrait("vm1", UUID, LIVE, LIVE, OWN)
    first = secondary_xml(told, OWN, {"hostnet0": "cop-vm1", "hostnet1": "cop-vm1.1"})
    again = portrait("vm1", UUID, first, LIVE, OWN)
    assert [card.bridge for card in interfaces(again.migratable)] == ["br0", "br1"]
    assert arguments_of(again.migratable) == ()
    assert secondary_xml(again, OWN, {"hostnet0": "cop-vm1", "hostnet1": "cop-vm1.1"}) == first


def test_the_users_own_arguments_stay():
    words = "<arg value='-incoming'/><arg value='x'/>"
    line = f"<commandline xmlns='http://libvirt.org/schemas/domain/qemu/1.0'>{words}</commandline>"
    told = portrait("vm1", UUID, LIVE.replace("</domain>", line + "</domain>"), None, OWN)
    assert arguments_of(told.migratable) == ("-incoming", "x")
    assert arguments_of(secondary_xml(told, OWN, {})) == ("-incoming", "x", *OWN)


def test_what_libvirt_is_told_about_a_card_names_that_card_alone():
    element = ET.fromstring(moved_interface(LIVE, "hostnet1", in_bridge("cop-vm1.1")))
    assert (element.tag, element.find("source").get("bridge")) == ("interface", "cop-vm1.1")
    assert element.find("mac").get("address") == "52:54:00:00:00:02"
    assert placed(LIVE, "hostnet1") == Placed("vnet1", "br1")
    for netdev in ("hostnet7", "hn0"):
        with pytest.raises(PeerError, match=f"card {netdev}: the domain has no interface"):
            placed(LIVE, netdev)


IN_A_NETWORK = LIVE.replace("<source bridge='br0'/>", "<source network='lan' portgroup='g'/>").replace(
    "type='bridge'", "type='network'", 1
)
"""The card's definition. While the domain runs libvirt adds the bridge, and a port of this host's."""

RUNS_IN_A_NETWORK = LIVE.replace("<source bridge='br0'/>", "<source network='lan' portid='7' bridge='br0'/>")


def test_a_card_in_a_network_is_told_by_that_networks_name_wherever_it_is_now():
    """The bridge and the port are this host's: the other one's network may have others."""
    for live in (RUNS_IN_A_NETWORK, LIVE.replace("br0", "cop-vm1")):
        told = portrait("vm1", UUID, live, IN_A_NETWORK, OWN)
        first, second = interfaces(told.migratable)
        assert (first.kind, first.network, first.bridge) == ("network", "lan", None)
        assert (second.kind, second.network, second.bridge) == ("bridge", None, "br1")
        assert "portid" not in told.migratable
        made = secondary_xml(told, OWN, {"hostnet0": "cop-vm1", "hostnet1": "cop-vm1.1"})
        assert [(card.kind, card.network, card.bridge) for card in interfaces(made)] == [
            ("bridge", None, "cop-vm1"),
            ("bridge", None, "cop-vm1.1"),
        ]


def test_a_card_in_a_network_is_moved_out_of_it_and_home_by_its_name():
    mac = "52:54:00:00:00:01"
    home = home_of(IN_A_NETWORK, mac)
    assert home == Home("network", {"network": "lan", "portgroup": "g"})
    assert home_of(IN_A_NETWORK, "52:54:00:00:00:02") == in_bridge("br1")
    assert home_of(IN_A_NETWORK, "52:54:00:00:00:09") is None
    apart = ET.fromstring(moved_interface(RUNS_IN_A_NETWORK, "hostnet0", in_bridge("cop-vm1")))
    assert (apart.get("type"), apart.find("source").attrib) == ("bridge", {"bridge": "cop-vm1"})
    back = ET.fromstring(moved_interface(LIVE.replace("br0", "cop-vm1"), "hostnet0", home))
    assert (back.get("type"), back.find("source").attrib) == ("network", {"network": "lan", "portgroup": "g"})
    assert back.find("mac").get("address") == mac_of(LIVE, "hostnet0") == mac
    assert refusals(IN_A_NETWORK) == refusals(RUNS_IN_A_NETWORK) == ()


def test_a_transient_domain_tells_the_homes_that_its_node_knows():
    """It has no other definition than the one that runs, in which its tap may be apart."""
    apart = LIVE.replace("br0", "cop-vm1")
    told = portrait("vm1", UUID, apart, None, OWN, {"hostnet0": "br0"})
    assert [card.bridge for card in interfaces(told.migratable)] == ["br0", "br1"]
    kept = portrait("vm1", UUID, apart, IN_A_NETWORK, OWN, {"hostnet0": "br0"})
    assert interfaces(kept.migratable)[0].network == "lan", "the user's own definition comes first"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (("type='bridge'", "type='direct'"), r"52:54:00:00:00:01 is an interface of type 'direct'.*type='bridge'"),
        (("<memballoon model='none'/>", "<hostdev mode='subsystem'/>"), r"<hostdev>.*detach it"),
        (("<memballoon model='none'/>", "<filesystem type='mount'/>"), "<filesystem>"),
        (("<memballoon model='none'/>", "<shmem name='x'/>"), "<shmem>"),
        (("<model type='virtio'/>", "<virtualport type='openvswitch'/>"), "Open vSwitch bridge.*use a Linux bridge"),
        (("<memballoon model='none'/>", "<tpm model='tpm-crb'/>"), "<tpm>"),
    ],
)
def test_what_cannot_be_protected_is_refused_by_its_name(change, says):
    assert refusals(LIVE) == ()
    found = refusals(LIVE.replace(*change))
    assert found
    assert re.search(says, found[0])
    assert all("\n" not in line for line in found)


@pytest.mark.parametrize("xml", ["", "<domain>", "<network/>"])
def test_what_is_no_definition_is_refused_on_one_line(xml):
    with pytest.raises(PeerError, match=r"^a domain's definition [^\n]*$"):
        portrait("vm1", UUID, xml, None, ())


def test_a_definition_that_fits_into_no_message_is_refused_before_it_is_sent():
    long = LIVE.replace("<memballoon", f"<!-- --><description>{'x' * 30_000}</description><memballoon")
    with pytest.raises(PeerError, match="its definition has 3"):
        portrait("vm1", UUID, long, None, ())
