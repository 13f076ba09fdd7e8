"""The protocol of the bulk clients and the guests' bulk server; it is cheap, because the path between them matters.

Content is the pattern of `pycolo_lab.guest_server`. A reader lets the kernel discard most of it (MSG_TRUNC) and checks
a sample at the beginning of each stretch: lost, duplicated or displaced data before it shows there, as no two stretches
are alike. The position of a sample depends only on the position in the stream, so two guests give the same answers for
any segmentation.

A request is an operation and a number: `get N` is answered with N bytes, `put N` is followed by N bytes and answered
with the check over all samples so far, `ask N` is answered with N + 1.
"""

import socket
import struct
import zlib
from typing import Final

from pycolo_lab.guest_server import PATTERN_BYTES

PORT: Final = 5001

REQUEST: Final = struct.Struct("!cQ")
NUMBER: Final = struct.Struct("!Q")
CHECK: Final = struct.Struct("!I")
GET: Final = b"g"
PUT: Final = b"p"
ASK: Final = b"a"

SEND_BYTES: Final = 256 << 10
RECEIVE_BYTES: Final = 1 << 20

STRETCH_BYTES: Final = 1 << 20
SAMPLE_BYTES: Final = 16 << 10
"""This much of each stretch is checked: 1.6 %."""


class Sampler:
    """The receiving side of one stream of the pattern."""

    def __init__(self, content: bytes) -> None:
        self._content = content
        self._buffer = bytearray(RECEIVE_BYTES)
        self._view = memoryview(self._buffer)
        self.position = 0
        self.checked = 0
        self.check = 0

    def receive(self, connection: socket.socket, left: int) -> int:
        """Read available data, `left` bytes at most; wait for it. Raises EOFError at the end, ValueError at a wrong
        byte."""
        within = self.position % STRETCH_BYTES
        if within >= SAMPLE_BYTES:
            wanted = min(STRETCH_BYTES - within, left, RECEIVE_BYTES)
            received = connection.recv_into(self._buffer, wanted, socket.MSG_TRUNC)
        else:
            received = connection.recv_into(self._buffer, min(SAMPLE_BYTES - within, left))
            sample = self._view[:received]
            if not self._content.startswith(sample, self.position % PATTERN_BYTES):
                raise ValueError(f"wrong content within {received} bytes after byte {self.position}")
            self.check = zlib.crc32(sample, self.check)
            self.checked += received
        if not received:
            raise EOFError
        self.position += received
        return received


class Pattern:
    """The sending side: the same content, and the check that the receiver computes."""

    def __init__(self, content: bytes) -> None:
        self._view = memoryview(content)
        self.position = 0
        self.check = 0
        self.checked = 0

    def next(self, left: int) -> memoryview:
        """The next bytes to send, `left` at most; call `sent` with the number sent."""
        offset = self.position % PATTERN_BYTES
        return self._view[offset : offset + min(SEND_BYTES, left)]

    def sent(self, count: int) -> None:
        """This many bytes of `next` were sent."""
        end = self.position + count
        stretch = self.position - self.position % STRETCH_BYTES
        while stretch < end:
            begin, until = max(stretch, self.position), min(stretch + SAMPLE_BYTES, end)
            if begin < until:
                offset = begin % PATTERN_BYTES
                self.check = zlib.crc32(self._view[offset : offset + until - begin], self.check)
                self.checked += until - begin
            stretch += STRETCH_BYTES
        self.position = end


def receive_exactly(connection: socket.socket, size: int) -> bytes:
    """Exactly `count` bytes; none at the end of the stream. Raises EOFError if it ends within them."""
    received = connection.recv(size, socket.MSG_WAITALL)
    if received and len(received) < size:
        raise EOFError
    return received


def wait_at_most(connection: socket.socket, seconds: float) -> None:
    """Make calls raise BlockingIOError after that time without progress. The socket stays blocking, without polls."""
    limit = struct.pack("@ll", int(seconds), int(seconds % 1 * 1e6))
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, limit)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
