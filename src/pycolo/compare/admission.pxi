"""Whether a packet may be held: full queues (rule C6), and the share of connections that differ (C10).

A full queue stops reading on its side. Packets of the other side, a time-out, or the requested checkpoint end that. A
packet that waits for a stopped side waits because of us: that time does not count (`stood_us`), otherwise one
connection would make all others count as different.

Only one side stands still at a time: if both did, each because of a full queue, neither could be read on, and which
connection is the cause would be a guess. So the other side is read beyond max_queue_size (`overruns`), up to the memory
limit, until time shows which packets never come.

If no checkpoint is possible, a connection may have to *give way*: it counts as different (`queue_full`, `memory_full`),
and the policy is applied to it. A queue of datagrams gives way when it has been full for DATAGRAM_REORDER_MS, under
`report` and `reset`, rather than stop all others for seconds. If the memory is full of held packets, the connection for
which a side stands still gives way, otherwise the one that holds most (see `relief`).

Under `hold` differing packets stay in memory without an end: all of them together get a share of records and bytes, and
a connection that falls silent loses its packets.
"""


cdef long long _SILENT_US = limits.DIVERGED_SILENT_MS * 1000
# Verdicts on a packet.
cdef enum:
    _WELCOME = 0
    _BLOCKED = 1
    _REFUSED = 3


