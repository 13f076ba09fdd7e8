"""The parser agrees with scapy field by field, says why it refuses, and has an answer to any bytes."""

import struct

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import (
    ICMPv6DestUnreach,
    ICMPv6EchoReply,
    ICMPv6EchoRequest,
    ICMPv6MLDMultAddrRec,
    ICMPv6MLDone,
    ICMPv6MLQuery,
    ICMPv6MLReport,
    ICMPv6MLReport2,
    ICMPv6ND_NA,
    ICMPv6ND_NS,
    ICMPv6ND_RA,
    ICMPv6ND_Redirect,
    ICMPv6ND_RS,
    IPv6,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrFragment,
    IPv6ExtHdrHopByHop,
)
from scapy.layers.l2 import ARP, Ether
from scapy.packet import Raw

from pycolo import core
from pycolo.wire.kinds import PacketKind, Refusal
from support.frames import ethernet, parse, segment, vnet_header
from support.strategies import (
    FRAMES,
    IP_LAYER,
    IPV4_ADDRESS,
    IPV4_FRAGMENTS,
    IPV4_LAYER,
    IPV6_ADDRESS,
    IPV6_LAYER,
    PAYLOAD,
    TAGS,
    TCP_FRAMES,
    TRAILER,
    U8,
    U16,
    U32,
    UDP_FRAMES,
    damaged,
    tcp_frames_with_vnet,
)

ETH_LEN = 14
TAG_LEN = 4


POSITIONS = ("frame_pos", "ip_pos", "l4_pos", "payload_pos", "ip_end", "end", "timestamp_pos", "sack_pos")


def found(parsed, shift=0):
    """Everything that a packet of this kind says; positions from the frame's first byte, and `shift` bytes on."""
    names = ["kind", "refusal", "vnet_len", "vlan", "frame_pos", "end"]
    if parsed.kind not in (PacketKind.REFUSED, PacketKind.PASS):
        names += ["ip_version", "ip_proto", "ip_pos", "l4_pos", "ip_end", "payload_pos", "payload_len"]
        names += [f"{end}{word}" for end in ("source", "destination") for word in range(4)]
        names += ["source_port", "destination_port"]
    if parsed.kind == PacketKind.TCP:
        names += ["seq", "ack", "flags", "window", "mss", "window_scale", "sack_permitted"]
        names += ["timestamp_pos", "sack_pos", "sack_len"]
    if parsed.kind == PacketKind.FRAGMENT:
        names += ["fragment_offset", "fragment_id", "more_fragments"]
    values = {name: getattr(parsed.packet, name) for name in names}
    # A position of 0 says that the option is not there.
    return {
        name: value - parsed.start + shift if name in POSITIONS and value else value for name, value in values.items()
    }


def words(address_octets):
    padded = struct.unpack(f">{len(address_octets) // 4}I", address_octets)
    return (*padded, 0, 0, 0)[:4]


def tags_number(tags):
    """Each tag's identifier with a mark that it is there, outermost first."""
    number = 0
    for tag in tags:
        number = number << 13 | 0x1000 | (tag & 0xFFF)
    return number


# ── agreement with scapy ────────────────────────────────────────────────────────────────────────────────────


def assert_ip_agrees(parsed, frame):
    layers = Ether(frame)
    ip = layers[IP] if IP in layers else layers[IPv6]
    packet = parsed.packet
    ip_pos = len(frame) - len(ip.original)
    assert packet.ip_pos - packet.frame_pos == ip_pos
    assert packet.ip_version == ip.version
    addresses = ip.original[12:20] if ip.version == 4 else ip.original[8:40]
    half = len(addresses) // 2
    assert tuple(getattr(packet, f"source{i}") for i in range(4)) == words(addresses[:half])
    assert tuple(getattr(packet, f"destination{i}") for i in range(4)) == words(addresses[half:])
    assert packet.ip_end - packet.ip_pos == (ip.len if ip.version == 4 else 40 + ip.plen)
    return layers, ip_pos


def transport_pos(layers, kind, parsed):
    """Where scapy found the transport header, from the frame's first byte."""
    return parsed.packet.ip_end - parsed.packet.frame_pos - len(layers[kind].original)


