"""filter-rewriter's stage: two ways, each from a stream through the rewriter to another.

::

    guest in ──► recv ─► seq -= seq_offset ─► send ─► client out
    client in ─► recv ─► ack += seq_offset ─► send ─► guest out

Frames are translated where they were received, and leave from there; what finds no room is put into the other
stream's own buffer. A way is not read while that waits. What the rewriter had kept leaves behind each batch.
"""


@cython.final
cdef class RewritePump(Pump):
    """The four streams are set by Python before each `run`, and looked at after."""

    cdef Rewriter _rewriter
    cdef readonly Inlet guest_in
    cdef readonly Outlet client_out
    cdef readonly Inlet client_in
    cdef readonly Outlet guest_out

    def __init__(self, epoll_fd, spin_us, Rewriter rewriter not None, guest_in, client_out, client_in, guest_out):
        """The last four: memoryviews of the streams' buffers."""
        super().__init__(epoll_fd, spin_us)
        self._rewriter = rewriter
        self.guest_in = Inlet(guest_in)
        self.client_out = Outlet(client_out)
        self.client_in = Inlet(client_in)
        self.guest_out = Outlet(guest_out)

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
        # The one way may have let go of what was kept for the other.
        if not goes_on or not self._leave(self.client_in, self.guest_out, True):
            return False
        return self._leave(self.guest_in, self.client_out, False)

    cdef bint _move(self, Inlet source, Outlet sink, bint is_client) noexcept nogil:
        """Read one way while what was translated leaves; False: Python is to go on from here."""
        cdef int sent = self._translate(source, sink, is_client)
        if sent == _GONE and source.is_ready:
            if not source.receive():
                return False
            sent = self._translate(source, sink, is_client)
        return sent != _FAILED

    cdef int _translate(self, Inlet source, Outlet sink, bint is_client) noexcept nogil:
        """Through the rewriter, as long as its output leaves."""
        cdef Py_ssize_t before
        cdef int sent = self._send(sink, is_client)
        while sent == _GONE and source.start < source.end:
            before = source.start
            source.start = self._rewriter.feed(
                source._buf, before, source.end, is_client, clock_us(), source._buf, before, before + sink._size
            )
            if self._rewriter._outcome != _SEND:
                sink.keep(source._buf, before, self._rewriter.out_end)
                return _FAILED
            sent = self._leave_from(source, before, sink)
            if sent == _GONE:
                sent = self._send(sink, is_client)
            if source.start == before:
                break
        return sent

    cdef inline int _leave_from(self, Inlet source, Py_ssize_t start, Outlet sink) noexcept nogil:
        """Send what was translated in place from `start` on; what is left goes into the sink's buffer."""
        cdef Py_ssize_t end = self._rewriter.out_end
        cdef int sent = sink.send(source._buf, &start, &end, self._rewriter.has_vnet)
        if sent != _GONE:
            sink.keep(source._buf, start, end)
        return sent

    cdef int _send(self, Outlet sink, bint is_client) noexcept nogil:
        """What was translated, and what the rewriter had kept."""
        cdef int sent
        while True:
            sent = sink.send(sink._buf, &sink.start, &sink.end, self._rewriter.has_vnet)
            if sent != _GONE:
                return sent
            sink.end = self._rewriter.write_kept(is_client, sink._buf, 0, sink._size)
            if not sink.end:
                return _GONE

    cdef bint _leave(self, Inlet source, Outlet sink, bint is_client) noexcept nogil:
        """Send what is left of one way, and have epoll wait for what can be dealt with; False: for Python."""
        cdef int sent = self._send(sink, is_client)
        source.is_blocked = sent == _WAITS
        if sent == _FAILED or not source.watch(self._epoll_fd):
            return False
        return sink.watch(self._epoll_fd, sent == _WAITS)
