"""TCP, the straight path: segments in the middle of a connection, which are nearly all segments.

The rules are those of `stream`, `promises` and `tcp`, reduced to the simple case: no flag but ACK and PSH, no option
but timestamps, in order, nothing owed, no unusual state. Any other segment is left to those modules: `take` then
returns False and has changed nothing.

The first of two equal segments is stored, and waits; the second is compared with it in its batch. The stored one then
serves as history, of either guest: the bytes are the same.
"""

cdef struct Segment:
    # A TCP segment of a frame, as far as the straight path reads it. `payload` counts from the frame's start.
    uint32_t[11] key
    uint32_t seq
    uint32_t ack
    int flags
    int window
    int payload
    int payload_len


cdef enum:
    _NO_OPTION_BUT_TIMESTAMPS = 0x0101080A  # NOP, NOP, kind 8, length 10: RFC 7323 appendix A
# Flags that a connection on the straight path may have, and must have.
cdef enum:
    _PLAIN = (
        RowFlag.BASE_KNOWN | RowFlag.PRIMARY_SYN | RowFlag.SYN_MATCHED | RowFlag.SECONDARY_ACK | RowFlag.PRIMARY_ACK
        | RowFlag.ACTIVE | RowFlag.CLIENT_SEEN | RowFlag.CONFIRMED | RowFlag.ACK_STEPPED
        | RowFlag.MASKABLE | RowFlag.MASK_STATE
    )
    _NEEDED = RowFlag.BASE_KNOWN | RowFlag.PRIMARY_ACK | RowFlag.SECONDARY_ACK


cdef inline bint find_segment(const uint8_t* frame, Py_ssize_t size, Segment* s) noexcept nogil:
    """Whether the Ethernet frame is such a segment."""
    cdef Py_ssize_t stop, header
    cdef Py_ssize_t l4 = find_transport(frame, size, IpProto.PROTO_TCP, s.key, &stop)
    if l4 == 0 or stop < l4 + 20:
        return False
    header = (frame[l4 + 12] >> 4) * 4
    s.flags = frame[l4 + 13]
    if s.flags & ~TcpFlag.PSH != TcpFlag.ACK:
        return False
    if header != 20 and (header != 32 or stop < l4 + 32 or load32(frame, l4 + 20) != _NO_OPTION_BUT_TIMESTAMPS):
        return False
    s.seq = load32(frame, l4 + 4)
    s.ack = load32(frame, l4 + 8)
    s.window = load16(frame, l4 + 14)
    s.payload = l4 + header
    s.payload_len = stop - s.payload
    return True


# A table with more rows than this fits no cache: then so many segments of a batch are looked up together.
cdef enum:
    _LARGE = 16384
    _AHEAD_MAX = 16


cdef struct Ahead:
    # A segment of a batch, where its frame lies, and whose it is.
    Segment segment
    Py_ssize_t start
    Py_ssize_t end
    Py_ssize_t vnet_len
    uint32_t hash
    int row


cdef int find_ahead(const uint8_t* buf, Py_ssize_t pos, Py_ssize_t end, bint has_vnet, int most,
        Ahead* found) noexcept nogil:
    """How many of the next frames, at most `most`, are such segments."""
    cdef Py_ssize_t words = 8 if has_vnet else 4
    cdef Ahead* a
    cdef int count = 0
    while count < most and end - pos >= words:
        a = &found[count]
        a.vnet_len = load32(buf, pos + 4) if has_vnet else 0
        a.start = pos + words
        a.end = a.start + load32(buf, pos)
        if not is_vnet_len(a.vnet_len) or a.end > end or a.end - a.start > _FRAMING_LENGTH_MAX:
            break
        if not find_segment(buf + a.start + a.vnet_len, a.end - a.start - a.vnet_len, &a.segment):
            break
        pos = a.end
        count += 1
    return count


