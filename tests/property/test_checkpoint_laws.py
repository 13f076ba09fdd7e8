"""Laws of the coordinator under any sequence of facts, and under any that a working pair can give."""

from hypothesis import given
from hypothesis import strategies as st

from pycolo.checkpoint.commands import AskHypervisor, Commit, Dissolve, Record, Refused, Suspect
from pycolo.checkpoint.coordinator import Coordinator
from pycolo.checkpoint.epoch import Epoch
from pycolo.checkpoint.records import HISTORY_RECORDS, REASONS_PER_KIND_MAX, Outcome, Reason, ReasonKind
from pycolo.checkpoint.running import RESUME_WAIT_US
from pycolo.checkpoint.table import TRANSITIONS, Fact, State

DISTANCE_MS, INTERVAL_MS, TIMEOUT_MS = 20, 300, 100
WANTED_KINDS = [ReasonKind.DIVERGENCE, ReasonKind.TIMEOUT, ReasonKind.OPERATOR]

FACTS = [
    "synchronised",
    "pair_entered_colo",
    "pair_lost",
    "requested",
    "secondary_stopped",
    "primary_stopped",
    "loaded",
    "committed",
    "primary_resumed",
    "colo_ended",
    "ask_failed",
    "timer_fired",
]
# What is drawn: a fact, the time that has passed before it (ms, or up to the deadline), a number for its arguments.
steps = st.tuples(
    st.sampled_from([*FACTS, *FACTS[:2], *FACTS[3:9]]),
    st.one_of(st.none(), st.sampled_from([0, 1, 19, 20, 21]), st.integers(-5, 2_000)),
    st.integers(0, 3),
)


class Witness:
    """Tells facts to a coordinator and watches what it commands."""

    def __init__(self, max_interval_ms=INTERVAL_MS):
        self.core = Coordinator(
            epoch=Epoch(5), min_distance_ms=DISTANCE_MS, max_interval_ms=max_interval_ms, timeout_ms=TIMEOUT_MS
        )
        self.now_us = 1_000_000
        self.requested = []
        self.committed = {}  # reason -> how often it was in the record of a committed checkpoint
        self.more = 0
        self.refused = []
        self.epochs = []
        self.is_asked = False
        self.commits = 0
        self.ended_us = None
        self.texts = 0

    def tell(self, name, after_ms=0, number=0):
        due_us = self.core.deadline_us()
        if after_ms is None:
            self.now_us = self.now_us if due_us is None else max(self.now_us, due_us)
        else:
            self.now_us = max(0, self.now_us + after_ms * 1000)
        epoch, state = self.core.epoch, self.core.state
        arguments = {
            "requested": lambda: (self.make_reason(number), self.now_us, [None, epoch, epoch + 1, epoch - 1][number]),
            "primary_stopped": lambda: (10**15 + self.now_us, self.now_us),
            "primary_resumed": lambda: (10**15 + self.now_us, self.now_us),
            "committed": lambda: (1, 2, 3, self.now_us),
            "colo_ended": lambda: ("why", self.now_us),
            "ask_failed": lambda: ("why", self.now_us),
            "pair_lost": lambda: ("why", self.now_us),
        }
        getattr(self.core, name)(*arguments.get(name, lambda: (self.now_us,))())
        self.watch(name, state, epoch)

    def make_reason(self, number):
        self.texts += 1
        reason = Reason(WANTED_KINDS[number % 3], f"{self.texts}")
        self.requested.append(reason)
        return reason

    def watch(self, name, state, epoch):
        commands = self.core.commands()
        self.note_ends(name, state)
        for command in commands:
            match command:
                case AskHypervisor(epoch=to_epoch, reasons=reasons):
                    assert not self.is_asked, "two outstanding"
                    assert to_epoch == self.core.epoch + 1
                    assert reasons
                    clock_us = self.core._now_us
                    assert self.ended_us is None or clock_us >= self.ended_us + DISTANCE_MS * 1000
                    self.is_asked = True
                case Commit(epoch=to_epoch):
                    assert name == "loaded"
                    assert state in (State.SECONDARY_STOPPED, State.PRIMARY_STOPPED)
                    assert to_epoch == self.core.epoch + 1
                case Refused(reason=reason):
                    assert reason.text
                    self.refused.append(reason)
                case Record(record=record):
                    self.note_record(record)
                case Suspect(text=text):
                    assert "checkpoint to epoch" in text
                case Dissolve():
                    assert name == "colo_ended"
                    assert state is not State.DISARMED
                    assert self.core.state is State.DISARMED
        assert self.core.epoch == epoch + (name == "committed" and state is State.LOADED)
        if self.core.state is State.DISARMED:
            assert not [one for one in commands if isinstance(one, AskHypervisor | Commit | Suspect)]
            assert self.core.deadline_us() is None

    def note_ends(self, name, state):
        is_over = not self.core.is_running and state in (
            State.ADMITTED,
            State.SECONDARY_STOPPED,
            State.PRIMARY_STOPPED,
            State.LOADED,
        )
        if is_over or (name in ("committed", "colo_ended", "ask_failed", "pair_lost") and not self.core.is_running):
            self.is_asked = False
        if is_over:
            self.ended_us = self.core._now_us
        if state in (State.DISARMED, State.SYNCHRONISED):
            self.ended_us = None

    def note_record(self, record):
        if record.outcome is Outcome.COMMITTED:
            self.epochs.append(record.epoch)
            for reason in record.reasons:
                self.committed[reason] = self.committed.get(reason, 0) + 1
            self.more += record.more_reasons
        assert record.requested_us <= record.began_us <= record.ended_us
        assert record.pause_us is None or record.pause_us >= 0
        assert len(record.reasons) <= len(ReasonKind) * REASONS_PER_KIND_MAX


