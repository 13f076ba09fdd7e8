"""Signals at random moments for the laboratories: none may hang, print more than a line, or leave anything behind.

    .venv/bin/python benchmarks/soak_signals.py --count 300
    .venv/bin/python benchmarks/soak_signals.py --count 40 -- lab qemu --scenario host

What stands behind `--` is the command line of `colo`; without it, a short demo. Two of three signals come within the
first two seconds, one of three goes to the whole process group, as from a terminal, one of six comes twice. Exit code
1 when there was a fault; each is named with the signal that did it.
"""

import argparse
import collections
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from support.interrupts import Blow, Outcome, blows, strike

DEMO = ["demo", "--seconds", "3", "--sessions", "5", "--no-report"]
ENDS_WITHIN_S = 30.0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=300, help="signals [300]")
    parser.add_argument("--seed", type=int, default=1, help="of moments and signals [1]")
    parser.add_argument("--whole", type=float, default=8.0, metavar="S", help="the latest moment [8]")
    parser.add_argument("--jobs", type=int, default=2, help="runs at a time [2]")
    parser.add_argument("words", nargs="*", help="the command line of colo")
    given = parser.parse_args()
    command = [sys.executable, "-m", "pycolo", *(given.words or DEMO)]

    def one(blow: Blow) -> Outcome:
        return strike(command, blow, ends_within_s=ENDS_WITHIN_S, tells=given.words[:1] == ["lab"])

    codes: collections.Counter[str] = collections.Counter()
    faults: collections.Counter[str] = collections.Counter()
    slowest_s = 0.0
    with ThreadPoolExecutor(given.jobs) as pool:
        for outcome in pool.map(one, blows(given.count, given.seed, given.whole)):
            codes["over before" if outcome.was_over else str(outcome.code)] += 1
            codes["in Python's own start"] += outcome.is_python_s
            slowest_s = max(slowest_s, outcome.took_s)
            for fault in outcome.faults:
                faults[fault.split(":")[0] if fault.startswith("left the process") else fault] += 1
                print(f"{outcome.blow}: {fault}\n{outcome.said}", file=sys.stderr, flush=True)
    print(f"{given.count} signals; exit codes {dict(codes)}; the slowest end came {slowest_s:.1f} s after its signal")
    print(f"faults: {dict(faults) or 'none'}")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
