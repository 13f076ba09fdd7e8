"""What left uncompared is counted by reason, in packets and in bytes of payload; what was compared is not there."""

import struct

import pytest

from pycolo.compare.kinds import DivergencePolicy, PassReason
from support.segments import GUEST6, GUEST_MAC, Tcp, arp, frame, icmp_echo, ip_packet, mss, udp, vnet_header
from support.traces import Comparing

BASE = 1000
MD5 = bytes([19, 18, *range(16), 1, 1])


def counted(trace):
    """{reason: (packets, bytes)} of what is not 0."""
    return {reason: found for reason, found in trace.core.held.uncompared.counts().items() if found != (0, 0)}


def left(trace):
    return trace.frames_and_headers()


def under(ethertype, octets=b"x" * 50):
    return GUEST_MAC + GUEST_MAC + ethertype.to_bytes(2) + octets


def test_what_is_compared_is_not_counted():
    trace = Comparing()
    items = [Tcp(BASE, "A", b"data", ack=100), udp(b"datagram"), icmp_echo(b"ping")]
    trace.primary(*items)
    trace.secondary(*items)
    assert len(trace.frames()) == 3
    assert counted(trace) == {}
    assert trace.core.stats.compared_bytes >= len(b"datadatagram")


def test_what_is_no_ip_passes_by_rule_and_is_not_counted():
    trace = Comparing()
    trace.primary(arp(), under(0x88CC), under(0x0026))
    assert len(trace.frames()) == 3
    assert counted(trace) == {}


def advertisement():
    """RFC 4861 section 4.4: a neighbour advertisement that was not asked for."""
    body = struct.pack(">BBHI", 136, 0, 0, 0x20000000) + GUEST6
    header = struct.pack(">IHBB", 6 << 28, len(body), 58, 255) + GUEST6 + b"\xff\x02" + bytes(13) + b"\x01"
    return under(0x86DD, header + body)


@pytest.mark.parametrize(
    "announced", [arp(), under(0x8035), advertisement(), ip_packet(2, b"membership")], ids=["arp", "rarp", "na", "igmp"]
)
def test_what_a_guest_announces_that_was_just_loaded_leaves_nothing_behind(announced):
    """The secondary alone is loaded, so it alone says so (virtio-net's guest announce; QEMU's own RARP)."""
    trace = Comparing(compare_timeout_ms=10)
    trace.secondary(announced, announced)
    trace.wait(1000)
    assert trace.frames() == []
    assert trace.differences() == []
    trace.primary(udp(b"x"))
    trace.secondary(udp(b"x"))
    assert trace.frames() == [udp(b"x")]


@pytest.mark.parametrize("size", [10, 12])
@pytest.mark.parametrize("item", [frame(Tcp(BASE, "A", b"payload", ack=100)), udp(b"payload")])
def test_a_vnet_header_that_is_not_expected_hides_the_packet(size, item):
    """As on the wire of a tap with vnet_hdr, which is QEMU's default, and filters that do not know of it."""
    trace = Comparing()
    octets = vnet_header(size=size) + item
    trace.primary(octets)
    trace.secondary(octets)
    assert left(trace) == [octets], "it passes, for ARP would else be lost too"
    assert counted(trace) == {PassReason.VNET_HEADER: (1, 7)}
    assert trace.core.stats.compared_bytes == 0


@pytest.mark.parametrize(("said", "actual"), [(10, 12), (12, 10), (10, 0), (12, 0)])
def test_a_vnet_header_of_another_length_likewise(said, actual):
    trace = Comparing(vnet_len=said)
    octets = (vnet_header(size=actual) if actual else b"") + frame(Tcp(BASE, "A", b"payload", ack=100))
    trace.primary(octets)
    assert left(trace) == [octets]
    assert counted(trace) == {PassReason.VNET_HEADER: (1, 7)}


