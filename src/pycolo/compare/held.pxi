"""Packets that wait: the queues of both sides, and packets ready to leave.

::

    primary frames ─► primary[row] ──released──► ready ──drain──► out
    secondary frames ─► secondary[row] ──matched or flushed──► freed

Everything here is by *row* of the connection table, or by *record* of the pool. A row with waiting packets is pinned in
the table and is in the list of active rows, which the timer walks.
"""


cdef enum:
    _HOLD_BUCKETS = 128
    _LOUD = TcpFlag.SYN | TcpFlag.FIN | TcpFlag.RST  # such a segment is not a bare ACK
# Bits of `pool.flags` above TCP's eight: what was done to a packet.
cdef enum:
    _CLAMPED = 256
    _MADE = 512
    _PART = 2048  # of a USO frame, which is chained to its last part and leaves with it


@cython.final
cdef class Held(Reports):
    """State that the TCP and the datagram comparison share. `primary`, `secondary`: queues by row."""

    cdef readonly Asides asides
    cdef readonly Uncompared uncompared
    cdef Payloads payloads
    cdef Trees trees
    cdef Segments segments
    cdef Row* rows
    cdef Outbox outbox
    cdef readonly int shared
    cdef readonly long long shared_bytes
    cdef readonly Queues ready
    cdef public int queue_packets_max
    cdef public bint has_vnet
    cdef int active_head
    cdef long long* _hold_buckets

    def __dealloc__(self):
        release_column(self.rows)
        release_column(self._hold_buckets)

    def __init__(self, table, pool, policy, queue_packets_max, has_vnet):
        super().__init__(table, pool, policy)
        self.queue_packets_max = queue_packets_max
        self.has_vnet = has_vnet
        self.uncompared = Uncompared()
        self.payloads = Payloads(table, pool)
        self.trees = Trees(pool, pool.records_max)
        self.segments = Segments(pool, self.trees)
        self.outbox = Outbox(has_vnet)
        self.shared = 0
        self.shared_bytes = 0
        self.rows = <Row*>column(self.rows, table.rows_max, sizeof(Row), 0)
        self.asides = Asides(table.rows_max)
        self.ready = Queues(pool, 1)
        self.active_head = _NONE
        self._hold_buckets = <long long*>column(self._hold_buckets, _HOLD_BUCKETS, sizeof(long long), 0)

    cdef int open_row(self, int row) noexcept nogil:
        """A new row of the table: nothing is known of it."""
        cdef Row* r = &self.rows[row]
        memset(r, 0, sizeof(Row))
        r.cursor = r.active_next = r.active_previous = r.kept_newer = r.kept_older = _NONE
        r.primary.head = r.primary.tail = r.secondary.head = r.secondary.tail = r.kept.head = r.kept.tail = _NONE
        r.leads.head = r.leads.tail = r.loose_head = r.loose_tail = r.primary_tree = r.secondary_tree = _NONE
        return 0

    # ── queues ────────────────────────────────────────────────────────────────────────────────────────────────

    cdef inline int hold_primary(self, int row, int before, int record) noexcept nogil:
        """Insert a primary packet after `before` (-1: first) in its connection's queue."""
        self.pool.insert_after(&self.rows[row].primary, before, record)
        return self._pin(row)

    cdef inline int hold_secondary(self, int row, int before, int record) noexcept nogil:
        """Insert a secondary packet after `before` (-1: first) in its connection's queue."""
        self.pool.insert_after(&self.rows[row].secondary, before, record)
        return self._pin(row)

    cdef inline int append_extent(self, int row, int record) noexcept nogil:
        """Append a secondary TCP packet, which has payload, to its connection's queue."""
        cdef Row* r = &self.rows[row]
        self.pool.push(&r.secondary, record)
        if r.secondary_tree != _NONE:
            self.trees.append(r.secondary_tree, record)
        elif r.secondary.count >= _TREE_FROM:
            self._grow_tree(r)
        return self._pin(row)

    cdef int _grow_tree(self, Row* r) noexcept nogil:
        cdef int record = r.secondary.head
        r.secondary_tree = self.trees.make()
        while record != _NONE:
            self.trees.append(r.secondary_tree, record)
            record = self.pool.at[record].next
        return 0

    cdef inline int take_primary(self, int row) noexcept nogil:
        """Remove the first primary packet from its queue."""
        cdef Row* r = &self.rows[row]
        cdef int record = r.primary.head
        self._leave_index(record)
        self.segments.take_first(r, record)
        self.pool.pop_first(&r.primary)
        self._unpin(row, 1)
        return record

    cdef int drop_secondary(self, int row, int before) noexcept nogil:
        """Discard the secondary packet after `before` (-1: the first)."""
        cdef Row* r = &self.rows[row]
        cdef int record = r.secondary.head if before == _NONE else self.pool.at[before].next
        self._leave_index(record)
        if r.secondary_tree != _NONE and before == _NONE:
            self.trees.take_first(r.secondary_tree, record)
        self.discard(self.pool.take_after(&r.secondary, before))
        self._drop_tree(r)
        return self._unpin(row, 1)

    cdef inline int retire_secondary(self, int row) noexcept nogil:
        """Remove the first secondary packet, a TCP one: it is done with, and the caller keeps its record."""
        cdef Row* r = &self.rows[row]
        cdef int record = self.pool.pop_first(&r.secondary)
        if r.secondary_tree != _NONE:
            self.trees.take_first(r.secondary_tree, record)
            self._drop_tree(r)
        if self.trace.is_on and not self.pool.at[record].marks & _TRACED:
            self.trace.note(record, 1, PacketFate.DISCARDED, 0)
        self.stats.discarded += 1
        self._unpin(row, 1)
        return record

    cdef inline int _drop_tree(self, Row* r) noexcept nogil:
        if r.secondary.count < _TREE_UNTIL:
            r.secondary_tree = self.trees.give_back(r.secondary_tree)
        return 0

    cdef inline int _leave_index(self, int record) noexcept nogil:
        """The packet is about to leave its queue."""
        if self.pool.at[record].marks & _INDEXED:
            self.payloads.remove(record)
        return 0

    cdef int watch(self, int row) noexcept nogil:
        """Make the timer see a connection without held packets; it cannot be evicted meanwhile."""
        self.rows[row].flags |= RowFlag.ALONE
        return self._pin(row)

    cdef int unwatch(self, int row) noexcept nogil:
        """The reverse of `watch`."""
        self.rows[row].flags &= ~RowFlag.ALONE
        return self._unpin(row, 1)

    cdef int discard(self, int record) noexcept nogil:
        """Discard a packet that is in no queue."""
        if self.trace.is_on and not self.pool.at[record].marks & _TRACED:
            self.trace.note(record, 1, PacketFate.DISCARDED, 0)
        self.stats.discarded += 1
        return self.pool.free(record)

    cdef int drop(self, int record) noexcept nogil:
        """Drop a packet of the primary that is in no queue and may not leave: rule C9."""
        if self.trace.is_on:
            self.trace.note(record, 0, PacketFate.DISCARDED, 0)
        self.stats.dropped += 1
        return self.pool.free(record)

    cdef int discard_unstored(self, uint8_t* buf, Span span, long long now_us) noexcept nogil:
        """Discard a packet of the secondary that is still in its batch."""
        self.stats.discarded += 1
        if self.trace.is_on:
            self.trace.note_bytes(
                buf, span.start, span.end - span.start, span.vnet_len, 1, PacketFate.DISCARDED, now_us, 0
            )
        return 0

    cdef int drop_all_secondary(self, int row) noexcept nogil:
        """Discard every secondary packet of a connection."""
        while self.rows[row].secondary.head != _NONE:
            self.drop_secondary(row, _NONE)
        return 0

    cdef int drop_all_primary(self, int row) noexcept nogil:
        """Discard every primary packet of a connection: for DivergencePolicy.RESET, and HOLD without an end."""
        cdef Row* r = &self.rows[row]
        dropped: cython.int = r.primary.count
        self.segments.forget(r)
        while r.primary.head != _NONE:
            self._leave_index(r.primary.head)
            self.pool.free(self.pool.pop_first(&r.primary))
        return self._unpin(row, dropped)

    cdef int release(self, int record, long long now_us) noexcept nogil:
        """Release a packet that is in no queue. A reassembled datagram leaves as its fragments."""
        cdef Record* rec = &self.pool.at[record]
        chained: cython.int = rec.chain
        if chained == _NONE and rec.flags & _PART:
            return self.pool.free(record)
        self._count_hold(now_us - rec.arrived_us)
        if chained == _NONE:
            return self._let_go(record, now_us)
        rec.chain = _NONE
        self.pool.free(record)
        while chained != _NONE:
            following: cython.int = self.pool.at[chained].chain
            self.pool.at[chained].chain = _NONE
            self._let_go(chained, now_us)
            chained = following
        return 0

    cdef int pass_on(self, int record, int kind, long long now_us) noexcept nogil:
        """Release a packet of the primary that is never compared; `kind`: a PacketKind."""
        if kind == PacketKind.REFUSED:
            self.stats.refused += 1
        else:
            self.stats.passed += 1
        return self.release(record, now_us)

    cdef int _let_go(self, int record, long long now_us) noexcept nogil:
        cdef Record* rec = &self.pool.at[record]
        if self.trace.is_on:
            fate: cython.int = PacketFate.RELEASED
            if rec.flags & _CLAMPED:
                fate = PacketFate.CLAMPED
            elif rec.flags & _MADE:
                fate = PacketFate.MADE
            self.trace.note(record, 0, fate, now_us - rec.arrived_us)
        self.stats.released += 1
        return self.make_ready(record)

    def oldest_us(self):
        """Arrival time of the packet that has waited longest, or None."""
        oldest = None
        row: cython.int = self.active_head
        while row != _NONE:
            for record in (self.rows[row].primary.head, self.rows[row].secondary.head):
                if record != _NONE and (oldest is None or self.pool.at[record].arrived_us < oldest):
                    oldest = self.pool.at[record].arrived_us
            row = self.rows[row].active_next
        return oldest

    def trace_held(self, now_us: cython.longlong):
        """Trace every packet that is still held: for the end of a trace."""
        row: cython.int = self.active_head
        while row != _NONE:
            for side, record in enumerate((self.rows[row].primary.head, self.rows[row].secondary.head)):
                while record != _NONE:
                    shown: cython.int = record
                    if self.pool.at[record].flags & _PART:
                        shown = self.pool.at[record].chain
                    if shown != _NONE:
                        self.trace.note(shown, side, PacketFate.HELD, now_us - self.pool.at[record].arrived_us)
                    record = self.pool.at[record].next
            row = self.rows[row].active_next

    def lists(self, row: cython.int):
        """For tests: the primary's queue (record → is it a bare ACK), its lists; the secondary's queue, its tree."""
        cdef Row* r = &self.rows[row]
        cdef int record = r.primary.head
        mine, theirs = {}, []
        while record != _NONE:
            mine[record] = not (self.pool.at[record].payload_len or self.pool.at[record].flags & _LOUD)
            record = self.pool.at[record].next
        record = r.secondary.head
        while record != _NONE:
            theirs.append((record, self.pool.at[record].seq, self.segments.end(record)))
            record = self.pool.at[record].next
        return mine, self.segments.lists(r), theirs, self.trees.listed(r.secondary_tree)

    cdef long long bytes_of(self, int record) noexcept nogil:
        """Bytes of the frames of a queue, from `record` on."""
        cdef long long size = 0
        while record != _NONE:
            size += self.pool.at[record].length
            record = self.pool.at[record].next
        return size

    cdef int release_all(self, int row, long long now_us) noexcept nogil:
        """Release every held primary packet of a connection, in order; returns how many."""
        cdef Row* r = &self.rows[row]
        released: cython.int = r.primary.count
        while r.primary.head != _NONE:
            self.release(self.take_primary(row), now_us)
        return released

    cdef int release_different(self, int row, long long now_us) noexcept nogil:
        """`release_all` of a connection that has differed; its packets were not compared to their end."""
        cdef int record = self.rows[row].primary.head
        while record != _NONE:
            self.uncompared.count(PassReason.DIFFERED, self.pool.at[record].payload_len)
            record = self.pool.at[record].next
        return self.release_all(row, now_us)

    cdef Py_ssize_t drain(self, uint8_t* out, Py_ssize_t start, Py_ssize_t end) noexcept nogil:
        """Write released frames, with their length words, to `out` from `start`; returns the new end."""
        cdef Py_ssize_t words = 8 if self.has_vnet else 4
        cdef int record = self.ready.at[0].head
        cdef Record* r
        start += self.outbox.take(out + start, end - start)
        if not self.outbox.is_empty():
            return start
        while record != _NONE:
            r = &self.pool.at[record]
            if end - start < r.length + words:
                break
            store32(out, start, r.length)
            if self.has_vnet:
                store32(out, start + 4, r.vnet_len)
            memcpy(out + start + words, self.pool.arena.memory + r.pos, r.length)
            start += words + r.length
            self._written(self.pool.pop(&self.ready.at[0]))
            record = self.ready.at[0].head
        return start

    cdef inline bint has_ready(self) noexcept nogil:
        """Whether `drain` has anything to write."""
        return not self.outbox.is_empty() or self.ready.at[0].head != _NONE

    cdef inline int make_ready(self, int record) noexcept nogil:
        """Let a released packet leave after the others."""
        cdef Record* r = &self.pool.at[record]
        if self.ready.at[0].head == _NONE and self.outbox.leave(self.pool.arena.memory + r.pos, r.length, r.vnet_len):
            return 0 if r.marks & _RETAINED else self.pool.free(record)
        r.marks = r.marks | _READY
        if r.marks & _RETAINED:
            self._share(record, 1)
        return self.pool.push(&self.ready.at[0], record)

    cdef inline bint leave_unheld(self, uint8_t* buf, Py_ssize_t start, Py_ssize_t end) noexcept nogil:
        """Release a frame of a batch that was never stored; False if it would have to wait."""
        cdef Py_ssize_t words = 8 if self.has_vnet else 4
        if self.ready.at[0].head != _NONE or not self.outbox.leave_in_place(buf, start - words, end):
            return False
        self.stats.released += 1
        self._count_hold(0)
        return True

    cdef inline int _written(self, int record) noexcept nogil:
        """The packet has left."""
        cdef Record* rec = &self.pool.at[record]
        if not rec.marks & _RETAINED:
            return self.pool.free(record)
        rec.marks &= ~_READY
        return self._share(record, -1)

    cdef inline int _share(self, int record, int sign) noexcept nogil:
        """Count records that are both to be written and kept for retransmissions."""
        self.shared += sign
        self.shared_bytes += sign * self.pool.block_bytes(record)
        return 0

    cdef inline int let_go_of_history(self, int record) noexcept nogil:
        """A record is no longer kept for retransmissions."""
        cdef Record* rec = &self.pool.at[record]
        if not rec.marks & _READY:
            return self.pool.free(record)
        rec.marks &= ~_RETAINED
        return self._share(record, -1)

    # ── active rows ───────────────────────────────────────────────────────────────────────────────────────────

    cdef int next_active(self, int row) noexcept nogil:
        """The active row after `row`, or -1."""
        return self.rows[row].active_next

    cdef int replace_first(self, int row, int part, int rest) noexcept nogil:
        """Replace the first held packet, which is freed, by two packets."""
        cdef Row* r = &self.rows[row]
        self.segments.take_first(r, r.primary.head)
        self.pool.free(self.pool.pop_first(&r.primary))
        self.pool.insert_after(&r.primary, _NONE, rest)
        self.pool.insert_after(&r.primary, _NONE, part)
        self.segments.put_first(r, rest)
        self.segments.put_first(r, part)
        r.cursor = _NONE
        self.table.at[row].pins = self.table.at[row].pins + 1
        return 0

    cdef inline int _pin(self, int row) noexcept nogil:
        cdef Row* r = &self.rows[row]
        self.table.at[row].pins = self.table.at[row].pins + 1
        if r.flags & RowFlag.ACTIVE:
            return 0
        r.flags |= RowFlag.ACTIVE
        r.active_previous = _NONE
        r.active_next = self.active_head
        if self.active_head != _NONE:
            self.rows[self.active_head].active_previous = row
        self.active_head = row
        return 0

    cdef inline int _unpin(self, int row, int count) noexcept nogil:
        cdef Row* r = &self.rows[row]
        self.table.at[row].pins = self.table.at[row].pins - count
        # Not by the pins: fragments in reassembly pin the row as well.
        if r.primary.count or r.secondary.count or not r.flags & RowFlag.ACTIVE:
            return 0
        if r.flags & RowFlag.ALONE:
            return 0
        r.flags &= ~RowFlag.ACTIVE
        if r.aside:
            self.asides.tidy(r)
        before: cython.int = r.active_previous
        after: cython.int = r.active_next
        if before == _NONE:
            self.active_head = after
        else:
            self.rows[before].active_next = after
        if after != _NONE:
            self.rows[after].active_previous = before
        return 0

    # ── hold times ────────────────────────────────────────────────────────────────────────────────────────────

    cdef inline int _count_hold(self, long long held_us) noexcept nogil:
        """Four buckets per doubling: each at most 25 % wide."""
        shift: cython.int = 0
        held_us = max(held_us, 0)
        if held_us >= 8:
            shift = 61 - __builtin_clzll(held_us)
        bucket: cython.Py_ssize_t = shift * 4 + (held_us >> shift)
        self._hold_buckets[min(bucket, _HOLD_BUCKETS - 1)] += 1
        return 0

    def hold_histogram(self):
        """[(upper bound in µs, packets)]: hold times of released packets."""
        bounds = []
        for bucket in range(_HOLD_BUCKETS):
            shift = max(0, (bucket - 4) // 4)
            bounds.append((((bucket - 4 * shift) + 1) << shift, self._hold_buckets[bucket]))
        return bounds
