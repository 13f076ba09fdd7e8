"""One checkpoint answers every connection that differs before its commit, none is needless, and none is missing."""

import pytest

from support.differingworld import World

SEEDS = range(40)


@pytest.mark.parametrize("seed", SEEDS)
def test_none_is_needless_and_none_is_lost(seed: int) -> None:
    world = World(seed, cards=1 + seed % 3, checkpoint_us=[2_000, 8_000, 30_000][seed % 3 - 1]).run()
    world.assert_laws()
    assert len(world.records) > 5


@pytest.mark.parametrize("seed", SEEDS)
def test_nor_where_most_is_found_late(seed: int) -> None:
    """A busy event loop, and a node that has read little of the primary's output when it commits."""
    slow = {"call_us": 8_000, "read_us": 20_000, "act_us": 4_000}
    World(seed, cards=1 + seed % 2, flows=20, differs=0.5, every_us=1_000, **slow).run().assert_laws()


@pytest.mark.parametrize("seed", SEEDS)
def test_what_waits_too_long_in_an_epoch_that_one_card_has_begun_is_not_forgotten(seed: int) -> None:
    """Its time-out comes before the other card has committed: the coordinator still counts the epoch before."""
    world = World(seed, cards=3, differs=0.5, commit_us=12_000, compare_timeout_ms=3).run()
    world.assert_laws(is_none_needless=False)
