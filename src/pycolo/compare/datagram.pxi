"""UDP, ICMP and other IP protocols (rule C4): per connection a multiset of payloads, matched in any order.

The IP header is not compared (identification, TTL and options are the stacks' own); neither is the UDP header beyond
the ports, which are part of the key. Packets of a connection still leave in the order in which the primary sent them.

No number says which datagram should equal which, so a difference is a matter of time. If the first held packet has
found no partner for DATAGRAM_REORDER_MS although the secondary has sent a packet without a partner too, the two differ.
If the other side is silent, or its packets all have partners, compare_timeout decides, for each side separately (rule
C8).
"""


cdef long long _REORDER_US = limits.DATAGRAM_REORDER_MS * 1000
# A bit of `pool.flags` of a datagram.
cdef enum:
    _MATCHED = 1


@cython.final
cdef class DatagramComparison:
    """`reorder_due_us`: when the earliest connection with unmatched datagrams of both sides counts as different.

    A USO frame (see `uso`) becomes one record per datagram; the primary's frame leaves when the last of them does.
    """

    cdef Held held
    cdef Pool pool
    cdef Payloads payloads
    cdef long long reorder_due_us
    cdef int _before

    def __init__(self, held: Held):
        self.held = held
        self.pool = held.pool
        self.payloads = held.payloads
        self._before = _NONE
        self.reorder_due_us = _NEVER

    cdef bint primary(self, int row, int record, Packet packet, long long now_us) noexcept nogil:
        """A primary packet, stored as `record`; False: there is no room for its parts."""
        count: cython.int = datagrams_in(packet)
        if count == 1:
            self._place(record, packet)
            self._add_primary(row, record, 0)
        else:
            part: cython.int = cut(self.pool, record, packet, count)
            if part == _NONE:
                return False
            while part != _NONE:
                following: cython.int = self.pool.at[part].next
                self.pool.at[part].chain = record if following == _NONE else _NONE
                self._add_primary(row, part, _PART)
                part = following
        self._release_matched(row, now_us)
        return True

    cdef int _add_primary(self, int row, int record, int flags) noexcept nogil:
        """Hold it, with or without a partner."""
        cdef Row* r = &self.held.rows[row]
        cdef bint is_hashed = r.flags & RowFlag.SECONDARY_INDEXED and r.secondary.head != _NONE
        cdef int partner = self._partner(row, False, record)
        cdef int last = r.primary.tail
        self.pool.at[record].flags = flags
        self.held.hold_primary(row, last, record)
        if partner != _NONE:
            self.held.drop_secondary(row, self._before)
            self._match(record)
        return self._index(row, True, last, record, is_hashed)

    cdef bint secondary(self, int row, int record, Packet packet, long long now_us) noexcept nogil:
        """A secondary packet, stored as `record` (freed or queued here); False: as for `primary`."""
        count: cython.int = datagrams_in(packet)
        if count == 1:
            self._place(record, packet)
            self._add_secondary(row, record)
        else:
            part: cython.int = cut(self.pool, record, packet, count)
            if part == _NONE:
                return False
            self.pool.free(record)
            while part != _NONE:
                following: cython.int = self.pool.at[part].next
                self._add_secondary(row, part)
                part = following
        self._release_matched(row, now_us)
        return True

    cdef int _add_secondary(self, int row, int record) noexcept nogil:
        """Match it, or keep it."""
        cdef Row* r = &self.held.rows[row]
        cdef bint is_hashed = r.flags & RowFlag.PRIMARY_INDEXED and r.primary.head != _NONE
        cdef int partner = self._partner(row, True, record)
        cdef int last = r.secondary.tail
        self.pool.at[record].flags = 0
        if partner != _NONE:
            self._match(partner)
            return self.held.discard(record)
        self.held.hold_secondary(row, last, record)
        return self._index(row, False, last, record, is_hashed)

    # ── matching ──────────────────────────────────────────────────────────────────────────────────────────────

    cdef int _partner(self, int row, bint of_primary, int record) noexcept nogil:
        """The oldest packet of one side without a partner that equals `record`, or -1; `_before` is its predecessor."""
        cdef Row* r = &self.held.rows[row]
        cdef int flag = RowFlag.PRIMARY_INDEXED if of_primary else RowFlag.SECONDARY_INDEXED
        cdef int other = r.primary.head if of_primary else r.secondary.head
        self._before = _NONE
        if other != _NONE and r.flags & flag:
            self.pool.at[record].extra = self.payloads.hash(row, record)
            other = self.payloads.find(row, of_primary, record)
            if other != _NONE:
                self._before = self.payloads.older(other)
            return other
        while other != _NONE and (self.pool.at[other].flags & _MATCHED or not self.payloads._equal(other, record)):
            self.pool.walked += 1
            self._before = other
            other = self.pool.at[other].next
        return other

    cdef int _index(self, int row, bint is_primary, int before, int record, bint is_hashed) noexcept nogil:
        """A datagram is after `before` (-1: alone) at the end of its queue; index it if it has no partner.

        `is_hashed`: its hash is set.
        """
        cdef Row* r = &self.held.rows[row]
        cdef int flag = RowFlag.PRIMARY_INDEXED if is_primary else RowFlag.SECONDARY_INDEXED
        if before == _NONE:
            r.flags &= ~flag
        if r.flags & flag:
            return self._index_one(row, is_primary, before, record, is_hashed)
        if (r.primary.count if is_primary else r.secondary.count) < _INDEXED_FROM:
            return 0
        r.flags |= flag
        record = r.primary.head if is_primary else r.secondary.head
        before = _NONE
        while record != _NONE:
            self._index_one(row, is_primary, before, record, False)
            before = record
            record = self.pool.at[record].next
        return 0

    cdef inline int _index_one(self, int row, bint is_primary, int before, int record, bint is_hashed) noexcept nogil:
        cdef Record* rec = &self.pool.at[record]
        if rec.flags & _MATCHED:
            return 0
        if not is_hashed:
            rec.extra = self.payloads.hash(row, record)
        return self.payloads.add(row, is_primary, before, record)

    cdef int committed(self, int row) noexcept nogil:
        """The secondary has become a copy of the primary."""
        cdef Row* r = &self.held.rows[row]
        r.flags &= ~RowFlag.DIVERGED
        return 0

    cdef int reorder_due(self, int row, long long stood_us, long long now_us) noexcept nogil:
        """Both sides wait: have they waited long enough to differ? `stood_us`: until when one was not read."""
        cdef Row* r = &self.held.rows[row]
        first: cython.int = r.primary.head
        theirs: cython.int = r.secondary.head
        if first == _NONE or theirs == _NONE or r.flags & RowFlag.DIVERGED:
            return 0
        since_us: cython.longlong = max(self.pool.at[first].arrived_us, self.pool.at[theirs].arrived_us, stood_us)
        if now_us - since_us < _REORDER_US:
            self.reorder_due_us = min(self.reorder_due_us, since_us + _REORDER_US)
            return 0
        return self._differ(row, DifferenceKind.DATAGRAM, False, now_us)

    cdef int timed_out(self, int row, long long primary_since_us, long long secondary_since_us,
            long long now_us) noexcept nogil:
        """Packets that have waited since then, or longer, on either side, exceed compare_timeout.

        One report covers all equally late packets of its side.
        """
        cdef Row* r = &self.held.rows[row]
        told: cython.int = 0
        while not r.flags & RowFlag.DIVERGED and not self.held.checkpoint_wanted:
            first: cython.int = r.primary.head
            theirs: cython.int = r.secondary.head
            if first != _NONE and self.pool.at[first].arrived_us <= primary_since_us:
                self._differ(row, DifferenceKind.TIMEOUT, told & 1, now_us)
                told |= 1
            elif theirs != _NONE and self.pool.at[theirs].arrived_us <= secondary_since_us:
                self._differ(row, DifferenceKind.SECONDARY_TIMEOUT, told & 2, now_us)
                told |= 2
            else:
                return 0
        return 0

    cdef int give_way(self, int row, bint is_primary, long long now_us) noexcept nogil:
        """A queue that stays full: its packets differ, whatever may still come (REPORT and RESET)."""
        cdef Row* r = &self.held.rows[row]
        queue_head: cython.int = r.primary.head if is_primary else r.secondary.head
        self._report(
            row, DifferenceKind.QUEUE_FULL, is_primary, not is_primary, now_us - self.pool.at[queue_head].arrived_us
        )
        if is_primary:
            self.held.stats.let_through += self.held.release_different(row, now_us)
            return 0
        return self.held.drop_all_secondary(row)

    cdef int apply_policy(self, int row, long long now_us) noexcept nogil:
        """All held packets of the connection differ."""
        if self.held.policy == DivergencePolicy.HOLD:
            return self._stand_still(row)
        self.held.stats.let_through += self.held.release_different(row, now_us)
        return self.held.drop_all_secondary(row)

    cdef int _stand_still(self, int row) noexcept nogil:
        """Nothing leaves any more; the secondary's packets, past and future, prove nothing."""
        cdef Row* r = &self.held.rows[row]
        r.flags |= RowFlag.DIVERGED
        return self.held.drop_all_secondary(row)

    cdef int _differ(self, int row, int kind, bint is_told, long long now_us) noexcept nogil:
        """Report the first held packet as different, and apply the policy to it alone: datagrams are independent."""
        cdef Row* r = &self.held.rows[row]
        is_mine: cython.bint = kind != DifferenceKind.SECONDARY_TIMEOUT
        is_theirs: cython.bint = kind != DifferenceKind.TIMEOUT
        subject: cython.int = r.primary.head if is_mine else r.secondary.head
        if is_told:
            self.held.stats.differences += 1
        else:
            self._report(row, kind, is_mine, is_theirs, now_us - self.pool.at[subject].arrived_us)
        if kind != DifferenceKind.DATAGRAM:
            self.held.stats.timeouts += 1
        policy: cython.int = self.held.policy
        if policy == DivergencePolicy.CHECKPOINT or policy == DivergencePolicy.HOLD:
            return self._stand_still(row)
        if is_theirs:
            self.held.drop_secondary(row, _NONE)
        if is_mine:
            self.held.stats.let_through += 1
            self._match(r.primary.head)
            self.held.stats.compared_bytes -= self.pool.at[r.primary.head].payload_len
            self.held.uncompared.count(PassReason.DIFFERED, self.pool.at[r.primary.head].payload_len)
        return self._release_matched(row, now_us)

    cdef int _report(self, int row, int kind, bint is_mine, bint is_theirs, long long waited_us) noexcept nogil:
        """Report a difference of each side's first packet, or of one side's alone."""
        cdef Row* r = &self.held.rows[row]
        index: cython.int = self.held.report(kind, row, 0, waited_us)
        first: cython.int = r.primary.head if is_mine else _NONE
        theirs: cython.int = r.secondary.head if is_theirs else _NONE
        if first != _NONE:
            self._add_context(index, 0, first, theirs)
        if theirs != _NONE:
            self._add_context(index, 1, theirs, first)
        return 0

    cdef int _place(self, int record, Packet packet) noexcept nogil:
        """The compared range: UDP's payload, otherwise everything after the IP header."""
        cdef Record* rec = &self.pool.at[record]
        start: cython.Py_ssize_t = packet.payload_pos
        length: cython.Py_ssize_t = packet.payload_len
        if packet.kind != PacketKind.UDP:
            start = packet.l4_pos
            length = packet.ip_end - packet.l4_pos
        rec.payload_pos = start - packet.start
        rec.payload_len = length
        return 0

    cdef Py_ssize_t _equal_until(self, int a, int b) noexcept nogil:
        return first_difference(
            self.pool.arena.memory,
            self.pool.at[a].pos + self.pool.at[a].payload_pos,
            self.pool.arena.memory,
            self.pool.at[b].pos + self.pool.at[b].payload_pos,
            min(self.pool.at[a].payload_len, self.pool.at[b].payload_len),
        )

    cdef int _match(self, int record) noexcept nogil:
        cdef Record* rec = &self.pool.at[record]
        self.held._leave_index(record)
        rec.flags |= _MATCHED
        self.held.stats.compared += 1
        self.held.stats.compared_bytes += rec.payload_len
        return 0

    cdef int _release_matched(self, int row, long long now_us) noexcept nogil:
        cdef Row* r = &self.held.rows[row]
        record: cython.int = r.primary.head
        while record != _NONE and self.pool.at[record].flags & _MATCHED and not r.flags & RowFlag.DIVERGED:
            self.held.release(self.held.take_primary(row), now_us)
            record = r.primary.head
        return self._note_unmatched(row)

    cdef int _note_unmatched(self, int row) noexcept nogil:
        cdef Row* r = &self.held.rows[row]
        first: cython.int = r.primary.head
        theirs: cython.int = r.secondary.head
        if first != _NONE and theirs != _NONE:
            since: cython.longlong = max(self.pool.at[first].arrived_us, self.pool.at[theirs].arrived_us)
            self.reorder_due_us = min(self.reorder_due_us, since + _REORDER_US)
        return 0

    cdef int _add_context(self, int index, int side, int record, int other) noexcept nogil:
        cdef Record* rec = &self.pool.at[record]
        at: cython.longlong = rec.pos + rec.payload_pos
        if other != _NONE:
            at += self._equal_until(record, other)
        return self.held.add_context(index, side, record, at)
