"""The record of differences, until the shell takes them.

Reported bytes of a packet are copied: it may leave, or be dropped, right afterwards.
"""


cdef Py_ssize_t _CONTEXT = limits.DIFFERENCE_CONTEXT_BYTES
cdef enum:
    _REPORTS = 64
cdef int _TIMEOUT = DifferenceKind.TIMEOUT
cdef int _SECONDARY_TIMEOUT = DifferenceKind.SECONDARY_TIMEOUT


cdef class Reports:
    """`policy`: a `DivergencePolicy`.

    `checkpoint_wanted` is set by the first difference of an epoch under the CHECKPOINT policy, cleared at commit.
    """

    cdef readonly ConnectionTable table
    cdef readonly Pool pool
    cdef readonly CompareStats stats
    cdef readonly Trace trace
    cdef public int policy
    cdef public bint checkpoint_wanted
    cdef int _reports
    cdef int* _report_kind
    cdef uint32_t* _report_seq
    cdef long long* _report_waited_us
    cdef uint64_t* _report_masked
    cdef int* _report_has_key
    cdef uint32_t* _report_key
    cdef int* _report_index
    cdef int* _report_length
    cdef uint8_t* _report_bytes

    def __dealloc__(self):
        release_column(self._report_kind)
        release_column(self._report_seq)
        release_column(self._report_waited_us)
        release_column(self._report_masked)
        release_column(self._report_has_key)
        release_column(self._report_key)
        release_column(self._report_index)
        release_column(self._report_length)
        release_column(self._report_bytes)

    def __init__(self, table, pool, policy):
        self.table = table
        self.pool = pool
        self.policy = policy
        self.stats = CompareStats()
        self.trace = Trace(pool)
        self.checkpoint_wanted = False
        self._reports = 0
        self._report_kind = <int*>column(self._report_kind, _REPORTS, sizeof(int), 0)
        self._report_seq = <uint32_t*>column(self._report_seq, _REPORTS, sizeof(uint32_t), 0)
        self._report_waited_us = <long long*>column(self._report_waited_us, _REPORTS, sizeof(long long), 0)
        self._report_masked = <uint64_t*>column(self._report_masked, _REPORTS, sizeof(uint64_t), 0)
        self._report_has_key = <int*>column(self._report_has_key, _REPORTS, sizeof(int), 0)
        self._report_key = <uint32_t*>column(self._report_key, _REPORTS * _KEY_WORDS, sizeof(uint32_t), 0)
        self._report_index = <int*>column(self._report_index, 2 * _REPORTS, sizeof(int), 0)
        self._report_length = <int*>column(self._report_length, 2 * _REPORTS, sizeof(int), 0)
        self._report_bytes = <uint8_t*>column(self._report_bytes, 2 * _REPORTS * 2 * _CONTEXT, 1, 0)

    cdef int report(self, int kind, int row, long long seq, long long waited_us) noexcept nogil:
        """Record a difference (row -1: of no single connection); returns its index for `add_context`, -1 if full."""
        self.stats.differences += 1
        if self.policy == DivergencePolicy.CHECKPOINT:
            self.checkpoint_wanted = True
        if self._reports == _REPORTS:
            self.stats.reports_lost += 1
            return _NONE
        index: cython.int = self._reports
        self._reports += 1
        self._report_kind[index] = kind
        self._report_seq[index] = seq_add(seq, 0)
        self._report_waited_us[index] = waited_us
        self._report_masked[index] = 0
        self._report_has_key[index] = row != _NONE
        self._report_length[2 * index] = self._report_length[2 * index + 1] = 0
        self._report_index[2 * index] = self._report_index[2 * index + 1] = 0
        if row != _NONE:
            self.table.copy_key(row, self._report_key, index * _KEY_WORDS)
        return index

    cdef int report_key(self, int kind, uint32_t* words, Py_ssize_t pos, long long waited_us) noexcept nogil:
        """Record a difference of a connection without a row: its key is the eleven `words` from `pos`."""
        index: cython.int = self.report(kind, _NONE, 0, waited_us)
        if index != _NONE:
            self._report_has_key[index] = True
            i: cython.Py_ssize_t = 0
            while i < _KEY_WORDS:
                self._report_key[index * _KEY_WORDS + i] = words[pos + i]
                i += 1
        return index

    cdef int add_masked(self, int index, uint64_t masked) noexcept nogil:
        """Of the bytes in front of the difference: see `Masks.hidden_before`."""
        if index != _NONE:
            self._report_masked[index] = masked
        return 0

    cdef int add_context(self, int index, int side, int record, long long at) noexcept nogil:
        """Keep the bytes of `record`'s payload around arena position `at`; `side` 0 primary, 1 secondary."""
        cdef Record* rec = &self.pool.at[record]
        if index == _NONE:
            return 0
        first: cython.longlong = rec.pos + rec.payload_pos
        end: cython.longlong = first + rec.payload_len
        if at < first or at > end:  # a SYN, or an older packet: show its beginning
            at = first
        kind: cython.int = self._report_kind[index]
        if self.trace.is_on and kind != _TIMEOUT and kind != _SECONDARY_TIMEOUT:
            self.trace.note(record, side, PacketFate.DIFFERS, at - first)
        slot: cython.int = 2 * index + side
        start: cython.longlong = at - _CONTEXT if at - first > _CONTEXT else first
        stop: cython.longlong = at + _CONTEXT if end - at > _CONTEXT else end
        copy(self._report_bytes, slot * 2 * _CONTEXT, self.pool.arena.memory, start, stop - start)
        self._report_index[slot] = at - start
        self._report_length[slot] = stop - start
        return 0

    def take_differences(self):
        """The differences recorded since the last call, as `Difference` values."""
        found = [self._difference(index) for index in range(self._reports)]
        self._reports = 0
        return found

    def _difference(self, index):
        key = None
        if self._report_has_key[index]:
            base = index * _KEY_WORDS
            key = key_from_words([self._report_key[base + i] for i in range(_KEY_WORDS)])
        sides = []
        for slot in (2 * index, 2 * index + 1):
            start = slot * 2 * _CONTEXT
            sides.append(self._report_bytes[start : start + self._report_length[slot]])
        return Difference(
            DifferenceName(self._report_kind[index]),
            key,
            self._report_seq[index],
            self._report_waited_us[index] // 1000,
            sides[0],
            self._report_index[2 * index],
            sides[1],
            self._report_index[2 * index + 1],
            masked=self._report_masked[index] & ((<uint64_t>1 << self._report_index[2 * index + 1]) - 1),
        )
