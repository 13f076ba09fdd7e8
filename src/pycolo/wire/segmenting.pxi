"""Cuts a frame that a host has left to be cut (GSO) into the segments of which it consists.

As Linux does it (net/ipv4/tcp_offload.c and udp_offload.c): each segment has the frame's headers, with its own lengths,
IPv4 identification and sequence number; FIN and PSH are on the last one, CWR is on the first. The checksums stay
partial: the vnet header asks for them, as that of the frame does.

virtio 1.2 section 5.1.6: VIRTIO_NET_HDR_GSO_TCPV4, TCPV6 and UDP_L4. Fields of a vnet header are in the host's order.
"""


cdef enum:
    _CUTS_TCPV4 = 1
    _CUTS_TCPV6 = 4
    _CUTS_UDP = 5
    _CUTS_ECN = 128
    VNET_CSUM_OFFSET = 8
    TCP_CHECKSUM = 16
    UDP_CHECKSUM = 6
    IPV4_CHECKSUM = 10
    # The framing's two words.
    _CUT_WORDS = 8

cdef int _SEGMENTS_MAX = limits.SEGMENTS_MAX
cdef int _DATAGRAMS_CUT_MAX = limits.USO_DATAGRAMS_MAX
_SEGMENT_BUFFER_BYTES = 2 * limits.STREAM_LENGTH_BYTES_MAX + _CUT_WORDS
"""Room for the longest segment and as many bytes of others: the frame's own, once more."""


cdef inline int _store_host16(uint8_t* at, int value) noexcept nogil:
    cdef uint16_t word = <uint16_t>value
    memcpy(at, &word, 2)
    return 0


