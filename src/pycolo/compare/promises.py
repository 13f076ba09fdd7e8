"""TCP, what the client is told it may forget and send (rule C3): acks, windows and SACK blocks of both guests.

::

    primary's packet ──► both can keep it? ── yes ─► leaves as it is
                              │ no: lowered to what the secondary has acknowledged and offered
                              └──► the rest is *owed*: an ACK of our own follows when the secondary has caught up

A debt is state of its connection, no packet: the header that such an ACK needs is kept in the row. So a connection
that is silent for hours with a debt costs no record, and a debt that finds no room for its ACK is paid later.
"""

import cython

from pycolo import limits
from pycolo.storage.pool import filled, grown

if cython.compiled:
    from cython.cimports.pycolo.compare.kinds import RowFlag, Verdict
    from cython.cimports.pycolo.wire.kinds import TcpFlag
    from cython.cimports.pycolo.wire.octets import copy, load32
    from cython.cimports.pycolo.wire.packet import Packet
    from cython.cimports.pycolo.wire.patch import (
        add_sack_blocks,
        add_timestamps,
        keep_sack_blocks,
        make_ack,
        set_ack,
        set_window,
    )
    from cython.cimports.pycolo.wire.seq import seq_diff, seq_max, seq_min
else:
    from pycolo.compare.kinds import RowFlag, Verdict
    from pycolo.wire.kinds import TcpFlag
    from pycolo.wire.octets import copy, load32
    from pycolo.wire.packet import Packet
    from pycolo.wire.patch import add_sack_blocks, add_timestamps, keep_sack_blocks, make_ack, set_ack, set_window
    from pycolo.wire.seq import seq_diff, seq_max, seq_min

_NONE = cython.declare(cython.int, -1)
_SCALE_UNKNOWN = cython.declare(cython.int, 14)
# Bits of `pool.flags` above TCP's eight: see `held`.
_CLAMPED = cython.declare(cython.int, 0x100)
_MADE = cython.declare(cython.int, 0x200)
_HAS_SACK = cython.declare(cython.int, 0x400)
_BARE_BYTES_MAX = cython.declare(cython.Py_ssize_t, 192)
# Ethernet, two VLAN tags, an IP header without options, the TCP ports.
_HEADER_BYTES = cython.declare(cython.Py_ssize_t, 72)
_EDGES = cython.declare(cython.Py_ssize_t, 8)
_SYN_DATA = cython.declare(cython.longlong, limits.SYN_DATA_BYTES_MAX)
# In `_layout`: offset of the IP header | of the TCP header << 8 | vnet header's length << 16 | IP version << 24.
_NO_HEADER = cython.declare(cython.int, 0)


