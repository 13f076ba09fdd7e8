"""colo-compare's stage: two streams in, the comparator, one stream out.

::

    secondary ─► recv ─► comparator ─► outbox ─► send ─► output
    primary ───► recv ─►     │
                              └─► a difference: return to Python

A released frame is sent from the receive buffer if the secondary's equal frame came first, otherwise from the
comparator's outbox; frames that do not fit there go through the output's own buffer. While the comparator has no room
for a side, that side is not polled; its batch is offered again after each turn.
"""


@cython.final
cdef class Comparing:
    """The comparator between the inputs and `output`: the stage that all shells share.

    `octets`: bytes of released frames, length words included, that have moved from the comparator to the output.
    """

    cdef Comparator comparator
    cdef Held held
    cdef Outbox outbox
    cdef Outlet output
    cdef long long octets

    def __init__(self, Comparator comparator not None, Outlet output not None):
        self.comparator = comparator
        self.held = comparator.held
        self.outbox = comparator.held.outbox
        self.output = output
        self.octets = 0

    cdef inline int take(self, Inlet side, bint is_primary) noexcept nogil:
        """Feed one side's batch to the comparator. Returns its `_outcome`."""
        side.batch.start = self.comparator.feed(
            side.batch.base, side.batch.start, side.batch.end, is_primary, clock_us()
        )
        side.is_blocked = self.comparator._outcome != _TAKEN
        return self.comparator._outcome

    cdef inline int send_in_place(self) noexcept nogil:
        """Send frames released in the primary's batch if all older ones are sent; otherwise they wait in the outbox."""
        if self.outbox.run_start < self.outbox.run_end and self._send_copied() == _GONE:
            self.octets += self.outbox.run_end - self.outbox.run_start
            self.output.send(
                self.outbox.batch, &self.outbox.run_start, &self.outbox.run_end, self.held.has_vnet
            )
            self.octets -= self.outbox.run_end - self.outbox.run_start
        return self.outbox.settle()

    cdef inline int send(self) noexcept nogil:
        """Send released frames in order: those in `ready` are newer than the copied ones."""
        cdef int sent = self._send_copied()
        while sent == _GONE and self.held.ready.at[0].head != _NONE:
            self.output.batch.end = self.held.drain(self.output.batch.base, 0, self.output.batch.size)
            self.octets += self.output.batch.end
            sent = self._send_copied()
        return sent

    cdef inline int _send_copied(self) noexcept nogil:
        """Send the output's batch, which is older than the outbox, then the outbox."""
        cdef int sent = self.output.send_kept(self.held.has_vnet)
        if sent == _GONE and self.outbox.start < self.outbox.end:
            self.octets += self.outbox.end - self.outbox.start
            sent = self.output.send(
                self.outbox.copied, &self.outbox.start, &self.outbox.end, self.held.has_vnet
            )
            self.octets -= self.outbox.end - self.outbox.start
        return sent

    cdef inline bint has_unsent(self) noexcept nogil:
        """Whether any released frame has not been sent."""
        if self.output.batch.start < self.output.batch.end or not self.outbox.is_empty():
            return True
        return self.held.ready.at[0].head != _NONE


@cython.final
cdef class ComparePump(Pump):
    """Python connects `secondary`, `primary` and `output` before each `run`, and inspects them afterwards."""

    cdef Comparing _stage
    cdef readonly StreamInlet secondary
    cdef readonly StreamInlet primary
    cdef readonly StreamOutlet output

    def __init__(self, epoll_fd, spin_us, comparator, secondary, primary, output):
        """The last three arguments: the streams' batches."""
        super().__init__(epoll_fd, spin_us)
        self.secondary = StreamInlet(secondary)
        self.primary = StreamInlet(primary)
        self.output = StreamOutlet(output)
        self._stage = Comparing(comparator, self.output)

    def _ends(self):
        return {inlet.fd: EPOLLIN for inlet in (self.secondary, self.primary) if (<Inlet>inlet).has_ended}

    cdef long long _due_us(self) noexcept nogil:
        return self._stage.comparator.due_us()

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
        self._stage.send_in_place()
        now = clock_us()
        if self._stage.comparator.due_us() <= now:
            self._stage.comparator._timer(now)
        sent = self._stage.send()
        if sent == _FAILED or not goes_on or self._stage.held._reports:
            return False
        return (
            self.secondary.watch(self._epoll_fd)
            and self.primary.watch(self._epoll_fd)
            and self.output.watch(self._epoll_fd, sent == _WAITS)
        )

    cdef inline bint _take(self, StreamInlet side, bint is_primary) noexcept nogil:
        """Read one side if the comparator has room. False: return to Python."""
        cdef int outcome
        if not side.is_blocked:
            if not side.is_ready:
                return True
            if not side.receive():
                return False
        outcome = self._stage.take(side, is_primary)
        return outcome == _TAKEN or outcome == _BLOCKED
