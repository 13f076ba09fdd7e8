"""What a connection has only for a time costs nothing before and afterwards."""

import pytest

from pycolo.compare.kinds import DivergencePolicy
from support.segments import Flow, Tcp, sack
from support.traces import Comparing

ISN = 1000
BASE = ISN + 1
FLOWS = [Flow(client_port=port) for port in range(1, 41)]


def both(trace, flow, *segments):
    for segment in segments:
        at = Tcp(segment.seq, segment.flags, segment.data, segment.ack, segment.window, segment.options, flow)
        trace.secondary(at)
        trace.primary(at)


def opened(flows=FLOWS, **options):
    """Connections on which both guests have answered, and said something."""
    trace = Comparing(**options)
    for flow in flows:
        both(trace, flow, Tcp(ISN, "SA", ack=100), Tcp(BASE, "A", b"hello", ack=100))
    trace.frames()
    return trace


def aside(trace):
    assert not any(trace.core.held.asides.nothing()), "the place of all who have nothing aside was written to"
    return trace.core.held.asides.used


@pytest.mark.parametrize("policy", list(DivergencePolicy))
def test_connections_that_are_open_have_nothing(policy):
    trace = opened(policy=policy)
    assert aside(trace) == 0
    assert trace.core.table.used == len(FLOWS)


def test_a_syn_of_one_side_alone():
    trace = Comparing()
    for flow in FLOWS:
        trace.secondary(Tcp(ISN, "SA", ack=100, flow=flow))
    assert aside(trace) == len(FLOWS)
    for flow in FLOWS:
        trace.primary(Tcp(ISN + 50, "SA", ack=100, flow=flow))
    assert aside(trace) == 0


def test_a_debt_until_it_is_paid():
    """The secondary has acknowledged less: what the client is not told is owed, and paid when it has caught up."""
    trace = opened()
    for flow in FLOWS:
        trace.secondary(Tcp(BASE + 5, "A", b"more", ack=100, flow=flow))
        trace.primary(Tcp(BASE + 5, "A", b"more", ack=300, flow=flow))
    assert {segment.ack for segment in trace.out()} == {100}
    assert aside(trace) == len(FLOWS)
    for flow in FLOWS:
        trace.secondary(Tcp(BASE + 9, "A", ack=300, flow=flow))
    assert {segment.ack for segment in trace.out()} == {300}
    assert aside(trace) == 0


@pytest.mark.parametrize("payload", [b"", b"more"])
def test_sack_blocks_until_the_next_word_without_them(payload):
    trace = opened()
    for flow in FLOWS:
        trace.secondary(Tcp(BASE + 5, "A", ack=100, options=sack(200, 300), flow=flow))
    assert aside(trace) == len(FLOWS)
    for flow in FLOWS:
        trace.secondary(Tcp(BASE + 5, "A", payload, ack=300, flow=flow))
    assert aside(trace) == 0


def test_resets_that_find_no_partner():
    trace = opened()
    for flow in FLOWS:
        trace.secondary(Tcp(BASE + 5, "RA", ack=100, flow=flow))
    assert aside(trace) == len(FLOWS)
    trace.commit()
    assert aside(trace) == 0


def test_a_pair_that_is_lost_takes_it_all_away():
    trace = opened(FLOWS[:4])
    trace.secondary(Tcp(BASE + 5, "RA", ack=100, flow=FLOWS[0]))
    trace.secondary(Tcp(BASE + 5, "FA", ack=100, flow=FLOWS[1]))
    trace.secondary(Tcp(7000, "SA", ack=100, flow=FLOWS[2]))
    trace.primary(Tcp(BASE + 5, "A", b"x", ack=400, flow=FLOWS[3]))
    trace.secondary(Tcp(BASE + 5, "A", b"x", ack=100, flow=FLOWS[3]))
    assert aside(trace) == 4
    trace.core.pair_lost(trace.now_us)
    assert aside(trace) == 0


def test_a_row_that_is_given_up():
    """Its next connection begins with nothing, and its place serves others."""
    trace = Comparing(connections_max=1)
    for flow in FLOWS:
        both(trace, flow, Tcp(BASE, "RA", ack=1))
        assert [segment.flags for segment in trace.out()] == ["RA"]
        assert aside(trace) == 1
    both(trace, FLOWS[0], Tcp(ISN, "SA", ack=100))
    assert aside(trace) == 0
    assert trace.core.table.rows == 1
