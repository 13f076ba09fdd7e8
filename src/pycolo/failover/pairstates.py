"""The words of the pair table: states, facts, commands, timers. What follows from what is in `failover.pairtable`.

The role is part of the state: it is that of the moment, never that of the process's start.
"""

from collections.abc import Iterable, Mapping
from enum import Enum, StrEnum
from typing import Final, NamedTuple


class Role(StrEnum):
    """The primary's guest serves, or did last. The secondary's follows it."""

    PRIMARY = "primary"
    SECONDARY = "secondary"


class State(StrEnum):
    """Where this node stands. *In step*: the secondary's guest may go on for the primary's."""

    PRIMARY_WAITING = "primary waiting"
    """Serves unprotected, not linked."""
    ALONE = "alone"
    """As `primary waiting`; its secondary was lost, and will not serve."""
    SERVING = "serving"
    """As `primary waiting`; it was the secondary before."""
    PRIMARY_LINKED = "primary linked"
    """Serves unprotected; the nodes talk."""
    PROTECTING = "protecting"
    """The first copy of the guest is being made."""
    COMMITTING = "committing"
    """The copy is there. The record says so on disk before the secondary is told."""
    PRIMARY_PROTECTED = "primary protected"
    """The secondary may be in step. What leaves needs the secondary's confirmed heartbeat."""
    DEGRADED = "degraded"
    """As `primary protected`, but health says that it is not worth the name."""
    PRIMARY_BROKEN = "primary broken"
    """COLO or the data connection has failed; one heartbeat time-out shows whether the other node is dead."""
    DISSOLVING = "dissolving"
    """Both nodes live and the pair is of no use: the secondary is asked for its promise not to serve."""
    PRIMARY_SUSPECT = "primary suspect"
    """The secondary is silent. Nothing leaves; the arbiter is asked."""
    PRIMARY_ACTING = "primary acting"
    """As `primary suspect`; what the arbiter has begun cannot be called back."""
    HANDING_OVER = "handing over"
    """The secondary has this node's word that it may serve. Nothing leaves until it serves, or has promised not to."""
    GOING_ALONE = "going alone"
    """Permitted; nothing leaves before the record is on disk."""
    RESTARTED = "restarted"
    """The node was away while the pair was protected: nothing leaves before the other one is heard."""
    PRIMARY_EMPTY = "primary without a guest"
    """Its guest is dead and the secondary's may be in step: it never asks the arbiter, and resigns when it can."""

    SECONDARY_WAITING = "secondary waiting"
    """Not linked; no guest that could serve."""
    SECONDARY_LINKED = "secondary linked"
    """The nodes talk; no guest that could serve."""
    PREPARING = "preparing"
    """Its guest waits for the first copy."""
    SECONDARY_PROTECTED = "secondary protected"
    """In step."""
    SECONDARY_BROKEN = "secondary broken"
    """In step, and linked, but the pair is of no use: the primary says what becomes of it."""
    YIELDING = "yielding"
    """In step; the primary is silent. It has the first shot: this node waits, and asks over every path left."""
    ASKING = "asking"
    """In step; the arbiter is asked."""
    CONFIRMED = "confirmed"
    """In step; the operator's word is passed on once the primary certainly trusts no heartbeat of this node's."""
    RELIEVING = "relieving"
    """In step; the primary has handed over, and the arbiter is asked."""
    SECONDARY_ACTING = "secondary acting"
    """In step; what the arbiter has begun cannot be called back."""
    TAKING_OVER = "taking over"
    """Permitted; nothing leaves before the record is on disk."""
    SWITCHING = "switching"
    """On record as the primary; the routes and the `serve` hook are not done yet."""
    STARTING = "starting cold"
    """Neither node has a guest, and this one is to begin anew; the record comes first."""

    RETIRING = "retiring"
    """The other node serves, or may: this one ends its guest and leaves the network."""


UNPROTECTED: Final = (State.PRIMARY_WAITING, State.ALONE, State.SERVING)
"""No link, and no other node that could serve."""

ON_GUARD: Final = (State.PRIMARY_PROTECTED, State.DEGRADED, State.PRIMARY_BROKEN)
"""The secondary may be in step, and is heard."""

IN_STEP: Final = (
    State.SECONDARY_PROTECTED,
    State.SECONDARY_BROKEN,
    State.YIELDING,
    State.ASKING,
    State.CONFIRMED,
    State.RELIEVING,
    State.SECONDARY_ACTING,
)
"""The secondary that may be permitted to serve."""

