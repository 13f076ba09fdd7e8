"""IP datagrams put together from their fragments (RFC 791 section 3.2, RFC 8200 section 4.5).

Identifications differ between the two guests and so may the cuts: only whole datagrams can be compared. Per side a
bounded number of datagrams is in the making; a complete one becomes one record that looks like an unfragmented frame
and carries its fragments along (`pool.chain`), so that what leaves is what the primary sent. One that stays incomplete
is given up: the primary's fragments leave as they are (the client cannot put them together either), the secondary's
are discarded.
"""

import cython

from pycolo import limits
from pycolo.storage.pool import filled

if cython.compiled:
    from cython.cimports.pycolo.wire.checksum import ones_sum
    from cython.cimports.pycolo.wire.octets import copy, store16
    from cython.cimports.pycolo.wire.packet import Packet, parse_frame
else:
    from pycolo.wire.checksum import ones_sum
    from pycolo.wire.octets import copy, store16
    from pycolo.wire.packet import Packet, parse_frame

_NONE = cython.declare(cython.int, -1)
_SLOTS = cython.declare(cython.int, limits.FRAGMENT_DATAGRAMS_MAX)
_FRAGMENTS_MAX = cython.declare(cython.int, limits.FRAGMENTS_MAX)
_DATAGRAM_MAX = cython.declare(cython.longlong, 65535)


