"""TCP, the streams: what both sides have said, and how far they are equal.

::

    primary   ───released───┬──── held frames, in order of arrival ────►
                            │ compared_seq: both streams are equal below (FIN counts as one, RFC 9293 section 3.4)
    secondary ───discarded──┴──── payload extents, sorted by seq ──────►

The comparison knows bytes, not segments: neither segmentation, retransmission, overlap nor order of arrival matters.
`pycolo.compare.tcp` builds the rules of release on it.
"""

import cython

from pycolo.compare.kinds import RowFlag as _Row
from pycolo.storage.pool import filled, grown

if cython.compiled:
    from cython.cimports.pycolo.compare.kinds import DifferenceKind, DivergencePolicy, RowFlag
    from cython.cimports.pycolo.compare.shaper import Shaper
    from cython.cimports.pycolo.wire.kinds import TcpFlag
    from cython.cimports.pycolo.wire.octets import first_difference, load32
    from cython.cimports.pycolo.wire.packet import Packet
    from cython.cimports.pycolo.wire.patch import shift_timestamps
    from cython.cimports.pycolo.wire.seq import seq_add, seq_diff, seq_max, seq_min
else:
    from pycolo.compare.kinds import DifferenceKind, DivergencePolicy, RowFlag
    from pycolo.compare.shaper import Shaper
    from pycolo.wire.kinds import TcpFlag
    from pycolo.wire.octets import first_difference, load32
    from pycolo.wire.packet import Packet
    from pycolo.wire.patch import shift_timestamps
    from pycolo.wire.seq import seq_add, seq_diff, seq_max, seq_min

_NONE = cython.declare(cython.int, -1)
_SCALE_UNKNOWN = cython.declare(cython.int, 14)
# What a primary's SYN leaves of the row's state: the queue's own mark, and what the secondary has said before it.
_KEPT_BY_SYN = cython.declare(
    cython.int,
    int(_Row.ACTIVE | _Row.SECONDARY_SYN | _Row.SECONDARY_FIN | _Row.SECONDARY_ACK),
)


