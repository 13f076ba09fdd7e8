"""colo-compare at its limits: full queues, time-outs, odd messages, connections that break off."""

import struct
import threading
import time

import pytest

from conformance.differences import difference
from conformance.frames import Arp, Frame, Tcp, Udp
from conformance.lockstep import new_connection
from conformance.peers import (
    ANSWER_SECONDS,
    CHECKPOINT_DONE,
    DO_CHECKPOINT,
    INIT,
    INIT_ANSWER,
    Channel,
    Compare,
    Program,
)

pytestmark = [pytest.mark.qemu, pytest.mark.parametrize("program", Program, ids=str)]

EIGHT = [Tcp(1 + 4 * number, b"%04d" % number) for number in range(8)]
TIMEOUT_MS, SCAN_MS = 200, 50


def bytes_of(*frames: Frame) -> list[bytes]:
    """The frames on a connection of their own."""
    connection = new_connection()
    return [frame.on(connection) for frame in frames]


# ── queues ──────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.rule("C6")
@difference("queue-full")
def test_a_full_queue_of_the_primary(program: Program):
    """QEMU holds one more than max_queue_size says and drops the rest; colo asks and reads no further."""
    with Compare(program, max_queue_size=4) as peer:
        frames = bytes_of(*EIGHT)
        peer.channels["pri"].send(*frames)
        if program is Program.QEMU:
            assert peer.settle() == ([], 0)
            assert peer.feed("sec", *frames) == (frames[:5], 0)
            assert peer.tell(CHECKPOINT_DONE) == ([], 0)
        else:
            peer.wait_for_request()
            peer.channels["sec"].send(*frames)
            assert peer.read_frames("out", 8) == frames


@pytest.mark.rule("C6")
@difference("queue-full")
def test_a_full_queue_of_the_secondary(program: Program):
    """What QEMU has dropped of the secondary blocks the primary's packets until a checkpoint."""
    with Compare(program, max_queue_size=4) as peer:
        frames = bytes_of(*EIGHT)
        peer.channels["sec"].send(*frames)
        if program is Program.QEMU:
            assert peer.settle() == ([], 0)
            assert peer.feed("pri", *frames) == (frames[:5], 0)
            assert peer.tell(CHECKPOINT_DONE) == (frames[5:], 0)
        else:
            peer.wait_for_request()
            peer.channels["pri"].send(*frames)
            assert peer.read_frames("out", 8) == frames


@pytest.mark.rule("C6")
@difference("table-full")
def test_a_full_connection_table(program: Program):
    """QEMU clears its table of 16384 connections whole, and what other connections held is gone."""
    with Compare(program) as peer:
        held, arp = bytes_of(Udp(b"held"), Arp())
        peer.channels["pri"].send(held)
        template = bytearray(bytes_of(Udp(b"many"))[0])
        for number in range(17_000):
            struct.pack_into(">H", template, 32, number)  # the client's address, its lower half
            peer.channels["pri"].send(bytes(template))
        peer.channels["pri"].send(arp)
        assert peer.read_until("out", arp) == []
        released, _ = peer.tell(CHECKPOINT_DONE)
        assert (held in released) is (program is Program.COLO)


@difference("order-of-release")
def test_the_order_of_release_when_the_client_side_is_slow(program: Program):
    """outdev is not read for a while. QEMU then sends what it has released last first."""
    count = 1_500
    frames = bytes_of(*(Tcp(1 + 1000 * number, b"%04d" % number * 250) for number in range(count)))
    with Compare(program, max_queue_size=2 * count) as peer:
        feeders = [
            threading.Thread(target=peer.channels[side].send, args=frames, daemon=True) for side in ("sec", "pri")
        ]
        for feeder in feeders:
            feeder.start()
        for feeder in feeders:
            # colo stops reading, and the feeders wait with it; QEMU reads on.
            feeder.join(1 if program is Program.COLO else ANSWER_SECONDS)
        released = peer.read_frames("out", count)
        for feeder in feeders:
            feeder.join()
    assert sorted(released) == sorted(frames)
    assert (released == frames) is (program is Program.COLO)


# ── time ────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.rule("C5")
@difference("one-request-per-epoch")
@pytest.mark.parametrize("side", ["pri", "sec"])
@pytest.mark.parametrize("frame", [Tcp(1, b"abcd"), Udp(b"abcd")], ids=["TCP", "UDP"])
def test_a_packet_without_partner_times_out(program: Program, side: str, frame: Frame):
    """Not before compare_timeout; QEMU asks again with every scan, colo once."""
    with Compare(program, compare_timeout=TIMEOUT_MS, expired_scan_cycle=SCAN_MS) as peer:
        frames = bytes_of(frame)
        sent = time.monotonic()
        peer.channels[side].send(*frames)
        peer.wait_for_request()
        assert time.monotonic() - sent >= TIMEOUT_MS / 1000
        if program is Program.QEMU:
            peer.wait_for_request()
            peer.wait_for_request()
        else:
            assert peer.channels["notify"].read(5 * SCAN_MS / 1000) is None
        released, _ = peer.tell(CHECKPOINT_DONE)
        assert released == (frames if side == "pri" else [])


