"""The pair table's rows of a node that serves, or did last: the primary's, and the way out of that role.

Where an operator's word, an arbiter or a promise is needed, and where a word of the other node is enough.
"""

from typing import Final

from pycolo.failover.pairstates import IN_STEP, ON_GUARD, UNPROTECTED, Command, Effect, Fact, State, Timer, row

S = State
F = Fact
C = Command
T = Timer

_ASK = (C.HOLD, C.ASK_PATHS, C.ASK_ARBITER)
_ALONE = (C.HOLD, C.WITHDRAW, C.UNLINK, C.RECORD)
_RESIGN = (C.HALT, C.WITHDRAW, C.RESIGN_LEASE, C.SAY_RESIGNED, C.UNLINK, C.RETIRE)
_RETIRE = (C.HALT, C.WITHDRAW, C.RESIGN_LEASE, C.UNLINK, C.RETIRE)
_FORM_ANEW = (C.CANCEL_PROTECT, C.UNLINK)
_ENDS_AN_ATTEMPT = (
    *(F.LINK_LOST, F.PEER_LEFT, F.PEER_RESIGNED, F.PEER_GUEST_GONE, F.DATA_LOST, F.COLO_BROKEN, F.GUEST_GONE),
    *(F.UNPROTECT_WISHED, F.STOPPING, F.LINKED, F.LINKED_IN_STEP),
)
"""Before the secondary was told that it is in step."""
_BONDED = (*ON_GUARD, S.DISSOLVING)
_DOUBTING = (S.PRIMARY_SUSPECT, S.PRIMARY_ACTING)
_PRIMARIES = (*UNPROTECTED, S.PRIMARY_LINKED, S.PROTECTING, S.COMMITTING, *_BONDED, *_DOUBTING)

UNPROTECTED_ROWS: Final = (
    row(UNPROTECTED, F.LINKED, S.PRIMARY_LINKED, (), "protection begins by itself, if it is wished", T.BACK_OFF),
    row(
        (*UNPROTECTED, S.PRIMARY_LINKED),
        F.LINKED_IN_STEP,
        S.DISSOLVING,
        (C.ASK_DISCARD,),
        "an old replica: it must not serve",
        T.RETRY,
    ),
    row(S.PRIMARY_LINKED, F.LINKED, None, (), "a new connection replaces the old one", T.BACK_OFF),
    row(S.PRIMARY_LINKED, F.DEADLINE, S.PROTECTING, (C.PROTECT,), "protection is wished, and the back-off is over"),
    row(
        S.PRIMARY_LINKED,
        F.PROTECT_WISHED,
        S.PROTECTING,
        (C.PROTECT,),
        "an operator waits for no back-off",
        effect=Effect.FORGIVEN,
    ),
    row(S.PRIMARY_LINKED, F.AVAILABLE, None, (), "what the last attempt lacked is there", T.BACK_OFF),
    row(S.PRIMARY_LINKED, F.UNPROTECT_WISHED, None, (), "no further attempt", T.NONE),
    row(
        S.PRIMARY_LINKED,
        (F.LINK_LOST, F.PEER_LEFT, F.PEER_RESIGNED),
        S.PRIMARY_WAITING,
        (C.UNLINK,),
        "the guest serves on as before",
    ),
    row(
        S.PROTECTING,
        F.SYNCHRONISED,
        S.COMMITTING,
        (C.RECORD,),
        "a restarted node must know that there may be two, before there are",
    ),
    row(S.PROTECTING, F.TERM_OPENED, S.GOING_ALONE, (*_FORM_ANEW, C.RECORD), "both nodes must know the new term"),
    row(
        S.PROTECTING,
        (F.PROTECT_FAILED, *_ENDS_AN_ATTEMPT),
        S.PRIMARY_WAITING,
        _FORM_ANEW,
        "the secondary was never told that it is in step; one link serves one attempt",
        effect=Effect.FAILED,
    ),
    row(
        S.PROTECTING,
        F.PROTECT_LACKS,
        S.PRIMARY_WAITING,
        _FORM_ANEW,
        "nothing has failed: the next attempt begins when that is there",
        effect=Effect.LACKING,
    ),
    row(S.PROTECTING, F.GUEST_OFF, S.PRIMARY_WAITING, _FORM_ANEW, "a guest that ends itself is no failure"),
    row(S.COMMITTING, F.RECORDED, S.PRIMARY_PROTECTED, (C.SAY_PROTECTED,), "from here on there may be two", T.STEADY),
    row(
        S.COMMITTING,
        (F.RECORD_FAILED, *_ENDS_AN_ATTEMPT),
        S.GOING_ALONE,
        (*_FORM_ANEW, C.RECORD),
        "the secondary was never told; the record must not say `protected`",
    ),
)

