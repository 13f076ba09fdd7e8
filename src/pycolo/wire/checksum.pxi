"""The internet checksum: RFC 1071 over a range, RFC 1624 for a change of one field.

Sums are one's-complement sums folded to 16 bits; a header's checksum field is the complement of such a sum.
"""


cdef enum:
    _WIDE_BYTES_MIN = 256
    _WIDE_BLOCKS_MAX = 1024
# A variable, so that tests can choose either way.
cdef bint _has_wide_sum = HAS_WIDE_SUM()


cdef long long fold(long long total) noexcept nogil:
    """A sum of 16-bit words folded to 16 bits with end-around carry."""
    while total > 0xFFFF:
        total = (total & 0xFFFF) + (total >> 16)
    return total


cdef inline void _add_word(const uint8_t* octets, uint64_t* total, uint64_t* carries) noexcept nogil:
    """Add eight bytes and the carry: two instructions if the processor can add with carry."""
    cdef uint64_t word
    memcpy(&word, octets, 8)
    total[0] += word
    carries[0] += total[0] < word


cdef inline long long ones_sum(const uint8_t* buf, Py_ssize_t pos, Py_ssize_t length,
        long long initial=0) noexcept nogil:
    """One's-complement sum of `length` bytes (an odd last byte is padded with zero), plus `initial`, folded.

    Words are added in the machine's byte order; the sum's bytes are swapped at the end (RFC 1071 section 2(B)).
    """
    cdef const uint8_t* octets = buf + pos
    cdef uint64_t total = 0
    cdef uint64_t carries = 0
    cdef uint32_t half
    cdef uint16_t last
    cdef Py_ssize_t blocks
    while length >= _WIDE_BYTES_MIN and _has_wide_sum:
        blocks = min(length >> 7, _WIDE_BLOCKS_MAX)
        total += wide_sum(octets, blocks)
        octets += blocks << 7
        length -= blocks << 7
    while length >= 64:
        _add_word(octets, &total, &carries)
        _add_word(octets + 8, &total, &carries)
        _add_word(octets + 16, &total, &carries)
        _add_word(octets + 24, &total, &carries)
        _add_word(octets + 32, &total, &carries)
        _add_word(octets + 40, &total, &carries)
        _add_word(octets + 48, &total, &carries)
        _add_word(octets + 56, &total, &carries)
        octets += 64
        length -= 64
    while length >= 8:
        _add_word(octets, &total, &carries)
        octets += 8
        length -= 8
    total = (total & 0xFFFFFFFFU) + (total >> 32) + carries
    if length >= 4:
        memcpy(&half, octets, 4)
        total += half
        octets += 4
        length -= 4
    if length >= 2:
        memcpy(&last, octets, 2)
        total += last
        octets += 2
        length -= 2
    if length:
        last = 0
        memcpy(&last, octets, 1)
        total += last
    return fold(initial + ntohs(<uint16_t>fold(total)))


cdef long long pseudo_sum(uint8_t* buf, Py_ssize_t address_pos, Py_ssize_t address_bytes, long long proto,
        long long length) noexcept nogil:
    """Folded sum of the pseudo-header (RFC 9293 section 3.1, RFC 8200 section 8.1).

    `address_pos`, `address_bytes`: position of source and destination, adjacent (8 or 32 bytes in all).
    """
    return ones_sum(buf, address_pos, address_bytes, proto + (length >> 16) + (length & 0xFFFF))


cdef int replace16(uint8_t* buf, Py_ssize_t checksum_pos, long long old, long long new) noexcept nogil:
    """Correct the checksum at `checksum_pos` for one 16-bit word that changed from `old` to `new`.

    RFC 1624 equation 3: HC' = ~(~HC + ~m + m').
    """
    total: cython.longlong = (0xFFFF - load16(buf, checksum_pos)) + (0xFFFF - old) + new
    return store16(buf, checksum_pos, 0xFFFF - fold(total))


cdef int replace32(uint8_t* buf, Py_ssize_t checksum_pos, long long old, long long new, bint is_odd) noexcept nogil:
    """The same for a 32-bit field; `is_odd`: it starts at an odd byte of the checksummed range.

    The bytes of a field at an odd position (an unaligned TCP option) are swapped within the words of the sum; by RFC
    1071 section 2(B) the sum of the swapped words is the swapped sum.
    """
    difference: cython.longlong = fold(
        (0xFFFF - (old >> 16)) + (0xFFFF - (old & 0xFFFF)) + (new >> 16) + (new & 0xFFFF)
    )
    if is_odd:
        difference = ((difference & 0xFF) << 8) | (difference >> 8)
    total: cython.longlong = (0xFFFF - load16(buf, checksum_pos)) + difference
    return store16(buf, checksum_pos, 0xFFFF - fold(total))
