"""Rows in memory that outlives the process: what is written there, and when."""

import pytest

from pycolo import limits
from pycolo.core import SAVED_SLOT_BYTES
from support.segments import Flow, Tcp
from support.traces import Rewriting

SALT = 99
PRIMARY_ISN, SECONDARY_ISN = 1_000, 50_000
FLOWS = [Flow(client_port=port) for port in range(1, 6)] + [Flow(version=6), Flow(tags=(5,))]


def open_connection(trace, flow):
    trace.client(Tcp(0, "S", flow=flow, from_client=True))
    trace.guest(Tcp(SECONDARY_ISN, "SA", ack=1, flow=flow))
    trace.client(Tcp(1, "A", ack=PRIMARY_ISN + 1, flow=flow, from_client=True))
    trace.guest(Tcp(SECONDARY_ISN + 1, "A", ack=1, flow=flow))


def taken_over(*flows):
    """A rewriter that serves, and the memory of its rows."""
    trace = Rewriting()
    for flow in flows:
        open_connection(trace, flow)
    trace.core.takeover()
    memory = bytearray(trace.core.saved.needed_bytes())
    trace.core.saved.begin(memory, SALT)
    return trace, memory


def read_again(memory):
    trace = Rewriting()
    assert trace.core.read_rows(memory, SALT, 0) == 0
    return trace


def test_each_translated_connection_has_a_slot():
    trace, memory = taken_over(*FLOWS)
    assert len(memory) == len(FLOWS) * SAVED_SLOT_BYTES
    assert trace.core.saved.used == trace.core.saved.slots == len(FLOWS)
    again = read_again(memory)
    assert again.core.saved.used == len(FLOWS)
    for flow in FLOWS:
        assert again.offsets(flow) == trace.offsets(flow)


def test_without_offsets_nothing_is_written():
    trace = Rewriting()
    trace.guest(Tcp(1, "PA", b"older than the rewriter"))
    trace.core.takeover()
    assert trace.core.saved.needed_bytes() == 0
    trace.core.saved.begin(bytearray(), SALT)
    assert trace.core.saved.slots == 0
    assert read_again(bytearray()).core.saved.used == 0


def test_payload_writes_nothing():
    trace, memory = taken_over(FLOWS[0])
    before = bytes(memory)
    for i in range(20):
        trace.client(Tcp(1 + i, "PA", b"x", ack=PRIMARY_ISN + 1 + i, flow=FLOWS[0], from_client=True))
        trace.guest(Tcp(SECONDARY_ISN + 1 + i, "PA", b"y", ack=2 + i, flow=FLOWS[0]))
    assert bytes(memory) == before


def test_a_handshake_under_way_at_the_takeover_is_finished_after_the_restart():
    flow = FLOWS[0]
    trace = Rewriting()
    trace.client(Tcp(0, "S", flow=flow, from_client=True))
    trace.guest(Tcp(SECONDARY_ISN, "SA", ack=1, flow=flow))
    trace.core.takeover()
    memory = bytearray(trace.core.saved.needed_bytes())
    trace.core.saved.begin(memory, SALT)
    again = read_again(memory)
    again.client(Tcp(1, "A", ack=PRIMARY_ISN + 1, flow=flow, from_client=True))
    assert again.offsets(flow)[1] == SECONDARY_ISN - PRIMARY_ISN
    assert read_again(memory).offsets(flow) == again.offsets(flow), "what was learned is written"


@pytest.mark.parametrize("is_read_first", [False, True])
def test_a_connection_that_ends_leaves_its_slot(is_read_first):
    trace, memory = taken_over(*FLOWS[:2])
    if is_read_first:
        trace = read_again(memory)
    flow = FLOWS[0]
    trace.client(Tcp(1, "R", flow=flow, from_client=True))
    trace.guest(Tcp(SECONDARY_ISN + 1, "FA", ack=1, flow=flow))
    trace.client(Tcp(1, "FA", ack=PRIMARY_ISN + 2, flow=flow, from_client=True))
    trace.guest(Tcp(SECONDARY_ISN + 2, "A", ack=2, flow=flow))
    assert trace.core.saved.used == 2, "segments may come back"
    assert read_again(memory).core.saved.used == 2
    trace.api.advance(to_us=(limits.CLOSED_GRACE_MS + 1) * 1000)
    assert trace.core.saved.used == 1
    again = read_again(memory)
    assert again.core.saved.used == 1
    assert again.offsets(flow) is None
    assert again.offsets(FLOWS[1]) == trace.offsets(FLOWS[1])


def test_a_new_connection_in_the_place_of_an_old_one_is_not_translated():
    trace, memory = taken_over(FLOWS[0])
    trace.client(Tcp(777, "S", flow=FLOWS[0], from_client=True))
    trace.guest(Tcp(4_000, "SA", ack=778, flow=FLOWS[0]))
    assert trace.core.saved.used == 0
    assert read_again(memory).core.table.used == 0


def test_an_address_of_the_guest_is_added_once():
    trace = Rewriting()
    for flow in (Flow(), Flow(version=6), Flow(tags=(5,))):
        trace.client(Tcp(1, "S", flow=flow, from_client=True))
        trace.guest(Tcp(1, "SA", ack=2, flow=flow))
    found = trace.core.neighbours.all()
    other = Rewriting()
    for neighbour in found * 2:
        other.core.neighbours.add(neighbour)
    assert other.core.neighbours.all() == found
