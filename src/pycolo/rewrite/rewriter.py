"""The rewriter: filter-rewriter without sockets, clocks or threads.

::

    client frames ─► client_frames: ack += seq_offset ─► out ─► secondary guest
    secondary guest ─► guest_frames: seq -= seq_offset ─► out ─► the primary node, or after takeover the client

Batches run with the GIL released; translated frames are written to the caller's `out` with their length words, from
`out_start` on; `out_end` says how far. What could not leave at once (client frames that came before the secondary's
SYN|ACK, copies that are sent again at takeover) is written by `drain_guest` and `drain_client`. Both are to be called
after each batch. Times are monotonic microseconds. One owner: nothing here is locked.

Connections without a row pass untouched: their offset is 0 (they are older than the handshakes that we saw). A row is
kept up by what its guest says, never by what comes from outside.
"""

import cython

from pycolo import limits
from pycolo.errors import FramingError

if cython.compiled:
    from cython.cimports.pycolo.rewrite.kinds import OffsetState
    from cython.cimports.pycolo.rewrite.tables import OffsetTable
    from cython.cimports.pycolo.rewrite.translator import Translator
    from cython.cimports.pycolo.storage.pool import Queues
    from cython.cimports.pycolo.wire.framing import Span, frame_at
    from cython.cimports.pycolo.wire.octets import copy
    from cython.cimports.pycolo.wire.packet import parse_frame
else:
    from pycolo.rewrite.kinds import OffsetState
    from pycolo.rewrite.tables import OffsetTable
    from pycolo.rewrite.translator import Translator
    from pycolo.storage.pool import Queues
    from pycolo.wire.framing import Span, frame_at
    from pycolo.wire.octets import copy
    from pycolo.wire.packet import parse_frame

_NONE = cython.declare(cython.int, -1)
_EVICTED_PER_SCAN = cython.declare(cython.int, 1024)
_SCAN_US = cython.declare(cython.longlong, limits.EXPIRED_SCAN_CYCLE_MS * 1000)
_UNACKED_US = cython.declare(cython.longlong, limits.UNACKED_MS * 1000)
_LENGTH_MAX = limits.STREAM_LENGTH_BYTES_MAX

# What became of one frame of a batch: those of `Translator`, and no frame at all.
_SEND = cython.declare(cython.int, 0)
_GROW = cython.declare(cython.int, 2)
_IMPOSSIBLE = cython.declare(cython.int, -1)


