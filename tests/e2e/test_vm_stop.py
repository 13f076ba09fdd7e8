"""A node that is told to end leaves a guest that its clients reach."""

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.fakevm import Pair
from support.nodes import wait_for

pytestmark = [pytest.mark.namespaces, pytest.mark.tun]

DEADLINE_S = 30


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    made = Pair(tmp_path, {})
    yield made
    made.close()


def test_a_primary_that_is_stopped_takes_the_protection_away_first(pair: Pair) -> None:
    pair.protected()
    pair.client.ask("count")
    assert pair.a.node is not None
    pair.a.node.send_signal(signal.SIGTERM)
    assert pair.a.node.wait(DEADLINE_S) == 0
    wait_for(lambda: pair.a.is_as_before, "the tap to be in its place")
    assert pair.a.facts()["running"]
    pair.client.ask("count")
    wait_for(lambda: not pair.b.has_qemu, "the secondary's guest to be thrown away")
    pair.a.start_node()
    pair.wait("primary linked", "secondary linked")
    pair.client.ask("draw")
    pair.protect(pair.a)
    pair.client.ask("draw")


def test_a_secondary_that_is_stopped_leaves_the_primary_alone(pair: Pair) -> None:
    pair.protected()
    assert pair.b.node is not None
    pair.b.node.send_signal(signal.SIGTERM)
    assert pair.b.node.wait(DEADLINE_S) == 0
    pair.client.ask("draw")
    wait_for(lambda: pair.a.is_as_before, "the tap to be in its place")
    assert not pair.b.has_qemu
    pair.client.ask("count")
