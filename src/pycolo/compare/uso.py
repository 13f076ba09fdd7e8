"""UDP frames that the host is to cut into datagrams (USO; virtio 1.2 section 5.1.6: VIRTIO_NET_HDR_GSO_UDP_L4).

The client sees the datagrams, so these are compared: one guest may leave the cutting to the host where the other cuts
itself. Each becomes a record of its own, a frame with headers that are right but for the checksum, which is 0.
"""

import cython

from pycolo import limits

if cython.compiled:
    from cython.cimports.pycolo.storage.pool import Pool
    from cython.cimports.pycolo.wire.checksum import ones_sum
    from cython.cimports.pycolo.wire.kinds import PacketKind
    from cython.cimports.pycolo.wire.octets import copy, store16
    from cython.cimports.pycolo.wire.packet import Packet
else:
    from pycolo.storage.pool import Pool
    from pycolo.wire.checksum import ones_sum
    from pycolo.wire.kinds import PacketKind
    from pycolo.wire.octets import copy, store16
    from pycolo.wire.packet import Packet

_NONE = cython.declare(cython.int, -1)
_GSO_UDP_L4 = cython.declare(cython.int, 5)
_GSO_ECN = cython.declare(cython.int, 0x80)
_DATAGRAMS_MAX = cython.declare(cython.int, limits.USO_DATAGRAMS_MAX)


def datagrams_in(packet: Packet) -> cython.int:
    """How many datagrams a frame stands for: 1 where it is not cut, or cannot be."""
    if packet.kind != PacketKind.UDP or packet.gso_type & ~_GSO_ECN != _GSO_UDP_L4 or packet.gso_size == 0:
        return 1
    if packet.payload_len > packet.gso_size * _DATAGRAMS_MAX:
        return 1  # no host takes it
    return max(1, (packet.payload_len + packet.gso_size - 1) // packet.gso_size)


def cut(pool: Pool, record: cython.int, packet: Packet, count: cython.int) -> cython.int:
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
        pool.next[made] = first
        first = made
        place -= 1
    return first


def free_list(pool: Pool, record: cython.int) -> cython.int:
    """Free the records of a list by `pool.next`."""
    while record != _NONE:
        following: cython.int = pool.next[record]
        pool.free(record)
        record = following
    return 0


def _part(pool: Pool, record: cython.int, packet: Packet, at: cython.Py_ssize_t) -> cython.int:
    """A new record with the datagram whose payload begins at `at` of the frame's; -1 if there is no room."""
    header_len: cython.Py_ssize_t = packet.payload_pos - packet.start
    length: cython.Py_ssize_t = min(packet.gso_size, packet.payload_len - at)
    made: cython.int = pool.alloc(header_len + length)
    if made == _NONE:
        return _NONE
    source: cython.longlong = pool.pos[record]
    base: cython.longlong = pool.pos[made]
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
    pool.vnet_len[made] = packet.vnet_len
    pool.arrived_us[made] = pool.arrived_us[record]
    pool.payload_pos[made] = header_len
    pool.payload_len[made] = length
    return made
