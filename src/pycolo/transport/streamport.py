"""A port over QEMU's stream framing: a unix or TCP socket that listens or connects, and comes back.

One connection at a time, as a QEMU chardev. When it ends, the part of a frame that had come is void, and a frame of
which only a part was sent is sent again, whole, on the next connection: neither side ever reads from the middle.
"""

import errno
import os
import socket
import stat
from contextlib import suppress

from pycolo.errors import ConnectError
from pycolo.transport.linksocket import set_options
from pycolo.transport.ports import VNET_LEN
from pycolo.transport.portspec import PortKind, PortSpec
from pycolo.wire.buffers import Buffer
from pycolo.wire.framing import frame_boundary


class StreamPort:
    """`vnet_len` only says whether the vnet word is there: each frame on a stream says its own header's length."""

    def __init__(self, spec: PortSpec, option: str) -> None:
        """Begins to listen at once (raises `ConnectError` when that fails); connecting is tried in `service`."""
        self.name = f"{option} {spec.kind.value}:{spec.target}"
        self.vnet_len = VNET_LEN if spec.vnet_hdr else 0
        self.connections = 0
        self._spec = spec
        self._listener: socket.socket | None = None
        self._sock: socket.socket | None = None
        self._retry_at_us = 0
        self._reset = False
        self._sent_of_frame = 0
        self._bytes_in = 0
        self._bytes_out = 0
        self._last_failure = ""
        if spec.server:
            self._listener = _listen(spec, self.name)

    def fileno(self) -> int:
        """The connection; while there is none, the listening socket."""
        if self._sock is not None:
            return self._sock.fileno()
        return self._listener.fileno() if self._listener is not None else -1

    @property
    def is_connected(self) -> bool:
        """Whether the other side is there."""
        return self._sock is not None

    def service(self, now_us: int) -> int | None:
        """Accept or connect; see `Port`."""
        if self._sock is not None:
            return None
        if self._listener is not None:
            with suppress(OSError):
                self._adopt(self._listener.accept()[0])
            return None
        if now_us >= self._retry_at_us:
            self._retry_at_us = now_us + self._spec.reconnect_ms * 1000
            try:
                self._adopt(_connect(self._spec))
            except OSError as error:
                self._last_failure = error.strerror or str(error)
        return None if self.is_connected else self._retry_at_us

    def read_batch(self, buf: Buffer, pos: int) -> int:
        """Bytes that wait; see `Port`. The end of the stream is not an error: it may come back."""
        if self._sock is None:
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
        """Send bytes, report whole frames; see `Port`."""
        if self._sock is None:
            return pos
        try:
            sent = self._sock.send(memoryview(buf)[pos + self._sent_of_frame : end])
        except (BlockingIOError, InterruptedError):
            return pos
        except OSError:
            self.drop()
            return pos
        self._bytes_out += sent
        reached = pos + self._sent_of_frame + sent
        boundary = frame_boundary(buf, pos, reached, self.vnet_len != 0)
        self._sent_of_frame = reached - boundary
        return boundary

    def drop(self) -> None:
        """End this connection; another may follow."""
        if self._sock is not None:
            self._sock.close()
            self._sock = None
            self._reset = True
            self._sent_of_frame = 0

    def take_reset(self) -> bool:
        """See `Port`."""
        was_reset, self._reset = self._reset, False
        return was_reset

    def counters(self) -> dict[str, int]:
        """See `Port`."""
        return {
            "bytes_in": self._bytes_in,
            "bytes_out": self._bytes_out,
            "connections": self.connections,
            "connected": int(self.is_connected),
        }

    def close(self) -> None:
        """Close everything; a unix socket's path goes too."""
        if self._sock is not None:
            self._sock.close()
            self._sock = None
        if self._listener is not None:
            self._listener.close()
            self._listener = None
            if self._spec.kind is PortKind.UNIX:
                with suppress(OSError):
                    os.unlink(self._spec.target)

    def _adopt(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        set_options(sock)
        self._sock = sock
        self._sent_of_frame = 0
        self.connections += 1


def _split(target: str) -> tuple[str, int]:
    host, _, port = target.rpartition(":")
    return host.strip("[]"), int(port)


def _connect(spec: PortSpec) -> socket.socket:
    if spec.kind is PortKind.UNIX:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        try:
            sock.connect(spec.target)
        except OSError:
            sock.close()
            raise
        return sock
    return socket.create_connection(_split(spec.target), timeout=1)


def _listen(spec: PortSpec, name: str) -> socket.socket:
    try:
        if spec.kind is PortKind.UNIX:
            _remove_stale(spec.target)
            sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
            try:
                sock.bind(spec.target)
                sock.listen(1)
            except OSError:
                sock.close()
                raise
        else:
            host, port = _split(spec.target)
            family = socket.AF_INET6 if ":" in host else socket.AF_INET
            sock = socket.create_server((host, port), family=family, backlog=1)
    except OSError as error:
        what = "the path is in use" if error.errno == errno.EADDRINUSE else error.strerror or str(error)
        raise ConnectError(f"{name}: cannot listen: {what}") from error
    sock.setblocking(False)
    return sock


def _remove_stale(path: str) -> None:
    """A socket that nobody listens on is left over from a process that was killed."""
    try:
        if not stat.S_ISSOCK(os.stat(path).st_mode):
            return
    except OSError:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            os.unlink(path)
        except OSError:
            return
