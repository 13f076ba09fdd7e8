"""Looks that are overtaken by a checkpoint or the end of the pair; `test_checkpointdriver` has what they lead to."""

import asyncio
import threading
from collections.abc import Awaitable, Callable
from time import monotonic_ns

from pycolo.checkpoint.coordinator import Coordinator
from pycolo.vm.looks import Looks

DEADLINE_S = 20


class Sample:
    """Waits in each reading until the test lets it."""

    def __init__(self) -> None:
        self.began = threading.Semaphore(0)
        self.may_end = threading.Semaphore(0)
        self.is_closed = False

    def take(self) -> None:
        self.began.release()
        assert self.may_end.acquire(timeout=DEADLINE_S)

    def changed(self) -> tuple[int, int]:
        self.take()
        return 1 << 30, 99

    def close(self) -> None:
        self.is_closed = True


class Stage:
    def __init__(self) -> None:
        self.coordinator = Coordinator(min_distance_ms=0, max_interval_ms=3_600_000)
        self.epoch = 1
        self.looks = Looks(self.coordinator, threading.Lock(), lambda: self.epoch, self.on_look)
        self.sample = Sample()
        self.at_rest()

    def on_look(self) -> None:
        self.looks.schedule()

    def at_rest(self) -> None:
        """Between two checkpoints."""
        core, now_us = self.coordinator, monotonic_ns() // 1000
        core.synchronised(now_us=now_us)
        core.pair_entered_colo(now_us=now_us)
        core.secondary_stopped(now_us=now_us)
        core.primary_stopped(2, now_us=now_us)
        core.loaded(now_us=now_us)
        core.committed(0, 0, 0, now_us=now_us)
        core.primary_resumed(3, now_us=now_us)
        assert core.look_us() is not None

    async def begun(self) -> None:
        assert await asyncio.to_thread(self.sample.began.acquire, True, DEADLINE_S)


def play(scene: Callable[[Stage], Awaitable[None]]) -> None:
    async def limited() -> None:
        async with asyncio.timeout(DEADLINE_S):
            stage = Stage()
            try:
                await scene(stage)
            finally:
                for _ in range(3):
                    stage.sample.may_end.release()
                await stage.looks.close()

    asyncio.run(limited())


def test_a_look_that_a_checkpoint_overtakes_counts_for_nothing() -> None:
    async def scene(stage: Stage) -> None:
        stage.looks.begin(lambda: stage.sample)  # type: ignore[arg-type, return-value]
        stage.looks.schedule()
        await stage.begun()
        stage.epoch += 1
        stage.sample.may_end.release()
        await stage.begun()  # so it was not the first one
        assert not stage.coordinator.pace.is_looking
        stage.sample.may_end.release()
        await stage.begun()
        assert stage.coordinator.pace.is_looking

    play(scene)


def test_a_pair_that_ends_in_a_look_closes_its_sample() -> None:
    async def scene(stage: Stage) -> None:
        stage.looks.begin(lambda: stage.sample)  # type: ignore[arg-type, return-value]
        stage.looks.schedule()
        await stage.begun()
        stage.looks.end()
        assert not stage.sample.is_closed, "it is being read"
        stage.sample.may_end.release()
        while not stage.sample.is_closed:
            await asyncio.sleep(0.001)
        assert stage.coordinator.look_us() is not None
        assert not stage.coordinator.pace.is_looking

    play(scene)


def test_a_pair_that_ends_as_a_look_is_due_closes_its_sample() -> None:
    async def scene(stage: Stage) -> None:
        stage.looks.begin(lambda: stage.sample)  # type: ignore[arg-type, return-value]
        stage.looks.schedule()
        await stage.begun()
        stage.sample.may_end.release()
        while stage.looks._timer is None:
            await asyncio.sleep(0.001)
        stage.looks._cancel()
        stage.looks._fired()  # its task has not begun
        stage.looks.end()
        stage.sample.may_end.release()
        await stage.looks.close()
        assert stage.sample.is_closed

    play(scene)


def test_nothing_is_looked_at_before_there_is_a_pair() -> None:
    async def scene(stage: Stage) -> None:
        stage.looks.schedule()
        await asyncio.sleep(0)
        assert not stage.sample.began.acquire(blocking=False)

    play(scene)
