"""Client frames that wait for their guest's part of the handshake: each with a deadline, all within a budget (R3).

They share the pool of the copies, of which they may take one eighth. What is not asked for in time goes: the client
sends it again.
"""

import cython

from pycolo import limits

if cython.compiled:
    from cython.cimports.pycolo.storage.pool import Pool, Queues
    from cython.cimports.pycolo.wire.packet import Packet
else:
    from pycolo.storage.pool import Pool, Queues
    from pycolo.wire.packet import Packet

_NONE = cython.declare(cython.int, -1)
_HELD_MAX = cython.declare(cython.int, limits.HANDSHAKE_HELD_PACKETS_MAX)
_HELD_US = cython.declare(cython.longlong, limits.HANDSHAKE_HELD_MS * 1000)


class HandshakeFrames:
    """`count` of them wait, in lists by row; `used_bytes` of `bytes_max`."""

    def __init__(self, pool: Pool, rows, bytes_max):
        self.pool = pool
        self.queues = Queues(pool, rows)
        self.count = 0
        self.used_bytes = 0
        self.bytes_max = bytes_max

    def grow(self, rows):
        """Make room for `rows` connections."""
        self.queues.grow(rows)

    def hold(self, row: cython.int, buf: cython.uchar[::1], packet: Packet, now_us: cython.longlong) -> cython.bint:
        """Keep a copy of the frame; False if there is no room."""
        size: cython.Py_ssize_t = packet.end - packet.start
        if self.queues.count[row] >= _HELD_MAX or self.used_bytes + size > self.bytes_max:
            return False
        record: cython.int = self.pool.store(buf, packet.start, size, packet.vnet_len)
        if record == _NONE:
            return False
        self.pool.arrived_us[record] = now_us
        self.count += 1
        self.used_bytes += size
        self.queues.push(row, record)
        return True

    def take(self, row: cython.int) -> cython.int:
        """The oldest of a row, or -1; it is the caller's from now on, or is put back."""
        record: cython.int = self.queues.pop(row)
        if record != _NONE:
            self.count -= 1
            self.used_bytes -= self.pool.length[record]
        return record

    def put_back(self, row: cython.int, record: cython.int) -> cython.int:
        """It has to wait on, behind the others of the row."""
        self.count += 1
        self.used_bytes += self.pool.length[record]
        return self.queues.push(row, record)

    def age(self, row: cython.int, now_us: cython.longlong) -> cython.int:
        """Drop those of a row that have waited for long enough; how many is returned."""
        dropped: cython.int = 0
        record: cython.int = self.queues.head[row]
        while record != _NONE and now_us - self.pool.arrived_us[record] >= _HELD_US:
            self.pool.free(self.take(row))
            dropped += 1
            record = self.queues.head[row]
        return dropped

    def forget(self, row: cython.int) -> cython.int:
        """Drop all of a row; how many is returned."""
        dropped: cython.int = 0
        record: cython.int = self.take(row)
        while record != _NONE:
            self.pool.free(record)
            dropped += 1
            record = self.take(row)
        return dropped
