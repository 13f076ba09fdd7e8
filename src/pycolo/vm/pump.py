"""One direction of a stream on its way through a node."""

import socket
import ssl
from time import monotonic_ns
from typing import Final

from pycolo.vm.backstream import PARTIAL_BYTES_MAX

CHUNK_BYTES: Final = 256 << 10
"""Maximum size of one read: a little more than a unix socket's default buffer."""


class Pump:
    """Holds the bytes read from `source` and not yet written to `sink`. Neither socket blocks."""

    def __init__(self, source: socket.socket, sink: socket.socket) -> None:
        self.source = source
        self.sink = sink
        self.has_ended = False
        self.sink_is_gone = False
        self.bytes = 0
        self.moved_ns = 0
        self.first_ns = 0
        """When the first byte since `begin` was moved; 0: none was."""
        self.blocked_ns = 0
        """How long the sink has taken nothing since `begin`, while there was something for it."""
        self._blocked_since_ns = 0
        self.keeps_newest = False
        """Whether the last byte that was read stays here for now, for `write` and for `take`."""
        self._buf = memoryview(bytearray(CHUNK_BYTES + PARTIAL_BYTES_MAX))
        self._start = 0
        self._end = 0

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing that may be written."""
        return self._start == self._stop

    @property
    def _stop(self) -> int:
        return max(self._start, self._end - 1) if self.keeps_newest else self._end

    def read(self) -> bool:
        """Fill the empty buffer; False when there is nothing to read now, or `source` has ended."""
        kept = self._end - self._start
        self._buf[:kept] = bytes(self._buf[self._start : self._end])
        self._start, self._end = 0, kept
        try:
            count = self.source.recv_into(self._buf[kept:], CHUNK_BYTES)
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return False
        except OSError:
            count = 0
        self._end += count
        self.has_ended = count == 0
        return count > 0

    def begin(self) -> None:
        """Count the times anew."""
        self.first_ns = self.blocked_ns = self._blocked_since_ns = 0

    def write(self) -> None:
        """Write as much as the sink accepts; discard data after the sink has closed."""
        try:
            while not self.is_empty:
                count = self.sink.send(self._buf[self._start : self._stop])
                self._start += count
                self.moved_ns = monotonic_ns()  # first: another thread that sees the bytes has their time
                self.bytes += count
                self.first_ns = self.first_ns or self.moved_ns
                if self._blocked_since_ns:
                    self.blocked_ns += self.moved_ns - self._blocked_since_ns
                    self._blocked_since_ns = 0
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            self._blocked_since_ns = self._blocked_since_ns or monotonic_ns()
        except OSError:
            self._start = self._end = 0
            self.sink_is_gone = True

    def take(self) -> bytes:
        """Empty the buffer, and return what it held."""
        octets = bytes(self._buf[self._start : self._stop])
        self._start = self._stop
        return octets

    def put(self, octets: bytes) -> None:
        """Fill the empty buffer."""
        self._buf[: len(octets)] = octets
        self._start, self._end = 0, len(octets)