@given(frame=TCP_FRAMES)
def test_tcp_agrees_with_scapy(frame):
    parsed = parse(frame)
    packet = parsed.packet
    assert parsed.kind == PacketKind.TCP
    layers, _ = assert_ip_agrees(parsed, frame)
    tcp, tcp_pos = layers[TCP], transport_pos(layers, TCP, parsed)
    assert packet.ip_proto == 6
    assert packet.l4_pos - packet.frame_pos == tcp_pos
    assert (packet.source_port, packet.destination_port) == (tcp.sport, tcp.dport)
    assert (packet.seq, packet.ack, packet.window) == (tcp.seq, tcp.ack, tcp.window)
    assert packet.flags == int(tcp.flags) & 0xFF
    assert packet.payload_pos - packet.l4_pos == tcp.dataofs * 4
    assert parsed.payload == frame[tcp_pos + tcp.dataofs * 4 : packet.ip_end - packet.frame_pos]


@given(frame=TCP_FRAMES)
def test_tcp_options_agree_with_scapy(frame):
    parsed = parse(frame)
    packet, options = parsed.packet, dict(segment(frame).tcp.options)
    assert packet.mss == options.get("MSS", 0)
    # RFC 7323 section 2.3: more than 14 counts as 14.
    assert packet.window_scale == min(options.get("WScale", -1), 14)
    assert packet.sack_permitted == ("SAckOK" in options)
    assert (packet.timestamp_pos != 0) == ("Timestamp" in options)
    if "Timestamp" in options:
        assert struct.unpack_from(">II", parsed.buf, packet.timestamp_pos) == options["Timestamp"]
    edges = options.get("SAck", ())
    assert packet.sack_len == 4 * len(edges)
    assert struct.unpack_from(f">{len(edges)}I", parsed.buf, packet.sack_pos) == tuple(edges)


@given(frame=UDP_FRAMES)
def test_udp_agrees_with_scapy(frame):
    parsed = parse(frame)
    packet = parsed.packet
    assert parsed.kind == PacketKind.UDP
    layers, _ = assert_ip_agrees(parsed, frame)
    udp, udp_pos = layers[UDP], transport_pos(layers, UDP, parsed)
    assert packet.l4_pos - packet.frame_pos == udp_pos
    assert (packet.source_port, packet.destination_port) == (udp.sport, udp.dport)
    assert parsed.payload == frame[udp_pos + 8 : udp_pos + udp.len]


@given(payload=PAYLOAD, more=st.binary(max_size=20))
def test_udp_ends_where_its_own_length_says(payload, more):
    """Not where IP does (RFC 768): what is in between is not read."""
    udp = UDP(sport=1, dport=2, len=8 + len(payload))
    parsed = parse(ethernet(IP(dst="10.0.0.1") / udp / (payload + more)))
    assert parsed.kind == PacketKind.UDP
    assert parsed.payload == payload


@given(payload=PAYLOAD)
def test_udp_of_length_0_ends_where_ip_does(payload):
    """RFC 2675 section 4, and GSO frames."""
    parsed = parse(ethernet(IPv6(dst="fe80::1") / UDP(len=0) / payload))
    assert parsed.payload == payload


@given(ip=IP_LAYER, payload=PAYLOAD, tags=TAGS, trailer=TRAILER)
def test_echo_requests_are_datagrams_with_their_header(ip, payload, tags, trailer):
    kind = ICMP if isinstance(ip, IP) else ICMPv6EchoRequest
    frame = ethernet(ip.copy() / kind() / payload, tags) + trailer
    parsed = parse(frame)
    assert parsed.kind == PacketKind.ICMP
    layers, _ = assert_ip_agrees(parsed, frame)
    assert parsed.payload == layers[kind].original
    assert (parsed.packet.source_port, parsed.packet.destination_port) == (0, 0)


@given(frame=FRAMES, tags=TAGS)
def test_vlan_tags_name_the_network_and_change_nothing_else(frame, tags):
    untagged = frame[:12] + frame[ip_start(frame) - 2 :]
    layers = Ether(untagged)
    tagged = ethernet(layers.payload.original, tags, layers.type)
    plain, found_tagged = parse(untagged), parse(tagged)
    assert plain.packet.vlan == 0
    assert found_tagged.packet.vlan == tags_number(tags)
    # The tags stand between the frame's first byte and everything else.
    expected = found(plain, TAG_LEN * len(tags)) | {"frame_pos": 0, "vlan": tags_number(tags)}
    assert found(found_tagged) == expected


