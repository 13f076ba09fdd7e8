"""Looks at the guest's memory between two checkpoints, when the pace asks for it, and tells it what has changed."""

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from time import monotonic_ns, thread_time_ns
from typing import NamedTuple

from pycolo.checkpoint.coordinator import Coordinator
from pycolo.vm.memorysample import MemorySample


class _Seen(NamedTuple):
    changed_bytes: int
    hits: int
    took_us: int


class Looks:
    """Used in asyncio's thread. `lock` guards the coordinator; `on_look()`: its deadline may be another now."""

    def __init__(
        self, coordinator: Coordinator, lock: threading.Lock, epoch: Callable[[], int], on_look: Callable[[], None]
    ) -> None:
        self._coordinator = coordinator
        self._lock = lock
        self._epoch = epoch
        self._on_look = on_look
        self._loop = asyncio.get_running_loop()
        self._open: Callable[[], MemorySample | None] | None = None
        self._sample: MemorySample | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None

    def begin(self, open_sample: Callable[[], MemorySample | None]) -> None:
        """A pair has formed; `open_sample()` is called in another thread, at the first look."""
        self.end()
        self._open = open_sample

    def end(self) -> None:
        """There is nothing to look at any more."""
        self._open = None
        self._cancel()
        sample, self._sample = self._sample, None
        if sample is not None and (self._task is None or self._task.done()):
            sample.close()

    def schedule(self) -> None:
        """The coordinator has heard something: look when it says so."""
        self._cancel()
        if self._open is None or (self._task is not None and not self._task.done()):
            return
        with self._lock:
            at_us = self._coordinator.look_us()
        if at_us is not None:
            self._timer = self._loop.call_later(max(0, at_us - _now_us()) / 1e6, self._fired)

    def _cancel(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _fired(self) -> None:
        self._timer = None
        assert self._open is not None
        self._task = self._loop.create_task(self._look(self._open, self._sample))
        self._task.add_done_callback(lambda task: self._on_look())

    async def _look(self, opening: Callable[[], MemorySample | None], sample: MemorySample | None) -> None:
        epoch = self._epoch()
        is_first = not self._coordinator.pace.is_looking
        try:
            if sample is None:
                sample = await asyncio.to_thread(opening)
            seen = None if sample is None else await asyncio.to_thread(_take if is_first else _compare, sample)
        except OSError:  # the process has ended
            seen = None
        if seen is None or self._open is not opening:
            if self._open is opening:
                self._open = self._sample = None
            if sample is not None:
                sample.close()
            return
        self._sample = sample
        with self._lock:
            if self._epoch() != epoch or self._coordinator.is_running:
                return  # a checkpoint has begun meanwhile: what was read is of two states
            now_us = _now_us()
            if is_first:
                self._coordinator.pace.look_began(now_us, seen.took_us)
            else:
                self._coordinator.pace.looked(now_us, seen.changed_bytes, seen.hits, seen.took_us)

    async def close(self) -> None:
        """The node ends."""
        self.end()
        task = self._task
        if task is not None:
            with suppress(asyncio.CancelledError):
                await asyncio.gather(task, return_exceptions=True)


def _take(sample: MemorySample) -> _Seen:
    began_ns = thread_time_ns()
    sample.take()
    return _Seen(0, 0, (thread_time_ns() - began_ns) // 1000)


def _compare(sample: MemorySample) -> _Seen:
    began_ns = thread_time_ns()
    changed_bytes, hits = sample.changed()
    return _Seen(changed_bytes, hits, (thread_time_ns() - began_ns) // 1000)


def _now_us() -> int:
    return monotonic_ns() // 1000
