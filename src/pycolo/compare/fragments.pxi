"""IP datagrams reassembled from their fragments (RFC 791 section 3.2, RFC 8200 section 4.5, RFC 5722).

Identifications differ between the two guests, and the cuts may: only whole datagrams can be compared. Each side has a
bounded number of incomplete datagrams. A complete one becomes one record that looks like an unfragmented frame and
keeps its fragments (`pool.chain`), so that the primary's own fragments leave.

A datagram that stays incomplete for the compare time-out, or can never be completed (overlap, contradicting ends, too
many pieces), is *given up*: its fragments are dropped, never released (rule C9), and so are later ones, for as long as
a client could reassemble them. It is a difference (C8), unless the other side has an incomplete one with the same ends:
then both guests behave alike (routers do, with a stranger's packets), and the client gets neither.
"""


cdef int _FRAGMENTS_MAX = limits.FRAGMENTS_MAX
cdef enum:
    _DATAGRAM_MAX = 65535
cdef long long _FORGET_US = limits.FRAGMENT_FORGET_MS * 1000


@cython.final
cdef class Reassembly:
    """Datagrams of one side: incomplete, or given up and not forgotten yet. `other`: the other side's.

    A datagram is identified by its ends, protocol and VLAN (eleven words, as in the connection table, ports 0) and its
    identification; it needs no row of that table. For fragment records `pool.seq` is the offset of the data,
    `pool.payload_pos`/`payload_len` its place, and `pool.flags` 1 if more fragments follow. `received` counts the bytes
    that have arrived, without copies; `total` is -1 until the last fragment arrives. `reach`: the farthest end. `told`:
    it is not a difference, or was reported as one. `stood_us`: when this side was last not read, so that no fragment
    could arrive.
    """

    cdef Held held
    cdef Pool pool
    cdef bint is_primary
    cdef long long timeout_us
    cdef public Reassembly other
    cdef long long stood_us
    cdef Slots slots
    cdef Pieces _pieces
    cdef long long _fragments
    cdef long long _bytes
    cdef long long _fragments_max
    cdef long long _bytes_max
    cdef long long _next_full_us
    cdef Packet _packet
    cdef uint32_t[11] _wanted
    cdef int* _told
    cdef int* _head
    cdef int* _tail
    cdef long long* _since_us
    cdef int* _count
    cdef int* _received
    cdef int* _total
    cdef int* _reach

    def __dealloc__(self):
        release_column(self._told)
        release_column(self._head)
        release_column(self._tail)
        release_column(self._since_us)
        release_column(self._count)
        release_column(self._received)
        release_column(self._total)
        release_column(self._reach)

    def __init__(self, held: Held, is_primary, timeout_us):
        self.held = held
        self.pool = held.pool
        self.is_primary = is_primary
        self.timeout_us = timeout_us
        self.other = self
        self.stood_us = 0
        self.slots = Slots(held.table, held.pool)
        self._pieces = Pieces(held.table, held.pool)
        self._fragments = self._bytes = 0
        self._fragments_max = max(16, held.pool.records_max // limits.SHARE_MAX)
        self._bytes_max = max(2 * _DATAGRAM_MAX, held.pool.budget_bytes // limits.SHARE_MAX)
        self._next_full_us = 0
        self._packet = Packet()
        self._told = <int*>column(self._told, _SLOTS, sizeof(int), 0)
        self._head = <int*>column(self._head, _SLOTS, sizeof(int), -1)
        self._tail = <int*>column(self._tail, _SLOTS, sizeof(int), -1)
        self._since_us = <long long*>column(self._since_us, _SLOTS, sizeof(long long), 0)
        self._count = <int*>column(self._count, _SLOTS, sizeof(int), 0)
        self._received = <int*>column(self._received, _SLOTS, sizeof(int), 0)
        self._total = <int*>column(self._total, _SLOTS, sizeof(int), 0)
        self._reach = <int*>column(self._reach, _SLOTS, sizeof(int), 0)

    @property
    def used(self):
        """Datagrams that are incomplete, or given up and not forgotten."""
        return self.slots.used

    # ── arriving fragments ────────────────────────────────────────────────────────────────────────────────────

    cdef int add(self, int record, Packet packet, long long now_us) noexcept nogil:
        """A fragment, stored as `record`: returns the slot of the datagram that it completes, otherwise -1.

        `assemble` a complete one, then either `finish` it, or `retract` the fragment, which will be offered again.
        """
        self.pool.at[record].seq = packet.fragment_offset
        self.pool.at[record].payload_pos = packet.payload_pos - packet.start
        self.pool.at[record].payload_len = packet.payload_len
        self.pool.at[record].flags = 1 if packet.more_fragments else 0
        slot: cython.int = self._find(packet)
        if slot != _NONE and self._is_late(slot, now_us):
            if self.slots.state[slot] == _MAKING:
                self.give_up(slot, now_us)
            elif now_us - self._since_us[slot] >= self.timeout_us + _FORGET_US:
                self._forget(slot, now_us)
                slot = _NONE
        if slot == _NONE:
            slot = self._open(packet, now_us)
        elif self.slots.state[slot] == _GIVEN_UP:
            self._drop(record)
            return _NONE
        fits: cython.int = self._fits(slot, record)
        self._append(slot, record)
        if not fits or self._count[slot] > _FRAGMENTS_MAX:
            self.give_up(slot, now_us)
            return _NONE
        if fits == 1:
            self._put(slot, record)
            if not packet.more_fragments:
                self._total[slot] = packet.fragment_offset + packet.payload_len
            if self._received[slot] == self._total[slot]:
                return slot
        if self._fragments > self._fragments_max or self._bytes > self._bytes_max:
            self._make_room(self.slots.oldest[_MAKING], now_us)
        return _NONE

    cdef int _fits(self, int slot, int record) noexcept nogil:
        """1: a new part; 2: an exact copy (RFC 8200 section 4.5); 0: it cannot be a part."""
        start: cython.longlong = self.pool.at[record].seq
        length: cython.longlong = self.pool.at[record].payload_len
        end: cython.longlong = start + length
        more: cython.int = self.pool.at[record].flags
        total: cython.longlong = self._total[slot]
        if length == 0 or end > _DATAGRAM_MAX or (more and length & 7):
            return 0
        if self._pieces.overlaps(slot, start, end):
            other: cython.int = self._pieces.at(slot, start)
            if other == _NONE or self.pool.at[other].payload_len != length or self.pool.at[other].flags != more:
                return 0
            return 2 if self._same_data(record, other, length) else 0
        if not more and self._reach[slot] > end:
            return 0
        if total >= 0 and (not more or end > total):
            return 0
        return 1

    cdef int _put(self, int slot, int record) noexcept nogil:
        """Add a new part."""
        cdef int start = self.pool.at[record].seq
        cdef int end = start + self.pool.at[record].payload_len
        self._pieces.put(slot, start, end, record)
        self._reach[slot] = max(self._reach[slot], end)
        self._received[slot] += end - start
        return 0

    cdef bint _same_data(self, int a, int b, long long length) noexcept nogil:
        return (
            first_difference(
                self.pool.arena.memory,
                self.pool.at[a].pos + self.pool.at[a].payload_pos,
                self.pool.arena.memory,
                self.pool.at[b].pos + self.pool.at[b].payload_pos,
                length,
            )
            == length
        )

    cdef int _append(self, int slot, int record) noexcept nogil:
        if self._head[slot] == _NONE:
            self._head[slot] = record
        else:
            self.pool.at[self._tail[slot]].chain = record
        self._tail[slot] = record
        self._count[slot] += 1
        self._fragments += 1
        self._bytes += self.pool.at[record].length
        return 0

    # ── whole datagrams ───────────────────────────────────────────────────────────────────────────────────────

    cdef int assemble(self, int slot, long long now_us) noexcept nogil:
        """A new record with the whole datagram; -1 if there is no room."""
        first: cython.int = self._pieces.at(slot, 0)
        parse_frame(
            self.pool.arena.memory,
            self.pool.at[first].pos,
            self.pool.at[first].pos + self.pool.at[first].length,
            self.pool.at[first].vnet_len,
            self._packet,
        )
        header_len: cython.Py_ssize_t = self._packet.l4_pos - self._packet.start
        if self._packet.ip_version == 6:
            header_len -= 8
        total: cython.Py_ssize_t = self._total[slot]
        whole: cython.int = self.pool.alloc(header_len + total)
        if whole == _NONE:
            return _NONE
        base: cython.longlong = self.pool.at[whole].pos
        copy(self.pool.arena.memory, base, self.pool.arena.memory, self.pool.at[first].pos, header_len)
        record: cython.int = self._head[slot]
        while record != _NONE:
            copy(
                self.pool.arena.memory,
                base + header_len + self.pool.at[record].seq,
                self.pool.arena.memory,
                self.pool.at[record].pos + self.pool.at[record].payload_pos,
                self.pool.at[record].payload_len,
            )
            record = self.pool.at[record].chain
        self._mend_headers(base, header_len, total)
        self.pool.at[whole].vnet_len = self._packet.vnet_len
        self.pool.at[whole].flags = 0
        self.pool.at[whole].arrived_us = now_us
        return whole

    cdef int finish(self, int slot, int whole) noexcept nogil:
        """The datagram was taken: the primary's keeps its fragments, the secondary's are freed."""
        chained: cython.int = self._take(slot)
        self.slots.free(slot)
        if not self.is_primary:
            return self.pool.free(chained)
        self.pool.at[whole].chain = chained
        return 0

    cdef int retract(self, int slot) noexcept nogil:
        """Undo the `add` that completed the datagram: its fragment will be offered again."""
        record: cython.int = self._tail[slot]
        before: cython.int = self._head[slot]
        while self.pool.at[before].chain != record:
            before = self.pool.at[before].chain
        self.pool.at[before].chain = _NONE
        self._tail[slot] = before
        self._count[slot] -= 1
        self._fragments -= 1
        self._bytes -= self.pool.at[record].length
        self._received[slot] -= self.pool.at[record].payload_len
        start: cython.int = self.pool.at[record].seq
        self._pieces.take(slot, start, start + self.pool.at[record].payload_len)
        if not self.pool.at[record].flags:
            self._total[slot] = -1
        return self.pool.free(record)

    cdef bint _is_late(self, int slot, long long now_us) noexcept nogil:
        return now_us - max(self._since_us[slot], self.stood_us) >= self.timeout_us

    # ── giving up ─────────────────────────────────────────────────────────────────────────────────────────────

    cdef int give_up(self, int slot, long long now_us) noexcept nogil:
        """It cannot be completed any more: nothing of it leaves. `review` decides whether it is a difference."""
        if self._is_late(slot, now_us):
            self._tell(slot, now_us)
        self.held.stats.incomplete_datagrams += 1
        self._drop(self._take(slot))
        self.slots.move(slot, _GIVEN_UP)
        return 0

    cdef int review(self, long long now_us) noexcept nogil:
        """Time has passed: give up, report, forget."""
        slot: cython.int = 0
        while slot < _SLOTS and self.slots.used:
            waited: cython.longlong = now_us - self._since_us[slot]
            if self.slots.state[slot] != _FREE and self._is_late(slot, now_us):
                if self.slots.state[slot] == _MAKING:
                    self.give_up(slot, now_us)
                self._tell(slot, now_us)
                if waited >= self.timeout_us + _FORGET_US:
                    self._forget(slot, now_us)
            slot += 1
        return 0

    cdef int flush(self, long long now_us) noexcept nogil:
        """A checkpoint: the primary's fragments leave. Datagrams given up before stay so, and are no difference."""
        slot: cython.int = 0
        while slot < _SLOTS and self.slots.used:
            self._told[slot] = 1
            if self.slots.state[slot] == _MAKING and self._is_late(slot, now_us):
                self.give_up(slot, now_us)
            elif self.slots.state[slot] == _MAKING:
                record: cython.int = self._take(slot)
                self.slots.free(slot)
                if self.is_primary:
                    self._release(record, now_us)
                else:
                    self._drop(record)
            slot += 1
        return 0

    cdef int _release(self, int record, long long now_us) noexcept nogil:
        while record != _NONE:
            following: cython.int = self.pool.at[record].chain
            self.pool.at[record].chain = _NONE
            self.held.release(record, now_us)
            record = following
        return 0

    cdef int _drop(self, int record) noexcept nogil:
        """Drop a chain of fragments."""
        while record != _NONE:
            following: cython.int = self.pool.at[record].chain
            self.pool.at[record].chain = _NONE
            if self.is_primary:
                self.held.drop(record)
            else:
                self.held.discard(record)
            record = following
        return 0

    cdef int _tell(self, int slot, long long now_us) noexcept nogil:
        """Report it, unless the other guest has a similar incomplete datagram, or one request covers all anyway."""
        if self._told[slot]:
            return 0
        self._told[slot] = 1
        if self.other.excuse(&self.slots.key[slot * _KEY_WORDS]):
            return 0
        if self.held.policy == DivergencePolicy.CHECKPOINT and self.held.checkpoint_wanted:
            return 0
        self.held.stats.timeouts += 1
        kind: cython.int = DifferenceKind.TIMEOUT if self.is_primary else DifferenceKind.SECONDARY_TIMEOUT
        index: cython.int = self.held.report_key(kind, self.slots.key, slot * _KEY_WORDS, now_us - self._since_us[slot])
        first: cython.int = self._head[slot]
        if first != _NONE:
            side: cython.int = 0 if self.is_primary else 1
            self.held.add_context(index, side, first, self.pool.at[first].pos + self.pool.at[first].payload_pos)
        return 0

    cdef bint excuse(self, const uint32_t* key) noexcept nogil:
        """Whether there is an incomplete datagram of this key that has excused none yet; it then counts as told."""
        slot: cython.int = 0
        while slot < _SLOTS:
            if self.slots.state[slot] != _FREE and not self._told[slot] and self.slots.has_key(slot, key):
                self._told[slot] = 1
                return True
            slot += 1
        return False

    # ── slots ─────────────────────────────────────────────────────────────────────────────────────────────────

    cdef int _take(self, int slot) noexcept nogil:
        """The first fragment of an incomplete datagram, with the others chained to it; the slot then has none."""
        head: cython.int = self._head[slot]
        record: cython.int = head
        while record != _NONE:
            self._fragments -= 1
            self._bytes -= self.pool.at[record].length
            record = self.pool.at[record].chain
        self._head[slot] = self._tail[slot] = _NONE
        self._count[slot] = 0
        self._pieces.clear(slot)
        return head

    cdef int _find(self, Packet packet) noexcept nogil:
        """The slot of the fragment's datagram, or -1; `_wanted` is its key afterwards."""
        self._wanted[0] = packet.source0
        self._wanted[1] = packet.source1
        self._wanted[2] = packet.source2
        self._wanted[3] = packet.source3
        self._wanted[4] = packet.destination0
        self._wanted[5] = packet.destination1
        self._wanted[6] = packet.destination2
        self._wanted[7] = packet.destination3
        self._wanted[8] = 0
        self._wanted[9] = packet.ip_proto | (packet.ip_version << 8)
        self._wanted[10] = packet.vlan
        return self.slots.find(self._wanted, packet.fragment_id)

    cdef int _open(self, Packet packet, long long now_us) noexcept nogil:
        slot: cython.int
        if self.slots.used == _SLOTS:
            slot = self.slots.oldest[_GIVEN_UP]
            if slot == _NONE:
                slot = self.slots.oldest[_MAKING]
            self._make_room(slot, now_us)
            self._forget(slot, now_us)
        slot = self.slots.take(self._wanted, packet.fragment_id)
        self._since_us[slot] = now_us
        self._told[slot] = 0
        self._received[slot] = 0
        self._total[slot] = -1
        self._reach[slot] = 0
        return slot

    cdef int _forget(self, int slot, long long now_us) noexcept nogil:
        """A datagram that was given up is forgotten: later fragments begin a new one."""
        self._tell(slot, now_us)
        return self.slots.free(slot)

    cdef int _make_room(self, int slot, long long now_us) noexcept nogil:
        """Too many slots, records or bytes: give up the oldest; if slots are short, one that holds nothing."""
        if not self._told[slot]:
            self._told[slot] = 1
            if now_us >= self._next_full_us and not self.held.checkpoint_wanted:
                self._next_full_us = now_us + self.timeout_us
                self.held.report_key(DifferenceKind.MEMORY_FULL, self.slots.key, slot * _KEY_WORDS, 0)
        if self.slots.state[slot] == _MAKING:
            self.give_up(slot, now_us)
        return 0

    cdef int _mend_headers(self, long long base, Py_ssize_t header_len, long long total) noexcept nogil:
        """Length and fragment fields of the new IP header; for IPv6 the fragment header is gone."""
        i: cython.Py_ssize_t = 0
        while i < self._packet.vnet_len:
            self.pool.arena.memory[base + i] = 0
            i += 1
        ip_pos: cython.longlong = base + self._packet.ip_pos - self._packet.start
        ip_header_len: cython.longlong = base + header_len - ip_pos
        if self._packet.ip_version == 4:
            store16(self.pool.arena.memory, ip_pos + 2, min(ip_header_len + total, _DATAGRAM_MAX))
            store16(self.pool.arena.memory, ip_pos + 6, 0)
            store16(self.pool.arena.memory, ip_pos + 10, 0)
            store16(
                self.pool.arena.memory,
                ip_pos + 10,
                0xFFFF - ones_sum(self.pool.arena.memory, ip_pos, ip_header_len, 0),
            )
            return 0
        store16(self.pool.arena.memory, ip_pos + 4, min(ip_header_len - 40 + total, _DATAGRAM_MAX))
        # The field that named the fragment header (kind 44) as next now names the header after it.
        pos: cython.longlong = ip_pos + 6
        following: cython.longlong = ip_pos + 40
        while self.pool.arena.memory[pos] != 44:
            pos = following
            following += (self.pool.arena.memory[following + 1] + 1) * 8
        self.pool.arena.memory[pos] = self._packet.ip_proto
        return 0
