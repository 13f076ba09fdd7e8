"""Which facts the guest with a QEMU tells unasked when a whole pair breaks, or a checkpoint does not end."""

import asyncio

import pytest

from pycolo.errors import PeerError, QmpTimeout
from pycolo.failover.pairstates import Fact
from pycolo.vm import guest, guestsearch
from support.guestworld import play, until

F = Fact


@pytest.fixture
def scene(tmp_path, monkeypatch):
    """Plays a scene: a function of the world."""
    monkeypatch.setattr(guest, "RETRY_S", 0.01)
    monkeypatch.setattr(guestsearch, "RETRY_S", 0.01)
    return lambda play_it: play(tmp_path, monkeypatch, play_it)


def test_what_breaks_a_whole_pair_is_told_with_its_link(scene):
    async def play_it(world):
        await world.protected()
        world.b.qemu.die()
        await until(lambda: F.COLO_BROKEN in world.a.told())
        assert {link for fact, _, link in world.a.facts if fact is F.COLO_BROKEN} == {world.links}
        assert world.b.told() == {F.GUEST_GONE, F.COLO_BROKEN}
        world.b.guest.discard()
        await until(lambda: F.DATA_LOST in world.a.told())
        assert {link for fact, _, link in world.a.facts if fact is F.DATA_LOST} == {world.links}

    scene(play_it)


@pytest.mark.parametrize("is_on_guard", [False, True])
@pytest.mark.parametrize(
    ("fault", "fact"),
    [
        (QmpTimeout("vm1", "query-status", 1, "no answer"), F.GUEST_HANGS),
        (None, F.COLO_BROKEN),
        (PeerError("QMP is closed"), None),
    ],
)
def test_a_checkpoint_that_does_not_end(scene, fault, fact, is_on_guard):
    """Whose QEMU hangs is asked while the other node is heard; else it may hang in the dead one's stream."""

    async def play_it(world):
        await world.protected()
        world.a.is_guarding = is_on_guard
        world.a.qemu.faults["query-status"] = fault
        world.a.guest.checkpoint_overdue("a checkpoint is not done after 5 s")
        await asyncio.gather(*world.a.guest._asking)
        assert world.a.told() == ({fact} if fact is not None and is_on_guard else set())

    scene(play_it)
