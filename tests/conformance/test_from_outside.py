"""Nine cases of what one guest does alone, repeats or takes back, each in variants, through the sockets.

1 to 6: the secondary alone sends payload, a FIN, a RST, a SYN, a SYN|ACK, a datagram. 7: RSTs that one guest sends more
often. 8: payload sent again with other bytes. 9: a new life of the connection while something of the old one is held.
`colo proxy` has to handle them all; QEMU gets the same frames, and what it does otherwise has its row.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace

import pytest

from conformance.differences import difference
from conformance.frames import Frame, Icmp, Tcp, Udp
from conformance.lockstep import (
    Case,
    Pool,
    Step,
    case,
    checkpoint,
    did,
    new_connection,
    primary,
    run,
    secondary,
    title,
)
from conformance.peers import CHECKPOINT_DONE, Compare, Program

pytestmark = [pytest.mark.qemu, pytest.mark.parametrize("program", Program, ids=str)]

TIMEOUT_MS, SCAN_MS = 300, 50
LONGER_MS = 1000
"""Where nothing may be asked for: what this test takes half as long to send it sends anew."""

SYN, SYN_ACK = Tcp(100, flags="S"), Tcp(100, flags="SA")
FIRST, SECOND = Tcp(101, b"abcd"), Tcp(105, b"efgh")
OTHER_FIRST, OTHER_SECOND = Tcp(101, b"abXd"), Tcp(105, b"efXh")
NEXT_SYN_ACK = Tcp(900, flags="SA", ack=7001)
NEXT_FIRST = Tcp(901, b"next", ack=7001)
ESTABLISHED = (SYN_ACK, FIRST)
FIN, RST, RST_ACK = Tcp(105, flags="FA"), Tcp(105, flags="R"), Tcp(105, flags="RA")


@pytest.fixture(scope="module")
def pool() -> Iterator[Pool]:
    pool = Pool()
    yield pool
    pool.close()


# ── 1 to 6: the secondary alone ─────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Alone:
    """`before`: what both guests have sent; `alone`: what the secondary sends; `meanwhile`: what both send then."""

    name: str
    alone: tuple[Frame, ...]
    before: tuple[Frame, ...] = ()
    meanwhile: tuple[Frame, ...] = ()


def alone_in_variants(what: str, *alone: Tcp) -> list[Alone]:
    """On a connection that both have opened, on one that is older than the pair, while both acknowledge."""
    acked = Tcp(alone[-1].seq, ack=5100)
    return [
        Alone(f"{what}, on an open connection", alone, ESTABLISHED),
        Alone(f"{what}, on an older connection", alone),
        Alone(f"{what}, and both acknowledge on", alone, ESTABLISHED, (acked, replace(acked, ack=5200))),
    ]


ALONE: list[Alone] = [
    *alone_in_variants("payload", SECOND),
    Alone("payload in two segments, the second one first", (Tcp(109, b"ijkl"), SECOND), ESTABLISHED),
    Alone("one byte", (Tcp(105, b"e"),), ESTABLISHED),
    *alone_in_variants("FIN", FIN),
    Alone("FIN with payload", (Tcp(105, b"bye", "FA"),), ESTABLISHED),
    Alone("FIN, repeated", (FIN, FIN), ESTABLISHED),
    *alone_in_variants("RST", RST),
    *alone_in_variants("RST|ACK", RST_ACK),
    Alone("RST in the answer to a SYN", (Tcp(0, flags="RA", ack=501),)),
    Alone("SYN", (SYN,)),
    Alone("SYN, repeated", (SYN, SYN)),
    Alone("SYN for a port that was used before", (Tcp(900, flags="S"),), ESTABLISHED),
    Alone("SYN|ACK", (SYN_ACK,)),
    Alone("SYN|ACK, repeated", (SYN_ACK, SYN_ACK)),
    Alone("SYN|ACK for a port that was used before", (NEXT_SYN_ACK,), ESTABLISHED),
    Alone("a UDP datagram", (Udp(b"one"),)),
    Alone("a UDP datagram, after one of both", (Udp(b"two"),), (Udp(b"one"),)),
    Alone("an empty UDP datagram", (Udp(b""),)),
    Alone("an ICMP message", (Icmp(b"one"),)),
]


@pytest.mark.rule("C8")
@pytest.mark.parametrize("tested", ALONE, ids=title)
def test_what_the_secondary_alone_does_is_a_difference_in_time(tested: Alone, program: Program, pool: Pool):
    """No frame is needed that comes later, and none of it leaves: not at the checkpoint either."""
    with pool.compare(program, compare_timeout=TIMEOUT_MS, expired_scan_cycle=SCAN_MS) as peer:
        connection = new_connection()
        for octets in (frame.on(connection) for frame in tested.before):
            peer.channels["sec"].send(octets)
            peer.channels["pri"].send(octets)
            assert peer.read("out") == octets
        forget_requests(peer)
        peer.channels["sec"].send(*(frame.on(connection) for frame in tested.alone))
        meanwhile = [frame.on(connection) for frame in tested.meanwhile]
        for octets in meanwhile:
            peer.channels["sec"].send(octets)
            peer.channels["pri"].send(octets)
        peer.wait_for_request()
        released, _ = peer.tell(CHECKPOINT_DONE)
        assert set(released) <= set(meanwhile)


def forget_requests(peer: Compare) -> None:
    """On a busy machine what came before may have taken longer than the time-out."""
    while peer.settle()[1] or peer.tell(CHECKPOINT_DONE)[0]:
        pass


# ── 7: RSTs of which one guest sends more ───────────────────────────────────────────────────────────────────


def numbered(*segments: Tcp) -> tuple[Tcp, ...]:
    """The same, told apart by their IP identification."""
    return tuple(replace(segment, identification=number) for number, segment in enumerate(segments, 10))


THREE = numbered(RST, RST, RST)
LATE = numbered(Tcp(105, flags="R"), Tcp(300, flags="R"))


@pytest.mark.rule("C2")
@difference("resets-beyond-the-first")
@pytest.mark.parametrize("first", ["pri", "sec"])
@pytest.mark.parametrize("resets", [THREE, numbered(RST_ACK, RST), LATE], ids=["alike", "with and without ACK", "late"])
def test_a_closed_socket_may_answer_more_often_than_its_copy(
    resets: tuple[Tcp, ...], first: str, program: Program, pool: Pool
):
    """The primary's answers each late segment, the secondary's one of them."""
    with pool.compare(program, compare_timeout=LONGER_MS, expired_scan_cycle=SCAN_MS) as peer:
        took_s = LONGER_MS
        while took_s > LONGER_MS / 2_000:
            connection = new_connection()
            forget_requests(peer)
            mine = [segment.on(connection) for segment in resets]
            said = {"pri": mine, "sec": mine[:1]}
            began_s = time.monotonic()
            for side in sorted(said, key=lambda side: side != first):
                peer.channels[side].send(*said[side])
            took_s = time.monotonic() - began_s
        if program is Program.QEMU:
            assert peer.read_frames("out", 1) == mine[:1]
            peer.wait_for_request()
        else:
            assert peer.read_frames("out", len(mine)) == mine
            assert peer.channels["notify"].read(2 * LONGER_MS / 1000) is None


@pytest.mark.parametrize("is_at_once", [True, False], ids=["at once", "one by one"])
def test_a_late_reset_and_the_next_connection(is_at_once: bool, program: Program, pool: Pool):
    """The secondary's RST of the old life and its SYN|ACK of the next come before the primary's same pair."""
    late = replace(RST, seq=109)
    both = [late, NEXT_SYN_ACK]
    steps = [secondary(*both), primary(*both, releases=tuple(both))]
    if not is_at_once:
        steps = [*map(secondary, both), primary(late, releases=(late,)), primary(both[1], releases=(both[1],))]
    with pool.compare(program) as peer:
        run(case("late RST", *opened(), *steps), peer)


# ── 8: sent again with other bytes; 9: a new life ───────────────────────────────────────────────────────────


def opened() -> tuple[Step, ...]:
    """The steps after which both have sent and acknowledged the same on an open connection."""
    return tuple(step for frame in ESTABLISHED for step in (primary(frame), secondary(frame, releases=(frame,))))


AGAIN: list[Case] = [
    case(
        "the primary sends other bytes again",
        *opened(),
        primary(OTHER_FIRST, qemu=did(), colo=did(asks=1)),
        difference="sent-again",
    ),
    case(
        "the primary sends other bytes again, the secondary the same",
        *opened(),
        primary(OTHER_FIRST, qemu=did(), colo=did(asks=1)),
        secondary(FIRST, qemu=did(OTHER_FIRST), colo=did()),
        checkpoint(qemu=did(), colo=did(OTHER_FIRST)),
        difference="sent-again",
    ),
    case(
        "the primary sends other bytes again, in a larger segment",
        *opened(),
        primary(Tcp(101, b"abXdefgh"), qemu=did(), colo=did(asks=1)),
        secondary(SECOND, qemu=did(asks=1), colo=did()),
        difference="sent-again",
    ),
    case(
        "the primary sends other bytes again, a part of a segment",
        *opened(),
        primary(Tcp(103, b"Xd"), qemu=did(), colo=did(asks=1)),
        difference="sent-again",
    ),
    case(
        "the primary sends other bytes again, with a FIN",
        *opened(),
        primary(Tcp(101, b"abXd", "FA"), qemu=did(), colo=did(asks=1)),
        difference="sent-again",
    ),
    case(
        "the primary sends the same bytes again",
        *opened(),
        primary(FIRST, qemu=did(), colo=did(FIRST)),
        difference="no-waiting-for-any-packet",
    ),
]

NEW_LIFE: list[Case] = [
    case(
        "a new life, and what waited",
        *opened(),
        primary(SECOND),
        primary(NEXT_SYN_ACK),
        secondary(NEXT_SYN_ACK, qemu=did(), colo=did(NEXT_SYN_ACK)),
        checkpoint(qemu=did(SECOND, NEXT_SYN_ACK), colo=did()),
        difference="superseded",
    ),
    case(
        "a new life, and what differed",
        *opened(),
        primary(SECOND),
        secondary(OTHER_SECOND, asks=1),
        primary(NEXT_SYN_ACK, qemu=did(asks=1), colo=did()),
        secondary(NEXT_SYN_ACK, qemu=did(asks=1), colo=did(NEXT_SYN_ACK)),
        checkpoint(qemu=did(SECOND, NEXT_SYN_ACK), colo=did()),
        difference="superseded",
    ),
    case(
        "a new life that the secondary does not begin",
        *opened(),
        primary(SECOND),
        primary(NEXT_SYN_ACK),
        checkpoint(qemu=did(SECOND, NEXT_SYN_ACK), colo=did(NEXT_SYN_ACK)),
        difference="superseded",
    ),
    case(
        "a new life that the guest begins",
        *opened(),
        primary(SECOND),
        primary(Tcp(900, flags="S")),
        secondary(Tcp(900, flags="S"), qemu=did(), colo=did(Tcp(900, flags="S"))),
        checkpoint(qemu=did(SECOND, Tcp(900, flags="S")), colo=did()),
        difference="superseded",
    ),
    case(
        "a new life goes on",
        *opened(),
        primary(NEXT_SYN_ACK),
        secondary(NEXT_SYN_ACK, releases=(NEXT_SYN_ACK,)),
        primary(NEXT_FIRST),
        secondary(NEXT_FIRST, releases=(NEXT_FIRST,)),
    ),
]


@pytest.mark.rule("C9")
@pytest.mark.parametrize("tested", AGAIN, ids=title)
def test_what_is_sent_again_is_compared_again(tested: Case, program: Program, pool: Pool):
    with pool.compare(program) as peer:
        run(tested, peer)


@pytest.mark.rule("C9")
@pytest.mark.parametrize("tested", NEW_LIFE, ids=title)
def test_a_new_life_of_a_connection_releases_nothing_of_the_old_one(tested: Case, program: Program, pool: Pool):
    with pool.compare(program) as peer:
        run(tested, peer)