@given(st.lists(steps, max_size=80))
def test_any_facts_in_any_order(sequence):
    witness = Witness()
    for name, after_ms, number in sequence:
        witness.tell(name, after_ms, number)
    core = witness.core
    witness.tell("pair_lost")
    assert witness.epochs == list(range(6, core.epoch + 1)), "each epoch has one record, in order"
    assert all(times == 1 for times in witness.committed.values()), "no reason is answered twice"
    assert core.unexpected.keys() <= {(state, fact) for state in State for fact in Fact} - TRANSITIONS.keys()
    assert len(core.history.last) <= HISTORY_RECORDS
    assert core.history.committed == len(witness.epochs) == sum(core.history.count.values())
    core.status(0)


@given(st.lists(steps, max_size=80))
def test_every_request_is_answered_refused_settled_or_counted(sequence):
    witness = Witness()
    for name, after_ms, number in sequence:
        witness.tell(name, after_ms, number)
    witness.tell("pair_lost")
    answered = {reason for reason in witness.committed if reason in witness.requested}
    refused = [reason for reason in witness.refused if reason in witness.requested]
    assert not answered & set(refused), "both answered and refused"
    assert len(set(refused)) == len(refused), "refused twice"
    others = len(witness.requested) - len(answered) - len(refused) - witness.core.settled
    assert others == witness.more + witness.core.refused - len(witness.refused), "neither, and not counted"


orderly = st.lists(
    st.tuples(
        st.sampled_from(["request", "request", "own", "wait", "refuse", "late request"]),
        st.integers(0, 3 * DISTANCE_MS),
        st.integers(0, 2),
    ),
    max_size=30,
)


