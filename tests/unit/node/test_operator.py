"""What the status says of a node."""

import asyncio

import pytest

from pycolo.failover.arbiter import IDLE_TEXT, resignation
from pycolo.failover.pairstates import State
from pycolo.node.operator import Operator, arbiter_says


@pytest.mark.parametrize("state", State)
def test_a_node_that_suspects_the_other_one_does_not_say_that_it_does_not(state: State) -> None:
    assert (arbiter_says(state, IDLE_TEXT) == IDLE_TEXT) is (state is not State.YIELDING)


@pytest.mark.parametrize("state", State)
def test_how_this_node_came_to_serve_is_told_until_there_is_a_pair_again(state: State) -> None:
    says = resignation("its guest is gone")
    told = arbiter_says(state, says, is_settled=True)
    is_paired = state.value in (
        *("primary protected", "degraded", "primary broken"),
        *("secondary protected", "secondary broken"),
    )
    assert (told == IDLE_TEXT) is is_paired
    if state is not State.YIELDING:
        assert arbiter_says(state, says) == says


@pytest.mark.parametrize("command", ["protect", "unprotect", "checkpoint", "switchover"])
def test_what_only_a_node_with_a_qemu_can_do_is_refused_with_what_to_do(command: str) -> None:
    nothing = [None] * 9
    answer = asyncio.run(Operator(*nothing).request({"command": command}))  # type: ignore[arg-type]
    assert answer["error"].startswith(f"{command}: ")
    assert "a QEMU" in answer["error"] or "no QEMU" in answer["error"]
    assert "`colo " in answer["error"], "what to do"
    assert "\n" not in answer["error"]
