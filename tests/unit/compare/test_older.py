"""Connections older than the pair: what was noted while the primary was alone counts at the first checkpoint."""

import pytest

from pycolo import limits
from support.segments import Tcp, mss, scale
from support.traces import Comparing

ISN, CLIENT = 0xFFFFFF00, 5000
NEXT = (ISN + 201) & 0xFFFFFFFF
SCALE = 7
PATIENCE_MS = limits.COMPARE_TIMEOUT_MS + limits.EXPIRED_SCAN_CYCLE_MS
BEGINNINGS = ["alone", "protected before", "before our time"]


def primary(at, flags="A", data=b"", *, ack=300, window=900):
    return Tcp((ISN + at) & 0xFFFFFFFF, flags, data, CLIENT + ack, window)


def protected(beginning):
    """A primary that has served alone, and was then given a secondary."""
    trace = Comparing()
    syn_ack = Tcp(ISN, "SA", b"", CLIENT, 65535, options=mss(1460) + scale(SCALE))
    if beginning == "protected before":
        trace.primary(syn_ack)
        trace.secondary(syn_ack)
    trace.core.pair_lost(trace.now_us)
    if beginning == "alone":
        trace.primary(syn_ack)
    trace.primary(primary(1, data=b"a" * 100), primary(101, data=b"b" * 100), primary(201))
    trace.core.pair_formed(trace.now_us)
    trace.commit()
    trace.frames()
    return trace


@pytest.mark.parametrize("beginning", BEGINNINGS)
def test_what_only_the_primary_sends_again_leaves(beginning):
    trace = protected(beginning)
    trace.primary(primary(101, data=b"b" * 100))
    assert [segment.data for segment in trace.out()] == [b"b" * 100]
    trace.primary(primary(201, data=b"next"))
    trace.secondary(primary(201, data=b"next"))
    assert [segment.data for segment in trace.out()] == [b"next"], "it is not where the comparison begins"
    trace.wait(2 * PATIENCE_MS)
    assert trace.commands() == []


@pytest.mark.parametrize("beginning", BEGINNINGS)
def test_what_only_the_secondary_sends_again_is_no_difference(beginning):
    trace = protected(beginning)
    trace.secondary(primary(101, data=b"b" * 100))
    trace.wait(2 * PATIENCE_MS)
    assert trace.commands() == []


@pytest.mark.parametrize("beginning", BEGINNINGS)
@pytest.mark.parametrize("window", [800, 900, 1000])
def test_a_window_update_does_not_wait(beginning, window):
    """The secondary has offered what the primary had: no more than that is told."""
    trace = protected(beginning)
    trace.primary(primary(201, window=window))
    assert [segment.window for segment in trace.out()] == [min(window, 900)]


@pytest.mark.rule("C3")
@pytest.mark.parametrize("beginning", BEGINNINGS)
def test_the_right_edge_does_not_move_back(beginning):
    """RFC 9293 section 3.8.6.2.1: both guests offer the same edge, one with an ack that is 12,800 bytes ahead."""
    trace = protected(beginning)
    step = 100 << SCALE
    trace.secondary(primary(201, data=b"next", ack=300 + step, window=800))
    trace.primary(primary(201, data=b"next", ack=300 + 2 * step, window=700))
    assert [(segment.ack - CLIENT, segment.window) for segment in trace.out()] == [(300 + step, 800)]
    trace.primary(primary(205, ack=300 + 2 * step, window=700))
    trace.secondary(primary(205, ack=300 + 4 * step, window=500))
    told = [(segment.ack - CLIENT, segment.window) for segment in trace.out()]
    assert told
    assert {ack + (window << SCALE) for ack, window in told} == {300 + (900 << SCALE)}


@pytest.mark.parametrize("beginning", BEGINNINGS)
def test_a_stream_that_has_ended_stays_ended(beginning):
    trace = protected(beginning)
    trace.primary(primary(201, "FA"))
    assert trace.out() == []
    trace.secondary(primary(201, "FA"))
    trace.primary(primary(201, "FA"))
    assert [segment.flags for segment in trace.out()] == ["FA", "FA"]


def test_a_new_connection_of_a_primary_that_is_alone_is_a_new_life():
    trace = protected("alone")
    trace.core.pair_lost(trace.now_us)
    trace.primary(Tcp(77, "SA", b"", CLIENT + 999, 65535, options=mss(1460)), Tcp(78, "A", b"x", CLIENT + 999, 500))
    trace.core.pair_formed(trace.now_us)
    trace.commit()
    trace.frames()
    trace.primary(Tcp(78, "A", b"x", CLIENT + 999, 500), Tcp(79, "A", b"y", CLIENT + 999, 500))
    trace.secondary(Tcp(79, "A", b"y", CLIENT + 999, 500))
    assert [segment.data for segment in trace.out()] == [b"x", b"y"]


def test_what_is_noted_of_a_primary_that_is_alone_is_forgotten_in_time():
    trace = Comparing()
    trace.core.pair_lost(trace.now_us)
    trace.primary(primary(1, data=b"a"), Tcp(5, "R"))
    trace.frames()
    assert trace.core.table.used == 1
    trace.wait(limits.CONNECTION_IDLE_MS + PATIENCE_MS)
    assert trace.core.table.used == 0
    trace.assert_empty()
