"""A stream port comes, goes and comes back, and neither side ever reads from the middle of a frame."""

import errno
import os
import random
import socket

import pytest

from pycolo.core import Batch
from pycolo.errors import ConnectError
from pycolo.transport import streamport
from pycolo.transport.portspec import parse_port
from pycolo.transport.streamport import StreamPort
from support.nodes import wait_for
from support.segments import batch, unbatch

FRAMES = [bytes([i]) * (i * 37 % 1500 + 14) for i in range(200)]


@pytest.fixture
def port(stack, tmp_path):
    """Builds a port; "PATH" in its text is a path of this test."""

    def build(text="unix:PATH,server=on"):
        found = StreamPort(parse_port(text.replace("PATH", str(tmp_path / "s")), "--lan"), "--lan")
        stack.callback(found.close)
        return found

    return build


@pytest.fixture
def peer(stack, tmp_path):
    """Connects to a listening port, which takes it."""

    def connect(port):
        sock = stack.enter_context(socket.socket(socket.AF_UNIX))
        sock.settimeout(10)
        sock.connect(str(tmp_path / "s"))
        wait_for(lambda: port.service(0) is None, "the connection")
        return sock

    return connect


def listener(stack, path):
    sock = stack.enter_context(socket.socket(socket.AF_UNIX))
    sock.bind(str(path))
    sock.listen(1)
    sock.settimeout(10)
    return sock


# ── coming and going ────────────────────────────────────────────────────────────────────────────────────────


def test_a_listening_port_takes_one_connection_after_the_other(port, peer):
    lan = port()
    assert not lan.is_connected
    assert lan.service(0) is not None, "not connected: to be looked at again"
    for i in range(3):
        sock = peer(lan)
        sock.sendall(b"x")
        buf = bytearray(100)
        assert wait_for(lambda buf=buf: lan.read_batch(buf, 5), "a byte") == 6
        assert buf[5:6] == b"x"
        sock.close()
        assert lan.read_batch(buf, 5) == 5
        assert lan.take_reset()
        assert not lan.take_reset()
        assert not lan.is_connected
        assert lan.counters()["connections"] == i + 1


def test_a_connecting_port_tries_again_and_says_each_reason_once(port, stack, tmp_path):
    lan = port("unix:PATH,reconnect-ms=100")
    assert lan.fileno() == -1
    assert lan.service(0) == 100_000
    assert "cannot connect: No such file or directory" in lan.take_note()
    assert lan.service(50_000) == 100_000
    assert lan.service(100_000) == 200_000
    assert lan.take_note() is None
    with listener(stack, tmp_path / "s") as server:
        assert lan.service(200_000) is None
        there = stack.enter_context(server.accept()[0])
        assert lan.is_connected
    there.close()
    assert lan.read_batch(bytearray(10), 0) == 0
    assert lan.service(300_000) == 400_000
    assert "Connection refused" in lan.take_note(), "a new failure after a success is news"


def test_a_listener_that_does_not_accept_does_not_block_the_caller(port, stack, tmp_path):
    server = listener(stack, tmp_path / "s")
    waiting = []
    while True:  # fill its backlog
        sock = stack.enter_context(socket.socket(socket.AF_UNIX))
        sock.setblocking(False)
        waiting.append(sock)
        if sock.connect_ex(str(tmp_path / "s")):
            break
    lan = port("unix:PATH")
    assert lan.service(0) is not None
    assert "cannot connect" in lan.take_note()
    for _ in waiting:
        server.settimeout(0.1)
        try:
            stack.enter_context(server.accept()[0])
        except TimeoutError:
            break
    assert lan.service(10_000_000) is None


def test_tcp_connects_without_blocking(port, stack):
    server = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
    lan = port(f"tcp:127.0.0.1:{server.getsockname()[1]}")
    wait_for(lambda: lan.service(0) is None, "the connection")
    there = stack.enter_context(server.accept()[0])
    octets = bytes(batch(FRAMES[:3]))
    assert lan.write_batch(bytearray(octets), 0, len(octets)) == len(octets)
    assert there.recv(len(octets), socket.MSG_WAITALL) == octets


class SlowSocket(socket.socket):
    """Never connected, never refused."""

    def connect_ex(self, address):
        return errno.EINPROGRESS


def test_a_tcp_connection_that_does_not_come_is_given_up_and_tried_anew(port, monkeypatch):
    monkeypatch.setattr(streamport.socket, "socket", SlowSocket)
    lan = port("tcp:127.0.0.1:9,reconnect-ms=500")
    assert lan.service(0) == streamport.LOOK_AGAIN_US
    assert lan.service(streamport.DIAL_US - 1) is not None
    assert lan.take_note() is None
    lan.service(streamport.DIAL_US)
    assert "timed out" in lan.take_note()
    assert lan.service(streamport.DIAL_US) == streamport.DIAL_US + streamport.LOOK_AGAIN_US


def test_a_port_does_not_talk_to_itself(port, monkeypatch):
    monkeypatch.setattr(streamport, "_is_connected_to_itself", lambda sock: True)
    with socket.create_server(("127.0.0.1", 0)) as server:
        lan = port(f"tcp:127.0.0.1:{server.getsockname()[1]}")
        wait_for(lambda: lan.service(0) and lan.take_note(), "the refusal")
    assert not lan.is_connected


