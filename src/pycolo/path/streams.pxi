"""The ends of the packet path: inputs and outputs of frames.

They belong to a pump (see `pump`) while it runs, and to Python in between. Data that was read and not consumed, or
could not be written yet, is in the end's batch. Nothing here closes a descriptor or waits for one.

A `Stream` is a socket that is read and written here. Other ports (`PortInlet`, `PortOutlet`) have their own methods: a
device reads and writes batches without Python, like everything here; any other port uses its `read_batch` and
`write_batch`, for which the GIL is taken once per batch.
"""

cdef enum:
    # One read at most: data that is received, compared and sent stays in a processor's second-level cache.
    _AT_ONCE = 1 << 17
    # Results of sending.
    _FAILED = -1
    _WAITS = 0
    _GONE = 1


cdef inline bint _try_again(int number) noexcept nogil:
    """Whether an errno means that there is no data, or no room, at the moment."""
    return number == _EAGAIN or number == _EINTR


cdef class Inlet:
    """`fd` -1: not connected. `is_blocked`: data that was read has no room at its destination, so reading stops.

    `is_ready`: epoll reports an event; `has_ended`: the data cannot be read any further here.
    """

    cdef public int fd
    cdef public Batch batch
    cdef public bint is_blocked
    cdef public bint has_ended
    cdef bint is_ready

    def __init__(self, Batch batch not None):
        self.fd = -1
        self.batch = batch
        self.is_blocked = self.is_ready = self.has_ended = False

    cdef bint receive(self) noexcept nogil:
        """Append available data to the batch. False: it cannot be read any further, or only by Python."""
        return False


cdef class Outlet:
    """`fd` -1: not connected."""

    cdef public int fd
    cdef public Batch batch

    def __init__(self, Batch batch not None):
        self.fd = -1
        self.batch = batch

    cdef int send(self, uint8_t* buf, Py_ssize_t* start, Py_ssize_t* end, bint has_vnet) noexcept nogil:
        """Send frames `start` … `end` of a buffer: _GONE, and both are 0; _WAITS for room; or _FAILED."""
        return _FAILED

    cdef int send_kept(self, bint has_vnet) noexcept nogil:
        """Send the batch."""
        return self.send(self.batch.base, &self.batch.start, &self.batch.end, has_vnet)

    cdef int keep(self, const uint8_t* buf, Py_ssize_t start, Py_ssize_t end) noexcept nogil:
        """Copy unsent frames from another buffer into the batch, which is empty and has room for them."""
        if buf + start != self.batch.base:
            copy_many(self.batch.base, buf + start, end - start)
        self.batch.start = 0
        self.batch.end = end - start
        return 0


# ── sockets ─────────────────────────────────────────────────────────────────────────────────────────────────


cdef bint _control(int epoll_fd, int what, int fd, uint32_t events) noexcept nogil:
    """Let epoll wait for `events`. False: it cannot."""
    cdef epoll_event wanted
    wanted.events = events
    wanted.data.fd = fd
    return epoll_ctl(epoll_fd, what, fd, &wanted) == 0


@cython.final
cdef class StreamInlet(Inlet):
    """`events`: what epoll waits for, 0 for nothing. `octets`: bytes read since `fd` was set."""

    cdef public uint32_t events
    cdef public long long octets

    def connect(self, int fd, uint32_t events):
        """The current descriptor."""
        self.fd = fd
        self.events = events
        self.octets = 0
        self.is_ready = self.has_ended = False

    cdef inline bint watch(self, int epoll_fd) noexcept nogil:
        """Let epoll wait for data while there is room for it. False: it cannot."""
        if self.fd < 0 or self.is_blocked == (self.events == 0):
            return True
        self.events = 0 if self.is_blocked else EPOLLIN
        return _control(epoll_fd, EPOLL_CTL_DEL if self.is_blocked else EPOLL_CTL_ADD, self.fd, EPOLLIN)

    cdef bint receive(self) noexcept nogil:
        cdef Py_ssize_t room, count
        self.is_ready = False
        self.batch.move_to_front()
        room = min(self.batch.size - self.batch.end, _AT_ONCE)
        if room == 0:
            return True
        count = receive_bytes(self.fd, self.batch.base + self.batch.end, room, MSG_DONTWAIT)
        if count > 0:
            self.batch.end += count
            self.octets += count
            return True
        self.has_ended = count == 0 or not _try_again(errno)
        return not self.has_ended


