"""The Linux kernel's jhash family: Bob Jenkins' lookup3 (2006) as in the kernel's `include/linux/jhash.h`.

Bit-exact, on any machine, with the kernel on a little-endian one: bytes are read as little-endian words, as
lookup3's `hashlittle` does. Words, seeds and results are unsigned 32-bit numbers; of a larger or negative one
(within 64 bits) the low 32 bits count. Keys are contiguous buffers, read and never kept.

Strategy: three 32-bit registers start at a constant that depends on the key's length and the seed; every 12
bytes are added in and mixed reversibly; the last 1 to 12 bytes go through a stronger final mix, and the third
register is the hash. The arithmetic is done on 64-bit integers with explicit masks, so that the compiled and
the uncompiled module compute the same.
"""

import cython

JHASH_INITVAL = 0xDEADBEEF
"""Linux, include/linux/jhash.h: "an arbitrary initial parameter"."""

CONNECTION_KEY_BYTES = 13
"""QEMU, net/colo.h: two IPv4 addresses, two ports and the protocol, packed."""

_INITVAL = cython.declare(cython.longlong, JHASH_INITVAL)
_KEY_BYTES = cython.declare(cython.longlong, CONNECTION_KEY_BYTES)


def jhash(key: cython.const[cython.uchar][::1], initval: cython.longlong) -> cython.longlong:
    """Hash of any bytes (bytes, bytearray, memoryview of unsigned bytes) under the seed `initval`.

    An empty key is not mixed at all: its hash is JHASH_INITVAL + initval.
    """
    mask: cython.longlong = 0xFFFFFFFF
    left: cython.Py_ssize_t = len(key)
    at: cython.Py_ssize_t = 0
    a: cython.longlong
    b: cython.longlong
    c: cython.longlong
    a = b = c = (_INITVAL + left + initval) & mask
    # Strictly above 12: the last 12 bytes belong to the final mix.
    while left > 12:
        a = (a + _word(key, at, 4)) & mask
        b = (b + _word(key, at + 4, 4)) & mask
        c = (c + _word(key, at + 8, 4)) & mask
        a, b, c = _mix(a, b, c)
        at += 12
        left -= 12
    if left == 0:
        return c
    a = (a + _word(key, at, left)) & mask
    b = (b + _word(key, at + 4, left - 4)) & mask
    c = (c + _word(key, at + 8, left - 8)) & mask
    return _final(a, b, c)


def jhash2(words: cython.const[cython.uint][::1], initval: cython.longlong) -> cython.longlong:
    """Hash of a whole buffer of native 32-bit words (`array("I")`, a memoryview of format "I")."""
    return jhash2_words(words, 0, len(words), initval)


def jhash2_words(
    words: cython.const[cython.uint][::1],
    start: cython.Py_ssize_t,
    count: cython.Py_ssize_t,
    initval: cython.longlong,
) -> cython.longlong:
    """`jhash2` of the `count` words from `start` on: a key that lies inside a larger array of keys.

    Raises:
        ValueError: the range does not lie inside `words`.
    """
    size: cython.Py_ssize_t = len(words)
    if start < 0 or count < 0 or start > size - count:
        raise ValueError("jhash2_words: the words asked for do not lie inside the buffer")
    mask: cython.longlong = 0xFFFFFFFF
    at: cython.Py_ssize_t = start
    left: cython.Py_ssize_t = count
    a: cython.longlong
    b: cython.longlong
    c: cython.longlong
    a = b = c = (_INITVAL + 4 * left + initval) & mask
    while left > 3:
        a = (a + words[at]) & mask
        b = (b + words[at + 1]) & mask
        c = (c + words[at + 2]) & mask
        a, b, c = _mix(a, b, c)
        at += 3
        left -= 3
    if left == 0:
        return c
    a = (a + words[at]) & mask
    if left > 1:
        b = (b + words[at + 1]) & mask
    if left > 2:
        c = (c + words[at + 2]) & mask
    return _final(a, b, c)


def jhash_1word(a: cython.longlong, initval: cython.longlong) -> cython.longlong:
    """`jhash2` of exactly one word, without a buffer."""
    return _nwords(a, 0, 0, _INITVAL + 4 + initval)


def jhash_2words(a: cython.longlong, b: cython.longlong, initval: cython.longlong) -> cython.longlong:
    """`jhash2` of exactly two words, without a buffer."""
    return _nwords(a, b, 0, _INITVAL + 8 + initval)


