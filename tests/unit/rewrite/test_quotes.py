"""R2: ICMP errors quote the other guest's numbers, and a fragment has a TCP header too."""

import struct

import pytest

from support.segments import (
    NEEDS_CSUM,
    Flow,
    Tcp,
    fragments,
    frame,
    icmp_error,
    ip_body,
    ones_sum,
    sack,
    timestamps,
    vnet_header,
)
from support.traces import Rewriting

pytestmark = pytest.mark.rule("R2")

CLIENT, PRIMARY, SECONDARY = 700, 3000, 9000
PRIMARY_CLOCK, SECONDARY_CLOCK = 50, 80
FLOWS = pytest.mark.parametrize("flow", [Flow(), Flow(version=6), Flow(tags=(5, 6))], ids=str)


def known(flow):
    trace = Rewriting()
    trace.client(Tcp(CLIENT, "S", options=timestamps(1), flow=flow, from_client=True))
    trace.guest(Tcp(SECONDARY, "SA", ack=CLIENT + 1, options=timestamps(SECONDARY_CLOCK, 1), flow=flow))
    ack = Tcp(CLIENT + 1, ack=PRIMARY + 1, options=timestamps(2, PRIMARY_CLOCK), flow=flow, from_client=True)
    trace.client(ack)
    return trace


def of_guest(isn, clock, flow):
    """`clock`: None for no options."""
    options = b"" if clock is None else timestamps(clock + 3, 2)
    return frame(Tcp(isn + 1, "PA", bytes(1000), CLIENT + 1, 500, options, flow))


def of_client(isn, clock, flow):
    options = b"" if clock is None else timestamps(2, clock) + sack(isn + 50, isn + 60)
    return frame(Tcp(CLIENT + 1, "PA", bytes(40), isn + 1, 500, options, flow, from_client=True))


def too_big(flow):
    return 2 if flow.version == 6 else 3


CUTS = pytest.mark.parametrize(
    ("size", "has_options"),
    [(8, False), (12, False), (13, False), (14, False), (18, False), (20, False), (44, True), (45, True), (2000, True)],
)


@FLOWS
@CUTS
def test_the_guest_finds_its_own_number_in_an_icmp_error(flow, size, has_options):
    """Else path MTU discovery is a black hole for the survivor. Whatever is left of the quoted packet."""
    trace = known(flow)
    size += 40 if flow.version == 6 else 20
    about_primary, about_secondary = (
        icmp_error(
            of_guest(isn, clock if has_options else None, flow), too_big(flow), size=size, flow=flow, from_client=True
        )
        for isn, clock in ((PRIMARY, PRIMARY_CLOCK), (SECONDARY, SECONDARY_CLOCK))
    )
    assert trace.client(about_primary) == [about_secondary]


@FLOWS
@CUTS
def test_the_guests_own_icmp_error_quotes_what_the_client_sent(flow, size, has_options):
    trace = known(flow)
    is_cut = size in {12, 13}  # whether there is an acknowledgement is not known without the flags
    size += 40 if flow.version == 6 else 20
    quoting_sent, quoting_translated = (
        icmp_error(of_client(isn, clock if has_options else None, flow), too_big(flow), size=size, flow=flow)
        for isn, clock in ((PRIMARY, PRIMARY_CLOCK), (SECONDARY, SECONDARY_CLOCK))
    )
    assert trace.guest(quoting_translated) == [quoting_translated if is_cut else quoting_sent]


def test_a_quote_that_ends_within_the_options():
    """The quoted checksum then cannot be made what it was; the one of the ICMP message is right."""
    flow = Flow()
    trace = known(flow)
    for size in range(20, 44):
        quoting = icmp_error(of_client(SECONDARY, SECONDARY_CLOCK, flow), 3, size=20 + size, flow=flow)
        (got,) = trace.guest(quoting)
        assert got[14 + 20 + 8 + 20 + 8 :][:4] == struct.pack(">I", PRIMARY + 1)
        assert ones_sum(ip_body(got)) == 0xFFFF


