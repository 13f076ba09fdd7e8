"""R1: what a client, or a stranger, claims changes nothing until the guest confirms it."""

from dataclasses import replace

import pytest

from pycolo import limits
from support.segments import GSO_TCPV4, NEEDS_CSUM, Flow, Tcp, frame, read, timestamps, vnet_header
from support.traces import Rewriting

pytestmark = pytest.mark.rule("R1")

CLIENT, PRIMARY, SECONDARY = 700, 3000, 0xFFFFFFF0
OFFSET = (SECONDARY - PRIMARY) & 0xFFFFFFFF
FORGED = 0x40000000
DATA_VALID = 2
KNOWN = (2, OFFSET, 0)


def client(at, flags="A", data=b"", *, ack=1, **fields):
    return Tcp(CLIENT + at, flags, data, PRIMARY + ack, from_client=True, **fields)


def guest(at, flags="A", data=b"", *, ack=1, **fields):
    return Tcp(SECONDARY + at, flags, data, CLIENT + ack, **fields)


def forged(flags, at=0, **fields):
    return Tcp(FORGED + at, flags, from_client=True, **fields)


def damaged(segment):
    octets = bytearray(frame(segment))
    octets[14 + 20 + 16] ^= 1
    return bytes(octets)


def known():
    trace = Rewriting()
    trace.client(client(0, "S"))
    trace.guest(guest(0, "SA"))
    trace.client(client(1))
    assert trace.offsets() == KNOWN
    return trace


# ── payload on a SYN (RFC 7413) ─────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("is_sent_again", [False, True])
@pytest.mark.parametrize(("taken", "begins"), [(0, 1), (4, 5), (4, 1)], ids=["neither", "both", "this guest alone"])
def test_the_client_begins_where_the_primary_says(taken, begins, is_sent_again):
    """It hears the lower of both acks: in front of the payload if one of the guests did not take it."""
    trace = Rewriting()
    trace.client(client(0, "S", b"data"))
    if is_sent_again:
        trace.client(client(0, "S"))
    trace.guest(guest(0, "SA", ack=1 + taken))
    if is_sent_again:
        trace.client(client(0, "S"))
        trace.guest(guest(0, "SA", ack=1 + taken))
    (first,) = trace.client(client(begins, data=b"data" if begins == 1 else b""))
    assert read(first).ack == SECONDARY + 1
    assert trace.offsets() == KNOWN


@pytest.mark.parametrize("end", [-1, 1, 1000])
def test_a_forged_syn_with_payload_gives_no_other_number_to_begin_with(end):
    """Its payload does not end where the guest says that the client's side begins."""
    trace = Rewriting()
    trace.client(client(0, "S"))
    trace.client(client(end - 5, "S", b"lie"))
    trace.guest(guest(0, "SA"))
    lie = replace(client(end - 4), ack=77)
    assert trace.client(lie) in ([frame(lie)], [])
    trace.client(client(1))
    assert trace.offsets() == KNOWN


# ── a SYN ───────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("is_answered", [True, False])
def test_a_forged_syn_on_an_older_connection_stops_nothing(is_answered):
    """Before and after the guest's challenge ACK, and where that is rate-limited; also after a takeover."""
    trace = Rewriting()
    assert trace.client(forged("S")) == [frame(forged("S"))]
    for _ in range(2):
        assert trace.client(client(1, data=b"upload")) == [frame(client(1, data=b"upload"))]
        if is_answered:
            challenge = guest(1)
            assert trace.guest(challenge) == [frame(challenge)]
        trace.core.takeover()
        trace.to_client()
    assert trace.core.held.count == 0


def test_a_challenge_ack_ends_what_was_not_known():
    """What follows the forged SYN closely waits for that, and goes on as what it is: of the older connection."""
    trace = Rewriting()
    near = Tcp(FORGED + 9, "A", b"upload", 5, from_client=True)
    trace.client(forged("S"))
    assert trace.client(near) == []
    trace.guest(guest(1))
    assert trace.to_guest() == [frame(near)]
    assert trace.client(near) == [frame(near)]
    assert trace.offsets() == (2, 0, 0)


