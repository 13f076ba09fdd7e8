"""Fragments are compared as datagrams and leave as they came (RFC 791 section 3.2, RFC 8200 section 4.5)."""

import itertools

import pytest

from pycolo import limits
from support.segments import Flow, Tcp, fragments, frame, icmp_echo, udp, udp_body
from support.traces import Comparing

DATA = bytes(range(256)) * 12
V4, V6 = Flow(), Flow(version=6)


def cut(cuts, identification=1, data=DATA, flow=V4):
    return fragments(17, udp_body(data, flow), cuts, identification, flow)


@pytest.mark.parametrize("flow", [V4, V6, Flow(tags=(9,))], ids=str)
@pytest.mark.parametrize("is_primary_first", [True, False])
def test_neither_cuts_nor_identification_matter(build, flow, is_primary_first):
    trace = Comparing(build)
    mine, theirs = cut([1480, 2960], 1, flow=flow), cut([800, 1600, 2400], 7, flow=flow)
    order = [(trace.primary, mine), (trace.secondary, theirs)]
    for give, frames in order if is_primary_first else reversed(order):
        assert trace.frames() == []
        give(*frames)
    assert trace.frames() == mine
    assert trace.commands() == []
    trace.assert_empty()


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))), ids=str)
@pytest.mark.parametrize("flow", [V4, V6], ids=str)
def test_any_order_of_fragments(build, order, flow):
    trace = Comparing(build)
    parts = cut([1480, 2960], flow=flow)
    given = [parts[place] for place in order]
    trace.primary(*given)
    trace.secondary(udp(DATA, flow))
    assert trace.frames() == given, "as the primary sent them"
    trace.assert_empty()


def test_a_whole_datagram_vouches_for_fragments_and_the_reverse(build):
    trace = Comparing(build)
    parts = cut([1480, 2960])
    trace.primary(udp(DATA))
    trace.secondary(*parts)
    assert trace.frames() == [udp(DATA)]
    trace.assert_empty()


def test_a_difference_in_a_later_fragment_is_found(build):
    trace = Comparing(build)
    trace.primary(*cut([1480, 2960]))
    trace.secondary(*cut([1480, 2960], data=DATA[:-1] + b"X"))
    trace.wait(2 * limits.DATAGRAM_REORDER_MS)
    (difference,) = trace.differences()
    assert difference.kind.name == "DATAGRAM"
    assert difference.connection.source_port == 80
    trace.commit()
    assert trace.frames() == cut([1480, 2960])
    trace.assert_empty()


def test_a_repeated_fragment_leaves_with_its_datagram(build):
    trace = Comparing(build)
    first, second, third = cut([1480, 2960])
    trace.primary(first, first, second, third)
    trace.secondary(udp(DATA))
    assert trace.frames() == [first, first, second, third]
    trace.assert_empty()


def test_overlapping_fragments_are_compared_as_the_first_says(build):
    trace = Comparing(build)
    body = udp_body(DATA)
    parts = cut([1480])
    overlap = fragments(17, body[:800] + bytes(680) + body[1480:], [800, 1480], 1)[1]
    trace.primary(parts[0], overlap, parts[1])
    trace.secondary(udp(DATA))
    assert trace.frames() == [parts[0], overlap, parts[1]]
    trace.assert_empty()


@pytest.mark.parametrize("flow", [V4, V6], ids=str)
def test_an_incomplete_datagram_leaves_when_its_time_is_up(build, flow):
    trace = Comparing(build)
    first, second, third = cut([1480, 2960], flow=flow)
    trace.primary(first, third)
    trace.secondary(first)
    trace.wait(limits.COMPARE_TIMEOUT_MS - 1)
    assert trace.frames() == []
    trace.wait(limits.EXPIRED_SCAN_CYCLE_MS + 1)
    assert trace.frames() == [first, third]
    assert trace.core.stats.incomplete_datagrams == 1
    trace.assert_empty()
    trace.primary(second)
    trace.commit()
    assert trace.frames() == [second]
    trace.assert_empty()


