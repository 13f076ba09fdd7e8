"""Epochs' borders on the guests' taps: after every load both guests have had the same input, in the same order."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support.tapworld import World

CHECKPOINTS = 4


def judge(world):
    """Each epoch's answers agree where both have said one, and begin behind the last one that was drained."""
    epochs = zip(world.primary.qemu.answers, world.secondary.qemu.answers, strict=True)
    last = 0
    for number, (of_primary, of_secondary) in enumerate(epochs):
        theirs = dict(of_secondary)
        for count, digest in of_primary:
            assert theirs.get(count, digest) == digest, f"epoch {number}, answer {count}"
        for said in (of_primary, of_secondary) if number else (of_primary,):
            assert [count for count, _ in said] == list(range(last + 1, last + 1 + len(said))), f"epoch {number}"
        last += len(of_primary)


def lived(seed, *, slow):
    world = World(seed)
    try:
        for _ in range(CHECKPOINTS):
            world.until(lambda: False, world.dice.choice([20, 200, 600]))
            world.is_slow = slow and world.dice.random() < 0.7
            world.checkpoint()
            world.is_slow = False
        world.until(lambda: False, 500)
        judge(world)
        assert world.primary.tap.strayed is None
        assert world.secondary.tap.strayed is None
        return world
    finally:
        world.close()


@settings(max_examples=15)
@given(st.integers(0, 2**32))
def test_every_epoch_has_the_same_input_on_both_sides(seed):
    world = lived(seed, slow=False)
    assert world.primary.tap.counters()["purged"] == 0


@settings(max_examples=10)
@given(st.integers(0, 2**32))
def test_what_is_purged_is_lost_on_both_sides_alike(seed):
    lived(seed, slow=True)


@pytest.mark.parametrize("seed", range(3))
def test_in_the_end_both_have_answered_all_that_was_taken(seed):
    world = World(seed)
    try:
        world.until(lambda: False, 300)
        world.checkpoint()
        sent = world.primary.tap.sent
        world.until(lambda: False, 300)
        assert world.primary.tap.sent > sent
        world._ask = lambda: None  # the clients are silent from here

        def is_quiet():
            taps = (world.primary.tap, world.secondary.tap)
            return all(tap.is_input_read() and tap.is_output_read() for tap in taps) and (
                world.primary.qemu.state.count == world.secondary.qemu.state.count == world.asked
            )

        assert world.until(is_quiet)
        assert world.primary.qemu.state.digest == world.secondary.qemu.state.digest
        judge(world)
    finally:
        world.close()


def test_without_the_drain_before_the_stop_an_epoch_differs():
    """The negative control: QEMU reads one frame more after its stop, and counting cannot tell."""
    for seed in range(60):
        world = World(seed)
        world.primary.tap.is_input_read = lambda: True
        try:
            for _ in range(CHECKPOINTS):
                world.until(lambda: False, 200)
                world.checkpoint()
            world.until(lambda: False, 300)
            judge(world)
        except AssertionError:
            return
        finally:
            world.close()
    raise AssertionError("no epoch of 240 differs: the simulation sees nothing")