class Promises:
    """Columns by row. `commits_input` is ack_policy=commit; without it acks and windows leave as the primary sent them.

    `primary_ack` and `secondary_ack` are the highest that each guest has acknowledged, `*_space` the window in bytes
    behind that; `_next_*` are those of the secondary's latest SYN|ACK, until it is matched. `scale` is the window scale
    that both SYNs agreed in; where no SYN was seen it is the largest that what both have offered allows. `_blocks`: the
    secondary's latest SACK blocks. `_told_ack`, `_told_window`: what the client was told last while something is owed.
    `stepped_ack`: a guest's ack that was one more than the one before it.
    """

    def __init__(self, held, shaper, commits_input):
        self.held = held
        self.pool = held.pool
        self.shaper = shaper
        self.commits_input = commits_input
        rows = held.table.rows
        self.primary_ack = filled(rows, "I", 0)
        self.primary_space = filled(rows, "q", 0)
        self.secondary_ack = filled(rows, "I", 0)
        self.secondary_space = filled(rows, "q", 0)
        self.stepped_ack = filled(rows, "I", 0)
        self.scale = filled(rows, "i", 0)
        self._next_ack = filled(rows, "I", 0)
        self._next_space = filled(rows, "q", 0)
        self._block_count = filled(rows, "i", 0)
        self._blocks = filled(rows * 8, "I", 0)
        self._told_ack = filled(rows, "I", 0)
        self._told_window = filled(rows, "i", 0)
        self._layout = filled(rows, "i", 0)
        self._header = bytearray(rows * 72)
        self._seq = filled(rows, "I", 0)
        self._value = filled(rows, "I", 0)
        self._echo = filled(rows, "I", 0)
        self._has_time = filled(rows, "i", 0)
        self._packet = Packet()

    def grow(self, rows):
        """Make room for `rows` connections."""
        self.primary_ack = grown(self.primary_ack, rows, "I", 0)
        self.primary_space = grown(self.primary_space, rows, "q", 0)
        self.secondary_ack = grown(self.secondary_ack, rows, "I", 0)
        self.secondary_space = grown(self.secondary_space, rows, "q", 0)
        self.stepped_ack = grown(self.stepped_ack, rows, "I", 0)
        self.scale = grown(self.scale, rows, "i", 0)
        self._next_ack = grown(self._next_ack, rows, "I", 0)
        self._next_space = grown(self._next_space, rows, "q", 0)
        self._block_count = grown(self._block_count, rows, "i", 0)
        self._blocks = grown(self._blocks, rows * 8, "I", 0)
        self._told_ack = grown(self._told_ack, rows, "I", 0)
        self._told_window = grown(self._told_window, rows, "i", 0)
        self._layout = grown(self._layout, rows, "i", 0)
        self._header = bytearray(self._header).ljust(rows * 72, b"\0")
        self._seq = grown(self._seq, rows, "I", 0)
        self._value = grown(self._value, rows, "I", 0)
        self._echo = grown(self._echo, rows, "I", 0)
        self._has_time = grown(self._has_time, rows, "i", 0)

    def open_row(self, row: cython.int) -> cython.int:
        """A new row of the table, or a new incarnation whose SYN was not seen."""
        self.scale[row] = _SCALE_UNKNOWN
        self._block_count[row] = 0
        return self.forget(row)

    def forget(self, row: cython.int) -> cython.int:
        """Nothing is owed any more."""
        self.held.flags[row] &= ~RowFlag.OWED
        self._layout[row] = _NO_HEADER
        return 0

    # ── what the guests say ───────────────────────────────────────────────────────────────────────────────────

    def note_primary(self, row: cython.int, packet: Packet) -> cython.int:
        """Remember the most that the primary has acknowledged, and its window there."""
        state: cython.int = self.held.flags[row]
        if state & RowFlag.PRIMARY_ACK:
            ahead: cython.longlong = seq_diff(packet.ack, self.primary_ack[row])
            if ahead < 0:
                return 0
            state |= self._note_step(row, packet.ack, ahead)
            self._bound_scale(row, ahead, self.primary_space[row], packet.window)
        self.primary_ack[row] = packet.ack
        self.primary_space[row] = self._space(row, packet.window, packet.flags)
        self.held.flags[row] = state | RowFlag.PRIMARY_ACK
        return 0

    def note_secondary(self, row: cython.int, record: cython.int, packet: Packet) -> cython.bint:
        """Remember the secondary's ack, window and SACK blocks; whether this one acknowledges nothing new."""
        state: cython.int = self.held.flags[row]
        is_repeat: cython.bint = False
        ahead: cython.longlong = 0
        if state & RowFlag.SECONDARY_ACK:
            ahead = seq_diff(packet.ack, self.secondary_ack[row])
            if ahead < 0:
                return False
            state |= self._note_step(row, packet.ack, ahead)
            self._bound_scale(row, ahead, self.secondary_space[row], packet.window)
            if ahead > 0:
                state &= ~RowFlag.REPEATED
        space: cython.longlong = self._space(row, packet.window, packet.flags)
        if state & RowFlag.SECONDARY_ACK:
            # RFC 6675 section 2: SACK blocks make a duplicate of an ACK whatever its window is. Linux widens that with
            # each segment that comes out of order.
            is_repeat = ahead == 0 and (space == self.secondary_space[row] or packet.sack_len > 0)
        self.secondary_ack[row] = packet.ack
        self.secondary_space[row] = space
        self.held.flags[row] = state | RowFlag.SECONDARY_ACK
        self._note_blocks(row, record, packet)
        return is_repeat

    def _note_step(self, row: cython.int, ack: cython.longlong, ahead: cython.longlong) -> cython.int:
        """The flag that says so, if an ack is one more than the one before it."""
        if ahead != 1:
            return 0
        self.stepped_ack[row] = ack
        return RowFlag.ACK_STEPPED

    def has_taken_fin(self, row: cython.int) -> cython.bint:
        """Whether both guests seem to have acknowledged the client's FIN last: a byte of its own looks the same."""
        both: cython.int = RowFlag.ACK_STEPPED | RowFlag.PRIMARY_ACK | RowFlag.SECONDARY_ACK
        if self.held.flags[row] & both != both or self.primary_ack[row] != self.stepped_ack[row]:
            return False
        return self.primary_ack[row] == self.secondary_ack[row]

    def note_early(self, row: cython.int, packet: Packet) -> cython.int:
        """The secondary's SYN|ACK: what it promises counts when it is matched, and not for an older life."""
        self._next_ack[row] = packet.ack
        self._next_space[row] = packet.window if packet.flags & TcpFlag.ACK else -1
        return 0

    def answers(self, row: cython.int, ack: cython.longlong) -> cython.bint:
        """Whether the secondary's latest SYN is a SYN|ACK and answers the SYN that `ack` acknowledges.

        One of the two may have taken the payload of that SYN (RFC 7413), and the other not.
        """
        apart: cython.longlong = seq_diff(ack, self._next_ack[row])
        return self._next_space[row] >= 0 and -_SYN_DATA <= apart <= _SYN_DATA

    def take_early(self, row: cython.int, has_ack: cython.bint) -> cython.int:
        """Both SYNs agree: the secondary's promise counts from now on."""
        if has_ack:
            self.secondary_ack[row] = self._next_ack[row]
            self.secondary_space[row] = self._next_space[row]
            self.held.flags[row] |= RowFlag.SECONDARY_ACK
        return 0

    def misses(self, row: cython.int) -> cython.bint:
        """Whether the secondary has a SACK block above what it acknowledges (below, it has got something twice)."""
        i: cython.int = 0
        while i < self._block_count[row]:
            if seq_diff(self._blocks[row * _EDGES + 2 * i], self.secondary_ack[row]) > 0:
                return True
            i += 1
        return False

    def _note_blocks(self, row: cython.int, record: cython.int, packet: Packet) -> cython.int:
        count: cython.int = min(packet.sack_len // 8, 4)
        self._block_count[row] = count
        pos: cython.Py_ssize_t = self.pool.pos[record] + packet.sack_pos - packet.start
        i: cython.int = 0
        while i < 2 * count:
            self._blocks[row * _EDGES + i] = load32(self.pool.arena.memory, pos + 4 * i)
            i += 1
        return 0

    def _space(self, row: cython.int, window: cython.longlong, flags: cython.int) -> cython.Py_ssize_t:
        """RFC 7323 section 2.2: the window of a SYN is never scaled."""
        return window if flags & TcpFlag.SYN else window << self.scale[row]

    def _bound_scale(
        self, row: cython.int, ahead: cython.longlong, space: cython.longlong, window: cython.longlong
    ) -> cython.int:
        """Where no SYN was seen: a guest's right edge does not move back (RFC 9293 section 3.8.6.2.1).

        So its window shrinks by no more than what it has acknowledged meanwhile, rounded up to one unit. Too large a
        scale would take back what the client has been told.
        """
        if self.held.flags[row] & RowFlag.PRIMARY_SYN or ahead == 0:
            return 0
        units: cython.longlong = (space >> self.scale[row]) - window - 1
        while self.scale[row] and units > 0 and units << self.scale[row] >= ahead:
            self.scale[row] -= 1
            self.primary_space[row] >>= 1
            self.secondary_space[row] >>= 1
        return 0

    def equalise(self, row: cython.int) -> cython.int:
        """The secondary has become a copy of the primary: it has acknowledged and offered the same."""
        if self.held.flags[row] & RowFlag.PRIMARY_ACK:
            self.held.flags[row] |= RowFlag.SECONDARY_ACK
            self.secondary_ack[row] = self.primary_ack[row]
            self.secondary_space[row] = self.primary_space[row]
        self._block_count[row] = 0
        return 0

    # ── whether a packet may say what it says ─────────────────────────────────────────────────────────────────

    def judge(self, row: cython.int, record: cython.int) -> cython.int:
        """A bare ACK that runs ahead waits; anything else leaves clamped (fragments cannot be: they wait)."""
        flags: cython.int = self.pool.flags[record]
        if not self.commits_input or not flags & TcpFlag.ACK:
            return Verdict.RELEASE
        if not self.held.flags[row] & RowFlag.SECONDARY_ACK:
            return Verdict.WAIT
        ahead: cython.longlong = seq_diff(self.pool.ack[record], self.secondary_ack[row])
        room: cython.longlong = self.secondary_space[row] - ahead
        scaled: cython.longlong = self._space(row, self.pool.window[record], flags)
        if ahead <= 0 and scaled <= room:
            return Verdict.RELEASE
        if self.pool.chain[record] != _NONE:
            return Verdict.WAIT
        if ahead > 0 and self.is_bare(record):
            return Verdict.WAIT
        return Verdict.CLAMP

    def is_bare(self, record: cython.int) -> cython.bint:
        """Whether a held packet says nothing but an ack and a window."""
        return not self.pool.payload_len[record] and not self.pool.flags[record] & (
            TcpFlag.SYN | TcpFlag.FIN | TcpFlag.RST
        )

    # ── leaving ───────────────────────────────────────────────────────────────────────────────────────────────

    def leaves(self, row: cython.int, record: cython.int, is_clamped: cython.bint, end: cython.longlong) -> cython.int:
        """The packet is about to leave; `end`: the number behind it. What it may not say is taken out, and owed."""
        flags: cython.int = self.pool.flags[record]
        if not self.commits_input or not flags & TcpFlag.ACK or flags & TcpFlag.RST:
            return 0
        if is_clamped:
            return self._clamp(row, record, end)
        if flags & _HAS_SACK and self.pool.chain[record] == _NONE:
            self._limit_blocks(row, record)
        says_all: cython.bint = self.pool.ack[record] == self.primary_ack[row]
        if says_all and self._space(row, self.pool.window[record], flags) >= self.primary_space[row]:
            self.forget(row)
        return 0

    def _clamp(self, row: cython.int, record: cython.int, end: cython.longlong) -> cython.int:
        """Lower ack and window of a packet to what the secondary has acknowledged and offered."""
        self.shaper.parse(record)
        set_ack(self.pool.arena.memory, self.shaper.packet, seq_min(self.pool.ack[record], self.secondary_ack[row]))
        set_window(
            self.pool.arena.memory,
            self.shaper.packet,
            self._common_window(row, self.shaper.packet.ack, self.pool.flags[record]),
        )
        self._keep_common_blocks(row, self.shaper.packet)
        self.pool.flags[record] |= _CLAMPED
        self.held.stats.clamped += 1
        window: cython.int = self.shaper.packet.window
        if self.pool.flags[record] & TcpFlag.SYN:
            if self.shaper.packet.ack == self.pool.ack[record]:
                return 0
            window = -1  # it is in other units
        self._note_told(row, self.shaper.packet.ack, window)
        return self._note_header(row, record, end)

    def owe(self, row: cython.int, record: cython.int) -> cython.int:
        """A bare ACK that runs ahead does not leave at all; what it says is owed."""
        self.shaper.parse(record)
        if not self.held.flags[row] & RowFlag.OWED:
            # The client has been told no more than the secondary has said: the ACK that is owed says more.
            self._note_told(row, self.secondary_ack[row], -1)
        return self._note_header(row, record, self.pool.seq[record])

    def _note_told(self, row: cython.int, ack: cython.longlong, window: cython.int) -> cython.int:
        if self.held.flags[row] & RowFlag.OWED:
            ack = seq_max(ack, self._told_ack[row])
        self._told_ack[row] = ack
        self._told_window[row] = window
        self.held.flags[row] |= RowFlag.OWED
        return 0

    def _note_header(self, row: cython.int, record: cython.int, seq: cython.longlong) -> cython.int:
        """Keep what an ACK in the name of `record`'s sender needs; the packet is parsed in `shaper`."""
        ip_at: cython.Py_ssize_t = self.shaper.packet.ip_pos - self.shaper.packet.frame_pos
        l4_at: cython.Py_ssize_t = self.shaper.packet.l4_pos - self.shaper.packet.frame_pos
        if l4_at + 4 > _HEADER_BYTES:
            return self.forget(row)  # IP options or extension headers: nothing that a guest's bare ACK has
        copy(self._header, row * _HEADER_BYTES, self.pool.arena.memory, self.shaper.packet.frame_pos, l4_at + 4)
        self._layout[row] = (
            ip_at | (l4_at << 8) | (self.pool.vnet_len[record] << 16) | (self.shaper.packet.ip_version << 24)
        )
        self._seq[row] = seq
        self._has_time[row] = self.shaper.packet.timestamp_pos != 0
        if self.shaper.packet.timestamp_pos:
            self._value[row] = load32(self.pool.arena.memory, self.shaper.packet.timestamp_pos)
            self._echo[row] = load32(self.pool.arena.memory, self.shaper.packet.timestamp_pos + 4)
        return 0

    def _common_window(self, row: cython.int, ack: cython.longlong, flags: cython.int) -> cython.int:
        """The window field with which the right edge behind `ack` is the nearer of the two guests' edges."""
        scale: cython.int = 0 if flags & TcpFlag.SYN else self.scale[row]
        room: cython.longlong = self.secondary_space[row] + seq_diff(self.secondary_ack[row], ack)
        own: cython.longlong = self.primary_space[row] + seq_diff(self.primary_ack[row], ack)
        return min(max(0, min(room, own)) >> scale, 65535)

    # ── SACK (rule C11) ───────────────────────────────────────────────────────────────────────────────────────

    def _limit_blocks(self, row: cython.int, record: cython.int) -> cython.int:
        self.shaper.parse(record)
        return self._keep_common_blocks(row, self.shaper.packet)

    def _keep_common_blocks(self, row: cython.int, packet: Packet) -> cython.int:
        """Take out every SACK block of the primary's that the secondary does not have."""
        kept: cython.int = 0
        every: cython.int = 0
        i: cython.int = 0
        while 8 * i < packet.sack_len:
            pos: cython.Py_ssize_t = packet.sack_pos + 8 * i
            every |= 1 << i
            if self._has_block(row, load32(self.pool.arena.memory, pos), load32(self.pool.arena.memory, pos + 4)):
                kept |= 1 << i
            i += 1
        if kept == every:
            return 0
        return keep_sack_blocks(self.pool.arena.memory, packet, kept)

    def _has_block(self, row: cython.int, left: cython.longlong, right: cython.longlong) -> cython.bint:
        if seq_diff(right, self.secondary_ack[row]) <= 0:
            return True
        i: cython.int = 0
        while i < self._block_count[row]:
            at: cython.Py_ssize_t = row * _EDGES + 2 * i
            if seq_diff(left, self._blocks[at]) >= 0 and seq_diff(right, self._blocks[at + 1]) <= 0:
                return True
            i += 1
        return False

    # ── paying ────────────────────────────────────────────────────────────────────────────────────────────────

    def pay(self, row: cython.int, now_us: cython.longlong) -> cython.int:
        """The secondary has caught up a little: tell the client what could not be told before."""
        if not self.held.flags[row] & RowFlag.OWED:
            return 0
        ack: cython.longlong = seq_min(self.primary_ack[row], self.secondary_ack[row])
        window: cython.int = self._common_window(row, ack, 0)
        if seq_diff(ack, self._told_ack[row]) < 0 or (ack == self._told_ack[row] and window == self._told_window[row]):
            return 0
        if self._told_window[row] == -1 and ack == self._told_ack[row]:
            return 0  # a bare ACK became the debt, or a SYN|ACK said it: nothing new to say yet
        if not self._say(row, ack, window, False, now_us):
            return 0
        edge: cython.longlong = self.secondary_space[row] + seq_diff(self.secondary_ack[row], self.primary_ack[row])
        if ack == self.primary_ack[row] and edge >= self.primary_space[row]:
            self.forget(row)
        return 0

    def repeat(self, row: cython.int, record: cython.int, now_us: cython.longlong) -> cython.int:
        """The secondary repeats an ACK: it misses a segment that the primary has.

        Say so in the place of `record`, a waiting bare ACK of the primary, with the secondary's own SACK blocks: the
        client then counts a duplicate (RFC 5681 section 2, RFC 6675 section 2) and sends the segment again at once
        instead of after its time-out.
        """
        self.owe(row, record)
        ack: cython.longlong = self.secondary_ack[row]
        return self._say(row, ack, self._common_window(row, ack, 0), True, now_us)

    def settle(self, row: cython.int, now_us: cython.longlong) -> cython.int:
        """The secondary's word counts no more, or is the primary's now: pay what is owed in full."""
        if self.held.flags[row] & RowFlag.OWED:
            self.secondary_ack[row] = self.primary_ack[row]
            self.secondary_space[row] = self.primary_space[row]
            self.pay(row, now_us)
        return self.forget(row)

    def _say(
        self,
        row: cython.int,
        ack: cython.longlong,
        window: cython.int,
        with_blocks: cython.bint,
        now_us: cython.longlong,
    ) -> cython.bint:
        """Let an ACK of our own making out; False where there is no room for it now, or nothing to make it from."""
        layout: cython.int = self._layout[row]
        if layout == _NO_HEADER:
            return False
        made: cython.int = self.pool.alloc(_BARE_BYTES_MAX)
        if made == _NONE:
            return False
        self._packet.start = 0
        self._packet.vnet_len = (layout >> 16) & 0xFF
        self._packet.ip_pos = self._packet.vnet_len + (layout & 0xFF)
        self._packet.l4_pos = self._packet.vnet_len + ((layout >> 8) & 0xFF)
        self._packet.ip_version = layout >> 24
        pos: cython.longlong = self.pool.pos[made]
        length: cython.Py_ssize_t = 20
        header_len: cython.Py_ssize_t = self._packet.l4_pos - self._packet.vnet_len + 4
        make_ack(
            self.pool.arena.memory,
            pos,
            self._packet,
            self._header,
            row * _HEADER_BYTES,
            header_len,
            self._seq[row],
            ack,
            window,
        )
        if self._has_time[row]:
            length = add_timestamps(
                self.pool.arena.memory, pos, self._packet, length, self._value[row], self._echo[row]
            )
        if with_blocks and self._block_count[row]:
            count: cython.int = min(self._block_count[row], 3 if self._has_time[row] else 4)
            length = add_sack_blocks(
                self.pool.arena.memory, pos, self._packet, length, self._blocks, row * _EDGES, count
            )
        self.pool.length[made] = self._packet.l4_pos + length
        self.pool.vnet_len[made] = self._packet.vnet_len
        self.pool.arrived_us[made] = now_us
        self.pool.flags[made] = _MADE
        self.pool.row[made] = row
        self._told_ack[row] = ack
        self._told_window[row] = window
        self.held.stats.acks_made += 1
        self.held.release(made, now_us)
        return True
