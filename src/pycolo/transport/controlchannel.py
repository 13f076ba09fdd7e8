"""The control connection: heartbeats in both directions, and the nodes' few messages.

It has a thread of its own that does nothing else. Whatever the data thread and the event loop do, this thread needs the
interpreter for some fifty microseconds per interval. If it gets the interpreter late, the other node sees one late
heartbeat, and this node does not mistake its own delay for silence (`failover.heartbeat`):

1. take the time; 2. read what has arrived by then; 3. only then let the timer decide.

Every system call releases the interpreter, and getting it back may take as many switch intervals (5 ms) as other
threads want it: so one turn makes only three, poll, read and send.

Events are passed to `on_event` in this thread; an event loop passes its `call_soon_threadsafe` on.

**Nothing confirmed is as good as nothing heard.** A node whose own heartbeats are not confirmed suspects the other one
as well: both ends notice a cable that is cut in one direction at the same time.

Each heartbeat confirms the other node's last one. Once a node's heartbeat of time t is confirmed, the other node has
heard it and will not suspect this node before t + timeout: `trusted_until_ns`.
"""

import os
import select
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from time import monotonic_ns
from typing import Final, NamedTuple

from pycolo.errors import LinkError, StateError
from pycolo.failover.heartbeat import HeartbeatDetector, Recovered, Suspect, SuspicionReason
from pycolo.link.codec import Goodbye, GoodbyeReason, Heartbeat, MessageType, TakeoverNotice
from pycolo.transport.linksocket import LinkSocket

SWITCH_INTERVAL_S: Final = 0.001
"""For `sys.setswitchinterval` of a node's process. With Python's default of 5 ms, three busy threads delayed heartbeats
by up to 120 ms; with 1 ms, by up to 67 ms."""

OUTBOX_MESSAGES_MAX: Final = 64
"""Messages queued by other threads: a few orders, a takeover notice and a goodbye are all that makes sense."""

GOODBYE_MS: Final = 200
"""Time limit for sending a goodbye into a full send buffer."""


class Suspected(NamedTuple):
    """The other node is silent or its connection is gone: ask the arbiter. `at_ns` is CLOCK_MONOTONIC."""

    reason: SuspicionReason
    silent_ms: int
    at_ns: int
    text: str


class Heard(NamedTuple):
    """The other node was heard again after it had been suspected for its silence. `text` is one line with the cause."""

    silent_ms: int
    at_ns: int
    text: str = ""


class PeerState(NamedTuple):
    """The other node's heartbeat showed a term or epoch for the first time."""

    term: int
    epoch: int


class PeerTakeover(NamedTuple):
    """The other node serves alone from now on, under `term`."""

    term: int
    epoch: int


class PeerGoodbye(NamedTuple):
    """The other node leaves on purpose; the end of its connection is not a failure."""

    reason: GoodbyeReason
    text: str


class PeerOrder(NamedTuple):
    """A question or an answer from the other node (`pycolo.link.orders`)."""

    payload: bytes


class ChannelClosed(NamedTuple):
    """The last event: this connection has ended, and its thread is about to end. `text` is one line."""

    text: str


ControlEvent = Suspected | Heard | PeerState | PeerTakeover | PeerGoodbye | PeerOrder | ChannelClosed


