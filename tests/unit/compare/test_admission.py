"""Full queues and what differs: a connection may lose its own, never stop the others for good (C6, C10)."""

import pytest

from pycolo import limits
from pycolo.compare.kinds import DivergencePolicy
from support.segments import Flow, Tcp, arp, udp
from support.traces import Comparing

BASE = 1000
TIMEOUT_MS, SCAN_MS = limits.COMPARE_TIMEOUT_MS, limits.EXPIRED_SCAN_CYCLE_MS
CHECKPOINT, REPORT, HOLD, RESET = DivergencePolicy


def tcp_on(port, place=0):
    return Tcp(BASE + place, "A", bytes([place]), ack=100, flow=Flow(client_port=port))


def udp_on(port, place=0):
    return udp(bytes([place]), Flow(client_port=port))


KINDS = pytest.mark.parametrize("make", [tcp_on, udp_on], ids=["tcp", "udp"])


@pytest.mark.rule("C6")
@KINDS
@pytest.mark.parametrize("policy", DivergencePolicy)
@pytest.mark.parametrize("first", ["primary", "secondary"])
def test_two_full_queues_on_two_sides_do_not_block_each_other(make, policy, first):
    """What would end either wait is behind the other: so only one side stands still, the other is read on."""
    trace = Comparing(policy=policy, queue_packets_max=4)
    offers = [trace.offer_primary, trace.offer_secondary]
    gives = [trace.primary, trace.secondary]
    one, two = (0, 1) if first == "primary" else (1, 0)
    assert offers[one](*(make(1, place) for place in range(6))) == 4
    gives[two](*(make(2, place) for place in range(6)), *(make(1, place) for place in range(6)))
    assert trace.core.stats.overruns == 2
    gives[one](*(make(1, place) for place in range(4, 6)), *(make(2, place) for place in range(6)))
    assert len(trace.frames()) == 12
    assert {kind for _, kind, _ in trace.commands()} == {"QUEUE_FULL"}
    trace.assert_empty()


@pytest.mark.rule("C6")
@KINDS
@pytest.mark.parametrize("policy", [REPORT, HOLD, RESET])
def test_two_full_queues_whose_partners_never_come(make, policy):
    trace = Comparing(policy=policy, queue_packets_max=4)
    assert trace.offer_primary(*(make(1, place) for place in range(5))) in {4, 5}
    trace.secondary(*(make(2, place) for place in range(20)))
    trace.wait(TIMEOUT_MS + SCAN_MS)
    trace.primary(make(1, 4), make(3))
    trace.secondary(make(3))
    assert make(3) in (trace.frames() if make is udp_on else trace.out())
    trace.wait(TIMEOUT_MS + SCAN_MS)
    assert {"TIMEOUT", "SECONDARY_TIMEOUT"} <= {kind for _, kind, _ in trace.commands()}


@pytest.mark.rule("C6")
@KINDS
@pytest.mark.parametrize("policy", [REPORT, HOLD, RESET])
def test_what_waits_for_a_side_that_stands_still_does_not_age(make, policy):
    trace = Comparing(policy=policy, queue_packets_max=4)
    assert trace.offer_primary(*(tcp_on(1, place) for place in range(5))) == 4
    trace.secondary(make(3))
    trace.wait(TIMEOUT_MS + SCAN_MS)
    trace.primary(tcp_on(1, 4), make(3))
    assert make(3) in (trace.frames() if make is udp_on else trace.out())
    assert {difference.connection.destination_port for difference in trace.differences()} == {1}


@pytest.mark.rule("C6")
@pytest.mark.parametrize("policy", [REPORT, HOLD, RESET])
def test_where_the_memory_is_full_the_connection_that_holds_most_gives_way(policy):
    trace = Comparing(policy=policy, held_packets_max=100)
    trace.secondary(udp_on(3))
    trace.primary(*(tcp_on(1, place) for place in range(99)))
    if not trace.offer_primary(udp_on(4)):
        trace.frames()  # what is let through leaves first
        trace.primary(udp_on(4))
    trace.secondary(udp_on(4))
    assert udp_on(4) in trace.frames()
    assert trace.core.stats.gave_way == 1
    (difference,) = (difference for difference in trace.differences() if difference.connection)
    assert (difference.kind.name, difference.connection.destination_port) == ("MEMORY_FULL", 1)


