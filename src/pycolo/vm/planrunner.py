"""Runs the guest's plans, one at a time, and tells how far the present one is."""

from typing import Any

import structlog

from pycolo.failover.plans import Plan, PlanRun
from pycolo.node.planner import GivingUp, Handler, run_plan

log = structlog.get_logger("colo")


class PlanRunner:
    """See the module."""

    def __init__(self) -> None:
        self._run: PlanRun | None = None

    async def run(self, plan: Plan, handlers: dict[str, Handler], giving_up: GivingUp | None = None) -> None:
        """Raises what `run_plan` does."""
        self._run = run = PlanRun(plan)
        log.info(f"plan {plan.name}")
        try:
            await run_plan(run, handlers, self._on_step, giving_up)
        finally:
            self._run = None

    def _on_step(self, run: PlanRun) -> None:
        task = run.task()
        if task is not None:
            log.debug(f"plan {run.plan.name}: {task.does}", undo=task.is_undo)

    def status(self) -> dict[str, Any] | None:
        """The plan under way, for `colo status`; None: there is none."""
        return self._run.to_status() if self._run is not None else None