def ip_start(frame):
    """Where IP begins in an Ethernet frame."""
    layers = Ether(frame)
    return len(frame) - len((layers[IP] if IP in layers else layers[IPv6]).original)


# ── what passes ─────────────────────────────────────────────────────────────────────────────────────────────


@given(tags=TAGS)
def test_arp_passes(tags):
    frame = ethernet(ARP(psrc="10.0.0.1", pdst="10.0.0.2"), tags)
    assert parse(frame).kind == PacketKind.PASS


@given(ethertype=U16.filter(lambda number: number not in (0x0800, 0x86DD, 0x8100, 0x88A8)), payload=PAYLOAD, tags=TAGS)
def test_what_is_not_ip_passes(ethertype, payload, tags):
    """802.3 lengths and a tag that is no VLAN's too."""
    assert parse(ethernet(payload, tags, ethertype)).kind == PacketKind.PASS


@given(ip=IP_LAYER, ethertype=st.sampled_from([0x8100, 0x88A8]))
def test_a_third_vlan_tag_passes(ip, ethertype):
    three = b"".join(struct.pack(">HH", ethertype, tag) for tag in (1, 2, 3))
    frame = ethernet(ip.copy() / TCP())
    assert parse(frame[:12] + three + frame[12:]).kind == PacketKind.PASS


@pytest.mark.parametrize(
    "message",
    [
        ICMPv6MLQuery(),
        ICMPv6MLReport(),
        ICMPv6MLDone(),
        ICMPv6ND_RS(),
        ICMPv6ND_RA(),
        ICMPv6ND_NS(tgt="fe80::1"),
        ICMPv6ND_NA(tgt="fe80::1"),
        ICMPv6ND_Redirect(),
        ICMPv6MLReport2(records=[ICMPv6MLDMultAddrRec(dst="ff02::1:3")]),
    ],
    ids=lambda message: type(message).__name__,
)
def test_neighbour_discovery_and_multicast_membership_pass(message):
    ip = IPv6(src="fe80::2", dst="ff02::1")
    assert parse(ethernet(ip / message)).kind == PacketKind.PASS
    # MLD has a router alert before it (RFC 3810 section 5).
    assert parse(ethernet(ip / IPv6ExtHdrHopByHop() / message)).kind == PacketKind.PASS


@pytest.mark.parametrize("message", [ICMPv6EchoRequest(), ICMPv6EchoReply(), ICMPv6DestUnreach()])
def test_other_icmpv6_is_compared(message):
    assert parse(ethernet(IPv6(dst="fe80::1") / message)).kind == PacketKind.ICMP


def test_igmp_passes():
    assert parse(ethernet(IP(dst="224.0.0.1", proto=2) / bytes(8))).kind == PacketKind.PASS


@pytest.mark.parametrize(
    ("ip", "proto"), [(IPv6(dst="fe80::1"), 1), (IPv6(dst="fe80::1"), 2), (IP(dst="10.0.0.1"), 58)]
)
def test_the_other_ip_versions_icmp_is_nothing_special(ip, proto):
    ip = ip.copy()
    ip.setfieldval("nh" if isinstance(ip, IPv6) else "proto", proto)
    assert parse(ethernet(ip / Raw(bytes([135]) * 8))).kind == PacketKind.OTHER


# ── other protocols, fragments ──────────────────────────────────────────────────────────────────────────────

WITH_PORTS = {33: 0, 50: 0, 132: 0, 136: 0, 51: 4}
"""DCCP, ESP, SCTP, UDP-Lite, AH: where the two words begin that the connection key takes for ports."""

NAMED = {0, 1, 2, 6, 17, 43, 44, 58, 60}


@st.composite
def ip_over(draw, proto):
    """An IP header, with extension headers perhaps, that says `proto` comes next."""
    ip = draw(IP_LAYER).copy()
    ip.lastlayer().setfieldval("proto" if isinstance(ip, IP) else "nh", proto)
    return ip


OTHER_PROTO = st.sampled_from(sorted(WITH_PORTS)) | U8.filter(lambda number: number not in NAMED)


@given(proto=OTHER_PROTO, payload=PAYLOAD, trailer=TRAILER, data=st.data())
def test_any_other_protocol_is_a_datagram(proto, payload, trailer, data):
    frame = ethernet(data.draw(ip_over(proto)) / Raw(payload)) + trailer
    parsed = parse(frame)
    assert parsed.kind == PacketKind.OTHER
    assert parsed.packet.ip_proto == proto
    assert parsed.payload == payload
    pos = WITH_PORTS.get(proto)
    expected = (0, 0) if pos is None or len(payload) < pos + 4 else struct.unpack_from(">HH", payload, pos)
    assert (parsed.packet.source_port, parsed.packet.destination_port) == expected


