"""Fragments are compared as datagrams and leave as they came (RFC 791 section 3.2, RFC 8200 section 4.5).

What cannot be compared never leaves (rule C9), and is a difference where one side alone has sent it (C8).
"""

import itertools

import pytest

from pycolo import limits
from pycolo.compare.kinds import DivergencePolicy
from support.segments import Flow, Tcp, fragments, frame, icmp_echo, udp, udp_body
from support.traces import Comparing

DATA = bytes(range(256)) * 12
V4, V6 = Flow(), Flow(version=6)


def cut(cuts, identification=1, data=DATA, flow=V4):
    return fragments(17, udp_body(data, flow), cuts, identification, flow)


@pytest.mark.rule("C4")
@pytest.mark.parametrize("flow", [V4, V6, Flow(tags=(9,))], ids=str)
@pytest.mark.parametrize("is_primary_first", [True, False])
def test_neither_cuts_nor_identification_matter(flow, is_primary_first):
    trace = Comparing()
    mine, theirs = cut([1480, 2960], 1, flow=flow), cut([800, 1600, 2400], 7, flow=flow)
    order = [(trace.primary, mine), (trace.secondary, theirs)]
    for give, frames in order if is_primary_first else reversed(order):
        assert trace.frames() == []
        give(*frames)
    assert trace.frames() == mine
    assert trace.commands() == []
    trace.assert_empty()


@pytest.mark.rule("C4")
@pytest.mark.parametrize("order", list(itertools.permutations(range(3))), ids=str)
@pytest.mark.parametrize("flow", [V4, V6], ids=str)
def test_any_order_of_fragments(order, flow):
    trace = Comparing()
    parts = cut([1480, 2960], flow=flow)
    given = [parts[place] for place in order]
    trace.primary(*given)
    trace.secondary(udp(DATA, flow))
    assert trace.frames() == given, "as the primary sent them"
    trace.assert_empty()


@pytest.mark.rule("C4")
def test_a_whole_datagram_vouches_for_fragments_and_the_reverse():
    trace = Comparing()
    parts = cut([1480, 2960])
    trace.primary(udp(DATA))
    trace.secondary(*parts)
    assert trace.frames() == [udp(DATA)]
    trace.assert_empty()


@pytest.mark.rule("C4")
def test_a_difference_in_a_later_fragment_is_found():
    trace = Comparing()
    trace.primary(*cut([1480, 2960]))
    trace.secondary(*cut([1480, 2960], data=DATA[:-1] + b"X"))
    trace.wait(2 * limits.DATAGRAM_REORDER_MS)
    (difference,) = trace.differences()
    assert difference.kind.name == "DATAGRAM"
    assert difference.connection.source_port == 80
    trace.commit()
    assert trace.frames() == cut([1480, 2960])
    trace.assert_empty()


def test_a_repeated_fragment_leaves_with_its_datagram():
    trace = Comparing()
    first, second, third = cut([1480, 2960])
    trace.primary(first, first, second, third)
    trace.secondary(udp(DATA))
    assert trace.frames() == [first, first, second, third]
    trace.assert_empty()


@pytest.mark.rule("C9")
def test_overlapping_fragments_condemn_the_datagram():
    """RFC 5722: those that were there, those that overlap and those to come."""
    trace = Comparing()
    body = udp_body(DATA)
    first, last = cut([1480])
    overlap = fragments(17, body[:800] + bytes(680) + body[1480:], [800, 1480], 1)[1]
    trace.primary(first, overlap, last)
    trace.secondary(udp(DATA))
    trace.primary(first, last)
    trace.commit()
    assert trace.frames() == [], "released what the client may put together otherwise"
    assert trace.core.stats.dropped == 5
    trace.assert_empty()


@pytest.mark.rule("C9")
@pytest.mark.parametrize("flow", [V4, V6], ids=str)
@pytest.mark.parametrize("side", ["primary", "secondary"])
def test_an_incomplete_datagram_of_one_side_is_a_difference_and_never_leaves(flow, side):
    trace = Comparing()
    first, second, third = cut([1480, 2960], flow=flow)
    give = trace.primary if side == "primary" else trace.secondary
    give(first, third)
    trace.wait(limits.COMPARE_TIMEOUT_MS - 1)
    assert trace.commands() == []
    trace.wait(limits.EXPIRED_SCAN_CYCLE_MS + 1)
    (difference,) = trace.differences()
    assert difference.kind.name == {"primary": "TIMEOUT", "secondary": "SECONDARY_TIMEOUT"}[side]
    assert (difference.connection.ip_proto, difference.connection.source_port) == (17, 0)
    assert (difference.primary or difference.secondary) == udp_body(DATA, flow)[:32]
    assert trace.core.stats.incomplete_datagrams == 1
    give(second)
    trace.commit()
    assert trace.frames() == []
    trace.assert_empty()


