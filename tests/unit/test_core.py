"""Where Python hands a buffer to the compiled core, a range outside of it is an IndexError, and nothing was touched."""

import os
import sys
from array import array

import pytest

from pycolo import core
from pycolo.wire.kinds import PacketKind
from support.segments import Tcp, frame

FRAME = frame(Tcp(1, "A", b"payload"))
ROOM = 256
RANGES = [(-1, 4), (0, ROOM + 1), (ROOM, ROOM + 1), (5, 4), (-(2**62), 4), (0, sys.maxsize), (sys.maxsize, sys.maxsize)]
PLACES = [-1, ROOM - 1, ROOM, 2**62, -(2**62), sys.maxsize]


def parsed(octets=FRAME):
    packet = core.Packet()
    assert core.parse_frame(bytearray(octets), 0, len(octets), 0, packet) == PacketKind.TCP
    return packet


def refuses(call, *arguments):
    with pytest.raises(IndexError, match="outside the buffer"):
        call(*arguments)


@pytest.mark.parametrize("place", PLACES)
def test_a_number_is_loaded_and_stored_inside(place):
    buf = bytearray(ROOM)
    for call, arguments in (
        (core.load16, ()),
        (core.load32, ()),
        (core.store16, (7,)),
        (core.store32, (7,)),
        (core.replace16, (1, 2)),
        (core.replace32, (1, 2, False)),
    ):
        refuses(call, buf, place, *arguments)
    assert buf == bytes(ROOM)


@pytest.mark.parametrize(("start", "end"), RANGES)
def test_a_range_of_frames_lies_inside(start, end):
    buf, out = bytearray(b"\x55" * ROOM), bytearray(ROOM)
    comparator, rewriter = core.Comparator(1), core.Rewriter(1)
    packet, span = core.Packet(), core.Span()
    refuses(core.parse_frame, buf, start, end, 0, packet)
    refuses(core.frame_at, buf, start, end, False, span)
    refuses(core.frame_boundary, buf, start, end, False)
    for take in (comparator.primary_frames, comparator.secondary_frames, comparator.client_frames):
        refuses(take, buf, start, end, 0)
    for take in (rewriter.client_frames, rewriter.guest_frames):
        refuses(take, buf, start, end, 0, out, 0)
    assert (buf, out) == (b"\x55" * ROOM, bytes(ROOM))


@pytest.mark.parametrize("start", [-1, ROOM + 1, sys.maxsize, -(2**62)])
def test_what_comes_out_begins_inside(start):
    out = bytearray(ROOM)
    rewriter = core.Rewriter(1)
    for drain in (core.Comparator(1).drain, rewriter.drain_guest, rewriter.drain_client):
        refuses(drain, out, start)
    for take in (rewriter.client_frames, rewriter.guest_frames):
        refuses(take, bytearray(4), 0, 4, 0, out, start)
    assert out == bytes(ROOM)


@pytest.mark.parametrize(("start", "length"), [(-1, 4), (0, ROOM + 1), (ROOM, 1), (4, -1), (1, sys.maxsize)])
def test_bytes_that_are_summed_or_compared_lie_inside(start, length):
    buf, whole = bytearray(ROOM), bytearray(2 * ROOM)
    refuses(core.ones_sum, buf, start, length)
    refuses(core.pseudo_sum, buf, start, length, 6, 20)
    refuses(core.first_difference, buf, start, whole, 0, length)
    if length <= ROOM:
        refuses(core.first_difference, bytearray(4 * ROOM), ROOM, buf, start, length)


def test_a_packet_is_patched_in_a_buffer_that_holds_it():
    """In a shorter one, its fields would lie outside."""
    packet, short = parsed(), bytearray(len(FRAME) - 1)
    for patch, arguments in (
        (core.shift_seq, (1,)),
        (core.set_ack, (1,)),
        (core.set_window, (1,)),
        (core.shift_sack, (1,)),
        (core.shift_timestamps, (1, 1)),
        (core.keep_sack_blocks, (1,)),
        (core.strip_options, ()),
        (core.has_authentication, ()),
    ):
        refuses(patch, short, packet, *arguments)
    assert short == bytes(len(short))


@pytest.mark.parametrize("start", [-1, ROOM, ROOM - 10, sys.maxsize, -(2**62)])
def test_a_segment_is_made_where_there_is_room_for_it(start):
    packet, source, target = parsed(), bytearray(FRAME), bytearray(ROOM)
    refuses(core.make_part, target, start, source, packet, 0, packet.payload_len)
    refuses(core.make_bare, target, start, source, packet, 0, 1, 2, 3)
    refuses(core.make_ack, target, start, packet, bytearray(54), 0, 54, 1, 2, 3)
    refuses(core.add_timestamps, target, start, packet, 20, 1, 2)
    refuses(core.add_sack_blocks, target, start, packet, 20, array("I", [1, 2]), 0, 1)
    assert target == bytes(ROOM)


@pytest.mark.parametrize(("first", "last"), [(-1, 4), (0, 8), (5, 4), (8, 9), (0, sys.maxsize)])
def test_a_part_lies_inside_the_payload(first, last):
    packet = parsed()
    assert packet.payload_len == 7
    refuses(core.make_part, bytearray(ROOM), 0, bytearray(FRAME), packet, first, last)


@pytest.mark.parametrize(("first", "count"), [(0, 2), (2, 1), (-1, 1), (1, 1)])
def test_the_edges_of_blocks_lie_inside(first, count):
    refuses(core.add_sack_blocks, bytearray(ROOM), 0, parsed(), 20, array("I", [1, 2]), first, count)


@pytest.mark.parametrize("pos", [-1, ROOM + 1, sys.maxsize, -(2**62)])
def test_a_device_reads_and_writes_inside(pos):
    reading, writing = os.pipe()
    try:
        os.write(writing, b"frame")
        os.set_blocking(reading, False)
        refuses(core.FrameFd(reading, 0).read_batch, bytearray(ROOM), pos)
        for is_socket in (False, True):
            refuses(core.FrameFd(writing, 0, is_socket).write_batch, bytearray(ROOM), pos, ROOM)
        assert os.read(reading, 100) == b"frame"
    finally:
        os.close(reading)
        os.close(writing)


def test_a_view_without_bytes_is_a_range():
    """Nothing is read of it."""
    nothing = bytearray()
    assert core.parse_frame(nothing, 0, 0, 0, core.Packet()) == PacketKind.REFUSED
    assert core.Comparator(1).primary_frames(nothing, 0, 0, 0) == 0
    assert core.Comparator(1).drain(nothing, 0) == 0
