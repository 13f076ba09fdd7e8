"""Frames written by hand: thousands of times faster than scapy, for tests that need many.

`Tcp` is a segment as the tests speak of it; `frame` makes an Ethernet frame of one, `read` the reverse.
Checksums are complete and right unless a vnet header says NEEDS_CSUM. scapy stays the oracle: `frames.is_valid`.
"""

import itertools
import struct
from dataclasses import dataclass
from functools import cached_property

FIN, SYN, RST, PSH, ACK = 1, 2, 4, 8, 16
NEEDS_CSUM = 1
GSO_TCPV4, GSO_TCPV6, GSO_UDP_L4 = 1, 4, 5
SEQ_MASK = 0xFFFFFFFF

_LETTERS = {"F": FIN, "S": SYN, "R": RST, "P": PSH, "A": ACK}

GUEST_MAC, CLIENT_MAC = b"\x02\0\0\0\0\x01", b"\x02\0\0\0\0\x02"
GUEST4, CLIENT4 = bytes([10, 0, 0, 2]), bytes([10, 0, 0, 1])
GUEST6, CLIENT6 = b"\xfd" + bytes(14) + b"\x02", b"\xfd" + bytes(14) + b"\x01"


@dataclass(frozen=True)
class Flow:
    """Who talks to whom: `guest_port` of the guest, `client_port` of the client; IPv4 or IPv6, VLAN tags."""

    guest_port: int = 80
    client_port: int = 5000
    version: int = 4
    tags: tuple[int, ...] = ()


FLOW = Flow()


@dataclass(frozen=True)
class Tcp:
    """One segment. `options`: bytes, padded by `frame`; sequence numbers are reduced mod 2^32."""

    seq: int
    flags: str = "A"
    data: bytes = b""
    ack: int = 0
    window: int = 1000
    options: bytes = b""
    flow: Flow = FLOW
    from_client: bool = False

    @cached_property
    def end(self) -> int:
        """The sequence number behind it."""
        return (self.seq + len(self.data) + ("S" in self.flags) + ("F" in self.flags)) & SEQ_MASK

    @cached_property
    def edge(self) -> int:
        """The right edge of its window where nothing is scaled."""
        return (self.ack + self.window) & SEQ_MASK


# ── options ─────────────────────────────────────────────────────────────────────────────────────────────────


def mss(value: int) -> bytes:
    return struct.pack(">BBH", 2, 4, value)


def scale(shift: int) -> bytes:
    return struct.pack(">BBBB", 1, 3, 3, shift)


SACK_PERMITTED = b"\x04\x02"


def timestamps(value: int, echo: int = 0) -> bytes:
    return struct.pack(">BBBBII", 1, 1, 8, 10, value & SEQ_MASK, echo & SEQ_MASK)


def sack(*edges: int) -> bytes:
    return struct.pack(f">BBBB{len(edges)}I", 1, 1, 5, 2 + 4 * len(edges), *(edge & SEQ_MASK for edge in edges))


# ── frames ──────────────────────────────────────────────────────────────────────────────────────────────────


def ones_sum(octets: bytes) -> int:
    total = int.from_bytes(octets + b"\0" * (len(octets) % 2), "big")
    return total % 0xFFFF or (0xFFFF if total else 0)


def _ip(flow: Flow, proto: int, body: bytes, from_client: bool, fragment: tuple[int, int] = (0, 0)) -> bytes:
    identification, word = fragment
    if flow.version == 6:
        header = struct.pack(">IHBB", 6 << 28, len(body), proto, 64)
        return header + (CLIENT6 + GUEST6 if from_client else GUEST6 + CLIENT6) + body
    addresses = CLIENT4 + GUEST4 if from_client else GUEST4 + CLIENT4
    total = 20 + len(body)
    header = struct.pack(">BBHHHBBH", 0x45, 0, total & 0xFFFF, identification, word or 0x4000, 64, proto, 0) + addresses
    checksum = 0xFFFF - ones_sum(header)
    return header[:10] + struct.pack(">H", checksum) + header[12:] + body


