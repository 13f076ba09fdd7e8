"""What every arbiter of a node can do, whomever it asks.

**To add one**: one file here with a subclass of `LiveArbiter`, and its line in `pycolo.arbiters.make`. The subclass
decides nothing: it hands facts to a pure core (`failover.arbiter.Arbiter`), does what the core wants done in a task of
its own, and hands back what came of it. It calls `_changed` after each of these.
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from time import monotonic_ns

from pycolo.failover.arbiter import Arbiter, Decision, Verdict


def now_ms() -> int:
    """CLOCK_MONOTONIC in milliseconds."""
    return monotonic_ns() // 1_000_000


class LiveArbiter:
    """A core with whatever it needs. This class itself is for cores that need nobody (`manual`, `first-to-notice`).

    Everything but `serve_until_ns` is called in the event loop's thread. One arbiter lasts as long as its node; each
    pair that is formed is a new question (`paired`). `on_change()` is called whenever the verdict or what bounds the
    service has changed by something else than a fact of the node's own: look at `verdict()` then.
    """

    def __init__(self, core: Arbiter, on_change: Callable[[], None]) -> None:
        self._core = core
        self._on_change = on_change
        self._task: asyncio.Task[None] | None = None
        self._wake = asyncio.Event()
        self._until_ns: int | None = None
        self._shown: object = None

    # ── life ────────────────────────────────────────────────────────────────────────────────────────────────

    async def start(self) -> None:
        """Begin to ask; before any fact."""
        self._task = asyncio.get_running_loop().create_task(self._run())
        self._changed()

    async def close(self) -> None:
        """Ask nobody any more. Does not resign: what is held runs out, as if the node had died."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    async def acquire(self, term: int = 0) -> Verdict:
        """Before this node serves, or protects what it serves: GRANTED or DENIED, and the term to work under.

        `term`: the highest that this node or the one that it is about to pair with knows. Waits as long as it takes,
        until it is cancelled; `verdict().text` says what for.
        """
        known = self._core.verdict().term
        return Verdict(Decision.GRANTED, max(term, known), f"{self.name} needs no lease")

    async def resign(self) -> None:
        """This node serves no longer, and the other one need not wait until that is certain."""

    # ── facts ───────────────────────────────────────────────────────────────────────────────────────────────

    def paired(self, term: int) -> None:
        """A pair was formed, under `term`: a new question."""
        self._core.paired(term, now_ms())
        self._told()

    def suspected(self, at_ms: int) -> None:
        """The other node is silent or its connection is gone."""
        self._core.suspected(at_ms)
        self._told()

    def recovered(self, at_ms: int) -> None:
        """The other node was heard again."""
        self._core.recovered(at_ms)
        self._told()

    def operator_confirmed(self, at_ms: int) -> None:
        """A human vouches that the other node serves no longer."""
        self._core.operator_confirmed(at_ms)
        self._told()

    def peer_resigned(self, at_ms: int, why: str) -> None:
        """The other node has said that its guest is gone and that it serves no longer."""
        self._core.peer_resigned(at_ms, why)
        self._told()

    def term_seen(self, term: int) -> None:
        """The other node showed `term`."""
        self._core.term_seen(term)
        self._told()

    def timer_fired(self, at_ms: int) -> None:
        """`deadline_ms` has come."""
        self._core.timer_fired(at_ms)
        self._told()

    # ── answers ─────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def name(self) -> str:
        """What the configuration calls it."""
        return self._core.name

    def verdict(self) -> Verdict:
        """The decision as it stands."""
        return self._core.verdict()

    def deadline_ms(self) -> int | None:
        """When to call `timer_fired`; None where `on_change` says everything."""
        return self._core.deadline_ms()

    @property
    def is_acting(self) -> bool:
        """Whether something is under way that may end the other node: no word may be given to it now."""
        return False

    def serve_until_ns(self) -> int | None:
        """Up to when (CLOCK_MONOTONIC) this node may release anything; None: no bound; 0: not at all. Any thread.

        To be looked at right before each write: a node that was stopped finds the time run out when it wakes up.
        """
        return self._until_ns

    # ── for subclasses ──────────────────────────────────────────────────────────────────────────────────────

    async def _run(self) -> None:
        """Do what the core wants done, until cancelled."""

    def _bound_ns(self) -> int | None:
        """What `serve_until_ns` is from now on."""
        return None

    def _state(self) -> object:
        """When this has changed, the node and whoever waits here are told."""
        return self._core.verdict()

    def _told(self) -> None:
        """After a fact of the node's: it looks at the verdict by itself."""
        self._until_ns = self._bound_ns()
        self._shown = self._state()
        self._wake.set()

    def _changed(self) -> None:
        """After news of the task's."""
        self._until_ns = self._bound_ns()
        state = self._state()
        if state != self._shown:
            self._shown = state
            self._on_change()

    async def _sleep(self, seconds: float | None) -> None:
        """Until the node tells something, or the time has come."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._wake.wait()
        self._wake.clear()
