"""The migration stream on its way through a node, and the exact epoch barrier in it (rule E1).

::

    primary QEMU ══ unix ══ Relay ════ link ════ Relay ══ unix ══ secondary QEMU
                    the primary's node            the secondary's node

Towards the secondary QEMU the stream is opaque. Back come four-byte COLO messages only (`ColoMessage`); each is shown
to `on_message` and passed on when that returns: what must happen before the other QEMU hears of it happens there
(`pycolo.vm.barrier`). That costs nothing else: while a message is on its way back, nothing moves forward.

One thread, both directions: a TLS connection must not be read and written by two threads.
"""

import select
import socket
import ssl
import threading
from collections.abc import Callable
from concurrent.futures import CancelledError
from contextlib import suppress
from enum import IntEnum
from struct import Struct
from typing import Final

from pycolo.errors import PycoloError
from pycolo.transport.linksetup import RawLink

CHUNK_BYTES: Final = 256 << 10
"""What one read takes at most: a unix socket's default buffer and a bit."""

FLUSH_S: Final = 0.5
"""When one side has ended: how long the last bytes for the other may take."""

_WORD: Final = Struct(">I")


class ColoMessage(IntEnum):
    """QEMU's COLOMessage, as it travels from the secondary to the primary (all but REQUEST, VMSTATE_*)."""

    READY = 0
    """The secondary has the primary's first state and runs."""
    REPLY = 2
    """The secondary has stopped."""
    RECEIVED = 5
    """The secondary has all of the primary's state."""
    LOADED = 6
    """The secondary runs the primary's state."""


class _Pump:
    """One direction: bytes that were read from `source` and not yet written to `sink`."""

    def __init__(self, source: socket.socket, sink: socket.socket) -> None:
        self.source = source
        self.sink = sink
        self.has_ended = False
        self.sink_is_gone = False
        self.bytes = 0
        self._buf = memoryview(bytearray(CHUNK_BYTES))
        self._start = 0
        self._end = 0

    @property
    def is_empty(self) -> bool:
        return self._start == self._end

    def read(self) -> bool:
        """Fill the empty buffer; False when nothing is there, or nothing will come any more."""
        try:
            count = self.source.recv_into(self._buf)
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return False
        except OSError:
            count = 0
        self._start, self._end = 0, count
        self.has_ended = count == 0
        return count > 0

    def write(self) -> None:
        """Write what the sink takes; discard data after the sink has closed."""
        try:
            while self._start < self._end:
                count = self.sink.send(self._buf[self._start : self._end])
                self._start += count
                self.bytes += count
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return
        except OSError:
            self._start = self._end = 0
            self.sink_is_gone = True

    def take(self) -> bytes:
        """What is in the buffer, out of it."""
        octets = bytes(self._buf[self._start : self._end])
        self._start = self._end = 0
        return octets

    def put(self, octets: bytes) -> None:
        """Into the empty buffer."""
        self._buf[: len(octets)] = octets
        self._start, self._end = 0, len(octets)


