"""`colo switchover`: the other host serves, and this one becomes its secondary, while both live.

The guest is copied once more, then the primary's node hands over. What is safe at each moment is in the pair table
(`pycolo.failover.handoverrows`); this asks for it, and says how it went.
"""

import asyncio
from collections.abc import Container
from typing import Final, Protocol

import structlog

from pycolo.errors import PeerError, StateError
from pycolo.failover.pacemaker import PacemakerArbiter
from pycolo.failover.pair import Pair
from pycolo.failover.pairstates import FREE, IN_STEP, ON_GUARD, Fact, Role, State
from pycolo.link.orders import JsonObject
from pycolo.node.control import Answer
from pycolo.node.decider import Decider
from pycolo.node.links import Link

PROTOCOL: Final = 6
"""The first version of the link's protocol with these words."""

CHECKPOINT_S: Final = 60.0
"""For the last copy, and the other node's answer."""

DECIDED_S: Final = 15.0
"""The other node serves, or has promised not to; longer, and an operator is needed."""

RETIRED_S: Final = 60.0
"""For the old primary's guest to end, and its `retire` hook."""

LINKED_S: Final = 30.0
"""For the new primary to begin to protect."""

COPIED_S: Final = 840.0
"""For the first copy back, below the command's own limit."""

_RETIRED: Final = frozenset({State.SECONDARY_WAITING, State.SECONDARY_LINKED, State.PREPARING, *IN_STEP})
_DECIDED: Final = frozenset({*FREE, State.RETIRING, State.PRIMARY_EMPTY, *_RETIRED})
_SERVES: Final = FREE - {State.SWITCHING}

log = structlog.get_logger("colo")


class LinkNow(Protocol):
    """What is asked of `Links`."""

    @property
    def present(self) -> Link | None:
        """See there."""

    async def request(self, order: str, arguments: JsonObject | None = None, timeout_s: float = 0.0) -> JsonObject:
        """See there."""


class Checkpoints(Protocol):
    """What is asked of `CheckpointDriver`."""

    def disarm(self, why: str) -> None:
        """See there."""


class CopiedGuest(Protocol):
    """What is asked of the guest."""

    @property
    def checkpoints(self) -> Checkpoints:
        """Of this guest."""

    async def checkpoint(self) -> dict[str, object]:
        """Copy it to the secondary now. Raises `PycoloError`."""


