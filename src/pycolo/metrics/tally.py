"""Counts checkpoints since the node's start, from checkpoint records: pure.

`CheckpointTally.status()` is the part `checkpoint` of the status answer; the collector makes metrics from it::

    {"count": {"divergence": 3, "periodic": 1}, "aborted": 0,
     "released_frames": 40, "released_bytes": 51234, "discarded_frames": 38, "copied_bytes": 7340032,
     "parts_sum_s": {"stop-secondary": 0.0081, "drain": 0.0012, …},
     "pause_histogram": {"buckets": [[1000, 0], [2000, 1], …, [null, 0]], "sum_us": 24100}}

A bucket is (inclusive upper bound in µs; null: none) and the number of pauses in it and in no smaller one.
"""

from bisect import bisect_left
from collections import Counter
from collections.abc import Mapping
from typing import Any, Final

PAUSE_BOUNDS_US: Final = tuple(
    ms * 1000 for ms in (1, 2, 3, 4, 5, 6, 8, 10, 15, 20, 30, 50, 75, 100, 150, 200, 300, 500, 1000, 2000, 5000)
)
"""Fine where pauses over a fast link lie (3-10 ms), up to the time limit of a checkpoint."""


class PauseHistogram:
    """A histogram of the primary guest's pauses."""

    def __init__(self) -> None:
        self._counts = [0] * (len(PAUSE_BOUNDS_US) + 1)
        self._sum_us = 0

    def add(self, pause_us: int) -> None:
        """Count one pause, in µs."""
        self._counts[bisect_left(PAUSE_BOUNDS_US, pause_us)] += 1
        self._sum_us += pause_us

    def status(self) -> dict[str, Any]:
        """`{"buckets": [[upper bound in µs or None, count], …], "sum_us": …}`."""
        bounds = (*PAUSE_BOUNDS_US, None)
        return {"buckets": [list(pair) for pair in zip(bounds, self._counts, strict=True)], "sum_us": self._sum_us}


class CheckpointTally:
    """Sums over checkpoint records, as the status answer's `checkpoint.last` has them."""

    def __init__(self) -> None:
        self.pauses = PauseHistogram()
        self._committed: Counter[str] = Counter()
        self._aborted = 0
        self._parts_s: Counter[str] = Counter()
        self._sums = dict.fromkeys(("released_frames", "released_bytes", "discarded_frames", "copied_bytes"), 0)

    def take(self, record: Mapping[str, Any]) -> None:
        """Count a finished checkpoint. A committed one counts for the reason of the first request. Its pause counts for
        either outcome: the guest stood still in both.
        """
        if record["outcome"] == "committed":
            reasons = record.get("reasons") or [{"kind": "unknown"}]
            self._committed[reasons[0]["kind"]] += 1
        else:
            self._aborted += 1
        if record.get("pause_ms") is not None:
            self.pauses.add(round(record["pause_ms"] * 1000))
        for part, ms in (record.get("parts_ms") or {}).items():
            self._parts_s[part] += ms / 1000
        for name in self._sums:
            self._sums[name] += record.get(name) or 0

    def status(self) -> dict[str, Any]:
        """The dictionary in the module's docstring."""
        return {
            "count": dict(self._committed),
            "aborted": self._aborted,
            **self._sums,
            "parts_sum_s": {part: round(seconds, 6) for part, seconds in self._parts_s.items()},
            "pause_histogram": self.pauses.status(),
        }
