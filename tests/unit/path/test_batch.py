"""A batch on its way: what was taken goes, what was not stays, what cannot be read on is said."""

import pytest

from pycolo import limits
from pycolo.core import Batch
from pycolo.errors import FramingError
from support.segments import batch, unbatch

FRAMES = [bytes([i]) * (20 + i) for i in range(10)]


class FakePort:
    """Gives the chunks it is built with; takes frames up to `room` bytes a time."""

    name = "--lan test"
    vnet_len = 0

    def __init__(self, *chunks, room=1 << 20):
        self.chunks = list(chunks)
        self.room = room
        self.taken = b""
        self.is_reset = False

    def read_batch(self, buf, pos):
        if not self.chunks:
            return pos
        chunk = self.chunks.pop(0)
        if chunk is None:
            self.is_reset = True
            return pos
        buf[pos : pos + len(chunk)] = chunk
        return pos + len(chunk)

    def write_batch(self, buf, pos, end):
        end = min(end, pos + self.room)
        self.taken += bytes(buf[pos:end])
        return end

    def take_reset(self):
        was, self.is_reset = self.is_reset, False
        return was


def test_frames_come_together_from_any_pieces():
    octets = bytes(batch(FRAMES))
    port = FakePort(*(octets[i : i + 7] for i in range(0, len(octets), 7)))
    into, got = Batch(), []
    while into.fill(port):
        end = into.complete_end(port)
        got += unbatch(bytes(into.buf[into.start : end]))
        into.start = end
    assert got == FRAMES
    assert into.is_empty


def test_what_was_not_taken_stays_in_front_of_what_comes():
    one, two = bytes(batch(FRAMES[:2])), bytes(batch(FRAMES[2:4]))
    into = Batch()
    port = FakePort(one, two)
    into.fill(port)
    into.start = 24
    into.fill(port)
    assert into.start == 0
    assert unbatch(bytes(into.buf[: into.end])) == FRAMES[1:4]


@pytest.mark.parametrize("cut", [1, 3, 4, 20])
def test_the_end_of_a_stream_takes_its_partial_frame_along_and_no_whole_one(cut):
    octets = bytes(batch(FRAMES[:2]))
    port = FakePort(octets[: 24 + cut], None, bytes(batch(FRAMES[5:6])))
    into = Batch()
    while port.chunks:
        into.fill(port)
    assert unbatch(bytes(into.buf[: into.complete_end(port)])) == [FRAMES[0], FRAMES[5]]


def test_an_end_that_was_noticed_elsewhere_counts_before_the_next_read():
    port = FakePort(bytes(batch(FRAMES[:1]))[:9], bytes(batch(FRAMES[5:6])))
    into = Batch()
    into.fill(port)
    port.is_reset = True
    into.fill(port)
    assert unbatch(bytes(into.buf[: into.complete_end(port)])) == [FRAMES[5]]


def test_an_impossible_length_names_the_port():
    port = FakePort(bytes(batch(FRAMES[:1])) + b"\xff\xff\xff\xff")
    into = Batch()
    into.fill(port)
    with pytest.raises(FramingError, match="--lan test: length word 4294967295"):
        into.complete_end(port)


def test_frames_leave_in_as_many_writes_as_it_takes():
    into = Batch()
    into.fill(FakePort(bytes(batch(FRAMES))))
    target = FakePort(room=100)
    while not into.write_to(target):
        assert not into.is_empty
    assert target.taken == bytes(batch(FRAMES))
    assert into.write_to(target)
    into.clear()
    assert into.is_empty


def test_there_is_room_for_a_largest_frame_behind_a_full_batch():
    assert len(Batch().buf) >= limits.BATCH_BYTES + limits.STREAM_LENGTH_BYTES_MAX + 8