GUARD_ROWS: Final = (
    row(
        ON_GUARD,
        F.SILENT,
        S.PRIMARY_SUSPECT,
        _ASK,
        "silence is a suspicion, never a permission; the primary asks at once",
    ),
    row(
        ON_GUARD,
        F.LINK_LOST,
        S.PRIMARY_SUSPECT,
        (C.UNLINK, *_ASK),
        "an ended process and a cut cable look the same from here",
    ),
    row(
        (S.PRIMARY_PROTECTED, S.DEGRADED),
        (F.DATA_LOST, F.COLO_BROKEN),
        S.PRIMARY_BROKEN,
        (),
        "with the other node's death this is the first that is seen",
        T.TIMEOUT,
    ),
    row(
        S.PRIMARY_BROKEN,
        F.DEADLINE,
        S.DISSOLVING,
        (C.ASK_DISCARD,),
        "its heart still beats: no arbiter is needed, its promise is",
        T.RETRY,
    ),
    row(S.PRIMARY_PROTECTED, F.UNHEALTHY, S.DEGRADED, (), "too much leaves uncompared"),
    row(S.DEGRADED, F.WELL, S.PRIMARY_PROTECTED, (), "what leaves is compared again", T.STEADY),
    row(
        S.PRIMARY_PROTECTED,
        F.DEADLINE,
        None,
        (),
        "it has lasted: the next failure is the first",
        T.NONE,
        Effect.FORGIVEN,
    ),
    row(
        ON_GUARD,
        (F.UNPROTECT_WISHED, F.STOPPING, F.OPERATOR_CONFIRMED, F.LINKED_IN_STEP),
        S.DISSOLVING,
        (C.HOLD, C.ASK_DISCARD),
        "the secondary is heard and may serve: its promise comes first",
        T.RETRY,
    ),
    row(
        ON_GUARD,
        F.GUEST_OFF,
        S.DISSOLVING,
        (C.HOLD, C.ASK_DISCARD),
        "a guest that was switched off is not to go on elsewhere, and is no failure",
        T.RETRY,
        Effect.FORGIVEN,
    ),
    row(
        ON_GUARD,
        (F.GUEST_GONE, F.GUEST_HANGS),
        S.RETIRING,
        _RESIGN,
        "its guest does not go on, and the secondary can serve",
    ),
    row(ON_GUARD, F.RESIGN_ASKED, S.RETIRING, _RESIGN, "the operator wants the other node to serve"),
    # ── asking for the promise ──────────────────────────────────────────────────────────────────────────────
    row(S.DISSOLVING, (F.PROMISE_REFUSED, F.HEARD), None, (), "asked again"),
    row(
        S.DISSOLVING,
        (F.DEADLINE, F.LINKED_IN_STEP),
        None,
        (C.ASK_DISCARD,),
        "what is left of the pair is worth nothing",
        T.RETRY,
    ),
    row(S.DISSOLVING, F.SILENT, S.PRIMARY_SUSPECT, _ASK, "no promise, and no word"),
    row(S.DISSOLVING, F.LINK_LOST, S.PRIMARY_SUSPECT, (C.UNLINK, *_ASK), "no promise, and no word"),
    row(S.DISSOLVING, F.OPERATOR_CONFIRMED, None, (C.TELL_OPERATOR,), "its heart beats, but it answers nothing"),
    row(
        S.DISSOLVING,
        F.GUEST_GONE,
        S.PRIMARY_EMPTY,
        (C.HALT, C.RESIGN_LEASE),
        "whether the secondary has kept its guest is open",
    ),
)

