"""Ages of packets (rules C5 and C8): a packet that waits too long, or an act of one side only, is a difference.

The time for which the other side was not read (see `admission`) does not count.
"""


@cython.final
cdef class Ages:
    """`timeout_us`: compare_timeout. `cycle_us`: how often it is looked for, while packets wait."""

    cdef Held held
    cdef TcpComparison tcp
    cdef DatagramComparison datagram
    cdef Admission admission
    cdef public long long timeout_us
    cdef public long long cycle_us
    cdef long long _next_us

    def __init__(self, held, tcp, datagram, admission, timeout_us, cycle_us):
        self.held = held
        self.tcp = tcp
        self.datagram = datagram
        self.admission = admission
        self.timeout_us = timeout_us
        self.cycle_us = cycle_us
        self._next_us = 0

    cdef inline long long due_us(self) noexcept nogil:
        """When to look next, while packets wait."""
        return self._next_us

    cdef int look(self, long long now_us) noexcept nogil:
        """Look at all connections that hold packets, once a cycle."""
        cdef int row = self.held.active_head
        cdef int following
        if now_us < self._next_us:
            return 0
        self._next_us = now_us + self.cycle_us
        while row != _NONE:
            following = self.held.next_active(row)
            self.time_out(row, now_us)
            row = following
        return 0

    cdef int time_out(self, int row, long long now_us) noexcept nogil:
        """Report packets that have waited too long, and apply the policy."""
        cdef Row* r = &self.held.rows[row]
        if r.flags & RowFlag.DIVERGED or self.held.checkpoint_wanted:
            return 0
        if not self.held.table.is_tcp(row):
            return self.datagram.timed_out(row, self._bound_us(True, now_us), self._bound_us(False, now_us), now_us)
        kind: cython.int = DifferenceKind.TIMEOUT
        record: cython.int = self._oldest(r.primary.head)
        since_us: cython.longlong = self._waits_since_us(self._arrived_us(record), False, now_us)
        theirs: cython.int = self._oldest(r.secondary.head)
        their_us: cython.longlong = self._waits_since_us(self._arrived_us(theirs), True, now_us)
        if their_us < since_us:
            kind = DifferenceKind.SECONDARY_TIMEOUT
            record = theirs
            since_us = their_us
        their_us = self._waits_since_us(self.tcp.alone_since_us(row), True, now_us)
        if their_us < since_us:
            kind = DifferenceKind.SECONDARY_TIMEOUT
            record = _NONE
            since_us = their_us
        since_us = self.tcp.waits_from_us(row, record, since_us, now_us)
        if now_us - since_us < self.timeout_us:
            return 0
        self.held.stats.timeouts += 1
        return self.tcp.timed_out(row, kind, record, now_us)

    cdef Py_ssize_t waits_since_us(self, int row, bint for_primary, long long now_us) noexcept nogil:
        """Since when payload of a connection has waited for the primary, or for the secondary; far ahead: none has."""
        cdef Row* r = &self.held.rows[row]
        if r.flags & (RowFlag.DIVERGED | RowFlag.LET_THROUGH) or not self.held.table.is_tcp(row):
            return _NEVER
        record: cython.int = r.secondary.head if for_primary else r.primary.head
        while record != _NONE and not self.held.pool.at[record].payload_len:
            record = self.held.pool.at[record].next  # a bare ACK is no answer
        if record == _NONE:
            return _NEVER
        since_us: cython.longlong = self._waits_since_us(self.held.pool.at[record].arrived_us, for_primary, now_us)
        return self.tcp.waits_from_us(row, record, since_us, now_us)

    cdef int _oldest(self, int record) noexcept nogil:
        """The oldest packet of a queue: late and repeated packets are inserted before those that begin after them."""
        cdef int oldest = record
        while record != _NONE:
            if self.held.pool.at[record].arrived_us < self.held.pool.at[oldest].arrived_us:
                oldest = record
            record = self.held.pool.at[record].next
        return oldest

    cdef Py_ssize_t _arrived_us(self, int record) noexcept nogil:
        return _NEVER if record == _NONE else self.held.pool.at[record].arrived_us

    cdef Py_ssize_t _waits_since_us(self, long long since_us, bint for_primary, long long now_us) noexcept nogil:
        """Since when something that arrived at `since_us` has really waited for the primary, or the secondary."""
        return max(since_us, self.admission.stood_us(for_primary, now_us))

    cdef Py_ssize_t _bound_us(self, bint is_primary, long long now_us) noexcept nogil:
        """A packet of that side that arrived by then has waited too long; -1: none has."""
        bound_us: cython.longlong = now_us - self.timeout_us
        return bound_us if self.admission.stood_us(not is_primary, now_us) <= bound_us else _NONE