def test_the_number_of_datagrams_in_the_making_is_bounded(build):
    trace = Comparing(build)
    firsts = [cut([1480], identification)[0] for identification in range(limits.FRAGMENT_DATAGRAMS_MAX + 3)]
    for first in firsts:
        trace.primary(first)
        trace.now_ms += 1
    assert trace.frames() == firsts[:3]
    assert trace.core.primary_fragments.used == limits.FRAGMENT_DATAGRAMS_MAX
    trace.secondary(*firsts)
    assert trace.core.secondary_fragments.used == limits.FRAGMENT_DATAGRAMS_MAX
    trace.commit()
    assert trace.frames() == firsts[3:]
    trace.assert_empty()


def test_tcp_in_fragments(build):
    """They cannot be clamped: where the secondary is behind they wait."""
    trace = Comparing(build)
    octets = frame(Tcp(1000, "PA", DATA, ack=300))
    parts = fragments(6, octets[34:], [1480], 5)
    trace.primary(*parts)
    trace.secondary(Tcp(1000, "PA", DATA, ack=200))
    assert trace.frames() == []
    trace.secondary(Tcp(1000 + len(DATA), ack=300))
    assert trace.frames() == parts
    trace.assert_empty()


def test_fragments_of_a_protocol_without_ports_share_its_row(build):
    """ICMP, whole and in fragments, has one key: what is in the making must not be mistaken for what is held."""
    trace = Comparing(build, connections_max=1)
    large = fragments(1, icmp_echo(DATA)[34:], [1480], 3)
    small = icmp_echo(b"ping")
    trace.primary(large[0], small)
    trace.secondary(small)
    assert trace.frames() == [small]
    trace.wait(2 * limits.COMPARE_TIMEOUT_MS)
    assert trace.frames() == [large[0]]
    # The only row is given to another connection, and then to ICMP again.
    for _ in range(3):
        for octets in (udp(b"x"), small):
            trace.primary(octets)
            trace.secondary(octets)
            assert trace.frames() == [octets]
            trace.wait(2 * limits.EXPIRED_SCAN_CYCLE_MS)
    trace.assert_empty()


def test_a_table_that_must_grow_for_a_datagram_in_fragments(build):
    """The fragments have a row of their own, the datagram another."""
    trace = Comparing(build, connections_max=8192)
    rows = trace.core.table.rows
    others = [udp(b"x", Flow(guest_port=1 + port)) for port in range(rows - 1)]
    trace.primary(*others)
    trace.secondary(*others)
    assert trace.frames() == others
    parts = cut([1480])
    trace.primary(*parts)
    assert trace.frames() == [], "released without being compared"
    trace.secondary(udp(DATA))
    assert trace.frames() == parts
    assert trace.core.table.rows == 2 * rows


def test_zero_length_and_too_long_fragments_pass_in_the_end(build):
    trace = Comparing(build)
    body = udp_body(DATA)
    empty = fragments(17, body, [1480, 1480], 1)[1]
    beyond = bytearray(fragments(17, body, [1480], 2)[1])
    beyond[20:22] = (0x1FFF).to_bytes(2, "big")  # offset 65528, and data behind it
    trace.primary(empty, bytes(beyond))
    trace.wait(2 * limits.COMPARE_TIMEOUT_MS)
    assert trace.frames() == [empty, bytes(beyond)]
    trace.assert_empty()


def test_a_datagram_in_too_many_pieces_leaves_as_it_is(build):
    trace = Comparing(build)
    data = bytes(8 * (limits.FRAGMENTS_MAX + 10))
    parts = cut(list(range(8, len(data), 8)), data=data)
    trace.primary(*parts[: limits.FRAGMENTS_MAX])
    assert trace.frames() == []
    trace.primary(parts[limits.FRAGMENTS_MAX])
    assert trace.frames() == parts[: limits.FRAGMENTS_MAX + 1]
    trace.assert_empty()
