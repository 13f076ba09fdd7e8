"""UDP, ICMP and other IP protocols (rule C4): per connection a multiset of payloads, matched in any order.

The IP header is not compared (identification, TTL and options are the stacks' own); neither is the UDP header beyond
the ports, which are part of the key. Packets of a connection still leave in the order in which the primary sent them.

There is no number that says which datagram should equal which, so a difference is a matter of time: when the first
held packet found no partner for DATAGRAM_REORDER_MS although the secondary has sent something that found none
either, the two differ; when the other side is silent, or finds partners for all else, compare_timeout decides, for
each side for itself (rule C8).
"""

import cython

from pycolo import limits

if cython.compiled:
    from cython.cimports.pycolo.compare.kinds import DifferenceKind, DivergencePolicy, RowFlag
    from cython.cimports.pycolo.compare.uso import cut, datagrams_in
    from cython.cimports.pycolo.wire.kinds import PacketKind
    from cython.cimports.pycolo.wire.octets import first_difference
    from cython.cimports.pycolo.wire.packet import Packet
else:
    from pycolo.compare.kinds import DifferenceKind, DivergencePolicy, RowFlag
    from pycolo.compare.uso import cut, datagrams_in
    from pycolo.wire.kinds import PacketKind
    from pycolo.wire.octets import first_difference
    from pycolo.wire.packet import Packet

_NONE = cython.declare(cython.int, -1)
_REORDER_US = cython.declare(cython.longlong, limits.DATAGRAM_REORDER_MS * 1000)
_NEVER = cython.declare(cython.longlong, 1 << 62)
_DIGEST_HEAD = cython.declare(cython.Py_ssize_t, 64)
_DIGEST_TAIL = cython.declare(cython.Py_ssize_t, 16)
# Bits of `pool.flags` of a datagram.
_MATCHED = cython.declare(cython.int, 1)
_PART = cython.declare(cython.int, 0x800)  # see `held`


