"""One block of memory for the bytes of waiting frames: a slab allocator.

::

    memory │ slab 0 (128 KiB) │ slab 1 │ …      a slab holds blocks of one size: 128 B, 256 B, … 128 KiB

A frame is contiguous, so it can be compared, patched and sent without a walk over chunks. The first four bytes of a
free block link to the next free one. Slabs with a free block are listed per block size; a slab without used blocks
serves any size again. Rounding costs at most half of the memory, and never more than the budget (whole slabs, at least
one). The memory is mapped anonymously: unused pages cost nothing.
"""


cdef enum:
    _SLAB_SHIFT = 17
    _SLAB_BYTES = 0x20000
    _BLOCK_SHIFT_MIN = 7
    _CLASSES = 11
    _END = -1


cdef inline int block_kind(Py_ssize_t size) noexcept nogil:
    """The class of the smallest block for `size` bytes: 0 for 128, 1 for 256, …"""
    return 0 if size <= 128 else 57 - __builtin_clzll(size - 1)


@cython.final
cdef class Arena:
    """`memory` is the block; `alloc` returns positions in it. `used_bytes` counts allocated blocks."""

    cdef uint8_t* memory
    cdef readonly int slab_count
    cdef readonly long long used_bytes
    cdef int* _class
    cdef int* _used
    cdef int* _carved
    cdef int* _free
    cdef int* _next
    cdef int* _previous
    cdef int* _partial
    cdef int _untouched
    cdef int _empty

    def __dealloc__(self):
        release_column(self.memory)
        release_column(self._class)
        release_column(self._used)
        release_column(self._carved)
        release_column(self._free)
        release_column(self._next)
        release_column(self._previous)
        release_column(self._partial)

    def __init__(self, budget_bytes):
        self.slab_count = max(1, budget_bytes >> _SLAB_SHIFT)
        self.memory = <uint8_t*>column(self.memory, self.slab_count << _SLAB_SHIFT, sizeof(uint8_t), 0)
        self.used_bytes = 0
        self._class = <int*>column(self._class, self.slab_count, sizeof(int), 0)
        self._used = <int*>column(self._used, self.slab_count, sizeof(int), 0)
        self._carved = <int*>column(self._carved, self.slab_count, sizeof(int), 0)
        self._free = <int*>column(self._free, self.slab_count, sizeof(int), 0)
        self._next = <int*>column(self._next, self.slab_count, sizeof(int), 0)
        self._previous = <int*>column(self._previous, self.slab_count, sizeof(int), 0)
        self._partial = <int*>column(self._partial, _CLASSES, sizeof(int), 0)
        for i in range(_CLASSES):
            self._partial[i] = _END
        self._untouched = 0
        self._empty = _END

    cpdef Py_ssize_t alloc(self, Py_ssize_t size) noexcept nogil:
        """Position of a block of at least `size` bytes; -1 if the budget is exhausted or no block is that large."""
        if size > _SLAB_BYTES:
            return -1
        kind: cython.int = block_kind(size)
        shift: cython.int = kind + _BLOCK_SHIFT_MIN
        slab: cython.int = self._partial[kind]
        if slab == _END:
            slab = self._take_slab(kind)
            if slab == _END:
                return -1
        base: cython.longlong = slab
        base = base << _SLAB_SHIFT
        block: cython.longlong = self._free[slab]
        if block != _END:
            self._free[slab] = load32(self.memory, base + (block << shift)) - 1
        else:
            block = self._carved[slab]
            self._carved[slab] += 1
        self._used[slab] += 1
        self.used_bytes += 1 << shift
        if self._used[slab] == _SLAB_BYTES >> shift:
            self._unlink(slab, kind)
        return base + (block << shift)

    cdef Py_ssize_t block_bytes(self, long long pos) noexcept nogil:
        """The size of the block at `pos`, as `used_bytes` counts it."""
        shift: cython.int = self._class[pos >> _SLAB_SHIFT] + _BLOCK_SHIFT_MIN
        size: cython.longlong = 1
        return size << shift

    cpdef int free(self, long long pos) noexcept nogil:
        """Free the block at `pos`."""
        slab: cython.int = pos >> _SLAB_SHIFT
        kind: cython.int = self._class[slab]
        shift: cython.int = kind + _BLOCK_SHIFT_MIN
        was_full: cython.bint = self._used[slab] == _SLAB_BYTES >> shift
        block: cython.longlong = (pos & (_SLAB_BYTES - 1)) >> shift
        store32(self.memory, pos, self._free[slab] + 1)
        self._free[slab] = block
        self._used[slab] -= 1
        self.used_bytes -= 1 << shift
        if was_full:
            self._link(slab, kind)
        if self._used[slab] == 0:
            self._unlink(slab, kind)
            self._next[slab] = self._empty
            self._empty = slab
        return 0

    cdef int _take_slab(self, int kind) noexcept nogil:
        slab: cython.int = self._empty
        if slab != _END:
            self._empty = self._next[slab]
        elif self._untouched < self.slab_count:
            slab = self._untouched
            self._untouched += 1
        else:
            return _END
        self._class[slab] = kind
        self._used[slab] = 0
        self._carved[slab] = 0
        self._free[slab] = _END
        self._link(slab, kind)
        return slab

    cdef int _link(self, int slab, int kind) noexcept nogil:
        head: cython.int = self._partial[kind]
        self._next[slab] = head
        self._previous[slab] = _END
        if head != _END:
            self._previous[head] = slab
        self._partial[kind] = slab
        return 0

    cdef int _unlink(self, int slab, int kind) noexcept nogil:
        before: cython.int = self._previous[slab]
        after: cython.int = self._next[slab]
        if before == _END:
            self._partial[kind] = after
        else:
            self._next[before] = after
        if after != _END:
            self._previous[after] = before
        return 0
