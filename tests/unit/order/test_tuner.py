"""How a port is ordered: chosen by what is counted of it."""

from pycolo.order.tuner import (
    LIMIT_US_MAX,
    LIMIT_US_MIN,
    LOOK_US,
    MUTUAL_MIN,
    OBSERVED_US,
    REST_US,
    REVIEW_US,
    TRIAL_US,
    TRUST_MIN,
    WIDTH_MAX,
    WINDOW_US,
    Mode,
    Tuner,
    quantile_us,
)

PORT = 6379
ZERO = dict.fromkeys(("requests", "served", "limited", "blocked", "stalled_us"), 0)


class Seen:
    """A port whose gate counts `at_once` requests from look to look."""

    def __init__(self, mode: Mode = Mode.AUTO) -> None:
        self.tuner = Tuner({PORT: mode})
        self.now = 1_000_000
        self.counts = {"port": PORT, "times": [0] * 64, **ZERO}
        self.tuner.begin(self.now)

    @property
    def port(self):
        return self.tuner.ports[PORT]

    @property
    def setting(self):
        return self.port.setting

    def look(self, requests=0, blocked=0, limited=0, took_us=1_000, stalled_us=0):
        self.now += LOOK_US
        added = {"requests": requests, "served": requests - blocked - limited, "blocked": blocked, "limited": limited}
        added["stalled_us"] = stalled_us
        times = list(self.counts["times"])
        times[20] += added["served"] if took_us == 1_000 else 0
        times[34] += added["served"] if took_us > 100_000 else 0
        self.counts = {
            "port": PORT,
            "times": times,
            **{name: self.counts[name] + count for name, count in added.items()},
        }
        return self.tuner.looked([self.counts], self.now)

    def differ(self, count=1, every_us=100_000, lasted_us=50_000, *, is_mutual=False):
        """Each costs a checkpoint."""
        for _ in range(count):
            self.now += every_us - lasted_us
            self.tuner.differed(PORT, self.now, is_mutual=is_mutual)
            self.now += lasted_us
            self.tuner.waited(PORT, lasted_us, self.now)

    def diverge(self):
        """For so long that it is ordered, where it may be."""
        self.differ(11)


def test_a_port_that_does_not_diverge_stays_off():
    seen = Seen()
    for _ in range(100):
        assert seen.look(requests=1000) == []
    seen.differ(2)
    seen.now += OBSERVED_US
    assert not seen.port.is_on, "two may be a connection that begins"
    seen.now += 60_000_000
    seen.differ()
    assert not seen.port.is_on, "long ago"


def test_a_burst_of_connections_that_begin_is_no_reason():
    seen = Seen()
    seen.differ(8)
    seen.now += 9_000_000
    seen.differ()
    assert not seen.port.is_on


def test_a_date_that_differs_once_a_second_costs_less_than_order_would():
    seen = Seen()
    seen.differ(100, every_us=1_000_000, lasted_us=30_000)
    assert not seen.port.is_on
    seen.differ(20, every_us=1_000_000, lasted_us=600_000)
    assert seen.port.is_on, "a time-out each second does not"


def test_mutual_waits_are_a_reason_by_themselves_unless_there_are_few():
    seen = Seen()
    seen.differ(2, lasted_us=5_000, is_mutual=True)
    seen.now += WINDOW_US
    seen.differ(2, lasted_us=5_000, is_mutual=True)
    assert not seen.port.is_on
    seen.differ(1, lasted_us=5_000)
    assert not seen.port.is_on, "another difference is none"
    seen.differ(1, lasted_us=5_000, is_mutual=True)
    assert seen.port.is_on
    assert "mutual waits" in seen.port.why


def test_after_it_was_left_mutual_waits_count_from_there():
    seen = Seen()
    seen.differ(MUTUAL_MIN, is_mutual=True)
    since = seen.now
    while seen.port.is_on:
        seen.look(requests=100)
    assert seen.now - since >= REVIEW_US
    seen.differ(MUTUAL_MIN - 1, is_mutual=True)
    assert not seen.port.is_on


def test_checkpoints_for_another_port_are_not_its_own():
    seen = Seen()
    seen.differ()
    for _ in range(30):
        seen.now += 100_000
        seen.tuner.waited(PORT, 50_000, seen.now)
        seen.tuner.waited(PORT + 1, 50_000, seen.now)
    assert not seen.port.is_on


