"""colo-compare's stage: two streams in, the comparator, one stream out.

::

    secondary ─► recv ─► comparator ─► outbox ─► send ─► output
    primary ───► recv ─►     │
                             └─► a difference: back to Python

What is released leaves from where it was received if its equal had come before, else from the comparator's outbox; what
found no room there goes through the output's own buffer.
A side that the comparator has no room for is not waited for meanwhile, and offered again after each turn.
"""


@cython.final
cdef class ComparePump(Pump):
    """`secondary`, `primary` and `output` are set by Python before each `run`, and looked at after."""

    cdef Comparator _comparator
    cdef Held _held
    cdef Outbox _outbox
    cdef readonly Inlet secondary
    cdef readonly Inlet primary
    cdef readonly Outlet output

    def __init__(self, epoll_fd, spin_us, Comparator comparator not None, secondary, primary, output):
        """The last three: memoryviews of the streams' buffers."""
        super().__init__(epoll_fd, spin_us)
        self._comparator = comparator
        self._held = comparator.held
        self._outbox = comparator.held.outbox
        self.secondary = Inlet(secondary)
        self.primary = Inlet(primary)
        self.output = Outlet(output)

    def _ends(self):
        return {inlet.fd: EPOLLIN for inlet in (self.secondary, self.primary) if (<Inlet>inlet).has_ended}

    cdef long long _due_us(self) noexcept nogil:
        return self._comparator.due_us()

    cdef bint _is_frames(self, int fd, uint32_t events) noexcept nogil:
        if fd == self.secondary.fd:
            self.secondary.is_ready = True
        elif fd == self.primary.fd:
            self.primary.is_ready = True
        else:
            return fd == self.output.fd and events == EPOLLOUT
        return True

    cdef bint _turn(self) noexcept nogil:
        cdef int sent
        cdef long long now
        cdef bint goes_on = self._take(self.secondary, False)
        if not self._take(self.primary, True):
            goes_on = False
        self._send_in_place()
        now = clock_us()
        if self._comparator.due_us() <= now:
            self._comparator._timer(now)
        sent = self._send()
        if sent == _FAILED or not goes_on or self._held._reports:
            return False
        return (
            self.secondary.watch(self._epoll_fd)
            and self.primary.watch(self._epoll_fd)
            and self.output.watch(self._epoll_fd, sent == _WAITS)
        )

    cdef inline bint _take(self, Inlet side, bint is_primary) noexcept nogil:
        """Read one side, if there is room for what it says; False: Python is to go on from here."""
        cdef int outcome
        if not side.is_blocked:
            if not side.is_ready:
                return True
            if not side.receive():
                return False
        side.start = self._comparator.feed(side._buf, side.start, side.end, is_primary, clock_us())
        outcome = self._comparator._outcome
        side.is_blocked = outcome != _TAKEN
        return outcome == _TAKEN or outcome == _BLOCKED

    cdef inline int _send_in_place(self) noexcept nogil:
        """What was released in the primary's batch, if all that is older has gone; the rest waits in the outbox."""
        if self._outbox.run_start < self._outbox.run_end and self._send_copied() == _GONE:
            self.output.send(self._outbox.batch, &self._outbox.run_start, &self._outbox.run_end, self._held.has_vnet)
        return self._outbox.settle()

    cdef inline int _send(self) noexcept nogil:
        """What was released, in order: what is `ready` is newer than what was copied."""
        cdef int sent = self._send_copied()
        while sent == _GONE and self._held.ready.at[0].head != _NONE:
            self.output.end = self._held.drain(self.output._buf, 0, self.output._size)
            sent = self._send_copied()
        return sent

    cdef inline int _send_copied(self) noexcept nogil:
        """What stands in the output's buffer, which is older than what stands in the outbox, and that."""
        cdef int sent = self.output.send(self.output._buf, &self.output.start, &self.output.end, self._held.has_vnet)
        if sent == _GONE:
            sent = self.output.send(self._outbox.copied, &self._outbox.start, &self._outbox.end, self._held.has_vnet)
        return sent
