"""The fate of each packet (`colo proxy --pcap`): off unless `start` was called.

An entry is 32 bytes of numbers and the frame: u32 length, u8 side, u8 fate, u16 vnet_len, u64 arrived_us, i64 aux,
u64 zero, in the machine's own byte order. The shell takes them after each batch; what does not fit is counted.
"""


cdef enum:
    _HEADER = 32


@cython.final
cdef class Trace:
    """`is_on`: whether fates are recorded; `lost`: entries without room."""

    cdef Pool pool
    cdef readonly bint is_on
    cdef readonly long long lost
    cdef uint8_t* _buf
    cdef Py_ssize_t _size
    cdef Py_ssize_t _end

    def __dealloc__(self):
        release_column(self._buf)

    def __init__(self, pool):
        self.pool = pool
        self.is_on = False
        self.lost = 0
        self._buf = <uint8_t*>column(self._buf, 1, 1, 0)
        self._size = 1
        self._end = 0

    def start(self, buffer_bytes):
        """Record from now on, up to so many bytes between two calls of `take`."""
        self._buf = <uint8_t*>column(self._buf, buffer_bytes, 1, 0)
        self._size = buffer_bytes
        self.is_on = True

    cdef int note(self, int record, int side, int fate, long long aux) noexcept nogil:
        """The fate of a stored packet."""
        return self.note_bytes(
            self.pool.arena.memory,
            self.pool.at[record].pos,
            self.pool.at[record].length,
            self.pool.at[record].vnet_len,
            side,
            fate,
            self.pool.at[record].arrived_us,
            aux,
        )

    cdef int note_bytes(self, uint8_t* buf, long long start, Py_ssize_t length, int vnet_len, int side, int fate,
            long long arrived_us, long long aux) noexcept nogil:
        """The fate of a packet that was never stored."""
        if self._size - self._end < _HEADER + length:
            self.lost += 1
            return 0
        pos: cython.Py_ssize_t = self._end
        store32(self._buf, pos, length)
        self._buf[pos + 4] = side
        self._buf[pos + 5] = fate
        self._buf[pos + 6] = 0
        self._buf[pos + 7] = vnet_len
        store32(self._buf, pos + 8, arrived_us >> 32)
        store32(self._buf, pos + 12, arrived_us)
        store32(self._buf, pos + 16, aux >> 32)
        store32(self._buf, pos + 20, aux)
        copy(self._buf, pos + _HEADER, buf, start, length)
        self._end = pos + _HEADER + length
        return 0

    def take(self):
        """The entries since the last call, as `TracedPacket` values."""
        entries = self._buf[: self._end]
        self._end = 0
        return traced_packets(entries)
