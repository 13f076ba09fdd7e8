"""What Pacemaker's orders do to a node in each state, what a monitor says, and what score the node has."""

import asyncio

import pytest

from pycolo.arbiters.runner import ArbiterRunner
from pycolo.errors import PeerError
from pycolo.failover.pacemaker import PacemakerArbiter
from pycolo.failover.pair import Pair, Settings, Told
from pycolo.failover.pairstates import FREE, IN_STEP, ON_GUARD, Command, Fact, Release, State
from pycolo.failover.turns import Turns
from pycolo.node.cluster import (
    SCORE_COLD,
    SCORE_HANDED_OVER,
    SCORE_IN_STEP,
    SCORE_READY,
    SCORE_SERVES,
    Cluster,
)
from pycolo.node.decider import Decider
from pycolo.node.permission import Permission

EMPTY = {State.PRIMARY_EMPTY, State.SECONDARY_WAITING, State.SECONDARY_LINKED, State.PREPARING, State.STARTING}
UNFIT = EMPTY | {State.RETIRING}
HOLDING = {*FREE, *ON_GUARD, State.DISSOLVING, State.PRIMARY_SUSPECT, State.PRIMARY_ACTING} - {State.SWITCHING}


class World:
    """A node's decider with the real table and core; commands are carried out at once, and all succeed."""

    def __init__(self, state):
        self.done = []
        self.scores = []
        self.guest_fails = False
        self.decider = Decider(Pair(Settings(timeout_ms=150), state, term=3, link=1, last_link=1))
        self.decider.does = self.carry_out
        self.core = PacemakerArbiter(0, Turns(0, 0))
        make = lambda on_change: ArbiterRunner(self.core, on_change, self.never)  # noqa: E731
        self.permission = Permission(make, self.decider.tell, lambda: self.decider.pair.term)
        self.cluster = Cluster(self.decider, self.permission, self.core, self, "b", self.set_score)
        self.decider.watch = self.cluster.changed

    async def never(self, request):
        await asyncio.Event().wait()

    async def set_score(self, score):
        if self.scores and self.scores[-1] == "fail":
            self.scores[-1] = "failed"
            raise PeerError("attrd_updater: no answer")
        self.scores.append(score)

    is_there = True

    def hold_back(self):
        self.done.append("hold back")

    async def end(self):
        self.done.append("end")

    async def pause(self):
        self.done.append("pause")

    async def resume(self):
        self.done.append("resume")

    async def snapshot(self):
        self.done.append("snapshot")

    def carry_out(self, command, pair, told):
        answers = {Command.RECORD: Fact.RECORDED, Command.SWITCH: Fact.SERVED, Command.RETIRE: Fact.RETIRED}
        if command in answers:
            self.decider.tell(answers[command], Told(ask=pair.asked))
        self.done.append(command)

    @property
    def state(self):
        return self.decider.pair.state

    def may_release(self):
        """As the gate asks; a paused guest sends nothing."""
        is_bound = self.core.serve_until_ns() == 0
        return self.decider.pair.release is not Release.NOTHING and not is_bound

    async def order(self, action, **more):
        return await self.cluster.request({"command": "pacemaker", "action": action, **more})


def play(state, work):
    async def run():
        world = World(state)
        await world.permission.start()
        result = await work(world)
        await world.permission.close()
        return result

    return asyncio.run(run())


def orders(state, *actions):
    """The world after them, and their answers."""

    async def work(world):
        return world, [await world.order(action) for action in actions]

    return play(state, work)


@pytest.mark.parametrize("state", sorted(IN_STEP))
def test_promoting_a_secondary_in_step_makes_it_serve(state):
    world, (answer,) = orders(state, "promote")
    assert answer["role"] == "promoted"
    assert (world.state, answer["term"]) == (State.SERVING, 4)
    assert world.may_release()


@pytest.mark.parametrize("state", sorted(UNFIT))
def test_a_node_without_a_guest_refuses_and_serves_nothing(state):
    world, (answer,) = orders(state, "promote")
    assert "error" in answer
    assert world.state is state
    assert not world.may_release()
    assert world.cluster.score is None


@pytest.mark.parametrize("state", sorted(HOLDING))
def test_a_node_serves_nothing_until_it_is_promoted_nor_after_it_was_demoted(state):
    async def work(world):
        assert not world.may_release()
        linked = world.decider.pair._replace(state=State.PRIMARY_LINKED)
        world.cluster.changed(Fact.LINKED, world.decider.pair, linked)
        assert (await world.order("promote"))["role"] == "promoted"
        assert world.may_release() is (world.decider.pair.release is not Release.NOTHING)
        assert (await world.order("monitor"))["role"] == "promoted"
        assert world.cluster.score == SCORE_SERVES
        world.done.append("demoted")
        assert (await world.order("demote"))["role"] == "unpromoted"
        assert not world.may_release()
        assert ("pause" in world.done) is (world.state in FREE)
        assert (await world.order("monitor"))["role"] == "unpromoted"
        assert world.cluster.score == SCORE_HANDED_OVER
        assert (await world.order("promote"))["role"] == "promoted"
        assert "resume" in world.done[world.done.index("demoted") :]

    play(state, work)


def test_a_node_that_has_not_heard_the_other_one_does_not_begin_alone():
    async def work(world):
        assert "heard" in (await world.order("promote"))["error"]
        assert world.cluster.score is None
        assert world.cluster.vouched()
        assert world.cluster.score == SCORE_COLD
        assert (await world.order("promote"))["role"] == "promoted"
        assert not world.cluster.vouched(), "it serves"

    play(State.PRIMARY_WAITING, work)


