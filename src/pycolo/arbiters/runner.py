"""The live part of every arbiter: it executes the requests of a pure core, and returns their results to it.

**To add an arbiter**: a core in `pycolo.failover` (`failover.arbiter.Arbiter`), a coroutine that executes its requests,
and a line in `pycolo.arbiters.make`.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from time import monotonic_ns
from typing import Any, Final

import structlog

from pycolo.errors import PycoloError
from pycolo.failover.arbiter import Arbiter, Verdict
from pycolo.failover.arbiternews import ArbiterNews
from pycolo.failover.pair import Told
from pycolo.failover.pairstates import Fact

RESIGN_S: Final = 1.0
"""Time limit for a resignation; after it a lease runs out by itself."""

TROUBLES_SAID: Final = 16
"""Different troubles that are logged, until a request is answered again."""

log = structlog.get_logger("colo")


def now_ms() -> int:
    """CLOCK_MONOTONIC in milliseconds."""
    return monotonic_ns() // 1_000_000


async def ask_nothing(request: object) -> object:
    """For cores without requests."""
    raise AssertionError(f"no request was expected: {request}")


class ArbiterRunner:
    """Runs a core. `ask(request)` executes a request; it raises `PycoloError` when there is no result.

    Everything but `serve_until_ns` is called in the event loop's thread. A runner lasts as long as its node; each
    pair that is formed is a new question (`paired`). `on_change()` is called when the verdict, or what bounds the
    service, has changed and no call of the node's has caused that: then read `verdict()` or `facts()`.
    """

    def __init__(
        self, core: Arbiter, on_change: Callable[[], None], ask: Callable[[Any], Awaitable[Any]] = ask_nothing
    ) -> None:
        self._core = core
        self._ask = ask
        self._on_change = on_change
        self._pair_news = ArbiterNews()
        self._task: asyncio.Task[None] | None = None
        self._wake = asyncio.Event()
        self._news = asyncio.Event()
        self._said: set[str] = set()
        self._until_ns = core.serve_until_ns()
        self._shown: object = None

    # ── life ────────────────────────────────────────────────────────────────────────────────────────────────

    async def start(self) -> None:
        """Start to execute requests; call this before any fact."""
        self._task = asyncio.get_running_loop().create_task(self._run())
        self._changed()

    async def close(self) -> None:
        """Stop. Does not resign: a lease runs out, as if the node had died."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    async def acquire(self, term: int = 0) -> Verdict:
        """Before this node serves, or protects what it serves: GRANTED or DENIED, and the term to work under.

        `term`: the highest that this node, or the one that it is about to pair with, knows. Waits without a limit;
        `verdict().text` says for what.
        """
        self._core.acquire_wanted(term)
        self._told()
        try:
            while self._core.is_acquiring:
                await self._news.wait()
        except asyncio.CancelledError:
            self._core.acquire_abandoned()
            raise
        return self._core.acquired(term)

    def serves(self, term: int) -> None:
        """This node serves, or is about to, under `term`: like `acquire`, without waiting for the answer.

        To be called before anything leaves. A grant that is returned before this call makes no other replica old.
        """
        self._core.acquire_wanted(term)
        self._told()

    async def resign(self) -> None:
        """This node no longer serves, from the call on; the other one need not wait until a lease has run out.

        Returns after a second at the latest.
        """
        self._core.resigned()
        self._told()
        with suppress(TimeoutError):
            async with asyncio.timeout(RESIGN_S):
                while self._core.is_resigning:
                    await self._news.wait()

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
        """An operator vouches that the other node no longer serves."""
        self._core.operator_confirmed(at_ms)
        self._told()

    def peer_resigned(self, at_ms: int, why: str) -> None:
        """The other node has said that it no longer serves."""
        self._core.peer_resigned(at_ms, why)
        self._told()

    def term_seen(self, term: int) -> None:
        """The other node showed `term`."""
        self._core.term_seen(term)
        self._told()

    def told(self) -> None:
        """The core has been told something that only its kind knows."""
        self._told()

    def timer_fired(self, at_ms: int) -> None:
        """`deadline_ms` has come."""
        self._core.timer_fired(at_ms)
        self._told()

    # ── answers ─────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def name(self) -> str:
        """The arbiter's name in the configuration."""
        return self._core.name

    @property
    def harms(self) -> bool:
        """See `Arbiter.harms`."""
        return self._core.harms

    def verdict(self) -> Verdict:
        """The decision as it stands."""
        return self._core.verdict()

    def facts(self) -> list[tuple[Fact, Told]]:
        """The facts for the pair table since the last call."""
        return self._pair_news.facts(self._core, monotonic_ns())

    def deadline_ms(self) -> int | None:
        """None: the runner has its own timers, and calls `on_change`."""
        return None

    @property
    def is_acting(self) -> bool:
        """Whether something is under way that may end the other node: this node may promise it nothing now."""
        return self._core.is_acting

    def serve_until_ns(self) -> int | None:
        """Up to when (CLOCK_MONOTONIC) this node may release anything; None: no bound; 0: not at all. Any thread.

        Read it right before each write: a node that was stopped finds the time expired when it wakes up.
        """
        return self._until_ns

    # ── at work ─────────────────────────────────────────────────────────────────────────────────────────────

    async def _run(self) -> None:
        core = self._core
        while True:
            now_ns = monotonic_ns()  # before the request is sent: a lease's bound counts from here
            request = core.request(now_ns)
            if request is None:
                due_ns = core.due_ns()
                await self._sleep(None if due_ns is None else max(0, due_ns - now_ns) / 1e9)
                continue
            self._changed()
            try:
                answer = await self._ask(request)
            except PycoloError as error:
                core.unanswered(str(error), monotonic_ns())
            else:
                core.answered(answer, monotonic_ns())
            self._say()
            self._changed()

    async def _sleep(self, seconds: float | None) -> None:
        """Until a fact of the node's, or until the time has come."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._wake.wait()
        self._wake.clear()

    def _told(self) -> None:
        """After a fact of the node's: the node reads the verdict by itself."""
        self._until_ns = self._core.serve_until_ns()
        self._shown = self._state()
        self._wake.set()

    def _changed(self) -> None:
        """After a result."""
        self._until_ns = self._core.serve_until_ns()
        state = self._state()
        if state != self._shown:
            self._shown = state
            self._on_change()
        news, self._news = self._news, asyncio.Event()
        news.set()

    def _state(self) -> object:
        """A change of this is reported to the node, and to what waits here."""
        core = self._core
        return core.verdict(), core.is_acting, core.is_acquiring, core.is_resigning, self._until_ns in (0, None)

    def _say(self) -> None:
        """Log each kind of trouble once until a request is answered again, not once for each try."""
        trouble = self._core.trouble
        if trouble and trouble not in self._said and len(self._said) < TROUBLES_SAID:
            self._said.add(trouble)
            log.warning(trouble)
        elif not trouble and self._said:
            self._said.clear()
            log.info(f"arbiter {self.name}: it answers again")
