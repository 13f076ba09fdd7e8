"""The total parser: any bytes give a packet, or a refusal with a reason; no exception, no read out of bounds.

One `Packet` object is reused for all frames: it holds numbers and positions in the caller's buffer, no bytes.

Sources: IEEE 802.3, 802.1Q and 802.1ad; RFC 791 (IPv4), RFC 8200 (IPv6 and its extension headers), RFC 9293 (TCP),
RFC 7323 (window scale, timestamps), RFC 2018 (SACK), RFC 768 (UDP), RFC 792/4443 (ICMP), RFC 4861 (ND), RFC 3810
(MLD); virtio 1.2 section 5.1.6 (vnet header; little-endian as on every machine that QEMU's COLO runs on).
"""


# Header layouts: byte offsets within each header.
cdef enum:
    ETH_TYPE = 12
    IPV4_TOTAL_LENGTH = 2
    IPV4_ID = 4
    IPV4_FRAGMENT = 6
    IPV4_PROTO = 9
    IPV4_SOURCE = 12
    IPV4_DESTINATION = 16
    IPV6_PAYLOAD_LENGTH = 4
    IPV6_NEXT = 6
    IPV6_SOURCE = 8
    IPV6_DESTINATION = 24
    IPV6_LEN = 40
    TCP_SEQ = 4
    TCP_ACK = 8
    TCP_DATA_OFFSET = 12
    TCP_FLAGS = 13
    TCP_WINDOW = 14
    TCP_LEN = 20
    UDP_LENGTH = 4
    UDP_LEN = 8
    VNET_FLAGS = 0
    VNET_GSO_TYPE = 1
    VNET_HDR_LEN = 2
    VNET_GSO_SIZE = 4
    VNET_CSUM_START = 6


@cython.final
cdef class Packet:
    """One parsed frame. Positions (`*_pos`, `*_end`) count from the start of the buffer that was parsed.

    Fields of a layer that the frame lacks are stale: `kind` says which fields are valid.
    """

    cdef public Py_ssize_t start
    cdef public Py_ssize_t frame_pos
    cdef public Py_ssize_t ip_pos
    cdef public Py_ssize_t l4_pos
    cdef public Py_ssize_t payload_pos
    cdef public Py_ssize_t ip_end
    cdef public Py_ssize_t end
    cdef public Py_ssize_t vnet_len
    cdef public Py_ssize_t timestamp_pos
    cdef public Py_ssize_t sack_pos
    cdef public Py_ssize_t sack_len
    cdef public Py_ssize_t payload_len
    cdef public int kind
    cdef public int refusal
    cdef public int vnet_flags
    cdef public int gso_type
    cdef public int gso_size
    cdef public int ip_version
    cdef public int ip_proto
    cdef public int flags
    cdef public int window
    cdef public int mss
    cdef public int window_scale
    cdef public int source_port
    cdef public int destination_port
    cdef public int fragment_offset
    cdef public unsigned int vlan
    cdef public unsigned int fragment_id
    cdef public unsigned int source0
    cdef public unsigned int source1
    cdef public unsigned int source2
    cdef public unsigned int source3
    cdef public unsigned int destination0
    cdef public unsigned int destination1
    cdef public unsigned int destination2
    cdef public unsigned int destination3
    cdef public unsigned int seq
    cdef public unsigned int ack
    cdef public bint more_fragments
    cdef public bint sack_permitted


    def __init__(self):
        self.kind = 0
        self.refusal = 0
        self.start = self.frame_pos = self.ip_pos = self.l4_pos = self.payload_pos = self.ip_end = self.end = 0
        self.vnet_len = self.vnet_flags = self.gso_type = self.gso_size = 0
        self.vlan = 0
        self.ip_version = self.ip_proto = 0
        self.fragment_offset = self.fragment_id = 0
        self.more_fragments = False
        self.source0 = self.source1 = self.source2 = self.source3 = 0
        self.destination0 = self.destination1 = self.destination2 = self.destination3 = 0
        self.source_port = self.destination_port = 0
        self.seq = self.ack = self.flags = self.window = self.payload_len = 0
        self.timestamp_pos = self.sack_pos = self.sack_len = 0
        self.mss = self.window_scale = 0
        self.sack_permitted = False


