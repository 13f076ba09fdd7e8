"""The migration stream on its way through a node, and the exact epoch barrier in it (rule E1).

::

    primary QEMU ══ unix ══ Relay ════ link ════ Relay ══ unix ══ secondary QEMU
                    the primary's node            the secondary's node

The stream to the secondary QEMU is opaque. The other direction carries COLO's messages, in newer versions after those
of the return path (`pycolo.vm.backstream`). The relay calls `on_message` with each message of COLO and passes it on
when the call returns, so `on_message` does what must happen before the other QEMU receives the message
(`pycolo.vm.barrier`). This delays nothing else: QEMU sends no state while it waits for a message.

One message of the stream is held in the same way at the secondary's node: the first word after READY or LOADED is the
primary's REQUEST for a checkpoint, upon which the secondary stops. `on_request` does what must happen before that.

At the primary's node a checkpoint may be asked about while its state flows: `ask` begins with the first bytes after
REPLY, when the primary has stopped. Until its answer is there, the newest byte of the state stays here, without which
the secondary loads nothing. The bytes before it go on: QEMU 11.1 writes them with its big lock held, so that a question
to its monitor is not answered while the stream is held up.

One thread serves both directions, because two threads must not use one TLS connection.
"""

import fcntl
import select
import socket
import ssl
import sys
import termios
import threading
from collections.abc import Callable
from concurrent.futures import CancelledError, Future
from contextlib import suppress
from pathlib import Path
from time import monotonic_ns
from typing import Final

from pycolo.checkpoint.parts import Flow
from pycolo.errors import ConnectError, PycoloError
from pycolo.transport.linksetup import RawLink
from pycolo.vm.backstream import BackStream, ColoMessage
from pycolo.vm.pump import Pump

FLUSH_S: Final = 0.5
"""Time to deliver the last bytes to one side after the other side has ended."""


_RUNS: Final = (ColoMessage.READY, ColoMessage.LOADED)
"""After these the primary's next word is REQUEST."""


