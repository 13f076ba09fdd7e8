"""Laws of the pace, for any guest and any host."""

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from pycolo.checkpoint.pace import LARGE_BYTES, Copied, Pace

MIB = 1 << 20
SECOND = 1_000_000
TARGET_US, DISTANCE_US, INTERVAL_US, TIMEOUT_US = 100_000, 20_000, 10 * SECOND, 5 * SECOND

times = st.integers(0, 20 * SECOND)
octets = st.one_of(st.integers(0, 1 << 40), st.integers(0, 64 * MIB))
copies = st.builds(Copied, times, times, octets)
speeds = st.integers(50 * MIB, 4096 * MIB)
fixed_parts = st.integers(1_000, 15_000)
looks = st.tuples(st.integers(0, SECOND), octets, st.integers(0, 4096), st.integers(0, 50_000))


def made(distance_us=DISTANCE_US, interval_us=INTERVAL_US):
    return Pace(TARGET_US // 1000, distance_us // 1000, interval_us // 1000, TIMEOUT_US // 1000)


class Host:
    """Copies with `fixed_us` and `speed`, as the model says."""

    def __init__(self, speed, fixed_us):
        self.speed = speed
        self.fixed_us = fixed_us

    def copy_of(self, changed, ran_us):
        return Copied(ran_us, self.fixed_us + round(changed * 1e6 / self.speed), changed)

    def known_to(self, pace):
        for _ in range(3):
            pace.copied(self.copy_of(MIB, 10 * SECOND))
            pace.copied(self.copy_of(LARGE_BYTES * 4, 10 * SECOND))
        return pace


@settings(max_examples=30)
@given(st.lists(st.one_of(copies, looks), max_size=10), st.integers(0, 60), st.integers(1, 60_000))
def test_whatever_happens_the_next_one_lies_within_the_limits(happened, distance_ms, interval_ms):
    assume(distance_ms <= interval_ms)
    distance_us, interval_us = distance_ms * 1000, interval_ms * 1000
    pace, now_us = made(distance_us, interval_us), 0
    for fact in happened:
        if isinstance(fact, Copied):
            pace.copied(fact)
            now_us += fact.ran_us + fact.pause_us
            pace.resumed(now_us)
            ended_us = now_us
            pace.look_began(now_us, 100)
        else:
            after_us, changed, hits, took_us = fact
            ended_us, now_us = now_us, now_us + after_us
            pace.looked(now_us, changed, hits, took_us)
        assert distance_us <= pace.interval_us <= interval_us
        due_us = pace.due_us(ended_us)
        assert ended_us + distance_us <= due_us <= ended_us + interval_us
        look_us = pace.look_us(ended_us)
        assert look_us is None or look_us < due_us
        status = pace.status()
        assert status["is_held"] or status["why"] is not None
        assert 0 <= status["standing"] <= 1


@settings(max_examples=30)
@given(speeds, fixed_parts, st.integers(DISTANCE_US, 10 * SECOND), octets, octets)
def test_who_changes_more_is_copied_sooner(speed, fixed_us, ran_us, one, other):
    host = Host(speed, fixed_us)
    less, more = sorted((one, other))
    intervals = []
    for changed in (less, more):
        pace = host.known_to(made())
        pace.copied(host.copy_of(changed, ran_us))
        intervals.append(pace.interval_us)
    assert intervals[0] * 1.01 + 1 >= intervals[1]


@settings(max_examples=30)
@given(speeds, fixed_parts, st.integers(0, 1024 * MIB))
def test_a_steady_guest_s_pauses_come_below_the_target_and_stay_there(speed, fixed_us, change_rate):
    """Wherever that is possible: what changes in the shortest interval can be copied within the target."""
    host = Host(speed, fixed_us)
    assume(fixed_us + DISTANCE_US * change_rate / speed <= TARGET_US * 0.6)
    pace, pauses, intervals = made(), [], []
    for _ in range(20):
        ran_us = pace.due_us(0)
        copy = host.copy_of(change_rate * ran_us // SECOND, ran_us)
        pauses.append(copy.pause_us)
        intervals.append(ran_us)
        pace.copied(copy)
        pace.resumed(0)
    assert max(pauses[4:]) <= TARGET_US
    assert max(intervals[14:]) <= 1.5 * min(intervals[14:])


@settings(max_examples=30)
@given(speeds, fixed_parts, st.integers(0, 256 * MIB), st.integers(0, 60 * SECOND))
def test_one_odd_pause_changes_nothing(speed, fixed_us, changed, odd_us):
    """A host that was busy with something else for a moment: the next interval is what it would have been."""
    host = Host(speed, fixed_us)
    with_odd, without = host.known_to(made()), host.known_to(made())
    for pace in (with_odd, without):
        for _ in range(4):
            pace.copied(host.copy_of(changed, 5 * SECOND))
    with_odd.copied(Copied(5 * SECOND, odd_us, changed))
    without.copied(host.copy_of(changed, 5 * SECOND))
    for pace in (with_odd, without):
        pace.copied(host.copy_of(changed, 5 * SECOND))
    assert abs(with_odd.interval_us - without.interval_us) <= 0.05 * without.interval_us + 1


@settings(max_examples=30)
@given(st.lists(copies, max_size=6), times, st.one_of(st.none(), times), st.integers(0, 1 << 44))
def test_a_checkpoint_hangs_neither_too_soon_nor_never(done, began_us, moved_us, ram_bytes):
    pace = made()
    pace.ram_bytes = ram_bytes
    for copy in done:
        pace.copied(copy)
    overdue_us = pace.overdue_us(began_us, moved_us)
    assert overdue_us >= began_us + TIMEOUT_US
    if moved_us is not None and (pace.longest_us is None or overdue_us < began_us + pace.longest_us):
        assert overdue_us >= moved_us + TIMEOUT_US
    if pace.longest_us is not None:
        assert overdue_us <= began_us + pace.longest_us