def _pseudo(flow: Flow, proto: int, length: int) -> bytes:
    # The sum does not mind the order of the two addresses.
    if flow.version == 6:
        return GUEST6 + CLIENT6 + struct.pack(">IHBB", length, 0, 0, proto)
    return GUEST4 + CLIENT4 + struct.pack(">BBH", 0, proto, length)


def _ethernet(flow: Flow, packet: bytes, from_client: bool) -> bytes:
    macs = GUEST_MAC + CLIENT_MAC if from_client else CLIENT_MAC + GUEST_MAC
    tags = b""
    for position, tag in enumerate(flow.tags):
        tags += struct.pack(">HH", 0x88A8 if position < len(flow.tags) - 1 else 0x8100, tag)
    return macs + tags + struct.pack(">H", 0x86DD if flow.version == 6 else 0x0800) + packet


def frame(segment: Tcp, vnet: bytes = b"") -> bytes:
    """An Ethernet frame; with `vnet` in front of it, and a partial checksum if that says NEEDS_CSUM."""
    flow = segment.flow
    options = segment.options + b"\0" * (-len(segment.options) % 4)
    flags = sum(_LETTERS[letter] for letter in segment.flags)
    ports = (flow.client_port, flow.guest_port) if segment.from_client else (flow.guest_port, flow.client_port)
    header = struct.pack(
        ">HHIIBBHHH",
        *ports,
        segment.seq & SEQ_MASK,
        segment.ack & SEQ_MASK,
        (20 + len(options)) << 2,
        flags,
        segment.window,
        0,
        0,
    )
    body = header + options + segment.data
    pseudo = _pseudo(flow, 6, len(body))
    if vnet and vnet[0] & NEEDS_CSUM:
        checksum = ones_sum(pseudo)
    else:
        checksum = 0xFFFF - ones_sum(pseudo + body)
    body = body[:16] + struct.pack(">H", checksum) + body[18:]
    return vnet + _ethernet(flow, _ip(flow, 6, body, segment.from_client), segment.from_client)


def udp(data: bytes, flow: Flow = FLOW, *, from_client: bool = False) -> bytes:
    """A UDP datagram of the guest."""
    body = udp_body(data, flow, from_client=from_client)
    return _ethernet(flow, _ip(flow, 17, body, from_client), from_client)


def udp_body(data: bytes, flow: Flow = FLOW, *, from_client: bool = False) -> bytes:
    ports = (flow.client_port, flow.guest_port) if from_client else (flow.guest_port, flow.client_port)
    body = struct.pack(">HHHH", *ports, 8 + len(data), 0) + data
    checksum = (0xFFFF - ones_sum(_pseudo(flow, 17, len(body)) + body)) or 0xFFFF
    return body[:6] + struct.pack(">H", checksum) + body[8:]


def icmp_echo(data: bytes, identifier: int = 1) -> bytes:
    """An ICMP echo reply of the guest."""
    body = struct.pack(">BBHHH", 0, 0, 0, identifier, 1) + data
    body = body[:2] + struct.pack(">H", 0xFFFF - ones_sum(body)) + body[4:]
    return ip_packet(1, body)


def ip_packet(proto: int, body: bytes) -> bytes:
    """An IPv4 packet of the guest with any protocol."""
    return _ethernet(FLOW, _ip(FLOW, proto, body, False), False)


def arp(sender: bytes = GUEST4, mac: bytes = GUEST_MAC) -> bytes:
    """An ARP request of the guest (RFC 826)."""
    body = struct.pack(">HHBBH", 1, 0x0800, 6, 4, 1) + mac + sender + bytes(6) + CLIENT4
    return b"\xff" * 6 + mac + b"\x08\x06" + body


def ip_body(octets: bytes) -> bytes:
    """What a frame's IP header carries (no vnet header, no extension headers)."""
    pos = 14 + 4 * sum(octets[at : at + 2] in {b"\x81\x00", b"\x88\xa8"} for at in (12, 16))
    return octets[pos + ((octets[pos] & 15) * 4 if octets[pos] >> 4 == 4 else 40) :]


