"""How often a line may repeat itself."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from pycolo.metrics.limiter import Limiter


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 400))), st.integers(1, 4))
def test_no_key_is_admitted_more_often_than_allowed_and_nothing_is_lost(events, per_s):
    limiter = Limiter(per_s)
    now_ms = 0
    admitted = {key: [] for key in "abc"}
    told, asked = Counter(), Counter()
    last_withheld = Counter()
    for key, later_ms in events:
        now_ms += later_ms
        asked[key] += 1
        withheld = limiter.admit(key, now_ms)
        if withheld is None:
            last_withheld[key] += 1
        else:
            assert withheld == last_withheld.pop(key, 0)
            told[key] += withheld
            admitted[key].append(now_ms)
    for key, times_ms in admitted.items():
        assert len(times_ms) + told[key] + last_withheld[key] == asked[key]
        for i, began_ms in enumerate(times_ms):
            # Seconds begin with the first one: in any second there are those of two at most.
            assert sum(began_ms <= at_ms < began_ms + 1000 for at_ms in times_ms[i:]) <= 2 * per_s


def test_a_quiet_key_is_always_admitted():
    limiter = Limiter(1)
    assert [limiter.admit("a", ms) for ms in range(0, 10_000, 1000)] == [0] * 10


def test_what_was_withheld_is_told_with_the_next_one():
    limiter = Limiter(2)
    assert [limiter.admit("a", 0) for _ in range(5)] == [0, 0, None, None, None]
    assert limiter.admit("b", 0) == 0
    assert limiter.admit("a", 999) is None
    assert limiter.admit("a", 1000) == 4
    assert limiter.admit("a", 1000) == 0


def test_keys_are_bounded_and_the_longest_unheard_one_goes():
    limiter = Limiter(1, keys_max=2)
    for key in ("a", "b", "a", "c"):
        limiter.admit(key, 0)
    assert limiter.admit("a", 0) is None, "it was heard after b"
    assert limiter.admit("b", 0) == 0, "it was forgotten"
