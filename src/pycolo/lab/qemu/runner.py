"""One scenario, played: a pair, clients, faults, repairs; facts and what of them may not be so."""

import signal
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec

from pycolo.lab import clients
from pycolo.lab.errors import LabError
from pycolo.lab.facts import TransferResult
from pycolo.lab.processes import Host, Process
from pycolo.lab.qemu import counter
from pycolo.lab.qemu.counter import CounterResult
from pycolo.lab.qemu.facts import PauseFacts, RoundFacts, ScenarioFacts, TransferFacts
from pycolo.lab.qemu.image import SEED
from pycolo.lab.qemu.law import Answer, breaches, gap_at
from pycolo.lab.qemu.nodes import other
from pycolo.lab.qemu.observations import percentile
from pycolo.lab.qemu.scenarios import Fault, Scenario, Victim
from pycolo.lab.qemu.stage import Stage, reap_strangers
from pycolo.lab.qemu.topology import GUEST_ADDRESS
from pycolo.lab.scoreboard import Scoreboard, Slot

CONNECTIONS: Final = 48
INTERVAL_MS: Final = 10
"""48 connections asked every 10 ms: whatever a takeover takes below half a second, some connection was idle until
then and is asked first by the survivor."""

QUIET_INTERVAL_MS: Final = 40

DRAW_EVERY: Final = 25
"""Of 100 questions a second four draw a random number: each costs a checkpoint."""

STALL_S: Final = 20.0
WARM_S: Final = 2.0
AFTER_S: Final = 1.5
GONE_S: Final = 1.0
"""How long a node stays away, and the operator thinks."""

SETTLED_S: Final = 0.2
"""What was on its way at the fault has arrived by then."""

POLL_S: Final = 0.25
"""How often the nodes are asked for their status."""

PROGRESS_S: Final = 15.0
BREACHES_SHOWN: Final = 3

Result = TypeVar("Result", CounterResult, TransferResult)


class _Round(msgspec.Struct, kw_only=True):
    """What a round knows before the clients' results are there."""

    at_ns: int
    going_on_ns: int
    whole_ns: int
    served_by: str
    whole_again_ms: float
    notes: list[str]


