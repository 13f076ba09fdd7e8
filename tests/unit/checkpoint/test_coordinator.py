"""The coordinator, read like a trace: what happened at which time (ms), what was commanded."""

import pytest

from pycolo.checkpoint.commands import AskHypervisor, Commit, Dissolve, Record, Refused, Suspect
from pycolo.checkpoint.coordinator import RETRY_DISTANCE_US, Coordinator
from pycolo.checkpoint.epoch import Epoch
from pycolo.checkpoint.parts import Flow, Moments
from pycolo.checkpoint.records import Outcome, Reason, ReasonKind
from pycolo.checkpoint.running import RESUME_WAIT_US
from pycolo.checkpoint.table import Fact, State

DISTANCE_MS, INTERVAL_MS, TIMEOUT_MS = 20, 1_000, 500
PAYLOAD = Reason(ReasonKind.DIVERGENCE, "payload differs", "one")
OTHER = Reason(ReasonKind.TIMEOUT, "a packet waited 500 ms", "two")
ASKED = Reason(ReasonKind.OPERATOR, "colo checkpoint")


class Trace:
    """A coordinator, with times in milliseconds and the commands of each step."""

    def __init__(self, **options):
        times = {"min_distance_ms": DISTANCE_MS, "max_interval_ms": INTERVAL_MS, "timeout_ms": TIMEOUT_MS} | options
        self.core = Coordinator(**times)

    def __getattr__(self, fact):
        def told(ms, *arguments, **named):
            getattr(self.core, fact)(*arguments, now_us=round(ms * 1000), **named)
            return self.core.commands()

        return told

    @property
    def due_ms(self):
        due_us = self.core.deadline_us()
        return None if due_us is None else due_us / 1000

    def protected(self):
        """The first checkpoint is made; the pair is at rest since 10 ms."""
        self.synchronised(0)
        self.pair_entered_colo(0)
        self.secondary_stopped(2)
        self.checkpoint_ends(3, 10)
        assert (self.core.state, self.core.epoch) == (State.IDLE, 1)
        return self

    def checkpoint_ends(self, stop_ms, resume_ms):
        """From REPLY on. The record."""
        self.primary_stopped(stop_ms, at_us(stop_ms))
        assert self.loaded(resume_ms - 0.5) == [Commit(self.core.epoch + 1)]
        self.committed(resume_ms - 0.3, 12, 3456, 3)
        (command,) = [
            command for command in self.primary_resumed(resume_ms, at_us(resume_ms)) if isinstance(command, Record)
        ]
        return command.record


def at_us(ms):
    """QEMU's clock is another one."""
    return 1_795_445_499_000_000 + round(ms * 1000)


def records(commands):
    return [command.record for command in commands if isinstance(command, Record)]


# ── in order ────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_pair_begins_with_a_checkpoint():
    trace = Trace()
    assert trace.synchronised(99) == []
    (ask,) = trace.pair_entered_colo(100)
    assert ask == AskHypervisor(1, (Reason(ReasonKind.FIRST, "the pair has entered COLO"),))
    assert trace.secondary_stopped(102) == []
    assert trace.primary_stopped(102.5, at_us(102.5)) == []
    assert trace.loaded(108) == [Commit(1)]
    assert trace.committed(108.2, 12, 3456, 3) == []
    assert trace.core.epoch == 1
    (record,) = records(trace.primary_resumed(108.6, at_us(108.5)))
    assert (record.epoch, record.outcome, record.why) == (1, Outcome.COMMITTED, None)
    assert (record.requested_us, record.began_us, record.ended_us) == (100_000, 100_000, 108_200)
    assert (record.resumed_us, record.pause_us) == (108_600, 6_000)
    assert (record.released_frames, record.released_bytes, record.discarded_frames) == (12, 3456, 3)
    assert not trace.core.unexpected


def test_a_request_after_the_minimum_distance_is_asked_at_once():
    trace = Trace().protected()
    assert trace.requested(40, PAYLOAD) == [AskHypervisor(2, (PAYLOAD,))]
    assert trace.core.is_running


