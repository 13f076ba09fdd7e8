"""TCP, the rules of release (their numbers are the design's).

C1  a packet with payload leaves when all its bytes lie below `compared_seq`;
C2  SYN, FIN and RST leave when the secondary sent the same, the SYNs with the same options;
C3  the client is never told to forget, or to send, what the secondary could not carry on with: see `promises`;
C8  what one guest alone does, and a client could notice, is a difference after compare_timeout: see `onesided`;
C9  what is superseded never leaves; payload that is sent again is compared again: see `history`;
C11 options that cannot survive a change of replica are taken off both SYNs.

Packets of a connection leave in order of arrival: the first that must wait holds the others. But payload that is sent
again goes before what begins behind it: the secondary may be waiting for the client's ACK of just that payload, and
so would never send what the others wait for. And a bare ACK that waits holds no payload: it becomes a debt.

A frame whose first part is compared but whose rest stays away is split after SPLIT_WAIT_MS: the secondary may be
waiting for the client's ACK of just that part (Nagle, congestion window), and then nothing else would ever end it.
"""

import cython

from pycolo import limits

if cython.compiled:
    from cython.cimports.pycolo.compare.kinds import DifferenceKind, DivergencePolicy, RowFlag, Verdict
    from cython.cimports.pycolo.compare.onesided import OneSide
    from cython.cimports.pycolo.compare.stream import syn_options
    from cython.cimports.pycolo.wire.kinds import TcpFlag
    from cython.cimports.pycolo.wire.packet import Packet
    from cython.cimports.pycolo.wire.patch import has_authentication, strip_options
    from cython.cimports.pycolo.wire.seq import seq_add, seq_diff
else:
    from pycolo.compare.kinds import DifferenceKind, DivergencePolicy, RowFlag, Verdict
    from pycolo.compare.onesided import OneSide
    from pycolo.compare.stream import syn_options
    from pycolo.wire.kinds import TcpFlag
    from pycolo.wire.packet import Packet
    from pycolo.wire.patch import has_authentication, strip_options
    from pycolo.wire.seq import seq_add, seq_diff

_NONE = cython.declare(cython.int, -1)
_SPLIT_WAIT_US = cython.declare(cython.longlong, limits.SPLIT_WAIT_MS * 1000)
_NEVER = cython.declare(cython.longlong, 1 << 62)
# A bit of `pool.flags` above TCP's eight: see `held`.
_EARLY = cython.declare(cython.int, 0x1000)
_HAS_SACK = cython.declare(cython.int, 0x400)
_MASK = cython.declare(cython.longlong, 0xFFFFFFFF)


