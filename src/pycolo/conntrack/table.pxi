"""The connection table: bounded, seeded; evicts one connection at a time.

A connection is a *row*: an index that does not change while the connection lives. Cores keep their own columns beside
the table's; all have room for `rows_max` from the beginning, which costs nothing until it is used (see `column`). Rows
are found through a chained hash over the packed key::

    word 0-3 source   4-7 destination   8 source_port | destination_port << 16   9 ip_proto | ip_version << 8   10 vlan

The hash is SipHash-1-3 under `seed`, 128 random bits from the caller: a fixed seed invites collision attacks. The
number of buckets grows one by one (linear hashing): a row beyond their number splits one of them ::

    buckets │ 0 … split-1 │ split … mask │ mask+1 … mask+split │     in front of `split`, and behind `mask`, one bit
              split           not yet      the new halves           more of the hash counts

so an insertion moves the rows of one chain and no more, however large the table is. Rows are in one of six lists, least
recently seen first ::

    HALF_OPEN   a new TCP connection, until `confirm`: nothing but a claim
    CLOSED      `close`: it has ended
    ENDING      `ending`: both ends seem to have finished, as far as one of them shows
    DATAGRAM    anything but TCP
    OPEN        `confirm`: its handshake is complete
    ASSURED     `assure`: the guest has continued it

Each list has its time-out. A full table evicts in that order (DATAGRAM and OPEN count as one, least recently seen
first): connections that cost an attacker one packet go first, connections that both ends keep alive go last. A *pinned*
row (one that holds packets) is never evicted: a search that meets one moves it to the back, as seen just now, and goes
on. After `_EVICT_STEPS` such rows the search ends; the next one continues from there. A row moves to the back of its
list at most ten times a second: the order is exact to 100 ms, at little cost.
"""


cdef enum:
    _KEY_WORDS = 11
    _FREE = 0
    _HALF_OPEN = 1
    _CLOSED = 2
    _DATAGRAM = 3
    _OPEN = 4
    _ASSURED = 5
    _ENDING = 6
    _LISTS = 7
    _TOUCH_US = 100000
cdef long long _CLOSED_GRACE_US = limits.CLOSED_GRACE_MS * 1000
cdef long long _ENDING_US = limits.ENDING_SILENT_MS * 1000
cdef long long _IDLE_US = limits.CONNECTION_IDLE_MS * 1000
cdef long long _DATAGRAM_IDLE_US = limits.DATAGRAM_IDLE_MS * 1000
cdef enum:
    _EVICT_STEPS = 64


cdef struct TableRow:
    # The place of a connection: `key` as above, then its hash, and its links in the lists.
    uint32_t[11] key
    uint32_t hash
    int chain
    int list
    int newer
    int older
    int pins
    long long last_seen_us


cdef inline bint _same_key(const uint32_t* a, const uint32_t* b) noexcept nogil:
    if a[0] != b[0] or a[4] != b[4] or a[8] != b[8] or a[9] != b[9] or a[10] != b[10]:
        return False
    return a[9] >> 8 == 4 or (
        a[1] == b[1] and a[2] == b[2] and a[3] == b[3] and a[5] == b[5] and a[6] == b[6] and a[7] == b[7]
    )