@cython.final
cdef class StreamOutlet(Outlet):
    """`events`, `octets`: as in `StreamInlet`. `sent_of_frame`: sent bytes of the first frame left, length words too;
    a frame that is incomplete when the stream ends is sent again, whole, on the next one.
    """

    cdef public uint32_t events
    cdef public long long octets
    cdef public Py_ssize_t sent_of_frame

    def connect(self, int fd, uint32_t events):
        """The current descriptor."""
        self.fd = fd
        self.events = events
        self.octets = 0

    cdef inline bint watch(self, int epoll_fd, bint has_unsent) noexcept nogil:
        """Let epoll wait for room as well, if data is unsent. False: it cannot."""
        if self.fd < 0 or has_unsent == (self.events & EPOLLOUT != 0):
            return True
        self.events ^= EPOLLOUT
        return _control(epoll_fd, EPOLL_CTL_MOD, self.fd, self.events)

    cdef int send(self, uint8_t* buf, Py_ssize_t* start, Py_ssize_t* end, bint has_vnet) noexcept nogil:
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


# ── ports ───────────────────────────────────────────────────────────────────────────────────────────────────


cdef class _Port:
    """What the two ends of a port share. `is_open`: connected; otherwise it may be listening, with an `fd`. `tap`: of a
    guest's own tap.

    `has_left`: it has just disconnected. `failure`: the exception that a call of the port has raised.
    """

    cdef object port
    cdef FrameFd device
    cdef TapFd tap
    cdef bint is_device
    cdef bint is_tap
    cdef bint is_open
    cdef bint has_left
    cdef bint is_stream
    cdef object failure

    def __init__(self, port):
        device = getattr(port, "frames", None)
        tap = getattr(port, "tap", None)
        self.port = port
        self.tap = tap
        self.is_tap = tap is not None
        self.is_device = device is not None
        self.device = device if self.is_device else FrameFd(-1, 0)
        self.is_stream = hasattr(port, "is_connected")
        self.is_open = self.has_left = False
        self.failure = None

    cdef int look(self):
        """The port's current descriptor; notes whether it is connected."""
        cdef bint was_open = self.is_open
        self.is_open = self.port.is_connected if self.is_stream else True
        self.has_left = was_open and not self.is_open
        return self.port.fileno()


@cython.final
cdef class PortInlet(Inlet):
    """The input end of a port."""

    cdef _Port port

    def __init__(self, port, Batch batch not None):
        super().__init__(batch)
        self.port = _Port(port)

    cdef bint receive(self) noexcept nogil:
        cdef Py_ssize_t before
        self.is_ready = False
        if not self.port.is_device:
            return self._ask()
        self.batch.move_to_front()
        before = self.batch.end
        self.batch.end = self.port.device._read(self.batch.base, before, self.batch.size)
        # The port reports whether an interface is down or gone.
        return self.batch.end > before or not self.port.device.failed_errno or self._ask()

    cdef bint _ask(self) noexcept with gil:
        try:
            self.batch.fill(self.port.port)
        except BaseException as error:  # no exception may be lost between here and Python
            self.port.failure = error
            return False
        return True


@cython.final
cdef class PortOutlet(Outlet):
    """The output end of a port. A frame that could not be written is first in the next call.

    `is_alone`: the port is not read as well.
    """

    cdef _Port port
    cdef bint is_alone

    def __init__(self, port, Batch batch not None):
        super().__init__(batch)
        self.port = _Port(port)
        self.is_alone = True

    cdef int send(self, uint8_t* buf, Py_ssize_t* start, Py_ssize_t* end, bint has_vnet) noexcept nogil:
        """As of any `Outlet`, but unsent frames may have been moved to the batch: then both are 0 as well."""
        if start[0] == end[0]:
            return _GONE
        if not self.port.is_device:
            return self._hand_over(buf, start, end)
        if self.port.is_tap:
            start[0] = self.port.tap._write(buf, start[0], end[0])
        elif self.port.device.is_socket:
            start[0] = self.port.device._send(buf, start[0], end[0])
        else:
            start[0] = self.port.device._write(buf, start[0], end[0])
        if start[0] < end[0]:
            return _WAITS
        start[0] = end[0] = 0
        return _GONE

    cdef int _hand_over(self, uint8_t* buf, Py_ssize_t* start, Py_ssize_t* end) noexcept with gil:
        cdef Batch batch = self.batch
        if buf != batch.base:
            self.keep(buf, start[0], end[0])
            start[0] = end[0] = 0
        try:
            batch.write_to(self.port.port)
        except BaseException as error:
            self.port.failure = error
            return _FAILED
        if batch.start < batch.end:
            return _WAITS
        batch.start = batch.end = 0
        return _GONE
