"""Kinds of requests: those of one port that begin alike. One that has not waited for others for long need not be kept
back until its answer.

A guest in which requests wait for a lock takes most of them without: of a transaction's seven, one waits. Kept back
until their answers, all of them would be done by one guest after the other.

What a request means is not known. Its first bytes without digits and control characters, which are numbers and
lengths, tell a statement from another one; whatever that confuses is trusted less.
"""

cdef enum:
    _KINDS = 256
    _TRUSTED = 16  # answers in a row, without having waited for others
    _BLOCKED_WEIGHT = 50  # one that has waited outweighs so many that have not
    _TRUST_LOWEST = -500
    _DOUBTS_MAX = 6  # each difference doubles the answers that are asked for
    _DOUBT_ROUNDS = 4096  # without a difference, until one doubt is forgotten

cdef Py_ssize_t _KIND_BYTES = limits.ORDERED_KIND_BYTES


cdef inline int kind_of(const uint8_t* payload, Py_ssize_t length) noexcept nogil:
    """By the hash of Fowler, Noll and Vo."""
    cdef uint32_t found = 2166136261
    cdef Py_ssize_t i
    for i in range(min(length, _KIND_BYTES)):
        if payload[i] > 57 or 32 <= payload[i] < 48:
            found = (found ^ payload[i]) * 16777619
    return (found ^ (found >> 16)) & (_KINDS - 1)
