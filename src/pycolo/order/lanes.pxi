"""Connections of ordered ports (*lanes*), the *gate* of each such port, and the memory for frames that wait.

A gate gives requests to a guest in *rounds*: `width` connections' requests at once, the next round when all of them
have been answered, or after `limit_us`. A gate with a width of 0 is open: nothing waits there.
"""

cdef enum:
    _GATES_MAX = 64
    _ROUND_MAX = 64
    _TIMES = 64  # half octaves of microseconds
    _NO_ROUND = -2

cdef long long _COLD_US = limits.ORDERED_COLD_MS * 1000
cdef long long _ORDER_LANE_BYTES = limits.ORDERED_LANE_BYTES_MAX
cdef long long _ORDER_ALL_BYTES = limits.ORDERED_BYTES_MAX // 2

assert _GATES_MAX == limits.ORDERED_PORTS_MAX
assert _ROUND_MAX == limits.ORDERED_WIDTH_MAX


cdef struct Lane:
    # One connection. `waiting`: frames that wait for their turn; `pending`: given, not mirrored (only the primary's).
    Queue waiting
    Queue pending
    long long since_us  # when the request began to wait, then when it was given
    long long mirror_by_us
    long long round  # the round in which it was given
    Py_ssize_t waiting_bytes
    Py_ssize_t request_bytes
    int request_segments
    int kind  # of its request
    uint32_t seq_end
    int gate
    int later  # in the gate's line
    int earlier
    int unmirrored_later
    int unmirrored_earlier
    int queued
    bint has_seq
    bint is_open  # given, not answered
    bint in_line
    bint in_round
    bint is_unmirrored  # what is given is kept back until it is answered
    bint is_deferred


cdef struct Gate:
    int port
    int width
    bint is_early  # mirrored when given
    bint is_cold  # the guest has not answered since it loaded a state
    long long limit_us
    long long given_us  # when the last request of the round was given
    long long due_us
    long long round
    int members  # of the current round, answered ones too
    int left
    int line_head
    int line_tail
    int deferred
    int last_lane
    long long many_us  # when a request of another connection than the one before was given
    Py_ssize_t queue_bytes
    long long requests
    long long rounds
    long long served
    long long served_us
    long long waited_us
    long long waited_max_us
    long long blocked
    long long limited
    long long stalled_us  # others have waited for rounds that a limit has ended
    long long late
    long long overflowed
    int[_ROUND_MAX] member
    int[_ROUND_MAX] defer
    int[_KINDS] trust
    int doubts
    long long doubted  # of `rounds`
    long long[_TIMES] times


