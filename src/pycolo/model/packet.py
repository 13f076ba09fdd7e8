"""Bytes -> packets as the rules see them. Written from the RFCs, separately from `pycolo.wire`, to share no mistake.

`read` is total: any bytes give a segment, a datagram, a fragment, or None for what passes uncompared.
"""

import struct
from dataclasses import dataclass, replace
from enum import IntFlag
from typing import Final

ETHERNET_BYTES: Final = 14
VLAN_TYPES: Final = (0x8100, 0x88A8, 0x9100)
IPV4, IPV6 = 0x0800, 0x86DD
ICMP, IGMP, TCP, UDP, ICMPV6 = 1, 2, 6, 17, 58
HOP_BY_HOP, ROUTING, FRAGMENT, DESTINATION = 0, 43, 44, 60
PASSING_ICMPV6: Final = (130, 131, 132, 143, *range(133, 138))
"""MLD (RFC 3810) and neighbour discovery (RFC 4861)."""

END_OF_OPTIONS, NO_OPERATION = 0, 1
MSS, WINDOW_SCALE, SACK_PERMITTED, SACK, TIMESTAMPS = 2, 3, 4, 5, 8
MD5, AUTHENTICATION, MPTCP, FAST_OPEN = 19, 29, 30, 34


class Flag(IntFlag):
    """RFC 9293 section 3.1."""

    FIN = 0x01
    SYN = 0x02
    RST = 0x04
    PSH = 0x08
    ACK = 0x10
    URG = 0x20


@dataclass(frozen=True)
class Key:
    """One direction of one connection. `tags`: VLAN identifiers; ports are 0 where the protocol has none."""

    version: int
    proto: int
    source: bytes
    destination: bytes
    tags: tuple[int, ...] = ()
    source_port: int = 0
    destination_port: int = 0

    def reversed(self) -> "Key":
        """The same connection, seen from its other end."""
        return Key(
            self.version,
            self.proto,
            self.destination,
            self.source,
            self.tags,
            self.destination_port,
            self.source_port,
        )


