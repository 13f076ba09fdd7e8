"""Copies of what the secondary sent and the client has not acknowledged, to be sent again at takeover.

The client may have missed any of it: until the takeover only the primary's packets reach it. The guest itself would
repeat its payload after its retransmission time-out, and bare ACKs never; with the copies the gap ends at once. They
are an optimisation: when their memory is used up, further packets are simply not copied, and counted; and what the
client has not acknowledged for UNACKED_MS goes. One eighth of the pool is left to others who share it.
"""

import cython

from pycolo import limits
from pycolo.storage.pool import filled, grown

if cython.compiled:
    from cython.cimports.pycolo.storage.pool import Pool, Queues
    from cython.cimports.pycolo.wire.kinds import TcpFlag
    from cython.cimports.pycolo.wire.octets import copy, store32
    from cython.cimports.pycolo.wire.packet import Packet, parse_frame
    from cython.cimports.pycolo.wire.seq import seq_add, seq_diff
else:
    from pycolo.storage.pool import Pool, Queues
    from pycolo.wire.kinds import TcpFlag
    from pycolo.wire.octets import copy, store32
    from pycolo.wire.packet import Packet, parse_frame
    from pycolo.wire.seq import seq_add, seq_diff

_NONE = cython.declare(cython.int, -1)


class UnackedCopies:
    """`queues`, by row: packets with payload or FIN in the order sent; `last_ack`, by row: the latest bare ACK."""

    def __init__(self, rows, budget_bytes=limits.UNACKED_BYTES_MAX, records_max=limits.UNACKED_PACKETS_MAX):
        self.pool = Pool(budget_bytes, records_max)
        self.queues = Queues(self.pool, rows)
        self.last_ack = filled(rows, "i", -1)
        self.skipped = 0
        self._bytes_max = budget_bytes - budget_bytes // 8

    def grow(self, rows):
        """Make room for `rows` connections."""
        self.queues.grow(rows)
        self.last_ack = grown(self.last_ack, rows, "i", -1)

    def keep(self, row: cython.int, buf: cython.uchar[::1], packet: Packet, now_us: cython.longlong) -> cython.int:
        """Copy a translated packet of the secondary."""
        record: cython.int
        if packet.flags & (TcpFlag.SYN | TcpFlag.RST):
            return 0
        if packet.payload_len == 0 and not packet.flags & TcpFlag.FIN:
            if self.last_ack[row] != _NONE:
                self.pool.free(self.last_ack[row])
            self.last_ack[row] = self._store(buf, packet, now_us)
            return 0
        record = self._store(buf, packet, now_us)
        if record == _NONE:
            return 0
        length: cython.longlong = packet.payload_len + (1 if packet.flags & TcpFlag.FIN else 0)
        self.pool.seq[record] = seq_add(packet.seq, length)  # what acknowledges all of it
        return self.queues.push(row, record)

    def acknowledged(self, row: cython.int, ack: cython.longlong) -> cython.int:
        """The client has everything before `ack`."""
        record: cython.int = self.queues.head[row]
        while record != _NONE and seq_diff(self.pool.seq[record], ack) <= 0:
            self.pool.free(self.queues.pop(row))
            record = self.queues.head[row]
        return 0

    def forget(self, row: cython.int) -> cython.int:
        """The copies of a connection are of no use any more."""
        self.queues.free_all(row)
        if self.last_ack[row] != _NONE:
            self.pool.free(self.last_ack[row])
            self.last_ack[row] = _NONE
        return 0

    def take(self, row: cython.int) -> cython.int:
        """The next packet to send again, or -1: payload in order, or, where there is none, the latest bare ACK."""
        record: cython.int = self.queues.pop(row)
        if record == _NONE:
            record = self.last_ack[row]
        elif self.last_ack[row] != _NONE:
            self.pool.free(self.last_ack[row])
        self.last_ack[row] = _NONE
        return record

    def parse(self, record: cython.int, packet: Packet) -> cython.int:
        """Make `packet` that of a record of the pool."""
        pos: cython.longlong = self.pool.pos[record]
        end: cython.longlong = pos + self.pool.length[record]
        return parse_frame(self.pool.arena.memory, pos, end, self.pool.vnet_len[record], packet)

    def write(
        self, frames: Queues, out: cython.uchar[::1], pos: cython.Py_ssize_t, has_vnet: cython.bint
    ) -> cython.Py_ssize_t:
        """Write the frames of list 0 with their length words to `out` from `pos`; the new end is returned."""
        words: cython.Py_ssize_t = 8 if has_vnet else 4
        record: cython.int = frames.head[0]
        while record != _NONE:
            size: cython.Py_ssize_t = self.pool.length[record]
            if len(out) - pos < size + words:
                break
            store32(out, pos, size)
            if has_vnet:
                store32(out, pos + 4, self.pool.vnet_len[record])
            copy(out, pos + words, self.pool.arena.memory, self.pool.pos[record], size)
            pos += words + size
            self.pool.free(frames.pop(0))
            record = frames.head[0]
        return pos

    def age(self, row: cython.int, before_us: cython.longlong) -> cython.int:
        """Forget what was copied before that."""
        record: cython.int = self.queues.head[row]
        while record != _NONE and self.pool.arrived_us[record] < before_us:
            self.pool.free(self.queues.pop(row))
            record = self.queues.head[row]
        record = self.last_ack[row]
        if record != _NONE and self.pool.arrived_us[record] < before_us:
            self.pool.free(record)
            self.last_ack[row] = _NONE
        return 0

    def _store(self, buf: cython.uchar[::1], packet: Packet, now_us: cython.longlong) -> cython.int:
        record: cython.int = _NONE
        if self.pool.arena.used_bytes < self._bytes_max:
            record = self.pool.store(buf, packet.start, packet.end - packet.start, packet.vnet_len)
        if record == _NONE:
            self.skipped += 1
        else:
            self.pool.arrived_us[record] = now_us
        return record
