"""Announcements, read by scapy: who has the address, on which VLAN, to whom."""

from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet6 import ICMPv6ND_NA, ICMPv6NDOptDstLLAddr, IPv6
from scapy.layers.l2 import ARP, Dot1AD, Dot1Q, Ether

from pycolo.wire.build import gratuitous_arp, unsolicited_advertisement

MAC = bytes.fromhex("525400123456")
MAC_TEXT = "52:54:00:12:34:56"
TAG = 0x1000  # beside the 12 bits of a VLAN's number: there is a tag
VLANS = {0: [], TAG | 7: [7], (TAG | 100) << 13 | TAG | 7: [100, 7]}


def vlans(frame):
    return [layer.vlan for layer in frame.iterpayloads() if isinstance(layer, Dot1Q | Dot1AD)]


@pytest.mark.rule("R4")
@pytest.mark.parametrize("is_reply", [False, True])
@pytest.mark.parametrize("vlan", VLANS)
@given(number=st.integers(0, 2**32 - 1))
def test_arp_names_the_address_as_its_own(vlan, is_reply, number):
    address = IPv4Address(number)
    frame = Ether(gratuitous_arp(MAC, address.packed, vlan=vlan, is_reply=is_reply))
    arp = frame[ARP]
    assert (frame.src, frame.dst) == (MAC_TEXT, "ff:ff:ff:ff:ff:ff")
    assert vlans(frame) == VLANS[vlan]
    assert (arp.hwsrc, arp.psrc, arp.pdst) == (MAC_TEXT, str(address), str(address))
    assert arp.op == (2 if is_reply else 1)


@pytest.mark.rule("R4")
@pytest.mark.parametrize("vlan", VLANS)
@given(number=st.integers(0, 2**128 - 1))
def test_an_advertisement_names_the_address_as_its_own(vlan, number):
    address = IPv6Address(number)
    octets = unsolicited_advertisement(MAC, address.packed, vlan=vlan)
    frame = Ether(octets)
    assert (frame.src, frame.dst) == (MAC_TEXT, "33:33:00:00:00:01")
    assert vlans(frame) == VLANS[vlan]
    packet, said = frame[IPv6], frame[ICMPv6ND_NA]
    assert (packet.dst, packet.hlim) == ("ff02::1", 255)
    assert IPv6Address(packet.src) == IPv6Address(said.tgt) == address
    assert (said.R, said.S, said.O) == (0, 0, 1), "it replaces what neighbours have cached"
    assert frame[ICMPv6NDOptDstLLAddr].lladdr == MAC_TEXT
    right = said.cksum
    del said.cksum
    assert Ether(bytes(frame))[ICMPv6ND_NA].cksum == right