class Relay(threading.Thread):
    """Moves one migration stream between `guest`, the unix socket of this host's QEMU, and the other node.

    `on_message(word)` and `on_ended(text)` are called in this thread. When `on_message` raises a `PycoloError` the
    stream is closed, and the message does not pass. `on_ended` is called once, when either side has gone. The
    secondary's relay goes on reading its QEMU after that until `close`: whether it still says LOADED decides which
    state it runs.
    """

    def __init__(
        self,
        guest: socket.socket,
        link: RawLink,
        *,
        is_primary: bool,
        on_message: Callable[[int], None],
        on_ended: Callable[[str], None],
    ) -> None:
        super().__init__(name="migration relay", daemon=True)
        guest.setblocking(False)
        link.sock.setblocking(False)
        self._guest = guest
        self._link = link
        self._is_primary = is_primary
        self._on_message = on_message
        self._on_ended = on_ended
        self._forward = _Pump(guest, link.sock) if is_primary else _Pump(link.sock, guest)
        self._backward = _Pump(link.sock, guest) if is_primary else _Pump(guest, link.sock)
        self._partial = b""
        self._has_reported = False
        self._stop_reader, self._stop_writer = socket.socketpair()
        self._poller = select.poll()
        self._polled: dict[int, int] = {}

    @property
    def forward_bytes(self) -> int:
        """Bytes of the primary's state so far."""
        return self._forward.bytes

    def close(self, *, drain_s: float = 0.0) -> None:
        """End both connections. `drain_s`: first wait so long for this host's QEMU to end its side. Any thread."""
        if drain_s:
            self.join(drain_s)
        with suppress(OSError):
            self._stop_writer.send(b"x")
        if self.ident is not None and self is not threading.current_thread():
            self.join()
        else:
            self._close_all()

    def end_input(self) -> None:
        """Have this host's QEMU see the end of the stream now, whatever the other node does. Any thread."""
        with suppress(OSError):
            self._guest.shutdown(socket.SHUT_WR)

    # ── the thread ────────────────────────────────────────────────────────────────────────────────────────────

    def run(self) -> None:
        """Until `close`, or until nothing can come any more."""
        why = "the migration stream is closed"
        try:
            while self._turn():
                pass
        except (PycoloError, TimeoutError, CancelledError) as error:
            # The barrier could not be kept: what comes behind it must not pass.
            why = f"the migration stream is closed: {str(error) or type(error).__name__}"
        finally:
            self._ended(why)
            self._close_all()

    def _turn(self) -> bool:
        if not self._wait():
            return False
        for pump in (self._forward, self._backward):
            # As much as there is: each turn more would cost a wake-up, while the primary stands still.
            while True:
                if not pump.is_empty:
                    pump.write()
                if not pump.is_empty or not self._may_read(pump) or not pump.read():
                    break
                if pump is self._backward:
                    self._take_messages()
        return self._go_on()

    def _may_read(self, pump: _Pump) -> bool:
        return not pump.has_ended and not (self._has_reported and pump.source is self._link.sock)

    def _go_on(self) -> bool:
        """What the end of one side means for the other."""
        from_link = self._backward if self._is_primary else self._forward
        from_guest = self._forward if self._is_primary else self._backward
        if (from_guest.has_ended and from_guest.is_empty) or from_link.sink_is_gone:
            self._flush()
            self._ended("this host's QEMU has ended the migration stream")
            return False
        is_link_gone = (from_link.has_ended and from_link.is_empty) or from_guest.sink_is_gone
        if is_link_gone and not self._has_reported:
            self._ended("the other node has ended the migration stream")
            if self._is_primary:
                return False
            with suppress(OSError):
                self._guest.shutdown(socket.SHUT_WR)
        return True

    def _flush(self) -> None:
        """The last bytes, for a moment."""
        for pump in (self._forward, self._backward):
            with suppress(OSError):
                pump.sink.settimeout(FLUSH_S)
                if not pump.is_empty:
                    pump.sink.sendall(pump.take())

    def _wait(self) -> bool:
        """Until something can be done; False when it is `close`."""
        wanted: dict[int, int] = {self._stop_reader.fileno(): select.POLLIN}
        for pump in (self._forward, self._backward):
            if not pump.is_empty:
                wanted[pump.sink.fileno()] = wanted.get(pump.sink.fileno(), 0) | select.POLLOUT
            elif self._may_read(pump):
                wanted[pump.source.fileno()] = wanted.get(pump.source.fileno(), 0) | select.POLLIN
        if wanted != self._polled:
            for fd in self._polled.keys() - wanted.keys():
                self._poller.unregister(fd)
            for fd, events in wanted.items():
                self._poller.register(fd, events)
            self._polled = wanted
        link = self._link.sock
        is_pending = isinstance(link, ssl.SSLSocket) and link.pending() > 0
        ready = self._poller.poll(0 if is_pending else None)
        return all(fd != self._stop_reader.fileno() for fd, _ in ready)

    def _take_messages(self) -> None:
        """Show each whole message before it goes on; a part of one waits for its rest."""
        octets = self._partial + self._backward.take()
        whole = len(octets) & ~3
        self._partial = octets[whole:]
        if not whole:
            return
        for at in range(0, whole, 4):
            self._on_message(_WORD.unpack_from(octets, at)[0])
        if not self._has_reported:
            self._backward.put(octets[:whole])

    def _ended(self, text: str) -> None:
        if not self._has_reported:
            self._has_reported = True
            self._on_ended(text)

    def _close_all(self) -> None:
        self._guest.close()
        self._link.close()
        self._stop_reader.close()
        self._stop_writer.close()
