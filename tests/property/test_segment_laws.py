"""Frames that are cut: what a guest gets is what it gets from the kernel's own cutting, byte by byte.

Both go through one TAP device whose guest takes no large frames and completes no checksums: through a packet socket the
kernel cuts them on their way, through a `GuestTap` the node does.
"""

import random
import struct
from contextlib import ExitStack

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pycolo import limits
from pycolo.core import Segmenter
from pycolo.transport.ports import open_device
from pycolo.transport.portspec import parse_port
from support import netns, segments
from support.nodes import wait_for
from support.segments import GSO_TCPV4, GSO_TCPV6, GSO_UDP_L4, NEEDS_CSUM, Flow, Tcp, batch, unbatch
from support.taps import VNET_LEN, Tap

GSO_ECN = 128
MTU_DATA = 1400


@pytest.fixture(scope="module")
def two_ways():
    """(the tap, the node's port on it, a packet socket on it)."""
    with ExitStack() as stack:
        namespace = netns.made()
        stack.callback(namespace.close)
        tap = Tap(namespace, "guest0", offloads=0)
        stack.callback(tap.close)
        port = tap.port()
        stack.callback(port.close)
        plain = open_device(parse_port(f"packet:guest0,netns={namespace.path}", "--guest"), "--guest")
        stack.callback(plain.close)
        octets = batch([bytes(VNET_LEN) + segments.udp(b"is the queue there?")], VNET_LEN)
        wait_for(lambda: plain.write_batch(octets, 0, len(octets)) and tap.read(), "the queue, which takes a moment")
        yield tap, port, plain


def vnet_of(flow, kind, size, header):
    l4 = 14 + 4 * len(flow.tags) + (20 if flow.version == 4 else 40)
    checksum_at = 6 if kind == GSO_UDP_L4 else 16
    return struct.pack("<BBHHHH", NEEDS_CSUM, kind, l4 + header, size, l4, checksum_at)


FLOWS = st.builds(
    Flow,
    st.integers(1, 65535),
    st.integers(1, 65535),
    st.sampled_from([4, 6]),
    st.sampled_from([(), (), (5,), (7, 9)]),
)


@st.composite
def large_segments(draw):
    """A TCP frame to be cut: it has more than one segment."""
    flow = draw(FLOWS)
    options = draw(st.sampled_from([b"", segments.timestamps(77, 5), segments.sack(5, 9, 20, 30)]))
    flags = "A" + draw(st.sampled_from(["", "P", "F", "FP"]))
    size = draw(st.integers(48, MTU_DATA))
    length = draw(st.integers(size + 1, min(60_000, limits.SEGMENTS_MAX * size)))
    data = random.Random(draw(st.integers(0, 99))).randbytes(length)
    seq = draw(st.integers(0, 2**32 - 1))
    kind = GSO_TCPV4 if flow.version == 4 else GSO_TCPV6
    vnet = vnet_of(flow, kind, size, 20 + len(options))
    segment = Tcp(seq, flags, data, draw(st.integers(0, 2**32 - 1)), 1000, options, flow, from_client=True)
    return with_identification(segments.frame(segment, vnet), flow, draw(st.integers(0, 65535)))


def with_identification(octets, flow, number):
    """Another IPv4 identification; the header's checksum with it."""
    if flow.version == 6:
        return octets
    at = VNET_LEN + 14 + 4 * len(flow.tags)
    header = (
        octets[at : at + 4] + struct.pack(">H", number) + octets[at + 6 : at + 10] + b"\0\0" + octets[at + 12 : at + 20]
    )
    checksum = 0xFFFF - segments.ones_sum(header)
    return octets[:at] + header[:10] + struct.pack(">H", checksum) + header[12:] + octets[at + 20 :]


@st.composite
def large_datagrams(draw):
    """A UDP frame to be cut: into two datagrams at least."""
    flow = draw(FLOWS)
    size = draw(st.integers(1, MTU_DATA))
    count = draw(st.integers(2, limits.USO_DATAGRAMS_MAX))
    data = bytes(range(251)) * 240
    data = data[: min(60_000, size * count - draw(st.integers(0, size - 1)))]
    octets = segments.udp(data, flow, from_client=True)
    body = 14 + 4 * len(flow.tags) + (20 if flow.version == 4 else 40)
    pseudo = segments.ones_sum(segments._pseudo(flow, 17, len(data) + 8))
    octets = octets[: body + 6] + struct.pack(">H", pseudo) + octets[body + 8 :]
    return vnet_of(flow, GSO_UDP_L4, size, 8) + octets


