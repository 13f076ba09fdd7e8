"""What became of each connection: out of looks at the table, and of what was seen on the wire."""

import struct

import pytest

from pycolo_lab.own.connections import Connections
from pycolo_lab.own.facts import ConnectionRecord, Fate
from pycolo_lab.own.farewells import ACK, FIN, RST, SYN, Farewell, Farewells
from pycolo_lab.own.socktable import ESTABLISHED, Socket

MS = 1_000_000
S = 1_000 * MS
KILL = 100 * S
PORT = 40_000
CLOSE_WAIT = 8


def socket(moved: int, state: int = ESTABLISHED, *, inode: int = 7, unacked: int = 0) -> Socket:
    return Socket(PORT, state, inode, moved, unacked)


class Story:
    """One connection, looked at every 20 ms."""

    def __init__(self, *, udp: bool = False) -> None:
        self.connections = Connections(udp=udp)
        self.now = KILL - 2 * S
        self.last: list[Socket] = []

    def looks(self, *sockets: Socket | None) -> "Story":
        for each in sockets:
            self.last = [] if each is None else [each]
            self.connections.seen([] if each is None else [each], self.now)
            self.now += 20 * MS
        return self

    def killed(self, *table: Socket) -> "Story":
        """`table`: as the run saw it at the kill; the last look's, unless it is said."""
        self.connections.killed(self.now, table or self.last, {7: 3})
        return self

    def record(self, **farewell: object) -> ConnectionRecord:
        first = {PORT: Farewell(**{"at_ns": self.now, **farewell})} if farewell else {}  # type: ignore[arg-type]
        (found,) = self.connections.records(self.now, first)
        return found


def moving(start: int, count: int) -> list[Socket]:
    return [socket(start + 10 * each) for each in range(count)]


def test_a_connection_that_moves_on_is_open_and_its_wait_is_known():
    story = Story().looks(*moving(0, 5)).killed()
    record = story.looks(*[socket(40)] * 8, *moving(50, 5)).record()
    assert record.fate is Fate.OPEN
    assert record.run == 3
    assert record.pause_ns == 180 * MS
    assert (record.moved_at_kill, record.moved) == (40, 90)


def test_a_connection_that_moved_and_moves_no_more_stands_still():
    record = Story().looks(*moving(0, 5)).killed().looks(*[socket(40)] * 100).record()
    assert record.fate is Fate.STALLED
    assert record.pause_ns >= 2 * S


def test_a_connection_that_had_nothing_to_say_may_go_on_saying_nothing():
    assert Story().looks(*[socket(40)] * 99).killed().looks(*[socket(40)] * 100).record().fate is Fate.OPEN


def test_but_not_with_bytes_that_are_never_acknowledged():
    story = Story().looks(*[socket(40)] * 99).killed().looks(*[socket(40, unacked=1)] * 100)
    assert story.record().fate is Fate.STALLED


@pytest.mark.parametrize(
    ("farewell", "fate"),
    [
        ({"how": "fin", "by_guest": True}, Fate.CLOSED),
        ({"how": "fin", "by_guest": False}, Fate.CLOSED),
        ({"how": "rst", "by_guest": True}, Fate.RESET),
        ({"how": "rst", "by_guest": False}, Fate.ABORTED),
        ({}, Fate.LOST),
    ],
)
def test_one_that_is_gone_is_told_by_its_farewell(farewell: dict[str, object], fate: Fate):
    assert Story().looks(*moving(0, 5)).killed().looks(socket(40), None, None).record(**farewell).fate is fate


def test_half_closed_is_closed_in_order():
    story = Story().looks(*moving(0, 5)).killed().looks(socket(60, CLOSE_WAIT))
    assert story.record().fate is Fate.CLOSED


def test_only_established_ones_were_in_flight():
    story = Story().looks(socket(0, 2)).killed().looks(socket(10))
    assert story.connections.records(story.now, {}) == []


def test_a_farewell_that_the_client_s_kernel_does_not_take_is_none():
    """A server whose stream had gone another way says goodbye with numbers that are not this connection's."""
    story = Story().looks(*moving(0, 5)).killed().looks(*[socket(40)] * 100)
    for how in ("fin", "rst"):
        assert story.record(how=how, by_guest=True).fate is Fate.STALLED


def test_one_that_was_there_for_a_moment_between_two_looks_counts():
    record = Story().looks(None).killed(socket(5)).looks(None).record(how="fin", by_guest=True)
    assert record.fate is Fate.CLOSED
    assert record.run == 3


def test_a_port_that_is_used_again_is_another_connection():
    story = Story().looks(*moving(0, 5)).killed().looks(None, socket(0, inode=8), socket(10, inode=8))
    assert story.record().fate is Fate.LOST


def test_a_datagram_socket_is_a_flow_of_the_run_that_has_it():
    assert Story(udp=True).looks(socket(0)).killed().looks(socket(0)).record().fate is Fate.OPEN
    assert Story(udp=True).looks(socket(0)).killed().looks(None).record().fate is Fate.CLOSED
    story = Story(udp=True).looks(socket(0, inode=9)).killed()
    assert story.connections.records(story.now, {}) == [], "no run has it open"


# ── on the wire ─────────────────────────────────────────────────────────────────────────────────────────────

SERVER_PORT = 8080


def frame(source: int, destination: int, flags: int, *, ipv6: bool = False, options: int = 0) -> bytes:
    tcp = struct.pack(">HHIIBBHHH", source, destination, 0, 0, 5 << 4, flags, 0, 0, 0)
    if ipv6:
        return bytes(12) + b"\x86\xdd" + bytes(40) + tcp
    header = bytes([0x45 + options]) + bytes(19 + 4 * options)
    return bytes(12) + b"\x08\x00" + header + tcp


def heard(*frames: bytes) -> Farewells:
    farewells = Farewells.__new__(Farewells)  # without the socket, which needs rights
    farewells._port = SERVER_PORT
    farewells.first, farewells.accepted = {}, {}
    for at, each in enumerate(frames, start=1):
        farewells.noted(each, at)
    return farewells


@pytest.mark.parametrize("more", [{}, {"ipv6": True}, {"options": 3}])
def test_the_first_word_of_an_end_is_kept(more: dict[str, object]):
    by_guest = frame(SERVER_PORT, PORT, RST, **more)  # type: ignore[arg-type]
    by_client = frame(PORT, SERVER_PORT, FIN | ACK, **more)  # type: ignore[arg-type]
    assert heard(by_guest, by_client).first == {PORT: Farewell("rst", by_guest=True, at_ns=1)}
    assert heard(by_client, by_guest).first == {PORT: Farewell("fin", by_guest=False, at_ns=1)}


def test_a_new_connection_forgets_the_old_one_s_end():
    farewells = heard(frame(SERVER_PORT, PORT, RST), frame(PORT, SERVER_PORT, SYN), frame(SERVER_PORT, PORT, SYN | ACK))
    assert farewells.first == {}
    assert farewells.accepted == {PORT: 3}


def test_others_conversations_and_stumps_are_nothing():
    assert heard(frame(1, 2, RST), frame(SERVER_PORT, PORT, RST)[:40], b"\0" * 20).first == {}
