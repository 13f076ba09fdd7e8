"""Who survives: what follows from what, as data. States x facts -> next state, commands, and the reason.

Rule 1: whatever decides between two states is in `ROWS`. What `failover.pair` adds is *which* fact has happened: one of
a link that is gone, or the answer to an earlier question, is none; a term above this node's is `higher term`.
Rule 2: every fact has its row in every state. Where a row names none, `OTHERWISE` says why nothing follows.

The picture and the table in docs/pair.md are made from this by `python docs/made.py`; the laws of two such tables
are tested in tests/simulation/test_pair_table.py.
"""

from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

from pycolo.failover.handoverrows import HANDOVER_ROWS
from pycolo.failover.pairstates import Command, Effect, Fact, Row, State, Timer
from pycolo.failover.primaryrows import GUARD_ROWS, SUSPECT_ROWS, UNPROTECTED_ROWS
from pycolo.failover.secondaryrows import SECONDARY_ROWS

F = Fact


class Transition(NamedTuple):
    """The next state, what is done on the way, and why. A change of state ends the old state's deadline."""

    next: State
    does: tuple[Command, ...]
    says: str
    timer: Timer | None = None
    effect: Effect = Effect.NONE


ROWS: Final = UNPROTECTED_ROWS + GUARD_ROWS + SUSPECT_ROWS + SECONDARY_ROWS + HANDOVER_ROWS

OTHERWISE: Final[Mapping[Fact, str]] = {
    F.LINKED: "this node keeps what it is about",
    F.LINKED_IN_STEP: "told to a primary only",
    F.LINK_LOST: "not needed here",
    F.SILENT: "an ended connection, or the arbiter, decides here",
    F.HEARD: "it was not in doubt, or it is too late",
    F.HEARD_BROKEN: "it was not in doubt, or it is too late",
    F.DATA_LOST: "the heart decides",
    F.COLO_BROKEN: "the pair's end has begun already, or there is none",
    F.HIGHER_TERM: "taken over as this node's own: it has nothing that is older",
    F.PEER_LEFT: "nothing of this node hangs on it",
    F.PEER_RESIGNED: "nothing of this node hangs on it",
    F.HANDED_OVER: "only a replica in step can serve",
    F.PEER_GUEST_GONE: "nothing of this node hangs on it",
    F.PEER_ALIVE: "not in doubt here",
    F.PEER_EMPTY: "not in doubt here",
    F.PREPARE_ASKED: "only a linked secondary prepares",
    F.PEER_PROTECTED: "only a secondary that was prepared is in step",
    F.DISCARD_ASKED: "a primary promises nothing",
    F.RESIGN_ASKED: "the other node could not serve",
    F.PROMISED: "not asked for here",
    F.PROMISE_REFUSED: "not asked for here",
    F.PROTECT_WISHED: "remembered",
    F.UNPROTECT_WISHED: "remembered",
    F.SWITCHOVER_WISHED: "only a protected pair can change places",
    F.STOPPING: "no other node waits for this one's word",
    F.OPERATOR_CONFIRMED: "decided already",
    F.COLD_START: "only a node without a guest begins anew",
    F.GUEST_GONE: "no other guest can serve, or this one is to end",
    F.GUEST_OFF: "its end follows, and decides",
    F.GUEST_HANGS: "no other guest can serve, or this one is to end",
    F.SYNCHRONISED: "of a plan that was given up",
    F.PROTECT_FAILED: "of a plan that was given up",
    F.PROTECT_LACKS: "of a plan that was given up",
    F.AVAILABLE: "noted: only a linked primary waits for it",
    F.PREPARE_FAILED: "of a plan that was given up",
    F.RECORDED: "of a record that nothing waits for",
    F.RECORD_FAILED: "of a record that nothing waits for",
    F.SERVED: "of a takeover that is over",
    F.SERVE_FAILED: "of a takeover that is over",
    F.RETIRED: "retired already",
    F.RETIRE_FAILED: "retired already",
    F.GRANTED: "not asked for any more",
    F.REFUSED: "this node serves nothing",
    F.ARBITER_ACTS: "its end decides nothing here",
    F.ARBITER_FAILED: "nothing hung on it",
    F.TERM_OPENED: "only a node that protects opens one",
    F.LEASE_HELD: "the data path looks by itself",
    F.LEASE_ENDED: "nothing leaves here anyway, or no lease is needed",
    F.UNHEALTHY: "only a protected pair has a health",
    F.WELL: "only a protected pair has a health",
    F.DEADLINE: "not set here",
}
"""Why a fact changes nothing in the states that no row names."""


def table(rows: Iterable[Row] = ROWS) -> dict[tuple[State, Fact], Transition]:
    """Every state with every fact. Raises `ValueError` for two rows of one state and fact."""
    found: dict[tuple[State, Fact], Transition] = {}
    for row in rows:
        for state in row.states:
            for fact in row.facts:
                if (state, fact) in found:
                    raise ValueError(f"two rows for {state} / {fact}")
                found[state, fact] = Transition(row.next or state, row.does, row.says, row.timer, row.effect)
    for state in State:
        for fact in Fact:
            found.setdefault((state, fact), Transition(state, (), OTHERWISE[fact]))
    return found


TABLE: Final[Mapping[tuple[State, Fact], Transition]] = table()
