"""Client frames that wait for their guest's part of the handshake: each with a deadline, all within a budget (R3).

They share the pool of the copies, of which they may use one eighth. Frames that are not needed in time are dropped: the
client sends them again.
"""


cdef int _HELD_MAX = limits.HANDSHAKE_HELD_PACKETS_MAX


@cython.final
cdef class HandshakeFrames:
    """`count` of them wait, in lists by row; `used_bytes` of `bytes_max`."""

    cdef readonly Pool pool
    cdef readonly Queues queues
    cdef readonly long long count
    cdef readonly long long used_bytes
    cdef readonly long long bytes_max


    def __init__(self, pool: Pool, rows, bytes_max):
        self.pool = pool
        self.queues = Queues(pool, rows, False)
        self.count = 0
        self.used_bytes = 0
        self.bytes_max = bytes_max

    cdef bint hold(self, int row, uint8_t* buf, Packet packet, long long now_us) noexcept nogil:
        """Keep a copy of the frame; False if there is no room."""
        size: cython.Py_ssize_t = packet.end - packet.start
        if self.queues.at[row].count >= _HELD_MAX or self.used_bytes + size > self.bytes_max:
            return False
        record: cython.int = self.pool.store(buf, packet.start, size, packet.vnet_len)
        if record == _NONE:
            return False
        self.pool.at[record].arrived_us = now_us
        self.count += 1
        self.used_bytes += size
        self.queues.push(row, record)
        return True

    cdef int take(self, int row) noexcept nogil:
        """Remove and return the oldest of a row, or -1; the caller owns it, or puts it back."""
        record: cython.int = self.queues.pop(row)
        if record != _NONE:
            self.count -= 1
            self.used_bytes -= self.pool.at[record].length
        return record

    cdef int put_back(self, int row, int record) noexcept nogil:
        """Put it back behind the others of the row: it must wait on."""
        self.count += 1
        self.used_bytes += self.pool.at[record].length
        return self.queues.push(row, record)

    cdef int age(self, int row, long long now_us) noexcept nogil:
        """Drop those of a row that have waited too long; returns how many."""
        dropped: cython.int = 0
        record: cython.int = self.queues.at[row].head
        while record != _NONE and now_us - self.pool.at[record].arrived_us >= _HELD_US:
            self.pool.free(self.take(row))
            dropped += 1
            record = self.queues.at[row].head
        return dropped

    cdef int forget(self, int row) noexcept nogil:
        """Drop all of a row; returns how many."""
        dropped: cython.int = 0
        record: cython.int = self.take(row)
        while record != _NONE:
            self.pool.free(record)
            dropped += 1
            record = self.take(row)
        return dropped
