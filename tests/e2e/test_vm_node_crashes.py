"""A node is killed before each step of each plan: what it has left is found, and the guest goes on.

Nothing of a plan is kept on disk. QEMUs are fake; clients hold every answer to the law of the counter.
"""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pycolo.failover.plans import GO_ALONE, PREPARE_SECONDARY, PROTECT, TAKE_OVER, Plan
from support.fakevm import Host, Pair
from support.nodes import wait_for

pytestmark = [pytest.mark.namespaces, pytest.mark.tun]

Make = Callable[[], Pair]


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    made: list[Pair] = []

    def build() -> Pair:
        made.append(Pair(tmp_path))
        return made[-1]

    yield build
    for pair in made:
        pair.close()


def steps(plan: Plan, behind: str = "") -> list[str]:
    names = [step.name for step in plan.steps]
    return names[names.index(behind) + 1 :] if behind else names


def whole_again(pair: Pair, primary: Host) -> None:
    """Both nodes are there, the guest runs and answers, and can be protected."""
    primary.wait_state("primary linked")
    pair.other(primary).wait_state("secondary linked")
    pair.client.ask("count")
    wait_for(lambda: primary.facts()["status"] == "running", "the guest to run")
    pair.protect(primary)
    for word in ("draw", "count"):
        pair.client.ask(word)


@pytest.mark.parametrize("step", steps(PROTECT))
def test_the_primary_is_killed_while_it_protects(make: Make, step: str) -> None:
    pair = make().start(a=f"{PROTECT.name} {step}")
    pair.client.ask("draw")
    with pytest.raises((OSError, ValueError)):
        pair.a.ask("protect")
    pair.a.wait_dead()
    pair.a.start_node()
    whole_again(pair, pair.b if step in steps(PROTECT, "first-checkpoint") else pair.a)


@pytest.mark.parametrize("step", steps(PREPARE_SECONDARY))
def test_the_secondary_is_killed_while_it_prepares(make: Make, step: str) -> None:
    pair = make().start(b=f"{PREPARE_SECONDARY.name} {step}")
    pair.client.ask("draw")
    assert "error" in pair.a.ask("protect")
    pair.b.wait_dead()
    pair.b.start_node()
    whole_again(pair, pair.a)


@pytest.mark.parametrize("step", ["release-held", "leave-colo", "give-back-place", "reset-parameters"])
def test_the_primary_is_killed_while_it_unprotects(make: Make, step: str) -> None:
    pair = make().start(a=f"{GO_ALONE.name} {step}")
    pair.protect(pair.a)
    pair.client.ask("draw")
    with pytest.raises((OSError, ValueError)):
        pair.a.ask("unprotect")
    pair.a.wait_dead()
    pair.client.begin()
    pair.a.start_node()
    pair.client.finish()
    whole_again(pair, pair.a)


@pytest.mark.parametrize("step", ["release-held", "leave-colo", "give-back-place", "reset-parameters"])
def test_the_primary_is_killed_while_it_goes_on_alone(make: Make, step: str) -> None:
    """The secondary's host is dead; from the record on the primary serves, whatever becomes of its node."""
    pair = make().start(a=f"{GO_ALONE.name} {step}")
    pair.protect(pair.a)
    pair.client.ask("draw")
    pair.b.kill_qemu()
    pair.b.kill_node()
    pair.a.wait_dead()
    pair.client.begin()
    pair.a.start_node()
    pair.client.finish()
    pair.b.start_node()
    whole_again(pair, pair.a)


@pytest.mark.parametrize("step", steps(TAKE_OVER))
def test_the_secondary_is_killed_while_it_takes_over(make: Make, step: str) -> None:
    """The primary's host is dead; from the record on this guest is the only one, and it serves."""
    pair = make().start(b=f"{TAKE_OVER.name} {step}")
    pair.protect(pair.a)
    pair.client.ask("draw")
    pair.a.kill_qemu()
    pair.a.kill_node()
    pair.b.wait_dead()
    pair.b.start_node()
    pair.b.wait_state("primary waiting")
    wait_for(lambda: pair.b.facts()["status"] == "running", "the guest to run")
    wait_for(lambda: pair.b.is_on_lan, "the guest to be on the network")
    pair.connect().ask(b"new")
    pair.a.start_node()
    pair.a.wait_state("secondary linked")
    pair.b.wait_state("primary linked")
    pair.protect(pair.b)
    pair.connect().ask(b"protected")
