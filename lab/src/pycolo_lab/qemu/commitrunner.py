"""Runs the scenario of the survivor that dies while its QEMU puts its overlays into its disk.

Both guests are gone then, and the operator starts one on the survivor's host, from the disk as its node has left it.
Whatever was acknowledged has to be there, also what the survivor had acknowledged.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec

from pycolo_lab.errors import LabError
from pycolo_lab.processes import Host, Process
from pycolo_lab.qemu.appender import AppenderResult, start_words
from pycolo_lab.qemu.facts import RoundFacts, ScenarioFacts
from pycolo_lab.qemu.nodes import other
from pycolo_lab.qemu.runner import pause_facts
from pycolo_lab.qemu.scenarios import Scenario
from pycolo_lab.qemu.stage import Stage
from pycolo_lab.scoreboard import Scoreboard, Slot

LINES_MIN: Final = 50
RESUME_S: Final = 10.0
STALL_S: Final = 120.0
"""The appending client waits so long for a guest that has begun anew."""

NOTE: Final = "state/disks.json"
"""What a node keeps of its disks, in its host's directory."""


class CommitRunner:
    """On a stage with a protected pair. One round: both hosts' guests are gone afterwards."""

    def __init__(
        self, scenario: Scenario, stage: Stage, rounds: int | None, seed: int, announce: Callable[[str], None]
    ) -> None:
        """`rounds` and `seed` are for other scenarios."""
        self._scenario = scenario
        self._stage = stage
        self._announce = announce
        self._board = Scoreboard(stage.directory / "scoreboard")
        self._broken: list[str] = []

    def run(self) -> ScenarioFacts:
        """Raises `LabError` when a step cannot be made."""
        stage = self._stage
        primary = stage.serving()
        assert primary is not None, "the stage has a protected pair"
        survivor = other(primary)
        client = self._start()
        stage.until("no lines were acknowledged", lambda: self._board[Slot.ANSWERS] > LINES_MIN, STALL_S)
        with stage.watch(survivor) as watch:
            watch.events.clear()
            stage.kill_qemu(primary)
            if watch.wait_event("RESUME", RESUME_S) is None:
                raise LabError(f"the survivor did not take over: {stage.account()}")
            stage.kill_qemu(survivor)
        stage.until("the disk was not put together", lambda: not self._is_due(survivor))
        said = [line for line in stage.node_log(survivor).splitlines() if "its overlays" in line]
        self._announce(said[-1] if said else "the node says nothing of the disk")
        stage.start_guest(survivor)
        stage.until("its node did not find the guest", lambda: stage.serving() is survivor)
        self._board[Slot.FINISH] = 1
        return self._account(self._result(client), survivor)

    def _is_due(self, host: Host) -> bool:
        """Whether its overlays have to be put into the image still."""
        return "settling" in (self._stage.files[host].directory / NOTE).read_text()

    @property
    def _path(self) -> Path:
        return self._stage.directory / "appender.json"

    def _start(self) -> Process:
        stage = self._stage
        words = start_words(self._path, stage.directory / "scoreboard", STALL_S)
        return stage.processes.start("appender", Host.CLIENT, stage.network.client, [*words, "--begins-anew"])

    def _result(self, client: Process) -> AppenderResult:
        self._stage.until("the client did not end", lambda: client.exit_code() is not None, STALL_S)
        try:
            return msgspec.json.decode(self._path.read_bytes(), type=AppenderResult)
        except (FileNotFoundError, msgspec.DecodeError) as error:
            raise LabError(f"the client left no result: {client.last_words()}") from error

    def _account(self, result: AppenderResult, survivor: Host) -> ScenarioFacts:
        scenario, seen = self._scenario, self._stage.observations
        self._announce(f"{result.acknowledged} lines were acknowledged, {result.on_disk} are on the disk")
        self._broken += result.breaches
        if not result.acknowledged:
            self._broken.append("no line was acknowledged")
        return ScenarioFacts(
            name=scenario.name,
            text=scenario.text,
            holds=not self._broken,
            broken=self._broken,
            rounds=[
                RoundFacts(
                    fault=scenario.fault.value,
                    stood_still_ms=0.0,
                    first_answer_ms=0.0,
                    repair_stood_still_ms=0.0,
                    served_by=survivor.value,
                    whole_again_ms=0.0,
                )
            ],
            connections=1,
            kept=int(not result.breaches),
            fresh_connections=0,
            fresh_failed=0,
            answers=result.acknowledged,
            breaches=len(result.breaches),
            first_breaches=result.breaches,
            checkpoints=seen.checkpoints,
            aborted=seen.aborted,
            pause=pause_facts(seen.pauses_ms),
            download=None,
            upload=None,
            node_memory_kib=[],
        )
