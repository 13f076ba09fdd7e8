"""Waiting packets: one record each, in columns, and first-in-first-out queues of records.

A record is an index into the columns of a `Pool`; its bytes lie in the pool's arena at `pos[record]`. The module that
stores a packet fills the columns that describe it. `NONE` (-1) means no record.
"""


cdef enum:
    _NONE = -1
# This many freed records of each size keep their blocks.
cdef enum:
    _SPARES_MAX = 1024


cdef struct Record:
    # One waiting packet: one cache line. `chain` is the first fragment of a reassembled datagram; `kept_next` links
    # packets kept for later comparison (see `history`), `marks` are bits of `held`.
    long long pos
    long long arrived_us
    uint32_t seq
    uint32_t ack
    uint32_t extra
    int next
    int chain
    int kind
    int flags
    int length
    int payload_pos
    int payload_len
    int kept_next
    uint16_t window
    uint8_t vnet_len
    uint8_t marks


cdef struct Queue:
    # A list of records, linked by `next`, first in, first out.
    int head
    int tail
    int count


@cython.final
cdef class Pool:
    """Records and their bytes. Both budgets are fixed; `store` returns -1 when either is exhausted.

    `at[record]`: `next` (in its list), `pos`, `length`, `vnet_len` (bytes in the arena), `row` (its connection),
    `arrived_us`, `flags`, `seq`, `ack`, `window`, `payload_pos` (from `pos`), `payload_len`, `extra` (for a datagram
    the hash of its payload, for TCP see `segments`), `chain` (first fragment of a reassembled datagram).

    `walked`: steps along lists whose length a guest chooses, for tests: a packet takes few, however many packets wait.
    """

    cdef readonly Arena arena
    cdef readonly int records_max
    cdef readonly int used
    cdef readonly long long walked
    cdef Record* at
    cdef int _free
    cdef int _untouched
    cdef int[11] _spare
    cdef int[11] _spare_count
    cdef long long _spare_bytes

    def __dealloc__(self):
        release_column(self.at)

    def __init__(self, budget_bytes, records_max):
        self.arena = Arena(budget_bytes)
        self.records_max = records_max
        self.used = self.walked = 0
        self.at = <Record*>column(self.at, records_max, sizeof(Record), 0)
        self._free = _NONE
        self._untouched = 0
        self._spare_bytes = 0
        for kind in range(_CLASSES):
            self._spare[kind] = _NONE
            self._spare_count[kind] = 0

    def take(self, Py_ssize_t size):
        """`alloc`, for tests."""
        return self.alloc(size)

    @property
    def used_bytes(self):
        """Bytes of the arena in use."""
        return self.used_bytes_now()

    @property
    def budget_bytes(self):
        """Total bytes of the arena."""
        return self.arena.slab_count << 17

    cdef inline long long used_bytes_now(self) noexcept nogil:
        return self.arena.used_bytes - self._spare_bytes

    cdef inline int alloc(self, Py_ssize_t size) noexcept nogil:
        """A record with room for `size` bytes, or NONE. `length` is set; all other fields but `chain` are stale."""
        cdef int kind = block_kind(size)
        cdef int record
        if size > _SLAB_BYTES:
            return _NONE
        record = self._spare[kind]
        if record != _NONE:
            self._spare[kind] = self.at[record].next
            self._spare_count[kind] -= 1
            self._spare_bytes -= <long long>1 << (kind + _BLOCK_SHIFT_MIN)
        else:
            record = self._new(size)
            if record == _NONE and self._spare_bytes:
                self._return_spares()
                record = self._new(size)
            if record == _NONE:
                return _NONE
        self.at[record].next = _NONE
        self.at[record].chain = _NONE
        self.at[record].marks = 0
        self.at[record].length = size
        self.used += 1
        return record

    cdef int _new(self, Py_ssize_t size) noexcept nogil:
        """A record with a block of the arena, or NONE."""
        cdef int record = self._free
        cdef long long pos
        if record == _NONE and self._untouched == self.records_max:
            return _NONE
        pos = self.arena.alloc(size)
        if pos == -1:
            return _NONE
        if record != _NONE:
            self._free = self.at[record].next
        else:
            record = self._untouched
            self._untouched += 1
        self.at[record].pos = pos
        self.at[record].kind = block_kind(size)
        return record

    cdef int _return_spares(self) noexcept nogil:
        """Memory is short: let blocks that were set aside for one size serve any size."""
        cdef int kind, record
        for kind in range(_CLASSES):
            while self._spare[kind] != _NONE:
                record = self._spare[kind]
                self._spare[kind] = self.at[record].next
                self.arena.free(self.at[record].pos)
                self.at[record].next = self._free
                self._free = record
            self._spare_count[kind] = 0
        self._spare_bytes = 0
        return 0

    cdef inline int store(self, uint8_t* buf, Py_ssize_t start, Py_ssize_t size, int vnet_len) noexcept nogil:
        """A record that holds a copy of `size` bytes of `buf` from `start`, or NONE."""
        record: cython.int = self.alloc(size)
        if record != _NONE:
            self.at[record].vnet_len = vnet_len
            copy(self.arena.memory, self.at[record].pos, buf, start, size)
        return record

    cpdef int free(self, int record) noexcept nogil:
        """Free a record and its bytes, and those chained to it."""
        cdef int chained, kind
        while record != _NONE:
            chained = self.at[record].chain
            kind = self.at[record].kind
            self.at[record].chain = _NONE
            if self._spare_count[kind] < _SPARES_MAX:
                # Keep its block: the next packet of that size finds it in the cache, without work for the arena.
                self.at[record].next = self._spare[kind]
                self._spare[kind] = record
                self._spare_count[kind] += 1
                self._spare_bytes += <long long>1 << (kind + _BLOCK_SHIFT_MIN)
            else:
                self.arena.free(self.at[record].pos)
                self.at[record].next = self._free
                self._free = record
            self.used -= 1
            record = chained
        return 0

    cdef inline Py_ssize_t block_bytes(self, int record) noexcept nogil:
        """The size of a record's block, as `used_bytes` counts it."""
        return <Py_ssize_t>1 << (self.at[record].kind + _BLOCK_SHIFT_MIN)

    cdef inline int push(self, Queue* queue, int record) noexcept nogil:
        """Append."""
        self.at[record].next = _NONE
        if queue.tail == _NONE:
            queue.head = record
        else:
            self.at[queue.tail].next = record
        queue.tail = record
        queue.count += 1
        return 0

    cdef inline int pop_first(self, Queue* queue) noexcept nogil:
        """Remove and return the first, which must exist."""
        cdef int record = queue.head
        queue.head = self.at[record].next
        if queue.head == _NONE:
            queue.tail = _NONE
        queue.count -= 1
        return record

    cdef inline int pop(self, Queue* queue) noexcept nogil:
        """Remove and return the first, or NONE."""
        return _NONE if queue.head == _NONE else self.pop_first(queue)

    cdef inline int take_after(self, Queue* queue, int before) noexcept nogil:
        """Remove and return the record after `before` (NONE: the first), which must exist."""
        cdef int record = queue.head if before == _NONE else self.at[before].next
        cdef int after = self.at[record].next
        if before == _NONE:
            queue.head = after
        else:
            self.at[before].next = after
        if after == _NONE:
            queue.tail = before
        self.at[record].next = _NONE
        queue.count -= 1
        return record

    cdef inline int insert_after(self, Queue* queue, int before, int record) noexcept nogil:
        """Insert `record` after `before` (NONE: first)."""
        if before == _NONE:
            self.at[record].next = queue.head
            queue.head = record
        else:
            self.at[record].next = self.at[before].next
            self.at[before].next = record
        if self.at[record].next == _NONE:
            queue.tail = record
        queue.count += 1
        return 0

    cdef int free_all(self, Queue* queue) noexcept nogil:
        """Free every record of a list; returns how many there were."""
        cdef int freed = queue.count
        cdef int record = self.pop(queue)
        while record != _NONE:
            self.free(record)
            record = self.pop(queue)
        return freed