def test_other_icmp_passes_untouched():
    """An echo, an error about UDP, about another connection, with an impossible quote, too short a one."""
    trace = known(Flow())
    quoted = of_guest(PRIMARY, PRIMARY_CLOCK, Flow())
    others = [icmp_error(quoted, kind, from_client=True) for kind in (0, 5, 8, 13)]
    others += [icmp_error(quoted, 3, size=size, from_client=True) for size in range(28)]
    others += [icmp_error(of_guest(PRIMARY, 0, Flow(client_port=9)), 3, from_client=True)]
    for at, octet in [(14, 0x4F), (14, 0x65), (14, 0x41), (20, 0x01), (23, 17)]:
        changed = quoted[:at] + bytes([octet]) + quoted[at + 1 :]
        others.append(icmp_error(changed, 3, size=40, from_client=True))
    assert trace.client(*others) == others
    flow = Flow(version=6)
    trace = known(flow)
    quoted = of_guest(PRIMARY, PRIMARY_CLOCK, flow)
    others = [icmp_error(quoted, 2, size=size, flow=flow, from_client=True) for size in range(48)]
    for proto in (0, 43, 44, 59, 60):
        changed = quoted[:20] + bytes([proto]) + quoted[21:]
        others.append(icmp_error(changed, 2, size=60, flow=flow, from_client=True))
    assert trace.client(*others) == others


def test_a_partial_checksum_of_an_icmp_error_is_left_alone():
    flow = Flow(version=6)
    trace = Rewriting(12)
    header = vnet_header(NEEDS_CSUM)
    for segment in (
        Tcp(CLIENT, "S", flow=flow, from_client=True),
        Tcp(SECONDARY, "SA", ack=CLIENT + 1, flow=flow),
        Tcp(CLIENT + 1, ack=PRIMARY + 1, flow=flow, from_client=True),
    ):
        give = trace.client if segment.from_client else trace.guest
        give(frame(segment, header))
    octets = header + icmp_error(of_guest(PRIMARY, 0, flow), 2, size=48, flow=flow, from_client=True)
    (got,) = trace.client(octets)
    assert got[: 14 + 40 + 8 + 40] == octets[12 : 12 + 14 + 40 + 8 + 40], "the ICMP checksum, and all before the quote"
    assert got[14 + 40 + 8 + 40 + 4 :][:4] == struct.pack(">I", SECONDARY + 1)


# ── fragments ───────────────────────────────────────────────────────────────────────────────────────────────


def reassembled(frames, flow):
    """What the fragments carry, put together."""
    skip = 8 if flow.version == 6 else 0
    return b"".join(ip_body(octets)[skip:] for octets in frames)


@FLOWS
def test_the_first_fragment_of_a_segment_is_translated(flow):
    """Its checksum comes out right whatever the others carry: it is corrected, not computed."""
    trace = known(flow)
    sent, expected = (ip_body(of_client(isn, clock, flow)) for isn, clock in ((PRIMARY, 50), (SECONDARY, 80)))
    got = trace.client(*fragments(6, sent, [48], 7, flow, from_client=True))
    assert reassembled(got, flow) == expected
    sent, expected = (ip_body(of_guest(isn, clock, flow)) for isn, clock in ((SECONDARY, 80), (PRIMARY, 50)))
    got = trace.guest(*fragments(6, sent, [64, 512], 7, flow))
    assert reassembled(got, flow) == expected


def test_a_header_that_is_cut_in_two_passes():
    """RFC 1858: no stack sends one."""
    trace = known(Flow())
    frames = fragments(6, ip_body(of_client(PRIMARY, 50, Flow())), [16], 7, from_client=True)
    assert trace.client(*frames) == frames


def test_a_fragment_teaches_and_ends_nothing():
    """Its checksum cannot be checked."""
    trace = Rewriting()
    trace.client(Tcp(CLIENT, "S", from_client=True))
    trace.guest(Tcp(SECONDARY, "SA", ack=CLIENT + 1))
    frames = fragments(6, ip_body(of_client(PRIMARY, 0, Flow())), [48], 7, from_client=True)
    assert trace.client(*frames) == frames
    assert trace.offsets() == (1, 0, 0)
