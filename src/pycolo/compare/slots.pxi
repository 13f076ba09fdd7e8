"""Incomplete datagrams: the slot of each, and the places of its pieces.

A slot is found by a hash of the datagram's name, a piece by its beginning. A bitmap shows overlaps, for the pieces of a
datagram begin at multiples of eight. So a fragment costs the same whatever is stored.
"""


cdef int _SLOTS = limits.FRAGMENT_DATAGRAMS_MAX
cdef enum:
    _SLOT_BUCKETS_SHIFT = 23  # 512 of them
    _UNIT_WORDS = 128  # of 64 bits: one for each eight bytes of 64 KiB
    _STARTS = 512  # places for the beginnings of one datagram's pieces: twice the maximum
    _STARTS_SHIFT = 23
# States of a slot.
cdef enum:
    _MAKING = 1
    _GIVEN_UP = 2


@cython.final
cdef class Slots:
    """By slot: `key` (eleven words) and `identification`, its name, and `state`. `used` slots are not free.

    Incomplete ones, and those given up, are in a list each, by arrival.
    """

    cdef Pool pool
    cdef readonly int used
    cdef uint32_t* key
    cdef uint32_t* identification
    cdef int* state
    cdef int* _buckets
    cdef int* _chain
    cdef int* _newer
    cdef int* _older
    cdef int[3] oldest
    cdef int[3] _newest
    cdef uint64_t _key0
    cdef uint64_t _key1

    def __dealloc__(self):
        release_column(self.key)
        release_column(self.identification)
        release_column(self.state)
        release_column(self._buckets)
        release_column(self._chain)
        release_column(self._newer)
        release_column(self._older)

    def __init__(self, table: ConnectionTable, pool: Pool):
        self.pool = pool
        self.used = 0
        self._key0 = table._key0
        self._key1 = table._key1
        self.key = <uint32_t*>column(self.key, _SLOTS * _KEY_WORDS, sizeof(uint32_t), 0)
        self.identification = <uint32_t*>column(self.identification, _SLOTS, sizeof(uint32_t), 0)
        self.state = <int*>column(self.state, _SLOTS, sizeof(int), 0)
        self._buckets = <int*>column(self._buckets, 1 << (32 - _SLOT_BUCKETS_SHIFT), sizeof(int), -1)
        self._chain = <int*>column(self._chain, _SLOTS, sizeof(int), -1)
        self._newer = <int*>column(self._newer, _SLOTS, sizeof(int), -1)
        self._older = <int*>column(self._older, _SLOTS, sizeof(int), -1)
        for state in range(3):
            self.oldest[state] = self._newest[state] = _NONE
        for slot in range(_SLOTS):
            self._link(slot, _FREE)

    cdef inline int* _bucket(self, const uint32_t* key, uint32_t identification) noexcept nogil:
        cdef uint32_t hash = hash_key(key, self._key0, self._key1)
        hash ^= identification * <uint32_t>(self._key1 >> 32 | 1)  # odd, and unknown to an attacker
        return &self._buckets[hash >> _SLOT_BUCKETS_SHIFT]

    cdef int find(self, const uint32_t* key, uint32_t identification) noexcept nogil:
        """The slot of a datagram, or -1."""
        cdef int slot
        if self.used == 0:
            return _NONE
        slot = self._bucket(key, identification)[0]
        while slot != _NONE and not (self.identification[slot] == identification and self.has_key(slot, key)):
            self.pool.walked += 1
            slot = self._chain[slot]
        return slot

    cdef bint has_key(self, int slot, const uint32_t* key) noexcept nogil:
        """Whether the slot's datagram has these ends."""
        return memcmp(&self.key[slot * _KEY_WORDS], key, _KEY_WORDS * sizeof(uint32_t)) == 0

    cdef int take(self, const uint32_t* key, uint32_t identification) noexcept nogil:
        """A free slot, which must exist, for a new datagram."""
        cdef int slot = self.oldest[_FREE]
        cdef int* bucket = self._bucket(key, identification)
        memcpy(&self.key[slot * _KEY_WORDS], key, _KEY_WORDS * sizeof(uint32_t))
        self.identification[slot] = identification
        self._chain[slot] = bucket[0]
        bucket[0] = slot
        self.used += 1
        self.move(slot, _MAKING)
        return slot

    cdef int free(self, int slot) noexcept nogil:
        """Its datagram is complete, or forgotten."""
        cdef int* link = self._bucket(&self.key[slot * _KEY_WORDS], self.identification[slot])
        while link[0] != slot:
            self.pool.walked += 1
            link = &self._chain[link[0]]
        link[0] = self._chain[slot]
        self.used -= 1
        return self.move(slot, _FREE)

    cdef int move(self, int slot, int state) noexcept nogil:
        """Move to the end of another list."""
        cdef int before = self._older[slot]
        cdef int after = self._newer[slot]
        cdef int was = self.state[slot]
        if before == _NONE:
            self.oldest[was] = after
        else:
            self._newer[before] = after
        if after == _NONE:
            self._newest[was] = before
        else:
            self._older[after] = before
        return self._link(slot, state)

    cdef int _link(self, int slot, int state) noexcept nogil:
        cdef int last = self._newest[state]
        self.state[slot] = state
        self._older[slot] = last
        self._newer[slot] = _NONE
        if last == _NONE:
            self.oldest[state] = slot
        else:
            self._newer[last] = slot
        self._newest[state] = slot
        return 0


