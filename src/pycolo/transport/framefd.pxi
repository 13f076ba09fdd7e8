"""Frames through a descriptor that keeps them apart (TAP, AF_PACKET), as batches.

A TAP device gives and takes one per system call. A socket takes many, by sendmmsg(2), and gives one as well: where each
message needs room for the largest frame, recvmmsg(2) is not faster (docs/performance.md). The GIL is released.
"""


cdef Py_ssize_t _FRAME_MAX = limits.STREAM_LENGTH_BYTES_MAX
cdef int _SOL_PACKET = 263
cdef int _EAGAIN = errors.EAGAIN
cdef int _EINTR = errors.EINTR
cdef int _ENOBUFS = errors.ENOBUFS
cdef int _EMSGSIZE = errors.EMSGSIZE

cdef enum:
    # In one call; more win nothing, the rest is the kernel's own work for each frame.
    _MESSAGES = 64
    # Room for what comes beside a frame: struct tpacket_auxdata, with its header.
    _CONTROL_WORDS = 16
    _VLAN_TAG_BYTES = 4
    # In place of a length: the frame is not the guest's.
    _FOREIGN = -2
    _ETHERNET_ADDRESSES = 12


cdef inline int _add16(uint8_t* at, int count) noexcept nogil:
    """Add to a word in the host's byte order, as those of a vnet header are."""
    cdef uint16_t word
    memcpy(&word, at, 2)
    word += count
    memcpy(at, &word, 2)
    return 0