@pytest.mark.parametrize("proto", WITH_PORTS)
@given(payload=st.binary(min_size=12, max_size=40), data=st.data())
def test_ports_of_protocols_that_have_their_like(proto, payload, data):
    parsed = parse(ethernet(data.draw(ip_over(proto)) / Raw(payload)))
    ports = struct.unpack_from(">HH", payload, WITH_PORTS[proto])
    assert (parsed.packet.source_port, parsed.packet.destination_port) == ports


FRAGMENT_PLACE = st.tuples(st.integers(0, 0x1FFF), st.booleans()).filter(lambda place: place != (0, False))


@given(ip=IPV4_LAYER, number=U16, place=FRAGMENT_PLACE, proto=U8, payload=PAYLOAD, tags=TAGS)
def test_ipv4_fragments(ip, number, place, proto, payload, tags):
    ip = ip.copy()
    ip.id, ip.frag, ip.flags, ip.proto = number, place[0], int(place[1]), proto
    assert_is_fragment(parse(ethernet(ip / Raw(payload), tags)), number, place, proto, payload)


@given(ip=IPV6_LAYER, number=U32, place=FRAGMENT_PLACE, proto=U8, payload=PAYLOAD, tags=TAGS)
def test_ipv6_fragments(ip, number, place, proto, payload, tags):
    """Behind other extension headers; what the fragment itself holds is not looked at, not even headers."""
    header = IPv6ExtHdrFragment(id=number, offset=place[0], m=int(place[1]), nh=proto)
    frame = ethernet(ip.copy() / header / Raw(payload), tags)
    assert_is_fragment(parse(frame), number, place, proto, payload)


def assert_is_fragment(parsed, number, place, proto, payload):
    packet = parsed.packet
    assert parsed.kind == PacketKind.FRAGMENT
    assert (packet.fragment_offset, packet.more_fragments) == (place[0] * 8, place[1])
    assert packet.fragment_id == number
    assert packet.ip_proto == proto
    assert (packet.source_port, packet.destination_port) == (0, 0)
    assert parsed.payload == payload


# ── vnet headers ────────────────────────────────────────────────────────────────────────────────────────────


@given(framed=tcp_frames_with_vnet())
def test_a_vnet_header_changes_nothing_about_the_packet(framed):
    octets, vnet_len = framed
    with_header, without = parse(octets, vnet_len), parse(octets[vnet_len:])
    assert with_header.payload == without.payload
    assert found(with_header) == found(without, vnet_len) | {"vnet_len": vnet_len}


@given(size=st.sampled_from([10, 12]), flags=U8, gso_type=U8, gso_size=U16, frame=FRAMES)
def test_the_fields_of_a_vnet_header(size, flags, gso_type, gso_size, frame):
    packet = parse(vnet_header(size, flags, gso_type, gso_size) + frame, size).packet
    assert (packet.vnet_flags, packet.gso_type, packet.gso_size) == (flags, gso_type, gso_size)


def test_without_a_vnet_header_nothing_of_an_earlier_one_is_left():
    frame, header = ethernet(IP(dst="10.0.0.1") / TCP()), vnet_header(12, 1, 1, 1448)
    packet = core.Packet()
    core.parse_frame(bytearray(header + frame), 0, 12 + len(frame), 12, packet)
    core.parse_frame(bytearray(frame), 0, len(frame), 0, packet)
    assert (packet.vnet_flags, packet.gso_type) == (0, 0)


@pytest.mark.parametrize("ip", [IP(dst="10.0.0.1"), IPv6(dst="fe80::1")], ids=["ipv4", "ipv6"])
@pytest.mark.parametrize("size", [10, 12])
def test_a_gso_frame_with_length_0_reaches_to_its_end(ip, size):
    """A segment of more than 64 KiB with headers; the field has no room for that."""
    payload = bytes(range(256)) * 255
    frame = bytearray(ethernet(ip / TCP() / payload))
    at = ETH_LEN + (2 if ip.version == 4 else 4)
    frame[at : at + 2] = b"\0\0"
    parsed = parse(vnet_header(size, 1, 1 if ip.version == 4 else 4, 1448) + frame, size)
    assert parsed.kind == PacketKind.TCP
    assert parsed.payload == payload
    not_gso = parse(vnet_header(size) + frame, size)
    assert not_gso.kind == PacketKind.REFUSED if ip.version == 4 else not_gso.packet.payload_len == 0


