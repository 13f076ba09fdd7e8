"""Runs one scenario: a pair, clients, faults, repairs; records facts and violations."""

import signal
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec

from pycolo_lab import clients
from pycolo_lab.errors import LabError
from pycolo_lab.facts import TransferResult
from pycolo_lab.processes import Host, Process
from pycolo_lab.qemu import appender, counter
from pycolo_lab.qemu.act import Act
from pycolo_lab.qemu.appender import AppenderResult
from pycolo_lab.qemu.counter import CounterResult
from pycolo_lab.qemu.facts import PauseFacts, RoundFacts, ScenarioFacts, TransferFacts
from pycolo_lab.qemu.image import SEED
from pycolo_lab.qemu.law import Answer, breaches, gap_at, slowest_at
from pycolo_lab.qemu.observations import percentile
from pycolo_lab.qemu.reboots import Reboots
from pycolo_lab.qemu.scenarios import Scenario
from pycolo_lab.qemu.stage import Stage
from pycolo_lab.qemu.topology import GUEST_ADDRESS, GUEST_ADDRESSES
from pycolo_lab.scoreboard import Scoreboard, Slot
from pycolo_lab.work.kinds import WORKS
from pycolo_lab.work.result import WorkResult

CONNECTIONS: Final = 48
INTERVAL_MS: Final = 10
"""48 connections, one asked every 10 ms: during any takeover below half a second some connection is idle, and the
survivor gets its first question."""

QUIET_INTERVAL_MS: Final = 40

STALL_S: Final = 40.0
"""A connection without an answer for so long is lost. TCP doubles its pauses: where no host serves for twelve seconds,
as in etcd-gone, a client may try next after twelve more. How long all stand still is another law, see the scenarios."""

WARM_S: Final = 2.0
AFTER_S: Final = 1.5
CHECKPOINT_S: Final = 20.0
"""From one to the next. Some come in each second; where the machine is so busy that the secondary is late with each
answer, one in each time-out of the comparison: 500 take half a minute, or six."""

POLL_S: Final = 0.25
"""How often the nodes are asked for their status."""

LONG_CHARACTERS: Final = 1000
"""Of a line, where a file system is to be filled: the file takes new blocks as fast as possible."""

BREACHES_SHOWN: Final = 3
TRANSFERS: Final = ("download", "upload")

WORK_END_S: Final = 600.0
"""For the piece of work that is under way when the run ends: a file that is copied there and back on a busy machine."""

Result = TypeVar("Result", CounterResult, TransferResult, AppenderResult, WorkResult)


class _Round(msgspec.Struct, kw_only=True):
    """What a round knows before the clients' results are there."""

    fault: str
    at_ns: int
    going_on_ns: int
    whole_ns: int
    served_by: str
    whole_again_ms: float
    notes: list[str]


