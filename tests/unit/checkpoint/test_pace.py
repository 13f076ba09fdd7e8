"""The pace: what finished checkpoints and looks say about the next one, and when one hangs."""

import pytest

from pycolo.checkpoint.pace import GROWTH, LOOK_MIN_US, MARGIN, SPEED_UNMEASURED, Copied, Pace, mib

MIB = 1 << 20
SECOND = 1_000_000
TARGET_US, DISTANCE_US, INTERVAL_US, TIMEOUT_US = 100_000, 20_000, 10 * SECOND, 5 * SECOND
SPEED = 400 * MIB
FIXED_US = 8_000


def made(interval_us=INTERVAL_US):
    return Pace(TARGET_US // 1000, DISTANCE_US // 1000, interval_us // 1000, TIMEOUT_US // 1000)


def copy_of(octets, ran_us):
    """As a host copies that needs `FIXED_US` for each checkpoint."""
    return Copied(ran_us, FIXED_US + round(octets * 1e6 / SPEED), octets)


def simulated(changed_after, seconds):
    """The pauses of a guest in which `changed_after(start_us, ran_us)` bytes change between two checkpoints."""
    pace, now_us, pauses = made(), 0, []
    while now_us < seconds * SECOND:
        due_us = pace.due_us(now_us)
        copy = copy_of(changed_after(now_us, due_us - now_us), due_us - now_us)
        pauses.append((due_us, copy.pause_us))
        now_us = due_us + copy.pause_us
        pace.copied(copy)
        pace.resumed(now_us)
    return pace, pauses


# ── the interval ────────────────────────────────────────────────────────────────────────────────────────────


def test_an_idle_guest_is_copied_at_the_longest_interval():
    pace, pauses = simulated(lambda start_us, ran_us: 100_000, 60)
    assert [due_us for due_us, _ in pauses[:2]] == [INTERVAL_US, 2 * INTERVAL_US + FIXED_US + 238]
    assert pace.finding is None


def test_a_steady_guest_pauses_for_the_target_at_most():
    """100 MiB/s change: after 10 s that is a GiB, and one long pause; never again."""
    _, pauses = simulated(lambda start_us, ran_us: ran_us * 100 * MIB // SECOND, 60)
    assert pauses[0][1] > 2 * SECOND
    assert all(pause_us <= TARGET_US for _, pause_us in pauses[1:])
    assert pauses[-1][1] > TARGET_US * MARGIN / 2, "and is not copied more often than it has to be"


def test_what_is_changed_again_and_again_is_copied_once():
    """A GiB that is rewritten in a second: shorter intervals change less only when they are shorter than that."""
    pace, pauses = simulated(lambda start_us, ran_us: min(1024 * MIB, ran_us * 1024 * MIB // SECOND), 30)
    assert all(pause_us <= TARGET_US for _, pause_us in pauses[4:])
    assert pace.is_held


def test_a_small_set_that_is_rewritten_all_the_time_is_no_reason_to_hurry():
    """20 MiB take 50 ms, however long the guest has run."""
    _, pauses = simulated(lambda start_us, ran_us: min(20 * MIB, ran_us * 1024 * MIB // SECOND), 60)
    assert [due_us // SECOND for due_us, _ in pauses] == [10, 20, 30, 40, 50, 60]


def test_after_a_busy_time_the_interval_grows_again():
    pace, pauses = simulated(lambda start_us, ran_us: ran_us * 300 if start_us < 20 * SECOND else 0, 60)
    assert pace.interval_us == INTERVAL_US
    assert len([due_us for due_us, _ in pauses if due_us > 21 * SECOND]) < 15


def test_what_changes_until_the_hypervisor_has_stopped_counts():
    """A slow host: half of the interval passes between asking and stopping."""
    pace = made()
    for _ in range(3):
        pace.copied(Copied(400_000, 308_000, 120 * MIB, 100_000))
    whole = made()
    for _ in range(3):
        whole.copied(Copied(400_000, 308_000, 120 * MIB))
    assert pace.interval_us == max(DISTANCE_US, whole.interval_us - 100_000)


def test_a_short_run_that_changed_little_says_nothing():
    pace = made()
    pace.copied(copy_of(5 * MIB, 30_000))
    assert pace.interval_us == INTERVAL_US


def test_the_guest_runs_at_least_as_long_as_an_empty_checkpoint_takes():
    """Otherwise a slow host would do nothing but checkpoints."""
    pace = made()
    for _ in range(5):
        pace.copied(Copied(10 * SECOND, 60_000, 1000))
    for _ in range(5):
        pace.copied(Copied(100_000, 900_000, 300 * MIB))
    assert pace.interval_us == pytest.approx(60_000, rel=0.01)


def test_on_a_host_that_is_too_slow_for_the_target_an_idle_guest_is_not_hurried():
    """Each checkpoint takes longer than the target, whatever is copied."""
    pace, now_us = made(), 0
    for number in range(9):
        began_us = looking(pace, now_us)
        for look in range(1, 20):
            pace.looked(began_us + look * 400_000, (look + number) % 3 * 4 * MIB, (look + number) % 3, 3_000)
            assert pace.due_us(now_us) == now_us + INTERVAL_US, "one page of the sample, or two, are chance"
        pace.copied(Copied(INTERVAL_US, 115_000, MIB))
        now_us += INTERVAL_US
    assert pace.interval_us == INTERVAL_US
    assert not pace.is_held


def test_without_periodic_checkpoints_nothing_is_due():
    pace = made(interval_us=0)
    for _ in range(3):
        pace.copied(copy_of(2048 * MIB, SECOND))
    assert pace.due_us(0) is None
    assert pace.look_us(0) is None
    assert pace.finding is None, "who asks for checkpoints knows why"


# ── looks ───────────────────────────────────────────────────────────────────────────────────────────────────


def looking(pace, now_us):
    pace.resumed(now_us)
    pace.look_began(now_us + LOOK_MIN_US, 500)
    return now_us + LOOK_MIN_US


def test_a_burst_is_seen_while_it_lasts():
    pace = made()
    for _ in range(3):
        pace.copied(copy_of(80 * MIB, 10 * SECOND))
    began_us = looking(pace, 0)
    pace.looked(began_us + 100_000, 0, 0, 500)
    assert pace.due_us(0) == INTERVAL_US
    pace.looked(began_us + 200_000, 20 * MIB, 20, 500)
    due_us = pace.due_us(0)
    assert began_us + 200_000 < due_us < began_us + 300_000, "200 MiB/s: 32 MiB within a moment"
    pace.looked(began_us + 250_000, 40 * MIB, 40, 500)
    assert pace.due_us(0) <= began_us + 250_000, "now"


def test_looks_come_again_within_their_share_of_a_processor():
    pace = made()
    assert pace.look_us(0) == LOOK_MIN_US
    pace.look_began(LOOK_MIN_US, 2_000)
    assert pace.look_us(0) == LOOK_MIN_US + 200_000
    pace.resumed(30_000)
    assert pace.look_us(30_000) == LOOK_MIN_US + 200_000, "frequent checkpoints are no reason to look more often"


def test_looks_that_see_too_little_are_corrected():
    pace = made()
    for number in range(3):
        began_us = looking(pace, number * 10 * SECOND)
        pace.looked(began_us + 9_900_000, 16 * MIB, 16, 500)
        pace.copied(copy_of(32 * MIB, 10 * SECOND))
    began_us = looking(pace, 40 * SECOND)
    pace.looked(began_us + 100_000, 16 * MIB, 16, 500)
    assert pace.due_us(40 * SECOND) <= began_us + 100_000, "it is 32 MiB"


def test_looks_that_see_nothing_are_not_believed():
    pace = made()
    for number in range(3):
        began_us = looking(pace, number * 10 * SECOND)
        pace.looked(began_us + 9_900_000, 0, 0, 500)
        pace.copied(copy_of(512 * MIB, 10 * SECOND))
    assert pace.is_blind
    began_us = looking(pace, 40 * SECOND)
    pace.looked(began_us + 100_000, 0, 0, 500)
    assert pace.due_us(40 * SECOND) == 40 * SECOND + pace.interval_us < 41 * SECOND


# ── the time limit ──────────────────────────────────────────────────────────────────────────────────────────


def test_a_checkpoint_of_which_nothing_moves_hangs_after_the_time_limit():
    pace = made()
    assert pace.overdue_us(1_000, None) == 1_000 + TIMEOUT_US
    assert pace.overdue_us(1_000, 900) == 1_000 + TIMEOUT_US, "that was the last one"


def test_while_bytes_move_it_does_not_hang():
    pace = made()
    assert pace.overdue_us(0, 60 * SECOND) == 2 * 60 * SECOND + TIMEOUT_US, "and loading may take as long again"


def test_a_stream_that_trickles_has_an_end():
    pace = made()
    pace.ram_bytes = 2048 * MIB
    assert pace.longest_us == TIMEOUT_US + 4 * 2048 * MIB * SECOND // SPEED_UNMEASURED
    assert pace.overdue_us(7, 600 * SECOND) == 7 + pace.longest_us
    pace.copied(copy_of(1024 * MIB, SECOND))
    assert pace.longest_us == pytest.approx(TIMEOUT_US + 4 * 2048 * MIB * SECOND / SPEED, rel=0.01)


# ── what it says ────────────────────────────────────────────────────────────────────────────────────────────


def test_a_target_that_is_not_held_is_said_with_its_figures():
    pace = made()
    for _ in range(9):
        pace.copied(copy_of(120 * MIB, DISTANCE_US))
    text = pace.finding
    assert text is not None
    for figure in ("100 ms", "9 of the last 9", "308 ms", "120 MiB", "0.02 s", "390 MiB/s"):
        assert figure in text
    status = pace.status()
    assert (status["is_held"], status["why"], status["missed"], status["of"]) == (False, text, 9, 9)
    assert status["interval_ms"] == 20.0


def test_a_target_that_costs_most_of_the_guest_s_time_is_said_as_well():
    pace = made()
    for _ in range(9):
        pace.copied(copy_of(28 * MIB, DISTANCE_US))
    assert pace.is_held
    text = pace.finding
    assert text is not None
    assert "stands still for 80% of its time" in text
    assert "pause_target_ms" in text
    assert made(interval_us=0).finding is None


def test_a_burst_that_goes_on_is_met_before_the_first_comparison():
    pace = made()
    for _ in range(3):
        pace.copied(copy_of(80 * MIB, 10 * SECOND))
    began_us = looking(pace, 0)
    pace.looked(began_us + 100_000, 30 * MIB, 30, 500)
    pace.copied(copy_of(31 * MIB, 120_000))
    began_us = looking(pace, SECOND)
    assert pace.due_us(SECOND) < SECOND + 130_000, "300 MiB/s, as before"
    pace.looked(began_us + 50_000, 0, 0, 500)
    assert pace.due_us(SECOND) == SECOND + INTERVAL_US, "it is over"


def test_one_pause_a_little_too_long_is_no_finding():
    pace = made()
    pace.copied(Copied(10 * SECOND, 120_000, 1000))
    assert pace.finding is None
    pace.copied(Copied(10 * SECOND, 210_000, 1000))
    assert pace.finding is not None
    for _ in range(9):
        pace.copied(Copied(10 * SECOND, 9_000, 1000))
    assert pace.finding is None, "it is held again"


PAUSES_TOLD = [
    ((210,), "the last pause was longer"),
    ((210, 9), "1 of the last 2 pauses was longer"),
    ((210, 210), "2 of the last 2 pauses were longer"),
]


@pytest.mark.parametrize(("pauses_ms", "told"), PAUSES_TOLD)
def test_the_finding_counts_as_people_do(pauses_ms, told):
    pace = made()
    for pause_ms in pauses_ms:
        pace.copied(Copied(10 * SECOND, pause_ms * 1000, 1000))
    assert told in pace.finding


def test_why_a_periodic_checkpoint_is_made():
    pace = made()
    assert pace.why_now(INTERVAL_US) == "the last one was 10.0 s ago"
    pace.copied(copy_of(512 * MIB, 10 * SECOND))
    text = pace.why_now(740_000)
    assert text.startswith("the last one was 740 ms ago; 51.2 MiB/s change and 398 MiB/s are copied")
    assert "100 ms" in text


def test_sizes_as_text():
    assert [mib(n * MIB) for n in (0.5, 99.94, 100, 1023, 1024, 3072)] == [
        "0.5 MiB",
        "99.9 MiB",
        "100 MiB",
        "1023 MiB",
        "1.0 GiB",
        "3.0 GiB",
    ]


def test_the_interval_at_most_doubles():
    pace = made()
    pace.copied(copy_of(2048 * MIB, 10 * SECOND))
    before_us = pace.interval_us
    pace.copied(copy_of(0, before_us))
    assert pace.interval_us == GROWTH * before_us
