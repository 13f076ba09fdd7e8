"""The arbiter's leave to protect: it must know which node serves before there are two that could."""

import asyncio
from collections.abc import Callable
from typing import Final

from pycolo.arbiters import ArbiterRunner
from pycolo.failover.arbiter import Decision

ACQUIRE_S: Final = 10.0
"""Time limit for the arbiter's answer."""

OnAcquired = Callable[[int, str], None]
"""`(term, "")`: the term to work under; or why there is none."""


class NoLease:
    """For arbiters that hand out none."""

    def acquire(self, term: int, on_acquired: OnAcquired) -> None:
        """Answered at once."""
        on_acquired(term, "")

    def abandon(self) -> bool:
        """Nothing is under way."""
        return False


class Leasing:
    """Acquires the arbiter's lease, one attempt at a time."""

    def __init__(self, runner: ArbiterRunner) -> None:
        self._runner = runner
        self._task: asyncio.Task[None] | None = None

    def acquire(self, term: int, on_acquired: OnAcquired) -> None:
        """`term`: the highest that this node knows."""
        self.abandon()
        self._task = asyncio.get_running_loop().create_task(self._acquire(term, on_acquired))

    def abandon(self) -> bool:
        """Give the attempt up. Whether there was one."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
        return task is not None

    async def _acquire(self, term: int, on_acquired: OnAcquired) -> None:
        name = self._runner.name
        try:
            async with asyncio.timeout(ACQUIRE_S):
                verdict = await self._runner.acquire(term)
        except TimeoutError:
            why = f"arbiter {name}: no answer within {ACQUIRE_S:g} s: {self._runner.verdict().text}"
        else:
            why = "" if verdict.decision is Decision.GRANTED else f"arbiter {name}: {verdict.text}"
            term = verdict.term
        self._task = None  # `on_acquired` may begin another attempt
        on_acquired(term, why)