class Runner:
    """Runs one scenario on a stage with a protected pair."""

    def __init__(
        self, scenario: Scenario, stage: Stage, rounds: int | None, seed: int, announce: Callable[[str], None]
    ) -> None:
        """`seed`: for random moments."""
        self._scenario = scenario
        self._stage = stage
        self._rounds = rounds or scenario.rounds
        self._seed = seed
        self._announce = announce
        self._board = Scoreboard(stage.directory / "scoreboard")
        self._clients: dict[str, Process] = {}
        self._broken: list[str] = []
        self._memory: list[dict[str, int]] = []

    def run(self) -> ScenarioFacts:
        """Raises `LabError` when a step cannot be made, which breaks the scenario too."""
        rounds: list[_Round] = []
        if self._scenario.reboots:
            reboots = Reboots(self._stage, self._announce)
            reboots.run(self._scenario.reboots)
            self._broken += reboots.broken
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
        stage = self._stage
        if stage.serving() is None:
            raise LabError(f"no host serves before round {number}: {stage.account()}")
        if not stage.is_whole():
            raise LabError(f"the pair lost its protection by itself before round {number}: {stage.account()}")
        self._watch_checkpoints(number)
        if self._scenario.orders:
            stage.until(f"no request was ordered before round {number}", stage.is_ordering)
        act = Act(self._scenario, stage, lambda: self._board[Slot.ANSWERS], number, self._seed)
        try:
            at_ns = act.strike()
            going_on_ns = act.go_on(at_ns)
            self._watch(AFTER_S)
            # A node that was started again may not answer yet, though its guest does.
            stage.until(f"round {number}: no host serves after the fault", lambda: stage.serving() is not None)
            served_by = stage.serving()
            assert served_by is not None, "waited for"
            began_ns = time.monotonic_ns()
            act.repair()
        except LabError as error:
            raise LabError(f"{error} ({act.fault}; {'; '.join(act.notes)})") from error
        finally:
            self._broken += act.broken
        whole_ns = time.monotonic_ns()
        whole_ms = (whole_ns - began_ns) / 1e6
        self._watch(AFTER_S)
        self._announce(f"round {number}: {served_by.value} served, protected again after {whole_ms / 1e3:.1f} s")
        return _Round(
            fault=act.fault,
            at_ns=at_ns,
            going_on_ns=going_on_ns,
            whole_ns=whole_ns,
            served_by=served_by.value,
            whole_again_ms=whole_ms,
            notes=act.notes,
        )

    # ── clients ───────────────────────────────────────────────────────────────────────────────────────────────

    def _start_clients(self) -> None:
        draw_every = self._scenario.draw_every if self._scenario.draws else 0
        interval_ms = INTERVAL_MS if self._scenario.draws else QUIET_INTERVAL_MS
        cards = self._scenario.cards
        for card, address in enumerate(GUEST_ADDRESSES[:cards]):
            words = ["--connections", CONNECTIONS // cards, "--interval-ms", interval_ms * cards]
            self._start(f"counter-{card}", counter.__name__, *words, "--draw-every", draw_every, address=address)
        if self._scenario.disk is not None:
            longer = ["--line-characters", LONG_CHARACTERS] if self._scenario.setting.has_small_disks else []
            self._start("appender", appender.__name__, *longer)
        if self._scenario.work is not None:
            self._start("work", WORKS[self._scenario.work].module)
        if self._scenario.is_busy:
            for kind in TRANSFERS:
                for number in range(self._scenario.transfers):
                    self._start(f"{kind}-{number}", clients.__name__, kind, "--seed", SEED)
        self._stage.until(
            "the clients did not connect",
            lambda: self._board[Slot.SESSIONS_OPEN] >= CONNECTIONS or self._board[Slot.SESSIONS_FAILED] > 0,
        )

    def _start(self, name: str, module: str, *own: object, address: str = GUEST_ADDRESS) -> None:
        paths = ["--result", self._result_path(name), "--scoreboard", self._stage.directory / "scoreboard"]
        words = [*own, "--address", address, "--stall-seconds", STALL_S, *paths]
        command = [sys.executable, "-m", module, *map(str, words)]
        self._clients[name] = self._stage.processes.start(name, Host.CLIENT, self._stage.network.client, command)

    def _finish_clients(self) -> None:
        self._board[Slot.FINISH] = 1
        deadline = time.monotonic() + (WORK_END_S if self._scenario.work else STALL_S + 5)
        for name, process in self._clients.items():
            while process.exit_code() is None and time.monotonic() < deadline:
                self._stage.rest(0.1)
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
        """Let time pass and collect the nodes' statuses: a status lists only the last checkpoints."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            self._stage.rest(min(left, POLL_S))
            self._stage.poll()

    def _watch_checkpoints(self, round_number: int) -> None:
        wanted = self._scenario.checkpoints_min * round_number
        before, deadline = -1, 0.0
        while (made := sum(self._stage.observations.checkpoints.values())) < wanted:
            if made > before:
                before, deadline = made, time.monotonic() + CHECKPOINT_S
            elif time.monotonic() > deadline:
                raise LabError(f"only {made} of {wanted} checkpoints: none within {CHECKPOINT_S:.0f} s")
            self._watch(POLL_S)

    # ── the account ───────────────────────────────────────────────────────────────────────────────────────────

    def _account(self, rounds: list[_Round]) -> ScenarioFacts:
        scenario, seen = self._scenario, self._stage.observations
        result = merged([self._result(f"counter-{card}", CounterResult) for card in range(scenario.cards)])
        found = breaches(result.answers, result.unanswered)
        transfers: dict[str, TransferFacts] = {}
        for kind in TRANSFERS if scenario.is_busy else ():
            transfers[kind] = together([self._transfer(f"{kind}-{number}") for number in range(scenario.transfers)])
        kept = result.connections - len(result.failed)
        self._broken += [f"{len(result.failed)} connections lost, e.g. {result.failed[0]}"] if result.failed else []
        self._broken += [f"{name}: {facts.error}" for name, facts in transfers.items() if facts.error]
        if result.fresh_failed:
            self._broken.append(f"{len(result.fresh_failed)} new connections failed, e.g. {result.fresh_failed[0]}")
        if scenario.compare and found:
            self._broken.append(f"{len(found)} breaches of the counter's law, first: {found[0].text}")
        if not scenario.compare and not found:
            self._broken.append("the control without comparison did not break the counter's law: the others prove less")
        self._broken += self._disk_breaches() + self._work_breaches()
        facts = [self._round_facts(one, result.answers) for one in rounds]
        self._broken += too_long(facts, scenario.stood_still_max_ms)
        pauses = seen.pauses_ms
        return ScenarioFacts(
            name=scenario.name,
            text=scenario.text,
            holds=bool(found) if not scenario.compare else not self._broken,
            broken=self._broken,
            rounds=facts,
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

    def _disk_breaches(self) -> list[str]:
        if self._scenario.disk is None:
            return []
        found = self._result("appender", AppenderResult)
        self._announce(f"{found.acknowledged} lines were acknowledged, {found.on_disk} are on the disk")
        return found.breaches

    def _work_breaches(self) -> list[str]:
        if self._scenario.work is None:
            return []
        found = self._result("work", WorkResult)
        self._announce(found.account)
        return found.breaches

    def _round_facts(self, one: _Round, answers: list[Answer]) -> RoundFacts:
        gap = gap_at(answers, one.at_ns, one.going_on_ns - one.at_ns)
        slowest = slowest_at(answers, one.at_ns, one.going_on_ns - one.at_ns)
        repair = gap_at(answers, one.going_on_ns, one.whole_ns - one.going_on_ns)
        return RoundFacts(
            fault=one.fault,
            stood_still_ms=round(gap.length_ms, 1) if gap else 0.0,
            first_answer_ms=round((gap.ended_ns - one.at_ns) / 1e6, 1) if gap else 0.0,
            slowest_ms=round((slowest.answered_ns - slowest.asked_ns) / 1e6, 1) if slowest else None,
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
    return {kind: transfers.get(kind) for kind in TRANSFERS}


def merged(results: Sequence[CounterResult]) -> CounterResult:
    """Of clients of the same guest at the same time: the answers of all are the history of one machine."""
    whole, numbers = CounterResult(0, [], 0, [], 0, []), 0
    for one in results:
        whole.connections += one.connections
        whole.fresh += one.fresh
        whole.unanswered += one.unanswered
        whole.failed += one.failed
        whole.fresh_failed += one.fresh_failed
        whole.answers += [answer._replace(connection=answer.connection + numbers) for answer in one.answers]
        numbers += 1 + max((answer.connection for answer in one.answers), default=0)
    return whole


def together(transfers: Sequence[TransferFacts]) -> TransferFacts:
    """Of transfers that ran at the same time: all their bytes, the longest stretch without one, the first error."""
    return TransferFacts(
        megabytes=round(sum(one.megabytes for one in transfers), 1),
        stood_still_ms=max(one.stood_still_ms for one in transfers),
        error=next((one.error for one in transfers if one.error), None),
    )


def too_long(rounds: Sequence[RoundFacts], limit_ms: int | None) -> list[str]:
    """Rounds in which clients waited for longer than the scenario allows."""
    if limit_ms is None:
        return []
    return [
        f"round {number} ({one.fault}): no answer for {one.stood_still_ms:.0f} ms, {limit_ms} are allowed"
        for number, one in enumerate(rounds, 1)
        if one.stood_still_ms > limit_ms
    ]


def pause_facts(pauses_ms: list[float]) -> PauseFacts | None:
    """Of sorted pauses; None of none."""
    high = percentile(pauses_ms, 0.99)
    if high is None:
        return None
    return PauseFacts(count=len(pauses_ms), median_ms=round(statistics.median(pauses_ms), 2), p99_ms=round(high, 2))
