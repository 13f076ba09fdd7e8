"""Why disks are no longer copied: kinds with a name, and the last ones, for the status and `colo explain`."""

from collections import deque
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Final

LOSSES_MAX: Final = 8
"""So many are shown."""


class Loss(StrEnum):
    """What has ended the protection."""

    OWN_DISK = "own-disk"
    """The primary's own disk has an error, mostly no space; QEMU has stopped the guest for it."""
    COPY_FAILED = "copy-failed"
    """The other host could not write: its image or its overlays have an error, mostly no space."""
    COPY_CUT = "copy-cut"
    """The connection for the disk's writes has ended."""
    COPY_BEHIND = "copy-behind"
    """Found at a checkpoint: the other host has not everything."""
    NO_ANSWER = "no-answer"
    """QEMU has not said at a checkpoint whether the disks are copied."""


class DiskLosses:
    """The first one of a protection is the cause; others follow from it."""

    def __init__(self) -> None:
        self._losses: deque[dict[str, Any]] = deque(maxlen=LOSSES_MAX)
        self._is_lost = False

    def begin(self) -> None:
        """Another protection."""
        self._is_lost = False

    def note(self, loss: Loss, why: str) -> None:
        """One line for people."""
        if not self._is_lost:
            self._is_lost = True
            at = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
            self._losses.append({"state": "lost", "reason": loss.value, "why": why, "at": at})

    def status(self) -> list[dict[str, Any]]:
        """Oldest first."""
        return list(self._losses)
