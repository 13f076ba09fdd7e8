"""Serial arithmetic: the laws of RFC 1982 for 32 bits."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pycolo import core
from support.strategies import SEQ

MODULUS = 2**32
HALF = 2**31

# Sums that are not reduced yet.
UNREDUCED = st.integers(-(2**40), 2**40)
COUNT = st.integers(-(2**40), 2**40)
WITHIN_HALF = st.integers(-HALF + 1, HALF - 1)


@given(seq=UNREDUCED, count=COUNT)
def test_a_sum_is_reduced(seq, count):
    assert core.seq_add(seq, count) == (seq + count) % MODULUS


@given(seq=SEQ, count=COUNT)
def test_adding_there_and_back_is_identity(seq, count):
    seq_add = core.seq_add
    assert seq_add(seq_add(seq, count), -count) == seq


@given(seq=SEQ, distance=WITHIN_HALF)
def test_the_difference_is_what_was_added(seq, distance):
    """RFC 1982 section 3.1: any addition of less than half the numbers is seen as such, over the wrap too."""
    assert core.seq_diff(core.seq_add(seq, distance), seq) == distance


@given(a=SEQ, b=SEQ)
def test_differences_are_antisymmetric_but_half_way_round(a, b):
    seq_diff = core.seq_diff
    if (a - b) % MODULUS == HALF:
        assert seq_diff(a, b) == seq_diff(b, a) == -HALF
    else:
        assert seq_diff(a, b) == -seq_diff(b, a)


@given(a=UNREDUCED, b=UNREDUCED)
def test_a_difference_is_congruent_and_in_range(a, b):
    difference = core.seq_diff(a, b)
    assert -HALF <= difference < HALF
    assert (difference - (a - b)) % MODULUS == 0


@given(a=SEQ, b=SEQ, shift=COUNT)
def test_order_does_not_depend_on_where_counting_began(a, b, shift):
    shifted_a, shifted_b = core.seq_add(a, shift), core.seq_add(b, shift)
    assert core.seq_diff(shifted_a, shifted_b) == core.seq_diff(a, b)
    assert core.seq_max(shifted_a, shifted_b) == core.seq_add(core.seq_max(a, b), shift)
    assert core.seq_min(shifted_a, shifted_b) == core.seq_add(core.seq_min(a, b), shift)


@given(seq=SEQ, distance=st.integers(0, HALF - 1))
def test_the_later_and_the_earlier(seq, distance):
    later = core.seq_add(seq, distance)
    assert core.seq_max(seq, later) == core.seq_max(later, seq) == later
    assert core.seq_min(seq, later) == core.seq_min(later, seq) == seq


@given(a=SEQ, b=SEQ)
def test_the_later_and_the_earlier_are_the_two(a, b):
    """Half way round too, where neither is later."""
    assert sorted([core.seq_max(a, b), core.seq_min(a, b)]) == sorted([a, b])


@pytest.mark.parametrize(
    ("a", "b", "difference"),
    [
        (0, 0, 0),
        (0, MODULUS - 1, 1),
        (MODULUS - 1, 0, -1),
        (HALF - 1, 0, HALF - 1),
        (HALF, 0, -HALF),
        (0, HALF, -HALF),
        (HALF + 1, 0, -HALF + 1),
        (10, MODULUS - 10, 20),
    ],
)
def test_around_the_wrap(a, b, difference):
    assert core.seq_diff(a, b) == difference
