"""One running connection to the other node: non-blocking, for a thread with epoll or poll.

Both directions are bounded. Input is decoded in place in a fixed buffer. Output is copied into a fixed buffer; above
`limits.LINK_QUEUE_BYTES_MAX` unsent bytes `can_queue` is False and the owner stops reading what would add to them, so a
slow peer slows the guest down and fills no memory.

The owner's loop::

    link.receive() once at the start, and without waiting for the descriptor while link.has_pending
    readable → link.receive(), or link.fill() and link.front() until there is none
    link.queue(…) as long as link.can_queue; then link.flush()
    wait for writable only while link.wants_write

With TLS, "readable" differs from "has a message" (a record may be decrypted already), and "writable" from "wants to
write" (either direction may wait for the other); use `has_pending` and `wants_write`.
"""

import mmap
import socket
import ssl
from typing import Final

from pycolo import limits
from pycolo.core import LinkInlet, LinkOutlet
from pycolo.errors import LinkError, StateError
from pycolo.link.codec import (
    HEADER_BYTES,
    TLS_RECORD_BYTES_MAX,
    MessageType,
    payload_bytes_max,
)
from pycolo.transport.decoder import Decoder
from pycolo.transport.tcpoptions import set_options

Message = tuple[MessageType, memoryview]


class LinkSocket:
    """A connected socket after its hello, with the messages on it. Owned by one thread at a time.

    After a failure every call raises the same `LinkError`, one line that names the stream; `close()` always works.
    """

    def __init__(
        self,
        sock: socket.socket,
        stream: str,
        types: frozenset[MessageType],
        *,
        features: frozenset[str] = frozenset(),
        queue_bytes_max: int = limits.LINK_QUEUE_BYTES_MAX,
        read_bytes: int = limits.BATCH_BYTES,
        message_bytes_max: int = limits.LINK_MESSAGE_BYTES_MAX,
    ) -> None:
        """`types` are the messages that may arrive; `features`: what both nodes offer; `message_bytes_max` is the
        longest payload to send.
        """
        sock.setblocking(False)
        set_options(sock)
        self.stream = stream
        self.features = features
        self.received_bytes = 0
        self.sent_bytes = 0
        self._sock = sock
        self._tls = sock if isinstance(sock, ssl.SSLSocket) else None
        self._decoder = Decoder(stream, types, read_bytes)
        self.unsent_bytes_max = bound = queue_bytes_max + HEADER_BYTES + message_bytes_max
        # Anonymous memory: its pages cost nothing until a slow peer makes the queue grow into them.
        self._out = LinkOutlet(memoryview(mmap.mmap(-1, 2 * bound)), queue_bytes_max)
        self._failure: LinkError | None = None
        self._broken: LinkError | None = None  # nothing can be sent any more
        self._has_ended = False
        self._must_receive = True  # the handshake may have left decrypted bytes behind
        self._receive_wants_write = False
        self._flush_wants_read = False
        self._retry_bytes = 0  # length of the TLS write that has to be repeated as it was

    # ── state ───────────────────────────────────────────────────────────────────────────────────────────────

    def fileno(self) -> int:
        """The descriptor; -1 after `close()`."""
        return self._sock.fileno()

    @property
    def has_pending(self) -> bool:
        """Whether `receive()` or `front()` has a message or an error although the descriptor may not be readable."""
        if self._failure or self._broken or self._has_ended or self._must_receive:
            return True
        return self._tls is not None and self._tls.pending() > 0

    @property
    def has_failed(self) -> bool:
        """Whether the connection is over: `front()` raises the reason after the last message."""
        return self._failure is not None or self._broken is not None or self._has_ended

    @property
    def inlet(self) -> LinkInlet:
        """The buffer of received messages, for compiled code."""
        return self._decoder.inlet

    @property
    def outlet(self) -> LinkOutlet:
        """The buffer of messages to send, for compiled code."""
        return self._out

    @property
    def queued_bytes(self) -> int:
        """Bytes that wait to be sent."""
        return self._out.tail - self._out.head

    @property
    def can_queue(self) -> bool:
        """False while the peer is too slow: do not read what would be queued here."""
        return self._out.can_queue

    @property
    def wants_write(self) -> bool:
        """Whether to call `flush()` as soon as the descriptor is writable."""
        return self._receive_wants_write or (self._out.tail > self._out.head and not self._flush_wants_read)

    # ── in ──────────────────────────────────────────────────────────────────────────────────────────────────

    def receive(self) -> list[Message]:
        """The messages that have arrived, perhaps none; their payloads are valid until the next `receive()`.

        Raises `LinkError` if the connection has ended or the peer broke the protocol, but only after it has returned
        every earlier message.
        """
        self._check()
        self.fill()
        messages: list[Message] = []
        try:
            messages.extend(self._decoder.messages())
        except LinkError as error:
            self._failure = error
        self._note_end()
        if not messages:
            self._check()
        return messages

    def fill(self) -> None:
        """Read available data; `front()` reports an error of the connection, after the last message."""
        if self._failure is not None:
            return
        self._must_receive = False
        self._flush_wants_read = False
        before = self.received_bytes
        try:
            self._read()
        except LinkError as error:
            self._failure = error
        if self.received_bytes == before:
            self._failure = self._failure or self._broken

    def front(self) -> Message | None:
        """The first message, if one is complete; call `inlet.advance()` when done with it.

        Raises `LinkError` as `receive()` does, after the last message.
        """
        try:
            found = self._decoder.front()
        except LinkError as error:
            self._failure = error
            raise
        if found is None:
            self._note_end()
            self._check()
        return found

    def _note_end(self) -> None:
        """All complete messages were taken."""
        if self._has_ended and self._failure is None:
            cut = " in the middle of a message" if self._decoder.buffered_bytes else ""
            self._failure = LinkError(f"{self.stream}: closed by the other node{cut}")

    def _read(self) -> None:
        """Read what the kernel has, up to a batch. Raises `LinkError`; earlier data is still valid."""
        room = self._decoder.writable()
        # With TLS a read returns at most one record: read on until the batch is full or the kernel has no more.
        enough = 1 if self._tls is None else self._decoder.read_bytes - TLS_RECORD_BYTES_MAX + 1
        reached = 0
        try:
            while reached < enough and (count := self._read_into(room[reached:])):
                reached += count
        finally:
            self._decoder.received(reached)
            self.received_bytes += reached

    def _read_into(self, room: memoryview) -> int:
        """One read. 0 if no data is available, or the stream has ended. Raises `LinkError`."""
        try:
            count = self._sock.recv_into(room)
        except (BlockingIOError, ssl.SSLWantReadError):
            return 0
        except ssl.SSLWantWriteError:
            self._receive_wants_write = True
            return 0
        except OSError as error:
            raise self._lost(error) from error
        self._has_ended = count == 0
        return count

    # ── out ─────────────────────────────────────────────────────────────────────────────────────────────────

    def queue(self, message_type: MessageType, *buffers: bytes | bytearray | memoryview) -> None:
        """Append one message to the queue; its payload is the concatenation of `buffers`.

        Raises `StateError` if the message does not fit, which cannot happen while `can_queue` is True.
        """
        self._check()
        if not self._out.queue(message_type, *buffers):
            raise StateError(f"{self.stream}: queue()", f"{self.queued_bytes} bytes unsent", "can_queue")

    def flush(self) -> None:
        """Send as much as the socket accepts. `receive()` reports a lost connection."""
        self._check()
        out = self._out
        if self._broken:
            out.head = out.tail  # nothing is sent any more
        if self._receive_wants_write:
            self._receive_wants_write = False
            self._must_receive = True
        while out.head < out.tail:
            sent = self._send()
            if sent == 0:
                return
            out.head += sent
            self.sent_bytes += sent
        out.head = out.tail = 0

    def _send(self) -> int:
        """One write. 0 if the socket is not writable."""
        head, end = self._out.head, self._out.tail
        if self._tls is not None:
            # An interrupted SSL_write must be repeated with the same bytes: keep its length, whatever was queued since.
            end = head + (self._retry_bytes or min(TLS_RECORD_BYTES_MAX, end - head))
        try:
            sent = self._sock.send(self._out.view[head:end])
        except (BlockingIOError, ssl.SSLWantWriteError):
            self._retry_bytes = end - head
            return 0
        except ssl.SSLWantReadError:
            self._retry_bytes = end - head
            self._flush_wants_read = True
            return 0
        except OSError as error:
            # Not raised here: a goodbye may have arrived before the end, and receive() returns that first.
            self._broken = self._lost(error)
            self._out.head = self._out.tail
            return 0
        self._retry_bytes = 0
        return sent

    # ── end ─────────────────────────────────────────────────────────────────────────────────────────────────

    def close(self) -> None:
        """Close the socket; unsent data is lost. May be called twice."""
        if self._failure is None:
            self._failure = LinkError(f"{self.stream}: closed by this node")
        self._sock.close()

    def _lost(self, error: OSError) -> LinkError:
        why = error.reason if isinstance(error, ssl.SSLError) else error.strerror
        return LinkError(f"{self.stream}: connection lost: {why or error}")

    def _check(self) -> None:
        if self._failure is not None:
            raise self._failure


def control_link_socket(sock: socket.socket, stream: str, types: frozenset[MessageType]) -> LinkSocket:
    """A `LinkSocket` with the small buffers of a control connection."""
    return LinkSocket(
        sock,
        stream,
        types,
        queue_bytes_max=CONTROL_QUEUE_BYTES_MAX,
        read_bytes=TLS_RECORD_BYTES_MAX,
        message_bytes_max=payload_bytes_max(types),
    )


CONTROL_QUEUE_BYTES_MAX: Final = 64 << 10
"""Half a minute of unsent heartbeats at the default interval: by then the peer is long suspected."""
