"""The offsets between the secondary's numbers and the client's, per connection.

``seq_offset = secondary_isn - primary_isn`` (mod 2^32) and ``ts_offset = secondary's TSval - primary's TSval``, both
learned from one handshake::

    client                     primary                secondary
      │ ── SYN ─────────────────►│ ──────────────────────►│
      │ ◄── SYN|ACK seq=p ───────│                        │ ── SYN|ACK seq=s, TSval=t ──► (compared, discarded)
      │ ── ACK ack=p+1 TSecr=e ─►│ ──────────────────────►│  seq_offset = s - p, ts_offset = t - e

and, for a connection that the guest opens, from the outside's SYN|ACK, which acknowledges the primary's ISN. Towards
the secondary, acks, SACK edges and TSecr increase by the offsets; from the secondary, seq and TSval decrease by them.
Linux 6.15 and later drop a handshake ACK whose TSecr is not one that they sent: hence the timestamps.

A packet from outside is a claim until the guest confirms it (rule R1). A client's SYN makes the frames after it wait
for the guest's answer, for HANDSHAKE_HELD_MS, and has no other effect. The offset is learned from an ACK with exactly
the number at which, by the guest, the client's side begins (`due`), and with a correct checksum. If the guest accepted
payload of the SYN (RFC 7413) and the primary did not, the client begins before that (`first`). A SYN|ACK from outside
may be forged: of the last two, the one that the guest acknowledges counts.
"""


# The flags that survive a new SYN of the guest, and those that survive a checkpoint.
cdef int _OFFSETS_KEPT_BY_SYN = int(_Flag.CLAIM | _Flag.HEARD | _Flag.NOTED)
cdef int _VOIDED_BY_CHECKPOINT = int(
    _Flag.CLAIM | _Flag.HAS_TIMESTAMP | _Flag.TENTATIVE | _Flag.ALTERNATIVE | _Flag.SPOKEN | _Flag.SENT_VALUE
)


