"""What the bulk clients and the guests' bulk server say, made to cost little: the path between them is what counts.

Content is the pattern of `pycolo_lab.guest_server`. A reader lets the kernel throw most of it away (MSG_TRUNC) and
looks at a sample at the beginning of each stretch: what is lost, doubled or out of place before it shows there, for no
two stretches look alike. Where a sample lies depends on the position in the stream only, so that two guests answer
alike whatever the segments were.

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
"""Of each stretch so much is looked at: 1.6 %."""


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
        """Take what has come, `left` bytes at most; wait for it. Raises EOFError at the end, ValueError at a wrong
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
    """The sending side: the same content, and the check that the receiver comes to."""

    def __init__(self, content: bytes) -> None:
        self._view = memoryview(content)
        self.position = 0
        self.check = 0
        self.checked = 0

    def next(self, left: int) -> memoryview:
        """The next bytes to send, `left` at most; `sent` says how many of them were."""
        offset = self.position % PATTERN_BYTES
        return self._view[offset : offset + min(SEND_BYTES, left)]

    def sent(self, count: int) -> None:
        """So many of `next` are on their way."""
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
    """So many bytes; none at the end of the stream. Raises EOFError when it ends within."""
    received = connection.recv(size, socket.MSG_WAITALL)
    if received and len(received) < size:
        raise EOFError
    return received


def wait_at_most(connection: socket.socket, seconds: float) -> None:
    """BlockingIOError when nothing moves for so long. The socket stays a blocking one, without a poll for each call."""
    limit = struct.pack("@ll", int(seconds), int(seconds % 1 * 1e6))
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, limit)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
