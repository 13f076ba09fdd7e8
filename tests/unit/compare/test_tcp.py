"""Rules C1 and C2 for one TCP connection, as traces: what both guests send, and what leaves."""

import pytest

from pycolo import limits
from support.established import BASE, ISN, SECONDARY_ISN, SYN_OPTIONS, both, brief, established, syn_ack
from support.frames import is_valid
from support.segments import (
    GSO_TCPV4,
    NEEDS_CSUM,
    SACK_PERMITTED,
    Flow,
    Tcp,
    frame,
    mss,
    read,
    scale,
    timestamps,
    vnet_header,
)
from support.traces import Comparing

# ── C1: payload ─────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.rule("C1")
@pytest.mark.parametrize("is_primary_first", [True, False])
def test_equal_payload_leaves_as_the_primary_sent_it(is_primary_first):
    trace = established()
    segment = Tcp(BASE, "PA", b"hello", ack=100)
    order = [trace.primary, trace.secondary]
    for give in order if is_primary_first else reversed(order):
        assert trace.out() == []
        give(segment)
    assert trace.frames() == [frame(segment)]
    assert trace.commands() == []
    trace.assert_empty()


@pytest.mark.rule("C1")
@pytest.mark.parametrize("is_primary_first", [True, False])
def test_a_packet_waits_for_its_last_byte(is_primary_first):
    trace = established()
    parts = [
        Tcp(BASE, "A", b"he", ack=100),
        Tcp(BASE + 2, "A", b"ll", ack=100),
        Tcp(BASE + 4, "A", b"o", ack=100),
    ]
    whole = Tcp(BASE, "A", b"hello", ack=100)
    if is_primary_first:
        trace.primary(whole)
    for part in parts:
        assert trace.out() == []
        trace.secondary(part)
    if not is_primary_first:
        trace.primary(whole)
    assert trace.out() == [whole]
    trace.assert_empty()


@pytest.mark.rule("C1")
def test_the_secondary_may_send_in_larger_pieces():
    trace = established()
    trace.secondary(Tcp(BASE, "A", b"abcdef", ack=100))
    trace.primary(Tcp(BASE, "A", b"ab", ack=100), Tcp(BASE + 2, "A", b"cd", ack=100))
    assert [segment.data for segment in trace.out()] == [b"ab", b"cd"]
    trace.primary(Tcp(BASE + 4, "A", b"ef", ack=100))
    assert [segment.data for segment in trace.out()] == [b"ef"]
    trace.assert_empty()


@pytest.mark.rule("C1")
def test_sequence_numbers_wrap_around():
    trace = Comparing()
    both(trace, syn_ack(0xFFFFFFFC))
    first = Tcp(0xFFFFFFFD, "A", b"abcdef", ack=100)  # ends at 3
    both(trace, first, Tcp(3, "A", b"gh", ack=100))
    assert [segment.data for segment in trace.out()] == [b"", b"abcdef", b"gh"]
    trace.assert_empty()


@pytest.mark.rule("C3")
def test_acks_wrap_around():
    trace = Comparing()
    both(trace, syn_ack(ack=0xFFFFFFF0))
    trace.primary(Tcp(BASE, ack=0x10))
    assert [segment.flags for segment in trace.out()] == ["SA"]
    trace.secondary(Tcp(BASE, ack=0xFFFFFFFF))
    assert trace.out() == []
    trace.secondary(Tcp(BASE, ack=0x10))
    assert [segment.ack for segment in trace.out()] == [0x10]


@pytest.mark.rule("C9")
def test_a_retransmission_of_the_primary_leaves_again():
    trace = established()
    segment = Tcp(BASE, "A", b"hello", ack=100)
    both(trace, segment)
    trace.primary(segment)
    assert trace.out() == [segment, segment]
    trace.assert_empty()


def test_a_retransmission_while_the_first_is_held_leaves_after_it():
    trace = established()
    first, again = Tcp(BASE, "A", b"hello", ack=100), Tcp(BASE, "PA", b"hello", ack=100)
    trace.primary(first, again)
    trace.secondary(first)
    assert trace.out() == [first, again]
    trace.assert_empty()