def icmp_error(quoted: bytes, kind: int, *, size: int = 2000, flow: Flow = FLOW, from_client: bool = False) -> bytes:
    """An ICMP or ICMPv6 error about the packet in a frame: the first `size` bytes of it are quoted."""
    packet = quoted[14 + 4 * len(flow.tags) :][:size]
    body = struct.pack(">BBHI", kind, 0, 0, 1280) + packet
    pseudo = _pseudo(flow, 58, len(body)) if flow.version == 6 else b""
    body = body[:2] + struct.pack(">H", 0xFFFF - ones_sum(pseudo + body)) + body[4:]
    return _ethernet(flow, _ip(flow, 58 if flow.version == 6 else 1, body, from_client), from_client)


def fragments(
    proto: int, body: bytes, cuts: list[int], identification: int, flow: Flow = FLOW, *, from_client: bool = False
) -> list[bytes]:
    """The frames of one IP datagram, cut at multiples of eight."""
    edges = [0, *cuts, len(body)]
    frames = []
    for start, end in itertools.pairwise(edges):
        more = end < len(body)
        if flow.version == 6:
            extension = struct.pack(">BBHI", proto, 0, start | more, identification)
            packet = _ip(flow, 44, extension + body[start:end], from_client)
        else:
            packet = _ip(flow, proto, body[start:end], from_client, (identification, start // 8 | more << 13))
        frames.append(_ethernet(flow, packet, from_client))
    return frames


def vnet_header(flags: int = 0, gso_type: int = 0, gso_size: int = 0, size: int = 12) -> bytes:
    """virtio 1.2 section 5.1.6."""
    return struct.pack("<BBHHHHH", flags, gso_type, 54, gso_size, 34, 16, 1)[:size]


# ── and back ────────────────────────────────────────────────────────────────────────────────────────────────


def read(octets: bytes, *, is_partial: bool = False) -> Tcp:
    """The segment of a TCP frame (no vnet header); its checksums and lengths must be right."""
    pos, tags = 12, []
    while octets[pos : pos + 2] in {b"\x81\x00", b"\x88\xa8"}:
        tags.append(struct.unpack_from(">H", octets, pos + 2)[0])
        pos += 4
    pos += 2
    version = octets[pos] >> 4
    from_client = octets[6:12] == CLIENT_MAC
    if version == 4:
        header_len = (octets[pos] & 15) * 4
        assert ones_sum(octets[pos : pos + header_len]) == 0xFFFF, "IP checksum"
        end = (
            pos + struct.unpack_from(">H", octets, pos + 2)[0] if octets[pos + 2 : pos + 4] != b"\0\0" else len(octets)
        )
    else:
        header_len = 40
        end = pos + 40 + struct.unpack_from(">H", octets, pos + 4)[0]
    body = octets[pos + header_len : end]
    source, target, seq, ack, offset, flags, window, checksum, _ = struct.unpack_from(">HHIIBBHHH", body)
    flow = Flow(*((target, source) if from_client else (source, target)), version, tuple(tags))
    if is_partial:
        assert checksum == ones_sum(_pseudo(flow, 6, len(body))), "partial checksum"
    else:
        assert ones_sum(_pseudo(flow, 6, len(body)) + body) == 0xFFFF, "TCP checksum"
    letters = "".join(letter for letter, bit in _LETTERS.items() if flags & bit)
    data_pos = (offset >> 4) * 4
    return Tcp(seq, letters, body[data_pos:], ack, window, body[20:data_pos], flow, from_client)


# ── batches ─────────────────────────────────────────────────────────────────────────────────────────────────


def batch(frames: list[bytes], vnet_len: int | None = None) -> bytearray:
    """Frames on a stream; `vnet_len`: with the word for the vnet header."""
    words = b"" if vnet_len is None else struct.pack(">I", vnet_len)
    return bytearray(b"".join(struct.pack(">I", len(octets)) + words + octets for octets in frames))


def unbatch(octets: bytes, *, has_vnet: bool = False, keeps_vnet: bool = False) -> list[bytes]:
    """The frames of a batch, vnet headers taken off."""
    frames, pos = [], 0
    while pos < len(octets):
        length = struct.unpack_from(">I", octets, pos)[0]
        vnet_len = struct.unpack_from(">I", octets, pos + 4)[0] if has_vnet else 0
        pos += 8 if has_vnet else 4
        frames.append(bytes(octets[pos + (0 if keeps_vnet else vnet_len) : pos + length]))
        pos += length
    assert pos == len(octets)
    return frames
