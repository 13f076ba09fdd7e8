"""UDP, ICMP and other IP protocols (rule C4): per connection a multiset of payloads, matched in any order.

The IP header is not compared (identification, TTL and options are the stacks' own); neither is the UDP header beyond
the ports, which are part of the key. Packets of a connection still leave in the order in which the primary sent them.

There is no number that says which datagram should equal which, so a difference is a matter of time: when the first
held packet found no partner for DATAGRAM_REORDER_MS although the secondary has sent something that found none
either, the two differ; when the other side is silent, or finds partners for all else, compare_timeout decides, for
each side for itself (rule C8).
"""


cdef long long _REORDER_US = limits.DATAGRAM_REORDER_MS * 1000
# Bits of `pool.flags` of a datagram.
cdef enum:
    _MATCHED = 1
    _DIGESTED = 2  # `digest` is valid


cdef uint64_t _DIGEST_PRIME = <uint64_t>0x9E3779B97F4A7C15


cdef uint32_t _digest_of(const uint8_t* octets, int length) noexcept nogil:
    """Of all bytes: what a guest repeats at the ends of its datagrams is not to make them look equal."""
    cdef uint64_t digest = <uint64_t>length * _DIGEST_PRIME
    while length >= 8:
        digest = (digest ^ _little64(octets)) * _DIGEST_PRIME
        digest ^= digest >> 29
        octets += 8
        length -= 8
    while length:
        digest = (digest ^ octets[0]) * _DIGEST_PRIME
        octets += 1
        length -= 1
    return <uint32_t>(digest ^ (digest >> 32))


@cython.final
cdef class DatagramComparison:
    """`reorder_due_us`: when the earliest connection with unmatched datagrams of both sides counts as different.

    A USO frame (see `uso`) becomes as many records as it stands for; the primary's leaves when the last of them does.
    """

    cdef Held held
    cdef Pool pool
    cdef long long reorder_due_us


    def __init__(self, held):
        self.held = held
        self.pool = held.pool
        self.reorder_due_us = _NEVER

    cdef bint primary(self, int row, int record, Packet packet, long long now_us) noexcept nogil:
        """A primary packet, stored as `record`; False: there is no room for what it is cut into."""
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
        """Hold it, with its partner found or not."""
        cdef Row* r = &self.held.rows[row]
        self.pool.at[record].flags = flags
        partner: cython.int = _NONE
        other: cython.int = r.secondary.head
        before: cython.int = _NONE
        while other != _NONE:
            if self._equal(record, other):
                partner = other
                break
            before = other
            other = self.pool.at[other].next
        self.held.hold_primary(row, r.primary.tail, record)
        if partner != _NONE:
            self.held.drop_secondary(row, before)
            self._match(record)
        return 0

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
        self.pool.at[record].flags = 0
        other: cython.int = r.primary.head
        while other != _NONE:
            if not self.pool.at[other].flags & _MATCHED and self._equal(other, record):
                self._match(other)
                return self.held.discard(record)
            other = self.pool.at[other].next
        return self.held.hold_secondary(row, r.secondary.tail, record)

    cdef int committed(self, int row) noexcept nogil:
        """The secondary has become a copy of the primary."""
        cdef Row* r = &self.held.rows[row]
        r.flags &= ~RowFlag.DIVERGED
        return 0

    cdef int reorder_due(self, int row, long long stood_us, long long now_us) noexcept nogil:
        """Both sides wait: is it long enough to say that they differ? `stood_us`: until when one was not read."""
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
        """What waits since so long, or longer, on either side, has waited for longer than compare_timeout.

        One report speaks for all of its side that is as late.
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
        """A queue that stays full: what it holds differs, whatever may still come (REPORT and RESET)."""
        cdef Row* r = &self.held.rows[row]
        queue_head: cython.int = r.primary.head if is_primary else r.secondary.head
        self._report(
            row, DifferenceKind.QUEUE_FULL, is_primary, not is_primary, now_us - self.pool.at[queue_head].arrived_us
        )
        if is_primary:
            self.held.stats.let_through += self.held.release_all(row, now_us)
            return 0
        return self.held.drop_all_secondary(row)

    cdef int apply_policy(self, int row, long long now_us) noexcept nogil:
        """All that the connection holds differs."""
        if self.held.policy == DivergencePolicy.HOLD:
            return self._stand_still(row)
        self.held.stats.let_through += self.held.release_all(row, now_us)
        return self.held.drop_all_secondary(row)

    cdef int _stand_still(self, int row) noexcept nogil:
        """Nothing leaves any more; what the secondary has sent, and will send, proves nothing."""
        cdef Row* r = &self.held.rows[row]
        r.flags |= RowFlag.DIVERGED
        return self.held.drop_all_secondary(row)

    cdef int _differ(self, int row, int kind, bint is_told, long long now_us) noexcept nogil:
        """Report the first held packet as different, and apply the policy to it alone: datagrams stand alone."""
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
        return self._release_matched(row, now_us)

    cdef int _report(self, int row, int kind, bint is_mine, bint is_theirs, long long waited_us) noexcept nogil:
        """Report a difference of the first packet that each side holds, or of one side's alone."""
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
        """Where the compared bytes are: UDP's payload, else all behind the IP header."""
        cdef Record* rec = &self.pool.at[record]
        start: cython.Py_ssize_t = packet.payload_pos
        length: cython.Py_ssize_t = packet.payload_len
        if packet.kind != PacketKind.UDP:
            start = packet.l4_pos
            length = packet.ip_end - packet.l4_pos
        rec.payload_pos = start - packet.start
        rec.payload_len = length
        return 0

    cdef inline uint32_t _digest(self, int record) noexcept nogil:
        """A number that spares nearly all comparisons; worked out when it is first asked for."""
        cdef Record* rec = &self.pool.at[record]
        if not rec.flags & _DIGESTED:
            rec.digest = _digest_of(self.pool.arena.memory + rec.pos + rec.payload_pos, rec.payload_len)
            rec.flags |= _DIGESTED
        return rec.digest

    cdef bint _equal(self, int a, int b) noexcept nogil:
        cdef int length = self.pool.at[a].payload_len
        if length != self.pool.at[b].payload_len or self._digest(a) != self._digest(b):
            return False
        return self._equal_until(a, b) == length

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
        rec.flags |= _MATCHED
        self.held.stats.compared += 1
        self.held.stats.compared_bytes += rec.payload_len
        return 0

    cdef int _release_matched(self, int row, long long now_us) noexcept nogil:
        cdef Row* r = &self.held.rows[row]
        record: cython.int = r.primary.head
        while record != _NONE and self.pool.at[record].flags & _MATCHED and not r.flags & RowFlag.DIVERGED:
            self.held.release(self.held.take_primary(row, _NONE), now_us)
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