def test_a_request_before_it_waits_and_others_join():
    trace = Trace().protected()
    assert trace.requested(15, PAYLOAD) == []
    assert trace.core.state is State.REQUESTED
    assert trace.requested(16, OTHER) == []
    assert trace.due_ms == 10 + DISTANCE_MS
    assert trace.timer_fired(29.9) == []
    assert trace.timer_fired(30) == [AskHypervisor(2, (PAYLOAD, OTHER))]
    trace.secondary_stopped(31)
    record = trace.checkpoint_ends(32, 36)
    assert record.reasons == (PAYLOAD, OTHER)
    assert (record.requested_us, record.began_us) == (15_000, 30_000)


def test_the_distance_counts_from_resume_the_guest_has_run_since():
    trace = Trace().protected()
    trace.requested(100, PAYLOAD)
    trace.secondary_stopped(101)
    trace.primary_stopped(102, at_us(102))
    trace.loaded(103)
    trace.committed(104, 0, 0, 0)
    assert trace.requested(105, OTHER) == []
    assert trace.timer_fired(200) == [], "RESUME was not heard"
    (record,) = trace.primary_resumed(210, at_us(110))
    assert record.record.pause_us == 8_000
    assert trace.due_ms == 210 + DISTANCE_MS
    assert trace.timer_fired(230) == [AskHypervisor(3, (OTHER,))]


@pytest.mark.parametrize("until", ["asked", "secondary_stopped", "primary_stopped", "loaded"])
def test_whatever_is_found_before_the_commit_is_settled_by_it(until):
    trace = Trace().protected()
    facts = [
        ("asked", lambda: trace.requested(100, PAYLOAD)),
        ("secondary_stopped", lambda: trace.secondary_stopped(101)),
        ("primary_stopped", lambda: trace.primary_stopped(102, at_us(102))),
        ("loaded", lambda: trace.loaded(103)),
    ]
    for name, happens in facts:
        happens()
        if name == until:
            assert trace.requested(104, OTHER) == []
    trace.core.commands()
    trace.committed(105, 0, 0, 0)
    (record,) = records(trace.primary_resumed(106, at_us(106)))
    assert record.reasons == (PAYLOAD, OTHER)
    assert trace.core.state is State.IDLE


def test_a_request_of_an_ended_epoch_is_settled_already():
    trace = Trace().protected()
    assert trace.requested(100, PAYLOAD, epoch=0) == []
    assert (trace.core.state, trace.core.settled) == (State.IDLE, 1)
    assert trace.requested(100, PAYLOAD, epoch=1) == [AskHypervisor(2, (PAYLOAD,))]


def test_a_request_of_the_epoch_that_is_being_opened_waits_for_the_next():
    trace = Trace().protected()
    trace.requested(100, PAYLOAD)
    trace.secondary_stopped(101)
    trace.primary_stopped(102, at_us(102))
    trace.loaded(103)
    trace.requested(103.5, OTHER, epoch=2)
    trace.committed(104, 0, 0, 0)
    assert trace.core.state is State.REQUESTED
    (record,) = records(trace.primary_resumed(105, at_us(105)))
    assert record.reasons == (PAYLOAD,)
    assert trace.timer_fired(105 + DISTANCE_MS) == [AskHypervisor(3, (OTHER,))]


def test_the_maximum_interval():
    trace = Trace().protected()
    assert trace.due_ms == 10 + INTERVAL_MS
    (ask,) = trace.timer_fired(10 + INTERVAL_MS)
    assert ask == AskHypervisor(2, (Reason(ReasonKind.PERIODIC, "the last one was 1.0 s ago"),))


def test_without_a_maximum_interval_nothing_is_due():
    trace = Trace(max_interval_ms=0).protected()
    assert trace.due_ms is None
    assert trace.timer_fired(10**9) == []


# ── not asked for ───────────────────────────────────────────────────────────────────────────────────────────