cdef int parse_frame(uint8_t* buf, Py_ssize_t start, Py_ssize_t end, Py_ssize_t vnet_len,
        Packet packet) noexcept nogil:
    """Parse the frame at `start` … `end` (first `vnet_len` bytes of vnet header) into `packet`; returns its kind."""
    packet.start = start
    packet.end = end
    packet.vnet_len = vnet_len
    packet.frame_pos = start + vnet_len
    packet.refusal = Refusal.NONE
    packet.vlan = 0
    packet.vnet_flags = 0
    packet.gso_type = 0
    packet.kind = PacketKind.REFUSED
    if end - packet.frame_pos < _FRAME_BYTES_MIN:
        packet.refusal = Refusal.SHORT
        return packet.kind
    if vnet_len >= 10:
        packet.vnet_flags = buf[start + VNET_FLAGS]
        packet.gso_type = buf[start + VNET_GSO_TYPE]
        packet.gso_size = buf[start + VNET_GSO_SIZE] | (buf[start + VNET_GSO_SIZE + 1] << 8)
    packet.kind = _parse_ethernet(buf, packet)
    return packet.kind


cdef int _parse_ethernet(uint8_t* buf, Packet packet) noexcept nogil:
    pos: cython.Py_ssize_t = packet.frame_pos + ETH_TYPE
    ethertype: cython.longlong = load16(buf, pos)
    tags: cython.int = 0
    # 802.1ad service tag, then 802.1Q customer tag; a frame with a third one passes uncompared.
    while (ethertype == 0x8100 or ethertype == 0x88A8) and tags < _TAGS_MAX:
        if packet.end - pos < 6:
            packet.refusal = Refusal.SHORT
            return PacketKind.REFUSED
        packet.vlan = (packet.vlan << 13) | 0x1000 | (load16(buf, pos + 2) & 0xFFF)
        pos += 4
        ethertype = load16(buf, pos)
        tags += 1
    packet.ip_pos = pos + 2
    if ethertype == 0x0800:
        return _parse_ipv4(buf, packet)
    if ethertype == 0x86DD:
        return _parse_ipv6(buf, packet)
    return PacketKind.PASS


cdef int _refuse(Packet packet, int refusal) noexcept nogil:
    packet.refusal = refusal
    return PacketKind.REFUSED


cdef int _parse_ipv4(uint8_t* buf, Packet packet) noexcept nogil:
    pos: cython.Py_ssize_t = packet.ip_pos
    if packet.end - pos < 20 or buf[pos] >> 4 != 4:
        return _refuse(packet, Refusal.IP_HEADER)
    header_len: cython.Py_ssize_t = (buf[pos] & 15) * 4
    if header_len < 20 or packet.end - pos < header_len:
        return _refuse(packet, Refusal.IP_HEADER)
    total: cython.longlong = load16(buf, pos + IPV4_TOTAL_LENGTH)
    if total == 0 and packet.gso_type != 0:
        total = packet.end - pos  # Linux leaves 0 if a GSO datagram is too long for the field
    if total < header_len or packet.end - pos < total:
        return _refuse(packet, Refusal.IP_LENGTH)
    packet.ip_version = 4
    packet.ip_end = pos + total
    packet.ip_proto = buf[pos + IPV4_PROTO]
    packet.source0 = load32(buf, pos + IPV4_SOURCE)
    packet.destination0 = load32(buf, pos + IPV4_DESTINATION)
    packet.source1 = packet.source2 = packet.source3 = 0
    packet.destination1 = packet.destination2 = packet.destination3 = 0
    packet.l4_pos = pos + header_len
    word: cython.longlong = load16(buf, pos + IPV4_FRAGMENT)
    packet.fragment_offset = (word & 0x1FFF) * 8
    packet.more_fragments = (word & 0x2000) != 0
    if packet.more_fragments or packet.fragment_offset:
        packet.fragment_id = load16(buf, pos + IPV4_ID)
        return _fragment(packet)
    return _parse_transport(buf, packet)


cdef int _parse_ipv6(uint8_t* buf, Packet packet) noexcept nogil:
    pos: cython.Py_ssize_t = packet.ip_pos
    if packet.end - pos < IPV6_LEN or buf[pos] >> 4 != 6:
        return _refuse(packet, Refusal.IP_HEADER)
    length: cython.longlong = load16(buf, pos + IPV6_PAYLOAD_LENGTH)
    if length == 0 and packet.gso_type != 0:
        length = packet.end - pos - IPV6_LEN
    if packet.end - pos - IPV6_LEN < length:
        return _refuse(packet, Refusal.IP_LENGTH)
    packet.ip_version = 6
    packet.ip_end = pos + IPV6_LEN + length
    packet.source0 = load32(buf, pos + IPV6_SOURCE)
    packet.source1 = load32(buf, pos + IPV6_SOURCE + 4)
    packet.source2 = load32(buf, pos + IPV6_SOURCE + 8)
    packet.source3 = load32(buf, pos + IPV6_SOURCE + 12)
    packet.destination0 = load32(buf, pos + IPV6_DESTINATION)
    packet.destination1 = load32(buf, pos + IPV6_DESTINATION + 4)
    packet.destination2 = load32(buf, pos + IPV6_DESTINATION + 8)
    packet.destination3 = load32(buf, pos + IPV6_DESTINATION + 12)
    packet.ip_proto = buf[pos + IPV6_NEXT]
    packet.l4_pos = pos + IPV6_LEN
    return _parse_extensions(buf, packet)


