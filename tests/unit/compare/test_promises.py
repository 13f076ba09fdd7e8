"""Rule C3 for one TCP connection: which acks and windows leave, which are lowered, and what is owed."""

import pytest

from support.established import BASE, SECONDARY_ISN, SYN_OPTIONS, both, established, syn_ack
from support.frames import is_valid
from support.segments import (
    NEEDS_CSUM,
    Flow,
    Tcp,
    frame,
    mss,
    read,
    sack,
    scale,
    timestamps,
    vnet_header,
)
from support.traces import Comparing

pytestmark = pytest.mark.rule("C3")


def test_a_bare_ack_waits_for_the_secondarys():
    trace = established()
    ack = Tcp(BASE, ack=300)
    trace.primary(ack)
    trace.secondary(Tcp(BASE, ack=250))
    assert trace.out() == []
    trace.secondary(Tcp(BASE, ack=300))
    assert trace.out() == [ack]
    trace.assert_empty()


def test_the_secondary_may_be_ahead():
    trace = established()
    ack = Tcp(BASE, ack=300)
    trace.secondary(Tcp(BASE, ack=400))
    trace.primary(ack)
    assert trace.out() == [ack]
    trace.assert_empty()


def test_payload_leaves_with_a_lowered_ack_and_the_rest_is_owed():
    trace = established()
    trace.primary(Tcp(BASE, "PA", b"data", ack=300, options=timestamps(50, 60)))
    trace.secondary(Tcp(BASE, "PA", b"data", ack=200, options=timestamps(51, 60)))
    (clamped,) = trace.out()
    assert (clamped.data, clamped.ack) == (b"data", 200)
    assert clamped.edge == 1200
    trace.secondary(Tcp(BASE + 4, ack=250))
    (owed,) = trace.out()
    assert (owed.seq, owed.flags, owed.data, owed.ack) == (BASE + 4, "A", b"", 250)
    assert owed.options == timestamps(50, 60)
    trace.secondary(Tcp(BASE + 4, ack=400))
    assert [segment.ack for segment in trace.out()] == [300], "never beyond the primary's own"
    trace.secondary(Tcp(BASE + 4, ack=500))
    assert trace.out() == []
    trace.assert_empty()


def test_what_a_later_packet_says_is_not_owed_any_more():
    trace = established()
    both(trace, Tcp(BASE, "A", b"1", ack=300))
    trace.primary(Tcp(BASE + 1, "A", b"2", ack=400))
    trace.secondary(Tcp(BASE + 1, "A", b"2", ack=350))
    trace.secondary(Tcp(BASE + 2, ack=400, window=900))
    assert [(segment.data, segment.ack) for segment in trace.out()] == [(b"1", 300), (b"2", 350), (b"", 400)]
    trace.primary(Tcp(BASE + 2, ack=400, window=900))
    trace.secondary(Tcp(BASE + 2, ack=400, window=1000))
    assert [(segment.ack, segment.window) for segment in trace.out()] == [(400, 900)]


def test_a_window_never_opens_beyond_the_secondarys():
    trace = established()
    trace.secondary(Tcp(BASE, ack=200, window=500))
    trace.primary(Tcp(BASE, ack=150, window=2000))
    (narrowed,) = trace.out()
    assert (narrowed.ack, narrowed.edge) == (150, 700)
    trace.secondary(Tcp(BASE, ack=200, window=800))
    (wider,) = trace.out()
    assert (wider.ack, wider.edge) == (150, 1000)
    trace.secondary(Tcp(BASE, ack=200, window=65000))
    (widest,) = trace.out()
    assert (widest.ack, widest.edge) == (150, 2150), "the primary's own edge"
    trace.assert_empty()


def test_scaled_windows():
    trace = Comparing()
    both(trace, syn_ack(options=mss(1460) + scale(7), window=64000))
    trace.out()
    trace.secondary(Tcp(BASE, ack=100, window=100))
    trace.primary(Tcp(BASE, "A", ack=100, window=300))
    assert [segment.window for segment in trace.out()] == [100]
    trace.secondary(Tcp(BASE, ack=164, window=100))
    assert trace.out() == [], "64 bytes more are half a unit: rounded down"
    trace.secondary(Tcp(BASE, ack=228, window=100))
    (wider,) = trace.out()
    assert wider.window == 101


