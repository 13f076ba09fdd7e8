"""States, facts and transitions of a checkpoint, as data.

Rule 1: `TRANSITIONS` has everything that decides between two states. The coordinator adds only *which* fact has
happened: a STOP may belong to this checkpoint or to an earlier one, and the passing of time is a fact only when it
matters. Rule 2: a pair of state and fact that is missing here is unexpected: it is counted and changes nothing. Nothing
that QEMU or the other node does may raise an exception here.

`python -m pycolo.checkpoint.diagram` makes the picture and the table in docs/checkpoint.md from `TRANSITIONS`; a test
compares the page with it.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Final, NamedTuple


class State(StrEnum):
    """The state of the current checkpoint."""

    DISARMED = "disarmed"
    """No pair in COLO: a checkpoint is impossible."""
    SYNCHRONISED = "synchronised"
    """The secondary has the primary's first state; the primary has not resumed yet."""
    IDLE = "idle"
    """Both guests run; no request is pending."""
    REQUESTED = "requested"
    """A request is pending; it waits for its distance to the last checkpoint."""
    ADMITTED = "admitted"
    """Requested from the hypervisor."""
    SECONDARY_STOPPED = "secondary_stopped"
    """The secondary has stopped and reports it (REPLY)."""
    PRIMARY_STOPPED = "primary_stopped"
    """Both have stopped; the state is being copied."""
    LOADED = "loaded"
    """The secondary runs the primary's state; the primary stands still until the epoch is committed."""


RUNNING: Final = frozenset({State.ADMITTED, State.SECONDARY_STOPPED, State.PRIMARY_STOPPED, State.LOADED})
"""A checkpoint is running: requested, or begun by the hypervisor."""


class Fact(StrEnum):
    """What has happened. The first group comes from outside, the coordinator derives the second itself."""

    SYNCHRONISED = "secondary synchronised"
    ENTERED = "pair entered COLO"
    LOST = "pair lost"
    REQUESTED = "requested"
    ASK_FAILED = "asking failed"
    SECONDARY_STOPPED = "secondary stopped"
    PRIMARY_STOPPED = "primary stopped"
    LOADED = "loaded"
    COMMITTED = "committed"
    RESUMED = "primary resumed"
    COLO_ENDED = "COLO ended"

    LATE_STOPPED = "primary stopped, for an earlier one"
    LATE_RESUMED = "primary resumed, from an earlier one"
    RESUME_MISSED = "no RESUME of an earlier one"
    DISTANCE_OVER = "distance over"
    INTERVAL_OVER = "maximum interval over"
    TIMED_OUT = "timed out"
    REFUSED_TOO_LONG = "asking has failed for the time limit"


class Action(StrEnum):
    """What the coordinator does on a transition."""

    NOTHING = "nothing"
    ARM = "request the first checkpoint"
    DISARM = "drop the reasons"
    REFUSE = "refuse"
    WANT = "note the reason"
    WANT_PERIODIC = "note the reason 'periodic'"
    ASK = "AskHypervisor"
    JOIN = "note the reason: this checkpoint answers it"
    BEGIN_UNASKED = "note the reason 'hypervisor'"
    NOTE_EARLY_STOP = "remember its time"
    FORGET_EARLY_STOP = "forget the stop"
    NOTE_STOP = "note its time"
    NOTE_RESUME = "note its time: the pause is known"
    NOTE_LATE_STOP = "note its time in that record"
    NOTE_LATE_RESUME = "note its time; Record that one"
    END_LAST = "Record that one"
    COMMIT = "Commit"
    SUSPECT = "Suspect"
    COUNT_EPOCH = "epoch + 1; Record, once resumed"
    ABANDON = "Record as aborted; its reasons are pending again"
    ABANDON_AND_SUSPECT = "Suspect; Record as aborted; its reasons are pending again"
    ABANDON_AND_DISARM = "Record as aborted; drop the reasons"
    DISSOLVE = "Dissolve; drop the reasons"
    ABANDON_AND_DISSOLVE = "Record as aborted; Dissolve; drop the reasons"


class Transition(NamedTuple):
    """The next state, the action on the way, and why."""

    next: State
    action: Action
    says: str = ""


