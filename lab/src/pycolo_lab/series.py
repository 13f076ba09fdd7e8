"""Sampled counters as curves."""

from bisect import bisect_right
from collections.abc import Sequence
from typing import Literal

from pycolo_lab.facts import Sample

Field = Literal["download_bytes", "upload_bytes", "answers"]


def value_at(samples: Sequence[Sample], field: Field, at_ns: int) -> float:
    """Return the counter at that moment, interpolated; before the first sample 0, after the last the last."""
    index = bisect_right(samples, at_ns, key=lambda sample: sample.at_ns)
    if index == 0:
        return 0.0
    before = samples[index - 1]
    value: int = getattr(before, field)
    if index == len(samples):
        return float(value)
    after = samples[index]
    share = (at_ns - before.at_ns) / (after.at_ns - before.at_ns)
    return float(value + (getattr(after, field) - value) * share)


def rates(samples: Sequence[Sample], field: Field, edges_ns: Sequence[int]) -> list[float]:
    """Return the growth per second between each two neighbouring moments."""
    values = [value_at(samples, field, edge) for edge in edges_ns]
    return [(values[i + 1] - values[i]) * 1e9 / (edges_ns[i + 1] - edges_ns[i]) for i in range(len(edges_ns) - 1)]
