"""Who has waited for a checkpoint: taken when it is committed, right before it releases everything.

Per connection, up to `_WAITS_KEPT` of them; further ones count for a connection of the same port of the guest, if there
is one. The hold times of single packets are in `Held.hold_histogram`, for all connections together.
"""

cdef enum:
    _WAITS_KEPT = 64


cdef struct Waiting:
    # A connection's own, then the sums of further connections of the same port.
    uint32_t[11] key
    long long waited_us
    long long bytes
    int others
    long long others_us
    long long others_bytes
    long long others_longest_us


@cython.final
cdef class Waits:
    """`others` of the last place: connections of ports that have no place."""

    cdef Held held
    cdef int _used
    cdef Waiting* _at

    def __dealloc__(self):
        release_column(self._at)

    def __init__(self, held):
        self.held = held
        self._used = 0
        self._at = <Waiting*>column(self._at, _WAITS_KEPT + 1, sizeof(Waiting), 0)

    cdef int note(self, long long now_us) noexcept nogil:
        """Every held packet of the primary is about to be released."""
        cdef int row = self.held.active_head
        while row != _NONE:
            if self.held.rows[row].primary.head != _NONE:
                self._note_row(row, now_us)
            row = self.held.next_active(row)
        return 0

    cdef int _note_row(self, int row, long long now_us) noexcept nogil:
        cdef Row* r = &self.held.rows[row]
        cdef Record* rec
        cdef Waiting* place
        cdef int record = r.primary.head
        cdef long long since_us = now_us
        cdef long long size = 0
        while record != _NONE:
            rec = &self.held.pool.at[record]
            since_us = min(since_us, rec.arrived_us)
            if r.flags & RowFlag.DIVERGED:
                size += self._beyond(row, record)
            record = rec.next
        if self._used < _WAITS_KEPT:
            place = &self._at[self._used]
            self._used += 1
            memset(place, 0, sizeof(Waiting))
            self.held.table.copy_key(row, place.key, 0)
            place.waited_us = now_us - since_us
            place.bytes = size
            return 0
        place = &self._at[self._place_for(row)]
        place.others += 1
        place.others_us += now_us - since_us
        place.others_bytes += size
        place.others_longest_us = max(place.others_longest_us, now_us - since_us)
        return 0

    cdef long long _beyond(self, int row, int record) noexcept nogil:
        """Payload of a held packet that the secondary's did not equal."""
        cdef Record* rec = &self.held.pool.at[record]
        cdef long long size = rec.payload_len
        if not self.held.table.is_tcp(row) or not self.held.rows[row].flags & RowFlag.BASE_KNOWN:
            return size
        return max(0, min(size, seq_diff(seq_add(rec.seq, size), self.held.rows[row].compared_seq)))

    cdef int _place_for(self, int row) noexcept nogil:
        """The place of a connection of the same protocol and the same port of the guest; the last one if there is none.
        """
        cdef uint32_t[11] key
        cdef int place = 0
        self.held.table.copy_key(row, key, 0)
        while place < _WAITS_KEPT:
            if self._at[place].key[9] == key[9] and (self._at[place].key[8] ^ key[8]) & 0xFFFF == 0:
                return place
            place += 1
        return _WAITS_KEPT

    cdef inline bint has_any(self) noexcept nogil:
        """Whether `take` has anything."""
        return self._used > 0

    def take(self):
        """The `Wait` values since the last call."""
        found = []
        for place in range(self._used):
            key = key_from_words([self._at[place].key[i] for i in range(_KEY_WORDS)])
            waited_us = self._at[place].waited_us
            found.append(Wait(key, 1, waited_us, waited_us, self._at[place].bytes))
            if self._at[place].others:
                found.append(self._others(place, key))
        if self._at[_WAITS_KEPT].others:
            found.append(self._others(_WAITS_KEPT, None))
        self._used = 0
        memset(&self._at[_WAITS_KEPT], 0, sizeof(Waiting))
        return found

    def _others(self, place, key):
        cdef Waiting* at = &self._at[<int>place]
        return Wait(key, at.others, at.others_us, at.others_longest_us, at.others_bytes)
