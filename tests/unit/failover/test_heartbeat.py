"""Laws of suspicion: own stalls are not the other's silence, and real silence is noticed."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pycolo import limits
from pycolo.failover.heartbeat import HeartbeatDetector, Recovered, Suspect, SuspicionReason

INTERVAL, TIMEOUT, STALL = 25, 150, 30
SILENCE, LOST = SuspicionReason.SILENCE, SuspicionReason.CONNECTION_LOST


def detector(now_ms=0):
    return HeartbeatDetector(now_ms, INTERVAL, TIMEOUT, STALL)


def run_until_suspicion(found, now_ms, until_ms, lateness_ms=lambda: 0):
    """Fire the timer at its deadlines (so much too late) with nothing heard; when it suspected, or None."""
    while (deadline_ms := found.deadline_ms()) is not None and now_ms < until_ms:
        now_ms = deadline_ms + lateness_ms()
        found.timer_fired(now_ms)
        if commands := found.commands():
            assert commands == [Suspect(SILENCE, commands[0].silent_ms)]
            return now_ms
    return None


class Simulation:
    """One node that stalls at will, and heartbeats that reach its kernel in time.

    `reaches_us_ms` are the times at which heartbeats can be read. With `machine_stalls` the whole machine
    stands still in a stall: what was sent meanwhile can be read only `delivery_ms` after it, as with a
    paused VM.
    """

    def __init__(self, seed, *, machine_stalls=False):
        self.random = random.Random(seed)
        self.machine_stalls = machine_stalls
        self.found = detector()
        self.readable = []

    def run(self, until_ms, spacing_ms, delivery_ms=0):
        now_ms, sent_ms = 0, 0
        while now_ms < until_ms:
            stalls = self.random.random() < 0.2
            asleep_ms, due_ms = now_ms, self.found.deadline_ms()
            assert due_ms is not None
            now_ms = due_ms + (self.random.randrange(1, 2_000) if stalls else self.random.randrange(5))
            while sent_ms < now_ms:
                sent_ms += self.random.randrange(1, spacing_ms + 1)
                held_up = self.machine_stalls and stalls and asleep_ms < sent_ms < now_ms
                self.readable.append(now_ms + self.random.randrange(delivery_ms) if held_up else sent_ms)
            if any(at_ms <= now_ms for at_ms in self.readable):
                self.readable = [at_ms for at_ms in self.readable if at_ms > now_ms]
                self.found.heard(now_ms)
            self.found.timer_fired(now_ms)
            assert self.found.commands() == []


@pytest.mark.parametrize("seed", range(20))
def test_heartbeats_in_time_are_never_suspected_whatever_our_own_stalls(seed):
    Simulation(seed).run(60_000, spacing_ms=TIMEOUT - 1)


@pytest.mark.parametrize("seed", range(20))
def test_nor_when_the_whole_machine_stands_still_and_the_heartbeats_come_a_little_after_it(seed):
    # Counted: the stall as STALL, the wait for the delivery, the spacing of the next heartbeat.
    Simulation(seed, machine_stalls=True).run(60_000, spacing_ms=INTERVAL, delivery_ms=TIMEOUT - STALL - INTERVAL - 10)


@given(st.integers(0, 10**9), st.lists(st.integers(0, TIMEOUT - 1), max_size=50))
def test_real_silence_is_suspected_at_the_time_out(start_ms, gaps):
    found, now_ms = detector(start_ms), start_ms
    for gap_ms in gaps:
        assert run_until_suspicion(found, now_ms, now_ms + gap_ms - INTERVAL) is None
        now_ms += gap_ms
        found.heard(now_ms)
    assert run_until_suspicion(found, now_ms, now_ms + 10_000) == now_ms + TIMEOUT


@pytest.mark.parametrize("seed", range(20))
def test_jitter_below_a_stall_delays_suspicion_by_less_than_an_interval(seed):
    chance = random.Random(seed)
    suspected_ms = run_until_suspicion(detector(), 0, 10_000, lambda: chance.randrange(STALL - INTERVAL + 1))
    assert TIMEOUT <= suspected_ms < TIMEOUT + INTERVAL


@given(st.lists(st.integers(0, 5_000), min_size=TIMEOUT // INTERVAL + 2))
def test_a_node_that_always_stalls_still_notices_after_so_many_wakings(late):
    lateness = iter(late)
    assert run_until_suspicion(detector(), 0, 10**9, lambda: next(lateness)) is not None


@given(st.integers(0, 10_000), st.integers(0, 10_000))
def test_a_longer_stall_never_counts_for_less(one, other):
    silences = []
    for stall_ms in sorted((one, other)):
        found = detector()
        found.timer_fired(stall_ms)
        silences.append(found.silent_ms)
    assert silences == sorted(silences)
    assert silences[1] <= STALL


def test_a_lost_connection_is_suspected_at_once_and_once():
    found = detector()
    found.connection_lost(10)
    found.connection_lost(11)
    found.timer_fired(1_000)
    found.heard(1_001)
    assert found.commands() == [Suspect(LOST, 10)]
    assert found.commands() == []
    assert found.deadline_ms() is None


def test_silence_is_suspected_once_and_withdrawn_when_the_other_is_heard_again():
    found = detector()
    first_ms = run_until_suspicion(found, 0, 1_000)
    found.timer_fired(first_ms + 20)
    assert found.commands() == []
    found.heard(first_ms + 25)
    assert found.commands() == [Recovered(TIMEOUT + 25)]
    assert run_until_suspicion(found, first_ms + 25, 10_000) == first_ms + 25 + TIMEOUT


def test_a_clock_that_is_read_out_of_order_does_no_harm():
    found = detector(100)
    found.heard(90)
    found.timer_fired(80)
    assert found.silent_ms == 0
    assert found.deadline_ms() == 100 + INTERVAL


def test_the_defaults_of_the_program_are_consistent():
    found = HeartbeatDetector(0)
    assert found.deadline_ms() == limits.HEARTBEAT_INTERVAL_MS


@pytest.mark.parametrize("times", [(0, 150, 30), (25, 150, 24), (25, 30, 30)])
def test_times_that_contradict_one_another_are_a_bug(times):
    with pytest.raises(AssertionError):
        HeartbeatDetector(0, *times)