class Reassembly:
    """Datagrams in the making of one side. A slot is free when its `head` is -1; one in use pins its row.

    For fragment records `pool.seq` is the offset of the data, `pool.payload_pos`/`payload_len` where it lies, and
    `pool.flags` 1 if more fragments follow.
    """

    def __init__(self, held, is_primary):
        self.held = held
        self.pool = held.pool
        self.is_primary = is_primary
        self.used = 0
        self._packet = Packet()
        self._row = filled(_SLOTS, "i", 0)
        self._identification = filled(_SLOTS, "I", 0)
        self._head = filled(_SLOTS, "i", -1)
        self._tail = filled(_SLOTS, "i", -1)
        self._since_us = filled(_SLOTS, "q", 0)
        self._count = filled(_SLOTS, "i", 0)

    def add(self, row: cython.int, record: cython.int, packet: Packet, now_us: cython.longlong) -> cython.int:
        """A fragment, stored as `record`: the record of the whole datagram if this completes it, else -1."""
        self.pool.seq[record] = packet.fragment_offset
        self.pool.payload_pos[record] = packet.payload_pos - packet.start
        self.pool.payload_len[record] = packet.payload_len
        self.pool.flags[record] = 1 if packet.more_fragments else 0
        slot: cython.int = self._find(row, packet.fragment_id)
        if slot == _NONE:
            if self.used == _SLOTS:
                self._give_up(self._oldest(), now_us)
            slot = self._open(row, packet.fragment_id, now_us)
        else:
            self.pool.chain[self._tail[slot]] = record
            self._tail[slot] = record
        if self._head[slot] == _NONE:
            self._head[slot] = self._tail[slot] = record
        self._count[slot] += 1
        if self._count[slot] > _FRAGMENTS_MAX:
            self._give_up(slot, now_us)
            return _NONE
        total: cython.longlong = self._complete_length(slot)
        if total < 0:
            return _NONE
        return self._assemble(slot, total)

    def expire(self, before_us: cython.longlong, now_us: cython.longlong) -> cython.int:
        """Give up what was begun before `before_us` and is incomplete still."""
        while self.used:
            slot: cython.int = self._oldest()
            if self._since_us[slot] >= before_us:
                return 0
            self._give_up(slot, now_us)
        return 0

    def _give_up(self, slot: cython.int, now_us: cython.longlong) -> cython.int:
        record: cython.int = self._take(slot)
        if not self.is_primary:
            return self.held.discard(record)
        self.held.stats.incomplete_datagrams += 1
        while record != _NONE:
            following: cython.int = self.pool.chain[record]
            self.pool.chain[record] = _NONE
            self.held.release(record, now_us)
            record = following
        return 0

    def _take(self, slot: cython.int) -> cython.int:
        """Free a slot; its first fragment is returned, the others are chained to it."""
        head: cython.int = self._head[slot]
        self._head[slot] = _NONE
        self.held.table.pins[self._row[slot]] -= 1
        self.used -= 1
        return head

    def _find(self, row: cython.int, identification: cython.uint) -> cython.int:
        if self.used == 0:
            return _NONE
        slot: cython.int = 0
        while slot < _SLOTS:
            if self._head[slot] != _NONE and self._row[slot] == row and self._identification[slot] == identification:
                return slot
            slot += 1
        return _NONE

    def _open(self, row: cython.int, identification: cython.uint, now_us: cython.longlong) -> cython.int:
        slot: cython.int = 0
        while self._head[slot] != _NONE:
            slot += 1
        self._row[slot] = row
        self._identification[slot] = identification
        self._since_us[slot] = now_us
        self._count[slot] = 0
        self.held.table.pins[row] += 1
        self.used += 1
        return slot

    def _oldest(self) -> cython.int:
        found: cython.int = _NONE
        slot: cython.int = 0
        while slot < _SLOTS:
            if self._head[slot] != _NONE and (found == _NONE or self._since_us[slot] < self._since_us[found]):
                found = slot
            slot += 1
        return found

    def _complete_length(self, slot: cython.int) -> cython.Py_ssize_t:
        """Length of the datagram's payload if no byte is missing, else -1."""
        reached: cython.longlong = 0
        total: cython.longlong = -1
        has_grown: cython.bint = True
        while has_grown:
            has_grown = False
            record: cython.int = self._head[slot]
            while record != _NONE:
                start: cython.longlong = self.pool.seq[record]
                end: cython.longlong = start + self.pool.payload_len[record]
                if not self.pool.flags[record]:
                    total = end
                if start <= reached < end:
                    reached = end
                    has_grown = True
                record = self.pool.chain[record]
        return total if total >= 0 and reached >= total and total <= _DATAGRAM_MAX else -1

    def _assemble(self, slot: cython.int, total: cython.longlong) -> cython.int:
        """Make the whole datagram's record. Overlapping data: the fragment that came first wins."""
        first: cython.int = self._head[slot]
        while self.pool.seq[first] != 0:
            first = self.pool.chain[first]
        parse_frame(
            self.pool.arena.memory,
            self.pool.pos[first],
            self.pool.pos[first] + self.pool.length[first],
            self.pool.vnet_len[first],
            self._packet,
        )
        header_len: cython.Py_ssize_t = self._packet.l4_pos - self._packet.start
        if self._packet.ip_version == 6:
            header_len -= 8
        whole: cython.int = self.pool.alloc(header_len + total)
        if whole == _NONE:
            return _NONE
        base: cython.longlong = self.pool.pos[whole]
        copy(self.pool.arena.memory, base, self.pool.arena.memory, self.pool.pos[first], header_len)
        self._copy_payload(slot, base + header_len, total)
        self._mend_headers(base, header_len, total)
        self.pool.vnet_len[whole] = self._packet.vnet_len
        self.pool.arrived_us[whole] = self._since_us[slot]
        self.pool.chain[whole] = self._take(slot)
        return whole

    def _copy_payload(self, slot: cython.int, target: cython.longlong, total: cython.longlong) -> cython.int:
        """Fragments in order of their data; a byte that is there already is not written again."""
        reached: cython.longlong = 0
        while reached < total:
            record: cython.int = self._head[slot]
            while True:
                start: cython.longlong = self.pool.seq[record]
                end: cython.longlong = min(start + self.pool.payload_len[record], total)
                if start <= reached < end:
                    break
                record = self.pool.chain[record]
            copy(
                self.pool.arena.memory,
                target + reached,
                self.pool.arena.memory,
                self.pool.pos[record] + self.pool.payload_pos[record] + reached - start,
                end - reached,
            )
            reached = end
        return 0

    def _mend_headers(self, base: cython.longlong, header_len: cython.Py_ssize_t, total: cython.longlong) -> cython.int:
        """Length and fragment fields of the new IP header; for IPv6 the fragment header is gone."""
        i: cython.Py_ssize_t = 0
        while i < self._packet.vnet_len:
            self.pool.arena.memory[base + i] = 0
            i += 1
        ip_pos: cython.longlong = base + self._packet.ip_pos - self._packet.start
        ip_header_len: cython.longlong = base + header_len - ip_pos
        if self._packet.ip_version == 4:
            store16(self.pool.arena.memory, ip_pos + 2, min(ip_header_len + total, _DATAGRAM_MAX))
            store16(self.pool.arena.memory, ip_pos + 6, 0)
            store16(self.pool.arena.memory, ip_pos + 10, 0)
            store16(
                self.pool.arena.memory,
                ip_pos + 10,
                0xFFFF - ones_sum(self.pool.arena.memory, ip_pos, ip_header_len, 0),
            )
            return 0
        store16(self.pool.arena.memory, ip_pos + 4, min(ip_header_len - 40 + total, _DATAGRAM_MAX))
        # Whatever named the fragment header (kind 44) as its next now names what followed it.
        pos: cython.longlong = ip_pos + 6
        following: cython.longlong = ip_pos + 40
        while self.pool.arena.memory[pos] != 44:
            pos = following
            following += (self.pool.arena.memory[following + 1] + 1) * 8
        self.pool.arena.memory[pos] = self._packet.ip_proto
        return 0
