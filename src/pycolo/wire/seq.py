"""Serial arithmetic for TCP sequence numbers, modulo 2^32 (RFC 1982; RFC 9293 section 3.4).

This is the only module that orders sequence numbers: a test forbids `<`, `>`, `min` and `max` on them elsewhere.
Arguments may lie outside 0 … 2^32-1 (a sum that was not reduced); results of `seq_add` never do. Nothing raises.
Two numbers exactly 2^31 apart have no order (RFC 1982 section 3.2); here the difference then is -2^31.
"""

import cython

_MASK = cython.declare(cython.longlong, 0xFFFFFFFF)
_SIGN = cython.declare(cython.longlong, 0x80000000)


def seq_add(seq: cython.longlong, count: cython.longlong) -> cython.longlong:
    """`seq` moved on by `count` (which may be negative), reduced to 0 … 2^32-1."""
    return (seq + count) & _MASK


def seq_diff(a: cython.longlong, b: cython.longlong) -> cython.longlong:
    """How far `a` is ahead of `b`: -2^31 … 2^31-1."""
    return (((a - b) & _MASK) ^ _SIGN) - _SIGN


def seq_max(a: cython.longlong, b: cython.longlong) -> cython.longlong:
    """The later of two sequence numbers."""
    return a if seq_diff(a, b) >= 0 else b


def seq_min(a: cython.longlong, b: cython.longlong) -> cython.longlong:
    """The earlier of two sequence numbers."""
    return b if seq_diff(a, b) >= 0 else a