# ── refusals ────────────────────────────────────────────────────────────────────────────────────────────────


def refusal(frame, vnet_len=0):
    parsed = parse(bytes(frame), vnet_len)
    assert (parsed.kind == PacketKind.REFUSED) == (parsed.packet.refusal != Refusal.NONE)
    return parsed.packet.refusal


def changed(frame, at, *octets):
    frame = bytearray(frame)
    frame[at : at + len(octets)] = octets
    return frame


IPV4_TCP = ethernet(IP(src="10.0.0.1", dst="10.0.0.2") / TCP() / b"payload")
IPV4_UDP = ethernet(IP(src="10.0.0.1", dst="10.0.0.2") / UDP() / b"payload")
IPV6_TCP = ethernet(IPv6(src="fe80::1", dst="fe80::2") / TCP() / b"payload")
IPV4_END = ETH_LEN + 20
IPV6_END = ETH_LEN + 40


@pytest.mark.parametrize(
    ("frame", "expected"),
    [
        (b"", Refusal.SHORT),
        (bytes(13), Refusal.SHORT),
        (changed(IPV4_TCP, 12, 0x81, 0x00)[:17], Refusal.SHORT),  # a tag without the type behind it
        (changed(IPV4_TCP, ETH_LEN, 0x55), Refusal.IP_HEADER),  # version 5
        (changed(IPV4_TCP, ETH_LEN, 0x44), Refusal.IP_HEADER),  # a header of 16 bytes
        (changed(IPV4_TCP[:40], ETH_LEN, 0x4F), Refusal.IP_HEADER),  # a header of 60 bytes in 26
        (changed(IPV4_TCP, ETH_LEN + 2, 0xFF, 0xFF), Refusal.IP_LENGTH),
        (changed(IPV4_TCP, ETH_LEN + 2, 0, 19), Refusal.IP_LENGTH),  # ends in its own header
        (changed(IPV4_TCP, ETH_LEN + 2, 0, 0), Refusal.IP_LENGTH),  # and is no GSO frame
        (changed(IPV4_TCP, ETH_LEN + 2, 0, 39), Refusal.TRANSPORT_HEADER),
        (changed(IPV4_TCP, IPV4_END + 12, 0x40), Refusal.TRANSPORT_HEADER),  # a header of 16 bytes
        (changed(IPV4_TCP, IPV4_END + 12, 0xF0), Refusal.TRANSPORT_HEADER),  # of 60 in 27
        (changed(IPV4_UDP, ETH_LEN + 2, 0, 27), Refusal.TRANSPORT_HEADER),
        (changed(IPV4_UDP, IPV4_END + 4, 0, 7), Refusal.TRANSPORT_HEADER),
        (changed(IPV4_UDP, IPV4_END + 4, 0, 16), Refusal.TRANSPORT_HEADER),
        (changed(IPV4_UDP + bytes(8), IPV4_END + 4, 0, 16), Refusal.TRANSPORT_HEADER),  # ends in Ethernet's padding
        (changed(IPV6_TCP, ETH_LEN, 0x45), Refusal.IP_HEADER),
        (IPV6_TCP[: IPV6_END - 1], Refusal.IP_HEADER),
        (changed(IPV6_TCP, ETH_LEN + 4, 0xFF, 0xFF), Refusal.IP_LENGTH),
        (changed(IPV6_TCP, ETH_LEN + 4, 0, 19), Refusal.TRANSPORT_HEADER),
        (changed(IPV6_TCP, ETH_LEN + 6, 60, *[0] * 33, 6, 200), Refusal.IP_HEADER),  # options beyond the end
        (changed(IPV6_TCP, ETH_LEN + 4, 0, 7, 60), Refusal.IP_HEADER),  # less than an extension header
        (changed(IPV6_TCP, ETH_LEN + 4, 0, 7, 44), Refusal.IP_HEADER),
        (changed(IPV6_TCP, ETH_LEN + 4, 0, 0, 0), Refusal.IP_HEADER),  # a jumbogram (RFC 2675)
    ],
)
def test_why_a_frame_is_refused(frame, expected):
    assert refusal(frame) == expected