def test_the_hypervisors_own_checkpoint():
    trace = Trace().protected()
    assert trace.secondary_stopped(100) == []
    record = trace.checkpoint_ends(101, 106)
    assert [reason.kind for reason in record.reasons] == [ReasonKind.HYPERVISOR]
    assert trace.core.history.count[ReasonKind.HYPERVISOR] == 1


def test_it_answers_what_is_wanted():
    trace = Trace().protected()
    trace.requested(11, PAYLOAD)
    trace.secondary_stopped(12)
    record = trace.checkpoint_ends(13, 18)
    assert [reason.kind for reason in record.reasons] == [ReasonKind.HYPERVISOR, ReasonKind.DIVERGENCE]
    assert trace.core.state is State.IDLE


def test_one_that_is_aborted_is_recorded_under_its_own_reason():
    trace = Trace().protected()
    trace.secondary_stopped(100)
    (record,) = records(trace.colo_ended(101, "it was interrupted"))
    assert [reason.kind for reason in record.reasons] == [ReasonKind.HYPERVISOR]
    assert trace.core.state is State.DISARMED


# ── STOP and RESUME before or after the rest ────────────────────────────────────────────────────────────────

IN_ORDER = ["secondary_stopped", "STOP", "loaded", "committed", "RESUME"]
ORDERS = [
    IN_ORDER,
    ["STOP", "secondary_stopped", "loaded", "committed", "RESUME"],
    ["secondary_stopped", "loaded", "STOP", "committed", "RESUME"],
    ["secondary_stopped", "loaded", "committed", "STOP", "RESUME"],
    ["secondary_stopped", "STOP", "RESUME", "loaded", "committed"],
    ["secondary_stopped", "STOP", "loaded", "RESUME", "committed"],
    ["secondary_stopped", "loaded", "STOP", "RESUME", "committed"],
    ["STOP", "secondary_stopped", "loaded", "RESUME", "committed"],
]


def play(trace, order, begin_ms=100):
    commands = []
    for number, name in enumerate(order):
        ms = begin_ms + number
        match name:
            case "STOP":
                commands += trace.primary_stopped(ms, at_us(1))
            case "RESUME":
                commands += trace.primary_resumed(ms, at_us(7))
            case "committed":
                commands += trace.committed(ms, 1, 2, 3)
            case _:
                commands += getattr(trace, name)(ms)
    return commands


@pytest.mark.parametrize("is_asked", [True, False])
@pytest.mark.parametrize("order", ORDERS, ids=" ".join)
def test_the_pause_is_known_in_whatever_order_they_come(order, is_asked):
    trace = Trace().protected()
    if is_asked:
        trace.requested(99, PAYLOAD)
    commands = play(trace, order)
    (record,) = records(commands)
    assert (record.epoch, record.pause_us, record.released_frames) == (2, 6_000, 1)
    assert sum(isinstance(command, Commit) for command in commands) == 1
    assert not trace.core.unexpected


@pytest.mark.parametrize("late", range(4))
@pytest.mark.parametrize("gap", range(3))
def test_stop_and_resume_of_the_last_one_that_come_in_the_next(late, gap):
    """The hypervisor's own two in a row, QMP behind by some facts."""
    trace = Trace().protected()
    relay = ["secondary_stopped", "loaded", "committed"]
    second = [*relay[:late], "STOP", *relay[late : late + gap], "RESUME", *relay[late + gap :], "STOP", "RESUME"]
    found = records(play(trace, relay + second))
    assert [(record.epoch, record.pause_us) for record in found] == [(2, 6_000), (3, 6_000)]
    assert not trace.core.unexpected


def test_a_record_does_not_wait_for_resume_for_ever():
    trace = Trace().protected()
    trace.requested(100, PAYLOAD)
    play(trace, ["secondary_stopped", "STOP", "loaded", "committed"])
    trace.requested(104, OTHER)
    due_ms = 103 + RESUME_WAIT_US / 1000
    assert trace.due_ms == due_ms
    record, ask = trace.timer_fired(due_ms)
    assert (record.record.pause_us, record.record.resumed_us) == (None, None)
    assert ask == AskHypervisor(3, (OTHER,))


