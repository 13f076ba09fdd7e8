"""Patches change what they are meant to and keep the checksum true; segments made anew are right in every field.

scapy finds the fields and computes the checksums.
"""

import struct
from itertools import pairwise

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scapy.layers.inet import IP, TCP
from scapy.layers.l2 import Ether

from pycolo import core
from support.frames import (
    GSO_TCPV4,
    NEEDS_CSUM,
    TCP_CHECKSUM,
    ethernet,
    is_valid,
    parse,
    segment,
    vnet_header,
    with_partial_checksum,
)
from support.strategies import DELTA, IPV4_LAYER, PAYLOAD, SEQ, TAGS, U8, U16, tcp_frames_with_vnet

MODULUS = 2**32
FIN, SYN, PSH, ACK, URG = 0x01, 0x02, 0x08, 0x10, 0x20

# Offsets in the TCP header (RFC 9293 section 3.1).
SEQ_AT, ACK_AT, FLAGS_AT, WINDOW_AT = 4, 8, 13, 14


def parsed_tcp(framed):
    octets, vnet_len = framed
    return parse(octets, vnet_len)


def fields(packet):
    return {name: getattr(packet, name) for name in dir(packet) if not name.startswith("_")}


def assert_only_changed(parsed, before, expected):
    """`expected`: {position in the buffer: the bytes that stand there now}; the checksum may differ too."""
    assert parsed.buf[: parsed.start] == before[: parsed.start]
    assert parsed.buf[parsed.end :] == before[parsed.end :]
    wanted = bytearray(before)
    for at, octets in expected.items():
        wanted[at : at + len(octets)] = octets
    checksum_at = parsed.packet.l4_pos + TCP_CHECKSUM
    if not parsed.packet.vnet_flags & NEEDS_CSUM:
        wanted[checksum_at : checksum_at + 2] = parsed.buf[checksum_at : checksum_at + 2]
        assert is_valid(parsed.octets[parsed.packet.vnet_len :])
    assert parsed.buf == wanted


def assert_packet_says_what_the_frame_says(parsed):
    """The numbers of the packet are those that parsing it again would give."""
    again = core.Packet()
    core.parse_frame(parsed.buf, parsed.start, parsed.end, parsed.packet.vnet_len, again)
    assert fields(again) == fields(parsed.packet)


# ── in place ────────────────────────────────────────────────────────────────────────────────────────────────


@given(framed=tcp_frames_with_vnet(), delta=DELTA)
def test_shift_seq(framed, delta):
    parsed = parsed_tcp(framed)
    before, seq = bytes(parsed.buf), parsed.packet.seq
    core.shift_seq(parsed.buf, parsed.packet, delta)
    new = struct.pack(">I", (seq + delta) % MODULUS)
    assert_only_changed(parsed, before, {parsed.packet.l4_pos + SEQ_AT: new})
    assert_packet_says_what_the_frame_says(parsed)


@given(framed=tcp_frames_with_vnet(), ack=SEQ)
def test_set_ack(framed, ack):
    parsed = parsed_tcp(framed)
    before = bytes(parsed.buf)
    core.set_ack(parsed.buf, parsed.packet, ack)
    assert_only_changed(parsed, before, {parsed.packet.l4_pos + ACK_AT: struct.pack(">I", ack)})
    assert_packet_says_what_the_frame_says(parsed)


@given(framed=tcp_frames_with_vnet(), window=U16)
def test_set_window(framed, window):
    parsed = parsed_tcp(framed)
    before = bytes(parsed.buf)
    core.set_window(parsed.buf, parsed.packet, window)
    assert_only_changed(parsed, before, {parsed.packet.l4_pos + WINDOW_AT: struct.pack(">H", window)})
    assert_packet_says_what_the_frame_says(parsed)


@given(framed=tcp_frames_with_vnet(), delta=DELTA)
def test_shift_sack_moves_every_edge(framed, delta):
    parsed = parsed_tcp(framed)
    before, packet = bytes(parsed.buf), parsed.packet
    count = packet.sack_len // 4
    edges = struct.unpack_from(f">{count}I", before, packet.sack_pos)
    core.shift_sack(parsed.buf, packet, delta)
    moved = struct.pack(f">{count}I", *[(edge + delta) % MODULUS for edge in edges])
    assert_only_changed(parsed, before, {packet.sack_pos: moved})


