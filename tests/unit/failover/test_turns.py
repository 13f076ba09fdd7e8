"""Laws of the turns: two nodes that count from suspicions of their own never shoot in each other's turn."""

from hypothesis import given
from hypothesis import strategies as st

from pycolo.failover.turns import Turn, Turns

LENGTH_MS, APART_MS = 1_000, 300
TURNS = Turns(LENGTH_MS, APART_MS)
PERIOD_MS = 2 * (LENGTH_MS + APART_MS)

TIMES = st.integers(0, 20_000)


@given(st.integers(0, APART_MS), st.booleans(), TIMES, TIMES)
def test_no_two_turns_overlap_whichever_node_has_noticed_first(apart_ms, is_first_late, one_ms, other_ms):
    since_ms = (apart_ms, 0) if is_first_late else (0, apart_ms)
    first = TURNS.next(since_ms[0], since_ms[0] + one_ms, is_second=False)
    second = TURNS.next(since_ms[1], since_ms[1] + other_ms, is_second=True)
    assert first.end_ms is not None
    assert second.end_ms is not None
    assert first.end_ms <= second.begin_ms or second.end_ms <= first.begin_ms


@given(TIMES, st.booleans())
def test_a_shot_has_half_a_turn_at_least_and_never_waits_longer_than_until_the_next_turn(now_ms, is_second):
    turn = TURNS.next(0, now_ms, is_second=is_second)
    assert turn.begin_ms >= now_ms
    assert turn.end_ms is not None
    assert LENGTH_MS // 2 <= turn.end_ms - turn.begin_ms <= LENGTH_MS
    first_ms = LENGTH_MS + APART_MS if is_second else 0
    assert turn.begin_ms - now_ms <= max(PERIOD_MS - LENGTH_MS // 2, first_ms)


def test_the_first_turn_is_at_once_for_the_primary_and_after_the_head_start_for_the_secondary():
    assert TURNS.next(50, 50, is_second=False) == Turn(50, 1_050)
    assert TURNS.next(50, 50, is_second=True) == Turn(1_350, 2_350)
    assert TURNS.next(50, 550, is_second=False) == Turn(550, 1_050)
    assert TURNS.next(50, 551, is_second=False) == Turn(2_650, 3_650)


@given(TIMES, TIMES, st.booleans())
def test_without_a_length_every_moment_is_a_turn(since_ms, now_ms, is_second):
    assert Turns(0, APART_MS).next(since_ms, now_ms, is_second=is_second) == Turn(now_ms)
