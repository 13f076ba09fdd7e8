"""One object's thread: what compare, rewriter and netdev have in common.

Streams connect and disconnect here, each with a line in the log. An invalid stream is closed; the log names it and the
reason. A server chardev with wait=on keeps the object from starting. This module decides nothing about frames.
"""

import os
import select
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

from pycolo.core import Batch, Pump, StreamInlet, StreamOutlet
from pycolo.errors import FramingError
from pycolo.path.clock import now_us
from pycolo.proxy.chardev import ChardevPort
from pycolo.proxy.notifydev import INIT_ANSWER, Message, NotifyDev
from pycolo.transport.ports import Port

T = TypeVar("T")

WAIT_US_MAX: Final = 1_000_000
"""Wake at least once a second, to evict idle connections and to reopen closed streams."""

FLUSH_US: Final = 1_000_000
"""At the end, released frames may take this long to leave."""

_SHOWN_BYTES_MAX: Final = 40


@dataclass(frozen=True, slots=True)
class Event:
    """A log line. `level`: info or warning; `fields`: further key-value pairs."""

    level: str
    object_id: str
    text: str
    fields: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class StreamState:
    """One chardev or device of an object. `role`: the property that names it."""

    role: str
    name: str
    is_connected: bool
    counters: dict[str, int]


@dataclass(frozen=True, slots=True)
class ObjectState:
    """The state of one object. `held`: packets that wait; `holding_us`: how long the oldest has waited, None if none.

    `gauges` go up and down; `counters` only go up.
    """

    kind: str
    object_id: str
    streams: tuple[StreamState, ...]
    counters: dict[str, int]
    gauges: dict[str, int]
    is_waiting: bool = False
    held: int = 0
    holding_us: int | None = None


