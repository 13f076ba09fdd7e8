"""The primary node's loop.

::

    lan ──► client's frames: mirrored to the link ──► (rewriter ──►) guest
    lan ──► client's frames: (rewriter ──►) guest's tap ──► what it took: mirrored to the link
    guest ──► (rewriter ──►) comparator ──┐
    link ──► comparator ──────────────────┴─ released ──► lan
    lan ──► order ──► (rewriter ──►) guest: where ports are ordered; the order says what is mirrored, and when

`pycolo.node.primarypath` describes the meaning, and the effect of a checkpoint.
"""

cdef enum:
    # While nothing may leave: how often to check whether the secondary was heard again.
    _TRUST_CHECK_US = 5000

cdef int _CLIENT_FRAMES = int(_MessageType.CLIENT_FRAMES)
cdef int _GUEST_FRAMES = int(_MessageType.GUEST_FRAMES)


@cython.final
cdef class PrimaryPump(NodePump):
    """`guest_out` None: frames from the LAN reach the guest by themselves. `rewriter`: for a primary after a takeover.

    `is_mirroring`: LAN frames are copied to the secondary; where the guest has a tap, in the order in which that took
    them, and no other frames. `trust`: None, or the function that allows each write of
    released frames. `lan_complete`: end of the LAN frames that were mirrored. `is_lan_held`: Python has frames for the
    guest that must go before those from the LAN. `order`: of requests, while it is active; `sleepers`: the guest's
    processors.
    """

    cdef readonly Batch translated
    cdef readonly PrimaryOrder order
    cdef public Sleepers sleepers
    cdef bint _is_ordering
    cdef Py_ssize_t _heard
    cdef public bint is_mirroring
    cdef public bint is_lan_held
    cdef public Py_ssize_t lan_complete
    cdef object _trust
    cdef bint _asks_trust
    cdef bint _is_trusted
    cdef Comparator _comparator
    cdef Comparing _stage
    cdef Rewriting _rewriting
    cdef bint _rewrites
    cdef bint _gives
    cdef bint _mirrors_taken
    cdef Py_ssize_t _unmirrored
    cdef bint _is_guest_blocked
    cdef bint _has_read

    def __init__(
        self, epoll_fd, spin_us, Comparator comparator not None, lan_in, lan_out, guest_in, guest_out, rewriter=None,
        order=None,
    ):
        self._gives = guest_out is not None
        self._rewrites = rewriter is not None
        self.translated = Batch()
        super().__init__(epoll_fd, spin_us, lan_in, lan_out, guest_in, guest_out)
        self._mirrors_taken = self._gives and self.guest_out.port.is_tap
        self.is_mirroring = self.is_lan_held = False
        self.lan_complete = self._unmirrored = 0
        self._trust = None
        self._asks_trust = False
        self._is_trusted = True
        self._comparator = comparator
        self._stage = Comparing(comparator, self.lan_out)
        self._rewriting = Rewriting(rewriter) if self._rewrites else None
        self._is_guest_blocked = self._has_read = False
        self.order = order if order is not None else PrimaryOrder(0, self._has_vnet)
        self.sleepers = Sleepers([])
        self._is_ordering = False
        self._heard = 0

    # ── Python's ──────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def trust(self):
        """See the class."""
        return self._trust

    @trust.setter
    def trust(self, trust):
        self._trust = trust
        self._asks_trust = trust is not None

    @property
    def is_guest_blocked(self):
        """Whether the comparator has no room for the guest's frames."""
        return self._is_guest_blocked

    @is_guest_blocked.setter
    def is_guest_blocked(self, value):
        self._is_guest_blocked = value

    def is_input_given(self):
        """Whether no frame is half given to the guest's tap, or given and not mirrored, while `is_input_held`."""
        if self._rewrites:
            return self.guest_out.batch.start == self.guest_out.batch.end and not self._unmirrored
        return not self.guest_out.port.is_tap or not self.guest_out.port.tap._has_begun()

    def may_release(self):
        """Whether released frames may leave now."""
        return self._may_release()

    def take_guest(self):
        """Read the guest's frames if there is room, and compare them. Returns whether any were read."""
        self.guest_in.is_ready = True
        self._has_read = False
        self._take_guest()
        self._stage.outbox.settle()
        return self._has_read

    @property
    def released_octets(self):
        """Bytes of all released frames, length words included."""
        return self._stage.octets

    def send_released(self):
        """Send released frames if allowed. Returns whether none are left, or none may leave."""
        self._stage.outbox.settle()
        return not self._may_release() or self._send() == _GONE

    cdef bint _may_release(self) noexcept nogil:
        self._is_trusted = not self._asks_trust or self._ask_trust()
        return self._is_trusted

    cdef bint _ask_trust(self) noexcept with gil:
        try:
            return bool(self._trust())
        except BaseException as error:
            self.lan_out.port.failure = error
            return False

    # ── the turn ──────────────────────────────────────────────────────────────────────────────────────────────

    cdef bint _turn(self) noexcept nogil:
        cdef long long before = self._comparator.stats.primary_bytes + self._comparator.stats.secondary_bytes
        cdef bint goes_on = self._read_link()
        cdef bint moved
        if not self._take_messages():
            goes_on = False
        if not self._take_guest():
            goes_on = False
        if not self._release():
            goes_on = False
        if self._is_ordering or self.order.is_active():
            self._tend_order()
        if not self._take_lan():
            goes_on = False
        self._mirror_ready()
        if not self._flush_link():
            goes_on = False
        # Frames that had no room may have some now, and no descriptor would report it.
        moved = before != self._comparator.stats.primary_bytes + self._comparator.stats.secondary_bytes
        self._goes_on_at_once = moved and (self._is_guest_blocked or self._has_message())
        return self._watch() and goes_on and not self._stage.held._reports and self._is_tap_its_own()

    cdef inline bint _has_message(self) noexcept nogil:
        return self._has_link and not self.is_front_held and self._link_in.peek() > 0

    cdef bint _release(self) noexcept nogil:
        """Advance the comparator's time, and send released frames. False: return to Python."""
        cdef long long now = clock_us()
        if not self._may_release():
            self._stage.outbox.settle()  # the guest's batch is overwritten next
            return True
        self._stage.send_in_place()
        if self._comparator.due_us() <= now:
            self._comparator._timer(now)
        return self._send() != _FAILED

    cdef int _send(self) noexcept nogil:
        """Send first what a takeover has still to send again."""
        cdef int sent
        if self._rewrites:
            sent = self._rewriting.send(self.lan_out, False)
            if sent != _GONE:
                return sent
        return self._stage.send()

    # ── input from the guests ─────────────────────────────────────────────────────────────────────────────────

    cdef bint _take_guest(self) noexcept nogil:
        """The guest's output. If the comparator has no room, it stays and reading stops. False: return to Python."""
        cdef Py_ssize_t before
        cdef bint goes_on
        if not self._is_guest_blocked and self.guest_in.is_ready:
            before = self.guest_in.batch.end - self.guest_in.batch.start
            if not self.guest_in.receive():
                return False
            self._has_read = self.guest_in.batch.end - self.guest_in.batch.start > before
            if not self._rewrites and self._is_ordering:
                self._tell_order(before)
        if not self._rewrites:
            before = self.guest_in.batch.start
            goes_on = self._feed_comparator(self.guest_in.batch, self.guest_in)
            self._heard = max(self._heard - (self.guest_in.batch.start - before), 0)
            return goes_on
        if self.translated.start == self.translated.end and not self._translate_guest():
            return False
        return self._feed_comparator(self.translated, self.guest_in)

    cdef bint _translate_guest(self) noexcept nogil:
        self.guest_in.batch.start = self._rewriting.rewriter.feed(
            self.guest_in.batch.base, self.guest_in.batch.start, self.guest_in.batch.end, False, clock_us(),
            self.translated.base, 0, self.translated.size
        )
        self.translated.start = 0
        self.translated.end = self._rewriting.rewriter.out_end
        self.guest_in.has_ended = self._rewriting.rewriter._outcome != _SEND
        if self._is_ordering and self.translated.end:
            self.translated.end = self.order.guest(self.translated.base, 0, self.translated.end, clock_us())
        return not self.guest_in.has_ended

    cdef int _tell_order(self, Py_ssize_t before) noexcept nogil:
        """Tell what was read behind `before` bytes; the first `_heard` of them were told, a frame's part was not."""
        cdef Py_ssize_t start
        if before == 0:
            self._heard = 0
        start = self.guest_in.batch.start + self._heard
        self.guest_in.batch.end = self.order.guest(self.guest_in.batch.base, start, self.guest_in.batch.end, clock_us())
        self._heard = self.order.guest_end - self.guest_in.batch.start
        return 0

    cdef bint _feed_comparator(self, Batch batch, PortInlet inlet) noexcept nogil:
        batch.start = self._comparator.feed(batch.base, batch.start, batch.end, True, clock_us())
        inlet.has_ended = self._comparator._outcome == _IMPOSSIBLE
        self._is_guest_blocked = self._comparator._outcome == _BLOCKED
        return not inlet.has_ended

    cdef bint _take_messages(self) noexcept nogil:
        """The secondary's output. A partly consumed message is offered again. False: return to Python."""
        cdef int kind
        cdef Py_ssize_t at
        if not self._has_link or self.is_front_held:
            return True
        while True:
            kind = self._link_in.peek()
            if kind == _NO_MESSAGE:
                return self._is_told()
            if kind != _GUEST_FRAMES or not self._link_in.holds_frames(self._has_vnet):
                return False
            at = self._link_in.payload_at()
            self._link_in.pos = self._comparator.feed(
                self._link_in._buf, at + self._link_in.pos, at + self._link_in._length, False, clock_us()
            ) - at
            if self._link_in.pos < self._link_in._length:
                return self._comparator._outcome == _BLOCKED
            self._link_in.drop()

    # ── input from the LAN ────────────────────────────────────────────────────────────────────────────────────

    cdef inline bint _can_mirror(self) noexcept nogil:
        if not self.is_mirroring:
            return True
        self._mirror_ready()
        return self._can_queue() and not self.order.mirror.has_ready()

    cdef inline bint _has_left_for_guest(self) noexcept nogil:
        if self.is_lan_held or self.lan_in.batch.start < self.lan_complete or self._start()[0] < self._complete():
            return True
        return self._gives and self.guest_out.batch.start < self.guest_out.batch.end

    # What goes to the guest next is in the LAN's batch; while requests are ordered, in what the order has admitted.

    cdef inline uint8_t* _base(self) noexcept nogil:
        return self.order.admitted.base if self._is_ordering else self.lan_in.batch.base

    cdef inline Py_ssize_t* _start(self) noexcept nogil:
        return &self.order.admitted.start if self._is_ordering else &self.lan_in.batch.start

    cdef inline Py_ssize_t _complete(self) noexcept nogil:
        return self.order.admitted.end if self._is_ordering else self.lan_complete

    cdef bint _take_lan(self) noexcept nogil:
        """Client frames to the link and the guest. False: return to Python."""
        cdef Py_ssize_t start, end, before
        cdef int sent = _GONE
        if self._rewrites:
            return self._translate_lan()
        if self._mirrors_taken:
            return self._give_tap()
        if self._gives:
            sent = self.guest_out.send_kept(self._has_vnet)
        if sent == _GONE and self._start()[0] >= self._complete():
            if not self._read_lan():
                return False
        before = start = self._start()[0]
        end = self._complete()
        if sent == _GONE and self._gives and start < end and (not self._is_ordering or self._can_mirror()):
            sent = self.guest_out.send(self._base(), &start, &end, self._has_vnet)
            self._start()[0] = start if start < end else self._complete()
            if self._is_ordering:
                self._mirror(before, self._start()[0])
        elif not self._gives:
            self.lan_in.batch.start = self.lan_complete
        return sent != _FAILED

    cdef bint _give_tap(self) noexcept nogil:
        """The same, where frames are mirrored that the guest's tap took."""
        cdef Py_ssize_t start, taken
        if not self.is_input_held and self._start()[0] >= self._complete() and not self._read_lan():
            return False
        while self._start()[0] < self._complete() and self._can_mirror():
            start = self._start()[0]
            taken = self.guest_out.port.tap._take(self._base(), start, self._complete(), not self.is_input_held)
            self._mirror(start, taken)
            self._start()[0] = self.guest_out.port.tap.behind
            if self.guest_out.port.tap.is_full or self._start()[0] == start:
                break
        return True

    cdef bint _translate_lan(self) noexcept nogil:
        """The same, translated to the guest's numbers."""
        cdef bint has_read = False
        cdef int sent
        cdef Py_ssize_t before
        self._rewriting.let_pass(clock_us())
        while True:
            sent = self._rewriting.send(self.guest_out, True)
            if sent != _GONE:
                return sent != _FAILED
            if self._unmirrored:
                if not self._can_mirror():
                    return True
                self._mirror(self._start()[0] - self._unmirrored, self._start()[0])
                self._unmirrored = 0
            if self.is_lan_held:
                return False
            if self.is_input_held:
                return True
            if self._start()[0] < self._complete():
                before = self._start()[0]
                self._start()[0] = self._rewriting.rewriter.feed(
                    self._base(), before, self._complete(), True, clock_us(),
                    self.guest_out.batch.base, 0, self.guest_out.batch.size
                )
                self.guest_out.batch.start = 0
                self.guest_out.batch.end = self._rewriting.rewriter.out_end
                if self._mirrors_taken or self._is_ordering:
                    self._unmirrored = self._start()[0] - before
            elif has_read or not (self.lan_in.is_ready or self.lan_in.batch.start < self.lan_complete):
                return True
            else:
                has_read = True
                if not self._read_lan():
                    return False

    cdef bint _read_lan(self) noexcept nogil:
        """Read client frames and mirror them, only while the link has room. False: return to Python."""
        if self.lan_in.batch.start >= self.lan_complete:
            if not self.lan_in.is_ready or not self._can_mirror():
                return True
            if not self._receive_lan():
                return False
        if self._is_ordering:
            self.lan_in.batch.start = self.order.client(
                self.lan_in.batch.base, self.lan_in.batch.start, self.lan_complete, clock_us()
            )
        elif not self._mirrors_taken:
            self._mirror(self.lan_in.batch.start, self.lan_complete)
        return True

    cdef bint _receive_lan(self) noexcept nogil:
        """Read client frames. False: return to Python."""
        self.lan_complete = 0
        if not self.lan_in.receive():
            return False
        self.lan_complete = frame_boundary(
            self.lan_in.batch.base, self.lan_in.batch.start, self.lan_in.batch.end, self._has_vnet
        )
        if self.lan_complete < self.lan_in.batch.end:
            self.lan_in.has_ended = frame_at(
                self.lan_in.batch.base, self.lan_complete, self.lan_in.batch.end, self._has_vnet,
                self._comparator.span
            ) == 2
            if self.lan_in.has_ended:
                self.lan_complete = 0
                return False
        return True

    cdef int _mirror(self, Py_ssize_t pos, Py_ssize_t end) noexcept nogil:
        """Mirror frames, except those that this guest refuses and the secondary might accept (rule R1).

        While requests are ordered, some are mirrored later.
        """
        cdef uint8_t* base = self._base()
        cdef uint8_t* payload
        cdef Py_ssize_t length = 0
        cdef Py_ssize_t until, behind
        if not self.is_mirroring or not self._has_link or pos == end:
            return 0
        payload = self._link_out.reserve(end - pos)
        if payload == NULL:
            return 0
        while pos < end:
            until = behind = end
            if not self._comparator.is_passing:
                until = self._comparator.clients.take(
                    base, pos, end, self._comparator.span, self._comparator.packet, clock_us()
                )
                behind = self._comparator.clients.behind
            if self._is_ordering:
                length += self.order.given(base, pos, until, payload + length)
            else:
                copy_many(payload + length, base + pos, until - pos)
                length += until - pos
            pos = behind
        if length:
            self._link_out.put(_CLIENT_FRAMES, length)
        return 0

    # ── the order of requests ─────────────────────────────────────────────────────────────────────────────────

    cdef int _tend_order(self) noexcept nogil:
        """Go in or out of it where nothing is under way; tell it the time, and whether the guest sleeps."""
        cdef long long now = clock_us()
        if self._is_ordering:
            self._is_ordering = self.order.is_active() or self._unmirrored > 0
        elif self._start()[0] >= self._complete() and not self._has_left_for_guest() and not self._unmirrored:
            self._is_ordering = True
        if self.order.due_us() <= now:
            self.order.timer(now)
        if self.order.asks_sleep(now) and self.sleepers.look(now):
            self.order.asleep(now)
        self.order.advance(now)
        return 0

    cdef int _mirror_ready(self) noexcept nogil:
        """Mirror what was kept back until its answer."""
        cdef Py_ssize_t size
        cdef uint8_t* payload
        while self.order.mirror.has_ready() and self._has_link and self._can_queue():
            size = self.order.mirror.next_bytes()
            payload = self._link_out.reserve(size)
            if payload == NULL:
                return 0
            self.order.mirror.write_ready(payload, size)
            self._link_out.put(_CLIENT_FRAMES, size)
        return 0

    # ── waiting ───────────────────────────────────────────────────────────────────────────────────────────────

    cdef long long _due_us(self) noexcept nogil:
        cdef long long due
        if self._goes_on_at_once or (self._has_link and self._is_link_pending and self._wants_messages()):
            return 0
        due = self._comparator.due_us() if self._is_trusted else clock_us() + _TRUST_CHECK_US
        if self._has_left_for_guest():
            due = min(due, self._tap_due_us())
        if self._is_ordering:
            due = min(due, self.order.due_us())
            if self.order.may_ask_sleep():
                due = min(due, clock_us() + _ASLEEP_US)
        return min(due, self._rewriting.due_us) if self._rewrites else due

    cdef int _want_ports(self) noexcept nogil:
        cdef bint is_full = self._has_left_for_guest()
        self._want_outlet(self.lan_out, self._is_trusted and self._stage.has_unsent())
        if self._gives:
            self._want_outlet(self.guest_out, is_full)
        self._want_inlet(self.lan_in, not is_full and not self.is_input_held and self._can_mirror())
        return self._want_inlet(self.guest_in, not self._is_guest_blocked)
