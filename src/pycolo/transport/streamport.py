"""A port over QEMU's stream framing: a unix or TCP socket that listens or connects, and reconnects.

One connection at a time, as a QEMU chardev. When it ends, a partly received frame is void, and a partly sent frame is
sent again, whole, on the next connection: neither side ever reads from the middle. Nothing here blocks, connecting
included: it runs in the data path's thread.
"""

import errno
import os
import socket
from contextlib import suppress
from typing import Any, Final

from pycolo.core import frame_boundary
from pycolo.errors import ConnectError
from pycolo.transport.occupied import why_not, why_not_unix
from pycolo.transport.ports import VNET_LEN
from pycolo.transport.portspec import PortKind, PortSpec
from pycolo.transport.stalesocket import clear_path
from pycolo.transport.tcpoptions import set_options
from pycolo.wire.buffers import Buffer

DIAL_US: Final = 1_000_000
"""An attempt to connect that takes longer than a second is abandoned and repeated."""

LOOK_AGAIN_US: Final = 10_000
"""Interval at which a connection that is being opened is checked."""

ACCEPT_US: Final = 100_000
"""Interval at which a listening socket is checked if no thread waits on it."""

_NON_BLOCKING: Final = socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC


class StreamPort:
    """`vnet_len` only says whether the vnet word is present: on a stream each frame gives its own header's length."""

    def __init__(self, spec: PortSpec, option: str) -> None:
        """A server listens at once (raises `ConnectError` if that fails); a client connects in `service`."""
        self.name = f"{option} {spec.kind.value}:{spec.target}"
        self.vnet_len = VNET_LEN if spec.vnet_hdr else 0
        self.connections = 0
        self._spec = spec
        self._family, self._address = _resolve(spec, self.name)
        self._listener = _listen(self._family, self._address, self.name) if spec.server else None
        self._sock: socket.socket | None = None
        self._dialing: socket.socket | None = None
        self._give_up_at_us = 0
        self._retry_at_us = 0
        self._reset = False
        self.sent_of_frame = 0
        """Bytes already sent of the frame that the next `write_batch` offers first."""
        self._bytes_in = 0
        self._bytes_out = 0
        self._failure = ""
        self._note: str | None = None

    def fileno(self) -> int:
        """The connection's descriptor; without a connection, the listening socket's."""
        if self._sock is not None:
            return self._sock.fileno()
        return self._listener.fileno() if self._listener is not None else -1

    @property
    def is_connected(self) -> bool:
        """Whether the peer is connected."""
        return self._sock is not None

    def take_note(self) -> str | None:
        """A line for the user, once: why there is no connection. Each reason appears once."""
        note, self._note = self._note, None
        return note

    # ── connecting and disconnecting ──────────────────────────────────────────────────────────────────────────

    def service(self, now_us: int) -> int | None:
        """Accept or connect; see `Port`."""
        if self._sock is not None:
            return None
        if self._listener is None:
            return self._dial(now_us)
        with suppress(OSError):
            self._adopt(self._listener.accept()[0])
            return None
        return now_us + ACCEPT_US

    def _dial(self, now_us: int) -> int | None:
        if self._dialing is None:
            if now_us < self._retry_at_us:
                return self._retry_at_us
            self._retry_at_us = now_us + self._spec.reconnect_ms * 1000
            self._give_up_at_us = now_us + DIAL_US
            self._dialing = socket.socket(self._family, _NON_BLOCKING)
        number = self._dialing.connect_ex(self._address)
        if number in (errno.EINPROGRESS, errno.EALREADY):
            if now_us < self._give_up_at_us:
                return now_us + LOOK_AGAIN_US
            number = errno.ETIMEDOUT
        sock, self._dialing = self._dialing, None
        if number in (0, errno.EISCONN) and not _is_connected_to_itself(sock):
            self._adopt(sock)
            return None
        sock.close()
        failure = os.strerror(number or errno.ECONNREFUSED)
        if failure != self._failure:
            self._failure = failure
            self._note = f"{self.name}: cannot connect: {failure}; trying again every {self._spec.reconnect_ms} ms"
        return self._retry_at_us

    def _adopt(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        with suppress(OSError):  # it may have ended already: the next read reports that
            set_options(sock)
        self._sock = sock
        self.sent_of_frame = 0
        self._failure = ""
        self.connections += 1

    def drop(self) -> None:
        """Close this connection; another may follow."""
        if self._sock is not None:
            self._sock.close()
            self._sock = None
            self._reset = True
            self.sent_of_frame = 0

    def take_reset(self) -> bool:
        """See `Port`."""
        was_reset, self._reset = self._reset, False
        return was_reset

    def close(self) -> None:
        """Close everything; also remove the path of a unix socket."""
        for sock in (self._sock, self._dialing, self._listener):
            if sock is not None:
                sock.close()
        if self._listener is not None and self._spec.kind is PortKind.UNIX:
            with suppress(OSError):
                os.unlink(self._spec.target)
        self._sock = self._dialing = self._listener = None

    # ── bytes ─────────────────────────────────────────────────────────────────────────────────────────────────

    def read_batch(self, buf: Buffer, pos: int) -> int:
        """Read waiting bytes; see `Port`. The end of the stream is not an error: it may reconnect."""
        if self._sock is None or pos == len(buf):
            return pos
        try:
            count = self._sock.recv_into(memoryview(buf)[pos:])
        except (BlockingIOError, InterruptedError):
            return pos
        except OSError:
            count = 0
        if count == 0:
            self.drop()
        self._bytes_in += count
        return pos + count

    def write_batch(self, buf: Buffer, pos: int, end: int) -> int:
        """Send bytes, return a frame boundary; see `Port`.

        Until all of a batch is accepted, the next call must offer the rest of it: a part of its first frame may have
        been sent.
        """
        if self._sock is None:
            return pos
        try:
            sent = self._sock.send(memoryview(buf)[pos + self.sent_of_frame : end])
        except (BlockingIOError, InterruptedError):
            return pos
        except OSError:
            self.drop()
            return pos
        self._bytes_out += sent
        reached = pos + self.sent_of_frame + sent
        boundary = frame_boundary(buf, pos, reached, self.vnet_len != 0)
        self.sent_of_frame = reached - boundary
        return boundary

    def note_moved(self, octets_in: int, octets_out: int) -> None:
        """Count bytes that were read and written directly through `fileno()`."""
        self._bytes_in += octets_in
        self._bytes_out += octets_out

    def counters(self) -> dict[str, int]:
        """See `Port`."""
        return {
            "bytes_in": self._bytes_in,
            "bytes_out": self._bytes_out,
            "connections": self.connections,
            "connected": int(self.is_connected),
        }


def _resolve(spec: PortSpec, name: str) -> tuple[int, Any]:
    """(address family, address). Called once at start, as resolving a name may block."""
    if spec.kind is PortKind.UNIX:
        return socket.AF_UNIX, spec.target
    host, _, port = spec.target.rpartition(":")
    try:
        found = socket.getaddrinfo(host.strip("[]"), int(port), type=socket.SOCK_STREAM)
    except OSError as error:
        raise ConnectError(f"{name}: {host} has no address: {error.strerror or error}") from error
    family, _, _, _, address = found[0]
    return family, address


def _is_connected_to_itself(sock: socket.socket) -> bool:
    """Whether TCP has connected the socket to itself: within one host it may pick the target's free port as its own."""
    if sock.family == socket.AF_UNIX:
        return False
    try:
        return bool(sock.getsockname() == sock.getpeername())
    except OSError:  # it has ended already: the next read reports that
        return False


def _listen(family: int, address: Any, name: str) -> socket.socket:
    sock = socket.socket(family, _NON_BLOCKING)
    try:
        if family == socket.AF_UNIX:
            clear_path(address)
        else:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(address)
        sock.listen(1)
    except OSError as error:
        sock.close()
        what = error.strerror or str(error)
        if error.errno == errno.EADDRINUSE:
            what = why_not_unix(address) if family == socket.AF_UNIX else why_not(error, address[1])
        raise ConnectError(f"{name}: cannot listen: {what}") from error
    return sock
