"""What Pacemaker's resource agent orders a node to do, over the control socket; and the node's promotion score.

The pair table decides, and Pacemaker's word is what permits: `promote` lets a node serve that could serve anyway, and
nothing else. What each order means is in docs/pacemaker.md.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, Final, Protocol

import structlog

from pycolo.errors import PycoloError, StateError
from pycolo.failover.pacemaker import PacemakerArbiter
from pycolo.failover.pair import Pair
from pycolo.failover.pairstates import FREE, IN_STEP, ON_GUARD, Fact, State
from pycolo.node.control import Answer
from pycolo.node.decider import Decider
from pycolo.node.permission import Permission

SCORE_SERVES: Final = 200
SCORE_READY: Final = 150
SCORE_IN_STEP: Final = 100
SCORE_HANDED_OVER: Final = 50
SCORE_COLD: Final = 10
"""Pacemaker promotes the instance with the highest score, and none without one."""

SERVED_S: Final = 20.0
"""For a takeover to be done, below the agent's own time limit."""

PROMISE_S: Final = 3.0
"""For the other node's promise not to serve, when both are stopped."""

SCORE_AGAIN_S: Final = 1.0
"""Between two attempts to set the score."""

_TAKING_OVER: Final = frozenset({State.TAKING_OVER, State.SWITCHING})
_HOLDS: Final = frozenset({*FREE, *ON_GUARD, State.DISSOLVING, State.PRIMARY_SUSPECT, State.PRIMARY_ACTING})
_HAS_GUEST: Final = _HOLDS | {State.GOING_ALONE, State.RESTARTED}
"""The primary's guest is here, and is the newest that there is as far as this node knows."""

_AFTER_TAKEOVER: Final = (_HAS_GUEST - _TAKING_OVER) | {State.RETIRING, State.SECONDARY_WAITING}

_HEARD: Final = frozenset({State.PRIMARY_LINKED, State.PROTECTING, State.COMMITTING, *ON_GUARD, State.DISSOLVING})
"""The other node has shown its term in this process's life, and it was not higher."""

_READY: Final = frozenset({State.COMMITTING, *ON_GUARD, State.PRIMARY_SUSPECT, State.PRIMARY_ACTING})

log = structlog.get_logger("colo")


class Pausable(Protocol):
    """The guest's part in this: one that serves only where Pacemaker has promoted its node."""

    @property
    def is_there(self) -> bool:
        """Whether the primary's guest of this host lives."""

    def hold_back(self) -> None:
        """While it does not serve: it is paused until `resume`."""

    async def pause(self) -> None:
        """Nothing leaves until `resume`. Of a guest that no other one follows. Raises `PycoloError`."""

    async def resume(self) -> None:
        """Serve; where no guest is, begin one if that is possible. Raises `PycoloError`."""

    async def end(self) -> None:
        """Switch the primary's guest off. Raises `PycoloError`."""

    async def snapshot(self) -> object:
        """Answered by the data path: a write that was under way has ended."""


