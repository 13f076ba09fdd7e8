"""One checkpoint answers every connection that differs before its commit, none is needless, and none is missing."""

from typing import Any

import pytest

from support.differingworld import World

SEEDS = range(40)
FOLLOWS = {"max_distance_ms": 200, "max_wait_ms": 10}
"""The distance and the wait follow the cost."""


def options(seed: int) -> dict[str, Any]:
    return FOLLOWS if seed % 2 else {}


@pytest.mark.parametrize("seed", SEEDS)
def test_none_is_needless_and_none_is_lost(seed: int) -> None:
    world = World(seed, cards=1 + seed % 3, checkpoint_us=[2_000, 8_000, 30_000][seed % 3 - 1], **options(seed))
    world.run().assert_laws()
    assert len(world.records) > 5


@pytest.mark.parametrize("seed", SEEDS)
def test_nor_where_most_is_found_late(seed: int) -> None:
    """A busy event loop, and a node that has read little of the primary's output when it commits."""
    slow = {"call_us": 8_000, "read_us": 20_000, "act_us": 4_000}
    World(seed, cards=1 + seed % 2, flows=20, differs=0.5, every_us=1_000, **slow, **options(seed)).run().assert_laws()


@pytest.mark.parametrize("seed", SEEDS)
def test_what_waits_too_long_in_an_epoch_that_one_card_has_begun_is_not_forgotten(seed: int) -> None:
    """Its time-out comes before the other card has committed: the coordinator still counts the epoch before."""
    world = World(seed, cards=3, differs=0.5, commit_us=12_000, compare_timeout_ms=3, **options(seed))
    world.run().assert_laws(is_none_needless=False)


# ── the distance and the wait ───────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("seed", range(12))
def test_cheap_checkpoints_make_no_client_wait_longer_than_the_minimum_distance_does(seed: int) -> None:
    busy = {"checkpoint_us": 2_000, "differs": 0.03 if seed % 2 else 0.6}
    fixed, follows = World(seed, **busy).run(), World(seed, **busy, max_distance_ms=200).run()
    assert follows.waits == fixed.waits
    assert follows.core.spacing.distance_us == 20_000
    gathers = World(seed, **busy, **FOLLOWS).run()
    gathers.assert_laws()
    assert sum(gathers.waits) / len(gathers.waits) <= 1.02 * sum(fixed.waits) / len(fixed.waits)


@pytest.mark.parametrize("seed", range(6))
def test_dear_ones_leave_the_guests_half_of_the_time(seed: int) -> None:
    busy = {"checkpoint_us": 45_000, "differs": 0.6}
    fixed, follows = World(seed, **busy).run(), World(seed, **busy, **FOLLOWS).run()
    follows.assert_laws()
    assert follows.stood_us < 0.6 * follows.end_us < fixed.stood_us
