"""A network of libvirt's: what it is, and whether a card on it can be protected."""

import pytest

from pycolo.domain.network import network
from pycolo.errors import PeerError

LAN = "<network><name>lan</name><forward mode='bridge'/><bridge name='br0'/></network>"


def made(forward, bridge="<bridge name='virbr7'/>", *, is_active=True, starts_by_itself=True):
    xml = f"<network><name>lan</name>{forward}{bridge}</network>"
    return network(xml, is_active=is_active, starts_by_itself=starts_by_itself)


def test_a_network_that_is_a_bridge_of_the_hosts_is_as_good_as_the_bridge():
    found = network(LAN, is_active=True, starts_by_itself=True)
    assert (found.name, found.mode, found.bridge, found.why_not, found.warnings) == ("lan", "bridge", "br0", None, ())


@pytest.mark.parametrize(
    ("forward", "mode"), [("", "isolated"), ("<forward/>", "nat"), ("<forward mode='route'/>", "route")]
)
def test_a_network_of_one_host_may_be_used_and_is_warned_of(forward, mode):
    found = made(forward)
    assert (found.mode, found.bridge, found.why_not) == (mode, "virbr7", None)
    (line,) = found.warnings
    assert "network lan" in line
    assert "virbr7" in line


@pytest.mark.parametrize(
    ("forward", "bridge"),
    [
        ("<forward mode='bridge'><interface dev='eth0'/></forward>", ""),
        ("<forward mode='hostdev'/>", ""),
        ("<forward mode='private'/>", "<bridge name='br0'/>"),
    ],
)
def test_a_network_without_a_bridge_is_refused(forward, bridge):
    assert "has no bridge" in made(forward, bridge).why_not


def test_a_network_that_is_not_there_when_it_is_needed_is_named_with_the_cure():
    assert "virsh net-start lan" in made("", is_active=False).why_not
    assert "virsh net-autostart lan" in made("<forward mode='bridge'/>", starts_by_itself=False).warnings[0]


def test_what_is_no_definition_is_an_error_of_one_line():
    with pytest.raises(PeerError, match=r"^a network's definition cannot be parsed: [^\n]*$"):
        network("<network>", is_active=True, starts_by_itself=True)
