"""The thread that moves frames: one pump, one core, no locks.

Each turn: the pump (`pycolo.path`) waits and moves frames, until something else happens; then what others have posted
is done, streams connect and disconnect, and a subclass handles what the pump has left (`_act`). Everything that is not
about frames is decided elsewhere and arrives through `post`.
"""

import os
import select
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from typing import Any, Final, TypeVar

import structlog

from pycolo import limits
from pycolo.core import IMPOSSIBLE, Batch, PrimaryPump, SecondaryPump, Span, frame_at, frame_boundary
from pycolo.errors import FramingError, LinkError, PycoloError, StateError
from pycolo.link.codec import MessageType
from pycolo.node.nopath import NoPath
from pycolo.path.clock import now_us
from pycolo.transport.linksocket import LinkSocket, Message
from pycolo.transport.ports import Port
from pycolo.transport.streamport import StreamPort

log = structlog.get_logger("colo")

T = TypeVar("T")

_OF_FRAMES: Final = frozenset({MessageType.CLIENT_FRAMES, MessageType.GUEST_FRAMES, MessageType.PROBE})

WAIT_US_MAX: Final = 1_000_000
"""Wake at least once a second, to reconnect closed streams."""

HALT_S: Final = 1.0
"""A data path halts between two batches; on a host that has no CPU time for it that was seen to take 60 ms."""


def halt_paths(paths: "Iterable[DataPath | NoPath]") -> None:
    """Have `paths` move nothing more, and wait until they do, at most `HALT_S`.

    Blocks the calling thread: what it says next, to the other node or to the arbiter, is that no frame of this guest
    follows. A path that was only told to halt has sent frames when the other host's guest served already.
    """
    answers = [path.ask(path.halt) for path in paths]
    until = time.monotonic() + HALT_S
    for answer in answers:
        try:
            answer.result(max(0.0, until - time.monotonic()))
        except StateError:
            continue  # it has ended: with an error, for example
        except TimeoutError:
            log.warning("a data path has not halted yet: this host's processors are overloaded", waited_s=HALT_S)
            return


