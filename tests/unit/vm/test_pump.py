"""One direction of a stream, byte by byte."""

import socket
from collections.abc import Iterator

import pytest

from pycolo.vm.pump import CHUNK_BYTES, Pump


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, Pump, socket.socket]]:
    (near, source), (sink, far) = socket.socketpair(), socket.socketpair()
    for sock in (near, source, sink, far):
        sock.setblocking(False)
    yield near, Pump(source, sink), far
    for sock in (near, source, sink, far):
        sock.close()


def test_what_is_read_is_written(ends: tuple[socket.socket, Pump, socket.socket]) -> None:
    near, pump, far = ends
    assert not pump.read()
    assert not pump.has_ended
    near.send(b"state")
    assert pump.read()
    pump.write()
    assert far.recv(99) == b"state"
    assert (pump.bytes, pump.is_empty) == (5, True)


def test_bytes_that_another_thread_sees_have_their_time(
    ends: tuple[socket.socket, Pump, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    near, pump, _ = ends
    seen = []
    monkeypatch.setattr("pycolo.vm.pump.monotonic_ns", lambda: seen.append(pump.bytes) or 1_000)
    near.send(b"state")
    assert pump.read()
    pump.write()
    assert seen == [0], "what is seen after that is counted after that"
    assert (pump.bytes, pump.moved_ns) == (5, 1_000)


def test_it_counts_the_first_byte_and_how_long_the_sink_takes_nothing(
    ends: tuple[socket.socket, Pump, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    near, pump, far = ends
    clock = iter(range(1_000, 1_000_000, 1_000))
    monkeypatch.setattr("pycolo.vm.pump.monotonic_ns", lambda: next(clock))
    assert (pump.first_ns, pump.blocked_ns) == (0, 0)
    while pump.is_empty:  # until the sink takes no more
        near.send(bytes(1 << 16))
        pump.read()
        pump.write()
    assert pump.first_ns == 1_000
    assert pump.blocked_ns == 0
    began_ns = pump.moved_ns + 1_000
    pump.write()
    while not pump.is_empty:
        far.recv(1 << 20)
        pump.write()
    assert 0 < pump.blocked_ns <= pump.moved_ns - began_ns
    pump.begin()
    assert (pump.first_ns, pump.blocked_ns) == (0, 0)


def test_the_newest_byte_can_be_kept(ends: tuple[socket.socket, Pump, socket.socket]) -> None:
    near, pump, far = ends
    pump.keeps_newest = True
    for part, passed in ((b"a", b""), (b"b", b"a"), (b"cde", b"bcd")):
        near.send(part)
        assert pump.read()
        pump.write()
        assert pump.is_empty
        assert (passed and far.recv(99)) == passed
    pump.keeps_newest = False
    assert not pump.is_empty
    pump.write()
    assert far.recv(99) == b"e"


def test_a_kept_byte_has_room(ends: tuple[socket.socket, Pump, socket.socket]) -> None:
    near, pump, far = ends
    pump.keeps_newest = True
    sent = received = 0
    while received < 3 * CHUNK_BYTES:
        try:
            sent += near.send(bytes(CHUNK_BYTES))
        except BlockingIOError:
            pass
        if pump.is_empty:
            pump.read()
        pump.write()
        received += len(far.recv(CHUNK_BYTES))
    assert received < sent


def test_an_end_is_noticed_on_both_sides(ends: tuple[socket.socket, Pump, socket.socket]) -> None:
    near, pump, far = ends
    near.send(b"x")
    near.close()
    far.close()
    assert pump.read()
    pump.write()
    assert pump.sink_is_gone
    assert not pump.read()
    assert pump.has_ended
