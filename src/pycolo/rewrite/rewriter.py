"""The rewriter: filter-rewriter without sockets, clocks or threads.

::

    client frames ─► client_frames: ack += seq_offset ─► out ─► secondary guest
    secondary guest ─► guest_frames: seq -= seq_offset ─► out ─► the primary node, or after takeover the client

Batches run with the GIL released; translated frames are written to the caller's `out` with their length words, from
`out_start` on; `out_end` says how far. What could not leave at once (client frames that came before the secondary's
SYN|ACK, copies that are sent again at takeover) is written by `drain_guest` and `drain_client`. Both are to be called
after each batch. Times are monotonic microseconds. One owner: nothing here is locked.

Connections without a row pass untouched: their offset is 0 (they are older than the handshakes that we saw).
"""

import cython

from pycolo import limits
from pycolo.errors import FramingError

if cython.compiled:
    from cython.cimports.pycolo.conntrack.table import ConnectionTable
    from cython.cimports.pycolo.rewrite.copies import UnackedCopies
    from cython.cimports.pycolo.rewrite.kinds import ConnectionFlag, OffsetState
    from cython.cimports.pycolo.rewrite.neighbours import Neighbours
    from cython.cimports.pycolo.rewrite.offsets import SeqOffsets
    from cython.cimports.pycolo.storage.pool import Queues
    from cython.cimports.pycolo.wire.framing import Span, frame_at
    from cython.cimports.pycolo.wire.kinds import PacketKind, TcpFlag
    from cython.cimports.pycolo.wire.octets import copy, load32
    from cython.cimports.pycolo.wire.packet import Packet, parse_frame
else:
    from pycolo.conntrack.table import ConnectionTable
    from pycolo.rewrite.copies import UnackedCopies
    from pycolo.rewrite.kinds import ConnectionFlag, OffsetState
    from pycolo.rewrite.neighbours import Neighbours
    from pycolo.rewrite.offsets import SeqOffsets
    from pycolo.storage.pool import Queues
    from pycolo.wire.framing import Span, frame_at
    from pycolo.wire.kinds import PacketKind, TcpFlag
    from pycolo.wire.octets import copy, load32
    from pycolo.wire.packet import Packet, parse_frame

_NONE = cython.declare(cython.int, -1)
_HELD_MAX = cython.declare(cython.int, limits.HANDSHAKE_HELD_PACKETS_MAX)
_EVICTED_PER_SCAN = cython.declare(cython.int, 1024)
_SCAN_US = cython.declare(cython.longlong, limits.EXPIRED_SCAN_CYCLE_MS * 1000)
_LENGTH_MAX = limits.STREAM_LENGTH_BYTES_MAX

# What became of one frame of a batch.
_SEND = cython.declare(cython.int, 0)
_KEPT = cython.declare(cython.int, 1)
_GROW = cython.declare(cython.int, 2)
_IMPOSSIBLE = cython.declare(cython.int, -1)


class RewriteStats:
    """Counters since start. Names and meanings are those of the metrics."""

    def __init__(self):
        self.client_frames = self.guest_frames = self.client_bytes = self.guest_bytes = 0
        self.rewritten = self.untouched = self.refused = self.learned = 0
        self.handshake_held = self.handshake_dropped = self.resets_seen = self.resent = self.table_full = 0


