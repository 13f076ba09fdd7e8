"""One buffer of frames in QEMU's framing, on its way."""

from pycolo import limits
from pycolo.core import COMPLETE, IMPOSSIBLE, Span, frame_at, frame_boundary
from pycolo.errors import FramingError
from pycolo.transport.ports import BATCH_BUFFER_BYTES, Port


class Batch:
    """Bytes `start` … `end` of `buf` are there; whatever takes them moves `start` on."""

    def __init__(self) -> None:
        self.buf = bytearray(BATCH_BUFFER_BYTES)
        self.view = memoryview(self.buf)
        self.start = 0
        self.end = 0
        self._span = Span()
        self._voids_part = False

    @property
    def is_empty(self) -> bool:
        """Whether nothing is left."""
        return self.start == self.end

    def clear(self) -> None:
        """Forget what is left."""
        self.start = self.end = 0
        self._voids_part = False

    def void_part(self) -> None:
        """The part of a frame that is left belongs to the past: forget that frame when the rest of it has come."""
        self._voids_part = not self.is_empty

    def compact(self) -> None:
        """Move what is left to the front, so that there is room for the next read."""
        left = self.end - self.start
        if self.start:
            self.buf[:left] = self.buf[self.start : self.end]
        self.start, self.end = 0, left

    def fill(self, port: Port) -> bool:
        """Read from a port behind what is left; whether anything came.

        A stream that ended takes the part of a frame that it left with it; it may have ended while it was written to.
        """
        self.compact()
        self._forget_part(port)
        before = self.end
        self.end = port.read_batch(self.buf, self.end)
        got = self.end > before
        self._forget_part(port)
        if self._voids_part and frame_at(self.buf, 0, self.end, port.vnet_len != 0, self._span) == COMPLETE:
            self.start = self._span.end
            self._voids_part = False
        return got

    def _forget_part(self, port: Port) -> None:
        if port.take_reset():
            self.end = frame_boundary(self.buf, 0, self.end, port.vnet_len != 0)
            self._voids_part = False

    def complete_end(self, port: Port) -> int:
        """Behind the last complete frame. Raises `FramingError` when the next length word is impossible."""
        has_vnet = port.vnet_len != 0
        boundary = frame_boundary(self.buf, self.start, self.end, has_vnet)
        if boundary < self.end and frame_at(self.buf, boundary, self.end, has_vnet, self._span) == IMPOSSIBLE:
            raise FramingError(port.name, boundary, self._span.word, limits.STREAM_LENGTH_BYTES_MAX)
        return boundary

    def write_to(self, port: Port) -> bool:
        """Hand the frames to a port; whether all have gone."""
        if self.start < self.end:
            self.start = port.write_batch(self.buf, self.start, self.end)
        return self.start == self.end