@pytest.mark.rule("C9")
def test_pieces_that_come_slowly_do_not_add_up_at_the_client():
    """What 4.5 s apart was given up piece by piece, and released, was a datagram that no comparison has seen."""
    trace = Comparing(policy=DivergencePolicy.REPORT)
    for part in cut([1480, 2960]):
        trace.primary(part)
        trace.wait(limits.COMPARE_TIMEOUT_MS + 1500)
    assert trace.frames() == []
    trace.wait(limits.FRAGMENT_FORGET_MS)
    assert trace.core.primary_fragments.used == 0
    trace.assert_empty()


@pytest.mark.rule("C9")
def test_after_a_minute_the_identification_is_free_again():
    trace = Comparing(policy=DivergencePolicy.REPORT)
    parts = cut([1480])
    trace.primary(parts[0])
    trace.wait(limits.COMPARE_TIMEOUT_MS + limits.FRAGMENT_FORGET_MS)
    trace.primary(*parts)
    trace.secondary(udp(DATA))
    assert trace.frames() == parts
    trace.assert_empty()


@pytest.mark.rule("C9")
def test_incomplete_datagrams_of_both_sides_excuse_each_other():
    """Two guests that forward what a stranger sends do alike; the client gets neither."""
    trace = Comparing()
    first = cut([1480])[0]
    trace.primary(first)
    trace.secondary(first)
    trace.wait(2 * limits.COMPARE_TIMEOUT_MS)
    assert trace.commands() == []
    assert trace.frames() == []
    trace.primary(cut([1480], 2)[0])
    trace.wait(2 * limits.COMPARE_TIMEOUT_MS)
    assert [kind for _, kind, _ in trace.commands()] == ["TIMEOUT"], "one excuse for each"


def test_a_checkpoint_frees_what_is_in_the_making():
    trace = Comparing()
    first, second, third = cut([1480, 2960])
    trace.primary(first, third)
    trace.secondary(first)
    trace.commit()
    assert trace.frames() == [first, third]
    trace.primary(second)
    trace.secondary(second)
    trace.wait(2 * limits.COMPARE_TIMEOUT_MS)
    assert trace.commands() == []
    assert trace.frames() == []
    trace.assert_empty()


@pytest.mark.rule("C10")
def test_the_number_of_datagrams_in_the_making_is_bounded():
    trace = Comparing()
    firsts = [cut([1480], identification)[0] for identification in range(limits.FRAGMENT_DATAGRAMS_MAX + 3)]
    for give, fragments_of in [
        (trace.primary, trace.core.primary_fragments),
        (trace.secondary, trace.core.secondary_fragments),
    ]:
        for first in firsts:
            give(first)
            trace.now_ms += 1
        assert fragments_of.used <= limits.FRAGMENT_DATAGRAMS_MAX
    assert "MEMORY_FULL" in [kind for _, kind, _ in trace.commands()]
    assert trace.frames() == []
    trace.commit()
    assert 0 < len(trace.frames()) == len(firsts) - trace.core.stats.dropped
    trace.assert_empty()


@pytest.mark.rule("C10")
@pytest.mark.parametrize("side", ["primary", "secondary"])
def test_fragments_have_a_share_of_the_memory(side):
    """However large the frames are that carry them, other connections go on."""
    trace = Comparing(policy=DivergencePolicy.REPORT)
    first = cut([1480])[0] + bytes(60_000)
    give = trace.primary if side == "primary" else trace.secondary
    for identification in range(100):
        give(with_identification(first, identification))
        assert trace.core.pool.used_bytes <= trace.core.pool.budget_bytes // 2
    trace.primary(udp(b"x"))
    trace.secondary(udp(b"x"))
    assert trace.frames() == [udp(b"x")]


@pytest.mark.rule("C10")
@pytest.mark.parametrize("side", ["primary", "secondary"])
def test_the_share_holds_when_all_places_are_taken(side):
    """What was given up keeps its place for a minute: the places run out, and records are bounded as before."""
    records = 512
    trace = Comparing(held_packets_max=records)
    give = getattr(trace, side)
    for identification in range(2 * limits.FRAGMENT_DATAGRAMS_MAX):
        give(cut([1480], identification)[0])
        assert trace.core.held_packets() <= records // limits.SHARE_MAX + 1
    assert trace.frames() == []


def with_identification(octets, identification):
    return octets[:18] + identification.to_bytes(2, "big") + octets[20:]