@given(orderly)
def test_a_working_pair_answers_every_request_and_keeps_the_interval(script):
    """REPLY, STOP, LOADED, commit and RESUME come 1 ms apart; timers fire when they are due."""
    witness = Witness()
    witness.tell("synchronised")
    witness.tell("pair_entered_colo")
    core = witness.core
    last_end_us = witness.now_us

    def checkpoint(is_refused=False, is_late=False):
        nonlocal last_end_us
        names = ["secondary_stopped", "primary_stopped", "loaded", "committed", "primary_resumed"]
        for name in ["ask_failed"] if is_refused else names:
            witness.tell(name, 1)
            if is_late and name == "loaded":
                witness.tell("requested", 0, 0)
        last_end_us = witness.now_us

    def wait(ms):
        until_us = witness.now_us + ms * 1000
        while (due_us := core.deadline_us()) is not None and due_us <= until_us:
            witness.now_us = due_us
            witness.tell("timer_fired")
            if core.is_running:
                assert witness.now_us <= last_end_us + INTERVAL_MS * 1000
                checkpoint()
        witness.now_us = max(witness.now_us, until_us)

    checkpoint()
    for what, ms, number in script:
        wait(ms)
        if what in ("request", "refuse", "late request"):
            witness.tell("requested", 0, min(number, 1))
        if what == "own" and not core.is_running:
            checkpoint()
        if core.is_running:
            checkpoint(is_refused=what == "refuse", is_late=what == "late request")
    wait(10 * INTERVAL_MS)
    assert not core.unexpected
    assert core.state is State.IDLE
    ours = {reason: times for reason, times in witness.committed.items() if reason in witness.requested}
    assert set(ours.values()) <= {1}
    assert len(ours) + witness.more == len(witness.requested)
    assert all(record.pause_us == 3_000 for record in core.history.last if record.outcome is Outcome.COMMITTED)


LIFE = ["timer_fired", "secondary_stopped", "primary_stopped", "loaded", "committed", "primary_resumed", "timer_fired"]


@given(
    st.lists(st.tuples(st.integers(0, len(LIFE)), st.integers(0, len(LIFE))), min_size=1, max_size=8),
    st.booleans(),
    st.integers(0, 30),
)
def test_one_checkpoint_answers_all_that_differ_before_its_commit(others, is_early, ran_ms):
    """Others differ after A at any moment, and are heard of then or later: see `LIFE`. Those whose data path had not
    committed need no second checkpoint, however late they are heard of; those that had need exactly one.
    """
    witness = Witness(max_interval_ms=0)
    for name in ("synchronised", "pair_entered_colo", *LIFE[1:-1]):
        witness.tell(name, 1)
    witness.tell("timer_fired", ran_ms)
    epoch, is_committed = witness.core.epoch, LIFE.index("committed") + (not is_early)  # by the data path
    heard = {}
    for found, later in others:
        heard.setdefault(min(found + later, len(LIFE)), []).append(epoch + (found >= is_committed))
    reasons = [witness.make_reason(0)]
    witness.core.requested(reasons[0], witness.now_us, epoch)
    before = witness.core.history.committed

    def differ(step):
        for in_epoch in heard.get(step, []):
            reasons.append(witness.make_reason(1))
            witness.core.requested(reasons[-1], witness.now_us, in_epoch)

    for step, name in enumerate(LIFE):
        differ(step)
        witness.tell(name, None if name == "timer_fired" else 1)
    differ(len(LIFE))
    needed = any(epoch + 1 in epochs for epochs in heard.values())
    for name in LIFE[: len(LIFE) - 1] if needed else []:
        witness.tell(name, None if name == "timer_fired" else 1)
    assert witness.core.state is State.IDLE
    assert witness.core.history.committed == before + 1 + needed
    answered = sum(witness.committed.get(reason, 0) for reason in reasons)
    assert answered + witness.more + witness.core.settled == len(reasons)


@given(st.lists(steps, max_size=60))
def test_timers_always_end(sequence):
    """Firing at the deadline moves it on or clears it, so that a shell that only obeys never spins."""
    witness = Witness()
    for name, after_ms, number in sequence:
        witness.tell(name, after_ms, number)
        for _ in range(4):
            due_us = witness.core.deadline_us()
            if due_us is None or due_us > witness.now_us:
                break
            witness.tell("timer_fired")
        else:
            raise AssertionError(f"due at {due_us}, fired at {witness.now_us}, still due")


def test_the_wait_for_resume_is_longer_than_any_distance_here():
    assert RESUME_WAIT_US > DISTANCE_MS * 1000
