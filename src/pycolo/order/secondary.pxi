"""The secondary's side: what the primary mirrored is given to the guest in rounds of the same width, in that order.

A frame without payload goes behind what waits of its own connection; the rest of what the guest is asked now, at once.
"""


@cython.final
cdef class SecondaryOrder:
    """`admitted`: frames for the guest, to be consumed by the caller."""

    cdef readonly Lanes lanes
    cdef Pool _pool
    cdef Span _span
    cdef Packet _packet
    cdef readonly Batch admitted
    cdef readonly long long waiting_frames
    cdef Queue[_GATES_MAX + 1] _queues
    cdef int _widest

    def __init__(self, seed=0, has_vnet=False, connections_max=limits.ORDERED_CONNECTIONS_MAX,
            bytes_max=limits.ORDERED_BYTES_MAX):
        cdef int i
        self.lanes = Lanes(seed, has_vnet, connections_max, bytes_max)
        self._pool, self._span, self._packet = self.lanes.pool, self.lanes.span, self.lanes.packet
        self.admitted = Batch()
        self.waiting_frames = 0
        self._widest = 0
        for i in range(_GATES_MAX + 1):
            self._queues[i].head = self._queues[i].tail = _NONE
            self._queues[i].count = 0

    # ── Python's ──────────────────────────────────────────────────────────────────────────────────────────────

    def set_gate(self, int port, int width, long long limit_us, long long now_us):
        """Order this port so from now on."""
        cdef int number, i
        assert 0 <= port <= 65535 and 0 <= width <= _ROUND_MAX
        number = self.lanes.gate_for(port)
        if number:
            self.lanes.gates[number].width = width
            self.lanes.gates[number].limit_us = limit_us
            self._widest = max([self.lanes.gates[i].width for i in range(1, self.lanes.gate_count + 1)])
            if width == 0:
                self.lanes.end_round(&self.lanes.gates[number])
            self._advance(number, now_us)

    def counts(self):
        """See `Lanes`."""
        return self.lanes.counts()

    def restart(self):
        """The guest is a copy of the primary's: it is asked nothing of what was given before, and slow at first."""
        cdef int i
        for i in range(1, self.lanes.gate_count + 1):
            self.lanes.end_round(&self.lanes.gates[i])
            self.lanes.gates[i].is_cold = True

    def flush(self):
        """All that waits, in the order in which it would be given; it is not here any more."""
        cdef int i, record
        found = bytearray(self.admitted.view[self.admitted.start : self.admitted.end])
        self.admitted.clear()
        for i in range(1, self.lanes.gate_count + 1):
            while self._queues[i].head != _NONE:
                record = self._pop(i)
                found += (<char*>self._pool.arena.memory + self._pool.at[record].pos)[: self._pool.at[record].length]
                self._pool.free(record)
        self.restart()
        return found

    def end(self):
        """There is no primary any more: nothing waits from here on. `flush` first."""
        cdef int i
        for i in range(1, self.lanes.gate_count + 1):
            self.lanes.gates[i].width = 0
        self._widest = 0

    @property
    def is_ordering(self):
        """Whether frames must go through here."""
        return self.is_active()

    def mirrored_frames(self, uint8_t[::1] buf, Py_ssize_t pos, Py_ssize_t end, long long now_us):
        """`mirrored`, for what Python has kept."""
        check_range(len(buf), pos, end)
        return self.mirrored(&buf[0], pos, end, now_us) if pos < end else pos

    def guest_frames(self, uint8_t[::1] buf, Py_ssize_t pos, Py_ssize_t end, long long now_us):
        """`guest`, for tests."""
        check_range(len(buf), pos, end)
        if pos < end:
            self.guest(&buf[0], pos, end, now_us)

    def deadline_us(self):
        """When `timer_fired` is to be called; None: not needed."""
        cdef long long due = self.lanes.due_us()
        return None if due == _NEVER else due

    # ── facts ─────────────────────────────────────────────────────────────────────────────────────────────────

    cdef inline bint is_active(self) noexcept nogil:
        return self._widest > 0 or self.waiting_frames > 0 or self.admitted.start < self.admitted.end

    cdef Py_ssize_t mirrored(self, uint8_t* buf, Py_ssize_t pos, Py_ssize_t end, long long now_us) noexcept nogil:
        """Frames of clients, as the primary mirrored them; the position up to which there was room is returned."""
        self.admitted.move_to_front()
        while frame_at(buf, pos, end, self.lanes.has_vnet, self._span) == 1:
            if self.admitted.size - self.admitted.end < self._span.end - pos:
                break
            if not self._take(buf, pos, now_us):
                break
            pos = self._span.end
        self.advance(now_us)
        return pos

    cdef int guest(self, uint8_t* buf, Py_ssize_t pos, Py_ssize_t end, long long now_us) noexcept nogil:
        """Frames of the guest: answers."""
        cdef int row, number
        while frame_at(buf, pos, end, self.lanes.has_vnet, self._span) == 1:
            pos = self._span.end
            number = self.lanes.ordered(buf, False)
            if number == 0:
                continue
            if self._packet.payload_len <= 0 and not self._packet.flags & (TcpFlag.FIN | TcpFlag.RST):
                continue
            row = self.lanes.table.find(self._packet, False)
            if row != _NONE and self.lanes.at[row].in_round:
                self.lanes.leave(&self.lanes.gates[number], row, now_us)
        return self.advance(now_us)

    cpdef int timer(self, long long now_us) noexcept nogil:
        """Limits may have passed."""
        cdef int i
        cdef Gate* gate
        for i in range(1, self.lanes.gate_count + 1):
            gate = &self.lanes.gates[i]
            if gate.left and gate.due_us <= now_us:
                gate.limited += gate.left
                self.lanes.end_round(gate)
                self._advance(i, now_us)
        return 0

    cdef int advance(self, long long now_us) noexcept nogil:
        cdef int i
        for i in range(1, self.lanes.gate_count + 1):
            if self._queues[i].head != _NONE:
                self._advance(i, now_us)
        return 0

    # ── the parts ─────────────────────────────────────────────────────────────────────────────────────────────

    cdef bint _take(self, uint8_t* buf, Py_ssize_t pos, long long now_us) noexcept nogil:
        """The frame at the span. False: there is no memory for it now."""
        cdef int number = self.lanes.ordered(buf, True)
        cdef Py_ssize_t size = self._span.end - pos
        cdef bint is_closed = number != 0 and self.lanes.gates[number].width > 0
        cdef int row = self.lanes.lane_of(True, number, is_closed, now_us) if number else _NONE
        cdef int record
        cdef Lane* lane
        if row != _NONE:
            lane = &self.lanes.at[row]
            if lane.queued or (is_closed and self._packet.payload_len > 0 and not lane.in_round):
                if self._pool.used_bytes_now() > _ORDER_ALL_BYTES:
                    return False
                record = self._pool.store(buf, pos, size, 0)
                if record == _NONE:
                    return False
                self._pool.at[record].kept_next = row
                self._pool.at[record].payload_len = self._packet.payload_len
                self._pool.at[record].arrived_us = now_us
                self._pool.push(&self._queues[number], record)
                lane.queued += 1
                self.waiting_frames += 1
                self.lanes.settle(row)
                return True
        self._admit(buf + pos, size)
        return True

    cdef inline int _admit(self, const uint8_t* frame, Py_ssize_t size) noexcept nogil:
        copy_many(self.admitted.base + self.admitted.end, frame, size)
        self.admitted.end += size
        return 0

    cdef int _pop(self, int number) noexcept nogil:
        cdef int record = self._pool.pop_first(&self._queues[number])
        cdef int row = self._pool.at[record].kept_next
        cdef Lane* lane = &self.lanes.at[row]
        lane.queued -= 1
        self.waiting_frames -= 1
        self.lanes.settle(row)
        return record

    cdef int _advance(self, int number, long long now_us) noexcept nogil:
        """Give what the current round allows, or the next one."""
        cdef Gate* gate = &self.lanes.gates[number]
        cdef bint begins = gate.left == 0 and gate.width > 0 and self._queues[number].head != _NONE
        cdef int record, row
        cdef bint is_request
        cdef bint has_begun = False
        while self._queues[number].head != _NONE:
            record = self._queues[number].head
            row = self._pool.at[record].kept_next
            if self.admitted.size - self.admitted.end < self._pool.at[record].length:
                return 0
            is_request = gate.width > 0 and self._pool.at[record].payload_len > 0 and not self.lanes.at[row].in_round
            if is_request:
                if not begins or (has_begun and gate.members >= gate.width):
                    return 0
                if has_begun and self.lanes.at[row].round == gate.round - 1:
                    return 0
                if not has_begun:
                    self.lanes.begin_round(gate)
                    has_begun = True
                gate.waited_us += now_us - self._pool.at[record].arrived_us
                gate.waited_max_us = max(gate.waited_max_us, now_us - self._pool.at[record].arrived_us)
                self.lanes.join(gate, row, now_us)
            self._pop(number)
            self._admit(self._pool.arena.memory + self._pool.at[record].pos, self._pool.at[record].length)
            self._pool.free(record)
        return 0
