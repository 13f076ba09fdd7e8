"""Frames to and from a guest's own tap, through a packet socket on it: what its ring takes is counted exactly.

::

    offered ─► taken ─► the tap's ring (txqueuelen) ─► read by QEMU: tx_packets
       │
       ├─ full: later again, in order
       └─ refused: a frame to be cut (GSO) that the guest does not take is cut here; another one is dropped, and counted

The socket bypasses the queue discipline, and so reports with ENOBUFS that the device did not take a frame. That means a
full ring, as long as txqueuelen frames are under way; with fewer the device refuses the frame.
"""

cdef enum:
    _COUNTER_DIGITS = 32
    # How long to wait before a full ring is tried again: no event reports that it has room. A ring of a thousand frames
    # is not read empty meanwhile.
    _FULL_AGAIN_US = 1000


cdef long long _counter(int fd) noexcept nogil:
    """The number in a file; -1: it cannot be read."""
    cdef char[_COUNTER_DIGITS] digits
    cdef Py_ssize_t length = pread(fd, digits, _COUNTER_DIGITS, 0)
    cdef Py_ssize_t at = 0
    cdef long long number = 0
    if length <= 0:
        return -1
    while at < length and 48 <= digits[at] <= 57:
        number = number * 10 + digits[at] - 48
        at += 1
    return number


