"""What the status says of a node."""

import pytest

from pycolo.failover.arbiter import IDLE_TEXT
from pycolo.failover.pairstates import State
from pycolo.node.operator import arbiter_says


@pytest.mark.parametrize("state", State)
def test_a_node_that_suspects_the_other_one_does_not_say_that_it_does_not(state: State) -> None:
    assert (arbiter_says(state, IDLE_TEXT) == IDLE_TEXT) is (state is not State.YIELDING)