@pytest.mark.parametrize("facts", [[], ["secondary_stopped"], ["secondary_stopped", "loaded"]], ids=str)
def test_nor_in_any_state_that_follows(facts):
    trace = Trace().protected()
    play(trace, ["secondary_stopped", "STOP", "loaded", "committed"])
    play(trace, facts, 104)
    (record,) = records(trace.timer_fired(103 + RESUME_WAIT_US / 1000))
    assert (record.epoch, record.pause_us) == (2, None)
    assert not trace.core.unexpected


def test_a_lost_resume_does_not_spoil_the_next_pause():
    trace = Trace().protected()
    trace.secondary_stopped(100)
    play(trace, ["STOP", "loaded", "committed"], 101)  # QMP reconnects here
    trace.secondary_stopped(110)
    (first,) = records(trace.primary_stopped(111, at_us(111)))
    trace.loaded(112)
    trace.committed(113, 0, 0, 0)
    (second,) = records(trace.primary_resumed(114, at_us(115)))
    assert (first.pause_us, second.pause_us) == (None, 4_000)


def test_a_clock_that_was_set_back_gives_no_pause():
    trace = Trace().protected()
    trace.secondary_stopped(100)
    trace.primary_stopped(101, at_us(101))
    trace.loaded(102)
    trace.committed(103, 0, 0, 0)
    (record,) = records(trace.primary_resumed(104, at_us(50)))
    assert record.pause_us is None


@pytest.mark.parametrize("state", [State.IDLE, State.REQUESTED, State.ADMITTED])
def test_an_operator_who_stops_and_continues_the_guest_makes_no_checkpoint(state):
    trace = Trace().protected()
    if state is not State.IDLE:
        trace.requested(11 if state is State.REQUESTED else 40, PAYLOAD)
    trace.primary_stopped(41 if state is State.ADMITTED else 12, at_us(12))
    trace.primary_resumed(42 if state is State.ADMITTED else 13, at_us(13))
    assert (trace.core.state, trace.core.epoch) == (state, 1)
    trace.secondary_stopped(60)
    assert trace.core.state is State.SECONDARY_STOPPED, "that stop belongs to nothing"
    assert trace.checkpoint_ends(61, 67).pause_us == 6_000
    assert not trace.core.unexpected


def test_without_a_pair_guests_stop_and_run_as_they_like():
    trace = Trace()
    trace.primary_stopped(1, at_us(1))
    trace.primary_resumed(2, at_us(2))
    trace.pair_lost(3, "again")
    assert not trace.core.unexpected
    assert trace.due_ms is None


# ── what goes wrong ─────────────────────────────────────────────────────────────────────────────────────────

STEPS = [
    lambda trace: trace.requested(100, PAYLOAD),
    lambda trace: trace.secondary_stopped(101),
    lambda trace: trace.primary_stopped(102, at_us(102)),
    lambda trace: trace.loaded(103),
]


@pytest.mark.parametrize("steps", [1, 2, 3, 4])
def test_a_checkpoint_that_fails_in_qemu_is_recorded_and_ends_the_pair(steps):
    """QEMU has no way to give up a checkpoint but to leave COLO."""
    trace = Trace().protected()
    for step in STEPS[:steps]:
        step(trace)
    aborted, dissolve, refused = trace.colo_ended(110, "the stream broke")
    record = aborted.record
    assert (record.outcome, record.why, record.epoch) == (Outcome.ABORTED, "the stream broke", 2)
    assert (record.reasons, record.released_frames, record.pause_us) == ((PAYLOAD,), 0, None)
    assert dissolve == Dissolve("the stream broke")
    assert refused == Refused(PAYLOAD, "the pair was lost: the stream broke")
    assert trace.core.epoch == 1, "an abort changes nothing"
    assert (trace.core.state, trace.due_ms) == (State.DISARMED, None)
    assert trace.loaded(111) == [], "what comes too late commits nothing"
    assert trace.colo_ended(112, "QEMU has left COLO after an error") == [], "reported twice: once is enough"
    assert trace.core.history.aborted == 1