# ── whole frames ────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("seed", range(20))
def test_a_partial_frame_before_a_disconnection_never_desynchronises(port, peer, seed):
    """The end of a connection is noticed by reading or by writing, with any part of a frame left."""
    chance = random.Random(seed)
    lan, into, got = port(), Batch(), []
    for _ in range(8):
        sock = peer(lan)
        frames = chance.choices(FRAMES, k=chance.randrange(1, 6))
        octets = bytes(batch(frames))
        cut = chance.randrange(len(octets) + 1)
        sock.sendall(octets[:cut])
        if chance.random() < 0.5:
            into.fill(lan)
        sock.close()
        if chance.random() < 0.5:
            lan.write_batch(bytearray(octets), 0, len(octets))  # the port learns of the end here
        else:
            while lan.is_connected:
                into.fill(lan)
        if lan.is_connected:
            lan.drop()
        if chance.random() < 0.5:
            into.fill(lan)
        end = into.complete_end(lan)
        got += unbatch(bytes(into.buf[into.start : end]))
        into.start = end
    assert all(octets in FRAMES for octets in got)
    sock = peer(lan)
    sock.sendall(bytes(batch(FRAMES[:5])))
    while len(got) < 5 or got[-5:] != FRAMES[:5]:
        assert into.fill(lan)
        end = into.complete_end(lan)
        got += unbatch(bytes(into.buf[into.start : end]))
        into.start = end


def test_a_frame_that_was_sent_in_part_is_sent_again_whole(port, peer):
    lan = port()
    sock = peer(lan)
    frames = [bytes([i]) * 60_000 for i in range(40)]
    octets = batch(frames)
    reached = lan.write_batch(octets, 0, len(octets))
    assert 0 < reached < len(octets), "the socket took some, not all"
    sock.close()
    assert lan.write_batch(octets, reached, len(octets)) == reached
    assert not lan.is_connected
    sock = peer(lan)
    received = b""
    while reached < len(octets):
        reached = lan.write_batch(octets, reached, len(octets))
        received += sock.recv(1 << 20)
    sock.setblocking(False)
    while True:
        try:
            received += sock.recv(1 << 20)
        except BlockingIOError:
            break
    got = unbatch(received)
    assert got == frames[-len(got) :], "from a frame's beginning to the end of the last"


def test_written_frames_arrive_in_order_through_a_full_socket(port, peer):
    lan = port()
    sock = peer(lan)
    octets = batch(FRAMES * 20)
    reached, received = 0, b""
    while len(received) < len(octets):
        reached = lan.write_batch(octets, reached, len(octets))
        received += sock.recv(10_000)
    assert unbatch(received) == FRAMES * 20
    assert lan.counters()["bytes_out"] == len(octets)


def test_a_full_buffer_is_no_end_of_the_stream(port, peer):
    lan = port()
    peer(lan).sendall(b"x")
    buf = bytearray(4)
    assert lan.read_batch(buf, 4) == 4
    assert lan.is_connected


# ── places that cannot be had ───────────────────────────────────────────────────────────────────────────────


def test_a_path_that_a_killed_process_left_behind_is_taken_over(port, stack, tmp_path):
    listener(stack, tmp_path / "s").close()
    assert (tmp_path / "s").exists()
    port()
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(str(tmp_path / "s"))


@pytest.mark.parametrize("is_busy", [False, True])
def test_a_path_with_a_listener_is_left_alone(port, stack, tmp_path, is_busy):
    server = listener(stack, tmp_path / "s")
    if is_busy:
        while not stack.enter_context(
            socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        ).connect_ex(str(tmp_path / "s")):
            pass
    said = r"^--lan unix:.*: cannot listen: already (in use|running: process .* listens there)$"
    with pytest.raises(ConnectError, match=said):
        port()
    server.accept()[0].close()


def test_a_path_that_is_no_socket_is_left_alone(port, tmp_path):
    (tmp_path / "s").write_text("mine")
    with pytest.raises(ConnectError, match="already in use"):
        port()
    assert (tmp_path / "s").read_text() == "mine"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("unix:/nowhere/at/all,server=on", "cannot listen: No such file or directory"),
        ("tcp:192.0.2.1:9000,server=on", "cannot listen: Cannot assign requested address"),
        ("tcp:no-such-host.invalid:9000", "no-such-host.invalid has no address"),
    ],
)
def test_what_cannot_be_opened_is_said_in_one_line(port, text, said):
    with pytest.raises(ConnectError) as caught:
        port(text)
    assert said in str(caught.value)
    assert str(caught.value).startswith("--lan ")
    assert "\n" not in str(caught.value)


class UnprivilegedSocket(socket.socket):
    """As for a user who is not root."""

    def bind(self, address):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))


def test_a_privileged_port_is_refused_in_one_line(port, monkeypatch):
    monkeypatch.setattr(streamport.socket, "socket", UnprivilegedSocket)
    with pytest.raises(ConnectError, match=r"^--lan tcp:127\.0\.0\.1:80: cannot listen: Permission denied$"):
        port("tcp:127.0.0.1:80,server=on")


def test_closing_takes_the_path_away(port, tmp_path):
    lan = port()
    lan.close()
    assert not (tmp_path / "s").exists()
    lan.close()
