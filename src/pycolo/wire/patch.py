"""Change fields of a TCP segment in place, and make smaller segments from one.

In place: no other byte changes but the checksum, which is corrected incrementally (RFC 1624). With a partial checksum
(NEEDS_CSUM) the field holds only the pseudo-header's sum, in which none of these fields is: it is left alone.
Made anew (`make_part`, `make_bare`): lengths, flags and checksums are those of the new segment.

Every function takes the `Packet` that `parse_frame` filled from the same buffer, and keeps its numbers true.
"""

import cython

if cython.compiled:
    from cython.cimports.pycolo.wire.checksum import ones_sum, pseudo_sum, replace16, replace32
    from cython.cimports.pycolo.wire.kinds import IpProto, TcpFlag, VnetFlag
    from cython.cimports.pycolo.wire.octets import copy, load16, load32, store16, store32
    from cython.cimports.pycolo.wire.packet import Packet
    from cython.cimports.pycolo.wire.seq import seq_add
else:
    from pycolo.wire.checksum import ones_sum, pseudo_sum, replace16, replace32
    from pycolo.wire.kinds import IpProto, TcpFlag, VnetFlag
    from pycolo.wire.octets import copy, load16, load32, store16, store32
    from pycolo.wire.packet import Packet
    from pycolo.wire.seq import seq_add

SEQ = cython.declare(cython.Py_ssize_t, 4)
ACK = cython.declare(cython.Py_ssize_t, 8)
DATA_OFFSET = cython.declare(cython.Py_ssize_t, 12)
FLAGS = cython.declare(cython.Py_ssize_t, 13)
WINDOW = cython.declare(cython.Py_ssize_t, 14)
CHECKSUM = cython.declare(cython.Py_ssize_t, 16)
URGENT = cython.declare(cython.Py_ssize_t, 18)
TCP_LEN = cython.declare(cython.Py_ssize_t, 20)
TIMESTAMP_OPTION_LEN = cython.declare(cython.Py_ssize_t, 12)


def _put32(
    buf: cython.uchar[::1], packet: Packet, pos: cython.Py_ssize_t, old: cython.longlong, new: cython.longlong
) -> cython.int:
    """Replace the 32-bit field at `pos` of the TCP header, and correct the checksum."""
    store32(buf, pos, new)
    if packet.vnet_flags & VnetFlag.NEEDS_CSUM:
        return 0
    return replace32(buf, packet.l4_pos + CHECKSUM, old, new, (pos - packet.l4_pos) & 1)


def shift_seq(buf: cython.uchar[::1], packet: Packet, delta: cython.longlong) -> cython.int:
    """Add `delta` to the sequence number."""
    new: cython.longlong = seq_add(packet.seq, delta)
    _put32(buf, packet, packet.l4_pos + SEQ, packet.seq, new)
    packet.seq = new
    return 0


def set_ack(buf: cython.uchar[::1], packet: Packet, ack: cython.longlong) -> cython.int:
    """Set the acknowledgement number."""
    _put32(buf, packet, packet.l4_pos + ACK, packet.ack, ack)
    packet.ack = ack
    return 0


def set_window(buf: cython.uchar[::1], packet: Packet, window: cython.int) -> cython.int:
    """Set the window field (unscaled, 16 bits)."""
    store16(buf, packet.l4_pos + WINDOW, window)
    if not packet.vnet_flags & VnetFlag.NEEDS_CSUM:
        replace16(buf, packet.l4_pos + CHECKSUM, packet.window, window)
    packet.window = window
    return 0


def shift_sack(buf: cython.uchar[::1], packet: Packet, delta: cython.longlong) -> cython.int:
    """Add `delta` to every edge of every SACK block (RFC 2018)."""
    pos: cython.Py_ssize_t = packet.sack_pos
    end: cython.Py_ssize_t = pos + packet.sack_len
    while pos < end:
        old: cython.longlong = load32(buf, pos)
        _put32(buf, packet, pos, old, seq_add(old, delta))
        pos += 4
    return 0


def shift_timestamps(
    buf: cython.uchar[::1], packet: Packet, value_delta: cython.longlong, echo_delta: cython.longlong
) -> cython.int:
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


def _finish(
    target: cython.uchar[::1],
    start: cython.Py_ssize_t,
    packet: Packet,
    segment_len: cython.Py_ssize_t,
    is_partial: cython.bint,
) -> cython.int:
    """Set IP length, IP checksum and TCP checksum of the new frame at `start`; its layout is that of `packet`."""
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


def _move_urgent(target: cython.uchar[::1], l4_pos: cython.Py_ssize_t, count: cython.Py_ssize_t) -> cython.int:
    """The segment begins `count` bytes later now."""
    pointer: cython.longlong = load16(target, l4_pos + URGENT)
    if pointer < count:
        target[l4_pos + FLAGS] = target[l4_pos + FLAGS] & ~TcpFlag.URG
        pointer = count
    return store16(target, l4_pos + URGENT, pointer - count)


def make_part(
    target: cython.uchar[::1],
    start: cython.Py_ssize_t,
    source: cython.uchar[::1],
    packet: Packet,
    first: cython.Py_ssize_t,
    last: cython.Py_ssize_t,
) -> cython.Py_ssize_t:
    """Write the segment with payload bytes `first` … `last` of `packet` at `start`; returns the frame's length.

    FIN and PSH stay only with the last byte; the urgent pointer, which counts from the segment's own sequence
    number, with the parts up to its byte. A GSO frame of at most one segment is no GSO frame any more.
    `target` and `source` are different buffers, or different ranges of one.
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


def make_bare(
    target: cython.uchar[::1],
    start: cython.Py_ssize_t,
    source: cython.uchar[::1],
    packet: Packet,
    flags: cython.int,
    seq: cython.longlong,
    ack: cython.longlong,
    window: cython.int,
) -> cython.Py_ssize_t:
    """Write a segment without payload in the name of `packet`'s sender at `start`; returns the frame's length.

    Of the options only the timestamps stay (others speak of the moment when `packet` was sent). The vnet header
    is cleared and the checksum complete.
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
