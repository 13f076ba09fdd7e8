"""Frames made, and taken apart, by scapy: the oracle of the wire tests."""

import struct
from dataclasses import dataclass
from typing import Any

from scapy.layers.inet import IP, TCP, in4_chksum
from scapy.layers.inet6 import IPv6, in6_chksum
from scapy.layers.l2 import Dot1AD, Dot1Q, Ether
from scapy.packet import Packet as Layer

from pycolo import core

NEEDS_CSUM = 1
GSO_TCPV4 = 1
GSO_TCPV6 = 4

TCP_CHECKSUM = 16

# Bytes that stand around a frame in its buffer: none of them may show in what is parsed.
BEFORE = bytes(range(0x80, 0x8D))
AFTER = bytes(range(0xC0, 0xD1))


def ethernet(inner: Layer | bytes, tags: tuple[int, ...] = (), ethertype: int | None = None) -> bytes:
    """A frame with `inner` in it; two tags are a service tag (802.1ad) and a customer tag (802.1Q)."""
    layers: Layer = Ether(dst="02:00:00:00:00:01", src="02:00:00:00:00:02")
    for position, tag in enumerate(tags):
        layers /= (Dot1AD if position < len(tags) - 1 else Dot1Q)(vlan=tag & 0xFFF, prio=tag >> 13)
    if ethertype is not None:
        layers.lastlayer().type = ethertype
    return (layers / inner).build()


def vnet_header(
    size: int, flags: int = 0, gso_type: int = 0, gso_size: int = 0, l4_offset: int = 0, header_len: int = 0
) -> bytes:
    """virtio 1.2 section 5.1.6; `size` 10, 12 (with num_buffers) or 0."""
    words = struct.pack("<BBHHHHH", flags, gso_type, header_len, gso_size, l4_offset, TCP_CHECKSUM, 1)
    return words[:size]


def framed(octets: bytes, vnet_len: int | None = None) -> bytes:
    """The frame on a stream, with the word for the vnet header unless that is None."""
    word = b"" if vnet_len is None else struct.pack(">I", vnet_len)
    return struct.pack(">I", len(octets)) + word + octets


@dataclass
class Parsed:
    """A frame in the middle of a buffer, and what the parser made of it."""

    buf: bytearray
    start: int
    end: int
    packet: Any
    kind: int

    @property
    def octets(self) -> bytes:
        """The frame as it is now."""
        return bytes(self.buf[self.start : self.end])

    @property
    def payload(self) -> bytes:
        return bytes(self.buf[self.packet.payload_pos : self.packet.payload_pos + self.packet.payload_len])


def parse(octets: bytes, vnet_len: int = 0, before: bytes = BEFORE, after: bytes = AFTER) -> Parsed:
    """`octets` (vnet header first) parsed."""
    packet = core.Packet()
    buf = bytearray(before + octets + after)
    start, end = len(before), len(before) + len(octets)
    kind = core.parse_frame(buf, start, end, vnet_len, packet)
    assert kind == packet.kind
    return Parsed(buf, start, end, packet, kind)


# ── checksums, by scapy ─────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Segment:
    """A TCP segment as scapy finds it in a frame."""

    ip: Layer
    tcp: Layer
    ip_pos: int
    tcp_pos: int
    octets: bytes
    """TCP header and payload, without what Ethernet appended."""

    @property
    def checksum(self) -> int:
        return struct.unpack_from(">H", self.octets, TCP_CHECKSUM)[0]

    @property
    def right_checksum(self) -> int:
        zeroed = self.octets[:TCP_CHECKSUM] + b"\0\0" + self.octets[TCP_CHECKSUM + 2 :]
        if self.ip.version == 4:
            return in4_chksum(6, self.ip, zeroed)
        return in6_chksum(6, self.tcp.underlayer, zeroed)

    @property
    def pseudo_sum(self) -> int:
        """What the field holds while NEEDS_CSUM is set: the sum of the pseudo-header, not complemented."""
        if self.ip.version == 4:
            addresses = self.ip.original[12:20]
        else:
            addresses = self.ip.original[8:40]
        words = struct.unpack(f">{len(addresses) // 2}H", addresses)
        total = sum(words) + 6 + len(self.octets)
        while total > 0xFFFF:
            total = (total & 0xFFFF) + (total >> 16)
        return total


def segment(frame: bytes) -> Segment:
    """The TCP segment of an Ethernet frame (no vnet header) that scapy can read."""
    layers = Ether(frame)
    ip = layers[IP] if IP in layers else layers[IPv6]
    ip_pos = len(frame) - len(ip.original)
    ip_len = ip.len if ip.version == 4 else 40 + ip.plen
    tcp = layers[TCP]
    tcp_pos = ip_pos + ip_len - len(tcp.original)
    return Segment(ip, tcp, ip_pos, tcp_pos, frame[tcp_pos : ip_pos + ip_len])


def with_partial_checksum(frame: bytes) -> bytes:
    """The frame as a guest hands it to a device that completes checksums."""
    found = segment(frame)
    at = found.tcp_pos + TCP_CHECKSUM
    return frame[:at] + struct.pack(">H", found.pseudo_sum) + frame[at + 2 :]


def is_valid(frame: bytes) -> bool:
    """Whether the checksums of a TCP frame are right: TCP's, and IPv4's."""
    found = segment(frame)
    if found.ip.version == 4:
        header = found.ip.original[: found.ip.ihl * 4]
        words = struct.unpack(f">{len(header) // 2}H", header)
        if sum(words) % 0xFFFF:
            return False
    return found.checksum == found.right_checksum