@pytest.mark.parametrize("state", [State.SYNCHRONISED, State.IDLE, State.REQUESTED])
def test_colo_that_ends_between_two_checkpoints_ends_the_pair_and_aborts_none(state):
    trace = Trace()
    if state is State.SYNCHRONISED:
        trace.synchronised(1)
    else:
        trace.protected()
    if state is State.REQUESTED:
        trace.requested(11, PAYLOAD)
    assert trace.core.state is state
    commands = trace.colo_ended(12, "QEMU has left COLO after an error")
    assert commands[0] == Dissolve("QEMU has left COLO after an error")
    assert trace.core.state is State.DISARMED
    assert trace.core.history.aborted == 0
    assert not trace.core.unexpected


def test_a_pair_that_is_lost_during_the_commit_counts_no_epoch():
    trace = Trace().protected()
    for step in STEPS:
        step(trace)
    trace.pair_lost(104, "unprotect")
    assert trace.committed(105, 12, 3456, 3) == []
    assert trace.core.epoch == 1
    assert not trace.core.unexpected


def test_between_the_first_state_and_the_primary_s_run_nothing_is_asked_for():
    trace = Trace()
    trace.synchronised(1)
    assert trace.requested(2, PAYLOAD) == []
    assert trace.due_ms is None
    (suspect,) = trace.loaded(3)
    assert isinstance(suspect, Suspect)
    (ask,) = trace.pair_entered_colo(4)
    assert [reason.kind for reason in ask.reasons] == [ReasonKind.DIVERGENCE, ReasonKind.FIRST]


def test_a_pair_that_is_lost_before_the_primary_ran_again_is_not_armed():
    trace = Trace()
    trace.synchronised(1)
    trace.colo_ended(2, "the stream broke")
    assert trace.pair_entered_colo(3) == []
    assert trace.core.state is State.DISARMED
    assert not trace.core.unexpected


def test_the_epoch_is_the_node_s():
    """The coordinator counts in it, and goes on from what others have counted."""
    epoch = Epoch(6)
    trace = Trace(epoch=epoch)
    trace.synchronised(0)
    epoch.begin()  # the first synchronisation is counted by the guest that has it
    trace.pair_entered_colo(0)
    trace.secondary_stopped(2)
    trace.checkpoint_ends(3, 10)
    assert (epoch.number, epoch.next, trace.core.epoch) == (8, 9, 8)
    epoch.meet(7)
    assert epoch.number == 8
    epoch.meet(11)
    assert trace.core.epoch == 11


def test_a_request_that_qemu_refuses_keeps_the_pair_and_is_made_again():
    trace = Trace().protected()
    trace.requested(100, PAYLOAD)
    (command,) = trace.ask_failed(102, "QMP: refused")
    assert (command.record.outcome, command.record.why) == (Outcome.ABORTED, "QMP: refused")
    assert trace.core.state is State.REQUESTED, "nothing was settled"
    assert trace.due_ms == 102 + RETRY_DISTANCE_US / 1000
    assert trace.timer_fired(202) == [AskHypervisor(2, (PAYLOAD,))]
    trace.secondary_stopped(203)
    assert trace.checkpoint_ends(204, 209).reasons == (PAYLOAD,)


def test_a_qemu_that_refuses_for_the_time_limit_is_suspect_once():
    """What waits for the checkpoint must not wait for ever: the node dissolves such a pair."""
    trace = Trace().protected()
    trace.requested(100, PAYLOAD)
    suspicions, ms = [], 100
    while ms < 100 + 3 * TIMEOUT_MS:
        commands = trace.ask_failed(ms + 1, "QMP: refused")
        suspicions += [(ms + 1, command.text) for command in commands if isinstance(command, Suspect)]
        ms = trace.due_ms
        trace.timer_fired(ms)
    ((at_ms, text),) = suspicions
    assert 100 + TIMEOUT_MS <= at_ms <= 100 + TIMEOUT_MS + 2 * RETRY_DISTANCE_US / 1000
    assert "QMP: refused" in text
    assert trace.core.state is State.ADMITTED
    trace.secondary_stopped(ms)
    assert trace.checkpoint_ends(ms + 1, ms + 7).reasons == (PAYLOAD,)


