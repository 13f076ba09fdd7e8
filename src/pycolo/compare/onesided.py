"""TCP, one side alone (rule C8): what the secondary has done and the primary not, and what only the client can end.

A secondary's payload ages where it is held. Its SYN, FIN or RST is held nowhere: the row is *watched* until the primary
does the same. Where the client's segments are seen, a wait that its ACK will end does not age, for CLIENT_WAIT_MS.

A primary without a secondary is heard, too: a checkpoint begins where it is.
"""

import cython

from pycolo import limits

if cython.compiled:
    from cython.cimports.pycolo.compare.kinds import RowFlag
    from cython.cimports.pycolo.compare.stream import ByteStreams
    from cython.cimports.pycolo.wire.kinds import TcpFlag
    from cython.cimports.pycolo.wire.packet import Packet, is_intact
    from cython.cimports.pycolo.wire.seq import seq_add, seq_diff, seq_min
else:
    from pycolo.compare.kinds import RowFlag
    from pycolo.compare.stream import ByteStreams
    from pycolo.wire.kinds import TcpFlag
    from pycolo.wire.packet import Packet, is_intact
    from pycolo.wire.seq import seq_add, seq_diff, seq_min

_NONE = cython.declare(cython.int, -1)
_CLIENT_WAIT_US = cython.declare(cython.longlong, limits.CLIENT_WAIT_MS * 1000)
_MASK = cython.declare(cython.longlong, 0xFFFFFFFF)
_RESET_SPAN = cython.declare(cython.longlong, limits.RESET_SPAN_BYTES)
_NEVER = cython.declare(cython.longlong, 1 << 62)


