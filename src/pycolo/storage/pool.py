"""Waiting packets: one record each, in columns, and first-in-first-out queues of them.

A record is an index into the columns of a `Pool`; its bytes lie in the pool's arena at `pos[record]`. Columns that
describe the packet are filled by whoever stores it. `NONE` (-1) is no record.
"""

from array import array

import cython

from pycolo.storage.arena import zeroed

if cython.compiled:
    from cython.cimports.pycolo.storage.arena import Arena
    from cython.cimports.pycolo.wire.octets import copy
else:
    from pycolo.storage.arena import Arena
    from pycolo.wire.octets import copy

_NONE = cython.declare(cython.int, -1)
NONE = -1


def filled(count: int, typecode: str, value: int) -> array:
    """A column of `count` numbers, all `value`."""
    return array(typecode, [value]) * count


def grown(column, count: int, typecode: str, value: int) -> array:
    """`column` lengthened to `count` numbers; the new ones are `value`."""
    longer = array(typecode, memoryview(column).tobytes())
    longer.extend(array(typecode, [value]) * (count - len(longer)))
    return longer


class Pool:
    """Records and their bytes. Both budgets are fixed; `store` says -1 when either is used up.

    Columns, by record: `next` (in whatever list it is), `pos`, `length`, `vnet_len` (bytes in the arena), `row` (its
    connection), `arrived_us`, `flags`, `seq`, `ack`, `window`, `payload_pos` (from `pos`), `payload_len`, `digest`
    (of a datagram's payload), `chain` (first fragment of a reassembled datagram).
    """

    def __init__(self, budget_bytes, records_max):
        self.arena = Arena(budget_bytes)
        self.records_max = records_max
        self.used = 0
        self.next = zeroed(records_max, "i")
        self.row = zeroed(records_max, "i")
        self.pos = zeroed(records_max, "q")
        self.length = zeroed(records_max, "i")
        self.vnet_len = zeroed(records_max, "i")
        self.arrived_us = zeroed(records_max, "q")
        self.flags = zeroed(records_max, "i")
        self.seq = zeroed(records_max, "I")
        self.ack = zeroed(records_max, "I")
        self.window = zeroed(records_max, "i")
        self.payload_pos = zeroed(records_max, "i")
        self.payload_len = zeroed(records_max, "i")
        self.digest = zeroed(records_max, "I")
        self.chain = zeroed(records_max, "i")
        self._free = _NONE
        self._untouched = 0

    @property
    def used_bytes(self):
        """Bytes of the arena in use."""
        return self.arena.used_bytes

    @property
    def budget_bytes(self):
        """Bytes of the arena in all."""
        return self.arena.slab_count << 17

    def alloc(self, size: cython.Py_ssize_t) -> cython.int:
        """A record with room for `size` bytes, or NONE. `length` is set, all else but `chain` is left over."""
        record: cython.int = self._free
        if record == _NONE and self._untouched == self.records_max:
            return _NONE
        pos: cython.longlong = self.arena.alloc(size)
        if pos == -1:
            return _NONE
        if record != _NONE:
            self._free = self.next[record]
        else:
            record = self._untouched
            self._untouched += 1
        self.next[record] = _NONE
        self.chain[record] = _NONE
        self.pos[record] = pos
        self.length[record] = size
        self.used += 1
        return record

    def store(
        self, buf: cython.uchar[::1], start: cython.Py_ssize_t, size: cython.Py_ssize_t, vnet_len: cython.int
    ) -> cython.int:
        """A record that holds a copy of `size` bytes of `buf` from `start`, or NONE."""
        record: cython.int = self.alloc(size)
        if record != _NONE:
            self.vnet_len[record] = vnet_len
            copy(self.arena.memory, self.pos[record], buf, start, size)
        return record

    def free(self, record: cython.int) -> cython.int:
        """Give a record and its bytes back, and those chained to it."""
        while record != _NONE:
            chained: cython.int = self.chain[record]
            self.arena.free(self.pos[record])
            self.next[record] = self._free
            self.chain[record] = _NONE
            self._free = record
            self.used -= 1
            record = chained
        return 0


class Queues:
    """`rows` singly linked lists over the records of one pool: `head`, `tail` and `count`, by row."""

    def __init__(self, pool, rows):
        self.pool = pool
        self.head = filled(rows, "i", NONE)
        self.tail = filled(rows, "i", NONE)
        self.count = filled(rows, "i", 0)

    def grow(self, rows):
        """Make room for `rows` lists."""
        self.head = grown(self.head, rows, "i", NONE)
        self.tail = grown(self.tail, rows, "i", NONE)
        self.count = grown(self.count, rows, "i", 0)

    def push(self, row: cython.int, record: cython.int) -> cython.int:
        """Append."""
        last: cython.int = self.tail[row]
        self.pool.next[record] = _NONE
        if last == _NONE:
            self.head[row] = record
        else:
            self.pool.next[last] = record
        self.tail[row] = record
        self.count[row] += 1
        return 0

    def pop(self, row: cython.int) -> cython.int:
        """Take the first, or NONE."""
        if self.head[row] == _NONE:
            return _NONE
        return self.take_after(row, _NONE)

    def take_after(self, row: cython.int, before: cython.int) -> cython.int:
        """Take the record behind `before` (NONE: the first), which must be there."""
        record: cython.int = self.head[row] if before == _NONE else self.pool.next[before]
        after: cython.int = self.pool.next[record]
        if before == _NONE:
            self.head[row] = after
        else:
            self.pool.next[before] = after
        if after == _NONE:
            self.tail[row] = before
        self.pool.next[record] = _NONE
        self.count[row] -= 1
        return record

    def insert_after(self, row: cython.int, before: cython.int, record: cython.int) -> cython.int:
        """Put `record` behind `before` (NONE: first)."""
        if before == _NONE:
            self.pool.next[record] = self.head[row]
            self.head[row] = record
        else:
            self.pool.next[record] = self.pool.next[before]
            self.pool.next[before] = record
        if self.pool.next[record] == _NONE:
            self.tail[row] = record
        self.count[row] += 1
        return 0

    def free_all(self, row: cython.int) -> cython.int:
        """Free every record of a list; how many there were is returned."""
        freed: cython.int = self.count[row]
        record: cython.int = self.pop(row)
        while record != _NONE:
            self.pool.free(record)
            record = self.pop(row)
        return freed
