"""Bypassed connections (C7): they pass uncompared, whatever the secondary does, and are counted apart."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pycolo.compare.flows import Flow
from pycolo.compare.kinds import DivergencePolicy, PassReason
from support.examples import examples
from support.referee import Judged
from support.segments import Flow as Talk
from support.segments import Tcp, fragments, frame, udp, udp_body, vnet_header
from support.streams import PRIMARY, SECONDARY, give, scripts
from support.traces import Comparing

SSH, WEB = Talk(guest_port=22), Talk(guest_port=80)
TAGGED, SIX = Talk(guest_port=22, tags=(5, 9)), Talk(guest_port=22, version=6)
RULES = [Flow(6, guest_ports=(22, 22)), Flow(17, other_ports=(123, 123))]
NTP = Talk(guest_port=40_000, client_port=123)


def bypassed(trace):
    return trace.core.held.uncompared.counts()[PassReason.BYPASSED]


@pytest.mark.rule("C7")
@pytest.mark.parametrize("talk", [SSH, TAGGED, SIX])
@pytest.mark.parametrize("vnet_len", [None, 12])
def test_it_leaves_at_once_and_nothing_ages(talk, vnet_len):
    trace = Comparing(vnet_len, bypass=RULES, compare_timeout_ms=10, scan_cycle_ms=10)
    vnet = vnet_header(size=vnet_len) if vnet_len else b""
    mine = [frame(Tcp(1, "SA", ack=7, flow=talk), vnet), frame(Tcp(2, "A", b"one", ack=7, flow=talk), vnet)]
    trace.primary(*mine)
    assert trace.frames_and_headers() == mine
    trace.secondary(
        frame(Tcp(900, "SA", ack=7, flow=talk), vnet), frame(Tcp(901, "A", b"other", ack=7, flow=talk), vnet)
    )
    trace.wait(1000)
    assert (trace.frames(), trace.differences()) == ([], [])
    assert bypassed(trace) == (2, 3)
    assert trace.core.stats.compared_bytes == 0
    trace.assert_empty()


@pytest.mark.rule("C7")
def test_the_secondary_alone_is_no_difference():
    trace = Comparing(bypass=RULES, compare_timeout_ms=10, scan_cycle_ms=10)
    trace.secondary(Tcp(1, "SA", ack=7, flow=SSH), udp(b"ntp", NTP))
    trace.wait(1000)
    assert trace.differences() == []


@pytest.mark.rule("C7")
def test_others_are_compared_as_ever():
    trace = Comparing(bypass=RULES)
    trace.primary(Tcp(1, "A", b"mine", ack=7, flow=WEB))
    trace.secondary(Tcp(1, "A", b"your", ack=7, flow=WEB))
    assert trace.frames() == []
    assert len(trace.differences()) == 1


@pytest.mark.rule("C7")
def test_a_datagram_in_fragments_passes_when_it_is_whole():
    """Only the first fragment has the ports."""
    trace = Comparing(bypass=RULES)
    parts = fragments(17, udp_body(b"x" * 3000, NTP), [1480, 2960], 7, NTP)
    trace.primary(*parts[:-1])
    assert trace.frames() == []
    trace.primary(parts[-1])
    assert trace.frames() == parts
    trace.secondary(*fragments(17, udp_body(b"y" * 100, NTP), [64], 8, NTP))
    trace.wait(10_000)
    assert trace.differences() == []
    assert bypassed(trace) == (1, 3000)


@pytest.mark.rule("C7")
def test_it_stays_so_over_checkpoints_and_a_new_pair():
    trace = Comparing(bypass=RULES, needs_handshake=True)
    for change in (trace.commit, lambda: trace.core.pair_lost(0), lambda: trace.core.pair_formed(0), trace.commit):
        trace.primary(Tcp(2, "A", b"one", ack=7, flow=SSH))
        assert len(trace.frames()) == 1
        change()
    assert trace.differences() == []


@pytest.mark.rule("C7", "R1")
def test_the_secondary_gets_all_that_the_client_sends():
    """Whether its handshake is a lie cannot be told: what the guest has sent is not looked at."""
    trace = Comparing(bypass=RULES)
    assert trace.client(Tcp(5, "S", flow=SSH, from_client=True))
    trace.primary(Tcp(1, "SA", ack=6, flow=SSH))
    assert trace.client(Tcp(6, "A", ack=999, flow=SSH, from_client=True))


@pytest.mark.rule("C7", "C10")
def test_its_row_ends_with_it():
    trace = Comparing(bypass=RULES)
    trace.primary(Tcp(2, "A", b"x", ack=7, flow=SSH), Tcp(3, "FA", ack=7, flow=SSH), udp(b"?", NTP))
    assert trace.core.table.used == 2
    trace.wait(310_000)
    assert trace.core.table.used == 0
    trace.primary(Tcp(2, "RA", ack=7, flow=SSH))
    trace.wait(61_000)
    assert trace.core.table.used == 0


@pytest.mark.rule("C7")
@pytest.mark.parametrize("policy", list(DivergencePolicy))
def test_no_room_holds_it_up_as_it_does_others(policy):
    trace = Comparing(bypass=RULES, policy=policy, held_packets_max=16)
    took = trace.offer_primary(*[Tcp(2, "A", b"x", ack=7, flow=SSH)] * 10_000)
    assert len(trace.frames()) >= took > 0


@pytest.mark.rule("C7")
@examples(60)
@given(script=scripts(), commits_input=st.booleans())
def test_the_specification_says_the_same(script, commits_input):
    """Two guests that agree in nothing: everything leaves."""
    trace = Judged(
        bypass=[Flow(6)], is_exempt=lambda key: key.proto == 6, commits_input=commits_input, compare_timeout_ms=10
    )
    sent = 0
    for side, segment in script.facts:
        give(trace, side, segment)
        sent += side == PRIMARY
        give(trace, SECONDARY, Tcp(77, "A", b"never"))
    trace.wait(5000)
    assert len(trace.frames()) == sent
    assert trace.differences() == []


@pytest.mark.rule("C7")
def test_each_table_counts_what_it_has_let_pass():
    """By the first table that means the connection; another connection may get the row of one that is gone."""
    rules = [
        Flow(6, guest_ports=(22, 22), table=1),
        Flow(6, guest_ports=(25, 25), table=1),
        Flow(17, table=2),
        Flow(6, guest_ports=(1, 30), table=3),
    ]
    trace = Comparing(bypass=rules, connections_max=1)
    assert trace.core.openings.bypassed() == {1: (0, 0), 2: (0, 0), 3: (0, 0)}
    for port, data in ((22, b"one"), (25, b"four"), (23, b"three"), (22, b"again")):
        trace.primary(Tcp(2, "A", data, ack=7, flow=Talk(guest_port=port)))
        trace.secondary(Tcp(2, "A", b"other", ack=7, flow=Talk(guest_port=port)))
    trace.primary(udp(b"time", NTP))
    assert trace.core.openings.bypassed() == {1: (3, 12), 2: (1, 4), 3: (1, 5)}
    assert bypassed(trace) == (5, 21)


def test_flows_of_no_table_are_counted_together_only():
    trace = Comparing(bypass=RULES)
    trace.primary(udp(b"ntp", NTP))
    assert (trace.core.openings.bypassed(), bypassed(trace)) == ({}, (1, 3))
