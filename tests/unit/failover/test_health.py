"""The verdict on a pair: laws over any run of counters."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from pycolo.compare.kinds import PassReason
from pycolo.failover.health import (
    ALLOWED,
    MEANINGS,
    SHARE_MAX,
    SHARE_WELL,
    SILENT_EPOCHS,
    STEP_MS,
    WINDOW_MS,
    Health,
    Verdict,
)

LOOK_MS = 1000
FORBIDDEN = sorted(MEANINGS.keys() - ALLOWED)


class Run:
    """A pair's counters, told every `LOOK_MS`."""

    def __init__(self):
        self.health = Health()
        self.now_ms = 5_000
        self.compared = 1_000_000
        self.uncompared = dict.fromkeys(MEANINGS, 10_000)
        self.look()

    def look(self, compared=0, uncompared=0, reason="differed", allowed=0):
        self.compared += compared
        self.uncompared[reason] += uncompared
        self.uncompared["older"] += allowed
        return self.health.counted(self.now_ms, self.compared, self.uncompared)

    def second(self, compared=0, uncompared=0, reason="differed", allowed=0):
        self.now_ms += LOOK_MS
        return self.look(compared, uncompared, reason, allowed)

    def seconds(self, count, **traffic):
        return [self.second(**traffic) for _ in range(count)][-1]


octets = st.one_of(st.just(0), st.integers(1, 100_000))
looks = st.lists(st.tuples(octets, octets, st.sampled_from(FORBIDDEN), octets), max_size=60)


def played(steps):
    """(what each look was of, verdict) of a run."""
    run = Run()
    for compared, uncompared, reason, allowed in steps:
        yield run, run.second(compared, uncompared, reason, allowed)


@given(looks)
def test_more_than_the_share_within_the_window_is_degraded_at_once(steps):
    for at, (run, verdict) in enumerate(played(steps)):
        window = steps[max(0, at + 1 - WINDOW_MS // LOOK_MS) : at + 1]
        compared, uncompared = sum(step[0] for step in window), sum(step[1] for step in window)
        assert run.health.window[:2] == (compared, uncompared)
        if uncompared > SHARE_MAX * (compared + uncompared):
            assert verdict is Verdict.DEGRADED
            assert run.health.why


@given(looks)
def test_it_is_well_again_only_after_a_window_of_calm(steps):
    shares, before = [], Verdict.UNSEEN
    for run, verdict in played(steps):
        shares.append(run.health.window.share)
        if before is Verdict.DEGRADED and verdict is Verdict.WELL:
            assert max(shares[-WINDOW_MS // LOOK_MS :]) <= SHARE_WELL
        assert before is Verdict.UNSEEN or verdict is not Verdict.UNSEEN
        before = verdict


@given(looks, st.integers(1, 100))
def test_an_idle_pair_keeps_its_verdict_and_says_how_old_it_is(steps, seconds):
    run = Run()
    verdict = run.health.verdict
    for step in steps:
        verdict = run.second(*step)
    run.seconds(WINDOW_MS // LOOK_MS, compared=0)  # the window empties, in which it may become well
    verdict, why, seen_ms = run.health.verdict, run.health.why, run.health.seen_ms
    assert run.seconds(seconds) is verdict
    assert (run.health.why, run.health.seen_ms) == (why, seen_ms)
    age_ms = run.health.age_ms(run.now_ms)
    assert age_ms is None if seen_ms is None else age_ms >= seconds * LOOK_MS


@given(st.lists(octets, max_size=40))
def test_what_may_pass_decides_nothing(allowed):
    run = Run()
    for count in allowed:
        assert run.second(allowed=count) is Verdict.UNSEEN
    assert run.health.age_ms(run.now_ms) is None


@given(looks, st.lists(st.integers(1, 3 * LOOK_MS), max_size=60))
def test_few_samples_are_kept_however_often_it_is_told(steps, pauses_ms):
    run = Run()
    for step, pause_ms in zip(steps, pauses_ms, strict=False):
        run.now_ms += pause_ms
        run.look(*step)
        assert len(run.health._samples) <= WINDOW_MS // STEP_MS + 3


@given(looks)
def test_no_two_changes_for_the_better_within_a_window(steps):
    became_well_ms = []
    before = Verdict.UNSEEN
    for run, verdict in played(steps):
        if before is Verdict.DEGRADED and verdict is Verdict.WELL:
            became_well_ms.append(run.now_ms)
        before = verdict
    assert all(after - first >= WINDOW_MS for first, after in pairwise(became_well_ms))


def test_what_the_issue_saw():
    """Everything passes behind a vnet header, and nothing is compared."""
    run = Run()
    assert run.second(uncompared=5_000, reason="vnet_header") is Verdict.DEGRADED
    assert run.health.why.startswith("100.0% of the payload of the last 10 s left uncompared: ")
    assert "vnet_hdr" in run.health.why


def test_compared_traffic_is_well_at_once():
    run = Run()
    assert run.health.verdict is Verdict.UNSEEN
    assert run.second(compared=1) is Verdict.WELL


def test_the_worst_reason_is_the_one_that_is_said():
    run = Run()
    run.second(compared=100, uncompared=10, reason="malformed")
    run.second(compared=100, uncompared=90, reason="signed")
    assert MEANINGS["signed"] in run.health.why


def test_it_recovers_once_all_is_compared():
    run = Run()
    run.second(compared=100, uncompared=100)
    assert run.seconds(WINDOW_MS // LOOK_MS, compared=100) is Verdict.DEGRADED
    assert run.seconds(WINDOW_MS // LOOK_MS + 1, compared=100) is Verdict.WELL
    assert run.health.why == ""


def test_counters_that_begin_anew_are_no_traffic():
    run = Run()
    run.seconds(3, compared=100)
    run.compared, run.uncompared = 0, dict.fromkeys(MEANINGS, 0)
    assert run.look() is Verdict.WELL
    assert run.health.window[:3] == (0, 0, 0)


def test_a_frame_that_does_not_come_back_degrades_until_one_does():
    run = Run()
    assert run.health.probed(has_returned=False) is Verdict.DEGRADED
    assert "did not come back" in run.health.why
    assert run.second(compared=100) is Verdict.DEGRADED
    assert run.health.probed(has_returned=True) is Verdict.WELL
    assert run.health.why == ""


@given(st.lists(st.one_of(st.none(), st.integers(0, 3)), max_size=60))
def test_a_secondary_that_answers_nothing_degrades_the_pair(steps):
    """None: an epoch ended by time-out; a number: so many packets more were found equal."""
    health, equal, silent = Health(), 0, 0
    for step in steps:
        if step is None:
            silent += 1
            verdict = health.timed_out()
        else:
            equal, silent = equal + step, 0 if step else silent
            verdict = health.found_equal(equal)
        assert (verdict is Verdict.DEGRADED) == (silent >= SILENT_EPOCHS)
        assert ("answers nothing" in health.why) == (silent >= SILENT_EPOCHS)


def test_every_reason_of_the_comparator_has_its_meaning():
    assert {reason.name.lower() for reason in PassReason} == set(MEANINGS)
    assert set(MEANINGS) >= ALLOWED
