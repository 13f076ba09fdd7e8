"""A frame of the nodes' own, which both sides of a comparison have to bring: it shows that the way is whole.

Its bytes are drawn at random for each time, so no guest can send it; it is taken out of both streams and never leaves.
"""


cdef enum:
    _PROBE_BYTES_MAX = 128


@cython.final
cdef class Probe:
    """`expected` of None expects nothing. `from_primary`, `from_secondary`: how often it has come since then."""

    cdef readonly int from_primary
    cdef readonly int from_secondary
    cdef bint is_expected
    cdef int _length
    cdef uint8_t[_PROBE_BYTES_MAX] _octets

    def __init__(self):
        self.expect(None)

    def expect(self, octets):
        """Wait for this frame, without its vnet header. Raises ValueError for more bytes than are kept."""
        cdef const uint8_t[::1] given = octets or b"\0"
        if len(given) > _PROBE_BYTES_MAX:
            raise ValueError(f"a probe of {len(given)} bytes")
        self.from_primary = self.from_secondary = 0
        self.is_expected = octets is not None
        self._length = len(given)
        memcpy(self._octets, &given[0], self._length)

    cdef bint take(self, const uint8_t* buf, Packet packet, bint is_primary) noexcept nogil:
        """Whether the frame is the one that is expected; it goes no further."""
        if packet.end - packet.frame_pos != self._length or memcmp(buf + packet.frame_pos, self._octets, self._length):
            return False
        if is_primary:
            self.from_primary += 1
        else:
            self.from_secondary += 1
        return True
