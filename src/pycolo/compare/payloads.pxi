"""Payloads of waiting datagrams, found by content at a cost that does not grow with their number.

One hash table for all connections, by SipHash of row and payload, so that no guest can choose which payloads share a
bucket. Equal payloads on one side of one connection are *twins*: the oldest is in the bucket, the others are queued
behind it. Only the oldest is ever removed: a match takes the first of its equals, and an unmatched datagram leaves as
the first of its queue.

A queue of a few is searched directly, and is not in the table: see `_INDEXED_FROM`.
"""


cdef enum:
    _INDEXED_FROM = 8


cdef struct Place:
    # For a record in the table: `chain` is the next in its bucket, `twin` the next of its equals, `last` the last of
    # them, `older` its predecessor in its queue, `owner` its row and side.
    int chain
    int twin
    int last
    int older
    uint32_t owner


@cython.final
cdef class Payloads:
    cdef Pool pool
    cdef uint64_t _key0
    cdef uint64_t _key1
    cdef Place* _places
    cdef int* _buckets
    cdef uint32_t _mask

    def __dealloc__(self):
        release_column(self._places)
        release_column(self._buckets)

    def __init__(self, table: ConnectionTable, pool: Pool):
        self.pool = pool
        self._key0 = table._key0
        self._key1 = table._key1
        size = 1
        while size < pool.records_max:
            size *= 2
        self._mask = size - 1
        self._places = <Place*>column(self._places, pool.records_max, sizeof(Place), 0)
        self._buckets = <int*>column(self._buckets, size, sizeof(int), 0)  # record + 1: an untouched page is empty

    cdef inline uint32_t hash(self, int row, int record) noexcept nogil:
        """The hash of a record's payload in that row."""
        cdef Record* rec = &self.pool.at[record]
        cdef const uint8_t* payload = self.pool.arena.memory + rec.pos + rec.payload_pos
        return <uint32_t>siphash_behind(row, payload, rec.payload_len, self._key0, self._key1)

    cdef inline bint _equal(self, int a, int b) noexcept nogil:
        cdef Record* one = &self.pool.at[a]
        cdef Record* other = &self.pool.at[b]
        cdef const uint8_t* memory = self.pool.arena.memory
        if one.payload_len != other.payload_len:
            return False
        return memcmp(memory + one.pos + one.payload_pos, memory + other.pos + other.payload_pos, one.payload_len) == 0

    cdef int find(self, int row, bint is_primary, int record) noexcept nogil:
        """The oldest in the table, of that row and side, that equals `record`, whose hash is set; or -1."""
        cdef uint32_t owner = <uint32_t>row << 1 | is_primary
        cdef uint32_t hash = self.pool.at[record].extra
        cdef int other = self._buckets[hash & self._mask] - 1
        while other != _NONE:
            self.pool.walked += 1
            if self.pool.at[other].extra == hash and self._places[other].owner == owner and self._equal(other, record):
                return other
            other = self._places[other].chain
        return _NONE

    cdef int add(self, int row, bint is_primary, int older, int record) noexcept nogil:
        """Insert a record, whose hash is set; `older` is its predecessor in its queue (-1: none)."""
        cdef Record* rec = &self.pool.at[record]
        cdef Place* place = &self._places[record]
        cdef int* bucket = &self._buckets[rec.extra & self._mask]
        cdef int first = self.find(row, is_primary, record)
        rec.marks |= _INDEXED
        place.owner = <uint32_t>row << 1 | is_primary
        place.twin = _NONE
        place.last = record
        place.older = older
        if first != _NONE:
            self._places[self._places[first].last].twin = record
            self._places[first].last = record
            return 0
        place.chain = bucket[0] - 1
        bucket[0] = record + 1
        return 0

    cdef int remove(self, int record) noexcept nogil:
        """Remove a record, the oldest of its equals; it is still in its queue."""
        cdef Place* place = &self._places[record]
        cdef Record* rec = &self.pool.at[record]
        cdef int* link = &self._buckets[rec.extra & self._mask]
        cdef int heir = place.twin
        cdef int after = rec.next
        rec.marks &= ~_INDEXED
        if after != _NONE:
            self._places[after].older = place.older
        if link[0] - 1 != record:
            link = &self._places[link[0] - 1].chain
            while link[0] != record:
                self.pool.walked += 1
                link = &self._places[link[0]].chain
            link[0] = place.chain if heir == _NONE else heir
        else:
            link[0] = (place.chain if heir == _NONE else heir) + 1
        if heir != _NONE:
            self._places[heir].chain = place.chain
            self._places[heir].last = place.last
        return 0

    cdef inline int older(self, int record) noexcept nogil:
        """The predecessor of a record of the table in its queue, or -1."""
        return self._places[record].older
