"""Runs a plan: does what `PlanRun` says is next, and tells it how that ended."""

from collections.abc import Awaitable, Callable, Mapping

from pycolo.errors import FailoverError, PycoloError
from pycolo.failover.plans import PlanRun, RunPhase

Handler = Callable[[], Awaitable[None]]
"""Does one step or undo; idempotent. Raises `PycoloError` or OSError (a TimeoutError is one) when it cannot."""


async def run_plan(
    run: PlanRun,
    handlers: Mapping[str, Handler],
    on_step: Callable[[PlanRun], None] = lambda run: None,
) -> None:
    """Until `run` is over. `on_step` is called before each task.

    When a required step has failed and all is undone: raises the `PycoloError` that the step raised; for an OSError a
    `FailoverError` that names the step.

    An exception that is none of a `Handler`'s is a bug: the plan is undone first, so that the VM is not left half
    attached, then it is raised. A cancellation ends the run where it is.
    """
    missing = sorted(run.plan.handlers() - handlers.keys())
    assert not missing, f"plan {run.plan.name}: nobody does {', '.join(missing)}"
    bug: Exception | None = None
    cause: Exception | None = None
    while (task := run.task()) is not None:
        on_step(run)
        error: Exception | None = None
        try:
            await handlers[task.does]()
        except (PycoloError, OSError) as raised:
            error, why = raised, str(raised) or type(raised).__name__
        except Exception as raised:
            bug = bug or raised
            error, why = raised, f"{type(raised).__name__}: {raised}; this is a bug"
        if error is None:
            run.step_done()
        else:
            had_failed = run.failure is not None
            run.step_failed(why)
            cause = error if run.failure is not None and not had_failed else cause
    if bug is not None:
        raise bug
    if run.phase is RunPhase.FAILED:
        assert run.failure is not None
        if isinstance(cause, PycoloError):
            raise cause
        raise FailoverError(run.plan.role, run.failure.what, run.failure.why) from cause
