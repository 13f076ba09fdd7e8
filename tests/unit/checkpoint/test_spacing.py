"""The distance between checkpoints and the wait for more differences, in figures. Times in milliseconds here."""

import pytest

from pycolo.checkpoint.spacing import Spacing

APART = "; for differences they are 54 ms apart"


class Spaced:
    """A `Spacing` in milliseconds, some time after the pair has formed."""

    def __init__(self, least=20, most=200, busy=25, wait=10):
        self.core = Spacing(least, most, busy, wait)
        self.now = 1_000

    def made(self, cost, *, times=1, lead=0, rest=1_000):
        for _ in range(times):
            self.wants()
            self.begin()
            self.ends(cost, lead)
            self.now += rest

    def wants(self, *, is_difference=True):
        self.core.wanted(self.now * 1000, is_difference=is_difference)

    def begin(self):
        self.core.asked(self.now * 1000, None)

    def ends(self, cost, lead=0):
        self.now += cost
        self.core.ended(self.now * 1000)
        self.core.cost(cost * 1000, lead * 1000)

    @property
    def earliest(self):
        return self.core.earliest_us(None) / 1000

    @property
    def figures(self):
        status = self.core.status()
        return status["cost_ms"], status["distance_ms"], status["wait_ms"]


def test_the_distance_is_what_the_costs_say():
    spaced = Spaced()
    assert spaced.figures == (0, 20, 0)
    assert spaced.core.why == "no checkpoint has cost anything yet: for differences they are 20 ms apart"
    spaced.made(18)
    assert spaced.core.why == f"the last checkpoint has cost 18 ms{APART}; none waits for more"
    spaced.made(18, times=20)
    assert spaced.core.why == f"the last 16 checkpoints have cost 18 ms each{APART}; none waits for more"
    assert spaced.figures == (18, 54, 0)


@pytest.mark.parametrize(
    ("cost", "distance", "words"),
    [
        (6, 20, "16 checkpoints have cost 6 ms each; for differences they are 20 ms apart, the minimum; "),
        (400, 200, "16 checkpoints have cost 400 ms each; for differences they are 200 ms apart, the maximum; "),
    ],
)
def test_the_limits_are_named(cost, distance, words):
    spaced = Spaced()
    spaced.made(cost, times=16)
    assert spaced.figures[1] == distance
    assert spaced.core.why.startswith(f"the last {words}")


def test_where_both_limits_are_one_the_distance_is_fixed():
    spaced = Spaced(least=20, most=20)
    spaced.made(400, times=3)
    assert spaced.figures[1] == 20


def test_guests_that_have_run_long_have_credit_for_one_more_checkpoint():
    spaced = Spaced()
    spaced.made(18, times=3)  # a second apart
    spaced.wants()
    spaced.begin()
    spaced.ends(18)
    spaced.wants()
    assert spaced.earliest - spaced.now == 20, "the second one"
    spaced.now += 20
    spaced.begin()
    spaced.ends(18)
    spaced.wants()
    assert spaced.earliest - spaced.now == 54, "the third one"
    assert spaced.core.status()["next_distance_ms"] == 54


def test_an_operator_waits_for_the_minimum_only():
    spaced = Spaced()
    spaced.made(50, times=2, rest=0)
    spaced.wants()
    assert spaced.earliest - spaced.now == 150
    spaced.wants(is_difference=False)
    assert spaced.earliest - spaced.now == 20


def test_nor_does_a_difference_wait_for_longer_than_for_the_next_periodic_one():
    spaced = Spaced()
    spaced.made(50, times=2, rest=0)
    spaced.wants()
    due_us = (spaced.now + 70) * 1000
    assert spaced.core.earliest_us(due_us) == due_us
    assert spaced.core.earliest_us(0) == (spaced.now + 20) * 1000, "the minimum is kept all the same"


def test_after_one_that_failed_the_retry_waits_for_nothing_else():
    spaced = Spaced()
    spaced.made(2, times=3)
    spaced.wants()
    spaced.begin()
    spaced.core.failed(spaced.now * 1000, 100_000)
    spaced.wants()
    assert spaced.earliest - spaced.now == 100


def test_a_wait_that_pays_is_kept_and_its_figures_are_told():
    spaced = Spaced()
    for _ in range(8):  # another connection differs 4 ms of running time later, and then none for long
        spaced.wants()
        spaced.begin()
        spaced.ends(30)
        spaced.now += 4
        spaced.made(30)
    assert spaced.figures == (30, 90, 4)
    assert spaced.core.why == (
        "the last 16 checkpoints have cost 30 ms each; for differences they are 90 ms apart; a difference waits 4 ms "
        "for more: 8 of the last 15 had another within that time"
    )
    spaced.wants()
    assert spaced.earliest - spaced.now == 4
    spaced.core.restarted(spaced.now * 1000)
    assert spaced.figures == (0, 20, 0), "another pair"


def test_a_wait_is_within_its_limit():
    for limit, wait in ((0, 0), (3, 0), (4, 4)):
        spaced = Spaced(wait=limit)
        for _ in range(8):
            spaced.wants()
            spaced.begin()
            spaced.ends(30)
            spaced.now += 4
            spaced.made(30)
        assert spaced.figures[2] == wait
