"""A place in a long list of segments, found by sequence number: what it costs does not grow with the list.

A list in the order of sequence numbers has a *ladder* when it is long: one in four of its segments, drawn by lot,
stands on the first rail as well, one in four of these on the second, and so on (Pugh, Skip lists, 1990). A guest does
not know which, so it cannot choose numbers that make the way long. Appending and taking the first away cost a look.
"""


cdef enum:
    _RAILS = 7
    _LADDER_FROM = 32
    _LADDER_UNTIL = 8


cdef struct Rails:
    # The ends of each rail; `first[0]` links what is free.
    int[7] first
    int[7] last


cdef struct Rung:
    # Of a record on rails: its number again, to spare a look at the record, and the next on each rail.
    uint32_t seq
    int[7] next


@cython.final
cdef class Ladders:
    """`find` leaves on `_path` where `insert` and `take_out` go on."""

    cdef Pool pool
    cdef Rails* _rails
    cdef Rung* _rungs
    cdef int _free
    cdef int _untouched
    cdef uint64_t _random
    cdef int[7] _path

    def __dealloc__(self):
        release_column(self._rails)
        release_column(self._rungs)

    def __init__(self, table: ConnectionTable, pool: Pool):
        self.pool = pool
        # A list with a ladder has _LADDER_UNTIL records at least.
        self._rails = <Rails*>column(self._rails, pool.records_max // _LADDER_UNTIL + 1, sizeof(Rails), 0)
        self._rungs = <Rung*>column(self._rungs, pool.records_max, sizeof(Rung), 0)
        self._free = _NONE
        self._untouched = 0
        self._random = table._key0 ^ table._key1 | 1

    cdef int make(self) noexcept nogil:
        """An empty one."""
        cdef int ladder = self._free
        cdef int rail
        if ladder == _NONE:
            ladder = self._untouched
            self._untouched += 1
        else:
            self._free = self._rails[ladder].first[0]
        for rail in range(_RAILS):
            self._rails[ladder].first[rail] = self._rails[ladder].last[rail] = _NONE
        return ladder

    cdef int give_back(self, int ladder) noexcept nogil:
        """Its list is short, or empty."""
        if ladder != _NONE:
            self._rails[ladder].first[0] = self._free
            self._free = ladder
        return _NONE

    cdef inline int _height(self) noexcept nogil:
        """On how many rails the next one is to stand."""
        cdef uint64_t bits = self._random
        cdef int height = 0
        bits ^= bits << 13
        bits ^= bits >> 7
        bits ^= bits << 17
        self._random = bits
        bits >>= 16
        while height < _RAILS and not bits & 3:
            height += 1
            bits >>= 2
        return height

    cdef inline int append(self, int ladder, int record) noexcept nogil:
        """The record is the last of the list now."""
        cdef int height = self._height()
        cdef Rails* rails = &self._rails[ladder]
        cdef int rail, last
        if height:
            self._rungs[record].seq = self.pool.at[record].seq
        for rail in range(height):
            last = rails.last[rail]
            if last == _NONE:
                rails.first[rail] = record
            else:
                self._rungs[last].next[rail] = record
            rails.last[rail] = record
            self._rungs[record].next[rail] = _NONE
        return 0

    cdef inline int take_first(self, int ladder, int record) noexcept nogil:
        """The record was the first of the list."""
        cdef Rails* rails = &self._rails[ladder]
        cdef int rail = 0
        while rail < _RAILS and rails.first[rail] == record:
            rails.first[rail] = self._rungs[record].next[rail]
            if rails.first[rail] == _NONE:
                rails.last[rail] = _NONE
            rail += 1
        return 0

    cdef int find(self, int ladder, int first, uint32_t seq, bint is_primary) noexcept nogil:
        """The last of the list that begins at `seq` or before it, or -1. `ladder` -1: a list without.

        `first`: of the list, which is linked by `kept_next` on the primary's side, and by `next` on the other.
        """
        cdef int found = _NONE
        cdef int rail = _RAILS - 1
        cdef int other
        while ladder != _NONE and rail >= 0:
            other = self._rails[ladder].first[rail] if found == _NONE else self._rungs[found].next[rail]
            while other != _NONE and seq_diff(self._rungs[other].seq, seq) <= 0:
                self.pool.walked += 1
                found = other
                other = self._rungs[found].next[rail]
            self._path[rail] = found
            rail -= 1
        other = first if found == _NONE else self._behind(found, is_primary)
        while other != _NONE and seq_diff(self.pool.at[other].seq, seq) <= 0:
            self.pool.walked += 1
            found = other
            other = self._behind(found, is_primary)
        return found

    cdef inline int _behind(self, int record, bint is_primary) noexcept nogil:
        return self.pool.at[record].kept_next if is_primary else self.pool.at[record].next

    cdef rails(self, int ladder):
        """For tests: the records on each rail, or None."""
        cdef int record, last, rail
        found = []
        if ladder == _NONE:
            return None
        for rail in range(_RAILS):
            on_rail = []
            last = _NONE
            record = self._rails[ladder].first[rail]
            while record != _NONE:
                on_rail.append(record)
                last = record
                record = self._rungs[record].next[rail]
            assert self._rails[ladder].last[rail] == last
            found.append(on_rail)
        return found

    cdef int insert(self, int ladder, int record) noexcept nogil:
        """The record stands behind what `find` has found."""
        cdef Rails* rails = &self._rails[ladder]
        cdef int height = self._height()
        cdef int rail, before, after
        self._rungs[record].seq = self.pool.at[record].seq
        for rail in range(height):
            before = self._path[rail]
            after = rails.first[rail] if before == _NONE else self._rungs[before].next[rail]
            self._rungs[record].next[rail] = after
            if before == _NONE:
                rails.first[rail] = record
            else:
                self._rungs[before].next[rail] = record
            if after == _NONE:
                rails.last[rail] = record
        return 0

    cdef int take_out(self, int ladder, int record) noexcept nogil:
        """The record, next behind what `find` has found, is about to leave the list."""
        cdef Rails* rails = &self._rails[ladder]
        cdef int rail, before, after
        for rail in range(_RAILS):
            before = self._path[rail]
            if (rails.first[rail] if before == _NONE else self._rungs[before].next[rail]) != record:
                return 0
            after = self._rungs[record].next[rail]
            if before == _NONE:
                rails.first[rail] = after
            else:
                self._rungs[before].next[rail] = after
            if after == _NONE:
                rails.last[rail] = before
        return 0
