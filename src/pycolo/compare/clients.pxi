"""The client's frames, if they are seen: their information (rule C8), and which the secondary must not get (rule R1).

The secondary's rewriter takes the primary's ISN from the ACK that completes a handshake, and cannot detect a forged
one. This node can, for it knows what its own guest has sent: a segment that this guest refuses because it acknowledges
something else (RFC 9293 sections 3.10.7.3 and 3.10.7.4) is *withheld*. So is a segment after a SYN that this guest has
not answered yet: no client acknowledges what has not left. For that the SYNs are remembered, the latest of each hash;
when one is displaced, only this protection is lost.
"""


cdef long long _PLACES = limits.CLIENT_SYNS_MAX - 1
cdef long long _HELD_US = limits.HANDSHAKE_HELD_MS * 1000
cdef long long _WINDOW_BYTES = limits.HANDSHAKE_WINDOW_BYTES


@cython.final
cdef class Clients:
    """`behind`: the end of the withheld frame, or of the last frame that is not withheld."""

    cdef readonly ConnectionTable table
    cdef readonly TcpComparison tcp
    cdef Py_ssize_t behind
    cdef uint32_t* _hash
    cdef uint32_t* _isn
    cdef long long* _us

    def __dealloc__(self):
        release_column(self._hash)
        release_column(self._isn)
        release_column(self._us)

    def __init__(self, table: ConnectionTable, tcp: TcpComparison):
        self.table = table
        self.tcp = tcp
        self.behind = 0
        self._hash = <uint32_t*>column(self._hash, limits.CLIENT_SYNS_MAX, sizeof(uint32_t), 0)
        self._isn = <uint32_t*>column(self._isn, limits.CLIENT_SYNS_MAX, sizeof(uint32_t), 0)
        self._us = <long long*>column(self._us, limits.CLIENT_SYNS_MAX, sizeof(long long), 0)

    cdef Py_ssize_t take(self, uint8_t* buf, Py_ssize_t pos, Py_ssize_t end, Span span, Packet packet,
            long long now_us) noexcept nogil:
        """Process frames until one is to be withheld: returns where it begins, or the end of the last whole frame."""
        self.tcp.sees_client = True
        while frame_at(buf, pos, end, self.tcp.held.has_vnet, span) == 1:
            parse_frame(buf, span.start, span.end, span.vnet_len, packet)
            self.behind = span.end
            if packet.kind == PacketKind.TCP and self._is_withheld(buf, packet, now_us):
                return pos
            pos = span.end
        self.behind = pos
        return pos

    cdef bint _is_withheld(self, uint8_t* buf, Packet packet, long long now_us) noexcept nogil:
        row: cython.int = self.table.find(packet, True)
        if row != _NONE and self.tcp.held.rows[row].flags & RowFlag.EXEMPT:
            return False
        if packet.flags & (TcpFlag.SYN | TcpFlag.ACK | TcpFlag.RST) == TcpFlag.SYN:
            self._note_syn(packet, now_us)
        elif packet.flags & TcpFlag.ACK:
            if row != _NONE and self.tcp.turns_down(row, packet):
                return True
            if self._is_early(packet, now_us) and (row == _NONE or not self.tcp.may_take(row, packet)):
                return True
        if row != _NONE:
            self.tcp.client(row, buf, packet, now_us)
        return False

    cdef int _note_syn(self, Packet packet, long long now_us) noexcept nogil:
        place: cython.Py_ssize_t = self.table.wanted_hash() & _PLACES
        self._hash[place] = self.table.wanted_hash()
        self._isn[place] = packet.seq
        self._us[place] = now_us
        return 0

    cdef bint _is_early(self, Packet packet, long long now_us) noexcept nogil:
        """Whether a segment is near the latest SYN of its client, which may still be answered."""
        place: cython.Py_ssize_t = self.table.wanted_hash() & _PLACES
        if packet.flags & TcpFlag.RST or self._hash[place] != self.table.wanted_hash():
            return False
        if now_us - self._us[place] >= _HELD_US:
            return False
        ahead: cython.longlong = seq_diff(packet.seq, self._isn[place])
        return -_WINDOW_BYTES <= ahead <= _WINDOW_BYTES
