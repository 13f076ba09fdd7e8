"""The coordinator: facts about one pair's checkpoints in, commands out. It runs on the primary's node.

One checkpoint at a time: ::

    requested ─► AskHypervisor ─► secondary_stopped ─► primary_stopped ─► loaded ─► Commit ─► committed ─► Record

**Which requests a checkpoint answers.** All requests before its commit, even those after the primary has stopped. A
divergence found then lies between outputs of the ending epoch: the commit releases the primary's output of that epoch
and discards the secondary's. And the copied state is the current one: the primary has not run since. A request from
another thread may arrive late; so it can name the epoch of its reason, and a request of an ended epoch is settled and
only counted.

**What commits.** Only the LOADED of a checkpoint whose REPLY was seen here. Any other LOADED means that the pair is out
of step: it releases nothing, and the pair is suspect. The shell passes LOADED to the primary after `committed`; without
`Commit`, LOADED never passes, and the shell ends the stream.

**How one fails.** If QEMU refuses a request, nothing is lost: the pair stays, and the reasons are pending again. Once
QEMU has begun, it can abandon a checkpoint only by leaving COLO (`colo_ended`): the checkpoint is recorded as aborted
and `Dissolve` is commanded. The secondary's guest is then discarded, and the primary's serves on alone.

**STOP and RESUME** come over QMP, the rest through the relay of the migration stream. Either may overtake the other, so
STOP and RESUME decide only the recorded pause, and when the guest has run for the minimum distance. They are matched in
order: a STOP belongs to the oldest committed checkpoint without one.
"""

from collections import Counter, deque
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Final

from pycolo.checkpoint.commands import AskHypervisor, Command, Commit, Dissolve, Record, Refused, Suspect
from pycolo.checkpoint.epoch import Epoch
from pycolo.checkpoint.pace import PAUSE_TARGET_MS, Copied, Pace
from pycolo.checkpoint.parts import Moments, shown
from pycolo.checkpoint.records import CheckpointRecord, History, Outcome, Reason, ReasonKind, ReasonList
from pycolo.checkpoint.running import Running, Told
from pycolo.checkpoint.spacing import Spacing
from pycolo.checkpoint.table import RUNNING, TRANSITIONS, Action, Fact, State

MIN_DISTANCE_MS: Final = 20
"""Three idle pauses of a small guest."""

MAX_INTERVAL_MS: Final = 10_000
"""A takeover then repeats at most 10 s of work that clients cannot see, and the state to copy stays small."""

TIMEOUT_MS: Final = 5_000
"""For this long nothing of a checkpoint may move; a busy host takes a second at most."""

RETRY_DISTANCE_US: Final = 100_000
"""Pause between an aborted checkpoint and the next attempt: otherwise it would fail fifty times a second."""


DIFFERENCES: Final = frozenset(
    {ReasonKind.DIVERGENCE, ReasonKind.TIMEOUT, ReasonKind.MUTUAL_WAIT, ReasonKind.QUEUE_FULL}
)
"""Reasons of the comparator's: these keep the distance that `Spacing` gives."""


