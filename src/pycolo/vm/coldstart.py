"""The operator's word that a guest which neither host has any more is to begin anew on this one.

When both guests end at once (a guest that powers itself off, two QEMUs that are killed), both nodes become secondaries,
and neither may start anything: the other host could have newer state. Only an operator knows better, and even that
word is not enough while the other node can be asked: a guest begins anew where the highest term is.
"""

from collections.abc import Callable, Sequence
from typing import Final, Protocol

import structlog

from pycolo.errors import StateError
from pycolo.failover.pairstates import Fact, State
from pycolo.link.orders import JsonObject
from pycolo.node.control import Answer
from pycolo.node.decider import Decider
from pycolo.node.links import term_of

RECORD_S: Final = 4.0
"""For the new term to be on disk, below the control socket's own time limit."""

ORDER: Final = "begin anew"

_WITHOUT_GUEST: Final = frozenset({State.SECONDARY_WAITING, State.PRIMARY_EMPTY})
_BEGUN: Final = frozenset({State.PRIMARY_WAITING, State.PRIMARY_LINKED, State.ALONE, State.PROTECTING})

log = structlog.get_logger("colo")


class Paths(Protocol):
    """The other node's addresses."""

    async def states(self) -> Sequence[JsonObject]:
        """What it says of itself, once for each address at which it answers."""


class Cluster(Protocol):
    """Pacemaker, where that is the arbiter."""

    def begins_anew(self) -> None:
        """The guest is to begin when Pacemaker promotes this node."""


class RequireDisks(Protocol):
    """Of this host's images."""

    async def __call__(self, *, is_other_lost: bool) -> None:
        """Raises `PycoloError` when a guest must not be started from them."""


class ColdStart:
    """`cluster()` is None with another arbiter."""

    def __init__(
        self,
        decider: Decider,
        paths: Paths,
        cluster: Callable[[], Cluster | None],
        require_disks: RequireDisks,
    ) -> None:
        self._decider = decider
        self._paths = paths
        self._cluster = cluster
        self._require_disks = require_disks

    async def begin(self, *, is_other_lost: bool) -> Answer:
        """`colo failover --begin-anew`. `is_other_lost`: the operator vouches for that. Raises `StateError`."""
        self._require_no_guest()
        answers = await self._paths.states()
        self._require_no_guest()  # much may have happened meanwhile
        for said in answers:
            self._require_older(said)
        if not answers and not is_other_lost:
            expected = "that one started (or, if it is lost for good, --other-is-lost)"
            raise StateError(ORDER, "without an answer of the other node, which may have newer state", expected)
        await self._require_disks(is_other_lost=is_other_lost)
        self._require_no_guest()
        log.warning("the operator has a guest begin anew here", other="answers" if answers else "lost")
        cluster = self._cluster()
        if cluster is not None:
            cluster.begins_anew()
        self._decider.tell(Fact.COLD_START)
        pair = await self._decider.settled(_BEGUN, RECORD_S)
        follows = "Pacemaker may promote this node now" if cluster is not None else "start the guest's QEMU now"
        return {"state": f"{pair.shown}; {follows}", "term": pair.term}

    def _require_no_guest(self) -> None:
        pair = self._decider.pair
        if pair.state not in _WITHOUT_GUEST:
            raise StateError(ORDER, f"{pair.role.value}, {pair.shown}", "waiting, with no guest on either host")

    def _require_older(self, said: JsonObject) -> None:
        term = self._decider.pair.term
        if said.get("is") != "empty":
            raise StateError(ORDER, f"not alone: the other node is {said.get('state')}", "no guest on either host")
        if term_of(said) > term:
            where = f"older (term {term}) than the other node (term {term_of(said)})"
            raise StateError(ORDER, where, "the same command on that host")
