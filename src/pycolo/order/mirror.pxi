"""What the primary's guest has got and the secondary's has not: kept back for each lane, then ready, in one order."""

cdef Py_ssize_t _ORDER_BATCH_BYTES = limits.BATCH_BYTES


@cython.final
cdef class Mirror:
    """`unmirrored`: frames for which there was no memory. `pending_frames`: those that are kept back.

    Lanes that are kept back are in a line, in the order in which their requests were given.
    """

    cdef Lanes lanes
    cdef Pool _pool
    cdef readonly long long unmirrored
    cdef readonly long long pending_frames
    cdef int oldest
    cdef int _newest
    cdef Queue _ready

    def __init__(self, Lanes lanes not None):
        self.lanes = lanes
        self._pool = lanes.pool
        self.unmirrored = self.pending_frames = 0
        self.oldest = self._newest = _NONE
        self._ready.head = self._ready.tail = _NONE
        self._ready.count = 0

    # ── Python's ──────────────────────────────────────────────────────────────────────────────────────────────

    def flush(self):
        """All of it is to be mirrored now: batches, in order."""
        while self.oldest != _NONE:
            self.release(self.oldest)
        found = []
        while self.has_ready():
            found.append(self.take_ready())
        return found

    def ready_bytes(self):
        """See `next_bytes`."""
        return self.next_bytes()

    def take_ready(self):
        """The next batch of what is ready."""
        cdef Py_ssize_t size = self.next_bytes()
        piece = bytearray(size)
        if size:
            self.write_ready(<uint8_t*>(<char*>piece), size)
        return bytes(piece)

    def forget(self):
        """There is no secondary to mirror to."""
        cdef int row
        while self.oldest != _NONE:
            row = self.oldest
            self.pending_frames -= self._pool.free_all(&self.lanes.at[row].pending)
            self.release(row)
        self._pool.free_all(&self._ready)

    # ── kept back ─────────────────────────────────────────────────────────────────────────────────────────────

    cdef int keep_back(self, int row) noexcept nogil:
        """What is given of this lane is kept back from here on."""
        cdef Lane* lane = &self.lanes.at[row]
        lane.is_unmirrored = True
        lane.unmirrored_earlier, lane.unmirrored_later = self._newest, _NONE
        if self._newest == _NONE:
            self.oldest = row
        else:
            self.lanes.at[self._newest].unmirrored_later = row
        self._newest = row
        return self.lanes.settle(row)

    cdef int store(self, int row, uint8_t* buf, Py_ssize_t pos, Py_ssize_t size) noexcept nogil:
        """A frame that was given."""
        cdef int record = self._pool.store(buf, pos, size, 0)
        if record == _NONE:
            self.unmirrored += 1  # no client was told that the secondary has it: it is sent again
            return 0
        self._pool.push(&self.lanes.at[row].pending, record)
        self.pending_frames += 1
        return self.lanes.settle(row)

    cdef int release(self, int row) noexcept nogil:
        """What is kept back of this lane is ready; what follows of its request is not kept back."""
        cdef Lane* lane = &self.lanes.at[row]
        if not lane.is_unmirrored:
            return 0
        while lane.pending.head != _NONE:
            self._pool.push(&self._ready, self._pool.pop_first(&lane.pending))
            self.pending_frames -= 1
        if lane.unmirrored_earlier == _NONE:
            self.oldest = lane.unmirrored_later
        else:
            self.lanes.at[lane.unmirrored_earlier].unmirrored_later = lane.unmirrored_later
        if lane.unmirrored_later == _NONE:
            self._newest = lane.unmirrored_earlier
        else:
            self.lanes.at[lane.unmirrored_later].unmirrored_earlier = lane.unmirrored_earlier
        lane.is_unmirrored = lane.is_deferred = False
        return self.lanes.settle(row)

    # ── ready ─────────────────────────────────────────────────────────────────────────────────────────────────

    cdef inline bint has_ready(self) noexcept nogil:
        """Whether frames are to be mirrored now."""
        return self._ready.head != _NONE

    cdef Py_ssize_t next_bytes(self) noexcept nogil:
        """How many bytes the next batch has, at most a message's; 0: nothing is ready."""
        cdef int record = self._ready.head
        cdef Py_ssize_t size = 0
        while record != _NONE and size + self._pool.at[record].length <= _ORDER_BATCH_BYTES:
            size += self._pool.at[record].length
            record = self._pool.at[record].next
        return size

    cdef int write_ready(self, uint8_t* target, Py_ssize_t size) noexcept nogil:
        """Write the next batch, which has `size` bytes."""
        cdef int record
        while size > 0:
            record = self._pool.pop_first(&self._ready)
            memcpy(target, self._pool.arena.memory + self._pool.at[record].pos, self._pool.at[record].length)
            target += self._pool.at[record].length
            size -= self._pool.at[record].length
            self._pool.free(record)
        return 0