@cython.final
cdef class Steady:
    """The connections and queues are those of `held`."""

    cdef ConnectionTable table
    cdef Held held
    cdef Pool pool
    cdef TcpComparison tcp
    cdef Promises promises
    cdef History history
    cdef Segments segments
    cdef SteadyDatagrams datagrams
    cdef int _taken

    def __init__(self, table, held: Held, tcp, datagram):
        self.datagrams = SteadyDatagrams(table, held, datagram)
        self.table = table
        self.held = held
        self.pool = held.pool
        self.tcp = tcp
        self.promises = tcp.promises
        self.history = tcp.history
        self.segments = held.segments
        self._taken = 0

    cdef Py_ssize_t run(self, uint8_t* buf, Py_ssize_t pos, Py_ssize_t end, bint is_primary,
            long long now_us) noexcept nogil:
        """Take frames of a batch while they are on the straight path; returns the position after them."""
        cdef bint has_vnet = self.held.has_vnet
        cdef Py_ssize_t words = 8 if has_vnet else 4
        cdef Py_ssize_t length
        cdef Py_ssize_t vnet_len = 0
        cdef bint is_large = self.table.used > _LARGE
        cdef int window = 1
        cdef int count = 0
        if self.held.trace.is_on:
            return pos
        while end - pos >= words:
            if is_large:
                pos = self._take_ahead(buf, pos, end, window, is_primary, now_us)
                count += self._taken
                if self._taken == window:
                    window = min(2 * window, _AHEAD_MAX)
                    continue
                window = 1
                if end - pos < words:
                    break
            length = load32(buf, pos)
            if has_vnet:
                vnet_len = load32(buf, pos + 4)
                if not is_vnet_len(vnet_len):
                    break
            if length > end - pos - words or length > _FRAMING_LENGTH_MAX:
                break
            if not self.take(buf, pos + words, pos + words + length, vnet_len, is_primary, now_us) and not (
                self.datagrams.take(buf, pos + words, pos + words + length, vnet_len, is_primary, now_us)
            ):
                break
            count += 1
            pos += words + length
        if is_primary:
            self.held.stats.primary_frames += count
        else:
            self.held.stats.secondary_frames += count
        return pos

    cdef inline bint take(self, uint8_t* buf, Py_ssize_t start, Py_ssize_t end, Py_ssize_t vnet_len, bint is_primary,
            long long now_us) noexcept nogil:
        """Whether the frame was handled."""
        cdef Segment s
        if not find_segment(buf + start + vnet_len, end - start - vnet_len, &s):
            return False
        cdef int row = self.table.lookup(s.key, hash_key(s.key, self.table._key0, self.table._key1))
        return self._take_segment(row, buf, start, end, vnet_len, &s, is_primary, now_us)

    cdef inline bint _take_segment(self, int row, uint8_t* buf, Py_ssize_t start, Py_ssize_t end, Py_ssize_t vnet_len,
            Segment* s, bint is_primary, long long now_us) noexcept nogil:
        if row == _NONE or self.table.at[row].list != _ASSURED:
            return False
        cdef int flags = self.held.rows[row].flags
        if flags & ~_PLAIN or flags & _NEEDED != _NEEDED:
            return False
        if self._is_news(&self.held.rows[row], s.ack, is_primary):
            return False
        if is_primary:
            if not self._take_primary_segment(row, buf, start, end, vnet_len, s, now_us):
                return False
        elif not self._take_secondary_segment(row, buf, start, end, vnet_len, s, now_us):
            return False
        self.table.touch(row, now_us)
        return True

    cdef Py_ssize_t _take_ahead(self, uint8_t* buf, Py_ssize_t pos, Py_ssize_t end, int window, bint is_primary,
            long long now_us) noexcept nogil:
        """Take several segments when the table fits no cache: each step for all of them, with prefetches for the next.

        Returns the position after the handled ones; `_taken` is their number. No row is added or removed meanwhile.
        """
        cdef Ahead[16] ahead
        cdef int count = find_ahead(buf, pos, end, self.held.has_vnet, window, ahead)
        cdef int i, row, side
        cdef Ahead* a
        cdef Row* r
        for i in range(count):
            a = &ahead[i]
            a.hash = hash_key(a.segment.key, self.table._key0, self.table._key1)
            self.table.prefetch_bucket(a.hash)
        for i in range(count):
            row = self.table.prefetch_row(ahead[i].hash)
            if row != _NONE:
                r = &self.held.rows[row]
                prefetch(r)
                prefetch(&r.advanced_us)
                prefetch(&r.aside)
        for i in range(count):
            a = &ahead[i]
            a.row = self.table.lookup(a.segment.key, a.hash)
            if a.row != _NONE:
                r = &self.held.rows[a.row]
                side = r.secondary.head if is_primary else r.primary.head
                if side != _NONE:
                    prefetch(&self.pool.at[side])
                if r.kept.tail != _NONE:
                    prefetch(&self.pool.at[r.kept.tail])
        for i in range(count):
            a = &ahead[i]
            if not self._take_segment(a.row, buf, a.start, a.end, a.vnet_len, &a.segment, is_primary, now_us):
                self._taken = i
                return pos
            pos = a.end
        self._taken = count
        return pos

    cdef inline bint _is_news(self, Row* r, uint32_t ack, bint is_primary) noexcept nogil:
        """Whether an ack has a further meaning: it is of a client's FIN, or its scale was never seen."""
        cdef long long ahead = seq_diff(ack, r.primary_ack if is_primary else r.secondary_ack)
        return ahead == 1 or (ahead > 0 and r.scale and not r.flags & RowFlag.PRIMARY_SYN)

    # ── primary ───────────────────────────────────────────────────────────────────────────────────────────────

    cdef inline bint _take_primary_segment(self, int row, uint8_t* buf, Py_ssize_t start, Py_ssize_t end,
            Py_ssize_t vnet_len, Segment* s, long long now_us) noexcept nogil:
        cdef Row* r = &self.held.rows[row]
        cdef bint may_leave = False
        if r.primary.count >= self.held.queue_packets_max or (s.payload_len and s.seq != r.primary_end):
            return False
        if r.primary.head == _NONE and (not s.payload_len or r.secondary.head != _NONE):
            may_leave = self._may_say(r, s.ack, s.window)
            if not may_leave and (s.payload_len or seq_diff(s.ack, r.secondary_ack) <= 0):
                return False  # it leaves with a lower ack, or a smaller window
            if s.payload_len and not self._equals_stored(r, buf + start + vnet_len + s.payload, s.payload_len):
                return False
        if may_leave and self.held.leave_unheld(buf, start, end):
            self._note_primary(r, s)
            self.held.stats.compared += 1
            if s.payload_len:
                self._advance_stored(row, r, s.payload_len, now_us)
            return True
        return self._hold_primary(row, r, buf, start, end, vnet_len, s, now_us)

    cdef inline void _note_primary(self, Row* r, Segment* s) noexcept nogil:
        r.primary_end += s.payload_len
        if seq_diff(s.ack, r.primary_ack) >= 0:
            r.primary_ack = s.ack
            r.primary_space = <long long>s.window << r.scale

    cdef inline bint _hold_primary(self, int row, Row* r, uint8_t* buf, Py_ssize_t start, Py_ssize_t end,
            Py_ssize_t vnet_len, Segment* s, long long now_us) noexcept nogil:
        cdef int record = self.pool.store(buf, start, end - start, vnet_len)
        if record == _NONE:
            return False
        cdef Record* held = &self.pool.at[record]
        held.arrived_us = now_us
        held.flags = s.flags
        held.seq = s.seq
        held.ack = s.ack
        held.window = s.window
        held.payload_pos = s.payload + vnet_len
        held.payload_len = s.payload_len
        self._note_primary(r, s)
        self.pool.push(&r.primary, record)
        self.held._pin(row)
        if s.payload_len:
            self.segments.append_leader(r, record)
        if r.secondary.head != _NONE or not s.payload_len:
            self.tcp._compare_streams(row, now_us)
        return True

    cdef inline bint _equals_stored(self, Row* r, const uint8_t* payload, Py_ssize_t length) noexcept nogil:
        """Whether the bytes at the frontier equal the secondary's stored packets, all of them."""
        cdef int record = r.secondary.head
        cdef uint32_t frontier = r.compared_seq
        cdef Record* stored
        cdef long long skip, count
        if frontier != r.primary_end:
            return False
        while record != _NONE:
            stored = &self.pool.at[record]
            skip = seq_diff(frontier, stored.seq)
            if skip < 0 or skip >= stored.payload_len:
                return False
            count = min(stored.payload_len - skip, length)
            if memcmp(self.pool.arena.memory + stored.pos + stored.payload_pos + skip, payload, count):
                return False
            frontier += count
            payload += count
            length -= count
            if length == 0:
                return True
            record = stored.next
        return False

    cdef inline int _advance_stored(self, int row, Row* r, int length, long long now_us) noexcept nogil:
        """What `_equals_stored` has found: advance the frontier; packets below it become history."""
        cdef int record = r.secondary.head
        r.compared_seq += length
        r.advanced_us = now_us
        self.held.stats.compared_bytes += length
        while record != _NONE and seq_diff(self.pool.at[record].seq + self.pool.at[record].payload_len,
                r.compared_seq) <= 0:
            self.pool.pop_first(&r.secondary)
            if r.secondary_tree != _NONE:
                self.held.trees.take_first(r.secondary_tree, record)
                self.held._drop_tree(r)
            self.held._unpin(row, 1)
            self.held.stats.discarded += 1
            self.history.take(row, record)
            record = r.secondary.head
        return 0

    cdef inline bint _may_say(self, Row* r, uint32_t ack, int window) noexcept nogil:
        """Rule C3: whether the secondary has acknowledged and offered as much."""
        if not self.promises.commits_input:
            return True
        cdef long long ahead = seq_diff(ack, r.secondary_ack)
        return ahead <= 0 and (<long long>window << r.scale) <= r.secondary_space - ahead

    # ── secondary ─────────────────────────────────────────────────────────────────────────────────────────────

    cdef inline bint _take_secondary_segment(self, int row, uint8_t* buf, Py_ssize_t start, Py_ssize_t end,
            Py_ssize_t vnet_len, Segment* s, long long now_us) noexcept nogil:
        cdef Row* r = &self.held.rows[row]
        cdef bint is_repeat
        if not s.payload_len:
            is_repeat = self._note_secondary(r, s)
            self.held.stats.discarded += 1
            if r.primary.head != _NONE:
                self.tcp._compare_streams(row, now_us)
                if is_repeat:
                    self.tcp._release_repeated_ack(row, now_us)
            return self._pay(row, now_us)
        if r.primary.head == _NONE:
            return self._store_secondary(row, r, buf, start, end, vnet_len, s, now_us)
        if r.secondary.head != _NONE or s.seq != r.compared_seq:
            return False
        if not self._equals_held(r, buf + start + vnet_len + s.payload, s.payload_len):
            return False
        self._note_secondary(r, s)
        self.held.stats.discarded += 1
        r.compared_seq += s.payload_len
        r.advanced_us = now_us
        self.held.stats.compared_bytes += s.payload_len
        self._release_compared(row, r, now_us)
        if r.primary.head != _NONE:
            self.tcp.release_ready(row, now_us)
        return self._pay(row, now_us)

    cdef inline bint _store_secondary(self, int row, Row* r, uint8_t* buf, Py_ssize_t start, Py_ssize_t end,
            Py_ssize_t vnet_len, Segment* s, long long now_us) noexcept nogil:
        """Store a segment that is in order, and ahead of the primary."""
        cdef uint32_t expected = r.compared_seq
        cdef Record* held
        cdef int record
        if r.secondary.tail != _NONE:
            held = &self.pool.at[r.secondary.tail]
            expected = held.seq + held.payload_len
        if s.seq != expected or r.secondary.count >= self.held.queue_packets_max:
            return False
        record = self.pool.store(buf, start, end - start, vnet_len)
        if record == _NONE:
            return False
        held = &self.pool.at[record]
        held.arrived_us = now_us
        held.flags = s.flags
        held.seq = s.seq
        held.payload_pos = s.payload + vnet_len
        held.payload_len = s.payload_len
        self._note_secondary(r, s)
        self.held.append_extent(row, record)
        return True

    cdef inline bint _pay(self, int row, long long now_us) noexcept nogil:
        if self.held.rows[row].flags & RowFlag.OWED:
            self.promises.pay(row, now_us)
        return True

    cdef inline bint _note_secondary(self, Row* r, Segment* s) noexcept nogil:
        """Whether this acknowledges nothing new."""
        cdef long long space = <long long>s.window << r.scale
        cdef long long ahead = seq_diff(s.ack, r.secondary_ack)
        if ahead < 0:
            return False
        cdef bint is_repeat = ahead == 0 and space == r.secondary_space
        r.secondary_ack = s.ack
        r.secondary_space = space
        if r.block_count:
            r.block_count = 0
            self.held.asides.tidy(r)
        return is_repeat

    cdef inline bint _equals_held(self, Row* r, const uint8_t* payload, Py_ssize_t length) noexcept nogil:
        """Whether the bytes at the frontier equal the primary's held packets, all of them."""
        cdef int record = r.cursor if r.cursor != _NONE else r.leads.head
        cdef uint32_t frontier = r.compared_seq
        cdef Record* held
        cdef long long skip, count
        while True:
            if record == _NONE:
                return False
            held = &self.pool.at[record]
            skip = seq_diff(frontier, held.seq)
            if skip >= held.payload_len:
                record = held.kept_next
                continue
            if skip < 0 or held.chain != _NONE or held.flags & (TcpFlag.SYN | TcpFlag.FIN):
                return False
            count = min(held.payload_len - skip, length)
            if memcmp(self.pool.arena.memory + held.pos + held.payload_pos + skip, payload, count):
                return False
            held.marks |= _IN_PLACE
            frontier += count
            length -= count
            if length == 0:
                r.cursor = record
                return True
            payload += count
            record = held.kept_next

    cdef inline int _release_compared(self, int row, Row* r, long long now_us) noexcept nogil:
        """Release payload below the frontier that may leave as it is, as long as it comes first."""
        cdef int record = r.primary.head
        cdef Record* held
        while record != _NONE:
            held = &self.pool.at[record]
            if not held.marks & _IN_PLACE or held.flags & _HAS_SACK:
                return 0
            if seq_diff(held.seq + held.payload_len, r.compared_seq) > 0 or not self._may_say(r, held.ack, held.window):
                return 0
            self.segments.take_first(r, record)
            self.pool.pop_first(&r.primary)
            self.held._unpin(row, 1)
            self.held.stats.compared += 1
            self.history.keep(row, record)
            self._release(record, now_us)
            record = r.primary.head
        r.cursor = _NONE
        return 0

    cdef inline int _release(self, int record, long long now_us) noexcept nogil:
        self.held._count_hold(now_us - self.pool.at[record].arrived_us)
        self.held.stats.released += 1
        return self.held.make_ready(record)
