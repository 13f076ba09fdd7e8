"""The output, in order: released frames with their length words, as one sequence of bytes.

::

    held, or behind something held ─► copied ──┐
    the batch that is being taken ──► a run ───┴─► send, or drain

A frame of the primary whose equal came before leaves from its receive batch: the run in that batch grows, and nothing
is copied. When another frame leaves, or the batch is reused, the run is copied behind the contents (`settle`), so that
the order stays.
"""


@cython.final
cdef class Outbox:
    """Bytes `start` … `end` of `copied` leave first, then those from `run_start` to `run_end` of `batch`."""

    cdef bint has_vnet
    cdef uint8_t* copied
    cdef Py_ssize_t start
    cdef Py_ssize_t end
    cdef uint8_t* batch
    cdef Py_ssize_t run_start
    cdef Py_ssize_t run_end
    cdef Py_ssize_t _run_limit

    def __dealloc__(self):
        release_column(self.copied)

    def __init__(self, has_vnet):
        self.has_vnet = has_vnet
        self.copied = <uint8_t*>column(self.copied, _OUTBOX_BYTES, 1, 0)
        self.start = self.end = 0
        self.batch = NULL
        self.run_start = self.run_end = self._run_limit = 0

    cdef inline bint is_empty(self) noexcept nogil:
        """Whether it holds no frame."""
        return self.start == self.end and self.run_start == self.run_end

    cdef inline bint leave(self, const uint8_t* frame, Py_ssize_t size, int vnet_len) noexcept nogil:
        """Append a copy of a frame; False: no room."""
        cdef Py_ssize_t words = 8 if self.has_vnet else 4
        cdef uint8_t* target
        if self.end + (self.run_end - self.run_start) + words + size > _OUTBOX_BYTES:
            return False
        self.settle()
        target = self.copied + self.end
        store32(target, 0, size)
        if self.has_vnet:
            store32(target, 4, vnet_len)
        memcpy(target + words, frame, size)
        self.end += words + size
        return True

    cdef inline bint leave_in_place(self, uint8_t* buf, Py_ssize_t start, Py_ssize_t end) noexcept nogil:
        """Release the frame, with its length words, at `start` … `end` of a batch; False: no room."""
        if start != self.run_end or buf != self.batch or end > self._run_limit:
            return self._begin_run(buf, start, end)
        self.run_end = end
        return True

    cdef bint _begin_run(self, uint8_t* buf, Py_ssize_t start, Py_ssize_t end) noexcept nogil:
        """Start another run, after copying the previous one. Frames that cannot leave in place must have room."""
        if self.end + (self.run_end - self.run_start) + (end - start) > _OUTBOX_BYTES:
            return False
        self.settle()
        self.batch = buf
        self.run_start = start
        self.run_end = end
        self._run_limit = start + _OUTBOX_BYTES - self.end
        return True

    cdef inline int settle(self) noexcept nogil:
        """The batch will be reused, or another frame leaves after the run: copy the run."""
        cdef Py_ssize_t count = self.run_end - self.run_start
        if count:
            copy_many(self.copied + self.end, self.batch + self.run_start, count)
            self.end += count
        self.run_start = self.run_end = 0
        self.batch = NULL  # the run is complete, however much of it was sent
        return 0

    cdef Py_ssize_t take(self, uint8_t* out, Py_ssize_t room) noexcept nogil:
        """Move as many whole copied frames as fit to `out`; returns their length."""
        cdef Py_ssize_t count = self.end - self.start
        if count > room:
            count = frame_boundary(self.copied, self.start, self.start + room, self.has_vnet) - self.start
        copy_many(out, self.copied + self.start, count)
        self.start += count
        if self.start == self.end:
            self.start = self.end = 0
        return count
