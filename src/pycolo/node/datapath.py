"""The thread that moves frames: one epoll, one core, no locks.

Each turn: wait, do what others have posted, move frames, let the core know the time. A subclass says what it waits for
(`_interest`), what it does when woken (`_turn`) and when it must be woken at the latest (`_deadline_us`). Everything
that is not about frames is decided elsewhere and arrives through `post`.
"""

import os
import select
import threading
import weakref
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from typing import Any, Final, TypeVar

from pycolo import limits
from pycolo.core import IMPOSSIBLE, Span, frame_at, frame_boundary
from pycolo.errors import FramingError, LinkError, PycoloError, StateError
from pycolo.link.codec import MessageType
from pycolo.node.batch import Batch
from pycolo.node.clock import now_us
from pycolo.transport.linksocket import LinkSocket, Message
from pycolo.transport.ports import Port
from pycolo.transport.streamport import StreamPort

T = TypeVar("T")

WAIT_MS_MAX: Final = 1000
"""Wake at least once a second: to evict idle connections and to try closed streams again."""


class DataPath(threading.Thread):
    """Base of both nodes' data paths.

    `outputs`: ports that are only written to. `on_link_lost(text)`, `on_note(text)` and `on_fatal(error)` are called in
    this thread and must only pass it on. `spin_us`: look again for that long before sleeping; costs a core, saves the
    wake-up.
    """

    def __init__(
        self,
        name: str,
        inputs: list[Port],
        outputs: list[Port],
        on_link_lost: Callable[[str], None],
        on_note: Callable[[str], None],
        on_fatal: Callable[[BaseException], None],
        spin_us: int = 0,
    ) -> None:
        super().__init__(name=name, daemon=True)
        self.link_bytes_sent = 0
        self.link_bytes_received = 0
        self._ports = inputs + outputs
        self._outputs = [port for port in outputs if isinstance(port, StreamPort)]
        self._has_vnet = inputs[0].vnet_len != 0
        self._on_link_lost = on_link_lost
        self._on_note = on_note
        self._on_fatal = on_fatal
        self._spin_us = spin_us
        self._epoll = select.epoll()
        self._registered: dict[int, int] = {}
        self._mail: deque[Callable[[], None]] = deque()
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        weakref.finalize(self, os.close, self._wake).atexit = False  # others may post after the thread's end
        self._questions: deque[Future[Any]] = deque()
        self._stopping = False
        self._has_ended = False
        self._leaves_ports_open = False
        self._link: LinkSocket | None = None
        self._messages: list[Message] = []
        self._message_pos = 0
        self._waiting: deque[tuple[MessageType, bytes]] = deque()
        self._span = Span()
        self._service_us: int | None = 0

    # ── from other threads ────────────────────────────────────────────────────────────────────────────────────

    def post(self, action: Callable[[], None]) -> None:
        """Have `action` done in the data path's thread."""
        self._mail.append(action)
        os.eventfd_write(self._wake, 1)

    def ask(self, question: Callable[[], T]) -> "Future[T]":
        """Have `question` answered in the data path's thread; `StateError` is the answer when that has ended."""
        future: Future[T] = Future()

        def answer() -> None:
            self._questions.remove(future)
            if not future.set_running_or_notify_cancel():
                return  # whoever asked has gone
            try:
                future.set_result(question())
            except Exception as error:
                future.set_exception(error)

        self._questions.append(future)
        self.post(answer)
        if self._has_ended:
            self._refuse_questions()
        return future

    def _refuse_questions(self) -> None:
        while self._questions:
            with suppress(IndexError, InvalidStateError):  # both threads may be at it
                self._questions.popleft().set_exception(StateError("data path", "ended", "running"))

    def stop(self) -> None:
        """End the thread; ports and link are closed."""
        self.post(self.halt)
        if self.ident is not None and threading.current_thread() is not self:
            self.join()

    def halt(self) -> None:
        """Move nothing more, and end (in this thread)."""
        self._stopping = True

    # ── for subclasses ────────────────────────────────────────────────────────────────────────────────────────

    def _interest(self) -> dict[int, int]:
        """Descriptor → epoll events that are waited for now."""
        raise NotImplementedError

    def _turn(self, ready: dict[int, int]) -> bool:
        """Move frames; whether anything moved."""
        raise NotImplementedError

    def _deadline_us(self) -> int | None:
        """When `_turn` must be called again at the latest."""
        raise NotImplementedError

    def snapshot(self) -> dict[str, Any]:
        """What the status shows; in this thread (`ask`)."""
        raise NotImplementedError

    # ── the loop ──────────────────────────────────────────────────────────────────────────────────────────────

    def run(self) -> None:
        """The thread: ends with `stop`, or with the first error that is not one stream's own."""
        self._epoll.register(self._wake, select.EPOLLIN)
        try:
            last_progress_us = now_us()
            while True:
                ready = self._wait(last_progress_us)
                while self._mail and not self._stopping:
                    self._mail.popleft()()
                if self._stopping:
                    break
                self._drop_ended(ready)
                self._service()
                if self._turn(ready):
                    last_progress_us = now_us()
        except BaseException as error:
            self._on_fatal(error)
        finally:
            self._close()
            self._has_ended = True
            self._refuse_questions()

    def _wait(self, last_progress_us: int) -> dict[int, int]:
        """Sleep until there is something to do; descriptor → events."""
        self._register(self._interest())
        now = now_us()
        timeout_s = WAIT_MS_MAX / 1000
        for due in (self._deadline_us(), self._service_us):
            if due is not None:
                timeout_s = min(timeout_s, max(0, due - now) / 1e6)
        if self._mail or (self._link is not None and self._link.has_pending and self._wants_messages()):
            timeout_s = 0
        if self._spin_us and now - last_progress_us < self._spin_us:
            timeout_s = 0
        ready = dict(self._epoll.poll(timeout_s))
        if ready.pop(self._wake, None):
            os.eventfd_read(self._wake)
        return ready

    def _register(self, wanted: dict[int, int]) -> None:
        for fd in [fd for fd in self._registered if fd not in wanted]:
            del self._registered[fd]
            try:
                self._epoll.unregister(fd)
            except OSError:  # closed meanwhile: the kernel has taken it out itself
                continue
        for fd, events in wanted.items():
            if self._registered.get(fd) == events:
                continue
            if fd in self._registered:
                try:
                    self._epoll.modify(fd, events)
                except FileNotFoundError:  # closed, and its number given to another
                    self._epoll.register(fd, events)
            else:
                self._epoll.register(fd, events)
            self._registered[fd] = events

    def _drop_ended(self, ready: dict[int, int]) -> None:
        """A stream that nobody reads from says only here that it has ended."""
        for port in self._outputs:
            if port.is_connected and ready.get(port.fileno(), 0) & (select.EPOLLHUP | select.EPOLLERR):
                self._forget_fd(port.fileno())
                port.drop()

    def _service(self) -> None:
        """Streams come and go."""
        dues = [due for port in self._ports if (due := port.service(now_us())) is not None]
        self._service_us = min(dues) if dues else None
        for port in self._ports:
            if isinstance(port, StreamPort) and (note := port.take_note()):
                self._on_note(note)

    def _forget_fd(self, fd: int) -> None:
        """A descriptor is about to be closed: its number may come back as another's."""
        if self._registered.pop(fd, None) is not None:
            self._epoll.unregister(fd)

    def _close(self) -> None:
        self._drop_link()
        for port in [] if self._leaves_ports_open else self._ports:
            port.close()
        self._epoll.close()

    # ── streams ───────────────────────────────────────────────────────────────────────────────────────────────

    def _bad_stream(self, port: Port, batch: Batch, error: FramingError) -> None:
        """A stream that cannot be read on is closed; the others go on."""
        self._on_note(str(error))
        batch.clear()
        if not isinstance(port, StreamPort):
            raise error  # a device cannot give a wrong length: a bug
        self._forget_fd(port.fileno())
        port.drop()
        port.take_reset()

    # ── the link ──────────────────────────────────────────────────────────────────────────────────────────────

    def attach(self, link: LinkSocket) -> None:
        """The other node's data connection is there (in this thread)."""
        self._drop_link()
        self._link = link

    def detach(self) -> None:
        """Close the data connection without calling it lost (in this thread)."""
        self._drop_link()

    def _drop_link(self) -> None:
        self._waiting.clear()
        self._messages = []
        self._message_pos = 0
        if self._link is not None:
            self._forget_fd(self._link.fileno())
            self._link.close()
            self._link = None

    def _link_events(self) -> int:
        if self._link is None:
            return 0
        events = select.EPOLLIN if self._wants_messages() else 0
        return events | (select.EPOLLOUT if self._link.wants_write else 0)

    def _wanted(self, *ports: tuple[Port, int]) -> dict[int, int]:
        """Descriptor → events of the link and of these ports.

        What waits for no event is left out: epoll would report its end again and again, and nobody would look.
        """
        wanted = {self._link.fileno(): self._link_events()} if self._link is not None else {}
        ends = [(port, select.EPOLLERR if port.is_connected else select.EPOLLIN) for port in self._outputs]
        for port, events in (*ports, *ends):
            wanted[port.fileno()] = wanted.get(port.fileno(), 0) | events
        return {fd: events for fd, events in wanted.items() if fd >= 0 and events}

    def _wants_messages(self) -> bool:
        return not self._messages

    def _receive(self, ready: dict[int, int]) -> None:
        """Take messages from the link, if none are left from the last time."""
        if self._link is None or not self._wants_messages():
            return
        if self._link.fileno() not in ready and not self._link.has_pending:
            return
        before = self._link.received_bytes
        try:
            self._messages = self._link.receive()
            for message_type, payload in self._messages:
                self._check_frames(message_type, payload)
        except (LinkError, FramingError) as error:
            self._lose_link(error)
        else:
            self.link_bytes_received += self._link.received_bytes - before

    def _check_frames(self, message_type: MessageType, payload: memoryview) -> None:
        """The other node sends whole frames: what follows the last one would never be taken."""
        if message_type in (MessageType.EPOCH_MARKER, MessageType.OFFSETS):
            return
        end = frame_boundary(payload, 0, len(payload), self._has_vnet)
        if end != len(payload):
            if frame_at(payload, end, len(payload), self._has_vnet, self._span) == IMPOSSIBLE:
                raise FramingError("data link", end, self._span.word, limits.STREAM_LENGTH_BYTES_MAX)
            raise LinkError(f"data link: a message ends within a frame, at byte {end} of {len(payload)}; link closed")

    def _queue(self, message_type: MessageType, payload: memoryview | bytes) -> None:
        if self._link is None or not len(payload):
            return
        try:
            self._link.queue(message_type, payload)
            self._flush_link()
        except LinkError as error:
            self._lose_link(error)

    def _queue_behind(self, message_type: MessageType, payload: bytes) -> None:
        """As `_queue`, for what cannot wait at its source: it leaves behind what waits here, and before all else."""
        self._waiting.append((message_type, payload))
        self._queue_waiting()

    def _queue_waiting(self) -> None:
        if self._link is None:
            self._waiting.clear()
        while self._waiting and self._link is not None and self._link.can_queue:
            self._queue(*self._waiting.popleft())

    def _tend_link(self) -> None:
        """Send what waits, as far as the link takes it."""
        if self._link is not None and self._link.wants_write:
            self._flush_link()
        self._queue_waiting()

    def _flush_link(self) -> None:
        if self._link is None:
            return
        before = self._link.sent_bytes
        try:
            self._link.flush()
        except LinkError as error:
            self._lose_link(error)
        else:
            self.link_bytes_sent += self._link.sent_bytes - before

    def _lose_link(self, error: PycoloError) -> None:
        self._drop_link()
        self._on_link_lost(str(error))

    def _can_queue(self) -> bool:
        return self._link is None or (self._link.can_queue and not self._waiting)
