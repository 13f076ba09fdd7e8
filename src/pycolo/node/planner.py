"""Runs a plan: calls the handler of each task of a `PlanRun`, and reports how it ended."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping

from pycolo.errors import FailoverError, PycoloError
from pycolo.failover.plans import PlanRun, RunPhase

Handler = Callable[[], Awaitable[None]]
"""Does one step or undo; idempotent. A failure raises `PycoloError` or OSError (such as TimeoutError)."""


class GivingUp:
    """Gives a running plan up: its present step is cancelled and counts as failed, so the plan is undone."""

    def __init__(self) -> None:
        self._event = asyncio.Event()
        self.why = ""

    @property
    def is_given_up(self) -> bool:
        """Whether `give_up` was called."""
        return self._event.is_set()

    def give_up(self, why: str) -> None:
        """The first reason counts. Has no effect after the last step."""
        self.why = self.why or why
        self._event.set()

    async def or_do(self, handler: Handler) -> None:
        """Await `handler()`. Raises `GivenUpError`, after `handler()` has ended, when the plan is given up first."""
        doing = asyncio.ensure_future(handler())
        given_up = asyncio.ensure_future(self._event.wait())
        try:
            await asyncio.wait((doing, given_up), return_when=asyncio.FIRST_COMPLETED)
        finally:
            given_up.cancel()
            was_done = doing.done()
            if not was_done:
                doing.cancel()
            await asyncio.wait((doing, given_up))
            failure = None if doing.cancelled() else doing.exception()
        if was_done:
            return doing.result()
        raise GivenUpError(self.why) from failure


class GivenUpError(PycoloError):
    """The plan was given up; the text is the reason."""


async def run_plan(
    run: PlanRun,
    handlers: Mapping[str, Handler],
    on_step: Callable[[PlanRun], None] = lambda run: None,
    giving_up: GivingUp | None = None,
) -> None:
    """Run `run` to its end. `on_step` is called before each task.

    After a required step has failed and the plan is undone, raises the `PycoloError` of that step, or a `FailoverError`
    that names the step for an OSError.

    Any other exception is a bug: it is raised too, after the plan is undone, so that the VM is not left half attached.
    A cancellation ends the run at once, without undo.
    """
    missing = sorted(run.plan.handlers() - handlers.keys())
    assert not missing, f"plan {run.plan.name}: no handler for {', '.join(missing)}"
    bug: Exception | None = None
    cause: Exception | None = None
    while (task := run.task()) is not None:
        on_step(run)
        error: Exception | None = None
        try:
            if giving_up is None or run.phase is not RunPhase.DOING:
                await handlers[task.does]()
            else:
                await giving_up.or_do(handlers[task.does])
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
