"""SipHash-1-3 (Aumasson, Bernstein 2012): the hash of the connection tables.

Keys of the table come from strangers, and an attacker would make them collide. jhash is not a keyed function: pairs of
keys that collide under many seeds can be found without knowing the seed. SipHash was designed for such tables.
"""

cdef inline uint64_t _rotated64(uint64_t value, int shift) noexcept nogil:
    return (value << shift) | (value >> (64 - shift))


cdef struct SipState:
    uint64_t a
    uint64_t b
    uint64_t c
    uint64_t d


cdef inline void _sip_round(SipState* s) noexcept nogil:
    s.a += s.b
    s.b = _rotated64(s.b, 13) ^ s.a
    s.a = _rotated64(s.a, 32)
    s.c += s.d
    s.d = _rotated64(s.d, 16) ^ s.c
    s.a += s.d
    s.d = _rotated64(s.d, 21) ^ s.a
    s.c += s.b
    s.b = _rotated64(s.b, 17) ^ s.c
    s.c = _rotated64(s.c, 32)


cdef inline void _sip_begin(SipState* s, uint64_t key0, uint64_t key1) noexcept nogil:
    s.a = key0 ^ <uint64_t>0x736F6D6570736575
    s.b = key1 ^ <uint64_t>0x646F72616E646F6D
    s.c = key0 ^ <uint64_t>0x6C7967656E657261
    s.d = key1 ^ <uint64_t>0x7465646279746573


cdef inline void _sip_word(SipState* s, uint64_t word) noexcept nogil:
    s.d ^= word
    _sip_round(s)
    s.a ^= word


cdef inline uint64_t _sip_end(SipState* s) noexcept nogil:
    s.c ^= 0xFF
    _sip_round(s)
    _sip_round(s)
    _sip_round(s)
    return s.a ^ s.b ^ s.c ^ s.d


cdef inline uint64_t _sip_octets(SipState* s, const uint8_t* octets, Py_ssize_t length) noexcept nogil:
    """The final hash, with these as the last bytes; words are little-endian, as in the paper."""
    cdef uint64_t last = <uint64_t>(length & 0xFF) << 56
    cdef int i = 0
    while length >= 8:
        _sip_word(s, _little64(octets))
        octets += 8
        length -= 8
    while i < length:
        last |= <uint64_t>octets[i] << (8 * i)
        i += 1
    _sip_word(s, last)
    return _sip_end(s)


cdef uint64_t siphash(const uint8_t* octets, Py_ssize_t length, uint64_t key0, uint64_t key1) noexcept nogil:
    """The hash of any bytes."""
    cdef SipState state
    _sip_begin(&state, key0, key1)
    return _sip_octets(&state, octets, length)


cdef uint64_t siphash_behind(uint64_t word, const uint8_t* octets, Py_ssize_t length, uint64_t key0,
        uint64_t key1) noexcept nogil:
    """The hash of a word, bytes after it, and their number."""
    cdef SipState state
    _sip_begin(&state, key0, key1)
    _sip_word(&state, word | <uint64_t>length << 32)
    return _sip_octets(&state, octets, length)


cdef inline uint64_t _little64(const uint8_t* octets) noexcept nogil:
    cdef uint64_t word
    memcpy(&word, octets, 8)
    return le64toh(word)


cdef inline uint32_t hash_key(const uint32_t* key, uint64_t key0, uint64_t key1) noexcept nogil:
    """The hash of a packed connection key (see `table`): of numbers, so byte order does not matter.

    The words of an IPv4 key that are always 0 are left out; word 9 holds the version, so IPv6 keys differ.
    """
    cdef SipState state
    _sip_begin(&state, key0, key1)
    _sip_word(&state, key[0] | <uint64_t>key[4] << 32)
    _sip_word(&state, key[8] | <uint64_t>(key[9] | key[10] << 12) << 32)
    if key[10] >> 13:
        _sip_word(&state, key[10])  # there was no room for all of an outer tag
    if key[9] >> 8 == 6:
        _sip_word(&state, key[1] | <uint64_t>key[2] << 32)
        _sip_word(&state, key[3] | <uint64_t>key[5] << 32)
        _sip_word(&state, key[6] | <uint64_t>key[7] << 32)
    return <uint32_t>_sip_end(&state)


cdef class SipHash13:
    """For tests: the function of bytes, under a key of 16 bytes."""

    @staticmethod
    def of(const uint8_t[::1] octets, const uint8_t[::1] key):
        check_range(len(key), 0, 16)
        return siphash(&octets[0], len(octets), _little64(&key[0]), _little64(&key[8]))
