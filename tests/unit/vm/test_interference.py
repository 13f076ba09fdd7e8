"""What other programs do to a protected guest, and what the guest does to itself: said, or a fact of the pair's."""

import pytest

from pycolo.failover.pairstates import Fact
from pycolo.qmp.client import QmpEvent
from pycolo.vm import interference
from pycolo.vm.interference import Interference
from support import virtualloop


class World:
    """The node's parts."""

    def __init__(self):
        self.is_whole = True
        self.is_checkpoint = False
        self.facts, self.notes = [], []
        self.one = Interference(self, self, lambda: self.is_whole, lambda: self.is_checkpoint)

    def tell(self, fact, told):
        assert told.text
        self.facts.append(fact)

    def keep_meddling(self, notes):
        self.notes = [note.code for note in notes]

    def hear(self, name, **data):
        self.one.heard(QmpEvent(name, data, 0, 0))


async def wait(times=1.0):
    import asyncio

    await asyncio.sleep(interference.STOPPED_S * times + 0.01)


def test_a_guest_that_is_suspended_is_said_until_it_runs():
    async def scene():
        world = World()
        world.hear("STOP")
        assert world.notes == []
        await wait()
        assert (world.notes, world.facts) == (["suspended"], [])
        world.hear("RESUME")
        assert world.notes == []

    virtualloop.run(scene())


def test_a_checkpoint_that_takes_long_is_no_suspend():
    async def scene():
        world = World()
        world.is_checkpoint = True
        world.hear("STOP")
        await wait(5)
        assert world.notes == []
        world.hear("RESUME")
        world.is_checkpoint = False
        await wait(5)
        assert world.notes == []

    virtualloop.run(scene())


def test_what_was_stopped_and_is_protected_no_longer_is_nobodys_concern():
    async def scene():
        for ends in ("broken", "forgotten"):
            world = World()
            world.hear("STOP")
            world.is_whole = ends != "broken"
            if ends == "forgotten":
                world.one.forget()
            await wait(2)
            assert world.notes == []

    virtualloop.run(scene())


@pytest.mark.parametrize("is_told_late", [False, True])
def test_the_end_of_qemu_is_told_after_what_it_has_said_last(is_told_late):
    async def scene():
        world = World()
        world.one.ended(lambda: world.facts.append(Fact.GUEST_GONE), is_told_late=is_told_late)
        world.hear("SHUTDOWN", guest=True, reason="guest-shutdown")
        await wait()
        first = Fact.GUEST_OFF if is_told_late else Fact.GUEST_GONE
        assert world.facts[0] is first
        assert set(world.facts) == {Fact.GUEST_OFF, Fact.GUEST_GONE}

    virtualloop.run(scene())


@pytest.mark.parametrize(
    ("name", "data", "facts"),
    [
        ("MIGRATION", {"status": "setup"}, [Fact.GUEST_HANGS]),
        ("MIGRATION", {"status": "colo"}, []),
        ("SHUTDOWN", {"guest": True, "reason": "guest-shutdown"}, [Fact.GUEST_OFF]),
        ("SHUTDOWN", {"guest": True, "reason": "guest-reset"}, [Fact.GUEST_OFF]),
        ("SHUTDOWN", {"guest": True, "reason": "guest-panic"}, []),
        ("SHUTDOWN", {"guest": False, "reason": "host-signal"}, []),
        ("SHUTDOWN", {}, []),
        ("RESET", {"guest": True}, []),
    ],
)
def test_which_events_end_a_pair(name, data, facts):
    world = World()
    world.hear(name, **data)
    assert world.facts == facts
    world.facts.clear()
    world.is_whole = False
    world.hear(name, **data)
    told = [Fact.GUEST_OFF] if Fact.GUEST_OFF in facts else []
    assert world.facts == told, "while it is copied, that it has ended itself: nothing has failed"
