"""The processors of a run, and the share of them that other programs took meanwhile."""

import os
import platform
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from proctime import TICK_S, busy_s

OTHERS_MAX: Final = 0.06
"""Of a processor, while a round is measured: above it the round is measured again."""

_TICKS_FORGIVEN: Final = 2
"""Busy time is counted in ticks."""


@dataclass(frozen=True)
class Cores:
    """One processor for the peer, one for the driver."""

    peer: int
    driver: int


def chosen(text: str | None) -> Cores | None:
    """`text`: PEER,DRIVER; "none": unpinned, and the share of others is unknown; None: the last two."""
    allowed = sorted(os.sched_getaffinity(0))
    if text == "none" or (text is None and (len(allowed) < 2 or shutil.which("taskset") is None)):
        return None
    first, second = (int(word) for word in text.split(",")) if text else allowed[-2:]
    return Cores(first, second)


@dataclass(frozen=True)
class Moment:
    """Processor time until now, in seconds: of both cores with what was stolen, of the peer and of this process."""

    at: float
    busy: dict[int, float]
    peer: float
    own: float


def moment(cores: Cores | None, peer_s: float) -> Moment:
    busy = busy_s()
    of_both = {cpu: busy[f"cpu{cpu}"] for cpu in (cores.peer, cores.driver)} if cores else {}
    return Moment(time.monotonic(), of_both, peer_s, time.process_time())


def of_others(cores: Cores | None, before: Moment, after: Moment) -> float:
    """The larger share of one of the two cores that neither peer nor driver had, although they may have needed it."""
    if cores is None:
        return 0.0
    wall = after.at - before.at
    ours = {cores.peer: after.peer - before.peer, cores.driver: after.own - before.own}
    shares = [
        (after.busy[cpu] - before.busy[cpu] - used - _TICKS_FORGIVEN * TICK_S) / wall for cpu, used in ours.items()
    ]
    return max(0.0, *shares)


def described(cores: Cores | None) -> dict[str, Any]:
    """Description of this machine."""
    model = [
        line.partition(":")[2].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "name" in line
    ]
    return {
        "at": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        "processors": os.cpu_count(),
        "model": model[0] if model else platform.machine(),
        "kernel": platform.release(),
        "python": sys.version.split()[0],
        "qemu": version_of_qemu(),
        "peer_on": cores.peer if cores else None,
        "driver_on": cores.driver if cores else None,
    }


def version_of_qemu() -> str | None:
    if shutil.which("qemu-system-x86_64") is None:
        return None
    said = subprocess.run(["qemu-system-x86_64", "--version"], capture_output=True, text=True, check=False).stdout
    return said.split()[3] if len(said.split()) > 3 else None