class DataPath(threading.Thread):
    """Base of both nodes' data paths.

    `outputs`: ports that are only written to. `on_link_lost(text)`, `on_note(text)` and `on_fatal(error)` are called in
    this thread and must not block. `spin_us`: poll for that long before sleeping, which costs a core and saves the
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
        self._lan_in, self._guest_in = inputs
        self._ports = inputs + outputs
        self._outputs = [port for port in outputs if isinstance(port, StreamPort)]
        self._has_vnet = inputs[0].vnet_len != 0
        self._on_link_lost = on_link_lost
        self._on_note = on_note
        self._on_fatal = on_fatal
        self._spin_us = spin_us
        self._epoll = select.epoll()
        self._mail: deque[Callable[[], None]] = deque()
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        weakref.finalize(self, os.close, self._wake).atexit = False  # others may post after the thread's end
        self._questions: deque[Future[Any]] = deque()
        self._stopping = False
        self._is_paused = False
        self._has_ended = False
        self._leaves_ports_open = False
        self._link: LinkSocket | None = None
        self._link_bytes = (0, 0)
        self._waiting: deque[tuple[MessageType, bytes]] = deque()
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
                return  # the question was cancelled
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

    def pause(self) -> None:
        """Move nothing until `go_on` (in this thread). What is not read waits in the ports."""
        self._is_paused = True

    def go_on(self) -> None:
        """After `pause` (in this thread)."""
        self._is_paused = False

    # ── for subclasses ────────────────────────────────────────────────────────────────────────────────────────

    @property
    def _pump(self) -> PrimaryPump | SecondaryPump:
        """What moves the frames."""
        raise NotImplementedError

    def _act(self) -> None:
        """Handle what the pump has left, and tell it what has changed."""
        raise NotImplementedError

    def _deadline_us(self) -> int | None:
        """When `_act` must be called again at the latest."""
        raise NotImplementedError

    def _take_bad_frames(self) -> None:
        """Feed the guest's output to the core again, up to the point that cannot be read. Raises `FramingError`."""
        raise NotImplementedError

    def snapshot(self) -> dict[str, Any]:
        """What the status shows; in this thread (`ask`)."""
        raise NotImplementedError

    # ── the loop ──────────────────────────────────────────────────────────────────────────────────────────────

    def run(self) -> None:
        """The thread: ends with `stop`, or with the first error that is not one stream's own."""
        self._epoll.register(self._wake, select.EPOLLIN)
        try:
            while True:
                ready = self._rest() if self._is_paused else self._pump.run(self._until_us())
                if ready.get(self._wake):
                    os.eventfd_read(self._wake)
                while self._mail and not self._stopping:
                    self._mail.popleft()()
                if self._stopping:
                    break
                if self._is_paused:
                    continue
                self._drop_ended(ready)
                self._service()
                self._act()
        except BaseException as error:
            self._on_fatal(error)
        finally:
            self._close()
            self._has_ended = True
            self._refuse_questions()

    def _rest(self) -> dict[int, int]:
        """Wait for what is posted."""
        if self._mail:
            return {}
        poll = select.poll()
        poll.register(self._wake, select.POLLIN)
        return dict(poll.poll(WAIT_US_MAX // 1000))

    def _until_us(self) -> int:
        """When the pump is to return at the latest."""
        now = now_us()
        if self._mail:
            return now
        dues = (now + WAIT_US_MAX, self._service_us, self._deadline_us())
        return min(due for due in dues if due is not None)

    def _drop_ended(self, ready: dict[int, int]) -> None:
        """The end of a stream that is only written to shows only here."""
        for port in self._outputs:
            if port.is_connected and ready.get(port.fileno(), 0) & (select.EPOLLHUP | select.EPOLLERR):
                self._pump.forget(port.fileno())
                port.drop()

    def _service(self) -> None:
        """Connect and disconnect streams."""
        self._pump.look()
        dues = [due for port in self._ports if (due := port.service(now_us())) is not None]
        self._service_us = min(dues) if dues else None
        for port in self._ports:
            if isinstance(port, StreamPort) and (note := port.take_note()):
                self._on_note(note)

    def _close(self) -> None:
        self._drop_link()
        for port in [] if self._leaves_ports_open else self._ports:
            port.close()
        self._epoll.close()

    # ── streams ───────────────────────────────────────────────────────────────────────────────────────────────

    def _end_bad_streams(self) -> None:
        """Close the streams that the pump could not read any further; name each, with the reason."""
        pump = self._pump
        if pump.lan_in.has_ended:
            pump.lan_in.has_ended = False
            try:
                pump.lan_in.batch.complete_end(self._lan_in)
            except FramingError as error:
                self._bad_stream(self._lan_in, pump.lan_in.batch, error)
        if pump.guest_in.has_ended:
            pump.guest_in.has_ended = False
            try:
                self._take_bad_frames()
            except FramingError as error:
                self._bad_stream(self._guest_in, pump.guest_in.batch, error)

    def _bad_stream(self, port: Port, batch: Batch, error: FramingError) -> None:
        """Close this stream; the others go on."""
        self._on_note(str(error))
        batch.clear()
        if not isinstance(port, StreamPort):
            raise error  # a device cannot give a wrong length: a bug
        self._pump.forget(port.fileno())
        port.drop()
        port.take_reset()

    # ── the link ──────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def guest_name(self) -> str:
        """The port that reads from the guest, for messages. Any thread."""
        return self._guest_in.name

    @property
    def link_bytes_sent(self) -> int:
        """Over all data connections."""
        return self._link_bytes[0] + (self._link.sent_bytes if self._link is not None else 0)

    @property
    def link_bytes_received(self) -> int:
        """Over all data connections."""
        return self._link_bytes[1] + (self._link.received_bytes if self._link is not None else 0)

    def attach(self, link: LinkSocket) -> None:
        """The other node's data connection is there (in this thread)."""
        self._drop_link()
        self._link = link
        self._pump.attach(link)

    def detach(self) -> None:
        """Close the data connection without calling it lost (in this thread)."""
        self._drop_link()

    def _drop_link(self) -> None:
        self._waiting.clear()
        if self._link is not None:
            self._link_bytes = (self.link_bytes_sent, self.link_bytes_received)
            self._pump.detach()
            self._link.close()
            self._link = None

    def _lose_link(self, error: PycoloError) -> None:
        self._drop_link()
        self._on_link_lost(str(error))

    def _front(self) -> Message | None:
        """The first message; if it carries frames they are valid. None also when the link is lost."""
        if self._link is None:
            return None
        try:
            found = self._link.front()
            if found is not None and found[0] in _OF_FRAMES:
                self._check_frames(found[1])
        except (LinkError, FramingError) as error:
            self._lose_link(error)
            return None
        return found

    def _advance(self) -> None:
        """The first message has been handled."""
        if self._link is not None:
            self._link.inlet.advance()

    def _check_frames(self, payload: memoryview) -> None:
        """A message must hold whole frames: a rest after the last one would never be taken."""
        end = frame_boundary(payload, 0, len(payload), self._has_vnet)
        if end != len(payload):
            span = Span()
            if frame_at(payload, end, len(payload), self._has_vnet, span) == IMPOSSIBLE:
                raise FramingError("data link", end, span.word, limits.STREAM_LENGTH_BYTES_MAX)
            raise LinkError(f"data link: a message ends within a frame, at byte {end} of {len(payload)}; link closed")

    def _queue_behind(self, message_type: MessageType, payload: bytes) -> None:
        """Send what cannot wait at its source: after what waits here already, and before everything else."""
        self._waiting.append((message_type, payload))
        self._queue_waiting()

    def _queue_waiting(self) -> None:
        """Send what waits, as far as the link takes it."""
        link = self._link
        if link is None:
            self._waiting.clear()
            return
        try:
            while self._waiting and link.can_queue:
                link.queue(*self._waiting.popleft())
                link.flush()
        except LinkError as error:
            self._lose_link(error)
        self._pump.is_link_held = bool(self._waiting)
