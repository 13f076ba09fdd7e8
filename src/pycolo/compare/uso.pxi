"""UDP frames that the host cuts into datagrams (USO; virtio 1.2 section 5.1.6: VIRTIO_NET_HDR_GSO_UDP_L4).

The client sees the datagrams, so these are compared: one guest may leave the cutting to the host while the other cuts
itself. Each becomes a record of its own, a frame with correct headers except for the checksum, which is 0.
"""


cdef enum:
    _GSO_UDP_L4 = 5
    _GSO_ECN = 128
cdef int _DATAGRAMS_MAX = limits.USO_DATAGRAMS_MAX


cdef int datagrams_in(Packet packet) noexcept nogil:
    """How many datagrams a frame contains: 1 if it is not cut, or cannot be."""
    if packet.kind != PacketKind.UDP or packet.gso_type & ~_GSO_ECN != _GSO_UDP_L4 or packet.gso_size == 0:
        return 1
    if packet.payload_len > packet.gso_size * _DATAGRAMS_MAX:
        return 1  # every host refuses it
    return max(1, (packet.payload_len + packet.gso_size - 1) // packet.gso_size)


cdef int cut(Pool pool, int record, Packet packet, int count) noexcept nogil:
    """The first of `count` records with the datagrams of `record`'s frame, in a list by `pool.next`; -1: no room.

    `packet` is the parsed form; `payload_pos` and `payload_len` of each are set.
    """
    first: cython.int = _NONE
    place: cython.int = count - 1
    while place >= 0:
        made: cython.int = _part(pool, record, packet, place * packet.gso_size)
        if made == _NONE:
            free_list(pool, first)
            return _NONE
        pool.at[made].next = first
        first = made
        place -= 1
    return first


cdef int free_list(Pool pool, int record) noexcept nogil:
    """Free the records of a list by `pool.next`."""
    while record != _NONE:
        following: cython.int = pool.at[record].next
        pool.free(record)
        record = following
    return 0


cdef int _part(Pool pool, int record, Packet packet, Py_ssize_t at) noexcept nogil:
    """A new record with the datagram whose payload begins at `at` of the frame's; -1 if there is no room."""
    header_len: cython.Py_ssize_t = packet.payload_pos - packet.start
    length: cython.Py_ssize_t = min(packet.gso_size, packet.payload_len - at)
    made: cython.int = pool.alloc(header_len + length)
    if made == _NONE:
        return _NONE
    source: cython.longlong = pool.at[record].pos
    base: cython.longlong = pool.at[made].pos
    copy(pool.arena.memory, base, pool.arena.memory, source, header_len)
    copy(pool.arena.memory, base + header_len, pool.arena.memory, source + header_len + at, length)
    i: cython.Py_ssize_t = 0
    while i < packet.vnet_len:
        pool.arena.memory[base + i] = 0
        i += 1
    udp_pos: cython.longlong = base + packet.l4_pos - packet.start
    store16(pool.arena.memory, udp_pos + 4, 8 + length)
    store16(pool.arena.memory, udp_pos + 6, 0)
    ip_pos: cython.longlong = base + packet.ip_pos - packet.start
    if packet.ip_version == 4:
        store16(pool.arena.memory, ip_pos + 2, udp_pos - ip_pos + 8 + length)
        store16(pool.arena.memory, ip_pos + 10, 0)
        checksum: cython.longlong = 0xFFFF - ones_sum(pool.arena.memory, ip_pos, udp_pos - ip_pos, 0)
        store16(pool.arena.memory, ip_pos + 10, checksum)
    else:
        store16(pool.arena.memory, ip_pos + 4, udp_pos - ip_pos - 40 + 8 + length)
    pool.at[made].vnet_len = packet.vnet_len
    pool.at[made].arrived_us = pool.at[record].arrived_us
    pool.at[made].payload_pos = header_len
    pool.at[made].payload_len = length
    return made
