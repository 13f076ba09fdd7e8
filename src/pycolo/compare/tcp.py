"""TCP, the rules of release (their numbers are the design's).

C1  a packet with payload leaves when all its bytes lie below `compared_seq`;
C2  SYN, FIN and RST leave when the secondary sent the same, the SYNs with the same options;
C3  no packet leaves with an ack beyond the secondary's, nor a right window edge beyond the secondary's: the client is
    never told to forget, or to send, what the secondary could not carry on with. A bare ACK whose number
    runs ahead waits; anything else leaves clamped, and an ACK of our own making follows when the secondary has
    caught up (*owed*).

Packets of a connection leave in order of arrival: the first that must wait holds the others. But payload that is sent
again goes before what begins behind it: the secondary may be waiting for the client's ACK of just that payload, and
so would never send what the others wait for.

A frame whose first part is compared but whose rest stays away is split after SPLIT_WAIT_MS: the secondary may be
waiting for the client's ACK of just that part (Nagle, congestion window), and then nothing else would ever end it.
"""

import cython

from pycolo import limits

if cython.compiled:
    from cython.cimports.pycolo.compare.kinds import DifferenceKind, DivergencePolicy, RowFlag, Verdict
    from cython.cimports.pycolo.compare.stream import ByteStreams, syn_options
    from cython.cimports.pycolo.wire.kinds import TcpFlag
    from cython.cimports.pycolo.wire.octets import copy
    from cython.cimports.pycolo.wire.packet import Packet
    from cython.cimports.pycolo.wire.patch import set_ack, set_window
    from cython.cimports.pycolo.wire.seq import seq_add, seq_diff, seq_min
else:
    from pycolo.compare.kinds import DifferenceKind, DivergencePolicy, RowFlag, Verdict
    from pycolo.compare.stream import ByteStreams, syn_options
    from pycolo.wire.kinds import TcpFlag
    from pycolo.wire.octets import copy
    from pycolo.wire.packet import Packet
    from pycolo.wire.patch import set_ack, set_window
    from pycolo.wire.seq import seq_add, seq_diff, seq_min

_NONE = cython.declare(cython.int, -1)
_SCALE_UNKNOWN = cython.declare(cython.int, 14)
_SPLIT_WAIT_US = cython.declare(cython.longlong, limits.SPLIT_WAIT_MS * 1000)
_NEVER = cython.declare(cython.longlong, 1 << 62)
# Bits of `pool.flags` above TCP's eight: see `held`.
_CLAMPED = cython.declare(cython.int, 0x100)
_MADE = cython.declare(cython.int, 0x200)