@cython.final
cdef class Queues:
    """`rows` lists of records from one pool. Without `are_open` each must be opened before use."""

    cdef readonly Pool pool
    cdef Queue* at
    cdef int _rows

    def __dealloc__(self):
        release_column(self.at)

    def __init__(self, pool, rows, are_open=True):
        self.pool = pool
        self._rows = rows
        self.at = <Queue*>column(self.at, rows, sizeof(Queue), 0)
        for row in range(rows if are_open else 0):
            self.open(row)

    cpdef int open(self, int row) noexcept nogil:
        """Make it an empty list."""
        self.at[row].head = self.at[row].tail = _NONE
        self.at[row].count = 0
        return 0

    cpdef int push(self, int row, int record) noexcept nogil:
        """Append."""
        return self.pool.push(&self.at[row], record)

    cpdef int pop(self, int row) noexcept nogil:
        """Remove and return the first, or NONE."""
        return self.pool.pop(&self.at[row])

    cpdef int take_after(self, int row, int before) noexcept nogil:
        """Remove and return the record after `before` (NONE: the first), which must exist."""
        return self.pool.take_after(&self.at[row], before)

    cpdef int insert_after(self, int row, int before, int record) noexcept nogil:
        """Insert `record` after `before` (NONE: first)."""
        return self.pool.insert_after(&self.at[row], before, record)

    cpdef int free_all(self, int row) noexcept nogil:
        """Free every record of a list; returns how many there were."""
        return self.pool.free_all(&self.at[row])
