"""Packets that wait: the queues of both sides, what is ready to leave, and the record of differences.

::

    primary frames ─► primary[row] ──released──► ready ──drain──► out
    secondary frames ─► secondary[row] ──matched or flushed──► freed

Everything here is by *row* of the connection table, or by *record* of the pool. A row with waiting packets is pinned
in the table and stands in the list of active rows, which the timer walks.
"""

import cython

from pycolo import limits
from pycolo.compare.difference import Difference
from pycolo.compare.kinds import DifferenceKind
from pycolo.conntrack.key import key_from_words
from pycolo.storage.pool import filled, grown

if cython.compiled:
    from cython.cimports.pycolo.compare.kinds import DivergencePolicy, PacketFate, RowFlag
    from cython.cimports.pycolo.compare.trace import Trace
    from cython.cimports.pycolo.storage.pool import Queues
    from cython.cimports.pycolo.wire.framing import Span
    from cython.cimports.pycolo.wire.kinds import PacketKind
    from cython.cimports.pycolo.wire.octets import copy, store32
    from cython.cimports.pycolo.wire.seq import seq_add
else:
    from pycolo.compare.kinds import DivergencePolicy, PacketFate, RowFlag
    from pycolo.compare.trace import Trace
    from pycolo.storage.pool import Queues
    from pycolo.wire.framing import Span
    from pycolo.wire.kinds import PacketKind
    from pycolo.wire.octets import copy, store32
    from pycolo.wire.seq import seq_add

_NONE = cython.declare(cython.int, -1)
_CONTEXT = cython.declare(cython.Py_ssize_t, limits.DIFFERENCE_CONTEXT_BYTES)
_REPORTS = cython.declare(cython.int, 64)
_KEY_WORDS = cython.declare(cython.int, 11)
_HOLD_BUCKETS = cython.declare(cython.int, 128)
_TIMEOUT = cython.declare(cython.int, int(DifferenceKind.TIMEOUT))
_SECONDARY_TIMEOUT = cython.declare(cython.int, int(DifferenceKind.SECONDARY_TIMEOUT))
# Bits of `pool.flags` above TCP's eight: what we have done to a packet.
_CLAMPED = cython.declare(cython.int, 0x100)
_MADE = cython.declare(cython.int, 0x200)
_PART = cython.declare(cython.int, 0x800)  # of a USO frame, which is chained to its last part and leaves with it


class CompareStats:
    """Counters since start. Names and meanings are those of the metrics."""

    def __init__(self):
        self.primary_frames = self.secondary_frames = self.primary_bytes = self.secondary_bytes = 0
        self.refused = self.passed = self.let_through = self.compared = self.compared_bytes = 0
        self.released = self.discarded = self.clamped = self.acks_made = self.acks_owed = self.splits = (
            self.resets_made
        ) = 0
        self.differences = self.timeouts = self.superseded = self.refused_marked = 0
        self.reassembled = self.incomplete_datagrams = self.dropped = self.gave_way = self.overruns = 0
        self.reports_lost = 0