@pytest.mark.parametrize("steps", [0, 2, 3, 4, 5, 6, 7])
def test_unless_the_checkpoint_has_begun_all_the_same(steps):
    trace = Trace().protected()
    later = [
        lambda trace: trace.committed(104, 0, 0, 0),
        lambda trace: trace.requested(105, OTHER),
        lambda trace: trace.pair_lost(106, "COLO_EXIT"),
    ]
    for step in [*STEPS, *later][:steps]:
        step(trace)
    state = trace.core.state
    assert trace.ask_failed(110, "QMP: no answer") == []
    assert trace.core.state is state
    assert not trace.core.unexpected


@pytest.mark.parametrize("steps", [1, 2, 3, 4])
def test_lost_in_each_state(steps):
    trace = Trace().protected()
    for step in STEPS[:steps]:
        step(trace)
    record, refused = trace.pair_lost(110, "COLO_EXIT")
    assert (record.record.outcome, record.record.why) == (Outcome.ABORTED, "COLO_EXIT")
    assert refused == Refused(PAYLOAD, "the pair was lost: COLO_EXIT")
    assert (trace.core.state, trace.due_ms) == (State.DISARMED, None)
    assert trace.timer_fired(10**6) == []


@pytest.mark.parametrize("steps", [1, 2, 3, 4])
def test_too_long_is_suspect_once_and_may_still_be_committed(steps):
    trace = Trace().protected()
    for step in STEPS[:steps]:
        step(trace)
    assert trace.due_ms == 100 + TIMEOUT_MS
    assert trace.timer_fired(599) == []
    (suspect,) = trace.timer_fired(600)
    assert isinstance(suspect, Suspect)
    assert suspect.text.startswith("checkpoint to epoch 2: ")
    assert "0.5 s ago" in suspect.text
    assert trace.timer_fired(700) == []
    assert trace.due_ms is None
    for step in STEPS[steps:]:
        step(trace)
    trace.committed(800, 0, 0, 0)
    assert trace.core.epoch == 2


def test_a_word_that_all_is_loaded_without_a_checkpoint_is_suspect_and_commits_nothing():
    trace = Trace().protected()
    happens = [(State.IDLE, lambda: None), (State.REQUESTED, lambda: trace.requested(13, PAYLOAD))]
    for number, (state, fact) in enumerate([*happens, (State.ADMITTED, lambda: trace.timer_fired(40))]):
        fact()
        assert trace.core.state is state
        (suspect,) = trace.loaded(12 + number if number < 2 else 41)
        assert isinstance(suspect, Suspect)
        assert "out of step" in suspect.text
        assert (trace.core.state, trace.core.epoch) == (state, 1)
    assert not trace.core.unexpected


def test_without_a_pair_requests_are_refused_with_a_reason():
    trace = Trace()
    assert trace.core.refusal == "the pair is not in COLO: protect the VM first"
    assert trace.requested(1, ASKED) == [Refused(ASKED, trace.core.refusal)]
    trace.protected()
    assert trace.core.refusal is None
    trace.pair_lost(100, "the link is gone")
    assert trace.requested(101, ASKED) == [Refused(ASKED, "the pair is not in COLO: protect the VM first")]
    assert trace.core.refused == 2


def test_what_waits_when_the_pair_is_lost_is_refused():
    trace = Trace().protected()
    trace.requested(11, ASKED)
    assert trace.pair_lost(12, "the link is gone") == [Refused(ASKED, "the pair was lost: the link is gone")]


