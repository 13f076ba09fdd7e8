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
    from cython.cimports.pycolo.compare.history import History
    from cython.cimports.pycolo.compare.kinds import DifferenceKind, DivergencePolicy, RowFlag
    from cython.cimports.pycolo.compare.promises import Promises
    from cython.cimports.pycolo.compare.shaper import Shaper
    from cython.cimports.pycolo.wire.kinds import TcpFlag
    from cython.cimports.pycolo.wire.octets import first_difference, load32
    from cython.cimports.pycolo.wire.packet import Packet
    from cython.cimports.pycolo.wire.patch import shift_timestamps
    from cython.cimports.pycolo.wire.seq import seq_add, seq_diff, seq_max, seq_min
else:
    from pycolo.compare.history import History
    from pycolo.compare.kinds import DifferenceKind, DivergencePolicy, RowFlag
    from pycolo.compare.promises import Promises
    from pycolo.compare.shaper import Shaper
    from pycolo.wire.kinds import TcpFlag
    from pycolo.wire.octets import first_difference, load32
    from pycolo.wire.packet import Packet
    from pycolo.wire.patch import shift_timestamps
    from pycolo.wire.seq import seq_add, seq_diff, seq_max, seq_min

_NONE = cython.declare(cython.int, -1)
# A bit of `pool.flags`: the secondary's payload came on its SYN, and has its own numbers.
_EARLY = cython.declare(cython.int, 0x1000)
# What a primary's SYN leaves of the row's state: the queue's own mark, and what the secondary has said before it.
_KEPT_BY_SYN = cython.declare(cython.int, int(_Row.ACTIVE | _Row.ALONE | _Row.SECONDARY_SYN))


