"""UDP, ICMP and other IP protocols (rule C4): per connection a multiset of payloads, matched in any order.

The IP header is not compared (identification, TTL and options are the stacks' own); neither is the UDP header beyond
the ports, which are part of the key. Packets of a connection still leave in the order in which the primary sent them.

There is no number that says which datagram should equal which, so a difference is a matter of time: when the first
held packet found no partner for DATAGRAM_REORDER_MS although the secondary has sent something that found none
either, the two differ; when the secondary is silent, compare_timeout decides.
"""

import cython

from pycolo import limits

if cython.compiled:
    from cython.cimports.pycolo.compare.kinds import DifferenceKind, DivergencePolicy, RowFlag
    from cython.cimports.pycolo.wire.kinds import PacketKind
    from cython.cimports.pycolo.wire.octets import first_difference
    from cython.cimports.pycolo.wire.packet import Packet
else:
    from pycolo.compare.kinds import DifferenceKind, DivergencePolicy, RowFlag
    from pycolo.wire.kinds import PacketKind
    from pycolo.wire.octets import first_difference
    from pycolo.wire.packet import Packet

_NONE = cython.declare(cython.int, -1)
_REORDER_US = cython.declare(cython.longlong, limits.DATAGRAM_REORDER_MS * 1000)
_NEVER = cython.declare(cython.longlong, 1 << 62)
_DIGEST_HEAD = cython.declare(cython.Py_ssize_t, 64)
_DIGEST_TAIL = cython.declare(cython.Py_ssize_t, 16)


