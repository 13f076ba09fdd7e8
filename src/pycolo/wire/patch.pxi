"""Change fields of a TCP segment in place, and make smaller segments from a larger one.

In place: no other byte changes except the checksum, which is corrected incrementally (RFC 1624). A partial checksum
(NEEDS_CSUM) holds only the pseudo-header's sum, which covers none of these fields: it stays. New segments (`make_part`,
`make_bare`, `make_ack`) get their own lengths, flags and checksums.

Every function takes the `Packet` that `parse_frame` filled from the same buffer, and keeps it up to date.
"""


cdef enum:
    SEQ = 4
    ACK = 8
    DATA_OFFSET = 12
    FLAGS = 13
    WINDOW = 14
    CHECKSUM = 16
    URGENT = 18
    TIMESTAMP_OPTION_LEN = 12
    SACK_OPTION_LEN = 4
    NO_OPERATION = 1


cdef int _put32(uint8_t* buf, Packet packet, Py_ssize_t pos, long long old, long long new) noexcept nogil:
    """Replace the 32-bit field at `pos` of the TCP header, and correct the checksum."""
    store32(buf, pos, new)
    if packet.vnet_flags & VnetFlag.NEEDS_CSUM:
        return 0
    return replace32(buf, packet.l4_pos + CHECKSUM, old, new, (pos - packet.l4_pos) & 1)


cdef int shift_seq(uint8_t* buf, Packet packet, long long delta) noexcept nogil:
    """Add `delta` to the sequence number."""
    new: cython.longlong = seq_add(packet.seq, delta)
    _put32(buf, packet, packet.l4_pos + SEQ, packet.seq, new)
    packet.seq = new
    return 0


cdef int set_ack(uint8_t* buf, Packet packet, long long ack) noexcept nogil:
    """Set the acknowledgement number."""
    _put32(buf, packet, packet.l4_pos + ACK, packet.ack, ack)
    packet.ack = ack
    return 0


cdef int set_window(uint8_t* buf, Packet packet, int window) noexcept nogil:
    """Set the window field (unscaled, 16 bits)."""
    store16(buf, packet.l4_pos + WINDOW, window)
    if not packet.vnet_flags & VnetFlag.NEEDS_CSUM:
        replace16(buf, packet.l4_pos + CHECKSUM, packet.window, window)
    packet.window = window
    return 0


cdef int shift_sack(uint8_t* buf, Packet packet, long long delta) noexcept nogil:
    """Add `delta` to every edge of every SACK block (RFC 2018)."""
    pos: cython.Py_ssize_t = packet.sack_pos
    end: cython.Py_ssize_t = pos + packet.sack_len
    while pos < end:
        old: cython.longlong = load32(buf, pos)
        _put32(buf, packet, pos, old, seq_add(old, delta))
        pos += 4
    return 0


cdef int shift_timestamps(uint8_t* buf, Packet packet, long long value_delta, long long echo_delta) noexcept nogil:
    """Add to TSval and to TSecr (RFC 7323 section 3.2: TSecr counts only with ACK; 0 is "nothing to echo")."""
    pos: cython.Py_ssize_t = packet.timestamp_pos
    if pos == 0:
        return 0
    old: cython.longlong
    if value_delta:
        old = load32(buf, pos)
        _put32(buf, packet, pos, old, seq_add(old, value_delta))
    if echo_delta and packet.flags & TcpFlag.ACK:
        old = load32(buf, pos + 4)
        if old:
            _put32(buf, packet, pos + 4, old, seq_add(old, echo_delta))
    return 0


cdef int keep_sack_blocks(uint8_t* buf, Packet packet, int kept) noexcept nogil:
    """Keep only the SACK blocks whose bit is set in `kept` (bit 0: the first); without any, pad the whole option."""
    if packet.sack_len == 0:
        return 0
    options_pos: cython.Py_ssize_t = packet.l4_pos + TCP_LEN
    before: cython.longlong = ones_sum(buf, options_pos, packet.payload_pos - options_pos, 0)
    source: cython.Py_ssize_t = packet.sack_pos
    end: cython.Py_ssize_t = source + packet.sack_len
    target: cython.Py_ssize_t = source
    option_end: cython.Py_ssize_t = source - 2 + buf[source - 1]  # its length may not be a whole number of blocks
    while source < end:
        if kept & 1:
            store32(buf, target, load32(buf, source))
            store32(buf, target + 4, load32(buf, source + 4))
            target += 8
        kept >>= 1
        source += 8
    packet.sack_len = target - packet.sack_pos
    if packet.sack_len:
        buf[packet.sack_pos - 1] = 2 + packet.sack_len
    else:
        target = packet.sack_pos - 2
    _pad(buf, target, option_end)
    return _options_changed(buf, packet, before)


