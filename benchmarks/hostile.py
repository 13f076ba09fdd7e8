"""Traces in which a guest makes many packets wait: they must not make the next packet expensive.

A `Trace` gives, for a number that waits, the batches that bring it about and the packets that are then measured. Both
are lists of (whether it is the primary's, a stream of frames). `benchmarks/growth.py` times them; the tests count the
steps that the comparator walks along its lists.
"""

import random
import struct
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

from pycolo.core import Comparator

PROBES: Final = 16
SEED: Final = 0x5EED_0123_4567_89AB_CDEF_0011_2233_4455
START_US: Final = 1_000_000
ISN: Final = 1000
CUT: Final = 32
"""Payload bytes of a TCP segment or of a datagram's odd part."""

PRIMARY, SECONDARY = True, False
TCP, UDP = 6, 17
SYN, RST, PSH, ACK = 2, 4, 8, 16

Batch = tuple[bool, bytearray]


@dataclass(frozen=True)
class Trace:
    """`made(waiting)`: the input before, and the measured input. `most`: the maximum that can wait."""

    name: str
    made: Callable[[int], tuple[list[Batch], list[Batch]]]
    most: int = 16_000


# ── frames ──────────────────────────────────────────────────────────────────────────────────────────────────


def ip(protocol: int, body: bytes, identification: int = 0, fragment: int = 0x4000, guest: int = 1) -> bytes:
    """A frame of a guest, with its length word; nothing here looks at checksums."""
    head = struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(body), identification, fragment, 64, protocol, 0)
    addresses = struct.pack(">II", 0x0A00_0000 + guest, 0x0A01_0001)
    frame = b"\x02\0\0\0\0\x02\x02\0\0\0\0\x01\x08\0" + head + addresses + body
    return struct.pack(">I", len(frame)) + frame


def udp(payload: bytes, port: int = 5000) -> bytes:
    return ip(UDP, struct.pack(">HHHH", port, 80, 8 + len(payload), 0) + payload)


def tcp(at: int, payload: bytes = b"", flags: int = ACK, ack: int = 1, port: int = 80) -> bytes:
    """`at`: how far behind the SYN."""
    numbers = struct.pack(">HHIIBBHHH", port, 5000, (ISN + 1 + at) & 0xFFFF_FFFF, ack, 0x50, flags, 60_000, 0, 0)
    return ip(TCP, numbers + payload)


def alike(number: int) -> bytes:
    """Datagrams that differ in the middle only."""
    return b"h" * 24 + struct.pack(">Q", number) + b"t" * 24


def piece(place: int) -> bytes:
    """The bytes of the stream from `place` * CUT on."""
    return random.Random(place).randbytes(CUT)


def segment(place: int) -> bytes:
    return tcp(place * CUT, piece(place), ACK | PSH)


def opened(port: int = 80) -> list[Batch]:
    """Both have answered the client's SYN, and continued."""
    both = joined([tcp(-1, b"", SYN | ACK, port=port), tcp(0, b"", port=port)])
    return [(SECONDARY, both), (PRIMARY, bytearray(both))]


def joined(frames: Iterable[bytes]) -> bytearray:
    """A batch: the comparator takes what can be written to only."""
    return bytearray().join(frames)


# ── datagrams ───────────────────────────────────────────────────────────────────────────────────────────────


def datagram_without_partner(waiting: int) -> tuple[list[Batch], list[Batch]]:
    return (
        [(SECONDARY, joined(udp(alike(number)) for number in range(waiting)))],
        [(PRIMARY, joined(udp(alike(1 << 40 | number)) for number in range(PROBES)))],
    )


def datagram_for_the_last(waiting: int) -> tuple[list[Batch], list[Batch]]:
    every = range(waiting + PROBES)
    return (
        [(SECONDARY, joined(udp(alike(number)) for number in every))],
        [(PRIMARY, joined(udp(alike(number)) for number in reversed(every[-PROBES:])))],
    )


def answer_for_the_last(waiting: int) -> tuple[list[Batch], list[Batch]]:
    (_, theirs), (_, mine) = (batches[0] for batches in datagram_for_the_last(waiting))
    return [(PRIMARY, theirs)], [(SECONDARY, mine)]


