"""Running a plan: handlers in order, a crash that a new run makes good, bugs that leave nothing behind."""

import asyncio

import pytest

from pycolo.errors import ConnectError, FailoverError, PeerError
from pycolo.failover.plans import PROTECT, TAKE_OVER, PlanRun, Problem, RunPhase
from pycolo.node.planner import GivenUpError, GivingUp, run_plan


class Crash(BaseException):
    """The process dies here."""


class World:
    """What handlers act on: which steps have an effect. Everything is idempotent."""

    def __init__(self, plan):
        self.plan = plan
        self.there = set()
        self.calls = []
        self.errors = {}
        self.crash_at = None
        self.steps = []
        self.last = None

    def handlers(self):
        undone = {step.undo: step.name for step in self.plan.steps if step.undo}
        return {does: self.handler(does, undone.get(does)) for does in self.plan.handlers()}

    def handler(self, does, undone):
        async def handle():
            self.calls.append(does)
            await asyncio.sleep(0)
            if undone is None:
                self.there.add(does)  # half done, if it fails now
            if len(self.calls) == self.crash_at:
                raise Crash
            if does in self.errors:
                raise self.errors[does]
            self.there.discard(undone)

        return handle

    def run(self, run=None):
        self.last = run or PlanRun(self.plan)
        asyncio.run(run_plan(self.last, self.handlers(), lambda run: self.steps.append(run.task().does)))
        return self.last


def test_a_plan_that_finishes():
    world = World(PROTECT)
    run = world.run()
    assert run.phase is RunPhase.FINISHED
    assert world.calls == world.steps == [step.name for step in PROTECT.steps]
    assert run.is_over


@pytest.mark.parametrize("error", [PeerError("QMP says no"), ConnectError("no such socket")])
def test_a_step_that_fails_is_undone_and_its_error_is_raised(error):
    world = World(PROTECT)
    world.errors["migrate"] = error
    with pytest.raises(type(error)) as raised:
        world.run()
    assert raised.value is error
    assert world.there <= {"probe", "prepare-peer", "ensure-running"}
    assert world.last.failure == Problem("migrate", str(error))


def test_an_error_of_the_system_names_the_step():
    world = World(TAKE_OVER)
    world.errors["serve-network"] = TimeoutError()
    with pytest.raises(FailoverError, match="failover of the secondary, step serve-network: TimeoutError"):
        world.run()


def test_errors_of_undos_do_not_hide_the_first():
    world = World(PROTECT)
    world.errors = {
        "migrate": PeerError("first"),
        "leave-colo": PeerError("second"),
        "ensure-running": OSError("third"),
    }
    with pytest.raises(PeerError, match="first"):
        world.run()
    assert world.last.problems == [Problem("leave-colo", "second"), Problem("ensure-running", "third")]


@pytest.mark.parametrize("place", range(len(PROTECT.steps)))
def test_a_bug_leaves_nothing_behind_and_is_raised(place):
    name = PROTECT.steps[place].name
    world = World(PROTECT)
    world.errors[name] = ZeroDivisionError("here")
    with pytest.raises(ZeroDivisionError):
        world.run()
    assert world.there <= {"probe", "prepare-peer", "first-checkpoint", "ensure-running"}
    assert world.last.failure == Problem(name, "ZeroDivisionError: here; this is a bug")


@pytest.mark.parametrize("plan", [PROTECT, TAKE_OVER], ids=lambda plan: plan.name)
def test_after_a_crash_in_any_call_the_plan_anew_leads_to_the_same_world(plan):
    """Nothing is kept of a run: what was done already is done once more, and does no harm."""
    whole = World(plan)
    whole.run()
    for cut in range(1, len(whole.calls) + 1):
        world = World(plan)
        world.crash_at = cut
        with pytest.raises(Crash):
            world.run()
        world.crash_at = None
        assert world.run().phase is RunPhase.FINISHED
        assert world.there == whole.there


def test_a_cancellation_ends_it_where_it_is():
    world, run = World(PROTECT), PlanRun(PROTECT)
    handlers = world.handlers()

    async def main():
        reached = asyncio.Event()

        async def migrate():
            reached.set()
            await asyncio.Event().wait()

        task = asyncio.get_running_loop().create_task(run_plan(run, handlers | {"migrate": migrate}))
        await reached.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert run.task().does == "migrate"


def test_a_step_without_a_handler_is_a_bug_before_anything_is_done():
    world = World(PROTECT)
    handlers = world.handlers()
    del handlers["leave-colo"]
    with pytest.raises(AssertionError, match="no handler for leave-colo"):
        asyncio.run(run_plan(PlanRun(PROTECT), handlers))
    assert world.calls == []


# ── giving up ───────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("place", range(len(PROTECT.steps)))
def test_a_plan_that_is_given_up_in_a_step_is_undone_and_leaves_no_task(place):
    name = PROTECT.steps[place].name
    world, run, ended = World(PROTECT), PlanRun(PROTECT), []

    async def main():
        giving_up, reached = GivingUp(), asyncio.Event()
        handlers = world.handlers()
        do = handlers[name]

        async def hang():
            await do()
            if reached.is_set():
                return
            reached.set()
            try:
                await asyncio.Event().wait()
            finally:
                ended.append(name)

        task = asyncio.get_running_loop().create_task(run_plan(run, handlers | {name: hang}, giving_up=giving_up))
        await reached.wait()
        giving_up.give_up("the link is lost")
        giving_up.give_up("and more")
        with pytest.raises(GivenUpError, match=r"^the link is lost$"):
            await task
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(main())
    assert ended == [name]
    assert run.failure == Problem(name, "the link is lost")
    assert world.there <= {"probe", "prepare-peer", "first-checkpoint", "ensure-running"}


def test_a_cancelled_plan_waits_for_its_step_to_end():
    async def main():
        reached, ended = asyncio.Event(), []

        async def hang():
            reached.set()
            try:
                await asyncio.Event().wait()
            finally:
                await asyncio.sleep(0)
                ended.append("probe")

        handlers = World(PROTECT).handlers() | {"probe": hang}
        task = asyncio.get_running_loop().create_task(run_plan(PlanRun(PROTECT), handlers, giving_up=GivingUp()))
        await reached.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert ended == ["probe"]
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(main())


@pytest.mark.parametrize("is_cancelled", [False, True])
def test_what_a_step_says_as_it_is_broken_off_is_not_lost(is_cancelled, logged):
    async def main():
        reached, giving_up = asyncio.Event(), GivingUp()

        async def fails_late():
            reached.set()
            try:
                await asyncio.Event().wait()
            finally:
                raise PeerError("and it cannot be undone")

        task = asyncio.get_running_loop().create_task(giving_up.or_do(fails_late))
        await reached.wait()
        if is_cancelled:
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        else:
            giving_up.give_up("the link is lost")
            with pytest.raises(GivenUpError) as caught:
                await task
            assert str(caught.value.__cause__) == "and it cannot be undone"

    asyncio.run(main())
    assert logged() == [], "asyncio's, of an exception that was never retrieved"


def test_giving_up_a_plan_that_is_done_changes_nothing():
    world, giving_up = World(TAKE_OVER), None

    async def main():
        nonlocal giving_up
        giving_up = GivingUp()
        run = PlanRun(TAKE_OVER)
        await run_plan(run, world.handlers(), giving_up=giving_up)
        giving_up.give_up("late")
        return run.phase

    assert asyncio.run(main()) is RunPhase.FINISHED
