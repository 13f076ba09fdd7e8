"""The clients of a round, and what their answers say: nothing may be lost."""

import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final, TypeVar

import msgspec

from pycolo_lab.errors import LabError
from pycolo_lab.libvirt.facts import Judged
from pycolo_lab.libvirt.stage import LibvirtStage
from pycolo_lab.processes import Host, Process
from pycolo_lab.qemu import appender, counter
from pycolo_lab.qemu.appender import AppenderResult
from pycolo_lab.qemu.counter import CounterResult
from pycolo_lab.qemu.law import breaches, gap_at
from pycolo_lab.qemu.runner import WORK_END_S
from pycolo_lab.qemu.topology import GUEST_ADDRESS
from pycolo_lab.scoreboard import Scoreboard, Slot
from pycolo_lab.work.kinds import WORKS
from pycolo_lab.work.result import WorkResult

CONNECTIONS: Final = 24
INTERVAL_MS: Final = 10
DRAW_EVERY: Final = 25
STALL_S: Final = 60.0
CLIENTS_S: Final = 90.0
ENOUGH_ANSWERS: Final = 12
"""More than may have been in flight."""

Result = TypeVar("Result", CounterResult, AppenderResult, WorkResult)


class Witnesses:
    """Clients on the stage, from now on. `name` is the round's; `has_disk`: one of them appends lines to a file;
    `work`: one of them does that, see `pycolo_lab.work`.
    """

    def __init__(self, stage: LibvirtStage, name: str, *, has_disk: bool, work: str | None = None) -> None:
        self._stage = stage
        self._directory = stage.directory / f"clients-{name}"
        self._directory.mkdir()
        self._board = Scoreboard(self._directory / "scoreboard")
        words = ["--connections", CONNECTIONS, "--interval-ms", INTERVAL_MS, "--draw-every", DRAW_EVERY]
        self._processes = {"counter": self._start(f"counter-{name}", counter.__name__, *words)}
        if has_disk:
            self._processes["appender"] = self._start(f"appender-{name}", appender.__name__, "--goes-on", stage.lines)
        if work is not None:
            self._processes["work"] = self._start(f"work-{name}", WORKS[work].module)
        self._until("the clients did not connect", lambda: self._board[Slot.SESSIONS_OPEN] >= CONNECTIONS)

    def _start(self, name: str, module: str, *own: object) -> Process:
        result, scoreboard = self._result(name.split("-", 1)[0]), self._directory / "scoreboard"
        words = [*own, "--address", GUEST_ADDRESS, "--stall-seconds", STALL_S, "--result", result]
        command = [sys.executable, "-m", module, *map(str, words), "--scoreboard", str(scoreboard)]
        return self._stage.processes.start(name, Host.CLIENT, self._stage.network.client, command)

    def _result(self, name: str) -> Path:
        return self._directory / f"{name}.json"

    def _until(self, what: str, holds: Callable[[], bool]) -> None:
        self._stage.until(what, holds, CLIENTS_S)

    def until_answered(self) -> None:
        """Until clients certainly get answers from the guest as it is now. Raises `LabError`."""
        enough = self._board[Slot.ANSWERS] + ENOUGH_ANSWERS
        self._until("the clients did not go on", lambda: self._board[Slot.ANSWERS] >= enough)

    def end(self, at_ns: int, until_ns: int) -> Judged:
        """They answer once more, and are judged; the fault was at `at_ns`, and over by `until_ns`."""
        self._board[Slot.FINISH] = 1
        for name, process in self._processes.items():
            if process.wait(WORK_END_S if name == "work" else CLIENTS_S) is None:
                raise LabError(f"the {name} does not end")
        result = self._read("counter", CounterResult)
        broken = [f"{len(result.failed)} connections lost, e.g. {result.failed[0]}"] if result.failed else []
        if result.fresh_failed:
            broken.append(f"{len(result.fresh_failed)} new connections failed, e.g. {result.fresh_failed[0]}")
        if found := breaches(result.answers, result.unanswered):
            broken.append(f"{len(found)} breaches of the counter's law, first: {found[0].text}")
        lines = 0
        if "appender" in self._processes:
            appended = self._read("appender", AppenderResult)
            broken += appended.breaches
            lines = appended.acknowledged
            self._stage.lines = max(lines, self._stage.lines)
        notes = []
        if "work" in self._processes:
            worked = self._read("work", WorkResult)
            broken += worked.breaches
            notes.append(worked.account)
        gap = gap_at(result.answers, at_ns, until_ns - at_ns)
        return Judged(
            broken=broken,
            connections=result.connections,
            lost=len(result.failed),
            answers=len(result.answers),
            lines=lines,
            notes=notes,
            gap_ms=None if gap is None else round(gap.length_ms, 1),
        )

    def abandon(self) -> None:
        """End them at once; what they have seen is judged no more. Nothing happens when they have ended."""
        for process in self._processes.values():
            process.send(signal.SIGKILL)

    def _read(self, name: str, kind: type[Result]) -> Result:
        return _read(name, self._result(name), kind, self._processes[name])


def _read(name: str, path: Path, kind: type[Result], process: Process) -> Result:
    """What a client that has ended has left. Raises `LabError`."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except (FileNotFoundError, msgspec.DecodeError) as error:
        raise LabError(f"the {name} left no result: {process.last_words()}") from error


class Lines:
    """A client that appends lines to the file on the disk, also of a guest that begins anew, and nothing else."""

    def __init__(self, stage: LibvirtStage, name: str) -> None:
        self._stage = stage
        directory = stage.directory / f"lines-{name}"
        directory.mkdir()
        self._board = Scoreboard(directory / "scoreboard")
        self._result = directory / "appender.json"
        words = [*appender.start_words(self._result, directory / "scoreboard", STALL_S), "--goes-on", str(stage.lines)]
        self._process = stage.processes.start(
            f"lines-{name}", Host.CLIENT, stage.network.client, [*words, "--begins-anew"]
        )

    def until(self, count: int) -> None:
        """So many were acknowledged. Raises `LabError`."""
        enough = self._stage.lines + count
        self._stage.until("no lines were acknowledged", lambda: self._board[Slot.ANSWERS] >= enough, CLIENTS_S)

    def end(self) -> AppenderResult:
        """What it has found in the file at the end. Raises `LabError`."""
        self._board[Slot.FINISH] = 1
        if self._process.wait(CLIENTS_S) is None:
            raise LabError("the client that appends lines does not end")
        found = _read("appender", self._result, AppenderResult, self._process)
        self._stage.lines = max(found.acknowledged, self._stage.lines)
        return found