class TcpComparison(OneSide):
    """`split_due_us`: when the earliest frame that waits to be split may be."""

    def __init__(self, held, commits_input, needs_handshake):
        super().__init__(held, commits_input, needs_handshake)
        self.split_due_us = _NEVER

    def close_row(self, row: cython.int) -> cython.int:
        """The row is about to be given up; it holds no packets."""
        self.promises.forget(row)
        return self.history.forget(row)

    # ── facts ─────────────────────────────────────────────────────────────────────────────────────────────────

    def primary(self, row: cython.int, record: cython.int, packet: Packet, now_us: cython.longlong) -> cython.int:
        """A primary packet, stored as `record`; `packet` is its parsed form. Afterwards all that may leave is ready."""
        flags: cython.int = packet.flags
        if flags & TcpFlag.SYN:
            self._primary_syn(row, packet, now_us)
            self._check_options(row, record)
        self.pool.flags[record] = flags | (_HAS_SACK if packet.sack_len else 0)
        self.pool.seq[record] = seq_add(packet.seq, 1) if flags & TcpFlag.SYN else packet.seq
        self.pool.ack[record] = packet.ack
        self.pool.window[record] = packet.window
        self.pool.payload_pos[record] = packet.payload_pos - packet.start
        self.pool.payload_len[record] = packet.payload_len
        has_bytes: cython.bint = packet.payload_len or flags & TcpFlag.FIN
        if flags & TcpFlag.RST:
            if self.answers_a_lie(row, packet):
                return self.held.drop(record)
            has_bytes = False
            self.held.flags[row] |= RowFlag.PRIMARY_RST
        elif flags & TcpFlag.ACK:
            self.promises.note_primary(row, packet)
        if has_bytes and flags & TcpFlag.FIN:
            self.held.flags[row] |= RowFlag.PRIMARY_FIN
        if self.held.flags[row] & RowFlag.LET_THROUGH:
            return self._let_through(row, record, has_bytes, now_us)
        before: cython.int = self.held.primary.tail[row]
        if has_bytes and self._note_primary_payload(row, record, packet):
            before = self._place_again(row, record)
            if self._contradicts(row, record, before, now_us):
                return 0
        self.held.hold_primary(row, before, record)
        self._compare(row, now_us)
        if self.held.flags[row] & RowFlag.REPEATED:
            return self._release_repeated_ack(row, now_us)
        return 0

    def _let_through(
        self, row: cython.int, record: cython.int, has_bytes: cython.bint, now_us: cython.longlong
    ) -> cython.int:
        """Nothing is compared. How far the primary has come is noted, for a checkpoint that makes both equal."""
        if has_bytes or not self.held.flags[row] & RowFlag.BASE_KNOWN:
            self._note_end(row, self._end_with_fin(record))
        if self.pool.flags[record] & TcpFlag.RST:
            self.held.table.close(row, now_us)
        self.held.stats.let_through += 1
        return self.held.release(record, now_us)

    def _contradicts(
        self, row: cython.int, record: cython.int, before: cython.int, now_us: cython.longlong
    ) -> cython.bint:
        """Whether payload that is sent again is not what both had agreed on (C9); then the policy has been applied."""
        if self.held.flags[row] & RowFlag.DIVERGED:
            return False
        if seq_diff(self.pool.seq[record], self._compared_seq[row]) >= 0:
            return False
        at: cython.Py_ssize_t = self._differs_again(row, record)
        if at < 0:
            return False
        theirs: cython.int = self._theirs
        self.held.hold_primary(row, before, record)
        self._differ_at(row, DifferenceKind.PAYLOAD, record, theirs, seq_add(self.pool.seq[record], at), now_us)
        return True

    def _check_options(self, row: cython.int, record: cython.int) -> cython.int:
        """C11, on a SYN of either guest."""
        if self.pool.chain[record] != _NONE:
            return 0
        self.shaper.parse(record)
        strip_options(self.pool.arena.memory, self.shaper.packet)
        if not has_authentication(self.pool.arena.memory, self.shaper.packet):
            return 0
        if not self.held.flags[row] & RowFlag.LET_THROUGH:
            self.held.report(DifferenceKind.UNPROTECTED, row, self.shaper.packet.seq, 0)
            self._leave_alone(row)
        return 0

    def _leave_alone(self, row: cython.int) -> cython.int:
        self._watch_alone(row, False)
        self.held.drop_all_secondary(row)
        self.history.forget(row)
        self.held.flags[row] |= RowFlag.LET_THROUGH
        return 0

    def secondary(
        self,
        row: cython.int,
        record: cython.int,
        packet: Packet,
        now_us: cython.longlong,
    ) -> cython.int:
        """A secondary packet, stored as `record` (freed or queued here)."""
        flags: cython.int = packet.flags
        is_repeat: cython.bint = False
        is_early: cython.bint = False
        if flags & TcpFlag.SYN:
            is_early = self._secondary_syn(row, packet, now_us)
        if self.held.flags[row] & RowFlag.LET_THROUGH:
            # A SYN is of a new connection with the same key, perhaps: the primary's will tell.
            return self.held.discard(record)
        self.pool.seq[record] = packet.seq
        if flags & TcpFlag.RST:
            self._secondary_reset(row, packet, now_us)
        elif flags & TcpFlag.ACK and not flags & TcpFlag.SYN:
            is_repeat = self.promises.note_secondary(row, record, packet)
        if flags & TcpFlag.SYN:
            return self._secondary_early(row, record, packet, is_early, now_us)
        if flags & TcpFlag.FIN:
            if not self.held.flags[row] & RowFlag.SECONDARY_FIN:
                self._fin_us[row] = now_us
            self._secondary_fin[row] = seq_add(packet.seq, packet.payload_len)
            self.held.flags[row] |= RowFlag.SECONDARY_FIN
        if packet.payload_len and not flags & TcpFlag.RST:
            self.pool.payload_pos[record] = packet.payload_pos - packet.start
            self.pool.payload_len[record] = packet.payload_len
            self._queue_secondary(row, record)
        else:
            self.held.discard(record)
        self._compare(row, now_us)
        if self.held.flags[row] & (RowFlag.DIVERGED | RowFlag.LET_THROUGH):
            return 0  # what follows a difference proves nothing
        if is_repeat and not flags & TcpFlag.FIN and packet.payload_len == 0:
            self._release_repeated_ack(row, now_us)
        return self.promises.pay(row, now_us)

    def _secondary_early(
        self, row: cython.int, record: cython.int, packet: Packet, is_early: cython.bint, now_us: cython.longlong
    ) -> cython.int:
        """A SYN of the secondary. Its payload (RFC 7413) belongs behind the primary's SYN, once that is known."""
        state: cython.int = self.held.flags[row]
        is_next: cython.bint = is_early and (state & RowFlag.SYN_MATCHED or not state & RowFlag.PRIMARY_SYN)
        if not packet.payload_len or (is_next and self.held.secondary.count[row]):
            self.held.discard(record)
            return self._compare(row, now_us)
        if is_next:
            self.pool.flags[record] |= _EARLY
        self.pool.seq[record] = seq_add(packet.seq if is_next else self._primary_isn[row], 1)
        self.pool.payload_pos[record] = packet.payload_pos - packet.start
        self.pool.payload_len[record] = packet.payload_len
        self._queue_secondary(row, record)
        return self._compare(row, now_us)

    def _compare(self, row: cython.int, now_us: cython.longlong) -> cython.int:
        """Compare what both sides have; what was found equal leaves before a difference is acted upon."""
        frontier: cython.longlong = self._compared_seq[row]
        kind: cython.int = self._advance(row)
        if self._compared_seq[row] != frontier:
            self._advanced_us[row] = now_us
        self.release_ready(row, now_us)
        if kind and not self.held.flags[row] & (RowFlag.DIVERGED | RowFlag.LET_THROUGH):
            self._differ(row, kind, self._mine, self._theirs, now_us)
        if self.held.flags[row] & RowFlag.FIN_MATCHED:
            self._close_if_done(row, now_us)
        return self._watch_alone(row, self._is_alone(row))

    # ── epochs and time ───────────────────────────────────────────────────────────────────────────────────────

    def flush(self, row: cython.int, now_us: cython.longlong) -> cython.int:
        """Let everything out that is held; what the secondary has done counts no more, but what was equal."""
        self._watch_alone(row, False)
        self._keep_equal_part(row)
        self.held.drop_all_secondary(row)
        return self.release_all(row, now_us)

    def _keep_equal_part(self, row: cython.int) -> cython.int:
        """Before the secondary's extents go: the part of the first that lies below the frontier becomes history."""
        record: cython.int = self.held.secondary.head[row]
        if record == _NONE or not self.held.flags[row] & RowFlag.BASE_KNOWN:
            return 0
        equal: cython.longlong = seq_diff(self._compared_seq[row], self.pool.seq[record])
        if 0 < equal < self.pool.payload_len[record]:
            self.pool.payload_len[record] = equal
            self.history.keep(row, self.held.retire_secondary(row))
        return 0

    def committed(self, row: cython.int, now_us: cython.longlong) -> cython.int:
        """The secondary has become a copy of the primary: both have sent and acknowledged the same."""
        self._resets[row] = self._next_resets[row] = 0
        self.promises.settle(row, now_us)
        self.held.flags[row] &= ~(
            RowFlag.LET_THROUGH
            | RowFlag.DIVERGED
            | RowFlag.SECONDARY_FIN
            | RowFlag.OVERLAP
            | RowFlag.SECONDARY_SYN
            | RowFlag.SECONDARY_ACK
            | RowFlag.REPEATED
        )
        self._cursor[row] = _NONE
        self._compared_seq[row] = self._primary_end[row]
        if self.held.flags[row] & RowFlag.PRIMARY_SYN:
            self.held.flags[row] |= RowFlag.SYN_MATCHED
            self._secondary_isn[row] = self._primary_isn[row]
        if self.held.flags[row] & RowFlag.PRIMARY_RST:
            self.held.flags[row] |= RowFlag.RST_MATCHED
        if self.held.flags[row] & RowFlag.PRIMARY_FIN:
            self.held.flags[row] |= RowFlag.FIN_MATCHED
        return self.promises.equalise(row)

    def mark_older(self, row: cython.int, now_us: cython.longlong) -> cython.int:
        """The connection began before the secondary was there; it holds no packets."""
        self.promises.settle(row, now_us)
        self.history.forget(row)
        self.held.flags[row] &= RowFlag.ACTIVE | RowFlag.BASE_KNOWN | RowFlag.PRIMARY_ACK | RowFlag.PRIMARY_SYN
        if self.needs_handshake:
            self.held.flags[row] = (self.held.flags[row] | RowFlag.LET_THROUGH) & ~RowFlag.PRIMARY_SYN
        self.held.flags[row] |= RowFlag.CONFIRMED  # a copy of the primary turns down what that turns down
        self._resets[row] = self._next_resets[row] = 0
        self._cursor[row] = _NONE
        self._compared_seq[row] = self._primary_end[row]
        return 0

    def timed_out(self, row: cython.int, kind: cython.int, record: cython.int, now_us: cython.longlong) -> cython.int:
        """`record` has waited for longer than compare_timeout; -1: the secondary alone has sent a SYN, FIN or RST."""
        seq: cython.longlong = self._compared_seq[row]
        since_us: cython.longlong = self.alone_since_us(row)
        if record != _NONE:
            seq = self.pool.seq[record]
            since_us = self.pool.arrived_us[record]
        side: cython.int = 1 if kind == DifferenceKind.SECONDARY_TIMEOUT else 0
        index: cython.int = self.held.report(kind, row, seq, now_us - since_us)
        if record != _NONE:
            self._add_context(index, side, record, seq)
        if self.held.policy == DivergencePolicy.CHECKPOINT:
            return 0  # the streams may still turn out equal before the checkpoint comes: only ask for it
        self.apply_policy(row, now_us)
        return self._watch_alone(row, self._is_alone(row))

    # ── releasing ─────────────────────────────────────────────────────────────────────────────────────────────

    def release_ready(self, row: cython.int, now_us: cython.longlong) -> cython.int:
        """Let out, in order of arrival, every packet that may leave."""
        record: cython.int
        verdict: cython.int
        while True:
            record = self.held.primary.head[row]
            if record == _NONE:
                return 0
            verdict = self._judge(row, record, now_us)
            if verdict == Verdict.DIFFERENT:
                return 0
            if verdict == Verdict.WAIT:
                if not self._pass_bare(row, record, now_us):
                    return self._note_split(row, record)
            else:
                self._let_out(row, record, verdict == Verdict.CLAMP, now_us)

    def _pass_bare(self, row: cython.int, record: cython.int, now_us: cython.longlong) -> cython.bint:
        """Whether a bare ACK that waits became a debt, since something behind it may leave, or a part of it soon."""
        state: cython.int = self.held.flags[row]
        if not self.promises.is_bare(record) or state & RowFlag.DIVERGED:
            return False
        other: cython.int = self.pool.next[record]
        while other != _NONE and self.promises.is_bare(other):
            other = self.pool.next[other]
        if other == _NONE:
            return False
        is_reset: cython.bint = self.pool.flags[other] & TcpFlag.RST != 0
        if not is_reset and not state & RowFlag.SECONDARY_ACK:
            return False
        if not self._covered(row, other):
            verdict: cython.int = self._judge(row, other, now_us)
            if verdict != Verdict.RELEASE and verdict != Verdict.CLAMP:
                return False
        if not is_reset:
            self.promises.owe(row, record)
        self._drop_first(row)
        return True

    def _drop_first(self, row: cython.int) -> cython.int:
        """Free the first held packet, a bare ACK whose word is owed now."""
        record: cython.int = self.held.take_primary(row, _NONE)
        if self._cursor[row] == record:
            self._cursor[row] = _NONE
        self.held.stats.acks_owed += 1
        return self.pool.free(record)

    def _let_out(
        self, row: cython.int, record: cython.int, is_clamped: cython.bint, now_us: cython.longlong
    ) -> cython.int:
        flags: cython.int = self.pool.flags[record]
        if self._cursor[row] == record:
            self._cursor[row] = self.pool.next[record]
        if self.held.flags[row] & RowFlag.OVERTAKEN:
            self._lift(row, record)
        self.held.take_primary(row, _NONE)
        if self.held.primary.head[row] == _NONE:
            self._cursor[row] = _NONE
            self.held.flags[row] &= ~(RowFlag.OVERLAP | RowFlag.OVERTAKEN)
        self.promises.leaves(row, record, is_clamped, self._end_with_fin(record))
        if flags & TcpFlag.RST:
            self.held.table.close(row, now_us)
        self.held.stats.compared += 1
        return self.held.release(record, now_us)

    def _end_with_fin(self, record: cython.int) -> cython.Py_ssize_t:
        return seq_add(self._end(record), 1 if self.pool.flags[record] & TcpFlag.FIN else 0)

    def _judge(self, row: cython.int, record: cython.int, now_us: cython.longlong) -> cython.int:
        """C1-C3 for a held packet in front of which nothing waits."""
        state: cython.int = self.held.flags[row]
        flags: cython.int = self.pool.flags[record]
        if state & RowFlag.DIVERGED:
            return Verdict.WAIT
        if flags & TcpFlag.RST:
            return self._judge_reset(row, record, now_us)
        verdict: cython.int
        if flags & TcpFlag.SYN and not state & RowFlag.SYN_MATCHED:
            verdict = self._judge_syn(row, record, now_us)
            if verdict != Verdict.RELEASE:
                return verdict
        if self.pool.payload_len[record] and (
            not state & RowFlag.BASE_KNOWN or seq_diff(self._end(record), self._compared_seq[row]) > 0
        ):
            return self._wait_for_payload(row, record, now_us)
        if flags & TcpFlag.FIN:
            verdict = self._judge_fin(row, record, now_us)
            if verdict != Verdict.RELEASE:
                return verdict
        return self.promises.judge(row, record)

    def _wait_for_payload(self, row: cython.int, record: cython.int, now_us: cython.longlong) -> cython.int:
        """A secondary that has reset the connection sends nothing any more: that is certain at once (C8)."""
        if self._resets[row] and self.held.flags[row] & RowFlag.SYN_MATCHED and not self.held.secondary.count[row]:
            self._differ(row, DifferenceKind.RST, record, _NONE, now_us)
            return Verdict.DIFFERENT
        return Verdict.WAIT

    def _judge_reset(self, row: cython.int, record: cython.int, now_us: cython.longlong) -> cython.int:
        """After one RST of both further ones of that life pass; a closed port's answer one SYN of the client each."""
        state: cython.int = self.held.flags[row]
        ack: cython.longlong = self.pool.ack[record] if self.pool.flags[record] & TcpFlag.ACK else 0
        answers_syn: cython.bint = ack != 0 and not state & RowFlag.BASE_KNOWN
        if state & RowFlag.RST_MATCHED and (not answers_syn or self._is_refused(row, ack)):
            return Verdict.RELEASE
        if self._resets[row]:
            self._resets[row] -= 1
            if state & RowFlag.BASE_KNOWN:
                self._resets[row] = 0
            self._matched_acks[row] = (self._matched_acks[row] & _MASK) << 32 | ack
            self.held.flags[row] |= RowFlag.RST_MATCHED
            return Verdict.RELEASE
        if state & RowFlag.SECONDARY_SYN and ack and self.promises.answers(row, ack):  # both answer the same SYN
            self.held.flags[row] &= ~RowFlag.SECONDARY_SYN
            self._differ(row, DifferenceKind.RST, record, _NONE, now_us)
            return Verdict.DIFFERENT
        return Verdict.WAIT

    def _judge_syn(self, row: cython.int, record: cython.int, now_us: cython.longlong) -> cython.int:
        if not self.held.flags[row] & RowFlag.SECONDARY_SYN:
            if self._resets[row] and self._reset_ack[row] == self.pool.ack[record]:
                self._differ(row, DifferenceKind.RST, record, _NONE, now_us)
                return Verdict.DIFFERENT
            return Verdict.WAIT
        has_ack: cython.bint = self.pool.flags[record] & TcpFlag.ACK != 0
        if has_ack and not self.promises.answers(row, self.pool.ack[record]):
            return Verdict.WAIT  # the secondary's answers another SYN of the client
        self.held.flags[row] &= ~RowFlag.SECONDARY_SYN
        self.shaper.parse(record)
        if syn_options(self.shaper.packet) != self._secondary_options[row]:
            self._differ(row, DifferenceKind.SYN_OPTIONS, record, _NONE, now_us)
            return Verdict.DIFFERENT
        self.held.flags[row] |= RowFlag.SYN_MATCHED
        self.promises.take_early(row, has_ack)
        return Verdict.RELEASE

    def _judge_fin(self, row: cython.int, record: cython.int, now_us: cython.longlong) -> cython.int:
        fin: cython.longlong = self._end(record)
        if not self.held.flags[row] & RowFlag.BASE_KNOWN or seq_diff(fin, self._compared_seq[row]) > 0:
            return Verdict.WAIT
        if seq_diff(self._compared_seq[row], fin) > 0:
            return Verdict.RELEASE  # sent again
        if self.held.flags[row] & RowFlag.SECONDARY_FIN and self._secondary_fin[row] == fin:
            self._compared_seq[row] = seq_add(fin, 1)
            self.held.flags[row] |= RowFlag.FIN_MATCHED
            return Verdict.RELEASE
        if self._secondary_at_frontier(row) != _NONE:
            self._differ(row, DifferenceKind.FIN, record, self.held.secondary.head[row], now_us)
            return Verdict.DIFFERENT
        if self._resets[row]:
            self._differ(row, DifferenceKind.RST, record, _NONE, now_us)
            return Verdict.DIFFERENT
        return Verdict.WAIT

    def _release_repeated_ack(self, row: cython.int, now_us: cython.longlong) -> cython.int:
        """The secondary repeats an ACK: a waiting ACK of the primary says so to the client, or the next that has to."""
        record: cython.int = self.held.primary.head[row]
        if self.held.flags[row] & (RowFlag.DIVERGED | RowFlag.LET_THROUGH):
            return 0
        if record == _NONE or not self.promises.is_bare(record) or self.pool.chain[record] != _NONE:
            if self.promises.misses(row):
                self.held.flags[row] |= RowFlag.REPEATED
            return 0
        self.held.flags[row] &= ~RowFlag.REPEATED
        self.promises.repeat(row, record, now_us)
        self._drop_first(row)
        return self.release_ready(row, now_us)

    # ── splitting ─────────────────────────────────────────────────────────────────────────────────────────────

    def _covered(self, row: cython.int, record: cython.int) -> cython.Py_ssize_t:
        """How many payload bytes of the first held packet are compared, if it waits for just the rest; else 0."""
        if (
            self.pool.flags[record] & (TcpFlag.SYN | TcpFlag.RST)
            or not self.held.flags[row] & RowFlag.BASE_KNOWN
            or self.held.flags[row] & RowFlag.DIVERGED
            or self.pool.chain[record] != _NONE
        ):
            return 0
        covered: cython.longlong = seq_diff(self._compared_seq[row], self.pool.seq[record])
        return covered if 0 < covered < self.pool.payload_len[record] else 0

    def _note_split(self, row: cython.int, record: cython.int) -> cython.int:
        if self._covered(row, record):
            self.split_due_us = min(self.split_due_us, self._waits_since_us(row, record) + _SPLIT_WAIT_US)
        return 0

    def _waits_since_us(self, row: cython.int, record: cython.int) -> cython.Py_ssize_t:
        """Since when the first held packet waits for its rest alone: while bytes come it may be whole soon."""
        return max(self.pool.arrived_us[record], self._advanced_us[row])

    def split_due(self, row: cython.int, now_us: cython.longlong) -> cython.int:
        """Let the compared part of the first held packet out, if the rest has kept it waiting long enough."""
        record: cython.int = self.held.primary.head[row]
        if record == _NONE or not self._covered(row, record):
            return 0
        if now_us - self._waits_since_us(row, record) < _SPLIT_WAIT_US:
            return self._note_split(row, record)
        covered: cython.longlong = self._covered(row, record)
        part: cython.int = self.shaper.part(record, 0, covered)
        rest: cython.int = self.shaper.part(record, covered, self.pool.payload_len[record])
        if part == _NONE or rest == _NONE:
            if part != _NONE:
                self.pool.free(part)
            if rest != _NONE:
                self.pool.free(rest)
            return 0
        self.held.stats.splits += 1
        self._cursor[row] = _NONE
        self.held.replace_first(row, part, rest)
        return self.release_ready(row, now_us)
