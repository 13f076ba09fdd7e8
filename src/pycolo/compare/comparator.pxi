"""The comparator: colo-compare without sockets, clocks or threads.

A shell feeds it batches (`primary_frames`, `secondary_frames`), reports the time (`timer_fired` at `deadline_us`) and
events (`checkpoint_committed`, `pair_formed`, `pair_lost`, `epoch_marker`), sends what `drain` writes, and executes
`commands`. Times are monotonic microseconds. One owner, no locks. Batches run with the GIL released.

Back-pressure (rule C6): a call that returns less than `end` stopped because a queue, memory or the table is full; the
shell stops reading that side and offers the rest again after any other event. Nothing taken is dropped.
"""

cdef enum:
    _TAKEN = 0  # this and the next: the result for one frame of a batch
    _IMPOSSIBLE = -1
_COMPARATOR_LENGTH_MAX = limits.STREAM_LENGTH_BYTES_MAX

@cython.final
cdef class Comparator:
    """Compares two replicas' output. Options are colo-compare's, in milliseconds and packets.

    `seed`: random 128 bits for the connection table. `policy`: a `DivergencePolicy`. `commits_input`: ack_policy=commit
    (otherwise immediate). `needs_handshake`: connections whose SYN was not seen pass uncompared, for pairs that do not
    copy state. `is_passing`: nothing is compared (no secondary). `age_cycle_ms`: see `Ages`; 0: once per scan.
    `bypass`: the `Flow`s of connections that are never compared. `masks`: `Mask`s of bytes that may differ.
    """

    cdef readonly ConnectionTable table
    cdef readonly Pool pool
    cdef readonly Held held
    cdef readonly CompareStats stats
    cdef readonly TcpComparison tcp
    cdef readonly Clients clients
    cdef readonly History history
    cdef Steady steady
    cdef readonly DatagramComparison datagram
    cdef readonly Admission admission
    cdef readonly Ages ages
    cdef readonly MutualWait mutual
    cdef readonly Waits waits
    cdef readonly Openings openings
    cdef readonly Reassembly primary_fragments
    cdef readonly Reassembly secondary_fragments
    cdef readonly Packet packet
    cdef readonly Span span
    cdef readonly Probe probe
    cdef public long long scan_cycle_us
    cdef readonly object primary_name
    cdef readonly object secondary_name
    cdef readonly bint is_passing
    cdef readonly bint awaits_marker
    cdef readonly long long epoch
    cdef long long _next_scan_us
    cdef int _outcome
    cdef bint _is_requested
    cdef int _settled

    def __init__(
        self,
        seed,
        has_vnet=False,
        policy=0,
        commits_input=True,
        needs_handshake=False,
        compare_timeout_ms=limits.COMPARE_TIMEOUT_MS,
        scan_cycle_ms=limits.EXPIRED_SCAN_CYCLE_MS,
        age_cycle_ms=0,
        mutual_wait_ms=0,
        bypass=(),
        masks=(),
        queue_packets_max=limits.QUEUE_PACKETS_MAX,
        connections_max=limits.CONNECTIONS_MAX,
        held_bytes_max=limits.HELD_BYTES_MAX,
        held_packets_max=limits.HELD_PACKETS_MAX,
        primary_name="primary_in",
        secondary_name="secondary_in",
    ):
        # A silent client looks half-open from here: its connection is evicted first, but not sooner.
        self.table = ConnectionTable(connections_max, seed, half_open_ms=limits.CONNECTION_IDLE_MS)
        self.pool = Pool(held_bytes_max, held_packets_max)
        self.held = Held(self.table, self.pool, int(policy), queue_packets_max, has_vnet)
        self.stats = self.held.stats
        self.tcp = TcpComparison(self.held, commits_input, needs_handshake, tuple(masks))
        self.clients = Clients(self.table, self.tcp)
        self.history = self.tcp.history
        self.datagram = DatagramComparison(self.held)
        self.steady = Steady(self.table, self.held, self.tcp, self.datagram)
        self.admission = Admission(self.held, self.tcp, self.datagram, scan_cycle_ms * 1000)
        age_ms = age_cycle_ms or scan_cycle_ms
        self.ages = Ages(self.held, self.tcp, self.datagram, self.admission, compare_timeout_ms * 1000, age_ms * 1000)
        self.mutual = MutualWait(self.held, self.ages, mutual_wait_ms * 1000)
        self.waits = Waits(self.held)
        self.openings = Openings(self.table, self.held, self.tcp, self.admission, Flows(bypass))
        self.primary_fragments = Reassembly(self.held, True, compare_timeout_ms * 1000)
        self.secondary_fragments = Reassembly(self.held, False, compare_timeout_ms * 1000)
        self.primary_fragments.other = self.secondary_fragments
        self.secondary_fragments.other = self.primary_fragments
        self.packet = Packet()
        self.span = Span()
        self.probe = Probe()
        self.scan_cycle_us = scan_cycle_ms * 1000
        self.primary_name = primary_name
        self.secondary_name = secondary_name
        self.is_passing = False
        self.awaits_marker = False
        self.epoch = 0
        self._next_scan_us = 0
        self._outcome = 0
        self._is_requested = False
        self._settled = 0

    # ── facts ─────────────────────────────────────────────────────────────────────────────────────────────────

    def primary_frames(
        self, uint8_t[::1] buf, Py_ssize_t start, Py_ssize_t end, long long now_us
    ):
        """Frames of the primary; returns the position up to which they were taken.

        Raises FramingError if the rest of the stream cannot be read.
        """
        check_range(len(buf), start, end)
        return self._batch(&buf[0], start, end, now_us, True)

    def secondary_frames(
        self, uint8_t[::1] buf, Py_ssize_t start, Py_ssize_t end, long long now_us
    ):
        """Frames of the secondary, already in the primary's sequence space; otherwise as `primary_frames`."""
        check_range(len(buf), start, end)
        return self._batch(&buf[0], start, end, now_us, False)

    def client_frames(
        self, uint8_t[::1] buf, Py_ssize_t start, Py_ssize_t end, long long now_us
    ):
        """Client frames on their way to the primary, if they are seen (rules C8 and R1): (until, behind).

        Frames before `until` are for the secondary too, the one from there to `behind` is not; offer the rest again.
        """
        if self.is_passing:
            return end, end
        check_range(len(buf), start, end)
        cdef uint8_t* base = &buf[0]
        cdef Py_ssize_t until
        with nogil:
            until = self.clients.take(base, start, end, self.span, self.packet, now_us)
        return until, self.clients.behind

    cdef int _note_alone(self, long long now_us) noexcept nogil:
        """A segment of a primary without a secondary: record its position, for the checkpoint that adds a secondary."""
        row: cython.int = self.openings.row_for(self.packet, now_us)
        if row >= 0 and not self.held.rows[row].flags & RowFlag.EXEMPT:
            self.tcp.alone(row, self.packet, now_us)
        return 0

    def timer_fired(self, now_us: cython.longlong):
        """Time has passed: split, time out, evict."""
        with nogil:
            self._timer(now_us)

    def checkpoint_committed(self, long long now_us, awaits_marker: cython.bint = False):
        """The secondary is a copy of the primary: release all held packets, discard the secondary's, begin a new epoch.

        `awaits_marker`: the secondary's stream before `epoch_marker` belongs to its old state (rule E2).
        """
        self.epoch += 1
        self.awaits_marker = awaits_marker
        with nogil:
            self.waits.note(now_us)
            self._flush(now_us)
            self._restart_rows(True, now_us)
        self._begin_epoch(now_us)

    def epoch_marker(self, epoch):
        """The secondary's stream has reached the beginning of `epoch`."""
        if epoch >= self.epoch:
            self.awaits_marker = False

    def pair_lost(self, now_us: cython.longlong):
        """The secondary is gone and the arbiter has decided: release all held packets, pass everything on."""
        with nogil:
            self._flush(now_us)
            self._restart_rows(False, now_us)
        self._begin_epoch(now_us)
        self.is_passing = True

    def pair_formed(self, now_us: cython.longlong):
        """There is a secondary. Open connections are older than the pair: see `needs_handshake`."""
        with nogil:
            self._flush(now_us)
            self._restart_rows(False, now_us)
        self._begin_epoch(now_us)
        self.awaits_marker = False
        self.is_passing = False

    def _begin_epoch(self, now_us):
        self.held.checkpoint_wanted = False
        self.admission.begin_epoch(now_us)
        self._is_requested = False
        self._settled = self.held._reports  # of the epoch before: none of them is a reason for a checkpoint any more

    # ── output ────────────────────────────────────────────────────────────────────────────────────────────────

    def drain(self, uint8_t[::1] out, Py_ssize_t start):
        """Write released frames with their length words to `out` from `start`; returns the new end."""
        check_range(len(out), start, len(out))
        cdef uint8_t* base = &out[0]
        end: cython.Py_ssize_t = len(out)
        with nogil:
            end = self.held.drain(base, start, end)
        return end

    def commands(self):
        """The decisions since the last call, in order."""
        found = [ReportDifference(difference) for difference in self.held.take_differences()]
        settled, self._settled = self._settled, 0
        if found and self.held.checkpoint_wanted and not self._is_requested:
            self._is_requested = True
            first = min(settled, len(found) - 1)  # the last one, if there was no room for the report of a new one
            found[first] = RequestCheckpoint(found[first].difference)
        return found

    def deadline_us(self):
        """When to call `timer_fired` next, or None."""
        cdef long long due = self.due_us()
        return None if due == _NEVER else due

    cdef long long due_us(self) noexcept nogil:
        cdef long long due = min(self.tcp.split_due_us, self.datagram.reorder_due_us, self.admission.due_us())
        if self.held.active_head != _NONE:
            due = min(due, min(self.ages.due_us(), self.mutual.due_us()))
        if self.table.used or self.primary_fragments.slots.used:
            return min(due, self._next_scan_us)
        return min(due, self._next_scan_us) if self.secondary_fragments.slots.used else due

    def hold_histogram(self):
        """[(upper bound in µs, packets)]: how long released packets were held."""
        return self.held.hold_histogram()

    def has_ready(self):
        """Whether `drain` has anything to write."""
        return self.held.has_ready()

    def held_packets(self):
        """Packets of both sides in memory, with released undrained ones, without those kept for retransmissions."""
        return self.pool.used - self.history.used + self.held.shared

    def held_bytes(self):
        """The memory of these packets."""
        return self.pool.used_bytes - self.history.used_bytes + self.held.shared_bytes

    # ── batches ───────────────────────────────────────────────────────────────────────────────────────────────

    cdef Py_ssize_t _batch(
        self, uint8_t* buf, Py_ssize_t start, Py_ssize_t end, long long now_us, bint is_primary
    ) except -1:
        pos: cython.Py_ssize_t = start
        with nogil:
            pos = self.feed(buf, pos, end, is_primary, now_us)
            self.held.outbox.settle()  # the buffer is the caller's
        if self._outcome == _IMPOSSIBLE:
            name = self.primary_name if is_primary else self.secondary_name
            taken = self.stats.primary_bytes if is_primary else self.stats.secondary_bytes
            raise FramingError(name, taken, self.span.word, _COMPARATOR_LENGTH_MAX)
        return pos

    cdef Py_ssize_t feed(self, uint8_t* buf, Py_ssize_t start, Py_ssize_t end, bint is_primary,
            long long now_us) noexcept nogil:
        """Take frames; returns the position up to which they were taken, and `_outcome` says why it ended.

        Released frames may still lie in `buf` until the outbox is settled.
        """
        cdef Py_ssize_t pos = self._run(buf, start, end, is_primary, now_us)
        if is_primary:
            self.stats.primary_bytes += pos - start
        else:
            self.stats.secondary_bytes += pos - start
        return pos

    cdef Py_ssize_t _run(self, uint8_t* buf, Py_ssize_t pos, Py_ssize_t end, bint is_primary,
            long long now_us) noexcept nogil:
        """Take frames until one is incomplete, impossible or has no room; `_outcome` says which."""
        status: cython.int
        outcome: cython.int
        self._outcome = _TAKEN
        if self.admission.begin(is_primary, now_us):
            if is_primary:
                self.primary_fragments.stood_us = now_us
            else:
                self.secondary_fragments.stood_us = now_us
        while True:
            if not self.is_passing and (is_primary or not self.awaits_marker):
                pos = self.steady.run(buf, pos, end, is_primary, now_us)
            status = frame_at(buf, pos, end, self.held.has_vnet, self.span)
            if status == 0:
                return pos
            if status == 2:
                self._outcome = _IMPOSSIBLE
                return pos
            parse_frame(buf, self.span.start, self.span.end, self.span.vnet_len, self.packet)
            outcome = self._take(buf, is_primary, now_us)
            if outcome != _TAKEN:
                self._outcome = outcome
                return pos
            if is_primary:
                self.stats.primary_frames += 1
            else:
                self.stats.secondary_frames += 1
            pos = self.span.end

    cdef int _take(self, uint8_t* buf, bint is_primary, long long now_us) noexcept nogil:
        kind: cython.int = self.packet.kind
        if kind == PacketKind.PASS and self.probe.is_expected and (is_primary or not self.awaits_marker):
            if self.probe.take(buf, self.packet, is_primary):
                return _TAKEN
        if self.is_passing or kind == PacketKind.PASS or kind == PacketKind.REFUSED:
            if is_primary and kind == PacketKind.TCP and not self.tcp.needs_handshake:
                self._note_alone(now_us)
            if is_primary:
                passing: cython.int = self.admission.store(buf, self.span, now_us)
                if passing == _NONE:
                    return _BLOCKED
                self.held.uncompared.count_passed(buf, self.packet)
                return self.held.pass_on(passing, kind, now_us)
            return self.held.discard_unstored(buf, self.span, now_us)
        if self.awaits_marker and not is_primary:
            return self.held.discard_unstored(buf, self.span, now_us)
        if kind == PacketKind.FRAGMENT:
            if is_primary:
                return self._take_fragment(self.primary_fragments, buf, is_primary, now_us)
            return self._take_fragment(self.secondary_fragments, buf, is_primary, now_us)
        row: cython.int = self.openings.row_for(self.packet, now_us)
        if row == _NONE:
            return _BLOCKED
        if self.held.rows[row].flags & RowFlag.EXEMPT:
            return self._bypass(row, buf, is_primary, now_us)
        outcome: cython.int = self.admission.admit(row, self.packet, is_primary, now_us)
        if outcome == _REFUSED:
            if is_primary:
                self.stats.refused_marked += 1
                return _TAKEN
            return self.held.discard_unstored(buf, self.span, now_us)
        if outcome != _TAKEN:
            return outcome
        record: cython.int = self.admission.store(buf, self.span, now_us)
        if record == _NONE:
            return _BLOCKED
        while not self._dispatch(row, record, is_primary, kind, now_us):
            if not self.history.make_room():
                return self.admission.no_room(record, now_us)
        return _TAKEN

    cdef int _bypass(self, int row, uint8_t* buf, bint is_primary, long long now_us) noexcept nogil:
        """C7: a packet of a connection that is never compared; the secondary's leads nowhere."""
        if not is_primary:
            return self.held.discard_unstored(buf, self.span, now_us)
        record: cython.int = self.admission.store(buf, self.span, now_us)
        if record == _NONE:
            return _BLOCKED
        return self.openings.bypass(row, record, self.packet, now_us)

    cdef bint _dispatch(self, int row, int record, bint is_primary, int kind, long long now_us) noexcept nogil:
        """Pass a packet to the comparison of its protocol. False: it must be cut, and there is no room."""
        if kind != PacketKind.TCP:
            if is_primary:
                return self.datagram.primary(row, record, self.packet, now_us)
            return self.datagram.secondary(row, record, self.packet, now_us)
        if is_primary:
            self.tcp.primary(row, record, self.packet, now_us)
        else:
            self.tcp.secondary(row, record, self.packet, now_us)
        return True

    # ── fragments ─────────────────────────────────────────────────────────────────────────────────────────────

    cdef int _take_fragment(self, Reassembly fragments, uint8_t* buf, bint is_primary,
            long long now_us) noexcept nogil:
        record: cython.int = self.admission.store(buf, self.span, now_us)
        if record == _NONE:
            return _BLOCKED
        slot: cython.int = fragments.add(record, self.packet, now_us)
        if slot == _NONE:
            return _TAKEN
        outcome: cython.int = self._take_whole(fragments, slot, is_primary, now_us)
        if outcome != _TAKEN:
            fragments.retract(slot)
        return outcome

    cdef int _take_whole(self, Reassembly fragments, int slot, bint is_primary, long long now_us) noexcept nogil:
        """A complete datagram is handled like any other packet; `packet` is its parsed form afterwards."""
        whole: cython.int = fragments.assemble(slot, now_us)
        while whole == _NONE and self.history.make_room():
            whole = fragments.assemble(slot, now_us)
        if whole == _NONE:
            return self.admission.no_room(_NONE, now_us)
        pos: cython.longlong = self.pool.at[whole].pos
        end: cython.longlong = pos + self.pool.at[whole].length
        kind: cython.int = parse_frame(self.pool.arena.memory, pos, end, self.pool.at[whole].vnet_len, self.packet)
        if kind == PacketKind.FRAGMENT:  # fragments within fragments cannot be compared
            self.pool.free(whole)
            fragments.give_up(slot, now_us)
            return _TAKEN
        if kind == PacketKind.PASS or kind == PacketKind.REFUSED:
            fragments.finish(slot, whole)
            if not is_primary:
                return self.held.discard(whole)
            self.held.uncompared.count_passed(self.pool.arena.memory, self.packet)
            return self.held.pass_on(whole, kind, now_us)
        row: cython.int = self.openings.row_for(self.packet, now_us)
        outcome: cython.int = _BLOCKED
        if row != _NONE and self.held.rows[row].flags & RowFlag.EXEMPT:
            fragments.finish(slot, whole)
            return self.openings.bypass(row, whole, self.packet, now_us) if is_primary else self.held.discard(whole)
        if row != _NONE:
            outcome = self.admission.admit(row, self.packet, is_primary, now_us)
        if outcome != _TAKEN and outcome != _REFUSED:
            self.pool.free(whole)
            return outcome
        self.stats.reassembled += 1
        fragments.finish(slot, whole)
        if outcome == _REFUSED:
            if not is_primary:
                return self.held.discard(whole)
            self.stats.refused_marked += 1
            return self.pool.free(whole)
        self._dispatch(row, whole, is_primary, kind, now_us)
        return _TAKEN

    # ── time ──────────────────────────────────────────────────────────────────────────────────────────────────

    cdef int _timer(self, long long now_us) noexcept nogil:
        row: cython.int
        following: cython.int
        self.admission.timer(now_us)
        if now_us >= self.tcp.split_due_us or now_us >= self.datagram.reorder_due_us:
            self.tcp.split_due_us = _NEVER
            self.datagram.reorder_due_us = _NEVER
            stood_us: cython.longlong = self.admission.last_stood_us(now_us)
            row = self.held.active_head
            while row != _NONE:
                following = self.held.next_active(row)
                if self.table.is_tcp(row):
                    self.tcp.split_due(row, now_us)
                else:
                    self.datagram.reorder_due(row, stood_us, now_us)
                row = following
        self.mutual.look(now_us)
        self.ages.look(now_us)
        if now_us < self._next_scan_us:
            return 0
        self._next_scan_us = now_us + self.scan_cycle_us
        if not self.admission.settle(now_us):
            self.primary_fragments.review(now_us)
            self.secondary_fragments.review(now_us)
        self.admission.review(now_us)
        return self.openings.expire(now_us)

    # ── epochs ────────────────────────────────────────────────────────────────────────────────────────────────

    cdef int _flush(self, long long now_us) noexcept nogil:
        """Release every held primary packet, discard every secondary one."""
        self.primary_fragments.flush(now_us)
        self.secondary_fragments.flush(now_us)
        row: cython.int = self.held.active_head
        while row != _NONE:
            if self.table.is_tcp(row):
                self.tcp.flush(row, now_us)
            else:
                self.held.drop_all_secondary(row)
                self.held.release_all(row, now_us)
            row = self.held.active_head
        return 0

    cdef int _restart_rows(self, bint is_commit, long long now_us) noexcept nogil:
        """Every connection starts anew: as equal (after a checkpoint), or as older than the pair."""
        row: cython.int = 0
        while row < self.table.rows:
            if self.table.in_use(row) and not self.held.rows[row].flags & RowFlag.EXEMPT:
                if not self.table.is_tcp(row):
                    self.datagram.committed(row)
                elif is_commit:
                    self.tcp.committed(row, now_us)
                else:
                    self.tcp.mark_older(row, now_us)
            row += 1
        return 0
