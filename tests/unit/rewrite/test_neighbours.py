"""The guest's addresses, for the announcement at takeover."""

import struct
from ipaddress import IPv4Address, IPv6Address

import pytest

from pycolo import limits
from support.segments import CLIENT6, GUEST6, GUEST_MAC, Flow, Tcp, arp, frame
from support.traces import Rewriting

pytestmark = pytest.mark.rule("R4")


def found(trace):
    return [tuple(neighbour) for neighbour in trace.core.neighbours.all()]


def test_the_sender_of_arp():
    trace = Rewriting()
    trace.guest(arp(), arp(), arp(sender=bytes([10, 0, 0, 9]), mac=b"\x02\xff\xfe\xfd\xfc\xfb"))
    assert found(trace) == [
        (GUEST_MAC, IPv4Address("10.0.0.2"), 0),
        (b"\x02\xff\xfe\xfd\xfc\xfb", IPv4Address("10.0.0.9"), 0),
    ]


def test_the_addresses_from_which_the_guest_answers():
    trace = Rewriting()
    for flow in (Flow(), Flow(version=6), Flow(tags=(5,)), Flow(client_port=9)):
        trace.client(Tcp(1, "S", flow=flow, from_client=True))
        trace.guest(Tcp(1, "SA", ack=2, flow=flow))
    assert [(address, vlan & 0xFFF) for _, address, vlan in found(trace)] == [
        (IPv4Address("10.0.0.2"), 0),
        (IPv6Address("fd00::2"), 0),
        (IPv4Address("10.0.0.2"), 5),
    ]


def test_an_older_connection_shows_it_too():
    trace = Rewriting()
    trace.guest(Tcp(1, "PA", b"x"))
    assert found(trace) == [], "it may be forwarded"
    trace.client(Tcp(5, "A", ack=2, from_client=True))
    trace.guest(Tcp(2, "PA", b"x"))
    assert [address for _, address, _ in found(trace)] == [IPv4Address("10.0.0.2")]


def test_what_a_guest_forwards_is_not_its_own():
    """A router on one network: both directions of other hosts' connections come in, and go out again."""
    trace = Rewriting()
    there = [Tcp(1, "S", from_client=True), Tcp(2, "A", ack=10, from_client=True)]
    back = [Tcp(9, "SA", ack=2), Tcp(10, "A", b"x", ack=2)]
    for segment in (there[0], back[0], there[1], back[1]) * 2:
        octets = frame(segment)  # between 10.0.0.1 and 10.0.0.2, by way of the guest, which is neither
        trace.client(octets)
        trace.guest(octets)
    assert found(trace) == []


def advertisement(target: bytes, hop_limit: int = 255, kind: int = 136) -> bytes:
    """RFC 4861 section 4.4."""
    body = bytes([kind, 0, 0, 0, 0x60, 0, 0, 0]) + target + b"\x02\x01" + GUEST_MAC
    header = struct.pack(">IHBB", 6 << 28, len(body), 58, hop_limit) + GUEST6 + CLIENT6
    return b"\x33\x33\0\0\0\x01" + GUEST_MAC + b"\x86\xdd" + header + body


def test_the_target_of_a_neighbour_advertisement():
    trace = Rewriting()
    target = IPv6Address("fd00::77")
    octets = advertisement(target.packed)
    trace.guest(*(octets[:length] for length in range(14, len(octets))))
    trace.guest(advertisement(target.packed, hop_limit=64), advertisement(target.packed, kind=135))
    assert found(trace) == [], "cut off; forwarded; a solicitation's target is another's"
    trace.guest(octets)
    assert found(trace) == [(GUEST_MAC, target, 0)]


def test_a_probe_has_no_address_yet():
    """RFC 5227: the sender of an ARP probe is 0.0.0.0."""
    trace = Rewriting()
    trace.guest(arp(sender=bytes(4)))
    assert found(trace) == []


def test_cut_off_and_foreign_arp_is_ignored():
    trace = Rewriting()
    octets = arp()
    trace.guest(*(octets[:length] for length in range(14, len(octets))))
    trace.guest(octets[:14] + b"\x00\x06" + octets[16:], octets[:18] + b"\x08" + octets[19:])
    assert found(trace) == []


def test_what_comes_from_outside_is_not_the_guest():
    trace = Rewriting()
    trace.client(arp(), Tcp(1, "S", from_client=True))
    assert found(trace) == []


def test_their_number_is_bounded():
    trace = Rewriting()
    trace.guest(*(arp(sender=bytes([10, 1, high, low])) for high in range(2) for low in range(1, 255)))
    assert len(found(trace)) == limits.NEIGHBOURS_MAX
    assert trace.core.neighbours.count == limits.NEIGHBOURS_MAX
