"""The first copy of a guest's memory, made while the guest runs: whether it comes to an end, and at what price. Pure.

The hypervisor copies in passes: each copies what has changed during the one before, and when what is left can be copied
within the pause allowed (QEMU: downtime-limit), it stops the guest and copies that. A guest that changes faster than it
is copied leaves as much after each pass; then only a longer pause ends it. Each checkpoint would pause it for as long,
so there is a limit to that as well.
"""

from dataclasses import dataclass
from typing import Final

from pycolo.checkpoint.pace import mib, ms

PAUSE_MAX_MS: Final = 10_000
"""A guest that would stand still for longer is not protected."""

SHRINKS_BY: Final = 0.75
"""A pass that leaves more than this share of what the last one left does not come to an end soon."""

STUCK_PASSES: Final = 2
"""So many of them in a row, and the pause is made longer; the first pass leaves what changed in all its time."""

RESERVE: Final = 1.5
"""What is left varies from pass to pass."""

HOPELESS_PASSES: Final = 30
"""At the longest pause; a pass of a guest that changes more than that is seconds long."""


@dataclass(frozen=True, slots=True)
class Progress:
    """What the hypervisor says (QEMU: query-migrate): passes begun, bytes left, bytes copied and changed per second."""

    passes: int
    left_bytes: int
    copy_rate: float
    change_rate: float


class FirstCopy:
    """Give it each `Progress`; it says how long a pause to allow."""

    def __init__(self, pause_ms: int) -> None:
        """`pause_ms`: what is allowed at first."""
        self.pause_ms = min(pause_ms, PAUSE_MAX_MS)
        self._passes = 0
        self._left_bytes: int | None = None
        self._stuck = 0
        self._at_most = 0
        self.is_hopeless = False
        self.says = ""
        """One line with the figures, once the pause was made longer."""

    def looked(self, progress: Progress) -> bool:
        """Whether `pause_ms` is another one now. What is left counts where a pass begins."""
        if progress.passes <= self._passes:
            return False
        self._passes = progress.passes
        before, self._left_bytes = self._left_bytes, progress.left_bytes
        if before is None or progress.left_bytes <= before * SHRINKS_BY:
            self._stuck = 0
            return False
        self._stuck += 1
        if self._stuck < STUCK_PASSES or progress.copy_rate <= 0:
            return False
        return self._allow_more(progress)

    def _allow_more(self, progress: Progress) -> bool:
        self._stuck = 0
        needed_ms = round(progress.left_bytes * 1000 / progress.copy_rate * RESERVE)
        self.says = (
            f"the guest changes {mib(progress.change_rate)}/s and {mib(progress.copy_rate)}/s are copied: "
            f"{mib(progress.left_bytes)} are left after each pass, for which it stands still for about "
            f"{ms(round(progress.left_bytes * 1e6 / progress.copy_rate))} ms"
        )
        if self.pause_ms >= PAUSE_MAX_MS:
            self._at_most += 1
            self.is_hopeless = self._at_most * STUCK_PASSES >= HOPELESS_PASSES
            return False
        self.pause_ms = min(max(needed_ms, 2 * self.pause_ms), PAUSE_MAX_MS)
        return True