class Held:
    """State that the TCP and the datagram comparison share. `primary`, `secondary`: queues by row.

    `checkpoint_wanted` is set by the first difference of an epoch under the CHECKPOINT policy, cleared at commit.
    """

    def __init__(self, table, pool, policy, queue_packets_max, has_vnet):
        self.table = table
        self.pool = pool
        self.policy = policy
        self.queue_packets_max = queue_packets_max
        self.has_vnet = has_vnet
        self.stats = CompareStats()
        self.trace = Trace(pool)
        rows = table.rows
        self.primary = Queues(pool, rows)
        self.secondary = Queues(pool, rows)
        self.ready = Queues(pool, 1)
        self.flags = filled(rows, "i", 0)
        self.active_head = _NONE
        self._active_next = filled(rows, "i", -1)
        self._active_previous = filled(rows, "i", -1)
        self.checkpoint_wanted = False
        self._hold_buckets = filled(_HOLD_BUCKETS, "q", 0)
        self._reports = 0
        self._report_kind = filled(_REPORTS, "i", 0)
        self._report_seq = filled(_REPORTS, "I", 0)
        self._report_waited_us = filled(_REPORTS, "q", 0)
        self._report_has_key = filled(_REPORTS, "i", 0)
        self._report_key = filled(_REPORTS * _KEY_WORDS, "I", 0)
        self._report_index = filled(2 * _REPORTS, "i", 0)
        self._report_length = filled(2 * _REPORTS, "i", 0)
        self._report_bytes = bytearray(2 * _REPORTS * 2 * _CONTEXT)

    def grow(self, rows):
        """Make room for `rows` connections."""
        self.primary.grow(rows)
        self.secondary.grow(rows)
        self.flags = grown(self.flags, rows, "i", 0)
        self._active_next = grown(self._active_next, rows, "i", -1)
        self._active_previous = grown(self._active_previous, rows, "i", -1)

    # ── queues ────────────────────────────────────────────────────────────────────────────────────────────────

    def hold_primary(self, row: cython.int, before: cython.int, record: cython.int) -> cython.int:
        """Put a primary packet behind `before` (-1: first) in its connection's queue."""
        self.primary.insert_after(row, before, record)
        return self._pin(row)

    def hold_secondary(self, row: cython.int, before: cython.int, record: cython.int) -> cython.int:
        """Put a secondary packet behind `before` (-1: first) in its connection's queue."""
        self.secondary.insert_after(row, before, record)
        return self._pin(row)

    def take_primary(self, row: cython.int, before: cython.int) -> cython.int:
        """Take the primary packet behind `before` (-1: the first) out of its queue."""
        record: cython.int = self.primary.take_after(row, before)
        self._unpin(row, 1)
        return record

    def drop_secondary(self, row: cython.int, before: cython.int) -> cython.int:
        """Discard the secondary packet behind `before` (-1: the first)."""
        self.discard(self.secondary.take_after(row, before))
        return self._unpin(row, 1)

    def retire_secondary(self, row: cython.int) -> cython.int:
        """Take the first secondary packet out: it is done with, and the caller keeps its record."""
        record: cython.int = self.secondary.take_after(row, _NONE)
        if self.trace.is_on:
            self.trace.note(record, 1, PacketFate.DISCARDED, 0)
        self.stats.discarded += 1
        self._unpin(row, 1)
        return record

    def watch(self, row: cython.int) -> cython.int:
        """Let the timer see a connection that holds no packet; it cannot be evicted meanwhile."""
        self.flags[row] |= RowFlag.ALONE
        return self._pin(row)

    def unwatch(self, row: cython.int) -> cython.int:
        """The reverse of `watch`."""
        self.flags[row] &= ~RowFlag.ALONE
        return self._unpin(row, 1)

    def discard(self, record: cython.int) -> cython.int:
        """Discard a packet that is in no queue (any more)."""
        if self.trace.is_on:
            self.trace.note(record, 1, PacketFate.DISCARDED, 0)
        self.stats.discarded += 1
        return self.pool.free(record)

    def drop(self, record: cython.int) -> cython.int:
        """Drop a packet of the primary that is in no queue (any more) and may not leave: rule C9."""
        if self.trace.is_on:
            self.trace.note(record, 0, PacketFate.DISCARDED, 0)
        self.stats.dropped += 1
        return self.pool.free(record)

    def discard_unstored(self, buf: cython.uchar[::1], span: Span, now_us: cython.longlong) -> cython.int:
        """Discard a packet of the secondary that is still in the batch it came in."""
        self.stats.discarded += 1
        if self.trace.is_on:
            self.trace.note_bytes(
                buf, span.start, span.end - span.start, span.vnet_len, 1, PacketFate.DISCARDED, now_us, 0
            )
        return 0

    def drop_all_secondary(self, row: cython.int) -> cython.int:
        """Discard every secondary packet of a connection."""
        while self.secondary.head[row] != _NONE:
            self.drop_secondary(row, _NONE)
        return 0

    def drop_all_primary(self, row: cython.int) -> cython.int:
        """Discard every primary packet of a connection: for DivergencePolicy.RESET, and HOLD without an end."""
        return self._unpin(row, self.primary.free_all(row))

    def release(self, record: cython.int, now_us: cython.longlong) -> cython.int:
        """Let a packet out that is in no queue (any more). A reassembled datagram leaves as its fragments."""
        chained: cython.int = self.pool.chain[record]
        if chained == _NONE and self.pool.flags[record] & _PART:
            return self.pool.free(record)
        self._count_hold(now_us - self.pool.arrived_us[record])
        if chained == _NONE:
            return self._let_go(record, now_us)
        self.pool.chain[record] = _NONE
        self.pool.free(record)
        while chained != _NONE:
            following: cython.int = self.pool.chain[chained]
            self.pool.chain[chained] = _NONE
            self._let_go(chained, now_us)
            chained = following
        return 0

    def pass_on(self, record: cython.int, kind: cython.int, now_us: cython.longlong) -> cython.int:
        """Let a packet of the primary out that is never compared; `kind`: a PacketKind."""
        if kind == PacketKind.REFUSED:
            self.stats.refused += 1
        else:
            self.stats.passed += 1
        return self.release(record, now_us)

    def _let_go(self, record: cython.int, now_us: cython.longlong) -> cython.int:
        if self.trace.is_on:
            fate: cython.int = PacketFate.RELEASED
            if self.pool.flags[record] & _CLAMPED:
                fate = PacketFate.CLAMPED
            elif self.pool.flags[record] & _MADE:
                fate = PacketFate.MADE
            self.trace.note(record, 0, fate, now_us - self.pool.arrived_us[record])
        self.stats.released += 1
        return self.ready.push(0, record)

    def oldest_us(self):
        """When the packet that has waited longest came, or None."""
        oldest = None
        row: cython.int = self.active_head
        while row != _NONE:
            for queue in (self.primary, self.secondary):
                record: cython.int = queue.head[row]
                if record != _NONE and (oldest is None or self.pool.arrived_us[record] < oldest):
                    oldest = self.pool.arrived_us[record]
            row = self._active_next[row]
        return oldest

    def trace_held(self, now_us: cython.longlong):
        """Note every packet that is still held: for the end of a trace."""
        row: cython.int = self.active_head
        while row != _NONE:
            for side, queue in enumerate((self.primary, self.secondary)):
                record: cython.int = queue.head[row]
                while record != _NONE:
                    shown: cython.int = record
                    if self.pool.flags[record] & _PART:
                        shown = self.pool.chain[record]
                    if shown != _NONE:
                        self.trace.note(shown, side, PacketFate.HELD, now_us - self.pool.arrived_us[record])
                    record = self.pool.next[record]
            row = self._active_next[row]

    def release_all(self, row: cython.int, now_us: cython.longlong) -> cython.int:
        """Let every held primary packet of a connection out, in order; how many is returned."""
        released: cython.int = self.primary.count[row]
        while self.primary.head[row] != _NONE:
            self.release(self.take_primary(row, _NONE), now_us)
        return released

    def drain(self, out: cython.uchar[::1], start: cython.Py_ssize_t) -> cython.Py_ssize_t:
        """Write released frames, with their length words, to `out` from `start`; the new end is returned."""
        memory_pos: cython.longlong
        size: cython.Py_ssize_t
        end: cython.Py_ssize_t = len(out)
        words: cython.Py_ssize_t = 8 if self.has_vnet else 4
        record: cython.int = self.ready.head[0]
        while record != _NONE:
            size = self.pool.length[record]
            if end - start < size + words:
                break
            memory_pos = self.pool.pos[record]
            store32(out, start, size)
            if self.has_vnet:
                store32(out, start + 4, self.pool.vnet_len[record])
            copy(out, start + words, self.pool.arena.memory, memory_pos, size)
            start += words + size
            self.pool.free(self.ready.pop(0))
            record = self.ready.head[0]
        return start

    # ── active rows ───────────────────────────────────────────────────────────────────────────────────────────

    def next_active(self, row: cython.int) -> cython.int:
        """The active row behind `row`, or -1."""
        return self._active_next[row]

    def replace_first(self, row: cython.int, part: cython.int, rest: cython.int) -> cython.int:
        """Put two packets in the place of the first held one, which is freed."""
        self.pool.free(self.primary.take_after(row, _NONE))
        self.primary.insert_after(row, _NONE, rest)
        self.primary.insert_after(row, _NONE, part)
        self.table.pins[row] += 1
        return 0

    def _pin(self, row: cython.int) -> cython.int:
        self.table.pins[row] += 1
        if self.flags[row] & RowFlag.ACTIVE:
            return 0
        self.flags[row] |= RowFlag.ACTIVE
        self._active_previous[row] = _NONE
        self._active_next[row] = self.active_head
        if self.active_head != _NONE:
            self._active_previous[self.active_head] = row
        self.active_head = row
        return 0

    def _unpin(self, row: cython.int, count: cython.int) -> cython.int:
        self.table.pins[row] -= count
        # Not by the pins: fragments in reassembly pin the row, too.
        if self.primary.count[row] or self.secondary.count[row] or not self.flags[row] & RowFlag.ACTIVE:
            return 0
        if self.flags[row] & RowFlag.ALONE:
            return 0
        self.flags[row] &= ~RowFlag.ACTIVE
        before: cython.int = self._active_previous[row]
        after: cython.int = self._active_next[row]
        if before == _NONE:
            self.active_head = after
        else:
            self._active_next[before] = after
        if after != _NONE:
            self._active_previous[after] = before
        return 0

    # ── differences ───────────────────────────────────────────────────────────────────────────────────────────

    def report(self, kind: cython.int, row: cython.int, seq: cython.longlong, waited_us: cython.longlong) -> cython.int:
        """Record a difference (row -1: of no single connection); its index for `add_context`, or -1 when full."""
        self.stats.differences += 1
        if self.policy == DivergencePolicy.CHECKPOINT:
            self.checkpoint_wanted = True
        if self._reports == _REPORTS:
            self.stats.reports_lost += 1
            return _NONE
        index: cython.int = self._reports
        self._reports += 1
        self._report_kind[index] = kind
        self._report_seq[index] = seq_add(seq, 0)
        self._report_waited_us[index] = waited_us
        self._report_has_key[index] = row != _NONE
        self._report_length[2 * index] = self._report_length[2 * index + 1] = 0
        self._report_index[2 * index] = self._report_index[2 * index + 1] = 0
        if row != _NONE:
            self.table.copy_key(row, self._report_key, index * _KEY_WORDS)
        return index

    def report_key(
        self, kind: cython.int, words: cython.uint[::1], pos: cython.Py_ssize_t, waited_us: cython.longlong
    ) -> cython.int:
        """Record a difference of a connection that has no row: its key is the eleven `words` from `pos`."""
        index: cython.int = self.report(kind, _NONE, 0, waited_us)
        if index != _NONE:
            self._report_has_key[index] = True
            i: cython.Py_ssize_t = 0
            while i < _KEY_WORDS:
                self._report_key[index * _KEY_WORDS + i] = words[pos + i]
                i += 1
        return index

    def add_context(
        self,
        index: cython.int,
        side: cython.int,
        record: cython.int,
        at: cython.longlong,
    ) -> cython.int:
        """Keep the bytes of `record`'s payload around arena position `at`; `side` 0 primary, 1 secondary."""
        if index == _NONE:
            return 0
        first: cython.longlong = self.pool.pos[record] + self.pool.payload_pos[record]
        end: cython.longlong = first + self.pool.payload_len[record]
        if at < first or at > end:  # a SYN, or an older packet: show how it begins
            at = first
        kind: cython.int = self._report_kind[index]
        if self.trace.is_on and kind != _TIMEOUT and kind != _SECONDARY_TIMEOUT:
            self.trace.note(record, side, PacketFate.DIFFERS, at - first)
        slot: cython.int = 2 * index + side
        start: cython.longlong = at - _CONTEXT if at - first > _CONTEXT else first
        stop: cython.longlong = at + _CONTEXT if end - at > _CONTEXT else end
        copy(self._report_bytes, slot * 2 * _CONTEXT, self.pool.arena.memory, start, stop - start)
        self._report_index[slot] = at - start
        self._report_length[slot] = stop - start
        return 0

    def take_differences(self):
        """The differences recorded since the last call, as `Difference` values."""
        found = [self._difference(index) for index in range(self._reports)]
        self._reports = 0
        return found

    def _difference(self, index):
        key = None
        if self._report_has_key[index]:
            base = index * _KEY_WORDS
            key = key_from_words([self._report_key[base + i] for i in range(_KEY_WORDS)])
        sides = []
        for slot in (2 * index, 2 * index + 1):
            start = slot * 2 * _CONTEXT
            sides.append(bytes(memoryview(self._report_bytes)[start : start + self._report_length[slot]]))
        return Difference(
            DifferenceKind(self._report_kind[index]),
            key,
            self._report_seq[index],
            self._report_waited_us[index] // 1000,
            sides[0],
            self._report_index[2 * index],
            sides[1],
            self._report_index[2 * index + 1],
        )

    # ── how long packets were held ────────────────────────────────────────────────────────────────────────────

    def _count_hold(self, held_us: cython.longlong) -> cython.int:
        """Four buckets per doubling: each at most 25 % wide."""
        shift: cython.int = 0
        held_us = max(held_us, 0)
        while (held_us >> shift) >= 8:
            shift += 1
        bucket: cython.Py_ssize_t = shift * 4 + (held_us >> shift)
        self._hold_buckets[min(bucket, _HOLD_BUCKETS - 1)] += 1
        return 0

    def hold_histogram(self):
        """[(upper bound in µs, packets)] of the times that released packets were held."""
        bounds = []
        for bucket in range(_HOLD_BUCKETS):
            shift = max(0, (bucket - 4) // 4)
            bounds.append((((bucket - 4 * shift) + 1) << shift, self._hold_buckets[bucket]))
        return bounds
