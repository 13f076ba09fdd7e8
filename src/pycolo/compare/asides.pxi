"""State that only some connections have, and only for a time: a debt, a SYN, RSTs or a FIN of one side alone.

It would be most of a row, so it is stored apart, and `Row.aside` is its place: from the first write until none of it
has a meaning any more (`tidy`). Place 0 is shared by all connections without such state; it holds zeros and is never
written, so that reading needs no check.
"""


cdef struct Aside:
    # What an ACK needs that is owed to the client, and the secondary's SACK blocks: see `Promises`.
    uint32_t[8] blocks
    uint32_t told_ack
    int told_window
    int layout
    uint32_t seq
    uint32_t value
    uint32_t echo
    int has_time
    uint8_t[72] header
    # A SYN of the secondary without a partner: its promise, its options, and its arrival time.
    uint32_t next_ack
    int next_space
    int secondary_options
    long long syn_us
    # RSTs, see `ByteStreams`.
    int resets
    int next_resets
    uint32_t reset_ack
    uint64_t matched_acks
    long long reset_us
    # A FIN of the secondary.
    uint32_t secondary_fin
    long long fin_us
    # The latest TSval among overtaking segments, and the first byte in which two of the primary's held segments differ.
    uint32_t newest_value
    uint32_t contradicted_seq
    int next


# With one of these flags a row has state here.
cdef enum:
    _KEPT_ASIDE = (
        RowFlag.OWED | RowFlag.SECONDARY_SYN | RowFlag.SECONDARY_FIN | RowFlag.OVERTAKEN | RowFlag.CONTRADICTED
    )


@cython.final
cdef class Asides:
    """One place for each possible connection, so there is always one. `used` of them are taken."""

    cdef readonly int used
    cdef Aside* at
    cdef int _untouched
    cdef int _free

    def __dealloc__(self):
        release_column(self.at)

    def __init__(self, rows_max):
        self.at = <Aside*>column(self.at, rows_max + 1, sizeof(Aside), 0)
        self.used = 0
        self._untouched = 1
        self._free = 0

    def nothing(self):
        """The bytes of place 0: for tests."""
        return (<char*>self.at)[: sizeof(Aside)]

    cdef inline const Aside* of(self, const Row* r) noexcept nogil:
        """For reading."""
        return &self.at[r.aside]

    cdef inline Aside* own(self, Row* r) noexcept nogil:
        """For writing."""
        if not r.aside:
            self._take(r)
        return &self.at[r.aside]

    cdef int _take(self, Row* r) noexcept nogil:
        r.aside = self._free
        if self._free:
            self._free = self.at[r.aside].next
        else:
            r.aside = self._untouched
            self._untouched += 1
        memset(&self.at[r.aside], 0, sizeof(Aside))
        self.used += 1
        return 0

    cdef int no_resets(self, Row* r) noexcept nogil:
        """The secondary's RSTs no longer count."""
        if r.aside:
            self.at[r.aside].resets = self.at[r.aside].next_resets = 0
        return 0

    cdef int tidy(self, Row* r) noexcept nogil:
        """Free the place if nothing in it has a meaning any more."""
        cdef const Aside* aside = &self.at[r.aside]
        if not r.aside or r.flags & _KEPT_ASIDE or r.block_count:
            return 0
        if aside.resets or aside.next_resets or aside.matched_acks:
            return 0
        return self.drop(r)

    cdef int drop(self, Row* r) noexcept nogil:
        """Free the place, if there is one."""
        if r.aside:
            self.at[r.aside].next = self._free
            self._free = r.aside
            r.aside = 0
            self.used -= 1
        return 0
