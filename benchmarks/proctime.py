"""What /proc says of the processors' time, in seconds since the machine's start."""

import os
from pathlib import Path
from typing import Final

PROC: Final = Path("/proc")

TICK_S: Final = 1 / os.sysconf("SC_CLK_TCK")
"""/proc counts in these."""


def busy_s(proc: Path = PROC) -> dict[str, float]:
    """In which a processor worked, or was taken away by the hypervisor: "cpu" is all of them, "cpu0" the first."""
    found = {}
    for line in (proc / "stat").read_text().splitlines():
        name, *counts = line.split()
        if name.startswith("cpu"):
            user, nice, system, _idle, _wait, interrupts, soft, stolen = map(int, counts[:8])
            found[name] = (user + nice + system + interrupts + soft + stolen) * TICK_S
    return found
