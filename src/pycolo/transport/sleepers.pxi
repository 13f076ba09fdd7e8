"""Whether a guest's processors sleep: the kernel's account of QEMU's threads (/proc/TID/schedstat and stat).

A thread that is runnable and waits for a host processor counts as awake: on a busy host that is no sleep. Its account
says so only when it has got one, so its state counts as well.
"""

cdef enum:
    _SLEEPERS_MAX = 64
    _ACCOUNT_BYTES = 96
    _LOOK_US_MIN = 900
    _LOOK_US_MAX = 5000


@cython.final
cdef class Sleepers:
    """`fds`: open files, schedstat and stat of each thread; none: never asleep."""

    cdef int[2 * _SLEEPERS_MAX] _fds
    cdef int _count
    cdef long long _awake_ns
    cdef long long _looked_us

    def __init__(self, fds):
        self._count = 0
        for fd in fds[: 2 * _SLEEPERS_MAX]:
            self._fds[self._count] = fd
            self._count += 1
        self._count //= 2
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
        return self._awake_ns - before < 300 * passed_us and self._are_in_sleep()

    cdef long long _account(self) noexcept nogil:
        """Nanoseconds that they ran, or wanted to, together; -1: a thread is gone."""
        cdef char[_ACCOUNT_BYTES] digits
        cdef long long total = 0
        cdef long long number
        cdef Py_ssize_t length, at
        cdef int i, words
        for i in range(self._count):
            length = pread(self._fds[2 * i], digits, _ACCOUNT_BYTES, 0)
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

    cdef bint _are_in_sleep(self) noexcept nogil:
        """Whether none runs or waits for a processor: proc(5), the field behind the name, which is in brackets."""
        cdef char[_ACCOUNT_BYTES] text
        cdef Py_ssize_t length, at
        cdef int i
        for i in range(self._count):
            length = pread(self._fds[2 * i + 1], text, _ACCOUNT_BYTES, 0)
            at = min(length, 40) - 1  # a pid, and a name of 15 characters at most
            while at >= 0 and text[at] != 41:
                at -= 1
            if at < 0 or at + 2 >= length or text[at + 2] != 83:
                return False
        return True