@cython.final
cdef class FrameFd:
    """One non-blocking descriptor. `vnet_len`: bytes of vnet header that it puts before each frame, 0 for none.

    `dropped` counts frames that the device refused, or that are too large for any batch (`last_errno` says why);
    `too_large`: the latter alone; `failed_errno` is set when reading fails for good. `sees_outgoing`: the packet socket
    also gets what others send on its interface; these frames are counted (`foreign`), and not passed on. Where it does
    not, the question is not asked, for it costs a tenth of a read.
    """

    cdef readonly int fd
    cdef readonly int vnet_len
    cdef readonly bint is_socket
    cdef public bint sees_outgoing
    cdef readonly long long frames_in
    cdef readonly long long frames_out
    cdef readonly long long dropped
    cdef readonly long long too_large
    cdef readonly long long foreign
    cdef readonly int last_errno
    cdef readonly int failed_errno
    cdef Span _span
    cdef iovec[_MESSAGES] _places
    cdef mmsghdr[_MESSAGES] _messages
    cdef iovec _place
    cdef msghdr _incoming
    cdef sockaddr_ll _origin
    cdef uint64_t[_CONTROL_WORDS] _control

    def __init__(self, fd: int, vnet_len: int, is_socket: bool = False) -> None:
        self.fd = fd
        self.vnet_len = vnet_len
        self.is_socket = is_socket
        self.sees_outgoing = False
        memset(self._messages, 0, sizeof(self._messages))
        number: cython.Py_ssize_t
        for number in range(_MESSAGES):
            self._messages[number].msg_hdr.msg_iov = &self._places[number]
            self._messages[number].msg_hdr.msg_iovlen = 1
        self.frames_in = self.frames_out = self.dropped = self.too_large = self.foreign = 0
        self.last_errno = self.failed_errno = 0
        self._span = Span()
        memset(&self._incoming, 0, sizeof(self._incoming))
        self._incoming.msg_iov = &self._place
        self._incoming.msg_iovlen = 1

    def read_batch(self, buf: cython.uchar[::1], pos: cython.Py_ssize_t) -> cython.Py_ssize_t:
        """Read frames into `buf` from `pos` until there are none, or no room for another; the new end is returned."""
        check_range(len(buf), pos, len(buf))
        cdef uint8_t* base = &buf[0]
        room: cython.Py_ssize_t = len(buf)
        with nogil:
            pos = self._read(base, pos, room)
        return pos

    def write_batch(self, buf: cython.uchar[::1], pos: cython.Py_ssize_t, end: cython.Py_ssize_t) -> cython.Py_ssize_t:
        """Write the frames of a batch; the position up to which they were taken is returned.

        It is less than `end` when the device has no room now. A frame that the device refuses is dropped and counted.
        """
        check_range(len(buf), pos, end)
        cdef uint8_t* base = &buf[0]
        with nogil:
            pos = self._send(base, pos, end) if self.is_socket else self._write(base, pos, end)
        return pos

    cdef Py_ssize_t _read(self, uint8_t* buf, Py_ssize_t pos, Py_ssize_t room) noexcept nogil:
        words: cython.Py_ssize_t = 8 if self.vnet_len else 4
        count: cython.Py_ssize_t
        while room - pos >= _FRAME_MAX + words:
            if self.is_socket:
                count = self._receive(buf + pos + words)
            else:
                count = read(self.fd, buf + pos + words, _FRAME_MAX)
            if count == _FOREIGN:
                continue
            if count < 0:
                self._note_read_error(errno)
                return pos
            if count == 0:
                return pos
            if count > _FRAME_MAX:
                self.dropped += 1
                self.too_large += 1
                self.last_errno = _EMSGSIZE
                continue
            store32(buf, pos, count)
            if self.vnet_len:
                store32(buf, pos + 4, self.vnet_len)
            self.frames_in += 1
            pos += words + count
        return pos

    cdef Py_ssize_t _receive(self, uint8_t* frame) noexcept nogil:
        """A frame of a socket: its length, also when that is more than there was room for; or -1.

        The kernel takes the outermost VLAN tag out of the frame and says it beside (packet(7), PACKET_AUXDATA).
        """
        cdef tpacket_auxdata beside
        cdef cmsghdr* control
        cdef Py_ssize_t count
        self._place.iov_base = frame
        self._place.iov_len = _FRAME_MAX
        self._incoming.msg_control = self._control
        self._incoming.msg_controllen = sizeof(self._control)
        if self.sees_outgoing:
            self._incoming.msg_name = &self._origin
            self._incoming.msg_namelen = sizeof(self._origin)
        count = recvmsg(self.fd, &self._incoming, MSG_DONTWAIT | MSG_TRUNC)
        if count <= 0:
            return count
        if self.sees_outgoing and self._origin.sll_pkttype == PACKET_OUTGOING:
            self.foreign += 1
            return _FOREIGN
        if count > _FRAME_MAX:
            return count
        control = CMSG_FIRSTHDR(&self._incoming)
        while control != NULL:
            if control.cmsg_level == _SOL_PACKET and control.cmsg_type == PACKET_AUXDATA:
                memcpy(&beside, CMSG_DATA(control), sizeof(beside))
                if beside.tp_status & TP_STATUS_VLAN_VALID:
                    return self._put_tag(frame, count, &beside)
            control = CMSG_NXTHDR(&self._incoming, control)
        return count

    cdef Py_ssize_t _put_tag(self, uint8_t* frame, Py_ssize_t count, const tpacket_auxdata* beside) noexcept nogil:
        """Put a frame's VLAN tag in its place again; the new length is returned."""
        cdef Py_ssize_t at = self.vnet_len + _ETHERNET_ADDRESSES
        if count < at:
            return count
        if count + _VLAN_TAG_BYTES > _FRAME_MAX:
            return count + _VLAN_TAG_BYTES  # too large now
        memmove(frame + at + _VLAN_TAG_BYTES, frame + at, count - at)
        store16(frame, at, beside.tp_vlan_tpid if beside.tp_status & TP_STATUS_VLAN_TPID_VALID else 0x8100)
        store16(frame, at + 2, beside.tp_vlan_tci)
        if self.vnet_len and frame[VNET_FLAGS] & VnetFlag.NEEDS_CSUM:
            _add16(frame + VNET_CSUM_START, _VLAN_TAG_BYTES)
        if self.vnet_len and frame[VNET_GSO_TYPE]:
            _add16(frame + VNET_HDR_LEN, _VLAN_TAG_BYTES)
        return count + _VLAN_TAG_BYTES

    cdef int _note_read_error(self, int number) noexcept nogil:
        if number != _EAGAIN and number != _EINTR:
            self.failed_errno = number
        return 0

    cdef Py_ssize_t _write(self, uint8_t* buf, Py_ssize_t pos, Py_ssize_t end) noexcept nogil:
        count: cython.Py_ssize_t = 0
        number: cython.int = 0
        while frame_at(buf, pos, end, self.vnet_len != 0, self._span) == 1:
            if self._span.end > self._span.start:
                count = write(self.fd, buf + self._span.start, self._span.end - self._span.start)
                number = errno if count < 0 else 0
                if number == _EAGAIN or number == _ENOBUFS:
                    return pos
                if number == 0:
                    self.frames_out += 1
                elif number != _EINTR:
                    self.dropped += 1
                    self.last_errno = number
            if number != _EINTR:
                pos = self._span.end
        return pos

    # ── sockets ─────────────────────────────────────────────────────────────────────────────────────────────

    cdef Py_ssize_t _send(self, uint8_t* buf, Py_ssize_t pos, Py_ssize_t end) noexcept nogil:
        """What stops sendmmsg(2) behind its first frame is not said; the next call meets it at its own first frame."""
        words: cython.Py_ssize_t = 8 if self.vnet_len else 4
        behind: cython.Py_ssize_t = pos
        gathered: cython.int
        count: cython.int
        while True:
            gathered = self._gather(buf, &behind, end)
            if gathered == 0:
                return behind
            count = self._offer(gathered)
            if count >= 0:
                self.frames_out += count
            elif errno == _EAGAIN or errno == _ENOBUFS:
                return pos
            elif errno == _EINTR:
                count = 0
            else:
                self.dropped += 1
                self.last_errno = errno
                count = 1
            if count < gathered:
                behind = <uint8_t*> self._places[count].iov_base - words - buf
            pos = behind

    cdef int _offer(self, int gathered) noexcept nogil:
        """How many of the frames that were gathered have gone, or -1. A single one is cheaper by send(2)."""
        flags: cython.int = MSG_DONTWAIT | MSG_NOSIGNAL
        if gathered > 1:
            return sendmmsg(self.fd, self._messages, gathered, flags)
        return -1 if send_bytes(self.fd, self._places[0].iov_base, self._places[0].iov_len, flags) < 0 else 1

    cdef int _gather(self, uint8_t* buf, Py_ssize_t* pos, Py_ssize_t end) noexcept nogil:
        """Fill the messages with the frames from `pos` on, without empty ones; `pos` is then behind the last."""
        gathered: cython.int = 0
        while gathered < _MESSAGES and frame_at(buf, pos[0], end, self.vnet_len != 0, self._span) == 1:
            pos[0] = self._span.end
            if self._span.end > self._span.start:
                self._places[gathered].iov_base = buf + self._span.start
                self._places[gathered].iov_len = self._span.end - self._span.start
                gathered += 1
        return gathered
