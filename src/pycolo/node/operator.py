"""What the operator may ask of a node on its control socket: status, failover, divergences, costs."""

from collections.abc import Callable
from time import monotonic_ns
from typing import Any, Final, NamedTuple

import structlog

from pycolo import __version__
from pycolo.failover.arbiter import IDLE_TEXT
from pycolo.failover.pairstates import FREE, ON_GUARD, Fact, State
from pycolo.node.cluster import Cluster
from pycolo.node.control import Answer
from pycolo.node.costs import Costs
from pycolo.node.decider import Decider
from pycolo.node.divergences import Divergences
from pycolo.node.guest import Guest
from pycolo.node.healthwatch import HealthWatch
from pycolo.node.journal import Journal
from pycolo.node.links import Links
from pycolo.node.permission import Permission

FAILOVER_S: Final = 4.0
"""How long `colo failover` waits for its end, below `ASK_TIMEOUT_S`; then it says how far that has come."""

NO_SWITCHOVER: Final = (
    "switchover: a node without a QEMU copies no guest, so its host cannot become the secondary; `colo failover` on "
    "the secondary's host makes that one serve and ends the primary's node"
)
NO_QEMU: Final = (
    "this node has no QEMU: its guest is protected while both nodes are linked; to have a virtual machine copied, run "
    "`colo node`"
)
"""What `colo primary` and `colo secondary` answer."""

_SETTLED: Final = (FREE - {State.SWITCHING}) | {
    State.SECONDARY_WAITING,
    State.SECONDARY_LINKED,
    State.PRIMARY_EMPTY,
    State.RETIRING,
}

_PAIRED: Final = frozenset({*ON_GUARD, State.SECONDARY_PROTECTED, State.SECONDARY_BROKEN})

log = structlog.get_logger("colo")


class Identity(NamedTuple):
    """What a node says of itself."""

    pair: str
    role: Callable[[], str]
    """Its role of the moment."""
    epoch: Callable[[], int]
    heartbeat_timeout_ms: int


def arbiter_says(state: State, says: str, *, is_settled: bool = False) -> str:
    """For the status: an arbiter that is not asked yet would say that the other node is not suspected.

    `is_settled`: what it says has answered an earlier question, and is of no interest once there is a pair again.
    """
    if state is State.YIELDING:
        return "not asked while the other node has its head start"
    return IDLE_TEXT if is_settled and state in _PAIRED else says


class Operator:
    """Answers what comes over the control socket."""

    def __init__(
        self,
        identity: Identity,
        decider: Decider,
        guest: Guest,
        links: Links,
        permission: Permission,
        journal: Journal,
        divergences: Divergences,
        health: HealthWatch,
        costs: Costs,
    ) -> None:
        self._identity = identity
        self._decider = decider
        self._guest = guest
        self._links = links
        self._permission = permission
        self._journal = journal
        self._divergences = divergences
        self._health = health
        self._costs = costs
        self._is_refused = False
        self.cluster: Cluster | None = None
        """What Pacemaker's agent may order, where that is the arbiter."""

    async def request(self, request: dict[str, Any]) -> Answer:
        """One request, which has a "command"."""
        match request["command"]:
            case "status":
                return await self.status()
            case "failover":
                return await self.failover()
            case "divergences":
                return self._divergences.answer()
            case "costs":
                return self._costs.request(request)
            case "pacemaker" if self.cluster is not None:
                return await self.cluster.request(request)
            case "pacemaker":
                return {"error": f"the arbiter of this node is {self._permission.name}, not pacemaker"}
            case "switchover":
                return {"error": NO_SWITCHOVER}
            case "protect" | "unprotect" | "checkpoint" as other:
                return {"error": f"{other}: {NO_QEMU}"}
            case other:
                return {"error": f"unknown command {other!r}; known are status, divergences, costs and failover"}

    def refused(self) -> None:
        """The table has nothing to decide."""
        self._is_refused = True

    async def failover(self) -> Answer:
        """`colo failover`: the operator wants this node to serve, and vouches that the other one is down."""
        shown = self._decider.pair.shown
        self._is_refused = False
        self._decider.tell(Fact.OPERATOR_CONFIRMED)
        if self._is_refused and self.cluster is not None and self.cluster.vouched():
            return {"state": f"{shown}; Pacemaker may promote this node now", "term": self._decider.pair.term}
        if self._is_refused:
            return {"error": f"nothing to decide: this node is {shown}"}
        log.warning("the operator confirms that the other node is down")
        pair = await self._decider.settled(_SETTLED, FAILOVER_S)
        if pair.blocked:
            return {"error": f"{pair.blocked}; it is tried again"}
        return {"state": pair.shown, "term": pair.term}

    async def status(self) -> Answer:
        """What `colo status` shows."""
        snapshot = await self._guest.snapshot()
        pair, link = self._decider.pair, self._links.present
        return {
            "role": self._identity.role(),
            "state": pair.shown,
            "blocked": pair.blocked or None,
            "since_ms": (monotonic_ns() - self._journal.since_ns) // 1_000_000,
            "pair": self._identity.pair,
            "term": pair.term,
            "epoch": self._identity.epoch(),
            "peer": link.peer if link is not None else None,
            "arbiter": {"name": self._permission.name, "says": self._arbiter_says(pair.state)},
            "version": __version__,
            "takeover": self._journal.takeover,
            "divergences": list(self._divergences.records),
            "divergence_kinds": dict(self._divergences.kinds),
            "heartbeat_silence_ms": self._silence_ms(),
            "health": self._health.shown(),
            "costs": self._costs.status(),
            **snapshot,
        }

    def _arbiter_says(self, state: State) -> str:
        return arbiter_says(state, self._permission.says, is_settled=self._permission.is_settled)

    def _silence_ms(self) -> int | None:
        """For how long the other node has not confirmed a heartbeat; None without one."""
        trusted_ns = self._links.trusted_until_ns()
        if not trusted_ns:
            return None
        return max(0, (monotonic_ns() - trusted_ns) // 1_000_000 + self._identity.heartbeat_timeout_ms)
