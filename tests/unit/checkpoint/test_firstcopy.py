"""The first copy: the pause is made longer for a guest that changes too fast, up to a limit."""

from pycolo.checkpoint.firstcopy import PAUSE_MAX_MS, FirstCopy, Progress

MIB = 1 << 20


def passes(copy, left, copy_rate=400 * MIB, change_rate=900 * MIB, first=1):
    """Pauses allowed after each pass, which leaves `left` MiB; each is looked at twice."""
    allowed = []
    for number, octets in enumerate(left, first):
        progress = Progress(number, octets * MIB, copy_rate, change_rate)
        copy.looked(progress)
        assert not copy.looked(progress), "the same pass"
        allowed.append(copy.pause_ms)
    return allowed


def test_a_copy_that_comes_to_an_end_is_left_alone():
    copy = FirstCopy(100)
    assert passes(copy, [2048, 700, 240, 80, 30]) == [100] * 5
    assert copy.says == ""


def test_a_guest_that_changes_as_fast_as_it_is_copied_gets_a_longer_pause():
    copy = FirstCopy(100)
    allowed = passes(copy, [2048, 1024, 1024, 1024])
    assert allowed[:3] == [100, 100, 100], "one such pass may be chance"
    assert allowed[3] == 1024 * 1000 // 400 * 3 // 2, "and a reserve"
    for figure in ("900 MiB/s", "400 MiB/s", "1.0 GiB", "2560 ms"):
        assert figure in copy.says


def test_the_pause_has_a_limit_and_then_it_is_hopeless():
    copy = FirstCopy(100)
    allowed = passes(copy, [1 << 16] * 40)
    assert max(allowed) == PAUSE_MAX_MS
    assert copy.is_hopeless
    assert not FirstCopy(100).is_hopeless


def test_passes_that_shrink_again_start_anew():
    copy = FirstCopy(100)
    assert set(passes(copy, [2048, 1024, 1020, 500, 490, 200, 190, 60])) == {100}


def test_without_a_rate_nothing_is_concluded():
    copy = FirstCopy(100)
    assert set(passes(copy, [2048] * 9, copy_rate=0)) == {100}


def test_a_target_above_the_limit_is_the_limit():
    assert FirstCopy(60_000).pause_ms == PAUSE_MAX_MS