cdef int _parse_extensions(uint8_t* buf, Packet packet) noexcept nogil:
    """RFC 8200 section 4: walk the extension headers to the transport header or to a fragment header."""
    seen: cython.int = 0
    while (
        packet.ip_proto == IpProto.PROTO_HOP_BY_HOP
        or packet.ip_proto == IpProto.PROTO_ROUTING
        or packet.ip_proto == IpProto.PROTO_DESTINATION
        or packet.ip_proto == IpProto.PROTO_FRAGMENT
    ):
        pos: cython.Py_ssize_t = packet.l4_pos
        seen += 1
        if seen > _EXTENSIONS_MAX or packet.ip_end - pos < 8:
            return _refuse(packet, Refusal.IP_HEADER)
        is_fragment: cython.bint = packet.ip_proto == IpProto.PROTO_FRAGMENT
        packet.ip_proto = buf[pos]
        if is_fragment:
            word: cython.longlong = load16(buf, pos + 2)
            packet.l4_pos = pos + 8
            packet.fragment_offset = word & 0xFFF8
            packet.more_fragments = (word & 1) != 0
            if packet.more_fragments or packet.fragment_offset:
                packet.fragment_id = load32(buf, pos + 4)
                return _fragment(packet)
            continue  # RFC 6946: an atomic fragment is a whole datagram
        header_len: cython.Py_ssize_t = (buf[pos + 1] + 1) * 8
        if packet.ip_end - pos < header_len:
            return _refuse(packet, Refusal.IP_HEADER)
        packet.l4_pos = pos + header_len
    return _parse_transport(buf, packet)


cdef int _fragment(Packet packet) noexcept nogil:
    """Leave ports at 0: only the first fragment has them, and all fragments of a datagram need the same key."""
    packet.payload_pos = packet.l4_pos
    packet.payload_len = packet.ip_end - packet.l4_pos
    packet.source_port = packet.destination_port = 0
    return PacketKind.FRAGMENT


cdef int _parse_transport(uint8_t* buf, Packet packet) noexcept nogil:
    proto: cython.int = packet.ip_proto
    if proto == IpProto.PROTO_TCP:
        return _parse_tcp(buf, packet)
    if proto == IpProto.PROTO_UDP:
        return _parse_udp(buf, packet)
    packet.payload_pos = packet.l4_pos
    packet.payload_len = packet.ip_end - packet.l4_pos
    packet.source_port = packet.destination_port = 0
    if proto == IpProto.PROTO_IGMP and packet.ip_version == 4:
        return PacketKind.PASS  # membership reports leave at random times by design (RFC 3376 section 5.2)
    if proto == IpProto.PROTO_ICMP and packet.ip_version == 4:
        return PacketKind.ICMP
    if proto == IpProto.PROTO_ICMPV6 and packet.ip_version == 6:
        return _classify_icmpv6(buf, packet)
    # The words that serve as ports in the connection key: the first of DCCP, ESP, SCTP and UDP-Lite, AH's SPI.
    ports_pos: cython.Py_ssize_t = packet.l4_pos
    if proto == IpProto.PROTO_AH:
        ports_pos += 4
    elif not (
        proto == IpProto.PROTO_DCCP
        or proto == IpProto.PROTO_ESP
        or proto == IpProto.PROTO_SCTP
        or proto == IpProto.PROTO_UDPLITE
    ):
        return PacketKind.OTHER
    if packet.ip_end - ports_pos >= 4:
        packet.source_port = load16(buf, ports_pos)
        packet.destination_port = load16(buf, ports_pos + 2)
    return PacketKind.OTHER


