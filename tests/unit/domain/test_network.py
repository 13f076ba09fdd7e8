"""A network of libvirt's: what it is, and whether a card on it can be protected."""

import pytest

from pycolo.domain.network import network
from pycolo.errors import PeerError

LAN = "<network><name>lan</name><forward mode='bridge'/><bridge name='br0'/></network>"
DEFAULT = """<network>
  <name>default</name>
  <uuid>be3239ab-2665-465b-995f-88d388cb95df</uuid>
  <forward mode='nat'><nat><port start='1024' end='65535'/></nat></forward>
  <bridge name='virbr0' stp='on' delay='0'/>
  <mac address='52:54:00:3A:0a:a3'/>
  <ip address='192.168.122.1' netmask='255.255.255.0'>
    <dhcp><range start='192.168.122.2' end='192.168.122.254'/></dhcp>
  </ip>
  <ip family='ipv6' address='fd00::1' prefix='64'/>
</network>"""
"""virt-install's, as libvirt shows it; and with IPv6."""


def made(forward, bridge="<bridge name='virbr7'/>", *, is_active=True, starts_by_itself=True):
    xml = f"<network><name>lan</name>{forward}{bridge}</network>"
    return network(xml, is_active=is_active, starts_by_itself=starts_by_itself)


def test_a_network_that_is_a_bridge_of_the_hosts_is_as_good_as_the_bridge():
    found = network(LAN, is_active=True, starts_by_itself=True)
    assert (found.name, found.mode, found.bridge, found.why_not) == ("lan", "bridge", "br0", None)
    assert list(found.warnings(())) == []
    assert (found.is_of_one_host, found.gateway) == (False, "")


@pytest.mark.parametrize(
    ("forward", "mode", "named"),
    [
        ("", "isolated", "isolated"),
        ("<forward/>", "nat", "NAT"),
        ("<forward mode='route'/>", "route", "routed"),
        ("<forward mode='open'/>", "open", "open"),
    ],
)
def test_a_network_of_one_host_is_warned_of_unless_the_file_accepts_it_by_its_name(forward, mode, named):
    found = made(forward)
    assert (found.mode, found.bridge, found.is_of_one_host) == (mode, "virbr7", True)
    assert found.why_not is None
    for accepted in ((), ("other",)):
        (line,) = found.warnings(accepted)
        assert f"network lan ({named}) is this host's own" in line
        assert 'own_networks = ["lan"]' in line
        assert "\n" not in line
    assert list(found.warnings(("lan",))) == []


@pytest.mark.parametrize(
    ("forward", "bridge"),
    [
        ("<forward mode='bridge'><interface dev='eth0'/></forward>", ""),
        ("<forward mode='passthrough'><interface dev='eth0'/></forward>", ""),
        ("<forward mode='vepa'><interface dev='eth0'/></forward>", ""),
        ("<forward mode='hostdev' managed='yes'><pf dev='eth3'/></forward>", ""),
        ("<forward mode='private'/>", "<bridge name='br0'/>"),
    ],
)
def test_a_network_without_a_bridge_is_refused(forward, bridge):
    assert "has no bridge" in made(forward, bridge).why_not


@pytest.mark.parametrize(
    "port",
    [
        "<virtualport type='openvswitch'/>",
        "<portgroup name='p' default='yes'><virtualport type='openvswitch'/></portgroup>",
    ],
)
def test_a_network_of_open_vswitchs_is_refused(port):
    found = made("<forward mode='bridge'/>", f"<bridge name='ovsbr0'/>{port}")
    assert "Open vSwitch's" in found.why_not


def test_a_network_that_is_not_there_when_it_is_needed_is_named_with_the_cure():
    bridged = "<forward mode='bridge'/>"
    assert "virsh net-start lan" in made(bridged, is_active=False).why_not
    assert "virsh net-start lan" in made("", is_active=False).why_not
    (line,) = made(bridged, starts_by_itself=False).warnings(())
    assert "virsh net-autostart lan" in line


def test_what_guests_know_of_a_gateway_is_its_mac_and_its_addresses():
    found = network(DEFAULT, is_active=True, starts_by_itself=True)
    assert found.gateway == "52:54:00:3a:0a:a3, 192.168.122.1/255.255.255.0, fd00::1/64"
    assert made("", "<bridge name='virbr7'/><mac address='52:54:00:00:00:07'/>").gateway == ""


def test_what_is_no_definition_is_an_error_of_one_line():
    with pytest.raises(PeerError, match=r"^a network's definition cannot be parsed: [^\n]*$"):
        network("<network>", is_active=True, starts_by_itself=True)
