"""Whether a guest's processors sleep: the kernel's account of QEMU's vCPU threads (/proc/TID/schedstat).

A thread that is runnable and waits for a host processor counts as awake: on a busy host that is no sleep.
"""

cdef enum:
    _SLEEPERS_MAX = 64
    _ACCOUNT_BYTES = 96
    _LOOK_US_MIN = 900
    _LOOK_US_MAX = 5000


@cython.final
cdef class Sleepers:
    """`fds`: open schedstat files, one per vCPU; none: never asleep."""

    cdef int[_SLEEPERS_MAX] _fds
    cdef int _count
    cdef long long _awake_ns
    cdef long long _looked_us

    def __init__(self, fds):
        self._count = 0
        for fd in fds[:_SLEEPERS_MAX]:
            self._fds[self._count] = fd
            self._count += 1
        self._awake_ns = -1
        self._looked_us = 0

    def are_asleep(self, long long now_us):
        """`look`, for tests."""
        return self.look(now_us)

    cdef bint look(self, long long now_us) noexcept nogil:
        """Whether they have slept for most of the time since the last look, which was a millisecond ago or more."""
        cdef long long passed_us = now_us - self._looked_us
        cdef long long before = self._awake_ns
        if self._count == 0 or (before >= 0 and passed_us < _LOOK_US_MIN):
            return False
        self._awake_ns = self._account()
        self._looked_us = now_us
        if before < 0 or self._awake_ns < 0 or passed_us > _LOOK_US_MAX:
            return False
        return self._awake_ns - before < 300 * passed_us

    cdef long long _account(self) noexcept nogil:
        """Nanoseconds that they ran, or wanted to, together; -1: a thread is gone."""
        cdef char[_ACCOUNT_BYTES] digits
        cdef long long total = 0
        cdef long long number
        cdef Py_ssize_t length, at
        cdef int i, words
        for i in range(self._count):
            length = pread(self._fds[i], digits, _ACCOUNT_BYTES, 0)
            if length <= 0:
                return -1
            at = words = 0
            while words < 2 and at < length:
                number = 0
                while at < length and 48 <= digits[at] <= 57:
                    number = number * 10 + digits[at] - 48
                    at += 1
                total += number
                words += 1
                at += 1
        return total
