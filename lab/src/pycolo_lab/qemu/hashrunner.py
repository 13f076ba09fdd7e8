"""Runs the scenario of the running hash: checkpoints at random moments under load, then the primary's host dies.

The guests answer every datagram with a hash over all their input (`hashing`). So a single frame that one of them has
got twice, never, or in another order is a difference of the two, which the nodes would answer with a checkpoint; and
after the takeover it is a wrong hash for good.
"""

import random
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec

from pycolo_lab.errors import LabError
from pycolo_lab.processes import Host, Process
from pycolo_lab.qemu import hashing
from pycolo_lab.qemu.facts import RoundFacts, ScenarioFacts
from pycolo_lab.qemu.hashing import HashResult
from pycolo_lab.qemu.runner import pause_facts
from pycolo_lab.qemu.scenarios import Scenario
from pycolo_lab.qemu.stage import Stage
from pycolo_lab.qemu.topology import GUEST_ADDRESSES
from pycolo_lab.scoreboard import Scoreboard, Slot

RATE: Final = 1500
BURST: Final = 8
"""Datagrams per second, and the mean of how many at once: the guest's ring is seldom empty at a checkpoint."""

PAUSE_S: Final = (0.01, 0.25)
"""Between two checkpoints."""

AFTER_S: Final = 1.5
END_S: Final = 120.0
"""For the last answers, and for the check of all hashes."""

SLOW: Final = "timeout"
"""Kinds of differences that begin so come of a busy machine: one guest has not answered yet."""

BREACHES_SHOWN: Final = 3


class HashRunner:
    """On a stage with a protected pair."""

    def __init__(
        self, scenario: Scenario, stage: Stage, rounds: int | None, seed: int, announce: Callable[[str], None]
    ) -> None:
        """`rounds`: so many times the scenario's number of checkpoints."""
        self._scenario = scenario
        self._stage = stage
        self._checkpoints = scenario.checkpoints_min * (rounds or 1)
        self._seed = seed
        self._announce = announce
        self._random = random.Random(seed)
        self._board = Scoreboard(stage.directory / "scoreboard")
        self._broken: list[str] = []

    def run(self) -> ScenarioFacts:
        """Raises `LabError` when a step cannot be made."""
        stage = self._stage
        clients = [self._start(number) for number in range(self._scenario.cards)]
        stage.until("the guest does not answer", lambda: self._board[Slot.ANSWERS] > RATE // 2)
        primary = stage.serving()
        assert primary is not None, "the stage has a protected pair"
        for number in range(self._checkpoints):
            stage.rest(self._random.uniform(*PAUSE_S))
            stage.files[primary].ask("checkpoint")
            if number % 5 == 0:
                stage.poll()
        self._check_checkpoints(primary)
        began = time.monotonic_ns()
        stage.power_off(primary)
        before = self._board[Slot.ANSWERS]
        stage.until("no host answers after the fault", lambda: self._board[Slot.ANSWERS] > before + RATE // 10)
        first_ms = (time.monotonic_ns() - began) / 1e6
        stage.rest(AFTER_S)
        served_by = stage.serving()
        self._board[Slot.FINISH] = 1
        results = [self._result(number, client) for number, client in enumerate(clients)]
        return self._account(results, first_ms, served_by)

    def _path(self, number: int) -> Path:
        return self._stage.directory / f"hashing-{number}.json"

    def _start(self, number: int) -> Process:
        stage, rate = self._stage, RATE // self._scenario.cards
        words: list[object] = [
            "--address",
            GUEST_ADDRESSES[number],
            "--seed",
            self._seed + number,
            "--rate",
            rate,
            "--burst",
            BURST,
        ]
        words += ["--result", self._path(number), "--scoreboard", stage.directory / "scoreboard"]
        command = [sys.executable, "-m", hashing.__name__, *map(str, words)]
        return stage.processes.start(f"hashing-{number}", Host.CLIENT, stage.network.client, command)

    def _check_checkpoints(self, primary: Host) -> None:
        """No difference was one of what the guests have said."""
        status = self._stage.poll()[primary] or {}
        counts = self._stage.observations.checkpoints
        kinds = status.get("divergence_kinds") or {}
        self._announce(f"checkpoints: {counts}, differences: {kinds}")
        found = {kind: count for kind, count in kinds.items() if SLOW not in kind}
        if found:
            self._broken.append(f"the guests differed: {found}")
        if sum(counts.values()) < self._checkpoints:
            self._broken.append(f"only {sum(counts.values())} checkpoints were made")

    def _result(self, number: int, client: Process) -> HashResult:
        deadline = time.monotonic() + END_S
        while client.exit_code() is None and time.monotonic() < deadline:
            self._stage.rest(0.1)
        try:
            return msgspec.json.decode(self._path(number).read_bytes(), type=HashResult)
        except (FileNotFoundError, msgspec.DecodeError) as error:
            raise LabError(f"the client {number} left no result: {client.last_words()}") from error

    def _account(self, results: list[HashResult], first_ms: float, served_by: Host | None) -> ScenarioFacts:
        scenario, seen = self._scenario, self._stage.observations
        for result in results:
            self._broken += result.wrong[:BREACHES_SHOWN]
            if len(result.unanswered) > 1:
                self._broken.append(f"datagrams without an answer: {result.unanswered[:BREACHES_SHOWN]}")
            self._announce(f"{result.answered} of {result.sent} datagrams answered, without: {result.unanswered}")
        wrong = [text for result in results for text in result.wrong]
        return ScenarioFacts(
            name=scenario.name,
            text=scenario.text,
            holds=not self._broken,
            broken=self._broken,
            rounds=[
                RoundFacts(
                    fault=scenario.fault.value,
                    stood_still_ms=max(result.longest_gap_ms for result in results),
                    first_answer_ms=round(first_ms, 1),
                    repair_stood_still_ms=0.0,
                    served_by=served_by.value if served_by is not None else "none",
                    whole_again_ms=0.0,
                )
            ],
            connections=len(results),
            kept=sum(not result.wrong for result in results),
            fresh_connections=0,
            fresh_failed=0,
            answers=sum(result.answered for result in results),
            breaches=len(wrong),
            first_breaches=wrong[:BREACHES_SHOWN],
            checkpoints=seen.checkpoints,
            aborted=seen.aborted,
            pause=pause_facts(seen.pauses_ms),
            download=None,
            upload=None,
            node_memory_kib=[self._stage.node_memory_kib()],
        )
