"""Plans: every failure undoes what was begun, and the order of the steps is right."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pycolo.errors import StateError
from pycolo.failover.plans import (
    GO_ALONE,
    PLANS,
    PREPARE_SECONDARY,
    PROTECT,
    TAKE_OVER,
    Plan,
    PlanRun,
    Problem,
    RunPhase,
    Step,
)

EVERY_PLAN = pytest.mark.parametrize("plan", PLANS.values(), ids=list(PLANS))
EVERY_STEP = pytest.mark.parametrize(
    ("plan", "name"), [(plan, step.name) for plan in PLANS.values() for step in plan.steps], ids=str
)


def follow(run, failing=(), limit=1000):
    """Do the run; what was done, in order. Tasks in `failing` fail."""
    seen = []
    while (task := run.task()) is not None and len(seen) < limit:
        seen.append(task.does)
        if task.does in failing:
            run.step_failed("no")
        else:
            run.step_done()
    return seen


def names(plan):
    return [step.name for step in plan.steps]


def undos(plan, begun):
    return [step.undo for step in reversed(plan.steps) if step.undo and step.name in begun]


def always(plan):
    return [step.name for step in plan.steps if step.is_always]


# ── a run ───────────────────────────────────────────────────────────────────────────────────────────────────


@EVERY_PLAN
def test_a_run_does_every_step_once_and_in_order(plan):
    run = PlanRun(plan)
    assert follow(run) == names(plan)
    assert (run.phase, run.failure, run.problems, run.done) == (RunPhase.FINISHED, None, [], tuple(names(plan)))


@EVERY_STEP
def test_a_failure_undoes_what_was_begun_in_reverse_order(plan, name):
    run, step = PlanRun(plan), plan.step(name)
    seen = follow(run, {name} - set(always(plan)))
    if name in always(plan):
        return  # fails again at the end: see below
    place = names(plan).index(name)
    if not step.is_required:
        assert seen == names(plan)
        assert run.phase is RunPhase.FINISHED
        assert run.problems == [Problem(name, "no")]
        return
    begun = names(plan)[: place + 1]
    assert seen == begun + undos(plan, begun) + always(plan)
    assert (run.phase, run.failure, run.problems) == (RunPhase.FAILED, Problem(name, "no"), [])


def test_an_undo_that_fails_stops_no_other_unless_that_would_harm():
    run = PlanRun(PROTECT)
    seen = follow(run, {"migrate", "give-back-place"})
    assert seen[seen.index("migrate") + 1 :] == [
        "leave-colo",
        "reset-parameters",
        "close-relay",
        "give-back-place",
        "drop-disks",
        "ensure-running",
    ]
    assert run.problems == [
        Problem("give-back-place", "no"),
        Problem("close-path", "left out: take-place could not be undone"),
        Problem("remove-taps", "left out: take-place could not be undone"),
    ]
    assert run.phase is RunPhase.FAILED
    assert run.failure == Problem("migrate", "no")


def test_all_undos_failing_are_collected():
    run = PlanRun(PROTECT)
    follow(run, {"migrate", "ensure-running"} | {step.undo for step in PROTECT.steps})
    assert run.phase is RunPhase.FAILED
    assert {problem.what for problem in run.problems} == {step.undo for step in PROTECT.steps if step.undo} | {
        "ensure-running"
    }


@pytest.mark.parametrize("plan", [PROTECT, GO_ALONE], ids=lambda plan: plan.name)
def test_a_primary_is_never_left_stopped(plan):
    for name in names(plan):
        if plan.step(name).is_required and name != "ensure-running":
            assert follow(PlanRun(plan), {name})[-1] == "ensure-running"


def test_a_step_that_is_always_done_may_fail_too():
    run = PlanRun(PROTECT)
    seen = follow(run, {"ensure-running"})
    assert seen == [*names(PROTECT), *undos(PROTECT, names(PROTECT)), "ensure-running"]
    assert (run.failure, run.problems) == (Problem("ensure-running", "no"), [Problem("ensure-running", "no")])


@pytest.mark.parametrize("plan", [TAKE_OVER, GO_ALONE], ids=lambda plan: plan.name)
def test_behind_a_failover_there_is_only_forward(plan):
    for place, step in enumerate(plan.steps):
        if step.is_required:
            run = PlanRun(plan)
            assert follow(run, {step.name}) == names(plan)[: place + 1] + always(plan)
            assert run.phase is RunPhase.FAILED
            assert run.failure.what == step.name


def test_facts_about_a_run_that_is_over_are_refused():
    run = PlanRun(TAKE_OVER)
    follow(run)
    for fact in (run.step_done, lambda: run.step_failed("no")):
        with pytest.raises(StateError, match="plan take-over: state is finished"):
            fact()
    assert run.phase is RunPhase.FINISHED


def test_the_status():
    run = PlanRun(TAKE_OVER)
    run.step_failed("nothing hangs")
    run.step_done()
    run.step_done()
    assert run.to_status() == {
        "name": "take-over",
        "phase": "doing",
        "step": "serve-network",
        "done": ["yank", "stop-disks", "leave-colo"],
        "failure": None,
        "problems": ["yank: nothing hangs"],
    }
    run.step_failed("QMP is gone")
    assert run.to_status()["failure"] == "serve-network: QMP is gone"
    assert run.to_status()["step"] is None


# ── any plan ────────────────────────────────────────────────────────────────────────────────────────────────


@st.composite
def plans(draw):
    count = draw(st.integers(1, 7))
    steps = []
    for number in range(count):
        later = [f"s{other}" for other in range(number + 1, count)]
        steps.append(
            Step(
                f"s{number}",
                "",
                undo=draw(st.sampled_from([None, f"u{number}"])),
                is_required=draw(st.booleans()),
                is_always=draw(st.integers(0, 4)) == 0,
                undo_needs=tuple(draw(st.lists(st.sampled_from(later), max_size=2))) if later else (),
            )
        )
    return Plan("any", "primary", "", tuple(steps))


@given(plans(), st.data())
def test_any_plan_ends_and_undoes_what_it_began(plan, data):
    failing = set(data.draw(st.lists(st.sampled_from(sorted(plan.handlers())))))
    whole = PlanRun(plan)
    trace = follow(whole, failing)
    assert whole.is_over
    assert len(trace) <= 3 * len(plan.steps)
    if whole.phase is RunPhase.FAILED:
        undone = [does for does in trace if does.startswith("u")]
        assert undone == sorted(undone, reverse=True)
        left_out = {problem.what for problem in whole.problems if problem.why.startswith("left out")}
        assert {*undone} | left_out == {*undos(plan, whole.done)}


# ── the plans of the program ────────────────────────────────────────────────────────────────────────────────


@EVERY_PLAN
def test_names_are_unique_and_every_step_says_why(plan):
    every = names(plan) + [step.undo for step in plan.steps if step.undo]
    assert len(set(every)) == len(every)
    assert all(step.says and "\n" not in step.says for step in plan.steps)
    assert plan.says


@EVERY_PLAN
def test_what_an_undo_needs_is_undone_before_it(plan):
    for place, step in enumerate(plan.steps):
        for needed in step.undo_needs:
            assert names(plan).index(needed) > place
            assert plan.step(needed).undo


BEFORE = {
    PROTECT: [
        "probe",
        "prepare-peer",
        "make-taps",
        "open-path",
        "take-place",
        "open-relay",
        "set-parameters",
        "migrate",
        "first-checkpoint",
    ],
    PREPARE_SECONDARY: ["start-qemu", "connect-qmp", "probe", "make-taps", "open-path", "stay-apart"],
    TAKE_OVER: ["yank", "leave-colo", "serve-network", "switch-routes", "announce"],
    GO_ALONE: ["release-held", "leave-colo", "give-back-place", "close-path", "reset-parameters"],
}


@pytest.mark.parametrize(("plan", "order"), BEFORE.items(), ids=lambda value: getattr(value, "name", ""))
def test_what_must_be_before_what(plan, order):
    places = [names(plan).index(name) for name in order]
    assert all(one < other for one, other in pairwise(places))


def test_a_secondary_sets_its_capabilities_before_the_stream_may_come():
    found = names(PREPARE_SECONDARY)
    assert found.index("set-capabilities") < found.index("listen-for-migration")


def test_protect_puts_back_what_it_made():
    assert [step.undo for step in PROTECT.steps if step.undo] == [
        "drop-disks",
        "remove-taps",
        "close-path",
        "give-back-place",
        "close-relay",
        "reset-parameters",
        "leave-colo",
    ]


def test_going_alone_takes_away_all_that_protect_made():
    assert {step.undo for step in PROTECT.steps if step.undo} <= set(names(GO_ALONE))


def test_an_old_primary_writes_nothing_more_before_the_guest_goes_on():
    steps = names(TAKE_OVER)
    assert steps.index("yank") < steps.index("stop-disks") < steps.index("leave-colo")


def test_disks_are_copied_before_the_guests_network_is_touched():
    steps = names(PROTECT)
    assert steps.index("prepare-peer") < steps.index("copy-disks") < steps.index("open-path") < steps.index("migrate")
    assert names(PREPARE_SECONDARY).index("export-disks") < names(PREPARE_SECONDARY).index("listen-for-migration")
