"""Plans are run one after the other, and the one under way shows."""

import asyncio

import pytest

from pycolo.errors import FailoverError
from pycolo.failover.plans import Plan, Step
from pycolo.vm.planrunner import PlanRunner

PLAN = Plan("sweep", "primary", "tidy up", (Step("first", "one"), Step("second", "two")))


def test_the_plan_under_way_is_told_and_none_afterwards():
    seen = []

    async def scene():
        runner = PlanRunner()

        async def step():
            seen.append(runner.status()["step"])

        assert runner.status() is None
        await runner.run(PLAN, {"first": step, "second": step})
        assert runner.status() is None

    asyncio.run(scene())
    assert seen == ["first", "second"]


def test_a_plan_that_fails_is_over_too():
    async def scene():
        runner = PlanRunner()

        async def fails():
            raise FailoverError("primary", "first", "no")

        with pytest.raises(FailoverError):
            await runner.run(PLAN, {"first": fails, "second": fails})
        assert runner.status() is None

    asyncio.run(scene())