@given(framed=tcp_frames_with_vnet(), value_delta=DELTA, echo_delta=DELTA)
def test_shift_timestamps(framed, value_delta, echo_delta):
    """RFC 7323 section 3.2: without ACK there is no echo, and 0 echoes nothing."""
    parsed = parsed_tcp(framed)
    before, packet = bytes(parsed.buf), parsed.packet
    core.shift_timestamps(parsed.buf, packet, value_delta, echo_delta)
    if packet.timestamp_pos == 0:
        assert parsed.buf == before
        return
    value, echo = struct.unpack_from(">II", before, packet.timestamp_pos)
    value = (value + value_delta) % MODULUS
    if packet.flags & ACK and echo:
        echo = (echo + echo_delta) % MODULUS
    assert_only_changed(parsed, before, {packet.timestamp_pos: struct.pack(">II", value, echo)})


@given(framed=tcp_frames_with_vnet(), delta=DELTA, ack=SEQ, window=U16)
def test_there_and_back_is_identity(framed, delta, ack, window):
    parsed, patch = parsed_tcp(framed), core
    buf, packet = parsed.buf, parsed.packet
    before, old_ack, old_window = bytes(buf), packet.ack, packet.window
    if packet.timestamp_pos:
        # An echo that arrives at 0 means nothing any more, and would not come back.
        (echo,) = struct.unpack_from(">I", before, packet.timestamp_pos + 4)
        assume((echo + delta) % MODULUS != 0)
    patch.shift_seq(buf, packet, delta)
    patch.set_ack(buf, packet, ack)
    patch.set_window(buf, packet, window)
    patch.shift_sack(buf, packet, delta)
    patch.shift_timestamps(buf, packet, delta, delta)
    patch.shift_timestamps(buf, packet, -delta, -delta)
    patch.shift_sack(buf, packet, -delta)
    patch.set_window(buf, packet, old_window)
    patch.set_ack(buf, packet, old_ack)
    patch.shift_seq(buf, packet, -delta)
    assert buf == before


@pytest.mark.parametrize("nops", range(4))
@given(edges=st.tuples(SEQ, SEQ), stamps=st.tuples(SEQ, SEQ), delta=DELTA)
def test_options_at_every_alignment(nops, edges, stamps, delta):
    options = [("NOP", None)] * nops + [("SAck", edges), ("WScale", 7), ("Timestamp", stamps)]
    frame = ethernet(IP(src="10.0.0.1", dst="10.0.0.2") / TCP(flags="A", options=options) / b"odd")
    parsed = parse(frame)
    assert (parsed.packet.sack_pos - parsed.packet.l4_pos) % 4 == (nops + 2) % 4
    core.shift_sack(parsed.buf, parsed.packet, delta)
    core.shift_timestamps(parsed.buf, parsed.packet, delta, delta)
    found = segment(parsed.octets)
    options = dict(found.tcp.options)
    assert found.checksum == found.right_checksum
    assert options["SAck"] == tuple((edge + delta) % MODULUS for edge in edges)
    value, echo = stamps
    assert options["Timestamp"] == ((value + delta) % MODULUS, echo and (echo + delta) % MODULUS)


@given(framed=tcp_frames_with_vnet(), wrong=st.integers(1, 0xFFFE), delta=DELTA, ack=SEQ)
def test_a_segment_that_was_damaged_stays_so(framed, wrong, delta, ack):
    octets, vnet_len = framed
    parsed = parse(octets, vnet_len)
    assume(not parsed.packet.vnet_flags & NEEDS_CSUM)
    at = parsed.packet.l4_pos + TCP_CHECKSUM
    (right,) = struct.unpack_from(">H", parsed.buf, at)
    struct.pack_into(">H", parsed.buf, at, (right + wrong) % 0xFFFF)
    core.shift_seq(parsed.buf, parsed.packet, delta)
    core.set_ack(parsed.buf, parsed.packet, ack)
    assert not is_valid(parsed.octets[vnet_len:])


# ── parts of a segment ──────────────────────────────────────────────────────────────────────────────────────

ROOM = 4096


def made(parsed, function, *arguments, at=3):
    """What `function` writes into a buffer of its own: the octets, parsed; nothing around them may change."""
    target = bytearray(b"\xee" * ROOM)
    length = getattr(core, function)(target, at, parsed.buf, parsed.packet, *arguments)
    octets = bytes(target[at : at + length])
    assert target == b"\xee" * at + octets + b"\xee" * (ROOM - at - length)
    return parse(octets, parsed.packet.vnet_len)


def assert_checksum_is_right(parsed):
    frame = parsed.octets[parsed.packet.vnet_len :]
    if parsed.packet.vnet_flags & NEEDS_CSUM:
        found = segment(frame)
        assert found.checksum == found.pseudo_sum
    else:
        assert is_valid(frame)


@st.composite
def cut_frames(draw):
    """A frame with payload, and where it is cut: ascending, from 0 to the payload's length."""
    framed = draw(tcp_frames_with_vnet().filter(lambda framed: payload_len(framed) > 0))
    length = payload_len(framed)
    inner = draw(st.sets(st.integers(1, length), max_size=4)) - {length}
    return framed, [0, *sorted(inner), length]


