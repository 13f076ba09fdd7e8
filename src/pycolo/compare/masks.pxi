"""Noise masks (rule C7): bytes of a stream that may differ, because they belong to a match of a pattern on both sides.

Nothing is done until a byte differs. Then, for all patterns at once ::

                                     d
    ───── equal, or masked before ───┼──── the primary's bytes ────►
                                     └──── the secondary's ────────►

the automaton of `patterns` runs over the bytes in front of d, where a match may begin at each, and from d on over both
sides, where none begins any more. Where both come to the end of a match of the same mask, the bytes from d up to there
are *masked*: they count as equal, and the secondary's copies become the primary's, so that what is compared with them
later (rule C9) is compared with what the client got. When no match can end on both sides, the bytes differ. When one
can, but not all of its bytes have come, the frontier waits.

A set of positions is a few words, so that a step costs the same whatever the bytes are. Which matches are under way at
the end of masked bytes is kept by row, and the next difference goes on from there: no byte is looked at more than four
times. Where the frontier waits, each further frame looks at MASK_POSITIONS_MAX bytes of either kind at most.
"""

cdef enum:
    _MASKS_MAX = 16
    _MASK_WORDS = 16  # of a set: MASK_POSITIONS_MAX / 64
    _MASK_BYTES = 1024
    # What is to be done with a difference.
    _DIFFERS = 0
    _IS_MASKED = 1
    _IS_OPEN = 2
    _MAY_END = -1
    _NEVER_ENDS = -2
assert limits.MASKS_MAX == _MASKS_MAX and limits.MASK_POSITIONS_MAX == _MASK_BYTES == 64 * _MASK_WORDS


cdef struct Positions:
    uint64_t[16] word


cdef struct MaskTables:
    # See `pycolo.compare.noise.Tables`.
    uint64_t[256][16] takes
    uint64_t[16] next
    uint64_t[128][16] begins
    uint64_t[128][16] ends
    uint64_t[16][16] first
    uint64_t[16][16] last
    uint64_t[16][16] follows