class TcpComparison(ByteStreams):
    """`commits_input` is ack_policy=commit (rule C3); without it acks and windows leave as the primary sent them.

    `split_due_us`: when the earliest frame that waits to be split may be. `_template`, by row: the last packet that
    left clamped, as a bare ACK.
    """

    def __init__(self, held, commits_input, needs_handshake):
        super().__init__(held, needs_handshake)
        self.commits_input = commits_input
        self.split_due_us = _NEVER

    def close_row(self, row: cython.int) -> cython.int:
        """The row is about to be given up; it holds no packets."""
        return self._drop_template(row)

    # ── facts ─────────────────────────────────────────────────────────────────────────────────────────────────

    def primary(self, row: cython.int, record: cython.int, packet: Packet, now_us: cython.longlong) -> cython.int:
        """A primary packet, stored as `record`; `packet` is its parsed form. Afterwards all that may leave is ready."""
        flags: cython.int = packet.flags
        if flags & TcpFlag.SYN:
            self._primary_syn(row, packet, now_us)
        self.pool.flags[record] = flags
        self.pool.seq[record] = seq_add(packet.seq, 1) if flags & TcpFlag.SYN else packet.seq
        self.pool.ack[record] = packet.ack
        self.pool.window[record] = packet.window
        self.pool.payload_pos[record] = packet.payload_pos - packet.start
        self.pool.payload_len[record] = packet.payload_len
        if self.held.flags[row] & RowFlag.LET_THROUGH:
            self.held.stats.let_through += 1
            self.held.release(record, now_us)
            if flags & TcpFlag.RST:
                self.held.table.close(row, now_us)
            return 0
        if flags & TcpFlag.ACK and not flags & TcpFlag.RST:
            self._note_primary_ack(row, packet)
        before: cython.int = self.held.primary.tail[row]
        has_bytes: cython.bint = packet.payload_len or flags & TcpFlag.FIN
        if has_bytes and not flags & TcpFlag.RST and self._note_primary_payload(row, record, packet):
            before = self._place_again(row, record)
        self.held.hold_primary(row, before, record)
        return self._compare(row, now_us)

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
        if flags & TcpFlag.SYN:
            self._secondary_syn(row, packet)
        if self.held.flags[row] & RowFlag.LET_THROUGH:
            # A SYN is of a new connection with the same key, perhaps: the primary's will tell.
            if flags & TcpFlag.SYN and flags & TcpFlag.ACK:
                self._note_secondary_ack(row, packet)
            return self.held.discard(record)
        self.pool.seq[record] = packet.seq
        if flags & TcpFlag.RST:
            self._secondary_resets[row] += 1
        elif flags & TcpFlag.ACK:
            is_repeat = self._note_secondary_ack(row, packet)
        # Payload and FIN on a SYN (RFC 7413) still have the secondary's own numbers: they are of use when sent again.
        if flags & TcpFlag.FIN and not flags & TcpFlag.SYN:
            self._secondary_fin[row] = seq_add(packet.seq, packet.payload_len)
            self.held.flags[row] |= RowFlag.SECONDARY_FIN
        if packet.payload_len and not flags & (TcpFlag.RST | TcpFlag.SYN):
            self.pool.payload_pos[record] = packet.payload_pos - packet.start
            self.pool.payload_len[record] = packet.payload_len
            self._queue_secondary(row, record)
        else:
            self.held.discard(record)
        self._compare(row, now_us)
        if is_repeat and not flags & (TcpFlag.SYN | TcpFlag.FIN) and packet.payload_len == 0:
            self._release_repeated_ack(row, now_us)
        return self._pay_owed(row, now_us)

    def _compare(self, row: cython.int, now_us: cython.longlong) -> cython.int:
        """Compare what both sides have; what was found equal leaves before a difference is acted upon."""
        frontier: cython.longlong = self._compared_seq[row]
        kind: cython.int = self._advance(row)
        if self._compared_seq[row] != frontier:
            self._advanced_us[row] = now_us
        self.release_ready(row, now_us)
        if not kind or self.held.flags[row] & (RowFlag.DIVERGED | RowFlag.LET_THROUGH):
            return 0
        return self._differ(row, kind, self._mine, self._theirs, now_us)

    def committed(self, row: cython.int, now_us: cython.longlong) -> cython.int:
        """The secondary has become a copy of the primary: both have sent and acknowledged the same."""
        self._secondary_resets[row] = 0
        if self.held.flags[row] & RowFlag.LET_THROUGH:
            # Nothing was noted of it; from now on it is compared like any connection that began before us.
            self.held.flags[row] &= RowFlag.ACTIVE
            self._scale[row] = _SCALE_UNKNOWN
            return 0
        self._settle(row, now_us)
        self.held.flags[row] &= ~(
            RowFlag.DIVERGED | RowFlag.SECONDARY_FIN | RowFlag.OVERLAP | RowFlag.SECONDARY_SYN | RowFlag.SECONDARY_ACK
        )
        self._cursor[row] = _NONE
        self._compared_seq[row] = self._primary_end[row]
        if self.held.flags[row] & RowFlag.PRIMARY_SYN:
            self.held.flags[row] |= RowFlag.SYN_MATCHED
            self._secondary_isn[row] = self._primary_isn[row]
        if self.held.flags[row] & RowFlag.PRIMARY_ACK:
            self.held.flags[row] |= RowFlag.SECONDARY_ACK
            self._secondary_ack[row] = self._primary_ack[row]
            self._secondary_space[row] = self._primary_space[row]
        return 0

    def mark_older(self, row: cython.int, now_us: cython.longlong) -> cython.int:
        """The connection began before the secondary was there; it holds no packets."""
        self._settle(row, now_us)
        self.held.flags[row] = RowFlag.LET_THROUGH if self.needs_handshake else 0
        self._scale[row] = _SCALE_UNKNOWN
        self._secondary_resets[row] = 0
        self._cursor[row] = _NONE
        return 0

    def timed_out(self, row: cython.int, kind: cython.int, record: cython.int, now_us: cython.longlong) -> cython.int:
        """`record` has waited for longer than compare_timeout."""
        seq: cython.longlong = self.pool.seq[record]
        side: cython.int = 1 if kind == DifferenceKind.SECONDARY_TIMEOUT else 0
        index: cython.int = self.held.report(kind, row, seq, now_us - self.pool.arrived_us[record])
        self._add_context(index, side, record, seq)
        if self.held.policy == DivergencePolicy.CHECKPOINT:
            return 0  # the streams may still turn out equal before the checkpoint comes: only ask for it
        return self.apply_policy(row, now_us)

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
                return self._note_split(row, record)
            self._let_out(row, record, verdict == Verdict.CLAMP, now_us)

    def _let_out(
        self, row: cython.int, record: cython.int, is_clamped: cython.bint, now_us: cython.longlong
    ) -> cython.int:
        if self._cursor[row] == record:
            self._cursor[row] = self.pool.next[record]
        if self.held.flags[row] & RowFlag.OVERTAKEN:
            self._lift(row, record)
        self.held.take_primary(row, _NONE)
        if self.held.primary.head[row] == _NONE:
            self._cursor[row] = _NONE
            self.held.flags[row] &= ~(RowFlag.OVERLAP | RowFlag.OVERTAKEN)
        if is_clamped:
            self._clamp(row, record)
        elif self.held.flags[row] & RowFlag.OWED:
            self._drop_template(row)
        if self.pool.flags[record] & (TcpFlag.RST | TcpFlag.FIN):
            self.held.table.close(row, now_us)
        self.held.stats.compared += 1
        return self.held.release(record, now_us)

    def _judge(self, row: cython.int, record: cython.int, now_us: cython.longlong) -> cython.int:
        """C1-C3 for the first held packet of a connection."""
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
            return Verdict.WAIT
        if flags & TcpFlag.FIN:
            verdict = self._judge_fin(row, record, now_us)
            if verdict != Verdict.RELEASE:
                return verdict
        return self._judge_ack(row, record)

    def _judge_reset(self, row: cython.int, record: cython.int, now_us: cython.longlong) -> cython.int:
        if self._secondary_resets[row]:
            self._secondary_resets[row] -= 1
            return Verdict.RELEASE
        if self.held.flags[row] & RowFlag.SECONDARY_SYN:
            self.held.flags[row] &= ~RowFlag.SECONDARY_SYN
            self._differ(row, DifferenceKind.RST, record, _NONE, now_us)
            return Verdict.DIFFERENT
        return Verdict.WAIT

    def _judge_syn(self, row: cython.int, record: cython.int, now_us: cython.longlong) -> cython.int:
        if not self.held.flags[row] & RowFlag.SECONDARY_SYN:
            if self._secondary_resets[row]:
                self._differ(row, DifferenceKind.RST, record, _NONE, now_us)
                return Verdict.DIFFERENT
            return Verdict.WAIT
        if self.pool.flags[record] & TcpFlag.ACK and (
            not self.held.flags[row] & RowFlag.SECONDARY_ACK or self.pool.ack[record] != self._secondary_ack[row]
        ):
            return Verdict.WAIT  # the secondary's answers another SYN of the client
        self.held.flags[row] &= ~RowFlag.SECONDARY_SYN
        self.shaper.parse(record)
        if syn_options(self.shaper.packet) != self._secondary_options[row]:
            self._differ(row, DifferenceKind.SYN_OPTIONS, record, _NONE, now_us)
            return Verdict.DIFFERENT
        self.held.flags[row] |= RowFlag.SYN_MATCHED
        return Verdict.RELEASE

    def _judge_fin(self, row: cython.int, record: cython.int, now_us: cython.longlong) -> cython.int:
        fin: cython.longlong = self._end(record)
        if not self.held.flags[row] & RowFlag.BASE_KNOWN or seq_diff(fin, self._compared_seq[row]) > 0:
            return Verdict.WAIT
        if seq_diff(self._compared_seq[row], fin) > 0:
            return Verdict.RELEASE  # sent again
        if self.held.flags[row] & RowFlag.SECONDARY_FIN and self._secondary_fin[row] == fin:
            self._compared_seq[row] = seq_add(fin, 1)
            return Verdict.RELEASE
        if self._secondary_at_frontier(row) != _NONE:
            self._differ(row, DifferenceKind.FIN, record, self.held.secondary.head[row], now_us)
            return Verdict.DIFFERENT
        if self._secondary_resets[row]:
            self._differ(row, DifferenceKind.RST, record, _NONE, now_us)
            return Verdict.DIFFERENT
        return Verdict.WAIT

    def _judge_ack(self, row: cython.int, record: cython.int) -> cython.int:
        """C3. A bare ACK that runs ahead waits; anything else leaves clamped (fragments cannot be: they wait)."""
        flags: cython.int = self.pool.flags[record]
        if not self.commits_input or not flags & TcpFlag.ACK:
            return Verdict.RELEASE
        if not self.held.flags[row] & RowFlag.SECONDARY_ACK:
            return Verdict.WAIT
        ahead: cython.longlong = seq_diff(self.pool.ack[record], self._secondary_ack[row])
        room: cython.longlong = self._secondary_space[row] - ahead
        scaled: cython.longlong = self._space(row, self.pool.window[record], flags)
        if ahead <= 0 and scaled <= room:
            return Verdict.RELEASE
        if self.pool.chain[record] != _NONE:
            return Verdict.WAIT
        if ahead > 0 and not self.pool.payload_len[record] and not flags & (TcpFlag.SYN | TcpFlag.FIN):
            return Verdict.WAIT
        return Verdict.CLAMP

    def _release_repeated_ack(self, row: cython.int, now_us: cython.longlong) -> cython.int:
        """The secondary repeats an ACK: it misses a segment that the primary has.

        Pass one waiting ACK of the primary on with the secondary's number, so that the client sees the repetition
        and sends the segment again at once (RFC 5681 section 3.2) instead of after its time-out.
        """
        record: cython.int = self.held.primary.head[row]
        if record == _NONE or self.held.flags[row] & (RowFlag.DIVERGED | RowFlag.LET_THROUGH):
            return 0
        is_bare: cython.bint = not self.pool.payload_len[record] and not self.pool.flags[record] & (
            TcpFlag.SYN | TcpFlag.FIN | TcpFlag.RST
        )
        if not is_bare or self.pool.chain[record] != _NONE:
            return 0
        self._let_out(row, record, True, now_us)
        return self.release_ready(row, now_us)

    # ── clamping, and what is owed after it ───────────────────────────────────────────────────────────────────

    def _clamp(self, row: cython.int, record: cython.int) -> cython.int:
        """Lower ack and window of a packet to what the secondary has acknowledged and offered."""
        self.shaper.parse(record)
        set_ack(
            self.pool.arena.memory,
            self.shaper.packet,
            seq_min(self.pool.ack[record], self._secondary_ack[row]),
        )
        self._set_common_window(row, self.pool.flags[record])
        self.pool.flags[record] |= _CLAMPED
        self.held.stats.clamped += 1
        self._drop_template(row)
        if self.pool.flags[record] & TcpFlag.SYN:
            return 0
        fin: cython.int = 1 if self.pool.flags[record] & TcpFlag.FIN else 0
        template: cython.int = self.shaper.bare_from(record, TcpFlag.ACK, seq_add(self._end(record), fin))
        if template != _NONE:
            self._template[row] = template
            self.held.flags[row] |= RowFlag.OWED
        return 0

    def _set_common_window(self, row: cython.int, flags: cython.int) -> cython.int:
        """The right edge of `_packet`'s window becomes the nearer of the two guests' edges."""
        ack: cython.longlong = self.shaper.packet.ack
        scale: cython.int = 0 if flags & TcpFlag.SYN else self._scale[row]
        room: cython.longlong = self._secondary_space[row] + seq_diff(self._secondary_ack[row], ack)
        own: cython.longlong = self._primary_space[row] + seq_diff(self._primary_ack[row], ack)
        room = max(0, min(room, own)) >> scale
        return set_window(self.pool.arena.memory, self.shaper.packet, min(room, 65535))

    def _pay_owed(self, row: cython.int, now_us: cython.longlong) -> cython.int:
        """The secondary has caught up a little: tell the client what could not be told before."""
        if not self.held.flags[row] & RowFlag.OWED:
            return 0
        template: cython.int = self._template[row]
        self.shaper.parse(template)
        ack: cython.longlong = seq_min(self._primary_ack[row], self._secondary_ack[row])
        old_ack: cython.longlong = self.shaper.packet.ack
        old_window: cython.int = self.shaper.packet.window
        set_ack(self.pool.arena.memory, self.shaper.packet, ack)
        self._set_common_window(row, 0)
        if ack == old_ack and self.shaper.packet.window == old_window:
            return 0
        made: cython.int = self.pool.alloc(self.pool.length[template])
        if made == _NONE:
            set_ack(self.pool.arena.memory, self.shaper.packet, old_ack)
            return set_window(self.pool.arena.memory, self.shaper.packet, old_window)
        copy(
            self.pool.arena.memory,
            self.pool.pos[made],
            self.pool.arena.memory,
            self.pool.pos[template],
            self.pool.length[template],
        )
        self.pool.vnet_len[made] = self.pool.vnet_len[template]
        self.pool.arrived_us[made] = now_us
        self.pool.flags[made] = _MADE
        self.held.stats.acks_made += 1
        edge: cython.longlong = self._secondary_space[row] + seq_diff(self._secondary_ack[row], self._primary_ack[row])
        if ack == self._primary_ack[row] and edge >= self._primary_space[row]:
            self._drop_template(row)
        return self.held.release(made, now_us)

    def _settle(self, row: cython.int, now_us: cython.longlong) -> cython.int:
        """The secondary's ack counts no more, or is the primary's now: pay what is owed in full."""
        if self.held.flags[row] & RowFlag.OWED:
            self._secondary_ack[row] = self._primary_ack[row]
            self._secondary_space[row] = self._primary_space[row]
            self._pay_owed(row, now_us)
        return self._drop_template(row)

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
