"""What happens at once is bounded, however many connections there are: counted, not timed."""

import pytest

from pycolo import core, limits
from support.segments import Flow, Tcp
from support.traces import Comparing, Rewriting

AT_ONCE = 1024 + 6 * 64
"""Rows that a timer gives up, and pinned ones that its last search has come upon."""

COUNT = 4000
FLOWS = [Flow(client_port=1 + number) for number in range(COUNT)]


def many(kind):
    if kind == "comparator":
        trace = Comparing(connections_max=1 << 13)
        trace.primary(*(Tcp(1, "A", ack=1, flow=flow) for flow in FLOWS))
        trace.commit()
        while trace.frames():
            pass
    else:
        trace = Rewriting(connections_max=1 << 13)
        trace.client(*(Tcp(1, "S", flow=flow, from_client=True) for flow in FLOWS))
    assert trace.core.table.used == COUNT
    trace.now_ms += 2 * limits.CONNECTION_IDLE_MS
    return trace


@pytest.mark.rule("C10")
@pytest.mark.parametrize("kind", ["comparator", "rewriter"])
@pytest.mark.parametrize("pinned", [0, 10, 3000])
def test_a_timer_gives_up_so_many_at_most(kind, pinned):
    """And comes upon so many pinned ones; the next one goes on, until all are gone that may go."""
    trace = many(kind)
    table = trace.core.table
    for row in range(pinned):
        core.pin(table, row, 1)
    for _ in range(10):
        used, passed = table.used, table.passed_over
        trace.core.timer_fired(round(trace.now_ms * 1000))
        assert used - table.used + table.passed_over - passed <= AT_ONCE
        trace.now_ms += limits.EXPIRED_SCAN_CYCLE_MS
    assert table.used == pinned


@pytest.mark.parametrize("kind", ["comparator", "rewriter"])
def test_what_is_new_moves_the_rows_of_one_bucket(kind):
    """One at a time, past the index's first size: each adds a bucket, and moves no more than a chain has."""
    trace = many(kind)
    table = trace.core.table
    for number in range(COUNT, COUNT + 300):
        segment = Tcp(1, "S", flow=Flow(client_port=1 + number), from_client=kind == "rewriter")
        buckets, moved = table.buckets, table.moved
        trace.primary(segment) if kind == "comparator" else trace.client(segment)
        assert table.buckets == max(limits.CONNECTION_BUCKETS, number + 1) <= buckets + 1
        assert table.moved - moved <= 12