# ── notify_dev ──────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("vnet_len", [None, 12])
def test_each_init_is_answered(program: Program, vnet_len: int | None):
    """With vnet_hdr_support the messages to notify_dev have the vnet word and those from it do not."""
    with Compare(program, vnet_len) as peer:
        peer.channels["notify"].send(INIT, INIT)
        assert peer.read_frames("notify", 2) == [INIT_ANSWER, INIT_ANSWER]


@pytest.mark.parametrize("message", [b"", b"HELLO", INIT + b"\0", INIT[:-1], CHECKPOINT_DONE.lower(), DO_CHECKPOINT])
def test_other_messages_are_passed_over(program: Program, message: bytes):
    with Compare(program) as peer:
        (held,) = bytes_of(Tcp(1, b"abcd"))
        assert peer.feed("pri", held) == ([], 0)
        peer.channels["notify"].send(message)
        assert peer.settle() == ([], 0)
        assert peer.tell(CHECKPOINT_DONE) == ([held], 0)


@difference("notify-reconnect")
def test_a_request_that_was_not_heard(program: Program):
    """The peer on notify_dev comes back: colo tells it again that a checkpoint is wanted."""
    with Compare(program) as peer:
        mine, other = bytes_of(Tcp(1, b"abcd"), Tcp(1, b"abXd"))
        assert peer.feed("pri", mine) == ([], 0)
        assert peer.feed("sec", other) == ([], 1)
        peer.channels["notify"].reconnect()
        if program is Program.COLO:
            peer.wait_for_request()
        assert peer.settle() == ([], 0)
        assert peer.tell(CHECKPOINT_DONE) == ([mine], 0)


# ── connections ─────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("side", ["pri", "sec", "out", "notify"])
def test_a_connection_may_go_and_come_back(program: Program, side: str):
    with Compare(program) as peer:
        first, second = bytes_of(Tcp(1, b"abcd"), Tcp(5, b"efgh"))
        assert peer.feed("pri", first) == ([], 0)
        peer.channels[side].reconnect()
        peer.wait_until_it_answers()
        assert peer.feed("sec", first, second) == ([first], 0)
        assert peer.feed("pri", second) == ([second], 0)


@difference("partial-frame")
@pytest.mark.parametrize("vnet_len", [None, 12])
@pytest.mark.parametrize("cut", ["in the length word", "in the frame"])
def test_a_connection_that_breaks_off_within_a_frame(program: Program, vnet_len: int | None, cut: str):
    """QEMU takes the beginning of the next connection for the rest of the frame."""
    with Compare(program, vnet_len) as peer:
        channel = peer.channels["pri"]
        (arp,) = bytes_of(Arp())
        arp = bytes(vnet_len or 0) + arp
        begun = begun_frame(channel, length=14 + len(arp) + (4 if vnet_len is None else 8))
        channel.send_bytes(begun[:2] if cut == "in the length word" else begun)
        channel.reconnect()
        channel.send(arp)
        if program is Program.COLO:
            assert peer.read("out") == arp
        elif cut == "in the length word":
            assert peer.dies()  # a length of 0 is what it reads, see below
        else:
            assert peer.read("out") == begun[-14:] + framed(channel, arp)


@difference("impossible-length")
def test_a_length_that_no_frame_has(program: Program):
    """QEMU waits for 70000 bytes and takes what comes for them; colo closes the stream, and serves the next."""
    with Compare(program) as peer:
        (arp,) = bytes_of(Arp())
        peer.channels["pri"].send_bytes(struct.pack(">I", 70_000))
        if program is Program.QEMU:
            peer.channels["pri"].send(arp)
            assert peer.channels["out"].read(0.3) is None
        else:
            assert peer.channels["pri"].is_closed()
            peer.channels["pri"].reconnect()
            assert peer.feed("pri", arp) == ([arp], 0)


@difference("empty-frame")
@pytest.mark.parametrize("side", ["pri", "sec"])
def test_a_frame_without_bytes(program: Program, side: str):
    """QEMU dies of it."""
    with Compare(program) as peer:
        (arp,) = bytes_of(Arp())
        peer.channels[side].send(b"", arp)
        if program is Program.QEMU:
            assert peer.dies()
        else:
            released, asks = peer.settle()
            assert (released[-1:], asks) == ([arp] if side == "pri" else [], 0)


@pytest.mark.parametrize("size", [65_549, 69_632])
def test_the_largest_frames(program: Program, size: int):
    """69632 bytes is QEMU's buffer."""
    with Compare(program) as peer:
        (first,) = bytes_of(Arp())
        large = first + bytes(size - len(first))
        assert peer.feed("pri", large) == ([large], 0)


def framed(channel: Channel, octets: bytes) -> bytes:
    vnet_word = b"" if channel.vnet_len is None else struct.pack(">I", channel.vnet_len)
    return struct.pack(">I", len(octets)) + vnet_word + octets


def begun_frame(channel: Channel, length: int) -> bytes:
    """A length word for `length` bytes, and only 14 of them."""
    return framed(channel, bytes(length))[: -length or None] + b"\xee" * 14