@pytest.mark.parametrize("vnet_len", [10, 12])
def test_a_frame_shorter_than_its_vnet_header_and_ethernet_is_short(vnet_len):
    for length in range(vnet_len + ETH_LEN):
        assert refusal(bytes(length), vnet_len) == Refusal.SHORT


@pytest.mark.parametrize(("headers", "is_refused"), [(7, False), (8, False), (9, True), (40, True)])
def test_extension_headers_have_a_bound(headers, is_refused):
    ip = IPv6(src="fe80::1", dst="fe80::2")
    for _ in range(headers):
        ip /= IPv6ExtHdrDestOpt()
    assert refusal(ethernet(ip / TCP())) == (Refusal.IP_HEADER if is_refused else Refusal.NONE)


def raw_option(kind, octets, length_error=0):
    return bytes([kind, (len(octets) + 2 + length_error) % 256]) + octets


KNOWN_KIND = st.sampled_from([2, 3, 4, 5, 8])
RAW_OPTION = st.one_of(
    st.just(b"\1"),
    st.builds(raw_option, st.just(2), st.binary(min_size=2, max_size=2)),
    st.builds(raw_option, st.just(3), st.binary(min_size=1, max_size=1)),
    st.builds(raw_option, st.just(4), st.just(b"")),
    st.builds(raw_option, st.just(5), st.binary(min_size=8, max_size=24)),
    st.builds(raw_option, st.just(8), st.binary(min_size=8, max_size=8)),
    st.builds(raw_option, KNOWN_KIND, st.binary(max_size=4)),
    st.builds(raw_option, KNOWN_KIND, st.binary(max_size=18), st.integers(-3, 3)),
    st.builds(raw_option, U8, st.binary(max_size=6), st.integers(-3, 3)),
    st.just(b"\0"),
)


def options_of(header):
    """{kind: (position in the header, value)} of RFC 9293 section 3.1, up to the end or to what cannot be."""
    found_options, pos = {}, 20
    while pos < len(header) and header[pos] != 0:
        if header[pos] == 1:
            pos += 1
            continue
        kind, length = header[pos], header[pos + 1] if pos + 1 < len(header) else 0
        if length < 2 or pos + length > len(header):
            break
        is_right = {2: length == 4, 3: length == 3, 4: length == 2, 5: length >= 10, 8: length == 10}
        if is_right.get(kind):
            found_options[kind] = pos + 2, header[pos + 2 : pos + length]
        pos += length
    return found_options


@given(options=st.lists(RAW_OPTION, max_size=8).map(b"".join), header_words=st.integers(0, 10))
def test_options_that_cannot_be_end_the_list_and_never_the_packet(options, header_words):
    """A stack that took the segment must not be cut off from it. What does not fit in the header is payload."""
    in_header = options[: 4 * header_words].ljust(4 * header_words, b"\1")
    payload = options[4 * header_words :] + b"payload"
    tcp = TCP(dataofs=5 + header_words) / (in_header + payload)
    parsed = parse(ethernet(IP(src="10.0.0.1", dst="10.0.0.2") / tcp))
    packet = parsed.packet
    assert parsed.kind == PacketKind.TCP
    assert parsed.payload == payload
    expected = options_of(bytes(parsed.buf[packet.l4_pos : packet.payload_pos]))
    nowhere = (-packet.l4_pos, b"")
    assert packet.mss == int.from_bytes(expected.get(2, nowhere)[1], "big")
    assert packet.window_scale == (min(expected[3][1][0], 14) if 3 in expected else -1)
    assert packet.sack_permitted == (4 in expected)
    assert packet.sack_pos == packet.l4_pos + expected.get(5, nowhere)[0]
    assert packet.sack_len == len(expected.get(5, nowhere)[1]) // 8 * 8
    assert packet.timestamp_pos == packet.l4_pos + expected.get(8, nowhere)[0]


@pytest.mark.parametrize("kind", [2, 3, 4, 5, 8, 99])
def test_an_option_without_its_length_at_the_end_of_the_buffer(kind):
    frame = ethernet(IP(src="10.0.0.1", dst="10.0.0.2") / TCP(dataofs=6) / bytes([1, 1, 1, kind]))
    parsed = parse(frame, after=b"")
    assert parsed.kind == PacketKind.TCP
    assert parsed.packet.payload_pos == parsed.end == len(parsed.buf)


