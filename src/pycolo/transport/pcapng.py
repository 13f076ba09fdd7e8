"""Captures with a comment on each packet, for Wireshark and its kin: pcapng (draft-ietf-opsawg-pcapng).

Only what is needed: one section, Ethernet interfaces with microseconds, enhanced packet blocks with opt_comment.
"""

from collections.abc import Callable
from pathlib import Path
from struct import pack
from typing import BinaryIO, Final

from pycolo.errors import ConnectError

_SECTION_HEADER: Final = 0x0A0D0D0A
_INTERFACE: Final = 1
_ENHANCED_PACKET: Final = 6
_OPT_END: Final = 0
_OPT_COMMENT: Final = 1
_IF_NAME: Final = 2
_LINKTYPE_ETHERNET: Final = 1


class CaptureFile:
    """Writes to `path`. After a write failed (a full disk) nothing more is written, and `failure` says why."""

    def __init__(self, path: Path, interfaces: list[str], epoch_offset_us: int) -> None:
        """`epoch_offset_us`: what is added to a monotonic time to get wall-clock time. Raises `ConnectError`."""
        self.failure = ""
        self._offset_us = epoch_offset_us
        self._file: BinaryIO | None = None
        try:
            self._file = path.open("wb")
        except OSError as error:
            raise ConnectError(f"--pcap {path}: {error.strerror or error}") from error
        self._name = str(path)
        self._write(_block(_SECTION_HEADER, pack("<IHHq", 0x1A2B3C4D, 1, 0, -1)))
        for name in interfaces:
            body = pack("<HHI", _LINKTYPE_ETHERNET, 0, 0) + _option(_IF_NAME, name) + pack("<HH", _OPT_END, 0)
            self._write(_block(_INTERFACE, body))

    def packet(self, interface: int, at_us: int, frame: bytes, comment: str) -> None:
        """One packet of an interface (an index into those given), seen at monotonic `at_us`."""
        stamp = at_us + self._offset_us
        head = pack("<IIIII", interface, stamp >> 32, stamp & 0xFFFFFFFF, len(frame), len(frame))
        options = _option(_OPT_COMMENT, comment) + pack("<HH", _OPT_END, 0)
        self._write(_block(_ENHANCED_PACKET, head + _padded(frame) + options))

    def flush(self) -> None:
        """Hand what was written to the kernel."""
        self._attempt(lambda file: file.flush())

    def close(self) -> None:
        """End the file."""
        self.flush()
        if self._file is not None:
            self._file.close()
            self._file = None

    def _write(self, octets: bytes) -> None:
        self._attempt(lambda file: file.write(octets))

    def _attempt(self, action: Callable[[BinaryIO], object]) -> None:
        if self._file is None:
            return
        try:
            action(self._file)
        except OSError as error:
            self.failure = f"--pcap {self._name}: {error.strerror or error}; the capture ends here"
            file, self._file = self._file, None
            _close_quietly(file)


def _close_quietly(file: BinaryIO) -> None:
    try:
        file.close()
    except OSError:
        return


def _padded(octets: bytes) -> bytes:
    return octets + b"\0" * (-len(octets) % 4)


def _option(code: int, text: str) -> bytes:
    octets = text.encode()
    return pack("<HH", code, len(octets)) + _padded(octets)


def _block(kind: int, body: bytes) -> bytes:
    length = 12 + len(body)
    return pack("<II", kind, length) + body + pack("<I", length)
