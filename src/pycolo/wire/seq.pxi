"""Serial arithmetic for TCP sequence numbers, modulo 2^32 (RFC 1982; RFC 9293 section 3.4).

Only this module orders sequence numbers: a test forbids `<`, `>`, `min` and `max` on them elsewhere. Arguments may lie
outside 0 … 2^32-1 (an unreduced sum); results of `seq_add` never do. No function raises. Two numbers exactly 2^31 apart
have no order (RFC 1982 section 3.2); here their difference is -2^31.
"""


cdef inline long long seq_add(long long seq, long long count) noexcept nogil:
    """`seq` advanced by `count` (which may be negative), reduced to 0 … 2^32-1."""
    return <uint32_t>(seq + count)


cdef inline long long seq_diff(long long a, long long b) noexcept nogil:
    """How far `a` is ahead of `b`: -2^31 … 2^31-1."""
    return <int32_t><uint32_t>(a - b)


cdef inline long long seq_max(long long a, long long b) noexcept nogil:
    """The later of two sequence numbers."""
    return a if seq_diff(a, b) >= 0 else b


cdef inline long long seq_min(long long a, long long b) noexcept nogil:
    """The earlier of two sequence numbers."""
    return b if seq_diff(a, b) >= 0 else a
