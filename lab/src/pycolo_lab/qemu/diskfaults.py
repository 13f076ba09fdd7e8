"""Faults of a guest's disk: what happens to it, and what must be said and done about that."""

import time
from typing import Any

from pycolo_lab.errors import LabError
from pycolo_lab.processes import Host
from pycolo_lab.qemu.machine import DISK
from pycolo_lab.qemu.nodes import other
from pycolo_lab.qemu.stage import Stage


class DiskFaults:
    """Of one round. `notes` and `broken` get what was seen."""

    def __init__(self, stage: Stage, primary: Host, notes: list[str], broken: list[str]) -> None:
        self._stage = stage
        self._primary = primary
        self._notes = notes
        self._broken = broken

    def strike_again(self) -> int:
        """The secondary's QEMU dies, the pair is made whole with what has changed, then the primary's QEMU dies."""
        stage, primary = self._stage, self._primary
        stage.until("two checkpoints were not made", lambda: self._checkpoints() >= 2)
        stage.kill_qemu(other(primary))
        stage.until_linked()
        stage.rest(1.0)  # the guest writes on
        stage.protect()
        shown = self._shown()
        copied, whole = shown.get("copied_bytes", 0), shown.get("size_bytes", 0)
        self._notes.append(f"copied anew: {copied >> 10} KiB of {whole >> 20} MiB")
        if not shown.get("is_incremental"):
            self._broken.append(f"the disk was copied in full: {shown}")
        stage.rest(1.0)
        at_ns = time.monotonic_ns()
        stage.kill_qemu(primary)
        return at_ns

    def _checkpoints(self) -> int:
        return int(self._stage.checkpoint_status(self._primary)["epoch"])

    def _shown(self) -> dict[str, Any]:
        """What the primary's node says of the disk."""
        status = self._stage.files[self._primary].status()
        if status is None:
            raise LabError(f"the node on {self._primary.value} does not answer")
        found: dict[str, Any] = next((disk for disk in status["disks"] if disk.get("name") == DISK), {})
        return found