cdef int strip_options(uint8_t* buf, Packet packet) noexcept nogil:
    """Pad out options that cannot survive a change of replica: MPTCP (30, RFC 8684), Fast Open (34, RFC 7413)."""
    pos: cython.Py_ssize_t = packet.l4_pos + TCP_LEN
    end: cython.Py_ssize_t = packet.payload_pos
    before: cython.longlong = ones_sum(buf, pos, end - pos, 0)
    stripped: cython.int = 0
    length: cython.Py_ssize_t
    while pos < end and buf[pos] != 0:
        length = _option_len(buf, pos, end)
        if buf[pos] == 30 or buf[pos] == 34:
            _pad(buf, pos, pos + length)
            stripped += 1
        pos += length
    if stripped:
        _options_changed(buf, packet, before)
    return stripped


cdef bint has_authentication(uint8_t* buf, Packet packet) noexcept nogil:
    """Whether the segment is signed over its numbers: TCP-MD5 (19, RFC 2385), TCP-AO (29, RFC 5925)."""
    pos: cython.Py_ssize_t = packet.l4_pos + TCP_LEN
    while pos < packet.payload_pos and buf[pos] != 0:
        if buf[pos] == 19 or buf[pos] == 29:
            return True
        pos += _option_len(buf, pos, packet.payload_pos)
    return False


cdef Py_ssize_t _option_len(uint8_t* buf, Py_ssize_t pos, Py_ssize_t end) noexcept nogil:
    """Bytes of the option at `pos`; if its length is invalid, all the rest (RFC 9293 section 3.2)."""
    if buf[pos] == NO_OPERATION:
        return 1
    length: cython.Py_ssize_t = buf[pos + 1] if pos + 1 < end else 0
    return length if 2 <= length <= end - pos else end - pos


cdef int _pad(uint8_t* buf, Py_ssize_t pos, Py_ssize_t end) noexcept nogil:
    while pos < end:
        buf[pos] = NO_OPERATION
        pos += 1
    return 0


cdef int _options_changed(uint8_t* buf, Packet packet, long long before) noexcept nogil:
    """Correct the checksum; `before` is the options' previous sum."""
    if packet.vnet_flags & VnetFlag.NEEDS_CSUM:
        return 0
    options_pos: cython.Py_ssize_t = packet.l4_pos + TCP_LEN
    after: cython.longlong = ones_sum(buf, options_pos, packet.payload_pos - options_pos, 0)
    return replace16(buf, packet.l4_pos + CHECKSUM, before, after)


cdef int _finish(uint8_t* target, Py_ssize_t start, Packet packet, Py_ssize_t segment_len,
        bint is_partial) noexcept nogil:
    """Set IP length, IP checksum and TCP checksum of the new frame at `start`; its layout equals `packet`'s."""
    ip_pos: cython.Py_ssize_t = start + packet.ip_pos - packet.start
    l4_pos: cython.Py_ssize_t = start + packet.l4_pos - packet.start
    addresses: cython.longlong
    if packet.ip_version == 4:
        store16(target, ip_pos + 2, l4_pos - ip_pos + segment_len)
        store16(target, ip_pos + 10, 0)
        store16(target, ip_pos + 10, 0xFFFF - ones_sum(target, ip_pos, l4_pos - ip_pos, 0))
        addresses = pseudo_sum(target, ip_pos + 12, 8, IpProto.PROTO_TCP, segment_len)
    else:
        store16(target, ip_pos + 4, l4_pos - ip_pos - 40 + segment_len)
        addresses = pseudo_sum(target, ip_pos + 8, 32, IpProto.PROTO_TCP, segment_len)
    if is_partial:
        store16(target, l4_pos + CHECKSUM, addresses)
        return 0
    store16(target, l4_pos + CHECKSUM, 0)
    store16(target, l4_pos + CHECKSUM, 0xFFFF - ones_sum(target, l4_pos, segment_len, addresses))
    return 0


cdef int _move_urgent(uint8_t* target, Py_ssize_t l4_pos, Py_ssize_t count) noexcept nogil:
    """Let the segment begin `count` bytes later."""
    pointer: cython.longlong = load16(target, l4_pos + URGENT)
    if pointer < count:
        target[l4_pos + FLAGS] = target[l4_pos + FLAGS] & ~TcpFlag.URG
        pointer = count
    return store16(target, l4_pos + URGENT, pointer - count)


cdef Py_ssize_t make_part(uint8_t* target, Py_ssize_t start, uint8_t* source, Packet packet, Py_ssize_t first,
        Py_ssize_t last) noexcept nogil:
    """Write the segment with payload bytes `first` … `last` of `packet` at `start`; returns the frame's length.

    FIN and PSH stay only with the last byte; the urgent pointer, which counts from the segment's own sequence number,
    stays with the parts up to its byte. A GSO frame of at most one segment becomes an ordinary frame. `target` and
    `source` are different buffers, or different ranges of one.
    """
    header_len: cython.Py_ssize_t = packet.payload_pos - packet.start
    count: cython.Py_ssize_t = last - first
    copy(target, start, source, packet.start, header_len)
    copy(target, start + header_len, source, packet.payload_pos + first, count)
    l4_pos: cython.Py_ssize_t = start + packet.l4_pos - packet.start
    store32(target, l4_pos + SEQ, seq_add(packet.seq, first))
    if last < packet.payload_len:
        target[l4_pos + FLAGS] = packet.flags & ~(TcpFlag.FIN | TcpFlag.PSH)
    if packet.flags & TcpFlag.URG:
        _move_urgent(target, l4_pos, first)
    if packet.gso_type and count <= packet.gso_size:
        target[start + 1] = target[start + 4] = target[start + 5] = 0
    _finish(
        target,
        start,
        packet,
        packet.payload_pos - packet.l4_pos + count,
        packet.vnet_flags & VnetFlag.NEEDS_CSUM,
    )
    return header_len + count


