"""Running a plan: handlers in order, a journal that a crash can be resumed from, bugs that leave nothing behind."""

import asyncio

import pytest

from pycolo.errors import ConnectError, FailoverError, PeerError
from pycolo.failover.plans import PROTECT, TAKE_OVER, PlanRun, Problem, RunPhase
from pycolo.node.planner import run_plan


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
        self.journal = None
        self.steps = []

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

    def keep(self, kept):
        self.journal = kept

    def run(self, run=None):
        run = run or PlanRun(self.plan)
        asyncio.run(run_plan(run, self.handlers(), self.keep, lambda run: self.steps.append(run.task().does)))
        return run


def test_a_plan_that_finishes():
    world = World(PROTECT)
    run = world.run()
    assert run.phase is RunPhase.FINISHED
    assert world.calls == world.steps == [step.name for step in PROTECT.steps]
    assert PlanRun.from_json(world.journal).is_over


@pytest.mark.parametrize("error", [PeerError("QMP says no"), ConnectError("no such socket")])
def test_a_step_that_fails_is_undone_and_its_error_is_raised(error):
    world = World(PROTECT)
    world.errors["migrate"] = error
    with pytest.raises(type(error)) as raised:
        world.run()
    assert raised.value is error
    assert world.there <= {"probe", "ensure-running"}
    assert PlanRun.from_json(world.journal).failure == Problem("migrate", str(error))


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
    run = PlanRun.from_json(world.journal)
    assert run.problems == [Problem("leave-colo", "second"), Problem("ensure-running", "third")]


@pytest.mark.parametrize("place", range(len(PROTECT.steps)))
def test_a_bug_leaves_nothing_behind_and_is_raised(place):
    name = PROTECT.steps[place].name
    world = World(PROTECT)
    world.errors[name] = ZeroDivisionError("here")
    with pytest.raises(ZeroDivisionError):
        world.run()
    assert world.there <= {"probe", "first-checkpoint", "ensure-running"}
    assert PlanRun.from_json(world.journal).failure == Problem(name, "ZeroDivisionError: here; this is a bug")


@pytest.mark.parametrize("failing", [None, "migrate", "add-filters"])
@pytest.mark.parametrize("plan", [PROTECT, TAKE_OVER], ids=lambda plan: plan.name)
def test_a_crash_in_any_call_and_a_resumption_lead_to_the_same_world(plan, failing):
    def finish(world, run=None):
        try:
            return world.run(run).phase
        except (PeerError, FailoverError):
            return RunPhase.FAILED

    def make():
        world = World(plan)
        if failing in world.plan.handlers():
            world.errors[failing] = PeerError("no")
        return world

    whole = make()
    end = finish(whole)
    for cut in range(1, len(whole.calls) + 1):
        world = make()
        world.crash_at = cut
        with pytest.raises(Crash):
            world.run()
        world.crash_at = None
        assert finish(world, PlanRun.from_json(world.journal)) is end
        assert world.there == whole.there
        assert world.calls == [*whole.calls[:cut], *whole.calls[cut - 1 :]], "only what was under way is done twice"


def test_a_run_that_had_failed_before_the_crash_says_so_afterwards():
    world = World(PROTECT)
    world.errors["migrate"] = PeerError("the stream broke")
    world.crash_at = len(PROTECT.steps)  # in an undo
    with pytest.raises(Crash):
        world.run()
    with pytest.raises(FailoverError, match="step migrate: the stream broke"):
        world.run(PlanRun.from_json(world.journal))


def test_a_full_disk_does_not_stop_a_takeover():
    run, world = PlanRun(TAKE_OVER), World(TAKE_OVER)

    def keep(kept):
        raise OSError("disk full")

    asyncio.run(run_plan(run, world.handlers(), keep))
    assert run.phase is RunPhase.FINISHED
    assert run.problems == [Problem("journal", "disk full")]


def test_a_cancellation_ends_it_where_it_is():
    world = World(PROTECT)
    handlers = world.handlers()

    async def main():
        reached = asyncio.Event()

        async def migrate():
            reached.set()
            await asyncio.Event().wait()

        task = asyncio.get_running_loop().create_task(
            run_plan(PlanRun(PROTECT), handlers | {"migrate": migrate}, world.keep)
        )
        await reached.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert PlanRun.from_json(world.journal).task().does == "migrate"


def test_a_step_that_nobody_does_is_a_bug_before_anything_is_done():
    world = World(PROTECT)
    handlers = world.handlers()
    del handlers["leave-colo"]
    with pytest.raises(AssertionError, match="nobody does leave-colo"):
        asyncio.run(run_plan(PlanRun(PROTECT), handlers, world.keep))
    assert (world.calls, world.journal) == ([], None)