@cython.final
cdef class Masks:
    """`masks`: `Mask` values. `longest`: the bytes of the longest match. `steps`: of the automaton, since the start."""

    cdef Held held
    cdef Pool pool
    cdef History history
    cdef readonly int count
    cdef readonly int longest
    cdef readonly long long steps
    cdef readonly tuple names
    cdef Flows _flows
    cdef int* _mask_of
    cdef int _words
    cdef int _branches
    cdef MaskTables* _tables
    cdef Positions* _under_way
    cdef uint32_t* _masked_end
    cdef uint64_t* _hidden
    cdef long long[_MASKS_MAX] _matches
    cdef long long[_MASKS_MAX] _octets
    cdef uint8_t[_MASK_BYTES] _before
    cdef uint8_t[_MASK_BYTES] _mine
    cdef uint8_t[_MASK_BYTES] _theirs

    def __dealloc__(self):
        release_column(self._mask_of)
        release_column(self._tables)
        release_column(self._under_way)
        release_column(self._masked_end)
        release_column(self._hidden)

    def __init__(self, held, history, masks):
        cdef int number
        self.held = held
        self.pool = held.pool
        self.history = history
        self.count = len(masks)
        self.names = tuple(mask.name for mask in masks)
        flows = [(flow, place) for place, mask in enumerate(masks) for flow in mask.flows if flow.is_possible]
        self._flows = Flows([flow for flow, _ in flows])
        self._mask_of = <int*>column(self._mask_of, len(flows), sizeof(int), 0)
        for number in range(self._flows.count):
            self._mask_of[number] = flows[number][1]
        self.steps = 0
        for number in range(_MASKS_MAX):
            self._matches[number] = self._octets[number] = 0
        made = tables(masks)
        self.longest = self.history.kept_behind = made.longest
        self._words = made.words
        self._branches = made.branches
        self._tables = <MaskTables*>column(self._tables, 1, sizeof(MaskTables), 0)
        self._load(&self._tables.takes[0][0], made.takes)
        self._load(&self._tables.next[0], made.next)
        self._load(&self._tables.begins[0][0], made.begins)
        self._load(&self._tables.ends[0][0], made.ends)
        self._load(&self._tables.first[0][0], made.first)
        self._load(&self._tables.last[0][0], made.last)
        self._load(&self._tables.follows[0][0], made.follows)
        rows = held.table.rows_max if masks else 1
        self._under_way = <Positions*>column(self._under_way, rows, sizeof(Positions), 0)
        self._masked_end = <uint32_t*>column(self._masked_end, rows, sizeof(uint32_t), 0)
        self._hidden = <uint64_t*>column(self._hidden, rows, sizeof(uint64_t), 0)

    cdef _load(self, uint64_t* target, words):
        """Sets, one after another."""
        for place, word in enumerate(words):
            target[<int>place // self._words * _MASK_WORDS + <int>place % self._words] = word

    def counts(self):
        """{name: (matches that have hidden a difference, bytes that differed in them)}."""
        return {name: (self._matches[place], self._octets[place]) for place, name in enumerate(self.names)}

    cdef inline bint is_for(self, int row) noexcept nogil:
        """Whether any mask is for the connection."""
        return self.count != 0 and self._flows.has(self.held.table.at[row].key)

    # ── the automaton ─────────────────────────────────────────────────────────────────────────────────────────

    cdef Positions _beginnings(self, int row) noexcept nogil:
        """Where the matches of the connection's masks begin."""
        cdef Positions found
        cdef const uint32_t* key = self.held.table.at[row].key
        cdef int rule, word
        memset(&found, 0, sizeof(Positions))
        for rule in range(self._flows.count):
            if flow_has(&self._flows._rules[rule], key):
                for word in range(self._words):
                    found.word[word] |= self._tables.first[self._mask_of[rule]][word]
        return found

    cdef inline int _step(self, Positions* at, uint8_t octet, const Positions* begin) noexcept nogil:
        """One byte more, where a match may `begin` (NULL: none may)."""
        cdef Positions following
        cdef uint64_t carry = 0, word
        cdef int i, branch
        for i in range(self._words):
            word = at.word[i] & self._tables.next[i]
            following.word[i] = word << 1 | carry
            carry = word >> 63
            if begin != NULL:
                following.word[i] |= begin.word[i]
        for branch in range(self._branches):
            word = 0
            for i in range(self._words):
                word |= at.word[i] & self._tables.begins[branch][i]
            if word:
                for i in range(self._words):
                    following.word[i] |= self._tables.ends[branch][i]
        for i in range(self._words):
            at.word[i] = following.word[i] & self._tables.takes[octet][i]
        self.steps += 1
        return 0

    cdef inline int _ended(self, const Positions* mine, const Positions* theirs) noexcept nogil:
        """The mask of which a match ends here on both sides; _MAY_END: one may yet; _NEVER_ENDS: none can."""
        cdef uint64_t one, other, one_last, other_last
        cdef int mask, i
        cdef int found = _NEVER_ENDS
        for mask in range(self.count):
            one = other = one_last = other_last = 0
            for i in range(self._words):
                one |= mine.word[i] & self._tables.follows[mask][i]
                other |= theirs.word[i] & self._tables.follows[mask][i]
                one_last |= mine.word[i] & self._tables.last[mask][i]
                other_last |= theirs.word[i] & self._tables.last[mask][i]
            if one_last and other_last:
                return mask
            if one and other:
                found = _MAY_END
        return found

    # ── a difference ──────────────────────────────────────────────────────────────────────────────────────────

    cdef int look(self, int row, int mine, int theirs) noexcept nogil:
        """What to do with a difference at the frontier, which lies in the records `mine` and `theirs`.

        _IS_MASKED: the frontier has advanced by a byte at least.
        """
        cdef Row* r = &self.held.rows[row]
        cdef uint32_t frontier = r.compared_seq
        cdef Positions begin = self._beginnings(row)
        cdef Positions one, other
        cdef Positions* nothing = NULL
        cdef int known = self._copy_ahead(mine, True, frontier, self._mine)
        cdef int theirs_known = self._copy_ahead(theirs, False, frontier, self._theirs)
        cdef int count = min(known, theirs_known)
        cdef int at, mask
        if r.flags & RowFlag.CONTRADICTED:
            count = min(count, seq_diff(self.held.asides.of(r).contradicted_seq, frontier))
            if count <= 0:
                return _DIFFERS
        one = self._under_way_at(row, r, frontier, &begin)
        other = one
        for at in range(count):
            self._step(&one, self._mine[at], nothing if at else &begin)
            self._step(&other, self._theirs[at], nothing if at else &begin)
            mask = self._ended(&one, &other)
            if mask == _NEVER_ENDS:
                return _DIFFERS
            if mask != _MAY_END:
                self._hide(row, r, theirs, at + 1, mask, &begin)
                return _IS_MASKED
        return _DIFFERS if self._is_over(r, frontier, known, theirs_known) else _IS_OPEN

    cdef bint _is_over(self, Row* r, uint32_t frontier, int known, int theirs_known) noexcept nogil:
        """Whether no byte will come behind those of one side, or none that counts."""
        if r.flags & RowFlag.CONTRADICTED:
            return True
        if r.flags & RowFlag.PRIMARY_FIN and seq_diff(r.primary_end, frontier) == known + 1:
            return True
        if not r.flags & RowFlag.SECONDARY_FIN:
            return False
        return seq_diff(self.held.asides.of(r).secondary_fin, frontier) == theirs_known

    cdef Positions _under_way_at(self, int row, Row* r, uint32_t frontier, const Positions* begin) noexcept nogil:
        """The matches that are under way in front of the frontier."""
        cdef Positions found
        cdef int count = self._copy_before(row, r, frontier)
        cdef int at = _MASK_BYTES - count
        cdef long long since
        memset(&found, 0, sizeof(Positions))
        if r.flags & RowFlag.MASK_STATE:
            since = seq_diff(frontier, self._masked_end[row])
            if 0 <= since <= count:
                found = self._under_way[row]
                at = _MASK_BYTES - since
        while at < _MASK_BYTES:
            self._step(&found, self._before[at], begin)
            at += 1
        return found

    cdef int _hide(self, int row, Row* r, int theirs, int count, int mask, const Positions* begin) noexcept nogil:
        """Mask `count` bytes, which were copied: the secondary's become the primary's."""
        cdef uint32_t frontier = r.compared_seq
        cdef uint32_t end = frontier + count
        cdef Positions found = self._under_way_at(row, r, frontier, begin)
        cdef uint64_t hidden = self.hidden_before(row, r, frontier)
        cdef int at
        for at in range(count):
            hidden = hidden << 1 | (self._mine[at] != self._theirs[at])
            self._octets[mask] += self._mine[at] != self._theirs[at]
            self._step(&found, self._mine[at], begin)
        self._hidden[row] = hidden
        self._matches[mask] += 1
        self._under_way[row] = found
        self._masked_end[row] = end
        r.flags |= RowFlag.MASK_STATE
        r.compared_seq = end
        while theirs != _NONE and seq_diff(self.pool.at[theirs].seq, end) < 0:
            self._overwrite(theirs, frontier, count)
            theirs = self.pool.at[theirs].next
        return 0

    cdef uint64_t hidden_before(self, int row, Row* r, uint32_t seq) noexcept nogil:
        """Of the bytes in front of `seq`, the nearest in the lowest bit: those that differed and were masked."""
        cdef long long behind
        if not self.count or not r.flags & RowFlag.MASK_STATE:
            return 0
        behind = seq_diff(seq, self._masked_end[row])
        if behind <= -64 or behind >= 64:
            return 0
        return self._hidden[row] << behind if behind >= 0 else self._hidden[row] >> -behind

    cdef int _overwrite(self, int record, uint32_t frontier, int count) noexcept nogil:
        """The part of the bytes that a record of the secondary has. A trace gets it as it was."""
        cdef Record* rec = &self.pool.at[record]
        cdef long long skip = max(0, seq_diff(frontier, rec.seq))
        cdef long long begin = max(0, seq_diff(rec.seq, frontier))
        cdef long long octets = min(count - begin, rec.payload_len - skip)
        if octets <= 0:
            return 0
        if self.held.trace.is_on and not rec.marks & _TRACED:
            self.held.trace.note(record, 1, PacketFate.MASKED, skip)
            rec.marks |= _TRACED
        memcpy(self.pool.arena.memory + rec.pos + rec.payload_pos + skip, &self._mine[begin], octets)
        return 0

    # ── the bytes around it ───────────────────────────────────────────────────────────────────────────────────

    cdef int _copy_ahead(self, int record, bint is_primary, uint32_t frontier, uint8_t* target) noexcept nogil:
        """The bytes from the frontier on, as far as one side has sent them, up to the longest match; their number."""
        cdef Record* rec
        cdef int count = 0
        cdef long long skip, octets
        while record != _NONE and count < self.longest:
            rec = &self.pool.at[record]
            skip = seq_diff(frontier + count, rec.seq)
            if skip < 0:
                break
            if skip < rec.payload_len:
                octets = min(rec.payload_len - skip, self.longest - count)
                memcpy(target + count, self.pool.arena.memory + rec.pos + rec.payload_pos + skip, octets)
                count += octets
            record = rec.kept_next if is_primary else rec.next
        return count

    cdef int _copy_before(self, int row, Row* r, uint32_t frontier) noexcept nogil:
        """Copy the bytes in front of the frontier that are kept to the end of `_before`; returns their number."""
        cdef Record* rec
        cdef int count = 0
        cdef int record
        cdef long long behind, octets
        while count < self.longest:
            record = self._record_with(row, r, frontier - count - 1)
            if record == _NONE:
                break
            rec = &self.pool.at[record]
            behind = seq_diff(frontier - count, rec.seq)
            octets = min(behind, self.longest - count)
            count += octets
            memcpy(
                &self._before[_MASK_BYTES - count],
                self.pool.arena.memory + rec.pos + rec.payload_pos + behind - octets,
                octets,
            )
        return count

    cdef int _record_with(self, int row, Row* r, uint32_t seq) noexcept nogil:
        """A record with a byte below the frontier, or -1."""
        cdef int record = r.secondary.head
        if self._has(record, seq):
            return record
        record = self.held.segments.leader_for(r, seq)
        if self._has(record, seq):
            return record
        record = self.history.with_byte(r, seq)
        return record if self._has(record, seq) else _NONE

    cdef inline bint _has(self, int record, uint32_t seq) noexcept nogil:
        return record != _NONE and 0 <= seq_diff(seq, self.pool.at[record].seq) < self.pool.at[record].payload_len