@pytest.mark.rule("C1")
def test_retransmissions_of_the_secondary_are_discarded():
    trace = established()
    segment, following = Tcp(BASE, "A", b"hello", ack=100), Tcp(BASE + 5, "A", b"world", ack=100)
    trace.secondary(segment, segment, following, segment)
    trace.primary(segment, following)
    trace.secondary(segment, following)
    assert trace.out() == [segment, following]
    trace.assert_empty()


@pytest.mark.rule("C1")
def test_overlapping_segments_of_the_secondary():
    trace = established()
    trace.secondary(
        Tcp(BASE + 2, "A", b"cdef", ack=100),
        Tcp(BASE + 4, "A", b"ef", ack=100),
        Tcp(BASE, "A", b"abc", ack=100),
        Tcp(BASE + 5, "A", b"fgh", ack=100),
    )
    trace.primary(Tcp(BASE, "A", b"abcdefgh", ack=100))
    assert [segment.data for segment in trace.out()] == [b"abcdefgh"]
    trace.assert_empty()


@pytest.mark.rule("C1")
def test_the_secondary_out_of_order():
    trace = established()
    trace.primary(Tcp(BASE, "A", b"abcdef", ack=100))
    trace.secondary(Tcp(BASE + 4, "A", b"ef", ack=100), Tcp(BASE + 2, "A", b"cd", ack=100))
    assert trace.out() == []
    trace.secondary(Tcp(BASE, "A", b"ab", ack=100))
    assert [segment.data for segment in trace.out()] == [b"abcdef"]
    trace.assert_empty()


@pytest.mark.rule("C1")
def test_the_primary_out_of_order():
    trace = established()
    late, early = Tcp(BASE + 2, "A", b"cd", ack=100), Tcp(BASE, "A", b"ab", ack=100)
    trace.secondary(Tcp(BASE, "A", b"abcd", ack=100))
    trace.primary(late)
    assert trace.out() == []
    trace.primary(early)
    assert trace.out() == [early, late]
    trace.assert_empty()


@pytest.mark.parametrize("first", [Tcp(BASE + 8, "A", b"more", ack=100), Tcp(BASE + 8, ack=300)], ids=["data", "ack"])
def test_what_is_sent_again_overtakes_what_waits(first):
    """The client misses it, so it acknowledges nothing, and the secondary sends nothing that others could wait for."""
    trace = established()
    both(trace, Tcp(BASE, "A", b"abcdefgh", ack=100))
    trace.primary(first)
    assert len(trace.out()) == 1
    again = [Tcp(BASE, "A", b"abcd", ack=100), Tcp(BASE + 4, "PA", b"efgh", ack=100)]
    trace.primary(*again)
    assert trace.out() == again


def test_what_was_overtaken_is_not_older_for_the_client():
    """PAWS (RFC 7323 section 5.3) would drop it."""
    trace = established()
    both(trace, Tcp(BASE, "A", b"abcd", ack=100, options=timestamps(10)))
    trace.primary(
        Tcp(BASE + 4, "A", b"efgh", ack=100, options=timestamps(11)),
        Tcp(BASE + 8, ack=300, options=timestamps(12)),
        Tcp(BASE, "A", b"abcd", ack=300, options=timestamps(90)),
    )
    trace.secondary(Tcp(BASE + 4, "A", b"efgh", ack=300))
    trace.primary(Tcp(BASE + 8, ack=300, options=timestamps(95)))
    left = trace.frames()
    assert all(map(is_valid, left))
    assert [(segment.data, segment.options) for segment in map(read, left)] == [
        (b"abcd", timestamps(10)),
        (b"abcd", timestamps(90)),
        (b"efgh", timestamps(90)),
        (b"", timestamps(90)),
        (b"", timestamps(95)),
    ]
    trace.assert_empty()