cdef Py_ssize_t make_bare(uint8_t* target, Py_ssize_t start, uint8_t* source, Packet packet, int flags,
        long long seq, long long ack, int window) noexcept nogil:
    """Write a segment without payload in the name of `packet`'s sender at `start`; returns the frame's length.

    Of the options only the timestamps stay (others describe the moment when `packet` was sent). The vnet header is
    cleared and the checksum complete.
    """
    l4_offset: cython.Py_ssize_t = packet.l4_pos - packet.start
    copy(target, start, source, packet.start, l4_offset + TCP_LEN)
    i: cython.Py_ssize_t = start
    while i < start + packet.vnet_len:
        target[i] = 0
        i += 1
    l4_pos: cython.Py_ssize_t = start + l4_offset
    segment_len: cython.Py_ssize_t = TCP_LEN
    if packet.timestamp_pos:
        segment_len = TCP_LEN + TIMESTAMP_OPTION_LEN
        store32(target, l4_pos + TCP_LEN, 0x0101080A)  # NOP, NOP, kind 8, length 10: RFC 7323 appendix A
        copy(target, l4_pos + TCP_LEN + 4, source, packet.timestamp_pos, 8)
    store32(target, l4_pos + SEQ, seq)
    store32(target, l4_pos + ACK, ack)
    target[l4_pos + DATA_OFFSET] = (segment_len // 4) << 4
    target[l4_pos + FLAGS] = flags
    store16(target, l4_pos + WINDOW, window)
    store16(target, l4_pos + URGENT, 0)
    _finish(target, start, packet, segment_len, False)
    return l4_offset + segment_len


cdef Py_ssize_t make_ack(uint8_t* target, Py_ssize_t start, Packet packet, uint8_t* header, Py_ssize_t header_pos,
        Py_ssize_t header_len, long long seq, long long ack, int window) noexcept nogil:
    """Write a bare ACK without options at `start`, after a cleared vnet header; returns the frame's length.

    `header`: a frame's bytes up to and including its TCP ports. `packet` has only the layout: `start`, `vnet_len`,
    `ip_pos`, `l4_pos`, `ip_version`. `add_timestamps` and `add_sack_block` append options to it.
    """
    l4_pos: cython.Py_ssize_t = start + packet.l4_pos - packet.start
    i: cython.Py_ssize_t = start
    while i < start + packet.vnet_len:
        target[i] = 0
        i += 1
    copy(target, i, header, header_pos, header_len)
    store32(target, l4_pos + SEQ, seq)
    store32(target, l4_pos + ACK, ack)
    target[l4_pos + DATA_OFFSET] = (TCP_LEN // 4) << 4
    target[l4_pos + FLAGS] = TcpFlag.ACK
    store16(target, l4_pos + WINDOW, window)
    store16(target, l4_pos + URGENT, 0)
    _finish(target, start, packet, TCP_LEN, False)
    return l4_pos + TCP_LEN - start


cdef Py_ssize_t add_timestamps(uint8_t* target, Py_ssize_t start, Packet packet, Py_ssize_t segment_len,
        long long value, long long echo) noexcept nogil:
    """Append timestamps to a segment without payload from `make_ack`; returns the new length of its TCP header."""
    pos: cython.Py_ssize_t = start + packet.l4_pos - packet.start + segment_len
    store32(target, pos, 0x0101080A)  # NOP, NOP, kind 8, length 10: RFC 7323 appendix A
    store32(target, pos + 4, value)
    store32(target, pos + 8, echo)
    return _lengthened(target, start, packet, segment_len + TIMESTAMP_OPTION_LEN)


cdef Py_ssize_t add_sack_blocks(uint8_t* target, Py_ssize_t start, Packet packet, Py_ssize_t segment_len,
        uint32_t* edges, Py_ssize_t first, int count) noexcept nogil:
    """Append `count` SACK blocks (RFC 2018), their edges in `edges` from `first` on; otherwise as `add_timestamps`."""
    pos: cython.Py_ssize_t = start + packet.l4_pos - packet.start + segment_len
    i: cython.int = 0
    store32(target, pos, 0x01010500 | (2 + 8 * count))
    while i < 2 * count:
        store32(target, pos + 4 + 4 * i, edges[first + i])
        i += 1
    return _lengthened(target, start, packet, segment_len + SACK_OPTION_LEN + 8 * count)


cdef Py_ssize_t _lengthened(uint8_t* target, Py_ssize_t start, Packet packet, Py_ssize_t segment_len) noexcept nogil:
    l4_pos: cython.Py_ssize_t = start + packet.l4_pos - packet.start
    target[l4_pos + DATA_OFFSET] = (segment_len // 4) << 4
    _finish(target, start, packet, segment_len, False)
    return segment_len
