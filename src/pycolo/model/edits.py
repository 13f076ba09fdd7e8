"""The TCP header in a frame, and the frame with other numbers in it (rules of rewriting).

A checksum is correct if the sum of its range, itself included, does not change.
"""

import struct
from dataclasses import dataclass

from pycolo.model.packet import ICMP, ICMPV6, IPV4, IPV6, SACK, TCP, TIMESTAMPS, VLAN_TYPES, Flag, Key
from pycolo.model.verdicts import require

ARP = 0x0806
ADVERTISEMENT = 136
ICMP_ERRORS = {4: (3, 4, 11, 12), 6: (1, 2, 3, 4)}
"""Types that quote a packet: RFC 792, RFC 4443."""


@dataclass(frozen=True)
class Mention:
    """`key`: of the packet with the TCP header. `start`, `end`: the header's position, and the end of the packet (or of
    its available part). `icmp`: start of the ICMP message that quotes it. `is_whole`: neither quoted nor a fragment."""

    key: Key
    start: int
    end: int
    icmp: int | None = None
    is_whole: bool = True


def mention(frame: bytes) -> Mention | None:
    """The TCP header in a segment, in a first fragment, or in an ICMP error's quote."""
    at = 12
    tags: list[int] = []
    kind = int.from_bytes(frame[at : at + 2], "big")
    while kind in VLAN_TYPES and len(tags) < 2:
        tags.append(int.from_bytes(frame[at + 2 : at + 4], "big") & 0x0FFF)
        at += 4
        kind = int.from_bytes(frame[at : at + 2], "big")
    if kind not in (IPV4, IPV6):
        return None
    outer = _network(frame, at + 2, tuple(tags), is_quoted=False)
    if outer is None:
        return None
    key, start, end, is_whole = outer
    if key.proto == TCP:
        size = (frame[start + 12] >> 4) * 4 if end - start >= 20 else 0
        return Mention(key, start, end, None, is_whole) if 20 <= size <= end - start else None
    is_error = is_whole and end - start > 8 and frame[start] in ICMP_ERRORS[key.version]
    if not is_error or key.proto != (ICMP if key.version == 4 else ICMPV6):
        return None
    quoted = _network(frame[:end], start + 8, tuple(tags), is_quoted=True)
    if quoted is None or quoted[0].proto != TCP or quoted[0].version != key.version or quoted[2] - quoted[1] < 8:
        return None
    return Mention(quoted[0], quoted[1], quoted[2], start, is_whole=False)


def _network(frame: bytes, at: int, tags: tuple[int, ...], *, is_quoted: bool) -> tuple[Key, int, int, bool] | None:
    """(key, where the transport header is, where the packet ends, whether it is no fragment); None but for a first."""
    octets = frame[at:]
    if len(octets) >= 20 and octets[0] >> 4 == 4:
        header, total = (octets[0] & 15) * 4, int.from_bytes(octets[2:4], "big") or len(octets)
        word, proto = int.from_bytes(octets[6:8], "big"), octets[9]
        ends = octets[12:16], octets[16:20]
    elif len(octets) >= 40 and octets[0] >> 4 == 6:
        header, total, proto, word = 40, 40 + (int.from_bytes(octets[4:6], "big") or len(octets) - 40), octets[6], 0
        ends = octets[8:24], octets[24:40]
        while proto in (0, 43, 44, 60) and len(octets) >= header + 8:
            if proto == 44:
                bits = int.from_bytes(octets[header + 2 : header + 4], "big")
                word = bits >> 3 | (bits & 1) << 13
            size = 8 if proto == 44 else 8 * (octets[header + 1] + 1)
            proto, header = octets[header], header + size
    else:
        return None
    if word & 0x1FFF or not 20 <= header <= len(octets) or (total > len(octets) and not is_quoted) or total < header:
        return None
    end = at + min(total, len(octets))
    source, target = octets[header : header + 2], octets[header + 2 : header + 4]
    ports = (int.from_bytes(source, "big"), int.from_bytes(target, "big")) if proto == TCP else (0, 0)
    key = Key(4 if len(ends[0]) == 4 else 6, proto, *ends, tags, *ports)
    return key, at + header, end, not word & 0x3FFF