@cython.final
cdef class ConnectionTable:
    """Of `rows_max` places, the first `rows` have been used at some time, and `used` are in use now.

    `pins` counts reasons not to evict a row; the core that owns the table sets it. `half_open_ms`: how long a row may
    stay half-open. `moved`: how many rows have changed their bucket. `passed_over`: how many pinned rows searches have
    met.
    """

    cdef readonly int rows_max
    cdef readonly int rows
    cdef uint64_t _key0
    cdef uint64_t _key1
    cdef readonly int used
    cdef readonly long long evicted_idle
    cdef readonly long long evicted_closed
    cdef readonly long long evicted_half_open
    cdef readonly long long evicted_lru
    cdef readonly long long refused_full
    cdef TableRow* at
    cdef int* _oldest
    cdef int* _newest
    cdef uint32_t* _wanted
    cdef unsigned int _wanted_hash
    cdef readonly long long moved
    cdef readonly long long passed_over
    cdef int* _buckets
    cdef Py_ssize_t _mask
    cdef Py_ssize_t _split
    cdef long long _half_open_us

    def __dealloc__(self):
        release_column(self.at)
        release_column(self._oldest)
        release_column(self._newest)
        release_column(self._wanted)
        release_column(self._buckets)

    def __init__(self, rows_max, seed, buckets=limits.CONNECTION_BUCKETS, half_open_ms=limits.HALF_OPEN_MS):
        self.rows_max = rows_max
        self.rows = 0
        self._key0 = seed & 0xFFFFFFFFFFFFFFFF
        self._key1 = (seed >> 64) & 0xFFFFFFFFFFFFFFFF
        self.used = 0
        self.evicted_idle = self.evicted_closed = self.evicted_half_open = self.evicted_lru = self.refused_full = 0
        self.moved = self.passed_over = 0
        self.at = <TableRow*>column(self.at, rows_max, sizeof(TableRow), 0)
        self._oldest = <int*>column(self._oldest, _LISTS, sizeof(int), -1)
        self._newest = <int*>column(self._newest, _LISTS, sizeof(int), -1)
        self._half_open_us = half_open_ms * 1000
        self._wanted = <uint32_t*>column(self._wanted, 11, sizeof(uint32_t), 0)
        self._wanted_hash = 0
        self._split = 0
        self._mask = 1
        while self._mask < min(buckets, rows_max):
            self._mask *= 2
        self._buckets = <int*>column(self._buckets, max(self._mask, rows_max), sizeof(int), 0)
        memset(self._buckets, 0xFF, self._mask * sizeof(int))
        self._mask -= 1

    @property
    def buckets(self):
        """The number of chains."""
        return self._mask + 1 + self._split

    def key(self, row):
        """The `ConnectionKey` of a row in use."""
        return key_from_words([self.at[row].key[i] for i in range(11)])

    cdef int copy_key(self, int row, uint32_t* target, Py_ssize_t pos) noexcept nogil:
        """Write the eleven words of the row's key to `target` from `pos`."""
        i: cython.Py_ssize_t = 0
        while i < _KEY_WORDS:
            target[pos + i] = self.at[row].key[i]
            i += 1
        return 0

    cpdef bint in_use(self, int row) noexcept nogil:
        """Whether the row is in use."""
        return 0 <= row < self.rows and self.at[row].list != _FREE

    cpdef bint is_tcp(self, int row) noexcept nogil:
        """Whether the row's protocol is TCP."""
        return self.at[row].key[9] & 0xFF == IpProto.PROTO_TCP

    cpdef int find(self, Packet packet, bint is_reversed) noexcept nogil:
        """The row of the packet's connection, or -1. `is_reversed`: look for the opposite direction's key."""
        ports: cython.uint
        i: cython.Py_ssize_t = 4 if is_reversed else 0
        self._wanted[i] = packet.source0
        self._wanted[i + 1] = packet.source1
        self._wanted[i + 2] = packet.source2
        self._wanted[i + 3] = packet.source3
        i = 4 - i
        self._wanted[i] = packet.destination0
        self._wanted[i + 1] = packet.destination1
        self._wanted[i + 2] = packet.destination2
        self._wanted[i + 3] = packet.destination3
        if is_reversed:
            ports = packet.destination_port
            self._wanted[8] = ports | (packet.source_port << 16)
        else:
            ports = packet.source_port
            self._wanted[8] = ports | (packet.destination_port << 16)
        self._wanted[9] = packet.ip_proto | (packet.ip_version << 8)
        self._wanted[10] = packet.vlan
        self._wanted_hash = hash_key(self._wanted, self._key0, self._key1)
        return self.lookup(self._wanted, self._wanted_hash)

    cdef inline int lookup(self, const uint32_t* key, uint32_t hash) noexcept nogil:
        """The row of a key with the hash `hash` under this table's seed, or -1."""
        cdef int row = self._buckets[self._bucket(hash)]
        while row != _NONE:
            if _same_key(self.at[row].key, key):
                return row
            row = self.at[row].chain
        return _NONE

    cdef inline int prefetch_bucket(self, uint32_t hash) noexcept nogil:
        """Prefetch the bucket of the hash."""
        prefetch(&self._buckets[self._bucket(hash)])
        return 0

    cdef inline int prefetch_row(self, uint32_t hash) noexcept nogil:
        """The first row of a hash's bucket, prefetched; or -1."""
        cdef int row = self._buckets[self._bucket(hash)]
        if row != _NONE:
            prefetch(&self.at[row])
            prefetch(&self.at[row].last_seen_us)
        return row

    cdef inline Py_ssize_t _bucket(self, uint32_t hash) noexcept nogil:
        cdef Py_ssize_t bucket = hash & self._mask
        return bucket if bucket >= self._split else hash & (2 * self._mask + 1)

    cdef int _add_bucket(self) noexcept nogil:
        """Split the next bucket: rows whose hash has the next bit set move to the new one."""
        cdef Py_ssize_t size = self._mask + 1
        cdef int row = self._buckets[self._split]
        cdef int* half
        self._buckets[self._split] = self._buckets[self._split + size] = _NONE
        while row != _NONE:
            following: cython.int = self.at[row].chain
            half = &self._buckets[self._split + (self.at[row].hash & size)]
            self.at[row].chain = half[0]
            half[0] = row
            self.moved += 1
            row = following
        self._split += 1
        if self._split == size:
            self._mask = 2 * size - 1
            self._split = 0
        return 0

    cpdef Py_ssize_t wanted_hash(self) noexcept nogil:
        """The hash of the last key searched for."""
        return self._wanted_hash

    cpdef int insert(self, long long now_us) noexcept nogil:
        """Make a row for the key that `find` has just missed; -1 if there is no place (see `evict`)."""
        row: cython.int = self._oldest[_FREE]
        if row != _NONE:
            self._unlink(row)
        elif self.rows < self.rows_max:
            row = self.rows
            self.rows += 1
        else:
            return _NONE
        if self.used > self._mask + self._split:
            self._add_bucket()
        i: cython.Py_ssize_t = 0
        while i < _KEY_WORDS:
            self.at[row].key[i] = self._wanted[i]
            i += 1
        self.at[row].hash = self._wanted_hash
        bucket: cython.Py_ssize_t = self._bucket(self._wanted_hash)
        self.at[row].chain = self._buckets[bucket]
        self._buckets[bucket] = row
        self.at[row].pins = 0
        self.at[row].last_seen_us = now_us
        self._link(row, _HALF_OPEN if self._wanted[9] & 0xFF == IpProto.PROTO_TCP else _DATAGRAM)
        self.used += 1
        return row

    cpdef int touch(self, int row, long long now_us) noexcept nogil:
        """Record that the connection was seen."""
        if now_us - self.at[row].last_seen_us >= _TOUCH_US:
            self._move(row, self.at[row].list, now_us)
        return 0

    cpdef int close(self, int row, long long now_us) noexcept nogil:
        """The connection has ended; its row stays for CLOSED_GRACE_MS, or until its place is needed."""
        if self.at[row].list != _CLOSED:
            self._move(row, _CLOSED, now_us)
        return 0

    cpdef bint is_closed(self, int row) noexcept nogil:
        """Whether it has ended and its key has not been reused."""
        return self.at[row].list == _CLOSED

    cpdef int ending(self, int row, long long now_us) noexcept nogil:
        """It seems to have ended; silence for ENDING_SILENT_MS confirms that."""
        kind: cython.int = self.at[row].list
        if kind != _CLOSED and kind != _DATAGRAM and kind != _ENDING:
            self._move(row, _ENDING, now_us)
        return 0

    cpdef int resume(self, int row, long long now_us) noexcept nogil:
        """A connection that seemed to have ended has not."""
        if self.at[row].list == _ENDING:
            self._move(row, _ASSURED, now_us)
        return 0

    cpdef int reopen(self, int row, long long now_us) noexcept nogil:
        """A new TCP connection has reused the key."""
        if self.at[row].list != _HALF_OPEN and self.at[row].list != _DATAGRAM:
            self._move(row, _HALF_OPEN, now_us)
        return 0

    cpdef int confirm(self, int row, long long now_us) noexcept nogil:
        """Its handshake is complete."""
        if self.at[row].list == _HALF_OPEN:
            self._move(row, _OPEN, now_us)
        return 0

    cpdef int assure(self, int row, long long now_us) noexcept nogil:
        """The guest has continued it."""
        if self.at[row].list == _HALF_OPEN or self.at[row].list == _OPEN:
            self._move(row, _ASSURED, now_us)
        return 0

    cpdef int heard(self, int row, Packet packet, long long now_us) noexcept nogil:
        """A further packet of the guest: a segment that is neither SYN nor RST comes after the handshake."""
        if packet.kind == PacketKind.TCP and not packet.flags & (TcpFlag.SYN | TcpFlag.RST):
            self.assure(row, now_us)
        return self.touch(row, now_us)

    cpdef int expired(self, long long now_us) noexcept nogil:
        """An unpinned row whose time-out has passed, or -1. The caller removes it."""
        row: cython.int = self._aged(_HALF_OPEN, self._half_open_us, now_us)
        if row != _NONE:
            self.evicted_half_open += 1
            return row
        row = self._aged(_CLOSED, _CLOSED_GRACE_US, now_us)
        if row == _NONE:
            row = self._aged(_ENDING, _ENDING_US, now_us)
        if row != _NONE:
            self.evicted_closed += 1
            return row
        row = self._aged(_DATAGRAM, _DATAGRAM_IDLE_US, now_us)
        if row == _NONE:
            row = self._aged(_OPEN, _IDLE_US, now_us)
        if row == _NONE:
            row = self._aged(_ASSURED, _IDLE_US, now_us)
        if row != _NONE:
            self.evicted_idle += 1
        return row

    cpdef int evict(self, long long now_us) noexcept nogil:
        """The row to evict when the table is full: expired, otherwise the first in the order of the lists; or -1."""
        row: cython.int = self.expired(now_us)
        if row != _NONE:
            return row
        row = self._unpinned(_HALF_OPEN, 0, now_us)
        if row != _NONE:
            self.evicted_half_open += 1
            return row
        row = self._unpinned(_CLOSED, 0, now_us)
        if row == _NONE:
            row = self._unpinned(_ENDING, 0, now_us)
        if row != _NONE:
            self.evicted_closed += 1
            return row
        row = self._unpinned(_DATAGRAM, 0, now_us)
        tcp: cython.int = self._unpinned(_OPEN, 0, now_us)
        if row == _NONE or (tcp != _NONE and self.at[tcp].last_seen_us < self.at[row].last_seen_us):
            row = tcp
        if row == _NONE:
            row = self._unpinned(_ASSURED, 0, now_us)
        if row == _NONE:
            self.refused_full += 1
        else:
            self.evicted_lru += 1
        return row

    cdef int _aged(self, int kind, long long age_us, long long now_us) noexcept nogil:
        """The first unpinned row of a list, if it has reached that age."""
        row: cython.int = self._unpinned(kind, age_us, now_us)
        return row if row != _NONE and now_us - self.at[row].last_seen_us >= age_us else _NONE

    cdef int _unpinned(self, int kind, long long age_us, long long now_us) noexcept nogil:
        """The first unpinned row of a list; the search ends at a younger row, or after `_EVICT_STEPS`."""
        steps: cython.int = 0
        row: cython.int = self._oldest[kind]
        while row != _NONE and self.at[row].pins and now_us - self.at[row].last_seen_us >= age_us:
            if steps == _EVICT_STEPS:
                break
            self._move(row, kind, now_us)
            row = self._oldest[kind]
            steps += 1
        self.passed_over += steps
        return _NONE if row == _NONE or self.at[row].pins else row

    cpdef int remove(self, int row) noexcept nogil:
        """Remove a row."""
        bucket: cython.Py_ssize_t = self._bucket(self.at[row].hash)
        other: cython.int = self._buckets[bucket]
        if other == row:
            self._buckets[bucket] = self.at[row].chain
        else:
            while self.at[other].chain != row:
                other = self.at[other].chain
            self.at[other].chain = self.at[row].chain
        self._unlink(row)
        self._link(row, _FREE)
        self.used -= 1
        return 0

    cdef int _move(self, int row, int kind, long long now_us) noexcept nogil:
        self._unlink(row)
        self.at[row].last_seen_us = now_us
        return self._link(row, kind)

    cdef int _link(self, int row, int kind) noexcept nogil:
        last: cython.int = self._newest[kind]
        self.at[row].list = kind
        self.at[row].older = last
        self.at[row].newer = _NONE
        if last == _NONE:
            self._oldest[kind] = row
        else:
            self.at[last].newer = row
        self._newest[kind] = row
        return 0

    cdef int _unlink(self, int row) noexcept nogil:
        kind: cython.int = self.at[row].list
        before: cython.int = self.at[row].older
        after: cython.int = self.at[row].newer
        if before == _NONE:
            self._oldest[kind] = after
        else:
            self.at[before].newer = after
        if after == _NONE:
            self._newest[kind] = before
        else:
            self.at[after].older = before
        return 0
