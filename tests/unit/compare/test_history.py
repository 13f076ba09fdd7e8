"""What is kept to compare again is given up when there is too much of it, and never while something else needs it."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.examples import examples
from support.segments import Flow, Tcp
from support.traces import Comparing

ISN, SECONDARY_ISN = 999, 0x80000007


def established(flows, **options):
    trace = Comparing(**options)
    for flow in flows:
        trace.primary(Tcp(ISN, "SA", ack=100, flow=flow))
        trace.secondary(Tcp(SECONDARY_ISN, "SA", ack=100, flow=flow))
    trace.frames()
    return trace


@pytest.mark.rule("C9")
@examples(60)
@given(seed=st.integers(0, 1 << 32), records=st.sampled_from([40, 60, 100]), connections=st.integers(1, 8))
def test_all_that_was_equal_leaves_as_it_came_however_little_is_kept(seed, records, connections):
    """Half of the records may be kept. Not all that is released is taken at once, and it may have been kept as well."""
    dice = random.Random(seed)
    flows = [Flow(client_port=5000 + number) for number in range(connections)]
    trace = established(flows, held_packets_max=records, held_bytes_max=1 << 22)
    largest = dice.choice([20, 3000, 9000, 30_000])
    ends, sent, left = dict.fromkeys(flows, ISN + 1), [], []
    for step in range(200):
        flow = dice.choice(flows)
        segments = []
        for piece in range(dice.randint(1, 3)):
            octets = bytes([step, piece, flow.client_port & 255]) * (dice.randint(1, largest) // 3 + 1)
            segments.append(Tcp(ends[flow], "A", octets, ack=100, flow=flow))
            ends[flow] += len(octets)
        if trace.core.pool.used - trace.core.history.used > records // 4 or dice.random() < 0.05:
            left += trace.out()
        for take in dice.choice([(trace.primary, trace.secondary), (trace.secondary, trace.primary)]):
            take(*segments)
        sent += segments
    while more := trace.out():
        left += more
    assert [(one.flow, one.seq, one.data) for one in left] == [(one.flow, one.seq, one.data) for one in sent]
    assert trace.differences() == []
    assert trace.core.history.used <= records // 2
    assert trace.core.pool.used == trace.core.history.used, "each record is in one place"


@given(equal=st.integers(0, 12))
def test_what_is_equal_in_part_at_a_checkpoint_leaves_and_is_kept(equal):
    flow = Flow()
    trace = established([flow], held_packets_max=4)
    whole = Tcp(ISN + 1, "A", b"twelve bytes", ack=100)
    trace.primary(whole, Tcp(whole.end, "A", b"more", ack=100))
    trace.secondary(Tcp(whole.seq, "A", whole.data[:equal], ack=100))
    trace.commit()
    assert [one.data for one in trace.out()] == [whole.data, b"more"]
    assert trace.core.pool.used == trace.core.history.used
