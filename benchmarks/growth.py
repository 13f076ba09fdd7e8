"""The cost of a packet with no and with many waiting packets: nanoseconds, by their number.

    python benchmarks/growth.py                     a table; the last column is the largest against the smallest
    python benchmarks/growth.py --json FILE         the same numbers
    python benchmarks/growth.py --traces 'UDP|hole' some of the traces (hostile.py has them)

In the process, without sockets: batches of 16 packets into the compiled comparator, whose memory has been touched
before; the quickest of so many rounds (--rounds), each on a fresh comparator: other work on the machine only adds.
"""

import argparse
import gc
import json
import time
from pathlib import Path
from typing import Final

from hostile import PROBES, START_US, TRACES, Batch, Comparing, Trace, warmed

SIZES: Final = (0, 10, 100, 1000, 4000, 16_000)


def sizes(trace: Trace) -> list[int]:
    below = [size for size in SIZES if size < trace.most]
    return [*below, trace.most]


def nanoseconds(trace: Trace, waiting: int, rounds: int) -> float:
    """For one packet."""
    before, probes = trace.made(waiting)
    best = 0
    for _ in range(rounds):
        spent = _spent(warmed(waiting), before, probes)
        best = min(best, spent) if best else spent
    return best / PROBES


def _spent(one: Comparing, before: list[Batch], probes: list[Batch]) -> int:
    one.feed(before)
    one.drained()
    takers = [(one.core.primary_frames if mine else one.core.secondary_frames, frames) for mine, frames in probes]
    gc.disable()
    begin = time.perf_counter_ns()
    for take, frames in takers:
        take(frames, 0, len(frames), START_US)
    spent = time.perf_counter_ns() - begin
    gc.enable()
    return spent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--traces", default="", help="traces with this in their name (A|B: or this)")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", type=Path, help="write the numbers to this file")
    chosen = parser.parse_args()
    wanted = [one for one in TRACES if any(word in one.name for word in chosen.traces.split("|"))]
    if not wanted:
        parser.error(f"no such trace: {chosen.traces}; there are: {'; '.join(one.name for one in TRACES)}")
    print(f"{'ns per packet, by the number that waits':<44}", *(f"{size:>8,}" for size in SIZES), f"{'ratio':>7}")
    found = {}
    for trace in wanted:
        costs = {size: nanoseconds(trace, size, chosen.rounds) for size in sizes(trace)}
        found[trace.name] = costs
        # What a trace cannot have stands in the column behind what it can.
        shown = [f"{cost:>8,.0f}" for cost in costs.values()] + [" " * 8] * (len(SIZES) - len(costs))
        ends = list(costs.values())
        print(f"{trace.name:<44}", *shown, f"{ends[-1] / ends[0]:>7.1f}", flush=True)
    if chosen.json:
        chosen.json.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
