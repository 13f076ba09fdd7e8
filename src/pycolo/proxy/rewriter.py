"""filter-rewriter as an object between four chardevs.

::

    client_in ─► ack += seq_offset ─► guest_out          guest_in ─► seq -= seq_offset ─► client_out

QEMU resets the offsets when its own process makes a checkpoint (QMP `xen-colo-do-checkpoint`). There is no QMP here:
with `notify_dev=`, a property of ours, the peer announces the checkpoint as it does to colo-compare: COLO_CHECKPOINT.
"""

import select
from typing import Any, Final

from pycolo.core import Batch, RewritePump, Rewriter
from pycolo.errors import FramingError
from pycolo.path.clock import now_us
from pycolo.path.cores import new_rewriter, rewriter_counters
from pycolo.proxy.chardev import ChardevPort
from pycolo.proxy.notifydev import NotifyDev
from pycolo.proxy.path import ObjectState, ProxyPath, add
from pycolo.transport.ports import Port

KIND: Final = "filter-rewriter"

TIMER_US: Final = 1_000_000
"""Idle and closed connections are searched for once a second."""

HANDSHAKE_BYTES_MAX: Final = 16 << 20
"""For client frames that arrive before the secondary's SYN|ACK."""

_DRAIN_ROUNDS_MAX: Final = 64


class _Way:
    """One direction: what was read and not yet translated, and what was translated and not yet sent."""

    def __init__(self, source: ChardevPort, sink: ChardevPort) -> None:
        self.source = source
        self.sink = sink
        self.read = Batch()
        self.translated = Batch()


class RewriterPath(ProxyPath):
    """The thread of one filter-rewriter."""

    def __init__(
        self,
        object_id: str,
        has_vnet: bool,  # noqa: FBT001 - one fact of all streams
        client_in: ChardevPort,
        guest_out: ChardevPort,
        guest_in: ChardevPort,
        client_out: ChardevPort,
        notify: NotifyDev | None,
        **base: Any,
    ) -> None:
        streams: dict[str, Port] = {
            "client_in": client_in,
            "guest_out": guest_out,
            "guest_in": guest_in,
            "client_out": client_out,
        }
        if notify is not None:
            streams["notify_dev"] = notify.port
        super().__init__(object_id, streams, **base)
        self._rewriter = object_rewriter(has_vnet, client_name=client_in.name, guest_name=guest_in.name)
        self._to_guest = _Way(client_in, guest_out)
        self._to_client = _Way(guest_in, client_out)
        self._pump = RewritePump(
            self._epoll.fileno(),
            self._spin_us,
            self._rewriter,
            self._to_client.read,
            self._to_client.translated,
            self._to_guest.read,
            self._to_guest.translated,
        )
        self._notify = notify
        self._next_timer_us = 0
        self._checkpoints_committed = 0

    # ── hooks of the loop ─────────────────────────────────────────────────────────────────────────────────────────

    def _wanted(self) -> dict[int, int]:
        wanted: dict[int, int] = {}
        for way in (self._to_guest, self._to_client):
            if way.translated.is_empty:
                add(wanted, way.source, select.EPOLLIN)
            self._watch_output(wanted, way.sink, not way.translated.is_empty)
        if self._notify is not None:
            add(wanted, self._notify.port, select.EPOLLIN | (select.EPOLLOUT if self._notify.has_unsent else 0))
        return wanted

    def _deadline_us(self) -> int | None:
        return self._next_timer_us

    def _await(self, until: int) -> dict[int, int]:
        """Let the pump do everything while only frames arrive."""
        inlets, outlets = [], []
        for way, inlet, outlet in (
            (self._to_client, self._pump.guest_in, self._pump.client_out),
            (self._to_guest, self._pump.client_in, self._pump.guest_out),
        ):
            inlet.is_blocked = not way.translated.is_empty
            inlets.append((inlet, way.source))
            outlets.append((outlet, way.sink))
        return self._pumped(self._pump, inlets, outlets, min(until, self._next_timer_us))

    def _move(self, ready: dict[int, int]) -> None:
        self._take(self._to_client, ready)
        self._take(self._to_guest, ready)
        if self._notify is not None:
            self._hear(self._notify, ready, self._commit)
            self._notify.take_new_connection()
        if now_us() >= self._next_timer_us:
            self._next_timer_us = now_us() + TIMER_US
            self._rewriter.timer_fired(now_us())
        self._flush()
        for way in (self._to_guest, self._to_client):
            self._notice_end(way.sink, ready)

    def _take(self, way: _Way, ready: dict[int, int] | None) -> bool:
        """Read one direction while its output is sent. Returns whether any was taken. `ready` None: try to read."""
        taken = self._translate(way)
        if not way.translated.is_empty or (ready is not None and way.source.fileno() not in ready):
            return taken
        way.read.fill(way.source)
        return self._translate(way) or taken

    def _translate(self, way: _Way) -> bool:
        """Translate as long as the output is sent. Returns whether any frame was taken."""
        taken = False
        call = self._rewriter.client_frames if way is self._to_guest else self._rewriter.guest_frames
        while self._send(way):
            before = way.read.start
            try:
                way.read.start = call(way.read.buf, before, way.read.end, now_us(), way.translated.buf, 0)
            except FramingError as error:
                way.translated.start, way.translated.end = 0, self._rewriter.out_end
                self._bad_stream(way.source, way.read, error)
                return True
            way.translated.start, way.translated.end = 0, self._rewriter.out_end
            if way.read.start == before:
                break
            taken = True
        return taken

    def _send(self, way: _Way) -> bool:
        """Send translated frames and those that the rewriter had kept. Returns whether all were sent."""
        drain = self._rewriter.drain_guest if way is self._to_guest else self._rewriter.drain_client
        while self._write(way.translated, way.sink):
            way.translated.start, way.translated.end = 0, drain(way.translated.buf, 0)
            if way.translated.is_empty:
                return True
        return False

    def _flush(self) -> bool:
        sent = [self._send(way) for way in (self._to_guest, self._to_client)]
        return all(sent)

    def _commit(self) -> None:
        """The secondary is now a copy of the primary; what it sent before still needs the old offsets."""
        for _ in range(_DRAIN_ROUNDS_MAX):
            if not self._take(self._to_client, None):
                break
        self._rewriter.checkpoint_committed()
        self._checkpoints_committed += 1
        self.tell("checkpoint committed, all offsets are 0")

    # ── state ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def states(self) -> list[ObjectState]:
        """The object's current state."""
        counters, gauges = rewriter_numbers(self._rewriter)
        counters |= {"checkpoints_committed": self._checkpoints_committed, "lost_batches": self.lost_batches}
        streams = self._stream_states({role: role for role in self._streams})
        return [ObjectState(KIND, self.object_id, streams, counters, gauges, not self._is_started)]


def object_rewriter(has_vnet: bool, client_name: str, guest_name: str) -> Rewriter:  # noqa: FBT001 - of all streams
    """A core for these objects, which never take over. The names are for messages."""
    return new_rewriter(
        keeps_copies=False,
        has_vnet=has_vnet,
        unacked_bytes_max=HANDSHAKE_BYTES_MAX,
        client_name=client_name,
        guest_name=guest_name,
    )


def rewriter_numbers(rewriter: Rewriter) -> tuple[dict[str, int], dict[str, int]]:
    """(counters, gauges) of a rewriter core."""
    gauges = {"tracked_connections": rewriter.table.used, "copies_bytes": rewriter.copies.pool.used_bytes}
    return rewriter_counters(rewriter), gauges