class Runner:
    """Plays one scenario on a stage that has a protected pair."""

    def __init__(self, scenario: Scenario, stage: Stage, rounds: int | None, announce: Callable[[str], None]) -> None:
        self._scenario = scenario
        self._stage = stage
        self._rounds = rounds or scenario.rounds
        self._announce = announce
        self._board = Scoreboard(stage.directory / "scoreboard")
        self._clients: dict[str, Process] = {}
        self._broken: list[str] = []
        self._memory: list[dict[str, int]] = []

    def run(self) -> ScenarioFacts:
        """Raises `LabError` when a step cannot be made, which breaks the scenario too."""
        rounds: list[_Round] = []
        self._start_clients()
        self._watch(WARM_S)
        self._memory.append(self._stage.node_memory_kib())
        try:
            for number in range(1, self._rounds + 1):
                rounds.append(self._round(number))
                self._memory.append(self._stage.node_memory_kib())
        except LabError as error:
            self._broken.append(str(error))
        self._stage.poll()
        self._finish_clients()
        return self._account(rounds)

    # ── a round ───────────────────────────────────────────────────────────────────────────────────────────────

    def _round(self, number: int) -> _Round:
        stage, scenario = self._stage, self._scenario
        primary = stage.serving()
        if primary is None:
            raise LabError(f"nobody serves before round {number}: {stage.account()}")
        if stage.states() != ("protected", "protected"):
            raise LabError(f"the pair lost its protection by itself before round {number}: {stage.account()}")
        victim = primary if scenario.victim is Victim.PRIMARY else other(primary)
        notes: list[str] = []
        at_ns = self._strike(victim, primary, notes)
        going_on_ns = self._after_fault(victim, primary, at_ns, notes)
        self._watch(AFTER_S)
        served_by = stage.serving()
        if served_by is None:
            raise LabError(f"round {number}: nobody serves after the fault: {stage.account()}")
        began_ns = time.monotonic_ns()
        self._repair()
        whole_ns = time.monotonic_ns()
        whole_ms = (whole_ns - began_ns) / 1e6
        self._watch(AFTER_S)
        self._announce(f"round {number}: {served_by.value} served, whole again after {whole_ms / 1e3:.1f} s")
        return _Round(
            at_ns=at_ns,
            going_on_ns=going_on_ns,
            whole_ns=whole_ns,
            served_by=served_by.value,
            whole_again_ms=whole_ms,
            notes=notes,
        )

    def _strike(self, victim: Host, primary: Host, notes: list[str]) -> int:
        """Returns the moment of it, CLOCK_MONOTONIC nanoseconds."""
        stage = self._stage
        if self._scenario.fault is Fault.CHECKPOINT:
            return self._strike_in_checkpoint(victim, primary, notes)
        at_ns = time.monotonic_ns()
        match self._scenario.fault:
            case Fault.QEMU:
                stage.kill_qemu(victim)
            case Fault.HOST:
                stage.power_off(victim)
            case Fault.NODE:
                stage.kill_node(victim)
            case Fault.LINK:
                stage.network.cut_link()
        return at_ns

    def _strike_in_checkpoint(self, victim: Host, primary: Host, notes: list[str]) -> int:
        stage = self._stage
        pid = stage.files[victim].qemu_pid
        if pid is None:
            raise LabError(f"no QEMU to kill on {victim.value}")
        with stage.watch(primary) as watch:
            answer = stage.files[primary].tell("checkpoint")
            stopped = watch.wait_event("STOP", timeout_s=5)
            at_ns = time.monotonic_ns()
            stage.kill_qemu(victim)
            answer.close()
            if stopped is None:
                raise LabError(f"no checkpoint began on {primary.value} within 5 s: {stage.account()}")
            try:
                resumed = watch.wait_event("RESUME", timeout_s=0.001)
            except (LabError, OSError):  # the watched QEMU is the dead one
                resumed = None
        if resumed is not None:
            notes.append("the checkpoint was over before the kill")
        return at_ns

    def _after_fault(self, victim: Host, primary: Host, at_ns: int, notes: list[str]) -> int:
        """The clients go on, after what the scenario wants first: a node's return, the operator's word.

        Returns the moment from which on they certainly do.
        """
        stage, scenario = self._stage, self._scenario
        if scenario.arbiter == "manual":
            self._rest(SETTLED_S)
            before = self._board[Slot.ANSWERS]
            self._rest(GONE_S)
            answers = self._board[Slot.ANSWERS] - before
            if answers:
                self._broken.append(f"{answers} answers came although nobody was allowed to serve")
            at_ns = time.monotonic_ns()
            if scenario.confirms:
                notes.append("colo failover at the primary's node")
                stage.failover(primary)
            else:
                notes.append("the node was started again")
                stage.start_node(victim)
        self._until_answers_since(at_ns)
        return time.monotonic_ns()

    def _until_answers_since(self, at_ns: int) -> None:
        """A quarter of the connections' worth of answers: one alone may have been on its way."""
        self._rest(SETTLED_S - min(SETTLED_S, (time.monotonic_ns() - at_ns) / 1e9))
        enough = self._board[Slot.ANSWERS] + CONNECTIONS // 4
        self._stage.until(
            "the clients did not go on", lambda: self._board[Slot.ANSWERS] >= enough, timeout_s=PROGRESS_S
        )

    def _repair(self) -> None:
        """As an administrator would: cables, power, protect."""
        stage = self._stage
        reap_strangers()
        if self._scenario.fault is Fault.LINK:
            stage.network.restore_link()
        for host in stage.files:
            if not stage.is_running(host):
                stage.power_on(host)
        stage.protect()

    # ── clients ───────────────────────────────────────────────────────────────────────────────────────────────

    def _start_clients(self) -> None:
        draw_every = DRAW_EVERY if self._scenario.draws else 0
        interval_ms = INTERVAL_MS if self._scenario.draws else QUIET_INTERVAL_MS
        self._start("counter", counter.__name__, "--connections", CONNECTIONS, "--interval-ms", interval_ms,
                    "--draw-every", draw_every)  # fmt: skip
        if self._scenario.is_busy:
            for kind in ("download", "upload"):
                self._start(kind, clients.__name__, kind, "--seed", SEED)
        self._stage.until(
            "the clients did not connect",
            lambda: self._board[Slot.SESSIONS_OPEN] >= CONNECTIONS or self._board[Slot.SESSIONS_FAILED] > 0,
        )

    def _start(self, name: str, module: str, *own: object) -> None:
        paths = ["--result", self._result_path(name), "--scoreboard", self._stage.directory / "scoreboard"]
        words = [*own, "--address", GUEST_ADDRESS, "--stall-seconds", STALL_S, *paths]
        command = [sys.executable, "-m", module, *map(str, words)]
        self._clients[name] = self._stage.processes.start(name, Host.CLIENT, self._stage.network.client, command)

    def _finish_clients(self) -> None:
        self._board[Slot.FINISH] = 1
        deadline = time.monotonic() + STALL_S + 5
        for name, process in self._clients.items():
            while process.exit_code() is None and time.monotonic() < deadline:
                self._rest(0.1)
            if process.exit_code() is None:
                process.send(signal.SIGKILL)
                self._broken.append(f"the client {name} did not come to its end")

    def _result_path(self, name: str) -> Path:
        return self._stage.directory / f"{name}.json"

    def _result(self, name: str, kind: type[Result]) -> Result:
        try:
            return msgspec.json.decode(self._result_path(name).read_bytes(), type=kind)
        except (FileNotFoundError, msgspec.DecodeError) as error:
            raise LabError(f"the client {name} left no result: {self._clients[name].last_words()}") from error

    def _watch(self, seconds: float) -> None:
        """Let time pass and collect what the nodes say: a status lists the last checkpoints only."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            self._stage.rest(min(left, POLL_S))
            self._stage.poll()

    def _rest(self, seconds: float) -> None:
        """Let time pass around a fault: a node that has lost its peer may be slow to answer, and time counts."""
        self._stage.rest(max(0.0, seconds))

    # ── the account ───────────────────────────────────────────────────────────────────────────────────────────

    def _account(self, rounds: list[_Round]) -> ScenarioFacts:
        scenario, seen = self._scenario, self._stage.observations
        result = self._result("counter", CounterResult)
        found = breaches(result.answers, result.unanswered)
        transfers: dict[str, TransferFacts] = {}
        for name in ("download", "upload"):
            if name in self._clients:
                transfers[name] = self._transfer(name)
        kept = result.connections - len(result.failed)
        self._broken += [f"{len(result.failed)} connections lost, e.g. {result.failed[0]}"] if result.failed else []
        self._broken += [f"{name}: {facts.error}" for name, facts in transfers.items() if facts.error]
        if result.fresh_failed:
            self._broken.append(f"{len(result.fresh_failed)} new connections failed, e.g. {result.fresh_failed[0]}")
        if scenario.compare and found:
            self._broken.append(f"{len(found)} breaches of the counter's law, first: {found[0].text}")
        if not scenario.compare and not found:
            self._broken.append("the control without comparison did not break the counter's law: the others prove less")
        pauses = seen.pauses_ms
        return ScenarioFacts(
            name=scenario.name,
            text=scenario.text,
            holds=bool(found) if not scenario.compare else not self._broken,
            broken=self._broken,
            rounds=[self._round_facts(one, result.answers) for one in rounds],
            connections=result.connections,
            kept=kept,
            fresh_connections=result.fresh,
            fresh_failed=len(result.fresh_failed),
            answers=len(result.answers),
            breaches=len(found),
            first_breaches=[breach.text for breach in found[:BREACHES_SHOWN]],
            checkpoints=seen.checkpoints,
            aborted=seen.aborted,
            pause=pause_facts(pauses),
            node_memory_kib=self._memory,
            **_both(transfers),
        )

    def _round_facts(self, one: _Round, answers: list[Answer]) -> RoundFacts:
        gap = gap_at(answers, one.at_ns, one.going_on_ns - one.at_ns)
        repair = gap_at(answers, one.going_on_ns, one.whole_ns - one.going_on_ns)
        return RoundFacts(
            fault=self._scenario.fault.value,
            stood_still_ms=round(gap.length_ms, 1) if gap else 0.0,
            first_answer_ms=round((gap.ended_ns - one.at_ns) / 1e6, 1) if gap else 0.0,
            repair_stood_still_ms=round(repair.length_ms, 1) if repair else 0.0,
            served_by=one.served_by,
            whole_again_ms=round(one.whole_again_ms, 1),
            notes=one.notes,
        )

    def _transfer(self, name: str) -> TransferFacts:
        try:
            result = self._result(name, TransferResult)
        except LabError as error:
            return TransferFacts(megabytes=0, stood_still_ms=0, error=str(error))
        longest = max((pause.end_ns - pause.start_ns for pause in result.pauses), default=0)
        megabytes = round(result.bytes / 1e6, 1)
        return TransferFacts(megabytes=megabytes, stood_still_ms=round(longest / 1e6, 1), error=result.error)


def _both(transfers: dict[str, TransferFacts]) -> dict[str, Any]:
    return {name: transfers.get(name) for name in ("download", "upload")}


def pause_facts(pauses_ms: list[float]) -> PauseFacts | None:
    """Of sorted pauses; None of none."""
    high = percentile(pauses_ms, 0.99)
    if high is None:
        return None
    return PauseFacts(count=len(pauses_ms), median_ms=round(statistics.median(pauses_ms), 2), p99_ms=round(high, 2))
