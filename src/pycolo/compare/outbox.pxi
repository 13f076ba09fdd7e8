"""What leaves, in order: released frames, each behind its length words, as one row of bytes.

::

    held, or behind something held ─► copied ──┐
    the batch that is being taken ──► a run ───┴─► send, or drain

A frame of the primary whose equal came before leaves from the batch that it came in: the run in that batch gets longer,
and nothing is copied. Once another frame is to leave, or the batch is used for something else, the run is copied
behind what stands here (`settle`), so that the order stays.
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
        """Whether nothing stands here."""
        return self.start == self.end and self.run_start == self.run_end

    cdef inline bint leave(self, const uint8_t* frame, Py_ssize_t size, int vnet_len) noexcept nogil:
        """Copy a frame behind what stands here; False: no room."""
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
        """Let the frame leave that stands, with its length words, from `start` to `end` of a batch; False: no room."""
        if start != self.run_end or buf != self.batch or end > self._run_limit:
            return self._begin_run(buf, start, end)
        self.run_end = end
        return True

    cdef bint _begin_run(self, uint8_t* buf, Py_ssize_t start, Py_ssize_t end) noexcept nogil:
        """Another run, behind a copy of the one before. What does not leave from the batch has to have room here."""
        if self.end + (self.run_end - self.run_start) + (end - start) > _OUTBOX_BYTES:
            return False
        self.settle()
        self.batch = buf
        self.run_start = start
        self.run_end = end
        self._run_limit = start + _OUTBOX_BYTES - self.end
        return True

    cdef inline int settle(self) noexcept nogil:
        """The batch is going to be used for something else, or another frame leaves behind the run: copy the run."""
        cdef Py_ssize_t count = self.run_end - self.run_start
        if count:
            copy_many(self.copied + self.end, self.batch + self.run_start, count)
            self.end += count
        self.run_start = self.run_end = 0
        self.batch = NULL  # no frame goes on from here, whatever was sent of it
        return 0

    cdef Py_ssize_t take(self, uint8_t* out, Py_ssize_t room) noexcept nogil:
        """Move what was copied, as many whole frames as have room, to `out`; their length is returned."""
        cdef Py_ssize_t count = self.end - self.start
        if count > room:
            count = frame_boundary(self.copied, self.start, self.start + room, self.has_vnet) - self.start
        copy_many(out, self.copied + self.start, count)
        self.start += count
        if self.start == self.end:
            self.start = self.end = 0
        return count
