"""The primary's side: requests of an ordered port are given in rounds, and mirrored in the order in which they count.

::

    LAN ──► client ──► admitted ──► the guest's tap ──► given ──► the link        (mirror when given)
              │  ▲ grants                                 │ pending
              └► waiting                                  └──────► ready ──► the link   (mirror when answered)
    guest ──► guest ── answers: the round goes on, pending is ready

**When answered** is for guests in which requests wait for each other (locks): the answers tell in which order they took
it. **When given** is for those that take requests one after the other, for a connection that is alone on its port, and
for requests of a kind that does not wait (`kinds`).

The client's frames that are not mirrored have not been acknowledged to it (rule C3), so a takeover loses nothing: the
client sends them again. The guest's bare ACKs for them are withheld, as if lost: held ones would only grow old.

A request whose answer comes after its round has ended waited for something: what is asked now may have set it free, so
the secondary's guest needs that first. It is mirrored behind the current round.
"""

cdef long long _MIRROR_US = limits.ORDERED_MIRROR_MS * 1000
cdef long long _FROZEN_US = limits.ORDERED_FROZEN_MS * 1000
cdef long long _REQUEST_BYTES = limits.ORDERED_REQUEST_BYTES_MAX
cdef int _REQUEST_SEGMENTS = limits.ORDERED_REQUEST_SEGMENTS_MAX
cdef long long _ASLEEP_US = limits.ORDERED_ASLEEP_MS * 1000


