"""One buffer of frames in QEMU's framing, between input and output."""

BATCH_BUFFER_BYTES = limits.BATCH_BYTES + limits.STREAM_LENGTH_BYTES_MAX + 8


@cython.final
cdef class Batch:
    """Bytes `start` … `end` of `buf` are valid; a consumer advances `start`.

    Size: a batch, and room for one more frame of any size.
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
        self.view = whole = memoryview(self.buf)  # from here on the bytes cannot move
        self.base = &whole[0]
        self.size = len(whole)
        self.start = self.end = 0
        self._span = Span()
        self._voids_part = False

    @property
    def is_empty(self):
        """Whether no bytes are left."""
        return self.start == self.end

    def clear(self):
        """Discard what is left."""
        self.start = self.end = 0
        self._voids_part = False

    def void_part(self):
        """The partial frame that is left belongs to an old epoch: discard it once the rest has arrived."""
        self._voids_part = self.start != self.end

    def compact(self):
        """Move what is left to the front, to make room for the next read."""
        self.move_to_front()

    cdef int move_to_front(self) noexcept nogil:
        if self.start:
            self.end -= self.start
            memmove(self.base, self.base + self.start, self.end)
            self.start = 0
        return 0

    def fill(self, port):
        """Append data read from a port. Returns whether any was read.

        When a stream ends, its partial frame is discarded; a stream may also have ended during a write.
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
        """The end of the last complete frame. Raises `FramingError` if the next length word is impossible."""
        cdef bint has_vnet = port.vnet_len != 0
        cdef Py_ssize_t boundary = frame_boundary(self.base, self.start, self.end, has_vnet)
        if boundary < self.end and frame_at(self.base, boundary, self.end, has_vnet, self._span) == 2:
            raise FramingError(port.name, boundary, self._span.word, limits.STREAM_LENGTH_BYTES_MAX)
        return boundary

    def write_to(self, port):
        """Write the frames to a port. Returns whether all were written."""
        if self.start < self.end:
            self.start = port.write_batch(self.buf, self.start, self.end)
        return self.start == self.end
