"""The guest reboots while it is protected, before the clients of a scenario come.

Both replicas get the same input, so both reset themselves, each at its own moment; a checkpoint in between copies a
machine that is starting. What must hold: the pair stays whole, with the same two QEMUs; a connection from before is
reset, as by any machine that has rebooted; and checkpoints go on with the guest that has started anew, whose firmware
has set q35's registers again (see `pycolo.qmp.cures`). The rest of the scenario shows that nothing is lost when a host
dies afterwards.
"""

import sys
import time
from collections.abc import Callable
from typing import Final

from pycolo_lab.errors import LabError
from pycolo_lab.processes import Host, Process
from pycolo_lab.qemu import witness
from pycolo_lab.qemu.machine import BOOT_TIMEOUT_S, boots
from pycolo_lab.qemu.nodes import other
from pycolo_lab.qemu.stage import Stage
from pycolo_lab.qemu.topology import GUEST_ADDRESS

CHECKPOINTS: Final = 3
"""Made and finished after each reboot."""

WITNESS_S: Final = 2 * BOOT_TIMEOUT_S + 10.0
"""A client's TCP repeats its question after pauses that double: the last one may be as long as the guest was away."""

POLL_S: Final = 0.1


class Reboots:
    """On a stage with a protected pair. `announce(text)` after each reboot."""

    def __init__(self, stage: Stage, announce: Callable[[str], None]) -> None:
        self._stage = stage
        self._announce = announce
        self.broken: list[str] = []

    def run(self, count: int) -> None:
        """Reboot so often. Raises `LabError` when the guest does not come back."""
        for number in range(1, count + 1):
            self._reboot(number)

    def _reboot(self, number: int) -> None:
        stage = self._stage
        primary = stage.serving()
        assert primary is not None, "the stage has a protected pair"
        qemus, began_s = self._qemus(), time.monotonic()
        booted = boots(stage.files[primary].directory)
        client = self._start_witness(number)
        self._watch(f"the guest did not start again after reboot {number}",
                    lambda: boots(stage.files[primary].directory) > booted)  # fmt: skip
        took_s = time.monotonic() - began_s
        self._watch("the connection from before the reboot has not ended", lambda: client.exit_code() is not None,
                    WITNESS_S)  # fmt: skip
        if client.exit_code() != 0:
            self.broken.append(f"reboot {number}: {client.last_words()}")
        self._make_checkpoints(primary)
        if stage.serving() is not primary or self._qemus() != qemus:
            self.broken.append(f"reboot {number} cost a QEMU or moved the guest: {stage.account()}")
        self._announce(f"reboot {number}: the guest was ready again after {took_s:.1f} s")

    def _start_witness(self, number: int) -> Process:
        stage = self._stage
        words = ["--address", GUEST_ADDRESS, "--within-s", str(WITNESS_S)]
        command = [sys.executable, "-m", witness.__name__, *words]
        return stage.processes.start(f"witness-{number}", Host.CLIENT, stage.network.client, command)

    def _make_checkpoints(self, primary: Host) -> None:
        stage = self._stage
        wanted = stage.checkpoint_status(primary)["epoch"] + CHECKPOINTS
        for _ in range(CHECKPOINTS):
            stage.files[primary].ask("checkpoint", timeout_s=BOOT_TIMEOUT_S)
        self._watch("no checkpoint was made after the reboot",
                    lambda: stage.checkpoint_status(primary)["epoch"] >= wanted)  # fmt: skip

    def _watch(self, what: str, condition: Callable[[], bool], within_s: float = BOOT_TIMEOUT_S) -> None:
        """Wait, while the pair must stay whole all the time."""
        deadline = time.monotonic() + within_s
        while not condition():
            if not self._stage.is_whole():
                raise LabError(f"the reboot cost the guest its protection: {self._stage.account()}")
            if time.monotonic() > deadline:
                raise LabError(f"{what} within {within_s:.0f} s: {self._stage.account()}")
            self._stage.rest(POLL_S)

    def _qemus(self) -> tuple[int | None, ...]:
        return tuple(self._stage.files[host].qemu_pid for host in (Host.A, other(Host.A)))
