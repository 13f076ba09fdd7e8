"""Load, store, copy and compare bytes at a pointer.

Nothing is checked here: the caller guarantees that the bytes exist. The parser has checked a frame's lengths once (see
`packet`), and the positions that it returns lie inside the frame.
"""

# A variable, not a constant: with a known bound the compiler would emit the string instructions itself.
cdef Py_ssize_t _piece_bytes = 1536


cdef inline long long load16(const uint8_t* buf, Py_ssize_t pos) noexcept nogil:
    """Unsigned 16-bit big-endian number at `pos`."""
    cdef uint16_t word
    memcpy(&word, buf + pos, 2)
    return ntohs(word)


cdef inline long long load32(const uint8_t* buf, Py_ssize_t pos) noexcept nogil:
    """Unsigned 32-bit big-endian number at `pos`."""
    cdef uint32_t word
    memcpy(&word, buf + pos, 4)
    return ntohl(word)


cdef inline int store16(uint8_t* buf, Py_ssize_t pos, long long value) noexcept nogil:
    """Write the low 16 bits of `value` big-endian."""
    buf[pos] = (value >> 8) & 0xFF
    buf[pos + 1] = value & 0xFF
    return 0


cdef inline int store32(uint8_t* buf, Py_ssize_t pos, long long value) noexcept nogil:
    """Write the low 32 bits of `value` big-endian."""
    cdef uint32_t word = htonl(<uint32_t>value)
    memcpy(buf + pos, &word, 4)
    return 0


cdef inline int copy(uint8_t* target, Py_ssize_t target_pos, const uint8_t* source, Py_ssize_t source_pos,
        Py_ssize_t length) noexcept nogil:
    """Copy `length` bytes between two disjoint ranges."""
    memcpy(target + target_pos, source + source_pos, length)
    return 0


cdef inline int copy_many(uint8_t* target, const uint8_t* source, Py_ssize_t length) noexcept nogil:
    """Copy recently written bytes in pieces, for which the C library does not use the string instructions."""
    cdef Py_ssize_t piece
    while length > 0:
        piece = min(length, _piece_bytes)
        memcpy(target, source, piece)
        target += piece
        source += piece
        length -= piece
    return 0


cdef inline int move(uint8_t* buf, Py_ssize_t target, Py_ssize_t source, Py_ssize_t length) noexcept nogil:
    """Copy `length` bytes within one buffer; the ranges may overlap."""
    memmove(buf + target, buf + source, length)
    return 0


cdef inline Py_ssize_t first_difference(const uint8_t* a, Py_ssize_t a_pos, const uint8_t* b, Py_ssize_t b_pos,
        Py_ssize_t length) noexcept nogil:
    """Index of the first byte in which two ranges differ, or `length` if none does."""
    cdef Py_ssize_t i = 0
    if memcmp(a + a_pos, b + b_pos, length) == 0:
        return length
    while a[a_pos + i] == b[b_pos + i]:
        i += 1
    return i


cdef int check_range(Py_ssize_t size, Py_ssize_t start, Py_ssize_t end) except -1:
    """Check a buffer from Python: raises IndexError unless `start` … `end` lie inside its `size` bytes."""
    if start < 0 or end < start or end > size:
        raise IndexError("range outside the buffer")
    return 0
