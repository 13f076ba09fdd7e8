"""What a tap takes of a batch: a datagram socket stands for it, and a file for its counter."""

import os
import socket
from contextlib import ExitStack

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pycolo.core import FrameFd, TapFd
from support.segments import batch

SEND_BUFFER_BYTES = 8192
TOO_LARGE = SEND_BUFFER_BYTES * 2


class Ring:
    """`port` is the node's end; `read` is QEMU's, which counts what it reads."""

    def __init__(self):
        self._stack = ExitStack()
        ours, self._theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        for end in (ours, self._theirs):
            self._stack.enter_context(end)
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES // 2)
        self.counter, self.queue = self._file(b"0\n"), self._file(b"1000\n")
        self._read = 0
        self.port = TapFd(FrameFd(ours.fileno(), 0, is_socket=True), self.counter, self.queue)
        self._stack.callback(self._theirs.close)

    def _file(self, octets):
        fd = os.memfd_create("counter")
        self._stack.callback(os.close, fd)
        os.write(fd, octets)
        return fd

    def read(self, count):
        found = []
        try:
            while len(found) < count:
                found.append(self._theirs.recv(1 << 17))
        except BlockingIOError:
            pass
        self._read += len(found)
        os.pwrite(self.counter, b"%d\n" % self._read, 0)
        return found

    def close(self):
        self._stack.close()


@pytest.fixture
def ring():
    found = Ring()
    yield found
    found.close()


SIZES = st.integers(0, 60) | st.sampled_from([0, 1514, 3000, TOO_LARGE])


@given(st.lists(SIZES, max_size=120), st.lists(st.integers(0, 12), max_size=12))
def test_what_is_taken_is_read_once_and_in_order_and_what_is_refused_is_not(sizes, schedule):
    """Laws of any schedule: the taken are the read, in order; the position never stops short of a frame's end."""
    ring = Ring()
    try:
        frames = [bytes([i % 251]) * size for i, size in enumerate(sizes)]
        octets = batch(frames)
        pos, taken, got = 0, bytearray(), []
        for count in [*schedule, *[1000] * (len(frames) + 1)]:
            until, behind = ring.port.take_batch(octets, pos, len(octets))
            assert pos <= until <= behind
            taken += octets[pos:until]
            pos = behind
            assert ring.port.sent - ring.port.read_by_guest >= 0
            got += ring.read(count)
        got += ring.read(1000)
        assert pos == len(octets)
        assert not ring.port.is_full
        kept = [octets for octets in frames if len(octets) < TOO_LARGE]
        assert got == [octets for octets in kept if octets]
        assert bytes(taken) == bytes(batch(kept))
        assert ring.port.refused == len(frames) - len(kept)
        assert ring.port.sent == ring.port.read_by_guest == len(got)
    finally:
        ring.close()


def test_a_full_ring_is_tried_again_with_the_same_frame(ring):
    frames = [bytes([i]) * 1000 for i in range(40)]
    octets = batch(frames)
    first = ring.port.write_batch(octets, 0, len(octets))
    assert ring.port.is_full
    assert 0 < first < len(octets)
    assert ring.port.write_batch(octets, first, len(octets)) == first
    got = ring.read(1000)
    while first < len(octets):
        first = ring.port.write_batch(octets, first, len(octets))
        got += ring.read(1000)
    assert got == frames
    assert not ring.port.is_full


def test_counting_begins_where_it_is_told(ring):
    octets = batch([b"x" * 20] * 3)
    ring.port.write_batch(octets, 0, len(octets))
    ring.read(2)
    assert (ring.port.sent, ring.port.read_by_guest) == (3, 2)
    ring.port.begin_count()
    assert (ring.port.sent, ring.port.read_by_guest) == (0, 0)
    os.ftruncate(ring.counter, 0)
    assert ring.port.read_by_guest == -1, "the interface is gone"


def test_nothing_is_begun_when_only_what_was_begun_may_go(ring):
    octets = batch([b"x" * 20])
    assert ring.port.write_batch(octets, 0, 0) == 0
    assert not ring.port.has_begun
    ring.port.forget_begun()
    with pytest.raises(IndexError):
        ring.port.take_batch(octets, 0, len(octets) + 1)
