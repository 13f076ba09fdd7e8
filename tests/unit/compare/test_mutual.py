"""When ages are looked at, and mutual waits: one connection waits for the secondary, another for the primary."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pycolo import limits
from pycolo.compare.kinds import DivergencePolicy
from pycolo.path.cores import node_ages
from support.segments import Flow, Tcp
from support.traces import Comparing

BASE = 1000
WAIT_MS = limits.MUTUAL_WAIT_MS


def on_port(port, seq=BASE, data=b"data", flags="A", **fields):
    return Tcp(seq, flags, data, flow=Flow(client_port=port), **fields)


def both(trace, *segments):
    trace.primary(*segments)
    trace.secondary(*segments)


def in_a_node(**options):
    return Comparing(**{**node_ages(500), **options})


def crossed(**options):
    """The guests have answered different clients first."""
    trace = in_a_node(**options)
    both(trace, on_port(1), on_port(2))
    trace.frames()
    trace.primary(on_port(1, BASE + 4, b"mine"))
    trace.secondary(on_port(2, BASE + 4, b"theirs"))
    return trace


@pytest.mark.rule("C5")
def test_a_mutual_wait_requests_a_checkpoint_by_the_connection_that_waits_for_the_secondary():
    trace = crossed()
    trace.wait(3 * WAIT_MS)
    (difference,) = trace.differences()
    assert (difference.kind.name, difference.seq) == ("MUTUAL_WAIT", BASE + 4)
    assert "another connection for the primary" in str(difference)
    assert WAIT_MS <= difference.waited_ms <= 3 * WAIT_MS
    trace.wait(3000)
    assert trace.commands() == [], "one request per epoch"
    trace.commit()
    assert len(trace.frames()) == 1
    trace.assert_empty()


@pytest.mark.rule("C5")
@pytest.mark.parametrize("side", ["primary", "secondary"])
def test_waits_for_one_side_are_left_to_the_time_out(side):
    trace = in_a_node()
    both(trace, on_port(1), on_port(2))
    for port in (1, 2):
        getattr(trace, side)(on_port(port, BASE + 4))
    trace.wait(450)
    assert trace.commands() == []
    trace.wait(100)
    assert [kind for _, kind, _ in trace.commands()] in (["TIMEOUT"], ["SECONDARY_TIMEOUT"], ["TIMEOUT"] * 2)


def test_while_something_moves_there_is_no_mutual_wait():
    trace = crossed()
    for step in range(40):
        trace.wait(WAIT_MS // 2)
        both(trace, on_port(3, BASE + 4 * step))
        trace.frames()
    assert trace.commands() == []


def test_bare_acks_are_no_answers():
    trace = in_a_node()
    both(trace, on_port(1), on_port(2))
    trace.primary(on_port(1, BASE + 4, b"", ack=700))
    trace.secondary(on_port(2, BASE + 4, b"theirs"))
    trace.wait(450)
    assert trace.commands() == []


@pytest.mark.parametrize("policy", [DivergencePolicy.REPORT, DivergencePolicy.HOLD, DivergencePolicy.RESET])
def test_where_no_checkpoint_is_made_the_time_out_ends_it(policy):
    trace = crossed(policy=policy)
    trace.wait(450)
    assert trace.commands() == []
    trace.wait(200)
    assert {kind for _, kind, _ in trace.commands()} == {"TIMEOUT", "SECONDARY_TIMEOUT"}


def test_the_answers_that_come_settle_it():
    trace = crossed()
    trace.wait(WAIT_MS // 2)
    trace.secondary(on_port(1, BASE + 4, b"mine"))
    trace.primary(on_port(2, BASE + 4, b"theirs"))
    trace.wait(1000)
    assert trace.commands() == []
    assert len(trace.frames()) == 2


def test_colo_compare_knows_no_mutual_wait_and_scans_as_it_always_did():
    trace = Comparing(compare_timeout_ms=500, scan_cycle_ms=1000)
    both(trace, on_port(1), on_port(2))
    trace.wait(700)  # just behind a scan
    trace.primary(on_port(1, BASE + 4, b"mine"))
    trace.secondary(on_port(2, BASE + 4, b"theirs"))
    trace.wait(490)
    assert trace.commands() == []
    trace.wait(1100)
    assert trace.differences()[0].kind.name.endswith("TIMEOUT")


@given(st.integers(60, 60_000), st.integers(0, 5_000), st.booleans())
def test_the_time_out_is_honoured_to_a_tenth_or_ten_milliseconds(timeout_ms, begins_ms, for_primary):
    trace = Comparing(**node_ages(timeout_ms))
    both(trace, on_port(1))
    trace.frames()
    trace.wait(begins_ms)
    (trace.secondary if for_primary else trace.primary)(on_port(1, BASE + 4))
    trace.wait(timeout_ms - 1)
    assert trace.commands() == []
    trace.wait(1 + max(timeout_ms / 10, 10))
    assert len(trace.commands()) == 1


@given(st.integers(1, 3_600_000))
def test_a_nodes_cycle_is_within_its_bounds(timeout_ms):
    ages = node_ages(timeout_ms)
    assert limits.AGE_CYCLE_MIN_MS <= ages["age_cycle_ms"] <= limits.EXPIRED_SCAN_CYCLE_MS
    assert 0 < ages["mutual_wait_ms"] <= timeout_ms