@cython.final
cdef class Admission:
    """By side (1 primary, 0 secondary): `_full_row` is the row whose queue stopped it when it was last offered, or -1;
    `_stood_us` is when it last stood still.
    """

    cdef Held held
    cdef TcpComparison tcp
    cdef DatagramComparison datagram
    cdef Relief relief
    cdef long long scan_cycle_us
    cdef long long _next_full_report_us
    cdef int _was_full
    cdef int* _full_row
    cdef int* _full_needed
    cdef long long* _full_since_us
    cdef long long* _full_due_us
    cdef long long* _stood_us
    cdef long long _share_packets
    cdef long long _share_bytes
    cdef long long _packets_max
    cdef long long _bytes_max

    def __dealloc__(self):
        release_column(self._full_row)
        release_column(self._full_needed)
        release_column(self._full_since_us)
        release_column(self._full_due_us)
        release_column(self._stood_us)

    def __init__(self, held, tcp, datagram, scan_cycle_us):
        self.held = held
        self.tcp = tcp
        self.datagram = datagram
        self.relief = Relief(held)
        self.scan_cycle_us = scan_cycle_us
        self._next_full_report_us = 0
        self._was_full = _NONE
        self._full_row = <int*>column(self._full_row, 2, sizeof(int), -1)
        self._full_needed = <int*>column(self._full_needed, 2, sizeof(int), 0)
        self._full_since_us = <long long*>column(self._full_since_us, 2, sizeof(long long), 0)
        self._full_due_us = <long long*>column(self._full_due_us, 2, sizeof(long long), 0)
        self._full_due_us[0] = self._full_due_us[1] = _NEVER
        self._stood_us = <long long*>column(self._stood_us, 2, sizeof(long long), 0)
        self._share_packets = self._share_bytes = 0
        self._packets_max = held.pool.records_max // limits.SHARE_MAX
        self._bytes_max = held.pool.budget_bytes // limits.SHARE_MAX

    cdef bint begin(self, bint is_primary, long long now_us) noexcept nogil:
        """A side is offered. Returns whether it stood still."""
        self._was_full = self._full_row[is_primary]
        if self._was_full == _NONE:
            return False
        self._resume(is_primary, now_us)
        return True

    cdef int _resume(self, bint is_primary, long long now_us) noexcept nogil:
        self._full_row[is_primary] = _NONE
        self._full_due_us[is_primary] = _NEVER
        self._stood_us[is_primary] = now_us
        return 0

    cdef Py_ssize_t stood_us(self, bint is_primary, long long now_us) noexcept nogil:
        """When the side last stood still; waiting for its packets counts from then on."""
        return self._stood_us[is_primary] if self._full_row[is_primary] == _NONE else now_us

    cdef Py_ssize_t last_stood_us(self, long long now_us) noexcept nogil:
        """When either side last stood still."""
        return max(self.stood_us(True, now_us), self.stood_us(False, now_us))

    cpdef long long due_us(self) noexcept nogil:
        """The latest time to offer a stopped side again."""
        return min(self._full_due_us[0], self._full_due_us[1])

    cdef int timer(self, long long now_us) noexcept nogil:
        """The shell has offered both sides before, if it ever will."""
        if now_us >= self._full_due_us[0]:
            self._full_due_us[0] = _NEVER
        if now_us >= self._full_due_us[1]:
            self._full_due_us[1] = _NEVER
        return 0

    cdef bint settle(self, long long now_us) noexcept nogil:
        """After a scan: a side whose queue has room again stands still no longer. Returns whether either side does."""
        if self._full_row[0] != _NONE and not self._stands_still(False):
            self._resume(False, now_us)
        if self._full_row[1] != _NONE and not self._stands_still(True):
            self._resume(True, now_us)
        return self._full_row[0] != _NONE or self._full_row[1] != _NONE

    def begin_epoch(self, now_us):
        """The full queues have been emptied."""
        self._next_full_report_us = 0
        self._resume(False, now_us)
        self._resume(True, now_us)

    cdef int store(self, uint8_t* buf, Span span, long long now_us) noexcept nogil:
        """A new record with a frame of the batch; -1: no room, its side must wait."""
        size: cython.Py_ssize_t = span.end - span.start
        record: cython.int = self.held.pool.store(buf, span.start, size, span.vnet_len)
        while record == _NONE and self.tcp.history.make_room():
            record = self.held.pool.store(buf, span.start, size, span.vnet_len)
        if record == _NONE and self._relieve(now_us):
            record = self.held.pool.store(buf, span.start, size, span.vnet_len)
        if record == _NONE:
            self.report_full(DifferenceKind.MEMORY_FULL, _NONE, now_us)
            return _NONE
        self.held.pool.at[record].arrived_us = now_us
        self.held.pool.at[record].flags = 0
        return record

    cdef int no_room(self, int record, long long now_us) noexcept nogil:
        """There is no room for what a frame would become: it stays in the batch, whole. Frees its record (-1: none)."""
        if record != _NONE:
            self.held.pool.free(record)
        self.report_full(DifferenceKind.MEMORY_FULL, _NONE, now_us)
        return _BLOCKED

    cdef int admit(self, int row, Packet packet, bint is_primary, long long now_us) noexcept nogil:
        """Whether a packet of the connection is admitted, its side must wait, or it is refused for good."""
        cdef Row* r = &self.held.rows[row]
        needed: cython.int = 1 if packet.gso_type == 0 else datagrams_in(packet)
        held: cython.int = r.primary.count if is_primary else r.secondary.count
        is_full: cython.bint = held and held + needed > self.held.queue_packets_max
        if r.flags & RowFlag.DIVERGED:
            if not is_primary:
                return _REFUSED if is_full or self._proves_nothing(row, packet) else _WELCOME
            if self.held.policy == DivergencePolicy.HOLD:
                return self._admit_to_share(packet, needed, is_full)
        if not is_full:
            return _WELCOME
        return self._stop(row, needed, is_primary, now_us)

    cdef bint _proves_nothing(self, int row, Packet packet) noexcept nogil:
        """The secondary's packets after a difference; but TCP may start a new incarnation."""
        cdef Row* r = &self.held.rows[row]
        if packet.kind != PacketKind.TCP:
            return True
        if self.held.policy != DivergencePolicy.HOLD or r.flags & RowFlag.SECONDARY_SYN:
            return False
        return not packet.flags & TcpFlag.SYN

    cdef int _stop(self, int row, int needed, bint is_primary, long long now_us) noexcept nogil:
        """The queue is full: its side waits, unless the other one does; or the connection gives way."""
        if self._stands_still(not is_primary):
            self.held.stats.overruns += 1
            return _WELCOME
        if self._was_full != row:
            self._full_since_us[is_primary] = now_us
        self._full_row[is_primary] = row
        self._full_needed[is_primary] = needed
        policy: cython.int = self.held.policy
        is_reported: cython.bint = policy == DivergencePolicy.REPORT or policy == DivergencePolicy.RESET
        if is_reported and not self.held.table.is_tcp(row):
            if now_us - self._full_since_us[is_primary] >= _REORDER_US:
                return self._give_way(row, is_primary, now_us)
            self._full_due_us[is_primary] = self._full_since_us[is_primary] + _REORDER_US
        self.report_full(DifferenceKind.QUEUE_FULL, row, now_us)
        return _BLOCKED

    cdef bint _stands_still(self, bint is_primary) noexcept nogil:
        row: cython.int = self._full_row[is_primary]
        if row == _NONE:
            return False
        held: cython.int = self.held.rows[row].primary.count if is_primary else self.held.rows[row].secondary.count
        return held and held + self._full_needed[is_primary] > self.held.queue_packets_max

    cdef int _give_way(self, int row, bint is_primary, long long now_us) noexcept nogil:
        """Datagrams: none of the queue will find a partner in time."""
        self.held.stats.gave_way += 1
        self._resume(is_primary, now_us)
        self.datagram.give_way(row, is_primary, now_us)
        return _WELCOME

    cdef int report_full(self, int kind, int row, long long now_us) noexcept nogil:
        """Report once per epoch and scan cycle: a full side is offered again and again."""
        if self.held.checkpoint_wanted or now_us < self._next_full_report_us:
            return 0
        self._next_full_report_us = now_us + self.scan_cycle_us
        self.held.report(kind, row, 0, 0)
        return 0

    # ── the share of differing connections ────────────────────────────────────────────────────────────────────

    cdef int _admit_to_share(self, Packet packet, int needed, bint is_full) noexcept nogil:
        if is_full or self._share_packets >= self._packets_max or self._share_bytes >= self._bytes_max:
            return _REFUSED
        self._share_packets += needed
        self._share_bytes += packet.end - packet.start
        return _WELCOME

    cdef bint _relieve(self, long long now_us) noexcept nogil:
        """The memory is full, and no checkpoint will empty it. Returns whether to try again.

        Do nothing if much is about to leave and only the output is blocked.
        """
        if self.held.policy == DivergencePolicy.CHECKPOINT or self.held.has_ready():
            return False
        row: cython.int = _NONE
        is_short: cython.bint = False  # this time not all are examined
        if self._stands_still(True):
            row = self._full_row[1]
        elif self._stands_still(False):
            row = self._full_row[0]
        if row == _NONE or self.held.rows[row].flags & RowFlag.DIVERGED:
            row = self.relief.largest(now_us)
            is_short = not self.relief.has_looked
        if row == _NONE:
            return False
        self.held.stats.gave_way += 1
        self.held.report(DifferenceKind.MEMORY_FULL, row, 0, 0)
        if self.held.table.is_tcp(row):
            self.tcp.apply_policy(row, now_us)
        else:
            self.datagram.apply_policy(row, now_us)
        if not is_short:
            self.review(now_us)
        elif self.held.policy == DivergencePolicy.HOLD:
            self._review_row(row, now_us)
        return True

    cdef int review(self, long long now_us) noexcept nogil:
        """Under HOLD: count what differing connections hold; drop what is too much or too old."""
        if self.held.policy != DivergencePolicy.HOLD:
            return 0
        self._share_packets = self._share_bytes = 0
        row: cython.int = self.held.active_head
        while row != _NONE:
            following: cython.int = self.held.next_active(row)
            if self.held.rows[row].flags & RowFlag.DIVERGED:
                self._review_row(row, now_us)
            row = following
        return 0

    cdef int _review_row(self, int row, long long now_us) noexcept nogil:
        cdef Row* r = &self.held.rows[row]
        count: cython.int = r.primary.count
        size: cython.longlong = self.held.bytes_of(r.primary.head)
        if not r.flags & RowFlag.SECONDARY_SYN:
            self.held.drop_all_secondary(row)
        is_silent: cython.bint = now_us - self.held.table.at[row].last_seen_us >= _SILENT_US
        is_much: cython.bint = (
            self._share_packets + count > self._packets_max or self._share_bytes + size > self._bytes_max
        )
        if is_silent or is_much:
            self.held.stats.dropped += count
            self.held.drop_all_secondary(row)
            self.held.drop_all_primary(row)
            return 0
        self._share_packets += count
        self._share_bytes += size
        return 0
