"""TCP, the streams: what both sides have sent, and how far they are equal.

::

    primary   ───released───┬──── held frames, in order of arrival ────►
                            │ compared_seq: both streams are equal below (FIN counts as one, RFC 9293 section 3.4)
    secondary ───discarded──┴──── payload extents, sorted by seq ──────►

The comparison works on bytes, not segments: segmentation, retransmission, overlap and order of arrival do not matter.
`pycolo.compare.tcp` builds the rules of release on it.
"""


# A bit of `pool.flags`: the secondary's payload came on its SYN, and has its own numbers.
cdef enum:
    _EARLY = 4096
    _ACKS_IN_FRONT_MAX = 16
cdef long long _WINDOW_MAX = limits.WINDOW_BYTES_MAX
# The state that survives a primary's SYN: the queue's own mark, and what the secondary has sent before it.
cdef int _STREAM_KEPT_BY_SYN = int(_Row.ACTIVE | _Row.ALONE | _Row.SECONDARY_SYN | _Row.MASKABLE)


cdef class ByteStreams:
    """`needs_handshake`: ignore connections whose SYN was not seen. `sees_client`: a client's segment was seen.

    By row: `compared_seq` and `primary_end` (after the last byte or FIN that the primary sent) are TCP's numbers.
    `cursor` is a leader before which everything is compared (see `segments`; -1: the first); `newest_value` the latest
    TSval among overtaking segments; `advanced_us` the time when `compared_seq` last advanced. `resets` counts the
    secondary's RSTs without a partner, `next_resets` those of an incarnation that the primary has not begun;
    `reset_ack` is the latest one's ack, `matched_acks` those of the last two with a partner. `syn_us`, `reset_us`,
    `fin_us`: when the secondary sent what the primary has not. `history`: the secondary's payload below the frontier,
    for retransmissions.
    """

    cdef readonly Held held
    cdef readonly Pool pool
    cdef readonly Shaper shaper
    cdef readonly Promises promises
    cdef readonly History history
    cdef readonly Masks masks
    cdef Asides asides
    cdef public bint needs_handshake
    cdef bint sees_client
    cdef int _mine
    cdef int _theirs

    def __init__(self, held, commits_input, needs_handshake, masks=()):
        self.held = held
        self.pool = held.pool
        self.shaper = Shaper(held.pool)
        self.promises = Promises(held, self.shaper, commits_input)
        self.history = History(held)
        self.masks = Masks(held, self.history, masks)
        self.asides = held.asides
        self.needs_handshake = needs_handshake
        self.sees_client = False
        self._mine = self._theirs = _NONE

    cdef int open_row(self, int row, bint has_syn) noexcept nogil:
        """A new row of the table is a TCP connection."""
        cdef Row* r = &self.held.rows[row]
        self.promises.open_row(row)
        if self.needs_handshake and not has_syn:
            r.flags = RowFlag.LET_THROUGH | RowFlag.BEGAN_BEFORE
        if self.masks.is_for(row):
            r.flags |= RowFlag.MASKABLE
        return 0

    # ── the guests' packets ───────────────────────────────────────────────────────────────────────────────────

    cdef int _primary_syn(self, int row, Packet packet, long long now_us) noexcept nogil:
        """A SYN of the primary; one with a new number begins a new incarnation of the connection (C9)."""
        cdef Row* r = &self.held.rows[row]
        state: cython.int = r.flags
        if state & RowFlag.PRIMARY_SYN and r.primary_isn == packet.seq:
            return 0  # the same SYN again
        # Packets held from the old incarnation were not compared, and never leave.
        self.held.stats.superseded += r.primary.count
        self.held.drop_all_primary(row)
        r.cursor = _NONE
        self.history.forget(row)
        if state & RowFlag.SECONDARY_SYN:
            self._begin_with_secondary(row, packet.seq, state & RowFlag.BASE_KNOWN == 0)
        else:
            self.held.drop_all_secondary(row)
        self._begin_resets(row, packet)
        self.promises.open_row(row)
        r.flags &= _STREAM_KEPT_BY_SYN
        r.flags |= RowFlag.PRIMARY_SYN | RowFlag.BASE_KNOWN
        r.primary_isn = packet.seq
        r.compared_seq = r.primary_end = seq_add(packet.seq, 1)
        r.scale = packet.window_scale if packet.window_scale >= 0 else 0
        return self.held.table.reopen(row, now_us)

    cdef int _begin_resets(self, int row, Packet packet) noexcept nogil:
        """Decide which of the secondary's RSTs belong to the incarnation that the primary begins."""
        cdef Row* r = &self.held.rows[row]
        if not r.aside:
            return 0
        cdef Aside* aside = self.asides.own(r)
        if r.flags & RowFlag.SECONDARY_SYN:
            aside.resets = aside.next_resets
        # A RST that answers the same SYN of the client belongs to this incarnation; all others were the old one's.
        elif not packet.flags & TcpFlag.ACK or aside.reset_ack != packet.ack:
            aside.resets = 0
        aside.next_resets = 0
        return 0

    cdef int _begin_with_secondary(self, int row, long long primary_isn, bint is_first_life) noexcept nogil:
        """The secondary has begun this incarnation already: its packets of an older one are dropped.

        Payload on its SYN (RFC 7413) has its own numbers until the primary's are known.
        """
        cdef Row* r = &self.held.rows[row]
        before: cython.int = _NONE
        record: cython.int = r.secondary.head
        r.secondary_tree = self.held.trees.give_back(r.secondary_tree)
        while record != _NONE:
            following: cython.int = self.pool.at[record].next
            if self.pool.at[record].flags & _EARLY:
                behind: cython.longlong = seq_diff(self.pool.at[record].seq, r.secondary_isn)
                self.pool.at[record].seq = seq_add(primary_isn, behind)
            if is_first_life or self.pool.at[record].flags & _EARLY:
                self.pool.at[record].flags = self.pool.at[record].flags & ~_EARLY
                before = record
            else:
                self.held.drop_secondary(row, before)
            record = following
        return 0

    cdef bint _secondary_syn(self, int row, Packet packet, long long now_us) noexcept nogil:
        """A SYN of the secondary. Returns whether it begins an incarnation that the primary has not begun."""
        cdef Row* r = &self.held.rows[row]
        state: cython.int = r.flags
        known: cython.int = RowFlag.SYN_MATCHED | RowFlag.SECONDARY_SYN
        if state & known and r.secondary_isn == packet.seq:
            return False
        if state & RowFlag.SYN_MATCHED and r.primary_isn == packet.seq:
            return False  # retransmitted with a number that is translated already
        # Its earlier packets belong to the old incarnation, which the primary may not have ended yet.
        self.promises.note_early(row, packet)
        cdef Aside* aside = self.asides.own(r)
        aside.next_resets = 0
        aside.secondary_options = syn_options(packet)
        aside.syn_us = now_us
        r.flags |= RowFlag.SECONDARY_SYN
        r.secondary_isn = packet.seq
        return True

    cdef bint _note_primary_payload(self, int row, int record, Packet packet) noexcept nogil:
        """Record the end of the primary's stream. Returns whether this segment begins with retransmitted payload."""
        cdef Row* r = &self.held.rows[row]
        is_again: cython.bint = False
        seq: cython.longlong = self.pool.at[record].seq
        end: cython.longlong = seq_add(seq, packet.payload_len + (1 if packet.flags & TcpFlag.FIN else 0))
        if not r.flags & RowFlag.BASE_KNOWN:
            # A connection from before the start: the comparison begins with the primary's first segment.
            r.flags |= RowFlag.BASE_KNOWN
            r.compared_seq = seq
            r.primary_end = end
            return False
        if seq_diff(seq, r.primary_end) < 0:
            is_again = packet.payload_len != 0
        r.primary_end = seq_max(r.primary_end, end)
        return is_again

    cdef bint _is_far(self, int row, long long seq) noexcept nogil:
        """Whether a number lies outside every possible window: RFC 7323 section 2.3 has 1 GiB as the largest."""
        cdef Row* r = &self.held.rows[row]
        ahead: cython.longlong = seq_diff(seq, r.compared_seq)
        return r.flags & RowFlag.BASE_KNOWN and not -_WINDOW_MAX <= ahead <= _WINDOW_MAX

    cdef bint _hold_again(self, int row, int record, long long now_us) noexcept nogil:
        """Insert retransmitted payload. True: it contradicts equal payload, and the difference was reported."""
        cdef Record* rec = &self.pool.at[record]
        cdef Row* r = &self.held.rows[row]
        at: cython.Py_ssize_t = -1
        leader: cython.int = self.held.segments.leader_for(r, rec.seq)
        if leader != _NONE:
            prefetch(&self.pool.at[self.pool.at[leader].next])
        if not r.flags & RowFlag.DIVERGED:
            at = self._differs_again(row, record, leader)
        theirs: cython.int = self._theirs
        self._place_again(row, record, leader)
        if at < 0:
            return False
        seq: cython.longlong = seq_add(rec.seq, at)
        if seq_diff(seq, r.compared_seq) < 0:
            self._differ_at(row, DifferenceKind.PAYLOAD, record, theirs, seq, now_us)
            return True
        # Neither is compared yet: find the first byte in which one of the two must differ from the secondary's.
        if r.flags & RowFlag.CONTRADICTED:
            seq = seq_min(self.asides.of(r).contradicted_seq, seq)
        self.asides.own(r).contradicted_seq = seq
        r.flags |= RowFlag.CONTRADICTED
        return False

    cdef int _place_again(self, int row, int record, int leader) noexcept nogil:
        """Insert it before segments that begin after it, and after bare ACKs that do not, if those are few."""
        cdef Row* r = &self.held.rows[row]
        behind: cython.int = self.held.segments.behind_which(leader, record)
        before: cython.int = behind
        other: cython.int = r.primary.head if before == _NONE else self.pool.at[before].next
        steps: cython.int = 0
        while other != _NONE and steps < _ACKS_IN_FRONT_MAX and self.promises.is_bare(other):
            if seq_diff(self.pool.at[other].seq, self.pool.at[record].seq) <= 0:
                before = other
            other = self.pool.at[other].next
            steps += 1
        self.pool.walked += steps
        if before != r.primary.tail:
            self._lift(row, record)
        self.held.hold_primary(row, before, record)
        return self.held.segments.insert(r, leader, behind, record)

    cdef int _lift(self, int row, int record) noexcept nogil:
        """Overtaken segments must not have an older TSval: the client would drop them (PAWS, RFC 7323 section 5.3)."""
        cdef Row* r = &self.held.rows[row]
        if self.pool.at[record].chain != _NONE:
            return 0
        self.shaper.parse(record)
        pos: cython.Py_ssize_t = self.shaper.packet.timestamp_pos
        if pos == 0:
            return 0
        value: cython.longlong = load32(self.pool.arena.memory, pos)
        if r.flags & RowFlag.OVERTAKEN:
            missing: cython.longlong = seq_diff(self.asides.of(r).newest_value, value)
            if missing > 0:
                return shift_timestamps(self.pool.arena.memory, self.shaper.packet, missing, 0)
        self.asides.own(r).newest_value = value
        r.flags |= RowFlag.OVERTAKEN
        return 0

    cdef int release_all(self, int row, long long now_us) noexcept nogil:
        """Release every held primary packet of a connection; returns how many."""
        cdef Row* r = &self.held.rows[row]
        cdef int released = r.primary.count
        cdef int record
        while r.primary.head != _NONE:
            record = self.held.take_primary(row)
            if r.flags & RowFlag.OVERTAKEN:
                self._lift(row, record)
            self._keep_if_in_place(row, record)
            self.held.release(record, now_us)
        r.cursor = _NONE
        r.flags &= ~(RowFlag.CONTRADICTED | RowFlag.OVERTAKEN)
        return released

    cdef inline int _keep_if_in_place(self, int row, int record) noexcept nogil:
        """A packet compared with secondary bytes that were never stored becomes the first copy itself."""
        cdef Record* rec = &self.pool.at[record]
        cdef long long equal = seq_diff(self.held.rows[row].compared_seq, rec.seq)
        if rec.marks & _IN_PLACE and equal > 0:
            rec.payload_len = min(equal, rec.payload_len)
            self.history.keep(row, record)
        return 0

    cdef int _queue_secondary(self, int row, int record) noexcept nogil:
        """Insert by sequence number; discard payload below the frontier, or wholly stored already."""
        cdef Record* rec = &self.pool.at[record]
        cdef Row* r = &self.held.rows[row]
        seq: cython.longlong = rec.seq
        end: cython.longlong = seq_add(seq, rec.payload_len)
        before: cython.int = _NONE
        if r.flags & RowFlag.BASE_KNOWN and seq_diff(end, r.compared_seq) <= 0:
            return self.held.discard(record)
        if r.flags & RowFlag.MASK_STATE and seq_diff(seq, r.compared_seq) < 0:
            seq = self._cut(record, r.compared_seq)
        last: cython.int = r.secondary.tail
        if last == _NONE or seq_diff(seq, self._end(last)) >= 0:
            return self.held.append_extent(row, record)
        before = self.held.trees.find(r.secondary_tree, r.secondary.head, seq, True)
        if before != _NONE and seq_diff(self._end(before), end) >= 0:
            return self.held.discard(record)
        self._drop_contained(row, before, record)
        self.held.hold_secondary(row, before, record)
        if r.secondary_tree != _NONE:
            self.held.trees.insert(r.secondary_tree, record)
        return 0

    cdef Py_ssize_t _cut(self, int record, uint32_t seq) noexcept nogil:
        """Forget the payload in front of a number: below the frontier the primary's may stand for the secondary's."""
        cdef Record* rec = &self.pool.at[record]
        cdef int behind = seq_diff(seq, rec.seq)
        rec.seq = seq
        rec.payload_pos += behind
        rec.payload_len -= behind
        return seq

    cdef int _drop_contained(self, int row, int before, int record) noexcept nogil:
        """Trim the segments after `before` that `record` contains, so that ends increase as beginnings do."""
        cdef Record* rec = &self.pool.at[record]
        cdef Row* r = &self.held.rows[row]
        other: cython.int = r.secondary.head if before == _NONE else self.pool.at[before].next
        while other != _NONE and seq_diff(self._end(other), self._end(record)) <= 0:
            rec.arrived_us = min(rec.arrived_us, self.pool.at[other].arrived_us)  # it has waited since then
            if r.secondary_tree != _NONE:
                self.held.trees.take_out(r.secondary_tree, other)
            self.held.drop_secondary(row, before)
            other = r.secondary.head if before == _NONE else self.pool.at[before].next
        return 0

    cdef Py_ssize_t _end(self, int record) noexcept nogil:
        cdef Record* rec = &self.pool.at[record]
        return seq_add(rec.seq, rec.payload_len)

    # ── comparing ─────────────────────────────────────────────────────────────────────────────────────────────

    cdef int _advance(self, int row) noexcept nogil:
        """Advance `compared_seq` as far as both sides' payload is present and equal.

        Returns why it stopped: 0 for nothing to compare, otherwise a DifferenceKind, between `_mine` and `_theirs`.
        """
        cdef Row* r = &self.held.rows[row]
        mine: cython.int
        theirs: cython.int
        count: cython.longlong
        equal: cython.longlong
        if not r.flags & RowFlag.BASE_KNOWN or r.flags & (
            RowFlag.DIVERGED | RowFlag.LET_THROUGH
        ):
            return 0
        while True:
            theirs = self._secondary_at_frontier(row)
            if theirs == _NONE and not r.flags & RowFlag.SECONDARY_FIN:
                return 0
            mine = self._primary_at_frontier(row)
            if mine == _NONE:
                return 0
            if theirs == _NONE:
                self._mine = mine
                self._theirs = _NONE
                return DifferenceKind.FIN if self.asides.of(r).secondary_fin == r.compared_seq else 0
            frontier: cython.longlong = r.compared_seq
            count = min(seq_diff(self._end(mine), frontier), seq_diff(self._end(theirs), frontier))
            equal = self._equal_bytes(row, mine, theirs, count)
            r.compared_seq = seq_add(frontier, equal)
            self.held.stats.compared_bytes += equal
            if equal < count:
                verdict: cython.int = self.masks.look(row, mine, theirs) if r.flags & RowFlag.MASKABLE else _DIFFERS
                if verdict == _IS_MASKED:
                    continue
                if verdict == _IS_OPEN:
                    return 0
                self._mine = mine
                self._theirs = theirs
                return DifferenceKind.PAYLOAD

    cdef Py_ssize_t _equal_bytes(self, int row, int mine, int theirs, long long count) noexcept nogil:
        """How many of the next `count` bytes agree: `mine` with `theirs`, and with the primary's other copies."""
        cdef Row* r = &self.held.rows[row]
        frontier: cython.longlong = r.compared_seq
        equal: cython.longlong = first_difference(
            self.pool.arena.memory,
            self._byte_pos(mine, frontier),
            self.pool.arena.memory,
            self._byte_pos(theirs, frontier),
            count,
        )
        if r.flags & RowFlag.CONTRADICTED:
            return min(equal, max(0, seq_diff(self.asides.of(r).contradicted_seq, frontier)))
        return equal

    cdef Py_ssize_t _byte_pos(self, int record, long long seq) noexcept nogil:
        """The arena position of the byte with sequence number `seq`."""
        cdef Record* rec = &self.pool.at[record]
        return rec.pos + rec.payload_pos + seq_diff(seq, rec.seq)

    cdef int _secondary_at_frontier(self, int row) noexcept nogil:
        """The secondary's segment with the byte at `compared_seq`, or -1; segments below it become history."""
        cdef Row* r = &self.held.rows[row]
        record: cython.int = r.secondary.head
        while record != _NONE and seq_diff(self._end(record), r.compared_seq) <= 0:
            self.history.take(row, self.held.retire_secondary(row))
            record = r.secondary.head
        if record == _NONE or seq_diff(self.pool.at[record].seq, r.compared_seq) > 0:
            return _NONE
        return record

    cdef int _primary_at_frontier(self, int row) noexcept nogil:
        """The first held primary packet with the byte at `compared_seq`, or -1.

        `cursor` remembers after which leader there may be more to compare.
        """
        cdef Row* r = &self.held.rows[row]
        record: cython.int = r.leads.head if r.cursor == _NONE else r.cursor
        while record != _NONE and seq_diff(self._end(record), r.compared_seq) <= 0:
            self.pool.walked += 1
            r.cursor = record
            record = self.pool.at[record].kept_next
        if record == _NONE:
            return _NONE
        r.cursor = record
        return record if seq_diff(self.pool.at[record].seq, r.compared_seq) <= 0 else _NONE

    cdef int _differ(self, int row, int kind, int mine, int theirs, long long now_us) noexcept nogil:
        """Report a difference at `compared_seq` and apply the policy to the connection."""
        cdef Row* r = &self.held.rows[row]
        return self._differ_at(row, kind, mine, theirs, r.compared_seq, now_us)

    cdef int _differ_at(self, int row, int kind, int mine, int theirs, long long seq,
            long long now_us) noexcept nogil:
        """The same at `seq`, which may lie below the frontier."""
        index: cython.int = self.held.report(kind, row, seq, now_us - self.pool.at[mine].arrived_us)
        self._add_context(index, 0, mine, seq)
        if theirs != _NONE:
            self._add_context(index, 1, theirs, seq)
            self.held.add_masked(index, self.masks.hidden_before(row, &self.held.rows[row], seq))
        return self.apply_policy(row, now_us)

    cdef Py_ssize_t _differs_again(self, int row, int record, int leader) noexcept nogil:
        """The offset in a primary's packet of a byte that differs from an earlier copy, or -1; `_theirs` is that copy.

        Below the frontier, the copy is the secondary's (rule C9), or the primary's: there they are equal. Of the
        waiting segments, the first with a byte is enough: all have been compared with one another. `leader`: the last
        one before it.
        """
        cdef Record* rec = &self.pool.at[record]
        cdef Row* r = &self.held.rows[row]
        at: cython.Py_ssize_t
        if seq_diff(rec.seq, r.compared_seq) < 0:
            at = self.history.differs(row, record, r.compared_seq)
            if at >= 0:
                self._theirs = self.history.theirs
                return at
            if r.secondary.head != _NONE:
                at = self._differs_from(record, r.secondary.head, rec.seq, r.compared_seq)
                if at >= 0:
                    return at
        begin: cython.longlong = rec.seq
        other: cython.int = r.leads.head if leader == _NONE else leader
        while other != _NONE and seq_diff(self.pool.at[other].seq, self._end(record)) < 0:
            self.pool.walked += 1
            at = self._differs_from(record, other, begin, self._end(record))
            if at >= 0:
                return at
            begin = seq_max(begin, self._end(other))
            if seq_diff(begin, self._end(record)) >= 0:
                return -1
            other = self.pool.at[other].kept_next
        return -1

    cdef Py_ssize_t _differs_from(self, int record, int other, long long begin, long long end) noexcept nogil:
        """The offset in `record` of the first byte from `begin` to `end` that `other` has too, and differs; or -1."""
        cdef Record* rec = &self.pool.at[record]
        first: cython.longlong = seq_max(self.pool.at[other].seq, begin)
        last: cython.longlong = seq_min(seq_min(self._end(other), self._end(record)), end)
        if seq_diff(last, first) <= 0:
            return -1
        same: cython.longlong = first_difference(
            self.pool.arena.memory,
            self._byte_pos(record, first),
            self.pool.arena.memory,
            self._byte_pos(other, first),
            seq_diff(last, first),
        )
        if same == seq_diff(last, first):
            return -1
        self._theirs = other
        return seq_diff(first, rec.seq) + same

    cdef int _add_context(self, int index, int side, int record, long long seq) noexcept nogil:
        return self.held.add_context(index, side, record, self._byte_pos(record, seq))

    cdef int apply_policy(self, int row, long long now_us) noexcept nogil:
        """Mark the connection as different."""
        cdef Row* r = &self.held.rows[row]
        policy: cython.int = self.held.policy
        if policy == DivergencePolicy.REPORT or policy == DivergencePolicy.RESET:
            if policy == DivergencePolicy.RESET:
                self._reset_client(row, now_us)
                self.held.drop_all_primary(row)
            self.held.release_different(row, now_us)
            self.history.forget(row)
            self.held.drop_all_secondary(row)
            # A client with a closed window waits for a segment that opens it.
            self.promises.settle(row, now_us)
            r.flags |= RowFlag.LET_THROUGH
            return 0
        r.flags |= RowFlag.DIVERGED
        return 0

    cdef int _reset_client(self, int row, long long now_us) noexcept nogil:
        """RFC 9293 section 3.5.2: a RST that the client accepts, since its number is the one it expects next.

        That is where the first held packet begins, even if more is compared already (RFC 5961 section 3.2).
        """
        cdef Row* r = &self.held.rows[row]
        first: cython.int = r.primary.head
        if first == _NONE:
            return 0
        expected: cython.longlong = seq_min(r.compared_seq, self.pool.at[first].seq)
        record: cython.int = self.shaper.bare_from(first, TcpFlag.RST | TcpFlag.ACK, expected)
        if record == _NONE:
            return 0
        self.held.stats.resets_made += 1
        return self.held.release(record, now_us)
