"""colo-compare as QEMU's object: three or four chardevs around a comparator.

::

    primary_in ───► comparator ── released ──► outdev
    secondary_in ─►     │ ▲
                        ▼ │ DO_CHECKPOINT, COLO_CHECKPOINT
                     notify_dev

With a notify_dev, a difference requests a checkpoint from the peer, once per epoch; without one, `on_divergence`
decides what happens to the connection. When the comparator has no room, data stays in the socket, and so in the peer
(back-pressure).
"""

import select
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from pycolo import limits
from pycolo.compare.difference import Difference, RequestCheckpoint
from pycolo.compare.flows import Flow
from pycolo.compare.kinds import DivergencePolicy
from pycolo.compare.noise import Mask
from pycolo.core import Batch, ComparePump, frame_boundary
from pycolo.errors import FramingError
from pycolo.path.clock import now_us
from pycolo.path.cores import comparator_counters, masked, new_comparator
from pycolo.proxy.capture import TRACE_BYTES, Capture
from pycolo.proxy.chardev import ChardevPort
from pycolo.proxy.notifydev import DO_CHECKPOINT, NotifyDev
from pycolo.proxy.path import ObjectState, ProxyPath, add

KIND: Final = "colo-compare"

_DRAIN_ROUNDS_MAX: Final = 64
"""Data in both sockets at a commit belongs to the old epoch; 16 MiB per side covers all of it."""


@dataclass(frozen=True, slots=True)
class CompareOptions:
    """Properties of the object that are not chardevs. `on_divergence` applies without notify_dev."""

    has_vnet: bool = False
    compare_timeout_ms: int = limits.COMPARE_TIMEOUT_MS
    scan_cycle_ms: int = limits.EXPIRED_SCAN_CYCLE_MS
    queue_packets_max: int = limits.QUEUE_PACKETS_MAX
    commits_input: bool = True
    on_divergence: DivergencePolicy = DivergencePolicy.HOLD
    bypass: tuple[Flow, ...] = ()
    masks: tuple[Mask, ...] = ()


class _Input:
    """One side's stream. `batch` holds what was read and not yet processed."""

    def __init__(self, port: ChardevPort, take: Callable[[Any, int, int, int], int]) -> None:
        self.port = port
        self.take = take
        self.batch = Batch()
        self.is_blocked = False