@pytest.mark.parametrize("size", [0, 10, 12])
def test_a_vnet_header_that_is_expected_hides_nothing(size):
    trace = Comparing(vnet_len=size)
    octets = vnet_header(size=size) + frame(Tcp(BASE, "A", b"payload", ack=100))
    trace.primary(octets)
    trace.secondary(octets)
    assert left(trace) == [octets]
    assert counted(trace) == {}
    assert trace.core.stats.compared_bytes == 7


@pytest.mark.parametrize("ethertype", [0x8847, 0x8848, 0x8864, 0x88E5])
def test_what_may_wrap_ip_is_counted_whole(ethertype):
    trace = Comparing()
    trace.primary(under(ethertype))
    assert counted(trace) == {PassReason.WRAPPED: (1, 50)}


def test_a_third_vlan_tag_hides_the_packet():
    trace = Comparing()
    tags = (0x0001_8100_0001_8100_0001_0800).to_bytes(12)
    trace.primary(under(0x8100, tags + frame(Tcp(BASE))[14:]))
    assert list(counted(trace)) == [PassReason.WRAPPED]


def test_a_malformed_frame_is_counted_whole():
    trace = Comparing()
    octets = under(0x0800, b"\x45" + bytes(19))
    trace.primary(octets, b"short")
    assert counted(trace) == {PassReason.MALFORMED: (2, len(octets) + 5)}


def test_a_connection_that_is_older_than_the_pair():
    trace = Comparing(needs_handshake=True)
    trace.primary(Tcp(BASE, "A", b"old", ack=100))
    assert counted(trace) == {PassReason.OLDER: (1, 3)}
    trace.core.pair_formed(trace.now_us)
    trace.primary(Tcp(BASE + 3, "A", b"older", ack=100))
    assert counted(trace) == {PassReason.OLDER: (2, 8)}


def test_a_new_connection_of_the_same_ports_is_no_older():
    trace = Comparing(needs_handshake=True)
    trace.primary(Tcp(BASE, "A", b"old", ack=100))
    syn = Tcp(5000, "SA", b"", 300, options=mss(1460))
    data = Tcp(5001, "A", b"compared", 300)
    trace.primary(syn, data)
    trace.secondary(syn, data)
    assert counted(trace) == {PassReason.OLDER: (1, 3)}
    assert trace.core.stats.compared_bytes == 8


def test_without_a_secondary_all_payload_is_counted():
    trace = Comparing()
    trace.core.pair_lost(trace.now_us)
    trace.primary(Tcp(BASE, "A", b"alone", ack=100), udp(b"alone"), vnet_header() + frame(Tcp(BASE, "A", b"hidden")))
    assert counted(trace) == {PassReason.UNPAIRED: (2, 10), PassReason.VNET_HEADER: (1, 6)}


def test_under_report_what_follows_a_difference():
    trace = Comparing(policy=DivergencePolicy.REPORT)
    trace.primary(Tcp(BASE, "A", b"abcd", ack=100))
    trace.secondary(Tcp(BASE, "A", b"abXd", ack=100))
    trace.primary(Tcp(BASE + 4, "A", b"more", ack=100))
    assert counted(trace) == {PassReason.DIFFERED: (2, 8)}


def test_under_report_datagrams_that_differ():
    trace = Comparing(policy=DivergencePolicy.REPORT)
    trace.primary(udp(b"mine"))
    trace.secondary(udp(b"other"))
    trace.wait(5000)
    assert len(trace.frames()) == 1
    assert counted(trace) == {PassReason.DIFFERED: (1, 4)}
    assert trace.core.stats.compared_bytes == 0


def test_a_signed_connection_is_no_other():
    trace = Comparing()
    syn = Tcp(BASE, "SA", b"", 300, options=MD5)
    trace.primary(syn)
    trace.primary(Tcp(BASE + 1, "A", b"signed", 300))
    assert counted(trace)[PassReason.SIGNED] == (2, 6)
    assert set(counted(trace)) == {PassReason.SIGNED}


def test_what_a_checkpoint_releases_is_not_uncompared():
    trace = Comparing()
    trace.primary(Tcp(BASE, "A", b"abcd", ack=100))
    trace.commit()
    assert len(trace.frames()) == 1
    assert counted(trace) == {}