def test_a_record_that_waits_for_resume_ends_with_the_pair():
    trace = Trace().protected()
    play(trace, IN_ORDER[:-1])
    (record,) = records(trace.pair_lost(200, "the link is gone"))
    assert not trace.core.unexpected
    assert (record.epoch, record.pause_us) == (2, None)


def test_a_new_pair_goes_on_from_the_epoch_and_makes_its_own_first_checkpoint():
    trace = Trace().protected()
    trace.pair_lost(20, "the secondary died")
    trace.synchronised(4_999)
    (ask,) = trace.pair_entered_colo(5_000)
    assert (ask.epoch, ask.reasons[0].kind) == (2, ReasonKind.FIRST)


def test_the_end_of_the_migration_is_no_part_of_the_first_checkpoint():
    """STOP before the pair, RESUME after READY, when QEMU enters COLO."""
    trace = Trace()
    trace.primary_stopped(1, at_us(1))
    trace.synchronised(2)
    trace.primary_resumed(3, at_us(3))
    trace.pair_entered_colo(3)
    trace.secondary_stopped(4)
    assert trace.checkpoint_ends(5, 11).pause_us == 6_000


def test_what_fits_nowhere_is_counted():
    trace = Trace().protected()
    trace.committed(100, 0, 0, 0)
    trace.pair_entered_colo(102)
    assert dict(trace.core.unexpected) == {
        (State.IDLE, Fact.COMMITTED): 1,
        (State.IDLE, Fact.ENTERED): 1,
    }
    assert (trace.core.state, trace.core.epoch) == (State.IDLE, 1)


# ── what is shown ───────────────────────────────────────────────────────────────────────────────────────────


def test_the_status():
    trace = Trace().protected()
    trace.requested(11, PAYLOAD)
    trace.requested(12, ASKED)
    status = trace.core.status(0)
    assert (status["phase"], status["epoch"], status["aborted"]) == ("requested", 1, 0)
    assert status["pending"] == ["divergence", "operator"]
    assert status["count"] == {"first": 1}
    assert status["pause_ms"] == {"median": 7.0, "p99": 7.0, "max": 7.0}
    assert [record["epoch"] for record in status["last"]] == [1]
    trace.timer_fired(40)
    assert trace.core.status(0)["pending"] == ["divergence", "operator"], "wanted until it is committed"


def test_the_status_of_nothing():
    assert Coordinator().status(0) == {
        "phase": "disarmed",
        "epoch": 0,
        "pending": [],
        "count": {},
        "aborted": 0,
        "pause_ms": None,
        "parts_ms": None,
        "pace": Coordinator().pace.status(),
        "spacing": Coordinator().spacing.status(),
        "last": [],
    }


# ── what is copied ──────────────────────────────────────────────────────────────────────────────────────────


def copying(trace, octets, ms, pause_ms):
    """A checkpoint asked for at `ms`; the record. `octets`: what its stream has moved since it began."""
    trace.requested(ms, ASKED)
    trace.secondary_stopped(ms + 1)
    trace.primary_stopped(ms + 2, at_us(ms + 2))
    trace.stream_moved(ms + pause_ms, octets, round((ms + pause_ms) * 1000))
    trace.loaded(ms + 2 + pause_ms)
    trace.committed(ms + 2 + pause_ms, 0, 0, 0)
    (record,) = records(trace.primary_resumed(ms + 2 + pause_ms, at_us(ms + 2 + pause_ms)))
    return record


def test_a_record_has_what_was_copied_for_it():
    trace = Trace().protected()
    trace.stream_moved(10, 5_000_000, 10_000)  # of the first synchronisation and the first checkpoint
    assert copying(trace, 5_700_000, 100, 9).copied_bytes == 5_700_000
    assert copying(trace, 5_900_000, 300, 9).copied_bytes == 200_000
    assert trace.core.status(0)["last"][-1]["copied_bytes"] == 200_000


