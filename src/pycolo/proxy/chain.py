"""The filters of one netdev, in QEMU's order of execution.

::

    device ─► tx: first … last filter ─► (guest)          (guest) ─► rx: last … first filter ─► device

A mirror copies frames to its outdev. A redirector with an outdev takes the frames out of the chain; frames from a
redirector's indev enter at the *next* filter of its direction. A filter that is off is skipped. There is no guest
network card here: frames that reach the end of tx are discarded and counted. A redirector with `queue=tx,outdev=` sends
them to a guest elsewhere, and one with `queue=rx,indev=` receives that guest's frames.

A batch in the chain is a generator that yields the sink it has to wait for.
"""

import os
import struct
import time
from collections.abc import Iterator
from pathlib import Path

from pycolo.core import BATCH_BUFFER_BYTES, COMPLETE, Batch, Rewriter, Span, frame_at, frame_boundary
from pycolo.errors import ConnectError
from pycolo.path.clock import now_us
from pycolo.proxy.chardev import ChardevPort
from pycolo.proxy.notifydev import NotifyDev
from pycolo.proxy.objects import MIRROR, Direction, FilterSpec
from pycolo.transport.ports import VNET_LEN, Port
from pycolo.wire.buffers import Buffer

_PCAP_MAGIC = 0xA1B23C4D  # nanoseconds
_LINKTYPE_ETHERNET = 1


class Sink:
    """A port that several batches write to: whole frames wait here in order until the port accepts them."""

    def __init__(self, port: Port) -> None:
        self.port = port
        self.batch = Batch()

    def put(self, buf: Buffer, start: int, end: int) -> None:
        """Copy frames; the sink must be empty."""
        assert self.batch.is_empty
        self.batch.start, self.batch.end = 0, end - start
        self.batch.buf[: end - start] = memoryview(buf)[start:end]