def guests_frames(tap, port, octets):
    """What the guest reads, without vnet headers: nothing is left to complete."""
    found = []
    pos = 0

    def is_written():
        nonlocal pos
        pos = port.write_batch(octets, pos, len(octets))
        found.extend(tap.read())
        return pos == len(octets)

    wait_for(is_written, "the tap's room")
    found.extend(tap.read())
    assert {got[0] & NEEDS_CSUM for got in found} <= {0}
    assert {got[1] for got in found} <= {0}
    return [got[VNET_LEN:] for got in found]


@pytest.mark.namespaces
@pytest.mark.tun
@settings(max_examples=40)
@given(st.lists(large_segments() | large_datagrams(), min_size=1, max_size=3))
def test_the_guest_gets_what_the_kernel_would_have_made(two_ways, frames):
    tap, port, plain = two_ways
    octets = batch(frames, VNET_LEN)
    before = port.tap.cut
    theirs = guests_frames(tap, plain, octets)
    port.purge()  # what the other socket has sent is the kernel's
    ours = guests_frames(tap, port, octets)
    assert [len(octets) for octets in ours] == [len(octets) for octets in theirs]
    assert ours == theirs
    assert port.tap.cut - before <= len(frames)
    assert port.tap.refused == 0
    assert port.is_input_read()


@pytest.mark.namespaces
@pytest.mark.tun
def test_large_frames_are_left_whole_where_the_guest_takes_them(two_ways):
    tap, port, _ = two_ways
    tap.offer(15)
    try:
        before = port.tap.cut
        vnet = vnet_of(Flow(), GSO_TCPV4, 1448, 20)
        octets = segments.frame(Tcp(1, "A", bytes(30_000), from_client=True), vnet)
        assert port.write_batch(batch([octets], VNET_LEN), 0, len(octets) + 8) == len(octets) + 8
        assert tap.read() == [octets]
        assert port.tap.cut == before
    finally:
        tap.offer(0)


# ── without a device ────────────────────────────────────────────────────────────────────────────────────────


@given(large_segments())
def test_the_payload_is_there_once_and_each_segment_has_as_much_as_it_may(octets):
    size = int.from_bytes(octets[4:6], "little")
    cut = [whole for piece in Segmenter().segments(octets, VNET_LEN) for whole in unbatch(piece, has_vnet=True)]
    kept = [segments.read(whole, is_partial=True) for whole in cut]
    before = segments.read(octets[VNET_LEN:], is_partial=True)
    assert b"".join(segment.data for segment in kept) == before.data
    assert [len(segment.data) for segment in kept[:-1]] == [size] * (len(kept) - 1)
    assert [segment.seq for segment in kept[1:]] == [segment.end & 0xFFFFFFFF for segment in kept[:-1]]


@given(st.integers(0, 12), large_segments() | large_datagrams(), st.binary(max_size=40), st.data())
def test_any_bytes_are_cut_or_refused(vnet_len, octets, damage, data):
    at = data.draw(st.integers(0, len(octets)))
    octets = octets[:at] + damage + octets[at + len(damage) :]
    octets = octets[: data.draw(st.integers(0, len(octets)))]
    found = Segmenter().segments(octets, vnet_len)
    if found is not None:
        assert all(unbatch(piece, has_vnet=True) for piece in found)


def test_more_segments_than_any_host_makes_are_refused():
    flow = Flow()
    tiny = segments.frame(Tcp(1, "A", bytes(60_000)), vnet_of(flow, GSO_TCPV4, 8, 20))
    assert Segmenter().segments(tiny, VNET_LEN) is None
    none = segments.frame(Tcp(1, "A", bytes(60_000)), vnet_of(flow, GSO_TCPV4, 0, 20))
    assert Segmenter().segments(none, VNET_LEN) is None
    other = segments.frame(Tcp(1, "A", bytes(60_000)), vnet_of(flow, GSO_TCPV6, 1448, 20))
    assert Segmenter().segments(other, VNET_LEN) is None