@cython.final
cdef class Lanes:
    """`connections_max`, `bytes_max`: fixed; `seed`: of the table's hashes."""

    cdef readonly ConnectionTable table
    cdef readonly Pool pool
    cdef Lane* at
    cdef Gate* gates
    cdef int gate_count
    cdef uint8_t* gate_of
    cdef Span span
    cdef Packet packet
    cdef bint has_vnet

    def __dealloc__(self):
        release_column(self.at)
        release_column(self.gates)
        release_column(self.gate_of)

    def __init__(self, seed, has_vnet, connections_max, bytes_max):
        self.table = ConnectionTable(connections_max, seed)
        self.pool = Pool(bytes_max, bytes_max // 256)
        self.at = <Lane*>column(self.at, connections_max, sizeof(Lane), 0)
        self.gates = <Gate*>column(self.gates, _GATES_MAX + 1, sizeof(Gate), 0)
        self.gate_of = <uint8_t*>column(self.gate_of, 65536, 1, 0)
        self.gate_count = 0
        self.span = Span()
        self.packet = Packet()
        self.has_vnet = has_vnet

    cdef int gate_for(self, int port) noexcept nogil:
        """The gate of a port, which is made if need be; 0: there are too many."""
        cdef Gate* gate
        if self.gate_of[port] == 0 and self.gate_count < _GATES_MAX:
            self.gate_count += 1
            self.gate_of[port] = self.gate_count
            gate = &self.gates[self.gate_count]
            gate.port = port
            gate.line_head = gate.line_tail = gate.last_lane = _NONE
            gate.many_us = -_ALONE_US
        return self.gate_of[port]

    cdef inline int ordered(self, uint8_t* buf, bint is_client) noexcept nogil:
        """Parse the frame at `span`; the gate of its port, or 0."""
        if parse_frame(buf, self.span.start, self.span.end, self.span.vnet_len, self.packet) != PacketKind.TCP:
            return 0
        return self.gate_of[self.packet.destination_port if is_client else self.packet.source_port]

    cdef int lane_of(self, bint is_client, int gate, bint makes, long long now_us) noexcept nogil:
        """The lane of the frame that was parsed last, or NONE."""
        cdef int row = self.table.find(self.packet, is_client)
        if row != _NONE:
            self.table.touch(row, now_us)
            return row
        if not makes:
            return _NONE
        row = self.table.insert(now_us)
        if row == _NONE:
            row = self.table.evict(now_us)
            if row == _NONE:
                return _NONE
            self.table.remove(row)
            row = self.table.insert(now_us)
        memset(&self.at[row], 0, sizeof(Lane))
        self.at[row].waiting.head = self.at[row].waiting.tail = _NONE
        self.at[row].pending.head = self.at[row].pending.tail = _NONE
        self.at[row].later = self.at[row].earlier = _NONE
        self.at[row].unmirrored_later = self.at[row].unmirrored_earlier = _NONE
        self.at[row].round = _NO_ROUND
        self.at[row].gate = gate
        return row

    cdef inline int settle(self, int row) noexcept nogil:
        """Pin the lane while something of it waits."""
        cdef Lane* lane = &self.at[row]
        self.table.at[row].pins = (
            lane.in_line or lane.in_round or lane.is_unmirrored or lane.queued > 0 or lane.pending.count > 0
        )
        return 0

    # ── the line of a gate ────────────────────────────────────────────────────────────────────────────────────

    cdef int line_up(self, Gate* gate, int row) noexcept nogil:
        """The lane waits for its turn."""
        cdef Lane* lane = &self.at[row]
        lane.in_line = True
        lane.earlier, lane.later = gate.line_tail, _NONE
        if gate.line_tail == _NONE:
            gate.line_head = row
        else:
            self.at[gate.line_tail].later = row
        gate.line_tail = row
        return self.settle(row)

    cdef int step_out(self, Gate* gate, int row) noexcept nogil:
        """It waits no longer."""
        cdef Lane* lane = &self.at[row]
        if lane.earlier == _NONE:
            gate.line_head = lane.later
        else:
            self.at[lane.earlier].later = lane.later
        if lane.later == _NONE:
            gate.line_tail = lane.earlier
        else:
            self.at[lane.later].earlier = lane.earlier
        lane.in_line = False
        return self.settle(row)

    cdef int forget_last(self, Gate* gate, int row) noexcept nogil:
        """The lane's client asks nothing more: who asks next may be alone."""
        if gate.last_lane == row:
            gate.last_lane = _NONE
        return 0

    # ── rounds ────────────────────────────────────────────────────────────────────────────────────────────────

    cdef int join(self, Gate* gate, int row, long long now_us) noexcept nogil:
        """One more request of the current round is given."""
        cdef Lane* lane = &self.at[row]
        lane.round = gate.round
        lane.in_round = True
        lane.since_us = now_us
        gate.member[gate.members] = row
        gate.members += 1
        gate.left += 1
        gate.requests += 1
        self.give_time(gate, now_us)
        return self.settle(row)

    cdef inline int give_time(self, Gate* gate, long long now_us) noexcept nogil:
        """The limit of the current round counts from here."""
        gate.given_us = now_us
        gate.due_us = now_us + (max(gate.limit_us, _COLD_US) if gate.is_cold else gate.limit_us)
        return 0

    cdef int reach_limit(self, Gate* gate, long long now_us) noexcept nogil:
        """Those that are left were not answered within the limit."""
        gate.limited += gate.left
        if gate.line_head != _NONE:
            gate.stalled_us += now_us - gate.given_us
        return 0

    cdef int leave(self, Gate* gate, int row, long long now_us) noexcept nogil:
        """A request of the current round is answered."""
        cdef long long took_us = now_us - self.at[row].since_us
        self.at[row].in_round = gate.is_cold = False
        gate.left -= 1
        gate.served += 1
        gate.served_us += took_us
        gate.times[_half_octave(took_us)] += 1
        return self.settle(row)

    cdef int end_round(self, Gate* gate) noexcept nogil:
        """Wait no longer for those that are left."""
        cdef int i
        for i in range(gate.members):
            if self.at[gate.member[i]].in_round:
                self.at[gate.member[i]].in_round = False
                self.settle(gate.member[i])
        gate.left = 0
        return 0

    cdef inline long long due_us(self) noexcept nogil:
        """When the limit of a round passes."""
        cdef long long due = _NEVER
        cdef int i
        for i in range(1, self.gate_count + 1):
            if self.gates[i].left:
                due = min(due, self.gates[i].due_us)
        return due

    cdef bint hold_up(self, long long given_us) noexcept nogil:
        """Whether requests wait for a round that was given by then, and is not over."""
        cdef int i
        for i in range(1, self.gate_count + 1):
            if self.gates[i].left and self.gates[i].line_head != _NONE and self.gates[i].given_us <= given_us:
                return True
        return False

    cdef int begin_round(self, Gate* gate) noexcept nogil:
        gate.round += 1
        gate.rounds += 1
        gate.members = 0
        if gate.doubts and gate.rounds - gate.doubted >= _DOUBT_ROUNDS:
            gate.doubts -= 1
            gate.doubted = gate.rounds
        return 0

    cdef inline bint keep_back_any(self, Gate* gate) noexcept nogil:
        """Whether a request of the current round is not mirrored yet."""
        cdef int i
        for i in range(gate.members):
            if self.at[gate.member[i]].in_round and self.at[gate.member[i]].is_unmirrored:
                return True
        return False

    # ── kinds of requests ─────────────────────────────────────────────────────────────────────────────────────

    cdef inline bint trusts(self, Gate* gate, int row) noexcept nogil:
        """Whether the lane's request is of a kind that need not be kept back."""
        return gate.trust[self.at[row].kind] >= _TRUSTED << gate.doubts

    cdef inline int trust_more(self, Gate* gate, int row) noexcept nogil:
        """The lane's request was answered in its round."""
        gate.trust[self.at[row].kind] = min(gate.trust[self.at[row].kind] + 1, _TRUSTED << gate.doubts)
        return 0

    cdef int doubt(self) noexcept nogil:
        """The guests differ: what was trusted may have led to it, and is to be earned again, by more answers."""
        cdef int i, kind
        for i in range(1, self.gate_count + 1):
            self.gates[i].doubts = min(self.gates[i].doubts + 1, _DOUBTS_MAX)
            self.gates[i].doubted = self.gates[i].rounds
            for kind in range(_KINDS):
                self.gates[i].trust[kind] = min(self.gates[i].trust[kind], 0)
        return 0

    cdef int trust_less(self, Gate* gate) noexcept nogil:
        """Those that are left of the round have waited for others."""
        cdef int i, kind
        for i in range(gate.members):
            if self.at[gate.member[i]].in_round:
                kind = self.at[gate.member[i]].kind
                gate.trust[kind] = max(gate.trust[kind] - _BLOCKED_WEIGHT, _TRUST_LOWEST)
        return 0

    # ── Python's ──────────────────────────────────────────────────────────────────────────────────────────────

    def counts(self):
        """Of each gate: what `core.pyi` calls `GateCounts`."""
        found = []
        for i in range(1, self.gate_count + 1):
            found.append(
                {
                    "port": self.gates[i].port,
                    "width": self.gates[i].width,
                    "is_early": bool(self.gates[i].is_early),
                    "limit_us": self.gates[i].limit_us,
                    "requests": self.gates[i].requests,
                    "rounds": self.gates[i].rounds,
                    "served": self.gates[i].served,
                    "served_us": self.gates[i].served_us,
                    "waited_us": self.gates[i].waited_us,
                    "waited_max_us": self.gates[i].waited_max_us,
                    "blocked": self.gates[i].blocked,
                    "limited": self.gates[i].limited,
                    "stalled_us": self.gates[i].stalled_us,
                    "late": self.gates[i].late,
                    "overflowed": self.gates[i].overflowed,
                    "times": [self.gates[i].times[j] for j in range(_TIMES)],
                }
            )
        return found


cdef enum:
    # A connection is alone on its port when no other has asked for so long.
    _ALONE_US = 1000000


cdef inline int _half_octave(long long took_us) noexcept nogil:
    """The bucket of a time: its upper bound is 2 ** (bucket / 2) microseconds, within a tenth."""
    cdef int octave
    if took_us < 2:
        return 1
    octave = 63 - __builtin_clzll(took_us)
    return min(2 * octave + (2 if took_us & (<long long>1 << (octave - 1)) else 1), _TIMES - 1)
