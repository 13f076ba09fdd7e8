"""The rows of translated connections, in memory that outlives the process.

A guest that has taken over has connections whose clients know other numbers than it does. Without their offsets these
connections end. So from the takeover on each of them has a slot in memory that the caller provides (a mapped file, see
`pycolo.node.rowsfile`), with two versions of its record, which is that of `tables` ::

    slot   checksum (8 bytes)  generation (4)  0 (4)  record (72)  │  checksum  generation  0  record
           even generations                                          odd generations

A change is written over the older version: its checksum becomes 0, then its other bytes are written, then its checksum.
A process can be killed between any two of these stores; it has made those before, in the program's order, which the
compiler is told to keep. One version is whole at each instant, and the newer whole version counts. A record of zeros
says that the connection is gone.

After a takeover no further connection becomes translated: the slots are counted once, and only change or empty. The
straight path changes nothing that a record has, so it has nothing to write. A record has no times: a row that is read
begins its time-out anew.
"""


cdef enum:
    _VERSION_BYTES = 88
    _SLOT_BYTES = 176
    _SAVED_AT = 16

SAVED_SLOT_BYTES = _SLOT_BYTES


cdef uint64_t saved_sum(const uint8_t* version, uint64_t salt, int slot) noexcept nogil:
    """The checksum of a version; never 0. It differs by the slot and by the file."""
    cdef uint64_t total = salt ^ (<uint64_t>(slot + 1) * <uint64_t>0xD6E8FEB86659FD93)
    cdef Py_ssize_t pos = 8
    while pos < _VERSION_BYTES:
        total = (total ^ <uint64_t>load32(version, pos)) * <uint64_t>0x9E3779B97F4A7C15
        total ^= total >> 29
        pos += 4
    return total | 1


@cython.final
cdef class SavedRows:
    """`slots` are there, `used` of them have a connection. None are there before `begin` (or `Rewriter.read_rows`)."""

    cdef readonly int slots
    cdef readonly int used
    cdef OffsetTable _traveling
    cdef uint8_t[::1] _view
    cdef uint8_t* _memory
    cdef uint64_t _salt
    cdef int* _slot
    cdef uint32_t* _generation

    def __dealloc__(self):
        release_column(self._slot)
        release_column(self._generation)

    def __init__(self, OffsetTable traveling not None):
        self._traveling = traveling
        self.slots = self.used = 0

    def needed_bytes(self):
        """The size of the memory that `begin` needs now."""
        cdef Py_ssize_t count = 0
        cdef int row = 0
        with nogil:
            while row < self._traveling.connections.rows:
                if self._traveling.offsets.is_told(self._traveling.connections, row):
                    count += 1
                row += 1
        return count * _SLOT_BYTES

    def begin(self, memory, salt):
        """Write each row with an offset to `memory`, and its changes from now on. `salt`: 64 random bits."""
        cdef int row = 0
        self._use(memory, salt)
        with nogil:
            while row < self._traveling.connections.rows and self.used < self.slots:
                if self._traveling.offsets.is_told(self._traveling.connections, row):
                    self._slot[row] = self.used + 1
                    self.used += 1
                    self._change(row)
                row += 1

    def end(self):
        """Write no more; the memory is not used any longer."""
        release_column(self._slot)
        release_column(self._generation)
        self._slot = NULL
        self._generation = NULL
        self._view = None
        self._memory = NULL
        self.slots = self.used = 0

    cdef int _use(self, memory, salt) except -1:
        cdef uint8_t[::1] view
        if self._slot != NULL:
            self.end()
        if len(memory) < _SLOT_BYTES:
            return 0
        view = memory
        self._slot = <int*>column(NULL, self._traveling.connections.rows_max, sizeof(int), 0)
        self._generation = <uint32_t*>column(NULL, len(memory) // _SLOT_BYTES, sizeof(uint32_t), 0)
        self._view = view
        self._memory = &view[0]
        self._salt = salt
        self.slots = len(memory) // _SLOT_BYTES
        return 0

    # ── writing ───────────────────────────────────────────────────────────────────────────────────────────────

    cdef inline void changed(self, int row) noexcept nogil:
        """A row may have changed."""
        if self._slot != NULL and self._slot[row]:
            if self._traveling.offsets.is_told(self._traveling.connections, row):
                self._change(row)
            else:
                self._empty(row)

    cdef inline void gone(self, int row) noexcept nogil:
        """A row is about to be removed."""
        if self._slot != NULL and self._slot[row]:
            self._empty(row)

    cdef void _change(self, int row) noexcept nogil:
        cdef uint8_t[72] record
        cdef uint8_t* newest
        cdef int slot = self._slot[row] - 1
        memset(record, 0, _RECORD6_BYTES)
        self._traveling._write_record(row, 1 if self._traveling._is_ipv4(row) else 4, record, 0)
        newest = self._version(slot, self._generation[slot])
        if self._generation[slot] == 0 or memcmp(newest + _SAVED_AT, record, _RECORD6_BYTES) != 0:
            self._write(slot, record)

    cdef void _empty(self, int row) noexcept nogil:
        cdef uint8_t[72] record
        memset(record, 0, _RECORD6_BYTES)
        self._write(self._slot[row] - 1, record)
        self._slot[row] = 0
        self.used -= 1

    cdef inline uint8_t* _version(self, int slot, uint32_t generation) noexcept nogil:
        return self._memory + <Py_ssize_t>slot * _SLOT_BYTES + (generation & 1) * _VERSION_BYTES

    cdef void _write(self, int slot, const uint8_t* record) noexcept nogil:
        cdef uint32_t generation = self._generation[slot] + 1
        cdef uint8_t* version = self._version(slot, generation)
        cdef uint64_t total = 0
        memcpy(version, &total, 8)
        keep_order(__ATOMIC_SEQ_CST)
        store32(version, 8, generation)
        store32(version, 12, 0)
        memcpy(version + _SAVED_AT, record, _RECORD6_BYTES)
        total = saved_sum(version, self._salt, slot)
        keep_order(__ATOMIC_SEQ_CST)
        memcpy(version, &total, 8)
        keep_order(__ATOMIC_SEQ_CST)
        self._generation[slot] = generation

    # ── reading ───────────────────────────────────────────────────────────────────────────────────────────────

    cdef bint _is_whole(self, int slot, int parity) noexcept nogil:
        """Whether a version has its checksum, and a record or zeros."""
        cdef uint8_t* version = self._version(slot, parity)
        cdef uint64_t total
        memcpy(&total, version, 8)
        if total != saved_sum(version, self._salt, slot) or load32(version, 8) & 1 != parity:
            return False
        return load32(version, _SAVED_AT) == 0 or self._traveling._check_record(
            version, _SAVED_AT, _SAVED_AT + _RECORD6_BYTES
        ) != 0

    cdef Py_ssize_t choose(self, int slot) noexcept nogil:
        """Where the record of a slot is in the memory; 0: its connection is gone; -1: neither version is whole."""
        cdef bint has_even = self._is_whole(slot, 0)
        cdef bint has_odd = self._is_whole(slot, 1)
        cdef uint32_t even = load32(self._version(slot, 0), 8)
        cdef uint32_t odd = load32(self._version(slot, 1), 8)
        cdef uint8_t* version
        if not has_even and not has_odd:
            return -1
        if not has_odd or (has_even and seq_diff(even, odd) > 0):
            self._generation[slot] = even
        else:
            self._generation[slot] = odd
        version = self._version(slot, self._generation[slot]) + _SAVED_AT
        return 0 if load32(version, 0) == 0 else version - self._memory