def payload_len(framed):
    octets, vnet_len = framed
    found = segment(octets[vnet_len:])
    return len(found.octets) - found.tcp.dataofs * 4


@given(cut_frame=cut_frames())
def test_parts_together_are_the_whole(cut_frame):
    framed, cuts = cut_frame
    whole = parsed_tcp(framed)
    before = bytes(whole.buf)
    parts = [made(whole, "make_part", *ends) for ends in pairwise(cuts)]
    assert b"".join(part.payload for part in parts) == whole.payload
    assert whole.buf == before
    for part, first in zip(parts, cuts, strict=False):
        assert_checksum_is_right(part)
        assert part.packet.seq == (whole.packet.seq + first) % MODULUS
        assert (part.packet.ack, part.packet.window) == (whole.packet.ack, whole.packet.window)
        assert part.packet.vlan == whole.packet.vlan
        assert part.end == part.packet.ip_end  # Ethernet's padding is not repeated
        assert_options_and_addresses_are_the_same(part, whole)
    assert [part.packet.flags & (FIN | PSH) for part in parts[:-1]] == [0] * (len(parts) - 1)
    assert parts[-1].packet.flags & ~URG == whole.packet.flags & ~URG
    assert {part.packet.flags & ~(FIN | PSH | URG) for part in parts} == {whole.packet.flags & ~(FIN | PSH | URG)}


def assert_options_and_addresses_are_the_same(part, whole):
    """Every header byte but IPv4's length and checksum, IPv6's length, and TCP's seq, flags, checksum, urgent."""
    headers = []
    for parsed in (part, whole):
        packet = parsed.packet
        octets = bytearray(parsed.buf[packet.frame_pos : packet.payload_pos])
        ip, tcp = packet.ip_pos - packet.frame_pos, packet.l4_pos - packet.frame_pos
        changing = [(ip + 2, 2), (ip + 10, 2)] if packet.ip_version == 4 else [(ip + 4, 2)]
        changing += [(tcp + SEQ_AT, 4), (tcp + FLAGS_AT, 1), (tcp + TCP_CHECKSUM, 4)]
        for at, length in changing:
            octets[at : at + length] = bytes(length)
        headers.append(octets)
    assert headers[0] == headers[1]


@given(cut_frame=cut_frames())
def test_a_part_of_a_gso_frame_is_one_only_while_it_is_longer_than_a_segment(cut_frame):
    framed, cuts = cut_frame
    whole = parsed_tcp(framed)
    for first, last in pairwise(cuts):
        part = made(whole, "make_part", first, last).packet
        if whole.packet.vnet_len == 0:
            continue
        assert part.vnet_flags == whole.packet.vnet_flags
        is_gso = bool(whole.packet.gso_type) and last - first > whole.packet.gso_size
        expected = (whole.packet.gso_type, whole.packet.gso_size) if is_gso else (0, 0)
        assert (part.gso_type, part.gso_size) == expected


@pytest.mark.parametrize(("length", "is_gso"), [(99, False), (100, False), (101, True)])
def test_one_segment_of_a_gso_frame_is_none(length, is_gso):
    frame = ethernet(IP(src="10.0.0.1", dst="10.0.0.2") / TCP() / bytes(300))
    whole = parse(vnet_header(12, NEEDS_CSUM, GSO_TCPV4, 100) + with_partial_checksum(frame), 12)
    part = made(whole, "make_part", 50, 50 + length).packet
    assert (part.gso_type, part.gso_size) == ((GSO_TCPV4, 100) if is_gso else (0, 0))


@pytest.mark.parametrize(("first", "flags", "pointer"), [(0, URG, 3), (2, URG, 1), (3, URG, 0), (4, 0, 0)])
def test_urgent_data_behind_and_before_the_cut(first, flags, pointer):
    frame = ethernet(IP(src="10.0.0.1", dst="10.0.0.2") / TCP(flags="UA", urgptr=3) / b"payload")
    part = made(parse(frame), "make_part", first, 7)
    assert part.packet.flags & URG == flags
    assert urgent_pointer(part) == pointer


@given(cut_frame=cut_frames())
def test_the_urgent_pointer_of_every_part_points_at_the_same_byte(cut_frame):
    """RFC 9293 section 3.1: it counts from the segment's own sequence number."""
    framed, cuts = cut_frame
    whole = parsed_tcp(framed)
    pointer = urgent_pointer(whole)
    for first, last in pairwise(cuts):
        part = made(whole, "make_part", first, last)
        if not whole.packet.flags & URG:
            assert urgent_pointer(part) == pointer
        elif pointer >= first:
            assert part.packet.flags & URG
            assert urgent_pointer(part) == pointer - first
        else:
            assert not part.packet.flags & URG
            assert urgent_pointer(part) == 0


