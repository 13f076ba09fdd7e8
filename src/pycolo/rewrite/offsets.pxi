"""The offsets between the secondary's numbers and those that the client knows, per connection.

``seq_offset = secondary_isn - primary_isn`` (mod 2^32) and ``ts_offset = secondary's TSval - primary's TSval``, both
learned from one handshake::

    client                     primary                secondary
      │ ── SYN ─────────────────►│ ──────────────────────►│
      │ ◄── SYN|ACK seq=p ───────│                        │ ── SYN|ACK seq=s, TSval=t ──► (compared, discarded)
      │ ── ACK ack=p+1 TSecr=e ─►│ ──────────────────────►│  seq_offset = s - p, ts_offset = t - e

and for a connection that the guest begins from the outside's SYN|ACK, which acknowledges the primary's ISN. Towards
the secondary acks, SACK edges and TSecr grow by the offsets; from the secondary seq and TSval shrink by them. Linux
6.15 and later drop a handshake ACK whose TSecr is not one they sent: hence the timestamps.

What comes from outside is a claim until the guest confirms it (rule R1). A client's SYN makes frames that follow it
wait for the guest's answer, for HANDSHAKE_HELD_MS, and nothing else. The ACK that teaches has exactly the number with
which the guest said the client's side begins (`due`), and a right checksum. Where the guest took payload of the SYN
(RFC 7413) and the primary did not, the client begins in front of that (`first`). A SYN|ACK from outside may be a lie:
the one that the guest acknowledges counts, out of the last two.
"""


# What a new SYN of the guest leaves of the flags, and what a checkpoint takes from them.
cdef int _OFFSETS_KEPT_BY_SYN = int(_Flag.CLAIM | _Flag.HEARD | _Flag.NOTED)
cdef int _VOIDED_BY_CHECKPOINT = int(
    _Flag.CLAIM | _Flag.HAS_TIMESTAMP | _Flag.TENTATIVE | _Flag.ALTERNATIVE | _Flag.SPOKEN | _Flag.SENT_VALUE
)