class DumpFile:
    """filter-dump's pcap file: nanoseconds, Ethernet, without vnet headers. Raises `ConnectError` on opening."""

    def __init__(self, path: str, bytes_max: int, use: str) -> None:
        self._bytes_max = bytes_max
        self._span = Span()
        self._fd = -1
        try:
            self._fd = os.open(Path(path), os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            header = struct.pack("=IHHiIII", _PCAP_MAGIC, 2, 4, 0, 0, bytes_max, _LINKTYPE_ETHERNET)
            os.write(self._fd, header)
        except (OSError, ValueError) as error:
            self.close()
            raise ConnectError(f"{use}: cannot write {path}: {getattr(error, 'strerror', error)}") from error

    def write(self, buf: Buffer, start: int, end: int, has_vnet: bool) -> None:  # noqa: FBT001 - one fact of the batch
        """Append the frames of a batch. Raises OSError when the disk does not accept them."""
        if self._fd < 0:
            return
        seconds, nanoseconds = divmod(time.time_ns(), 1_000_000_000)
        records = bytearray()
        span = self._span
        while frame_at(buf, start, end, has_vnet, span) == COMPLETE:
            first = min(span.start + span.vnet_len, span.end)
            kept = min(span.end - first, self._bytes_max)
            records += struct.pack("=IIII", seconds & 0xFFFFFFFF, nanoseconds, kept, span.end - first)
            records += memoryview(buf)[first : first + kept]
            start = span.end
        octets = memoryview(records)
        while octets:
            octets = octets[os.write(self._fd, octets) :]

    def close(self) -> None:
        """Close the file."""
        if self._fd >= 0:
            os.close(self._fd)
        self._fd = -1


class Filter:
    """One running filter. `outdev`, `rewriter` and `dump` are set when its kind has them."""

    def __init__(
        self,
        spec: FilterSpec,
        outdev: Sink | None = None,
        indev: ChardevPort | None = None,
        rewriter: Rewriter | None = None,
        notify: NotifyDev | None = None,
        dump: DumpFile | None = None,
    ) -> None:
        self.spec = spec
        self.outdev = outdev
        self.indev = indev
        self.rewriter = rewriter
        self.notify = notify
        self.dump = dump
        self.seen_bytes = 0
        self.injected_bytes = 0
        self.checkpoints_committed = 0


class Chain:
    """`filters` in list order; `device` is where rx ends."""

    def __init__(self, filters: list[Filter], device: Sink, has_vnet: bool) -> None:  # noqa: FBT001 - of all streams
        self.filters = filters
        self.device = device
        self.has_vnet = has_vnet
        self.no_guest_bytes = 0
        self.dump_failures: list[tuple[Filter, OSError]] = []
        self._span = Span()

    def from_device(self, buf: Buffer, start: int, end: int) -> Iterator[Sink]:
        """Frames from the device."""
        return self._onward(Direction.TX, -1, buf, start, end)

    def injected(self, index: int, buf: Buffer, start: int, end: int) -> Iterator[Sink]:
        """Frames from the indev of filter `index`: pass them to the next filter, in each of its directions."""
        chosen = self.filters[index]
        chosen.injected_bytes += end - start
        for direction in chosen.spec.directions:
            part = bytearray(memoryview(buf)[start:end])  # a rewriter on the one way must not change the other's
            yield from self._onward(direction, index, part, 0, len(part))

    def drained(self, index: int) -> Iterator[Sink]:
        """Frames for the guest that the rewriter at `index` had held back."""
        rewriter = self.filters[index].rewriter
        assert rewriter is not None
        out = bytearray(BATCH_BUFFER_BYTES)
        while (end := rewriter.drain_guest(out, 0)) > 0:
            yield from self._onward(Direction.TX, index, out, 0, end)

    def _onward(self, direction: Direction, index: int, buf: Buffer, start: int, end: int) -> Iterator[Sink]:
        """Run the filters behind `index`, up to the end or to a redirector that takes the frames out."""
        if start == end:
            return
        step = 1 if direction is Direction.TX else -1
        index += step
        while 0 <= index < len(self.filters):
            stage = self.filters[index]
            if stage.spec.is_on and direction in stage.spec.directions:
                stage.seen_bytes += end - start
                if stage.rewriter is not None:
                    yield from self._rewritten(stage.rewriter, direction, index, buf, start, end)
                    return
                if stage.outdev is not None:
                    yield from _into(stage.outdev, buf, start, end, self.has_vnet)
                    if stage.spec.kind != MIRROR:
                        return
                if stage.dump is not None:
                    self._dump(stage, buf, start, end)
            index += step
        if direction is Direction.TX:
            self.no_guest_bytes += end - start
        else:
            yield from _into(self.device, *self._for_device(buf, start, end), self.has_vnet)

    def _rewritten(
        self, rewriter: Rewriter, direction: Direction, index: int, buf: Buffer, start: int, end: int
    ) -> Iterator[Sink]:
        call = rewriter.client_frames if direction is Direction.TX else rewriter.guest_frames
        out = bytearray(BATCH_BUFFER_BYTES)
        taken = -1
        while taken < start < end:
            taken, start = start, call(buf, start, end, now_us(), out, 0)
            yield from self._onward(direction, index, out, 0, rewriter.out_end)
            yield from self.drained(index)

    def _dump(self, stage: Filter, buf: Buffer, start: int, end: int) -> None:
        assert stage.dump is not None
        try:
            stage.dump.write(buf, start, end, self.has_vnet)
        except OSError as error:
            stage.dump.close()
            self.dump_failures.append((stage, error))

    def _for_device(self, buf: Buffer, start: int, end: int) -> tuple[Buffer, int, int]:
        """The device has vnet headers of VNET_LEN bytes; peers may have longer ones, or none."""
        if not self.has_vnet:
            return buf, start, end
        out = bytearray()
        differs = False
        pos = start
        span = self._span
        while frame_at(buf, pos, end, True, span) == COMPLETE:
            header = bytes(memoryview(buf)[span.start : span.start + min(span.vnet_len, VNET_LEN)])
            differs |= span.vnet_len != VNET_LEN
            frame = memoryview(buf)[min(span.start + span.vnet_len, span.end) : span.end]
            out += struct.pack("!II", VNET_LEN + len(frame), VNET_LEN) + header.ljust(VNET_LEN, b"\0") + frame
            pos = span.end
        return (out, 0, len(out)) if differs else (buf, start, end)


def _into(sink: Sink, buf: Buffer, start: int, end: int, has_vnet: bool) -> Iterator[Sink]:  # noqa: FBT001
    """Write frames to a sink once it is empty. A batch that longer headers have enlarged is written in two parts."""
    while start < end:
        while not sink.batch.is_empty:
            yield sink
        part = frame_boundary(buf, start, min(end, start + len(sink.batch.buf)), has_vnet)
        sink.put(buf, start, part)
        yield sink
        start = part