def urgent_pointer(parsed):
    return segment(parsed.octets[parsed.packet.vnet_len :]).tcp.urgptr


def test_the_whole_as_its_only_part_is_the_same_frame():
    frame = ethernet(IP(src="10.0.0.1", dst="10.0.0.2") / TCP(flags="FPA", seq=2**32 - 2) / b"payload", (7, 9))
    whole = parse(frame)
    assert made(whole, "make_part", 0, 7).octets == frame


def test_a_part_may_be_written_into_another_range_of_the_same_buffer():
    frame = ethernet(IP(src="10.0.0.1", dst="10.0.0.2") / TCP(seq=5) / b"payload")
    buf = bytearray(frame + bytes(100))
    packet = core.Packet()
    core.parse_frame(buf, 0, len(frame), 0, packet)
    length = core.make_part(buf, len(frame), buf, packet, 3, 7)
    assert buf[: len(frame)] == frame
    part = bytes(buf[len(frame) : len(frame) + length])
    assert is_valid(part)
    assert part.endswith(b"load")


@pytest.mark.parametrize("at", [ROOM - 10, ROOM + 1, -1])
@pytest.mark.parametrize(("function", "arguments"), [("make_part", (0, 7)), ("make_bare", (ACK, 1, 2, 3))])
def test_a_target_that_is_too_small_is_refused(at, function, arguments):
    frame = ethernet(IP(src="10.0.0.1", dst="10.0.0.2") / TCP() / b"payload")
    whole = parse(frame)
    with pytest.raises(IndexError):
        getattr(core, function)(bytearray(ROOM), at, whole.buf, whole.packet, *arguments)


# ── segments without payload ────────────────────────────────────────────────────────────────────────────────


@given(framed=tcp_frames_with_vnet(), flags=U8, seq=SEQ, ack=SEQ, window=U16)
def test_a_bare_segment(framed, flags, seq, ack, window):
    whole = parsed_tcp(framed)
    before = bytes(whole.buf)
    bare = made(whole, "make_bare", flags, seq, ack, window)
    packet = bare.packet
    assert whole.buf == before
    assert is_valid(bare.octets[packet.vnet_len :])
    assert (packet.seq, packet.ack, packet.flags, packet.window) == (seq, ack, flags, window)
    assert packet.payload_len == 0
    assert bare.end == packet.ip_end == packet.payload_pos
    assert bare.octets[: packet.vnet_len] == bytes(packet.vnet_len)
    for name in ("ip_version", "vlan", "source_port", "destination_port"):
        assert getattr(packet, name) == getattr(whole.packet, name)
    for end in ("source", "destination"):
        for word in range(4):
            assert getattr(packet, f"{end}{word}") == getattr(whole.packet, f"{end}{word}")
    assert urgent_pointer(bare) == 0


@given(framed=tcp_frames_with_vnet())
def test_of_the_options_a_bare_segment_has_only_the_timestamps(framed):
    whole = parsed_tcp(framed)
    bare = made(whole, "make_bare", ACK, 1, 2, 3)
    octets, vnet_len = framed
    stamps = [option for option in segment(octets[vnet_len:]).tcp.options if option[0] == "Timestamp"]
    options = segment(bare.octets[vnet_len:]).tcp.options
    assert [option for option in options if option[0] != "NOP"] == stamps


@given(ip=IPV4_LAYER, payload=PAYLOAD, tags=TAGS)
def test_headers_below_tcp_stay_in_a_bare_segment(ip, payload, tags):
    frame = ethernet(ip.copy() / TCP() / payload, tags)
    bare = made(parse(vnet_header(10) + frame, 10), "make_bare", ACK, 1, 2, 3)
    old, new = Ether(frame), Ether(bare.octets[10:])
    assert frame[: 14 + 4 * len(tags)] == bare.octets[10 : 24 + 4 * len(tags)]
    for name in ("tos", "id", "flags", "ttl", "options", "ihl"):
        assert new[IP].getfieldval(name) == old[IP].getfieldval(name)


def test_syn_is_used():
    """A SYN|ACK may be made bare too: it keeps its place in the sequence space."""
    frame = ethernet(IP(src="10.0.0.1", dst="10.0.0.2") / TCP(flags="SA", options=[("MSS", 1460)]))
    bare = made(parse(frame), "make_bare", SYN | ACK, 7, 8, 9)
    assert bare.packet.flags == SYN | ACK
    assert bare.packet.mss == 0
