"""Which connection gives way when the memory is full: the one that holds most, without a scan for each packet.

A scan puts all connections with held packets into a heap, the largest on top. The next to give way is then on top; if
it holds less by now, it sinks. Connections that are new or have grown are seen at the next scan: each time if a scan is
short, otherwise after so many connections gave way that it costs each of them little.
"""


cdef enum:
    _STEPS_FREE = 2048  # a scan of at most so many is made each time
    _STEPS_EACH = 64  # steps of a longer scan, for each that gives way
    _VAIN_US = 10000  # a scan that found nothing is not repeated sooner


cdef struct Holder:
    # A connection, and its held bytes and packets at the last scan.
    long long size
    int row
    int count


@cython.final
cdef class Relief:
    """The heap is `_at[0]` to `_at[_count - 1]`. `has_looked`: the last call of `largest` made a scan."""

    cdef Held held
    cdef Holder* _at
    cdef bint has_looked
    cdef int _count
    cdef long long _steps
    cdef long long _vain_until_us

    def __dealloc__(self):
        release_column(self._at)

    def __init__(self, held):
        self.held = held
        self._at = <Holder*>column(self._at, held.pool.records_max, sizeof(Holder), 0)
        self.has_looked = False
        self._count = 0
        self._steps = 0
        self._vain_until_us = 0

    cdef int largest(self, long long now_us) noexcept nogil:
        """The connection that holds most bytes and does not differ, or -1. It is about to give way."""
        cdef int row
        self.has_looked = False
        self._steps -= _STEPS_EACH
        if self._steps > 0:
            row = self._pop()
            if row != _NONE:
                return row
        if now_us < self._vain_until_us:
            return _NONE
        self._look()
        self.has_looked = True
        row = self._pop()
        if row == _NONE:
            self._vain_until_us = now_us + _VAIN_US
        return row

    cdef int _look(self) noexcept nogil:
        """Scan all connections that hold packets."""
        cdef int row = self.held.active_head
        cdef Row* r
        cdef Holder* one
        self._count = 0
        self._steps = 0
        while row != _NONE:
            r = &self.held.rows[row]
            self._steps += 1 + r.primary.count + r.secondary.count
            if r.primary.count + r.secondary.count and not r.flags & RowFlag.DIVERGED:
                one = &self._at[self._count]
                self._count += 1
                one.row = row
                one.count = r.primary.count + r.secondary.count
                one.size = self.held.bytes_of(r.primary.head) + self.held.bytes_of(r.secondary.head)
            row = r.active_next
        self.held.pool.walked += self._steps
        self._steps -= _STEPS_FREE
        row = self._count // 2
        while row > 0:
            row -= 1
            self._sink(row)
        return 0

    cdef int _pop(self) noexcept nogil:
        """Remove and return the largest, or -1."""
        cdef Holder* top = &self._at[0]
        cdef Row* r
        cdef int count
        while self._count:
            self.held.pool.walked += 1
            r = &self.held.rows[top.row]
            count = r.primary.count + r.secondary.count
            if count >= top.count and not r.flags & RowFlag.DIVERGED:
                return self._take_top()
            if count and not r.flags & RowFlag.DIVERGED:
                top.size = top.size * count // top.count
                top.count = count
                self._sink(0)
            else:
                self._take_top()
        return _NONE

    cdef int _take_top(self) noexcept nogil:
        cdef int row = self._at[0].row
        self._count -= 1
        self._at[0] = self._at[self._count]
        self._sink(0)
        return row

    cdef int _sink(self, int place) noexcept nogil:
        """Let an entry sink below larger ones."""
        cdef Holder one = self._at[place]
        cdef int below = 2 * place + 1
        while below < self._count:
            if below + 1 < self._count and self._at[below + 1].size > self._at[below].size:
                below += 1
            if self._at[below].size <= one.size:
                break
            self.held.pool.walked += 1
            self._at[place] = self._at[below]
            place = below
            below = 2 * place + 1
        self._at[place] = one
        return 0
