"""Both links of two nodes with fencing arbiters are cut at the same instant, whatever their roles were before.

Never are both fenced, always exactly one serves, and the fencing command is told the role and the term of the moment.

`PYCOLO_SEEDS=17,4711 pytest tests/simulation` runs these seeds; `PYCOLO_SEEDS=0-999` that range.
"""

import asyncio
import os

import pytest

from pycolo.failover.pairstates import Role
from support.cutworld import World
from support.virtualloop import VirtualLoop

RUNS = 200


def seeds():
    asked = os.environ.get("PYCOLO_SEEDS")
    if not asked:
        return list(range(RUNS))
    first, _, last = asked.partition("-")
    return list(range(int(first), int(last) + 1)) if last else [int(seed) for seed in asked.split(",")]


async def cut_after(world: World, *changes: str) -> list:
    """Which fencing commands have run after the cut."""
    await world.protected()
    for change in changes:
        world.story.append(change)
        await getattr(world, change)()
        await world.protected()
    before = len(world.fenced)
    world.story.append("cut")
    await world.cut()
    return world.fenced[before:]


def run(monkeypatch, seed, work, **options):
    loop = VirtualLoop()
    monkeypatch.setattr("pycolo.arbiters.runner.monotonic_ns", lambda: int(loop.time() * 1e9))
    world = World(loop, seed, **options)
    monkeypatch.setattr("pycolo.arbiters.command.run_command", world.power_switch)

    async def life():
        try:
            return await work(world)
        finally:
            for host in world.hosts:
                await host.die(loses_guest=True)

    try:
        return world, loop.run_until_complete(life())
    finally:
        loop.close()


CHANGES = ("hand_over", "crash_primary", "restart_secondary", "restart_primary")


@pytest.mark.parametrize("seed", seeds())
def test_a_cut_costs_one_host_and_no_guest(monkeypatch, seed):
    async def work(world):
        changes = world.chance.choices(CHANGES, k=world.chance.randint(0, 4))
        fenced = await cut_after(world, *changes)
        assert [(host.name, host.pair.term) for host in world.serving()] == [(fenced[0].by, fenced[0].term)]
        return fenced

    world, fenced = run(monkeypatch, seed, work)
    assert len(fenced) == 1, f"both fence: {world.story}"
    assert fenced[0].role == Role.PRIMARY.value, "the node that serves has the first shot"
    assert all(one.is_true for one in world.fenced), [vars(one) for one in world.fenced]


def test_roles_are_swapped_before_the_cuts(monkeypatch):
    """Else the seeds would show nothing: either host has been the one that fences."""
    found = {run(monkeypatch, seed, lambda world: cut_after(world, "hand_over"))[1][0].by for seed in range(4)}
    found |= {run(monkeypatch, seed, cut_after)[1][0].by for seed in range(4)}
    assert found == {"a", "b"}


def test_without_the_head_start_both_are_fenced(monkeypatch):
    """A negative control: the world can break the law."""

    def both(seed):
        world, fenced = run(monkeypatch, seed, cut_after, head_start_ms=0)
        return len(fenced) == 2 and not world.serving()

    assert any(both(seed) for seed in range(20))


FAILS = 0.7
LONG_S = 120


async def cut_with_a_switch_that_fails(world: World) -> list:
    """Who has been switched off, long after a cut."""
    await world.protected()
    world.fails = FAILS
    await world.cut()
    for _ in range(LONG_S):
        if world.shot:
            break
        await asyncio.sleep(1)
    await asyncio.sleep(3 * world.head_start_ms / 1000)
    return world.shot


@pytest.mark.parametrize("seed", seeds()[:50])
def test_a_switch_that_fails_costs_one_host_and_no_guest(monkeypatch, seed):
    """A retry of one node never meets a shot of the other one."""
    world, shot = run(monkeypatch, seed, cut_with_a_switch_that_fails)
    assert len(shot) == 1, [vars(one) for one in world.fenced]


def test_without_turns_a_switch_that_fails_may_cost_both(monkeypatch):
    """A negative control."""
    assert any(len(run(monkeypatch, seed, cut_with_a_switch_that_fails, turns_ms=0)[1]) == 2 for seed in range(200))
