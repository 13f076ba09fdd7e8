"""TCP, what was equal: the secondary's payload below the frontier, kept while the primary may send it again (rule C9).

Payload that is sent again is compared again, with what the secondary sent the first time. Bounded per connection, and
given up first when memory is short: payload whose first copy is not here any more leaves.
"""


cdef int _PACKETS_MAX = limits.RETAINED_PACKETS_MAX
cdef long long _BYTES_MAX = limits.RETAINED_BYTES_MAX
cdef int _ALL_PACKETS_MAX = limits.RETAINED_ALL_PACKETS_MAX
cdef long long _ALL_BYTES_MAX = limits.RETAINED_ALL_BYTES_MAX
cdef int _SHARE_PACKETS = limits.RETAINED_SHARE_PACKETS


@cython.final
cdef class History:
    """`used`, `used_bytes`: the share of the pool that is kept here. The first that began to keep goes first."""

    cdef Held held
    cdef readonly Pool pool
    cdef readonly int used
    cdef readonly long long used_bytes
    cdef int theirs
    cdef int _packets_max
    cdef int _oldest
    cdef int _newest

    def __init__(self, held):
        self.held = held
        self.pool = held.pool
        self._packets_max = min(_ALL_PACKETS_MAX, self.pool.records_max // 2)
        self.used = 0
        self.used_bytes = 0
        self._oldest = _NONE
        self._newest = _NONE
        self.theirs = _NONE

    cdef int keep(self, int row, int record) noexcept nogil:
        """Keep a record whose payload lies below the frontier: of whichever guest, the bytes are the same.

        It is in no queue, or about to leave from `ready`; whatever is given up for it, it is there when this returns.
        """
        cdef Record* rec = &self.pool.at[record]
        cdef Row* r = &self.held.rows[row]
        if r.kept.count == 0:
            self._link(row)
            r.kept.head = record
        else:
            self.pool.at[r.kept.tail].kept_next = record
        r.kept.tail = record
        r.kept.count += 1
        r.kept_bytes += rec.length
        rec.kept_next = _NONE
        rec.marks |= _RETAINED
        self.used += 1
        self.used_bytes += self.pool.block_bytes(record)
        while r.kept.count > _PACKETS_MAX or (r.kept.count > 1 and r.kept_bytes > _BYTES_MAX):
            self._drop_first(row)
        if self.used > self._packets_max or self.used_bytes > _ALL_BYTES_MAX:
            self._keep_less(row)
        return 0

    cdef int _keep_less(self, int row) noexcept nogil:
        """All together keep too much: this connection gives up what is above its share, or the oldest one all.

        What this connection has kept last stays in any case: the caller has still to let it out.
        """
        cdef Row* r = &self.held.rows[row]
        if r.kept.count <= _SHARE_PACKETS and self._oldest != row:
            return self.forget(self._oldest)
        if r.kept.count > 1:
            self._drop_first(row)
        if r.kept.count > 1:
            self._drop_first(row)
        return 0

    cdef int _drop_first(self, int row) noexcept nogil:
        cdef Row* r = &self.held.rows[row]
        cdef int record = r.kept.head
        r.kept.head = self.pool.at[record].kept_next
        r.kept.count -= 1
        r.kept_bytes -= self.pool.at[record].length
        self.used -= 1
        self.used_bytes -= self.pool.block_bytes(record)
        if r.kept.count == 0:
            r.kept.tail = _NONE
            self._unlink(row)
        return self.held.let_go_of_history(record)

    cdef int forget(self, int row) noexcept nogil:
        """The connection begins anew, or is not compared any more."""
        cdef Row* r = &self.held.rows[row]
        while r.kept.count:
            self._drop_first(row)
        return 0

    cdef int acknowledged(self, int row, long long seq) noexcept nogil:
        """The client has everything below `seq`: it needs no second copy."""
        cdef Row* r = &self.held.rows[row]
        record: cython.int = r.kept.head
        while record != _NONE and seq_diff(self._end(record), seq) <= 0:
            self._drop_first(row)
            record = r.kept.head
        return 0

    cdef bint make_room(self) noexcept nogil:
        """Give up what the connection that has kept something for longest keeps; False when nothing is kept at all."""
        if self._oldest == _NONE:
            return False
        self.forget(self._oldest)
        return True

    # ── comparing again ───────────────────────────────────────────────────────────────────────────────────────

    cdef Py_ssize_t differs(self, int row, int record, long long end) noexcept nogil:
        """How far into the payload of `record`, a primary's packet, the first byte below `end` is that differs, or -1.

        `theirs` is then the kept record that it differs from.
        """
        cdef Record* rec = &self.pool.at[record]
        cdef Row* r = &self.held.rows[row]
        kept: cython.int = r.kept.head
        first: cython.longlong
        last: cython.longlong
        same: cython.longlong
        end = seq_min(end, self._end(record))
        while kept != _NONE:
            self.pool.walked += 1
            first = seq_max(rec.seq, self.pool.at[kept].seq)
            last = seq_min(end, self._end(kept))
            if seq_diff(last, first) > 0:
                same = first_difference(
                    self.pool.arena.memory,
                    self._byte_pos(record, first),
                    self.pool.arena.memory,
                    self._byte_pos(kept, first),
                    seq_diff(last, first),
                )
                if same < seq_diff(last, first):
                    self.theirs = kept
                    return seq_diff(first, rec.seq) + same
            kept = self.pool.at[kept].kept_next
        return -1

    cdef Py_ssize_t _end(self, int record) noexcept nogil:
        cdef Record* rec = &self.pool.at[record]
        return seq_add(rec.seq, rec.payload_len)

    cdef Py_ssize_t _byte_pos(self, int record, long long seq) noexcept nogil:
        cdef Record* rec = &self.pool.at[record]
        return rec.pos + rec.payload_pos + seq_diff(seq, rec.seq)

    # ── the list of connections ───────────────────────────────────────────────────────────────────────────────

    cdef int _link(self, int row) noexcept nogil:
        """Put a connection that begins to keep something at the end of the list."""
        cdef Row* r = &self.held.rows[row]
        r.kept_older = self._newest
        r.kept_newer = _NONE
        if self._newest == _NONE:
            self._oldest = row
        else:
            self.held.rows[self._newest].kept_newer = row
        self._newest = row
        return 0

    cdef int _unlink(self, int row) noexcept nogil:
        cdef Row* r = &self.held.rows[row]
        before: cython.int = r.kept_older
        after: cython.int = r.kept_newer
        if before == _NONE:
            self._oldest = after
        else:
            self.held.rows[before].kept_newer = after
        if after == _NONE:
            self._newest = before
        else:
            self.held.rows[after].kept_older = before
        return 0
