"""Captures written by a running process, for Wireshark and similar tools: `pycolo.wire.capture` formats them."""

from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from pycolo.errors import ConnectError
from pycolo.wire.capture import CapturedFrame, pcapng_frame, pcapng_head, pcapng_interface


class CaptureFile:
    """Writes to `path`. After a failed write (a full disk) it writes no more, and `failure` has the reason."""

    def __init__(self, path: Path, interfaces: list[str], epoch_offset_us: int) -> None:
        """`epoch_offset_us`: added to a monotonic time, it gives wall-clock time. Raises `ConnectError`."""
        self.failure = ""
        self._offset_us = epoch_offset_us
        self._file: BinaryIO | None = None
        try:
            self._file = path.open("wb")
        except OSError as error:
            raise ConnectError(f"--pcap {path}: {error.strerror or error}") from error
        self._name = str(path)
        self._write(pcapng_head())
        for name in interfaces:
            self._write(pcapng_interface(name))

    def packet(self, interface: int, at_us: int, frame: bytes, comment: str) -> None:
        """Write one packet of an interface (an index into those given), seen at monotonic `at_us`."""
        self._write(pcapng_frame(interface, CapturedFrame(frame, at_us + self._offset_us, comment=comment)))

    def flush(self) -> None:
        """Flush to the kernel."""
        self._attempt(lambda file: file.flush())

    def close(self) -> None:
        """Close the file."""
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