def test_a_commit_releases_what_was_overtaken_no_older_either():
    trace = established()
    both(trace, Tcp(BASE, "A", b"abcd", ack=100, options=timestamps(10)))
    trace.frames()
    trace.primary(Tcp(BASE + 4, "A", b"efgh", ack=100, options=timestamps(11)))
    trace.primary(Tcp(BASE, "A", b"abcd", ack=100, options=timestamps(90)))
    trace.commit()
    assert [segment.options for segment in trace.out()] == [timestamps(90)] * 2


def test_what_is_sent_again_in_one_piece_with_more_is_split_before_what_waits():
    trace = established()
    both(trace, Tcp(BASE, "A", b"abcd", ack=100))
    trace.primary(Tcp(BASE + 4, "A", b"ef", ack=100), Tcp(BASE + 2, "A", b"cdef", ack=100))
    trace.wait(5)
    assert brief(trace.out()) == [(BASE, "A", b"abcd"), (BASE + 2, "A", b"cd")]
    trace.secondary(Tcp(BASE + 4, "A", b"ef", ack=100))
    assert sorted(brief(trace.out())) == [(BASE + 4, "A", b"ef")] * 2
    trace.assert_empty()


@pytest.mark.rule("C1", "C9")
def test_overlapping_copies_of_the_primary_are_all_compared():
    """What the client keeps of two copies is its own affair: each must be what the secondary sent."""
    trace = established()
    trace.primary(Tcp(BASE, "A", b"abcd", ack=100), Tcp(BASE + 2, "A", b"cXef", ack=100))
    trace.secondary(Tcp(BASE, "A", b"abcdef", ack=100))
    assert trace.out() == []
    assert trace.commands() == [("RequestCheckpoint", "PAYLOAD", BASE + 3)]


def test_a_connection_from_before_our_time_begins_where_the_primary_is():
    trace = Comparing()
    segment = Tcp(7000, "A", b"middle", ack=100)
    trace.secondary(Tcp(6990, "A", b"0123456789", ack=100))
    both(trace, segment)
    assert trace.out() == [segment]
    trace.assert_empty()


# ── C5: what differs ────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.rule("C1", "C5")
@pytest.mark.parametrize("is_primary_first", [True, False])
def test_a_different_byte_is_found(is_primary_first):
    trace = established()
    order = [(trace.primary, b"abcdef"), (trace.secondary, b"abXdef")]
    for give, data in order if is_primary_first else reversed(order):
        give(Tcp(BASE, "A", data, ack=100))
    assert trace.out() == []
    (difference,) = trace.differences()
    assert (difference.kind.name, difference.seq) == ("PAYLOAD", BASE + 2)
    assert (difference.primary, difference.primary_index) == (b"abcdef", 2)
    assert (difference.secondary, difference.secondary_index) == (b"abXdef", 2)
    assert str(difference.connection) == "tcp 10.0.0.2:80 > 10.0.0.1:5000"


@pytest.mark.rule("C1", "C5")
def test_what_lies_before_the_difference_still_leaves_and_nothing_behind_it():
    trace = established()
    trace.primary(Tcp(BASE, "A", b"same", ack=100), Tcp(BASE + 4, "A", b"this", ack=100))
    trace.secondary(Tcp(BASE, "A", b"sameThat", ack=100))
    assert [segment.data for segment in trace.out()] == [b"same"]
    both(trace, Tcp(BASE + 8, "A", b"more", ack=100), Tcp(BASE + 12, "FA", ack=100))
    trace.primary(Tcp(BASE, "A", b"same", ack=100))
    assert trace.out() == []
    assert trace.commands() == [("RequestCheckpoint", "PAYLOAD", BASE + 4)]


@pytest.mark.rule("C5")
def test_the_context_is_bounded():
    trace = established()
    around = limits.DIFFERENCE_CONTEXT_BYTES
    common = bytes(range(100))
    trace.primary(Tcp(BASE, "A", common + b"P" + common, ack=100))
    trace.secondary(Tcp(BASE, "A", common + b"S" + common, ack=100))
    (difference,) = trace.differences()
    assert difference.primary == common[-around:] + b"P" + common[: around - 1]
    assert difference.secondary == common[-around:] + b"S" + common[: around - 1]
    assert difference.primary_index == difference.secondary_index == around