SECONDARY: Final = frozenset(
    {
        State.SECONDARY_WAITING,
        State.SECONDARY_LINKED,
        State.PREPARING,
        *IN_STEP,
        State.TAKING_OVER,
        State.STARTING,
        State.RETIRING,
    }
)
"""The role of the moment."""


class Release(Enum):
    """What may leave for the clients."""

    NOTHING = "nothing"
    TRUSTED = "while the other node confirms heartbeats"
    FREELY = "freely"


FREE: Final = frozenset({*UNPROTECTED, State.PRIMARY_LINKED, State.PROTECTING, State.COMMITTING, State.SWITCHING})
TRUSTING: Final = frozenset({*ON_GUARD, State.DISSOLVING})

SHOWN: Final[Mapping[State, str]] = {
    State.PRIMARY_WAITING: "waiting",
    State.ALONE: "alone",
    State.SERVING: "serving",
    State.PRIMARY_LINKED: "linked",
    State.PROTECTING: "protecting",
    State.COMMITTING: "protecting",
    State.PRIMARY_PROTECTED: "protected",
    State.DEGRADED: "degraded",
    State.PRIMARY_BROKEN: "protected",
    State.DISSOLVING: "protecting",
    State.PRIMARY_SUSPECT: "suspect",
    State.PRIMARY_ACTING: "suspect",
    State.HANDING_OVER: "handing-over",
    State.GOING_ALONE: "suspect",
    State.RESTARTED: "suspect",
    State.PRIMARY_EMPTY: "suspect",
    State.SECONDARY_WAITING: "waiting",
    State.SECONDARY_LINKED: "linked",
    State.PREPARING: "protecting",
    State.SECONDARY_PROTECTED: "protected",
    State.SECONDARY_BROKEN: "suspect",
    State.YIELDING: "suspect",
    State.ASKING: "suspect",
    State.CONFIRMED: "suspect",
    State.RELIEVING: "taking-over",
    State.SECONDARY_ACTING: "suspect",
    State.TAKING_OVER: "taking-over",
    State.SWITCHING: "taking-over",
    State.STARTING: "waiting",
    State.RETIRING: "fenced",
}
"""What `colo status` calls a state."""


class Fact(StrEnum):
    """What has happened. A fact of the link carries the link's number, an answer the number of its question."""

    LINKED = "linked"
    """Both connections are there. Told to a primary: when the secondary's first word has come over them, which says
    that its guest is not in step. If `Pair.link` is not this link's number then, the node closes it."""
    LINKED_IN_STEP = "linked with a secondary in step"
    LINK_LOST = "link lost"
    """The control connection ended without a goodbye."""
    SILENT = "silent"
    """For one heartbeat time-out nothing was heard, or nothing that was sent was confirmed."""
    HEARD = "heard again"
    HEARD_BROKEN = "heard again, the pair broken"
    DATA_LOST = "data connection lost"
    COLO_BROKEN = "COLO broken"
    """QEMU has left COLO, the migration stream has ended, or the secondary says so."""
    HIGHER_TERM = "higher term"
    """The other node shows a term above this node's: it has served, or may."""
    PEER_LEFT = "goodbye"
    """The other node ends in order, or gives the pair up: it will not serve."""
    PEER_RESIGNED = "resigned"
    """The primary serves no longer, and says so."""
    HANDED_OVER = "handed over"
    """The primary serves no longer, and keeps its guest until this node serves or has promised not to."""
    PEER_GUEST_GONE = "other guest gone"
    PEER_ALIVE = "alive over another path"
    """Its node answers, with its certificate; told to a primary: and its guest is in step."""
    PEER_EMPTY = "empty over another path"
    """Its node answers, with its certificate: it is a secondary without a guest in step, and does not serve."""
    PREPARE_ASKED = "asked to prepare"
    PEER_PROTECTED = "told that it is in step"
    DISCARD_ASKED = "asked for its promise"
    RESIGN_ASKED = "asked to resign"
    PROMISED = "promised"
    """The secondary has promised not to serve, and throws its guest away."""
    PROMISE_REFUSED = "promise refused"

    PROTECT_WISHED = "protect"
    UNPROTECT_WISHED = "unprotect"
    SWITCHOVER_WISHED = "switchover"
    """`colo switchover`: the other node is to serve, and this one is to be its secondary."""
    STOPPING = "stopping"
    """This node is about to end in order."""
    OPERATOR_CONFIRMED = "operator's word"
    """`colo failover`: the other node is down."""
    COLD_START = "cold start"
    """An operator or a cluster manager has made sure that no other guest of the pair runs or is to be kept."""

    GUEST_GONE = "guest gone"
    GUEST_OFF = "guest switched off"
    """The guest has switched itself off: its QEMU ends next, and no other guest is to serve in its place."""
    GUEST_HANGS = "guest hangs"
    """Its QEMU does not answer its monitor while a checkpoint is overdue."""
    SYNCHRONISED = "synchronised"
    PROTECT_FAILED = "protecting failed"
    PROTECT_LACKS = "protecting lacks something"
    """What there is to protect, or libvirt, is not there: nothing was tried that could fail."""
    AVAILABLE = "available"
    """What the last attempt lacked is there now."""
    PREPARE_FAILED = "preparing failed"
    RECORDED = "recorded"
    RECORD_FAILED = "record failed"
    SERVED = "served"
    SERVE_FAILED = "serve failed"
    RETIRED = "retired"
    RETIRE_FAILED = "retire failed"

    GRANTED = "granted"
    REFUSED = "refused"
    """For good: this node's state is older than what has served."""
    ARBITER_ACTS = "arbiter acts"
    """A fencing command runs, a claim is on its way: what it will do cannot be called back."""
    ARBITER_FAILED = "arbiter failed"
    """That has had no effect, for certain; the arbiter tries again while it is asked."""
    TERM_OPENED = "term opened"
    """The arbiter permits to protect, under a new term."""
    LEASE_HELD = "lease held"
    LEASE_ENDED = "lease ended"

    UNHEALTHY = "unhealthy"
    WELL = "well"
    DEADLINE = "deadline"