class Cluster:
    """`stop(why)` ends the node in order. `set_score(score)` tells Pacemaker; it raises `PycoloError`."""

    def __init__(
        self,
        decider: Decider,
        permission: Permission,
        core: PacemakerArbiter,
        guest: Pausable,
        peer: str,
        set_score: Callable[[int | None], Awaitable[None]],
    ) -> None:
        self._decider = decider
        self._permission = permission
        self._core = core
        self._guest = guest
        self._peer = peer
        self._set_score = set_score
        self._is_vouched = False
        self._was_heard = False
        self._shown: int | None = None
        self._is_shown = False
        self._news = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._orders = asyncio.Lock()

    # ── life ────────────────────────────────────────────────────────────────────────────────────────────────────

    async def start(self) -> None:
        """Keep the score up to date."""
        self._task = asyncio.get_running_loop().create_task(self._keep_score())

    async def close(self) -> None:
        """The agent takes the score away."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    def changed(self, fact: Fact | None, before: Pair, after: Pair) -> None:
        """The pair's state is another one."""
        self._was_heard = self._was_heard or after.state in _HEARD
        self._news.set()

    # ── answers ─────────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def score(self) -> int | None:
        """This node's promotion score; None: it must not be promoted."""
        state, core = self._decider.pair.state, self._core
        if state in IN_STEP:
            return SCORE_IN_STEP
        if state in _TAKING_OVER:
            return SCORE_SERVES
        if state not in _HAS_GUEST:
            return None
        if core.is_demoted or state is State.RESTARTED:
            return SCORE_HANDED_OVER
        if core.may_serve:
            return SCORE_SERVES
        if state in _READY:
            return SCORE_READY
        return SCORE_COLD if self._may_begin else None

    @property
    def _may_begin(self) -> bool:
        """Whether no newer state of the guest exists elsewhere, as far as can be known."""
        return self._was_heard or self._is_vouched

    def vouched(self) -> bool:
        """`colo failover` where the table has nothing to decide: an operator says that the other node is down, and has
        no newer state. Pacemaker may promote this node then. False: it makes no difference."""
        if self._decider.pair.state not in _HAS_GUEST or self._core.may_serve:
            return False
        self._is_vouched = True
        self._news.set()
        return True

    def begins_anew(self) -> None:
        """An operator has a guest begin anew on this host: when Pacemaker promotes this node, not before."""
        self._guest.hold_back()
        self._is_vouched = True
        self._news.set()

    # ── orders ──────────────────────────────────────────────────────────────────────────────────────────────────

    async def request(self, request: dict[str, Any]) -> Answer:
        """One order of the agent; `action` says which."""
        action = request.get("action")
        if action == "monitor":
            return self._monitor(is_probe=request.get("probe") is True)
        if action == "notify":
            return self._notify(request)
        async with self._orders:
            try:
                match action:
                    case "promote":
                        return await self._promote()
                    case "demote":
                        return await self._demote()
                    case "stop":
                        return await self._leave(_names(request.get("stopping")))
            except PycoloError as error:
                return {"error": str(error)}
        return {"error": f"unknown action {action!r}; known are monitor, promote, demote, notify and stop"}

    def _monitor(self, *, is_probe: bool) -> Answer:
        """What Pacemaker is to believe. A probe finds what is; a recurring monitor what Pacemaker has ordered."""
        state, core = self._decider.pair.state, self._core
        if core.is_promoted and (state is State.PRIMARY_EMPTY or (state in FREE and not self._guest.is_there)):
            return self._answer("failed")
        serves = core.may_serve and (state in _HAS_GUEST or state in _TAKING_OVER)
        if is_probe and serves:
            core.is_promoted = True
        return self._answer("promoted" if serves and core.is_promoted else "unpromoted")

    async def _promote(self) -> Answer:
        state, core = self._decider.pair.state, self._core
        if state in IN_STEP:
            self._tell(lambda: core.promoted(is_in_step=True), opens_question=True)
        elif state in _TAKING_OVER or (state in _HAS_GUEST and self._may_resume):
            self._tell(lambda: core.promoted(is_in_step=False))
        elif state in _HAS_GUEST:
            raise StateError("promote", "alone since its start: the other host may have newer state", "heard the other")
        else:
            raise StateError("promote", self._decider.pair.shown, "serving, in step or handed over")
        pair = await self._decider.settled(_AFTER_TAKEOVER, SERVED_S)
        if pair.state not in _HAS_GUEST:
            raise StateError("promote", f"{pair.shown}: {pair.text}", "serving")
        if core.may_serve:  # a demote may have come meanwhile
            await self._guest.resume()
        pair = self._decider.pair
        if pair.state in FREE and pair.settings.protects_by_itself:
            self._decider.tell(Fact.PROTECT_WISHED)  # a clone of two is there to protect
        return self._answer("promoted")

    @property
    def _may_resume(self) -> bool:
        core = self._core
        return core.may_serve or core.is_demoted or self._may_begin or self._decider.pair.state is State.RESTARTED

    async def _demote(self) -> Answer:
        if self._decider.pair.state not in _HAS_GUEST | _TAKING_OVER:  # it has retired: there is nothing to resume
            self._tell(self._core.resigned)
            return self._answer("unpromoted")
        self._tell(self._core.demoted)
        if self._decider.pair.state in _TAKING_OVER:
            await self._decider.settled(_AFTER_TAKEOVER, SERVED_S)
        if self._decider.pair.state in FREE:
            await self._guest.pause()
        else:
            await self._guest.snapshot()  # a write that was under way has ended
        return self._answer("unpromoted")

    async def _leave(self, stopping: list[str]) -> Answer:
        """Before the end: the other node, if it is in step and stays, has this one's word that it may serve.

        If both are stopped, this one keeps the role of the primary, since its disks are the newest: two secondaries
        could not begin anew.
        """
        decider = self._decider
        if decider.pair.state in ON_GUARD and self._peer not in stopping:
            decider.tell(Fact.RESIGN_ASKED)
            await decider.settled({State.SECONDARY_WAITING}, SERVED_S)
        elif decider.pair.state in ON_GUARD:
            decider.tell(Fact.STOPPING)
            await decider.settled(FREE | {State.RETIRING, State.PRIMARY_SUSPECT}, PROMISE_S)
        if decider.pair.state in _HAS_GUEST:
            await self._guest.end()
        return self._answer("unpromoted")

    def _notify(self, request: dict[str, Any]) -> Answer:
        """`stopped`, `started`: hosts on which Pacemaker has just stopped, or is about to start, the pair's nodes."""
        if self._peer in _names(request.get("stopped")):
            self._tell(self._core.peer_stopped)
        if self._peer in _names(request.get("started")):
            self._tell(self._core.peer_started)
        return self._answer("")

    def _tell(self, change: Callable[[], None], *, opens_question: bool = False) -> None:
        self._permission.told(change, opens_question=opens_question)
        self._news.set()

    def _answer(self, role: str) -> Answer:
        pair = self._decider.pair
        return {"role": role, "state": pair.shown, "term": pair.term, "score": self.score, "text": pair.text}

    # ── the score ───────────────────────────────────────────────────────────────────────────────────────────────

    async def _keep_score(self) -> None:
        """Set it at each change. One that could not be set is tried again."""
        while True:
            self._news.clear()
            score = self.score
            if score != self._shown or not self._is_shown:
                await self._show(score)
            timeout_s = None if self._is_shown else SCORE_AGAIN_S
            with suppress(TimeoutError):
                async with asyncio.timeout(timeout_s):
                    await self._news.wait()

    async def _show(self, score: int | None) -> None:
        was_shown, self._is_shown = self._is_shown, False
        try:
            await self._set_score(score)
        except PycoloError as error:
            if was_shown:
                log.warning(f"the promotion score is not set: {error}")
            return
        self._shown, self._is_shown = score, True
        log.info("promotion score", score=score)


def _names(value: object) -> list[str]:
    return [name for name in value if isinstance(name, str)] if isinstance(value, list) else []