@cython.final
cdef class SeqOffsets:
    """`at`: by row of the connection table."""

    cdef RewriteRow* at

    def __dealloc__(self):
        release_column(self.at)

    def __init__(self, rows):
        self.at = <RewriteRow*>column(self.at, rows, sizeof(RewriteRow), 0)

    cdef int open_row(self, int row, int state) noexcept nogil:
        """Initialise a new row of the table with `state` and offsets of 0."""
        cdef RewriteRow* r = &self.at[row]
        r.state = state
        r.flags = 0
        r.seq_offset = 0
        r.ts_offset = 0
        return 0

    # ── claims ────────────────────────────────────────────────────────────────────────────────────────────────

    cdef int client_syn(self, int row, Packet packet, long long now_us) noexcept nogil:
        """A SYN from the client. If an old connection gets a new ISN, the guest's answer decides what it is."""
        cdef RewriteRow* r = &self.at[row]
        begin: cython.longlong = seq_add(packet.seq, 1)
        if r.flags & ConnectionFlag.DUE and (r.due == begin or r.first == begin):
            return 0  # the guest has answered it
        if not r.flags & ConnectionFlag.CLAIM or r.claim_isn != packet.seq or packet.payload_len:
            r.claim_end = seq_add(begin, packet.payload_len)  # a retransmission has no payload
        r.claim_isn = packet.seq
        r.claim_us = now_us
        r.flags |= ConnectionFlag.CLAIM
        return 0

    cdef bint follows_claim(self, int row, Packet packet, long long now_us) noexcept nogil:
        """Whether a client's packet continues a SYN that the guest may still answer."""
        cdef RewriteRow* r = &self.at[row]
        if not r.flags & ConnectionFlag.CLAIM or now_us - r.claim_us >= _HELD_US:
            return False
        return 0 < seq_diff(packet.seq, r.claim_isn) <= _WINDOW_BYTES

    cdef int refused(self, int row, Packet packet) noexcept nogil:
        """A RST of the guest: it answers a claim if it acknowledges that."""
        cdef RewriteRow* r = &self.at[row]
        if packet.flags & TcpFlag.ACK and packet.ack == seq_add(r.claim_isn, 1):
            r.flags &= ~ConnectionFlag.CLAIM
        return 0

    cdef bint must_wait(self, int row, Packet packet, long long now_us) noexcept nogil:
        """Whether a client's segment (no SYN, no RST) must wait while the offset is unknown."""
        cdef RewriteRow* r = &self.at[row]
        if self.completes(row, packet):
            return False
        if self.follows_claim(row, packet, now_us):
            return True
        if r.flags & (ConnectionFlag.DUE | ConnectionFlag.OWN) != ConnectionFlag.DUE:
            return False
        return packet.flags & TcpFlag.ACK != 0 and 0 < seq_diff(packet.seq, r.due) <= _WINDOW_BYTES

    # ── learning ──────────────────────────────────────────────────────────────────────────────────────────────

    cdef bint guest_syn(self, int row, uint8_t* buf, Packet packet, bint is_serving) noexcept nogil:
        """A SYN or SYN|ACK from the secondary. Returns whether it begins a new incarnation, not a retransmission."""
        cdef RewriteRow* r = &self.at[row]
        is_new: cython.bint = r.secondary_isn != packet.seq or not r.flags & ConnectionFlag.HAS_ISN
        if is_new:
            r.state = OffsetState.AWAITING_PRIMARY
            r.flags = (r.flags & _OFFSETS_KEPT_BY_SYN) | ConnectionFlag.HAS_ISN
            r.flags |= ConnectionFlag.OWN if is_serving else 0
            r.flags |= 0 if packet.flags & TcpFlag.ACK else ConnectionFlag.OPENS
            r.secondary_isn = packet.seq
            r.seq_offset = 0
            r.ts_offset = 0
        elif r.state == OffsetState.KNOWN:
            return False
        if packet.timestamp_pos:
            r.secondary_value = load32(buf, packet.timestamp_pos)
            r.flags |= ConnectionFlag.HAS_TIMESTAMP
        if packet.flags & TcpFlag.ACK:
            self._note_due(row, packet.ack, is_new)
        return is_new

    cdef int _note_due(self, int row, long long due, bint is_new) noexcept nogil:
        """Where the client's side begins for the guest; and for the client, if the primary accepted no payload."""
        cdef RewriteRow* r = &self.at[row]
        begin: cython.longlong = seq_add(r.claim_isn, 1)
        takes_payload: cython.bint = r.flags & ConnectionFlag.CLAIM and due == r.claim_end
        if takes_payload:
            r.first = begin
        elif is_new or due != r.due:
            r.first = due
        if takes_payload or due == begin:
            r.flags &= ~ConnectionFlag.CLAIM
        r.due = due
        r.flags |= ConnectionFlag.DUE
        return 0

    cdef bint completes(self, int row, Packet packet) noexcept nogil:
        """Whether a client's segment (no SYN, no RST) completes the guest's current handshake."""
        cdef RewriteRow* r = &self.at[row]
        if not r.flags & ConnectionFlag.DUE or not packet.flags & TcpFlag.ACK:
            return False
        return packet.seq == r.due or packet.seq == r.first

    cdef bint answers(self, int row, Packet packet) noexcept nogil:
        """Whether a segment from outside is a SYN|ACK to the guest's SYN, and the guest has acknowledged none yet."""
        cdef RewriteRow* r = &self.at[row]
        both: cython.int = TcpFlag.SYN | TcpFlag.ACK
        if packet.flags & (both | TcpFlag.RST) != both:
            return False
        if r.state == OffsetState.AWAITING_PRIMARY:
            return r.flags & ConnectionFlag.OPENS != 0
        return r.flags & ConnectionFlag.TENTATIVE != 0

    cdef int learn(self, int row, uint8_t* buf, Packet packet, bint is_answer) noexcept nogil:
        """A segment that acknowledges the primary's SYN and echoes its TSval. `is_answer`: it is a SYN|ACK."""
        cdef RewriteRow* r = &self.at[row]
        if is_answer:
            if r.flags & ConnectionFlag.TENTATIVE:
                r.other_isn = r.answer_isn
                r.other_seq_offset = r.seq_offset
                r.other_ts_offset = r.ts_offset
                r.flags |= ConnectionFlag.ALTERNATIVE
            r.answer_isn = packet.seq
            r.flags |= ConnectionFlag.TENTATIVE
        r.state = OffsetState.KNOWN
        if r.flags & ConnectionFlag.OWN:
            return 0
        primary_isn: cython.longlong = seq_add(packet.ack, -1)
        r.seq_offset = seq_add(r.secondary_isn, -primary_isn)
        r.ts_offset = 0
        if packet.timestamp_pos and r.flags & ConnectionFlag.HAS_TIMESTAMP:
            primary_value: cython.longlong = load32(buf, packet.timestamp_pos + 4)
            if primary_value:
                r.ts_offset = seq_add(r.secondary_value, -primary_value)
        return 0

    cdef int goes_on(self, int row, Packet packet) noexcept nogil:
        """The guest sent a segment other than SYN and RST: it follows no claim, and has chosen its SYN|ACK.

        It keeps its connection (RFC 5961 section 4.2), which may be older than this rewriter.
        """
        cdef RewriteRow* r = &self.at[row]
        flags: cython.int = r.flags & ~(ConnectionFlag.CLAIM | ConnectionFlag.TENTATIVE)
        if r.state == OffsetState.UNKNOWN:
            r.state = OffsetState.KNOWN
        if flags & ConnectionFlag.ALTERNATIVE:
            flags &= ~ConnectionFlag.ALTERNATIVE
            if packet.ack == seq_add(r.other_isn, 1) and r.other_isn != r.answer_isn:
                r.seq_offset = r.other_seq_offset
                r.ts_offset = r.other_ts_offset
        r.flags = flags
        return 0

    cdef int committed(self, int row) noexcept nogil:
        """A checkpoint: the secondary's numbers are now the primary's."""
        cdef RewriteRow* r = &self.at[row]
        flags: cython.int = r.flags & ~_VOIDED_BY_CHECKPOINT
        if not flags & ConnectionFlag.GUEST_FIN_ACKED:
            flags &= ~ConnectionFlag.GUEST_FIN
        r.state = OffsetState.KNOWN
        r.seq_offset = 0
        r.ts_offset = 0
        r.flags = flags
        return 0

    # ── adding ────────────────────────────────────────────────────────────────────────────────────────────────

    cdef int shift(self, int row, uint8_t* buf, Packet packet, int sign) noexcept nogil:
        """Translate a segment of the client for the secondary: ack, SACK edges and TSecr (`sign` 1); or back (-1)."""
        cdef RewriteRow* r = &self.at[row]
        if not packet.flags & TcpFlag.ACK:
            return 0
        if r.seq_offset:
            set_ack(buf, packet, seq_add(packet.ack, sign * cython.cast(cython.longlong, r.seq_offset)))
            shift_sack(buf, packet, sign * cython.cast(cython.longlong, r.seq_offset))
        if r.ts_offset:
            shift_timestamps(buf, packet, 0, sign * cython.cast(cython.longlong, r.ts_offset))
        return 0

    cdef int shift_guest(self, int row, uint8_t* buf, Packet packet, int sign) noexcept nogil:
        """Translate a segment of the secondary for the client: seq (on each one) and TSval (`sign` -1); or back (1)."""
        cdef RewriteRow* r = &self.at[row]
        if r.seq_offset:
            shift_seq(buf, packet, sign * cython.cast(cython.longlong, r.seq_offset))
        if r.ts_offset:
            shift_timestamps(buf, packet, sign * cython.cast(cython.longlong, r.ts_offset), 0)
        return 0

    # ── for another rewriter ──────────────────────────────────────────────────────────────────────────────────

    cdef bint is_told(self, ConnectionTable table, int row) noexcept nogil:
        """Whether a row's offsets are nonzero, or not known yet."""
        cdef RewriteRow* r = &self.at[row]
        if not table.in_use(row):
            return False
        if r.state == OffsetState.KNOWN:
            return r.seq_offset != 0 or r.ts_offset != 0
        return r.state == OffsetState.AWAITING_PRIMARY and not r.flags & ConnectionFlag.OWN

    def has_any(self, table):
        """Whether a connection that has not ended has nonzero offsets."""
        connections: ConnectionTable = table
        row: cython.int = 0
        found: cython.bint = False
        with nogil:
            while row < connections.rows and not found:
                if self.at[row].state == OffsetState.KNOWN and self.is_told(connections, row):
                    found = self.at[row].flags & ConnectionFlag.ENDED == 0
                row += 1
        return found
