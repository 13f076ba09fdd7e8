"""Segments made from held ones: parts of a frame, and segments without payload, each a new record."""

import cython

if cython.compiled:
    from cython.cimports.pycolo.wire.kinds import TcpFlag
    from cython.cimports.pycolo.wire.packet import Packet, parse_frame
    from cython.cimports.pycolo.wire.patch import make_bare, make_part
    from cython.cimports.pycolo.wire.seq import seq_add
else:
    from pycolo.wire.kinds import TcpFlag
    from pycolo.wire.packet import Packet, parse_frame
    from pycolo.wire.patch import make_bare, make_part
    from pycolo.wire.seq import seq_add

_NONE = cython.declare(cython.int, -1)
_MADE = cython.declare(cython.int, 0x200)  # in `pool.flags`: see `held`
_BARE_BYTES_MAX = cython.declare(cython.Py_ssize_t, 512)


class Shaper:
    """`packet` is the parsed form of the record that was parsed last; positions count in the arena."""

    def __init__(self, pool):
        self.pool = pool
        self.packet = Packet()

    def parse(self, record: cython.int) -> cython.int:
        """Parse a record's frame into `packet`; its kind is returned."""
        pos: cython.longlong = self.pool.pos[record]
        return parse_frame(
            self.pool.arena.memory,
            pos,
            pos + self.pool.length[record],
            self.pool.vnet_len[record],
            self.packet,
        )

    def bare_from(self, record: cython.int, flags: cython.int, seq: cython.longlong) -> cython.int:
        """A new record with a segment without payload in the name of `record`'s sender; -1 if there is no room."""
        self.parse(record)
        if self.packet.payload_pos - self.packet.start > _BARE_BYTES_MAX:
            return _NONE  # IPv6 extension headers without end: nothing that a TCP stack sends
        made: cython.int = self.pool.alloc(_BARE_BYTES_MAX)
        if made == _NONE:
            return _NONE
        self.pool.length[made] = make_bare(
            self.pool.arena.memory,
            self.pool.pos[made],
            self.pool.arena.memory,
            self.packet,
            flags,
            seq,
            self.packet.ack,
            self.packet.window,
        )
        self.pool.vnet_len[made] = self.pool.vnet_len[record]
        self.pool.arrived_us[made] = self.pool.arrived_us[record]
        self.pool.flags[made] = _MADE
        return made

    def part(self, record: cython.int, first: cython.longlong, last: cython.longlong) -> cython.int:
        """A new record with payload bytes `first` … `last` of `record`'s segment; -1 if there is no room."""
        made: cython.int = self.pool.alloc(self.pool.payload_pos[record] + last - first)
        if made == _NONE:
            return _NONE
        self.parse(record)
        self.pool.length[made] = make_part(
            self.pool.arena.memory, self.pool.pos[made], self.pool.arena.memory, self.packet, first, last
        )
        self.pool.vnet_len[made] = self.pool.vnet_len[record]
        self.pool.arrived_us[made] = self.pool.arrived_us[record]
        self.pool.seq[made] = seq_add(self.pool.seq[record], first)
        self.pool.ack[made] = self.pool.ack[record]
        self.pool.window[made] = self.pool.window[record]
        self.pool.payload_pos[made] = self.pool.payload_pos[record]
        self.pool.payload_len[made] = last - first
        self.pool.flags[made] = self.pool.flags[record]
        if last < self.pool.payload_len[record]:
            self.pool.flags[made] = self.pool.flags[record] & ~(TcpFlag.FIN | TcpFlag.PSH)
        return made