class Rewriter:
    """`seed`: random 32 bits for the connection table."""

    def __init__(
        self,
        seed,
        has_vnet=False,
        connections_max=limits.CONNECTIONS_MAX,
        unacked_bytes_max=limits.UNACKED_BYTES_MAX,
        client_name="client frames",
        guest_name="guest frames",
    ):
        self.translator = Translator(seed, connections_max, unacked_bytes_max)
        self.table = self.translator.table
        self.offsets = self.translator.offsets
        self.progress = self.translator.progress
        self.copies = self.translator.copies
        self.held = self.translator.held
        self.to_guest = self.translator.to_guest
        self.neighbours = self.translator.neighbours
        self.stats = self.translator.stats
        self.packet = self.translator.packet
        self.traveling = OffsetTable(self.table, self.offsets, self.progress)
        self.to_client = Queues(self.copies.pool, 1)
        self.span = Span()
        self.has_vnet = has_vnet
        self.client_name = client_name
        self.guest_name = guest_name
        self.out_end = 0
        self._outcome = 0
        self._next_scan_us = 0

    @property
    def is_passing(self):
        """Whether offsets are not applied (a negative control)."""
        return self.translator.is_passing

    @is_passing.setter
    def is_passing(self, value):
        self.translator.is_passing = value

    @property
    def keeps_copies(self):
        """Whether there may be a takeover."""
        return self.translator.keeps_copies

    @keeps_copies.setter
    def keeps_copies(self, value):
        self.translator.keeps_copies = value

    @property
    def is_serving(self):
        """Whether the clients talk with this guest."""
        return self.translator.is_serving

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
        return self.traveling.export()

    def adopt_offsets(self, table, now_us: cython.longlong):
        """This guest is a copy of the primary's now: offsets are those of `table`, or 0; what it sent before is void.

        Client frames that wait here go to the guest, with the new offsets: it has the handshake that they belong to.
        Raises LinkError for anything but a table, and nothing has changed then.
        """
        octets = bytearray(table)
        self.traveling.check(octets)
        records: cython.uchar[::1] = octets
        pos: cython.Py_ssize_t = 4
        with cython.nogil:
            self._shift_waiting(-1)
            self._commit()
        while pos < len(octets):
            with cython.nogil:
                pos = self._adopt(records, pos, now_us)
            if pos < len(octets):
                self.translator.grow()
        with cython.nogil:
            self._shift_waiting(1)
            self._release_all_held()

    def shift_client(self, buf: cython.uchar[::1], start: cython.Py_ssize_t, end: cython.Py_ssize_t, sign: cython.int):
        """Take the offsets out of translated frames that have not left yet (`sign` -1), or put them in again (1)."""
        with cython.nogil:
            while frame_at(buf, start, end, self.has_vnet, self.span) == 1:
                parse_frame(buf, self.span.start, self.span.end, self.span.vnet_len, self.packet)
                self.translator.shift(buf, sign)
                start = self.span.end

    def takeover(self):
        """This node serves the clients from now on: what they may have missed is ready for `drain_client`.

        Tracked connections keep their offsets until they are closed; new ones learn an offset of 0.
        """
        self.translator.is_serving = True
        with cython.nogil:
            self._resend()

    def timer_fired(self, now_us: cython.longlong):
        """Forget rows, held frames and copies whose time has passed; to be called about once a second."""
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
            self.translator.grow()
        if is_client:
            self.stats.client_bytes += pos - start
        else:
            self.stats.guest_bytes += pos - start
        if outcome == _IMPOSSIBLE:
            name = self.client_name if is_client else self.guest_name
            taken = self.stats.client_bytes if is_client else self.stats.guest_bytes
            raise FramingError(name, taken, self.span.word, _LENGTH_MAX)
        return pos

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
                outcome = self.translator.take_client(buf, now_us)
            else:
                outcome = self.translator.take_guest(buf, now_us)
            if outcome == _GROW:
                self._outcome = _GROW
                return pos
            if outcome == _SEND:
                copy(out, self.out_end, buf, pos, self.span.end - pos)
                self.out_end += self.span.end - pos
            pos = self.span.end

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
            self.traveling.read_key(records, pos, self.packet)
            row: cython.int = self.table.find(self.packet, False)
            if row == _NONE:
                row = self.translator.row_for(OffsetState.KNOWN, now_us)
            if row == -2:
                return pos
            pos = self.traveling.adopt(row, now_us, records, pos)
        return pos

    def _release_all_held(self) -> cython.int:
        row: cython.int = 0
        while row < self.table.rows:
            if self.table.in_use(row) and self.held.queues.head[row] != _NONE:
                self.translator.release_held(row, self.table.last_seen_us[row])
            row += 1
        return 0

    def _shift_waiting(self, sign: cython.int) -> cython.int:
        """As `shift_client`, for the frames that wait for `drain_guest`."""
        record: cython.int = self.to_guest.head[0]
        while record != _NONE:
            self.copies.parse(record, self.packet)
            self.translator.shift(self.copies.pool.arena.memory, sign)
            record = self.copies.pool.next[record]
        return 0

    def _resend(self) -> cython.int:
        record: cython.int
        row: cython.int = 0
        while row < self.table.rows:
            if self.table.in_use(row) and self.offsets.state[row] == OffsetState.KNOWN:
                record = self.copies.take(row)
                while record != _NONE:
                    self.copies.parse(record, self.packet)
                    self.progress.lift(row, self.copies.pool.arena.memory, self.packet)
                    self.to_client.push(0, record)
                    self.stats.resent += 1
                    record = self.copies.take(row)
                self.progress.catch_up(row)
            row += 1
        return 0

    def _expire(self, now_us: cython.longlong) -> cython.int:
        if now_us < self._next_scan_us:
            return 0
        self._next_scan_us = now_us + _SCAN_US
        if self.held.count or self.copies.pool.used:
            self._age(now_us)
        evicted: cython.int = 0
        while evicted < _EVICTED_PER_SCAN:
            row: cython.int = self.table.expired(now_us)
            if row == _NONE:
                return 0
            self.translator.give_up(row)
            evicted += 1
        return 0

    def _age(self, now_us: cython.longlong) -> cython.int:
        """Held frames and copies have a deadline, each."""
        row: cython.int = 0
        while row < self.table.rows:
            if self.held.queues.head[row] != _NONE:
                self.stats.handshake_dropped += self.held.age(row, now_us)
            self.copies.age(row, now_us - _UNACKED_US)
            row += 1
        return 0