def with_numbers(
    frame: bytes,
    place: Mention,
    *,
    seq: int = 0,
    ack: int = 0,
    value: int = 0,
    echo: int = 0,
    refused: int | None = None,
) -> bytes:
    """The frame with these amounts added to its numbers, if present; checksums are unchanged.

    `ack` also moves SACK edges (RFC 2018); TSecr 0 says nothing (RFC 7323). `refused`: the whole acknowledgement.
    """
    octets = bytearray(frame)

    def add(at: int, count: int) -> None:
        if at + 4 <= place.end:
            struct.pack_into(">I", octets, at, (struct.unpack_from(">I", octets, at)[0] + count) % 2**32)

    add(place.start + 4, seq)
    if place.end - place.start < 14:
        return bytes(octets)
    has_ack = frame[place.start + 13] & Flag.ACK
    if has_ack:
        add(place.start + 8, ack if refused is None else refused - struct.unpack_from(">I", frame, place.start + 8)[0])
    for kind, at, size in _options(frame, place):
        if kind == TIMESTAMPS and size == 8:
            add(at, value)
            if has_ack and frame[at + 4 : at + 8] != bytes(4):
                add(at + 4, echo)
        elif kind == SACK and has_ack:
            for edge in range(at, at + size // 8 * 8, 4):
                add(edge, ack)
    return bytes(octets)


def _options(frame: bytes, place: Mention) -> list[tuple[int, int, int]]:
    """(kind, where its contents begin, their size)."""
    found: list[tuple[int, int, int]] = []
    at, end = place.start + 20, min(place.start + (frame[place.start + 12] >> 4) * 4, place.end)
    while at < end and frame[at]:
        if frame[at] == 1:
            at += 1
            continue
        size = frame[at + 1] if at + 1 < end else 0
        if size < 2 or at + size > end:
            break
        found.append((frame[at], at + 2, size - 2))
        at += size
    return found


def judge(rule: str, before: bytes, expected: bytes, got: bytes, place: Mention | None, *, is_partial: bool) -> None:
    """Raise `BrokenRuleError` unless `got` is `expected` (made of `before`), with correct checksums."""
    covered: list[tuple[int, int]] = []
    if place is not None and not is_partial:
        covered += [(place.start, place.start + 16)] if place.end - place.start >= 18 else []
        covered += [] if place.icmp is None else [(place.icmp, place.icmp + 2)]
    blank = [bytearray(expected), bytearray(got)]
    for octets in blank:
        for _, at in covered:
            octets[at : at + 2] = b"\0\0"
    require(rule, blank[0] == blank[1], f"{got.hex()} for {before.hex()}, not {expected.hex()}")
    for start, _ in covered:
        assert place is not None
        require(rule, _sum(before[start : place.end]) == _sum(got[start : place.end]), f"the checksum of {got.hex()}")


def _sum(octets: bytes) -> int:
    words: list[tuple[int]] = list(struct.iter_unpack(">H", octets + b"\0" * (len(octets) % 2)))
    return sum(word for (word,) in words) % 0xFFFF


def told_address(frame: bytes) -> bytes | None:
    """Rule R4: the sender's address of an ARP packet, the target of a neighbour advertisement that no router passed."""
    at = 12
    while int.from_bytes(frame[at : at + 2], "big") in VLAN_TYPES and at < 20:
        at += 4
    kind, body = int.from_bytes(frame[at : at + 2], "big"), frame[at + 2 :]
    if kind == ARP and body[:6] == bytes((0, 1, 8, 0, 6, 4)) and len(body) >= 28:
        return body[14:18]
    if kind == IPV6 and len(body) >= 64 and body[6:8] == bytes((ICMPV6, 255)) and body[40] == ADVERTISEMENT:
        return body[48:64]
    return None
