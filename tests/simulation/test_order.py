"""Guests whose threads wake up when they like stay alike when their requests are ordered; how that is chosen."""

import pytest

from pycolo.order.tuner import Mode, Tuner
from support.orderworld import PORT, World

pytestmark = pytest.mark.slow

SEEDS = [1, 2]
COLD_US = 1_000_000
TEN_S = 10_000_000


def run(kind: str, mode: Mode | None, seed: int, *, clients: int = 6, requests: int = 1000) -> World:
    return World(kind, clients, None if mode is None else Tuner({PORT: mode}), seed).run(requests)


def per_thousand(world: World, since: int = 0) -> float:
    return 1000 * world.differences_since(since) / world.served


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("kind", ["counter", "lock"])
def test_guests_agree_in_the_order_of_the_firsts_answers(kind, seed):
    """Where each of ten requests differs without."""
    without, ordered = run(kind, None, seed), run(kind, Mode.FOLLOW, seed)
    assert per_thousand(without) > 50
    assert per_thousand(ordered) < 5
    assert ordered.rate > 4 * without.rate


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("kind", ["counter", "lock"])
def test_it_is_chosen_within_ten_seconds_after_a_cold_start(kind, seed):
    ordered, chosen = run(kind, Mode.FOLLOW, seed), run(kind, Mode.AUTO, seed, requests=4000)
    begun = next(moment for moment, setting in chosen.settings if setting.width)
    assert begun < COLD_US + TEN_S
    assert chosen.now < COLD_US + TEN_S + 4000 / ordered.rate * 1e6
    assert per_thousand(chosen, begun) < 5


@pytest.mark.parametrize("seed", SEEDS)
def test_locks_are_seen_and_mirrored_when_answered(seed):
    world = run("lock", Mode.FOLLOW, seed)
    assert world.tuner is not None
    setting = world.tuner.ports[PORT].setting
    assert (setting.width, setting.is_early) == (1, False)
    assert "wait for each other" in world.tuner.ports[PORT].why


@pytest.mark.parametrize("seed", SEEDS)
def test_requests_that_do_not_wait_are_done_by_both_guests_at_once(seed):
    """Where it is seen which they are: with words that tell them apart the guests stay as alike, and do more."""
    alike = World("lock", 6, Tuner({PORT: Mode.FOLLOW}), seed, words=b"?").run(1000)
    told_apart = run("lock", Mode.FOLLOW, seed)
    assert told_apart.rate > 1.1 * alike.rate
    assert per_thousand(told_apart) < 5


def test_where_nothing_diverges_nothing_waits():
    without, chosen = run("own", None, 1), run("own", Mode.AUTO, 1)
    assert chosen.settings == []
    assert chosen.rate == without.rate


def test_where_it_does_not_help_it_is_given_up():
    world = run("noise", Mode.AUTO, 1, requests=3000)
    assert world.tuner is not None
    assert not world.tuner.ports[PORT].is_on
    assert "no help" in world.tuner.ports[PORT].why


@pytest.mark.parametrize("mode", [Mode.FOLLOW, Mode.AUTO])
@pytest.mark.parametrize("kind", ["counter", "lock", "own"])
def test_when_the_first_guest_dies_nothing_is_lost_and_nothing_is_done_twice(kind, mode):
    """Requests that wait for their turn or to be mirrored have not been answered: the clients send them again."""
    for seed in range(20):
        world = run(kind, mode, seed, requests=400 + 7 * seed)
        world.kill_primary()
        world.run(200)
        if kind == "counter":
            assert len(world.seen) == len(set(world.seen))
            assert max(map(int, world.seen)) - len(world.seen) <= len(world.sent)
        elif kind == "own":
            for who, answered in enumerate(world.answers):
                assert world.sent[who] - 1 <= answered <= world.sent[who]


@pytest.mark.parametrize("kind", ["counter", "lock", "noise"])
def test_each_request_is_given_once_to_the_first_guest_and_at_most_once_to_the_second(kind):
    """What the second did not get is part of the state that it has loaded."""
    world = run(kind, Mode.AUTO, 3)
    for who, sent in enumerate(world.sent):
        assert world.told[0].count(who) in (sent, sent - 1), "the last may wait"
        assert world.told[1].count(who) <= world.told[0].count(who)