@pytest.mark.rule("C5")
def test_a_connection_that_differs_does_not_hold_the_others():
    trace = established()
    trace.primary(Tcp(BASE, "A", b"abc", ack=100))
    trace.secondary(Tcp(BASE, "A", b"abX", ack=100))
    other = Tcp(5, "A", b"other", ack=100, flow=Flow(client_port=6000))
    both(trace, other)
    assert trace.out() == [other]


# ── C2: SYN ─────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.rule("C2")
@pytest.mark.parametrize("is_primary_first", [True, False])
def test_syn_acks_with_the_same_options_agree_whatever_their_numbers(is_primary_first):
    trace = Comparing()
    order = [
        (trace.primary, syn_ack(options=SYN_OPTIONS)),
        # Padding, order and the timestamp's value are not the connection's terms.
        (
            trace.secondary,
            syn_ack(SECONDARY_ISN, options=b"\x01" + scale(7) + timestamps(9) + mss(1460) + SACK_PERMITTED),
        ),
    ]
    for give, segment in order if is_primary_first else reversed(order):
        assert trace.out() == []
        give(segment)
    assert trace.out() == [read(frame(syn_ack(options=SYN_OPTIONS)))]
    assert trace.commands() == []


@pytest.mark.rule("C2")
@pytest.mark.parametrize(
    "other",
    [
        mss(1400) + SACK_PERMITTED + timestamps(7) + scale(7),
        mss(1460) + timestamps(7) + scale(7),
        mss(1460) + SACK_PERMITTED + scale(7),
        mss(1460) + SACK_PERMITTED + timestamps(7) + scale(6),
        mss(1460) + SACK_PERMITTED + timestamps(7),
        b"",
    ],
    ids=["mss", "sack", "timestamps", "scale", "no scale", "none"],
)
@pytest.mark.parametrize("is_primary_first", [True, False])
def test_syns_that_do_not_agree(is_primary_first, other):
    trace = Comparing()
    order = [
        (trace.primary, syn_ack(options=SYN_OPTIONS)),
        (trace.secondary, syn_ack(SECONDARY_ISN, options=other)),
    ]
    for give, segment in order if is_primary_first else reversed(order):
        give(segment)
    assert trace.out() == []
    assert [(command, kind) for command, kind, _ in trace.commands()] == [("RequestCheckpoint", "SYN_OPTIONS")]


@pytest.mark.rule("C2")
def test_a_connection_that_the_guest_begins():
    trace = Comparing()
    trace.secondary(Tcp(SECONDARY_ISN, "S"))
    trace.primary(Tcp(ISN, "S"))
    trace.primary(Tcp(BASE, ack=300), Tcp(BASE, "PA", b"GET", ack=300))
    assert [segment.flags for segment in trace.out()] == ["S"]
    trace.secondary(Tcp(BASE, ack=300))
    assert [segment.flags for segment in trace.out()] == ["A"]
    trace.secondary(Tcp(BASE, "PA", b"GET", ack=300))
    assert [segment.data for segment in trace.out()] == [b"GET"]


@pytest.mark.rule("C2")
def test_a_syn_that_is_sent_again_needs_no_second_partner():
    trace = Comparing()
    trace.primary(syn_ack(), syn_ack())
    trace.secondary(syn_ack(SECONDARY_ISN))
    trace.primary(syn_ack())
    assert [segment.flags for segment in trace.out()] == ["SA"] * 3
    trace.assert_empty()


@pytest.mark.rule("C2")
def test_a_syn_that_the_secondary_sends_again_vouches_for_no_other():
    """By then the rewriter knows the offset and the SYN has the primary's number."""
    trace = established()
    trace.secondary(syn_ack(SECONDARY_ISN), syn_ack(ISN))
    trace.primary(syn_ack(70000, ack=500))
    assert trace.out() == [], "a SYN of the old connection vouched for one of the new"
    trace.secondary(syn_ack(SECONDARY_ISN + 9, ack=500))
    assert [segment.seq for segment in trace.out()] == [70000]


