"""The share of the machine's processors that programs had which are not of this run."""

import os
import time
from contextlib import suppress
from pathlib import Path

from proctime import PROC, TICK_S, busy_s


class OtherWork:
    """From now on. The run has process ids of its own, so that /proc shows its processes and no others."""

    def __init__(self, proc: Path = PROC) -> None:
        self._proc = proc
        self._began = self._now()

    def _now(self) -> tuple[float, float, float]:
        return time.monotonic(), busy_s(self._proc)["cpu"], own_s(self._proc)

    def share(self) -> float:
        """Of all processors together, until now: 1 is all of them. What the kernel does for the network counts too."""
        wall, busy, own = (after - before for after, before in zip(self._now(), self._began, strict=True))
        return max(0.0, (busy - own) / (wall * (os.cpu_count() or 1))) if wall > 0 else 0.0


def own_s(proc: Path = PROC) -> float:
    """Of all processes that are seen, and of those that they have waited for."""
    ticks = 0
    for path in proc.glob("[0-9]*/stat"):
        with suppress(OSError):  # it has ended
            ticks += sum(map(int, path.read_text().rpartition(")")[2].split()[11:15]))
    return ticks * TICK_S