def test_a_syn_that_the_guest_does_not_answer_stops_nothing_for_long():
    """Its challenge ACK is rate-limited."""
    trace = known()
    near = forged("A", 9, ack=PRIMARY + 1)
    trace.client(forged("S"))
    assert trace.client(near) == []
    trace.now_ms = limits.HANDSHAKE_HELD_MS
    assert read(trace.client(near)[0]).ack == (SECONDARY + 1) & 0xFFFFFFFF
    trace.core.timer_fired(round(trace.now_ms * 1000))
    assert trace.core.held.count == 0


def test_a_syn_in_the_window_of_the_connection_stops_nothing():
    trace = known()
    trace.guest(guest(1))
    trace.client(Tcp(CLIENT, "S", from_client=True), Tcp(CLIENT - 5, "S", from_client=True))
    assert len(trace.client(client(1, data=b"upload"))) == 1


def test_a_syn_with_a_wrong_checksum_is_none():
    trace = Rewriting()
    trace.client(damaged(client(0, "S")))
    assert trace.core.table.used == 0


# ── the ACK that completes the handshake ────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("at", [0, 1 + 65_536, -70_000, 1 << 31])
def test_nothing_is_learned_from_a_segment_of_another_connection(at):
    """It goes to the guest as it is, which answers as the primary does; the honest one teaches."""
    trace = Rewriting()
    trace.client(client(0, "S"))
    trace.guest(guest(0, "SA"))
    stale = client(at, data=b"old", ack=77_777)
    assert trace.client(stale) == [frame(stale)]
    assert read(trace.client(client(1))[0]).ack == (SECONDARY + 1) & 0xFFFFFFFF
    assert trace.offsets() == KNOWN


def test_nothing_is_learned_from_a_wrong_checksum():
    trace = Rewriting()
    trace.client(client(0, "S"))
    trace.guest(guest(0, "SA"))
    wrong = damaged(client(1, ack=9))
    assert trace.client(wrong) == [wrong]
    trace.client(client(1))
    assert trace.offsets() == KNOWN


@pytest.mark.parametrize("header", [vnet_header(NEEDS_CSUM), vnet_header(DATA_VALID)], ids=["partial", "looked at"])
def test_what_the_hosts_own_stack_vouches_for_teaches(header):
    """Its checksum covers the pseudo-header only, or was found right by the card."""
    trace = Rewriting(12)
    trace.client(header + damaged(client(0, "S")))
    trace.guest(header + frame(guest(0, "SA")))
    trace.client(header + damaged(client(1)))
    assert trace.offsets() == KNOWN


def test_a_frame_made_of_many_teaches():
    trace = Rewriting(12)
    header = vnet_header(0, GSO_TCPV4, 2)
    trace.client(vnet_header() + frame(client(0, "S")))
    trace.guest(vnet_header() + frame(guest(0, "SA")))
    trace.client(header + damaged(client(1, data=b"four")))
    assert trace.offsets() == KNOWN


def test_what_comes_before_that_ack_waits_for_it():
    """The ACK was lost, and the first segment too: the second says nothing of the primary's ISN for certain."""
    trace = Rewriting()
    trace.client(client(0, "S"))
    trace.guest(guest(0, "SA"))
    assert trace.client(client(5, data=b"late")) == []
    first, second = map(read, trace.client(client(1, data=b"soon")))
    assert (first.data, second.data) == (b"soon", b"late")
    assert first.ack == second.ack == (SECONDARY + 1) & 0xFFFFFFFF


def test_the_isn_that_counts_is_the_one_that_the_guest_acknowledges():
    """A stranger's SYN before the client's, and one after it."""
    trace = Rewriting()
    trace.client(forged("S"), client(0, "S"), forged("S", 99))
    trace.guest(guest(0, "SA"))
    trace.client(client(1))
    assert trace.offsets() == KNOWN


# ── connections that the guest begins ───────────────────────────────────────────────────────────────────────


def test_a_half_open_peers_challenge_ack_teaches_nothing():
    trace = Rewriting()
    trace.guest(guest(0, "S", ack=-CLIENT))
    challenge = Tcp(FORGED, "A", ack=12345, from_client=True)
    assert trace.client(challenge) == [frame(challenge)]
    answer = Tcp(CLIENT, "SA", ack=PRIMARY + 1, from_client=True)
    assert read(trace.client(answer)[0]).ack == (SECONDARY + 1) & 0xFFFFFFFF
    assert trace.offsets() == KNOWN


