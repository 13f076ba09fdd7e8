"""Every command in every state of the guest with a QEMU: none raises, each is answered, and no task is left behind."""

import asyncio
import random

import pytest

from pycolo.failover.pairstates import Fact, Role
from pycolo.vm import guest, guestsearch
from pycolo.vm.primaryguest import PrimaryGuest
from pycolo.vm.secondaryguest import SecondaryGuest
from support.guestworld import HANG, play, until

ROUNDS = 3


def hangs_at(monkeypatch, cls, name):
    reached = asyncio.Event()

    async def hang(self):
        reached.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(cls, name, hang)
    return reached


# ── states: a function that brings a node there, and returns it ─────────────────────────────────────────────


async def no_guest(world, monkeypatch):
    return world.b


async def found(world, monkeypatch):
    return world.a


async def alone(world, monkeypatch):
    world.a.guest.release()
    await world.a.guest.settled()
    return world.a


async def dead(world, monkeypatch):
    await world.protected()
    world.a.qemu.die()
    return world.a


async def protecting(world, monkeypatch):
    reached = hangs_at(monkeypatch, PrimaryGuest, "take_place")
    world.protect()
    await until(reached.is_set)
    return world.a


async def undoing(world, monkeypatch):
    reached = hangs_at(monkeypatch, PrimaryGuest, "remove_taps")
    await protecting(world, monkeypatch)
    world.a.guest.cancel_protect("the link is lost")
    await until(reached.is_set)
    return world.a


async def synchronised(world, monkeypatch):
    world.a.commits = False
    world.protect()
    await until(lambda: world.a.answers)
    return world.a


async def whole(world, monkeypatch):
    await world.protected()
    return world.a


async def going_alone(world, monkeypatch):
    await world.protected()
    reached = hangs_at(monkeypatch, PrimaryGuest, "leave_colo")
    world.a.guest.release()
    await until(reached.is_set)
    return world.a


async def preparing(world, monkeypatch):
    reached = hangs_at(monkeypatch, SecondaryGuest, "connect_qmp")
    world.protect()
    await until(reached.is_set)
    return world.b


async def in_step(world, monkeypatch):
    await world.protected()
    return world.b


async def taking_over(world, monkeypatch):
    await world.protected()
    reached = hangs_at(monkeypatch, SecondaryGuest, "leave_colo")
    world.b.moment, world.b.is_next = Role.PRIMARY, True
    world.b.guest.switch(world.b.answer)
    await until(reached.is_set)
    return world.b


async def serving(world, monkeypatch):
    await world.protected()
    world.b.moment = Role.PRIMARY
    world.b.guest.switch(world.b.answer)
    await world.b.guest.settled()
    return world.b


async def retiring(world, monkeypatch):
    await world.protected()
    world.a.qemu.faults["kill"] = HANG
    world.a.guest.retire(world.a.answer)
    return world.a


STATES = [
    no_guest,
    found,
    alone,
    dead,
    protecting,
    undoing,
    synchronised,
    whole,
    going_alone,
    preparing,
    in_step,
    taking_over,
    serving,
    retiring,
]

# command -> facts that it may be answered with
ANSWERED = {
    "protect": {Fact.SYNCHRONISED, Fact.PROTECT_FAILED, Fact.PROTECT_LACKS},
    "prepare": {Fact.PREPARE_FAILED},
    "switch": {Fact.SERVED, Fact.SERVE_FAILED},
    "retire": {Fact.RETIRED, Fact.RETIRE_FAILED},
}


class Asked:
    """Gives one guest every command, and notes the answers to each."""

    def __init__(self, world, node):
        self.world = world
        self.node = node
        self.answers = {name: [] for name in ANSWERED}

    def commands(self):
        one = self.node.guest
        return {
            "halt": one.halt,
            "unlinked": one.unlinked,
            "release": one.release,
            "committed": one.committed,
            "cancel_protect": lambda: one.cancel_protect("the link is lost"),
            "discard": one.discard,
            "switch": lambda: one.switch(self.answer("switch")),
            "retire": lambda: one.retire(self.answer("retire")),
            "protect": lambda: one.protect(9, self.data(), self.answer("protect")),
            "prepare": lambda: one.prepare(9, self.data(), self.ready, self.answer("prepare")),
        }

    def data(self):
        self.world.link()
        return self.node.data

    def answer(self, name):
        return lambda fact, text: self.answers[name].append(fact)

    def ready(self, found):
        self.answers["prepare"].append(found)


@pytest.mark.parametrize("number", range(ROUNDS))
@pytest.mark.parametrize("state", STATES, ids=lambda state: state.__name__)
def test_no_command_raises_and_no_answer_comes_twice(tmp_path, monkeypatch, state, number):
    """All of them, in an order that is drawn: with and without time for one before the next."""
    drawn = random.Random(f"{state.__name__} {number}")
    monkeypatch.setattr(guest, "RETRY_S", 0.01)
    monkeypatch.setattr(guestsearch, "RETRY_S", 0.01)
    monkeypatch.setattr(guest, "STOP_S", 0.3)

    async def play_it(world):
        node = await state(world, monkeypatch)
        asked = Asked(world, node)
        commands = list(asked.commands().items())
        drawn.shuffle(commands)
        for _, do in commands:
            do()
            for _ in range(drawn.choice((0, 0, 1, 30))):
                await asyncio.sleep(0.001)
            assert (await node.guest.snapshot())["counters"] is not None
            assert "qmp" in await node.guest.guest_status()
            node.guest.plan_status()
            await node.guest.answers()
        await node.guest.stop()
        for name, facts in asked.answers.items():
            assert len(facts) <= 1, name
            assert all(not isinstance(fact, Fact) or fact in ANSWERED[name] for fact in facts)

    play(tmp_path, monkeypatch, play_it)
