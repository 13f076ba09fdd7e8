"""Totals over the status answers of both nodes, in all their lives and both roles."""

from collections import Counter
from statistics import median
from typing import Any

from pycolo_lab.processes import Host


class Observations:
    """Takes statuses; counts each checkpoint once, however often and by whichever node it is reported."""

    def __init__(self) -> None:
        self._life = dict.fromkeys((Host.A, Host.B), 0)
        self._counts: dict[tuple[Host, int], dict[str, int]] = {}
        self._aborted: dict[tuple[Host, int], int] = {}
        self._pauses_ms: dict[tuple[Host, int, str], float] = {}
        self.takeovers: dict[tuple[Host, int], dict[str, int]] = {}

    def new_life(self, host: Host) -> None:
        """A node was started there: its counters begin at 0."""
        self._life[host] += 1

    def take(self, host: Host, status: dict[str, Any]) -> None:
        """One answer to `status`."""
        key = host, self._life[host]
        checkpoint = status.get("checkpoint") or {}
        self._counts[key] = dict(checkpoint.get("count") or {})
        self._aborted[key] = int(checkpoint.get("aborted") or 0)
        for record in checkpoint.get("last") or ():
            if record["outcome"] == "committed" and record.get("pause_ms") is not None:
                self._pauses_ms[*key, f"{record['epoch']} {record['at']}"] = float(record["pause_ms"])
        takeover = status.get("takeover")
        if takeover:
            self.takeovers[host, int(takeover.get("suspected_ns") or 0)] = takeover

    @property
    def checkpoints(self) -> dict[str, int]:
        """By kind of reason."""
        total: Counter[str] = Counter()
        for counts in self._counts.values():
            total.update(counts)
        return dict(sorted(total.items()))

    @property
    def aborted(self) -> int:
        """Checkpoints that were begun and given up."""
        return sum(self._aborted.values())

    @property
    def pauses_ms(self) -> list[float]:
        """STOP to RESUME of the primary, of every checkpoint that some status listed."""
        return sorted(self._pauses_ms.values())


def percentile(values: list[float], share: float) -> float | None:
    """Of sorted values; None of none."""
    return values[min(len(values) - 1, int(len(values) * share))] if values else None


def middle(values: list[float]) -> float | None:
    """The median; None of none."""
    return median(values) if values else None
