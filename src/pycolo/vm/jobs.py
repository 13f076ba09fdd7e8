"""A queue of jobs: one at a time, each in a task of its own."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final

import structlog

from pycolo.errors import PycoloError

log = structlog.get_logger("colo")


def _nothing() -> None:
    """Do nothing."""


class Job:
    """`on_dropped()` is called when the job is cancelled, before or after it has begun.

    Once a job with `must_end` has begun, only `close` cancels it.
    """

    def __init__(
        self,
        name: str,
        do: Callable[[], Awaitable[None]],
        on_dropped: Callable[[], None] = _nothing,
        *,
        must_end: bool = False,
    ) -> None:
        self.name: Final = name
        self.do: Final = do
        self.on_dropped: Final = on_dropped
        self.must_end: Final = must_end


class Jobs:
    """Used in asyncio's thread only."""

    def __init__(self) -> None:
        self._waiting: deque[Job] = deque()
        self._task: asyncio.Task[None] | None = None
        self._settled = asyncio.Event()
        self._settled.set()
        self._is_closed = False
        self.current: Job | None = None

    @property
    def is_idle(self) -> bool:
        """Whether no job runs or waits."""
        return self._task is None

    @property
    def last(self) -> Job | None:
        """The job that will run last; None when idle."""
        return self._waiting[-1] if self._waiting else self.current

    def add(self, job: Job) -> None:
        """Run `job` after all jobs that were added before."""
        if self._is_closed:
            job.on_dropped()
            return
        self._waiting.append(job)
        self._settled.clear()
        self._next()

    def drop(self, name: str) -> bool:
        """Drop all waiting jobs with this name. Returns whether there were any."""
        dropped = [job for job in self._waiting if job.name == name]
        self._waiting = deque(job for job in self._waiting if job.name != name)
        for job in dropped:
            job.on_dropped()
        return bool(dropped)

    def clear(self) -> None:
        """Cancel the running job and drop the waiting ones. The next job begins after the cancelled one has ended."""
        waiting, self._waiting = self._waiting, deque()
        for job in waiting:
            job.on_dropped()
        if self._task is not None and self.current is not None and not self.current.must_end:
            self._task.cancel()

    async def settled(self) -> None:
        """Wait until no job runs or waits."""
        await self._settled.wait()

    async def close(self, patience_s: float) -> None:
        """Accept no more jobs. The present ones are cancelled when they have not ended within `patience_s`."""
        self._is_closed = True
        with suppress(TimeoutError):
            async with asyncio.timeout(patience_s):
                await self._settled.wait()
        self.clear()
        if self._task is not None:
            self._task.cancel()
        await self._settled.wait()

    def _next(self) -> None:
        if self._task is None and self._waiting:
            job = self.current = self._waiting.popleft()
            self._task = asyncio.get_running_loop().create_task(_run(job), name=job.name)
            self._task.add_done_callback(self._ended)

    def _ended(self, task: "asyncio.Task[None]") -> None:
        job, self.current, self._task = self.current, None, None
        assert job is not None
        if task.cancelled():
            job.on_dropped()
        elif (error := task.exception()) is not None:
            report(error)
        self._next()
        if self._task is None:
            self._settled.set()


async def _run(job: Job) -> None:
    await job.do()


def report(error: BaseException) -> None:
    """Log the error of a job."""
    if isinstance(error, PycoloError | OSError):
        log.error(str(error) or type(error).__name__)
    else:
        log.critical("this is a bug", exc_info=error)
