"""filter-rewriter's stage: two directions, each from a stream through the rewriter to another stream.

::

    guest in ──► recv ─► seq -= seq_offset ─► send ─► client out
    client in ─► recv ─► ack += seq_offset ─► send ─► guest out

Frames are translated in the receive buffer and sent from there; what cannot be sent is put into the output's own
buffer. While that is not empty, the direction is not read. Frames that the rewriter had kept follow each batch.
"""


cdef enum:
    _REWRITER_TIMER_US = 1000000


@cython.final
cdef class Rewriting:
    """The rewriter between inputs and outputs: the stage that all shells share."""

    cdef Rewriter rewriter
    cdef long long due_us

    def __init__(self, Rewriter rewriter not None):
        self.rewriter = rewriter
        self.due_us = 0

    cdef inline int let_pass(self, long long now) noexcept nogil:
        """Expire rows and copies once per second; `due_us` is the next time."""
        if now >= self.due_us:
            self.due_us = now + _REWRITER_TIMER_US
            self.rewriter._expire(now)
        return 0

    cdef int take(self, Batch source, Outlet sink, bint is_client) noexcept nogil:
        """Translate as long as the output is sent; _FAILED also if the input is invalid."""
        cdef Py_ssize_t before
        cdef int sent = self.send(sink, is_client)
        while sent == _GONE and source.start < source.end:
            before = source.start
            source.start = self.translate(source.base, before, source.end, sink.batch.size, is_client)
            if self.rewriter._outcome != _SEND:
                sink.keep(source.base, before, self.rewriter.out_end)
                return _FAILED
            sent = self.leave(source.base, before, sink)
            if sent == _GONE:
                sent = self.send(sink, is_client)
            if source.start == before:
                break
        return sent

    cdef inline Py_ssize_t translate(self, uint8_t* buf, Py_ssize_t start, Py_ssize_t end, Py_ssize_t room,
            bint is_client) noexcept nogil:
        """Translate in place, `room` bytes at most, up to `out_end`. Returns what was consumed."""
        return self.rewriter.feed(buf, start, end, is_client, clock_us(), buf, start, start + room)

    cdef inline int leave(self, uint8_t* buf, Py_ssize_t start, Outlet sink) noexcept nogil:
        """Send the translated frames from `start` on; the rest goes into the sink's batch."""
        cdef Py_ssize_t end = self.rewriter.out_end
        cdef int sent = sink.send(buf, &start, &end, self.rewriter.has_vnet)
        if start < end:
            sink.keep(buf, start, end)
        return sent

    cdef int send(self, Outlet sink, bint is_client) noexcept nogil:
        """Send translated frames, then those that the rewriter had kept."""
        cdef int sent
        while True:
            sent = sink.send_kept(self.rewriter.has_vnet)
            if sent != _GONE:
                return sent
            sink.batch.end = self.rewriter.write_kept(is_client, sink.batch.base, 0, sink.batch.size)
            if not sink.batch.end:
                return _GONE


@cython.final
cdef class RewritePump(Pump):
    """Python connects the four streams before each `run`, and inspects them afterwards."""

    cdef Rewriting _stage
    cdef readonly StreamInlet guest_in
    cdef readonly StreamOutlet client_out
    cdef readonly StreamInlet client_in
    cdef readonly StreamOutlet guest_out

    def __init__(self, epoll_fd, spin_us, rewriter, guest_in, client_out, client_in, guest_out):
        """The last four arguments: the streams' batches."""
        super().__init__(epoll_fd, spin_us)
        self._stage = Rewriting(rewriter)
        self.guest_in = StreamInlet(guest_in)
        self.client_out = StreamOutlet(client_out)
        self.client_in = StreamInlet(client_in)
        self.guest_out = StreamOutlet(guest_out)

    def _ends(self):
        return {inlet.fd: EPOLLIN for inlet in (self.guest_in, self.client_in) if (<Inlet>inlet).has_ended}

    cdef bint _is_frames(self, int fd, uint32_t events) noexcept nogil:
        if fd == self.guest_in.fd:
            self.guest_in.is_ready = True
        elif fd == self.client_in.fd:
            self.client_in.is_ready = True
        else:
            return events == EPOLLOUT and (fd == self.client_out.fd or fd == self.guest_out.fd)
        return True

    cdef bint _turn(self) noexcept nogil:
        cdef bint goes_on = self._move(self.guest_in, self.client_out, False)
        if not self._move(self.client_in, self.guest_out, True):
            goes_on = False
        # One direction may have released frames that were kept for the other.
        if not goes_on or not self._leave(self.client_in, self.guest_out, True):
            return False
        return self._leave(self.guest_in, self.client_out, False)

    cdef bint _move(self, StreamInlet source, StreamOutlet sink, bint is_client) noexcept nogil:
        """Read one direction while its output is sent. False: return to Python."""
        cdef int sent = self._stage.take(source.batch, sink, is_client)
        if sent == _GONE and source.is_ready:
            if not source.receive():
                return False
            sent = self._stage.take(source.batch, sink, is_client)
        return sent != _FAILED

    cdef bint _leave(self, StreamInlet source, StreamOutlet sink, bint is_client) noexcept nogil:
        """Send the rest of one direction, and register the events to wait for. False: return to Python."""
        cdef int sent = self._stage.send(sink, is_client)
        source.is_blocked = sent == _WAITS
        if sent == _FAILED or not source.watch(self._epoll_fd):
            return False
        return sink.watch(self._epoll_fd, sent == _WAITS)