class Coordinator:
    """Facts in any order never raise; see the module. Read `commands()` and `deadline_us()` after each."""

    def __init__(
        self,
        *,
        epoch: Epoch | None = None,
        min_distance_ms: int = MIN_DISTANCE_MS,
        max_interval_ms: int = MAX_INTERVAL_MS,
        timeout_ms: int = TIMEOUT_MS,
        pause_target_ms: int = PAUSE_TARGET_MS,
        spacing: Spacing | None = None,
    ) -> None:
        """`epoch`: the node's, incremented at each commit. `max_interval_ms` 0: never. `spacing` None: minimum only."""
        self.pace = Pace(pause_target_ms, min_distance_ms, max_interval_ms, timeout_ms)
        self.spacing = spacing or Spacing(min_distance_ms, min_distance_ms)
        self.timeout_us = timeout_ms * 1000
        self._epoch = epoch if epoch is not None else Epoch()
        self.state = State.DISARMED
        self.history = History()
        self.unexpected: Counter[tuple[State, Fact]] = Counter()
        """Facts without a transition: each is a bug, or a QEMU that works differently."""
        self.settled = 0
        """Requests whose epoch had already ended."""
        self.refused = 0
        """Requests without a pair, or whose pair was lost before their turn."""
        self._pending = ReasonList()
        self._running: Running | None = None
        self._awaiting: deque[Running] = deque()  # committed, oldest first; RESUME_WAIT_US bounds it
        self._early_stop_at_us: int | None = None
        self._resumed_at_us: int | None = None  # after the last one, in QEMU's time
        self._is_refusal_suspected = False
        self._stream_bytes = self._copied_until = 0  # the migration stream: sent, and sent before this checkpoint
        self._moved_us: int | None = None
        self._now_us = self._ended_us = 0  # the last one has ended, or the pair has entered COLO
        self._commands: list[Command] = []
        self._do: Mapping[Action, Callable[[Told, str], None]] = {
            Action.NOTHING: lambda told, says: None,
            Action.ARM: self._arm,
            Action.DISARM: self._disarm,
            Action.REFUSE: self._refuse,
            Action.WANT: self._want,
            Action.WANT_PERIODIC: self._want_periodic,
            Action.ASK: self._ask,
            Action.JOIN: self._join,
            Action.BEGIN_UNASKED: self._begin_unasked,
            Action.NOTE_EARLY_STOP: self._note_early_stop,
            Action.FORGET_EARLY_STOP: self._forget_early_stop,
            Action.NOTE_STOP: self._note_stop,
            Action.NOTE_RESUME: self._note_resume,
            Action.NOTE_LATE_STOP: self._note_late_stop,
            Action.NOTE_LATE_RESUME: self._note_late_resume,
            Action.END_LAST: self._end_last,
            Action.COMMIT: self._commit,
            Action.SUSPECT: self._suspect,
            Action.COUNT_EPOCH: self._count_epoch,
            Action.ABANDON: self._abandon,
            Action.ABANDON_AND_SUSPECT: self._abandon_and_suspect,
            Action.ABANDON_AND_DISARM: self._abandon_and_disarm,
            Action.DISSOLVE: self._dissolve,
            Action.ABANDON_AND_DISSOLVE: self._abandon_and_dissolve,
        }

    @property
    def epoch(self) -> int:
        """The epoch in which both guests run."""
        return self._epoch.number

    # ── facts ───────────────────────────────────────────────────────────────────────────────────────────────────

    def synchronised(self, now_us: int) -> None:
        """READY has arrived: the secondary runs the primary's first state. Its epoch is counted already."""
        self._happened(Fact.SYNCHRONISED, Told(now_us))

    def pair_entered_colo(self, now_us: int) -> None:
        """Both QEMUs are in COLO state and the primary runs again: its first RESUME after MIGRATION `colo`.

        Not earlier: between the two, QEMU is still setting up what a checkpoint request needs.
        """
        self._happened(Fact.ENTERED, Told(now_us))

    def pair_lost(self, why: str, now_us: int) -> None:
        """This node has decided that the pair is over (unprotect, a failover): no more checkpoints."""
        self._happened(Fact.LOST, Told(now_us, why=why))

    def requested(self, reason: Reason, now_us: int, epoch: int | None = None) -> None:
        """Request a checkpoint. `epoch`: the one in which the reason arose; None: the current one."""
        if self.state is not State.DISARMED and epoch is not None and epoch < self.epoch:
            self.settled += 1
            return
        self._happened(Fact.REQUESTED, Told(now_us, reason=reason, epoch=epoch))

    def differed(self, now_us: int, epoch: int) -> None:
        """Another connection differs, for which no checkpoint is asked any more in this `epoch`."""
        if self.state is State.REQUESTED and epoch == self.epoch:
            self.spacing.differed(max(now_us, self._now_us))

    def ask_failed(self, why: str, now_us: int) -> None:
        """QMP refused `AskHypervisor`, or did not answer; ignored if the checkpoint has begun all the same."""
        since_us = self._running.reasons.since_us if self._running is not None else None
        is_too_long = since_us is not None and now_us >= since_us + self.timeout_us
        is_new = self.state is State.ADMITTED and is_too_long and not self._is_refusal_suspected
        self._happened(Fact.REFUSED_TOO_LONG if is_new else Fact.ASK_FAILED, Told(now_us, why=why))

    def secondary_stopped(self, now_us: int) -> None:
        """REPLY has arrived: the secondary has stopped, and its node has read everything that it sent."""
        self._happened(Fact.SECONDARY_STOPPED, Told(now_us))

    def primary_stopped(self, at_us: int, now_us: int) -> None:
        """QMP STOP of the primary; `at_us` is the event's own time stamp."""
        told = Told(now_us, at_us=at_us)
        for _ in range(sum(one.stopped_at_us is not None for one in self._awaiting)):
            self._happened(Fact.RESUME_MISSED, told)  # it has stopped again, so it ran in between
        self._happened(Fact.LATE_STOPPED if self._awaiting else Fact.PRIMARY_STOPPED, told)

    def stream_moved(self, total_bytes: int, moved_us: int, now_us: int) -> None:
        """The migration stream has sent `total_bytes` since it began, the last of them at `moved_us`."""
        self._stream_bytes, self._moved_us = total_bytes, moved_us

    def loaded(self, now_us: int) -> None:
        """LOADED has arrived, and is held: the secondary runs the primary's state."""
        self._happened(Fact.LOADED, Told(now_us))

    def committed(
        self,
        released_frames: int,
        released_bytes: int,
        discarded_frames: int,
        now_us: int,
        moments: Moments | None = None,
    ) -> None:
        """`Commit` is done: LOADED may pass, and RESUME will follow."""
        told = Told(
            now_us,
            released_frames=released_frames,
            released_bytes=released_bytes,
            discarded_frames=discarded_frames,
            moments=moments,
        )
        self._happened(Fact.COMMITTED, told)

    def primary_resumed(self, at_us: int, now_us: int) -> None:
        """QMP RESUME of the primary; `at_us` is the event's own time stamp."""
        self._happened(Fact.LATE_RESUMED if self._awaiting else Fact.RESUMED, Told(now_us, at_us=at_us))

    def colo_ended(self, why: str, now_us: int) -> None:
        """QEMU has left COLO after an error, the migration stream has ended, or `Commit` failed."""
        self._happened(Fact.COLO_ENDED, Told(now_us, why=why))

    def timer_fired(self, now_us: int) -> None:
        """`deadline_us` has been reached (early or repeated calls do no harm)."""
        self._now_us = now_us = max(now_us, self._now_us)
        told = Told(now_us)
        running = self._running
        for _ in range(sum(now_us >= one.resume_due_us for one in self._awaiting)):
            self._happened(Fact.RESUME_MISSED, told)
        due_us = self.pace.due_us(self._ended_us)
        if self.state is State.IDLE and due_us is not None and now_us >= due_us:
            self._happened(Fact.INTERVAL_OVER, told)
        if running is not None and not running.is_suspected and now_us >= self._overdue_us(running):
            self._happened(Fact.TIMED_OUT, told)
        self._follow_up(told)

    # ── answers ─────────────────────────────────────────────────────────────────────────────────────────────────

    def commands(self) -> list[Command]:
        """The commands since the last call, in order."""
        drained, self._commands = self._commands, []
        return drained

    def deadline_us(self) -> int | None:
        """When to call `timer_fired` next; None if only a fact can change anything."""
        due: list[int] = []
        periodic_us = self.pace.due_us(self._ended_us)
        if self.state is State.IDLE and periodic_us is not None:
            due.append(periodic_us)
        if self.state is State.REQUESTED and not self._awaiting:
            due.append(self._earliest_us)
        if self._running is not None and not self._running.is_suspected:
            due.append(self._overdue_us(self._running))
        if self._awaiting:
            due.append(self._awaiting[0].resume_due_us)
        return min(due, default=None)

    def look_us(self) -> int | None:
        """When to look at the guest's memory next, and tell `pace`; None: not now."""
        return self.pace.look_us(self._ended_us) if self.state is State.IDLE and not self._awaiting else None

    @property
    def _earliest_us(self) -> int:
        """When the next may begin."""
        return self.spacing.earliest_us(self.pace.due_us(self._ended_us))

    @property
    def is_running(self) -> bool:
        """Whether a checkpoint is running."""
        return self.state in RUNNING

    def answers(self, epoch: int) -> bool:
        """Whether the running checkpoint answers what was found in `epoch`: a data path may be ahead of the commit."""
        return self.is_running and epoch <= self.epoch

    @property
    def refusal(self) -> str | None:
        """Why a request would be refused now; None if it would be accepted."""
        return "the pair is not in COLO: protect the VM first" if self.state is State.DISARMED else None

    def status(self, unix_minus_monotonic_us: int) -> dict[str, Any]:
        """`checkpoint` in the control socket's answer; the argument converts monotonic time to wall-clock time."""
        pauses = self.history.pauses()
        return {
            "phase": self.state.value,
            "epoch": self.epoch,
            "pending": [reason.kind.value for reason in self._wanted()],
            "count": {kind.value: count for kind, count in self.history.count.items() if count},
            "aborted": self.history.aborted,
            "pause_ms": pauses.to_dict() if pauses else None,
            "parts_ms": shown(self.history.parts()),
            "pace": self.pace.status(),
            "spacing": self.spacing.status(),
            "last": [record.to_dict(unix_minus_monotonic_us) for record in self.history.last],
        }

    # ── running the table ─────────────────────────────────────────────────────────────────────────────────────────

    def _wanted(self) -> tuple[Reason, ...]:
        """Reasons that no committed checkpoint has answered yet."""
        return (self._running.reasons.kept if self._running else ()) + self._pending.kept

    def _happened(self, fact: Fact, told: Told) -> None:
        self._now_us = max(told.now_us, self._now_us)  # facts of two threads: time must not go back
        told = told._replace(now_us=self._now_us)
        self._apply(fact, told)
        self._follow_up(told)

    def _apply(self, fact: Fact, told: Told) -> None:
        transition = TRANSITIONS.get((self.state, fact))
        if transition is None:
            self.unexpected[self.state, fact] += 1
            return
        self._do[transition.action](told, transition.says)
        self.state = transition.next

    def _follow_up(self, told: Told) -> None:
        """Turn the new state, or the time, into further facts."""
        if self.state is State.SECONDARY_STOPPED and self._early_stop_at_us is not None:
            at_us, self._early_stop_at_us = self._early_stop_at_us, None
            self._apply(Fact.PRIMARY_STOPPED, told._replace(at_us=at_us))
        if self.state is State.IDLE and self._pending:
            self._apply(Fact.REQUESTED, told._replace(reason=None))
        if self.state is State.REQUESTED and not self._awaiting and told.now_us >= self._earliest_us:
            self._apply(Fact.DISTANCE_OVER, told)

    # ── actions: requests ───────────────────────────────────────────────────────────────────────────────────────

    def _arm(self, told: Told, says: str) -> None:
        self._is_refusal_suspected = False
        self._ended_us = told.now_us
        self.spacing.restarted(told.now_us)
        self._copied_until, self._resumed_at_us = self._stream_bytes, None
        self.pace.restarted(told.now_us)
        self._pending.add(Reason(ReasonKind.FIRST, "the pair has entered COLO"), told.now_us)

    def _disarm(self, told: Told, says: str) -> None:
        self._end_all(told, says)
        for reason in self._pending.kept:
            self._commands.append(Refused(reason, f"the pair was lost: {told.why}"))
        self.refused += len(self._pending) + self._pending.more
        self._pending.clear()
        self._early_stop_at_us = None

    def _refuse(self, told: Told, says: str) -> None:
        self.refused += 1
        if told.reason is not None and self.refusal is not None:
            self._commands.append(Refused(told.reason, self.refusal))

    def _want(self, told: Told, says: str) -> None:
        if told.reason is not None:  # None: reasons left by an aborted checkpoint, or of the next epoch
            self._pending.add(told.reason, told.now_us)
        kinds = [told.reason.kind] if told.reason is not None else [reason.kind for reason in self._pending.kept]
        for kind in kinds:
            self.spacing.wanted(told.now_us, is_difference=kind in DIFFERENCES)

    def _want_periodic(self, told: Told, says: str) -> None:
        text = self.pace.why_now(told.now_us - self._ended_us)
        self._want(told._replace(reason=Reason(ReasonKind.PERIODIC, text)), says)

    def _join(self, told: Told, says: str) -> None:
        """Note the reason; not if the data path is ahead and the reason belongs to the next epoch."""
        assert self._running is not None
        if told.reason is not None:
            is_next = told.epoch is not None and told.epoch > self.epoch
            (self._pending if is_next else self._running.reasons).add(told.reason, told.now_us)

    # ── actions: the running checkpoint ───────────────────────────────────────────────────────────────────────────

    def _ask(self, told: Told, says: str) -> None:
        self._running = self._begun(told.now_us)
        self._running.reasons.take(self._pending)
        self._commands.append(AskHypervisor(self._epoch.next, self._running.reasons.kept))

    def _begin_unasked(self, told: Told, says: str) -> None:
        self._running = self._begun(told.now_us)
        self._running.reasons.add(Reason(ReasonKind.HYPERVISOR, "the hypervisor began it by itself"), told.now_us)
        self._running.reasons.take(self._pending)

    def _begun(self, now_us: int) -> Running:
        self.spacing.asked(now_us, self.pace.due_us(self._ended_us))
        return Running(now_us, now_us - self._ended_us)

    def _note_early_stop(self, told: Told, says: str) -> None:
        self._early_stop_at_us = told.at_us

    def _forget_early_stop(self, told: Told, says: str) -> None:
        self._early_stop_at_us = None

    def _note_stop(self, told: Told, says: str) -> None:
        assert self._running is not None
        if self._running.stopped_at_us is None:
            self._running.stopped_at_us = told.at_us

    def _note_resume(self, told: Told, says: str) -> None:
        assert self._running is not None
        self._running.resumed_at_us, self._running.resumed_us = told.at_us, told.now_us

    def _commit(self, told: Told, says: str) -> None:
        self._commands.append(Commit(self._epoch.next))

    def _suspect(self, told: Told, says: str) -> None:
        text = f"checkpoint to epoch {self._epoch.next}: {says}"
        if self._running is not None:
            self._running.is_suspected = True
            text += f"; it began {(told.now_us - self._running.began_us) / 1e6:.1f} s ago"
        self._commands.append(Suspect(text))

    # ── actions: its end ────────────────────────────────────────────────────────────────────────────────────────

    def _count_epoch(self, told: Told, says: str) -> None:
        running, self._running = self._running, None
        assert running is not None
        self._epoch.begin()
        self._is_refusal_suspected = False
        running.record = replace(
            self._ended(running, told, Outcome.COMMITTED),
            released_frames=told.released_frames,
            released_bytes=told.released_bytes,
            discarded_frames=told.discarded_frames,
            copied_bytes=self._stream_bytes - self._copied_until,
        )
        running.moments = told.moments
        self._copied_until = self._stream_bytes
        self._awaiting.append(running)
        if running.resumed_us is not None:
            self._end_last(told, says)

    def _note_late_stop(self, told: Told, says: str) -> None:
        self._awaiting[0].stopped_at_us = told.at_us

    def _note_late_resume(self, told: Told, says: str) -> None:
        self._note_end(told.now_us)
        first = self._awaiting[0]
        first.resumed_at_us, first.resumed_us = told.at_us, told.now_us
        self._end_last(told, says)

    def _end_last(self, told: Told, says: str) -> None:
        first = self._awaiting.popleft()
        record, pause_us = first.record, first.pause_us
        assert record is not None
        if pause_us is not None:
            lead_us = first.lead_us(self._resumed_at_us)
            self.pace.copied(Copied(first.ran_us + lead_us, pause_us, record.copied_bytes, lead_us))
            self.spacing.cost(told.now_us - record.began_us, lead_us)
        self.pace.resumed(told.now_us)
        self._resumed_at_us = first.resumed_at_us
        self._record(replace(record, resumed_us=first.resumed_us, pause_us=pause_us, parts=first.parts))

    def _end_all(self, told: Told, says: str) -> None:
        while self._awaiting:
            self._end_last(told, says)

    def _abandon(self, told: Told, says: str) -> None:
        running, self._running = self._running, None
        assert running is not None
        self._end_all(told, says)
        self._record(self._ended(running, told, Outcome.ABORTED))
        self._ended_us = told.now_us
        self.spacing.failed(told.now_us, RETRY_DISTANCE_US)
        running.reasons.drop(ReasonKind.HYPERVISOR)  # it was not requested here
        running.reasons.take(self._pending)
        self._pending = running.reasons
        self._early_stop_at_us = None

    def _abandon_and_suspect(self, told: Told, says: str) -> None:
        self._is_refusal_suspected = True
        self._suspect(told, f"{told.why}; {says}")
        self._abandon(told, says)

    def _abandon_and_disarm(self, told: Told, says: str) -> None:
        self._abandon(told, says)
        self._disarm(told, says)

    def _dissolve(self, told: Told, says: str) -> None:
        self._commands.append(Dissolve(told.why))
        self._disarm(told, says)

    def _abandon_and_dissolve(self, told: Told, says: str) -> None:
        self._abandon(told, says)
        self._dissolve(told, says)

    def _ended(self, running: Running, told: Told, outcome: Outcome) -> CheckpointRecord:
        is_committed = outcome is Outcome.COMMITTED
        if is_committed:
            self._note_end(told.now_us)
        since_us = running.reasons.since_us
        return CheckpointRecord(
            epoch=self._epoch.number if is_committed else self._epoch.next,
            reasons=running.reasons.kept,
            more_reasons=running.reasons.more,
            requested_us=running.began_us if since_us is None else since_us,
            began_us=running.began_us,
            ended_us=told.now_us,
            outcome=outcome,
            why=None if is_committed else told.why,
        )

    def _overdue_us(self, running: Running) -> int:
        return self.pace.overdue_us(running.began_us, self._moved_us)

    def _note_end(self, now_us: int) -> None:
        self._ended_us = now_us
        self.spacing.ended(now_us)

    def _record(self, record: CheckpointRecord) -> None:
        self.history.add(record)
        self._commands.append(Record(record))
