"""Every line is written whole or counted, and a burst costs a line a minute."""

import re

from hypothesis import given
from hypothesis import strategies as st

from pycolo.node.digest import PERIOD_MS, WHOLE, Digest

pauses = st.lists(st.one_of(st.integers(0, 100), st.integers(0, 2 * PERIOD_MS)), max_size=200)


@given(pauses)
def test_nothing_is_lost(pauses_ms):
    digest, now_ms, told = Digest("lines"), 1000, 0
    for pause_ms in pauses_ms:
        now_ms += pause_ms
        told += counted(digest.due(now_ms))
        told += digest.is_whole("kind", now_ms)
    told += counted(digest.due(now_ms + PERIOD_MS))
    assert told == len(pauses_ms)


def counted(line):
    return int(re.match(r"(\d+) more lines", line)[1]) if line else 0


@given(pauses)
def test_there_are_few_lines(pauses_ms):
    digest, now_ms, lines, quiet = Digest("lines"), 0, 0, 0
    for pause_ms in pauses_ms:
        now_ms += pause_ms
        quiet += pause_ms >= PERIOD_MS
        lines += digest.due(now_ms) is not None
        lines += digest.is_whole("kind", now_ms)
    assert lines <= WHOLE * (1 + quiet) + 1 + now_ms // PERIOD_MS


def test_the_digest_counts_by_kind():
    digest = Digest("divergences")
    for kind in ["fin"] * WHOLE + ["payload", "timeout", "payload"]:
        assert digest.due(5) is None
        digest.is_whole(kind, 5)
    line = digest.due(5 + PERIOD_MS)
    assert line == "3 more divergences in the last minute (payload 2, timeout 1); `colo explain` shows the last ones"
    assert digest.due(5 + 2 * PERIOD_MS) is None


def test_after_a_quiet_period_lines_are_whole_again():
    digest = Digest("lines")
    assert [digest.is_whole("kind", 0) for _ in range(WHOLE + 1)] == [True] * WHOLE + [False]
    for period in (1, 2):
        digest.due(period * PERIOD_MS)
    assert digest.is_whole("kind", 3 * PERIOD_MS)
