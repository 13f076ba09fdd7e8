"""TCP, what the client is told that it may forget and send (rule C3): acks, windows and SACK blocks of both guests.

::

    primary's packet ──► both can keep it? ── yes ─► leaves as it is
                              │ no: lowered to what the secondary has acknowledged and offered
                              └──► the rest is *owed*: an ACK of our own follows when the secondary has caught up

A debt is state of its connection, not a packet: the header that such an ACK needs is kept aside. So a connection that
is silent for hours with a debt costs no record, and if there is no room for its ACK, the debt is paid later.
"""


cdef enum:
    _SCALE_UNKNOWN = 14
# Bits of `pool.flags` above TCP's eight: see `held`.
cdef enum:
    _HAS_SACK = 1024
    _PROMISES_BARE_BYTES_MAX = 192
# Ethernet, two VLAN tags, an IP header without options, the TCP ports.
cdef enum:
    _PROMISES_HEADER_BYTES = 72
cdef long long _SYN_DATA = limits.SYN_DATA_BYTES_MAX
# In `layout`: offset of the IP header | of the TCP header << 8 | vnet header's length << 16 | IP version << 24.
cdef enum:
    _NO_HEADER = 0


@cython.final
cdef class Promises:
    """`commits_input` is ack_policy=commit; without it acks and windows leave as the primary sent them.

    `primary_ack` and `secondary_ack` are the highest acks of each guest, `*_space` the window in bytes after them;
    `next_*` are those of the secondary's latest SYN|ACK, until it is matched. `scale` is the window scale that both
    SYNs agreed on; if no SYN was seen, the largest that both guests' offers permit. `blocks`: the secondary's latest
    SACK blocks. `told_ack`, `told_window`: the last numbers sent to the client while something is owed. `stepped_ack`:
    a guest's ack that was one more than its previous one.
    """

    cdef readonly Held held
    cdef readonly Pool pool
    cdef readonly Shaper shaper
    cdef public bint commits_input
    cdef Asides _asides
    cdef Packet _packet

    def __init__(self, held, shaper, commits_input):
        self.held = held
        self.pool = held.pool
        self.shaper = shaper
        self.commits_input = commits_input
        self._asides = held.asides
        self._packet = Packet()

    cdef int open_row(self, int row) noexcept nogil:
        """A new row of the table, or a new incarnation whose SYN was not seen."""
        cdef Row* r = &self.held.rows[row]
        r.scale = _SCALE_UNKNOWN
        r.block_count = 0
        return self.forget(row)

    cdef int forget(self, int row) noexcept nogil:
        """Nothing is owed any more."""
        cdef Row* r = &self.held.rows[row]
        r.flags &= ~RowFlag.OWED
        if r.aside:
            self._asides.at[r.aside].layout = _NO_HEADER
            self._asides.tidy(r)
        return 0

    # ── input from the guests ─────────────────────────────────────────────────────────────────────────────────

    cdef int note_primary(self, int row, Packet packet) noexcept nogil:
        """Record the highest ack of the primary, and its window there."""
        cdef Row* r = &self.held.rows[row]
        state: cython.int = r.flags
        if state & RowFlag.PRIMARY_ACK:
            ahead: cython.longlong = seq_diff(packet.ack, r.primary_ack)
            if ahead < 0:
                return 0
            state |= self._note_step(row, packet.ack, ahead)
            self._bound_scale(row, ahead, r.primary_space, packet.window)
        r.primary_ack = packet.ack
        r.primary_space = self._space(row, packet.window, packet.flags)
        r.flags = state | RowFlag.PRIMARY_ACK
        return 0

    cdef bint note_secondary(self, int row, int record, Packet packet) noexcept nogil:
        """Record the secondary's ack, window and SACK blocks. Returns whether this one acknowledges nothing new."""
        cdef Row* r = &self.held.rows[row]
        state: cython.int = r.flags
        is_repeat: cython.bint = False
        ahead: cython.longlong = 0
        if state & RowFlag.SECONDARY_ACK:
            ahead = seq_diff(packet.ack, r.secondary_ack)
            if ahead < 0:
                return False
            state |= self._note_step(row, packet.ack, ahead)
            self._bound_scale(row, ahead, r.secondary_space, packet.window)
            if ahead > 0:
                state &= ~RowFlag.REPEATED
        space: cython.longlong = self._space(row, packet.window, packet.flags)
        if state & RowFlag.SECONDARY_ACK:
            # RFC 6675 section 2: SACK blocks make an ACK a duplicate whatever its window is. Linux increases the window
            # with each segment that arrives out of order.
            is_repeat = ahead == 0 and (space == r.secondary_space or packet.sack_len > 0)
        r.secondary_ack = packet.ack
        r.secondary_space = space
        r.flags = state | RowFlag.SECONDARY_ACK
        self._note_blocks(row, record, packet)
        return is_repeat

    cdef int _note_step(self, int row, long long ack, long long ahead) noexcept nogil:
        """The flag for an ack that is one more than the previous one."""
        cdef Row* r = &self.held.rows[row]
        if ahead != 1:
            return 0
        r.stepped_ack = ack
        return RowFlag.ACK_STEPPED

    cdef bint has_taken_fin(self, int row) noexcept nogil:
        """Whether both guests' last acks seem to be of the client's FIN: a single byte looks the same."""
        cdef Row* r = &self.held.rows[row]
        both: cython.int = RowFlag.ACK_STEPPED | RowFlag.PRIMARY_ACK | RowFlag.SECONDARY_ACK
        if r.flags & both != both or r.primary_ack != r.stepped_ack:
            return False
        return r.primary_ack == r.secondary_ack

    cdef int note_early(self, int row, Packet packet) noexcept nogil:
        """The secondary's SYN|ACK: its promises count when it is matched, and not for an older incarnation."""
        cdef Aside* aside = self._asides.own(&self.held.rows[row])
        aside.next_ack = packet.ack
        aside.next_space = packet.window if packet.flags & TcpFlag.ACK else -1
        return 0

    cdef bint answers(self, int row, long long ack) noexcept nogil:
        """Whether the secondary's latest SYN is a SYN|ACK and answers the SYN that `ack` acknowledges.

        One of the two may have accepted the payload of that SYN (RFC 7413), and the other not.
        """
        cdef const Aside* aside = self._asides.of(&self.held.rows[row])
        apart: cython.longlong = seq_diff(ack, aside.next_ack)
        return aside.next_space >= 0 and -_SYN_DATA <= apart <= _SYN_DATA

    cdef int take_early(self, int row, bint has_ack) noexcept nogil:
        """Both SYNs agree: the secondary's promises count from now on."""
        cdef Row* r = &self.held.rows[row]
        cdef const Aside* aside = self._asides.of(r)
        if has_ack:
            r.secondary_ack = aside.next_ack
            r.secondary_space = aside.next_space
            r.flags |= RowFlag.SECONDARY_ACK
        return 0

    cdef bint misses(self, int row) noexcept nogil:
        """Whether the secondary has a SACK block above its ack (one below it reports a duplicate)."""
        cdef Row* r = &self.held.rows[row]
        i: cython.int = 0
        while i < r.block_count:
            if seq_diff(self._asides.of(r).blocks[2 * i], r.secondary_ack) > 0:
                return True
            i += 1
        return False

    cdef int _note_blocks(self, int row, int record, Packet packet) noexcept nogil:
        cdef Row* r = &self.held.rows[row]
        count: cython.int = min(packet.sack_len // 8, 4)
        r.block_count = count
        if count == 0:
            return self._asides.tidy(r)
        cdef Aside* aside = self._asides.own(r)
        pos: cython.Py_ssize_t = self.pool.at[record].pos + packet.sack_pos - packet.start
        i: cython.int = 0
        while i < 2 * count:
            aside.blocks[i] = load32(self.pool.arena.memory, pos + 4 * i)
            i += 1
        return 0

    cdef Py_ssize_t _space(self, int row, long long window, int flags) noexcept nogil:
        """RFC 7323 section 2.2: the window of a SYN is never scaled."""
        cdef Row* r = &self.held.rows[row]
        return window if flags & TcpFlag.SYN else window << r.scale

    cdef int _bound_scale(self, int row, long long ahead, long long space, long long window) noexcept nogil:
        """If no SYN was seen: a guest's right edge does not move back (RFC 9293 section 3.8.6.2.1).

        So its window shrinks by no more than it has acknowledged meanwhile, rounded up to one unit. Too large a scale
        would withdraw what the client has been told.
        """
        cdef Row* r = &self.held.rows[row]
        if r.flags & RowFlag.PRIMARY_SYN or ahead == 0:
            return 0
        units: cython.longlong = (space >> r.scale) - window - 1
        while r.scale and units > 0 and units << r.scale >= ahead:
            r.scale -= 1
            r.primary_space >>= 1
            r.secondary_space >>= 1
        return 0

    cdef int equalise(self, int row) noexcept nogil:
        """The secondary has become a copy of the primary: it has acknowledged and offered the same."""
        cdef Row* r = &self.held.rows[row]
        if r.flags & RowFlag.PRIMARY_ACK:
            r.flags |= RowFlag.SECONDARY_ACK
            r.secondary_ack = r.primary_ack
            r.secondary_space = r.primary_space
        r.block_count = 0
        return 0

    # ── whether a packet may leave as it is ───────────────────────────────────────────────────────────────────

    cdef int judge(self, int row, int record) noexcept nogil:
        """A bare ACK that runs ahead waits; any other packet leaves clamped (fragments cannot be: they wait)."""
        cdef Record* rec = &self.pool.at[record]
        cdef Row* r = &self.held.rows[row]
        flags: cython.int = rec.flags
        if not self.commits_input or not flags & TcpFlag.ACK:
            return Verdict.RELEASE
        if not r.flags & RowFlag.SECONDARY_ACK:
            return Verdict.WAIT
        ahead: cython.longlong = seq_diff(rec.ack, r.secondary_ack)
        room: cython.longlong = r.secondary_space - ahead
        scaled: cython.longlong = self._space(row, rec.window, flags)
        if ahead <= 0 and scaled <= room:
            return Verdict.RELEASE
        if rec.chain != _NONE:
            return Verdict.WAIT
        if ahead > 0 and self.is_bare(record):
            return Verdict.WAIT
        return Verdict.CLAMP

    cdef bint is_bare(self, int record) noexcept nogil:
        """Whether a held packet carries only an ack and a window."""
        cdef Record* rec = &self.pool.at[record]
        return not rec.payload_len and not rec.flags & (
            TcpFlag.SYN | TcpFlag.FIN | TcpFlag.RST
        )

    # ── leaving ───────────────────────────────────────────────────────────────────────────────────────────────

    cdef int leaves(self, int row, int record, bint is_clamped, long long end) noexcept nogil:
        """The packet is about to leave; `end`: the number after it. Remove what it must not promise; that is owed."""
        cdef Record* rec = &self.pool.at[record]
        cdef Row* r = &self.held.rows[row]
        flags: cython.int = rec.flags
        if not self.commits_input or not flags & TcpFlag.ACK or flags & TcpFlag.RST:
            return 0
        if is_clamped:
            return self._clamp(row, record, end)
        if flags & _HAS_SACK and rec.chain == _NONE:
            self._limit_blocks(row, record)
        says_all: cython.bint = rec.ack == r.primary_ack
        if says_all and self._space(row, rec.window, flags) >= r.primary_space:
            self.forget(row)
        return 0

    cdef int _clamp(self, int row, int record, long long end) noexcept nogil:
        """Lower ack and window of a packet to what the secondary has acknowledged and offered."""
        cdef Record* rec = &self.pool.at[record]
        cdef Row* r = &self.held.rows[row]
        self.shaper.parse(record)
        set_ack(self.pool.arena.memory, self.shaper.packet, seq_min(rec.ack, r.secondary_ack))
        set_window(
            self.pool.arena.memory,
            self.shaper.packet,
            self._common_window(row, self.shaper.packet.ack, rec.flags),
        )
        self._keep_common_blocks(row, self.shaper.packet)
        rec.flags |= _CLAMPED
        self.held.stats.clamped += 1
        window: cython.int = self.shaper.packet.window
        if rec.flags & TcpFlag.SYN:
            if self.shaper.packet.ack == rec.ack:
                return 0
            window = -1  # it is in different units
        self._note_told(row, self.shaper.packet.ack, window)
        return self._note_header(row, record, end)

    cdef int owe(self, int row, int record) noexcept nogil:
        """A bare ACK that runs ahead does not leave at all; its contents are owed."""
        cdef Row* r = &self.held.rows[row]
        self.shaper.parse(record)
        if not r.flags & RowFlag.OWED:
            # The client knows no more than the secondary has acknowledged: the owed ACK carries more.
            self._note_told(row, r.secondary_ack, -1)
        return self._note_header(row, record, self.pool.at[record].seq)

    cdef int _note_told(self, int row, long long ack, int window) noexcept nogil:
        cdef Row* r = &self.held.rows[row]
        cdef Aside* debt = self._asides.own(r)
        if r.flags & RowFlag.OWED:
            ack = seq_max(ack, debt.told_ack)
        debt.told_ack = ack
        debt.told_window = window
        r.flags |= RowFlag.OWED
        return 0

    cdef int _note_header(self, int row, int record, long long seq) noexcept nogil:
        """Keep what an ACK in the name of `record`'s sender needs; the packet is parsed in `shaper`."""
        cdef Aside* debt = self._asides.own(&self.held.rows[row])
        ip_at: cython.Py_ssize_t = self.shaper.packet.ip_pos - self.shaper.packet.frame_pos
        l4_at: cython.Py_ssize_t = self.shaper.packet.l4_pos - self.shaper.packet.frame_pos
        if l4_at + 4 > _PROMISES_HEADER_BYTES:
            return self.forget(row)  # IP options or extension headers: a guest's bare ACK has none
        copy(debt.header, 0, self.pool.arena.memory, self.shaper.packet.frame_pos, l4_at + 4)
        debt.layout = (
            ip_at | (l4_at << 8) | (self.pool.at[record].vnet_len << 16) | (self.shaper.packet.ip_version << 24)
        )
        debt.seq = seq
        debt.has_time = self.shaper.packet.timestamp_pos != 0
        if self.shaper.packet.timestamp_pos:
            debt.value = load32(self.pool.arena.memory, self.shaper.packet.timestamp_pos)
            debt.echo = load32(self.pool.arena.memory, self.shaper.packet.timestamp_pos + 4)
        return 0

    cdef int _common_window(self, int row, long long ack, int flags) noexcept nogil:
        """The window field at which the right edge after `ack` is the nearer of the two guests' edges."""
        cdef Row* r = &self.held.rows[row]
        scale: cython.int = 0 if flags & TcpFlag.SYN else r.scale
        room: cython.longlong = r.secondary_space + seq_diff(r.secondary_ack, ack)
        own: cython.longlong = r.primary_space + seq_diff(r.primary_ack, ack)
        return min(max(0, min(room, own)) >> scale, 65535)

    # ── SACK (rule C11) ───────────────────────────────────────────────────────────────────────────────────────

    cdef int _limit_blocks(self, int row, int record) noexcept nogil:
        self.shaper.parse(record)
        return self._keep_common_blocks(row, self.shaper.packet)

    cdef int _keep_common_blocks(self, int row, Packet packet) noexcept nogil:
        """Remove every SACK block of the primary's that the secondary does not have."""
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

    cdef bint _has_block(self, int row, long long left, long long right) noexcept nogil:
        cdef Row* r = &self.held.rows[row]
        cdef const Aside* aside = self._asides.of(r)
        if seq_diff(right, r.secondary_ack) <= 0:
            return True
        i: cython.int = 0
        while i < r.block_count:
            if seq_diff(left, aside.blocks[2 * i]) >= 0 and seq_diff(right, aside.blocks[2 * i + 1]) <= 0:
                return True
            i += 1
        return False

    # ── paying ────────────────────────────────────────────────────────────────────────────────────────────────

    cdef int pay(self, int row, long long now_us) noexcept nogil:
        """The secondary has made progress: tell the client what had to be withheld before."""
        cdef Row* r = &self.held.rows[row]
        if not r.flags & RowFlag.OWED:
            return 0
        ack: cython.longlong = seq_min(r.primary_ack, r.secondary_ack)
        window: cython.int = self._common_window(row, ack, 0)
        cdef const Aside* debt = self._asides.of(r)
        if seq_diff(ack, debt.told_ack) < 0 or (ack == debt.told_ack and window == debt.told_window):
            return 0
        if debt.told_window == -1 and ack == debt.told_ack:
            return 0  # a bare ACK became the debt, or a SYN|ACK said it: nothing new to say yet
        if not self._say(row, ack, window, False, now_us):
            return 0
        edge: cython.longlong = r.secondary_space + seq_diff(r.secondary_ack, r.primary_ack)
        if ack == r.primary_ack and edge >= r.primary_space:
            self.forget(row)
        return 0

    cdef int repeat(self, int row, int record, long long now_us) noexcept nogil:
        """The secondary repeats an ACK: it lacks a segment that the primary has.

        Show that in place of `record`, a waiting bare ACK of the primary, with the secondary's own SACK blocks: the
        client then counts a duplicate (RFC 5681 section 2, RFC 6675 section 2) and retransmits the segment at once
        instead of after its time-out.
        """
        cdef Row* r = &self.held.rows[row]
        self.owe(row, record)
        ack: cython.longlong = r.secondary_ack
        return self._say(row, ack, self._common_window(row, ack, 0), True, now_us)

    cdef int settle(self, int row, long long now_us) noexcept nogil:
        """The secondary's promises no longer count, or equal the primary's now: pay all that is owed."""
        cdef Row* r = &self.held.rows[row]
        if r.flags & RowFlag.OWED:
            r.secondary_ack = r.primary_ack
            r.secondary_space = r.primary_space
            self.pay(row, now_us)
        return self.forget(row)

    cdef bint _say(self, int row, long long ack, int window, bint with_blocks, long long now_us) noexcept nogil:
        """Send an ACK of our own; False if there is no room for it now, or no header to make it from."""
        cdef Row* r = &self.held.rows[row]
        cdef Aside* debt = self._asides.own(r)
        layout: cython.int = debt.layout
        if layout == _NO_HEADER:
            return False
        made: cython.int = self.pool.alloc(_PROMISES_BARE_BYTES_MAX)
        if made == _NONE:
            return False
        self._packet.start = 0
        self._packet.vnet_len = (layout >> 16) & 0xFF
        self._packet.ip_pos = self._packet.vnet_len + (layout & 0xFF)
        self._packet.l4_pos = self._packet.vnet_len + ((layout >> 8) & 0xFF)
        self._packet.ip_version = layout >> 24
        pos: cython.longlong = self.pool.at[made].pos
        length: cython.Py_ssize_t = 20
        header_len: cython.Py_ssize_t = self._packet.l4_pos - self._packet.vnet_len + 4
        make_ack(
            self.pool.arena.memory,
            pos,
            self._packet,
            debt.header,
            0,
            header_len,
            debt.seq,
            ack,
            window,
        )
        if debt.has_time:
            length = add_timestamps(
                self.pool.arena.memory, pos, self._packet, length, debt.value, debt.echo
            )
        if with_blocks and r.block_count:
            count: cython.int = min(r.block_count, 3 if debt.has_time else 4)
            length = add_sack_blocks(
                self.pool.arena.memory, pos, self._packet, length, debt.blocks, 0, count
            )
        self.pool.at[made].length = self._packet.l4_pos + length
        self.pool.at[made].vnet_len = self._packet.vnet_len
        self.pool.at[made].arrived_us = now_us
        self.pool.at[made].flags = _MADE
        debt.told_ack = ack
        debt.told_window = window
        self.held.stats.acks_made += 1
        self.held.release(made, now_us)
        return True