@pytest.mark.rule("C1", "C2")
def test_payload_on_a_syn_is_compared():
    """TCP Fast Open (RFC 7413): the SYN's payload is as much payload as any."""
    trace = Comparing()
    trace.primary(Tcp(ISN, "SA", b"early", ack=100))
    trace.secondary(syn_ack(SECONDARY_ISN))
    assert trace.out() == []
    trace.secondary(Tcp(BASE, "A", b"early", ack=100))
    assert [segment.data for segment in trace.out()] == [b"early"]


@pytest.mark.rule("C2")
def test_a_syn_ack_is_vouched_for_by_an_answer_to_the_same_syn():
    trace = Comparing()
    trace.secondary(syn_ack(SECONDARY_ISN, ack=100))
    trace.primary(syn_ack(ack=50_000))
    assert trace.out() == []
    trace.secondary(syn_ack(SECONDARY_ISN + 77, ack=50_000))
    assert [segment.ack for segment in trace.out()] == [50_000]


@pytest.mark.rule("C2")
@pytest.mark.parametrize("is_primary_first", [True, False])
def test_a_new_connection_with_the_same_ports(is_primary_first):
    trace = established()
    both(trace, Tcp(BASE, "FA", ack=101))
    trace.out()
    renewed = [
        (trace.primary, syn_ack(70000, ack=500)),
        (trace.secondary, syn_ack(SECONDARY_ISN + 9, ack=500)),
    ]
    for give, segment in renewed if is_primary_first else reversed(renewed):
        assert trace.out() == []
        give(segment)
    assert [(segment.seq, segment.flags) for segment in trace.out()] == [(70000, "SA")]
    segment = Tcp(70001, "A", b"again", ack=500)
    both(trace, segment)
    assert trace.out() == [segment]
    assert trace.commands() == []
    trace.assert_empty()


@pytest.mark.rule("C2")
def test_after_a_refused_syn_the_next_one_waits_for_its_own_partner():
    trace = Comparing(policy=1)
    trace.primary(syn_ack(options=SYN_OPTIONS))
    trace.secondary(syn_ack(SECONDARY_ISN))
    assert [kind for _, kind, _ in trace.commands()] == ["SYN_OPTIONS"]
    assert [segment.flags for segment in trace.out()] == ["SA"]
    trace.primary(syn_ack(70000, ack=500))
    assert trace.out() == []
    trace.secondary(syn_ack(SECONDARY_ISN + 9, ack=500))
    assert [segment.seq for segment in trace.out()] == [70000]


# ── C2: FIN and RST ─────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.rule("C2")
@pytest.mark.parametrize("data", [b"", b"last"])
@pytest.mark.parametrize("is_primary_first", [True, False])
def test_a_fin_waits_for_the_secondarys(is_primary_first, data):
    trace = established()
    fin = Tcp(BASE, "FA", data, ack=100)
    order = [trace.primary, trace.secondary]
    for give in order if is_primary_first else reversed(order):
        assert trace.out() == []
        give(fin)
    assert trace.out() == [fin]
    trace.primary(fin)
    assert trace.out() == [fin], "a FIN that is sent again has its partner"
    trace.primary(Tcp(BASE + len(data) + 1, ack=100))
    assert len(trace.out()) == 1
    trace.assert_empty()


@pytest.mark.rule("C2")
def test_fin_and_data_may_be_cut_differently():
    trace = established()
    trace.primary(Tcp(BASE, "A", b"data", ack=100), Tcp(BASE + 4, "FA", ack=100))
    trace.secondary(Tcp(BASE, "FA", b"data", ack=100))
    assert [segment.flags for segment in trace.out()] == ["A", "FA"]
    trace.assert_empty()


@pytest.mark.rule("C2")
@pytest.mark.parametrize("is_primary_first", [True, False])
def test_the_primary_ends_where_the_secondary_goes_on(is_primary_first):
    trace = established()
    order = [(trace.primary, Tcp(BASE, "FA", ack=100)), (trace.secondary, Tcp(BASE, "A", b"more", ack=100))]
    for give, segment in order if is_primary_first else reversed(order):
        give(segment)
    assert trace.out() == []
    assert trace.commands() == [("RequestCheckpoint", "FIN", BASE)]


