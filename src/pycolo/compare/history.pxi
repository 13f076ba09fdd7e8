"""TCP, equal payload: the secondary's bytes below the frontier, kept while the primary may retransmit them (rule C9).

Retransmitted payload is compared again, with the secondary's first copy. The history is bounded per connection, and
freed first when memory is short: payload whose first copy is gone leaves.

A connection's history is in sequence order, as are the secondary's waiting segments, and no record contains another. A
long list has a tree (see `ordered`) with every fourth record and those that came late: most of the history is never
used, so keeping it must be cheap.
"""


cdef int _PACKETS_MAX = limits.RETAINED_PACKETS_MAX
cdef long long _BYTES_MAX = limits.RETAINED_BYTES_MAX
cdef int _ALL_PACKETS_MAX = limits.RETAINED_ALL_PACKETS_MAX
cdef long long _ALL_BYTES_MAX = limits.RETAINED_ALL_BYTES_MAX
cdef int _SHARE_PACKETS = limits.RETAINED_SHARE_PACKETS


@cython.final
cdef class History:
    """`used`, `used_bytes`: the share of the pool that is kept here. The connection that began first loses first.

    `kept_behind`: so many bytes below the frontier are kept of a connection with masks, whatever the client has.
    """

    cdef Held held
    cdef readonly Pool pool
    cdef readonly int used
    cdef readonly long long used_bytes
    cdef Trees trees
    cdef int theirs
    cdef int kept_behind
    cdef int _packets_max
    cdef uint32_t _turn
    cdef int _oldest
    cdef int _newest

    def __init__(self, held):
        self.held = held
        self.pool = held.pool
        self._packets_max = min(_ALL_PACKETS_MAX, self.pool.records_max // 2)
        self.trees = Trees(self.pool, self._packets_max + 1)
        self._turn = self.kept_behind = 0
        self.used = 0
        self.used_bytes = 0
        self._oldest = _NONE
        self._newest = _NONE
        self.theirs = _NONE

    cdef inline bint take(self, int row, int record) noexcept nogil:
        """Keep a record that is in no queue, or free it."""
        if self.keep(row, record):
            return True
        self.pool.free(record)
        return False

    cdef inline bint keep(self, int row, int record) noexcept nogil:
        """Keep a record whose payload lies below the frontier: of either guest, as the bytes are the same.

        It is in no queue, or about to leave from `ready`; whatever is freed for it, it still exists when this returns.
        False: it is not kept, because other records have its payload, or there is no room.
        """
        cdef Record* rec = &self.pool.at[record]
        cdef Row* r = &self.held.rows[row]
        cdef Record* last
        if r.kept.count == 0:
            self._link(row)
            r.kept.head = record
        else:
            last = &self.pool.at[r.kept.tail]
            if rec.seq != last.seq + last.payload_len:
                return self._keep_apart(row, record)
            last.kept_next = record
        r.kept.tail = record
        rec.kept_next = _NONE
        self._count_in(r, record)
        if r.kept_tree:
            self._turn += 1
            if self._turn & 3 == 0:
                self.trees.append(r.kept_tree - 1, record)
        elif r.kept.count >= _TREE_FROM:
            self._grow_tree(r)
        return self._bound(row, record)

    cdef inline void _count_in(self, Row* r, int record) noexcept nogil:
        cdef Record* rec = &self.pool.at[record]
        r.kept.count += 1
        r.kept_bytes += rec.length
        rec.marks |= _RETAINED
        self.used += 1
        self.used_bytes += self.pool.block_bytes(record)

    cdef inline bint _bound(self, int row, int record) noexcept nogil:
        """Free what the connection keeps above its limit, but not `record`, which the caller has yet to release."""
        cdef Row* r = &self.held.rows[row]
        while r.kept.count > _PACKETS_MAX or (r.kept.count > 1 and r.kept_bytes > _BYTES_MAX):
            if r.kept.head == record:
                break
            self._drop_first(row)
        if self.used > self._packets_max or self.used_bytes > _ALL_BYTES_MAX:
            self._keep_less(row, record)
        return True

    cdef int _keep_less(self, int row, int record) noexcept nogil:
        """All together keep too much: this connection frees what is above its share, or the oldest one everything."""
        cdef Row* r = &self.held.rows[row]
        if r.kept.count <= _SHARE_PACKETS and self._oldest != row:
            return self.forget(self._oldest)
        if r.kept.head != record:
            self._drop_first(row)
        if r.kept.head != record:
            self._drop_first(row)
        return 0

    cdef bint _keep_apart(self, int row, int record) noexcept nogil:
        """Keep a record that does not begin where the last one ends."""
        cdef Record* rec = &self.pool.at[record]
        cdef Row* r = &self.held.rows[row]
        cdef int before, after
        if not -_WINDOW_MAX <= seq_diff(rec.seq, self.pool.at[r.kept.head].seq) <= _WINDOW_MAX:
            self.forget(row)  # their numbers would have no common order
            return self.keep(row, record)
        before = self._begins_before(r, rec.seq)
        if before != _NONE and seq_diff(self._end(before), self._end(record)) >= 0:
            return False
        if before == _NONE and self._is_full(r, record):
            return False  # it would be freed first
        after = r.kept.head if before == _NONE else self.pool.at[before].kept_next
        while after != _NONE and seq_diff(self._end(after), self._end(record)) <= 0:
            after = self._drop_contained(row, before, after)
        if r.kept.count == 0:
            return self.keep(row, record)
        rec.kept_next = after
        if before == _NONE:
            r.kept.head = record
        else:
            self.pool.at[before].kept_next = record
        if after == _NONE:
            r.kept.tail = record
        self._count_in(r, record)
        if r.kept_tree:
            self.trees.insert(r.kept_tree - 1, record)
        return self._bound(row, record)

    cdef int _begins_before(self, Row* r, uint32_t seq) noexcept nogil:
        """The last record that begins at `seq` or before it, or -1."""
        cdef int found = self.trees.find(r.kept_tree - 1, r.kept.head, seq, False)
        cdef int other = r.kept.head if found == _NONE else self.pool.at[found].kept_next
        while other != _NONE and seq_diff(self.pool.at[other].seq, seq) <= 0:
            self.pool.walked += 1
            found = other
            other = self.pool.at[other].kept_next
        return found

    cdef bint _is_full(self, Row* r, int record) noexcept nogil:
        """Whether something must be freed for one more."""
        if r.kept.count >= _PACKETS_MAX or r.kept_bytes + self.pool.at[record].length > _BYTES_MAX:
            return True
        return self.used >= self._packets_max or self.used_bytes + self.pool.block_bytes(record) > _ALL_BYTES_MAX

    cdef int _grow_tree(self, Row* r) noexcept nogil:
        cdef int record = r.kept.head
        cdef int tree = self.trees.make()
        r.kept_tree = tree + 1
        while record != _NONE:
            self.trees.append(tree, record)
            record = self.pool.at[record].kept_next
        return 0

    cdef int _drop_contained(self, int row, int before, int record) noexcept nogil:
        """Remove the record after `before` (-1: the first), whose payload another one has; returns the one after it."""
        cdef Row* r = &self.held.rows[row]
        cdef int after = self.pool.at[record].kept_next
        if before == _NONE:
            self._drop_first(row)
            return after
        self.pool.at[before].kept_next = after
        if after == _NONE:
            r.kept.tail = before
        if r.kept_tree:
            self.trees.take_out(r.kept_tree - 1, record)
        return self._count_out(row, record, after)

    cdef int _drop_first(self, int row) noexcept nogil:
        cdef Row* r = &self.held.rows[row]
        cdef int record = r.kept.head
        r.kept.head = self.pool.at[record].kept_next
        if r.kept_tree:
            self.trees.take_first(r.kept_tree - 1, record)
        return self._count_out(row, record, 0)

    cdef inline int _count_out(self, int row, int record, int after) noexcept nogil:
        """A record is no longer in the list; returns `after`."""
        cdef Row* r = &self.held.rows[row]
        r.kept.count -= 1
        r.kept_bytes -= self.pool.at[record].length
        self.used -= 1
        self.used_bytes -= self.pool.block_bytes(record)
        if r.kept_tree and r.kept.count < _TREE_UNTIL:
            r.kept_tree = self.trees.give_back(r.kept_tree - 1) + 1
        if r.kept.count == 0:
            r.kept.tail = _NONE
            self._unlink(row)
        self.held.let_go_of_history(record)
        return after

    cdef int forget(self, int row) noexcept nogil:
        """The connection starts anew, or is no longer compared."""
        cdef Row* r = &self.held.rows[row]
        while r.kept.count:
            self._drop_first(row)
        return 0

    cdef int acknowledged(self, int row, long long seq) noexcept nogil:
        """The client has everything below `seq`: it needs no second copy."""
        cdef Row* r = &self.held.rows[row]
        record: cython.int = r.kept.head
        if r.flags & RowFlag.MASKABLE:
            seq = seq_min(seq, seq_add(r.compared_seq, -self.kept_behind))
        while record != _NONE and seq_diff(self._end(record), seq) <= 0:
            self._drop_first(row)
            record = r.kept.head
        return 0

    cdef bint make_room(self) noexcept nogil:
        """Free the history of the connection that has kept it longest; False if there is none."""
        if self._oldest == _NONE:
            return False
        self.forget(self._oldest)
        return True

    cdef int with_byte(self, Row* r, uint32_t seq) noexcept nogil:
        """The record that may have the byte with a number a little below the frontier, or -1."""
        if r.kept.count == 0 or not 0 <= seq_diff(r.compared_seq, self.pool.at[r.kept.head].seq) <= _WINDOW_MAX:
            return _NONE  # no record is near enough for its number to give an order
        return self._begins_before(r, seq)

    # ── comparing again ───────────────────────────────────────────────────────────────────────────────────────

    cdef Py_ssize_t differs(self, int row, int record, long long end) noexcept nogil:
        """The offset in `record`'s payload, a primary's packet, of the first differing byte below `end`, or -1.

        `theirs` is then the kept record that it differs from.
        """
        cdef Record* rec = &self.pool.at[record]
        cdef Row* r = &self.held.rows[row]
        kept: cython.int = _NONE
        first: cython.longlong
        last: cython.longlong
        same: cython.longlong
        if r.kept.count == 0 or not 0 <= seq_diff(r.compared_seq, self.pool.at[r.kept.head].seq) <= _WINDOW_MAX:
            return -1  # as in `with_byte`
        end = seq_min(end, self._end(record))
        kept = self._begins_before(r, rec.seq)
        if kept == _NONE:
            kept = r.kept.head
        while kept != _NONE and seq_diff(self.pool.at[kept].seq, end) < 0:
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
        """Append a connection that begins to keep a history to the list."""
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