class Switchover:
    """`arbiter`: its name in the configuration."""

    def __init__(self, decider: Decider, links: LinkNow, guest: CopiedGuest, arbiter: str) -> None:
        self._decider = decider
        self._links = links
        self._guest = guest
        self._arbiter = arbiter
        self._loop = asyncio.get_running_loop()
        self._is_under_way = False

    async def run(self) -> Answer:
        """`colo switchover` at this node, whichever role it has. Raises `PycoloError`."""
        self._require_pair()
        if self._decider.pair.role is Role.SECONDARY:
            await self._links.request("switchover", timeout_s=CHECKPOINT_S)
            return await self._take_over()
        await self._copy()
        began_ms = self._hand_over()
        return await self._step_down(began_ms)

    async def asked(self, arguments: JsonObject) -> JsonObject:
        """The same, run at the secondary's node. This node hands over once its answer is sent."""
        if self._decider.pair.role is Role.SECONDARY:
            raise StateError("switchover", "secondary", "primary")
        self._require_pair()
        await self._copy()
        self._loop.call_soon(self._hand_over)
        return {}

    # ── what it needs ───────────────────────────────────────────────────────────────────────────────────────

    def _require_pair(self) -> None:
        pair, link = self._decider.pair, self._links.present
        if self._arbiter == PacemakerArbiter.name:
            raise StateError(
                "switchover", "under Pacemaker", "asked of the cluster: `pcs resource move` or `crm resource move`"
            )
        if self._is_under_way:
            raise StateError("switchover", "under way already", "asked once")
        if pair.state not in (State.PRIMARY_PROTECTED, State.SECONDARY_PROTECTED):
            why = f"{pair.shown}: {pair.text}" if pair.text else pair.shown
            raise StateError("switchover", why, "protected, with a link to the other node")
        if link is None or not pair.is_heard:
            raise PeerError("switchover: the other node is not linked")
        if link.protocol < PROTOCOL:
            raise PeerError(
                f"switchover: the other node ({link.program}) speaks version {link.protocol} of the link's protocol, "
                f"and this needs {PROTOCOL}: upgrade it first"
            )

    # ── the primary ─────────────────────────────────────────────────────────────────────────────────────────

    async def _copy(self) -> None:
        """The secondary's guest is as fresh as can be."""
        self._is_under_way = True
        try:
            await self._guest.checkpoint()
        finally:
            self._is_under_way = False
        self._require_pair()

    def _hand_over(self) -> int:
        """When it has begun (milliseconds)."""
        if self._decider.pair.state is State.PRIMARY_PROTECTED:
            log.info("switchover: the other node is to serve")
            self._guest.checkpoints.disarm("this node hands over")
            self._decider.tell(Fact.SWITCHOVER_WISHED)
        return self._decider.now_ms

    async def _step_down(self, began_ms: int) -> Answer:
        pair = await self._decider.settled(_DECIDED, DECIDED_S)
        if pair.state is State.HANDING_OVER:
            raise PeerError(
                "switchover: the other node neither serves nor promises not to, so nothing leaves this host; if the "
                "other host is off for certain, `colo failover` here makes this one serve again"
            )
        if pair.role is Role.PRIMARY:
            raise PeerError(f"switchover: the other node has not taken over: {pair.text}; this node is {pair.shown}")
        took_ms = pair.since_ms - began_ms
        pair = await self._decider.settled(_RETIRED, RETIRED_S)
        if pair.blocked:
            raise PeerError(f"switchover: the other node serves, and this one has not retired: {pair.blocked}")
        said = f"the other node serves, {took_ms} ms after this one's word"
        return await self._followed(pair, said, {State.PREPARING, *IN_STEP}, _RETIRED - {State.PREPARING})

    # ── the secondary ───────────────────────────────────────────────────────────────────────────────────────

    async def _take_over(self) -> Answer:
        decider = self._decider
        pair = await decider.settled(_SERVES | {State.SECONDARY_WAITING, State.RETIRING}, DECIDED_S)
        if pair.role is Role.SECONDARY or pair.state not in _SERVES:
            why = pair.blocked or f"this node is {pair.shown}: {pair.text}"
            raise PeerError(f"switchover: this node does not serve: {why}")
        begun = {State.PROTECTING, State.COMMITTING, *ON_GUARD}
        ended = {*ON_GUARD, State.PRIMARY_WAITING, State.ALONE}
        return await self._followed(pair, "this node serves", begun, ended)

    # ── both ────────────────────────────────────────────────────────────────────────────────────────────────

    async def _followed(self, pair: Pair, said: str, begun: Container[State], ended: Container[State]) -> Answer:
        """Until the pair is protected again. Raises `PeerError` if it is not."""
        if not (pair.is_wished and pair.settings.protects_by_itself):
            return _answer(pair, f"{said}; `colo protect` on its host protects the guest again")
        pair = await self._decider.settled(begun, LINKED_S)
        pair = await self._decider.settled(ended, COPIED_S)
        if pair.state not in (State.PRIMARY_PROTECTED, State.SECONDARY_PROTECTED):
            raise PeerError(
                f"switchover: {said}, but is not protected yet: {pair.shown}, {pair.text}; it is tried again"
            )
        return _answer(pair, said)


def _answer(pair: Pair, said: str) -> Answer:
    return {"state": pair.shown, "role": pair.role.value, "term": pair.term, "seen": said}
