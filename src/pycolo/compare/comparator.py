"""The comparator: colo-compare without sockets, clocks or threads.

A shell feeds it batches (`primary_frames`, `secondary_frames`), tells it the time (`timer_fired` when `deadline_us`
has come) and what happened (`checkpoint_committed`, `pair_formed`, `pair_lost`, `epoch_marker`), sends what `drain`
writes, and acts on `commands`. Times are monotonic microseconds. One owner: nothing here is locked. Batches run with
the GIL released.

Back-pressure (rule C6): a call that returns less than `end` took no more because a queue, memory or the table is full;
the shell stops reading that side and offers the rest again after anything else has happened. Nothing taken is dropped.
"""

import cython

from pycolo import limits
from pycolo.compare.difference import ReportDifference, RequestCheckpoint
from pycolo.errors import FramingError

if cython.compiled:
    from cython.cimports.pycolo.compare.admission import Admission
    from cython.cimports.pycolo.compare.ages import Ages
    from cython.cimports.pycolo.compare.datagram import DatagramComparison
    from cython.cimports.pycolo.compare.fragments import Reassembly
    from cython.cimports.pycolo.compare.held import Held
    from cython.cimports.pycolo.compare.kinds import DifferenceKind
    from cython.cimports.pycolo.compare.tcp import TcpComparison
    from cython.cimports.pycolo.conntrack.table import ConnectionTable
    from cython.cimports.pycolo.storage.pool import Pool
    from cython.cimports.pycolo.wire.framing import Span, frame_at
    from cython.cimports.pycolo.wire.kinds import IpProto, PacketKind, TcpFlag
    from cython.cimports.pycolo.wire.packet import Packet, parse_frame
else:
    from pycolo.compare.admission import Admission
    from pycolo.compare.ages import Ages
    from pycolo.compare.datagram import DatagramComparison
    from pycolo.compare.fragments import Reassembly
    from pycolo.compare.held import Held
    from pycolo.compare.kinds import DifferenceKind
    from pycolo.compare.tcp import TcpComparison
    from pycolo.conntrack.table import ConnectionTable
    from pycolo.storage.pool import Pool
    from pycolo.wire.framing import Span, frame_at
    from pycolo.wire.kinds import IpProto, PacketKind, TcpFlag
    from pycolo.wire.packet import Packet, parse_frame

_NONE = cython.declare(cython.int, -1)
_NEVER = cython.declare(cython.longlong, 1 << 62)
_EVICTED_PER_SCAN = cython.declare(cython.int, 1024)
_LENGTH_MAX = limits.STREAM_LENGTH_BYTES_MAX

# What became of one frame of a batch.
_TAKEN = cython.declare(cython.int, 0)
_BLOCKED = cython.declare(cython.int, 1)
_GROW = cython.declare(cython.int, 2)
_REFUSED = cython.declare(cython.int, 3)
_IMPOSSIBLE = cython.declare(cython.int, -1)


