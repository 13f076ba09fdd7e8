"""The pair table's rows of a node whose guest follows: from the first link to the takeover."""

from typing import Final

from pycolo.failover.pairstates import UNPROTECTED, Command, Fact, State, Timer, row

S = State
F = Fact
C = Command
T = Timer

_DROP = (C.WITHDRAW, C.UNLINK, C.DISCARD_GUEST)
_IN_DOUBT = (S.YIELDING, S.ASKING, S.CONFIRMED)
_WAITS = (S.SECONDARY_PROTECTED, S.SECONDARY_BROKEN, *_IN_DOUBT)
_RETIRE = (C.HALT, C.WITHDRAW, C.RESIGN_LEASE, C.UNLINK, C.RETIRE)

SECONDARY_ROWS: Final = (
    row(S.SECONDARY_WAITING, F.LINKED, S.SECONDARY_LINKED, (), "the primary may prepare this node"),
    row(S.SECONDARY_WAITING, F.COLD_START, S.STARTING, (C.RECORD,), "begin anew here"),
    row(S.STARTING, F.RECORDED, S.PRIMARY_WAITING, (C.BECOME_PRIMARY, C.RELEASE), "the primary from now on"),
    row(S.SECONDARY_LINKED, F.PREPARE_ASKED, S.PREPARING, (C.PREPARE,), "the first copy comes"),
    row(
        S.SECONDARY_LINKED,
        (F.LINK_LOST, F.PEER_LEFT, F.PEER_RESIGNED),
        S.SECONDARY_WAITING,
        (C.UNLINK,),
        "nothing is lost with it",
    ),
    row(
        (S.SECONDARY_WAITING, S.SECONDARY_LINKED),
        F.DISCARD_ASKED,
        S.SECONDARY_WAITING,
        (C.PROMISE, C.UNLINK),
        "there is nothing that it could serve with",
    ),
    row(
        (S.SECONDARY_WAITING, S.SECONDARY_LINKED, S.PREPARING, S.RETIRING),
        F.GRANTED,
        None,
        (C.RESIGN_LEASE,),
        "too late: it has no guest that may serve",
    ),
    row(S.PREPARING, F.PEER_PROTECTED, S.SECONDARY_PROTECTED, (), "in step"),
    row(S.PREPARING, F.DISCARD_ASKED, S.SECONDARY_WAITING, (C.PROMISE, *_DROP), "not in step yet"),
    row(S.PREPARING, F.GUEST_GONE, S.SECONDARY_WAITING, (C.SAY_GONE, *_DROP), "the primary need not wait"),
    row(
        S.PREPARING,
        (F.PREPARE_FAILED, F.LINK_LOST, F.LINKED, F.PEER_LEFT, F.PEER_RESIGNED, F.DATA_LOST, F.COLO_BROKEN),
        S.SECONDARY_WAITING,
        _DROP,
        "half a copy serves no client",
    ),
    # ── in step ─────────────────────────────────────────────────────────────────────────────────────────────
    row(
        S.SECONDARY_PROTECTED,
        (F.DATA_LOST, F.COLO_BROKEN),
        S.SECONDARY_BROKEN,
        (C.SAY_BROKEN,),
        "both nodes live: the primary says what becomes of the pair",
    ),
    row(
        (S.SECONDARY_PROTECTED, S.SECONDARY_BROKEN),
        F.SILENT,
        S.YIELDING,
        (C.ASK_PATHS,),
        "the primary may live and be fencing this node: it has the head start",
        T.YIELD,
    ),
    row(
        (S.SECONDARY_PROTECTED, S.SECONDARY_BROKEN),
        F.LINK_LOST,
        S.YIELDING,
        (C.UNLINK, C.ASK_PATHS),
        "the primary may live and be fencing this node: it has the head start",
        T.YIELD,
    ),
    row(
        (S.SECONDARY_PROTECTED, S.SECONDARY_BROKEN),
        F.OPERATOR_CONFIRMED,
        None,
        (C.ASK_RESIGN,),
        "the primary is heard, so it is not down: it is asked to hand over",
    ),
    row(_IN_DOUBT, F.HEARD, S.SECONDARY_PROTECTED, (C.WITHDRAW,), "refuted in time"),
    row(_IN_DOUBT, F.HEARD_BROKEN, S.SECONDARY_BROKEN, (C.WITHDRAW,), "refuted in time"),
    row(
        _WAITS,
        F.LINKED,
        S.SECONDARY_BROKEN,
        (C.WITHDRAW,),
        "linked anew, and COLO is broken: the primary says what becomes of the pair",
    ),
    row(
        _IN_DOUBT,
        F.PEER_ALIVE,
        S.YIELDING,
        (C.WITHDRAW, C.ASK_PATHS),
        "the primary lives: it is for the primary to act",
        T.YIELD,
    ),
    row(S.YIELDING, F.DEADLINE, S.ASKING, (C.ASK_ARBITER,), "the head start is over and no path answers"),
    row(
        (S.YIELDING, S.ASKING),
        F.OPERATOR_CONFIRMED,
        S.CONFIRMED,
        (),
        "for one heartbeat time-out the primary may trust what this node has confirmed",
        T.TIMEOUT,
    ),
    row(S.CONFIRMED, F.DEADLINE, S.ASKING, (C.ASK_ARBITER, C.TELL_OPERATOR), "an operator has looked"),
    row(S.SECONDARY_ACTING, F.OPERATOR_CONFIRMED, None, (), "as for `confirmed`", T.TIMEOUT),
    row(S.SECONDARY_ACTING, F.DEADLINE, None, (C.TELL_OPERATOR,), "an operator has looked"),
    row((*_IN_DOUBT, S.SECONDARY_ACTING), F.LINK_LOST, None, (C.UNLINK,), "suspected already"),
    row(
        _WAITS,
        (F.PEER_RESIGNED, F.PEER_EMPTY),
        S.ASKING,
        (C.UNLINK, C.ASK_ARBITER, C.TELL_RESIGNED),
        "the primary's own word: only a lease may still have to be given back",
    ),
    row(S.SECONDARY_ACTING, (F.PEER_RESIGNED, F.PEER_EMPTY), None, (C.UNLINK, C.TELL_RESIGNED), "its own word"),
    row(
        _WAITS,
        F.ARBITER_ACTS,
        S.SECONDARY_ACTING,
        (C.UNLINK,),
        "its end decides; until then no heartbeat is confirmed for the primary to trust",
    ),
    row(S.SECONDARY_ACTING, F.ARBITER_FAILED, S.ASKING, (), "the primary may still serve"),
    row(
        (*_WAITS, S.RELIEVING, S.SECONDARY_ACTING),
        F.GRANTED,
        S.TAKING_OVER,
        (C.UNLINK, C.RECORD),
        "the primary does not serve, and cannot come to",
    ),
    row(_WAITS, F.DISCARD_ASKED, S.SECONDARY_WAITING, (C.PROMISE, *_DROP), "the primary goes on alone"),
    row(
        (S.SECONDARY_ACTING, S.TAKING_OVER, S.SWITCHING),
        F.DISCARD_ASKED,
        None,
        (C.REFUSE_PROMISE,),
        "what has begun cannot be called back",
    ),
    row(
        (S.SECONDARY_PROTECTED, S.SECONDARY_BROKEN),
        (F.GUEST_GONE, F.GUEST_HANGS),
        S.SECONDARY_WAITING,
        (C.SAY_GONE, *_DROP),
        "it cannot take over, and the primary need not wait",
    ),
    row(
        (*_IN_DOUBT, S.SECONDARY_ACTING),
        (F.GUEST_GONE, F.GUEST_HANGS),
        S.SECONDARY_WAITING,
        _DROP,
        "a node without a guest asks for nothing",
    ),
    row(_WAITS, F.PEER_LEFT, S.SECONDARY_WAITING, _DROP, "the primary ends the pair in order"),
    # ── taking over ─────────────────────────────────────────────────────────────────────────────────────────
    row(
        S.TAKING_OVER,
        F.RECORDED,
        S.SWITCHING,
        (C.SWITCH,),
        "the term is on disk before anything is served under it",
    ),
    row(S.SWITCHING, F.SERVED, S.SERVING, (C.BECOME_PRIMARY,), "the guest is on the network"),
    row(S.SWITCHING, F.SERVE_FAILED, None, (), "not on the network is not serving; there is no way back", T.RETRY),
    row(S.SWITCHING, F.DEADLINE, None, (C.SWITCH,), "again"),
    row(S.TAKING_OVER, (F.GUEST_GONE, F.GUEST_HANGS), S.RETIRING, _RETIRE, "it died before it served"),
    row(S.SWITCHING, F.GUEST_GONE, S.GOING_ALONE, (C.RECORD, C.BECOME_PRIMARY), "the primary, without a guest"),
    row(
        (*UNPROTECTED, S.PRIMARY_LINKED, S.SECONDARY_WAITING, S.SECONDARY_LINKED, S.RETIRING),
        F.OPERATOR_CONFIRMED,
        None,
        (C.REFUSE_OPERATOR,),
        "nothing to decide here",
    ),
)