class Rewriter:
    """`seed`: random 32 bits for the connection table. `is_passing`: offsets are not applied (a negative control).
    `keeps_copies`: whether there may be a takeover."""

    def __init__(
        self,
        seed,
        has_vnet=False,
        connections_max=limits.CONNECTIONS_MAX,
        unacked_bytes_max=limits.UNACKED_BYTES_MAX,
        client_name="client frames",
        guest_name="guest frames",
    ):
        self.table = ConnectionTable(connections_max, seed)
        self.offsets = SeqOffsets(self.table.rows)
        self.copies = UnackedCopies(self.table.rows, unacked_bytes_max)
        self.neighbours = Neighbours()
        self.stats = RewriteStats()
        self.held = Queues(self.copies.pool, self.table.rows)
        self.to_guest = Queues(self.copies.pool, 1)
        self.to_client = Queues(self.copies.pool, 1)
        self.packet = Packet()
        self.span = Span()
        self.has_vnet = has_vnet
        self.client_name = client_name
        self.guest_name = guest_name
        self.is_passing = False
        self.is_serving = False
        self.keeps_copies = True
        self.out_end = 0
        self._outcome = 0
        self._next_scan_us = 0

    # ── facts ─────────────────────────────────────────────────────────────────────────────────────────────────

    def client_frames(
        self,
        buf: cython.uchar[::1],
        start: cython.Py_ssize_t,
        end: cython.Py_ssize_t,
        now_us: cython.longlong,
        out: cython.uchar[::1],
        out_start: cython.Py_ssize_t,
    ):
        """Frames for the guest: the position up to which they were taken is returned (`buf` is changed on the way).

        Raises FramingError where the stream cannot be read on. Less than all is taken when `out` is full.
        """
        return self._batch(buf, start, end, now_us, out, out_start, True)

    def guest_frames(
        self,
        buf: cython.uchar[::1],
        start: cython.Py_ssize_t,
        end: cython.Py_ssize_t,
        now_us: cython.longlong,
        out: cython.uchar[::1],
        out_start: cython.Py_ssize_t,
    ):
        """Frames of the guest; otherwise as `client_frames`."""
        return self._batch(buf, start, end, now_us, out, out_start, False)

    def checkpoint_committed(self):
        """The secondary is a copy of a primary without offsets now: see `adopt_offsets`."""
        self.adopt_offsets(b"", 0)

    def export_offsets(self):
        """The table for `adopt_offsets` of the node whose guest becomes a copy of this one's; b"" for no offsets."""
        return self.offsets.export_table(self.table)

    def adopt_offsets(self, table, now_us: cython.longlong):
        """This guest is a copy of the primary's now: offsets are those of `table`, or 0; what it sent before is void.

        Client frames that wait here go to the guest, with the new offsets: it has the handshake that they belong to.
        Raises LinkError for anything but a table, and nothing has changed then.
        """
        octets = bytearray(table)
        self.offsets.check_table(octets, self.table.rows_max)
        records: cython.uchar[::1] = octets
        pos: cython.Py_ssize_t = 4
        with cython.nogil:
            self._shift_waiting(-1)
            self._commit()
        while pos < len(octets):
            with cython.nogil:
                pos = self._adopt(records, pos, now_us)
            if pos < len(octets):
                self._grow()
        with cython.nogil:
            self._shift_waiting(1)
            self._release_all_held()

    def shift_client(self, buf: cython.uchar[::1], start: cython.Py_ssize_t, end: cython.Py_ssize_t, sign: cython.int):
        """Take the offsets out of translated frames that have not left yet (`sign` -1), or put them in again (1)."""
        with cython.nogil:
            while frame_at(buf, start, end, self.has_vnet, self.span) == 1:
                parse_frame(buf, self.span.start, self.span.end, self.span.vnet_len, self.packet)
                self._shift(buf, sign)
                start = self.span.end

    def takeover(self):
        """This node serves the clients from now on: what they may have missed is ready for `drain_client`.

        Tracked connections keep their offsets until they are closed; new ones learn an offset of 0.
        """
        self.is_serving = True
        with cython.nogil:
            self._resend()

    def timer_fired(self, now_us: cython.longlong):
        """Forget rows that were closed or idle for long enough; to be called about once a second."""
        with cython.nogil:
            self._expire(now_us)

    # ── what comes out ────────────────────────────────────────────────────────────────────────────────────────

    def drain_guest(self, out: cython.uchar[::1], start: cython.Py_ssize_t):
        """Write frames that have become ready for the guest; the new end is returned."""
        with cython.nogil:
            start = self.copies.write(self.to_guest, out, start, self.has_vnet)
        return start

    def drain_client(self, out: cython.uchar[::1], start: cython.Py_ssize_t):
        """Write frames that are to be sent again to the client; the new end is returned."""
        with cython.nogil:
            start = self.copies.write(self.to_client, out, start, self.has_vnet)
        return start

    def seq_offset(self, key_packet):
        """(state, seq_offset, ts_offset) of the connection of a parsed guest packet, or None."""
        row = self.table.find(key_packet, False)
        if row == _NONE:
            return None
        return self.offsets.state[row], self.offsets.seq_offset[row], self.offsets.ts_offset[row]

    # ── batches ───────────────────────────────────────────────────────────────────────────────────────────────

    def _batch(self, buf, start, end, now_us, out, out_start, is_client):
        pos: cython.Py_ssize_t = start
        outcome: cython.int
        source: cython.uchar[::1] = buf
        target: cython.uchar[::1] = out
        stop: cython.Py_ssize_t = end
        now: cython.longlong = now_us
        from_client: cython.bint = is_client
        self.out_end = out_start
        while True:
            with cython.nogil:
                pos = self._run(source, pos, stop, from_client, now, target)
                outcome = self._outcome
            if outcome != _GROW:
                break
            self._grow()
        if is_client:
            self.stats.client_bytes += pos - start
        else:
            self.stats.guest_bytes += pos - start
        if outcome == _IMPOSSIBLE:
            name = self.client_name if is_client else self.guest_name
            taken = self.stats.client_bytes if is_client else self.stats.guest_bytes
            raise FramingError(name, taken, self.span.word, _LENGTH_MAX)
        return pos

    def _grow(self):
        rows = self.table.grow()
        for columns in (self.offsets, self.copies, self.held):
            columns.grow(rows)

    def _run(
        self,
        buf: cython.uchar[::1],
        pos: cython.Py_ssize_t,
        end: cython.Py_ssize_t,
        is_client: cython.bint,
        now_us: cython.longlong,
        out: cython.uchar[::1],
    ) -> cython.Py_ssize_t:
        status: cython.int
        outcome: cython.int
        self._outcome = _SEND
        while True:
            status = frame_at(buf, pos, end, self.has_vnet, self.span)
            if status == 2:
                self._outcome = _IMPOSSIBLE
                return pos
            if status == 0 or len(out) - self.out_end < self.span.end - pos:
                return pos
            parse_frame(buf, self.span.start, self.span.end, self.span.vnet_len, self.packet)
            if is_client:
                outcome = self._take_client(buf, now_us)
            else:
                outcome = self._take_guest(buf, now_us)
            if outcome == _GROW:
                self._outcome = _GROW
                return pos
            if outcome == _SEND:
                copy(out, self.out_end, buf, pos, self.span.end - pos)
                self.out_end += self.span.end - pos
            pos = self.span.end

    def _row_for(self, state: cython.int, now_us: cython.longlong) -> cython.int:
        """A row for the key that was just missed; -1 none to be had, -2 the table must grow first."""
        if self.table.wants_growth():
            return -2
        row: cython.int = self.table.insert(now_us)
        if row == _NONE:
            victim: cython.int = self.table.evict(now_us)
            if victim == _NONE:
                self.stats.table_full += 1
                return _NONE
            self._give_up(victim)
            row = self.table.insert(now_us)
        self.offsets.open_row(row, state)
        return row

    def _give_up(self, row: cython.int) -> cython.int:
        self.copies.forget(row)
        self.held.free_all(row)
        return self.table.remove(row)

    # ── from outside to the guest ─────────────────────────────────────────────────────────────────────────────

    def _take_client(self, buf: cython.uchar[::1], now_us: cython.longlong) -> cython.int:
        self.stats.client_frames += 1
        if self.packet.kind == PacketKind.REFUSED:
            self.stats.refused += 1
        if self.packet.kind != PacketKind.TCP or self.is_passing:
            return _SEND
        flags: cython.int = self.packet.flags
        is_first_syn: cython.bint = flags & TcpFlag.SYN and not flags & TcpFlag.ACK
        row: cython.int = self.table.find(self.packet, True)
        if row == _NONE:
            if not is_first_syn:
                self.stats.untouched += 1
                return _SEND
            row = self._row_for(OffsetState.UNKNOWN, now_us)
            if row == -2:
                self.stats.client_frames -= 1
                return _GROW
            if row == _NONE:
                return _SEND
        self.table.touch(row, now_us)
        if is_first_syn:
            self.offsets.client_syn(row, self.packet)
            return _SEND
        if self.offsets.must_wait(row, self.packet):
            return self._hold(row, buf)
        self._translate_client(row, buf, now_us)
        return _SEND

    def _hold(self, row: cython.int, buf: cython.uchar[::1]) -> cython.int:
        record: cython.int = _NONE
        if self.held.count[row] < _HELD_MAX:
            record = self.copies.pool.store(
                buf, self.packet.start, self.packet.end - self.packet.start, self.packet.vnet_len
            )
        if record == _NONE:
            self.stats.handshake_dropped += 1
            return _KEPT
        self.stats.handshake_held += 1
        self.table.pins[row] += 1
        self.held.push(row, record)
        return _KEPT

    def _translate_client(self, row: cython.int, buf: cython.uchar[::1], now_us: cython.longlong) -> cython.int:
        flags: cython.int = self.packet.flags
        if flags & TcpFlag.ACK:
            if self.offsets.state[row] == OffsetState.AWAITING_PRIMARY:
                self.offsets.learn(row, buf, self.packet)
                self.stats.learned += 1
            self.copies.acknowledged(row, self.packet.ack)
        self.offsets.to_secondary(row, buf, self.packet)
        self.stats.rewritten += 1
        if flags & TcpFlag.FIN:
            self._note_end(row, ConnectionFlag.CLIENT_FIN, now_us)
        elif flags & TcpFlag.RST:
            self.stats.resets_seen += 1
            self._close(row, now_us)
        return 0

    def _note_end(self, row: cython.int, flag: cython.int, now_us: cython.longlong) -> cython.int:
        """Both FINs seen: the row goes CLOSED_GRACE_MS after the last segment, and may be given up before."""
        both: cython.int = ConnectionFlag.GUEST_FIN | ConnectionFlag.CLIENT_FIN
        self.offsets.flags[row] |= flag
        if self.offsets.flags[row] & both == both:
            self._close(row, now_us)
        return 0

    def _close(self, row: cython.int, now_us: cython.longlong) -> cython.int:
        self.offsets.flags[row] |= ConnectionFlag.ENDED
        return self.table.close(row, now_us)

    # ── from the guest ────────────────────────────────────────────────────────────────────────────────────────

    def _take_guest(self, buf: cython.uchar[::1], now_us: cython.longlong) -> cython.int:
        self.stats.guest_frames += 1
        if self.packet.kind == PacketKind.REFUSED:
            self.stats.refused += 1
            return _SEND
        if self.packet.kind == PacketKind.PASS:
            self.neighbours.note_arp(buf, self.packet)
            return _SEND
        if self.packet.kind != PacketKind.TCP or self.is_passing:
            return _SEND
        flags: cython.int = self.packet.flags
        row: cython.int = self.table.find(self.packet, False)
        if row == _NONE:
            if flags & TcpFlag.RST:
                self.stats.untouched += 1
                return _SEND
            # Without a SYN the connection is older than we are: its offset is 0, and it is tracked for its copies.
            row = self._row_for(OffsetState.UNKNOWN if flags & TcpFlag.SYN else OffsetState.KNOWN, now_us)
            if row == -2:
                self.stats.guest_frames -= 1
                return _GROW
            self.neighbours.note_packet(buf, self.packet)
            if row == _NONE:
                return _SEND
        self.table.touch(row, now_us)
        self._translate_guest(row, buf, now_us)
        return _SEND

    def _translate_guest(self, row: cython.int, buf: cython.uchar[::1], now_us: cython.longlong) -> cython.int:
        flags: cython.int = self.packet.flags
        if flags & TcpFlag.SYN:
            self.neighbours.note_packet(buf, self.packet)
            if self.offsets.guest_syn(row, buf, self.packet):
                self.copies.forget(row)
                self.table.reopen(row, now_us)
        elif self.offsets.flags[row] & ConnectionFlag.RESYN:
            # The guest answered the client's new SYN without one of its own: the old connection lives on.
            self.offsets.flags[row] &= ~ConnectionFlag.RESYN
        if self.offsets.state[row] == OffsetState.KNOWN:
            self.offsets.from_secondary(row, buf, self.packet)
            self.stats.rewritten += 1
            if self.keeps_copies and not self.is_serving:
                self.copies.keep(row, buf, self.packet)
        if flags & TcpFlag.FIN:
            self._note_end(row, ConnectionFlag.GUEST_FIN, now_us)
        elif flags & TcpFlag.RST:
            self.stats.resets_seen += 1
            self._close(row, now_us)
        if self.held.head[row] != _NONE:
            self._release_held(row, now_us)
        return 0

    def _release_held(self, row: cython.int, now_us: cython.longlong) -> cython.int:
        """The guest has answered: what waited for that goes on, in order. `packet` is used up."""
        record: cython.int = self.held.pop(row)
        while record != _NONE:
            self.table.pins[row] -= 1
            self.copies.parse(record, self.packet)
            self._translate_client(row, self.copies.pool.arena.memory, now_us)
            self.to_guest.push(0, record)
            record = self.held.pop(row)
        return 0

    # ── checkpoint, takeover, time ────────────────────────────────────────────────────────────────────────────

    def _commit(self) -> cython.int:
        row: cython.int = 0
        while row < self.table.rows:
            if self.table.in_use(row):
                self.copies.forget(row)
                self.offsets.committed(row)
            row += 1
        return 0

    def _adopt(self, records: cython.uchar[::1], pos: cython.Py_ssize_t, now_us: cython.longlong) -> cython.Py_ssize_t:
        """Take records over, up to the end or to one for which the table must grow."""
        while pos < len(records):
            numbers: cython.Py_ssize_t = self.offsets.read_key(records, pos, self.packet)
            row: cython.int = self.table.find(self.packet, False)
            if row == _NONE:
                row = self._row_for(OffsetState.KNOWN, now_us)
            if row == -2:
                return pos
            if row != _NONE and self.offsets.adopt(row, load32(records, pos), records, numbers):
                self.table.close(row, now_us)
            pos = numbers + 20
        return pos

    def _release_all_held(self) -> cython.int:
        row: cython.int = 0
        while row < self.table.rows:
            if self.table.in_use(row) and self.held.head[row] != _NONE:
                self._release_held(row, self.table.last_seen_us[row])
            row += 1
        return 0

    def _shift_waiting(self, sign: cython.int) -> cython.int:
        """As `shift_client`, for the frames that wait for `drain_guest`."""
        record: cython.int = self.to_guest.head[0]
        while record != _NONE:
            self.copies.parse(record, self.packet)
            self._shift(self.copies.pool.arena.memory, sign)
            record = self.copies.pool.next[record]
        return 0

    def _shift(self, buf: cython.uchar[::1], sign: cython.int) -> cython.int:
        """`packet` is a client's."""
        if self.packet.kind != PacketKind.TCP or self.is_passing:
            return 0
        row: cython.int = self.table.find(self.packet, True)
        return 0 if row == _NONE else self.offsets.shift(row, buf, self.packet, sign)

    def _resend(self) -> cython.int:
        record: cython.int
        row: cython.int = 0
        while row < self.table.rows:
            if self.table.in_use(row) and self.offsets.state[row] == OffsetState.KNOWN:
                record = self.copies.take(row)
                while record != _NONE:
                    self.copies.parse(record, self.packet)
                    self.offsets.lift(row, self.copies.pool.arena.memory, self.packet)
                    self.to_client.push(0, record)
                    self.stats.resent += 1
                    record = self.copies.take(row)
                self.offsets.catch_up(row)
            row += 1
        return 0

    def _expire(self, now_us: cython.longlong) -> cython.int:
        if now_us < self._next_scan_us:
            return 0
        self._next_scan_us = now_us + _SCAN_US
        evicted: cython.int = 0
        while evicted < _EVICTED_PER_SCAN:
            row: cython.int = self.table.expired(now_us)
            if row == _NONE:
                return 0
            self._give_up(row)
            evicted += 1
        return 0
