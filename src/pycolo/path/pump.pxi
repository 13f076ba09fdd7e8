"""The loop of a thread that moves frames while nothing else happens: epoll, receive, core, send.

Python starts it (`run`) instead of waiting. It returns when Python has work: an event on another descriptor, an end or
failure of a stream, a difference, a deadline. Meanwhile the GIL is released.
"""

cdef enum:
    _EVENTS = 16
    _SLEEP_US_MAX = 1000000


cdef inline long long clock_us() noexcept nogil:
    """CLOCK_MONOTONIC in microseconds."""
    cdef timespec now
    clock_gettime(CLOCK_MONOTONIC, &now)
    return <long long>now.tv_sec * 1000000 + now.tv_nsec // 1000


cdef class Pump:
    """`spin_us`: poll for that long before sleeping."""

    cdef int _epoll_fd
    cdef long long _spin_us
    cdef long long _moved_us
    cdef int _count
    cdef epoll_event[_EVENTS] _found

    def __init__(self, int epoll_fd, long long spin_us):
        self._epoll_fd = epoll_fd
        self._spin_us = spin_us
        self._moved_us = 0
        self._count = 0

    def run(self, long long until_us):
        """Move frames until there is other work; returns descriptor → events that were not handled."""
        cdef int number
        with nogil:
            number = self._run(until_us)
        if number:
            raise OSError(number, "epoll_wait failed")
        return {self._found[i].data.fd: self._found[i].events for i in range(self._count)} | self._ends()

    cdef int _run(self, long long until_us) noexcept nogil:
        """0, or the errno of epoll."""
        cdef long long now = clock_us()
        while True:
            self._count = self._wait(now, min(until_us, self._due_us()))
            if self._count < 0:
                return errno
            if not self._are_frames():
                return 0
            self._count = 0
            now = clock_us()
            if not self._turn() or now >= until_us:
                return 0

    cdef int _wait(self, long long now, long long until_us) noexcept nogil:
        cdef long long spin_until = min(until_us, self._moved_us + self._spin_us)
        cdef long long left_us
        cdef int count
        while now < spin_until:
            count = epoll_wait(self._epoll_fd, self._found, _EVENTS, 0)
            if count > 0:
                self._moved_us = now
                return count
            now = clock_us()
        left_us = min(max(until_us - now, 0), _SLEEP_US_MAX)
        count = epoll_wait(self._epoll_fd, self._found, _EVENTS, <int>((left_us + 999) // 1000))
        if count > 0 and self._spin_us:
            self._moved_us = clock_us()
        return 0 if count < 0 and errno == _EINTR else count

    cdef bint _are_frames(self) noexcept nogil:
        """Note ready descriptors. Returns whether `_turn` handles all of them."""
        cdef bint found = True
        cdef int i
        for i in range(self._count):
            if not self._is_frames(self._found[i].data.fd, self._found[i].events):
                found = False
        return found

    # ── for the stages ────────────────────────────────────────────────────────────────────────────────────────

    def _ends(self):
        """Descriptor → EPOLLIN of streams that cannot be read any further."""
        return {}

    cdef long long _due_us(self) noexcept nogil:
        """The latest time for the next `_turn`."""
        return _NEVER

    cdef bint _is_frames(self, int fd, uint32_t events) noexcept nogil:
        """Whether `_turn` handles these events; notes them."""
        return False

    cdef bint _turn(self) noexcept nogil:
        """Move frames. Returns whether Python has nothing to do."""
        return False
