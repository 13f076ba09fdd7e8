"""Frames through a descriptor, one per call and by the batch: a SOCK_SEQPACKET pair stands for the device."""

import errno
import os
import socket
from functools import partial

import pytest

from pycolo import core, limits
from pycolo.core import BATCH_BUFFER_BYTES
from support.segments import batch, unbatch, vnet_header

FRAMES = [bytes([i]) * (14 + i * 31) for i in range(40)]


@pytest.fixture(params=[socket.SOCK_SEQPACKET, socket.SOCK_DGRAM], ids=["seqpacket", "dgram"])
def device(request):
    ours, theirs = socket.socketpair(socket.AF_UNIX, request.param | socket.SOCK_NONBLOCK)
    with ours, theirs:
        yield ours, theirs


@pytest.fixture(params=[False, True], ids=["calls", "batches"])
def frame_fd(request):
    return partial(core.FrameFd, is_socket=request.param)


def test_each_read_is_a_frame_of_the_batch(device, frame_fd):
    ours, theirs = device
    found = frame_fd(ours.fileno(), 0)
    buf = bytearray(BATCH_BUFFER_BYTES)
    assert found.read_batch(buf, 7) == 7, "nothing there"
    for octets in FRAMES[:5]:
        theirs.send(octets)
    end = found.read_batch(buf, 7)
    assert unbatch(bytes(buf[7:end])) == FRAMES[:5]
    assert found.frames_in == 5
    assert found.failed_errno == 0


def test_with_vnet_headers_the_word_says_their_length(device, frame_fd):
    ours, theirs = device
    found = frame_fd(ours.fileno(), 10)
    buf = bytearray(BATCH_BUFFER_BYTES)
    theirs.send(vnet_header(size=10) + FRAMES[3])
    end = found.read_batch(buf, 0)
    assert buf[4:8] == b"\0\0\0\x0a"
    assert unbatch(bytes(buf[:end]), has_vnet=True) == [FRAMES[3]]


def test_a_read_stops_while_the_largest_frame_still_fits(device, frame_fd):
    ours, theirs = device
    found = frame_fd(ours.fileno(), 0)
    theirs.send(FRAMES[0])
    room = limits.STREAM_LENGTH_BYTES_MAX + 4
    assert found.read_batch(bytearray(room), 1) == 1
    assert found.read_batch(bytearray(room), 0) == len(FRAMES[0]) + 4


@pytest.mark.parametrize("vnet_len", [0, 10])
def test_each_frame_of_a_batch_is_a_write(device, frame_fd, vnet_len):
    ours, theirs = device
    found = frame_fd(ours.fileno(), vnet_len)
    frames = [bytes(vnet_len) + octets for octets in FRAMES[:5]]
    octets = batch(frames, vnet_len or None)
    assert found.write_batch(octets, 0, len(octets)) == len(octets)
    assert [theirs.recv(1 << 17) for _ in frames] == frames
    assert found.frames_out == 5


def test_a_batch_that_ends_within_a_frame_is_written_up_to_there(device, frame_fd):
    ours, theirs = device
    found = frame_fd(ours.fileno(), 0)
    octets = batch(FRAMES[:2])
    whole = len(FRAMES[0]) + 4
    for end in (whole, whole + 3, len(octets) - 1):
        assert found.write_batch(octets, 0, end) == whole
        assert theirs.recv(1 << 17) == FRAMES[0]
    assert found.write_batch(octets, whole, len(octets) - 1) == whole


def test_a_full_device_takes_what_it_can_and_the_rest_later(device, frame_fd):
    ours, theirs = device
    found = frame_fd(ours.fileno(), 0)
    octets = batch(FRAMES * 100)
    reached, received = 0, []
    while reached < len(octets):
        before = reached
        reached = found.write_batch(octets, reached, len(octets))
        assert reached > before
        while True:
            try:
                received.append(theirs.recv(1 << 17))
            except BlockingIOError:
                break
    assert received == FRAMES * 100
    assert found.dropped == 0


def test_an_empty_frame_is_passed_over(device, frame_fd):
    ours, theirs = device
    found = frame_fd(ours.fileno(), 0)
    octets = batch([b"", FRAMES[0], b""])
    assert found.write_batch(octets, 0, len(octets)) == len(octets)
    assert theirs.recv(1 << 17) == FRAMES[0]
    assert found.frames_out == 1


def test_a_frame_that_the_device_refuses_is_dropped_and_counted(device, frame_fd):
    ours, theirs = device
    found = frame_fd(ours.fileno(), 0)
    theirs.close()
    octets = batch(FRAMES[:3])
    assert found.write_batch(octets, 0, len(octets)) == len(octets)
    assert found.dropped == 3
    assert found.last_errno in (errno.EPIPE, errno.ECONNREFUSED, errno.ENOTCONN, errno.ECONNRESET)


def test_a_frame_that_is_too_large_for_any_batch_is_dropped_and_counted(device):
    """Not passed on without its end."""
    ours, theirs = device
    found = core.FrameFd(ours.fileno(), 0, is_socket=True)
    largest = bytes(limits.STREAM_LENGTH_BYTES_MAX)
    for octets in (FRAMES[0], largest + b"x", largest):
        theirs.send(octets)
    buf = bytearray(BATCH_BUFFER_BYTES)
    end = found.read_batch(buf, 0)
    assert unbatch(bytes(buf[:end])) == [FRAMES[0], largest]
    assert (found.frames_in, found.dropped, found.last_errno) == (2, 1, errno.EMSGSIZE)


def test_a_device_that_is_gone_is_remembered():
    reading, writing = os.pipe()
    os.close(reading)
    for is_socket, number in ((False, errno.EBADF), (True, errno.ENOTSOCK)):
        found = core.FrameFd(writing, 0, is_socket=is_socket)
        assert found.read_batch(bytearray(BATCH_BUFFER_BYTES), 0) == 0
        assert found.failed_errno == number
    os.close(writing)