@pytest.mark.rule("C6")
@pytest.mark.parametrize("side", ["primary", "secondary"])
def test_reassembled_datagrams_do_not_bypass_a_full_queue(side):
    """The last fragment stays where it came from, and is taken when there is room."""
    trace = Comparing(queue_packets_max=3)
    give, offer, answer = {
        "primary": (trace.primary, trace.offer_primary, trace.secondary),
        "secondary": (trace.secondary, trace.offer_secondary, trace.primary),
    }[side]
    give(udp(b"1"), udp(b"2"), udp(b"3"))
    *parts, last = cut([1480, 2960])
    assert offer(*parts, last) == 2
    assert offer(last) == 0
    assert [kind for _, kind, _ in trace.commands()] == ["QUEUE_FULL"]
    answer(udp(b"1"))
    give(last)
    answer(udp(b"2"), udp(b"3"), udp(DATA))
    assert len(trace.frames()) == (6 if side == "primary" else 4)
    trace.assert_empty()


def test_no_memory_for_the_whole_datagram():
    trace = Comparing(held_packets_max=6)
    parts = cut([1480, 2960])
    trace.primary(*parts[:2], *([udp(b"x")] * 3))
    assert trace.offer_primary(parts[2]) == 0
    assert [kind for _, kind, _ in trace.commands()] == ["MEMORY_FULL"]
    trace.commit()
    assert trace.frames() == [*parts[:2], *([udp(b"x")] * 3)]
    trace.primary(*parts)
    trace.secondary(udp(DATA))
    assert trace.frames() == parts


@pytest.mark.rule("C9")
def test_fragments_within_fragments_never_leave():
    """IPv6: the client would put them together twice, we cannot see what comes out."""
    trace = Comparing()
    inner = bytes([17, 0, 0, 8]) + bytes(4) + udp_body(DATA[:48], V6)
    outer = fragments(44, inner, [16], 1, V6)
    trace.primary(*outer)
    trace.secondary(*outer)
    trace.commit()
    assert trace.frames() == []
    trace.assert_empty()


def test_tcp_in_fragments():
    """They cannot be clamped: where the secondary is behind they wait."""
    trace = Comparing()
    octets = frame(Tcp(1000, "PA", DATA, ack=300))
    parts = fragments(6, octets[34:], [1480], 5)
    trace.primary(*parts)
    trace.secondary(Tcp(1000, "PA", DATA, ack=200))
    assert trace.frames() == []
    trace.secondary(Tcp(1000 + len(DATA), ack=300))
    assert trace.frames() == parts
    trace.assert_empty()


def test_fragments_in_the_making_need_no_row():
    """ICMP, whole and in fragments, has one key: what is in the making must not be mistaken for what is held."""
    trace = Comparing(connections_max=1)
    large = fragments(1, icmp_echo(DATA)[34:], [1480], 3)
    small = icmp_echo(b"ping")
    trace.primary(large[0], small)
    trace.secondary(small)
    assert trace.frames() == [small]
    # The only row is given to another connection, and then to ICMP again.
    for _ in range(3):
        for octets in (udp(b"x"), small):
            trace.primary(octets)
            trace.secondary(octets)
            assert trace.frames() == [octets]
    trace.primary(large[1])
    trace.secondary(*large)
    assert trace.frames() == large
    trace.assert_empty()


@pytest.mark.parametrize("name", ["empty", "beyond", "uneven", "second end"])
def test_fragments_that_can_be_no_part_of_a_datagram(name):
    trace = Comparing()
    body = udp_body(DATA)
    first, last = fragments(17, body, [1480], 2)
    beyond = bytearray(last)
    beyond[20:22] = (0x1FFF).to_bytes(2, "big")  # offset 65528, and data behind it
    wrong = {
        "empty": fragments(17, body, [1480, 1480], 2)[1],
        "beyond": bytes(beyond),
        "uneven": fragments(17, body, [1484], 2)[0],
        "second end": fragments(17, body[:-8], [1488], 2)[1],
    }[name]
    trace.primary(first, wrong, last)
    trace.secondary(udp(DATA))
    trace.wait(2 * limits.COMPARE_TIMEOUT_MS)
    assert len(trace.commands()) == 1
    trace.commit()
    assert trace.frames() == []
    trace.assert_empty()


@pytest.mark.rule("C9")
def test_a_datagram_in_too_many_pieces_is_given_up():
    trace = Comparing(policy=DivergencePolicy.REPORT)
    data = bytes(8 * (limits.FRAGMENTS_MAX + 10))
    parts = cut(list(range(8, len(data), 8)), data=data)
    trace.primary(*parts)
    trace.secondary(udp(data))
    trace.wait(2 * limits.COMPARE_TIMEOUT_MS)
    assert sorted(kind for _, kind, _ in trace.commands()) == ["SECONDARY_TIMEOUT", "TIMEOUT"]
    assert trace.frames() == []
    assert trace.core.stats.dropped == len(parts)
    trace.assert_empty()
