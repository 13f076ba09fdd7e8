"""The code that `instructions.py` counts: the compiled cores, fed as their shells feed them. It runs under callgrind.

    python counted.py LIBRARY [ROW …]

LIBRARY is counting.c, compiled; without valgrind it counts nothing and only says that the rows run. Of each row what
comes in is made beforehand, the first cycles are not counted (tables grow, memory is touched for the first time), and
what came out is checked behind what is counted.
"""

import ctypes
import gc
import mmap
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import conversations
from loads import CUT, DATAGRAMS, HALF_ACKS, JOINED, LARGE, MIXED, SMALL, TCP, VNET, Cycle, Traffic

from pycolo.core import Comparator, Rewriter

SEED: Final = 0x5EED
BATCH_BYTES: Final = 128 << 10
"""Data in a unix socket at once when both sides are busy."""

OUT_BYTES: Final = 512 << 10
WARM_FRAMES: Final = 3000
COUNTED_FRAMES: Final = 6000
"""Minimum frames of one side; whole cycles."""

TURN_US: Final = 100


@dataclass(frozen=True)
class Row:
    """One number of the table."""

    name: str
    traffic: Traffic
    flows: int
    run: "Callable[[Row, Counting], int]"
    variant: str = ""


class Counting:
    """counting.c by its functions."""

    def __init__(self, library: str) -> None:
        self._library = ctypes.CDLL(library)

    def during(self, name: str, work: Callable[[], int]) -> int:
        """Count the instructions of `work`, under that name."""
        gc.collect()
        gc.disable()
        label = ctypes.c_char_p(name.encode())
        self._library.counting_on()
        found = work()
        self._library.counting_off(label)
        gc.enable()
        return found


# ── comparator ──────────────────────────────────────────────────────────────────────────────────────────────


class Compare:
    """A comparator and its clock. `primary_first`: which side's batch comes first."""

    def __init__(self, has_vnet: bool, primary_first: bool) -> None:
        self.core = Comparator(SEED, has_vnet)
        first, second = self.core.secondary_frames, self.core.primary_frames
        self._takers = (second, first) if primary_first else (first, second)
        self._is_swapped = primary_first
        self._now_us = 1_000_000
        self._out = placed(bytes(OUT_BYTES))

    def feed(self, pairs: list[tuple[memoryview, memoryview]]) -> int:
        """Batches of (secondary, primary), as proxy/compare.py feeds them in a turn; returns the bytes of output."""
        core, out, released = self.core, self._out, 0
        first, second = self._takers
        for secondary, primary in pairs:
            self._now_us += TURN_US
            one, other = (primary, secondary) if self._is_swapped else (secondary, primary)
            assert first(one, 0, len(one), self._now_us) == len(one)
            assert second(other, 0, len(other), self._now_us) == len(other)
            due = core.deadline_us()
            if due is not None and due <= self._now_us:
                core.timer_fired(self._now_us)
            while end := core.drain(out, 0):
                released += end
            core.commands()
        return released


def compare(row: Row, counting: Counting) -> int:
    """Pairs that were counted."""
    shell = Compare(row.traffic.vnet, row.variant == "primary first")
    if opening := conversations.begun_alike(row.traffic, row.flows):
        shell.feed([(placed(opening), placed(opening))])
    sides = [conversations.of_replica(row.traffic, side, row.flows) for side in ("secondary", "primary")]
    frames = sides[1].frames
    for _ in cycles(frames, WARM_FRAMES):
        shell.feed(next_batches(*sides))
    pairs, expected, count = [], 0, 0
    for _ in cycles(frames, COUNTED_FRAMES):
        pairs += next_batches(*sides)
        expected += len(sides[1].octets)
        count += frames
    released = counting.during(row.name, lambda: shell.feed(pairs))
    assert released == expected, f"{row.name}: {released} bytes came out, {expected} went in"
    assert not shell.core.held_packets(), row.name
    return count


# ── rewriter ────────────────────────────────────────────────────────────────────────────────────────────────


class Rewrite:
    """A rewriter as the pump of proxy/rewriter.py has it, or (`keeps_copies`) as a secondary node has it."""

    def __init__(self, has_vnet: bool, keeps_copies: bool) -> None:
        self.core = Rewriter(SEED, has_vnet)
        self.core.keeps_copies = keeps_copies
        self._now_us = 1_000_000
        self._out = placed(bytes(OUT_BYTES))

    def feed(self, batches: list[memoryview], is_client: bool) -> int:
        """Batches of one direction; returns the bytes of output."""
        core, out, translated = self.core, self._out, 0
        take = core.client_frames if is_client else core.guest_frames
        drain = core.drain_guest if is_client else core.drain_client
        for batch in batches:
            self._now_us += TURN_US
            assert take(batch, 0, len(batch), self._now_us, out if core.keeps_copies else batch, 0) == len(batch)
            translated += core.out_end
            while end := drain(out, 0):
                translated += end
        return translated


