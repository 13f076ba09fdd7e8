"""A port to one of QEMU's chardevs that takes frames even while QEMU does not read them.

QEMU hands a frame to a redirector's chardev in its main loop, and waits there until the socket takes it; meanwhile it
reads no other chardev. If the node stopped reading one chardev because another one is full, node and QEMU would wait
for each other for ever (seen with 7.2, under a few busy connections). So this port buffers what does not fit, and drops
frames above that, as a network card does.
"""

from typing import Any, Final

from pycolo.transport.portspec import PortSpec
from pycolo.transport.streamport import StreamPort
from pycolo.wire.buffers import Buffer

SPILL_BYTES_MAX: Final = 4 << 20
"""For one port: more than QEMU writes in one turn of its loop (256 frames), less than a tenth of a second's traffic."""

LOOK_AGAIN_US: Final = 500
"""Pause between two attempts to write what did not fit."""


class QemuPort(StreamPort):
    """`write_batch` takes everything while the connection is there."""

    def __init__(self, spec: PortSpec, option: str) -> None:
        """See the base."""
        super().__init__(spec, option)
        self._spilt = bytearray()
        self._dropped_bytes = 0

    def write_batch(self, buf: Buffer, pos: int, end: int) -> int:
        """Whole frames; see `Port`. What the socket does not take now leaves with `service`, or with the next call."""
        self._flush()
        if not self._spilt:
            pos = super().write_batch(buf, pos, end)
        if pos == end or self._sock is None:
            return pos
        begun, self.sent_of_frame = self.sent_of_frame, 0
        keep = end
        if len(self._spilt) + end - pos > SPILL_BYTES_MAX:
            keep = self._end_of_frame(buf, pos) if begun else pos  # its first part has gone
        self._spilt += memoryview(buf)[pos + begun : keep]
        self._dropped_bytes += end - keep
        return end

    def _end_of_frame(self, buf: Buffer, pos: int) -> int:
        words = 8 if self.vnet_len else 4
        return pos + words + int.from_bytes(memoryview(buf)[pos : pos + 4], "big")

    def _flush(self) -> None:
        if not self._spilt or self._sock is None:
            return
        try:
            sent = self._sock.send(self._spilt)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            self.drop()
            return
        self._bytes_out += sent
        del self._spilt[:sent]

    def service(self, now_us: int) -> int | None:
        """See `Port`."""
        due_us = super().service(now_us)
        self._flush()
        return now_us + LOOK_AGAIN_US if self._spilt else due_us

    def drop(self) -> None:
        """End this connection; what waited for it is lost with it, as what QEMU has read and not used."""
        super().drop()
        self._spilt.clear()

    def counters(self) -> dict[str, Any]:
        """See `Port`."""
        return {**super().counters(), "spilt_bytes": len(self._spilt), "dropped_bytes": self._dropped_bytes}
