"""An attempt that failed for want of libvirt begins again when that answers, and no other one does."""

import asyncio

import pytest

from pycolo.failover.pairstates import Fact
from pycolo.vm import libvirtwatch
from pycolo.vm.libvirtwatch import LibvirtWatch
from support import virtualloop


class World:
    """The domain and the node."""

    def __init__(self):
        self.is_there = True
        self.asked = 0
        self.facts = []

    async def answers(self):
        self.asked += 1
        return self.is_there

    def tell(self, fact, told):
        self.facts.append((fact, told.text))


def test_it_is_told_once_as_soon_as_it_answers_again():
    async def scene():
        world = World()
        watch = LibvirtWatch(world, world)
        assert not await watch.is_lacking()
        world.is_there = False
        for _ in range(3):
            assert await watch.is_lacking()
        world.asked = 0
        await asyncio.sleep(60 * libvirtwatch.LOOK_S + 0.1)
        assert world.facts == []
        assert world.asked == 60, "one question at a time, each interval"
        world.is_there = True
        await asyncio.sleep(10 * libvirtwatch.LOOK_S)
        assert world.facts == [(Fact.AVAILABLE, "libvirt answers again")]
        world.is_there = False
        assert await watch.is_lacking(), "the next time it is told again"
        world.is_there = True
        await asyncio.sleep(2 * libvirtwatch.LOOK_S)
        assert len(world.facts) == 2
        await watch.close()

    virtualloop.run(scene())


@pytest.mark.parametrize("ends", ["closed", "no domain"])
def test_nothing_is_told_of_a_node_that_ends_or_of_a_guest_without_libvirt(ends):
    async def scene():
        world = World()
        world.is_there = False
        watch = LibvirtWatch(None if ends == "no domain" else world, world)
        assert await watch.is_lacking() == (ends == "closed")
        await watch.close()
        world.is_there = True
        await asyncio.sleep(5 * libvirtwatch.LOOK_S)
        assert world.facts == []

    virtualloop.run(scene())