def rewrite(row: Row, counting: Counting) -> int:
    """Frames that were counted: of one direction, whose frames the other one does not answer, or of both in turn."""
    has_both = row.variant.startswith("both ways")
    is_rewritten = row.traffic.protocol == TCP
    shell = Rewrite(row.traffic.vnet, row.variant == "both ways, copies kept")
    for opening, is_client in conversations.begun_apart(row.traffic, row.flows):
        shell.feed([placed(opening)], is_client)
    assert shell.core.stats.learned == row.flows * is_rewritten
    to_client, to_guest = (make(row.traffic, row.flows) for make in (conversations.of_guest, conversations.of_clients))
    frames = to_client.frames
    turns = []
    for _ in (*cycles(frames, WARM_FRAMES), *cycles(frames, COUNTED_FRAMES)):
        turns += [(next_batches_of(to_client), False), (next_batches_of(to_guest), True)]
    warm = 2 * len(cycles(frames, WARM_FRAMES))
    feed_all(shell, turns[:warm])
    counted = turns[warm:] if has_both else [one for one in turns[warm:] if one[1] == (row.variant == "to the guest")]
    before = shell.core.stats.rewritten
    translated = counting.during(row.name, lambda: feed_all(shell, counted))
    assert translated == sum(len(batch) for batches, _ in counted for batch in batches), row.name
    assert shell.core.stats.rewritten - before == len(counted) * frames * is_rewritten, row.name
    return len(counted) * frames


def feed_all(shell: Rewrite, turns: list[tuple[list[memoryview], bool]]) -> int:
    return sum(shell.feed(batches, is_client) for batches, is_client in turns)


# ── loads in batches ────────────────────────────────────────────────────────────────────────────────────────


def cycles(frames: int, at_least: int) -> range:
    return range(-(-at_least // frames))


def placed(octets: bytes) -> memoryview:
    """On pages of its own: the instructions of a copy depend on the alignment of its ends."""
    pages = memoryview(mmap.mmap(-1, max(1, len(octets))))
    pages[: len(octets)] = octets
    return pages[: len(octets)]


def next_batches_of(one: Cycle) -> list[memoryview]:
    found = [placed(batch) for batch in one.batches(BATCH_BYTES)]
    one.advance()
    return found


def next_batches(secondary: Cycle, primary: Cycle) -> list[tuple[memoryview, memoryview]]:
    """A cycle of both, in pairs of batches; the shorter list is filled up with empty ones."""
    lists = [next_batches_of(secondary), next_batches_of(primary)]
    longest = max(map(len, lists))
    padded = [one + [placed(b"") for _ in range(longest - len(one))] for one in lists]
    return list(zip(*padded, strict=True))


def rows() -> list[Row]:
    """Every number of the table, in its order."""
    found = [Row(f"compare, {one.name}", one, 1000, compare) for one in (SMALL, MIXED, HALF_ACKS, DATAGRAMS, LARGE)]
    found += [Row(f"compare, {one.name}", one, 1000, compare) for one in (CUT, JOINED, VNET)]
    found.append(Row("compare, 64 B, the primary's first", SMALL, 1000, compare, "primary first"))
    found.append(Row("compare, 64 B, 1 connection", SMALL, 1, compare))
    for way in ("to the client", "to the guest"):
        found += [Row(f"rewrite, {one.name}, {way}", one, 1000, rewrite, way) for one in (LARGE, MIXED)]
    for one in (LARGE, MIXED, VNET, DATAGRAMS):
        found.append(Row(f"rewrite, {one.name}, both ways", one, 1000, rewrite, "both ways"))
    found += [
        Row(f"rewrite, {one.name}, both ways, copies kept", one, 1000, rewrite, "both ways, copies kept")
        for one in (LARGE, MIXED)
    ]
    return found


def main(arguments: list[str]) -> None:
    counting = Counting(arguments[0])
    wanted: Any = set(arguments[1:])
    for row in rows():
        if not wanted or row.name in wanted:
            print(row.run(row, counting), row.name, sep="\t", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
