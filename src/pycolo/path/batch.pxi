"""One buffer of frames in QEMU's framing, on its way."""

BATCH_BUFFER_BYTES = limits.BATCH_BYTES + limits.STREAM_LENGTH_BYTES_MAX + 8


@cython.final
cdef class Batch:
    """Bytes `start` … `end` of `buf` are there; whatever takes them moves `start` on.

    The size: a batch, and room for one more frame of any size.
    """

    cdef readonly object buf
    cdef readonly object view
    cdef public Py_ssize_t start
    cdef public Py_ssize_t end
    cdef uint8_t* base
    cdef Py_ssize_t size
    cdef Span _span
    cdef bint _voids_part

    def __init__(self):
        cdef uint8_t[::1] whole
        self.buf = bytearray(BATCH_BUFFER_BYTES)
        self.view = whole = memoryview(self.buf)  # and nothing moves the bytes any more
        self.base = &whole[0]
        self.size = len(whole)
        self.start = self.end = 0
        self._span = Span()
        self._voids_part = False

    @property
    def is_empty(self):
        """Whether nothing is left."""
        return self.start == self.end

    def clear(self):
        """Forget what is left."""
        self.start = self.end = 0
        self._voids_part = False

    def void_part(self):
        """The part of a frame that is left belongs to the past: forget that frame when the rest of it has come."""
        self._voids_part = self.start != self.end

    def compact(self):
        """Move what is left to the front, so that there is room for the next read."""
        self.move_to_front()

    cdef int move_to_front(self) noexcept nogil:
        if self.start:
            self.end -= self.start
            memmove(self.base, self.base + self.start, self.end)
            self.start = 0
        return 0

    def fill(self, port):
        """Read from a port behind what is left; whether anything came.

        A stream that ended takes the part of a frame that it left with it; it may have ended while it was written to.
        """
        cdef Py_ssize_t before
        cdef bint has_come
        self.move_to_front()
        self._forget_part(port)
        before = self.end
        self.end = port.read_batch(self.buf, self.end)
        has_come = self.end > before
        self._forget_part(port)
        if self._voids_part and frame_at(self.base, 0, self.end, port.vnet_len != 0, self._span) == 1:
            self.start = self._span.end
            self._voids_part = False
        return has_come

    def _forget_part(self, port):
        if port.take_reset():
            self.end = frame_boundary(self.base, 0, self.end, port.vnet_len != 0)
            self._voids_part = False

    def complete_end(self, port):
        """Behind the last complete frame. Raises `FramingError` when the next length word is impossible."""
        cdef bint has_vnet = port.vnet_len != 0
        cdef Py_ssize_t boundary = frame_boundary(self.base, self.start, self.end, has_vnet)
        if boundary < self.end and frame_at(self.base, boundary, self.end, has_vnet, self._span) == 2:
            raise FramingError(port.name, boundary, self._span.word, limits.STREAM_LENGTH_BYTES_MAX)
        return boundary

    def write_to(self, port):
        """Hand the frames to a port; whether all have gone."""
        if self.start < self.end:
            self.start = port.write_batch(self.buf, self.start, self.end)
        return self.start == self.end