def test_without_a_handshake_the_scale_is_not_known_and_edges_stay_near():
    """Scaled by 14 a unit of window is 16 KiB: bytes that the secondary is ahead count for nothing."""
    trace = Comparing()
    trace.secondary(Tcp(BASE, ack=2100, window=100))
    trace.primary(Tcp(BASE, ack=100, window=101))
    assert [(segment.ack, segment.window) for segment in trace.out()] == [(100, 100)]


def test_a_syn_ack_opens_no_wider_than_the_secondarys():
    trace = Comparing()
    trace.primary(syn_ack(window=64000, options=SYN_OPTIONS))
    trace.secondary(syn_ack(SECONDARY_ISN, window=32000, options=SYN_OPTIONS))
    (clamped,) = trace.out()
    assert (clamped.flags, clamped.window, clamped.ack) == ("SA", 32000, 100)
    assert clamped.options == SYN_OPTIONS + b"\0" * (-len(SYN_OPTIONS) % 4)


def test_a_repeated_ack_of_the_secondary_lets_one_out():
    """It misses a segment that the primary has: the client must see that, or waits for its time-out."""
    trace = established()
    trace.secondary(Tcp(BASE, ack=200))
    trace.primary(*(Tcp(BASE, ack=ack) for ack in (200, 300, 400, 500)))
    assert [segment.ack for segment in trace.out()] == [200]
    for _ in range(3):
        trace.secondary(Tcp(BASE, ack=200))
        assert [(segment.ack, segment.data) for segment in trace.out()] == [(200, b"")]
    trace.secondary(Tcp(BASE, ack=200))
    assert trace.out() == []
    trace.secondary(Tcp(BASE, ack=500))
    assert [segment.ack for segment in trace.out()] == [500], "what the three were not allowed to say"
    trace.assert_empty()


def test_only_a_bare_ack_counts_as_repeated():
    trace = established()
    trace.secondary(Tcp(BASE, ack=200))
    trace.primary(Tcp(BASE, ack=300))
    trace.secondary(Tcp(BASE, "A", b"x", ack=200), Tcp(BASE, ack=200, window=1001))
    assert trace.out() == []


def test_a_lowered_ack_keeps_its_other_options():
    trace = established()
    options = timestamps(5, 6) + sack(400, 500)
    trace.secondary(Tcp(BASE, ack=200, options=sack(380, 600)))
    trace.primary(Tcp(BASE, "A", b"data", ack=300, options=options))
    trace.secondary(Tcp(BASE, "A", b"data", ack=200, options=sack(380, 600)))
    assert [(segment.ack, segment.options) for segment in trace.out()] == [(200, options)]


def test_an_older_ack_of_the_secondary_takes_nothing_back():
    trace = established()
    trace.secondary(Tcp(BASE, ack=300), Tcp(BASE, ack=200))
    trace.primary(Tcp(BASE, ack=300))
    assert [segment.ack for segment in trace.out()] == [300]


def test_ack_policy_immediate():
    trace = established(commits_input=False)
    ack = Tcp(BASE, ack=300, window=5000)
    trace.primary(ack)
    assert trace.out() == [ack]
    trace.primary(Tcp(BASE, "A", b"data", ack=900))
    assert trace.out() == []
    trace.secondary(Tcp(BASE, "A", b"data", ack=200))
    assert [segment.ack for segment in trace.out()] == [900]


def test_clamping_leaves_a_partial_checksum_alone():
    trace = Comparing(vnet_len=10)
    vnet = vnet_header(NEEDS_CSUM, size=10)
    trace.primary(frame(Tcp(BASE, "A", b"data", ack=300), vnet))
    trace.secondary(frame(Tcp(BASE, "A", b"data", ack=200), vnet))
    (clamped,) = trace.frames()
    assert read(clamped, is_partial=True).ack == 200
    trace.secondary(frame(Tcp(BASE + 4, ack=300), vnet))
    left = trace.api.released_batch()
    assert left[8:18] == bytes(10), "a frame of our own making has a whole checksum"
    assert read(left[18:]).ack == 300


@pytest.mark.parametrize("flow", [Flow(version=6), Flow(tags=(7,)), Flow(version=6, tags=(7, 8))], ids=str)
def test_lowering_keeps_checksums_right(flow):
    trace = Comparing()
    trace.primary(Tcp(BASE, "A", b"odd", ack=300, window=700, flow=flow))
    trace.secondary(Tcp(BASE, "A", b"odd", ack=200, window=60, flow=flow))
    (clamped,) = trace.frames()
    assert is_valid(clamped)
    assert (read(clamped).ack, read(clamped).flow) == (200, flow)
