"""Jobs: one after another, each is done or dropped, and what is cancelled has ended before the next one begins."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pycolo.vm.jobs import Job, Jobs

DEADLINE_S = 20


class World:
    """Jobs that say when they begin and end."""

    def __init__(self):
        self.jobs = Jobs()
        self.done = []
        self.dropped = []
        self.running = 0
        self.gates = {}

    def add(self, name, *, must_end=False, is_open=True):
        gate = self.gates[name] = asyncio.Event()
        if is_open:
            gate.set()

        async def do():
            self.running += 1
            assert self.running == 1, "one at a time"
            try:
                await gate.wait()
                await asyncio.sleep(0)
            finally:
                self.running -= 1
            self.done.append(name)

        self.jobs.add(Job(name, do, lambda: self.dropped.append(name), must_end=must_end))


def play(scene):
    async def limited():
        async with asyncio.timeout(DEADLINE_S):
            world = World()
            await scene(world)
            await world.jobs.close(0)
            assert asyncio.all_tasks() - {asyncio.current_task()} == set()

    asyncio.run(limited())


def test_one_after_another():
    async def scene(world):
        for name in "abc":
            world.add(name)
        assert not world.jobs.is_idle
        assert world.jobs.last.name == "c"
        await world.jobs.settled()
        assert (world.done, world.dropped, world.jobs.is_idle, world.jobs.last) == (["a", "b", "c"], [], True, None)

    play(scene)


def test_what_waits_can_be_dropped_by_its_name():
    async def scene(world):
        world.add("a", is_open=False)
        world.add("b")
        world.add("c")
        await asyncio.sleep(0)
        assert world.jobs.drop("b")
        assert not world.jobs.drop("a"), "it has begun"
        world.gates["a"].set()
        await world.jobs.settled()
        assert (world.done, world.dropped) == (["a", "c"], ["b"])

    play(scene)


@pytest.mark.parametrize("must_end", [False, True])
def test_clearing_cancels_all_but_what_must_end(must_end):
    async def scene(world):
        world.add("a", must_end=must_end, is_open=False)
        world.add("b", must_end=True)
        await asyncio.sleep(0)
        world.jobs.clear()
        world.add("c")
        world.gates["a"].set()
        await world.jobs.settled()
        assert (world.done, world.dropped) == ((["a", "c"], ["b"]) if must_end else (["c"], ["b", "a"]))

    play(scene)


def test_a_job_that_fails_stops_no_other():
    async def scene(world):
        async def fail():
            raise ZeroDivisionError

        world.jobs.add(Job("a", fail, lambda: world.dropped.append("a")))
        world.add("b")
        await world.jobs.settled()
        assert (world.done, world.dropped) == (["b"], [])

    play(scene)


def test_what_is_closed_takes_nothing_and_cancels_what_does_not_end():
    async def scene(world):
        world.add("a", must_end=True, is_open=False)
        world.add("b", is_open=False)
        await asyncio.sleep(0)
        await world.jobs.close(0.01)
        world.add("c")
        assert (world.done, sorted(world.dropped), world.jobs.is_idle) == ([], ["a", "b", "c"], True)

    play(scene)


@given(st.lists(st.sampled_from(["add", "must end", "clear", "drop", "wait"]), max_size=20))
def test_each_job_is_done_or_dropped_and_never_both(acts):
    async def scene(world):
        added = []
        for number, act in enumerate(acts):
            match act:
                case "add" | "must end":
                    added.append(str(number))
                    world.add(str(number), must_end=act == "must end")
                case "clear":
                    world.jobs.clear()
                case "drop" if added:
                    world.jobs.drop(added[-1])
                case "wait":
                    await asyncio.sleep(0)
        await world.jobs.settled()
        assert sorted(world.done + world.dropped) == sorted(added)

    play(scene)