@cython.final
cdef class SeqOffsets:
    """Columns by row of the connection table: `state`, `flags`, `seq_offset`, `ts_offset` and what they come from."""

    cdef int* state
    cdef int* flags
    cdef uint32_t* seq_offset
    cdef uint32_t* ts_offset
    cdef uint32_t* secondary_isn
    cdef uint32_t* secondary_value
    cdef uint32_t* due
    cdef uint32_t* first
    cdef uint32_t* _claim_isn
    cdef uint32_t* _claim_end
    cdef long long* _claim_us
    cdef uint32_t* _answer_isn
    cdef uint32_t* _other_isn
    cdef uint32_t* _other_seq_offset
    cdef uint32_t* _other_ts_offset

    def __dealloc__(self):
        release_column(self.state)
        release_column(self.flags)
        release_column(self.seq_offset)
        release_column(self.ts_offset)
        release_column(self.secondary_isn)
        release_column(self.secondary_value)
        release_column(self.due)
        release_column(self.first)
        release_column(self._claim_isn)
        release_column(self._claim_end)
        release_column(self._claim_us)
        release_column(self._answer_isn)
        release_column(self._other_isn)
        release_column(self._other_seq_offset)
        release_column(self._other_ts_offset)

    def __init__(self, rows):
        self.state = <int*>column(self.state, rows, sizeof(int), 0)
        self.flags = <int*>column(self.flags, rows, sizeof(int), 0)
        self.seq_offset = <uint32_t*>column(self.seq_offset, rows, sizeof(uint32_t), 0)
        self.ts_offset = <uint32_t*>column(self.ts_offset, rows, sizeof(uint32_t), 0)
        self.secondary_isn = <uint32_t*>column(self.secondary_isn, rows, sizeof(uint32_t), 0)
        self.secondary_value = <uint32_t*>column(self.secondary_value, rows, sizeof(uint32_t), 0)
        self.due = <uint32_t*>column(self.due, rows, sizeof(uint32_t), 0)
        self.first = <uint32_t*>column(self.first, rows, sizeof(uint32_t), 0)
        self._claim_isn = <uint32_t*>column(self._claim_isn, rows, sizeof(uint32_t), 0)
        self._claim_end = <uint32_t*>column(self._claim_end, rows, sizeof(uint32_t), 0)
        self._claim_us = <long long*>column(self._claim_us, rows, sizeof(long long), 0)
        self._answer_isn = <uint32_t*>column(self._answer_isn, rows, sizeof(uint32_t), 0)
        self._other_isn = <uint32_t*>column(self._other_isn, rows, sizeof(uint32_t), 0)
        self._other_seq_offset = <uint32_t*>column(self._other_seq_offset, rows, sizeof(uint32_t), 0)
        self._other_ts_offset = <uint32_t*>column(self._other_ts_offset, rows, sizeof(uint32_t), 0)

    cdef int open_row(self, int row, int state) noexcept nogil:
        """A new row of the table: begin with `state` and offsets of 0."""
        self.state[row] = state
        self.flags[row] = 0
        self.seq_offset[row] = 0
        self.ts_offset[row] = 0
        return 0

    # ── claims ────────────────────────────────────────────────────────────────────────────────────────────────

    cdef int client_syn(self, int row, Packet packet, long long now_us) noexcept nogil:
        """A SYN from the client. With a new ISN on an old connection only the guest's answer tells what it is."""
        begin: cython.longlong = seq_add(packet.seq, 1)
        if self.flags[row] & ConnectionFlag.DUE and (self.due[row] == begin or self.first[row] == begin):
            return 0  # the guest has answered it
        if not self.flags[row] & ConnectionFlag.CLAIM or self._claim_isn[row] != packet.seq or packet.payload_len:
            self._claim_end[row] = seq_add(begin, packet.payload_len)  # sent again it has no payload any more
        self._claim_isn[row] = packet.seq
        self._claim_us[row] = now_us
        self.flags[row] |= ConnectionFlag.CLAIM
        return 0

    cdef bint follows_claim(self, int row, Packet packet, long long now_us) noexcept nogil:
        """Whether a client's packet continues a SYN that the guest may still answer."""
        if not self.flags[row] & ConnectionFlag.CLAIM or now_us - self._claim_us[row] >= _HELD_US:
            return False
        return 0 < seq_diff(packet.seq, self._claim_isn[row]) <= _WINDOW_BYTES

    cdef int refused(self, int row, Packet packet) noexcept nogil:
        """A RST of the guest: the answer to a claim if it acknowledges that."""
        if packet.flags & TcpFlag.ACK and packet.ack == seq_add(self._claim_isn[row], 1):
            self.flags[row] &= ~ConnectionFlag.CLAIM
        return 0

    cdef bint must_wait(self, int row, Packet packet, long long now_us) noexcept nogil:
        """Whether a client's segment (no SYN, no RST) has to wait while the offset is not known."""
        if self.completes(row, packet):
            return False
        if self.follows_claim(row, packet, now_us):
            return True
        if self.flags[row] & (ConnectionFlag.DUE | ConnectionFlag.OWN) != ConnectionFlag.DUE:
            return False
        return packet.flags & TcpFlag.ACK != 0 and 0 < seq_diff(packet.seq, self.due[row]) <= _WINDOW_BYTES

    # ── learning ──────────────────────────────────────────────────────────────────────────────────────────────

    cdef bint guest_syn(self, int row, uint8_t* buf, Packet packet, bint is_serving) noexcept nogil:
        """A SYN or SYN|ACK from the secondary; whether it begins a new incarnation (else it is sent again)."""
        is_new: cython.bint = self.secondary_isn[row] != packet.seq or not self.flags[row] & ConnectionFlag.HAS_ISN
        if is_new:
            self.state[row] = OffsetState.AWAITING_PRIMARY
            self.flags[row] = (self.flags[row] & _OFFSETS_KEPT_BY_SYN) | ConnectionFlag.HAS_ISN
            self.flags[row] |= ConnectionFlag.OWN if is_serving else 0
            self.flags[row] |= 0 if packet.flags & TcpFlag.ACK else ConnectionFlag.OPENS
            self.secondary_isn[row] = packet.seq
            self.seq_offset[row] = 0
            self.ts_offset[row] = 0
        elif self.state[row] == OffsetState.KNOWN:
            return False
        if packet.timestamp_pos:
            self.secondary_value[row] = load32(buf, packet.timestamp_pos)
            self.flags[row] |= ConnectionFlag.HAS_TIMESTAMP
        if packet.flags & TcpFlag.ACK:
            self._note_due(row, packet.ack, is_new)
        return is_new

    cdef int _note_due(self, int row, long long due, bint is_new) noexcept nogil:
        """With which number the client's side begins; with which the client does, if the primary took no payload."""
        begin: cython.longlong = seq_add(self._claim_isn[row], 1)
        takes_payload: cython.bint = self.flags[row] & ConnectionFlag.CLAIM and due == self._claim_end[row]
        if takes_payload:
            self.first[row] = begin
        elif is_new or due != self.due[row]:
            self.first[row] = due
        if takes_payload or due == begin:
            self.flags[row] &= ~ConnectionFlag.CLAIM
        self.due[row] = due
        self.flags[row] |= ConnectionFlag.DUE
        return 0

    cdef bint completes(self, int row, Packet packet) noexcept nogil:
        """Whether a client's segment (no SYN, no RST) is the one that completes the handshake that the guest is in."""
        if not self.flags[row] & ConnectionFlag.DUE or not packet.flags & TcpFlag.ACK:
            return False
        return packet.seq == self.due[row] or packet.seq == self.first[row]

    cdef bint answers(self, int row, Packet packet) noexcept nogil:
        """Whether a segment from outside is a SYN|ACK to the guest's SYN, and the guest has not acknowledged one."""
        both: cython.int = TcpFlag.SYN | TcpFlag.ACK
        if packet.flags & (both | TcpFlag.RST) != both:
            return False
        if self.state[row] == OffsetState.AWAITING_PRIMARY:
            return self.flags[row] & ConnectionFlag.OPENS != 0
        return self.flags[row] & ConnectionFlag.TENTATIVE != 0

    cdef int learn(self, int row, uint8_t* buf, Packet packet, bint is_answer) noexcept nogil:
        """What acknowledges the primary's SYN, and echoes its TSval. `is_answer`: it is a SYN|ACK."""
        if is_answer:
            if self.flags[row] & ConnectionFlag.TENTATIVE:
                self._other_isn[row] = self._answer_isn[row]
                self._other_seq_offset[row] = self.seq_offset[row]
                self._other_ts_offset[row] = self.ts_offset[row]
                self.flags[row] |= ConnectionFlag.ALTERNATIVE
            self._answer_isn[row] = packet.seq
            self.flags[row] |= ConnectionFlag.TENTATIVE
        self.state[row] = OffsetState.KNOWN
        if self.flags[row] & ConnectionFlag.OWN:
            return 0
        primary_isn: cython.longlong = seq_add(packet.ack, -1)
        self.seq_offset[row] = seq_add(self.secondary_isn[row], -primary_isn)
        self.ts_offset[row] = 0
        if packet.timestamp_pos and self.flags[row] & ConnectionFlag.HAS_TIMESTAMP:
            primary_value: cython.longlong = load32(buf, packet.timestamp_pos + 4)
            if primary_value:
                self.ts_offset[row] = seq_add(self.secondary_value[row], -primary_value)
        return 0

    cdef int goes_on(self, int row, Packet packet) noexcept nogil:
        """The guest said something that is neither SYN nor RST: it follows no claim, and has chosen its SYN|ACK.

        It holds on to what it has (RFC 5961 section 4.2), which may be a connection older than we are.
        """
        flags: cython.int = self.flags[row] & ~(ConnectionFlag.CLAIM | ConnectionFlag.TENTATIVE)
        if self.state[row] == OffsetState.UNKNOWN:
            self.state[row] = OffsetState.KNOWN
        if flags & ConnectionFlag.ALTERNATIVE:
            flags &= ~ConnectionFlag.ALTERNATIVE
            if packet.ack == seq_add(self._other_isn[row], 1) and self._other_isn[row] != self._answer_isn[row]:
                self.seq_offset[row] = self._other_seq_offset[row]
                self.ts_offset[row] = self._other_ts_offset[row]
        self.flags[row] = flags
        return 0

    cdef int committed(self, int row) noexcept nogil:
        """A checkpoint: the secondary's numbers are the primary's now."""
        flags: cython.int = self.flags[row] & ~_VOIDED_BY_CHECKPOINT
        if not flags & ConnectionFlag.GUEST_FIN_ACKED:
            flags &= ~ConnectionFlag.GUEST_FIN
        self.state[row] = OffsetState.KNOWN
        self.seq_offset[row] = 0
        self.ts_offset[row] = 0
        self.flags[row] = flags
        return 0

    # ── adding ────────────────────────────────────────────────────────────────────────────────────────────────

    cdef int shift(self, int row, uint8_t* buf, Packet packet, int sign) noexcept nogil:
        """Translate a segment of the client for the secondary: ack, SACK edges and TSecr (`sign` 1); or back (-1)."""
        if not packet.flags & TcpFlag.ACK:
            return 0
        if self.seq_offset[row]:
            set_ack(buf, packet, seq_add(packet.ack, sign * cython.cast(cython.longlong, self.seq_offset[row])))
            shift_sack(buf, packet, sign * cython.cast(cython.longlong, self.seq_offset[row]))
        if self.ts_offset[row]:
            shift_timestamps(buf, packet, 0, sign * cython.cast(cython.longlong, self.ts_offset[row]))
        return 0

    cdef int shift_guest(self, int row, uint8_t* buf, Packet packet, int sign) noexcept nogil:
        """Translate a segment of the secondary for the client: seq (on each one) and TSval (`sign` -1); or back (1)."""
        if self.seq_offset[row]:
            shift_seq(buf, packet, sign * cython.cast(cython.longlong, self.seq_offset[row]))
        if self.ts_offset[row]:
            shift_timestamps(buf, packet, sign * cython.cast(cython.longlong, self.ts_offset[row]), 0)
        return 0

    # ── what another rewriter has to know ─────────────────────────────────────────────────────────────────────

    cdef bint is_told(self, ConnectionTable table, int row) noexcept nogil:
        """Whether a row's offsets are not 0, or not known yet."""
        if not table.in_use(row):
            return False
        if self.state[row] == OffsetState.KNOWN:
            return self.seq_offset[row] != 0 or self.ts_offset[row] != 0
        return self.state[row] == OffsetState.AWAITING_PRIMARY and not self.flags[row] & ConnectionFlag.OWN

    def has_any(self, table):
        """Whether a connection that has not ended has offsets that are not 0."""
        connections: ConnectionTable = table
        row: cython.int = 0
        found: cython.bint = False
        with nogil:
            while row < connections.rows and not found:
                if self.state[row] == OffsetState.KNOWN and self.is_told(connections, row):
                    found = self.flags[row] & ConnectionFlag.ENDED == 0
                row += 1
        return found
