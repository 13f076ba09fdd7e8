"""TCP, what was equal: the secondary's payload below the frontier, kept while the primary may send it again (rule C9).

Payload that is sent again is compared again, with what the secondary sent the first time. Bounded per connection, and
given up first when memory is short: payload whose first copy is not here any more leaves.
"""

import cython

from pycolo import limits
from pycolo.storage.pool import filled, grown

if cython.compiled:
    from cython.cimports.pycolo.storage.pool import Queues
    from cython.cimports.pycolo.wire.octets import first_difference
    from cython.cimports.pycolo.wire.seq import seq_add, seq_diff, seq_max, seq_min
else:
    from pycolo.storage.pool import Queues
    from pycolo.wire.octets import first_difference
    from pycolo.wire.seq import seq_add, seq_diff, seq_max, seq_min

_NONE = cython.declare(cython.int, -1)
_PACKETS_MAX = cython.declare(cython.int, limits.RETAINED_PACKETS_MAX)
_BYTES_MAX = cython.declare(cython.longlong, limits.RETAINED_BYTES_MAX)


class History:
    """`used`, `used_bytes`: the share of the pool that is kept here. The first that began to keep goes first."""

    def __init__(self, pool, rows):
        self.pool = pool
        self.kept = Queues(pool, rows)
        self.used = 0
        self.used_bytes = 0
        self._bytes = filled(rows, "q", 0)
        self._newer = filled(rows, "i", -1)
        self._older = filled(rows, "i", -1)
        self._oldest = _NONE
        self._newest = _NONE
        self.theirs = _NONE

    def grow(self, rows):
        """Make room for `rows` connections."""
        self.kept.grow(rows)
        self._bytes = grown(self._bytes, rows, "q", 0)
        self._newer = grown(self._newer, rows, "i", -1)
        self._older = grown(self._older, rows, "i", -1)

    def keep(self, row: cython.int, record: cython.int) -> cython.int:
        """Take over a record of the secondary that lies below the frontier."""
        if self.kept.count[row] == 0:
            self._link(row)
        self.kept.push(row, record)
        self.used += 1
        self.used_bytes += self.pool.arena.block_bytes(self.pool.pos[record])
        self._bytes[row] += self.pool.length[record]
        while self.kept.count[row] > _PACKETS_MAX or (self.kept.count[row] > 1 and self._bytes[row] > _BYTES_MAX):
            self._drop_first(row)
        if 2 * self.used > self.pool.records_max:
            self.make_room()
        return 0

    def _drop_first(self, row: cython.int) -> cython.int:
        record: cython.int = self.kept.pop(row)
        self.used -= 1
        self.used_bytes -= self.pool.arena.block_bytes(self.pool.pos[record])
        self._bytes[row] -= self.pool.length[record]
        if self.kept.count[row] == 0:
            self._unlink(row)
        return self.pool.free(record)

    def forget(self, row: cython.int) -> cython.int:
        """The connection begins anew, or is not compared any more."""
        while self.kept.count[row]:
            self._drop_first(row)
        return 0

    def acknowledged(self, row: cython.int, seq: cython.longlong) -> cython.int:
        """The client has everything below `seq`: it needs no second copy."""
        record: cython.int = self.kept.head[row]
        while record != _NONE and seq_diff(self._end(record), seq) <= 0:
            self._drop_first(row)
            record = self.kept.head[row]
        return 0

    def make_room(self) -> cython.bint:
        """Give up what the connection that has kept something for longest keeps; False when nothing is kept at all."""
        if self._oldest == _NONE:
            return False
        self.forget(self._oldest)
        return True

    # ── comparing again ───────────────────────────────────────────────────────────────────────────────────────

    def differs(self, row: cython.int, record: cython.int, end: cython.longlong) -> cython.Py_ssize_t:
        """How far into the payload of `record`, a primary's packet, the first byte below `end` is that differs, or -1.

        `theirs` is then the kept record that it differs from.
        """
        kept: cython.int = self.kept.head[row]
        first: cython.longlong
        last: cython.longlong
        same: cython.longlong
        end = seq_min(end, self._end(record))
        while kept != _NONE:
            first = seq_max(self.pool.seq[record], self.pool.seq[kept])
            last = seq_min(end, self._end(kept))
            if seq_diff(last, first) > 0:
                same = first_difference(
                    self.pool.arena.memory,
                    self._byte_pos(record, first),
                    self.pool.arena.memory,
                    self._byte_pos(kept, first),
                    seq_diff(last, first),
                )
                if same < seq_diff(last, first):
                    self.theirs = kept
                    return seq_diff(first, self.pool.seq[record]) + same
            kept = self.pool.next[kept]
        return -1

    def _end(self, record: cython.int) -> cython.Py_ssize_t:
        return seq_add(self.pool.seq[record], self.pool.payload_len[record])

    def _byte_pos(self, record: cython.int, seq: cython.longlong) -> cython.Py_ssize_t:
        return self.pool.pos[record] + self.pool.payload_pos[record] + seq_diff(seq, self.pool.seq[record])

    # ── the list of connections ───────────────────────────────────────────────────────────────────────────────

    def _link(self, row: cython.int) -> cython.int:
        """Put a connection that begins to keep something at the end of the list."""
        self._older[row] = self._newest
        self._newer[row] = _NONE
        if self._newest == _NONE:
            self._oldest = row
        else:
            self._newer[self._newest] = row
        self._newest = row
        return 0

    def _unlink(self, row: cython.int) -> cython.int:
        before: cython.int = self._older[row]
        after: cython.int = self._newer[row]
        if before == _NONE:
            self._oldest = after
        else:
            self._newer[before] = after
        if after == _NONE:
            self._newest = before
        else:
            self._older[after] = before
        return 0
