"""A million connections in one comparator and one rewriter: memory, the longest call, and the time of a pair.

    .venv/bin/python benchmarks/connections.py [--connections 1000000] [--json] [--help]

The core alone, fed from this process in batches of 64 frames, as a shell feeds it: the secondary's batch, the
primary's, the timer when it is due, then everything that has come out is taken. Both guests send a SYN|ACK for each
connection and then 64 bytes. What is measured:

* memory     resident bytes that came with the connections, each for each, when all of them are silent again
* calls      the longest one while the table fills, while all talk, and while a full table takes new connections in the
             place of old ones; and of the timer, when all have been silent for too long
* rewriter   memory and calls, while each connection begins with a SYN, a SYN|ACK and an ACK; and of the timer, when
             the guest has said something that waits for its acknowledgement
* pairs      the processor time of a pair of 64-byte frames, with all connections in turn, and with 1000

Of a call the time of this thread on a processor counts: page faults and the like are in it, other programs are not.
"""

import argparse
import gc
import json
import mmap
import time
from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from loads import ACK, SMALL, SYN, Cycle, Ends, cycle, handshake

from pycolo import limits
from pycolo.core import Comparator, Rewriter

BATCH_FRAMES: Final = 64
TURN_US: Final = 40
FEW: Final = 1000
DISPLACED: Final = 50_000
PIECE: Final = 50_000
"""Number of connections whose frames are made at a time."""

OUT: Final = memoryview(bytearray(1 << 20))
SILENT_US: Final = 3 * limits.CONNECTION_IDLE_MS * 1000


@dataclass
class Calls:
    """Nanoseconds of each call."""

    title: str
    took: "array[int]" = field(default_factory=lambda: array("q"))

    def found(self) -> dict[str, Any]:
        ordered = sorted(self.took)
        at = [ordered[min(len(ordered) - 1, int(len(ordered) * share))] / 1e3 for share in (0.5, 0.999, 0.9999)]
        return {"calls": len(ordered), "p50": at[0], "p99.9": at[1], "p99.99": at[2], "max": ordered[-1] / 1e3}


class Shell:
    """A comparator and its clock."""

    def __init__(self) -> None:
        self.core = Comparator(0x5EED)
        self.now_us = 1_000_000

    def turn(self, frames: memoryview, calls: Calls | None) -> None:
        self.now_us += TURN_US
        for take in (self.core.secondary_frames, self.core.primary_frames):
            before = time.thread_time_ns()
            assert take(frames, 0, len(frames), self.now_us) == len(frames)
            if calls:
                calls.took.append(time.thread_time_ns() - before)
        self.timer(calls)
        while self.core.drain(OUT, 0):
            pass

    def timer(self, calls: Calls | None) -> None:
        due = self.core.deadline_us()
        if due is not None and due <= self.now_us:
            before = time.thread_time_ns()
            self.core.timer_fired(self.now_us)
            if calls:
                calls.took.append(time.thread_time_ns() - before)


def batches(octets: bytes | bytearray, frame_bytes: int) -> Iterator[memoryview]:
    view = memoryview(octets)
    for start in range(0, len(octets), BATCH_FRAMES * frame_bytes):
        yield view[start : start + BATCH_FRAMES * frame_bytes]


def shake(shell: Shell, first: int, count: int, calls: Calls) -> None:
    """Both guests answer that many clients' SYNs."""
    for begin in range(first, first + count, PIECE):
        octets = bytearray(handshake(SMALL, range(begin, min(begin + PIECE, first + count)), Ends(), SYN | ACK))
        gc.collect()
        gc.disable()
        for frames in batches(octets, 58):
            shell.turn(frames, calls)
        gc.enable()


