"""TCP, one side alone (rule C8): acts of the secondary without the primary's, and waits that only the client can end.

A secondary's payload ages where it is held. Its SYN, FIN or RST is not held: the row is *watched* until the primary
does the same. If the client's segments are seen, a wait that its ACK will end does not age, for CLIENT_WAIT_MS.

A primary without a secondary is followed, too: a checkpoint starts at its position.
"""


cdef long long _CLIENT_WAIT_US = limits.CLIENT_WAIT_MS * 1000
cdef long long _RESET_SPAN = limits.RESET_SPAN_BYTES
cdef long long _NEVER = 0x4000000000000000


cdef class OneSide(ByteStreams):
    """`_client_moved_us`, by row: when the client's ack last advanced."""

    cdef long long* _client_moved_us

    def __dealloc__(self):
        release_column(self._client_moved_us)

    def __init__(self, held, commits_input, needs_handshake, masks=()):
        super().__init__(held, commits_input, needs_handshake, masks)
        self._client_moved_us = <long long*>column(
            self._client_moved_us, held.table.rows_max, sizeof(long long), 0
        )

    cdef int client(self, int row, uint8_t* buf, Packet packet, long long now_us) noexcept nogil:
        """A segment of the client on its way to the primary: it shows what the client has. A hint, never proof alone.

        Its number must be one that the primary could expect, its ack a number that has left, its checksum correct.
        """
        cdef Row* r = &self.held.rows[row]
        state: cython.int = r.flags
        if not packet.flags & TcpFlag.ACK or packet.flags & (TcpFlag.SYN | TcpFlag.RST):
            return 0
        if not state & RowFlag.BASE_KNOWN or not state & RowFlag.PRIMARY_ACK or state & RowFlag.LET_THROUGH:
            return 0
        behind: cython.longlong = seq_diff(packet.seq, r.primary_ack)
        if behind > r.primary_space or behind < 0:
            return 0
        if seq_diff(packet.ack, r.compared_seq) > 0:
            return 0
        is_news: cython.bint = not state & RowFlag.CLIENT_SEEN or seq_diff(packet.ack, r.client_ack) > 0
        if not (is_news or packet.flags & TcpFlag.FIN) or not is_intact(buf, packet):
            return 0
        if packet.flags & TcpFlag.FIN:
            r.client_end = seq_add(packet.seq, packet.payload_len + 1)
            r.flags |= RowFlag.CLIENT_FIN
        if is_news:
            r.flags |= RowFlag.CLIENT_SEEN
            self.held.table.resume(row, now_us)  # from now on the client's segments show when it ends
            r.client_ack = packet.ack
            self._client_moved_us[row] = now_us
            self.history.acknowledged(row, packet.ack)
        return self._close_if_done(row, now_us)

    cdef int _close_if_done(self, int row, long long now_us) noexcept nogil:
        """Both FINs are acknowledged: the row is removed CLOSED_GRACE_MS later. Until then it may still be half-open.

        If the client is not seen, only its FIN's ack is a sign, and an uncertain one: then silence decides.
        """
        cdef Row* r = &self.held.rows[row]
        both: cython.int = RowFlag.FIN_MATCHED | RowFlag.CLIENT_FIN
        if r.flags & (both | RowFlag.CLIENT_SEEN) == RowFlag.FIN_MATCHED:
            if self.promises.has_taken_fin(row):
                return self.held.table.ending(row, now_us)
            return self.held.table.resume(row, now_us)
        if r.flags & both != both or r.client_ack != r.compared_seq:
            return 0
        if seq_diff(r.primary_ack, r.client_end) < 0:
            return 0
        if seq_diff(r.secondary_ack, r.client_end) < 0:
            return 0
        return self.held.table.close(row, now_us)

    cdef int alone(self, int row, Packet packet, long long now_us) noexcept nogil:
        """A segment of a primary without a secondary, before it leaves: record end, ack, window and scale."""
        if packet.flags & TcpFlag.SYN:
            self._primary_syn(row, packet, now_us)
        if packet.flags & TcpFlag.RST:
            return self.held.table.close(row, now_us)
        if packet.flags & TcpFlag.ACK:
            self.promises.note_primary(row, packet)
        one: cython.int = 1 if packet.flags & (TcpFlag.SYN | TcpFlag.FIN) else 0
        return self._note_end(row, seq_add(packet.seq, packet.payload_len + one))

    cdef int _note_end(self, int row, long long end) noexcept nogil:
        """Uncompared payload counts as equal."""
        cdef Row* r = &self.held.rows[row]
        if not r.flags & RowFlag.BASE_KNOWN or seq_diff(end, r.primary_end) > 0:
            r.primary_end = r.compared_seq = end
        r.flags |= RowFlag.BASE_KNOWN
        return 0

    cdef int _keep_equal_part(self, int row) noexcept nogil:
        """Before the secondary's segments are freed: the first one's part below the frontier becomes history."""
        cdef Row* r = &self.held.rows[row]
        if not r.flags & RowFlag.BASE_KNOWN:
            return 0
        record: cython.int = r.secondary.head
        if record == _NONE:
            return 0
        equal: cython.longlong = seq_diff(r.compared_seq, self.pool.at[record].seq)
        if 0 < equal < self.pool.at[record].payload_len:
            self.pool.at[record].payload_len = equal
            self.history.take(row, self.held.retire_secondary(row))
        return 0

    # ── segments to withhold from the secondary (rule R1) ─────────────────────────────────────────────────────

    cdef bint turns_down(self, int row, Packet packet) noexcept nogil:
        """Whether the primary's guest, which has sent a SYN, refuses a client's ACK of something else.

        If it acknowledges that SYN, with the number that the guest expects, there is no need to check again.
        """
        cdef Row* r = &self.held.rows[row]
        state: cython.int = r.flags
        if state & (RowFlag.PRIMARY_SYN | RowFlag.CONFIRMED | RowFlag.LET_THROUGH) != RowFlag.PRIMARY_SYN:
            return False
        if packet.flags & TcpFlag.RST and state & RowFlag.PRIMARY_ACK:
            return False  # judged by its number, not by its ack
        said: cython.longlong = seq_add(r.primary_end, -cython.cast(cython.longlong, r.primary_isn))
        acked: cython.longlong = seq_add(packet.ack, -cython.cast(cython.longlong, r.primary_isn))
        if acked == 0 or acked > said:
            return True
        is_first: cython.bint = state & RowFlag.PRIMARY_ACK and packet.seq == r.primary_ack
        if is_first and not packet.flags & (TcpFlag.SYN | TcpFlag.RST):
            r.flags = state | RowFlag.CONFIRMED
        return False

    cdef bint may_take(self, int row, Packet packet) noexcept nogil:
        """Whether one of the guests may accept a client's segment into its present connection."""
        cdef Row* r = &self.held.rows[row]
        state: cython.int = r.flags
        if state & RowFlag.LET_THROUGH or state & (RowFlag.PRIMARY_SYN | RowFlag.CONFIRMED) == RowFlag.PRIMARY_SYN:
            return True
        if not state & RowFlag.PRIMARY_ACK or self.held.table.is_closed(row):
            return False
        first: cython.longlong = r.primary_ack
        if state & RowFlag.SECONDARY_ACK:
            first = seq_min(first, r.secondary_ack)
        ahead: cython.longlong = seq_diff(packet.seq, r.primary_ack)
        return seq_diff(packet.seq, first) >= -1 and ahead <= r.primary_space

    cdef bint answers_a_lie(self, int row, Packet packet) noexcept nogil:
        """Whether a RST of the primary answers a withheld segment: no client accepts its number.

        The primary has sent only its SYN, and this RST does not end the connection.
        """
        cdef Row* r = &self.held.rows[row]
        known: cython.int = RowFlag.PRIMARY_SYN | RowFlag.LET_THROUGH
        if not self.sees_client or r.flags & known != RowFlag.PRIMARY_SYN:
            return False
        end: cython.longlong = r.primary_end
        has_ack: cython.bint = packet.flags & TcpFlag.ACK != 0
        return not has_ack and end == seq_add(r.primary_isn, 1) and packet.seq != end

    # ── the secondary alone ───────────────────────────────────────────────────────────────────────────────────

    cdef int _secondary_reset(self, int row, Packet packet, long long now_us) noexcept nogil:
        """A RST of the secondary. It counts if the client could accept its number (RFC 5961)."""
        cdef Row* r = &self.held.rows[row]
        cdef Aside* aside
        state: cython.int = r.flags
        ack: cython.longlong = packet.ack if packet.flags & TcpFlag.ACK else 0
        if state & RowFlag.SECONDARY_SYN and not state & RowFlag.SYN_MATCHED:
            aside = self.asides.own(r)
            aside.next_resets += 1
            aside.reset_us = now_us
            return 0
        is_further: cython.bint = state & RowFlag.RST_MATCHED != 0 or self.asides.of(r).resets != 0
        if state & RowFlag.BASE_KNOWN:
            ahead: cython.longlong = seq_diff(packet.seq, r.compared_seq)
            is_answer: cython.bint = not state & RowFlag.SYN_MATCHED and ack == r.primary_ack
            if not is_answer and (ahead > _RESET_SPAN or ahead < -_RESET_SPAN):
                return 0
            if not is_answer and state & RowFlag.PRIMARY_SYN and not state & RowFlag.SYN_MATCHED:
                return 0  # only the primary has a new incarnation: the secondary resets the old one
            if state & RowFlag.RST_MATCHED:
                return 0
        elif is_further and (ack == 0 or (state & RowFlag.RST_MATCHED and self._is_refused(row, ack))):
            return 0  # a closed port's first RST answers a SYN; what follows answers other segments
        aside = self.asides.own(r)
        if aside.resets == 0:
            aside.reset_us = now_us
        aside.reset_ack = ack
        aside.resets += 1
        return 0

    cdef bint _is_refused(self, int row, long long ack) noexcept nogil:
        """Whether both guests have answered the SYN that `ack` acknowledges with a RST."""
        cdef uint64_t acks = self.asides.of(&self.held.rows[row]).matched_acks
        return ack == <uint32_t>(acks >> 32) or ack == <uint32_t>acks

    cdef Py_ssize_t alone_since_us(self, int row) noexcept nogil:
        """Since when an act of the secondary that the client could notice, besides payload, lacks the primary's."""
        cdef Row* r = &self.held.rows[row]
        cdef const Aside* aside = self.asides.of(r)
        state: cython.int = r.flags
        since_us: cython.longlong = _NEVER
        if state & (RowFlag.LET_THROUGH | RowFlag.DIVERGED):
            return _NEVER
        if state & RowFlag.SECONDARY_SYN:
            since_us = aside.syn_us
        if aside.resets:
            since_us = min(since_us, aside.reset_us)
        if state & RowFlag.SECONDARY_FIN and (
            not state & RowFlag.BASE_KNOWN or seq_diff(r.compared_seq, aside.secondary_fin) <= 0
        ):
            since_us = min(since_us, aside.fin_us)
        return since_us

    cdef bint _is_alone(self, int row) noexcept nogil:
        return self.alone_since_us(row) != _NEVER

    cdef int _watch_alone(self, int row, bint is_alone) noexcept nogil:
        """Let the timer see a watched row, with or without packets."""
        cdef Row* r = &self.held.rows[row]
        if is_alone and not r.flags & RowFlag.ALONE:
            return self.held.watch(row)
        if not is_alone and r.flags & RowFlag.ALONE:
            return self.held.unwatch(row)
        return 0

    cdef Py_ssize_t waits_from_us(self, int row, int record, long long since_us, long long now_us) noexcept nogil:
        """From when a wait that began at `since_us` counts: not while only the client's ACK can end it.

        No ACK of the client ends a SYN or a RST of one side alone. `record`: the packet that waits, or -1.
        """
        cdef Row* r = &self.held.rows[row]
        state: cython.int = r.flags
        if self.asides.of(r).resets or state & RowFlag.SECONDARY_SYN:
            return since_us
        if state & RowFlag.PRIMARY_RST and not state & RowFlag.RST_MATCHED:
            return since_us
        if record != _NONE and self.pool.at[record].flags & (TcpFlag.SYN | TcpFlag.RST):
            return since_us
        if not r.flags & RowFlag.CLIENT_SEEN or now_us - since_us > _CLIENT_WAIT_US:
            return since_us
        if seq_diff(r.client_ack, r.compared_seq) < 0:
            return now_us
        return max(since_us, self._client_moved_us[row])
