"""Passes facts to the checkpoint coordinator and carries out its commands.

Facts from QEMU (QMP events), the comparator and the operator arrive in asyncio's thread, those from the migration
stream in the relay's thread. The relay's thread also carries out `Commit`: the primary is stopped meanwhile and must
not wait for an event loop that may be busy. A lock therefore guards the coordinator; it is held for microseconds, and
never across a wait. All other commands are carried out in asyncio's thread.
"""

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from time import monotonic_ns
from typing import Any, Final, Protocol

import structlog

from pycolo.checkpoint import commands
from pycolo.checkpoint.commands import AskHypervisor, Commit, Dissolve, Record, Refused, Suspect
from pycolo.checkpoint.coordinator import Coordinator
from pycolo.checkpoint.epoch import Epoch
from pycolo.checkpoint.pace import PAUSE_TARGET_MS
from pycolo.checkpoint.parts import Moments
from pycolo.checkpoint.records import CheckpointRecord, Outcome, Reason, ReasonKind
from pycolo.checkpoint.spacing import Spacing
from pycolo.compare.difference import Command, Difference, ReportDifference, RequestCheckpoint
from pycolo.config.sections import CheckpointOptions
from pycolo.costs.reasons import reason_of
from pycolo.errors import CheckpointError, PycoloError, StateError
from pycolo.metrics.tally import CheckpointTally
from pycolo.node.digest import Digest
from pycolo.vm.looks import Looks
from pycolo.vm.memorysample import MemorySample

FINDING_AGAIN_US: Final = 600_000_000
"""A pause target that is not held is logged so often: every ten minutes."""

log = structlog.get_logger("colo")

Follow = Callable[[], None]
"""What is to be called when a message has passed."""


def _now_us() -> int:
    return monotonic_ns() // 1000


class CheckpointHost(Protocol):
    """Carries out the commands that reach beyond the driver."""

    @property
    def call(self) -> Callable[..., None]:
        """`call(function, *arguments)` runs the function in asyncio's thread."""

    @property
    def ram_bytes(self) -> int:
        """The guest's memory; 0: unknown."""

    def stream(self) -> tuple[int, int] | None:
        """What the migration stream has moved, and when the last of it (monotonic µs). Any thread."""

    def memory_sample(self) -> MemorySample | None:
        """A new sample of the guest's memory; None: it cannot be read. Any thread."""

    async def ask_hypervisor(self) -> None:
        """Request a checkpoint from QEMU. Raises `PycoloError`."""

    def checkpoint_overdue(self, text: str) -> None:
        """A checkpoint has exceeded its time limit."""

    def pair_broken(self, text: str) -> None:
        """QEMU has left COLO, so the pair is broken."""