@cython.final
cdef class Pieces:
    """The places of the pieces of each slot's datagram."""

    cdef Pool pool
    cdef uint64_t* _units
    cdef int* _starts
    cdef uint32_t _odd

    def __dealloc__(self):
        release_column(self._units)
        release_column(self._starts)

    def __init__(self, table: ConnectionTable, pool: Pool):
        self.pool = pool
        self._odd = table._key0 >> 32 | 1
        self._units = <uint64_t*>column(self._units, _SLOTS * _UNIT_WORDS, sizeof(uint64_t), 0)
        self._starts = <int*>column(self._starts, _SLOTS * _STARTS, sizeof(int), 0)

    cdef int clear(self, int slot) noexcept nogil:
        """Remove all pieces of the slot's datagram."""
        memset(&self._units[slot * _UNIT_WORDS], 0, _UNIT_WORDS * sizeof(uint64_t))
        memset(&self._starts[slot * _STARTS], 0, _STARTS * sizeof(int))
        return 0

    cdef inline uint64_t _bits(self, int word, int first, int last) noexcept nogil:
        """The bits of one word for units from `first` up to `last`, which is one of them."""
        cdef uint64_t bits = ~<uint64_t>0
        if word == first >> 6:
            bits &= ~<uint64_t>0 << (first & 63)
        if word == last >> 6:
            bits &= ~<uint64_t>0 >> (63 - (last & 63))
        return bits

    cdef bint overlaps(self, int slot, int start, int end) noexcept nogil:
        """Whether there is a piece with a byte from `start` to `end`."""
        cdef uint64_t* units = &self._units[slot * _UNIT_WORDS]
        cdef int first = start >> 3
        cdef int last = (end - 1) >> 3
        cdef int word
        for word in range(first >> 6, (last >> 6) + 1):
            if units[word] & self._bits(word, first, last):
                return True
        return False

    cdef int put(self, int slot, int start, int end, int record) noexcept nogil:
        """Add a piece that overlaps none."""
        cdef uint64_t* units = &self._units[slot * _UNIT_WORDS]
        cdef int first = start >> 3
        cdef int last = (end - 1) >> 3
        cdef int word
        for word in range(first >> 6, (last >> 6) + 1):
            units[word] |= self._bits(word, first, last)
        self._place(slot, start)[0] = record + 1
        return 0

    cdef int take(self, int slot, int start, int end) noexcept nogil:
        """Remove the piece that was added last."""
        cdef uint64_t* units = &self._units[slot * _UNIT_WORDS]
        cdef int first = start >> 3
        cdef int last = (end - 1) >> 3
        cdef int word
        for word in range(first >> 6, (last >> 6) + 1):
            units[word] &= ~self._bits(word, first, last)
        self._place(slot, start)[0] = 0
        return 0

    cdef inline int at(self, int slot, int start) noexcept nogil:
        """The piece that begins there, or -1."""
        return self._place(slot, start)[0] - 1

    cdef int* _place(self, int slot, int start) noexcept nogil:
        """The place of the piece that begins at `start`, or where it would be."""
        cdef int* starts = &self._starts[slot * _STARTS]
        cdef uint32_t i = (<uint32_t>start >> 3) * self._odd >> _STARTS_SHIFT
        while starts[i] and self.pool.at[starts[i] - 1].seq != <uint32_t>start:
            self.pool.walked += 1
            i = (i + 1) & (_STARTS - 1)
        return &starts[i]
