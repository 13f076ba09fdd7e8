"""TCP, the rules of release (their numbers are the design's).

C1  a packet with payload leaves when all its bytes lie below `compared_seq`;
C2  SYN, FIN and RST leave when the secondary sent the same, the SYNs with the same options;
    C3  the client must not be told to forget or send data with which the secondary could not carry on: see `promises`;
    C8  an act of one guest alone that a client could notice is a difference after compare_timeout: see `onesided`;
    C9  superseded packets never leave; retransmitted payload is compared again: see `history`;
    C11 options that cannot survive a change of replica are removed from both SYNs.

Packets of a connection leave in order of arrival: the first that must wait holds the others. But retransmitted payload
overtakes packets that begin after it: the secondary may be waiting for the client's ACK of just that payload, and would
otherwise never send what the others wait for. And a bare ACK that waits does not hold payload: it becomes a debt.

A frame whose first part is compared but whose rest does not come is split after SPLIT_WAIT_MS: the secondary may be
waiting for the client's ACK of just that part (Nagle, congestion window), and then nothing else would end the wait.
"""


cdef long long _SPLIT_WAIT_US = limits.SPLIT_WAIT_MS * 1000
# A bit of `pool.flags` above TCP's eight: see `held`.


cdef inline int _why_let_through(int flags) noexcept nogil:
    """The `PassReason` of a connection that is LET_THROUGH."""
    if flags & RowFlag.BEGAN_BEFORE:
        return PassReason.OLDER
    return PassReason.SIGNED if flags & RowFlag.AUTHENTICATED else PassReason.DIFFERED