@pytest.mark.rule("C2")
@pytest.mark.parametrize("is_primary_first", [True, False])
def test_the_secondary_ends_where_the_primary_goes_on(is_primary_first):
    trace = established()
    order = [(trace.primary, Tcp(BASE, "A", b"more", ack=100)), (trace.secondary, Tcp(BASE, "FA", ack=100))]
    for give, segment in order if is_primary_first else reversed(order):
        give(segment)
    assert trace.out() == []
    assert trace.commands() == [("RequestCheckpoint", "FIN", BASE)]


@pytest.mark.rule("C2")
@pytest.mark.parametrize("is_primary_first", [True, False])
def test_a_rst_waits_for_the_secondarys(is_primary_first):
    trace = established()
    rst = Tcp(BASE, "R", window=0)
    order = [trace.primary, trace.secondary]
    for give in order if is_primary_first else reversed(order):
        assert trace.out() == []
        give(rst)
    assert trace.out() == [rst]
    assert trace.commands() == []


@pytest.mark.rule("C2")
def test_each_refused_syn_needs_its_own_partner():
    """A closed port answers every SYN with a RST of its own; one that is sent again has its partner."""
    trace = Comparing()
    first, second = (Tcp(0, "RA", ack=ack, window=0) for ack in (100, 200))
    trace.primary(first, second)
    trace.secondary(first)
    assert trace.out() == [first]
    trace.primary(first)
    trace.secondary(second)
    assert trace.out() == [second, first]
    trace.assert_empty()


@pytest.mark.rule("C2")
@pytest.mark.parametrize("is_primary_first", [True, False])
def test_one_refuses_what_the_other_accepts(is_primary_first):
    rst = Tcp(0, "RA", ack=100, window=0)
    for mine, theirs in [(syn_ack(), rst), (rst, syn_ack(SECONDARY_ISN))]:
        trace = Comparing()
        order = [(trace.primary, mine), (trace.secondary, theirs)]
        for give, segment in order if is_primary_first else reversed(order):
            give(segment)
        assert trace.out() == []
        assert [kind for _, kind, _ in trace.commands()] == ["RST"]


@pytest.mark.rule("C2")
def test_a_fin_where_the_secondary_resets():
    trace = established()
    trace.primary(Tcp(BASE, "FA", ack=100))
    trace.secondary(Tcp(BASE, "RA", ack=100))
    assert trace.out() == []
    assert [kind for _, kind, _ in trace.commands()] == ["RST"]


# ── splitting ───────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.rule("C1")
@pytest.mark.parametrize("flow", [Flow(), Flow(version=6), Flow(tags=(7,)), Flow(version=6, tags=(7, 8))], ids=str)
def test_a_half_compared_frame_is_split(flow):
    trace = Comparing()
    whole = Tcp(BASE, "PA", b"abcdef", ack=100, options=timestamps(3, 4), flow=flow)
    trace.primary(whole)
    trace.secondary(Tcp(BASE, "A", b"abcd", ack=100, options=timestamps(3, 4), flow=flow))
    trace.wait(limits.SPLIT_WAIT_MS - 1)
    assert trace.frames() == []
    trace.wait(2)
    (part,) = trace.frames()
    assert is_valid(part)
    assert read(part) == Tcp(BASE, "A", b"abcd", 100, whole.window, whole.options, flow)
    trace.secondary(Tcp(BASE + 4, "A", b"ef", ack=100, options=timestamps(3, 4), flow=flow))
    (rest,) = trace.frames()
    assert is_valid(rest)
    assert read(rest) == Tcp(BASE + 4, "PA", b"ef", 100, whole.window, whole.options, flow)
    assert trace.commands() == []
    trace.assert_empty()