class Relay(threading.Thread):
    """Moves one migration stream between `guest`, the unix socket of this host's QEMU, and the other node.

    `on_message(word)` and `on_ended(text)` are called in this thread, and what the former returns, when the message has
    passed. When `on_message` raises a `PycoloError`, the relay drops the message and closes the stream. `on_ended` is
    called once, when either side has ended. After that the secondary's relay still reads from its QEMU until `close`: a
    late LOADED decides which state the guest runs.
    """

    def __init__(
        self,
        guest: socket.socket,
        link: RawLink,
        *,
        is_primary: bool,
        on_message: Callable[[int], Callable[[], None] | None],
        on_ended: Callable[[str], None],
        on_request: Callable[[], None] | None = None,
        ask: Callable[[], Future[None]] | None = None,
    ) -> None:
        super().__init__(name="migration relay", daemon=True)
        guest.setblocking(False)
        link.sock.setblocking(False)
        self._guest = guest
        self._link = link
        self._is_primary = is_primary
        self._on_message = on_message
        self._on_ended = on_ended
        self._on_request = on_request
        self._is_request_next = False
        self._ask = ask
        self._is_state_next = False
        self._asked: Future[None] | None = None
        self._disks_ns = 0
        self._is_closing = False
        self._forward = Pump(guest, link.sock) if is_primary else Pump(link.sock, guest)
        self._backward = Pump(link.sock, guest) if is_primary else Pump(guest, link.sock)
        self._messages = BackStream()
        self._has_reported = False
        self._stop_reader, self._stop_writer = socket.socketpair()
        self._poller = select.poll()
        self._polled: dict[int, int] = {}

    @property
    def forward_bytes(self) -> int:
        """Bytes of the primary's state moved so far."""
        return self._forward.bytes

    @property
    def progress(self) -> tuple[int, int]:
        """`forward_bytes`, and when the last of them moved (monotonic µs). Any thread."""
        return self._forward.bytes, self._forward.moved_ns // 1000

    @property
    def flow(self) -> Flow:
        """The times of what has flowed since the last REPLY. In this thread."""
        pump = self._forward
        last_ns = pump.moved_ns if pump.first_ns else 0
        return Flow(pump.first_ns // 1000, last_ns // 1000, pump.blocked_ns // 1000, self._disks_ns // 1000)

    @property
    def read_bytes(self) -> int:
        """Bytes that this host's QEMU has read of the primary's state, at least. Any thread."""
        sent = self._forward.bytes
        try:
            return max(0, sent - int.from_bytes(fcntl.ioctl(self._guest, termios.TIOCOUTQ, bytes(4)), sys.byteorder))
        except (OSError, ValueError):  # it is closed
            return sent

    def close(self, *, drain_s: float = 0.0) -> None:
        """Close both connections. `drain_s`: first wait so long for this host's QEMU to close its side. Any thread."""
        if drain_s:
            self.join(drain_s)
        self._is_closing = True
        self._wake()
        if self.ident is not None and self is not threading.current_thread():
            self.join()
        else:
            self._close_all()

    def _wake(self) -> None:
        with suppress(OSError):
            self._stop_writer.send(b"x")

    def end_input(self) -> None:
        """Let this host's QEMU read the end of the stream now, whatever the other node does. Any thread."""
        with suppress(OSError):
            self._guest.shutdown(socket.SHUT_WR)

    # ── the thread ────────────────────────────────────────────────────────────────────────────────────────────

    def run(self) -> None:
        """Run until `close`, or until both sides have ended."""
        why = "the migration stream is closed"
        try:
            while self._turn():
                pass
        except (PycoloError, TimeoutError, CancelledError) as error:
            # The barrier could not be kept: nothing behind it may pass.
            why = f"the migration stream is closed: {str(error) or type(error).__name__}"
        finally:
            self._ended(why)
            self._close_all()

    def _turn(self) -> bool:
        if not self._wait():
            return False
        self._hear_answer()
        for pump in (self._forward, self._backward):
            # Move all there is: each further turn costs a wake-up while the primary is stopped.
            while True:
                if not pump.is_empty:
                    pump.write()
                if not pump.is_empty or not self._may_read(pump) or not pump.read():
                    break
                if pump is self._backward:
                    self._take_messages()
                elif self._is_request_next:
                    self._is_request_next = False
                    assert self._on_request is not None
                    self._on_request()
                elif self._is_state_next:
                    self._begin_asking()
        return self._go_on()

    def _begin_asking(self) -> None:
        assert self._ask is not None
        self._is_state_next, self._forward.keeps_newest = False, True
        self._asked = self._ask()
        self._asked.add_done_callback(lambda _: self._wake())

    def _hear_answer(self) -> None:
        """Raises what the question has found."""
        if self._asked is not None and self._asked.done():
            self._asked.result()
            if self._forward.is_empty:  # but for the newest byte
                self._disks_ns = monotonic_ns() - self._forward.moved_ns
            self._asked, self._forward.keeps_newest = None, False

    def _may_read(self, pump: Pump) -> bool:
        return not pump.has_ended and not (self._has_reported and pump.source is self._link.sock)

    def _go_on(self) -> bool:
        """React to the end of one side; False when the relay is done."""
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
        """Deliver the last bytes, within `FLUSH_S` each."""
        for pump in (self._forward, self._backward):
            with suppress(OSError):
                pump.sink.settimeout(FLUSH_S)
                if not pump.is_empty:
                    pump.sink.sendall(pump.take())

    def _wait(self) -> bool:
        """Wait until a socket is ready; False after `close`."""
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
        if any(fd == self._stop_reader.fileno() for fd, _ in ready):
            self._stop_reader.recv(16)
        return not self._is_closing

    def _take_messages(self) -> None:
        """Call `on_message` for each whole message, then let it pass; an incomplete one waits for its rest."""
        follows: list[Callable[[], None]] = []
        try:
            self._pass_messages(follows)
        finally:
            for follow in follows:
                follow()

    def _pass_messages(self, follows: list[Callable[[], None]]) -> None:
        whole = b""
        for message in self._messages.feed(self._backward.take()):
            if message.word is not None:
                follow = self._on_message(message.word)
                if follow is not None:
                    follows.append(follow)
                if message.word == ColoMessage.REPLY:
                    self._forward.begin()
                    self._disks_ns = 0
                self._is_request_next = self._on_request is not None and message.word in _RUNS
                self._is_state_next = self._ask is not None and message.word == ColoMessage.REPLY
            whole += message.octets
        if not self._has_reported:
            self._backward.put(whole)
            self._backward.write()

    def _ended(self, text: str) -> None:
        if not self._has_reported:
            self._has_reported = True
            self._on_ended(text)

    def _close_all(self) -> None:
        self._guest.close()
        self._link.close()
        self._stop_reader.close()
        self._stop_writer.close()


def listen_for_stream(path: Path) -> socket.socket:
    """Where the primary's QEMU connects for its migration. Raises `ConnectError`."""
    with suppress(OSError):
        path.unlink()
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        sock.bind(str(path))
        sock.listen(1)
    except OSError as error:
        sock.close()
        raise ConnectError(f"migration socket {path}: {error.strerror or error}") from error
    return sock