class Comparator:
    """Compares two replicas' output. Options are colo-compare's, in milliseconds and packets.

    `seed`: random 32 bits for the connection table. `policy`: a `DivergencePolicy`. `commits_input`: ack_policy=commit
    (else immediate). `needs_handshake`: connections whose SYN was not seen pass uncompared, for pairs that do not copy
    state. `is_passing`: nothing is compared (no secondary).
    """

    def __init__(
        self,
        seed,
        has_vnet=False,
        policy=0,
        commits_input=True,
        needs_handshake=False,
        compare_timeout_ms=limits.COMPARE_TIMEOUT_MS,
        scan_cycle_ms=limits.EXPIRED_SCAN_CYCLE_MS,
        queue_packets_max=limits.QUEUE_PACKETS_MAX,
        connections_max=limits.CONNECTIONS_MAX,
        held_bytes_max=limits.HELD_BYTES_MAX,
        held_packets_max=limits.HELD_PACKETS_MAX,
        primary_name="primary_in",
        secondary_name="secondary_in",
    ):
        # A client that has connected and says nothing looks half-open from here: it goes first, but not sooner.
        self.table = ConnectionTable(connections_max, seed, half_open_ms=limits.CONNECTION_IDLE_MS)
        self.pool = Pool(held_bytes_max, held_packets_max)
        self.held = Held(self.table, self.pool, int(policy), queue_packets_max, has_vnet)
        self.stats = self.held.stats
        self.tcp = TcpComparison(self.held, commits_input, needs_handshake)
        self.history = self.tcp.history
        self.datagram = DatagramComparison(self.held)
        self.admission = Admission(self.held, self.tcp, self.datagram, scan_cycle_ms * 1000)
        self.ages = Ages(self.held, self.tcp, self.datagram, self.admission, compare_timeout_ms * 1000)
        self.primary_fragments = Reassembly(self.held, True, compare_timeout_ms * 1000)
        self.secondary_fragments = Reassembly(self.held, False, compare_timeout_ms * 1000)
        self.primary_fragments.other = self.secondary_fragments
        self.secondary_fragments.other = self.primary_fragments
        self.packet = Packet()
        self.span = Span()
        self.scan_cycle_us = scan_cycle_ms * 1000
        self.primary_name = primary_name
        self.secondary_name = secondary_name
        self.is_passing = False
        self.awaits_marker = False
        self.epoch = 0
        self._next_scan_us = 0
        self._outcome = 0
        self._is_requested = False

    # ── facts ─────────────────────────────────────────────────────────────────────────────────────────────────

    def primary_frames(
        self, buf: cython.uchar[::1], start: cython.Py_ssize_t, end: cython.Py_ssize_t, now_us: cython.longlong
    ):
        """Frames of the primary; the position up to which they were taken is returned.

        Raises FramingError where the stream cannot be read on.
        """
        return self._batch(buf, start, end, now_us, True)

    def secondary_frames(
        self, buf: cython.uchar[::1], start: cython.Py_ssize_t, end: cython.Py_ssize_t, now_us: cython.longlong
    ):
        """Frames of the secondary, already in the primary's sequence space; otherwise as `primary_frames`."""
        return self._batch(buf, start, end, now_us, False)

    def client_frames(
        self, buf: cython.uchar[::1], start: cython.Py_ssize_t, end: cython.Py_ssize_t, now_us: cython.longlong
    ):
        """Frames of the client on their way to the primary, where they are seen (rule C8). Nothing is taken or held."""
        pos: cython.Py_ssize_t = start
        with cython.nogil:
            while frame_at(buf, pos, end, self.held.has_vnet, self.span) == 1:
                parse_frame(buf, self.span.start, self.span.end, self.span.vnet_len, self.packet)
                if self.packet.kind == PacketKind.TCP and not self.is_passing:
                    self._note_client(buf, now_us)
                pos = self.span.end

    def _note_client(self, buf: cython.uchar[::1], now_us: cython.longlong) -> cython.int:
        row: cython.int = self.table.find(self.packet, True)
        return 0 if row == _NONE else self.tcp.client(row, buf, self.packet, now_us)

    def timer_fired(self, now_us: cython.longlong):
        """Time has passed: split, time out, evict."""
        with cython.nogil:
            self._timer(now_us)

    def checkpoint_committed(self, now_us: cython.longlong, awaits_marker: cython.bint = False):
        """The secondary is a copy of the primary: release all held, discard the secondary's, begin a new epoch.

        `awaits_marker`: what the secondary's stream brings before `epoch_marker` belongs to its old state (rule E2).
        """
        self.epoch += 1
        self.awaits_marker = awaits_marker
        with cython.nogil:
            self._flush(now_us)
            self._restart_rows(True, now_us)
        self._begin_epoch(now_us)

    def epoch_marker(self, epoch):
        """The secondary's stream has reached the beginning of `epoch`."""
        if epoch >= self.epoch:
            self.awaits_marker = False

    def pair_lost(self, now_us: cython.longlong):
        """There is no secondary any more and the arbiter has decided: release all held, pass everything on."""
        with cython.nogil:
            self._flush(now_us)
            self._restart_rows(False, now_us)
        self._begin_epoch(now_us)
        self.is_passing = True

    def pair_formed(self, now_us: cython.longlong):
        """A secondary is there. What was open before is older than the pair: see `needs_handshake`."""
        with cython.nogil:
            self._flush(now_us)
            self._restart_rows(False, now_us)
        self._begin_epoch(now_us)
        self.awaits_marker = False
        self.is_passing = False

    def _begin_epoch(self, now_us):
        self.held.checkpoint_wanted = False
        self.admission.begin_epoch(now_us)
        self._is_requested = False

    # ── what comes out ────────────────────────────────────────────────────────────────────────────────────────

    def drain(self, out: cython.uchar[::1], start: cython.Py_ssize_t):
        """Write released frames with their length words to `out` from `start`; the new end is returned."""
        end: cython.Py_ssize_t
        with cython.nogil:
            end = self.held.drain(out, start)
        return end

    def commands(self):
        """What was decided since the last call, in order."""
        found = []
        for difference in self.held.take_differences():
            if self.held.checkpoint_wanted and not self._is_requested:
                self._is_requested = True
                found.append(RequestCheckpoint(difference))
            else:
                found.append(ReportDifference(difference))
        return found

    def deadline_us(self):
        """When `timer_fired` is to be called next, or None."""
        due = min(self.tcp.split_due_us, self.datagram.reorder_due_us, self.admission.due_us())
        fragments = self.primary_fragments.used or self.secondary_fragments.used
        if self.held.active_head != _NONE or self.table.used or fragments:
            due = min(due, self._next_scan_us)
        return None if due == _NEVER else due

    def hold_histogram(self):
        """[(upper bound in µs, packets)]: for how long released packets were held."""
        return self.held.hold_histogram()

    def has_ready(self):
        """Whether `drain` has anything to write."""
        return self.held.ready.head[0] != _NONE

    def held_packets(self):
        """Packets of both sides in memory, released but undrained ones included; not what is kept to compare again."""
        return self.pool.used - self.history.used

    def held_bytes(self):
        """The memory that those packets take."""
        return self.pool.used_bytes - self.history.used_bytes

    # ── batches ───────────────────────────────────────────────────────────────────────────────────────────────

    def _batch(
        self,
        buf: cython.uchar[::1],
        start: cython.Py_ssize_t,
        end: cython.Py_ssize_t,
        now_us: cython.longlong,
        is_primary: cython.bint,
    ):
        pos: cython.Py_ssize_t = start
        while True:
            with cython.nogil:
                pos = self._run(buf, pos, end, is_primary, now_us)
            if self._outcome != _GROW:
                break
            rows = self.table.grow()
            self.held.grow(rows)
            self.tcp.grow(rows)
        if is_primary:
            self.stats.primary_bytes += pos - start
        else:
            self.stats.secondary_bytes += pos - start
        if self._outcome == _IMPOSSIBLE:
            name = self.primary_name if is_primary else self.secondary_name
            taken = self.stats.primary_bytes if is_primary else self.stats.secondary_bytes
            raise FramingError(name, taken, self.span.word, _LENGTH_MAX)
        return pos

    def _run(
        self,
        buf: cython.uchar[::1],
        pos: cython.Py_ssize_t,
        end: cython.Py_ssize_t,
        is_primary: cython.bint,
        now_us: cython.longlong,
    ) -> cython.Py_ssize_t:
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

    def _take(self, buf: cython.uchar[::1], is_primary: cython.bint, now_us: cython.longlong) -> cython.int:
        kind: cython.int = self.packet.kind
        if self.is_passing or kind == PacketKind.PASS or kind == PacketKind.REFUSED:
            if is_primary:
                if kind == PacketKind.TCP and self._note_passing(now_us) == _GROW:
                    return _GROW
                passing: cython.int = self.admission.store(buf, self.span, now_us)
                return _BLOCKED if passing == _NONE else self.held.pass_on(passing, kind, now_us)
            return self.held.discard_unstored(buf, self.span, now_us)
        if self.awaits_marker and not is_primary:
            return self.held.discard_unstored(buf, self.span, now_us)
        if kind == PacketKind.FRAGMENT:
            if is_primary:
                return self._take_fragment(self.primary_fragments, buf, is_primary, now_us)
            return self._take_fragment(self.secondary_fragments, buf, is_primary, now_us)
        row: cython.int = self._row_for(now_us)
        if row < 0:
            return _BLOCKED if row == _NONE else _GROW
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
        while not self._compare(row, record, is_primary, kind, now_us):
            if not self.history.make_room():
                return self.admission.no_room(record, now_us)
        return _TAKEN

    def _compare(
        self, row: cython.int, record: cython.int, is_primary: cython.bint, kind: cython.int, now_us: cython.longlong
    ) -> cython.bint:
        """False: it is to be cut, and there is no room."""
        if kind != PacketKind.TCP:
            if is_primary:
                return self.datagram.primary(row, record, self.packet, now_us)
            return self.datagram.secondary(row, record, self.packet, now_us)
        if is_primary:
            self.tcp.primary(row, record, self.packet, now_us)
        else:
            self.tcp.secondary(row, record, self.packet, now_us)
        return True

    def _note_passing(self, now_us: cython.longlong) -> cython.int:
        """There is no secondary yet; when there is, it goes on from here."""
        row: cython.int = self._row_for(now_us)
        if row < 0:
            return _TAKEN if row == _NONE else _GROW
        return self.tcp.passes(row, self.packet, now_us)

    def _row_for(self, now_us: cython.longlong) -> cython.int:
        """The row of `packet`'s connection, made if need be; -1 none to be had, -2 the table must grow first."""
        row: cython.int = self.table.find(self.packet, False)
        if row != _NONE:
            self.table.heard(row, self.packet, now_us)
            return row
        if self.table.wants_growth():
            return -2
        row = self.table.insert(now_us)
        if row == _NONE:
            victim: cython.int = self.table.evict(now_us)
            if victim == _NONE:
                self.admission.report_full(DifferenceKind.TABLE_FULL, _NONE, now_us)
                return _NONE
            self._give_up(victim)
            row = self.table.insert(now_us)
        if self.packet.ip_proto == IpProto.PROTO_TCP:
            self.tcp.open_row(row, self.packet.kind == PacketKind.TCP and self.packet.flags & TcpFlag.SYN != 0)
        else:
            self.datagram.open_row(row)
        return row

    def _give_up(self, row: cython.int) -> cython.int:
        self.tcp.close_row(row)
        return self.table.remove(row)

    # ── fragments ─────────────────────────────────────────────────────────────────────────────────────────────

    def _take_fragment(
        self, fragments: Reassembly, buf: cython.uchar[::1], is_primary: cython.bint, now_us: cython.longlong
    ) -> cython.int:
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

    def _take_whole(
        self, fragments: Reassembly, slot: cython.int, is_primary: cython.bint, now_us: cython.longlong
    ) -> cython.int:
        """A datagram that is whole now is a packet like any other; `packet` is its parsed form afterwards."""
        whole: cython.int = fragments.assemble(slot, now_us)
        while whole == _NONE and self.history.make_room():
            whole = fragments.assemble(slot, now_us)
        if whole == _NONE:
            return self.admission.no_room(_NONE, now_us)
        pos: cython.longlong = self.pool.pos[whole]
        end: cython.longlong = pos + self.pool.length[whole]
        kind: cython.int = parse_frame(self.pool.arena.memory, pos, end, self.pool.vnet_len[whole], self.packet)
        if kind == PacketKind.FRAGMENT:  # fragments within fragments: nothing that can be compared
            self.pool.free(whole)
            fragments.give_up(slot, now_us)
            return _TAKEN
        if kind == PacketKind.PASS or kind == PacketKind.REFUSED:
            fragments.finish(slot, whole)
            return self.held.pass_on(whole, kind, now_us) if is_primary else self.held.discard(whole)
        row: cython.int = self._row_for(now_us)
        outcome: cython.int = _BLOCKED if row == _NONE else _GROW
        if row >= 0:
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
        self._compare(row, whole, is_primary, kind, now_us)
        return _TAKEN

    # ── time ──────────────────────────────────────────────────────────────────────────────────────────────────

    def _timer(self, now_us: cython.longlong) -> cython.int:
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
        if now_us < self._next_scan_us:
            return 0
        self._next_scan_us = now_us + self.scan_cycle_us
        row = self.held.active_head
        while row != _NONE:
            following = self.held.next_active(row)
            self.ages.time_out(row, now_us)
            row = following
        return self._expire(now_us)

    def _expire(self, now_us: cython.longlong) -> cython.int:
        """Incomplete datagrams, and rows that were closed or idle for long enough."""
        if not self.admission.settle(now_us):
            self.primary_fragments.review(now_us)
            self.secondary_fragments.review(now_us)
        self.admission.review(now_us)
        evicted: cython.int = 0
        while evicted < _EVICTED_PER_SCAN:
            row: cython.int = self.table.expired(now_us)
            if row == _NONE:
                return 0
            self._give_up(row)
            evicted += 1
        return 0

    # ── epochs ────────────────────────────────────────────────────────────────────────────────────────────────

    def _flush(self, now_us: cython.longlong) -> cython.int:
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

    def _restart_rows(self, is_commit: cython.bint, now_us: cython.longlong) -> cython.int:
        """Every connection begins anew: as equal (a checkpoint was committed), or as older than the pair."""
        row: cython.int = 0
        while row < self.table.rows:
            if self.table.in_use(row):
                if not self.table.is_tcp(row):
                    self.datagram.committed(row)
                elif is_commit:
                    self.tcp.committed(row, now_us)
                else:
                    self.tcp.mark_older(row, now_us)
            row += 1
        return 0