def test_the_next_pair_begins_with_nothing_copied():
    trace = Trace().protected()
    copying(trace, 5_700_000, 100, 9)
    trace.pair_lost(200, "unprotect")
    trace.stream_moved(290, 900, 290_000)
    trace.synchronised(300)
    trace.pair_entered_colo(300)
    trace.stream_moved(301, 1_000, 301_000)
    trace.secondary_stopped(302)
    assert trace.checkpoint_ends(303, 310).copied_bytes == 100


def test_a_checkpoint_whose_bytes_move_is_not_suspect():
    trace = Trace().protected()
    trace.requested(100, PAYLOAD)
    trace.secondary_stopped(101)
    trace.primary_stopped(102, at_us(102))
    for ms in range(200, 5_000, 400):
        trace.stream_moved(ms, ms * 1_000_000, ms * 1000)
        assert trace.timer_fired(ms) == []
    assert trace.due_ms == 4_600 + 4_500 + TIMEOUT_MS, "what was copied in 4.5 s is loaded within that time"
    assert trace.timer_fired(9_599) == []
    (suspect,) = trace.timer_fired(9_600)
    assert isinstance(suspect, Suspect)
    assert "it began 9.5 s ago" in suspect.text


def test_the_guest_has_run_until_it_stopped():
    """By QEMU's own clock: it may take a while to stop both."""
    trace = Trace(max_interval_ms=10_000).protected()
    trace.requested(1_010, ASKED)
    trace.secondary_stopped(1_900)
    trace.primary_stopped(2_010, at_us(2_010))
    trace.stream_moved(2_500, 400_000_000, 2_500_000)
    trace.loaded(3_010)
    trace.committed(3_010, 0, 0, 0)
    trace.primary_resumed(3_010, at_us(3_010))
    assert trace.core.pace.status()["change_bytes_per_s"] == 200_000_000, "400 MB in two seconds"


def test_a_guest_that_changes_much_is_copied_sooner():
    trace = Trace(max_interval_ms=10_000).protected()
    assert copying(trace, 400_000_000, 10_010, 1_000).copied_bytes == 400_000_000
    due_ms = trace.due_ms
    assert 11_012 + DISTANCE_MS < due_ms < 12_100, "40 MB/s change, 400 MB/s are copied: 80 ms after 0.8 s"
    (ask,) = trace.timer_fired(due_ms)
    (reason,) = ask.reasons
    assert reason.kind is ReasonKind.PERIODIC
    assert "more than 100 ms" in reason.text


# ── its parts ───────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("is_resume_early", [False, True])
def test_a_record_says_what_its_checkpoint_consisted_of(is_resume_early):
    trace = Trace().protected()
    trace.requested(100, PAYLOAD)
    trace.secondary_stopped(103)
    trace.primary_stopped(104, at_us(104))
    trace.loaded(110)
    moments = Moments(102_000, 103_000, 108_000, 109_500, 111_000, Flow(104_500, 107_000, 600, 0), at_us(0))
    if is_resume_early:
        trace.primary_resumed(111.6, at_us(111.5))
        (record,) = records(trace.committed(111.7, 1, 2, 3, moments=moments))
    else:
        trace.committed(111, 1, 2, 3, moments=moments)
        (record,) = records(trace.primary_resumed(111.6, at_us(111.5)))
    parts = {
        "stop-secondary": 2.0,
        "drain": 1.0,
        "stop-primary": 1.0,
        "begin": 0.5,
        "write": 1.9,
        "link": 0.6,
        "disks": 0.0,
        "receive": 1.0,
        "load": 1.5,
        "commit": 1.5,
        "resume": 0.5,
    }
    assert record.to_dict(0)["parts_ms"] == parts
    assert trace.core.status(0)["parts_ms"] == parts


def test_one_whose_pause_is_unknown_has_no_parts():
    trace = Trace().protected()
    trace.requested(100, PAYLOAD)
    trace.secondary_stopped(103)
    trace.loaded(110)
    trace.committed(111, 1, 2, 3, moments=Moments())
    (record,) = records(trace.primary_resumed(111.6, at_us(111.5)))
    assert (record.parts, record.pause_us) == (None, None)
