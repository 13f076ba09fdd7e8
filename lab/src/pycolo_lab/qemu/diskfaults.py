"""Faults of a guest's disk: what happens to it, and what must be said and done about that."""

import signal
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from pycolo_lab.errors import LabError
from pycolo_lab.processes import Host
from pycolo_lab.qemu.machine import DISK
from pycolo_lab.qemu.monitor import Monitor
from pycolo_lab.qemu.nodes import other
from pycolo_lab.qemu.stage import Stage

FILLER_BYTES: Final = 1 << 20
FILLER_LAST_BYTES: Final = 4096
"""A full file system has no room for another page."""

COPY_LOSSES: Final = ("copy-failed", "copy-cut", "copy-behind")
"""Whichever is seen first when the other host takes no more writes."""

FULL_S: Final = 60.0
"""By then the guest has written where its image has no room yet."""

STOPPED_S: Final = 1.0

SLOW_S: Final = 4.0
SLOW_STOP_S: Final = 0.03
SLOW_RUN_S: Final = 0.01


class DiskFaults:
    """Of one round. `notes` and `broken` get what was seen."""

    def __init__(self, stage: Stage, primary: Host, notes: list[str], broken: list[str]) -> None:
        self._stage = stage
        self._primary = primary
        self._notes = notes
        self._broken = broken
        self._filler: Path | None = None

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

    def fill(self, victim: Host) -> int:
        """The file system of the image is full. At the primary QEMU stops the guest, until there is room again."""
        self._fill(self._stage.files[victim].images)
        return self._see_it_stop() if victim is self._primary else self._see_it_end()

    def fill_overlays(self) -> int:
        """At the secondary."""
        self._fill(self._stage.files[other(self._primary)].overlays)
        return self._see_it_end()

    def slow_down(self) -> int:
        """The secondary's QEMU runs for a quarter of the time."""
        stage, victim = self._stage, other(self._primary)
        at_ns = time.monotonic_ns()
        until_s = time.monotonic() + SLOW_S
        try:
            while time.monotonic() < until_s:
                stage.signal_qemu(victim, signal.SIGSTOP)
                stage.rest(SLOW_STOP_S)
                stage.signal_qemu(victim, signal.SIGCONT)
                stage.rest(SLOW_RUN_S)
        finally:
            stage.signal_qemu(victim, signal.SIGCONT)
        if not stage.is_whole():
            self._broken.append(f"a slow disk cost the pair: {stage.account()}")
        return at_ns

    def _fill(self, folder: Path) -> None:
        self._filler = folder / "filler"
        with self._filler.open("wb", buffering=0) as file, suppress(OSError):
            while file.write(bytes(FILLER_BYTES)):
                pass
        with self._filler.open("ab", buffering=0) as file, suppress(OSError):
            while file.write(bytes(FILLER_LAST_BYTES)):
                pass

    def _see_it_end(self) -> int:
        """A write has found no room at the other host. Returns when the pair had ended."""
        stage = self._stage
        stage.until("the pair outlived a full disk", lambda: not stage.is_whole(), FULL_S)
        return time.monotonic_ns()

    def make_room(self) -> None:
        """Where it was filled."""
        if self._filler is not None:
            self._filler.unlink(missing_ok=True)
            self._filler = None

    def _see_it_stop(self) -> int:
        """The pair ends before a checkpoint could kill QEMU; the guest goes on when the user lets it. Returns when it
        had stopped.
        """
        stage, primary = self._stage, self._primary
        with stage.watch(primary) as watch:
            stage.until("QEMU did not stop for the full disk", lambda: self._run_state(watch) == "io-error", FULL_S)
            at_ns = time.monotonic_ns()
            stage.until_linked()
            self.expect_named("own-disk")
            stage.rest(STOPPED_S)
            if (state := self._run_state(watch)) != "io-error":
                self._broken.append(f"the guest was let go on over a full disk: {state}")
            self.make_room()
            self._notes.append("made room, and let the guest go on with QEMU's cont")
            watch.ask("cont")
        return at_ns

    @staticmethod
    def _run_state(watch: Monitor) -> str:
        return str(watch.ask("query-status")["status"])

    def expect_named(self, *losses: str) -> None:
        """The pair has ended for one of these reasons, with the disk's name, and the guest stays where it was."""
        stage, primary = self._stage, self._primary
        stage.until_linked()
        if stage.serving() is not primary:
            self._broken.append(f"a disk's fault moved the guest: {stage.account()}")
        code, said = stage.run_colo("explain", primary)
        reasons = [
            line.strip() for line in said.splitlines() if DISK in line and any(f"{loss}: " in line for loss in losses)
        ]
        self._notes.append(f"colo explain (exit code {code}): {reasons[-1] if reasons else said[-300:]}")
        if not reasons:
            self._broken.append(f"colo explain names no {' or '.join(losses)}: {said[-300:]!r}")

    def _checkpoints(self) -> int:
        return int(self._stage.checkpoint_status(self._primary)["epoch"])

    def _shown(self) -> dict[str, Any]:
        """What the primary's node says of the disk."""
        status = self._stage.files[self._primary].status()
        if status is None:
            raise LabError(f"the node on {self._primary.value} does not answer")
        found: dict[str, Any] = next((disk for disk in status["disks"] if disk.get("name") == DISK), {})
        return found
