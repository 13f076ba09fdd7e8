"""The parts of a checkpoint add up, whatever the moments are."""

from hypothesis import given
from hypothesis import strategies as st

from pycolo.checkpoint.parts import OF_THE_PAUSE, Flow, Moments, Part, medians, parts_of, shown

CLOCK_US = 1_795_445_499_000_000
times = st.integers(0, 1 << 40)
near = st.integers(1_000_000, 1_000_500)
flows = st.builds(Flow, times | near, times | near, times, times)
moments = st.builds(
    Moments, times | near, times | near, times | near, times | near, times | near, flows, st.just(CLOCK_US)
)


@given(moments, near, near, near)
def test_they_add_up_to_the_time_from_asking_to_resume_and_those_of_the_pause_to_it(found, asked_us, one_us, other_us):
    stop_us, resume_us = sorted((one_us, other_us))
    parts = parts_of(found, asked_us, CLOCK_US + stop_us, CLOCK_US + resume_us)
    assert list(parts) == list(Part)
    assert min(parts.values()) >= 0
    assert sum(parts.values()) == max(0, resume_us - asked_us)
    if asked_us <= stop_us:
        assert sum(parts[part] for part in OF_THE_PAUSE) == resume_us - stop_us


def test_moments_in_order_are_told_exactly():
    found = Moments(10, 30, 260, 300, 350, Flow(110, 250, 40, 20), CLOCK_US)
    parts = parts_of(found, 0, CLOCK_US + 100, CLOCK_US + 400)
    assert list(parts.values()) == [10, 20, 70, 10, 80, 40, 20, 10, 40, 50, 50]


def test_what_was_not_seen_takes_no_time():
    parts = parts_of(Moments(clock_us=CLOCK_US), 0, CLOCK_US + 100, CLOCK_US + 400)
    assert parts[Part.STOP_PRIMARY] == 100
    assert parts[Part.RESUME] == 300


def test_medians_are_of_each_part():
    one, other, third = (dict.fromkeys(Part, us) for us in (1_000, 2_000, 9_000))
    assert medians([]) is None
    assert shown(None) is None
    assert shown(medians([one, other, third])) == dict.fromkeys([part.value for part in Part], 2.0)
