"""The pair table's rows of `colo switchover`: the primary hands over while both nodes live, and no host is fenced.

The primary gives its word first, so from then on the secondary may serve at any moment. What this node can know is one
of two: a higher term (the secondary serves) or a promise (it never will). Until then nothing leaves here.
"""

from typing import Final

from pycolo.failover.pairstates import Command, Fact, State, Timer, row

S = State
F = Fact
C = Command
T = Timer

_DROP = (C.WITHDRAW, C.UNLINK, C.DISCARD_GUEST)
_HEARS = (S.SECONDARY_PROTECTED, S.SECONDARY_BROKEN, S.YIELDING, S.ASKING, S.CONFIRMED)

HANDOVER_ROWS: Final = (
    row(
        S.PRIMARY_PROTECTED,
        F.SWITCHOVER_WISHED,
        S.HANDING_OVER,
        (C.HOLD, C.RESIGN_LEASE, C.SAY_HANDED_OVER),
        "the operator wants the other node to serve",
        T.HAND_OVER,
    ),
    row(
        S.HANDING_OVER,
        F.DEADLINE,
        None,
        (C.ASK_PATHS, C.ASK_HARMLESS, C.ASK_DISCARD),
        "it has not taken over in time: only its promise lets this node go on, or a lease",
        T.RETRY,
    ),
    row(
        S.HANDING_OVER,
        (F.LINKED_IN_STEP, F.PEER_ALIVE),
        None,
        (C.ASK_DISCARD,),
        "it has not taken over: its promise not to lets this node go on",
        T.RETRY,
    ),
    row(S.HANDING_OVER, F.LINK_LOST, None, (C.UNLINK,), "it may serve: only its word, a lease or an operator decides"),
    row(
        S.HANDING_OVER,
        (F.PROMISED, F.PEER_LEFT, F.PEER_GUEST_GONE, F.PEER_EMPTY, F.LINKED, F.GRANTED),
        S.GOING_ALONE,
        (C.HOLD, C.WITHDRAW, C.UNLINK, C.RECORD),
        "the other node has not taken over, and will not",
    ),
    row(
        S.HANDING_OVER,
        F.OPERATOR_CONFIRMED,
        None,
        (C.TELL_OPERATOR,),
        "an operator has looked: the other node does not serve",
    ),
    row(
        S.HANDING_OVER,
        (F.GUEST_GONE, F.GUEST_HANGS),
        S.PRIMARY_EMPTY,
        (C.HALT, C.WITHDRAW, C.ASK_PATHS),
        "the other guest is in step, and has this node's word",
    ),
    # ── the secondary ───────────────────────────────────────────────────────────────────────────────────────
    row(
        _HEARS,
        F.HANDED_OVER,
        S.RELIEVING,
        (C.ASK_ARBITER, C.TELL_RESIGNED),
        "the primary has handed over: only a lease may still have to be given back",
    ),
    row(S.SECONDARY_ACTING, F.HANDED_OVER, None, (C.TELL_RESIGNED,), "its own word"),
    row(S.RELIEVING, F.ARBITER_ACTS, S.SECONDARY_ACTING, (), "its end decides"),
    row(S.RELIEVING, F.LINK_LOST, None, (C.UNLINK,), "it has the primary's word"),
    row(S.RELIEVING, F.PEER_LEFT, None, (C.UNLINK,), "it has the primary's word"),
    row(S.RELIEVING, F.PEER_RESIGNED, None, (C.UNLINK,), "it has the primary's word"),
    row(
        S.RELIEVING,
        F.DISCARD_ASKED,
        S.SECONDARY_WAITING,
        (C.PROMISE, *_DROP),
        "the arbiter has not agreed in time: the primary goes on",
    ),
    row(
        S.RELIEVING,
        (F.GUEST_GONE, F.GUEST_HANGS),
        S.SECONDARY_WAITING,
        (C.SAY_GONE, *_DROP),
        "it cannot take over: the primary goes on",
    ),
)