class ByteStreams:
    """`needs_handshake` leaves connections alone whose SYN was not seen. `sees_client`: so it was, at least once.

    By row: `compared_seq` and `primary_end` (behind the last byte or FIN the primary sent) are numbers of TCP. `cursor`
    is the first held packet with payload that is not compared yet; `newest_value` the latest TSval among what overtook;
    `advanced_us` is when `compared_seq` moved last. `resets` counts the secondary's RSTs that have found no partner,
    `next_resets` those of a life that the primary has not begun; `reset_ack` is the latest one's ack, `matched_acks`
    those of the last two that found their partner. `syn_us`, `reset_us`, `fin_us`: when the secondary sent what the
    primary has not. `history`: the secondary's payload below the frontier, which may be sent again.
    """

    def __init__(self, held, commits_input, needs_handshake):
        self.held = held
        self.pool = held.pool
        self.shaper = Shaper(held.pool)
        self.promises = Promises(held, self.shaper, commits_input)
        self.history = History(held.pool, held.table.rows)
        self.needs_handshake = needs_handshake
        self.sees_client = False
        rows = held.table.rows
        self._compared_seq = filled(rows, "I", 0)
        self._primary_isn = filled(rows, "I", 0)
        self._primary_end = filled(rows, "I", 0)
        self._secondary_isn = filled(rows, "I", 0)
        self._secondary_options = filled(rows, "q", 0)
        self._secondary_fin = filled(rows, "I", 0)
        self._resets = filled(rows, "i", 0)
        self._next_resets = filled(rows, "i", 0)
        self._reset_ack = filled(rows, "I", 0)
        self._matched_acks = filled(rows, "Q", 0)
        self._syn_us = filled(rows, "q", 0)
        self._reset_us = filled(rows, "q", 0)
        self._fin_us = filled(rows, "q", 0)
        self._client_ack = filled(rows, "I", 0)
        self._client_end = filled(rows, "I", 0)
        self._client_moved_us = filled(rows, "q", 0)
        self._cursor = filled(rows, "i", -1)
        self._advanced_us = filled(rows, "q", 0)
        self._newest_value = filled(rows, "I", 0)
        self._mine = self._theirs = _NONE

    def grow(self, rows):
        """Make room for `rows` connections."""
        self.promises.grow(rows)
        self.history.grow(rows)
        self._compared_seq = grown(self._compared_seq, rows, "I", 0)
        self._primary_isn = grown(self._primary_isn, rows, "I", 0)
        self._primary_end = grown(self._primary_end, rows, "I", 0)
        self._secondary_isn = grown(self._secondary_isn, rows, "I", 0)
        self._secondary_options = grown(self._secondary_options, rows, "q", 0)
        self._secondary_fin = grown(self._secondary_fin, rows, "I", 0)
        self._resets = grown(self._resets, rows, "i", 0)
        self._next_resets = grown(self._next_resets, rows, "i", 0)
        self._reset_ack = grown(self._reset_ack, rows, "I", 0)
        self._matched_acks = grown(self._matched_acks, rows, "Q", 0)
        self._syn_us = grown(self._syn_us, rows, "q", 0)
        self._reset_us = grown(self._reset_us, rows, "q", 0)
        self._fin_us = grown(self._fin_us, rows, "q", 0)
        self._client_ack = grown(self._client_ack, rows, "I", 0)
        self._client_end = grown(self._client_end, rows, "I", 0)
        self._client_moved_us = grown(self._client_moved_us, rows, "q", 0)
        self._cursor = grown(self._cursor, rows, "i", -1)
        self._advanced_us = grown(self._advanced_us, rows, "q", 0)
        self._newest_value = grown(self._newest_value, rows, "I", 0)

    def open_row(self, row: cython.int, has_syn: cython.bint) -> cython.int:
        """A new row of the table is a TCP connection."""
        self.held.flags[row] = 0
        self._resets[row] = self._next_resets[row] = self._matched_acks[row] = 0
        self._cursor[row] = _NONE
        self._advanced_us[row] = 0
        self._client_moved_us[row] = 0
        self.promises.open_row(row)
        if self.needs_handshake and not has_syn:
            self.held.flags[row] = RowFlag.LET_THROUGH
        return 0

    # ── what the packets say ──────────────────────────────────────────────────────────────────────────────────

    def _primary_syn(self, row: cython.int, packet: Packet, now_us: cython.longlong) -> cython.int:
        """A SYN of the primary; with a number that is not known yet it begins a new life of the connection (C9)."""
        state: cython.int = self.held.flags[row]
        if state & RowFlag.PRIMARY_SYN and self._primary_isn[row] == packet.seq:
            return 0  # the same SYN again
        # What the old life still holds was not compared, and never leaves.
        self.held.stats.superseded += self.held.primary.count[row]
        self.held.drop_all_primary(row)
        self._cursor[row] = _NONE
        self.history.forget(row)
        if state & RowFlag.SECONDARY_SYN:
            self._begin_with_secondary(row, packet.seq, state & RowFlag.BASE_KNOWN == 0)
        else:
            self.held.drop_all_secondary(row)
        if state & RowFlag.SECONDARY_SYN:
            self._resets[row] = self._next_resets[row]
        # A RST that answers the same SYN of the client is this life's; all others were the old one's.
        elif not packet.flags & TcpFlag.ACK or self._reset_ack[row] != packet.ack:
            self._resets[row] = 0
        self._next_resets[row] = 0
        self.promises.open_row(row)
        self.held.flags[row] &= _KEPT_BY_SYN
        self.held.flags[row] |= RowFlag.PRIMARY_SYN | RowFlag.BASE_KNOWN
        self._primary_isn[row] = packet.seq
        self._compared_seq[row] = self._primary_end[row] = seq_add(packet.seq, 1)
        self.promises.scale[row] = packet.window_scale if packet.window_scale >= 0 else 0
        return self.held.table.reopen(row, now_us)

    def _begin_with_secondary(
        self, row: cython.int, primary_isn: cython.longlong, is_first_life: cython.bint
    ) -> cython.int:
        """The secondary has begun this life already: what it sent in an older one goes.

        Payload on its SYN (RFC 7413) has its own numbers until the primary's are known.
        """
        before: cython.int = _NONE
        record: cython.int = self.held.secondary.head[row]
        while record != _NONE:
            following: cython.int = self.pool.next[record]
            if self.pool.flags[record] & _EARLY:
                behind: cython.longlong = seq_diff(self.pool.seq[record], self._secondary_isn[row])
                self.pool.seq[record] = seq_add(primary_isn, behind)
            if is_first_life or self.pool.flags[record] & _EARLY:
                self.pool.flags[record] &= ~_EARLY
                before = record
            else:
                self.held.drop_secondary(row, before)
            record = following
        return 0

    def _secondary_syn(self, row: cython.int, packet: Packet, now_us: cython.longlong) -> cython.bint:
        """A SYN of the secondary; whether it begins a life of the connection that the primary has not begun."""
        state: cython.int = self.held.flags[row]
        known: cython.int = RowFlag.SYN_MATCHED | RowFlag.SECONDARY_SYN
        if state & known and self._secondary_isn[row] == packet.seq:
            return False
        if state & RowFlag.SYN_MATCHED and self._primary_isn[row] == packet.seq:
            return False  # sent again when its number was translated already
        # What it has said before is of the old life, which the primary may not have ended yet.
        self._next_resets[row] = 0
        self.promises.note_early(row, packet)
        self.held.flags[row] |= RowFlag.SECONDARY_SYN
        self._secondary_isn[row] = packet.seq
        self._secondary_options[row] = syn_options(packet)
        self._syn_us[row] = now_us
        return True

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
        # Packets with payload stand in the order of their numbers; a bare ACK in between is overtaken.
        while other != _NONE:
            if seq_diff(self.pool.seq[other], self.pool.seq[record]) <= 0:
                before = other
            elif not self.promises.is_bare(other):
                break
            other = self.pool.next[other]
        if before != self.held.primary.tail[row]:
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
        """The secondary's extent that holds the byte at `compared_seq`, or -1; extents below it become history."""
        record: cython.int = self.held.secondary.head[row]
        while record != _NONE and seq_diff(self._end(record), self._compared_seq[row]) <= 0:
            self.history.keep(row, self.held.retire_secondary(row))
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
        self, row: cython.int, kind: cython.int, mine: cython.int, theirs: cython.int, now_us: cython.longlong
    ) -> cython.int:
        """Report a difference at `compared_seq` and do to the connection what the policy says."""
        return self._differ_at(row, kind, mine, theirs, self._compared_seq[row], now_us)

    def _differ_at(
        self,
        row: cython.int,
        kind: cython.int,
        mine: cython.int,
        theirs: cython.int,
        seq: cython.longlong,
        now_us: cython.longlong,
    ) -> cython.int:
        """The same at `seq`, which may lie below the frontier."""
        index: cython.int = self.held.report(kind, row, seq, now_us - self.pool.arrived_us[mine])
        self._add_context(index, 0, mine, seq)
        if theirs != _NONE:
            self._add_context(index, 1, theirs, seq)
        return self.apply_policy(row, now_us)

    def _differs_again(self, row: cython.int, record: cython.int) -> cython.Py_ssize_t:
        """How far into a primary's packet a byte is that both had agreed on, and that differs now; -1 where none is.

        `_theirs` is then what the secondary sent (rule C9).
        """
        at: cython.Py_ssize_t = self.history.differs(row, record, self._compared_seq[row])
        if at >= 0:
            self._theirs = self.history.theirs
            return at
        other: cython.int = self.held.secondary.head[row]
        while other != _NONE and seq_diff(self.pool.seq[other], self._compared_seq[row]) < 0:
            first: cython.longlong = seq_max(self.pool.seq[other], self.pool.seq[record])
            last: cython.longlong = seq_min(seq_min(self._end(other), self._end(record)), self._compared_seq[row])
            if seq_diff(last, first) > 0:
                same: cython.longlong = first_difference(
                    self.pool.arena.memory,
                    self._byte_pos(record, first),
                    self.pool.arena.memory,
                    self._byte_pos(other, first),
                    seq_diff(last, first),
                )
                if same < seq_diff(last, first):
                    self._theirs = other
                    return seq_diff(first, self.pool.seq[record]) + same
            other = self.pool.next[other]
        return -1

    def _add_context(self, index: cython.int, side: cython.int, record: cython.int, seq: cython.longlong) -> cython.int:
        return self.held.add_context(index, side, record, self._byte_pos(record, seq))

    def apply_policy(self, row: cython.int, now_us: cython.longlong) -> cython.int:
        """Mark the connection as different."""
        policy: cython.int = self.held.policy
        if policy == DivergencePolicy.REPORT or policy == DivergencePolicy.RESET:
            self.history.forget(row)
            if policy == DivergencePolicy.RESET:
                self._reset_client(row, now_us)
                self.held.drop_all_primary(row)
            self.release_all(row, now_us)
            self.held.drop_all_secondary(row)
            # A client whose window is shut waits for the word that it is open again.
            self.promises.settle(row, now_us)
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


def syn_options(packet: Packet) -> cython.longlong:
    """C2: what both SYNs must agree in, packed into one number."""
    packed: cython.longlong = packet.mss
    return (
        packed
        | ((packet.window_scale + 1) << 16)
        | ((1 if packet.sack_permitted else 0) << 24)
        | ((1 if packet.timestamp_pos else 0) << 25)
    )
