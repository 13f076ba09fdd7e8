"""The checkpoints' shell: carries the coordinator's facts and commands between QEMU, the data path and the log."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import UTC, datetime
from time import monotonic_ns
from typing import Any, Final

import structlog

from pycolo.checkpoint.coordinator import AskHypervisor, Commit, Coordinator, Record, Refused, Suspect
from pycolo.checkpoint.records import CheckpointRecord, Outcome, Reason, ReasonKind
from pycolo.compare.difference import Command, Difference, RequestCheckpoint
from pycolo.compare.kinds import DifferenceKind
from pycolo.config.sections import CheckpointOptions
from pycolo.errors import CheckpointError, PycoloError, StateError
from pycolo.metrics.tally import CheckpointTally

_KINDS: Final = {
    DifferenceKind.TIMEOUT: ReasonKind.TIMEOUT,
    DifferenceKind.SECONDARY_TIMEOUT: ReasonKind.TIMEOUT,
    DifferenceKind.QUEUE_FULL: ReasonKind.QUEUE_FULL,
    DifferenceKind.MEMORY_FULL: ReasonKind.QUEUE_FULL,
    DifferenceKind.TABLE_FULL: ReasonKind.QUEUE_FULL,
}
"""Every other difference is a divergence."""

log = structlog.get_logger("colo")


def _now_us() -> int:
    return monotonic_ns() // 1000


class CheckpointFrame:
    """On the primary's node, in asyncio's thread.

    `ask_hypervisor()` starts a checkpoint; `suspect(text)`: one does not come to its end.
    """

    def __init__(
        self,
        options: CheckpointOptions,
        ask_hypervisor: Callable[[], Awaitable[None]],
        suspect: Callable[[str], None],
        epoch: int = 0,
    ) -> None:
        self._coordinator = Coordinator(
            epoch=epoch,
            min_distance_ms=options.min_distance_ms,
            max_interval_ms=options.max_interval_ms,
            timeout_ms=options.timeout_ms,
        )
        self._timeout_s = options.timeout_ms / 1000
        self._ask_hypervisor = ask_hypervisor
        self._suspect = suspect
        self._timer: asyncio.TimerHandle | None = None
        self._asking: set[asyncio.Task[None]] = set()
        self._waiting: list[tuple[int, asyncio.Future[CheckpointRecord]]] = []
        self._loop = asyncio.get_running_loop()
        self._tally = CheckpointTally()

    @property
    def epoch(self) -> int:
        """Checkpoints that were committed, over the pair's whole life."""
        return self._coordinator.epoch

    # ── facts ─────────────────────────────────────────────────────────────────────────────────────────────────

    def entered_colo(self, epoch: int) -> None:
        """Both guests run the state of `epoch`."""
        self._coordinator.epoch = epoch
        self._coordinator.pair_entered_colo(_now_us())
        self._act()

    def pair_lost(self, why: str) -> None:
        """No checkpoint any more."""
        self._coordinator.pair_lost(why, _now_us())
        self._act()
        self._fail_waiting(why)

    def diverged(self, commands: list[Command], epoch: int) -> None:
        """The comparator's requests, which arose in `epoch`."""
        for command in commands:
            if isinstance(command, RequestCheckpoint):
                self._coordinator.requested(_reason(command.difference), _now_us(), epoch)
        self._act()

    def secondary_stopped(self) -> None:
        """REPLY has come."""
        self._coordinator.secondary_stopped(_now_us())
        self._act()

    def primary_stopped(self, at_us: int) -> None:
        """QMP's STOP."""
        self._coordinator.primary_stopped(at_us, _now_us())
        self._act()

    def primary_resumed(self, at_us: int) -> None:
        """QMP's RESUME."""
        self._coordinator.primary_resumed(at_us, _now_us())
        self._act()

    def committed(self, done: dict[str, int]) -> None:
        """LOADED has come, and the data path has ended the epoch before it was let pass."""
        self._coordinator.loaded(_now_us())
        self._coordinator.committed(
            done["released_frames"], done["released_bytes"], done["discarded_frames"], _now_us()
        )
        self._act()

    # ── the operator ──────────────────────────────────────────────────────────────────────────────────────────

    async def operator_checkpoint(self) -> dict[str, Any]:
        """Make one now; its record. Raises `StateError`, `CheckpointError`."""
        refusal = self._coordinator.refusal
        if refusal is not None:
            raise StateError("checkpoint", refusal, "a protected pair")
        waiting: asyncio.Future[CheckpointRecord] = self._loop.create_future()
        entry = (self.epoch, waiting)
        self._waiting.append(entry)
        self._coordinator.requested(Reason(ReasonKind.OPERATOR, "colo checkpoint"), _now_us())
        self._act()
        try:
            record = await asyncio.wait_for(waiting, self._timeout_s + 2)
        except TimeoutError as error:
            raise CheckpointError("requested", f"not done within {self._timeout_s + 2:g} s") from error
        finally:
            self._waiting.remove(entry)
        return record.to_dict(_unix_minus_monotonic_us())

    # ── commands ──────────────────────────────────────────────────────────────────────────────────────────────

    def _act(self) -> None:
        for command in self._coordinator.commands():
            match command:
                case AskHypervisor():
                    self._spawn(self._ask())
                case Commit():
                    pass  # done already, in the relay's thread: see `committed`
                case Suspect(text=text):
                    self._suspect(text)
                case Refused(reason=reason, why=why):
                    log.info(f"no checkpoint: {why}", reason=reason.text)
                case Record(record=record):
                    self._record(record)
        self._set_timer()

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        due_us = self._coordinator.deadline_us()
        if due_us is not None:
            self._timer = self._loop.call_later(max(0, due_us - _now_us()) / 1e6, self._fired)

    def _fired(self) -> None:
        self._timer = None
        self._coordinator.timer_fired(_now_us())
        self._act()

    async def _ask(self) -> None:
        try:
            await self._ask_hypervisor()
        except PycoloError as error:
            self._coordinator.ask_failed(str(error), _now_us())
            self._act()

    def _spawn(self, work: Any) -> None:
        task = self._loop.create_task(work)
        self._asking.add(task)
        task.add_done_callback(self._asking.discard)

    def _record(self, record: CheckpointRecord) -> None:
        shown = record.to_dict(_unix_minus_monotonic_us())
        reasons = ", ".join(f"{reason.kind.value}: {reason.text}" for reason in record.reasons)
        fields = {key: shown[key] for key in ("epoch", "outcome", "why", "pause_ms", "released_frames")}
        log.info(f"checkpoint for {reasons}", **fields)
        self._tally.take(shown)
        if record.outcome is Outcome.COMMITTED:
            is_operators = any(reason.kind is ReasonKind.OPERATOR for reason in record.reasons)
            for epoch, waiting in self._waiting:
                if is_operators and record.epoch > epoch and not waiting.done():  # not one from before the question
                    waiting.set_result(record)

    def _fail_waiting(self, why: str) -> None:
        for _, waiting in self._waiting:
            if not waiting.done():
                waiting.set_exception(CheckpointError("requested", why))

    # ── what it shows ─────────────────────────────────────────────────────────────────────────────────────────

    def status(self) -> dict[str, Any]:
        """`checkpoint` in the control socket's answer."""
        return {**self._coordinator.status(_unix_minus_monotonic_us()), **self._tally.status()}

    async def close(self) -> None:
        """Nothing happens any more."""
        if self._timer is not None:
            self._timer.cancel()
        for task in list(self._asking):
            task.cancel()
        with suppress(asyncio.CancelledError):
            await asyncio.gather(*self._asking, return_exceptions=True)


def _reason(difference: Difference) -> Reason:
    connection = str(difference.connection) if difference.connection else None
    return Reason(_KINDS.get(difference.kind, ReasonKind.DIVERGENCE), str(difference), connection)


def _unix_minus_monotonic_us() -> int:
    return int(datetime.now(UTC).timestamp() * 1e6) - _now_us()