def jhash_3words(
    a: cython.longlong, b: cython.longlong, c: cython.longlong, initval: cython.longlong
) -> cython.longlong:
    """`jhash2` of exactly three words, without a buffer."""
    return _nwords(a, b, c, _INITVAL + 12 + initval)


def connection_hash(
    source: cython.longlong,
    destination: cython.longlong,
    source_port: cython.longlong,
    destination_port: cython.longlong,
    ip_proto: cython.longlong,
    initval: cython.longlong = 0,
) -> cython.longlong:
    """QEMU's hash of an IPv4 connection key (net/colo.c, connection_key_hash), plus a seed.

    The function takes numbers and knows no byte order. QEMU reads the two addresses from memory as they stand
    in the packet, and turns the two ports with ntohs first. So, to get QEMU's value on x86 (initval 0), pass

    * addresses as the little-endian numbers of their four octets: 10.0.0.1 is 0x0100000A;
    * ports as their plain numbers: port 80 is 80.

    QEMU at first took the first port of the packet as the source's; later releases (those in which
    filter-rewriter has the key filled in reversed) take the second on a little-endian machine: for their
    value pass the two ports exchanged.

    The steps are those of `jhash` for a key of 13 bytes, so `jhash` of the five numbers packed as `struct`'s
    "<IIHHB" gives the same value.
    """
    mask: cython.longlong = 0xFFFFFFFF
    a: cython.longlong
    b: cython.longlong
    c: cython.longlong
    a = b = c = (_INITVAL + _KEY_BYTES + initval) & mask
    a = (a + source) & mask
    b = (b + destination) & mask
    c = (c + (source_port | (destination_port << 16))) & mask
    a, b, c = _mix(a, b, c)
    a = (a + ip_proto) & mask
    return _final(a, b, c)


def _word(key: cython.const[cython.uchar][::1], at: cython.Py_ssize_t, count: cython.Py_ssize_t) -> cython.longlong:
    """The little-endian number in up to four bytes from `at` on; 0 when `count` is not positive."""
    value: cython.longlong = 0
    octet: cython.longlong
    index: cython.Py_ssize_t
    for index in range(min(count, 4)):
        octet = key[at + index]
        value |= octet << (8 * index)
    return value


def _rotated_left(value: cython.longlong, shift: cython.int) -> cython.longlong:
    """A 32-bit number rotated; `value` must be within 32 bits already."""
    mask: cython.longlong = 0xFFFFFFFF
    return ((value << shift) | (value >> (32 - shift))) & mask


def _mix(
    a: cython.longlong, b: cython.longlong, c: cython.longlong
) -> tuple[cython.longlong, cython.longlong, cython.longlong]:
    """Lookup3's reversible mix of three registers: every bit of the input reaches every register."""
    mask: cython.longlong = 0xFFFFFFFF
    a = ((a - c) & mask) ^ _rotated_left(c, 4)
    c = (c + b) & mask
    b = ((b - a) & mask) ^ _rotated_left(a, 6)
    a = (a + c) & mask
    c = ((c - b) & mask) ^ _rotated_left(b, 8)
    b = (b + a) & mask
    a = ((a - c) & mask) ^ _rotated_left(c, 16)
    c = (c + b) & mask
    b = ((b - a) & mask) ^ _rotated_left(a, 19)
    a = (a + c) & mask
    c = ((c - b) & mask) ^ _rotated_left(b, 4)
    b = (b + a) & mask
    return a, b, c


def _final(a: cython.longlong, b: cython.longlong, c: cython.longlong) -> cython.longlong:
    """Lookup3's last mix: the third register depends on every bit of the three."""
    mask: cython.longlong = 0xFFFFFFFF
    c = ((c ^ b) - _rotated_left(b, 14)) & mask
    a = ((a ^ c) - _rotated_left(c, 11)) & mask
    b = ((b ^ a) - _rotated_left(a, 25)) & mask
    c = ((c ^ b) - _rotated_left(b, 16)) & mask
    a = ((a ^ c) - _rotated_left(c, 4)) & mask
    b = ((b ^ a) - _rotated_left(a, 14)) & mask
    return ((c ^ b) - _rotated_left(b, 24)) & mask


def _nwords(a: cython.longlong, b: cython.longlong, c: cython.longlong, initval: cython.longlong) -> cython.longlong:
    """Up to three words that need no mix before the final one; `initval` has constant and length added in."""
    mask: cython.longlong = 0xFFFFFFFF
    return _final((a + initval) & mask, (b + initval) & mask, (c + initval) & mask)
