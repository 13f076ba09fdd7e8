"""What keeps the pair's value: facts in order, commands in order, deadlines."""

import asyncio

import pytest

from pycolo.failover.pair import Pair, Settings, Told
from pycolo.failover.pairstates import Command, Fact, State
from pycolo.node.decider import Decider
from support import virtualloop

SETTINGS = Settings(timeout_ms=20, back_off_first_ms=0, retry_ms=10)


class Watched:
    """A decider, and what it had done."""

    def __init__(self, state, **more):
        self.done = []
        self.states = []
        self.answers = {}
        self.decider = Decider(Pair(SETTINGS, state, **more))
        self.decider.does = self._do
        self.decider.watch = lambda fact, before, after: self.states.append((fact, after.state))

    def _do(self, command, pair, told):
        self.done.append(command)
        if command in self.answers:
            self.decider.tell(self.answers[command], Told(ask=pair.asked))
            self.done.append(f"behind {command.name}")


def run(work):
    return virtualloop.run(work())


def test_what_is_told_while_commands_are_carried_out_waits_for_their_end():
    async def work():
        watched = Watched(State.PRIMARY_LINKED, link=1, last_link=1)
        watched.answers = {Command.PROTECT: Fact.SYNCHRONISED, Command.RECORD: Fact.RECORDED}
        watched.decider.tell(Fact.PROTECT_WISHED)
        return watched

    watched = run(work)
    assert watched.done == [
        Command.KEEP_WISH,
        Command.PROTECT,
        "behind PROTECT",
        Command.RECORD,
        "behind RECORD",
        Command.SAY_PROTECTED,
    ]
    assert [state for _, state in watched.states] == [State.PROTECTING, State.COMMITTING, State.PRIMARY_PROTECTED]


def test_a_deadline_is_a_fact_when_it_has_come():
    async def work():
        watched = Watched(State.SECONDARY_PROTECTED, link=1, last_link=1)
        watched.decider.tell(Fact.LINK_LOST, Told(link=1))
        assert watched.decider.pair.state is State.YIELDING
        return watched, await watched.decider.settled({State.ASKING}, 10)

    watched, pair = run(work)
    assert pair.state is State.ASKING
    assert watched.states[-1] == (None, State.ASKING)
    assert watched.done[-1] is Command.ASK_ARBITER


def test_a_deadline_of_a_state_that_was_left_is_none():
    async def work():
        watched = Watched(State.PRIMARY_PROTECTED, link=1, last_link=1)
        watched.decider.tell(Fact.DATA_LOST, Told(link=1))
        assert watched.decider.pair.deadline_ms >= watched.decider.now_ms
        watched.decider.tell(Fact.PEER_LEFT, Told(link=1))
        await asyncio.sleep(0.05)
        return watched

    assert Command.ASK_DISCARD not in run(work).done


def test_settled_is_the_value_of_the_moment_even_where_the_state_does_not_last():
    async def work():
        watched = Watched(State.PRIMARY_SUSPECT, link=1, last_link=1)
        watched.answers = {Command.RECORD: Fact.RECORDED}
        task = asyncio.get_running_loop().create_task(watched.decider.settled({State.GOING_ALONE}, 10))
        await asyncio.sleep(0)
        watched.decider.tell(Fact.GRANTED, Told(term=1))
        assert watched.decider.pair.state is State.ALONE
        return (await task).state

    assert run(work) is State.GOING_ALONE


def test_settled_gives_up_with_the_value_of_the_moment():
    async def work():
        watched = Watched(State.PRIMARY_SUSPECT)
        return (await watched.decider.settled({State.ALONE}, 0.01)).state

    assert run(work) is State.PRIMARY_SUSPECT


@pytest.mark.parametrize("fact", list(Fact))
def test_nothing_follows_once_it_is_closed(fact):
    async def work():
        watched = Watched(State.PRIMARY_PROTECTED, link=1, last_link=1)
        watched.decider.close()
        watched.decider.tell(fact)
        return watched

    watched = run(work)
    assert watched.done == watched.states == []
