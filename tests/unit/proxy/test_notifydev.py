"""notify_dev: messages in pieces, from several connections, and unknown ones."""

import os
import socket
import struct
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pycolo.errors import FramingError
from pycolo.path.clock import now_us
from pycolo.proxy.chardev import Chardev, ChardevPort
from pycolo.proxy.notifydev import CHECKPOINT_DONE, DO_CHECKPOINT, INIT, Message, NotifyDev
from pycolo.transport.portspec import PortKind
from support.frames import framed


class Pair:
    """A notify_dev and its peer."""

    def __init__(self, path: Path, has_vnet: bool = False) -> None:
        self.path = path
        chardev = Chardev("n", PortKind.UNIX, os.fspath(path), is_server=True, waits=False, reconnect_ms=None)
        self.notify = NotifyDev(ChardevPort(chardev, "c0.notify_dev", False), has_vnet)
        self.peer = socket.socket(socket.AF_UNIX)
        self.connect()

    def connect(self) -> None:
        self.peer.close()
        self.peer = socket.socket(socket.AF_UNIX)
        self.peer.connect(os.fspath(self.path))
        self.notify.port.service(now_us())

    def close(self) -> None:
        self.peer.close()
        self.notify.port.close()


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    made = Pair(tmp_path / "n")
    yield made
    made.close()


@settings(max_examples=30)
@given(cuts=st.lists(st.integers(0, 80), max_size=6), has_vnet=st.booleans())
def test_messages_may_come_in_pieces(tmp_path_factory: pytest.TempPathFactory, cuts: list[int], has_vnet: bool):
    made = Pair(tmp_path_factory.mktemp("notify") / "n", has_vnet)
    vnet_len = 0 if has_vnet else None
    octets = framed(INIT, vnet_len) + framed(CHECKPOINT_DONE, vnet_len) + framed(b"", vnet_len)
    found: list[Message | bytes] = []
    pieces = sorted({0, *cuts, len(octets)})
    for start, end in pairwise(pieces):
        made.peer.sendall(octets[start:end])
        found += made.notify.read()
    made.close()
    assert found == [Message.INIT, Message.CHECKPOINT_DONE, b""]


@pytest.mark.parametrize("text", [INIT + b"\0", INIT.lower(), b"COLO_CHECKPOINT ", b"\xff" * 100])
def test_only_the_exact_words_count(pair: Pair, text: bytes):
    pair.peer.sendall(framed(text))
    assert pair.notify.read() == [text]
    assert pair.notify.unknown == 1


def test_a_part_of_a_message_goes_with_its_connection(pair: Pair):
    pair.peer.sendall(framed(INIT)[:10])
    assert pair.notify.read() == []
    pair.peer.close()
    assert pair.notify.read() == []
    assert not pair.notify.port.is_connected
    pair.connect()
    pair.peer.sendall(framed(CHECKPOINT_DONE))
    assert pair.notify.read() == [Message.CHECKPOINT_DONE]


def test_an_impossible_length_is_an_error(pair: Pair):
    pair.peer.sendall(struct.pack(">I", 70_000))
    with pytest.raises(FramingError, match=r"c0\.notify_dev"):
        pair.notify.read()


def test_what_we_send_has_no_vnet_word(tmp_path: Path):
    made = Pair(tmp_path / "n", has_vnet=True)
    assert made.notify.send(DO_CHECKPOINT)
    assert made.peer.recv(100) == framed(DO_CHECKPOINT)
    made.close()


def test_each_connection_is_new_once(pair: Pair):
    assert pair.notify.take_new_connection()
    assert not pair.notify.take_new_connection()
    pair.peer.close()
    pair.notify.read()
    assert not pair.notify.take_new_connection()
    assert not pair.notify.send(DO_CHECKPOINT)
    pair.connect()
    assert pair.notify.take_new_connection()


def test_a_peer_that_does_not_listen_costs_no_memory(pair: Pair):
    sent = 0
    while pair.notify.send(DO_CHECKPOINT):
        sent += 1
        assert sent < 1_000_000
    assert pair.notify.has_unsent