class CheckpointDriver:
    """Lives as long as the node. Armed while this node is the primary of a pair in COLO."""

    def __init__(
        self,
        options: CheckpointOptions,
        host: CheckpointHost,
        epoch: Epoch,
        pause_target_ms: int = PAUSE_TARGET_MS,
    ) -> None:
        least_ms, most_ms = options.distances_ms
        self._coordinator = Coordinator(
            epoch=epoch,
            min_distance_ms=least_ms,
            spacing=Spacing(least_ms, most_ms, options.busy_percent, options.max_wait_ms),
            max_interval_ms=options.max_interval_ms,
            timeout_ms=options.timeout_ms,
            pause_target_ms=pause_target_ms,
        )
        self._host = host
        self._epoch = epoch
        self._lock = threading.Lock()
        self._timer: asyncio.TimerHandle | None = None
        self._asking: set[asyncio.Task[None]] = set()
        self._waiting: list[tuple[int, asyncio.Future[CheckpointRecord]]] = []
        self._loop = asyncio.get_running_loop()
        self._tally = CheckpointTally()
        self._digest = Digest("checkpoints")
        self._looks = Looks(self._coordinator, self._lock, lambda: epoch.number, self._set_timer)
        self._finding_said_us: int | None = None
        self.on_record: Callable[[CheckpointRecord], None] = lambda record: None
        """Told of each finished checkpoint, in asyncio's thread."""

    # ── the pair ──────────────────────────────────────────────────────────────────────────────────────────────

    def heard_ready(self) -> None:
        """READY: the secondary has loaded the first state."""
        self._tell(self._coordinator.synchronised)

    def arm(self) -> None:
        """The primary runs again after the first synchronisation, so checkpoints are possible."""
        self._coordinator.pace.ram_bytes = self._host.ram_bytes
        self._looks.begin(self._host.memory_sample)
        self._tell(self._coordinator.pair_entered_colo)

    def disarm(self, why: str) -> None:
        """This node gives the pair up: no more checkpoints."""
        self._looks.end()
        self._tell(self._coordinator.pair_lost, why)
        self._fail_waiting(why)

    def heard_colo_end(self, why: str) -> None:
        """QEMU has left COLO, or the migration stream has ended."""
        self._tell(self._coordinator.colo_ended, why)

    # ── one checkpoint ────────────────────────────────────────────────────────────────────────────────────────

    def want(self, found: list[Command], epoch: int) -> None:
        """The comparator asks for checkpoints; `epoch`: the one in which it found the differences."""
        for command in found:
            if isinstance(command, RequestCheckpoint):
                self._tell(self._coordinator.requested, _reason(command.difference), epoch=epoch)
        if any(isinstance(command, ReportDifference) for command in found):
            self._tell(self._coordinator.differed, epoch=epoch)

    def want_for(self, text: str, epoch: int) -> None:
        """The guests may not have had the same input; `epoch`: the one in which that was found."""
        self._tell(self._coordinator.requested, Reason(ReasonKind.DIVERGENCE, text), epoch=epoch)

    def unexplained(self, found: list[Command], epoch: int) -> list[Command]:
        """`found` without packets that wait because a checkpoint is made: the secondary stands still. Any thread.

        A data path that has begun an epoch before the others have is heard: the comparator asks only once in an epoch.
        """
        with self._lock:
            if not self._coordinator.answers(epoch):
                return found
        return [command for command in found if reason_of(command.difference.kind) is not ReasonKind.TIMEOUT]

    def heard_stop(self, at_us: int) -> None:
        """QMP's STOP."""
        self._tell(self._coordinator.primary_stopped, at_us)

    def heard_resume(self, at_us: int) -> None:
        """QMP's RESUME."""
        self._tell(self._coordinator.primary_resumed, at_us)

    # ── in the relay's thread ─────────────────────────────────────────────────────────────────────────────────

    def heard_reply(self) -> Follow:
        """REPLY: the secondary has stopped. Raises `CheckpointError` when the primary must not stop for it any more.

        Returns what is to be called when REPLY has passed. A QEMU that has stopped its guest for an error of a disk
        aborts when it is to make a checkpoint.
        """
        _, follow = self._tell_from_relay(self._coordinator.secondary_stopped)
        if self._coordinator.refusal is not None:
            follow()
            raise CheckpointError("requested", "the pair was lost before the primary has stopped")
        return follow

    def commit_loaded(self, commit: Callable[[int], dict[str, int]], moments: Moments | None = None) -> Follow:
        """LOADED has arrived and is held; it may pass when this returns. Returns what is to be called then.

        `commit(epoch)` makes the data path begin `epoch` and returns its counts; it may add to `moments`. Raises
        `CheckpointError` when LOADED must not pass: the coordinator has not commanded `Commit`, or it has failed.
        """
        command, follow = self._tell_from_relay(self._coordinator.loaded)
        if command is None:
            follow()
            raise CheckpointError("loaded", "LOADED belongs to no checkpoint: the two QEMUs are out of step")
        try:
            done = commit(command.epoch)
        except (PycoloError, TimeoutError) as error:
            why = f"the data path has not committed: {str(error) or 'no answer'}"
            self._tell_from_relay(self._coordinator.colo_ended, why)[1]()
            raise CheckpointError("loaded", why) from error
        counts = done["released_frames"], done["released_bytes"], done["discarded_frames"]
        if moments is not None:
            moments.clock_us = _unix_minus_monotonic_us()
        _, follow = self._tell_from_relay(self._coordinator.committed, *counts, moments=moments)
        if self._epoch.number != command.epoch:
            follow()
            raise CheckpointError("loaded", "the pair was lost during the commit")
        return follow

    def _tell_from_relay(
        self, fact: Callable[..., None], *arguments: Any, **named: Any
    ) -> tuple[Commit | None, Follow]:
        """Tell the coordinator. Returns `Commit` for the caller, and what lets asyncio's thread carry out the rest.

        The caller carries out `Commit` at once, and calls the other when the message has passed: an event loop that is
        woken takes the interpreter, for which the data path and this thread would have to wait.
        """
        given = self._ask_coordinator(fact, *arguments, **named)
        commit = next((one for one in given if isinstance(one, Commit)), None)
        return commit, partial(self._host.call, self._obey, [one for one in given if one is not commit])

    # ── the operator ──────────────────────────────────────────────────────────────────────────────────────────

    async def operator_checkpoint(self) -> dict[str, Any]:
        """Make a checkpoint now and return its record. Raises `StateError`, `CheckpointError`."""
        refusal = self._coordinator.refusal
        if refusal is not None:
            raise StateError("checkpoint", refusal, "a protected pair")
        waiting: asyncio.Future[CheckpointRecord] = self._loop.create_future()
        with self._lock:  # a commit that has just happened must not count as the answer
            entry = (self._epoch.number, waiting)
            self._coordinator.requested(Reason(ReasonKind.OPERATOR, "colo checkpoint"), _now_us())
            given = self._coordinator.commands()
        self._waiting.append(entry)
        self._obey(given)
        try:
            async with asyncio.timeout(self._longest_s):
                record = await waiting
        except TimeoutError as error:
            raise CheckpointError("requested", f"not done within {self._longest_s:.0f} s") from error
        finally:
            self._waiting.remove(entry)
        return record.to_dict(_unix_minus_monotonic_us())

    @property
    def _longest_s(self) -> float:
        """One that runs may have to end first."""
        pace = self._coordinator.pace
        return 2 * (pace.longest_us or pace.timeout_us) / 1e6 + 2

    # ── commands ──────────────────────────────────────────────────────────────────────────────────────────────

    def _ask_coordinator(self, fact: Callable[..., None], *arguments: Any, **named: Any) -> list[commands.Command]:
        moved = self._host.stream()
        with self._lock:
            if moved is not None:
                self._coordinator.stream_moved(*moved, now_us=_now_us())
            fact(*arguments, now_us=_now_us(), **named)
            return self._coordinator.commands()

    def _tell(self, fact: Callable[..., None], *arguments: Any, **named: Any) -> None:
        self._obey(self._ask_coordinator(fact, *arguments, **named))

    def _obey(self, given: list[commands.Command]) -> None:
        """Carry out all commands except `Commit`, which follows from LOADED only: see `commit_loaded`."""
        for command in given:
            match command:
                case AskHypervisor():
                    self._spawn(self._ask())
                case Suspect(text=text):
                    self._host.checkpoint_overdue(text)
                case Dissolve(text=text):
                    self._looks.end()
                    self._fail_waiting(text)
                    self._host.pair_broken(text)
                case Refused(reason=reason, why=why):
                    log.info(f"no checkpoint: {why}", reason=reason.text)
                case Record(record=record):
                    self._record(record)
        self._set_timer()

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        with self._lock:
            due_us = self._coordinator.deadline_us()
        self._looks.schedule()
        if due_us is not None:
            self._timer = self._loop.call_later(max(0, due_us - _now_us()) / 1e6, self._fired)

    def _fired(self) -> None:
        self._timer = None
        self._tell(self._coordinator.timer_fired)

    async def _ask(self) -> None:
        try:
            await self._host.ask_hypervisor()
        except PycoloError as error:
            self._tell(self._coordinator.ask_failed, str(error))

    def _spawn(self, work: Any) -> None:
        task = self._loop.create_task(work)
        self._asking.add(task)
        task.add_done_callback(self._asking.discard)

    def _record(self, record: CheckpointRecord) -> None:
        shown = record.to_dict(_unix_minus_monotonic_us())
        reasons = ", ".join(f"{reason.kind.value}: {reason.text}" for reason in record.reasons)
        fields = {key: shown[key] for key in ("epoch", "outcome", "why", "pause_ms", "copied_bytes")}
        now_ms = _now_us() // 1000
        if line := self._digest.due(now_ms):
            log.info(line)
        kind = record.reasons[0].kind.value if record.reasons else "first"
        if record.outcome is not Outcome.COMMITTED or self._digest.is_whole(kind, now_ms):
            log.info(f"checkpoint for {reasons}", **fields)
        self._tally.take(shown)
        self.on_record(record)
        self._say_finding()
        if record.outcome is Outcome.COMMITTED:
            is_operators = any(reason.kind is ReasonKind.OPERATOR for reason in record.reasons)
            for epoch, waiting in self._waiting:
                if is_operators and record.epoch > epoch and not waiting.done():  # not one from before the request
                    waiting.set_result(record)

    def _say_finding(self) -> None:
        """Log a pause target that is not held, and that it is held again."""
        finding, said_us = self._coordinator.pace.finding, self._finding_said_us
        if finding is None and said_us is not None:
            self._finding_said_us = None
            log.info("the guest's pauses are within their target again")
        elif finding is not None and (said_us is None or _now_us() >= said_us + FINDING_AGAIN_US):
            self._finding_said_us = _now_us()
            log.warning(finding)

    def _fail_waiting(self, why: str) -> None:
        for _, waiting in self._waiting:
            if not waiting.done():
                waiting.set_exception(CheckpointError("requested", why))

    def is_running(self) -> bool:
        """Whether a checkpoint is being made."""
        return self._coordinator.is_running

    # ── what it shows ─────────────────────────────────────────────────────────────────────────────────────────

    def status(self) -> dict[str, Any]:
        """`checkpoint` in the control socket's answer."""
        with self._lock:
            status = self._coordinator.status(_unix_minus_monotonic_us())
        return {**status, **self._tally.status()}

    async def close(self) -> None:
        """Cancel the timer and the requests under way."""
        await self._looks.close()
        if self._timer is not None:
            self._timer.cancel()
        for task in list(self._asking):
            task.cancel()
        with suppress(asyncio.CancelledError):
            await asyncio.gather(*self._asking, return_exceptions=True)


def _reason(difference: Difference) -> Reason:
    connection = str(difference.connection) if difference.connection else None
    return Reason(reason_of(difference.kind), str(difference), connection, difference.card or None)


def _unix_minus_monotonic_us() -> int:
    return int(datetime.now(UTC).timestamp() * 1e6) - _now_us()