def test_the_wait_for_the_rest_begins_with_the_last_byte_that_came():
    trace = established()
    trace.primary(Tcp(BASE, "A", b"abcdef", ack=100))
    trace.wait(10 * limits.SPLIT_WAIT_MS)  # a late secondary is no reason to split
    for at in range(5):
        trace.secondary(Tcp(BASE + at, "A", b"abcdef"[at : at + 1], ack=100))
        trace.wait(limits.SPLIT_WAIT_MS - 1)
    assert trace.out() == []
    trace.secondary(Tcp(BASE + 5, "A", b"f", ack=100))
    assert brief(trace.out()) == [(BASE, "A", b"abcdef")]
    trace.assert_empty()


def test_fin_stays_with_the_last_part():
    trace = established()
    trace.primary(Tcp(BASE, "FPA", b"abcdef", ack=100))
    trace.secondary(Tcp(BASE, "A", b"abc", ack=100))
    trace.wait(5)
    trace.secondary(Tcp(BASE + 3, "FA", b"def", ack=100))
    assert brief(trace.out()) == [(BASE, "A", b"abc"), (BASE + 3, "FPA", b"def")]
    trace.assert_empty()


def test_a_frame_is_split_again_and_again():
    trace = established()
    trace.primary(Tcp(BASE, "A", b"abcdef", ack=100))
    for at in range(6):
        trace.secondary(Tcp(BASE + at, "A", b"abcdef"[at : at + 1], ack=100))
        trace.wait(5)
    assert brief(trace.out()) == [(BASE + at, "A", b"abcdef"[at : at + 1]) for at in range(6)]
    trace.assert_empty()


def test_a_gso_frame_with_a_partial_checksum_is_split():
    trace = Comparing(vnet_len=12)
    data = bytes(range(250)) * 12
    vnet = vnet_header(NEEDS_CSUM, GSO_TCPV4, 1448)
    trace.primary(frame(Tcp(BASE, "PA", data, ack=100), vnet))
    trace.secondary(frame(Tcp(BASE, "A", data[:2000], ack=100), vnet))
    trace.wait(5)
    left = trace.api.released_batch()
    assert left[4:8] == bytes([0, 0, 0, 12])
    assert left[8:20] == vnet, "still more than one segment"
    part = read(left[20:], is_partial=True)
    assert (part.flags, part.data) == ("A", data[:2000])
    trace.secondary(frame(Tcp(BASE + 2000, "PA", data[2000:], ack=100), vnet))
    left = trace.api.released_batch()
    assert left[8:20] == vnet_header(NEEDS_CSUM, 0, 0), "one segment is no GSO frame"
    rest = read(left[20:], is_partial=True)
    assert (rest.seq, rest.flags, rest.data) == (BASE + 2000, "PA", data[2000:])
    trace.assert_empty()


def test_a_frame_that_differs_is_not_split():
    trace = established()
    trace.primary(Tcp(BASE, "A", b"abcdef", ack=100))
    trace.secondary(Tcp(BASE, "A", b"abXdef", ack=100))
    trace.wait(100)
    assert trace.out() == []


# ── IPv6, VLAN ──────────────────────────────────────────────────────────────────────────────────────────────


def test_the_same_addresses_on_two_vlans_are_two_connections():
    trace = Comparing()
    trace.primary(Tcp(BASE, "A", b"one", ack=100, flow=Flow(tags=(1,))))
    trace.secondary(Tcp(BASE, "A", b"one", ack=100, flow=Flow(tags=(2,))))
    assert trace.out() == []


def test_payload_that_comes_behind_its_fin_does_not_wait_for_it():
    """The FIN came first, of a segment that was lost on the way here; it follows the payload in front of it."""
    trace = Comparing(commits_input=False)
    trace.primary(Tcp(0, "SA", ack=1))
    trace.secondary(Tcp(0, "SA", ack=1))
    first, fin, late = Tcp(1, "A", b"a", ack=1), Tcp(3, "FA", ack=1), Tcp(2, "A", b"b", ack=1)
    trace.primary(first, fin, late)
    trace.secondary(Tcp(1, "A", b"ab", ack=1))
    assert trace.out()[1:] == [first, late]
    trace.secondary(fin)
    assert trace.out() == [fin]
