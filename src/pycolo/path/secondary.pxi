"""The secondary node's loop.

::

    in service   link ──► rewriter ──► guest          guest ──► rewriter ──► link          lan ──► nothing
    serving      lan  ──► rewriter ──► guest          guest ──► rewriter ──► lan

`pycolo.node.secondarypath` describes when it is in service, held and serving, and what waits meanwhile.
"""


@cython.final
cdef class SecondaryPump(NodePump):
    """`is_held`: no frames to or from the guest; `is_input_held`: none to it. `has_mirrored`: Python has frames for the
    guest that must go first. `order`: of requests, while it is active, in service only. `is_resending`: a takeover has
    frames to send again; the guest is not read before they are sent.
    """

    cdef public bint is_held
    cdef public bint is_serving
    cdef public bint is_resending
    cdef public bint has_mirrored
    cdef readonly SecondaryOrder order
    cdef Rewriting _stage
    cdef Rewriter _rewriter
    cdef Py_ssize_t _heard

    def __init__(
        self, epoll_fd, spin_us, Rewriter rewriter not None, lan_in, lan_out, guest_in, guest_out, order=None
    ):
        super().__init__(epoll_fd, spin_us, lan_in, lan_out, guest_in, guest_out)
        self.is_held = self.is_serving = self.is_resending = self.has_mirrored = False
        self._stage = Rewriting(rewriter)
        self._rewriter = rewriter
        self.order = order if order is not None else SecondaryOrder(0, self._has_vnet)
        self._heard = 0

    # ── the turn ──────────────────────────────────────────────────────────────────────────────────────────────

    cdef bint _turn(self) noexcept nogil:
        cdef bint goes_on = self._read_link()
        if not self._take_link():
            goes_on = False
        if not self._take_lan():
            goes_on = False
        if not self._take_guest():
            goes_on = False
        if self.order.is_active() and not self._holds_input():
            self.order.timer(clock_us())
            if not self._take_link():
                goes_on = False
        self._stage.let_pass(clock_us())
        if not self._flush_link():
            goes_on = False
        return self._watch() and goes_on and self._is_tap_its_own()

    cdef inline bint _holds_input(self) noexcept nogil:
        return self.is_held or self.is_input_held

    cdef bint _take_link(self) noexcept nogil:
        """Client frames that the primary has mirrored. False: return to Python."""
        cdef int kind, sent
        cdef Py_ssize_t at, before
        if self._holds_input():
            return not self._has_link or self.is_front_held or self._link_in.peek() == _NO_MESSAGE and self._is_told()
        while True:
            sent = self._stage.send(self.guest_out, True)
            if sent != _GONE:
                return sent != _FAILED
            if self.order.admitted.start < self.order.admitted.end:
                if not self._give_admitted():
                    return False
                continue
            if self.has_mirrored:
                return False
            if not self._has_link:
                return True
            kind = self._link_in.peek()
            if kind == _NO_MESSAGE:
                return self._is_told()
            if kind != _CLIENT_FRAMES or not self._link_in.holds_frames(self._has_vnet):
                return False
            at = self._link_in.payload_at()
            before = self._link_in.pos
            if self.order.is_active():
                self._link_in.pos = self.order.mirrored(
                    self._link_in._buf, at + before, at + self._link_in._length, clock_us()
                ) - at
                if self._link_in.pos == before:
                    return True  # the order is full until the guest has answered
            else:
                self._link_in.pos = self._stage.translate(
                    self._link_in._buf, at + before, at + self._link_in._length, self.guest_out.batch.size, True
                ) - at
                if self._stage.leave(self._link_in._buf, at + before, self.guest_out) == _FAILED:
                    return False
            if self._link_in.pos == self._link_in._length:
                self._link_in.drop()

    cdef bint _give_admitted(self) noexcept nogil:
        """What the order has admitted, to the guest, which has got all before it. False: return to Python."""
        cdef Py_ssize_t before = self.order.admitted.start
        self.order.admitted.start = self._stage.translate(
            self.order.admitted.base, before, self.order.admitted.end, self.guest_out.batch.size, True
        )
        if self._stage.leave(self.order.admitted.base, before, self.guest_out) == _FAILED:
            return False
        self.order.advance(clock_us())  # there is room again
        return self.order.admitted.start > before or self.order.admitted.start == self.order.admitted.end

    cdef int _tell_order(self, Py_ssize_t before) noexcept nogil:
        """As `PrimaryPump._tell_order`."""
        cdef Py_ssize_t start, end
        if before == 0:
            self._heard = 0
        start = self.guest_in.batch.start + self._heard
        end = frame_boundary(self.guest_in.batch.base, start, self.guest_in.batch.end, self._has_vnet)
        self.order.guest(self.guest_in.batch.base, start, end, clock_us())
        self._heard = end - self.guest_in.batch.start
        return 0

    cdef bint _take_lan(self) noexcept nogil:
        """Frames from the LAN: to the guest while this node serves. False: return to Python."""
        cdef int sent
        if not self.lan_in.is_ready:
            return True
        if self.is_serving:
            sent = self._stage.send(self.guest_out, True)
            if sent != _GONE or self.has_mirrored:
                return sent != _FAILED
        if not self.lan_in.receive():
            return False
        if not self.is_serving:
            self.lan_in.batch.start = frame_boundary(
                self.lan_in.batch.base, self.lan_in.batch.start, self.lan_in.batch.end, self._has_vnet
            )
            self.lan_in.has_ended = frame_at(
                self.lan_in.batch.base, self.lan_in.batch.start, self.lan_in.batch.end, self._has_vnet,
                self._rewriter.span
            ) == 2
            return not self.lan_in.has_ended
        self._rewriter._outcome = _SEND
        sent = self._stage.take(self.lan_in.batch, self.guest_out, True)
        self.lan_in.has_ended = self._rewriter._outcome == _IMPOSSIBLE
        return sent != _FAILED

    cdef bint _take_guest(self) noexcept nogil:
        """The guest's output: to the link; to the LAN while this node serves. False: return to Python."""
        cdef int sent
        cdef Py_ssize_t before
        if self.is_held:
            return True
        sent = self.lan_out.send_kept(self._has_vnet)
        if sent != _GONE:
            return sent != _FAILED
        if self.is_resending:
            return False
        if not self.guest_in.is_ready or not self._can_queue():
            return True
        before = self.guest_in.batch.end - self.guest_in.batch.start
        if not self.guest_in.receive():
            return False
        if self.order.is_active():
            self._tell_order(before)
        self._rewriter._outcome = _SEND
        before = self.guest_in.batch.start
        if self.is_serving:
            sent = self._stage.take(self.guest_in.batch, self.lan_out, False)
        else:
            sent = self._mirror_back()
        self._heard = max(self._heard - (self.guest_in.batch.start - before), 0)
        self.guest_in.has_ended = self._rewriter._outcome == _IMPOSSIBLE
        # The guest's frames may have released frames that waited for it.
        if sent == _FAILED or self.guest_in.has_ended:
            return False
        return self.is_input_held or self._stage.send(self.guest_out, True) != _FAILED

    cdef int _mirror_back(self) noexcept nogil:
        """The guest's frames, translated to the primary's numbers, to the link."""
        cdef Py_ssize_t start = self.guest_in.batch.start
        cdef uint8_t* payload
        self.guest_in.batch.start = self._stage.translate(
            self.guest_in.batch.base, start, self.guest_in.batch.end, self.guest_in.batch.size, False
        )
        if self._has_link and self._rewriter.out_end > start:
            payload = self._link_out.reserve(self._rewriter.out_end - start)
            if payload != NULL:
                copy_many(payload, self.guest_in.batch.base + start, self._rewriter.out_end - start)
                self._link_out.put(_GUEST_FRAMES, self._rewriter.out_end - start)
        return _GONE

    # ── waiting ───────────────────────────────────────────────────────────────────────────────────────────────

    cdef bint _wants_messages(self) noexcept nogil:
        if self.is_front_held or (self.has_mirrored and not self._holds_input()):
            return False
        return self._link_in.peek() == _NO_MESSAGE

    cdef long long _due_us(self) noexcept nogil:
        cdef long long due = _NEVER
        if self._has_link and self._is_link_pending and self._wants_messages():
            return 0
        if self.order.is_active() and not self._holds_input():
            due = self.order.lanes.due_us()
        if self.guest_out.batch.start < self.guest_out.batch.end and not self._holds_input():
            return min(due, self._stage.due_us, self._tap_due_us())
        return min(due, self._stage.due_us)

    cdef int _want_ports(self) noexcept nogil:
        cdef bint is_guest_full = self.has_mirrored or self.guest_out.batch.start < self.guest_out.batch.end
        cdef bint is_lan_full = self.lan_out.batch.start < self.lan_out.batch.end
        self._want_outlet(self.lan_out, is_lan_full)
        self._want_outlet(self.guest_out, is_guest_full and not self._holds_input())
        self._want_inlet(self.lan_in, not self.is_serving or not is_guest_full)
        return self._want_inlet(self.guest_in, not is_lan_full and not self.is_held and self._can_queue())