class ComparePath(ProxyPath):
    """The thread of one colo-compare."""

    def __init__(
        self,
        object_id: str,
        options: CompareOptions,
        primary_in: ChardevPort,
        secondary_in: ChardevPort,
        outdev: ChardevPort,
        notify: NotifyDev | None,
        capture: Capture | None = None,
        **base: Any,
    ) -> None:
        streams: dict[str, Any] = {"primary_in": primary_in, "secondary_in": secondary_in, "outdev": outdev}
        if notify is not None:
            streams["notify_dev"] = notify.port
        super().__init__(object_id, streams, **base)
        self._comparator = new_comparator(
            has_vnet=options.has_vnet,
            policy=DivergencePolicy.CHECKPOINT if notify is not None else options.on_divergence,
            commits_input=options.commits_input,
            compare_timeout_ms=options.compare_timeout_ms,
            scan_cycle_ms=options.scan_cycle_ms,
            bypass=options.bypass,
            masks=options.masks,
            queue_packets_max=options.queue_packets_max,
            primary_name=primary_in.name,
            secondary_name=secondary_in.name,
        )
        self._secondary = _Input(secondary_in, self._comparator.secondary_frames)
        self._primary = _Input(primary_in, self._comparator.primary_frames)
        self._outdev = outdev
        self._notify = notify
        self._released = Batch()
        self._checkpoints_requested = 0
        self._checkpoints_committed = 0
        self._pump = ComparePump(
            self._epoll.fileno(),
            self._spin_us,
            self._comparator,
            self._secondary.batch,
            self._primary.batch,
            self._released,
        )
        self._capture = capture
        if capture is not None:
            self._comparator.held.trace.start(TRACE_BYTES)

    # ── hooks of the loop ─────────────────────────────────────────────────────────────────────────────────────────

    def _wanted(self) -> dict[int, int]:
        wanted: dict[int, int] = {}
        for side in (self._secondary, self._primary):
            if not side.is_blocked:
                add(wanted, side.port, select.EPOLLIN)
        self._watch_output(wanted, self._outdev, not self._released.is_empty)
        if self._notify is not None:
            add(wanted, self._notify.port, select.EPOLLIN | (select.EPOLLOUT if self._notify.has_unsent else 0))
        return wanted

    def _interest(self) -> tuple[bool, ...]:
        has_unsent = self._notify is not None and self._notify.has_unsent
        return (self._secondary.is_blocked, self._primary.is_blocked, self._released.is_empty, has_unsent)

    def _deadline_us(self) -> int | None:
        return self._comparator.deadline_us()

    def _await(self, until: int) -> dict[int, int]:
        """Let the pump do everything while only frames arrive. Not with a capture: the pump cannot record for one."""
        if self._capture is not None:
            return super()._await(until)
        secondary, primary, pump = self._secondary, self._primary, self._pump
        pump.secondary.is_blocked, pump.primary.is_blocked = secondary.is_blocked, primary.is_blocked
        inlets = [(pump.secondary, secondary.port), (pump.primary, primary.port)]
        ready = self._pumped(pump, inlets, [(pump.output, self._outdev)], until)
        secondary.is_blocked, primary.is_blocked = pump.secondary.is_blocked, pump.primary.is_blocked
        return ready

    def _move(self, ready: dict[int, int]) -> None:
        self._take(self._secondary, ready)
        self._take(self._primary, ready)
        if self._notify is not None:
            self._hear(self._notify, ready, self._commit)
        now = now_us()
        due = self._comparator.deadline_us()
        if due is not None and due <= now:
            self._comparator.timer_fired(now)
        self._send_released()
        self._act()
        if self._outdev.fileno() in ready:
            self._notice_end(self._outdev, ready)
        if self._capture is not None:
            self._write_capture()

    def _take(self, side: _Input, ready: dict[int, int] | None) -> bool:
        """Read one side if the comparator has room. Returns whether any frame was taken. `ready` None: try to read."""
        batch = side.batch
        if not side.is_blocked:
            if ready is not None and side.port.fileno() not in ready:
                return False
            batch.fill(side.port)
        before = batch.start
        try:
            batch.start = side.take(batch.buf, batch.start, batch.end, now_us())
        except FramingError as error:
            side.is_blocked = False
            self._bad_stream(side.port, batch, error)
            return True
        side.is_blocked = (
            batch.start < batch.end
            and frame_boundary(batch.buf, batch.start, batch.end, side.port.vnet_len != 0) > batch.start
        )
        return batch.start > before

    def _send_released(self) -> None:
        batch = self._released
        while batch.start == batch.end or self._write(batch, self._outdev):
            batch.start, batch.end = 0, self._comparator.drain(batch.buf, 0)
            if not batch.end:
                break

    def _flush(self) -> bool:
        self._send_released()
        return self._released.is_empty

    def _write_capture(self) -> None:
        if self._capture is not None and (failure := self._capture.take(self.object_id, self._comparator)):
            self.warn(failure)

    def end_capture(self) -> None:
        """Write the packets that are still held. Call it after the thread has ended."""
        trace = self._comparator.held.trace
        self._comparator.held.trace_held(now_us())
        self._write_capture()
        if trace.lost:
            self.warn(f"{trace.lost} packets are missing in the capture: they came faster than they could be written")

    # ── checkpoints ───────────────────────────────────────────────────────────────────────────────────────────

    def _commit(self) -> None:
        """The peer has made a checkpoint: everything that both guests sent before it belongs to the old epoch."""
        for _ in range(_DRAIN_ROUNDS_MAX):
            was_blocked = self._secondary.is_blocked or self._primary.is_blocked
            if was_blocked:
                self._comparator.checkpoint_committed(now_us())
            moved = self._take(self._secondary, None) | self._take(self._primary, None)
            self._send_released()
            if not moved and not was_blocked:
                break
        self._comparator.commands()  # differences of the old epoch request no checkpoint
        self._comparator.checkpoint_committed(now_us())
        self._send_released()
        self._checkpoints_committed += 1
        self.tell("checkpoint committed", epoch=self._checkpoints_committed)

    def _act(self) -> None:
        """Log the differences, and request a checkpoint where the core demands one."""
        if self._notify is not None and self._notify.take_new_connection() and self._comparator.held.checkpoint_wanted:
            self._notify.send(DO_CHECKPOINT)
        for command in self._comparator.commands():
            is_request = isinstance(command, RequestCheckpoint)
            self._log(command.difference, is_request)
            if is_request and self._notify is not None:
                self._checkpoints_requested += 1
                if not self._notify.send(DO_CHECKPOINT):
                    self.warn(f"{self._notify.port.name}: not connected; the checkpoint request is sent on reconnect")

    def _log(self, difference: Difference, is_request: bool) -> None:  # noqa: FBT001 - one fact of the line
        fields: dict[str, Any] = {"kind": difference.kind.name.lower()}
        if is_request:
            fields["checkpoint"] = "requested"
        if difference.primary or difference.secondary:
            fields["primary"] = difference.primary[difference.primary_index :].hex()
            fields["secondary"] = difference.secondary[difference.secondary_index :].hex()
        self.warn(f"divergence: {difference}", **fields)

    # ── state ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def states(self) -> list[ObjectState]:
        """The object's current state."""
        held = self._comparator.held_packets()
        counters = comparator_counters(self._comparator) | {
            "checkpoints_requested": self._checkpoints_requested,
            "checkpoints_committed": self._checkpoints_committed,
            "lost_batches": self.lost_batches,
            "masked_matches": sum(mask["matches"] for mask in masked(self._comparator).values()),
            "masked_bytes": sum(mask["bytes"] for mask in masked(self._comparator).values()),
        }
        gauges = {
            "tracked_connections": self._comparator.table.used,
            "held_packets": held,
            "held_bytes": self._comparator.held_bytes(),
            "checkpoint_wanted": int(self._comparator.held.checkpoint_wanted),
            "blocked_primary_in": int(self._primary.is_blocked),
            "blocked_secondary_in": int(self._secondary.is_blocked),
        }
        oldest_us = self._comparator.held.oldest_us()
        holding_us = None if oldest_us is None else now_us() - oldest_us
        streams = self._stream_states({role: role for role in self._streams})
        return [ObjectState(KIND, self.object_id, streams, counters, gauges, not self._is_started, held, holding_us)]