cdef int _classify_icmpv6(uint8_t* buf, Packet packet) noexcept nogil:
    if packet.payload_len < 1:
        return PacketKind.ICMP
    kind: cython.int = buf[packet.l4_pos]
    # RFC 4861: 133-137 neighbour discovery; RFC 3810: 130-132 and 143 multicast listener discovery.
    if 133 <= kind <= 137 or 130 <= kind <= 132 or kind == 143:
        return PacketKind.PASS
    return PacketKind.ICMP


cdef int _parse_udp(uint8_t* buf, Packet packet) noexcept nogil:
    pos: cython.Py_ssize_t = packet.l4_pos
    if packet.ip_end - pos < UDP_LEN:
        return _refuse(packet, Refusal.TRANSPORT_HEADER)
    packet.source_port = load16(buf, pos)
    packet.destination_port = load16(buf, pos + 2)
    length: cython.longlong = load16(buf, pos + UDP_LENGTH)
    if length == 0:
        length = packet.ip_end - pos  # RFC 2675, and GSO
    if length < UDP_LEN or packet.ip_end - pos < length:
        return _refuse(packet, Refusal.TRANSPORT_HEADER)
    packet.payload_pos = pos + UDP_LEN
    packet.payload_len = length - UDP_LEN
    return PacketKind.UDP


cdef int _parse_tcp(uint8_t* buf, Packet packet) noexcept nogil:
    pos: cython.Py_ssize_t = packet.l4_pos
    if packet.ip_end - pos < TCP_LEN:
        return _refuse(packet, Refusal.TRANSPORT_HEADER)
    header_len: cython.Py_ssize_t = (buf[pos + TCP_DATA_OFFSET] >> 4) * 4
    if header_len < TCP_LEN or packet.ip_end - pos < header_len:
        return _refuse(packet, Refusal.TRANSPORT_HEADER)
    packet.source_port = load16(buf, pos)
    packet.destination_port = load16(buf, pos + 2)
    packet.seq = load32(buf, pos + TCP_SEQ)
    packet.ack = load32(buf, pos + TCP_ACK)
    packet.flags = buf[pos + TCP_FLAGS]
    packet.window = load16(buf, pos + TCP_WINDOW)
    packet.payload_pos = pos + header_len
    packet.payload_len = packet.ip_end - packet.payload_pos
    packet.timestamp_pos = packet.sack_pos = packet.sack_len = 0
    packet.mss = 0
    packet.window_scale = -1
    packet.sack_permitted = False
    if header_len > TCP_LEN:
        _parse_tcp_options(buf, pos + TCP_LEN, packet.payload_pos, packet)
    return PacketKind.TCP


cdef int _parse_tcp_options(uint8_t* buf, Py_ssize_t pos, Py_ssize_t end, Packet packet) noexcept nogil:
    """RFC 9293 section 3.1. An invalid option ends the list, as in most stacks."""
    while pos < end:
        kind: cython.int = buf[pos]
        if kind == 0:
            return 0
        if kind == 1:
            pos += 1
            continue
        if end - pos < 2:
            return 0
        length: cython.Py_ssize_t = buf[pos + 1]
        if length < 2 or end - pos < length:
            return 0
        if kind == 2 and length == 4:
            packet.mss = load16(buf, pos + 2)
        elif kind == 3 and length == 3:
            packet.window_scale = min(buf[pos + 2], 14)  # RFC 7323 section 2.3: a larger one counts as 14
        elif kind == 4 and length == 2:
            packet.sack_permitted = True
        elif kind == 5 and length >= 10:
            packet.sack_pos = pos + 2
            packet.sack_len = (length - 2) & ~7
        elif kind == 8 and length == 10:
            packet.timestamp_pos = pos + 2
        pos += length
    return 0


cdef bint is_intact(uint8_t* buf, Packet packet) noexcept nogil:
    """Whether a TCP segment's checksum is correct.

    If it is partial (NEEDS_CSUM), was verified by the card (DATA_VALID), or the frame combines many segments (GSO), the
    host's own stack guarantees it: there is nothing to check.
    """
    if packet.vnet_flags & (VnetFlag.NEEDS_CSUM | VnetFlag.DATA_VALID) or packet.gso_type:
        return True
    length: cython.Py_ssize_t = packet.ip_end - packet.l4_pos
    addresses: cython.longlong
    if packet.ip_version == 4:
        addresses = pseudo_sum(buf, packet.ip_pos + 12, 8, packet.ip_proto, length)
    else:
        addresses = pseudo_sum(buf, packet.ip_pos + 8, 32, packet.ip_proto, length)
    return ones_sum(buf, packet.l4_pos, length, addresses) == 0xFFFF