def test_a_wrong_syn_ack_is_corrected_by_the_real_one():
    trace = Rewriting()
    trace.guest(guest(0, "S", ack=-CLIENT))
    trace.client(damaged(Tcp(FORGED, "SA", ack=1, from_client=True)))
    assert trace.offsets() == (1, 0, 0)
    trace.client(Tcp(FORGED, "SA", ack=12345, from_client=True))
    trace.guest(Tcp(SECONDARY + 1, "R"))  # for another reason
    trace.client(Tcp(CLIENT, "SA", ack=PRIMARY + 1, from_client=True))
    assert trace.offsets() == KNOWN
    trace.guest(guest(1))
    assert trace.offsets() == KNOWN


def test_the_guest_says_which_syn_ack_it_took():
    """The real one, then a forged one before the guest has said anything."""
    trace = Rewriting()
    trace.guest(guest(0, "S", ack=-CLIENT))
    trace.client(Tcp(CLIENT, "SA", ack=PRIMARY + 1, from_client=True), forged("SA", ack=12345))
    (octets,) = trace.guest(guest(1))
    assert read(octets).seq == PRIMARY + 1
    trace.client(forged("SA", ack=999))
    assert trace.offsets() == KNOWN, "and then no other counts"


def test_a_refusal_acknowledges_the_guests_syn():
    trace = Rewriting()
    trace.guest(guest(0, "S", ack=-CLIENT))
    refusal = Tcp(0, "RA", ack=PRIMARY + 1, from_client=True)
    assert read(trace.client(refusal)[0]) == replace(read(frame(refusal)), ack=(SECONDARY + 1) & 0xFFFFFFFF)
    assert trace.offsets() == (1, 0, 0)


# ── after the takeover ──────────────────────────────────────────────────────────────────────────────────────


def test_what_begins_after_the_takeover_has_the_guests_numbers_whatever_the_client_says():
    trace = Rewriting()
    trace.core.takeover()
    trace.client(client(0, "S"))
    trace.guest(guest(0, "SA"))
    wrong = client(1)
    assert trace.client(wrong) == [frame(wrong)], "the guest says no to it"
    assert trace.offsets() == (2, 0, 0)
    assert trace.core.export_offsets() == b""


def test_a_handshake_that_the_takeover_cut_in_two_may_end_either_way():
    """With the number of the primary, if its SYN|ACK was the last that left; or with the survivor's own."""
    for ack, offset in [(PRIMARY + 1, OFFSET), (SECONDARY + 1, 0)]:
        trace = Rewriting()
        trace.client(client(0, "S"))
        trace.guest(guest(0, "SA"))
        trace.core.takeover()
        trace.client(Tcp(CLIENT + 1, "A", ack=ack, from_client=True))
        assert trace.offsets() == (2, offset, 0)


def test_timestamps_are_learned_with_the_syn_ack_that_counts():
    trace = Rewriting()
    trace.guest(guest(0, "S", ack=-CLIENT, options=timestamps(5000)))
    real = Tcp(CLIENT, "SA", ack=PRIMARY + 1, options=timestamps(9, 1000), from_client=True, flow=Flow())
    trace.client(real, forged("SA", ack=12345, options=timestamps(9, 777)))
    trace.guest(guest(1, options=timestamps(5001, 9)))
    assert trace.offsets() == (2, OFFSET, 4000)


def test_a_fin_with_a_keep_alives_number_ends_nothing():
    """The guest has closed, the client has not: the number below the next is answered, and what it says not taken."""
    trace = known()
    trace.guest(guest(1, "FA"))
    trace.client(client(1, ack=2))
    trace.client(client(0, "FA", ack=2))
    for _ in range(2):
        trace.now_ms += limits.CLOSED_GRACE_MS
        trace.core.timer_fired(round(trace.now_ms * 1000))
    assert trace.offsets() == KNOWN


def test_a_keep_alives_ack_is_not_believed():
    """A guest does not take it (RFC 9293 section 3.10.7.4): the copies for a takeover stay."""
    trace = known()
    trace.guest(guest(1, data=b"payload"))
    trace.client(client(0, ack=8))
    trace.core.takeover()
    assert len(trace.to_client()) == 1
