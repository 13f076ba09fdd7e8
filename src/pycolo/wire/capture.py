"""Captures: the bytes of a pcap or pcapng file <-> packets with time, interface and comment.

Read: pcap in both byte orders, in micro- and nanoseconds; pcapng (draft-ietf-opsawg-pcapng) with any number of
sections and interfaces, in any resolution. Written: pcapng with microseconds; pcap, which holds neither interfaces nor
comments. Ethernet only.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import IntEnum
from struct import calcsize, pack, unpack
from typing import Final, Literal

from pycolo import limits
from pycolo.errors import WireError, WireReason

ByteOrder = Literal["<", ">"]

_BYTE_ORDER_MAGIC: Final = 0x1A2B3C4D
_OPT_END: Final = 0
_OPT_COMMENT: Final = 1
_IF_NAME: Final = 2
_IF_TSRESOL: Final = 9
_IF_TSOFFSET: Final = 14
_LINKTYPE_ETHERNET: Final = 1
_SNAP_BYTES: Final = 262_144
_PCAP: Final[dict[bytes, tuple[ByteOrder, int]]] = {
    b"\xd4\xc3\xb2\xa1": ("<", 1_000_000),
    b"\xa1\xb2\xc3\xd4": (">", 1_000_000),
    b"\x4d\x3c\xb2\xa1": ("<", 1_000_000_000),
    b"\xa1\xb2\x3c\x4d": (">", 1_000_000_000),
}


class _Kind(IntEnum):
    """Block types of pcapng."""

    INTERFACE = 1
    OLD_PACKET = 2
    SIMPLE_PACKET = 3
    ENHANCED_PACKET = 6
    SECTION_HEADER = 0x0A0D0D0A


_SECTION: Final = pack("<I", _Kind.SECTION_HEADER)  # a palindrome: it does not show the byte order


@dataclass(frozen=True, slots=True)
class CapturedFrame:
    """A frame of a capture. `at_us`: microseconds since 1970; `missing_bytes`: how much the capture cut off."""

    octets: bytes
    at_us: int
    interface: str = ""
    comment: str = ""
    missing_bytes: int = 0


@dataclass(slots=True)
class _Interface:
    name: str
    is_ethernet: bool
    snap_bytes: int
    ticks_per_second: int
    offset_s: int

    def microseconds(self, ticks: int) -> int:
        return ticks * 1_000_000 // self.ticks_per_second + self.offset_s * 1_000_000


# ── reading ─────────────────────────────────────────────────────────────────────────────────────────────────


def captured_frames(read: Callable[[int], bytes], name: str) -> Iterator[CapturedFrame]:
    """The frames of a capture in file order. `read` as a file's; `name`: the file's name, for errors.

    Raises `WireError` where the data is not a valid capture, after it has yielded all earlier frames.
    """
    reader = _Reader(read, name)
    magic = reader.take(4)
    if magic in _PCAP:
        yield from _pcap_frames(reader, *_PCAP[magic])
    elif magic == _SECTION:
        yield from _Pcapng(reader).frames()
    else:
        raise WireError(WireReason.UNSUPPORTED, 0, f"{name} is neither pcap nor pcapng")


@dataclass(slots=True)
class _Reader:
    """A file and the offset read so far."""

    read: Callable[[int], bytes]
    name: str
    offset: int = 0

    def take(self, size: int, *, may_end: bool = False) -> bytes:
        """The next bytes; with `may_end`, b"" at the end of the file."""
        octets = self.read(size)
        if len(octets) != size and not (may_end and not octets):
            raise WireError(WireReason.TRUNCATED, self.offset + len(octets), self.name)
        self.offset += len(octets)
        return octets

    def malformed(self, what: str) -> WireError:
        return WireError(WireReason.MALFORMED, self.offset, f"{self.name}: {what}")

    def not_ethernet(self, link_type: int) -> WireError:
        return WireError(WireReason.UNSUPPORTED, self.offset, f"{self.name}: link type {link_type} is not Ethernet (1)")


def _pcap_frames(reader: _Reader, order: ByteOrder, ticks_per_second: int) -> Iterator[CapturedFrame]:
    link_type = unpack(f"{order}HHiIII", reader.take(20))[5] & 0xFFFF  # above it: is there a frame check sequence
    if link_type != _LINKTYPE_ETHERNET:
        raise reader.not_ethernet(link_type)
    while head := reader.take(16, may_end=True):
        seconds, ticks, size, whole = unpack(f"{order}IIII", head)
        if size > limits.CAPTURE_BLOCK_BYTES_MAX:
            raise reader.malformed(f"a frame of {size} bytes")
        at_us = seconds * 1_000_000 + ticks * 1_000_000 // ticks_per_second
        yield CapturedFrame(reader.take(size), at_us, missing_bytes=max(whole - size, 0))


@dataclass(slots=True)
class _Pcapng:
    """The blocks of a pcapng file whose first four bytes have been read."""

    reader: _Reader
    order: ByteOrder = "<"
    interfaces: list[_Interface] = field(default_factory=list)

    def frames(self) -> Iterator[CapturedFrame]:
        kind = _SECTION
        while kind:
            if kind == _SECTION:
                self._section()
            else:
                number: int = unpack(f"{self.order}I", kind)[0]
                found = self._frame(number, self._body(self.reader.take(4)))
                if found is not None:
                    yield found
            kind = self.reader.take(4, may_end=True)

    def _section(self) -> None:
        length, magic = self.reader.take(4), self.reader.take(4)
        orders: dict[bytes, ByteOrder] = {pack("<I", _BYTE_ORDER_MAGIC): "<", pack(">I", _BYTE_ORDER_MAGIC): ">"}
        if magic not in orders:
            raise self.reader.malformed("a section without a byte order")
        self.order = orders[magic]
        self.interfaces = []
        self._body(length, taken=4)

    def _body(self, length: bytes, taken: int = 0) -> bytes:
        """The rest of a block after its length word; `taken` bytes of the block have been read."""
        size: int = unpack(f"{self.order}I", length)[0]
        if size % 4 or size < 12 + taken or size > limits.CAPTURE_BLOCK_BYTES_MAX:
            raise self.reader.malformed(f"a block of {size} bytes")
        body = self.reader.take(size - 12 - taken)
        if self.reader.take(4) != length:
            raise self.reader.malformed("a block whose two lengths differ")
        return body

    def _frame(self, kind: int, body: bytes) -> CapturedFrame | None:
        match kind:
            case _Kind.INTERFACE:
                self.interfaces.append(self._interface(body))
                return None
            case _Kind.ENHANCED_PACKET:
                return self._packet(body, "IIIII")
            case _Kind.OLD_PACKET:
                return self._packet(body, "HxxIIII")
            case _Kind.SIMPLE_PACKET:
                (whole,) = self._fields("I", body)
                interface = self._interface_at(0)
                size = min(whole, interface.snap_bytes or whole)
                return CapturedFrame(self._cut(body, 4, size), 0, interface.name, "", whole - size)
            case _:
                return None

    def _packet(self, body: bytes, form: str) -> CapturedFrame:
        index, high, low, size, whole = self._fields(form, body)
        interface = self._interface_at(index)
        octets = self._cut(body, 20, size)
        comment = self._options(body[20 + size + -size % 4 :]).get(_OPT_COMMENT, b"").decode(errors="replace")
        at_us = interface.microseconds(high << 32 | low)
        return CapturedFrame(octets, at_us, interface.name, comment, max(whole - size, 0))

    def _interface(self, body: bytes) -> _Interface:
        link_type, snap_bytes = self._fields("HxxI", body)
        options = self._options(body[8:])
        resolution = options.get(_IF_TSRESOL, b"\6")[:1] or b"\6"
        base = 2 if resolution[0] & 0x80 else 10
        offset = options.get(_IF_TSOFFSET, bytes(8)).ljust(8, b"\0")
        return _Interface(
            options.get(_IF_NAME, b"").decode(errors="replace"),
            link_type == _LINKTYPE_ETHERNET,
            snap_bytes,
            base ** (resolution[0] & 0x7F),
            unpack(f"{self.order}q", offset[:8])[0],
        )

    def _interface_at(self, index: int) -> _Interface:
        if index >= len(self.interfaces):
            raise self.reader.malformed(f"a packet of interface {index}, which has no description block")
        interface = self.interfaces[index]
        if not interface.is_ethernet:
            raise WireError(
                WireReason.UNSUPPORTED,
                self.reader.offset,
                f"{self.reader.name}: interface {interface.name or index} is not Ethernet",
            )
        return interface

    def _fields(self, form: str, body: bytes) -> tuple[int, ...]:
        size = calcsize(f"{self.order}{form}")
        if len(body) < size:
            raise self.reader.malformed("a block without all of its fields")
        return unpack(f"{self.order}{form}", body[:size])

    def _cut(self, body: bytes, start: int, size: int) -> bytes:
        if start + size > len(body):
            raise self.reader.malformed("a packet that is longer than its block")
        return body[start : start + size]

    def _options(self, octets: bytes) -> dict[int, bytes]:
        """The first option of each kind, up to the end or to one that exceeds the block."""
        found: dict[int, bytes] = {}
        while len(octets) >= 4:
            code, size = unpack(f"{self.order}HH", octets[:4])
            if code == _OPT_END or size > len(octets) - 4:
                break
            found.setdefault(code, octets[4 : 4 + size])
            octets = octets[4 + size + -size % 4 :]
        return found


# ── writing ─────────────────────────────────────────────────────────────────────────────────────────────────


def pcap_head() -> bytes:
    """The header of a pcap file."""
    return pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, _SNAP_BYTES, _LINKTYPE_ETHERNET)


def pcap_frame(frame: CapturedFrame) -> bytes:
    """One frame of a pcap file."""
    size = len(frame.octets)
    seconds, microseconds = divmod(frame.at_us, 1_000_000)
    return pack("<IIII", seconds & 0xFFFFFFFF, microseconds, size, size + frame.missing_bytes) + frame.octets


def pcapng_head() -> bytes:
    """The header of a pcapng file."""
    return _block(_Kind.SECTION_HEADER, pack("<IHHq", _BYTE_ORDER_MAGIC, 1, 0, -1))


def pcapng_interface(name: str) -> bytes:
    """The next interface of a pcapng file, counted from 0."""
    named = _option(_IF_NAME, name) + pack("<HH", _OPT_END, 0) if name else b""
    return _block(_Kind.INTERFACE, pack("<HHI", _LINKTYPE_ETHERNET, 0, 0) + named)


def pcapng_frame(interface: int, frame: CapturedFrame) -> bytes:
    """One frame of a pcapng file, on an interface that has been written."""
    size = len(frame.octets)
    stamp = frame.at_us & 0xFFFFFFFFFFFFFFFF
    head = pack("<IIIII", interface, stamp >> 32, stamp & 0xFFFFFFFF, size, size + frame.missing_bytes)
    options = _option(_OPT_COMMENT, frame.comment) + pack("<HH", _OPT_END, 0) if frame.comment else b""
    return _block(_Kind.ENHANCED_PACKET, head + _padded(frame.octets) + options)


def _padded(octets: bytes) -> bytes:
    return octets + b"\0" * (-len(octets) % 4)


def _option(code: int, text: str) -> bytes:
    octets = text.encode()[:0xFFFF]
    return pack("<HH", code, len(octets)) + _padded(octets)


def _block(kind: int, body: bytes) -> bytes:
    length = 12 + len(body)
    return pack("<II", kind, length) + body + pack("<I", length)
