"""When a guest may begin anew at an operator's word: where no host has one, and no other node has newer state."""

import asyncio

import pytest

from pycolo.errors import StateError
from pycolo.failover.pair import NOTHING_TOLD, Pair, Settings
from pycolo.failover.pairstates import Command, Fact, State
from pycolo.node.decider import Decider
from pycolo.vm.coldstart import ColdStart

TERM = 7
WITHOUT_GUEST = {State.SECONDARY_WAITING, State.PRIMARY_EMPTY}
EMPTY = {"is": "empty", "term": TERM, "state": "secondary, waiting"}


class World:
    """A node whose record is written at once, and another one that answers `said` at each of its addresses."""

    def __init__(self, state, said=(), pacemaker=False):
        self.said = list(said)
        self.held_back = 0
        self.pacemaker = self if pacemaker else None
        self.decider = Decider(Pair(Settings(timeout_ms=150), state, term=TERM))
        self.decider.does = self.carry_out
        self.decider.watch = lambda fact, before, after: None
        self.meanwhile = None
        self.disks_are_half = False
        self.vouched = []

    def carry_out(self, command, pair, told):
        if command is Command.RECORD:
            self.decider.tell(Fact.RECORDED, NOTHING_TOLD._replace(ask=pair.asked))

    async def states(self):
        if self.meanwhile is not None:
            self.decider.pair = self.decider.pair._replace(state=self.meanwhile)
        return self.said

    def begins_anew(self):
        assert self.decider.pair.state in WITHOUT_GUEST, "held back before anything may leave"
        self.held_back += 1

    async def begin(self, is_other_lost):
        cold_start = ColdStart(self.decider, self, lambda: self.pacemaker, self.require_disks)
        return await cold_start.begin(is_other_lost=is_other_lost)

    async def require_disks(self, *, is_other_lost):
        self.vouched.append(is_other_lost)
        if self.disks_are_half:
            raise StateError("disks", "a copy that was not finished", "whole")


def begin(state, said=(), *, is_other_lost=False, pacemaker=False, meanwhile=None):
    async def run():
        world = World(state, said, pacemaker)
        world.meanwhile = meanwhile
        return world, await world.begin(is_other_lost)

    return asyncio.run(run())


@pytest.mark.parametrize("state", State)
def test_a_node_with_a_guest_or_a_link_begins_nothing_anew(state):
    if state in WITHOUT_GUEST:
        assert begin(state, [EMPTY])[1]["term"] == TERM + 1
    else:
        with pytest.raises(StateError, match="no guest on either host"):
            begin(state, [EMPTY])


@pytest.mark.parametrize("state", sorted(WITHOUT_GUEST))
@pytest.mark.parametrize(
    ("said", "text"),
    [
        ([EMPTY | {"term": TERM + 1}], "the same command on that host"),
        ([EMPTY, EMPTY | {"term": TERM + 1}], "the same command on that host"),
        ([{"is": "alive", "term": 1, "state": "primary, alone"}], "primary, alone"),
        ([{"is": None, "term": 1, "state": "secondary, protecting"}], "secondary, protecting"),
        ([], "without an answer"),
    ],
)
def test_what_the_other_node_says_counts_more_than_the_operators_word(state, said, text):
    for is_other_lost in (False, True) if said else (False,):
        with pytest.raises(StateError, match=text):
            begin(state, said, is_other_lost=is_other_lost)


def test_an_other_host_that_is_lost_need_not_be_asked():
    world, answer = begin(State.SECONDARY_WAITING, is_other_lost=True)
    assert world.decider.pair.state is State.PRIMARY_WAITING
    assert world.vouched == [True]
    assert answer == {"state": "waiting; start the guest's QEMU now", "term": TERM + 1}


def test_the_states_are_looked_at_again_when_the_other_node_has_answered():
    with pytest.raises(StateError, match="no guest on either host"):
        begin(State.SECONDARY_WAITING, [EMPTY], meanwhile=State.SECONDARY_LINKED)


def test_under_pacemaker_the_guest_waits_for_a_promotion():
    world, answer = begin(State.SECONDARY_WAITING, [EMPTY], pacemaker=True)
    assert world.held_back == 1
    assert "Pacemaker may promote this node" in answer["state"]


def test_nothing_begins_from_disks_that_were_being_copied():
    world = None

    async def run():
        nonlocal world
        world = World(min(WITHOUT_GUEST), [EMPTY])
        world.disks_are_half = True
        await world.begin(is_other_lost=False)

    with pytest.raises(StateError, match="a copy that was not finished"):
        asyncio.run(run())
    assert world.decider.pair.state in WITHOUT_GUEST
