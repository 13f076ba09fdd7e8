"""Frames in files and batches: `from pycolo import frames`.

::

    read, write          captures: pcap and pcapng, with time, interface and comment of each frame
    in_order             the frames of several captures, by time
    source               a frame's source MAC address
    batch, unbatch       frames <-> one buffer in QEMU's stream framing
"""

from collections.abc import Iterable, Iterator
from heapq import merge
from itertools import repeat
from os import PathLike
from pathlib import Path
from struct import pack

from pycolo.core import COMPLETE, IMPOSSIBLE, Span, frame_at
from pycolo.errors import ConnectError, WireError, WireReason
from pycolo.limits import STREAM_LENGTH_BYTES_MAX
from pycolo.wire.capture import (
    CapturedFrame,
    captured_frames,
    pcap_frame,
    pcap_head,
    pcapng_frame,
    pcapng_head,
    pcapng_interface,
)

__all__ = ["CapturedFrame", "batch", "in_order", "read", "source", "unbatch", "write"]


# ── captures ────────────────────────────────────────────────────────────────────────────────────────────────


def read(path: str | PathLike[str]) -> Iterator[CapturedFrame]:
    """The frames of a pcap or pcapng file, one by one.

    Raises `ConnectError` if it cannot be read, and `WireError` at damage, after the frames before it.
    """
    try:
        with Path(path).open("rb") as file:
            yield from captured_frames(file.read, str(path))
    except OSError as error:
        raise ConnectError(f"{path}: {error.strerror or error}") from error


def write(path: str | PathLike[str], frames: Iterable[CapturedFrame]) -> int:
    """Write a capture. Returns the number of frames. A name ending in `.pcap` gives a pcap, any other a pcapng.

    Raises `ConnectError` if it cannot be written.
    """
    place = Path(path)
    octets = _pcap_octets(frames) if place.suffix == ".pcap" else _pcapng_octets(frames)
    try:
        with place.open("wb") as file:
            return sum(1 for each in octets if file.write(each[0]) and each[1])
    except OSError as error:
        raise ConnectError(f"{path}: {error.strerror or error}") from error


def _pcap_octets(frames: Iterable[CapturedFrame]) -> Iterator[tuple[bytes, bool]]:
    """The content of a file, and which of it is a frame."""
    yield pcap_head(), False
    for frame in frames:
        yield pcap_frame(frame), True


def _pcapng_octets(frames: Iterable[CapturedFrame]) -> Iterator[tuple[bytes, bool]]:
    yield pcapng_head(), False
    interfaces: dict[str, int] = {}
    for frame in frames:
        if frame.interface not in interfaces:
            interfaces[frame.interface] = len(interfaces)
            yield pcapng_interface(frame.interface), False
        yield pcapng_frame(interfaces[frame.interface], frame), True


def in_order(**captures: Iterable[CapturedFrame]) -> Iterator[tuple[str, CapturedFrame]]:
    """The frames of several captures by time, each with the name that its capture has in `captures`."""
    return merge(*(zip(repeat(name), found) for name, found in captures.items()), key=lambda found: found[1].at_us)


def source(frame: bytes) -> str:
    """The frame's source MAC address, as `02:00:00:00:00:01`; "" if the frame has none."""
    return frame[6:12].hex(":") if len(frame) >= 12 else ""


# ── batches ─────────────────────────────────────────────────────────────────────────────────────────────────


def batch(frames: Iterable[bytes], *, vnet_header_bytes: int | None = None) -> bytearray:
    """One buffer: each frame after its length word.

    `vnet_header_bytes`: length of the vnet header at the beginning of each frame (0, 10 or 12), for a stream with
    `vnet_hdr_support`; None for a stream without. Raises `WireError` for a frame that a stream cannot carry.
    """
    word = b"" if vnet_header_bytes is None else pack(">I", vnet_header_bytes)
    whole = bytearray()
    for frame in frames:
        if len(frame) > STREAM_LENGTH_BYTES_MAX:
            raise WireError(WireReason.UNSUPPORTED, STREAM_LENGTH_BYTES_MAX, f"a frame of {len(frame)} bytes")
        whole += pack(">I", len(frame)) + word + frame
    return whole


def unbatch(octets: bytes | bytearray | memoryview, *, has_vnet: bool = False) -> list[bytes]:
    """The frames of a batch, with their vnet headers. Raises `WireError` unless it consists of whole frames."""
    buffer, span = bytearray(octets), Span()
    found, pos = [], 0
    while pos < len(buffer):
        status = frame_at(buffer, pos, len(buffer), has_vnet, span)
        if status != COMPLETE:
            reason = WireReason.MALFORMED if status == IMPOSSIBLE else WireReason.TRUNCATED
            raise WireError(reason, pos, "batch")
        found.append(bytes(buffer[span.start : span.end]))
        pos = span.end
    return found
