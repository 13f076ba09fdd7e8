"""What became of each packet, for who wants to know (`colo proxy --pcap`): off unless `start` was called.

An entry is 32 bytes of numbers and the frame: u32 length, u8 side, u8 fate, u16 vnet_len, u64 arrived_us, i64 aux,
u64 zero, in the machine's own byte order. The shell takes them after each batch; what does not fit is counted.
"""

import struct
from dataclasses import dataclass

import cython

from pycolo.compare.kinds import PacketFate as _Fate

if cython.compiled:
    from cython.cimports.pycolo.wire.octets import copy, store32
else:
    from pycolo.wire.octets import copy, store32

_HEADER = cython.declare(cython.Py_ssize_t, 32)
_FORMAT = struct.Struct(">IBBHQqQ")


@dataclass(frozen=True, slots=True)
class TracedPacket:
    """One packet and its fate. `side`: 0 primary, 1 secondary; `aux`: see `PacketFate`; `frame`: no vnet header."""

    side: int
    fate: _Fate
    arrived_us: int
    aux: int
    frame: bytes


class Trace:
    """`is_on`: whether anything is noted; `lost`: entries that found no room."""

    def __init__(self, pool):
        self.pool = pool
        self.is_on = False
        self.lost = 0
        self._buf = bytearray(1)
        self._end = 0

    def start(self, buffer_bytes):
        """Note from now on, up to so many bytes between two calls of `take`."""
        self._buf = bytearray(buffer_bytes)
        self.is_on = True

    def note(self, record: cython.int, side: cython.int, fate: cython.int, aux: cython.longlong) -> cython.int:
        """The fate of a stored packet."""
        return self.note_bytes(
            self.pool.arena.memory,
            self.pool.pos[record],
            self.pool.length[record],
            self.pool.vnet_len[record],
            side,
            fate,
            self.pool.arrived_us[record],
            aux,
        )

    def note_bytes(
        self,
        buf: cython.uchar[::1],
        start: cython.longlong,
        length: cython.Py_ssize_t,
        vnet_len: cython.int,
        side: cython.int,
        fate: cython.int,
        arrived_us: cython.longlong,
        aux: cython.longlong,
    ) -> cython.int:
        """The fate of a packet that was never stored."""
        if len(self._buf) - self._end < _HEADER + length:
            self.lost += 1
            return 0
        pos: cython.Py_ssize_t = self._end
        store32(self._buf, pos, length)
        self._buf[pos + 4] = side
        self._buf[pos + 5] = fate
        self._buf[pos + 6] = 0
        self._buf[pos + 7] = vnet_len
        store32(self._buf, pos + 8, arrived_us >> 32)
        store32(self._buf, pos + 12, arrived_us)
        store32(self._buf, pos + 16, aux >> 32)
        store32(self._buf, pos + 20, aux)
        copy(self._buf, pos + _HEADER, buf, start, length)
        self._end = pos + _HEADER + length
        return 0

    def take(self):
        """The entries since the last call, as `TracedPacket` values."""
        found = []
        view = memoryview(self._buf)
        pos = 0
        while pos < self._end:
            length, side, fate, vnet_len, arrived_us, aux, _ = _FORMAT.unpack_from(view, pos)
            start = pos + _HEADER
            found.append(
                TracedPacket(side, _Fate(fate), arrived_us, aux, bytes(view[start + vnet_len : start + length]))
            )
            pos = start + length
        self._end = 0
        return found