S, F, A = State, Fact, Action

TRANSITIONS: Final[Mapping[tuple[State, Fact], Transition]] = {
    # ── no pair: the guests' stops are no checkpoints of ours ────────────────────────────────────────────────────
    (S.DISARMED, F.SYNCHRONISED): Transition(S.SYNCHRONISED, A.NOTHING, "READY: the secondary runs the first state"),
    (S.DISARMED, F.ENTERED): Transition(S.DISARMED, A.NOTHING, "the pair was lost before the primary ran again"),
    (S.DISARMED, F.LOST): Transition(S.DISARMED, A.NOTHING),
    (S.DISARMED, F.REQUESTED): Transition(S.DISARMED, A.REFUSE, "no secondary to send the state to"),
    (S.DISARMED, F.PRIMARY_STOPPED): Transition(S.DISARMED, A.NOTHING, "the end of a migration, or an operator"),
    (S.DISARMED, F.RESUMED): Transition(S.DISARMED, A.NOTHING),
    (S.DISARMED, F.ASK_FAILED): Transition(S.DISARMED, A.NOTHING, "QMP was lost with the pair"),
    (S.DISARMED, F.COMMITTED): Transition(S.DISARMED, A.NOTHING, "the pair was lost during the commit"),
    (S.DISARMED, F.COLO_ENDED): Transition(S.DISARMED, A.NOTHING, "known: QEMU and the stream both report it"),
    # ── the secondary has its first state, the primary is about to run again ────────────────────────────────────
    (S.SYNCHRONISED, F.ENTERED): Transition(S.IDLE, A.ARM, "after the first one the secondary can replace the primary"),
    (S.SYNCHRONISED, F.REQUESTED): Transition(S.SYNCHRONISED, A.WANT, "the first checkpoint answers it"),
    (S.SYNCHRONISED, F.SECONDARY_STOPPED): Transition(S.SECONDARY_STOPPED, A.BEGIN_UNASKED, "the hypervisor's own"),
    (S.SYNCHRONISED, F.PRIMARY_STOPPED): Transition(S.SYNCHRONISED, A.NOTE_EARLY_STOP, "late, or it overtook REPLY"),
    (S.SYNCHRONISED, F.RESUMED): Transition(S.SYNCHRONISED, A.FORGET_EARLY_STOP, "the end of the migration"),
    (S.SYNCHRONISED, F.LOADED): Transition(S.SYNCHRONISED, A.SUSPECT, "out of step: this LOADED must release nothing"),
    (S.SYNCHRONISED, F.ASK_FAILED): Transition(S.SYNCHRONISED, A.NOTHING, "late: that pair has ended"),
    (S.SYNCHRONISED, F.COLO_ENDED): Transition(S.DISARMED, A.DISSOLVE),
    (S.SYNCHRONISED, F.LOST): Transition(S.DISARMED, A.DISARM),
    # ── both run ────────────────────────────────────────────────────────────────────────────────────────────────
    (S.IDLE, F.REQUESTED): Transition(S.REQUESTED, A.WANT),
    (S.IDLE, F.INTERVAL_OVER): Transition(S.REQUESTED, A.WANT_PERIODIC),
    (S.IDLE, F.SECONDARY_STOPPED): Transition(S.SECONDARY_STOPPED, A.BEGIN_UNASKED, "the hypervisor's own"),
    (S.IDLE, F.PRIMARY_STOPPED): Transition(S.IDLE, A.NOTE_EARLY_STOP, "an operator, or it overtook REPLY"),
    (S.IDLE, F.RESUMED): Transition(S.IDLE, A.FORGET_EARLY_STOP, "no checkpoint"),
    (S.IDLE, F.LATE_STOPPED): Transition(S.IDLE, A.NOTE_LATE_STOP),
    (S.IDLE, F.LATE_RESUMED): Transition(S.IDLE, A.NOTE_LATE_RESUME),
    (S.IDLE, F.RESUME_MISSED): Transition(S.IDLE, A.END_LAST, "its pause stays unknown"),
    (S.IDLE, F.LOADED): Transition(S.IDLE, A.SUSPECT, "out of step: this LOADED must release nothing"),
    (S.IDLE, F.ASK_FAILED): Transition(S.IDLE, A.NOTHING, "late: that checkpoint has ended"),
    (S.IDLE, F.COLO_ENDED): Transition(S.DISARMED, A.DISSOLVE, "the secondary's QEMU or the stream failed"),
    (S.IDLE, F.LOST): Transition(S.DISARMED, A.DISARM),
    # ── wanted ──────────────────────────────────────────────────────────────────────────────────────────────────
    (S.REQUESTED, F.REQUESTED): Transition(S.REQUESTED, A.WANT, "many reasons, one checkpoint"),
    (S.REQUESTED, F.DISTANCE_OVER): Transition(S.ADMITTED, A.ASK, "and the last one's RESUME was heard"),
    (S.REQUESTED, F.SECONDARY_STOPPED): Transition(
        S.SECONDARY_STOPPED, A.BEGIN_UNASKED, "the hypervisor's own; it answers the requests"
    ),
    (S.REQUESTED, F.PRIMARY_STOPPED): Transition(S.REQUESTED, A.NOTE_EARLY_STOP, "an operator, or it overtook REPLY"),
    (S.REQUESTED, F.RESUMED): Transition(S.REQUESTED, A.FORGET_EARLY_STOP, "no checkpoint"),
    (S.REQUESTED, F.LATE_STOPPED): Transition(S.REQUESTED, A.NOTE_LATE_STOP),
    (S.REQUESTED, F.LATE_RESUMED): Transition(S.REQUESTED, A.NOTE_LATE_RESUME),
    (S.REQUESTED, F.RESUME_MISSED): Transition(S.REQUESTED, A.END_LAST, "its pause stays unknown"),
    (S.REQUESTED, F.LOADED): Transition(S.REQUESTED, A.SUSPECT, "out of step: this LOADED must release nothing"),
    (S.REQUESTED, F.ASK_FAILED): Transition(S.REQUESTED, A.NOTHING, "late: that checkpoint has ended"),
    (S.REQUESTED, F.COLO_ENDED): Transition(S.DISARMED, A.DISSOLVE, "the secondary's QEMU or the stream failed"),
    (S.REQUESTED, F.LOST): Transition(S.DISARMED, A.DISARM),
    # ── asked ───────────────────────────────────────────────────────────────────────────────────────────────────
    (S.ADMITTED, F.REQUESTED): Transition(S.ADMITTED, A.JOIN),
    (S.ADMITTED, F.SECONDARY_STOPPED): Transition(S.SECONDARY_STOPPED, A.NOTHING),
    (S.ADMITTED, F.PRIMARY_STOPPED): Transition(S.ADMITTED, A.NOTE_EARLY_STOP, "it overtook REPLY"),
    (S.ADMITTED, F.RESUMED): Transition(S.ADMITTED, A.FORGET_EARLY_STOP, "no checkpoint: the secondary stops first"),
    (S.ADMITTED, F.LOADED): Transition(S.ADMITTED, A.SUSPECT, "out of step: the secondary never stopped"),
    (S.ADMITTED, F.TIMED_OUT): Transition(S.ADMITTED, A.SUSPECT, "the hypervisor has not begun"),
    (S.ADMITTED, F.ASK_FAILED): Transition(S.IDLE, A.ABANDON, "QMP refused or did not answer: the pair stays"),
    (S.ADMITTED, F.REFUSED_TOO_LONG): Transition(S.IDLE, A.ABANDON_AND_SUSPECT, "a request must not wait for ever"),
    (S.ADMITTED, F.COLO_ENDED): Transition(S.DISARMED, A.ABANDON_AND_DISSOLVE, "the stream broke"),
    (S.ADMITTED, F.LOST): Transition(S.DISARMED, A.ABANDON_AND_DISARM),
    # ── the secondary stands ────────────────────────────────────────────────────────────────────────────────────
    (S.SECONDARY_STOPPED, F.REQUESTED): Transition(S.SECONDARY_STOPPED, A.JOIN),
    (S.SECONDARY_STOPPED, F.PRIMARY_STOPPED): Transition(S.PRIMARY_STOPPED, A.NOTE_STOP),
    (S.SECONDARY_STOPPED, F.LATE_STOPPED): Transition(S.SECONDARY_STOPPED, A.NOTE_LATE_STOP),
    (S.SECONDARY_STOPPED, F.LATE_RESUMED): Transition(S.SECONDARY_STOPPED, A.NOTE_LATE_RESUME),
    (S.SECONDARY_STOPPED, F.RESUME_MISSED): Transition(S.SECONDARY_STOPPED, A.END_LAST, "its pause stays unknown"),
    (S.SECONDARY_STOPPED, F.LOADED): Transition(S.LOADED, A.COMMIT, "STOP is late or was not seen"),
    (S.SECONDARY_STOPPED, F.TIMED_OUT): Transition(S.SECONDARY_STOPPED, A.SUSPECT, "the state has not arrived"),
    (S.SECONDARY_STOPPED, F.ASK_FAILED): Transition(S.SECONDARY_STOPPED, A.NOTHING, "it has begun all the same"),
    (S.SECONDARY_STOPPED, F.COLO_ENDED): Transition(
        S.DISARMED, A.ABANDON_AND_DISSOLVE, "QEMU can abandon a checkpoint only by leaving COLO"
    ),
    (S.SECONDARY_STOPPED, F.LOST): Transition(S.DISARMED, A.ABANDON_AND_DISARM),
    # ── both stand ──────────────────────────────────────────────────────────────────────────────────────────────
    (S.PRIMARY_STOPPED, F.REQUESTED): Transition(S.PRIMARY_STOPPED, A.JOIN, "the guest has not run since"),
    (S.PRIMARY_STOPPED, F.LOADED): Transition(S.LOADED, A.COMMIT),
    (S.PRIMARY_STOPPED, F.RESUMED): Transition(S.PRIMARY_STOPPED, A.NOTE_RESUME, "it overtook LOADED, or an abort"),
    (S.PRIMARY_STOPPED, F.TIMED_OUT): Transition(S.PRIMARY_STOPPED, A.SUSPECT, "the secondary has not loaded"),
    (S.PRIMARY_STOPPED, F.ASK_FAILED): Transition(S.PRIMARY_STOPPED, A.NOTHING, "it has begun all the same"),
    (S.PRIMARY_STOPPED, F.COLO_ENDED): Transition(S.DISARMED, A.ABANDON_AND_DISSOLVE, "the same"),
    (S.PRIMARY_STOPPED, F.LOST): Transition(S.DISARMED, A.ABANDON_AND_DISARM),
    # ── the secondary runs the primary's state ──────────────────────────────────────────────────────────────────
    (S.LOADED, F.REQUESTED): Transition(S.LOADED, A.JOIN, "the commit settles every difference found before it"),
    (S.LOADED, F.PRIMARY_STOPPED): Transition(S.LOADED, A.NOTE_STOP, "late"),
    (S.LOADED, F.RESUMED): Transition(S.LOADED, A.NOTE_RESUME, "it overtook the report of the commit"),
    (S.LOADED, F.LATE_STOPPED): Transition(S.LOADED, A.NOTE_LATE_STOP),
    (S.LOADED, F.LATE_RESUMED): Transition(S.LOADED, A.NOTE_LATE_RESUME),
    (S.LOADED, F.RESUME_MISSED): Transition(S.LOADED, A.END_LAST, "its pause stays unknown"),
    (S.LOADED, F.COMMITTED): Transition(S.IDLE, A.COUNT_EPOCH),
    (S.LOADED, F.TIMED_OUT): Transition(S.LOADED, A.SUSPECT, "this node's data path has not committed"),
    (S.LOADED, F.ASK_FAILED): Transition(S.LOADED, A.NOTHING, "it has begun all the same"),
    (S.LOADED, F.COLO_ENDED): Transition(S.DISARMED, A.ABANDON_AND_DISSOLVE, "the node could not commit, or the same"),
    (S.LOADED, F.LOST): Transition(S.DISARMED, A.ABANDON_AND_DISARM),
}
