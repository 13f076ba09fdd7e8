"""Laws of the distance between checkpoints and of the wait for more differences, for any costs and any moments."""

from hypothesis import assume, given
from hypothesis import strategies as st

from pycolo.checkpoint.spacing import COSTS_KEPT, Spacing

SECOND = 1_000_000
MIN_MS, MAX_MS, WAIT_MS, BUSY = 20, 200, 10, 25

costs = st.integers(0, 20 * SECOND)
percents = st.integers(1, 90)
due = st.none() | st.integers(0, SECOND)
steps = st.lists(
    st.tuples(
        st.sampled_from(["wanted", "urgent", "differed", "asked", "ended", "failed", "cost", "restarted"]),
        st.integers(0, SECOND),
        costs,
    ),
    max_size=60,
)


def made(*, least=MIN_MS, most=MAX_MS, busy=BUSY, wait=WAIT_MS):
    return Spacing(least, most, busy, wait)


def tell(spacing, fact, now_us, number, due_us=None):
    match fact:
        case "wanted" | "urgent":
            spacing.wanted(now_us, is_difference=fact == "wanted")
        case "asked":
            spacing.asked(now_us, due_us)
        case "failed":
            spacing.failed(now_us, number)
        case "cost":
            spacing.cost(number, number // 4)
        case _:
            getattr(spacing, fact)(now_us)


@given(
    steps, st.integers(0, 300), st.integers(0, 300), percents, st.integers(0, 50), st.none() | st.integers(0, SECOND)
)
def test_whatever_happens_it_stays_within_the_limits(happened, least, more, busy, wait, due_after_us):
    spacing, now_us, ended_us = made(least=least, most=least + more, busy=busy, wait=wait), 0, 0
    is_urgent = is_wanted = False
    wanted_us = retry_us = 0
    for fact, after_us, number in happened:
        now_us += after_us
        due_us = None if due_after_us is None else ended_us + due_after_us
        tell(spacing, fact, now_us, number, due_us)
        if fact in ("ended", "failed", "restarted"):
            ended_us, retry_us = now_us, number if fact == "failed" else 0
        if fact in ("asked", "restarted"):
            is_urgent = is_wanted = False
        if fact == "urgent":
            is_urgent = True
        if fact == "wanted" and not is_wanted:
            is_wanted, wanted_us = True, now_us
        assert least * 1000 <= spacing.distance_us <= (least + more) * 1000
        assert least * 1000 <= spacing.owed_us <= spacing.distance_us
        assert 0 <= spacing.wait_us <= wait * 1000
        earliest_us = spacing.earliest_us(due_us)
        latest_us = ended_us + max((least + more) * 1000, retry_us)
        if is_urgent or not is_wanted:
            assert earliest_us <= ended_us + max(least * 1000, retry_us), "what is urgent keeps the minimum alone"
        else:
            assert earliest_us <= max(latest_us, wanted_us) + wait * 1000
            assert due_us is None or earliest_us <= max(due_us, wanted_us, ended_us + max(least * 1000, retry_us)) + (
                wait * 1000
            ), "nor does it wait for longer than for the next periodic one"
        assert spacing.status()["why"]


@given(st.lists(costs, min_size=1, max_size=COSTS_KEPT), costs, percents)
def test_dearer_ones_are_further_apart(paid, more, busy):
    cheap, dear = made(busy=busy, most=60_000), made(busy=busy, most=60_000)
    for cost_us in paid:
        cheap.cost(cost_us, 0)
        dear.cost(cost_us + more, 0)
    assert dear.distance_us >= cheap.distance_us


@given(costs, percents)
def test_within_the_limits_the_share_of_time_is_kept(cost_us, busy):
    spacing = made(least=0, most=60_000, busy=busy)
    for _ in range(3):
        spacing.cost(cost_us, 0)
    assume(spacing.distance_us < 60_000_000)
    assert cost_us <= (cost_us + spacing.distance_us) * busy / 100 + 1


@given(st.integers(0, MIN_MS * 1000 * BUSY // (100 - BUSY)), st.integers(0, SECOND))
def test_cheap_ones_are_as_far_apart_as_the_minimum_says_and_never_further(cost_us, wanted_us):
    spacing = made(wait=0)
    for _ in range(COSTS_KEPT):
        spacing.cost(cost_us, 0)
    spacing.ended(0)
    spacing.wanted(wanted_us, is_difference=True)
    assert spacing.earliest_us(None) == max(MIN_MS * 1000, wanted_us)


@given(st.integers(0, SECOND), st.lists(costs, max_size=COSTS_KEPT))
def test_cheap_again_is_near_again(cost_us, dear):
    """After half as many as are kept."""
    spacing, cheap = made(), made()
    for one in dear:
        spacing.cost(SECOND + one, 0)
    for _ in range(COSTS_KEPT // 2 + 1):
        spacing.cost(cost_us, 0)
        cheap.cost(cost_us, 0)
    assert spacing.distance_us == cheap.distance_us


@given(st.integers(1_000, 60_000), st.lists(st.integers(0, 2 * SECOND), min_size=2, max_size=30))
def test_however_differences_come_the_share_is_exceeded_by_two_checkpoints_at_most(cost_us, pauses):
    spacing, now_us = made(least=0, wait=0), SECOND
    spacing.cost(cost_us, 0)
    began = []
    for pause_us in pauses:
        now_us += pause_us
        spacing.wanted(now_us, is_difference=True)
        now_us = spacing.earliest_us(None)
        spacing.asked(now_us, None)
        began.append(now_us)
        now_us += cost_us
        spacing.ended(now_us)
        spacing.cost(cost_us, 0)
    for first, first_us in enumerate(began):
        for last_us in began[first + 1 :]:
            passed_us = last_us - first_us
            made_us = cost_us * sum(first_us <= one_us < last_us for one_us in began)
            assert made_us <= passed_us * BUSY / 100 + 2 * cost_us + len(began) or spacing.distance_us == MAX_MS * 1000


class Differing:
    """A pair that runs on for `lead_us` after a checkpoint was asked for, which costs `cost_us` in all."""

    def __init__(self, spacing, cost_us, lead_us):
        self.spacing, self.cost_us, self.lead_us = spacing, cost_us, lead_us
        self.now_us, self.asked = SECOND, 0

    def checkpoint(self, *differed_at_us):
        """The first difference comes now, the others at these times. Which of those it has answered."""
        self.spacing.wanted(self.now_us, is_difference=True)
        for at_us in differed_at_us:
            if at_us <= self.spacing.earliest_us(None):
                self.spacing.differed(at_us)
        self.now_us = max(self.now_us, self.spacing.earliest_us(None))
        self.spacing.asked(self.now_us, None)
        self.asked += 1
        answered = [at_us for at_us in differed_at_us if at_us <= self.now_us + self.lead_us]
        self.now_us += self.cost_us
        self.spacing.ended(self.now_us)
        self.spacing.cost(self.cost_us, self.lead_us)
        return answered

    def burst(self, gap_us, quiet_us):
        """Two connections differ, `gap_us` apart. How many checkpoints that takes."""
        before, first_us = self.asked, self.now_us
        if not self.checkpoint(first_us + gap_us):
            self.now_us = max(self.now_us, first_us + gap_us + self.cost_us - self.lead_us)
            self.checkpoint()
        self.now_us += quiet_us
        return self.asked - before


@given(st.integers(12_000, 60_000), st.integers(1_500, 4_000), st.integers(0, 1_000))
def test_where_another_difference_follows_a_little_later_one_waits_for_it(cost_us, gap_us, lead_us):
    pair = Differing(made(), cost_us, lead_us)
    taken = [pair.burst(gap_us, SECOND) for _ in range(24)]
    assert taken[0] == 2
    assert set(taken[16:]) == {1}
    assert gap_us <= pair.spacing.wait_us <= WAIT_MS * 1000
    assert "waits" in pair.spacing.why
    for _ in range(2 * COSTS_KEPT):  # from now on they differ alone
        pair.checkpoint()
        pair.now_us += SECOND
    assert pair.spacing.wait_us == 0


@given(st.integers(0, 60_000), st.integers(0, 1_000), st.integers(500, 8_000))
def test_where_they_differ_all_the_time_no_difference_waits(cost_us, lead_us, gap_us):
    pair = Differing(made(), cost_us, lead_us)
    for _ in range(3 * COSTS_KEPT):
        until_us = max(pair.now_us, pair.spacing._ended_us + pair.spacing.distance_us)
        pair.checkpoint(*range(pair.now_us, until_us + 20_000, gap_us))
    assert pair.spacing.wait_us == 0


@given(costs, st.integers(0, 10_000))
def test_a_wait_costs_less_than_it_saves(cost_us, gap_us):
    pair = Differing(made(), cost_us, 0)
    for _ in range(2 * COSTS_KEPT):
        pair.burst(gap_us, SECOND)
    assert pair.spacing.wait_us <= cost_us
