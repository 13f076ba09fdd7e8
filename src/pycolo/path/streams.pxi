"""The ends of the packet path: a stream of frames that is read, and one that is written.

Both belong to a pump (see `pump`) while that runs, and to Python between: it says the descriptor and what stands in
the buffer before, and takes note of both after. Nothing here closes a descriptor or waits for one.
"""

cdef enum:
    # Read at once at most: what is received, compared and sent stays in a processor's second cache.
    _AT_ONCE = 1 << 17
    # What became of sending.
    _FAILED = -1
    _WAITS = 0
    _GONE = 1


cdef inline bint _try_again(int number) noexcept nogil:
    """Whether an errno says that there is nothing now, or no room now."""
    return number == _EAGAIN or number == _EINTR


cdef class Stream:
    """`fd` -1: not connected. `events`: what epoll waits for on it, 0 for nothing. `octets`: moved since `fd` was set.

    Bytes `start` … `end` of the buffer are there, and go on.
    """

    cdef public int fd
    cdef public uint32_t events
    cdef public Py_ssize_t start
    cdef public Py_ssize_t end
    cdef public long long octets
    cdef uint8_t* _buf
    cdef Py_ssize_t _size
    cdef object _owner

    def __init__(self, owner):
        """`owner`: a memoryview, which keeps the buffer where it is."""
        cdef uint8_t[::1] buf = owner
        self.fd = -1
        self.events = 0
        self.start = self.end = 0
        self.octets = 0
        self._buf = &buf[0]
        self._size = len(buf)
        self._owner = owner

    def connect(self, int fd, uint32_t events):
        """The descriptor as it is now."""
        self.fd = fd
        self.events = events
        self.octets = 0

    cdef bint _control(self, int epoll_fd, int what, uint32_t events) noexcept nogil:
        """Have epoll wait for `events`; False: it cannot."""
        cdef epoll_event wanted
        wanted.events = events
        wanted.data.fd = self.fd
        if epoll_ctl(epoll_fd, what, self.fd, &wanted) != 0:
            return False
        self.events = events
        return True


@cython.final
cdef class Inlet(Stream):
    """A stream that is read. `is_blocked`: what was read has no room where it is to go, so that no more is read.

    `is_ready`: epoll says that there is something; `has_ended`: reading has failed, or come to the end.
    """

    cdef public bint is_blocked
    cdef bint is_ready
    cdef bint has_ended

    def connect(self, fd, events):
        """See `Stream`."""
        super().connect(fd, events)
        self.is_ready = self.has_ended = False

    cdef inline bint watch(self, int epoll_fd) noexcept nogil:
        """Have epoll wait for what can be read, as long as there is room for it; False: it cannot."""
        if self.fd < 0 or self.is_blocked == (self.events == 0):
            return True
        if self.is_blocked:
            return self._control(epoll_fd, EPOLL_CTL_DEL, 0)
        return self._control(epoll_fd, EPOLL_CTL_ADD, EPOLLIN)

    cdef bint receive(self) noexcept nogil:
        """Read what there is, behind what is left; False: nothing can be read any more."""
        cdef Py_ssize_t count
        self.is_ready = False
        if self.start:
            self.end -= self.start
            memmove(self._buf, self._buf + self.start, self.end)
            self.start = 0
        if self.end == self._size:
            return True
        count = receive_bytes(self.fd, self._buf + self.end, min(self._size - self.end, _AT_ONCE), MSG_DONTWAIT)
        if count > 0:
            self.end += count
            self.octets += count
            return True
        self.has_ended = count == 0 or not _try_again(errno)
        return not self.has_ended


@cython.final
cdef class Outlet(Stream):
    """A stream that is written. `sent_of_frame`: bytes of the first frame that is left, length words included, which
    have gone already: what is not sent whole before the stream ends is sent again, whole, on the next one.
    """

    cdef public Py_ssize_t sent_of_frame

    def __init__(self, owner):
        super().__init__(owner)
        self.sent_of_frame = 0

    cdef inline bint watch(self, int epoll_fd, bint has_unsent) noexcept nogil:
        """Have epoll wait for room as well, if something waits for it; False: it cannot."""
        if self.fd < 0 or has_unsent == (self.events & EPOLLOUT != 0):
            return True
        return self._control(epoll_fd, EPOLL_CTL_MOD, self.events ^ EPOLLOUT)

    cdef int send(self, uint8_t* buf, Py_ssize_t* start, Py_ssize_t* end, bint has_vnet) noexcept nogil:
        """Send frames `start` … `end` of a buffer: _GONE, then both are 0; _WAITS for room, or _FAILED."""
        cdef Py_ssize_t count, reached
        if start[0] == end[0]:
            return _GONE
        if self.fd < 0:
            return _FAILED
        reached = start[0] + self.sent_of_frame
        count = send_bytes(self.fd, buf + reached, end[0] - reached, MSG_DONTWAIT | MSG_NOSIGNAL)
        if count < 0:
            return _WAITS if _try_again(errno) else _FAILED
        self.octets += count
        reached += count
        if reached == end[0]:
            start[0] = end[0] = 0
            self.sent_of_frame = 0
            return _GONE
        start[0] = frame_boundary(buf, start[0], reached, has_vnet)
        self.sent_of_frame = reached - start[0]
        return _WAITS

    cdef int keep(self, const uint8_t* buf, Py_ssize_t start, Py_ssize_t end) noexcept nogil:
        """Take over frames that did not leave from another buffer; this one is empty, and has room for them."""
        copy_many(self._buf, buf + start, end - start)
        self.start = 0
        self.end = end - start
        return 0