@pytest.mark.rule("C6")
@KINDS
def test_a_full_queue_alone_waits_for_the_other_side(make):
    trace = Comparing(policy=HOLD, queue_packets_max=4)
    assert trace.offer_primary(*(make(1, place) for place in range(5))) == 4
    assert trace.offer_primary(make(1, 4)) == 0
    trace.wait(limits.DATAGRAM_REORDER_MS)
    trace.secondary(*(make(1, place) for place in range(5)))
    trace.primary(make(1, 4))
    assert len(trace.frames()) == 5
    assert trace.core.stats.gave_way == 0
    trace.assert_empty()


@pytest.mark.rule("C6")
@pytest.mark.parametrize("policy", [REPORT, RESET])
@pytest.mark.parametrize("side", ["primary", "secondary"])
def test_datagrams_of_one_connection_do_not_stop_the_others_for_seconds(policy, side):
    trace = Comparing(policy=policy, queue_packets_max=4)
    offer = trace.offer_primary if side == "primary" else trace.offer_secondary
    assert offer(*(udp_on(1, place) for place in range(6))) == 4
    trace.wait(limits.DATAGRAM_REORDER_MS - 1)
    assert offer(udp_on(1, 4)) == 0
    assert trace.core.deadline_us() == limits.DATAGRAM_REORDER_MS * 1000, "or the shell sleeps on"
    trace.wait(1)
    assert offer(udp_on(1, 4)) == 1
    assert trace.frames() == ([udp_on(1, place) for place in range(4)] if side == "primary" else [])
    assert trace.core.stats.gave_way == 1


def test_a_side_that_stood_still_and_was_not_offered_again_sets_no_deadline():
    trace = Comparing(policy=REPORT, queue_packets_max=4)
    assert trace.offer_primary(*(udp_on(1, place) for place in range(5))) == 4
    trace.commit()
    trace.wait(20 * TIMEOUT_MS)  # it would loop


# ── the share of what differs ───────────────────────────────────────────────────────────────────────────────


def diverge(trace, port, make):
    if make is tcp_on:
        trace.primary(Tcp(BASE, "A", b"mine", ack=100, flow=Flow(client_port=port)))
        trace.secondary(Tcp(BASE, "A", b"nine", ack=100, flow=Flow(client_port=port)))
    else:
        trace.primary(udp(b"mine", Flow(client_port=port)))
        trace.secondary(udp(b"nine", Flow(client_port=port)))
        trace.wait(2 * limits.DATAGRAM_REORDER_MS)


@pytest.mark.rule("C10")
@KINDS
def test_under_hold_what_differs_has_a_share_and_the_rest_goes_on(make):
    """Whatever few connections say after they have differed, records and bytes are left for the others."""
    trace = Comparing(policy=HOLD, held_packets_max=400, queue_packets_max=200)
    for port in range(1, 4):
        diverge(trace, port, make)
        for place in range(100):
            trace.primary(make(port, place + 1))
            trace.secondary(make(port, place + 1))
    trace.wait(SCAN_MS)
    assert trace.core.held_packets() <= 400 // limits.SHARE_MAX + 3
    assert trace.core.stats.refused_marked > 200
    trace.primary(arp(), udp_on(9))
    trace.secondary(udp_on(9))
    assert trace.frames() == [arp(), udp_on(9)]


@pytest.mark.rule("C10")
@pytest.mark.parametrize("count", [7, 60])
def test_under_hold_many_that_differ_full_queues_and_all_do_not_fill_the_memory(count):
    """They held much before they differed."""
    trace = Comparing(policy=HOLD, held_packets_max=400, queue_packets_max=100)
    for port in range(1, count):
        for place in range(1, 60):
            if not trace.offer_primary(udp(bytes([place]), Flow(client_port=port))):
                trace.wait(60)
                trace.primary(udp(bytes([place]), Flow(client_port=port)))
        assert trace.offer_secondary(udp(b"other", Flow(client_port=port))) or not trace.wait(60)
        trace.wait(60)
    trace.wait(TIMEOUT_MS + SCAN_MS)
    assert trace.core.held_packets() <= 400 // limits.SHARE_MAX
    assert trace.core.stats.dropped > 0
    trace.primary(arp())
    assert trace.frames() == [arp()]


@pytest.mark.rule("C10")
@KINDS
def test_under_hold_a_silent_connection_that_differed_is_forgotten(make):
    trace = Comparing(policy=HOLD)
    diverge(trace, 1, make)
    trace.wait(limits.DIVERGED_SILENT_MS - SCAN_MS)
    assert trace.core.held_packets() == 1
    trace.wait(2 * SCAN_MS)
    trace.assert_empty()
    trace.primary(make(1, 7))
    assert trace.frames() == [], "it has not become equal by that"
    trace.wait(2 * limits.CONNECTION_IDLE_MS)
    assert trace.core.table.used == 0
    trace.assert_empty()
