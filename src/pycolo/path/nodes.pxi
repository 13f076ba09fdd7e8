"""What both nodes' loops share: ports, the data connection, and the descriptors to wait for.

::

    ports ─► receive ─► core ─► send ─► ports
                         ▲ │
                         │ ▼
    link ─► fill ─► messages, messages ─► flush ─► link

Unlike a `Stream`, a port may change its descriptor in any of its calls: the loop asks for it again after each turn that
has entered Python. TLS and the end of the connection are Python's work too (`LinkSocket`), once per batch.
"""

cdef enum:
    _DESCRIPTORS = 8


cdef struct Watched:
    int fd
    uint32_t registered
    uint32_t wanted


cdef class NodePump(Pump):
    """`attach` the link, set the stage's attributes, `run`. `is_link_held`: Python has messages that must go first.

    `is_front_held`: the first message waits for a decision by Python; nothing is read after it. `is_input_held`: no
    frame is begun towards the guest.
    """

    cdef readonly PortInlet lan_in
    cdef readonly PortInlet guest_in
    cdef readonly PortOutlet lan_out
    cdef readonly PortOutlet guest_out
    cdef public bint is_link_held
    cdef public bint is_front_held
    cdef public bint is_input_held
    cdef long long _foreign
    cdef list _inlets
    cdef list _outlets
    cdef bint _has_vnet
    cdef bint _must_look
    cdef bint _goes_on_at_once
    cdef object _link
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

    def __init__(self, epoll_fd, spin_us, lan_in, lan_out, guest_in, guest_out):
        """Four ports; `guest_out` None: the guest gets its frames elsewhere."""
        super().__init__(epoll_fd, spin_us)
        self.lan_in = PortInlet(lan_in, Batch())
        self.guest_in = PortInlet(guest_in, Batch())
        self.lan_out = PortOutlet(lan_out, Batch())
        self.guest_out = PortOutlet(guest_out, Batch()) if guest_out is not None else self.lan_out
        self.lan_out.is_alone = lan_out is not lan_in and lan_out is not guest_in
        self.guest_out.is_alone = self.guest_out.port.port is not lan_in and self.guest_out.port.port is not guest_in
        self._inlets = [self.lan_in, self.guest_in]
        self._outlets = [self.lan_out, self.guest_out]
        self.is_link_held = self.is_front_held = self.is_input_held = False
        self._foreign = 0
        self._has_vnet = lan_in.vnet_len != 0
        self._must_look = True
        self._goes_on_at_once = False
        self._watches = 0
        self._has_link = False
        self.detach()

    # ── Python's ──────────────────────────────────────────────────────────────────────────────────────────────

    def attach(self, link):
        """Use this `LinkSocket` from now on."""
        self._link = link
        self._link_in = link.inlet
        self._link_out = link.outlet
        self._link_fd = link.fileno()
        self._has_link = self._is_link_ready = True
        self._has_link_failed = self._is_link_writable = False
        self._link_wants_write = link.wants_write
        self.is_link_held = self.is_front_held = False

    def detach(self):
        """Stop using the link; call it before the link is closed."""
        if self._has_link:
            self.forget(self._link_fd)
        self._link = self._link_in = self._link_out = None
        self._link_fd = -1
        self._has_link = self._is_link_ready = self._is_link_pending = self._link_wants_write = False

    def forget(self, int fd):
        """Stop watching a descriptor that is about to be closed: its number may be reused."""
        cdef int i
        for i in range(self._watches):
            if self._watched[i].fd == fd and self._watched[i].registered:
                _control(self._epoll_fd, EPOLL_CTL_DEL, fd, 0)
                self._watched[i].registered = 0

    def look(self):
        """Read the ports' descriptors again. Call it also before a port may get a new connection.

        The number of a closed descriptor may be reused at once: the loop forgets what it knew of it.
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
        """As of any pump, but it moves frames at once: Python may have made room.

        Raises the exception that a port has raised.
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
        """Update the ports' descriptors. False: a port has disconnected; return to Python."""
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
        """Read from the link; Python reports an error of the link, after the last message."""
        self._is_link_ready = False
        self._link.fill()
        self._is_link_pending = self._link.has_pending
        self._has_link_failed = self._link.has_failed
        self._link_wants_write = self._link.wants_write
        return True

    cdef bint _read_link(self) noexcept nogil:
        """Read the link if messages are wanted and there may be some."""
        if self._has_link and (self._is_link_ready or self._is_link_pending) and self._wants_messages():
            return self._fill()
        return True

    cdef bint _wants_messages(self) noexcept nogil:
        """Whether all earlier messages were consumed."""
        return not self.is_front_held and self._link_in.peek() == _NO_MESSAGE

    cdef inline bint _is_told(self) noexcept nogil:
        """After the last message: False if Python must report that the link has failed."""
        return not self._has_link_failed

    cdef inline bint _can_queue(self) noexcept nogil:
        """Whether the link accepts more, or there is none."""
        return not self._has_link or (not self.is_link_held and self._link_out.has_room())

    cdef bint _flush(self) noexcept with gil:
        try:
            self._link.flush()
        except LinkError:  # reported after the last message
            self._has_link_failed = True
            return False
        self._is_link_writable = False
        self._link_wants_write = self._link.wants_write
        return True

    cdef inline bint _flush_link(self) noexcept nogil:
        """Send the queue, unless the socket has no room. False: return to Python."""
        if not self._has_link:
            return True
        if self._is_link_writable or (not self._link_wants_write and self._link_out.head < self._link_out.tail):
            if not self._flush():
                return False
        return not (self.is_link_held and self._link_out.has_room())

    # ── waiting ───────────────────────────────────────────────────────────────────────────────────────────────

    cdef bint _is_frames(self, int fd, uint32_t events) noexcept nogil:
        """Note events of the link and of the ports."""
        if fd != self._link_fd or not self._has_link:
            return self._is_ports(fd, events)
        if events & ~<uint32_t>EPOLLOUT:
            self._is_link_ready = True
        if events & EPOLLOUT:
            self._is_link_writable = self._is_link_ready = True  # TLS may have waited for room in order to read
        return True

    cdef bint _is_ports(self, int fd, uint32_t events) noexcept nogil:
        """Whether `_turn` handles these events of a port; notes them."""
        cdef bint found = self._hear(self.lan_in, fd, events)
        if self._hear(self.guest_in, fd, events):
            found = True
        return found or self._is_room(self.lan_out, fd, events) or self._is_room(self.guest_out, fd, events)

    cdef bint _hear(self, PortInlet inlet, int fd, uint32_t events) noexcept nogil:
        """Whether this is the inlet's descriptor; notes that it has data or has ended."""
        if fd != inlet.fd or not inlet.port.is_open:
            return False
        if events & ~<uint32_t>EPOLLOUT:
            inlet.is_ready = True
        return True

    cdef bint _is_room(self, PortOutlet outlet, int fd, uint32_t events) noexcept nogil:
        """Whether this is the outlet's descriptor, writable and nothing else."""
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
        """Wait for data; or for a connection, if not connected."""
        return self._want(inlet.fd, EPOLLIN if is_wanted or not inlet.port.is_open else 0)

    cdef int _want_outlet(self, PortOutlet outlet, bint has_unsent) noexcept nogil:
        """Wait for room if data is unsent. A port that is only written also reports its end by an event."""
        if not outlet.port.is_open:
            return self._want(outlet.fd, EPOLLIN)
        if outlet.port.is_stream and outlet.is_alone:
            self._want(outlet.fd, EPOLLERR)
        # A packet socket always reports room; whether a tap's ring has some, shows only when it is tried.
        return self._want(outlet.fd, EPOLLOUT if has_unsent and not outlet.port.is_tap else 0)

    cdef inline long long _tap_due_us(self) noexcept nogil:
        """When to try again a guest's tap that was full."""
        return clock_us() + _FULL_AGAIN_US if self.guest_out.port.is_tap and self.guest_out.port.tap.is_full else _NEVER

    cdef inline bint _is_tap_its_own(self) noexcept nogil:
        """False, once: others have sent frames on the guest's tap, and Python is to know."""
        cdef long long before = self._foreign
        self._foreign = self.guest_in.port.device.foreign
        return self._foreign == before

    cdef bint _watch(self) noexcept nogil:
        """Register the wanted events, which seldom change. False: a port has disconnected; return to Python."""
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
                # A descriptor without wanted events is removed: epoll would report its end again and again.
                what = EPOLL_CTL_DEL if one.wanted == 0 else EPOLL_CTL_MOD if one.registered else EPOLL_CTL_ADD
                if not _control(self._epoll_fd, what, one.fd, one.wanted) and one.wanted:
                    # It was closed and its number reused; or epoll still has it although this loop does not.
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
        """Set the wanted events of the ports."""
        return 0
