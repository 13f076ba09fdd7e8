"""The offsets: learned from one handshake, in either order; added on one way, taken away on the other."""

from dataclasses import replace

import pytest

from support.frames import is_valid
from support.segments import (
    NEEDS_CSUM,
    SACK_PERMITTED,
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
from support.traces import Rewriting

CLIENT_ISN = 700
PRIMARY_ISN, SECONDARY_ISN = 0xFFFFFFF0, 5000
PRIMARY_CLOCK, SECONDARY_CLOCK = 0xFFFFFF00, 300
SEQ_OFFSET = (SECONDARY_ISN - PRIMARY_ISN) & 0xFFFFFFFF
TS_OFFSET = (SECONDARY_CLOCK - PRIMARY_CLOCK) & 0xFFFFFFFF
KNOWN = 2
TERMS = mss(1460) + SACK_PERMITTED + scale(7)

FLOWS = pytest.mark.parametrize(
    "flow", [Flow(), Flow(version=6), Flow(tags=(5,)), Flow(version=6, tags=(5, 6))], ids=str
)


def client(seq, flags="A", data=b"", *, ack=0, echo=None, flow=Flow(), blocks=()):  # noqa: B008 - frozen
    """`echo`: the TSecr; without one there are no timestamps."""
    options = timestamps(0x1234, echo) if echo is not None else b""
    if blocks:
        options += sack(*blocks)
    return Tcp(seq, flags, data, ack, 500, options, flow, from_client=True)


def guest(seq, flags="A", data=b"", *, ack=0, value=None, flow=Flow(), options=b""):  # noqa: B008 - frozen
    options += timestamps(value, 0x1234) if value is not None else b""
    return Tcp(seq & 0xFFFFFFFF, flags, data, ack, 600, options, flow)


SYN = client(CLIENT_ISN, "S", echo=0)
SYN_ACK = guest(SECONDARY_ISN, "SA", ack=CLIENT_ISN + 1, value=SECONDARY_CLOCK, options=TERMS)
FIRST_ACK = client(CLIENT_ISN + 1, ack=PRIMARY_ISN + 1, echo=PRIMARY_CLOCK)


def known(*, has_timestamps=True, vnet_len=None, flow=Flow(), header=b""):  # noqa: B008 - frozen
    """A rewriter that has seen the handshake."""
    trace = Rewriting(vnet_len)
    for segment, give in [(SYN, trace.client), (SYN_ACK, trace.guest), (FIRST_ACK, trace.client)]:
        options = segment.options if has_timestamps else b""
        give(frame(replace(segment, options=options, flow=flow), header))
    assert trace.offsets(flow) == (KNOWN, SEQ_OFFSET, TS_OFFSET if has_timestamps else 0)
    return trace


def one(frames):
    (octets,) = frames
    assert is_valid(octets)
    return read(octets)


# ── learning ────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.rule("R1")
@FLOWS
def test_the_clients_ack_tells_the_offset(flow):
    trace = Rewriting()
    assert trace.client(replace(SYN, flow=flow)) == [frame(replace(SYN, flow=flow))]
    assert trace.guest(replace(SYN_ACK, flow=flow)) == [frame(replace(SYN_ACK, flow=flow))]
    ack = one(trace.client(replace(FIRST_ACK, flow=flow)))
    assert ack.ack == SECONDARY_ISN + 1
    assert ack.options == timestamps(0x1234, SECONDARY_CLOCK), "a TSecr that the secondary has sent"
    assert trace.offsets(flow) == (KNOWN, SEQ_OFFSET, TS_OFFSET)
    assert trace.core.stats.learned == 1


@pytest.mark.rule("R3")
def test_client_packets_before_the_secondarys_answer_wait_for_it():
    trace = Rewriting()
    data = client(CLIENT_ISN + 1, "PA", b"GET /", ack=PRIMARY_ISN + 1, echo=PRIMARY_CLOCK)
    trace.client(SYN)
    assert trace.client(FIRST_ACK, data) == []
    assert trace.core.stats.handshake_held == 2
    assert trace.guest(SYN_ACK) == [frame(SYN_ACK)], "it leaves as it is: only its options are compared"
    first, second = map(read, trace.to_guest())
    assert (first.ack, first.data) == (SECONDARY_ISN + 1, b"")
    assert (second.ack, second.data) == (SECONDARY_ISN + 1, b"GET /")
    assert first.options == second.options == timestamps(0x1234, SECONDARY_CLOCK)


@pytest.mark.rule("R1")
def test_a_connection_that_the_guest_begins():
    trace = Rewriting()
    syn = guest(SECONDARY_ISN, "S", value=SECONDARY_CLOCK)
    assert trace.guest(syn) == [frame(syn)]
    answer = one(trace.client(client(90, "SA", ack=PRIMARY_ISN + 1, echo=PRIMARY_CLOCK)))
    assert (answer.ack, answer.options) == (SECONDARY_ISN + 1, timestamps(0x1234, SECONDARY_CLOCK))
    assert trace.offsets() == (KNOWN, SEQ_OFFSET, TS_OFFSET)
    data = one(trace.guest(guest(SECONDARY_ISN + 1, "PA", b"hello", ack=91, value=SECONDARY_CLOCK + 5)))
    assert (data.seq, data.options) == ((PRIMARY_ISN + 1) & 0xFFFFFFFF, timestamps(PRIMARY_CLOCK + 5, 0x1234))


def test_without_timestamps_only_the_sequence_numbers_shift():
    trace = known(has_timestamps=False)
    segment = guest(SECONDARY_ISN + 1, "PA", b"x", ack=CLIENT_ISN + 1)
    assert one(trace.guest(segment)) == replace(read(frame(segment)), seq=(PRIMARY_ISN + 1) & 0xFFFFFFFF)


def test_a_syn_ack_that_is_sent_again_echoes_the_later_clock():
    """Linux accepts the TSecr of any of its SYN|ACKs; the primary's client echoes the latest."""
    trace = Rewriting()
    trace.client(SYN)
    trace.guest(SYN_ACK)
    trace.guest(replace(SYN_ACK, options=TERMS + timestamps(SECONDARY_CLOCK + 1000, 0x1234)))
    ack = one(trace.client(FIRST_ACK))
    assert ack.options == timestamps(0x1234, SECONDARY_CLOCK + 1000)


def test_once_known_a_syn_ack_that_is_sent_again_is_translated():
    trace = known()
    again = one(trace.guest(SYN_ACK))
    assert again.seq == PRIMARY_ISN
    assert trace.offsets() == (KNOWN, SEQ_OFFSET, TS_OFFSET)


@pytest.mark.rule("R1")
def test_a_syn_that_the_client_sends_again_changes_nothing():
    trace = Rewriting()
    trace.client(SYN, SYN)
    trace.guest(SYN_ACK)
    trace.client(SYN)
    assert one(trace.client(FIRST_ACK)).ack == SECONDARY_ISN + 1
    trace.client(SYN)
    assert trace.offsets() == (KNOWN, SEQ_OFFSET, TS_OFFSET)
    assert len(trace.client(FIRST_ACK)) == 1, "nothing is held for an old SYN"


# ── adding ──────────────────────────────────────────────────────────────────────────────────────────────────


@FLOWS
def test_towards_the_secondary(flow):
    trace = known(flow=flow)
    segment = client(CLIENT_ISN + 1, "PA", b"data", ack=100, echo=200, flow=flow, blocks=(300, 400, 0xFFFFFFFF, 0x10))
    found = one(trace.client(segment))
    shifted = [(edge + SEQ_OFFSET) & 0xFFFFFFFF for edge in (300, 400, 0xFFFFFFFF, 0x10)]
    assert found == replace(
        read(frame(segment)),
        ack=(100 + SEQ_OFFSET) & 0xFFFFFFFF,
        options=timestamps(0x1234, 200 + TS_OFFSET) + sack(*shifted),
    )


@FLOWS
@pytest.mark.parametrize("flags", ["A", "PA", "FA", "R", "RA"])
def test_from_the_secondary(flow, flags):
    trace = known(flow=flow)
    segment = guest(SECONDARY_ISN + 9, flags, b"data", ack=77, value=SECONDARY_CLOCK + 7, flow=flow)
    found = one(trace.guest(segment))
    assert found == replace(
        read(frame(segment)),
        seq=(PRIMARY_ISN + 9) & 0xFFFFFFFF,
        options=timestamps(PRIMARY_CLOCK + 7, 0x1234),
    )


def test_a_rst_without_ack_has_nothing_to_translate():
    trace = known()
    segment = client(CLIENT_ISN + 1, "R")
    assert trace.client(segment) == [frame(segment)]


def test_an_echo_of_nothing_stays_nothing():
    trace = known()
    assert one(trace.client(client(CLIENT_ISN + 1, ack=100, echo=0))).options == timestamps(0x1234, 0)


def test_options_at_odd_places():
    trace = known()
    for pad in range(4):
        options = b"\x01" * pad + timestamps(7, 8)[2:] + b"\x01" + sack(1, 2)[2:]
        found = one(trace.client(Tcp(CLIENT_ISN + 1, "A", b"odd", 9, 500, options, from_client=True)))
        assert found.ack == (9 + SEQ_OFFSET) & 0xFFFFFFFF


def test_a_partial_checksum_is_left_alone():
    """With NEEDS_CSUM it covers addresses and length only: none of the numbers is in it."""
    header = vnet_header(NEEDS_CSUM)
    trace = known(vnet_len=12, header=header)
    mine = client(CLIENT_ISN + 1, "A", b"data", ack=100, echo=200, blocks=(300, 400))
    (octets,) = trace.client(frame(mine, header))
    assert read(octets, is_partial=True).ack == (100 + SEQ_OFFSET) & 0xFFFFFFFF
    (octets,) = trace.guest(frame(guest(SECONDARY_ISN + 1, "A", b"data", value=9), header))
    assert read(octets, is_partial=True).seq == (PRIMARY_ISN + 1) & 0xFFFFFFFF


# ── another connection with the same ports ──────────────────────────────────────────────────────────────────

NEW_CLIENT_ISN, NEW_PRIMARY_ISN, NEW_SECONDARY_ISN = 0x40000000, 0x100, 0x900


@pytest.mark.rule("R1")
def test_a_new_syn_that_the_secondary_follows():
    trace = known()
    new_ack = client(NEW_CLIENT_ISN + 1, ack=NEW_PRIMARY_ISN + 1)
    assert len(trace.client(client(NEW_CLIENT_ISN, "S"))) == 1
    assert trace.client(new_ack) == [], "which connection it belongs to is for the secondary to say"
    assert one(trace.guest(guest(NEW_SECONDARY_ISN, "SA", ack=NEW_CLIENT_ISN + 1))).seq == NEW_SECONDARY_ISN
    (held,) = trace.to_guest()
    assert read(held).ack == NEW_SECONDARY_ISN + 1
    assert trace.offsets() == (KNOWN, NEW_SECONDARY_ISN - NEW_PRIMARY_ISN, 0)


@pytest.mark.rule("R1")
def test_a_new_syn_that_the_secondary_does_not_follow():
    """It answers with an ACK of the old connection (RFC 5961 section 4.2), which lives on."""
    trace = known()
    trace.client(client(NEW_CLIENT_ISN, "S"))
    assert trace.client(client(NEW_CLIENT_ISN + 1, ack=100)) == []
    challenge = one(trace.guest(guest(SECONDARY_ISN + 1, ack=CLIENT_ISN + 1)))
    assert challenge.seq == (PRIMARY_ISN + 1) & 0xFFFFFFFF
    (held,) = trace.to_guest()
    assert read(held).ack == (100 + SEQ_OFFSET) & 0xFFFFFFFF
    assert trace.offsets() == (KNOWN, SEQ_OFFSET, TS_OFFSET)
    assert len(trace.client(client(NEW_CLIENT_ISN + 1, ack=100))) == 1


@pytest.mark.rule("R1")
def test_a_forged_syn_does_not_stop_the_old_connection():
    trace = known()
    trace.client(client(NEW_CLIENT_ISN, "S"))
    assert one(trace.client(client(CLIENT_ISN + 1, "A", b"upload", ack=100))).data == b"upload"


def test_a_new_connection_of_the_guest_with_the_same_ports():
    trace = known()
    trace.guest(guest(NEW_SECONDARY_ISN, "S"))
    answer = one(trace.client(client(90, "SA", ack=NEW_PRIMARY_ISN + 1)))
    assert answer.ack == NEW_SECONDARY_ISN + 1


# ── checkpoint ──────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.rule("E1")
def test_after_a_checkpoint_every_offset_is_nought():
    """Law 6: the secondary's numbers are the primary's."""
    trace = known()
    other = Flow(client_port=9)
    trace.client(replace(SYN, flow=other))
    trace.guest(replace(SYN_ACK, flow=other))
    trace.core.checkpoint_committed()
    for flow in (Flow(), other):
        assert trace.offsets(flow) == (KNOWN, 0, 0)
        mine = client(CLIENT_ISN + 1, "A", b"data", ack=100, echo=200, blocks=(300, 400), flow=flow)
        assert trace.client(mine) == [frame(mine)]
        theirs = guest(PRIMARY_ISN + 1, "A", b"data", ack=100, value=200, flow=flow)
        assert trace.guest(theirs) == [frame(theirs)]


def test_a_checkpoint_in_the_middle_of_a_handshake():
    trace = Rewriting()
    trace.client(SYN)
    assert trace.client(FIRST_ACK) == []
    trace.core.checkpoint_committed()
    assert trace.to_guest() == [frame(FIRST_ACK)], "the guest has the primary's handshake now"
    assert trace.offsets() == (KNOWN, 0, 0)


def test_after_a_checkpoint_a_handshake_may_be_finished_again():
    """The primary's SYN|ACK was not acknowledged when it was copied: the copy repeats it, with the same number."""
    trace = Rewriting()
    trace.client(SYN)
    trace.guest(SYN_ACK)
    trace.core.checkpoint_committed()
    again = replace(SYN_ACK, seq=PRIMARY_ISN, options=TERMS + timestamps(PRIMARY_CLOCK, 0x1234))
    assert trace.guest(again) == [frame(again)]
    assert trace.client(FIRST_ACK) == [frame(FIRST_ACK)]
    assert trace.offsets() == (KNOWN, 0, 0)