class Command(StrEnum):
    """What the node does on a transition, in the order of the row."""

    HALT = "halt the data path"
    HOLD = "hold what would leave"
    RELEASE = "release what is held; serve, compare no more"
    RECORD = "write the record"
    UNLINK = "close the link"
    SAY_RESIGNED = "say that it resigns"
    SAY_HANDED_OVER = "say that the other node may serve"
    SAY_GONE = "say that its guest is gone"
    SAY_BROKEN = "say that the pair is broken"
    SAY_PROTECTED = "tell the secondary that it is in step"
    ASK_PATHS = "ask over every path left"
    ASK_ARBITER = "ask the arbiter"
    ASK_HARMLESS = "ask the arbiter, if that harms no host"
    WITHDRAW = "withdraw the question"
    TELL_OPERATOR = "pass the operator's word on to the arbiter"
    TELL_RESIGNED = "tell the arbiter that the primary has resigned"
    RESIGN_LEASE = "give the lease back"
    ASK_DISCARD = "ask for the promise"
    PROMISE = "promise not to serve"
    REFUSE_PROMISE = "refuse the promise"
    ASK_RESIGN = "ask the primary to resign"
    PROTECT = "run the plan `protect`"
    CANCEL_PROTECT = "give that plan up"
    PREPARE = "start the secondary's guest"
    DISCARD_GUEST = "throw the guest away"
    SWITCH = "switch the routes, run `serve`"
    BECOME_PRIMARY = "be the primary"
    RETIRE = "end the guest, run `retire`, record the role"
    BECOME_SECONDARY = "be the secondary"
    REFUSE_OPERATOR = "say that there is nothing to decide"
    KEEP_WISH = "keep the wish on disk"


class Timer(Enum):
    """How long until DEADLINE."""

    NONE = "none"
    YIELD = "the primary's head start, and a heartbeat time-out"
    TIMEOUT = "a heartbeat time-out"
    HAND_OVER = "time for a takeover"
    RETRY = "a pause between two attempts"
    RESTART = "time for a link after a restart"
    BACK_OFF = "the back-off, if protection is wished"
    STEADY = "long enough to forget failures"


class Effect(Enum):
    """What a row adds to the count of failures in a row, which sets the back-off."""

    NONE = "none"
    FAILED = "one more"
    FORGIVEN = "none any more"
    LACKING = "no more; the next attempt waits for what this one lacked"


class Row(NamedTuple):
    """One line of the table: states and facts, the next state (None: it stays), commands in order, the reason."""

    states: tuple[State, ...]
    facts: tuple[Fact, ...]
    next: State | None
    does: tuple[Command, ...]
    says: str
    timer: Timer | None = None
    effect: Effect = Effect.NONE


def row(
    states: State | Iterable[State],
    facts: Fact | Iterable[Fact],
    next_state: State | None,
    does: tuple[Command, ...],
    says: str,
    timer: Timer | None = None,
    effect: Effect = Effect.NONE,
) -> Row:
    """A line of the table, for one state and fact or for many."""
    of = (states,) if isinstance(states, State) else tuple(states)
    on = (facts,) if isinstance(facts, Fact) else tuple(facts)
    return Row(of, on, next_state, does, says, timer, effect)
