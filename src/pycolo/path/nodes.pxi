"""What the loops of both nodes have in common: ports, the data connection, and what is waited for.

::

    ports ─► receive ─► core ─► send ─► ports
                         ▲ │
                         │ ▼
    link ─► fill ─► messages, messages ─► flush ─► link

Unlike a `Stream`'s, a port's descriptor may change in each call of the port: it is asked for it again after each turn
that has entered Python. TLS and the connection's end are Python's too (`LinkSocket`), once for each batch.
"""

cdef enum:
    _DESCRIPTORS = 8


cdef struct Watched:
    int fd
    uint32_t registered
    uint32_t wanted


cdef class NodePump(Pump):
    """`attach` the link, set what the stage says, `run`. `is_link_held`: Python has messages that go before all others.

    `is_front_held`: the message in front waits for something that Python is about to say; nothing is read behind it.
    """

    cdef public bint is_link_held
    cdef public bint is_front_held
    cdef list _inlets
    cdef list _outlets
    cdef bint _has_vnet
    cdef bint _must_look
    cdef bint _goes_on_at_once
    cdef object _link
    cdef object _receive
    cdef LinkInlet _link_in
    cdef LinkOutlet _link_out
    cdef int _link_fd
    cdef bint _has_link
    cdef bint _is_link_ready
    cdef bint _is_link_pending
    cdef bint _has_link_failed
    cdef bint _is_link_writable
    cdef bint _link_wants_write
    cdef Watched[_DESCRIPTORS] _watched
    cdef int _watches

    def __init__(self, epoll_fd, spin_us, inlets, outlets, bint has_vnet):
        super().__init__(epoll_fd, spin_us)
        self.is_link_held = self.is_front_held = False
        self._inlets = inlets
        self._outlets = outlets
        self._has_vnet = has_vnet
        self._must_look = True
        self._goes_on_at_once = False
        self._watches = 0
        self._has_link = False
        for outlet in outlets:
            (<PortOutlet>outlet).is_alone = not any(
                (<PortInlet>inlet).port.port is (<PortOutlet>outlet).port.port for inlet in inlets
            )
        self.detach()

    # ── Python's ──────────────────────────────────────────────────────────────────────────────────────────────

    def attach(self, link):
        """Read and write this `LinkSocket` from now on."""
        self._link = link
        self._link_in = link.inlet
        self._link_out = link.outlet
        self._link_fd = link.fileno()
        self._has_link = self._is_link_ready = True
        self._has_link_failed = self._is_link_writable = False
        self._link_wants_write = link.wants_write
        self.is_link_held = self.is_front_held = False

    def detach(self):
        """There is no link any more; before it is closed."""
        if self._has_link:
            self.forget(self._link_fd)
        self._link = self._link_in = self._link_out = None
        self._link_fd = -1
        self._has_link = self._is_link_ready = self._is_link_pending = self._link_wants_write = False

    def forget(self, int fd):
        """A descriptor is about to be closed: its number may come back as another's."""
        cdef int i
        for i in range(self._watches):
            if self._watched[i].fd == fd and self._watched[i].registered:
                _control(self._epoll_fd, EPOLL_CTL_DEL, fd, 0)
                self._watched[i].registered = 0

    def look(self):
        """Ports may have another descriptor now. To be called before one of them may get a new connection, too.

        The number of one that was closed may come back at once: what was known of it is forgotten.
        """
        cdef PortInlet inlet
        cdef PortOutlet outlet
        for inlet in self._inlets:
            if inlet.port.look() != inlet.fd or inlet.port.has_left:
                self.forget(inlet.fd)
        for outlet in self._outlets:
            if outlet.port.look() != outlet.fd or outlet.port.has_left:
                self.forget(outlet.fd)
        self._must_look = True

    def run(self, until_us):
        """As of any pump, but that frames are moved at once: what Python has done may have made room.

        Raises what a port has raised.
        """
        cdef _Port port
        cdef bint goes_on
        with nogil:
            goes_on = self._turn()
        found = super().run(until_us) if goes_on else {}
        for port in self._ports():
            if port.failure is not None:
                failure, port.failure = port.failure, None
                raise failure
        return found

    def _ports(self):
        cdef PortInlet inlet
        cdef PortOutlet outlet
        for inlet in self._inlets:
            yield inlet.port
        for outlet in self._outlets:
            yield outlet.port

    cdef bint _look(self) noexcept with gil:
        """The ports' descriptors as they are now; False: one is not connected any more, which is Python's."""
        cdef PortInlet inlet
        cdef PortOutlet outlet
        cdef bint is_well = True
        self._must_look = False
        for inlet in self._inlets:
            inlet.fd = inlet.port.look()
            self._must_look |= not inlet.port.is_device
            is_well &= not inlet.port.has_left
        for outlet in self._outlets:
            outlet.fd = outlet.port.look()
            self._must_look |= not outlet.port.is_device
            is_well &= not outlet.port.has_left
        return is_well

    # ── the link ──────────────────────────────────────────────────────────────────────────────────────────────

    cdef bint _fill(self) noexcept with gil:
        """Read what has come over the link; what is wrong with it is said behind the last message, to Python."""
        self._is_link_ready = False
        self._link.fill()
        self._is_link_pending = self._link.has_pending
        self._has_link_failed = self._link.has_failed
        self._link_wants_write = self._link.wants_write
        return True

    cdef bint _read_link(self) noexcept nogil:
        """Read if messages are wanted and there may be some."""
        if self._has_link and (self._is_link_ready or self._is_link_pending) and self._wants_messages():
            return self._fill()
        return True

    cdef bint _wants_messages(self) noexcept nogil:
        """Whether all that came before was taken."""
        return not self.is_front_held and self._link_in.peek() == _NO_MESSAGE

    cdef inline bint _is_told(self) noexcept nogil:
        """Behind the last message: False where Python has to say that the link cannot be read any more."""
        return not self._has_link_failed

    cdef inline bint _can_queue(self) noexcept nogil:
        """Whether the link takes more, or there is none."""
        return not self._has_link or (not self.is_link_held and self._link_out.has_room())

    cdef bint _flush(self) noexcept with gil:
        try:
            self._link.flush()
        except LinkError:  # said again behind the last message
            self._has_link_failed = True
            return False
        self._is_link_writable = False
        self._link_wants_write = self._link.wants_write
        return True

    cdef inline bint _flush_link(self) noexcept nogil:
        """Send what was queued, unless the socket has no room; False: for Python."""
        if not self._has_link:
            return True
        if self._is_link_writable or (not self._link_wants_write and self._link_out.head < self._link_out.tail):
            if not self._flush():
                return False
        return not (self.is_link_held and self._link_out.has_room())

    # ── waiting ───────────────────────────────────────────────────────────────────────────────────────────────

    cdef bint _is_frames(self, int fd, uint32_t events) noexcept nogil:
        """Events of the link are the turn's; those of a port are for the stage to tell."""
        if fd != self._link_fd or not self._has_link:
            return self._is_ports(fd, events)
        if events & ~<uint32_t>EPOLLOUT:
            self._is_link_ready = True
        if events & EPOLLOUT:
            self._is_link_writable = self._is_link_ready = True  # TLS may have waited for room in order to read
        return True

    cdef bint _is_ports(self, int fd, uint32_t events) noexcept nogil:
        """Whether `_turn` deals with these events of a port; notes them."""
        return False

    cdef bint _hear(self, PortInlet inlet, int fd, uint32_t events) noexcept nogil:
        """Whether that is the inlet's descriptor, with something to read or an end to notice."""
        if fd != inlet.fd or not inlet.port.is_open:
            return False
        if events & ~<uint32_t>EPOLLOUT:
            inlet.is_ready = True
        return True

    cdef bint _is_room(self, PortOutlet outlet, int fd, uint32_t events) noexcept nogil:
        """Whether that is the outlet's descriptor, with room and nothing else."""
        return fd == outlet.fd and outlet.port.is_open and events == EPOLLOUT

    cdef int _want(self, int fd, uint32_t events) noexcept nogil:
        cdef int i
        if fd < 0 or events == 0:
            return 0
        for i in range(self._watches):
            if self._watched[i].fd == fd:
                self._watched[i].wanted |= events
                return 0
        if self._watches < _DESCRIPTORS:
            self._watched[self._watches].fd = fd
            self._watched[self._watches].registered = 0
            self._watched[self._watches].wanted = events
            self._watches += 1
        return 0

    cdef int _want_inlet(self, PortInlet inlet, bint is_wanted) noexcept nogil:
        """To be read; and where it is not connected yet, that it comes."""
        return self._want(inlet.fd, EPOLLIN if is_wanted or not inlet.port.is_open else 0)

    cdef int _want_outlet(self, PortOutlet outlet, bint has_unsent) noexcept nogil:
        """Room, where something waits for it. A stream that is only written says by an event that it has ended."""
        if not outlet.port.is_open:
            return self._want(outlet.fd, EPOLLIN)
        if outlet.port.is_stream and outlet.is_alone:
            self._want(outlet.fd, EPOLLERR)
        return self._want(outlet.fd, EPOLLOUT if has_unsent else 0)

    cdef bint _watch(self) noexcept nogil:
        """Have epoll wait for what is wanted now, which seldom changes; False: a port has left, which is Python's."""
        cdef int i, what
        cdef Watched* one
        cdef int kept = 0
        cdef bint is_well = not self._must_look or self._look()
        self._want_ports()
        if self._has_link:
            self._want(self._link_fd, EPOLLIN if self._wants_messages() else 0)
            self._want(self._link_fd, EPOLLOUT if self._link_wants_write else 0)
        for i in range(self._watches):
            one = &self._watched[i]
            if one.wanted != one.registered:
                # What waits for no event is left out: epoll would report its end again and again.
                what = EPOLL_CTL_DEL if one.wanted == 0 else EPOLL_CTL_MOD if one.registered else EPOLL_CTL_ADD
                if not _control(self._epoll_fd, what, one.fd, one.wanted) and one.wanted:
                    # Closed, and its number given to another; or known here no more, but to epoll.
                    what = EPOLL_CTL_ADD if what == EPOLL_CTL_MOD else EPOLL_CTL_MOD
                    if not _control(self._epoll_fd, what, one.fd, one.wanted):
                        one.wanted = 0
                one.registered = one.wanted
            if one.registered:
                self._watched[kept] = one[0]
                self._watched[kept].wanted = 0
                kept += 1
        self._watches = kept
        return is_well

    cdef int _want_ports(self) noexcept nogil:
        """Say what is wanted of the ports."""
        return 0