@cython.final
cdef class Segmenter:
    """One frame at a time: `begin`, then `fill` until it says that nothing is left.

    Bytes `start` … `end` of `octets` are segments, as a batch; a consumer advances `start`. The frame is copied.
    """

    cdef readonly Py_ssize_t start
    cdef readonly Py_ssize_t end
    cdef object _held
    cdef object _made
    cdef uint8_t* _frame
    cdef uint8_t* octets
    cdef Py_ssize_t _size
    cdef Py_ssize_t _length
    cdef Packet _packet
    cdef Py_ssize_t _taken
    cdef Py_ssize_t _count
    cdef Py_ssize_t _number

    def __init__(self):
        cdef uint8_t[::1] held, made
        self._held = held = bytearray(limits.STREAM_LENGTH_BYTES_MAX)
        self._made = made = bytearray(_SEGMENT_BUFFER_BYTES)
        self._frame = &held[0]
        self.octets = &made[0]
        self._size = len(made)
        self._packet = Packet()
        self.start = self.end = 0
        self._length = self._taken = self._count = self._number = 0

    # ── Python's ──────────────────────────────────────────────────────────────────────────────────────────────

    def segments(self, const uint8_t[::1] frame, Py_ssize_t vnet_len):
        """All segments of a frame that begins with its vnet header, as batches; None: it cannot be cut."""
        if not len(frame) or not is_vnet_len(vnet_len) or not self.begin(&frame[0], len(frame), vnet_len):
            return None
        found = []
        while self.fill():
            found.append(bytes(self._made[self.start : self.end]))
            self.start = self.end
        return found

    # ── the packet path's ─────────────────────────────────────────────────────────────────────────────────────

    cdef inline bint has_rest(self) noexcept nogil:
        """Whether a frame was begun, and not all of it has been taken."""
        return self.start < self.end or self._number < self._count

    cdef int forget(self) noexcept nogil:
        """Give up what is left of the frame."""
        self.start = self.end = 0
        self._number = self._count = 0
        return 0

    cdef bint begin(self, const uint8_t* frame, Py_ssize_t length, Py_ssize_t vnet_len) noexcept nogil:
        """Whether the frame can be cut."""
        cdef int most = _SEGMENTS_MAX
        self.forget()
        if length > _FRAMING_LENGTH_MAX or vnet_len < 10:
            return False
        copy(self._frame, 0, frame, 0, length)
        parse_frame(self._frame, 0, length, vnet_len, self._packet)
        if not self._is_whole() or self._packet.gso_size == 0:
            return False
        if self._packet.kind == PacketKind.UDP:
            most = _DATAGRAMS_CUT_MAX
        self._count = max(1, (self._packet.payload_len + self._packet.gso_size - 1) // self._packet.gso_size)
        if self._count > most:
            self._count = 0
            return False
        self._taken = 0
        self._length = length
        return True

    cdef bint is_of(self, const uint8_t* frame, Py_ssize_t length) noexcept nogil:
        """Whether it is the frame that was begun."""
        return length == self._length and memcmp(frame, self._frame, length) == 0

    cdef bint _is_whole(self) noexcept nogil:
        """Whether the frame is what its GSO type says; the parser has checked all lengths."""
        cdef int kind = self._packet.gso_type & ~_CUTS_ECN
        if kind == _CUTS_UDP:
            return self._packet.kind == PacketKind.UDP
        if self._packet.kind != PacketKind.TCP:
            return False
        return kind == (_CUTS_TCPV4 if self._packet.ip_version == 4 else _CUTS_TCPV6)

    cdef bint fill(self) noexcept nogil:
        """Make as many segments as there is room for, once all earlier ones are taken. Whether there are any."""
        cdef Py_ssize_t header = self._packet.payload_pos
        cdef Py_ssize_t length
        if self.start < self.end:
            return True
        self.start = self.end = 0
        while self._number < self._count:
            length = min(self._packet.gso_size, self._packet.payload_len - self._taken)
            if self._size - self.end < _CUT_WORDS + header + length:
                break
            self._make(self.octets + self.end, header, length)
            self.end += _CUT_WORDS + header + length
            self._taken += length
            self._number += 1
        return self.start < self.end

    cdef int _make(self, uint8_t* target, Py_ssize_t header, Py_ssize_t length) noexcept nogil:
        """The next segment, `length` bytes of payload, with the framing's words in front."""
        cdef uint8_t* frame = target + _CUT_WORDS
        store32(target, 0, header + length)
        store32(target, 4, self._packet.vnet_len)
        copy(frame, 0, self._frame, 0, header)
        copy(frame, header, self._frame, header + self._taken, length)
        self._set_ip(frame, length)
        if self._packet.kind == PacketKind.TCP:
            self._set_tcp(frame, length)
        else:
            self._set_udp(frame, length)
        return 0

    cdef int _set_ip(self, uint8_t* frame, Py_ssize_t length) noexcept nogil:
        cdef Py_ssize_t ip = self._packet.ip_pos
        cdef Py_ssize_t total = self._packet.payload_pos - ip + length
        if self._packet.ip_version == 6:
            return store16(frame, ip + IPV6_PAYLOAD_LENGTH, total - IPV6_LEN)
        store16(frame, ip + IPV4_TOTAL_LENGTH, total)
        store16(frame, ip + IPV4_ID, load16(frame, ip + IPV4_ID) + self._number)
        store16(frame, ip + IPV4_CHECKSUM, 0)
        return store16(frame, ip + IPV4_CHECKSUM, 0xFFFF - ones_sum(frame, ip, self._packet.l4_pos - ip))

    cdef int _set_tcp(self, uint8_t* frame, Py_ssize_t length) noexcept nogil:
        cdef Py_ssize_t tcp = self._packet.l4_pos
        store32(frame, tcp + TCP_SEQ, self._packet.seq + self._taken)
        if self._number:
            frame[tcp + TCP_FLAGS] &= ~<uint8_t>TcpFlag.CWR
        if self._number + 1 < self._count:
            frame[tcp + TCP_FLAGS] &= ~<uint8_t>(TcpFlag.FIN | TcpFlag.PSH)
        return self._leave_checksum(frame, TCP_CHECKSUM, length)

    cdef int _set_udp(self, uint8_t* frame, Py_ssize_t length) noexcept nogil:
        cdef Py_ssize_t udp = self._packet.l4_pos
        store16(frame, udp + UDP_LENGTH, UDP_LEN + length)
        if not self._packet.vnet_flags & VnetFlag.NEEDS_CSUM and load16(frame, udp + UDP_CHECKSUM) == 0:
            memset(frame, 0, self._packet.vnet_len)  # its sender wants none
            return 0
        return self._leave_checksum(frame, UDP_CHECKSUM, length)

    cdef int _leave_checksum(self, uint8_t* frame, int place, Py_ssize_t length) noexcept nogil:
        """The checksum is to be completed: its field has the pseudo-header's sum."""
        cdef Py_ssize_t l4 = self._packet.l4_pos
        cdef Py_ssize_t bytes_summed = self._packet.payload_pos - l4 + length
        cdef Py_ssize_t addresses = self._packet.ip_pos + (12 if self._packet.ip_version == 4 else 8)
        store16(frame, l4 + place, pseudo_sum(
            frame, addresses, 8 if self._packet.ip_version == 4 else 32, self._packet.ip_proto, bytes_summed
        ))
        memset(frame, 0, self._packet.vnet_len)
        frame[VNET_FLAGS] = VnetFlag.NEEDS_CSUM
        _store_host16(frame + VNET_HDR_LEN, self._packet.payload_pos - self._packet.frame_pos)
        _store_host16(frame + VNET_CSUM_START, l4 - self._packet.frame_pos)
        return _store_host16(frame + VNET_CSUM_OFFSET, place)