def talk(shell: Shell, load: Cycle, calls: Calls | None) -> float:
    """Both guests send a cycle; returns processor microseconds per pair, the driver's own loop included."""
    began = time.thread_time_ns()
    for frames in batches(load.octets, len(load.octets) // load.frames):
        shell.turn(frames, calls)
    return (time.thread_time_ns() - began) / 1e3 / load.frames


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * mmap.PAGESIZE


def few(pairs: int) -> float:
    """Processor microseconds of a pair with 1000 connections."""
    shell, load = Shell(), cycle(SMALL, "primary", FEW)
    shake(shell, 0, FEW, Calls(""))
    talk(shell, load, None)
    total = 0.0
    for _ in range(rounds := max(1, pairs // FEW)):
        load.advance()
        total += talk(shell, load, None)
    return total / rounds


class Rewriting:
    """A rewriter and its clock."""

    def __init__(self) -> None:
        self.core = Rewriter(0x5EED)
        self.now_us = 1_000_000

    def feed(self, flows: range, is_client: bool, flags: int, calls: Calls) -> None:
        """One segment of each connection's handshake."""
        take = self.core.client_frames if is_client else self.core.guest_frames
        ends = Ends(True, 5001, 1001) if is_client else Ends(False, 900_001, 5001)
        octets = bytearray(handshake(SMALL, flows, ends, flags))
        gc.collect()
        gc.disable()
        for frames in batches(octets, 58):
            self.now_us += TURN_US
            before = time.thread_time_ns()
            assert take(frames, 0, len(frames), self.now_us, OUT, 0) == len(frames)
            calls.took.append(time.thread_time_ns() - before)
        gc.enable()

    def timer(self, calls: Calls) -> None:
        self.now_us += limits.EXPIRED_SCAN_CYCLE_MS * 1000
        before = time.thread_time_ns()
        self.core.timer_fired(self.now_us)
        calls.took.append(time.thread_time_ns() - before)


def rewriter(connections: int) -> tuple[float, list[Calls]]:
    """Bytes of a connection, and the calls."""
    shell, filling, timer = Rewriting(), Calls("rewriter: while the table fills"), Calls("rewriter: the timer")
    gc.collect()
    before = resident_bytes()
    for begin in range(0, connections, PIECE):
        flows = range(begin, min(begin + PIECE, connections))
        for is_client, flags in ((True, SYN), (False, SYN | ACK), (True, ACK)):
            shell.feed(flows, is_client, flags, filling)
    gc.collect()
    memory = (resident_bytes() - before - 8 * len(filling.took)) / connections
    shell.feed(range(FEW), False, ACK, Calls(""))
    for _ in range(10):
        shell.timer(timer)
    return memory, [filling, timer]


def measured(connections: int, rounds: int) -> dict[str, Any]:
    load = cycle(SMALL, "primary", connections)
    shell = Shell()
    shake(shell, 0, 0, Calls(""))
    gc.collect()
    before = resident_bytes()
    growing, talking = Calls("while the table fills"), Calls("while all talk")
    shake(shell, 0, connections, growing)
    talk(shell, load, talking)
    gc.collect()
    own = 8 * len(growing.took + talking.took)
    memory = (resident_bytes() - before - own) / connections
    pair_us = []
    for _ in range(rounds):
        load.advance()
        pair_us.append(talk(shell, load, None))
    displacing, timer = Calls("full, new in the place of old"), Calls("the timer, all silent too long")
    room = limits.CONNECTIONS_MAX - connections
    if room >= 0:
        shake(shell, connections, room + DISPLACED, displacing)
        displacing.took = displacing.took[-2 * DISPLACED // BATCH_FRAMES :]
    shell.now_us += SILENT_US
    while shell.core.table.used:
        shell.now_us += 1_000_000
        shell.timer(timer)
    few_us = few(connections)
    rewriter_memory, rewriting = rewriter(connections)
    return {
        "connections": connections,
        "bytes_per_connection": memory,
        "bytes_per_connection_rewriter": rewriter_memory,
        "pair_us": min(pair_us),
        "pair_us_1000": few_us,
        "share_of_rate": few_us / min(pair_us),
        "calls": {one.title: one.found() for one in (growing, talking, displacing, timer, *rewriting) if one.took},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--connections", type=int, default=1_000_000, help="default: %(default)s")
    parser.add_argument("--rounds", type=int, default=3, help="of all; the best counts (default: %(default)s)")
    parser.add_argument("--json", action="store_true", help="numbers only")
    chosen = parser.parse_args()
    found = measured(chosen.connections, chosen.rounds)
    if chosen.json:
        print(json.dumps(found, indent=2))
        return
    print(
        f"{found['connections']:,} connections: {found['bytes_per_connection']:.0f} bytes each when silent,"
        f" {found['bytes_per_connection_rewriter']:.0f} in a rewriter"
    )
    print(
        f"a pair at 64 B: {found['pair_us']:.2f} µs, with 1000 connections {found['pair_us_1000']:.2f}:"
        f" {found['share_of_rate']:.0%} of the rate"
    )
    print("\nµs of a call of 64 frames:\n\n| | calls | p50 | p99.9 | p99.99 | max |\n|---|--:|--:|--:|--:|--:|")
    for title, one in found["calls"].items():
        numbers = " | ".join(f"{one[key]:,.0f}" for key in ("p50", "p99.9", "p99.99", "max"))
        print(f"| {title} | {one['calls']:,} | {numbers} |")


if __name__ == "__main__":
    main()