class OneSide(ByteStreams):
    """The columns are those of `ByteStreams`."""

    def client(self, row: cython.int, buf: cython.uchar[::1], packet: Packet, now_us: cython.longlong) -> cython.int:
        """A segment of the client, on its way to the primary: what it has got. Never needed, and never believed alone.

        Its number must be one that the primary could expect, its ack something that has left, its checksum right.
        """
        state: cython.int = self.held.flags[row]
        if not packet.flags & TcpFlag.ACK or packet.flags & (TcpFlag.SYN | TcpFlag.RST):
            return 0
        if not state & RowFlag.BASE_KNOWN or not state & RowFlag.PRIMARY_ACK or state & RowFlag.LET_THROUGH:
            return 0
        behind: cython.longlong = seq_diff(packet.seq, self.promises.primary_ack[row])
        if behind > self.promises.primary_space[row] or behind < 0:
            return 0
        if seq_diff(packet.ack, self._compared_seq[row]) > 0:
            return 0
        is_news: cython.bint = not state & RowFlag.CLIENT_SEEN or seq_diff(packet.ack, self._client_ack[row]) > 0
        if not (is_news or packet.flags & TcpFlag.FIN) or not is_intact(buf, packet):
            return 0
        if packet.flags & TcpFlag.FIN:
            self._client_end[row] = seq_add(packet.seq, packet.payload_len + 1)
            self.held.flags[row] |= RowFlag.CLIENT_FIN
        if is_news:
            self.held.flags[row] |= RowFlag.CLIENT_SEEN
            self.held.table.resume(row, now_us)  # from now on the client tells when it ends
            self._client_ack[row] = packet.ack
            self._client_moved_us[row] = now_us
            self.history.acknowledged(row, packet.ack)
        return self._close_if_done(row, now_us)

    def _close_if_done(self, row: cython.int, now_us: cython.longlong) -> cython.int:
        """Both FINs are acknowledged: the row goes CLOSED_GRACE_MS later. Until then it may still be half-open.

        Where the client is not seen only its FIN's ack tells, and no more than likely: then silence decides.
        """
        both: cython.int = RowFlag.FIN_MATCHED | RowFlag.CLIENT_FIN
        if self.held.flags[row] & (both | RowFlag.CLIENT_SEEN) == RowFlag.FIN_MATCHED:
            if self.promises.has_taken_fin(row):
                return self.held.table.ending(row, now_us)
            return self.held.table.resume(row, now_us)
        if self.held.flags[row] & both != both or self._client_ack[row] != self._compared_seq[row]:
            return 0
        if seq_diff(self.promises.primary_ack[row], self._client_end[row]) < 0:
            return 0
        if seq_diff(self.promises.secondary_ack[row], self._client_end[row]) < 0:
            return 0
        return self.held.table.close(row, now_us)

    def alone(self, row: cython.int, packet: Packet, now_us: cython.longlong) -> cython.int:
        """A segment of a primary that has no secondary, before it leaves: end, ack, window and scale are noted."""
        if packet.flags & TcpFlag.SYN:
            self._primary_syn(row, packet, now_us)
        if packet.flags & TcpFlag.RST:
            return self.held.table.close(row, now_us)
        if packet.flags & TcpFlag.ACK:
            self.promises.note_primary(row, packet)
        one: cython.int = 1 if packet.flags & (TcpFlag.SYN | TcpFlag.FIN) else 0
        return self._note_end(row, seq_add(packet.seq, packet.payload_len + one))

    def _note_end(self, row: cython.int, end: cython.longlong) -> cython.int:
        """What is not compared counts as equal."""
        if not self.held.flags[row] & RowFlag.BASE_KNOWN or seq_diff(end, self._primary_end[row]) > 0:
            self._primary_end[row] = self._compared_seq[row] = end
        self.held.flags[row] |= RowFlag.BASE_KNOWN
        return 0

    # ── what the secondary is not to get (rule R1) ────────────────────────────────────────────────────────────

    def turns_down(self, row: cython.int, packet: Packet) -> cython.bint:
        """Whether the primary's guest, which has sent a SYN, turns a client's ACK down: it is of something else.

        Where it is of that, and its number the one that the guest expects, there is no need to ask again.
        """
        state: cython.int = self.held.flags[row]
        if state & (RowFlag.PRIMARY_SYN | RowFlag.CONFIRMED | RowFlag.LET_THROUGH) != RowFlag.PRIMARY_SYN:
            return False
        if packet.flags & TcpFlag.RST and state & RowFlag.PRIMARY_ACK:
            return False  # judged by its number, not by its ack
        said: cython.longlong = seq_add(self._primary_end[row], -cython.cast(cython.longlong, self._primary_isn[row]))
        acked: cython.longlong = seq_add(packet.ack, -cython.cast(cython.longlong, self._primary_isn[row]))
        if acked == 0 or acked > said:
            return True
        is_first: cython.bint = state & RowFlag.PRIMARY_ACK and packet.seq == self.promises.primary_ack[row]
        if is_first and not packet.flags & (TcpFlag.SYN | TcpFlag.RST):
            self.held.flags[row] = state | RowFlag.CONFIRMED
        return False

    def may_take(self, row: cython.int, packet: Packet) -> cython.bint:
        """Whether one of the guests may take a client's segment into the connection that it has."""
        state: cython.int = self.held.flags[row]
        if state & RowFlag.LET_THROUGH or state & (RowFlag.PRIMARY_SYN | RowFlag.CONFIRMED) == RowFlag.PRIMARY_SYN:
            return True
        if not state & RowFlag.PRIMARY_ACK or self.held.table.is_closed(row):
            return False
        first: cython.longlong = self.promises.primary_ack[row]
        if state & RowFlag.SECONDARY_ACK:
            first = seq_min(first, self.promises.secondary_ack[row])
        ahead: cython.longlong = seq_diff(packet.seq, self.promises.primary_ack[row])
        return seq_diff(packet.seq, first) >= -1 and ahead <= self.promises.primary_space[row]

    def answers_a_lie(self, row: cython.int, packet: Packet) -> cython.bint:
        """Whether a RST of the primary answers what was withheld: no client believes its number.

        The primary has said nothing but its SYN, and that is not the end of it.
        """
        known: cython.int = RowFlag.PRIMARY_SYN | RowFlag.LET_THROUGH
        if not self.sees_client or self.held.flags[row] & known != RowFlag.PRIMARY_SYN:
            return False
        end: cython.longlong = self._primary_end[row]
        has_ack: cython.bint = packet.flags & TcpFlag.ACK != 0
        return not has_ack and end == seq_add(self._primary_isn[row], 1) and packet.seq != end

    # ── the secondary alone ───────────────────────────────────────────────────────────────────────────────────

    def _secondary_reset(self, row: cython.int, packet: Packet, now_us: cython.longlong) -> cython.int:
        """A RST of the secondary. It counts where its number is one that the client could believe (RFC 5961)."""
        state: cython.int = self.held.flags[row]
        ack: cython.longlong = packet.ack if packet.flags & TcpFlag.ACK else 0
        if state & RowFlag.SECONDARY_SYN and not state & RowFlag.SYN_MATCHED:
            self._next_resets[row] += 1
            self._reset_us[row] = now_us
            return 0
        is_further: cython.bint = state & RowFlag.RST_MATCHED != 0 or self._resets[row] != 0
        if state & RowFlag.BASE_KNOWN:
            ahead: cython.longlong = seq_diff(packet.seq, self._compared_seq[row])
            is_answer: cython.bint = not state & RowFlag.SYN_MATCHED and ack == self.promises.primary_ack[row]
            if not is_answer and (ahead > _RESET_SPAN or ahead < -_RESET_SPAN):
                return 0
            if not is_answer and state & RowFlag.PRIMARY_SYN and not state & RowFlag.SYN_MATCHED:
                return 0  # the primary has begun a new life, the secondary not yet: it resets the old one
            if state & RowFlag.RST_MATCHED:
                return 0
        elif is_further and (ack == 0 or (state & RowFlag.RST_MATCHED and self._is_refused(row, ack))):
            return 0  # a closed port's first RST answers a SYN; what follows answers other segments
        if self._resets[row] == 0:
            self._reset_us[row] = now_us
        self._reset_ack[row] = ack
        self._resets[row] += 1
        return 0

    def _is_refused(self, row: cython.int, ack: cython.longlong) -> cython.bint:
        """Whether both guests have answered the SYN that `ack` acknowledges with a RST."""
        return ack == self._matched_acks[row] >> 32 or ack == self._matched_acks[row] & _MASK

    def alone_since_us(self, row: cython.int) -> cython.Py_ssize_t:
        """Since when the secondary has done something besides payload that the client could notice, the primary not."""
        state: cython.int = self.held.flags[row]
        since_us: cython.longlong = _NEVER
        if state & (RowFlag.LET_THROUGH | RowFlag.DIVERGED):
            return _NEVER
        if state & RowFlag.SECONDARY_SYN:
            since_us = self._syn_us[row]
        if self._resets[row]:
            since_us = min(since_us, self._reset_us[row])
        if state & RowFlag.SECONDARY_FIN and (
            not state & RowFlag.BASE_KNOWN or seq_diff(self._compared_seq[row], self._secondary_fin[row]) <= 0
        ):
            since_us = min(since_us, self._fin_us[row])
        return since_us

    def _is_alone(self, row: cython.int) -> cython.bint:
        return self.alone_since_us(row) != _NEVER

    def _watch_alone(self, row: cython.int, is_alone: cython.bint) -> cython.int:
        """The timer sees a row that is watched, whether it holds packets or not."""
        if is_alone and not self.held.flags[row] & RowFlag.ALONE:
            return self.held.watch(row)
        if not is_alone and self.held.flags[row] & RowFlag.ALONE:
            return self.held.unwatch(row)
        return 0

    def waits_from_us(
        self, row: cython.int, record: cython.int, since_us: cython.longlong, now_us: cython.longlong
    ) -> cython.Py_ssize_t:
        """From when on a wait that began at `since_us` counts: not while only the client's ACK can end it.

        No ACK of the client ends a SYN or a RST of one side alone. `record`: the packet that waits, or -1.
        """
        state: cython.int = self.held.flags[row]
        if self._resets[row] or state & RowFlag.SECONDARY_SYN:
            return since_us
        if state & RowFlag.PRIMARY_RST and not state & RowFlag.RST_MATCHED:
            return since_us
        if record != _NONE and self.pool.flags[record] & (TcpFlag.SYN | TcpFlag.RST):
            return since_us
        if not self.held.flags[row] & RowFlag.CLIENT_SEEN or now_us - since_us > _CLIENT_WAIT_US:
            return since_us
        if seq_diff(self._client_ack[row], self._compared_seq[row]) < 0:
            return now_us
        return max(since_us, self._client_moved_us[row])