def equal_datagrams(waiting: int) -> tuple[list[Batch], list[Batch]]:
    odd = [(PRIMARY, bytearray(udp(b"something else")))]
    return (
        [(SECONDARY, joined(udp(alike(0)) for _ in range(waiting + PROBES))), *odd],
        [(PRIMARY, joined(udp(alike(0)) for _ in range(PROBES)))],
    )


# ── TCP ─────────────────────────────────────────────────────────────────────────────────────────────────────


def overlap(waiting: int) -> tuple[list[Batch], list[Batch]]:
    """The primary has sent overlapping data; the secondary follows it."""
    held = range(waiting + PROBES)
    again = tcp(CUT // 2, piece(0)[CUT // 2 :] + piece(1)[: CUT // 2], ACK | PSH)
    mine = joined([*(segment(place) for place in held), again])
    return [*opened(), (PRIMARY, mine)], [(SECONDARY, joined(segment(place) for place in range(PROBES)))]


def again_among_held(waiting: int) -> tuple[list[Batch], list[Batch]]:
    held = range(waiting + PROBES)
    places = random.Random(1).choices(held, k=PROBES)
    return (
        [*opened(), (PRIMARY, joined(segment(place) for place in held))],
        [(PRIMARY, joined(segment(place) for place in places))],
    )


def again_below_the_frontier(waiting: int) -> tuple[list[Batch], list[Batch]]:
    equal = joined(segment(place) for place in range(PROBES))
    held = joined(segment(place) for place in range(PROBES, PROBES + waiting))
    return (
        [*opened(), (SECONDARY, equal), (PRIMARY, bytearray(equal)), (PRIMARY, held)],
        [(PRIMARY, bytearray(equal))],
    )


def copies(waiting: int) -> tuple[list[Batch], list[Batch]]:
    """A long segment, and small ones of the same bytes, each many times; the secondary sends small ones."""
    whole = joined(piece(place) for place in range(40))
    mine = joined([tcp(0, bytes(whole), ACK | PSH), *(segment(place % 40) for place in range(waiting))])
    return [*opened(), (PRIMARY, mine)], [(SECONDARY, joined(segment(place) for place in range(PROBES)))]


def late_segment(waiting: int) -> tuple[list[Batch], list[Batch]]:
    """Of the secondary, into the middle of what came before it."""
    theirs = [segment(2 * place + 1) for place in range(waiting + PROBES)]
    places = random.Random(2).sample(range(1, waiting + PROBES + 1), k=PROBES)
    return [*opened(), (SECONDARY, joined(theirs))], [(SECONDARY, joined(segment(2 * place) for place in places))]


def nested(waiting: int) -> tuple[list[Batch], list[Batch]]:
    """Of the secondary, each beginning one byte later than the one before, and reaching one byte farther."""
    whole = bytes(joined(piece(place) for place in range(2000)))
    theirs = [tcp(at, whole[at : at + 1400], ACK | PSH) for at in range(min(waiting, 1300))]
    theirs += [segment(place + 2000) for place in range(waiting - len(theirs))]
    mine = [tcp(at, whole[at : at + 1], ACK | PSH) for at in range(PROBES)]
    return [*opened(), (SECONDARY, joined(theirs))], [(PRIMARY, joined(mine))]


def hole(waiting: int) -> tuple[list[Batch], list[Batch]]:
    """The primary's first segment is missing; the secondary's are not."""
    mine = joined(segment(place) for place in range(1, waiting + PROBES))
    return [*opened(), (PRIMARY, mine)], [
        (SECONDARY, joined(tcp(at, piece(0)[at : at + 1], ACK | PSH) for at in range(PROBES)))
    ]


def bare_acks(waiting: int) -> tuple[list[Batch], list[Batch]]:
    """That run ahead of the secondary's."""
    acks = [tcp(0, b"", ACK, 2 + number) for number in range(0, 2 * (waiting + PROBES), 2)]
    return [*opened(), (PRIMARY, joined(acks[:waiting]))], [(PRIMARY, joined(acks[waiting:]))]


def bare_acks_and_payload(waiting: int) -> tuple[list[Batch], list[Batch]]:
    before, probes = bare_acks(waiting)
    theirs = (SECONDARY, bytearray(tcp(0, piece(0), ACK | PSH)))
    return [*before, theirs], probes


def again_behind_bare_acks(waiting: int) -> tuple[list[Batch], list[Batch]]:
    acks = [tcp(CUT, b"", ACK, 2 + number) for number in range(0, 2 * waiting, 2)]
    return [*opened(), (PRIMARY, joined([segment(0), *acks]))], [(PRIMARY, joined([segment(0)] * PROBES))]


def kept(waiting: int) -> tuple[list[Batch], list[Batch]]:
    """Equal payload is retransmitted."""
    equal = joined(segment(place) for place in range(waiting + PROBES))
    return (
        [*opened(), (SECONDARY, equal), (PRIMARY, bytearray(equal))],
        [(PRIMARY, joined(segment(place) for place in range(waiting, waiting + PROBES)))],
    )


# ── fragments ───────────────────────────────────────────────────────────────────────────────────────────────


def fragment(unit: int, identification: int = 7, guest: int = 1) -> bytes:
    """Eight bytes of a datagram that never becomes whole."""
    return ip(UDP, bytes(8), identification, 0x2000 | unit, guest)


def reversed_fragments(waiting: int) -> tuple[list[Batch], list[Batch]]:
    units = [fragment(unit) for unit in range(1000, 1000 - waiting - PROBES, -1)]
    return [(PRIMARY, joined(units[:waiting]))], [(PRIMARY, joined(units[waiting:]))]


def copied_fragments(waiting: int) -> tuple[list[Batch], list[Batch]]:
    units = [fragment(unit) for unit in range(1000, 1000 - waiting - 1, -1)]
    return [(PRIMARY, joined(units))], [(PRIMARY, joined(units[-1:] * PROBES))]


def incomplete_datagrams(waiting: int) -> tuple[list[Batch], list[Batch]]:
    made = [fragment(9, identification) for identification in range(waiting + PROBES)]
    return [(PRIMARY, joined(made[:waiting]))], [(PRIMARY, joined(made[waiting:]))]


TRACES: Final = (
    Trace("UDP: no partner among those that wait", datagram_without_partner),
    Trace("UDP: the primary's, partner of the last", datagram_for_the_last),
    Trace("UDP: the secondary's, partner of the last", answer_for_the_last),
    Trace("UDP: all alike", equal_datagrams),
    Trace("TCP: the primary has overlapped", overlap),
    Trace("TCP: sent again among what is held", again_among_held),
    Trace("TCP: sent again below the frontier", again_below_the_frontier),
    Trace("TCP: many copies of the same bytes", copies),
    Trace("TCP: the secondary's, out of order", late_segment),
    Trace("TCP: the secondary's, nested", nested),
    Trace("TCP: the primary has a hole", hole),
    Trace("TCP: bare ACKs that run ahead", bare_acks),
    Trace("TCP: the same, payload of the secondary", bare_acks_and_payload),
    Trace("TCP: sent again behind bare ACKs", again_behind_bare_acks),
    Trace("TCP: sent again, of what was equal", kept, 240),
    Trace("fragments of one datagram, reversed", reversed_fragments, 128),
    Trace("fragments: a copy", copied_fragments, 128),
    Trace("fragments: datagrams in the making", incomplete_datagrams, 240),
)


# ── running one ─────────────────────────────────────────────────────────────────────────────────────────────


class Comparing:
    """A comparator without limits that a trace would reach, and its stopped clock."""

    def __init__(self) -> None:
        self.core = Comparator(SEED, queue_packets_max=1 << 17)
        self._out = bytearray(1 << 20)

    def feed(self, batches: list[Batch]) -> None:
        for is_primary, frames in batches:
            if not frames:
                continue
            take = self.core.primary_frames if is_primary else self.core.secondary_frames
            assert take(frames, 0, len(frames), START_US) == len(frames), "the comparator did not take it"

    def emptied(self) -> None:
        """As after a checkpoint."""
        self.core.checkpoint_committed(START_US)
        self.drained()

    def drained(self) -> int:
        count = 0
        while end := self.core.drain(self._out, 0):
            count += end
        return count


def steps(trace: Trace, waiting: int) -> float:
    """Steps along the comparator's lists, for one packet."""
    before, probes = trace.made(waiting)
    one = Comparing()
    one.feed(before)
    one.drained()
    walked = one.core.pool.walked
    one.feed(probes)
    return (one.core.pool.walked - walked) / PROBES


def warmed(waiting: int) -> Comparing:
    """Its memory has been touched before: the kernel's page allocation is not measured."""
    one = Comparing()
    one.feed([(PRIMARY, joined(udp(alike(number), 6000) for number in range(2 * waiting + 200)))])
    one.emptied()
    return one
