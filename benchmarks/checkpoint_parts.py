"""What a checkpoint of a small guest consists of, by the size of its memory, idle and while it serves clients.

Builds the laboratory's two hosts for each size, protects the guest, makes checkpoints on request, and prints the median
of each part as Markdown. Needs root, as `colo lab qemu` does.
"""

import argparse
import statistics
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from pycolo.checkpoint.parts import OF_THE_PAUSE, Part
from pycolo_lab.interruption import Interruption
from pycolo_lab.namespaces import run_isolated, run_with_own_pids
from pycolo_lab.processes import Host
from pycolo_lab.qemu import counter
from pycolo_lab.qemu.image import ensure_image
from pycolo_lab.qemu.machine import GUESTS, Machine, Qemu, find_qemu, probed_accelerator
from pycolo_lab.qemu.nodes import NodeSetting
from pycolo_lab.qemu.programs import Programs, say
from pycolo_lab.qemu.stage import Stage
from pycolo_lab.qemu.topology import GUEST_ADDRESS, Network
from pycolo_lab.scoreboard import Scoreboard, Slot

SETTING: Final = NodeSetting(heartbeat_timeout_ms=1000, arbiter="manual", checkpoint_interval_ms=0)
DISTANCE_S: Final = 0.15
SETTLED_S: Final = 2.0
CONNECTIONS: Final = 48
INTERVAL_MS: Final = 4
"""Between two questions of the clients: 250 in a second."""
ROOM_BYTES: Final = 1 << 30


class Bench:
    """One run."""

    def __init__(self, given: argparse.Namespace, qemu: Qemu, interruption: Interruption, directory: Path) -> None:
        self._given = given
        self._qemu = qemu
        self._interruption = interruption
        self._directory = directory
        self._found: dict[str, list[dict[str, Any]]] = {}

    def perform(self, _outer_pid: int) -> int:
        """As process 1 of the run's namespaces."""
        image = ensure_image(Programs(self._interruption))
        accelerator = probed_accelerator("auto", self._qemu, image, self._directory, self._interruption)
        for mib in self._given.mib:
            guest = GUESTS["small"]._replace(memory_kib=(mib << 10) + 8)
            self._measure(mib, Machine(qemu=self._qemu, image=image, accelerator=accelerator, guest=guest))
        print(f"QEMU {self._qemu.version}, {accelerator}, {self._given.checkpoints} checkpoints each, median ms\n")
        print(table(self._found))
        return 0

    def _measure(self, mib: int, machine: Machine) -> None:
        network = Network(self._directory / f"netns-{mib}", self._interruption.look)
        network.build()
        stage = Stage(machine, network, self._directory / f"{mib}", self._interruption.look)
        try:
            stage.build(SETTING)
            for load in ("idle", "load"):
                board = self._start_clients(stage) if load == "load" else None
                stage.rest(SETTLED_S)
                self._found[f"{mib} MiB, {load}"] = self._checkpoints(stage)
                say(f"{mib} MiB, {load}: done")
                if board is not None:
                    board[Slot.FINISH] = 1
        finally:
            stage.clear()
            network.delete()

    def _checkpoints(self, stage: Stage) -> list[dict[str, Any]]:
        records = []
        for _ in range(self._given.checkpoints):
            stage.rest(DISTANCE_S)
            records.append(stage.files[Host.A].ask("checkpoint"))
        return records

    def _start_clients(self, stage: Stage) -> Scoreboard:
        path = stage.directory / "scoreboard"
        board = Scoreboard(path)
        words = ["--connections", CONNECTIONS, "--interval-ms", INTERVAL_MS, "--draw-every", 0, "--stall-seconds", 30]
        words += ["--address", GUEST_ADDRESS, "--result", stage.directory / "counter.json", "--scoreboard", path]
        command = [sys.executable, "-m", counter.__name__, *map(str, words)]
        stage.processes.start("counter", Host.CLIENT, stage.network.client, command)
        return board


def table(found: dict[str, Sequence[dict[str, Any]]]) -> str:
    """Markdown: a column for each guest and load, a row for each part."""
    rows = [["", *found], ["---", *["--:"] * len(found)]]
    for part in Part:
        name = part.value.replace("-", " ")
        rows.append(
            [name if part in OF_THE_PAUSE else f"{name} *", *(_median(one, part.value) for one in found.values())]
        )
    for name, key in (("**pause**", "pause_ms"), ("requested to RESUME", "request_to_resume_ms")):
        rows.append([name, *(_middle([record[key] for record in one]) for one in found.values())])
    sizes = [_middle([record["copied_bytes"] / (1 << 20) for record in one]) for one in found.values()]
    rows.append(["copied, MiB", *sizes])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _median(records: Sequence[dict[str, Any]], part: str) -> str:
    return _middle([record["parts_ms"][part] for record in records if record["parts_ms"]])


def _middle(values: Sequence[float]) -> str:
    return f"{statistics.median(values):.2f}"


def main() -> int:
    """Exit code 0."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mib", type=int, nargs="+", default=[96, 512], help="sizes of the guest's memory")
    parser.add_argument("--checkpoints", type=int, default=40)
    parser.add_argument("--qemu", help="as of colo lab qemu")
    given = parser.parse_args()
    interruption = Interruption()
    interruption.watch()
    programs = Programs(interruption)
    programs.require(["ip"])
    qemu = find_qemu(given.qemu, programs)

    def perform(directory: Path) -> int:
        return run_with_own_pids(Bench(given, qemu, interruption, directory).perform, interruption)

    return run_isolated(perform, interruption, ROOM_BYTES)


if __name__ == "__main__":
    with suppress(BrokenPipeError):
        sys.exit(main())
