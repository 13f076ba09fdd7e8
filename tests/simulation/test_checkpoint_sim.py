"""A QEMU that is heard over two connections, the relay and QMP, each late by its own delay.

It makes checkpoints when asked and sometimes by itself. It may refuse one, which costs nothing, or leave COLO in the
middle of one, which it reports over both connections: the pair then enters COLO again. What the coordinator has
recorded in the end must be what really happened: the law of `records`.
"""

import heapq
import random
from collections.abc import Callable
from itertools import count

import pytest

from pycolo.checkpoint.commands import AskHypervisor, Commit, Dissolve, Record, Refused
from pycolo.checkpoint.coordinator import Coordinator
from pycolo.checkpoint.records import CheckpointRecord, Outcome, Reason, ReasonKind
from pycolo.checkpoint.table import State

DISTANCE_US, INTERVAL_US = 20_000, 400_000
END_US = 20_000_000
REFUSALS = 0.05
HOST_CLOCK_US = 1_795_445_499_000_000


class Simulation:
    """One run. `truth` are the checkpoints that were committed: when the primary stopped and resumed, by its clock."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.core = Coordinator(min_distance_ms=DISTANCE_US // 1000, max_interval_ms=INTERVAL_US // 1000)
        self.now_us = 0
        self.events: list[tuple[int, int, Callable[[], None]]] = []
        self.order = count()
        self.qmp_lag_us = self.random.choice([300, 5_000, 60_000])
        self.qmp_free_us = 0
        self.truth: dict[int, tuple[int, int]] = {}
        self.records: list[CheckpointRecord] = []
        self.wanted: dict[str, bool] = {}
        self.asked_us: list[int] = []
        self.lost_us: list[int] = []
        self.dissolved: list[str] = []
        self.aborts: list[str] = []
        self.is_busy = False
        self.life = 0  # a fact of an earlier life of the pair is not told any more, as in the shell
        self.stopped_us: int | None = None

    # ── time ────────────────────────────────────────────────────────────────────────────────────────────────

    def after(self, delay_us: int, what: Callable[[], None]) -> None:
        life = self.life
        heapq.heappush(
            self.events, (self.now_us + delay_us, next(self.order), lambda: what() if life == self.life else None)
        )

    def some(self, most_us: int) -> int:
        return self.random.randrange(100, most_us)

    def run(self) -> None:
        self.enter()
        while self.events or self.core.deadline_us() is not None:
            due_us = self.core.deadline_us()
            if due_us is not None and (not self.events or due_us <= self.events[0][0]):
                self.now_us = max(self.now_us, due_us)
                self.tell(self.core.timer_fired)
            else:
                self.now_us, _, what = heapq.heappop(self.events)
                what()
            if self.now_us > END_US and self.core.state is State.IDLE and not self.wants():
                self.lose("the end")
                return

    def wants(self) -> bool:
        return bool(self.core.status(0)["pending"]) or self.is_busy

    def tell(self, fact: Callable[..., None], *arguments: object) -> None:
        fact(*arguments, now_us=self.now_us)
        for command in self.core.commands():
            match command:
                case AskHypervisor():
                    self.asked_us.append(self.now_us)
                    refuses = self.random.random() < REFUSALS
                    self.after(self.some(1_500), self.refuse if refuses else self.begin)
                case Commit():
                    self.after(self.some(3_000), self.commit)
                case Dissolve(text=text):
                    self.dissolved.append(text)
                case Record(record=record):
                    self.records.append(record)
                case Refused(reason=reason):
                    self.wanted.pop(reason.text, None)

    # ── the world ───────────────────────────────────────────────────────────────────────────────────────────

    def enter(self) -> None:
        self.is_busy, self.stopped_us = False, None
        self.tell(self.core.synchronised)
        self.tell(self.core.pair_entered_colo)
        self.after(self.some(60_000), self.request)
        self.after(self.some(500_000), self.begin)

    def request(self) -> None:
        text = f"request {len(self.wanted)} of life {self.life} at {self.now_us}"
        self.wanted[text] = False
        kind = self.random.choice([ReasonKind.DIVERGENCE, ReasonKind.TIMEOUT])
        self.tell(self.core.requested, Reason(kind, text))
        if self.now_us < END_US:
            self.after(self.some(self.random.choice([2_000, 60_000, 900_000])), self.request)

    def qmp(self, fact: Callable[..., None]) -> None:
        """An event with its time stamp, in order, late."""
        at_us = HOST_CLOCK_US + self.now_us
        self.qmp_free_us = max(self.qmp_free_us, self.now_us + self.some(self.qmp_lag_us))
        self.after(self.qmp_free_us - self.now_us, lambda: self.tell(fact, at_us))

    def lose(self, why: str) -> None:
        self.lost_us.append(self.now_us)
        self.tell(self.core.pair_lost, why)

    def refuse(self) -> None:
        if self.is_busy:
            return  # it has begun by itself meanwhile
        self.aborts.append(why := f"refused at {self.now_us}")
        self.tell(self.core.ask_failed, why)

    def begin(self) -> None:
        if self.is_busy:
            return  # QEMU merges what it is asked while it is at it
        self.is_busy = True
        self.maybe_break(lambda: self.after(self.some(1_000), self.reply))

    def reply(self) -> None:
        self.tell(self.core.secondary_stopped)
        self.after(self.some(500), self.stop)

    def stop(self) -> None:
        self.stopped_us = self.now_us
        self.qmp(self.core.primary_stopped)
        self.maybe_break(lambda: self.after(self.some(9_000), lambda: self.tell(self.core.loaded)))

    def commit(self) -> None:
        assert self.stopped_us is not None
        self.tell(self.core.committed, 1, 2, 3)
        epoch, stopped_us, self.stopped_us = self.core.epoch, self.stopped_us, None

        def resume() -> None:
            self.truth[epoch] = (stopped_us, self.now_us)
            self.is_busy = False
            self.qmp(self.core.primary_resumed)
            if self.now_us < END_US and self.random.random() < 0.2:
                self.after(self.some(30_000), self.begin)

        self.after(self.some(400), resume)

    def maybe_break(self, otherwise: Callable[[], None]) -> None:
        if self.random.random() > 0.02:
            otherwise()
            return
        why = f"failed at {self.now_us}"
        if self.core.is_running:
            self.aborts.append(why)
        self.lost_us.append(self.now_us)
        self.tell(self.core.colo_ended, why)
        self.tell(self.core.colo_ended, "the migration stream has ended")
        assert self.dissolved.pop() == why
        assert not self.dissolved, "once"
        assert self.core.state is State.DISARMED
        self.life += 1
        self.is_busy = False
        self.after(1_000_000, self.enter)


@pytest.mark.parametrize("seed", range(30))
def test_what_is_recorded_is_what_has_happened(seed: int) -> None:
    world = Simulation(seed)
    world.run()
    committed = [record for record in world.records if record.outcome is Outcome.COMMITTED]
    assert [record.epoch for record in committed] == list(range(1, world.core.epoch + 1))
    assert len(committed) > 20
    for record in committed:
        if record.pause_us is None:
            assert any(0 <= lost_us - record.ended_us < 200_000 for lost_us in world.lost_us), "lost with the pair only"
        else:
            stopped_us, resumed_us = world.truth[record.epoch]
            assert record.pause_us == resumed_us - stopped_us
    assert [record.why for record in world.records if record.outcome is Outcome.ABORTED] == world.aborts
    answered = [reason.text for record in committed for reason in record.reasons if reason.text in world.wanted]
    assert len(set(answered)) == len(answered)
    assert len(answered) + sum(record.more_reasons for record in committed) >= len(world.wanted)
    assert not world.core.unexpected


@pytest.mark.parametrize("seed", range(30))
def test_the_guest_runs_for_the_minimum_distance_before_it_is_asked(seed: int) -> None:
    world = Simulation(seed)
    world.run()
    for asked_us in world.asked_us:
        resumed = [resumed_us for _, resumed_us in world.truth.values() if resumed_us <= asked_us]
        assert not resumed or asked_us - max(resumed) >= DISTANCE_US
        assert not [1 for stopped_us, resumed_us in world.truth.values() if stopped_us < asked_us < resumed_us]