class ProxyPath(threading.Thread):
    """Base of the objects' threads: one epoll, no locks. `streams`: role → port.

    `on_event` receives log lines, `on_fatal` the error that ended the thread; both are called in any thread. `spin_us`:
    poll for that long before sleeping; this costs a core while frames arrive and saves the wake-up.
    """

    def __init__(
        self,
        object_id: str,
        streams: dict[str, Port],
        on_event: Callable[[Event], None],
        on_fatal: Callable[[BaseException], None],
        spin_us: int = 0,
    ) -> None:
        super().__init__(name=object_id, daemon=True)
        self.object_id = object_id
        self._streams = streams
        self._on_event = on_event
        self._on_fatal = on_fatal
        self.lost_batches = 0
        self._is_started = False
        self._is_stopping = False
        self._chardevs = {role: port for role, port in streams.items() if isinstance(port, ChardevPort)}
        self._spin_us = spin_us
        self._last_ready_us = 0
        self._ports = tuple(self._chardevs.values())
        self._settled_at = -1
        self._waited_for: tuple[Any, ...] | None = None
        self._seen = dict.fromkeys(self._chardevs, 0)
        self._half_closed: set[int] = set()
        self._scratch = bytearray(4096)
        self._epoll = select.epoll()
        self._registered: dict[int, int] = {}
        self._mail: deque[Callable[[], None]] = deque()
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)

    # ── from other threads ────────────────────────────────────────────────────────────────────────────────────

    def ask(self, question: Callable[[], T]) -> "Future[T]":
        """Run `question` in this thread and return its answer."""
        future: Future[T] = Future()

        def answer() -> None:
            try:
                future.set_result(question())
            except Exception as error:
                future.set_exception(error)

        self._post(answer)
        return future

    def stop(self) -> None:
        """End the thread: released frames are sent, streams are closed."""
        self._post(self._stop)
        if self.ident is not None:
            self.join()

    def _post(self, action: Callable[[], None]) -> None:
        self._mail.append(action)
        os.eventfd_write(self._wake, 1)

    def _stop(self) -> None:
        self._is_stopping = True

    # ── for subclasses ────────────────────────────────────────────────────────────────────────────────────────

    def states(self) -> list[ObjectState]:
        """The state of every object in this thread. Call it in this thread (`ask`)."""
        raise NotImplementedError

    def _wanted(self) -> dict[int, int]:
        """Descriptor → epoll events to wait for now."""
        raise NotImplementedError

    def _interest(self) -> tuple[Any, ...] | None:
        """What `_wanted` depends on besides the connections; None: call `_wanted` each time."""
        return None

    def _move(self, ready: dict[int, int]) -> None:
        """Move frames."""
        raise NotImplementedError

    def _deadline_us(self) -> int | None:
        """The latest time for the next call of `_move`."""
        raise NotImplementedError

    def _flush(self) -> bool:
        """Send released frames. Returns whether all were sent."""
        raise NotImplementedError

    # ── the loop ──────────────────────────────────────────────────────────────────────────────────────────────

    def run(self) -> None:
        """The thread's body: returns after `stop`, or on the first error that does not belong to one stream."""
        self._epoll.register(self._wake, select.EPOLLIN)
        for chardev in self._chardevs.values():
            if chardev.waits:
                self.tell(f"{chardev.name}: waiting for a connection (wait=on)")
        try:
            while True:
                service_us = self._service()
                ready = self._wait(service_us)
                while self._mail:
                    self._mail.popleft()()
                if self._is_stopping:
                    self._flush_at_end()
                    return
                self._service()
                if self._has_started():
                    self._move(ready)
        except BaseException as error:
            self._on_fatal(error)
        finally:
            for port in self._streams.values():
                port.close()
            self._epoll.close()

    def _has_started(self) -> bool:
        """Whether every server with wait=on has had a connection."""
        if not self._is_started:
            self._is_started = not any(port.waits for port in self._chardevs.values())
        return self._is_started

    def _wait(self, service_us: int | None) -> dict[int, int]:
        """Sleep until there is work; descriptor → events."""
        if self._has_started():
            self._watch()
            wait = self._await
        else:
            waiting = [port for port in self._ports if not port.is_connected]
            self._register({port.fileno(): select.EPOLLIN for port in waiting})
            wait = self._poll
        until = now_us() + WAIT_US_MAX
        if service_us is not None and service_us < until:
            until = service_us
        ready = wait(until)
        if self._wake in ready:
            del ready[self._wake]
            os.eventfd_read(self._wake)
        return ready

    def _await(self, until: int) -> dict[int, int]:
        """Sleep until `_move` has work; a subclass may move frames meanwhile."""
        due_us = self._deadline_us()
        return self._poll(until if due_us is None else min(until, due_us))

    def _poll(self, until: int) -> dict[int, int]:
        now = now_us()
        if self._spin_us:
            spin_until = min(until, self._last_ready_us + self._spin_us)
            while now < spin_until:
                if found := self._epoll.poll(0):
                    self._last_ready_us = now
                    return dict(found)
                now = now_us()
        found = self._epoll.poll(max(0, until - now) / 1e6)
        if self._spin_us and found:
            self._last_ready_us = now_us()
        return dict(found)

    def _watch(self) -> None:
        """Register the events that are wanted now; they seldom change."""
        interest = self._interest()
        if interest is not None:
            interest = (self._changes(), len(self._half_closed), interest)
            if interest == self._waited_for:
                return
        self._waited_for = interest
        self._register(self._wanted())

    def _changes(self) -> int:
        count = 0
        for port in self._ports:
            count += port.changes
        return count

    def _register(self, wanted: dict[int, int]) -> None:
        wanted = {fd: events for fd, events in wanted.items() if fd >= 0}
        for fd in [fd for fd in self._registered if fd not in wanted]:
            self._forget(fd)
        for fd, events in wanted.items():
            if self._registered.get(fd) == events:
                continue
            try:
                if fd in self._registered:
                    self._epoll.modify(fd, events)
                else:
                    self._epoll.register(fd, events)
            except FileNotFoundError:  # closed, and its number was reused
                self._epoll.register(fd, events)
            self._registered[fd] = events

    def _forget(self, fd: int) -> None:
        """Stop watching a descriptor, or one that is about to be closed: its number may be reused."""
        if self._registered.pop(fd, None) is not None:
            with suppress(OSError):  # closed: the kernel has removed it
                self._epoll.unregister(fd)

    def _service(self) -> int | None:
        """Let streams connect and disconnect. Returns the latest time for the next call."""
        changes = self._changes()
        if changes == self._settled_at:
            return None
        dues = []
        for role, port in self._chardevs.items():
            if port.is_connected and port.connections == self._seen[role]:
                continue
            due = port.service(now_us())
            if due is not None:
                dues.append(due)
            note = port.take_note()
            if note is not None:
                self.warn(note)
            if port.connections != self._seen[role]:
                self._seen[role] = port.connections
                self._half_closed.discard(port.fileno())
                self._forget(port.fileno())  # its number may have belonged to a closed one
                self.tell(f"{port.name}: connected")
        # When all are connected there is no work until one of them changes.
        self._settled_at = self._changes() if all(port.is_connected for port in self._ports) else -1
        return min(dues, default=None)

    def _flush_at_end(self) -> None:
        due = now_us() + FLUSH_US
        while not self._flush() and now_us() < due:
            self._epoll.poll(0.01)

    # ── the compiled loop ─────────────────────────────────────────────────────────────────────────────────────────

    def _pumped(
        self,
        pump: Pump,
        inlets: list[tuple[StreamInlet, ChardevPort]],
        outlets: list[tuple[StreamOutlet, ChardevPort]],
        until: int,
    ) -> dict[int, int]:
        """Let a pump move frames while nothing else happens; it borrows the ports' descriptors."""
        for inlet, port in inlets:
            fd = port.fileno() if port.is_connected else -1
            inlet.connect(fd, self._registered.get(fd, 0))
        for outlet, port in outlets:
            fd = port.fileno() if port.is_connected else -1
            outlet.connect(fd, self._registered.get(fd, 0))
            outlet.sent_of_frame = port.sent_of_frame
        ready = pump.run(until)
        for inlet, port in inlets:
            port.note_moved(inlet.octets, 0)
            if not inlet.events:
                self._registered.pop(inlet.fd, None)
            elif inlet.fd >= 0:
                self._registered[inlet.fd] = inlet.events
        for outlet, port in outlets:
            port.note_moved(0, outlet.octets)
            port.sent_of_frame = outlet.sent_of_frame
            if outlet.fd >= 0:
                self._registered[outlet.fd] = outlet.events
        self._waited_for = None
        return ready

    # ── lines for the log ─────────────────────────────────────────────────────────────────────────────────────

    def tell(self, text: str, **fields: Any) -> None:
        """Log something expected."""
        self._on_event(Event("info", self.object_id, text, fields))

    def warn(self, text: str, **fields: Any) -> None:
        """Log something that needs attention."""
        self._on_event(Event("warning", self.object_id, text, fields))

    # ── streams ───────────────────────────────────────────────────────────────────────────────────────────────

    def _watch_output(self, wanted: dict[int, int], port: Port, has_unsent: bool) -> None:  # noqa: FBT001 - one fact
        """Wait until an output connects, disconnects, or (with unsent data) becomes writable."""
        if isinstance(port, ChardevPort):
            events = 0 if port.fileno() in self._half_closed else select.EPOLLIN | select.EPOLLRDHUP
            add(wanted, port, events | (select.EPOLLOUT if has_unsent and port.is_connected else 0))
        elif has_unsent:
            add(wanted, port, select.EPOLLOUT)

    def _notice_end(self, port: Port, ready: dict[int, int]) -> None:
        """Detect the end of an output's stream. Data that arrives on an output is discarded.

        A unix peer may shut down its sending side and keep reading; over TCP that looks like a closed connection.
        """
        if not isinstance(port, ChardevPort) or not port.is_connected:
            return
        events = ready.get(port.fileno(), 0) & ~select.EPOLLOUT
        if port.is_unix and events & select.EPOLLRDHUP and not events & select.EPOLLHUP:
            self._half_closed.add(port.fileno())
        elif events:
            port.read_batch(self._scratch, 0)
            port.take_reset()

    def _write(self, batch: Batch, port: Port) -> bool:
        """Send a batch. Returns whether all of it was sent. If not connected, drop it, as a cut cable does."""
        if batch.is_empty:
            return True
        if isinstance(port, ChardevPort) and not port.is_connected:
            port.service(now_us())  # a peer that has just connected must receive it
            if not port.is_connected:
                batch.clear()
                self.lost_batches += 1
                return True
        return batch.write_to(port)

    def _drop(self, port: ChardevPort) -> None:
        """Close one connection; the number of its descriptor may be reused."""
        self._forget(port.fileno())
        port.drop()
        port.take_reset()

    def _bad_stream(self, port: ChardevPort, batch: Batch, error: FramingError) -> None:
        """Close a stream that cannot be read any further; the others go on."""
        self.warn(str(error))
        batch.clear()
        self._drop(port)

    def _hear(self, notify: NotifyDev, ready: dict[int, int], commit: Callable[[], None]) -> None:
        """Answer the messages of a notify_dev in order; call `commit` for each committed checkpoint."""
        if notify.port.is_connected and notify.port.fileno() in ready:
            try:
                messages = notify.read()
            except FramingError as error:
                self.warn(str(error))
                self._drop(notify.port)
                return
            for message in messages:
                if message is Message.INIT:
                    notify.send(INIT_ANSWER)
                elif message is Message.CHECKPOINT_DONE:
                    commit()
                else:
                    shown = bytes(message)[:_SHOWN_BYTES_MAX]
                    self.warn(f"{notify.port.name}: unknown message {shown!r}, ignored")
        notify.flush()

    def _stream_states(self, roles: dict[str, str]) -> tuple[StreamState, ...]:
        """`roles`: role as shown → role in this thread."""
        found = []
        for shown, role in roles.items():
            port = self._streams[role]
            is_connected = port.is_connected if isinstance(port, ChardevPort) else port.fileno() >= 0
            found.append(StreamState(shown, port.name, is_connected, port.counters()))
        return tuple(found)


def add(wanted: dict[int, int], port: Port, events: int) -> None:
    """Wait for `events` on `port` as well, if it has a descriptor."""
    fd = port.fileno()
    if fd >= 0:
        wanted[fd] = wanted.get(fd, 0) | events
