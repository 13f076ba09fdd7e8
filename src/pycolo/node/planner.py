"""Runs a plan: does what `PlanRun` says is next, tells it how that ended, keeps it after each step."""

from collections.abc import Awaitable, Callable, Mapping

from pycolo.errors import FailoverError, PycoloError
from pycolo.failover.plans import PlanRun, RunPhase

Handler = Callable[[], Awaitable[None]]
"""Does one step or undo; idempotent. Raises `PycoloError` or OSError (a TimeoutError is one) when it cannot."""


async def run_plan(
    run: PlanRun,
    handlers: Mapping[str, Handler],
    journal: Callable[[bytes], None],
    on_step: Callable[[PlanRun], None] = lambda run: None,
) -> None:
    """Until `run` is over. A run that was resumed goes on where it stood.

    When a required step has failed and all is undone: raises the `PycoloError` that the step raised; for an OSError, or
    when the step failed in an earlier process, a `FailoverError` that names the step.

    `journal` keeps the run's bytes (on disk, before it returns); they are written before the first step and after each.
    When it raises OSError the run goes on, with a problem noted. `on_step` is called before each task.

    An exception that is none of a `Handler`'s is a bug: the plan is undone first, so that the VM is not left half
    attached, then it is raised. A cancellation ends the run where it is: what is in the journal can be resumed.
    """
    missing = sorted(run.plan.handlers() - handlers.keys())
    assert not missing, f"plan {run.plan.name}: nobody does {', '.join(missing)}"
    bug: Exception | None = None
    cause: Exception | None = None
    _keep(run, journal)
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
        _keep(run, journal)
    if bug is not None:
        raise bug
    if run.phase is RunPhase.FAILED:
        assert run.failure is not None
        if isinstance(cause, PycoloError):
            raise cause
        raise FailoverError(run.plan.role, run.failure.what, run.failure.why) from cause


def _keep(run: PlanRun, journal: Callable[[bytes], None]) -> None:
    try:
        journal(run.to_json())
    except OSError as error:
        run.journal_failed(str(error))