SUSPECT_ROWS: Final = (
    row(
        S.PRIMARY_SUSPECT,
        F.HEARD,
        S.PRIMARY_PROTECTED,
        (C.WITHDRAW,),
        "refuted before anything irrevocable has begun",
        T.STEADY,
    ),
    row(
        S.PRIMARY_SUSPECT,
        (F.HEARD_BROKEN, F.LINKED_IN_STEP),
        S.DISSOLVING,
        (C.WITHDRAW, C.ASK_DISCARD),
        "it lives; what is left of the pair is worth nothing",
        T.RETRY,
    ),
    row(S.PRIMARY_SUSPECT, F.LINK_LOST, None, (C.UNLINK,), "suspected already"),
    row(S.PRIMARY_SUSPECT, F.ARBITER_ACTS, S.PRIMARY_ACTING, (), "from here on its end decides"),
    row(_BONDED, F.ARBITER_ACTS, S.PRIMARY_ACTING, (C.HOLD,), "it had begun when the question was withdrawn"),
    row(S.PRIMARY_ACTING, F.ARBITER_FAILED, S.PRIMARY_SUSPECT, (), "the other node may still serve"),
    row(S.PRIMARY_ACTING, F.LINK_LOST, None, (C.UNLINK,), "suspected already"),
    row(S.PRIMARY_ACTING, F.LINKED_IN_STEP, None, (C.UNLINK,), "it is being fenced: what it says means nothing"),
    row(_DOUBTING, F.OPERATOR_CONFIRMED, None, (C.TELL_OPERATOR,), "the arbiter weighs it"),
    row(S.PRIMARY_SUSPECT, F.PEER_ALIVE, None, (C.ASK_DISCARD,), "its promise spares it a shot", T.RETRY),
    row(S.PRIMARY_SUSPECT, F.DEADLINE, None, (C.ASK_PATHS,), "the promise did not come"),
    row(
        _DOUBTING,
        (F.GUEST_GONE, F.GUEST_HANGS),
        S.PRIMARY_EMPTY,
        (C.HALT, C.WITHDRAW, C.RESIGN_LEASE, C.ASK_PATHS),
        "a node without a guest fences no other",
    ),
    row(
        (*_BONDED, *_DOUBTING),
        F.GRANTED,
        S.GOING_ALONE,
        _ALONE,
        "the other node does not serve, and cannot come to",
    ),
    row(
        (*_BONDED, *_DOUBTING),
        (F.PROMISED, F.PEER_LEFT, F.PEER_GUEST_GONE, F.PEER_EMPTY, F.LINKED),
        S.GOING_ALONE,
        _ALONE,
        "no guest but this one can serve: no decision is needed",
    ),
    # ── permitted ───────────────────────────────────────────────────────────────────────────────────────────
    row(
        S.GOING_ALONE,
        F.RECORDED,
        S.ALONE,
        (C.RELEASE,),
        "the term is on disk before anything is served under it",
        effect=Effect.FAILED,
    ),
    row(
        S.GOING_ALONE,
        (F.GUEST_GONE, F.GUEST_HANGS),
        S.PRIMARY_EMPTY,
        (C.HALT, C.RESIGN_LEASE, C.ASK_PATHS),
        "nothing was served under the new term: the other guest may be in step",
    ),
    row((S.GOING_ALONE, S.TAKING_OVER, S.STARTING), F.RECORD_FAILED, None, (), "there is no way back", T.RETRY),
    row((S.GOING_ALONE, S.TAKING_OVER, S.STARTING), F.DEADLINE, None, (C.RECORD,), "there is no way back"),
    row(
        (S.GOING_ALONE, S.SECONDARY_ACTING, S.TAKING_OVER, S.SWITCHING, S.STARTING, S.RETIRING),
        (F.LINKED, F.LINKED_IN_STEP),
        None,
        (C.UNLINK,),
        "busy with a failover: the other node tries again",
    ),
    # ── after a restart, or without a guest ─────────────────────────────────────────────────────────────────
    row(S.RESTARTED, F.DEADLINE, S.PRIMARY_SUSPECT, _ASK, "it is this node that was away; now the other one is"),
    row(S.RESTARTED, F.PEER_ALIVE, None, (C.ASK_PATHS,), "it lives: no suspicion", T.RESTART),
    row(
        S.RESTARTED,
        F.LINKED_IN_STEP,
        S.DISSOLVING,
        (C.ASK_DISCARD,),
        "COLO ended with this node's last life",
        T.RETRY,
    ),
    row(
        S.RESTARTED,
        (F.LINKED, F.PEER_EMPTY, F.PROMISED, F.GRANTED),
        S.GOING_ALONE,
        _ALONE,
        "no guest but this one can serve",
    ),
    row(
        S.RESTARTED,
        F.OPERATOR_CONFIRMED,
        S.PRIMARY_SUSPECT,
        (*_ASK, C.TELL_OPERATOR),
        "an operator waits for no link",
    ),
    row(S.RESTARTED, (F.GUEST_GONE, F.GUEST_HANGS), S.PRIMARY_EMPTY, (C.HALT,), "nothing here can serve"),
    row(
        S.PRIMARY_EMPTY,
        (F.HEARD, F.HEARD_BROKEN, F.LINKED_IN_STEP, F.PEER_ALIVE, F.PROMISE_REFUSED, F.RESIGN_ASKED),
        S.RETIRING,
        _RESIGN,
        "the other guest is in step: it can serve",
    ),
    row(
        S.PRIMARY_EMPTY,
        (F.LINKED, F.PROMISED, F.PEER_LEFT, F.PEER_GUEST_GONE, F.PEER_EMPTY, F.GRANTED),
        S.GOING_ALONE,
        _ALONE,
        "there is no other guest either: this node waits for one of its own",
    ),
    row(S.PRIMARY_EMPTY, F.LINK_LOST, None, (C.UNLINK, C.ASK_PATHS), "the other guest may be in step"),
    row(
        S.PRIMARY_EMPTY,
        F.OPERATOR_CONFIRMED,
        None,
        (C.REFUSE_OPERATOR,),
        "there is no guest here to serve; the other one may come back in step",
    ),
    row(S.PRIMARY_EMPTY, F.COLD_START, S.GOING_ALONE, _ALONE, "begin anew here"),
    # ── the end ─────────────────────────────────────────────────────────────────────────────────────────────
    row(
        (*_PRIMARIES, S.HANDING_OVER, S.GOING_ALONE, S.RESTARTED, S.PRIMARY_EMPTY, S.SWITCHING),
        (F.HIGHER_TERM, F.REFUSED),
        S.RETIRING,
        _RETIRE,
        "this node's state is older than what was served",
    ),
    row(
        (*IN_STEP, S.TAKING_OVER),
        (F.HIGHER_TERM, F.REFUSED),
        S.RETIRING,
        _RETIRE,
        "the primary has served without this replica",
    ),
    row(S.RETIRING, F.RETIRED, S.SECONDARY_WAITING, (C.BECOME_SECONDARY,), "a secondary from now on"),
    row(S.RETIRING, F.RETIRE_FAILED, None, (), "it must be off the network", T.RETRY),
    row(S.RETIRING, F.DEADLINE, None, (C.RETIRE,), "it must be off the network"),
    row((*UNPROTECTED, *_BONDED), F.LEASE_ENDED, None, (C.HOLD,), "nothing leaves without the lease"),
    row(UNPROTECTED, F.LEASE_HELD, None, (C.RELEASE,), "the lease is this node's again, under the same term"),
)
