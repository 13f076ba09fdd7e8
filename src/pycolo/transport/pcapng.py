"""A capture that a running process writes, for Wireshark and its kin: `pycolo.wire.capture` makes its bytes."""

from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from pycolo.errors import ConnectError
from pycolo.wire.capture import CapturedFrame, pcapng_frame, pcapng_head, pcapng_interface


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
        self._write(pcapng_head())
        for name in interfaces:
            self._write(pcapng_interface(name))

    def packet(self, interface: int, at_us: int, frame: bytes, comment: str) -> None:
        """One packet of an interface (an index into those given), seen at monotonic `at_us`."""
        self._write(pcapng_frame(interface, CapturedFrame(frame, at_us + self._offset_us, comment=comment)))

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
