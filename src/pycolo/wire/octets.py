"""Copy, compare and load bytes. Every range is checked against its buffer here, once, whatever a packet claims.

Buffers are writable, contiguous, of bytes (bytearray or memoryview); positions and lengths are in bytes.
A range outside its buffer raises IndexError: that is a bug of the caller, never a property of a packet.
"""

import cython

if cython.compiled:
    from cython.cimports.libc.string import memcmp, memcpy, memmove


def _check(size: cython.Py_ssize_t, pos: cython.Py_ssize_t, length: cython.Py_ssize_t) -> cython.int:
    if pos < 0 or length < 0 or length > size or pos > size - length:
        _outside()
    return 0


def _outside() -> cython.int:
    raise IndexError("range outside the buffer")


@cython.boundscheck(False)  # both ends are looked at before
def load16(buf: cython.uchar[::1], pos: cython.Py_ssize_t) -> cython.longlong:
    """Unsigned 16-bit big-endian number at `pos`."""
    if pos < 0 or pos > len(buf) - 2:
        _outside()
    return (buf[pos] << 8) | buf[pos + 1]


@cython.boundscheck(False)
def load32(buf: cython.uchar[::1], pos: cython.Py_ssize_t) -> cython.longlong:
    """Unsigned 32-bit big-endian number at `pos`."""
    if pos < 0 or pos > len(buf) - 4:
        _outside()
    high: cython.longlong = buf[pos]
    return (high << 24) | (buf[pos + 1] << 16) | (buf[pos + 2] << 8) | buf[pos + 3]


@cython.boundscheck(False)
def store16(buf: cython.uchar[::1], pos: cython.Py_ssize_t, value: cython.longlong) -> cython.int:
    """Write the low 16 bits of `value` big-endian."""
    if pos < 0 or pos > len(buf) - 2:
        _outside()
    buf[pos] = (value >> 8) & 0xFF
    buf[pos + 1] = value & 0xFF
    return 0


@cython.boundscheck(False)
def store32(buf: cython.uchar[::1], pos: cython.Py_ssize_t, value: cython.longlong) -> cython.int:
    """Write the low 32 bits of `value` big-endian."""
    if pos < 0 or pos > len(buf) - 4:
        _outside()
    buf[pos] = (value >> 24) & 0xFF
    buf[pos + 1] = (value >> 16) & 0xFF
    buf[pos + 2] = (value >> 8) & 0xFF
    buf[pos + 3] = value & 0xFF
    return 0


def copy(
    target: cython.uchar[::1],
    target_pos: cython.Py_ssize_t,
    source: cython.uchar[::1],
    source_pos: cython.Py_ssize_t,
    length: cython.Py_ssize_t,
) -> cython.int:
    """Copy `length` bytes between two different buffers."""
    _check(len(target), target_pos, length)
    _check(len(source), source_pos, length)
    if length == 0:
        return 0
    if cython.compiled:
        memcpy(cython.address(target[target_pos]), cython.address(source[source_pos]), length)
    else:
        target[target_pos : target_pos + length] = source[source_pos : source_pos + length]
    return 0


def move(
    buf: cython.uchar[::1], target: cython.Py_ssize_t, source: cython.Py_ssize_t, length: cython.Py_ssize_t
) -> cython.int:
    """Copy `length` bytes within one buffer; the ranges may overlap."""
    _check(len(buf), target, length)
    _check(len(buf), source, length)
    if length == 0:
        return 0
    if cython.compiled:
        memmove(cython.address(buf[target]), cython.address(buf[source]), length)
    else:
        buf[target : target + length] = bytes(buf[source : source + length])
    return 0


def first_difference(
    a: cython.uchar[::1],
    a_pos: cython.Py_ssize_t,
    b: cython.uchar[::1],
    b_pos: cython.Py_ssize_t,
    length: cython.Py_ssize_t,
) -> cython.Py_ssize_t:
    """Index of the first byte in which two ranges differ, or `length` if none does."""
    _check(len(a), a_pos, length)
    _check(len(b), b_pos, length)
    if length == 0:
        return 0
    if cython.compiled:
        if memcmp(cython.address(a[a_pos]), cython.address(b[b_pos]), length) == 0:
            return length
    elif a[a_pos : a_pos + length] == b[b_pos : b_pos + length]:
        return length
    i: cython.Py_ssize_t = 0
    while i < length and a[a_pos + i] == b[b_pos + i]:
        i += 1
    return i