@dataclass(frozen=True)
class Segment:
    """A TCP segment (RFC 9293 section 3.1). `options`: (kind, contents) of each; padding is none."""

    key: Key
    seq: int
    ack: int
    flags: Flag
    window: int
    options: tuple[tuple[int, bytes], ...]
    data: bytes
    is_intact: bool
    """Whether its checksum is correct."""

    def option(self, kind: int) -> bytes | None:
        """The contents of the first option of that kind."""
        return next((contents for found, contents in self.options if found == kind), None)

    @property
    def timestamps(self) -> tuple[int, int] | None:
        """(TSval, TSecr): RFC 7323 section 3.2."""
        contents = self.option(TIMESTAMPS)
        return None if contents is None or len(contents) != 8 else struct.unpack(">II", contents)

    @property
    def sack_blocks(self) -> list[tuple[int, int]]:
        """RFC 2018 section 3."""
        contents = self.option(SACK) or b""
        return list(struct.iter_unpack(">II", contents[: len(contents) // 8 * 8]))

    @property
    def scale(self) -> int:
        """The window scale that a SYN offers, at most 14 (RFC 7323 section 2.3)."""
        contents = self.option(WINDOW_SCALE)
        return min(contents[0], 14) if contents else 0

    @property
    def length(self) -> int:
        """Sequence numbers that it takes: its payload, SYN and FIN."""
        return len(self.data) + bool(self.flags & Flag.SYN) + bool(self.flags & Flag.FIN)


@dataclass(frozen=True)
class Datagram:
    """Anything else over IP. `body` is compared (rule C4): UDP's payload, otherwise everything after the IP header."""

    key: Key
    body: bytes


@dataclass(frozen=True)
class Fragment:
    """A part of an IP datagram: `data` belongs at `offset` of its body; `key` has no ports."""

    key: Key
    identification: int
    offset: int
    is_last: bool
    data: bytes


Packet = Segment | Datagram | Fragment


def read(frame: bytes) -> Packet | None:
    """Return the packet, or None for frames that pass uncompared: ARP, MLD, ND, IGMP, non-IP, and malformed ones."""
    try:
        return _ethernet(frame)
    except (struct.error, IndexError, _UnreadableError):
        return None


class _UnreadableError(Exception):
    """The packet is truncated within a header, or has an impossible field."""


def _need(condition: bool) -> None:  # noqa: FBT001 - a condition is a condition
    if not condition:
        raise _UnreadableError


def _ethernet(frame: bytes) -> Packet | None:
    at = 12
    tags: list[int] = []
    (kind,) = struct.unpack_from(">H", frame, at)
    while kind in VLAN_TYPES and len(tags) < 2:
        tag, kind = struct.unpack_from(">HH", frame, at + 2)
        tags.append(tag & 0x0FFF)
        at += 4
    body = frame[at + 2 :]
    if kind == IPV4:
        return _ipv4(body, tuple(tags))
    if kind == IPV6:
        return _ipv6(body, tuple(tags))
    return None


def _ipv4(octets: bytes, tags: tuple[int, ...]) -> Packet | None:
    """RFC 791 section 3.1."""
    first, _, total, identification, word, _, proto = struct.unpack_from(">BBHHHBB", octets)
    header = (first & 15) * 4
    total = total or len(octets)  # a GSO frame says 0 where its length does not fit
    _need(first >> 4 == 4 and header >= 20 and header <= total <= len(octets))
    key = Key(4, proto, octets[12:16], octets[16:20], tags)
    data = octets[header:total]
    if word & 0x3FFF:
        return Fragment(key, identification, (word & 0x1FFF) * 8, not word & 0x2000, data)
    return transport(key, data)


def _ipv6(octets: bytes, tags: tuple[int, ...]) -> Packet | None:
    """RFC 8200 section 3 and 4."""
    first, _, length, proto = struct.unpack_from(">BBxxHB", octets[:7] + b"\0") if len(octets) >= 40 else (0, 0, 0, 0)
    _need(len(octets) >= 40 and first >> 4 == 6)
    end = 40 + length if length else len(octets)
    _need(end <= len(octets))
    return _behind_extensions(Key(6, proto, octets[8:24], octets[24:40], tags), octets[40:end])


def _behind_extensions(key: Key, octets: bytes) -> Packet | None:
    """RFC 8200 section 4: what `octets` are, whose first header is of kind `key.proto`."""
    proto, at = key.proto, 0
    while proto in (HOP_BY_HOP, ROUTING, DESTINATION, FRAGMENT):
        if proto == FRAGMENT:
            proto, word, identification = struct.unpack_from(">BxHI", octets, at)
            at += 8
            if word & 0xFFF9:
                return Fragment(replace(key, proto=proto), identification, word & 0xFFF8, not word & 1, octets[at:])
        else:
            proto, count = octets[at], octets[at + 1]
            at += 8 * (count + 1)
        _need(at <= len(octets))
    return transport(replace(key, proto=proto), octets[at:])


def whole(key: Key, body: bytes) -> Packet | None:
    """The packet in a reassembled datagram; total, as `read` is."""
    try:
        return _behind_extensions(key, body) if key.version == 6 else transport(key, body)
    except (struct.error, IndexError, _UnreadableError):
        return None


def transport(key: Key, body: bytes) -> Segment | Datagram | None:
    """The packet that an IP datagram with this body is; `key` has no ports yet."""
    if key.proto == TCP:
        return _tcp(key, body)
    if key.proto == UDP:
        return _udp(key, body)
    if key.proto == IGMP or (key.proto == ICMPV6 and body[0] in PASSING_ICMPV6):
        return None
    return Datagram(key, body)


def _with_ports(key: Key, body: bytes) -> Key:
    source_port, destination_port = struct.unpack_from(">HH", body)
    return Key(key.version, key.proto, key.source, key.destination, key.tags, source_port, destination_port)


def _udp(key: Key, body: bytes) -> Datagram:
    """RFC 768; a length of 0 is a jumbogram's, or a GSO frame's."""
    (length,) = struct.unpack_from(">H", body, 4)
    length = length or len(body)
    _need(8 <= length <= len(body))
    return Datagram(_with_ports(key, body), body[8:length])


def _tcp(key: Key, body: bytes) -> Segment:
    seq, ack, offset, flags, window = struct.unpack_from(">IIBBH", body, 4)
    header = (offset >> 4) * 4
    _need(20 <= header <= len(body))
    return Segment(
        _with_ports(key, body),
        seq,
        ack,
        Flag(flags & 0x3F),
        window,
        tuple(_options(body[20:header])),
        body[header:],
        checksum(pseudo_header(key, len(body)) + body) == 0,
    )


def _options(octets: bytes) -> list[tuple[int, bytes]]:
    """RFC 9293 section 3.2; what cannot be read ends them."""
    found, at = [], 0
    while at < len(octets) and octets[at] != END_OF_OPTIONS:
        if octets[at] == NO_OPERATION:
            at += 1
            continue
        length = octets[at + 1] if at + 1 < len(octets) else 0
        if length < 2 or at + length > len(octets):
            break
        found.append((octets[at], octets[at + 2 : at + length]))
        at += length
    return found


def pseudo_header(key: Key, length: int) -> bytes:
    """What TCP's and UDP's checksums cover besides the packet (RFC 9293 section 3.1, RFC 8200 section 8.1)."""
    if key.version == 6:
        return key.source + key.destination + struct.pack(">IHBB", length, 0, 0, key.proto)
    return key.source + key.destination + struct.pack(">BBH", 0, key.proto, length)


def checksum(octets: bytes) -> int:
    """The Internet checksum (RFC 1071): 0 over octets that carry a right one."""
    total: int = sum(word for (word,) in struct.iter_unpack(">H", octets + b"\0" * (len(octets) % 2)))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return 0xFFFF - total
