"""TCP, one side alone (rule C8): what the secondary has done and the primary not, and what only the client can end.

A secondary's payload ages where it is held. Its SYN, FIN or RST is held nowhere: the row is *watched* until the primary
does the same. Where the client's segments are seen, a wait that its ACK will end does not age, for CLIENT_WAIT_MS.
"""

import cython

from pycolo import limits

if cython.compiled:
    from cython.cimports.pycolo.compare.kinds import RowFlag
    from cython.cimports.pycolo.compare.stream import ByteStreams
    from cython.cimports.pycolo.wire.kinds import TcpFlag
    from cython.cimports.pycolo.wire.packet import Packet, is_intact
    from cython.cimports.pycolo.wire.seq import seq_add, seq_diff
else:
    from pycolo.compare.kinds import RowFlag
    from pycolo.compare.stream import ByteStreams
    from pycolo.wire.kinds import TcpFlag
    from pycolo.wire.packet import Packet, is_intact
    from pycolo.wire.seq import seq_add, seq_diff

_NONE = cython.declare(cython.int, -1)
_CLIENT_WAIT_US = cython.declare(cython.longlong, limits.CLIENT_WAIT_MS * 1000)
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
        if behind > self.promises.primary_space[row] or behind < -self.promises.primary_space[row]:
            return 0
        if seq_diff(packet.ack, self._compared_seq[row]) > 0:
            return 0
        has_moved: cython.bint = not state & RowFlag.CLIENT_SEEN or seq_diff(packet.ack, self._client_ack[row]) > 0
        if not (has_moved or packet.flags & TcpFlag.FIN) or not is_intact(buf, packet):
            return self._close_if_done(row, now_us)
        if packet.flags & TcpFlag.FIN:
            self._client_end[row] = seq_add(packet.seq, packet.payload_len + 1)
            self.held.flags[row] |= RowFlag.CLIENT_FIN
        if has_moved:
            self.held.flags[row] |= RowFlag.CLIENT_SEEN
            self._client_ack[row] = packet.ack
            self._client_moved_us[row] = now_us
            self.history.acknowledged(row, packet.ack)
        return self._close_if_done(row, now_us)

    def passes(self, row: cython.int, packet: Packet, now_us: cython.longlong) -> cython.int:
        """There is no secondary. How far the primary has come is noted, for a checkpoint that makes both equal."""
        flags: cython.int = packet.flags
        if flags & TcpFlag.SYN:
            self._primary_syn(row, packet, now_us)
        if flags & TcpFlag.RST:
            return self.held.table.close(row, now_us)
        if flags & TcpFlag.ACK:
            self.promises.note_primary(row, packet)
        end: cython.longlong = seq_add(packet.seq, packet.payload_len)
        if flags & (TcpFlag.SYN | TcpFlag.FIN):
            end = seq_add(end, 1)
        if not self.held.flags[row] & RowFlag.BASE_KNOWN or seq_diff(end, self._primary_end[row]) > 0:
            self._primary_end[row] = self._compared_seq[row] = end
            self.held.flags[row] |= RowFlag.BASE_KNOWN
        return 0

    def _close_if_done(self, row: cython.int, now_us: cython.longlong) -> cython.int:
        """Both FINs are acknowledged: the row goes CLOSED_GRACE_MS later. Until then it may still be half-open."""
        both: cython.int = RowFlag.FIN_MATCHED | RowFlag.CLIENT_FIN
        if self.held.flags[row] & both != both or self._client_ack[row] != self._compared_seq[row]:
            return 0
        if seq_diff(self.promises.primary_ack[row], self._client_end[row]) < 0:
            return 0
        if seq_diff(self.promises.secondary_ack[row], self._client_end[row]) < 0:
            return 0
        return self.held.table.close(row, now_us)

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
