"""One block of memory for the bytes of waiting frames: a slab allocator.

::

    memory │ slab 0 (128 KiB) │ slab 1 │ …      a slab holds blocks of one size: 128 B, 256 B, … 128 KiB

A frame lies in one piece, so that it can be compared, patched and sent without a walk over chunks; a free block's
first four bytes link to the next free one. Slabs with a free block are listed per block size; a slab whose last
block comes back serves any size again. Costs at most half of the memory in rounding, never more than the budget
(whole slabs, at least one).
The memory is mapped anonymously: pages that were never used cost nothing.
"""

from mmap import mmap

import cython

if cython.compiled:
    from cython.cimports.pycolo.wire.octets import load32, store32
else:
    from pycolo.wire.octets import load32, store32

_SLAB_SHIFT = cython.declare(cython.int, 17)
_SLAB_BYTES = cython.declare(cython.Py_ssize_t, 1 << 17)
_BLOCK_SHIFT_MIN = cython.declare(cython.int, 7)
_CLASSES = cython.declare(cython.int, 11)
_END = cython.declare(cython.int, -1)


def zeroed(count: int, typecode: str) -> memoryview:
    """A zero-filled, lazily backed column of `count` numbers of array type `typecode`."""
    size = memoryview(b"\0" * 8).cast(typecode).itemsize
    return memoryview(mmap(-1, max(1, count) * size)).cast("B").cast(typecode)


class Arena:
    """`memory` is the block; `alloc` gives positions in it. `used_bytes` counts allocated blocks."""

    def __init__(self, budget_bytes):
        self.slab_count = max(1, budget_bytes >> _SLAB_SHIFT)
        self.memory = zeroed(self.slab_count << _SLAB_SHIFT, "B")
        self.used_bytes = 0
        self._class = zeroed(self.slab_count, "i")
        self._used = zeroed(self.slab_count, "i")
        self._carved = zeroed(self.slab_count, "i")
        self._free = zeroed(self.slab_count, "i")
        self._next = zeroed(self.slab_count, "i")
        self._previous = zeroed(self.slab_count, "i")
        self._partial = zeroed(_CLASSES, "i")
        for i in range(_CLASSES):
            self._partial[i] = _END
        self._untouched = 0
        self._empty = _END

    def alloc(self, size: cython.Py_ssize_t) -> cython.Py_ssize_t:
        """Position of a block of at least `size` bytes; -1 if the budget is used up or no block is that large."""
        if size > _SLAB_BYTES:
            return -1
        shift: cython.int = _BLOCK_SHIFT_MIN
        while (1 << shift) < size:
            shift += 1
        kind: cython.int = shift - _BLOCK_SHIFT_MIN
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

    def block_bytes(self, pos: cython.longlong) -> cython.Py_ssize_t:
        """The size of the block at `pos`, as `used_bytes` counts it."""
        shift: cython.int = self._class[pos >> _SLAB_SHIFT] + _BLOCK_SHIFT_MIN
        size: cython.longlong = 1
        return size << shift

    def free(self, pos: cython.longlong) -> cython.int:
        """Give the block at `pos` back."""
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

    def _take_slab(self, kind: cython.int) -> cython.int:
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

    def _link(self, slab: cython.int, kind: cython.int) -> cython.int:
        head: cython.int = self._partial[kind]
        self._next[slab] = head
        self._previous[slab] = _END
        if head != _END:
            self._previous[head] = slab
        self._partial[kind] = slab
        return 0

    def _unlink(self, slab: cython.int, kind: cython.int) -> cython.int:
        before: cython.int = self._previous[slab]
        after: cython.int = self._next[slab]
        if before == _END:
            self._partial[kind] = after
        else:
            self._next[before] = after
        if after != _END:
            self._previous[after] = before
        return 0