class ControlChannel:
    """Runs one established control connection until it ends or `close` is called.

    `state()` returns (term, epoch) for each heartbeat; it is called in this channel's thread.
    """

    def __init__(
        self,
        link: LinkSocket,
        state: Callable[[], tuple[int, int]],
        on_event: Callable[[ControlEvent], None],
        *,
        interval_ms: int,
        timeout_ms: int,
        own_stall_ms: int,
        clock_ns: Callable[[], int] = monotonic_ns,
    ) -> None:
        """Owns `link` from here on; nothing runs before `start`."""
        self._link = link
        self._state = state
        self._on_event = on_event
        self._clock_ns = clock_ns
        self._interval_ms = interval_ms
        now_ms = clock_ns() // 1_000_000
        self._detector = HeartbeatDetector(now_ms, interval_ms, timeout_ms, own_stall_ms)
        self._confirming = HeartbeatDetector(now_ms, interval_ms, timeout_ms, own_stall_ms)
        self._doubts: set[HeartbeatDetector] = set()
        self._next_heartbeat_ms = now_ms
        self._sequence = 0
        self._last: Heartbeat | None = None
        self._stood_still_ms = 0  # the other node, by its own clock, before its last heartbeats
        self._timeout_ns = timeout_ms * 1_000_000
        self._trusted_until_ns = 0
        self._peer_departed = False  # the other node: by a goodbye, or to serve alone
        self._said_goodbye = False  # by the other node
        self._is_silent = False
        self._lock = threading.Lock()  # over the three below
        self._outbox: deque[tuple[MessageType, bytes]] = deque()
        self._stop_at_ms: int | None = None
        self._finished = False
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._thread = threading.Thread(target=self._run, name=link.stream, daemon=True)

    @property
    def trusted_until_ns(self) -> int:
        """Until when (this clock) the other node cannot have suspected this one; 0 before that is known.

        Valid if both nodes have the same time-out. Any thread.
        """
        return self._trusted_until_ns

    def start(self) -> None:
        """Start to send and receive."""
        self._thread.start()

    def announce_takeover(self, term: int, epoch: int) -> None:
        """Tell the other node, if it still lives, that this one serves alone under `term`. Any thread."""
        self._post(MessageType.TAKEOVER_NOTICE, TakeoverNotice(term, epoch).pack())

    def order(self, payload: bytes) -> None:
        """Send a question or an answer. Any thread. Raises `StateError` if the outbox is full."""
        self._post(MessageType.ORDER, payload)

    def fall_silent(self) -> None:
        """Send no further heartbeat, and so confirm none; what is handed over is still sent. Any thread."""
        self._is_silent = True

    def close(self, reason: GoodbyeReason | None = GoodbyeReason.SHUTDOWN, text: str = "") -> None:
        """Say goodbye if the peer is connected, and end; without a reason just end, as a dying node does.

        Any thread; waits for the channel's own.
        """
        if reason is not None:
            with suppress(StateError):  # full: then no goodbye is sent
                self._post(MessageType.GOODBYE, Goodbye(reason, text).pack())
        with self._lock:
            if self._stop_at_ms is None:
                self._stop_at_ms = self._now_ms() + GOODBYE_MS
                if not self._finished:
                    os.eventfd_write(self._wake, 1)
        if self._thread.ident is None:  # never started
            self._finish()
        elif self._thread is not threading.current_thread():
            self._thread.join()

    # ── the thread ──────────────────────────────────────────────────────────────────────────────────────────

    def _run(self) -> None:
        closing = f"{self._link.stream}: closed by this node"
        try:
            while self._turn():
                pass
        except LinkError as error:
            closing = str(error)
            self._lost(closing)
        finally:
            # Also when a callback failed: the other node must notice the end of this connection at once.
            self._finish()
        self._on_event(ChannelClosed(closing))

    def _turn(self) -> bool:
        """Wait, then do what is due. False after the last turn."""
        self._wait()
        now_ms = self._now_ms()
        self._read(now_ms)
        for detector in (self._detector, self._confirming):
            detector.timer_fired(now_ms)
        self._report()
        self._send(now_ms)
        with self._lock:
            stop_at_ms, has_posted = self._stop_at_ms, bool(self._outbox)
        # A goodbye may have been posted since the outbox was emptied above.
        return stop_at_ms is None or ((has_posted or self._link.queued_bytes > 0) and now_ms < stop_at_ms)

    def _wait(self) -> None:
        deadline_ms = self._detector.deadline_ms()
        wake_ms = self._next_heartbeat_ms if deadline_ms is None else min(self._next_heartbeat_ms, deadline_ms)
        poller = select.poll()
        poller.register(self._wake, select.POLLIN)
        poller.register(self._link, select.POLLIN | (select.POLLOUT if self._link.wants_write else 0))
        ready = poller.poll(0 if self._link.has_pending else max(0, wake_ms - self._now_ms()))
        if any(descriptor == self._wake for descriptor, _ in ready):
            os.eventfd_read(self._wake)

    def _read(self, now_ms: int) -> None:
        # Once per turn, readable or not: the poll may have ended before this thread got the interpreter back. What does
        # not fit into one read is read in the next turn; one message proves as well as all that the peer is alive.
        messages = self._link.receive()
        if messages:
            self._detector.heard(now_ms)
        for message_type, payload in messages:
            self._message(message_type, payload, now_ms)

    def _message(self, message_type: MessageType, payload: memoryview, now_ms: int) -> None:
        if message_type is MessageType.HEARTBEAT:
            heartbeat, before = Heartbeat.unpack(payload), self._last
            self._last = heartbeat
            if before is not None and heartbeat.sequence == before.sequence + 1:
                gap_ms = (heartbeat.sender_ns - before.sender_ns) // 1_000_000
                self._stood_still_ms = max(self._stood_still_ms, gap_ms - self._interval_ms)
            if heartbeat.heard_ns and (before is None or heartbeat.heard_ns > before.heard_ns):
                self._confirming.heard(now_ms)
            if heartbeat.heard_ns and not self._peer_departed:
                heard_ns = min(heartbeat.heard_ns, self._clock_ns())
                self._trusted_until_ns = heard_ns + self._timeout_ns
            if before is None or (before.term, before.epoch) != (heartbeat.term, heartbeat.epoch):
                self._on_event(PeerState(heartbeat.term, heartbeat.epoch))
            return
        if message_type is MessageType.ORDER:
            self._on_event(PeerOrder(bytes(payload)))
            return
        self._peer_departed = True
        self._trusted_until_ns = 0
        if message_type is MessageType.TAKEOVER_NOTICE:
            self._on_event(PeerTakeover(*TakeoverNotice.unpack(payload)))
        else:
            assert message_type is MessageType.GOODBYE
            self._said_goodbye = True
            self._on_event(PeerGoodbye(*Goodbye.unpack(payload)))

    def _report(self, text: str = "") -> None:
        for command in self._detector.commands():
            self._judge(self._detector, command, text or f"no heartbeat for {command.silent_ms} ms")
        for command in self._confirming.commands():
            what = f"no heartbeat of this node was confirmed for {command.silent_ms} ms"
            self._judge(self._confirming, command, what)
        self._stood_still_ms = 0

    def _judge(self, detector: HeartbeatDetector, command: Suspect | Recovered, text: str) -> None:
        """The other node is suspected for either silence, and is heard again when both have ended."""
        was_suspected = bool(self._doubts)
        if isinstance(command, Recovered):
            self._doubts.discard(detector)
            if was_suspected and not self._doubts:
                self._on_event(Heard(command.silent_ms, self._clock_ns(), self._explained(command.silent_ms)))
            return
        self._doubts.add(detector)
        is_lost = command.reason is SuspicionReason.CONNECTION_LOST
        if (is_lost or not was_suspected) and not self._said_goodbye:
            line = text if is_lost else f"{self._link.stream}: {text}"
            self._on_event(Suspected(command.reason, command.silent_ms, self._clock_ns(), line))

    def _explained(self, silent_ms: int) -> str:
        """Which of the two was slow: the other node, or the way between them."""
        heard = f"heard again after {silent_ms} ms"
        if 2 * self._stood_still_ms >= silent_ms:
            return f"{heard}: the other node had stood still for {self._stood_still_ms} ms"
        return f"{heard}: its heartbeats were late on their way"

    def _lost(self, text: str) -> None:
        self._detector.connection_lost(self._now_ms())
        self._report(text)

    def _send(self, now_ms: int) -> None:
        with self._lock:
            posted = list(self._outbox)
            self._outbox.clear()
        for message_type, payload in posted:
            if self._link.can_queue:  # otherwise the peer has read nothing for half a minute
                self._link.queue(message_type, payload)
        if now_ms >= self._next_heartbeat_ms:
            # From now, not from when it was due: after a stall one heartbeat is as good as ten.
            self._next_heartbeat_ms = now_ms + self._interval_ms
            if self._link.can_queue and not self._is_silent:
                term, epoch = self._state()
                self._sequence += 1
                heard_ns = self._last.sender_ns if self._last is not None else 0
                heartbeat = Heartbeat(self._sequence, self._clock_ns(), term, epoch, heard_ns)
                self._link.queue(MessageType.HEARTBEAT, heartbeat.pack())
        self._link.flush()

    def _post(self, message_type: MessageType, payload: bytes) -> None:
        with self._lock:
            if self._finished:
                return
            if len(self._outbox) >= OUTBOX_MESSAGES_MAX:
                raise StateError(f"{self._link.stream}: send", "full", "fewer messages")
            self._outbox.append((message_type, payload))
            os.eventfd_write(self._wake, 1)

    def _finish(self) -> None:
        self._link.close()
        with self._lock:
            if not self._finished:
                self._finished = True
                os.close(self._wake)

    def _now_ms(self) -> int:
        return self._clock_ns() // 1_000_000
