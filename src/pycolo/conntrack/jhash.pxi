"""The Linux kernel's jhash family: Bob Jenkins' lookup3 (2006) as in the kernel's `include/linux/jhash.h`.

On any machine it is bit-exact with a little-endian machine's kernel: bytes are read as little-endian words, as
lookup3's `hashlittle` does. Words, seeds and results are unsigned 32-bit numbers; of a larger or negative number
(within 64 bits) the low 32 bits count. Keys are contiguous buffers, read and never kept.

Algorithm: three 32-bit registers start at a constant that depends on the key's length and the seed; every 12 bytes are
added and mixed reversibly; the last 1 to 12 bytes go through a stronger final mix, and the third register is the hash.
"""

JHASH_INITVAL = 0xDEADBEEF
"""Linux, include/linux/jhash.h: "an arbitrary initial parameter"."""

CONNECTION_KEY_BYTES = 13
"""QEMU, net/colo.h: two IPv4 addresses, two ports and the protocol, packed."""

cdef struct Lookup3:
    uint32_t a
    uint32_t b
    uint32_t c


cdef inline Lookup3 _begin_hash(uint32_t length, long long initval) noexcept nogil:
    cdef Lookup3 state
    state.a = state.b = state.c = <uint32_t>(0xDEADBEEFU + length + <uint32_t>initval)
    return state


cdef inline uint32_t _rotated_left(uint32_t value, int shift) noexcept nogil:
    return (value << shift) | (value >> (32 - shift))


cdef inline void _mix(Lookup3* s) noexcept nogil:
    """Lookup3's reversible mix of three registers: every bit of the input reaches every register."""
    s.a = (s.a - s.c) ^ _rotated_left(s.c, 4)
    s.c += s.b
    s.b = (s.b - s.a) ^ _rotated_left(s.a, 6)
    s.a += s.c
    s.c = (s.c - s.b) ^ _rotated_left(s.b, 8)
    s.b += s.a
    s.a = (s.a - s.c) ^ _rotated_left(s.c, 16)
    s.c += s.b
    s.b = (s.b - s.a) ^ _rotated_left(s.a, 19)
    s.a += s.c
    s.c = (s.c - s.b) ^ _rotated_left(s.b, 4)
    s.b += s.a


cdef inline uint32_t _final(Lookup3* s) noexcept nogil:
    """Lookup3's last mix: the third register depends on every bit of the three."""
    s.c = (s.c ^ s.b) - _rotated_left(s.b, 14)
    s.a = (s.a ^ s.c) - _rotated_left(s.c, 11)
    s.b = (s.b ^ s.a) - _rotated_left(s.a, 25)
    s.c = (s.c ^ s.b) - _rotated_left(s.b, 16)
    s.a = (s.a ^ s.c) - _rotated_left(s.c, 4)
    s.b = (s.b ^ s.a) - _rotated_left(s.a, 14)
    return (s.c ^ s.b) - _rotated_left(s.b, 24)


cdef inline uint32_t hash_words(const uint32_t* words, Py_ssize_t count, long long initval) noexcept nogil:
    """`jhash2` of `count` native words."""
    cdef Lookup3 state = _begin_hash(<uint32_t>(4 * count), initval)
    while count > 3:
        state.a += words[0]
        state.b += words[1]
        state.c += words[2]
        _mix(&state)
        words += 3
        count -= 3
    if count == 0:
        return state.c
    state.a += words[0]
    if count > 1:
        state.b += words[1]
    if count > 2:
        state.c += words[2]
    return _final(&state)


cdef inline uint32_t hash_connection(uint32_t source, uint32_t destination, uint32_t ports, uint32_t ip_proto,
        long long initval) noexcept nogil:
    """See `connection_hash`; `ports`: the source's | the destination's << 16."""
    cdef Lookup3 state = _begin_hash(13, initval)
    state.a += source
    state.b += destination
    state.c += ports
    _mix(&state)
    state.a += ip_proto
    return _final(&state)


cdef inline uint32_t _word(const uint8_t* key, Py_ssize_t count) noexcept nogil:
    """The little-endian number in up to four bytes; 0 when `count` is not positive."""
    cdef uint32_t value = 0
    cdef Py_ssize_t i = 0
    while i < count and i < 4:
        value |= <uint32_t>key[i] << (8 * i)
        i += 1
    return value


def jhash(const uint8_t[::1] key, long long initval):
    """Hash of any bytes (bytes, bytearray, memoryview of unsigned bytes) under the seed `initval`.

    An empty key is not mixed: its hash is JHASH_INITVAL + initval.
    """
    cdef Py_ssize_t left = len(key)
    cdef const uint8_t* octets = &key[0]
    cdef Lookup3 state = _begin_hash(<uint32_t>left, initval)
    # Strictly above 12: the last 12 bytes belong to the final mix.
    while left > 12:
        state.a += _word(octets, 4)
        state.b += _word(octets + 4, 4)
        state.c += _word(octets + 8, 4)
        _mix(&state)
        octets += 12
        left -= 12
    if left == 0:
        return state.c
    state.a += _word(octets, left)
    state.b += _word(octets + 4, left - 4)
    state.c += _word(octets + 8, left - 8)
    return _final(&state)


def jhash2(const uint32_t[::1] words, long long initval):
    """Hash of a whole buffer of native 32-bit words (`array("I")`, a memoryview of format "I")."""
    return hash_words(&words[0], len(words), initval)


def jhash2_words(const uint32_t[::1] words, Py_ssize_t start, Py_ssize_t count, long long initval):
    """`jhash2` of the `count` words from `start` on: a key that lies inside a larger array of keys.

    Raises:
        ValueError: the range does not lie inside `words`.
    """
    if start < 0 or count < 0 or start > len(words) - count:
        raise ValueError("jhash2_words: the range lies outside the buffer")
    return hash_words(&words[start], count, initval)


def jhash_1word(long long a, long long initval):
    """`jhash2` of exactly one word, without a buffer."""
    cdef uint32_t word = <uint32_t>a
    return hash_words(&word, 1, initval)


def jhash_2words(long long a, long long b, long long initval):
    """`jhash2` of exactly two words, without a buffer."""
    cdef uint32_t[2] words = [<uint32_t>a, <uint32_t>b]
    return hash_words(words, 2, initval)


def jhash_3words(long long a, long long b, long long c, long long initval):
    """`jhash2` of exactly three words, without a buffer."""
    cdef uint32_t[3] words = [<uint32_t>a, <uint32_t>b, <uint32_t>c]
    return hash_words(words, 3, initval)


def connection_hash(long long source, long long destination, long long source_port, long long destination_port,
        long long ip_proto, long long initval=0):
    """QEMU's hash of an IPv4 connection key (net/colo.c, connection_key_hash), plus a seed.

    The function takes numbers and knows no byte order. QEMU reads the two addresses from memory as they are in the
    packet, and first converts the two ports with ntohs. So, to get QEMU's value on x86 (initval 0), pass

    * addresses as the little-endian numbers of their four octets: 10.0.0.1 is 0x0100000A;
    * ports as their plain numbers: port 80 is 80.

    QEMU at first used the packet's first port as the source's. Later releases (in which filter-rewriter has the key
    filled in reversed) use the second on a little-endian machine: for their value swap the two ports.

    The steps are those of `jhash` for a key of 13 bytes, so `jhash` of the five numbers packed with `struct`'s
    "<IIHHB" gives the same value.
    """
    cdef uint32_t ports = <uint32_t>(source_port | (destination_port << 16))
    return hash_connection(<uint32_t>source, <uint32_t>destination, ports, <uint32_t>ip_proto, initval)