@cython.final
cdef class TcpComparison(OneSide):
    """`split_due_us`: when the earliest frame that waits for a split may be split."""

    cdef long long split_due_us


    def __init__(self, held, commits_input, needs_handshake, masks=()):
        super().__init__(held, commits_input, needs_handshake, masks)
        self.split_due_us = _NEVER

    cdef int close_row(self, int row) noexcept nogil:
        """The row will be removed; it holds no packets."""
        self.asides.drop(&self.held.rows[row])
        return self.history.forget(row)

    # ── facts ─────────────────────────────────────────────────────────────────────────────────────────────────

    cdef int primary(self, int row, int record, Packet packet, long long now_us) noexcept nogil:
        """A primary packet, stored as `record`; `packet` is its parsed form. Readies every packet that may leave."""
        cdef Record* rec = &self.pool.at[record]
        cdef Row* r = &self.held.rows[row]
        flags: cython.int = packet.flags
        if flags & TcpFlag.SYN:
            self._primary_syn(row, packet, now_us)
            self._check_options(row, record)
        rec.flags = flags | (_HAS_SACK if packet.sack_len else 0)
        rec.seq = seq_add(packet.seq, 1) if flags & TcpFlag.SYN else packet.seq
        rec.ack = packet.ack
        rec.window = packet.window
        rec.payload_pos = packet.payload_pos - packet.start
        rec.payload_len = packet.payload_len
        has_bytes: cython.bint = packet.payload_len or flags & TcpFlag.FIN
        if flags & TcpFlag.RST:
            if self.answers_a_lie(row, packet):
                return self.held.drop(record)
            has_bytes = False
            r.flags |= RowFlag.PRIMARY_RST
        elif has_bytes and not r.flags & RowFlag.LET_THROUGH and self._is_far(row, rec.seq):
            return self.held.drop(record)
        elif flags & TcpFlag.ACK:
            self.promises.note_primary(row, packet)
        if has_bytes and flags & TcpFlag.FIN:
            r.flags |= RowFlag.PRIMARY_FIN
        if r.flags & RowFlag.LET_THROUGH:
            return self._let_through(row, record, has_bytes, now_us)
        if has_bytes and self._note_primary_payload(row, record, packet):
            if self._hold_again(row, record, now_us):
                return 0
        else:
            self._hold_last(row, record)
        self._compare_streams(row, now_us)
        if r.flags & RowFlag.REPEATED:
            return self._release_repeated_ack(row, now_us)
        return 0

    cdef int _let_through(self, int row, int record, bint has_bytes, long long now_us) noexcept nogil:
        """Nothing is compared. Record the primary's position, for a checkpoint that makes both equal."""
        cdef Row* r = &self.held.rows[row]
        if has_bytes or not r.flags & RowFlag.BASE_KNOWN:
            self._note_end(row, self._end_with_fin(record))
        if self.pool.at[record].flags & TcpFlag.RST:
            self.held.table.close(row, now_us)
        self.held.stats.let_through += 1
        self.held.uncompared.count(_why_let_through(r.flags), self.pool.at[record].payload_len)
        return self.held.release(record, now_us)

    cdef int _hold_last(self, int row, int record) noexcept nogil:
        """Append a segment that is not a retransmission."""
        cdef Row* r = &self.held.rows[row]
        self.held.hold_primary(row, r.primary.tail, record)
        if self.pool.at[record].payload_len and not self.pool.at[record].flags & TcpFlag.RST:
            return self.held.segments.append_leader(r, record)
        if not self.promises.is_bare(record):
            return self.held.segments.append_follower(r, record)
        return 0

    cdef int _check_options(self, int row, int record) noexcept nogil:
        """C11, on a SYN of either guest."""
        cdef Row* r = &self.held.rows[row]
        if self.pool.at[record].chain != _NONE:
            return 0
        self.shaper.parse(record)
        strip_options(self.pool.arena.memory, self.shaper.packet)
        if not has_authentication(self.pool.arena.memory, self.shaper.packet):
            return 0
        if not r.flags & RowFlag.LET_THROUGH:
            self.held.report(DifferenceKind.UNPROTECTED, row, self.shaper.packet.seq, 0)
            self._leave_alone(row)
        return 0

    cdef int _leave_alone(self, int row) noexcept nogil:
        cdef Row* r = &self.held.rows[row]
        self._watch_alone(row, False)
        self.held.drop_all_secondary(row)
        self.history.forget(row)
        r.flags |= RowFlag.LET_THROUGH | RowFlag.AUTHENTICATED
        return 0

    cdef int secondary(self, int row, int record, Packet packet, long long now_us) noexcept nogil:
        """A secondary packet, stored as `record` (freed or queued here)."""
        cdef Record* rec = &self.pool.at[record]
        cdef Row* r = &self.held.rows[row]
        cdef Aside* aside
        flags: cython.int = packet.flags
        is_repeat: cython.bint = False
        is_early: cython.bint = False
        if flags & TcpFlag.SYN:
            is_early = self._secondary_syn(row, packet, now_us)
        if r.flags & RowFlag.LET_THROUGH:
            # A SYN may begin a new connection with the same key: the primary's SYN will show that.
            return self.held.discard(record)
        rec.seq = packet.seq
        has_bytes: cython.bint = packet.payload_len or flags & TcpFlag.FIN
        if has_bytes and not flags & (TcpFlag.SYN | TcpFlag.RST) and self._is_far(row, packet.seq):
            return self.held.discard(record)
        if flags & TcpFlag.RST:
            self._secondary_reset(row, packet, now_us)
        elif flags & TcpFlag.ACK and not flags & TcpFlag.SYN:
            is_repeat = self.promises.note_secondary(row, record, packet)
        if flags & TcpFlag.SYN:
            return self._secondary_early(row, record, packet, is_early, now_us)
        if flags & TcpFlag.FIN:
            aside = self.asides.own(r)
            if not r.flags & RowFlag.SECONDARY_FIN:
                aside.fin_us = now_us
            aside.secondary_fin = seq_add(packet.seq, packet.payload_len)
            r.flags |= RowFlag.SECONDARY_FIN
        if packet.payload_len and not flags & TcpFlag.RST:
            rec.payload_pos = packet.payload_pos - packet.start
            rec.payload_len = packet.payload_len
            self._queue_secondary(row, record)
        else:
            self.held.discard(record)
        self._compare_streams(row, now_us)
        if r.flags & (RowFlag.DIVERGED | RowFlag.LET_THROUGH):
            return 0  # packets after a difference prove nothing
        if is_repeat and not flags & TcpFlag.FIN and packet.payload_len == 0:
            self._release_repeated_ack(row, now_us)
        return self.promises.pay(row, now_us)

    cdef int _secondary_early(self, int row, int record, Packet packet, bint is_early,
            long long now_us) noexcept nogil:
        """A SYN of the secondary. Its payload (RFC 7413) belongs after the primary's SYN, once that is known."""
        cdef Record* rec = &self.pool.at[record]
        cdef Row* r = &self.held.rows[row]
        state: cython.int = r.flags
        is_next: cython.bint = is_early and (state & RowFlag.SYN_MATCHED or not state & RowFlag.PRIMARY_SYN)
        if not packet.payload_len or (is_next and r.secondary.count):
            self.held.discard(record)
            return self._compare_streams(row, now_us)
        if is_next:
            rec.flags |= _EARLY
        rec.seq = seq_add(packet.seq if is_next else r.primary_isn, 1)
        rec.payload_pos = packet.payload_pos - packet.start
        rec.payload_len = packet.payload_len
        self._queue_secondary(row, record)
        return self._compare_streams(row, now_us)

    cdef int _compare_streams(self, int row, long long now_us) noexcept nogil:
        """Compare what both sides have; equal packets leave before a difference takes effect."""
        cdef Row* r = &self.held.rows[row]
        frontier: cython.longlong = r.compared_seq
        kind: cython.int = self._advance(row)
        if r.compared_seq != frontier:
            r.advanced_us = now_us
        self.release_ready(row, now_us)
        if kind and not r.flags & (RowFlag.DIVERGED | RowFlag.LET_THROUGH):
            self._differ(row, kind, self._mine, self._theirs, now_us)
        if r.flags & RowFlag.FIN_MATCHED:
            self._close_if_done(row, now_us)
        return self._watch_alone(row, self._is_alone(row))

    # ── epochs and time ───────────────────────────────────────────────────────────────────────────────────────

    cdef int flush(self, int row, long long now_us) noexcept nogil:
        """Release everything that is held; the secondary's state no longer counts, except for equal payload."""
        self._watch_alone(row, False)
        self._keep_equal_part(row)
        self.held.drop_all_secondary(row)
        return self.release_all(row, now_us)

    cdef int committed(self, int row, long long now_us) noexcept nogil:
        """The secondary has become a copy of the primary: both have sent and acknowledged the same."""
        cdef Row* r = &self.held.rows[row]
        self.asides.no_resets(r)
        self.promises.settle(row, now_us)
        r.flags = r.flags & ~(
            RowFlag.LET_THROUGH
            | RowFlag.BEGAN_BEFORE
            | RowFlag.AUTHENTICATED
            | RowFlag.DIVERGED
            | RowFlag.SECONDARY_FIN
            | RowFlag.CONTRADICTED
            | RowFlag.SECONDARY_SYN
            | RowFlag.SECONDARY_ACK
            | RowFlag.REPEATED
        )
        r.cursor = _NONE
        r.compared_seq = r.primary_end
        if r.flags & RowFlag.PRIMARY_SYN:
            r.flags |= RowFlag.SYN_MATCHED
            r.secondary_isn = r.primary_isn
        if r.flags & RowFlag.PRIMARY_RST:
            r.flags |= RowFlag.RST_MATCHED
        if r.flags & RowFlag.PRIMARY_FIN:
            r.flags |= RowFlag.FIN_MATCHED
        self.promises.equalise(row)
        return self.asides.tidy(r)

    cdef int mark_older(self, int row, long long now_us) noexcept nogil:
        """The connection began before the secondary was there; it holds no packets."""
        cdef Row* r = &self.held.rows[row]
        self.promises.settle(row, now_us)
        self.history.forget(row)
        r.flags &= (
            RowFlag.ACTIVE | RowFlag.BASE_KNOWN | RowFlag.PRIMARY_ACK | RowFlag.PRIMARY_SYN | RowFlag.MASKABLE
        )
        if self.needs_handshake:
            r.flags = (r.flags | RowFlag.LET_THROUGH | RowFlag.BEGAN_BEFORE) & ~RowFlag.PRIMARY_SYN
        r.flags = r.flags | RowFlag.CONFIRMED  # a copy refuses what the primary refuses
        self.asides.no_resets(r)
        r.cursor = _NONE
        r.compared_seq = r.primary_end
        return self.asides.tidy(r)

    cdef int timed_out(self, int row, int kind, int record, long long now_us) noexcept nogil:
        """`record` has waited for longer than compare_timeout; -1: the secondary alone has sent a SYN, FIN or RST."""
        cdef Record* rec = &self.pool.at[record]
        cdef Row* r = &self.held.rows[row]
        seq: cython.longlong = r.compared_seq
        since_us: cython.longlong = self.alone_since_us(row)
        if record != _NONE:
            seq = rec.seq
            since_us = rec.arrived_us
        side: cython.int = 1 if kind == DifferenceKind.SECONDARY_TIMEOUT else 0
        index: cython.int = self.held.report(kind, row, seq, now_us - since_us)
        if record != _NONE:
            self._add_context(index, side, record, seq)
        if self.held.policy == DivergencePolicy.CHECKPOINT:
            return 0  # the streams may become equal before the checkpoint: only request it
        self.apply_policy(row, now_us)
        return self._watch_alone(row, self._is_alone(row))

    # ── releasing ─────────────────────────────────────────────────────────────────────────────────────────────

    cdef int release_ready(self, int row, long long now_us) noexcept nogil:
        """Release, in order of arrival, every packet that may leave."""
        cdef Row* r = &self.held.rows[row]
        record: cython.int
        verdict: cython.int
        while True:
            record = r.primary.head
            if record == _NONE:
                return 0
            verdict = self._judge(row, record, now_us)
            if verdict == Verdict.DIFFERENT:
                return 0
            if verdict == Verdict.WAIT:
                if not self._pass_bare(row, record, now_us):
                    return self._note_split(row, record)
            else:
                self._let_out(row, record, verdict == Verdict.CLAMP, now_us)

    cdef bint _pass_bare(self, int row, int record, long long now_us) noexcept nogil:
        """Whether a waiting bare ACK became a debt, because a packet after it may leave, or a part of it soon."""
        cdef Row* r = &self.held.rows[row]
        state: cython.int = r.flags
        if not self.promises.is_bare(record) or state & RowFlag.DIVERGED:
            return False
        other: cython.int = self.held.segments.first(r)
        if other == _NONE:
            return False
        is_reset: cython.bint = self.pool.at[other].flags & TcpFlag.RST != 0
        if not is_reset and not state & RowFlag.SECONDARY_ACK:
            return False
        if not self._covered(row, other):
            verdict: cython.int = self._judge(row, other, now_us)
            if verdict != Verdict.RELEASE and verdict != Verdict.CLAMP:
                return False
        if not is_reset:
            self.promises.owe(row, record)
        self._drop_first(row)
        return True

    cdef int _drop_first(self, int row) noexcept nogil:
        """Free the first held packet, a bare ACK whose contents are now owed."""
        self.held.stats.acks_owed += 1
        return self.pool.free(self.held.take_primary(row))

    cdef int _let_out(self, int row, int record, bint is_clamped, long long now_us) noexcept nogil:
        cdef Record* rec = &self.pool.at[record]
        cdef Row* r = &self.held.rows[row]
        flags: cython.int = rec.flags
        if r.flags & RowFlag.OVERTAKEN:
            self._lift(row, record)
        self.held.take_primary(row)
        if r.primary.head == _NONE:
            r.cursor = _NONE
            r.flags &= ~(RowFlag.CONTRADICTED | RowFlag.OVERTAKEN)
        self.promises.leaves(row, record, is_clamped, self._end_with_fin(record))
        if flags & TcpFlag.RST:
            self.held.table.close(row, now_us)
        self.held.stats.compared += 1
        if rec.marks & _IN_PLACE:
            self.history.keep(row, record)
        return self.held.release(record, now_us)

    cdef Py_ssize_t _end_with_fin(self, int record) noexcept nogil:
        return seq_add(self._end(record), 1 if self.pool.at[record].flags & TcpFlag.FIN else 0)

    cdef int _judge(self, int row, int record, long long now_us) noexcept nogil:
        """C1-C3 for a held packet before which nothing waits."""
        cdef Record* rec = &self.pool.at[record]
        cdef Row* r = &self.held.rows[row]
        state: cython.int = r.flags
        flags: cython.int = rec.flags
        if state & RowFlag.DIVERGED:
            return Verdict.WAIT
        if flags & TcpFlag.RST:
            return self._judge_reset(row, record, now_us)
        verdict: cython.int
        if flags & TcpFlag.SYN and not state & RowFlag.SYN_MATCHED:
            verdict = self._judge_syn(row, record, now_us)
            if verdict != Verdict.RELEASE:
                return verdict
        if rec.payload_len and (
            not state & RowFlag.BASE_KNOWN or seq_diff(self._end(record), r.compared_seq) > 0
        ):
            return self._wait_for_payload(row, record, now_us)
        if flags & TcpFlag.FIN:
            verdict = self._judge_fin(row, record, now_us)
            if verdict != Verdict.RELEASE:
                return verdict
        return self.promises.judge(row, record)

    cdef int _wait_for_payload(self, int row, int record, long long now_us) noexcept nogil:
        """A secondary that has reset the connection sends nothing more: that is certain at once (C8)."""
        cdef Row* r = &self.held.rows[row]
        if self.asides.of(r).resets and r.flags & RowFlag.SYN_MATCHED and not r.secondary.count:
            self._differ(row, DifferenceKind.RST, record, _NONE, now_us)
            return Verdict.DIFFERENT
        return Verdict.WAIT

    cdef int _judge_reset(self, int row, int record, long long now_us) noexcept nogil:
        """After one RST of each side, further ones of this incarnation pass; a closed port sends one per client SYN."""
        cdef Record* rec = &self.pool.at[record]
        cdef Row* r = &self.held.rows[row]
        cdef Aside* aside
        state: cython.int = r.flags
        ack: cython.longlong = rec.ack if rec.flags & TcpFlag.ACK else 0
        answers_syn: cython.bint = ack != 0 and not state & RowFlag.BASE_KNOWN
        if state & RowFlag.RST_MATCHED and (not answers_syn or self._is_refused(row, ack)):
            return Verdict.RELEASE
        if self.asides.of(r).resets:
            aside = self.asides.own(r)
            aside.resets = 0 if state & RowFlag.BASE_KNOWN else aside.resets - 1
            aside.matched_acks = (aside.matched_acks & <uint64_t>0xFFFFFFFF) << 32 | ack
            r.flags |= RowFlag.RST_MATCHED
            return Verdict.RELEASE
        if state & RowFlag.SECONDARY_SYN and ack and self.promises.answers(row, ack):  # both answer the same SYN
            r.flags &= ~RowFlag.SECONDARY_SYN
            self._differ(row, DifferenceKind.RST, record, _NONE, now_us)
            return Verdict.DIFFERENT
        return Verdict.WAIT

    cdef int _judge_syn(self, int row, int record, long long now_us) noexcept nogil:
        cdef Record* rec = &self.pool.at[record]
        cdef Row* r = &self.held.rows[row]
        if not r.flags & RowFlag.SECONDARY_SYN:
            if self.asides.of(r).resets and self.asides.of(r).reset_ack == rec.ack:
                self._differ(row, DifferenceKind.RST, record, _NONE, now_us)
                return Verdict.DIFFERENT
            return Verdict.WAIT
        has_ack: cython.bint = rec.flags & TcpFlag.ACK != 0
        if has_ack and not self.promises.answers(row, rec.ack):
            return Verdict.WAIT  # the secondary's answers another SYN of the client
        r.flags &= ~RowFlag.SECONDARY_SYN
        self.shaper.parse(record)
        if syn_options(self.shaper.packet) != self.asides.of(r).secondary_options:
            self._differ(row, DifferenceKind.SYN_OPTIONS, record, _NONE, now_us)
            return Verdict.DIFFERENT
        r.flags |= RowFlag.SYN_MATCHED
        self.promises.take_early(row, has_ack)
        return Verdict.RELEASE

    cdef int _judge_fin(self, int row, int record, long long now_us) noexcept nogil:
        cdef Row* r = &self.held.rows[row]
        fin: cython.longlong = self._end(record)
        if not r.flags & RowFlag.BASE_KNOWN or seq_diff(fin, r.compared_seq) > 0:
            return Verdict.WAIT
        if seq_diff(r.compared_seq, fin) > 0:
            return Verdict.RELEASE  # sent again
        if r.flags & RowFlag.SECONDARY_FIN and self.asides.of(r).secondary_fin == fin:
            r.compared_seq = seq_add(fin, 1)
            r.flags |= RowFlag.FIN_MATCHED
            return Verdict.RELEASE
        if self._secondary_at_frontier(row) != _NONE:
            self._differ(row, DifferenceKind.FIN, record, r.secondary.head, now_us)
            return Verdict.DIFFERENT
        if self.asides.of(r).resets:
            self._differ(row, DifferenceKind.RST, record, _NONE, now_us)
            return Verdict.DIFFERENT
        return Verdict.WAIT

    cdef int _release_repeated_ack(self, int row, long long now_us) noexcept nogil:
        """The secondary repeats an ACK: a waiting ACK of the primary carries that to the client, or the next one."""
        cdef Row* r = &self.held.rows[row]
        record: cython.int = r.primary.head
        if r.flags & (RowFlag.DIVERGED | RowFlag.LET_THROUGH):
            return 0
        if record == _NONE or not self.promises.is_bare(record) or self.pool.at[record].chain != _NONE:
            if self.promises.misses(row):
                r.flags |= RowFlag.REPEATED
            return 0
        r.flags &= ~RowFlag.REPEATED
        self.promises.repeat(row, record, now_us)
        self._drop_first(row)
        return self.release_ready(row, now_us)

    # ── splitting ─────────────────────────────────────────────────────────────────────────────────────────────

    cdef Py_ssize_t _covered(self, int row, int record) noexcept nogil:
        """How many payload bytes of the first held packet are compared, if it waits only for the rest; otherwise 0."""
        cdef Record* rec = &self.pool.at[record]
        cdef Row* r = &self.held.rows[row]
        if (
            rec.flags & (TcpFlag.SYN | TcpFlag.RST)
            or not r.flags & RowFlag.BASE_KNOWN
            or r.flags & RowFlag.DIVERGED
            or rec.chain != _NONE
        ):
            return 0
        covered: cython.longlong = seq_diff(r.compared_seq, rec.seq)
        return covered if 0 < covered < rec.payload_len else 0

    cdef int _note_split(self, int row, int record) noexcept nogil:
        if self._covered(row, record):
            self.split_due_us = min(self.split_due_us, self._waits_since_us(row, record) + _SPLIT_WAIT_US)
        return 0

    cdef Py_ssize_t _waits_since_us(self, int row, int record) noexcept nogil:
        """Since when the first held packet has waited for its rest alone; arriving bytes may soon complete it."""
        cdef Row* r = &self.held.rows[row]
        return max(self.pool.at[record].arrived_us, r.advanced_us)

    cdef int split_due(self, int row, long long now_us) noexcept nogil:
        """Release the compared part of the first held packet, if the rest has delayed it long enough."""
        cdef Row* r = &self.held.rows[row]
        record: cython.int = r.primary.head
        if record == _NONE or not self._covered(row, record):
            return 0
        if now_us - self._waits_since_us(row, record) < _SPLIT_WAIT_US:
            return self._note_split(row, record)
        covered: cython.longlong = self._covered(row, record)
        part: cython.int = self.shaper.part(record, 0, covered)
        rest: cython.int = self.shaper.part(record, covered, self.pool.at[record].payload_len)
        if part == _NONE or rest == _NONE:
            if part != _NONE:
                self.pool.free(part)
            if rest != _NONE:
                self.pool.free(rest)
            return 0
        self.held.stats.splits += 1
        self.held.replace_first(row, part, rest)
        return self.release_ready(row, now_us)
