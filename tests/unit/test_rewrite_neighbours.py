"""The guest's addresses, for the announcement at takeover."""

from ipaddress import IPv4Address, IPv6Address

from pycolo import limits
from support.segments import GUEST_MAC, Flow, Tcp, arp
from support.traces import Rewriting


def found(trace):
    return [tuple(neighbour) for neighbour in trace.core.neighbours.all()]


def test_the_sender_of_arp(build):
    trace = Rewriting(build)
    trace.guest(arp(), arp(), arp(sender=bytes([10, 0, 0, 9]), mac=b"\x02\xff\xfe\xfd\xfc\xfb"))
    assert found(trace) == [
        (GUEST_MAC, IPv4Address("10.0.0.2"), 0),
        (b"\x02\xff\xfe\xfd\xfc\xfb", IPv4Address("10.0.0.9"), 0),
    ]


def test_the_sender_of_a_connections_first_packet(build):
    trace = Rewriting(build)
    for flow in (Flow(), Flow(version=6), Flow(tags=(5,)), Flow(client_port=9)):
        trace.guest(Tcp(1, "A", b"x", flow=flow))
    assert [(address, vlan & 0xFFF) for _, address, vlan in found(trace)] == [
        (IPv4Address("10.0.0.2"), 0),
        (IPv6Address("fd00::2"), 0),
        (IPv4Address("10.0.0.2"), 5),
    ]


def test_a_probe_has_no_address_yet(build):
    """RFC 5227: the sender of an ARP probe is 0.0.0.0."""
    trace = Rewriting(build)
    trace.guest(arp(sender=bytes(4)))
    assert found(trace) == []


def test_cut_off_and_foreign_arp_is_ignored(build):
    trace = Rewriting(build)
    octets = arp()
    trace.guest(*(octets[:length] for length in range(14, len(octets))))
    trace.guest(octets[:14] + b"\x00\x06" + octets[16:], octets[:18] + b"\x08" + octets[19:])
    assert found(trace) == []


def test_what_comes_from_outside_is_not_the_guest(build):
    trace = Rewriting(build)
    trace.client(arp(), Tcp(1, "S", from_client=True))
    assert found(trace) == []


def test_their_number_is_bounded(build):
    trace = Rewriting(build)
    trace.guest(*(arp(sender=bytes([10, 1, high, low])) for high in range(2) for low in range(1, 255)))
    assert len(found(trace)) == limits.NEIGHBOURS_MAX
    assert trace.core.neighbours.count == limits.NEIGHBOURS_MAX
