"""A disk's writes on their way through two nodes."""

import socket
import threading
from collections.abc import Iterator
from queue import Queue

import pytest

from pycolo.transport.linksetup import RawLink
from pycolo.vm.disklink import DiskLink

DEADLINE_S = 20
WRITES = bytes(range(256)) * 20_000


class Both:
    """Both nodes' ends of one disk's connection, between two QEMUs."""

    def __init__(self) -> None:
        self.primary, at_primary = socket.socketpair()
        self.secondary, at_secondary = socket.socketpair()
        self.primary.settimeout(DEADLINE_S)
        self.secondary.settimeout(DEADLINE_S)
        link_a, link_b = socket.socketpair()
        self.ended: Queue[tuple[str, str]] = Queue()
        self.a = DiskLink(at_primary, RawLink(link_a, "a"), "vda", lambda text: self.ended.put(("a", text)))
        self.b = DiskLink(at_secondary, RawLink(link_b, "b"), "vda", lambda text: self.ended.put(("b", text)))
        self.a.start()
        self.b.start()


@pytest.fixture
def both() -> Iterator[Both]:
    made = Both()
    yield made
    made.a.cut()
    made.b.cut()
    made.primary.close()
    made.secondary.close()


def receive(sock: socket.socket, count: int) -> bytes:
    heard = b""
    while len(heard) < count and (part := sock.recv(count - len(heard))):
        heard += part
    return heard


def test_bytes_pass_both_ways(both: Both) -> None:
    for sender, receiver in ((both.primary, both.secondary), (both.secondary, both.primary)):
        sending = threading.Thread(target=sender.sendall, args=(WRITES,))
        sending.start()
        assert receive(receiver, len(WRITES)) == WRITES
        sending.join(DEADLINE_S)
    both.a.cut()
    assert both.a.sent_bytes == len(WRITES)


def test_cutting_ends_it_on_both_hosts_and_is_no_news_where_it_was_done(both: Both) -> None:
    both.a.cut()
    assert both.primary.recv(1) == both.secondary.recv(1) == b""
    text = "disk vda: the other node has closed the connection for its writes"
    assert both.ended.get(timeout=DEADLINE_S) == ("b", text)
    assert not both.a.is_alive()
    both.a.cut()
    assert both.ended.empty()


def test_a_link_that_moves_nothing_can_be_cut(both: Both) -> None:
    """The other QEMU hangs and reads nothing."""
    both.primary.setblocking(False)
    with pytest.raises(BlockingIOError):
        both.primary.sendall(WRITES * 10)
    both.a.cut()
    assert not both.a.is_alive()


def test_each_node_says_whose_end_it_was(both: Both) -> None:
    both.primary.close()
    said = dict(both.ended.get(timeout=DEADLINE_S) for _ in range(2))
    assert "this host's QEMU" in said["a"]
    assert "the other node" in said["b"]


def test_one_that_was_never_started_can_be_cut() -> None:
    (guest, far_guest), (link, far_link) = socket.socketpair(), socket.socketpair()
    DiskLink(guest, RawLink(link, "a"), "vda", lambda text: None).cut()
    assert far_guest.recv(1) == far_link.recv(1) == b""
    far_guest.close()
    far_link.close()
