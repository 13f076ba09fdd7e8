"""`-netdev tap` with its filters: one thread per netdev.

The thread reads frames from the device and from every indev, and passes them through the chain batch by batch. While a
batch waits for an outdev, its source is not read: back-pressure, as in QEMU, whose filters block there. If an outdev is
not connected, its batch is lost, as in QEMU.
"""

import select
from collections.abc import Callable, Iterator
from typing import Any, Final

from pycolo import limits
from pycolo.core import COMPLETE, IMPOSSIBLE, Batch, Span, frame_at, frame_boundary
from pycolo.errors import FramingError
from pycolo.path.clock import now_us
from pycolo.proxy.chain import Chain, Filter, Sink
from pycolo.proxy.chardev import ChardevPort
from pycolo.proxy.path import ObjectState, ProxyPath, add
from pycolo.proxy.rewriter import TIMER_US, rewriter_numbers
from pycolo.transport.ports import Port

KIND: Final = "netdev tap"


class _Flow:
    """One source of frames: the last batch, and its position in the chain."""

    def __init__(self, source: Port, through: Callable[[Any, int, int], Iterator[Sink]]) -> None:
        self.source = source
        self.through = through
        self.batch = Batch()
        self.way: Iterator[Sink] | None = None
        self.complete = 0
        self.bad: FramingError | None = None


class NetdevPath(ProxyPath):
    """The thread of one netdev and its filters."""

    def __init__(self, object_id: str, device: Port, chain: Chain, **base: Any) -> None:
        streams: dict[str, Port] = {"ifname": device}
        for stage in chain.filters:
            for role, port in _ports(stage).items():
                streams[f"{stage.spec.id}.{role}"] = port
        super().__init__(object_id, streams, **base)
        self._chain = chain
        self._device = device
        self._sinks = [chain.device, *(stage.outdev for stage in chain.filters if stage.outdev is not None)]
        self._flows = [_Flow(device, chain.from_device)]
        for index, stage in enumerate(chain.filters):
            if stage.indev is not None and stage.spec.is_on:
                self._flows.append(_Flow(stage.indev, _injecting(chain, index)))
        self._rewriters = [stage for stage in chain.filters if stage.rewriter is not None]
        self._freed: list[Iterator[Sink]] = []
        self._next_timer_us = 0

    # ── hooks of the loop ─────────────────────────────────────────────────────────────────────────────────────────

    def _wanted(self) -> dict[int, int]:
        wanted: dict[int, int] = {}
        for flow in self._flows:
            if flow.way is None:
                add(wanted, flow.source, select.EPOLLIN)
        for sink in self._sinks:
            self._watch_output(wanted, sink.port, not sink.batch.is_empty)
        for stage in self._rewriters:
            if stage.notify is not None:
                events = select.EPOLLIN | (select.EPOLLOUT if stage.notify.has_unsent else 0)
                add(wanted, stage.notify.port, events)
        return wanted

    def _deadline_us(self) -> int | None:
        return self._next_timer_us

    def _move(self, ready: dict[int, int]) -> None:
        for flow in self._flows:
            self._resume(flow)
            if flow.way is None and flow.source.fileno() in ready:
                self._read(flow)
        for stage in self._rewriters:
            self._listen(stage, ready)
        self._freed = [way for way in self._freed if not self._is_done(way)]
        if now_us() >= self._next_timer_us:
            self._next_timer_us = now_us() + TIMER_US
            for stage in self._rewriters:
                assert stage.rewriter is not None
                stage.rewriter.timer_fired(now_us())
        self._flush()
        for sink in self._sinks:
            self._notice_end(sink.port, ready)
        for stage, error in self._chain.dump_failures:
            self.warn(f"{stage.spec.id}: {stage.spec.file} cannot be written ({error.strerror}); the dump ends here")
        self._chain.dump_failures.clear()

    def _read(self, flow: _Flow) -> None:
        batch = flow.batch
        batch.fill(flow.source)
        flow.complete = frame_boundary(batch.buf, batch.start, batch.end, self._chain.has_vnet)
        if isinstance(flow.source, ChardevPort):
            flow.complete, flow.bad = self._sound_end(batch, flow.source)
        flow.way = flow.through(batch.buf, batch.start, flow.complete)
        self._resume(flow)

    def _sound_end(self, batch: Batch, source: ChardevPort) -> tuple[int, FramingError | None]:
        """The end of the last valid frame, and what is wrong with the length word there."""
        span = Span()
        pos = batch.start
        while (status := frame_at(batch.buf, pos, batch.end, self._chain.has_vnet, span)) == COMPLETE:
            pos = span.end
        if status == IMPOSSIBLE:
            return pos, FramingError(source.name, pos, span.word, limits.STREAM_LENGTH_BYTES_MAX)
        return pos, None

    def _resume(self, flow: _Flow) -> None:
        if flow.way is None or not self._is_done(flow.way):
            return
        flow.way = None
        flow.batch.start = flow.complete
        if flow.bad is not None:
            assert isinstance(flow.source, ChardevPort), "a device's lengths are correct"
            self._bad_stream(flow.source, flow.batch, flow.bad)
            flow.bad = None

    def _is_done(self, way: Iterator[Sink]) -> bool:
        """Move a batch on as far as the sinks accept it. Returns whether it has arrived."""
        return all(self._write(sink.batch, sink.port) for sink in way)

    def _listen(self, stage: Filter, ready: dict[int, int]) -> None:
        if stage.notify is None:
            return
        stage.notify.take_new_connection()
        self._hear(stage.notify, ready, lambda: self._commit(stage))

    def _commit(self, stage: Filter) -> None:
        assert stage.rewriter is not None
        stage.rewriter.checkpoint_committed()
        stage.checkpoints_committed += 1
        self._freed.append(self._chain.drained(self._chain.filters.index(stage)))
        self.tell(f"{stage.spec.id}: checkpoint committed, all offsets are 0")

    def _flush(self) -> bool:
        sent = [self._write(sink.batch, sink.port) for sink in self._sinks]
        return all(sent)

    # ── state ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def states(self) -> list[ObjectState]:
        """The netdev and its filters, in list order."""
        own = {"no_guest_bytes": self._chain.no_guest_bytes, "lost_batches": self.lost_batches}
        is_waiting = not self._is_started
        found = [ObjectState(KIND, self.object_id, self._stream_states({"ifname": "ifname"}), own, {}, is_waiting)]
        for stage in self._chain.filters:
            counters = {"seen_bytes": stage.seen_bytes, "injected_bytes": stage.injected_bytes}
            gauges = {"on": int(stage.spec.is_on)}
            if stage.rewriter is not None:
                more, now = rewriter_numbers(stage.rewriter)
                counters |= {"checkpoints_committed": stage.checkpoints_committed} | more
                gauges |= now
            streams = self._stream_states({role: f"{stage.spec.id}.{role}" for role in _ports(stage)})
            found.append(ObjectState(stage.spec.kind, stage.spec.id, streams, counters, gauges, is_waiting))
        return found


def _ports(stage: Filter) -> dict[str, Port]:
    found: dict[str, Port] = {}
    if stage.indev is not None:
        found["indev"] = stage.indev
    if stage.outdev is not None:
        found["outdev"] = stage.outdev.port
    if stage.notify is not None:
        found["notify_dev"] = stage.notify.port
    return found


def _injecting(chain: Chain, index: int) -> Callable[[Any, int, int], Iterator[Sink]]:
    def through(buf: Any, start: int, end: int) -> Iterator[Sink]:
        return chain.injected(index, buf, start, end)

    return through
