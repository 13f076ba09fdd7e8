"""What left uncompared, by reason, in packets and in bytes of payload: the other side of `CompareStats.compared_bytes`.

Counted on the slow paths only: what is compared is not touched here. What a checkpoint releases counts as compared, for
the secondary becomes a copy of the guest that sent it. ARP, neighbour discovery and other frames without payload of a
connection pass by rule C4 and are not here.

A frame that seems to be no IP, or malformed, may be sound behind a vnet header that the port does not expect, or
without the one that it expects: the parser tries each length.
"""


cdef enum:
    _REASONS = 8
    # Ethernet types behind which there may be IP that the parser does not reach.
    _MPLS = 0x8847
    _MPLS_MULTICAST = 0x8848
    _PPPOE_SESSION = 0x8864
    _MACSEC = 0x88E5


@cython.final
cdef class Uncompared:
    """Counters since start, by `PassReason`."""

    cdef long long[_REASONS] _packets
    cdef long long[_REASONS] _bytes
    cdef Packet _other

    def __init__(self):
        cdef int reason
        for reason in range(_REASONS):
            self._packets[reason] = self._bytes[reason] = 0
        self._other = Packet()

    def counts(self):
        """{reason: (packets, bytes)}."""
        return {_PassReason(reason): (self._packets[reason], self._bytes[reason]) for reason in range(_REASONS)}

    cdef inline int count(self, int reason, long long octets) noexcept nogil:
        """One packet with so many bytes of payload."""
        self._packets[reason] += 1
        self._bytes[reason] += octets
        return 0

    cdef int count_passed(self, uint8_t* buf, Packet packet) noexcept nogil:
        """A frame of the primary that passes whatever the secondary sends; `packet` is its parsed form."""
        if packet.kind != PacketKind.PASS and packet.kind != PacketKind.REFUSED:
            return self.count(PassReason.UNPAIRED, packet.payload_len)
        cdef uint32_t ethertype = 0
        if packet.refusal != Refusal.SHORT:
            ethertype = load16(buf, packet.ip_pos - 2)
        if packet.kind == PacketKind.PASS and (ethertype == 0x0806 or ethertype == 0x0800 or ethertype == 0x86DD):
            return 0
        if packet.kind == PacketKind.PASS and (
            ethertype == _MPLS or ethertype == _MPLS_MULTICAST or ethertype == _PPPOE_SESSION or ethertype == _MACSEC
            or ethertype == 0x8100 or ethertype == 0x88A8
        ):
            return self.count(PassReason.WRAPPED, packet.end - packet.ip_pos)
        if self._is_shifted(buf, packet):
            return self.count(PassReason.VNET_HEADER, self._other.payload_len)
        if packet.kind == PacketKind.REFUSED:
            return self.count(PassReason.MALFORMED, packet.end - packet.frame_pos)
        return 0

    cdef bint _is_shifted(self, uint8_t* buf, Packet packet) noexcept nogil:
        """Whether the frame is a packet behind a vnet header of another length; `_other` is its parsed form."""
        cdef Py_ssize_t[3] lengths
        cdef int i, kind
        lengths[0] = 0
        lengths[1] = 10
        lengths[2] = 12
        for i in range(3):
            if lengths[i] != packet.vnet_len and packet.end - packet.start > lengths[i]:
                kind = parse_frame(buf, packet.start, packet.end, lengths[i], self._other)
                if kind == PacketKind.TCP or kind == PacketKind.UDP or kind == PacketKind.ICMP:
                    return True
        return False