class DatagramComparison:
    """`reorder_due_us`: when the earliest connection with unmatched datagrams of both sides counts as different.

    A USO frame (see `uso`) becomes as many records as it stands for; the primary's leaves when the last of them does.
    """

    def __init__(self, held):
        self.held = held
        self.pool = held.pool
        self.reorder_due_us = _NEVER

    def open_row(self, row: cython.int) -> cython.int:
        """A new row of the table is a connection of datagrams."""
        self.held.flags[row] = 0
        return 0

    def primary(self, row: cython.int, record: cython.int, packet: Packet, now_us: cython.longlong) -> cython.bint:
        """A primary packet, stored as `record`; False: there is no room for what it is cut into."""
        count: cython.int = datagrams_in(packet)
        if count == 1:
            self._place(record, packet)
            self._add_primary(row, record, 0)
        else:
            part: cython.int = cut(self.pool, record, packet, count)
            if part == _NONE:
                return False
            while part != _NONE:
                following: cython.int = self.pool.next[part]
                self.pool.chain[part] = record if following == _NONE else _NONE
                self._add_primary(row, part, _PART)
                part = following
        self._release_matched(row, now_us)
        return True

    def _add_primary(self, row: cython.int, record: cython.int, flags: cython.int) -> cython.int:
        """Hold it, with its partner found or not."""
        self._digest(record)
        self.pool.flags[record] = flags
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
        return 0

    def secondary(self, row: cython.int, record: cython.int, packet: Packet, now_us: cython.longlong) -> cython.bint:
        """A secondary packet, stored as `record` (freed or queued here); False: as for `primary`."""
        count: cython.int = datagrams_in(packet)
        if count == 1:
            self._place(record, packet)
            self._add_secondary(row, record)
        else:
            part: cython.int = cut(self.pool, record, packet, count)
            if part == _NONE:
                return False
            self.pool.free(record)
            while part != _NONE:
                following: cython.int = self.pool.next[part]
                self._add_secondary(row, part)
                part = following
        self._release_matched(row, now_us)
        return True

    def _add_secondary(self, row: cython.int, record: cython.int) -> cython.int:
        """Match it, or keep it."""
        self._digest(record)
        self.pool.flags[record] = 0
        other: cython.int = self.held.primary.head[row]
        while other != _NONE:
            if not self.pool.flags[other] & _MATCHED and self._equal(other, record):
                self._match(other)
                return self.held.discard(record)
            other = self.pool.next[other]
        return self.held.hold_secondary(row, self.held.secondary.tail[row], record)

    def committed(self, row: cython.int) -> cython.int:
        """The secondary has become a copy of the primary."""
        self.held.flags[row] &= ~RowFlag.DIVERGED
        return 0

    def reorder_due(self, row: cython.int, stood_us: cython.longlong, now_us: cython.longlong) -> cython.int:
        """Both sides wait: is it long enough to say that they differ? `stood_us`: until when one was not read."""
        first: cython.int = self.held.primary.head[row]
        theirs: cython.int = self.held.secondary.head[row]
        if first == _NONE or theirs == _NONE or self.held.flags[row] & RowFlag.DIVERGED:
            return 0
        since_us: cython.longlong = max(self.pool.arrived_us[first], self.pool.arrived_us[theirs], stood_us)
        if now_us - since_us < _REORDER_US:
            self.reorder_due_us = min(self.reorder_due_us, since_us + _REORDER_US)
            return 0
        return self._differ(row, DifferenceKind.DATAGRAM, False, now_us)

    def timed_out(
        self,
        row: cython.int,
        primary_since_us: cython.longlong,
        secondary_since_us: cython.longlong,
        now_us: cython.longlong,
    ) -> cython.int:
        """What waits since so long, or longer, on either side, has waited for longer than compare_timeout.

        One report speaks for all of its side that is as late.
        """
        told: cython.int = 0
        while not self.held.flags[row] & RowFlag.DIVERGED and not self.held.checkpoint_wanted:
            first: cython.int = self.held.primary.head[row]
            theirs: cython.int = self.held.secondary.head[row]
            if first != _NONE and self.pool.arrived_us[first] <= primary_since_us:
                self._differ(row, DifferenceKind.TIMEOUT, told & 1, now_us)
                told |= 1
            elif theirs != _NONE and self.pool.arrived_us[theirs] <= secondary_since_us:
                self._differ(row, DifferenceKind.SECONDARY_TIMEOUT, told & 2, now_us)
                told |= 2
            else:
                return 0
        return 0

    def give_way(self, row: cython.int, is_primary: cython.bint, now_us: cython.longlong) -> cython.int:
        """A queue that stays full: what it holds differs, whatever may still come (REPORT and RESET)."""
        queue_head: cython.int = self.held.primary.head[row] if is_primary else self.held.secondary.head[row]
        self._report(
            row, DifferenceKind.QUEUE_FULL, is_primary, not is_primary, now_us - self.pool.arrived_us[queue_head]
        )
        if is_primary:
            self.held.stats.let_through += self.held.release_all(row, now_us)
            return 0
        return self.held.drop_all_secondary(row)

    def apply_policy(self, row: cython.int, now_us: cython.longlong) -> cython.int:
        """All that the connection holds differs."""
        if self.held.policy == DivergencePolicy.HOLD:
            return self._stand_still(row)
        self.held.stats.let_through += self.held.release_all(row, now_us)
        return self.held.drop_all_secondary(row)

    def _stand_still(self, row: cython.int) -> cython.int:
        """Nothing leaves any more; what the secondary has sent, and will send, proves nothing."""
        self.held.flags[row] |= RowFlag.DIVERGED
        return self.held.drop_all_secondary(row)

    def _differ(self, row: cython.int, kind: cython.int, is_told: cython.bint, now_us: cython.longlong) -> cython.int:
        """Report the first held packet as different, and apply the policy to it alone: datagrams stand alone."""
        is_mine: cython.bint = kind != DifferenceKind.SECONDARY_TIMEOUT
        is_theirs: cython.bint = kind != DifferenceKind.TIMEOUT
        subject: cython.int = self.held.primary.head[row] if is_mine else self.held.secondary.head[row]
        if is_told:
            self.held.stats.differences += 1
        else:
            self._report(row, kind, is_mine, is_theirs, now_us - self.pool.arrived_us[subject])
        if kind != DifferenceKind.DATAGRAM:
            self.held.stats.timeouts += 1
        policy: cython.int = self.held.policy
        if policy == DivergencePolicy.CHECKPOINT or policy == DivergencePolicy.HOLD:
            return self._stand_still(row)
        if is_theirs:
            self.held.drop_secondary(row, _NONE)
        if is_mine:
            self.held.stats.let_through += 1
            self._match(self.held.primary.head[row])
        return self._release_matched(row, now_us)

    def _report(
        self,
        row: cython.int,
        kind: cython.int,
        is_mine: cython.bint,
        is_theirs: cython.bint,
        waited_us: cython.longlong,
    ) -> cython.int:
        """Report a difference of the first packet that each side holds, or of one side's alone."""
        index: cython.int = self.held.report(kind, row, 0, waited_us)
        first: cython.int = self.held.primary.head[row] if is_mine else _NONE
        theirs: cython.int = self.held.secondary.head[row] if is_theirs else _NONE
        if first != _NONE:
            self._add_context(index, 0, first, theirs)
        if theirs != _NONE:
            self._add_context(index, 1, theirs, first)
        return 0

    def _place(self, record: cython.int, packet: Packet) -> cython.int:
        """Where the compared bytes are: UDP's payload, else all behind the IP header."""
        start: cython.Py_ssize_t = packet.payload_pos
        length: cython.Py_ssize_t = packet.payload_len
        if packet.kind != PacketKind.UDP:
            start = packet.l4_pos
            length = packet.ip_end - packet.l4_pos
        self.pool.payload_pos[record] = start - packet.start
        self.pool.payload_len[record] = length
        return 0

    def _digest(self, record: cython.int) -> cython.int:
        """A number that spares most comparisons."""
        length: cython.Py_ssize_t = self.pool.payload_len[record]
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
        self.pool.flags[record] |= _MATCHED
        self.held.stats.compared += 1
        self.held.stats.compared_bytes += self.pool.payload_len[record]
        return 0

    def _release_matched(self, row: cython.int, now_us: cython.longlong) -> cython.int:
        record: cython.int = self.held.primary.head[row]
        while record != _NONE and self.pool.flags[record] & _MATCHED and not self.held.flags[row] & RowFlag.DIVERGED:
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