@pytest.mark.parametrize(
    ("state", "score"),
    [
        (State.SECONDARY_PROTECTED, SCORE_IN_STEP),
        (State.ASKING, SCORE_IN_STEP),
        (State.SWITCHING, SCORE_SERVES),
        (State.RESTARTED, SCORE_HANDED_OVER),
        (State.PRIMARY_PROTECTED, SCORE_READY),
        (State.PRIMARY_WAITING, None),
    ],
)
def test_scores_before_any_order(state, score):
    assert orders(state)[0].cluster.score == score


def test_scores_are_in_the_order_in_which_pacemaker_is_to_choose():
    assert SCORE_SERVES > SCORE_READY > SCORE_IN_STEP > SCORE_HANDED_OVER > SCORE_COLD > 0


def test_a_node_that_took_over_by_itself_is_unpromoted_until_pacemaker_has_promoted_it():
    """Reported as promoted before that, Pacemaker would stop it."""

    async def work(world):
        world.permission.ask()
        world.decider.tell(Fact.LINK_LOST, Told(link=1))
        world.permission.operator_confirmed()
        assert world.state is State.SERVING
        assert world.may_release()
        assert (await world.order("monitor"))["role"] == "unpromoted"
        assert world.cluster.score == SCORE_SERVES
        assert (await world.order("promote"))["role"] == "promoted"
        assert (await world.order("monitor"))["role"] == "promoted"

    play(State.SECONDARY_PROTECTED, work)


def test_a_probe_finds_what_is_whatever_was_ordered():
    async def work(world):
        world.permission.ask()
        world.permission.operator_confirmed()
        assert (await world.order("monitor", probe=True))["role"] == "promoted"
        assert (await world.order("monitor"))["role"] == "promoted"

    play(State.SECONDARY_PROTECTED, work)


def test_a_primary_without_a_guest_has_failed():
    assert orders(State.PRIMARY_EMPTY, "monitor")[1][0]["role"] == "unpromoted"

    async def work(world):
        await world.order("promote")
        world.is_there = False
        assert (await world.order("monitor"))["role"] == "failed"

    play(State.SECONDARY_PROTECTED, work)


@pytest.mark.parametrize("state", sorted(ON_GUARD))
def test_a_node_that_is_stopped_hands_over_and_never_asks_the_other_one_to_discard_its_copy(state):
    world, _ = orders(state, "demote", "stop")
    assert world.state is State.SECONDARY_WAITING
    assert Command.SAY_RESIGNED in world.done
    assert Command.ASK_DISCARD not in world.done


@pytest.mark.parametrize("state", sorted({*IN_STEP, *UNFIT}))
def test_a_node_that_is_demoted_without_a_guest_of_its_own_may_take_over_later(state):
    """Pacemaker demotes a node that has retired by itself; it is the other one's secondary then."""
    world, _ = orders(state, "demote")
    assert not world.core.is_demoted
    assert not world.may_release()


@pytest.mark.parametrize("state", sorted(ON_GUARD))
def test_where_both_nodes_are_stopped_the_primary_stays_the_primary(state):
    """Two secondaries could not begin anew."""

    async def work(world):
        await world.order("demote")
        stopping = asyncio.ensure_future(world.order("stop", stopping=["a", "b"]))
        while world.state is not State.DISSOLVING:
            await asyncio.sleep(0)
        world.decider.tell(Fact.PROMISED, Told(ask=world.decider.pair.asked))
        await stopping
        assert world.state is State.ALONE
        assert world.decider.pair.role == "primary"
        assert Command.SAY_RESIGNED not in world.done
        assert world.done[-1] == "end"

    play(state, work)


def test_a_notification_that_the_other_node_is_stopped_permits_what_is_asked():
    async def work(world):
        await world.order("notify", stopped=["c"])
        world.decider.tell(Fact.SILENT, Told(link=1))
        world.permission.ask()
        assert world.state is State.PRIMARY_SUSPECT
        await world.order("notify", stopped=["b"])
        assert world.state is State.ALONE

    play(State.PRIMARY_PROTECTED, work)


@pytest.mark.parametrize("request_", [{}, {"action": 3}, {"action": "fence"}, {"action": "notify", "stopped": "b"}])
def test_what_no_agent_says_is_harmless(request_):
    async def work(world):
        answer = await world.cluster.request(request_)
        assert "error" in answer or answer["role"] == ""
        assert world.state is State.PRIMARY_PROTECTED

    play(State.PRIMARY_PROTECTED, work)


def test_the_score_is_told_at_each_change_and_again_when_that_failed(monkeypatch):
    monkeypatch.setattr("pycolo.node.cluster.SCORE_AGAIN_S", 0.01)

    async def work(world):
        await world.cluster.start()
        await until(lambda: world.scores == [SCORE_IN_STEP])
        world.scores.append("fail")
        await world.order("promote")
        await until(lambda: world.scores == [SCORE_IN_STEP, "failed", SCORE_SERVES])
        await world.cluster.close()

    play(State.SECONDARY_PROTECTED, work)


async def until(holds):
    async with asyncio.timeout(30):
        while not holds():
            await asyncio.sleep(0.005)


def test_a_promotion_resumes_the_guest_when_the_takeover_is_over_and_not_before():
    async def play():
        world = World(State.SWITCHING)
        async with asyncio.TaskGroup() as tasks:
            promoted = tasks.create_task(world.cluster.request({"action": "promote"}))
            for _ in range(5):
                await asyncio.sleep(0)
            assert "resume" not in world.done
            world.decider.tell(Fact.SERVED, Told(ask=world.decider.pair.asked))
        assert promoted.result()["role"] == "promoted"
        assert "resume" in world.done

    asyncio.run(play())