class DatagramComparison:
    """`reorder_due_us`: when the earliest connection with unmatched datagrams of both sides counts as different.

    In `pool.flags` of a held primary packet 1 means that its partner was found.
    """

    def __init__(self, held):
        self.held = held
        self.pool = held.pool
        self.reorder_due_us = _NEVER

    def open_row(self, row: cython.int) -> cython.int:
        """A new row of the table is a connection of datagrams."""
        self.held.flags[row] = 0
        return 0

    def primary(self, row: cython.int, record: cython.int, packet: Packet, now_us: cython.longlong) -> cython.int:
        """A primary packet, stored as `record`."""
        self._describe(record, packet)
        partner: cython.int = _NONE
        other: cython.int = self.held.secondary.head[row]
        before: cython.int = _NONE
        while other != _NONE:
            if self._equal(record, other):
                partner = other
                break
            before = other
            other = self.pool.next[other]
        self.held.hold_primary(row, self.held.primary.tail[row], record)
        if partner != _NONE:
            self.held.drop_secondary(row, before)
            self._match(record)
        return self._release_matched(row, now_us)

    def secondary(self, row: cython.int, record: cython.int, packet: Packet, now_us: cython.longlong) -> cython.int:
        """A secondary packet, stored as `record` (freed or queued here)."""
        self._describe(record, packet)
        other: cython.int = self.held.primary.head[row]
        while other != _NONE:
            if not self.pool.flags[other] and self._equal(other, record):
                self._match(other)
                self.held.discard(record)
                return self._release_matched(row, now_us)
            other = self.pool.next[other]
        self.held.hold_secondary(row, self.held.secondary.tail[row], record)
        return self._note_unmatched(row)

    def committed(self, row: cython.int) -> cython.int:
        """The secondary has become a copy of the primary."""
        self.held.flags[row] &= ~RowFlag.DIVERGED
        return 0

    def reorder_due(self, row: cython.int, now_us: cython.longlong) -> cython.int:
        """Both sides wait: is it long enough to say that they differ?"""
        first: cython.int = self.held.primary.head[row]
        theirs: cython.int = self.held.secondary.head[row]
        if first == _NONE or theirs == _NONE or self.held.flags[row] & RowFlag.DIVERGED:
            return 0
        if now_us - max(self.pool.arrived_us[first], self.pool.arrived_us[theirs]) < _REORDER_US:
            return self._note_unmatched(row)
        return self._differ(row, DifferenceKind.DATAGRAM, now_us)

    def timed_out(self, row: cython.int, since_us: cython.longlong, now_us: cython.longlong) -> cython.int:
        """What waits since `since_us` or longer has waited for longer than compare_timeout."""
        while not self.held.flags[row] & RowFlag.DIVERGED:
            kind: cython.int = DifferenceKind.TIMEOUT
            record: cython.int = self.held.primary.head[row]
            if record == _NONE:
                kind = DifferenceKind.SECONDARY_TIMEOUT
                record = self.held.secondary.head[row]
            if record == _NONE or self.pool.arrived_us[record] > since_us:
                return 0
            self._differ(row, kind, now_us)
        return 0

    def _differ(self, row: cython.int, kind: cython.int, now_us: cython.longlong) -> cython.int:
        """Report the first held packet as different, and apply the policy to it alone: datagrams stand alone."""
        first: cython.int = self.held.primary.head[row]
        theirs: cython.int = self.held.secondary.head[row]
        subject: cython.int = first if first != _NONE else theirs
        index: cython.int = self.held.report(kind, row, 0, now_us - self.pool.arrived_us[subject])
        if first != _NONE:
            self._add_context(index, 0, first, theirs)
        if theirs != _NONE:
            self._add_context(index, 1, theirs, first)
        policy: cython.int = self.held.policy
        if policy == DivergencePolicy.CHECKPOINT or policy == DivergencePolicy.HOLD:
            self.held.flags[row] |= RowFlag.DIVERGED
            return 0
        if theirs != _NONE:
            self.held.drop_secondary(row, _NONE)
        if first != _NONE:
            self.held.stats.let_through += 1
            self._match(first)
        return self._release_matched(row, now_us)

    def _describe(self, record: cython.int, packet: Packet) -> cython.int:
        """Where the compared bytes are, and a digest that spares most comparisons."""
        start: cython.Py_ssize_t = packet.payload_pos
        length: cython.Py_ssize_t = packet.payload_len
        if packet.kind != PacketKind.UDP:
            start = packet.l4_pos
            length = packet.ip_end - packet.l4_pos
        self.pool.flags[record] = 0
        self.pool.payload_pos[record] = start - packet.start
        self.pool.payload_len[record] = length
        first: cython.longlong = self.pool.pos[record] + self.pool.payload_pos[record]
        digest: cython.uint = length
        i: cython.Py_ssize_t = 0
        while i < length and i < _DIGEST_HEAD:
            digest = (digest * 16777619) ^ self.pool.arena.memory[first + i]
            if not cython.compiled:
                digest &= 0xFFFFFFFF
            i += 1
        i = max(i, length - _DIGEST_TAIL)
        while i < length:
            digest = (digest * 16777619) ^ self.pool.arena.memory[first + i]
            if not cython.compiled:
                digest &= 0xFFFFFFFF
            i += 1
        self.pool.digest[record] = digest
        return 0

    def _equal(self, a: cython.int, b: cython.int) -> cython.bint:
        if self.pool.digest[a] != self.pool.digest[b] or self.pool.payload_len[a] != self.pool.payload_len[b]:
            return False
        return self._equal_until(a, b) == self.pool.payload_len[a]

    def _equal_until(self, a: cython.int, b: cython.int) -> cython.Py_ssize_t:
        return first_difference(
            self.pool.arena.memory,
            self.pool.pos[a] + self.pool.payload_pos[a],
            self.pool.arena.memory,
            self.pool.pos[b] + self.pool.payload_pos[b],
            min(self.pool.payload_len[a], self.pool.payload_len[b]),
        )

    def _match(self, record: cython.int) -> cython.int:
        self.pool.flags[record] = 1
        self.held.stats.compared += 1
        self.held.stats.compared_bytes += self.pool.payload_len[record]
        return 0

    def _release_matched(self, row: cython.int, now_us: cython.longlong) -> cython.int:
        record: cython.int = self.held.primary.head[row]
        while record != _NONE and self.pool.flags[record] and not self.held.flags[row] & RowFlag.DIVERGED:
            self.held.release(self.held.take_primary(row, _NONE), now_us)
            record = self.held.primary.head[row]
        return self._note_unmatched(row)

    def _note_unmatched(self, row: cython.int) -> cython.int:
        first: cython.int = self.held.primary.head[row]
        theirs: cython.int = self.held.secondary.head[row]
        if first != _NONE and theirs != _NONE:
            since: cython.longlong = max(self.pool.arrived_us[first], self.pool.arrived_us[theirs])
            self.reorder_due_us = min(self.reorder_due_us, since + _REORDER_US)
        return 0

    def _add_context(self, index: cython.int, side: cython.int, record: cython.int, other: cython.int) -> cython.int:
        at: cython.longlong = self.pool.pos[record] + self.pool.payload_pos[record]
        if other != _NONE:
            at += self._equal_until(record, other)
        return self.held.add_context(index, side, record, at)