class ByteStreams:
    """Columns by row; `needs_handshake` leaves connections alone whose SYN was not seen.

    `compared_seq`, `primary_end` (behind the last byte or FIN the primary sent), `primary_ack` and `secondary_ack`
    are sequence numbers; `*_space` is the offered window in bytes behind the ack. `scale` is the window scale that
    both SYNs agreed in; where no SYN was seen it counts as 14, the largest, which makes the edges of C3 too small
    rather than too large (both replicas scale alike: one is a copy of the other). `cursor` is the first held packet
    with payload that is not compared yet; `newest_value` the latest TSval among what overtook; `advanced_us` is
    when `compared_seq` moved last; `template` see `tcp`.
    """

    def __init__(self, held, needs_handshake):
        self.held = held
        self.pool = held.pool
        self.shaper = Shaper(held.pool)
        self.needs_handshake = needs_handshake
        rows = held.table.rows
        self._compared_seq = filled(rows, "I", 0)
        self._primary_isn = filled(rows, "I", 0)
        self._primary_end = filled(rows, "I", 0)
        self._primary_ack = filled(rows, "I", 0)
        self._primary_space = filled(rows, "q", 0)
        self._secondary_isn = filled(rows, "I", 0)
        self._secondary_options = filled(rows, "q", 0)
        self._secondary_ack = filled(rows, "I", 0)
        self._secondary_space = filled(rows, "q", 0)
        self._secondary_fin = filled(rows, "I", 0)
        self._secondary_resets = filled(rows, "i", 0)
        self._scale = filled(rows, "i", 0)
        self._cursor = filled(rows, "i", -1)
        self._template = filled(rows, "i", -1)
        self._advanced_us = filled(rows, "q", 0)
        self._newest_value = filled(rows, "I", 0)
        self._mine = self._theirs = _NONE

    def grow(self, rows):
        """Make room for `rows` connections."""
        self._compared_seq = grown(self._compared_seq, rows, "I", 0)
        self._primary_isn = grown(self._primary_isn, rows, "I", 0)
        self._primary_end = grown(self._primary_end, rows, "I", 0)
        self._primary_ack = grown(self._primary_ack, rows, "I", 0)
        self._primary_space = grown(self._primary_space, rows, "q", 0)
        self._secondary_isn = grown(self._secondary_isn, rows, "I", 0)
        self._secondary_options = grown(self._secondary_options, rows, "q", 0)
        self._secondary_ack = grown(self._secondary_ack, rows, "I", 0)
        self._secondary_space = grown(self._secondary_space, rows, "q", 0)
        self._secondary_fin = grown(self._secondary_fin, rows, "I", 0)
        self._secondary_resets = grown(self._secondary_resets, rows, "i", 0)
        self._scale = grown(self._scale, rows, "i", 0)
        self._cursor = grown(self._cursor, rows, "i", -1)
        self._template = grown(self._template, rows, "i", -1)
        self._advanced_us = grown(self._advanced_us, rows, "q", 0)
        self._newest_value = grown(self._newest_value, rows, "I", 0)

    def open_row(self, row: cython.int, has_syn: cython.bint) -> cython.int:
        """A new row of the table is a TCP connection."""
        self.held.flags[row] = 0
        self._secondary_resets[row] = 0
        self._scale[row] = _SCALE_UNKNOWN
        self._cursor[row] = _NONE
        self._template[row] = _NONE
        self._advanced_us[row] = 0
        if self.needs_handshake and not has_syn:
            self.held.flags[row] = RowFlag.LET_THROUGH
        return 0

    # ── what the packets say ──────────────────────────────────────────────────────────────────────────────────

    def _primary_syn(self, row: cython.int, packet: Packet, now_us: cython.longlong) -> cython.int:
        state: cython.int = self.held.flags[row]
        if state & RowFlag.PRIMARY_SYN and self._primary_isn[row] == packet.seq:
            return 0  # the same SYN again
        # A new incarnation of the connection: what is left of the old one can harm nobody any more.
        self.held.stats.superseded += self.held.primary.count[row]
        self.release_all(row, now_us)
        self._drop_template(row)
        if not state & RowFlag.SECONDARY_SYN:
            self.held.drop_all_secondary(row)
            self.held.flags[row] &= ~(RowFlag.SECONDARY_FIN | RowFlag.SECONDARY_ACK)
            if state & RowFlag.BASE_KNOWN:
                self._secondary_resets[row] = 0  # of the old one; without one it answers this SYN's cause
        self.held.flags[row] &= _KEPT_BY_SYN
        self.held.flags[row] |= RowFlag.PRIMARY_SYN | RowFlag.BASE_KNOWN
        self._primary_isn[row] = packet.seq
        self._compared_seq[row] = self._primary_end[row] = seq_add(packet.seq, 1)
        self._scale[row] = packet.window_scale if packet.window_scale >= 0 else 0
        return self.held.table.reopen(row, now_us)

    def _secondary_syn(self, row: cython.int, packet: Packet) -> cython.int:
        state: cython.int = self.held.flags[row]
        known: cython.int = RowFlag.SYN_MATCHED | RowFlag.SECONDARY_SYN
        if state & known and self._secondary_isn[row] == packet.seq:
            return 0
        if state & RowFlag.SYN_MATCHED and self._primary_isn[row] == packet.seq:
            return 0  # sent again when its number was translated already
        # The stored payload belongs to an older incarnation, unless both sides have just begun.
        self.held.drop_all_secondary(row)
        self._secondary_resets[row] = 0
        self.held.flags[row] &= ~(RowFlag.SECONDARY_FIN | RowFlag.SECONDARY_ACK)
        self.held.flags[row] |= RowFlag.SECONDARY_SYN
        self._secondary_isn[row] = packet.seq
        self._secondary_options[row] = syn_options(packet)
        return 0

    def _note_primary_ack(self, row: cython.int, packet: Packet) -> cython.int:
        state: cython.int = self.held.flags[row]
        if state & RowFlag.PRIMARY_ACK and seq_diff(packet.ack, self._primary_ack[row]) < 0:
            return 0
        self._primary_ack[row] = packet.ack
        self._primary_space[row] = self._space(row, packet.window, packet.flags)
        self.held.flags[row] = state | RowFlag.PRIMARY_ACK
        return 0

    def _note_secondary_ack(self, row: cython.int, packet: Packet) -> cython.bint:
        """Remember the secondary's ack and window; whether this one says nothing new."""
        state: cython.int = self.held.flags[row]
        space: cython.longlong = self._space(row, packet.window, packet.flags)
        if state & RowFlag.SECONDARY_ACK:
            ahead: cython.longlong = seq_diff(packet.ack, self._secondary_ack[row])
            if ahead < 0:
                return False
            if ahead == 0 and space == self._secondary_space[row]:
                return True
        self._secondary_ack[row] = packet.ack
        self._secondary_space[row] = space
        self.held.flags[row] = state | RowFlag.SECONDARY_ACK
        return False

    def _note_primary_payload(self, row: cython.int, record: cython.int, packet: Packet) -> cython.bint:
        """Remember how far the primary has spoken; whether this begins with what it has sent before."""
        is_again: cython.bint = False
        seq: cython.longlong = self.pool.seq[record]
        end: cython.longlong = seq_add(seq, packet.payload_len + (1 if packet.flags & TcpFlag.FIN else 0))
        if not self.held.flags[row] & RowFlag.BASE_KNOWN:
            # A connection from before our time: what the primary sends first is where the comparison begins.
            self.held.flags[row] |= RowFlag.BASE_KNOWN
            self._compared_seq[row] = seq
            self._primary_end[row] = end
            return False
        if seq_diff(seq, self._primary_end[row]) < 0:
            self.held.flags[row] |= RowFlag.OVERLAP
            is_again = packet.payload_len != 0
        self._primary_end[row] = seq_max(self._primary_end[row], end)
        return is_again

    def _place_again(self, row: cython.int, record: cython.int) -> cython.int:
        """Behind which held packet (-1: none) `record` goes, whose payload is sent again."""
        before: cython.int = _NONE
        other: cython.int = self.held.primary.head[row]
        while other != _NONE and seq_diff(self.pool.seq[other], self.pool.seq[record]) <= 0:
            before = other
            other = self.pool.next[other]
        if other != _NONE:
            self._cursor[row] = _NONE
            self._lift(row, record)
        return before

    def _lift(self, row: cython.int, record: cython.int) -> cython.int:
        """What was overtaken must not have an older TSval: the client would drop it (PAWS, RFC 7323 section 5.3)."""
        if self.pool.chain[record] != _NONE:
            return 0
        self.shaper.parse(record)
        pos: cython.Py_ssize_t = self.shaper.packet.timestamp_pos
        if pos == 0:
            return 0
        value: cython.longlong = load32(self.pool.arena.memory, pos)
        if self.held.flags[row] & RowFlag.OVERTAKEN:
            missing: cython.longlong = seq_diff(self._newest_value[row], value)
            if missing > 0:
                return shift_timestamps(self.pool.arena.memory, self.shaper.packet, missing, 0)
        self._newest_value[row] = value
        self.held.flags[row] |= RowFlag.OVERTAKEN
        return 0

    def release_all(self, row: cython.int, now_us: cython.longlong) -> cython.int:
        """Let every held primary packet of a connection out."""
        record: cython.int = self.held.primary.head[row]
        while record != _NONE and self.held.flags[row] & RowFlag.OVERTAKEN:
            self._lift(row, record)
            record = self.pool.next[record]
        self._cursor[row] = _NONE
        self.held.flags[row] &= ~(RowFlag.OVERLAP | RowFlag.OVERTAKEN)
        return self.held.release_all(row, now_us)

    def _space(self, row: cython.int, window: cython.longlong, flags: cython.int) -> cython.Py_ssize_t:
        """RFC 7323 section 2.2: the window of a SYN is never scaled."""
        return window if flags & TcpFlag.SYN else window << self._scale[row]

    def _queue_secondary(self, row: cython.int, record: cython.int) -> cython.int:
        """Insert by sequence number; what is below the frontier, or wholly there already, is discarded."""
        seq: cython.longlong = self.pool.seq[record]
        end: cython.longlong = seq_add(seq, self.pool.payload_len[record])
        before: cython.int = _NONE
        if self.held.flags[row] & RowFlag.BASE_KNOWN and seq_diff(end, self._compared_seq[row]) <= 0:
            return self.held.discard(record)
        last: cython.int = self.held.secondary.tail[row]
        if last != _NONE and seq_diff(seq, self._end(last)) >= 0:
            return self.held.hold_secondary(row, last, record)
        other: cython.int = self.held.secondary.head[row]
        while other != _NONE and seq_diff(self.pool.seq[other], seq) <= 0:
            if seq_diff(self._end(other), end) >= 0:
                return self.held.discard(record)
            before = other
            other = self.pool.next[other]
        return self.held.hold_secondary(row, before, record)

    def _end(self, record: cython.int) -> cython.Py_ssize_t:
        return seq_add(self.pool.seq[record], self.pool.payload_len[record])

    # ── comparing ─────────────────────────────────────────────────────────────────────────────────────────────

    def _advance(self, row: cython.int) -> cython.int:
        """Move `compared_seq` on as far as both sides' payload is here and equal.

        What stopped it is returned: 0 nothing to compare, else a DifferenceKind, between `_mine` and `_theirs`.
        """
        mine: cython.int
        theirs: cython.int
        count: cython.longlong
        equal: cython.longlong
        if not self.held.flags[row] & RowFlag.BASE_KNOWN or self.held.flags[row] & (
            RowFlag.DIVERGED | RowFlag.LET_THROUGH
        ):
            return 0
        while True:
            theirs = self._secondary_at_frontier(row)
            if theirs == _NONE and not self.held.flags[row] & RowFlag.SECONDARY_FIN:
                return 0
            mine = self._primary_at_frontier(row)
            if mine == _NONE:
                return 0
            if theirs == _NONE:
                self._mine = mine
                self._theirs = _NONE
                return DifferenceKind.FIN if self._secondary_fin[row] == self._compared_seq[row] else 0
            frontier: cython.longlong = self._compared_seq[row]
            count = min(seq_diff(self._end(mine), frontier), seq_diff(self._end(theirs), frontier))
            equal = self._equal_bytes(row, mine, theirs, count)
            self._compared_seq[row] = seq_add(frontier, equal)
            self.held.stats.compared_bytes += equal
            if equal < count:
                self._mine = mine
                self._theirs = theirs
                return DifferenceKind.PAYLOAD

    def _equal_bytes(
        self, row: cython.int, mine: cython.int, theirs: cython.int, count: cython.longlong
    ) -> cython.Py_ssize_t:
        """How many of the next `count` bytes agree: `mine` with `theirs`, and every other copy the primary sent."""
        frontier: cython.longlong = self._compared_seq[row]
        equal: cython.longlong = first_difference(
            self.pool.arena.memory,
            self._byte_pos(mine, frontier),
            self.pool.arena.memory,
            self._byte_pos(theirs, frontier),
            count,
        )
        if not self.held.flags[row] & RowFlag.OVERLAP:
            return equal
        other: cython.int = self.held.primary.head[row]
        while other != _NONE:
            if other != mine and self.pool.payload_len[other]:
                first: cython.longlong = seq_max(self.pool.seq[other], frontier)
                last: cython.longlong = seq_min(self._end(other), seq_add(frontier, equal))
                if seq_diff(last, first) > 0:
                    same: cython.longlong = first_difference(
                        self.pool.arena.memory,
                        self._byte_pos(other, first),
                        self.pool.arena.memory,
                        self._byte_pos(theirs, first),
                        seq_diff(last, first),
                    )
                    if same < seq_diff(last, first):
                        equal = seq_diff(first, frontier) + same
            other = self.pool.next[other]
        return equal

    def _byte_pos(self, record: cython.int, seq: cython.longlong) -> cython.Py_ssize_t:
        """Where the byte with sequence number `seq` lies in the arena."""
        return self.pool.pos[record] + self.pool.payload_pos[record] + seq_diff(seq, self.pool.seq[record])

    def _secondary_at_frontier(self, row: cython.int) -> cython.int:
        """The secondary's extent that holds the byte at `compared_seq`, or -1; extents below it are discarded."""
        record: cython.int = self.held.secondary.head[row]
        while record != _NONE and seq_diff(self._end(record), self._compared_seq[row]) <= 0:
            self.held.drop_secondary(row, _NONE)
            record = self.held.secondary.head[row]
        if record == _NONE or seq_diff(self.pool.seq[record], self._compared_seq[row]) > 0:
            return _NONE
        return record

    def _primary_at_frontier(self, row: cython.int) -> cython.int:
        """The first held primary packet with the byte at `compared_seq`, or -1.

        `_cursor` remembers behind how many packets there is nothing left to compare.
        """
        record: cython.int = self._cursor[row]
        is_behind: cython.bint = True
        if record == _NONE:
            record = self.held.primary.head[row]
        while record != _NONE:
            has_payload: cython.bint = self.pool.payload_len[record] and not self.pool.flags[record] & TcpFlag.RST
            if has_payload and seq_diff(self._end(record), self._compared_seq[row]) > 0:
                if is_behind:
                    self._cursor[row] = record
                    is_behind = False
                if seq_diff(self.pool.seq[record], self._compared_seq[row]) <= 0:
                    return record
            record = self.pool.next[record]
        return _NONE

    def _differ(
        self,
        row: cython.int,
        kind: cython.int,
        mine: cython.int,
        theirs: cython.int,
        now_us: cython.longlong,
    ) -> cython.int:
        """Report a difference at `compared_seq` and do to the connection what the policy says."""
        seq: cython.longlong = self._compared_seq[row]
        index: cython.int = self.held.report(kind, row, seq, now_us - self.pool.arrived_us[mine])
        self._add_context(index, 0, mine, seq)
        if theirs != _NONE:
            self._add_context(index, 1, theirs, seq)
        return self.apply_policy(row, now_us)

    def _add_context(self, index: cython.int, side: cython.int, record: cython.int, seq: cython.longlong) -> cython.int:
        return self.held.add_context(index, side, record, self._byte_pos(record, seq))

    def apply_policy(self, row: cython.int, now_us: cython.longlong) -> cython.int:
        """Mark the connection as different."""
        policy: cython.int = self.held.policy
        if policy == DivergencePolicy.REPORT or policy == DivergencePolicy.RESET:
            if policy == DivergencePolicy.RESET:
                self._reset_client(row, now_us)
                self.held.drop_all_primary(row)
            self.release_all(row, now_us)
            self.held.drop_all_secondary(row)
            self._drop_template(row)
            self.held.flags[row] |= RowFlag.LET_THROUGH
            return 0
        self.held.flags[row] |= RowFlag.DIVERGED
        return 0

    def _reset_client(self, row: cython.int, now_us: cython.longlong) -> cython.int:
        """RFC 9293 section 3.5.2: a RST that the client accepts, since its number is what it expects next.

        That is where the first held packet begins, though more may be compared already (RFC 5961 section 3.2).
        """
        first: cython.int = self.held.primary.head[row]
        if first == _NONE:
            return 0
        expected: cython.longlong = seq_min(self._compared_seq[row], self.pool.seq[first])
        record: cython.int = self.shaper.bare_from(first, TcpFlag.RST | TcpFlag.ACK, expected)
        if record == _NONE:
            return 0
        self.held.stats.resets_made += 1
        return self.held.release(record, now_us)

    def _drop_template(self, row: cython.int) -> cython.int:
        self.held.flags[row] &= ~RowFlag.OWED
        if self._template[row] != _NONE:
            self.pool.free(self._template[row])
            self._template[row] = _NONE
        return 0


def syn_options(packet: Packet) -> cython.longlong:
    """C2: what both SYNs must agree in, packed into one number."""
    packed: cython.longlong = packet.mss
    return (
        packed
        | ((packet.window_scale + 1) << 16)
        | ((1 if packet.sack_permitted else 0) << 24)
        | ((1 if packet.timestamp_pos else 0) << 25)
    )