# ── totality ────────────────────────────────────────────────────────────────────────────────────────────────


def assert_positions_are_inside(parsed):
    packet = parsed.packet
    if parsed.kind == PacketKind.REFUSED:
        assert packet.refusal != Refusal.NONE
        return
    assert packet.refusal == Refusal.NONE
    assert parsed.start <= packet.frame_pos <= parsed.end == packet.end
    if parsed.kind == PacketKind.PASS:
        return
    assert packet.frame_pos + ETH_LEN <= packet.ip_pos < packet.l4_pos <= packet.payload_pos
    assert packet.payload_len >= 0
    assert packet.payload_pos + packet.payload_len <= packet.ip_end <= packet.end
    if parsed.kind == PacketKind.TCP:
        assert packet.payload_pos + packet.payload_len == packet.ip_end
        options = range(packet.l4_pos + 20, packet.payload_pos)
        if packet.timestamp_pos:
            assert packet.timestamp_pos in options
            assert packet.timestamp_pos + 8 <= packet.payload_pos
        if packet.sack_pos:
            assert packet.sack_pos in options
            assert packet.sack_pos + packet.sack_len <= packet.payload_pos
            assert packet.sack_len % 8 == 0


ANY_BYTES = st.binary(max_size=120) | st.builds(
    # An Ethernet header that leads into the IP parsers.
    lambda ethertype, octets: bytes(12) + ethertype + octets,
    st.sampled_from([b"\x08\x00", b"\x86\xdd", b"\x81\x00\0\1\x08\x00", b"\x88\xa8\0\1\x81\x00\0\2\x86\xdd"]),
    st.binary(max_size=120),
)


@given(octets=ANY_BYTES | damaged(), vnet_len=st.sampled_from([0, 10, 12]))
def test_any_bytes_are_a_packet_or_a_refusal(octets, vnet_len):
    parsed = parse(octets, vnet_len)
    assert parsed.kind in list(PacketKind)
    assert_positions_are_inside(parsed)


@given(octets=ANY_BYTES | damaged(), vnet_len=st.sampled_from([0, 10, 12]), around=st.binary(max_size=90))
def test_bytes_outside_the_frame_have_no_influence(octets, vnet_len, around):
    """No byte behind the end of a frame, the next one of the batch perhaps, is ever taken for a part of it."""
    alone = parse(octets, vnet_len, before=b"", after=b"")
    assert found(alone) == found(parse(octets, vnet_len, before=around, after=around))
    assert bytes(alone.buf) == octets


@given(frame=FRAMES, vnet_len=st.sampled_from([0, 10, 12]))
def test_every_truncation_of_a_valid_frame_is_refused(frame, vnet_len):
    """Up to where IP ends; what Ethernet appended may be missing."""
    octets = vnet_header(vnet_len) + frame
    whole = parse(octets, vnet_len)
    ip_end = whole.packet.ip_end - whole.start
    for length in range(len(octets)):
        parsed = parse(octets[:length], vnet_len)
        assert_positions_are_inside(parsed)
        assert (parsed.kind == PacketKind.REFUSED) == (length < ip_end)
        assert parsed.kind in (PacketKind.REFUSED, whole.kind)


@given(frame=FRAMES, cut=st.integers(1, 400))
def test_a_frame_that_ends_beyond_the_buffer_is_a_bug_of_the_caller_not_a_read_outside(frame, cut):
    assume(cut <= len(frame))
    buf = bytearray(frame[:-cut])
    try:
        kind = core.parse_frame(buf, 0, len(frame), 0, core.Packet())
    except IndexError:
        return
    assert kind in list(PacketKind)


@given(source=IPV4_ADDRESS, other=IPV6_ADDRESS, frames=st.lists(FRAMES | IPV4_FRAGMENTS | damaged(), max_size=4))
def test_a_packet_object_is_as_good_as_new(source, other, frames):
    """It is filled again and again: what one frame left must not show in the next one's fields."""
    used = core.Packet()
    frames += [ethernet(IP(src=source) / TCP()), ethernet(IPv6(src=other) / UDP()), ethernet(IP(src=source) / UDP())]
    for frame in frames:
        fresh = parse(frame)
        core.parse_frame(fresh.buf, fresh.start, fresh.end, 0, used)
        again = parse(frame)
        again.packet = used
        assert found(again) == found(fresh)