@cython.final
cdef class TapFd:
    """`frames`: the socket. `tx_fd` and `queue_fd`: the files with the interface's tx_packets and txqueuelen.

    `is_full`: the ring had no room for the first frame of the last call that is left. `cut`: frames that were cut
    here; `refused`: frames that the device refused, and that were dropped.
    """

    cdef readonly FrameFd frames
    cdef readonly bint is_full
    cdef readonly long long cut
    cdef readonly long long refused
    cdef int _tx_fd
    cdef int _queue_fd
    cdef long long _sent_base
    cdef long long _tx_base
    cdef Segmenter _segmenter
    cdef bint _is_part_taken
    cdef Py_ssize_t behind

    def __init__(self, FrameFd frames not None, int tx_fd, int queue_fd):
        self.frames = frames
        self._tx_fd = tx_fd
        self._queue_fd = queue_fd
        self._segmenter = Segmenter()
        self.is_full = self._is_part_taken = False
        self.cut = self.refused = 0
        self._sent_base = self._tx_base = 0
        self.behind = 0

    # ── Python's ──────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def sent(self):
        """Frames that were given to the tap since `begin_count`, those of others as far as the socket saw them too."""
        return self._sent()

    @property
    def read_by_guest(self):
        """Frames that were read from the tap since `begin_count`; -1: the interface is gone."""
        return self._read_by_guest()

    @property
    def has_begun(self):
        """Whether the first frame that is left has been cut, and some of its segments have not been taken."""
        return self._segmenter.has_rest()

    def begin_count(self):
        """The ring is empty: count from here."""
        self._sent_base = self.frames.frames_out + self.frames.foreign
        self._tx_base = _counter(self._tx_fd)

    def forget_begun(self):
        """The frame that was begun is not offered again."""
        self._segmenter.forget()

    def write_batch(self, uint8_t[::1] buf, Py_ssize_t pos, Py_ssize_t end):
        """Write the frames of a batch; the position up to which they are done is returned. See `FrameFd`."""
        check_range(len(buf), pos, end)
        if pos == end:
            return pos
        cdef uint8_t* base = &buf[0]
        with nogil:
            pos = self._write(base, pos, end)
        return pos

    def take_batch(self, uint8_t[::1] buf, Py_ssize_t pos, Py_ssize_t end):
        """`_take` once: (where it stopped, where to go on)."""
        check_range(len(buf), pos, end)
        if pos == end:
            return pos, pos
        cdef uint8_t* base = &buf[0]
        with nogil:
            pos = self._take(base, pos, end, True)
        return pos, self.behind

    # ── the packet path's ─────────────────────────────────────────────────────────────────────────────────────

    cdef inline long long _sent(self) noexcept nogil:
        return self.frames.frames_out + self.frames.foreign - self._sent_base

    cdef inline long long _read_by_guest(self) noexcept nogil:
        cdef long long count = _counter(self._tx_fd)
        return count - self._tx_base if count >= 0 else -1

    cdef inline bint _has_begun(self) noexcept nogil:
        return self._segmenter.has_rest()

    cdef Py_ssize_t _write(self, uint8_t* buf, Py_ssize_t pos, Py_ssize_t end) noexcept nogil:
        """Frames that the tap takes, or refuses for good; the position behind them is returned."""
        cdef Py_ssize_t before
        while True:
            before = pos
            self._take(buf, pos, end, True)
            pos = self.behind
            if self.is_full or pos == before:
                return pos

    cdef Py_ssize_t _take(self, uint8_t* buf, Py_ssize_t pos, Py_ssize_t end, bint begins_more) noexcept nogil:
        """Offer frames. Up to the returned position the tap took them; `behind`: where to go on.

        That is further if a frame was refused. Without `begins_more` only a frame is offered that has been begun: the
        first one, of which the ring did not take all segments.
        """
        cdef Py_ssize_t following = pos
        cdef int gathered, count
        self.is_full = False
        self.behind = pos
        if self._segmenter.has_rest():
            pos = self._go_on(buf, pos, end)
            if self.is_full or pos < self.behind:
                return pos
        while begins_more:
            following = pos
            gathered = self.frames._gather(buf, &following, end)
            if gathered == 0:
                self.behind = following
                return following
            count = self.frames._offer(gathered)
            if count > 0:
                self.frames.frames_out += count
                pos = following if count == gathered else self._place(buf, count)
            elif errno != _EINTR:
                pos = self._stopped(buf, pos, end)
                if self.is_full or pos < self.behind:
                    return pos
        self.behind = pos
        return pos

    cdef inline Py_ssize_t _place(self, uint8_t* buf, int number) noexcept nogil:
        """Where one of the gathered frames begins, with its words."""
        return <uint8_t*>self.frames._places[number].iov_base - buf - (8 if self.frames.vnet_len else 4)

    cdef Py_ssize_t _stopped(self, uint8_t* buf, Py_ssize_t pos, Py_ssize_t end) noexcept nogil:
        """The first of the gathered frames was not taken: the ring is full, the frame is cut, or refused."""
        cdef int number = errno
        cdef Py_ssize_t first = self._place(buf, 0)
        cdef uint8_t* frame = <uint8_t*>self.frames._places[0].iov_base
        cdef Py_ssize_t length = self.frames._places[0].iov_len
        if number == _ENOBUFS and self._is_to_be_cut(frame, length) and not self._is_ring_full():
            # QEMU may have read between the two.
            if self.frames._offer(1) == 1:
                self.frames.frames_out += 1
                self.behind = first + (8 if self.frames.vnet_len else 4) + length
                return self.behind
            number = errno
            if number == _ENOBUFS and not self._is_ring_full():
                return self._cut(buf, first, end, frame, length)
        if number == _ENOBUFS or number == _EAGAIN or number == _EINTR:
            self.is_full = True
            self.behind = first
            return first
        return self._refuse(first, first + (8 if self.frames.vnet_len else 4) + length, number)

    cdef Py_ssize_t _refuse(self, Py_ssize_t pos, Py_ssize_t following, int number) noexcept nogil:
        self.refused += 1
        self.frames.dropped += 1
        self.frames.last_errno = number
        self.behind = following
        return pos

    cdef inline bint _is_to_be_cut(self, const uint8_t* frame, Py_ssize_t length) noexcept nogil:
        return self.frames.vnet_len > VNET_GSO_TYPE and length > VNET_GSO_TYPE and frame[VNET_GSO_TYPE] != 0

    cdef bint _is_ring_full(self) noexcept nogil:
        cdef long long queue = _counter(self._queue_fd)
        return queue < 0 or self._sent() - self._read_by_guest() >= queue

    cdef Py_ssize_t _cut(self, uint8_t* buf, Py_ssize_t pos, Py_ssize_t end, const uint8_t* frame,
            Py_ssize_t length) noexcept nogil:
        if not self._segmenter.begin(frame, length, self.frames.vnet_len):
            return self._refuse(pos, pos + 8 + length, _ENOBUFS)
        self.cut += 1
        self._is_part_taken = False
        return self._go_on(buf, pos, end)

    cdef Py_ssize_t _go_on(self, uint8_t* buf, Py_ssize_t pos, Py_ssize_t end) noexcept nogil:
        """Offer the segments that are left of the first frame, with which the caller comes again."""
        cdef Py_ssize_t following
        cdef int gathered, count
        self.behind = pos
        if frame_at(buf, pos, end, True, self.frames._span) != 1 or not self._segmenter.is_of(
            buf + self.frames._span.start, self.frames._span.end - self.frames._span.start
        ):
            self._segmenter.forget()  # the caller has given it up
            return pos
        self.behind = self.frames._span.end
        while self._segmenter.fill():
            following = self._segmenter.start
            gathered = self.frames._gather(self._segmenter.octets, &following, self._segmenter.end)
            count = self.frames._offer(gathered)
            if count < 0 and (errno == _ENOBUFS or errno == _EAGAIN):
                self.is_full = True
                self.behind = pos
                return pos
            if count > 0:
                self.frames.frames_out += count
                self._is_part_taken = True
            elif errno != _EINTR:
                self.frames.last_errno = errno
                count = 1
            if count > 0:
                self._segmenter.start = (
                    following if count == gathered else self._place(self._segmenter.octets, count)
                )
        if not self._is_part_taken:
            return self._refuse(pos, self.behind, self.frames.last_errno)
        return self.behind