def test_it_is_tried_without_order_now_and_then():
    seen = Seen()
    for review_us in (REVIEW_US, 2 * REVIEW_US):
        seen.diverge()
        assert seen.port.is_on
        since = seen.now
        while seen.port.is_on:
            seen.look(requests=100)
        assert review_us <= seen.now - since <= review_us + OBSERVED_US
        assert seen.port.why == "tried without order"
        seen.differ()
        assert not seen.port.is_on, "not at once"


def test_it_starts_narrow_and_in_the_order_of_answers_and_widens_while_nothing_differs():
    seen = Seen()
    seen.diverge()
    assert (seen.setting.width, seen.setting.is_early) == (1, False)
    widths = []
    for _ in range(10):
        seen.look(requests=2 * TRUST_MIN)
        widths.append((seen.setting.width, seen.setting.is_early))
    assert widths[:6] == [(1, True), (2, True), (4, True), (8, True), (16, True), (16, True)]
    assert widths[-1] == (WIDTH_MAX, True)


def test_what_is_configured_to_follow_is_on_from_the_start():
    seen = Seen(Mode.FOLLOW)
    assert seen.port.is_on
    for _ in range(100):
        seen.differ(10)
        seen.look(requests=100)
    assert seen.port.is_on, "and is not given up"


def test_after_a_difference_it_is_narrower_and_trusts_later():
    seen = Seen()
    seen.diverge()
    for _ in range(5):
        seen.look(requests=2 * TRUST_MIN)
    seen.differ()
    assert seen.setting.width == WIDTH_MAX // 2
    seen.look(requests=2 * TRUST_MIN)
    assert seen.setting.width == WIDTH_MAX // 2, "twice as many requests are needed"
    for _ in range(4):
        seen.differ()
    assert (seen.setting.width, seen.setting.is_early) == (1, False)


def test_locks_are_one_at_a_time_and_in_the_order_of_answers():
    seen = Seen(Mode.FOLLOW)
    for _ in range(100):
        seen.look(requests=100, blocked=20)
    assert (seen.setting.width, seen.setting.is_early) == (1, False)
    assert "wait for each other" in seen.port.why
    quiet = Seen(Mode.FOLLOW)
    for _ in range(10):
        quiet.look(requests=500)
    assert quiet.setting.width > 1
    quiet.look(requests=50, blocked=10)
    assert (quiet.setting.width, quiet.setting.is_early) == (1, False)


def test_what_does_not_help_is_given_up_for_longer_each_time():
    seen = Seen()
    rests = []
    for _ in range(3):
        seen.diverge()
        assert seen.port.is_on
        since = seen.now
        while seen.port.is_on:
            seen.differ(5)
            seen.look(requests=20)
        assert seen.now - since <= 3 * TRIAL_US
        assert "no help" in seen.port.why
        since = seen.now
        seen.diverge()
        assert not seen.port.is_on
        rests.append(round(seen.port._off_until_us - since, -6))
        seen.now = seen.port._off_until_us
    assert rests == [REST_US, 2 * REST_US, 4 * REST_US]


def test_limits_are_learned_and_not_from_requests_that_wait_for_others():
    seen = Seen(Mode.FOLLOW)
    seen.look(requests=100)
    assert LIMIT_US_MIN < seen.setting.limit_us < LIMIT_US_MIN + 6_000
    before = seen.setting.limit_us
    for _ in range(10):
        seen.look(requests=100, blocked=60)
    assert seen.setting.limit_us == before
    for _ in range(10):
        seen.look(requests=100, limited=90)
    assert seen.setting.limit_us == LIMIT_US_MAX
    for _ in range(10):
        seen.look(requests=100, took_us=200_000)
    assert seen.setting.limit_us == LIMIT_US_MAX


def test_order_that_holds_requests_up_for_longer_than_checkpoints_did_is_given_up():
    seen = Seen()
    seen.diverge()
    for _ in range(100):
        seen.look(requests=100, limited=1, stalled_us=LOOK_US // 2)
    assert not seen.port.is_on
    assert "no help" in seen.port.why


def test_one_that_helps_is_kept_though_some_differences_are_left():
    seen = Seen()
    seen.diverge()
    for _ in range(200):
        seen.differ(every_us=500_000, lasted_us=30_000)
        seen.look(requests=20)
    assert seen.port.is_on


def test_many_differences_at_one_moment_are_one():
    seen = Seen()
    for _ in range(10):
        seen.tuner.differed(PORT, seen.now)
    assert seen.port.differences == 1


def test_a_quantile_is_an_upper_bound_of_its_bucket():
    times = [0.0] * 64
    assert quantile_us(times, 0.8) == 0
    times[20], times[30] = 80, 20
    assert quantile_us(times, 0.8) == 1025
    assert quantile_us(times, 0.81) == 32_769
