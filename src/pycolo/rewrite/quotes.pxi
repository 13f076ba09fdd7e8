"""TCP headers outside segments: quoted in an ICMP error, or in the first fragment of a datagram (rule R2).

An ICMP error quotes the packet that it concerns (RFC 792, RFC 4443 section 3): path MTU discovery fails if the guest
does not find its own number there. Both functions fill a `Packet` with the available part of the segment, for the
functions of `wire.patch`; `seal` then corrects the checksum of the ICMP message.
"""


cdef enum:
    _TCP_HEADER_MAX = 60


cdef bint parse_first_fragment(uint8_t* buf, Packet packet) noexcept nogil:
    """Whether a fragment contains a whole TCP header: `packet` then describes its segment, without the rest's payload.

    A header cut in two (RFC 1858) cannot be translated, and no stack sends one.
    """
    if packet.fragment_offset or packet.ip_proto != IpProto.PROTO_TCP:
        return False
    return _parse_tcp(buf, packet) == PacketKind.TCP


cdef bint parse_quote(uint8_t* buf, Packet packet, Packet quoted) noexcept nogil:
    """Whether an ICMP packet is an error about a TCP segment, with enough of it to find the connection."""
    pos: cython.Py_ssize_t = packet.l4_pos
    if packet.ip_end - pos < 28:
        return False
    kind: cython.int = buf[pos]
    if packet.ip_version == 4 and not (kind == 3 or kind == 4 or kind == 11 or kind == 12):
        return False
    if packet.ip_version == 6 and not 1 <= kind <= 4:
        return False
    quoted.ip_pos = pos + 8
    quoted.ip_end = packet.ip_end
    quoted.ip_version = buf[pos + 8] >> 4
    if quoted.ip_version != packet.ip_version:
        return False
    found: cython.bint = _quoted_ipv4(buf, quoted) if quoted.ip_version == 4 else _quoted_ipv6(buf, quoted)
    if not found or quoted.ip_proto != IpProto.PROTO_TCP or quoted.ip_end - quoted.l4_pos < 8:
        return False
    quoted.vlan = packet.vlan
    return _quoted_tcp(buf, quoted)


cdef bint _quoted_ipv4(uint8_t* buf, Packet quoted) noexcept nogil:
    pos: cython.Py_ssize_t = quoted.ip_pos
    room: cython.Py_ssize_t = quoted.ip_end - pos
    header_len: cython.Py_ssize_t = (buf[pos] & 15) * 4
    total: cython.Py_ssize_t = load16(buf, pos + 2)
    if total == 0:
        total = room
    if header_len < 20 or header_len > room or total < header_len or load16(buf, pos + 6) & 0x1FFF:
        return False
    quoted.ip_end = pos + min(total, room)
    quoted.ip_proto = buf[pos + 9]
    quoted.source0 = load32(buf, pos + 12)
    quoted.destination0 = load32(buf, pos + 16)
    quoted.source1 = quoted.source2 = quoted.source3 = 0
    quoted.destination1 = quoted.destination2 = quoted.destination3 = 0
    quoted.l4_pos = pos + header_len
    return True


cdef bint _quoted_ipv6(uint8_t* buf, Packet quoted) noexcept nogil:
    pos: cython.Py_ssize_t = quoted.ip_pos
    room: cython.Py_ssize_t = quoted.ip_end - pos
    if room < 40:
        return False
    length: cython.Py_ssize_t = load16(buf, pos + 4)
    quoted.source0 = load32(buf, pos + 8)
    quoted.source1 = load32(buf, pos + 12)
    quoted.source2 = load32(buf, pos + 16)
    quoted.source3 = load32(buf, pos + 20)
    quoted.destination0 = load32(buf, pos + 24)
    quoted.destination1 = load32(buf, pos + 28)
    quoted.destination2 = load32(buf, pos + 32)
    quoted.destination3 = load32(buf, pos + 36)
    quoted.ip_proto = buf[pos + 6]
    seen: cython.int = 0
    header_len: cython.Py_ssize_t = 40
    while seen < _EXTENSIONS_MAX and room - header_len >= 8:
        size: cython.Py_ssize_t = (buf[pos + header_len + 1] + 1) * 8
        if quoted.ip_proto == IpProto.PROTO_FRAGMENT:
            size = 8
            if load16(buf, pos + header_len + 2) & 0xFFF8:
                return False
        elif not (
            quoted.ip_proto == IpProto.PROTO_HOP_BY_HOP
            or quoted.ip_proto == IpProto.PROTO_ROUTING
            or quoted.ip_proto == IpProto.PROTO_DESTINATION
        ):
            break
        quoted.ip_proto = buf[pos + header_len]
        header_len += size
        seen += 1
    if length == 0:
        length = room - 40
    if header_len > room or 40 + length < header_len:
        return False
    quoted.ip_end = pos + min(40 + length, room)
    quoted.l4_pos = pos + header_len
    return True


cdef bint _quoted_tcp(uint8_t* buf, Packet quoted) noexcept nogil:
    """The available part of the header. If its checksum is missing, the patches treat it as partial and skip it."""
    pos: cython.Py_ssize_t = quoted.l4_pos
    room: cython.Py_ssize_t = quoted.ip_end - pos
    quoted.source_port = load16(buf, pos)
    quoted.destination_port = load16(buf, pos + 2)
    quoted.seq = load32(buf, pos + 4)
    quoted.ack = 0
    quoted.flags = 0
    quoted.timestamp_pos = quoted.sack_pos = quoted.sack_len = 0
    quoted.vnet_flags = 0 if room >= 18 else VnetFlag.NEEDS_CSUM
    if room >= 14:
        quoted.ack = load32(buf, pos + 8)
        quoted.flags = buf[pos + 13]
        header_len: cython.Py_ssize_t = (buf[pos + 12] >> 4) * 4
        if header_len > 20 and room > 20:
            _parse_tcp_options(buf, pos + 20, pos + min(header_len, room), quoted)
    return True


cdef long long header_sum(uint8_t* buf, Packet quoted) noexcept nogil:
    """The sum of the quoted TCP header, for `seal`."""
    return ones_sum(buf, quoted.l4_pos, min(quoted.ip_end - quoted.l4_pos, _TCP_HEADER_MAX), 0)


cdef int seal(uint8_t* buf, Packet packet, Packet quoted, long long before) noexcept nogil:
    """Correct the checksum of the ICMP message whose quote had the `header_sum` of `before`."""
    if packet.vnet_flags & VnetFlag.NEEDS_CSUM:
        return 0
    return replace16(buf, packet.l4_pos + 2, before, header_sum(buf, quoted))
