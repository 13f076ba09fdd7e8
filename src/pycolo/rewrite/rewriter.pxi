"""The rewriter: filter-rewriter without sockets, clocks or threads.

::

    client frames ─► client_frames: ack += seq_offset ─► out ─► secondary guest
    secondary guest ─► guest_frames: seq -= seq_offset ─► out ─► the primary node, or after takeover the client

Batches run with the GIL released. Translated frames are written to the caller's `out` with their length words, from
`out_start` on; `out_end` is the end. Frames that could not leave at once (client frames that came before the
secondary's SYN|ACK, copies to send again at takeover) are written by `drain_guest` and `drain_client`; call both after
each batch. Times are monotonic microseconds. One owner, no locks.

Connections without a row pass untouched: their offset is 0 (they are older than the handshakes seen here). Only the
guest's segments keep a row alive, never packets from outside.
"""


cdef long long _SCAN_US = limits.EXPIRED_SCAN_CYCLE_MS * 1000
cdef long long _UNACKED_US = limits.UNACKED_MS * 1000
_REWRITER_LENGTH_MAX = limits.STREAM_LENGTH_BYTES_MAX

# The result for one frame of a batch: those of `Translator`, and no frame.


@cython.final
cdef class Rewriter:
    """`seed`: random 128 bits for the connection table."""

    cdef readonly Translator translator
    cdef readonly StraightTranslator straight
    cdef readonly ConnectionTable table
    cdef readonly SeqOffsets offsets
    cdef readonly Progress progress
    cdef readonly UnackedCopies copies
    cdef readonly Neighbours neighbours
    cdef readonly RewriteStats stats
    cdef readonly HandshakeFrames held
    cdef readonly OffsetTable traveling
    cdef readonly SavedRows saved
    cdef readonly Queues to_guest
    cdef readonly Queues to_client
    cdef readonly Packet packet
    cdef readonly Span span
    cdef readonly bint has_vnet
    cdef readonly object client_name
    cdef readonly object guest_name
    cdef readonly Py_ssize_t out_end
    cdef int _outcome
    cdef long long _next_scan_us


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
        self.straight = StraightTranslator(self.translator)
        self.table = self.translator.table
        self.offsets = self.translator.offsets
        self.progress = self.translator.progress
        self.copies = self.translator.copies
        self.held = self.translator.held
        self.to_guest = self.translator.to_guest
        self.neighbours = self.translator.neighbours
        self.stats = self.translator.stats
        self.packet = self.translator.packet
        self.traveling = self.translator.traveling
        self.saved = self.translator.saved
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
        """Whether a takeover is possible."""
        return self.translator.keeps_copies

    @keeps_copies.setter
    def keeps_copies(self, value):
        self.translator.keeps_copies = value

    @property
    def is_serving(self):
        """Whether this guest serves the clients."""
        return self.translator.is_serving

    # ── facts ─────────────────────────────────────────────────────────────────────────────────────────────────

    def client_frames(
        self,
        uint8_t[::1] buf,
        Py_ssize_t start,
        Py_ssize_t end,
        long long now_us,
        uint8_t[::1] out,
        Py_ssize_t out_start,
    ):
        """Frames for the guest; returns the position up to which they were consumed (`buf` is modified).

        `out` may be `buf` itself, with `out_start` no further than `start`: bytes already in place are not copied then.
        Raises FramingError if the rest of the stream cannot be read. Consumes less than all if `out` is full.
        """
        check_range(len(buf), start, end)
        check_range(len(out), out_start, len(out))
        return self._batch(&buf[0], start, end, now_us, &out[0], out_start, len(out), True)

    def guest_frames(
        self,
        uint8_t[::1] buf,
        Py_ssize_t start,
        Py_ssize_t end,
        long long now_us,
        uint8_t[::1] out,
        Py_ssize_t out_start,
    ):
        """Frames of the guest; otherwise as `client_frames`."""
        check_range(len(buf), start, end)
        check_range(len(out), out_start, len(out))
        return self._batch(&buf[0], start, end, now_us, &out[0], out_start, len(out), False)

    def checkpoint_committed(self):
        """The secondary is now a copy of a primary without offsets: see `adopt_offsets`."""
        self.adopt_offsets(b"", 0)

    def export_offsets(self):
        """The table for `adopt_offsets` on the node whose guest becomes a copy of this one's; b"" for no offsets."""
        return self.traveling.export()

    def adopt_offsets(self, table, now_us: cython.longlong):
        """The guest is now a copy of the primary's: use the offsets of `table`, or 0; its earlier frames are void.

        Client frames that wait here go to the guest, with the new offsets: it has their handshake. Raises LinkError if
        it is not a table, and then changes nothing.
        """
        octets = bytearray(table)
        self.traveling.check(octets)
        records: cython.uchar[::1] = octets
        cdef uint8_t* base = &records[0]
        size: cython.Py_ssize_t = len(octets)
        pos: cython.Py_ssize_t = 4
        with nogil:
            self._shift_waiting(-1)
            self._commit()
            self._adopt(base, pos, size, now_us)
            self._shift_waiting(1)
            self._release_all_held()
            self._save_all()

    def takeover(self):
        """This node serves the clients from now on: frames that they may have missed are ready for `drain_client`.

        Tracked connections keep their offsets until they close; new ones learn an offset of 0.
        """
        self.translator.is_serving = True
        with nogil:
            self._resend()

    def read_rows(self, memory, salt, now_us: cython.longlong):
        """This node serves on: read what `saved.begin` has written before a restart, and go on writing it.

        For a new rewriter. Returns how many rows could not be read.
        """
        cdef int unreadable
        self.translator.is_serving = True
        self.saved._use(memory, salt)
        with nogil:
            unreadable = self._read_saved(now_us)
        return unreadable

    def timer_fired(self, now_us: cython.longlong):
        """Remove expired rows, held frames and copies; call it about once a second."""
        with nogil:
            self._expire(now_us)

    # ── output ────────────────────────────────────────────────────────────────────────────────────────────────

    def drain_guest(self, uint8_t[::1] out, Py_ssize_t start):
        """Write frames that are ready for the guest; returns the new end."""
        check_range(len(out), start, len(out))
        cdef uint8_t* base = &out[0]
        end: cython.Py_ssize_t = len(out)
        with nogil:
            start = self.write_kept(True, base, start, end)
        return start

    def drain_client(self, uint8_t[::1] out, Py_ssize_t start):
        """Write frames to be sent again to the client; returns the new end."""
        check_range(len(out), start, len(out))
        cdef uint8_t* base = &out[0]
        end: cython.Py_ssize_t = len(out)
        with nogil:
            start = self.write_kept(False, base, start, end)
        return start

    cdef Py_ssize_t write_kept(self, bint is_for_guest, uint8_t* out, Py_ssize_t start, Py_ssize_t end) noexcept nogil:
        """See `drain_guest` and `drain_client`."""
        if is_for_guest:
            return self.copies.write(self.to_guest, out, start, end, self.has_vnet)
        return self.copies.write(self.to_client, out, start, end, self.has_vnet)

    def seq_offset(self, key_packet):
        """(state, seq_offset, ts_offset) of the connection of a parsed guest packet, or None."""
        row = self.table.find(key_packet, False)
        if row == _NONE:
            return None
        return self.offsets.at[row].state, self.offsets.at[row].seq_offset, self.offsets.at[row].ts_offset

    # ── batches ───────────────────────────────────────────────────────────────────────────────────────────────

    cdef Py_ssize_t _batch(
        self,
        uint8_t* buf,
        Py_ssize_t start,
        Py_ssize_t end,
        long long now_us,
        uint8_t* out,
        Py_ssize_t out_start,
        Py_ssize_t room,
        bint is_client,
    ) except -1:
        pos: cython.Py_ssize_t = start
        self.out_end = out_start
        with nogil:
            pos = self.feed(buf, pos, end, is_client, now_us, out, self.out_end, room)
        if self._outcome == _IMPOSSIBLE:
            name = self.client_name if is_client else self.guest_name
            taken = self.stats.client_bytes if is_client else self.stats.guest_bytes
            raise FramingError(name, taken, self.span.word, _REWRITER_LENGTH_MAX)
        return pos

    cdef Py_ssize_t feed(self, uint8_t* buf, Py_ssize_t start, Py_ssize_t end, bint is_client, long long now_us,
            uint8_t* out, Py_ssize_t out_start, Py_ssize_t room) noexcept nogil:
        """Translate frames; returns the position up to which they were consumed, and `_outcome` says why it ended."""
        cdef Py_ssize_t pos
        self.out_end = out_start
        pos = self._run(buf, start, end, is_client, now_us, out, room)
        if is_client:
            self.stats.client_bytes += pos - start
        else:
            self.stats.guest_bytes += pos - start
        return pos

    cdef Py_ssize_t _run(self, uint8_t* buf, Py_ssize_t pos, Py_ssize_t end, bint is_client, long long now_us,
            uint8_t* out, Py_ssize_t room) noexcept nogil:
        status: cython.int
        outcome: cython.int
        reached: cython.Py_ssize_t
        self._outcome = _SEND
        while True:
            reached = self.straight.run(buf, pos, min(end, pos + room - self.out_end), self.has_vnet, is_client, now_us)
            self._put(out, buf, pos, reached)
            pos = reached
            status = frame_at(buf, pos, end, self.has_vnet, self.span)
            if status == 2:
                self._outcome = _IMPOSSIBLE
                return pos
            if status == 0 or room - self.out_end < self.span.end - pos:
                return pos
            parse_frame(buf, self.span.start, self.span.end, self.span.vnet_len, self.packet)
            if is_client:
                outcome = self.translator.take_client(buf, now_us)
            else:
                outcome = self.translator.take_guest(buf, now_us)
            if outcome == _SEND:
                self._put(out, buf, pos, self.span.end)
            pos = self.span.end

    cdef inline void _put(self, uint8_t* out, uint8_t* buf, Py_ssize_t pos, Py_ssize_t end) noexcept nogil:
        """Append to the output, unless it is in place already."""
        if out != buf:
            copy_many(out + self.out_end, buf + pos, end - pos)
        elif self.out_end != pos:
            move(buf, self.out_end, pos, end - pos)
        self.out_end += end - pos

    # ── checkpoint, takeover, time ────────────────────────────────────────────────────────────────────────────

    cdef int _commit(self) noexcept nogil:
        row: cython.int = 0
        while row < self.table.rows:
            if self.table.in_use(row):
                self.copies.forget(row)
                self.offsets.committed(row)
            row += 1
        return 0

    cdef Py_ssize_t _adopt(self, uint8_t* records, Py_ssize_t pos, Py_ssize_t size, long long now_us) noexcept nogil:
        """Adopt the records of a table."""
        while pos < size:
            self.traveling.read_key(records, pos, self.packet)
            row: cython.int = self.table.find(self.packet, False)
            if row == _NONE:
                row = self.translator.row_for(OffsetState.KNOWN, now_us)
            pos = self.traveling.adopt(row, now_us, records, pos)
        return pos

    cdef int _save_all(self) noexcept nogil:
        row: cython.int = 0
        while self.saved.used and row < self.table.rows:
            self.saved.changed(row)
            row += 1
        return 0

    cdef int _read_saved(self, long long now_us) noexcept nogil:
        unreadable: cython.int = 0
        slot: cython.int = 0
        while slot < self.saved.slots:
            at: cython.Py_ssize_t = self.saved.choose(slot)
            row: cython.int = _NONE
            if at > 0:
                self.traveling.read_key(self.saved._memory, at, self.packet)
                if self.table.find(self.packet, False) == _NONE:
                    row = self.translator.row_for(OffsetState.KNOWN, now_us)
            if row != _NONE:
                self.traveling.adopt(row, now_us, self.saved._memory, at)
                self.saved._slot[row] = slot + 1
                self.saved.used += 1
            elif at != 0:
                unreadable += 1
            slot += 1
        return unreadable

    cdef int _release_all_held(self) noexcept nogil:
        row: cython.int = 0
        while row < self.table.rows:
            if self.table.in_use(row) and self.held.queues.at[row].head != _NONE:
                self.translator.release_held(row, self.table.at[row].last_seen_us)
            row += 1
        return 0

    cdef int _shift_waiting(self, int sign) noexcept nogil:
        """Remove the offsets from the frames that wait for `drain_guest` (`sign` -1), or add them again (1)."""
        record: cython.int = self.to_guest.at[0].head
        while record != _NONE:
            self.copies.parse(record, self.packet)
            self.translator.shift(self.copies.pool.arena.memory, sign)
            record = self.copies.pool.at[record].next
        return 0

    cdef int _resend(self) noexcept nogil:
        record: cython.int
        row: cython.int = 0
        while row < self.table.rows:
            if self.table.in_use(row) and self.offsets.at[row].state == OffsetState.KNOWN:
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

    cdef int _expire(self, long long now_us) noexcept nogil:
        if now_us < self._next_scan_us:
            return 0
        self._next_scan_us = now_us + _SCAN_US
        if self.held.count or self.copies.pool.used:
            self._age(now_us)
        cdef long long passed = self.table.passed_over
        cdef long long before
        evicted: cython.int = 0
        while evicted + self.table.passed_over - passed < _EVICTED_PER_SCAN:
            before = self.table.passed_over
            row: cython.int = self.table.expired(now_us)
            if row != _NONE:
                self.translator.give_up(row)
                evicted += 1
            elif self.table.passed_over == before:
                return 0
        return 0

    cdef int _age(self, long long now_us) noexcept nogil:
        """Held frames and copies each have a deadline."""
        row: cython.int = 0
        while row < self.table.rows:
            if self.held.queues.at[row].head != _NONE:
                self.stats.handshake_dropped += self.held.age(row, now_us)
            self.copies.age(row, now_us - _UNACKED_US)
            row += 1
        return 0
