"""The table of offsets: a rewriter that adopts it translates as the one that it is from."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pycolo import limits
from pycolo.errors import LinkError
from support.offsetsteps import FLOWS, UNKNOWN, flows_without_answer, give, known, of_rows, segments
from support.segments import Flow, Tcp, frame, read
from support.traces import Rewriting

EXAMPLES = settings(max_examples=60)


# ── laws ────────────────────────────────────────────────────────────────────────────────────────────────────


@EXAMPLES
@given(
    before=st.lists(segments(), max_size=20),
    other=st.lists(segments(), max_size=20),
    after=st.lists(segments(), max_size=10),
    serves=st.booleans(),
)
def test_after_adopting_both_translate_alike(before, other, after, serves):
    """Whatever the adopting node had learned. Only a SYN that no guest has answered is each rewriter's own matter."""
    one, two = Rewriting(), Rewriting()
    give(one, before)
    if serves:
        one.core.takeover()
        one.to_client()
    give(two, other)
    # What waits for a guest's answer is input too: both rewriters see it in the end, here only one of them.
    unanswered = flows_without_answer(before) | flows_without_answer(other)
    unanswered |= {flow for trace in (one, two) for flow in FLOWS if (trace.offsets(flow) or [None])[0] == UNKNOWN}
    two.core.adopt_offsets(one.core.export_offsets(), 0)
    two.to_guest()
    assert of_rows(two, unanswered) == of_rows(one, unanswered)
    after = [step for step in after if read(step[1]).flow not in unanswered and "S" not in read(step[1]).flags]
    assert give(two, after) == give(one, after)
    assert of_rows(two, unanswered) == of_rows(one, unanswered)


@EXAMPLES
@given(before=st.lists(segments(), max_size=25), after=st.lists(segments(), max_size=15))
def test_no_table_is_a_checkpoint_without_offsets(before, after):
    one, two = Rewriting(), Rewriting()
    for trace in (one, two):
        give(trace, before)
    one.core.checkpoint_committed()
    two.core.adopt_offsets(b"", 0)
    assert one.core.export_offsets() == b""
    assert one.to_guest() == two.to_guest()
    assert give(one, after) == give(two, after)


@EXAMPLES
@given(before=st.lists(segments(), max_size=25))
def test_a_table_survives_the_way(before):
    """What is exported, adopted and exported again is the same set of records."""
    one, two = Rewriting(), Rewriting()
    give(one, before)
    table = one.core.export_offsets()
    two.core.adopt_offsets(table, 0)
    again = two.core.export_offsets()
    assert sorted(records(again)) == sorted(records(table))
    assert two.core.table.used == len(records(table))


def records(table):
    found, pos = [], 4
    while pos < len(table):
        size = 72 if table[pos + 3] == 6 else 48
        found.append(table[pos : pos + size])
        pos += size
    assert not table or pos == len(table)
    return found


@EXAMPLES
@given(data=st.data())
def test_garbage_is_refused_and_changes_nothing(data):
    trace = Rewriting()
    known(trace)
    known(trace, FLOWS[2])
    table = trace.core.export_offsets()
    kinds = st.sampled_from(["noise", "cut", "more", "bit"])
    match data.draw(kinds):
        case "noise":
            octets = data.draw(st.binary(min_size=1, max_size=200))
        case "cut":
            octets = table[: data.draw(st.integers(1, len(table) - 1))]
        case "more":
            octets = table + data.draw(st.binary(min_size=1, max_size=100))
        case _:
            place = data.draw(st.integers(0, 8 * len(table) - 1))
            octets = bytearray(table)
            octets[place // 8] ^= 1 << place % 8
            octets = bytes(octets)
    try:
        trace.core.adopt_offsets(octets, 0)
    except LinkError as error:
        said = str(error)
    else:
        said = ""
    assert "\n" not in said
    if said:
        assert trace.core.export_offsets() == table
        return
    sizes = [len(record) for record in records(octets)]
    assert sum(sizes) + 4 == len(octets)
    give(trace, [(False, frame(Tcp(1, flow=flow))) for flow in FLOWS])


# ── what waits ──────────────────────────────────────────────────────────────────────────────────────────────


def test_frames_that_wait_for_the_guest_get_the_new_offsets():
    """Translated with the old ones and not drained yet; or not even that."""
    trace, primary = Rewriting(), Rewriting()
    known(primary, FLOWS[1], 100, 900)
    flow = FLOWS[1]
    early = Tcp(2, "PA", b"early", 101, flow=flow, from_client=True)
    trace.client(Tcp(1, "S", flow=flow, from_client=True))
    assert trace.client(early) == []
    trace.guest(Tcp(5000, "SA", ack=2, flow=flow))  # makes it ready, with an offset of 4900
    trace.core.adopt_offsets(primary.core.export_offsets(), 0)
    (octets,) = trace.to_guest()
    assert read(octets) == read(frame(Tcp(2, "PA", b"early", 901, flow=flow, from_client=True)))


@pytest.mark.rule("R3")
def test_an_ended_connection_goes_with_its_grace_time():
    one, two = Rewriting(), Rewriting()
    known(one)
    one.guest(Tcp(7001, "RA", ack=2))
    two.now_ms = 1000
    two.core.adopt_offsets(one.core.export_offsets(), 1_000_000)
    assert two.core.table.used == 1
    two.core.timer_fired(70_000_000)
    assert two.core.table.used == 0


def test_an_adopted_connection_is_no_half_open_one():
    """It may be silent for as long as any other; one whose handshake is not complete may not."""
    one, two = Rewriting(), Rewriting()
    known(one)
    one.guest(Tcp(7000, "SA", ack=2, flow=FLOWS[1]))
    two.core.adopt_offsets(one.core.export_offsets(), 0)
    assert two.core.table.used == 2
    two.core.timer_fired(5 * limits.HALF_OPEN_MS * 1000)
    assert two.core.table.used == 1
    assert two.offsets() == one.offsets()


def test_fins_travel():
    """Both FINs are under way: what acknowledges them ends the connection at the adopting node too."""
    one, two = Rewriting(), Rewriting()
    known(one)
    one.guest(Tcp(7001, "FA", ack=2))
    one.client(Tcp(2, "FA", ack=102, from_client=True))
    two.core.adopt_offsets(one.core.export_offsets(), 0)
    two.guest(Tcp(7002, "A", ack=3))
    two.core.timer_fired(2 * limits.CLOSED_GRACE_MS * 1000)
    assert two.core.table.used == 0


def test_the_table_of_connections_grows():
    one, two = Rewriting(connections_max=1 << 13), Rewriting(connections_max=1 << 13)
    count = 5000
    for port in range(count):
        one.guest(Tcp(7, "SA", ack=2, flow=Flow(client_port=port + 1)))
    two.core.adopt_offsets(one.core.export_offsets(), 0)
    assert two.core.table.used == count
    assert two.offsets(Flow(client_port=count)) == (1, 0, 0)


def test_more_connections_than_there_is_room_for_are_refused():
    one, two = Rewriting(), Rewriting(connections_max=2)
    for flow in FLOWS[:3]:
        known(one, flow)
    with pytest.raises(LinkError, match="3 connections, but this node has room for 2"):
        two.core.adopt_offsets(one.core.export_offsets(), 0)
    assert two.core.table.used == 0


def test_a_table_has_48_bytes_per_connection_over_ipv4_and_72_over_ipv6():
    trace = Rewriting()
    for flow in FLOWS:
        known(trace, flow)
    assert len(trace.core.export_offsets()) == 4 + 3 * 48 + 2 * 72