@cython.final
cdef class PrimaryOrder:
    """`admitted`: frames for the guest, to be consumed by the caller, who tells what the guest got (`given`).

    `withheld`: bare ACKs of the guest; `resent`: segments that clients sent again; `mirror_limited`: requests that
    were not answered within the limit, and mirrored then.
    """

    cdef readonly Lanes lanes
    cdef Pool _pool
    cdef Span _span
    cdef Packet _packet
    cdef readonly Mirror mirror
    cdef readonly Batch admitted
    cdef readonly bint is_following
    cdef readonly bint is_frozen
    cdef readonly bint is_stopped
    cdef readonly long long withheld
    cdef readonly long long resent
    cdef readonly long long mirror_limited
    cdef readonly long long frozen
    cdef readonly long long waiting_frames
    cdef long long _frozen_until_us
    cdef int _widest
    cdef Py_ssize_t guest_end

    def __init__(self, seed=0, has_vnet=False, connections_max=limits.ORDERED_CONNECTIONS_MAX,
            bytes_max=limits.ORDERED_BYTES_MAX):
        self.lanes = Lanes(seed, has_vnet, connections_max, bytes_max)
        self._pool, self._span, self._packet = self.lanes.pool, self.lanes.span, self.lanes.packet
        self.admitted = Batch()
        self.is_following = self.is_frozen = self.is_stopped = False
        self.mirror = Mirror(self.lanes)
        self.withheld = self.resent = self.mirror_limited = self.frozen = self.waiting_frames = 0
        self._widest = 0

    # ── Python's ──────────────────────────────────────────────────────────────────────────────────────────────

    def set_gate(self, int port, int width, bint is_early, long long limit_us, long long now_us):
        """Order this port so from now on. False: there are too many ports."""
        cdef int number, i
        cdef Gate* gate
        assert 0 <= port <= 65535 and 0 <= width <= _ROUND_MAX
        number = self.lanes.gate_for(port)
        if number == 0:
            return False
        gate = &self.lanes.gates[number]
        gate.width = width
        gate.is_early = is_early
        gate.limit_us = limit_us
        self._widest = max([self.lanes.gates[i].width for i in range(1, self.lanes.gate_count + 1)])
        if width == 0:
            self._mirror_gate(number)
        self._advance(gate, now_us)
        return True

    def counts(self):
        """See `Lanes`."""
        return self.lanes.counts()

    def begin(self):
        """There is a secondary that gets what is mirrored."""
        self.is_following = True

    def end(self, long long now_us):
        """There is none any more: what waits goes to the guest, and nothing is mirrored."""
        self.is_following = self.is_frozen = self.is_stopped = False
        self.mirror.forget()
        self.advance(now_us)

    def freeze(self, long long now_us, is_stopping=False):
        """A checkpoint is asked for: begin nothing until `thaw`, or for a while. `is_stopping`: it has begun."""
        if self._widest and self.is_following:
            if not self.is_frozen:
                self.frozen += 1
                if not is_stopping:
                    self.lanes.doubt()
                self._frozen_until_us = now_us + _FROZEN_US
            self.is_frozen = True
            self.is_stopped = self.is_stopped or is_stopping

    def client_frames(self, uint8_t[::1] buf, Py_ssize_t pos, Py_ssize_t end, long long now_us):
        """`client`, for tests."""
        check_range(len(buf), pos, end)
        return self.client(&buf[0], pos, end, now_us) if pos < end else pos

    def given_frames(self, uint8_t[::1] buf, Py_ssize_t pos, Py_ssize_t end):
        """`given`, for tests: the bytes to mirror now."""
        check_range(len(buf), pos, end)
        if pos == end:
            return b""
        target = bytearray(end - pos)
        cdef Py_ssize_t length = self.given(&buf[0], pos, end, <uint8_t*>(<char*>target))
        return bytes(target[:length])

    def guest_frames(self, uint8_t[::1] buf, Py_ssize_t pos, Py_ssize_t end, long long now_us):
        """`guest`, for tests."""
        check_range(len(buf), pos, end)
        return self.guest(&buf[0], pos, end, now_us) if pos < end else end

    def deadline_us(self):
        """When `timer_fired` is to be called; None: not needed."""
        cdef long long due = self.due_us()
        return None if due == _NEVER else due

    # ── what the caller asks ──────────────────────────────────────────────────────────────────────────────────

    cdef inline bint is_active(self) noexcept nogil:
        """Whether frames must go through here."""
        return (self._widest > 0 and self.is_following) or self.has_rest()

    cdef inline bint has_rest(self) noexcept nogil:
        """Whether frames are here."""
        return (
            self.waiting_frames > 0 or self.mirror.pending_frames > 0 or self.mirror.has_ready()
            or self.admitted.start < self.admitted.end
        )

    cdef long long due_us(self) noexcept nogil:
        """When `timer` is to be called at the latest."""
        cdef long long due
        if self.is_frozen:
            return _NEVER if self.is_stopped else self._frozen_until_us
        due = self.lanes.due_us()
        if self.mirror.oldest != _NONE:
            due = min(due, self.lanes.at[self.mirror.oldest].mirror_by_us)
        return due

    cdef inline bint asks_sleep(self, long long now_us) noexcept nogil:
        """Whether requests wait for a round that lasts: is the guest asleep?"""
        return not self.is_frozen and self.lanes.hold_up(now_us - _ASLEEP_US)

    cdef inline bint may_ask_sleep(self) noexcept nogil:
        """Whether `asks_sleep` will be true unless something is answered."""
        return not self.is_frozen and self.lanes.hold_up(_NEVER)

    # ── facts ─────────────────────────────────────────────────────────────────────────────────────────────────

    cdef Py_ssize_t client(self, uint8_t* buf, Py_ssize_t pos, Py_ssize_t end, long long now_us) noexcept nogil:
        """The clients' frames; the position up to which there was room for them is returned."""
        self.admitted.move_to_front()
        while frame_at(buf, pos, end, self.lanes.has_vnet, self._span) == 1:
            if self._pool.used_bytes_now() > _ORDER_ALL_BYTES:
                break
            if self.admitted.size - self.admitted.end < self._span.end - pos + _ORDER_LANE_BYTES:
                break
            self._client(buf, pos, now_us)
            pos = self._span.end
        self.advance(now_us)
        return pos

    cdef Py_ssize_t given(self, uint8_t* buf, Py_ssize_t pos, Py_ssize_t end, uint8_t* target) noexcept nogil:
        """The guest has got these frames; those to mirror now are written to `target`. Returns their length."""
        cdef Py_ssize_t length = 0
        cdef int row
        while frame_at(buf, pos, end, self.lanes.has_vnet, self._span) == 1:
            row = _NONE
            if self.lanes.ordered(buf, True):
                row = self.lanes.table.find(self._packet, True)
            if row != _NONE and self._is_kept_back(row):
                self.mirror.store(row, buf, pos, self._span.end - pos)
            else:
                copy_many(target + length, buf + pos, self._span.end - pos)
                length += self._span.end - pos
            pos = self._span.end
        return length

    cdef inline bint _is_kept_back(self, int row) noexcept nogil:
        cdef Lane* lane = &self.lanes.at[row]
        return lane.pending.count > 0 or (lane.is_unmirrored and self._packet.payload_len > 0)

    cdef Py_ssize_t guest(self, uint8_t* buf, Py_ssize_t pos, Py_ssize_t end, long long now_us) noexcept nogil:
        """The guest's frames, without those to be withheld: they are moved together. Returns their new end."""
        cdef Py_ssize_t kept = pos
        cdef int row
        cdef bint passes
        while frame_at(buf, pos, end, self.lanes.has_vnet, self._span) == 1:
            passes = True
            if self.lanes.ordered(buf, False):
                row = self.lanes.table.find(self._packet, False)
                passes = row == _NONE or self._is_answer(row, now_us)
            if passes:
                if kept < pos:
                    memmove(buf + kept, buf + pos, self._span.end - pos)
                kept += self._span.end - pos
            pos = self._span.end
        if kept < pos < end:
            memmove(buf + kept, buf + pos, end - pos)
        self.guest_end = kept
        return kept + end - pos

    cpdef int timer(self, long long now_us) noexcept nogil:
        """Limits may have passed."""
        cdef int i
        cdef Gate* gate
        if self.is_frozen:
            if self.is_stopped or now_us < self._frozen_until_us:
                return 0
            self.thaw(now_us)
        for i in range(1, self.lanes.gate_count + 1):
            gate = &self.lanes.gates[i]
            if gate.left and gate.due_us <= now_us:
                self.lanes.reach_limit(gate, now_us)
                self._go_on(gate, now_us)
        while self.mirror.oldest != _NONE and self.lanes.at[self.mirror.oldest].mirror_by_us <= now_us:
            self.mirror_limited += 1
            self.mirror.release(self.mirror.oldest)
        return 0

    cpdef int asleep(self, long long now_us) noexcept nogil:
        """The guest's processors sleep although it has requests: these wait for other requests."""
        cdef int i
        cdef Gate* gate
        if self.is_frozen:
            return 0
        for i in range(1, self.lanes.gate_count + 1):
            gate = &self.lanes.gates[i]
            if gate.left and gate.line_head != _NONE:
                gate.blocked += gate.left
                self._go_on(gate, now_us)
        return 0

    cdef int advance(self, long long now_us) noexcept nogil:
        """Give what may be given, as far as there is room."""
        cdef int i
        for i in range(1, self.lanes.gate_count + 1):
            if self.lanes.gates[i].line_head != _NONE:
                self._advance(&self.lanes.gates[i], now_us)
        return 0

    # ── clients ───────────────────────────────────────────────────────────────────────────────────────────────

    cdef int _client(self, uint8_t* buf, Py_ssize_t pos, long long now_us) noexcept nogil:
        """The frame at the span. There is room in `admitted` for it and for all that waits of one connection."""
        cdef int number = self.lanes.ordered(buf, True)
        cdef Py_ssize_t size = self._span.end - pos
        cdef bint is_closed = number != 0 and self.is_following and self.lanes.gates[number].width > 0
        cdef int row = self.lanes.lane_of(True, number, is_closed, now_us) if number else _NONE
        cdef Lane* lane
        if row == _NONE:
            return self._admit(buf + pos, size)
        lane = &self.lanes.at[row]
        if self._packet.flags & TcpFlag.SYN:
            self._forget(row, now_us)
        if self._packet.payload_len <= 0 or not is_closed:
            self._pass_on(row, buf + pos, size)
            if self._packet.flags & (TcpFlag.FIN | TcpFlag.RST):
                self.lanes.forget_last(&self.lanes.gates[lane.gate], row)
            if self._packet.flags & TcpFlag.RST:
                self._forget(row, now_us)
            return 0
        if lane.has_seq and seq_diff(self._packet.seq + self._packet.payload_len, lane.seq_end) <= 0:
            self.resent += 1
            return self._pass_on(row, buf + pos, size)
        lane.has_seq = True
        lane.seq_end = <uint32_t>seq_add(self._packet.seq, self._packet.payload_len)
        if lane.waiting.count == 0 and not lane.is_open:
            lane.request_bytes = lane.request_segments = 0
            lane.since_us = now_us
            lane.kind = kind_of(buf + self._packet.payload_pos, self._packet.payload_len)
        lane.request_bytes += self._packet.payload_len
        lane.request_segments += 1
        if lane.is_open and lane.waiting.count == 0:  # the request goes on
            if self._is_stream(lane):
                self.mirror.release(row)
            return self._admit(buf + pos, size)
        return self._wait(row, buf + pos, size, now_us)

    cdef inline bint _is_stream(self, Lane* lane) noexcept nogil:
        """Whether its client needs the guest's ACKs in order to go on."""
        return lane.request_bytes > _REQUEST_BYTES or lane.request_segments > _REQUEST_SEGMENTS

    cdef int _admit(self, const uint8_t* frame, Py_ssize_t size) noexcept nogil:
        copy_many(self.admitted.base + self.admitted.end, frame, size)
        self.admitted.end += size
        return 0

    cdef int _pass_on(self, int row, const uint8_t* frame, Py_ssize_t size) noexcept nogil:
        """Behind what its connection waits for, or at once."""
        if self.lanes.at[row].waiting.count == 0:
            return self._admit(frame, size)
        return self._wait(row, frame, size, 0)

    cdef int _wait(self, int row, const uint8_t* frame, Py_ssize_t size, long long now_us) noexcept nogil:
        """Keep a frame until its connection has its turn; if that would be too much, all of it goes at once."""
        cdef Lane* lane = &self.lanes.at[row]
        cdef Gate* gate = &self.lanes.gates[lane.gate]
        cdef int record = _NONE
        if lane.waiting_bytes + size <= _ORDER_LANE_BYTES:
            record = self._pool.store(<uint8_t*>frame, 0, size, 0)
        if record == _NONE:
            gate.overflowed += 1
            self._let_go(row, now_us)
            return self._admit(frame, size)
        self._pool.push(&lane.waiting, record)
        lane.waiting_bytes += size
        self.waiting_frames += 1
        if not lane.in_line:
            self.lanes.line_up(gate, row)
        return 0

    cdef int _move_waiting(self, int row) noexcept nogil:
        """What waits of a connection goes to the guest."""
        cdef Lane* lane = &self.lanes.at[row]
        cdef int record = self._pool.pop(&lane.waiting)
        while record != _NONE:
            self._admit(self._pool.arena.memory + self._pool.at[record].pos, self._pool.at[record].length)
            self._pool.free(record)
            self.waiting_frames -= 1
            record = self._pool.pop(&lane.waiting)
        lane.waiting_bytes = 0
        return 0

    cdef int _let_go(self, int row, long long now_us) noexcept nogil:
        """What waits of a connection goes outside of any round, and is mirrored when given."""
        cdef Lane* lane = &self.lanes.at[row]
        if lane.in_line:
            self.lanes.step_out(&self.lanes.gates[lane.gate], row)
        self.mirror.release(row)
        self._move_waiting(row)
        lane.is_open = True
        return 0

    cdef int _forget(self, int row, long long now_us) noexcept nogil:
        """The connection ends, or another one begins under its name."""
        cdef Lane* lane = &self.lanes.at[row]
        cdef Gate* gate = &self.lanes.gates[lane.gate]
        self._let_go(row, now_us)
        lane.is_open = lane.has_seq = False
        if lane.in_round:
            lane.in_round = False
            gate.left -= 1
            if gate.left == 0:
                self._mirror_deferred(gate)
        return self.lanes.settle(row)

    # ── rounds ────────────────────────────────────────────────────────────────────────────────────────────────

    cdef int _advance(self, Gate* gate, long long now_us) noexcept nogil:
        """Begin the next round, if there is one."""
        cdef int row, following
        cdef int first = _NONE
        if gate.width == 0 or not self.is_following:
            while gate.line_head != _NONE and self._has_room():
                self._let_go(gate.line_head, now_us)
            return 0
        if self.is_frozen or gate.left or gate.line_head == _NONE or not self._has_room():
            return 0
        self.lanes.begin_round(gate)
        row = gate.line_head
        while row != _NONE and gate.members < gate.width and self._has_room():
            following = self.lanes.at[row].later
            if self.lanes.at[row].round == gate.round - 1 and (gate.members or following != _NONE or first != _NONE):
                # The guest may not have noticed yet that it has nothing more to do for this one.
                if first == _NONE:
                    first = row
            else:
                self._give(gate, row, now_us)
            row = following
        if gate.members == 0:
            self._give(gate, first, now_us)
        return 0

    cdef inline bint _has_room(self) noexcept nogil:
        return self.admitted.size - self.admitted.end >= _ORDER_LANE_BYTES

    cdef int _give(self, Gate* gate, int row, long long now_us) noexcept nogil:
        cdef Lane* lane = &self.lanes.at[row]
        cdef long long waited_us = now_us - lane.since_us
        cdef bint is_early
        gate.waited_us += waited_us
        gate.waited_max_us = max(gate.waited_max_us, waited_us)
        if gate.last_lane != row:
            if gate.last_lane != _NONE:
                gate.many_us = now_us
            gate.last_lane = row
        is_early = gate.is_early or self.lanes.trusts(gate, row)
        is_early = is_early or now_us - gate.many_us >= _ALONE_US or self._is_stream(lane)
        self.lanes.step_out(gate, row)
        self.lanes.join(gate, row, now_us)
        lane.is_open = True
        if is_early:
            self.mirror.release(row)
        else:
            lane.mirror_by_us = now_us + _MIRROR_US
            if not lane.is_unmirrored:
                self.mirror.keep_back(row)
        self._move_waiting(row)
        return 0

    cdef int _go_on(self, Gate* gate, long long now_us) noexcept nogil:
        """Those that are left of the round are waited for no longer."""
        if gate.line_head != _NONE:
            self.lanes.trust_less(gate)
        self.lanes.end_round(gate)
        self._mirror_deferred(gate)
        return self._advance(gate, now_us)

    cdef bint _is_answer(self, int row, long long now_us) noexcept nogil:
        """A frame of the guest on this connection. False: it is withheld."""
        cdef Lane* lane = &self.lanes.at[row]
        cdef Gate* gate = &self.lanes.gates[lane.gate]
        if self._packet.payload_len <= 0 and not self._packet.flags & (TcpFlag.SYN | TcpFlag.FIN | TcpFlag.RST):
            if lane.pending.count:
                self.withheld += 1
                return False
            return True
        if not lane.is_open:
            return True
        lane.is_open = False
        if lane.in_round:
            self.lanes.trust_more(gate, row)
            self.lanes.leave(gate, row, now_us)
            self._mirror_round(gate)
            if gate.left == 0:
                self._mirror_deferred(gate)
        else:
            gate.late += 1
            if lane.is_unmirrored and gate.deferred < _ROUND_MAX and self.lanes.keep_back_any(gate):
                lane.is_deferred = True
                gate.defer[gate.deferred] = row
                gate.deferred += 1
            else:
                self.mirror.release(row)
        self._advance(gate, now_us)
        return True

    # ── mirroring ─────────────────────────────────────────────────────────────────────────────────────────────

    cdef int _mirror_round(self, Gate* gate) noexcept nogil:
        """The round is mirrored with its first answer, in the order in which it was given."""
        cdef int i
        for i in range(gate.members):
            if self.lanes.at[gate.member[i]].round == gate.round:
                self.mirror.release(gate.member[i])
        return 0

    cdef int _mirror_deferred(self, Gate* gate) noexcept nogil:
        cdef int i
        for i in range(gate.deferred):
            if self.lanes.at[gate.defer[i]].is_deferred:
                self.mirror.release(gate.defer[i])
        gate.deferred = 0
        return 0

    cdef int _mirror_gate(self, int number) noexcept nogil:
        """All that a gate has kept back."""
        cdef int row = self.mirror.oldest
        cdef int following
        while row != _NONE:
            following = self.lanes.at[row].unmirrored_later
            if self.lanes.at[row].gate == number:
                self.mirror.release(row)
            row = following
        self.lanes.end_round(&self.lanes.gates[number])
        self.lanes.gates[number].deferred = 0
        return 0

    # ── checkpoints ───────────────────────────────────────────────────────────────────────────────────────────

    cpdef int thaw(self, long long now_us) noexcept nogil:
        """The checkpoint is made, or will not be."""
        cdef int i
        self.is_frozen = self.is_stopped = False
        for i in range(1, self.lanes.gate_count + 1):
            if self.lanes.gates[i].left:
                self.lanes.give_time(&self.lanes.gates[i], now_us)
        return self.advance(now_us)
