"""The rules of rewriting, frame by frame (docs/rules.md, R1 to R4).

A packet from outside is a claim: it changes the state of a connection only as far as the guest confirms it.
"""


# The fate of a frame.
cdef enum:
    _SEND = 0
    _KEPT = 1


@cython.final
cdef class RewriteStats:
    """Counters since start. Names and meanings are those of the metrics."""

    cdef public long long client_frames
    cdef public long long guest_frames
    cdef public long long client_bytes
    cdef public long long guest_bytes
    cdef public long long rewritten
    cdef public long long untouched
    cdef public long long refused
    cdef public long long learned
    cdef public long long handshake_held
    cdef public long long handshake_dropped
    cdef public long long resets_seen
    cdef public long long resent
    cdef public long long table_full


    def __init__(self):
        self.client_frames = self.guest_frames = self.client_bytes = self.guest_bytes = 0
        self.rewritten = self.untouched = self.refused = self.learned = 0
        self.handshake_held = self.handshake_dropped = self.resets_seen = self.resent = self.table_full = 0


@cython.final
cdef class Translator:
    """The connections and their state. `packet` is the current frame, in the buffer that is passed.

    `take_client` and `take_guest` return whether to send it on (0; it is translated then) or it was kept (1).
    """

    cdef readonly ConnectionTable table
    cdef readonly SeqOffsets offsets
    cdef readonly Progress progress
    cdef readonly UnackedCopies copies
    cdef readonly HandshakeFrames held
    cdef readonly Queues to_guest
    cdef readonly OffsetTable traveling
    cdef readonly SavedRows saved
    cdef readonly Neighbours neighbours
    cdef readonly RewriteStats stats
    cdef readonly Packet packet
    cdef readonly Packet quoted
    cdef public bint is_passing
    cdef public bint is_serving
    cdef public bint keeps_copies


    def __init__(self, seed, connections_max, copies_bytes_max):
        self.table = ConnectionTable(connections_max, seed)
        self.offsets = SeqOffsets(connections_max)
        self.progress = Progress(self.offsets)
        self.copies = UnackedCopies(connections_max, copies_bytes_max)
        self.held = HandshakeFrames(self.copies.pool, connections_max, copies_bytes_max // 8)
        self.to_guest = Queues(self.copies.pool, 1)
        self.traveling = OffsetTable(self.table, self.offsets)
        self.saved = SavedRows(self.traveling)
        self.neighbours = Neighbours()
        self.stats = RewriteStats()
        self.packet = Packet()
        self.quoted = Packet()
        self.is_passing = False
        self.is_serving = False
        self.keeps_copies = True

    cdef int row_for(self, int state, long long now_us) noexcept nogil:
        """A row for the key that was just missed; -1 if there is no place."""
        row: cython.int = self.table.insert(now_us)
        if row == _NONE:
            victim: cython.int = self.table.evict(now_us)
            if victim == _NONE:
                self.stats.table_full += 1
                return _NONE
            self.give_up(victim)
            row = self.table.insert(now_us)
        self.offsets.open_row(row, state)
        self.progress.open_row(row)
        self.copies.open_row(row)
        self.held.queues.open(row)
        return row

    cdef int give_up(self, int row) noexcept nogil:
        """Remove a connection and everything kept of it."""
        self.saved.gone(row)
        self.copies.forget(row)
        self.stats.handshake_dropped += self.held.forget(row)
        return self.table.remove(row)

    # ── from outside to the guest ─────────────────────────────────────────────────────────────────────────────

    cdef int take_client(self, uint8_t* buf, long long now_us) noexcept nogil:
        """A frame from outside; see the class for the answer."""
        kind: cython.int = self.packet.kind
        flags: cython.int = self.packet.flags
        self.stats.client_frames += 1
        if kind == PacketKind.REFUSED:
            self.stats.refused += 1
        if self.is_passing:
            return _SEND
        if kind != PacketKind.TCP:
            self._translate_mention(buf, True, 1)
            return _SEND
        row: cython.int = self.table.find(self.packet, True)
        if flags & (TcpFlag.SYN | TcpFlag.ACK | TcpFlag.RST) == TcpFlag.SYN:
            return self._client_syn(row, buf, now_us)
        if row == _NONE:
            self.stats.untouched += 1
            return _SEND
        self.offsets.at[row].flags = self.offsets.at[row].flags | ConnectionFlag.HEARD
        if self._must_wait(row, now_us):
            return self._hold(row, buf, now_us)
        was_known: cython.bint = self.offsets.at[row].state == OffsetState.KNOWN
        self._translate_client(row, buf, now_us)
        if not was_known and self.held.queues.at[row].head != _NONE:
            self.release_held(row, now_us)
        return _SEND

    cdef int _client_syn(self, int row, uint8_t* buf, long long now_us) noexcept nogil:
        """A claim that a connection begins; packets after it may have to wait for the guest's answer."""
        if not is_intact(buf, self.packet):
            return _SEND
        if row == _NONE:
            row = self.row_for(OffsetState.UNKNOWN, now_us)
        if row != _NONE:
            self.offsets.at[row].flags = self.offsets.at[row].flags | ConnectionFlag.HEARD
            self.offsets.client_syn(row, self.packet, now_us)
        return _SEND

    cdef bint _must_wait(self, int row, long long now_us) noexcept nogil:
        if self.packet.flags & (TcpFlag.SYN | TcpFlag.RST):
            return False
        if self.offsets.at[row].state != OffsetState.KNOWN:
            return self.offsets.must_wait(row, self.packet, now_us)
        # The old connection goes on until the guest follows the claim: a forged SYN must not end it.
        if not self.offsets.follows_claim(row, self.packet, now_us):
            return False
        return self.progress.has_ended(row) or not self.progress.is_in_window(row, self.packet.seq)

    cdef int _hold(self, int row, uint8_t* buf, long long now_us) noexcept nogil:
        if self.held.hold(row, buf, self.packet, now_us):
            self.stats.handshake_held += 1
        else:
            self.stats.handshake_dropped += 1
        return _KEPT

    cdef int _translate_client(self, int row, uint8_t* buf, long long now_us) noexcept nogil:
        if not self._learn(row, buf, now_us):
            self.stats.untouched += 1
            return 0
        if self.progress.client(row, buf, self.packet):
            self.copies.acknowledged(row, self.packet.ack)
        if self.packet.flags & TcpFlag.RST:
            self.stats.resets_seen += 1
        self.offsets.shift(row, buf, self.packet, 1)
        self.stats.rewritten += 1
        self._note_end(row, now_us)
        self.saved.changed(row)
        return 0

    cdef bint _learn(self, int row, uint8_t* buf, long long now_us) noexcept nogil:
        """Whether the offset is known, perhaps through this packet."""
        is_known: cython.bint = self.offsets.at[row].state == OffsetState.KNOWN
        is_answer: cython.bint = self.offsets.answers(row, self.packet)
        if not is_answer and is_known:
            return True
        flags: cython.int = self.packet.flags
        is_last: cython.bint = not flags & (TcpFlag.SYN | TcpFlag.RST) and self.offsets.completes(row, self.packet)
        if (is_answer or is_last) and is_intact(buf, self.packet):
            self.offsets.learn(row, buf, self.packet, is_answer)
            self.progress.learned(row, self.packet)
            self.table.confirm(row, now_us)
            self.stats.learned += 1
            return True
        opens: cython.int = self.offsets.at[row].flags & (ConnectionFlag.OPENS | ConnectionFlag.OWN)
        if not is_known and opens == ConnectionFlag.OPENS and flags & TcpFlag.RST and flags & TcpFlag.ACK:
            # Refused: it acknowledges the primary's SYN, so for this guest its own.
            set_ack(buf, self.packet, seq_add(self.offsets.at[row].secondary_isn, 1))
        return is_known

    cdef int _note_end(self, int row, long long now_us) noexcept nogil:
        """An ended connection is removed CLOSED_GRACE_MS after its guest's last segment, or evicted before."""
        was_ended: cython.bint = self.offsets.at[row].flags & ConnectionFlag.ENDED != 0
        if self.progress.has_ended(row) == was_ended:
            return 0
        self.offsets.at[row].flags = self.offsets.at[row].flags ^ ConnectionFlag.ENDED
        if not was_ended:
            return self.table.close(row, now_us)
        self.table.reopen(row, now_us)
        return self.table.assure(row, now_us)

    cdef int _translate_mention(self, uint8_t* buf, bint is_client, int sign) noexcept nogil:
        """Rule R2: a first fragment is the sender's own; an ICMP error quotes the other end's segment."""
        row: cython.int
        if self.packet.kind == PacketKind.FRAGMENT:
            if not parse_first_fragment(buf, self.packet):
                return 0
            row = self.table.find(self.packet, is_client)
            if row != _NONE and is_client:
                self.offsets.shift(row, buf, self.packet, sign)
            elif row != _NONE:
                self.offsets.shift_guest(row, buf, self.packet, sign)
            return 0
        if self.packet.kind != PacketKind.ICMP or not parse_quote(buf, self.packet, self.quoted):
            return 0
        row = self.table.find(self.quoted, not is_client)
        if row == _NONE:
            return 0
        before: cython.longlong = header_sum(buf, self.quoted)
        if is_client:
            self.offsets.shift_guest(row, buf, self.quoted, sign)
        else:
            self.offsets.shift(row, buf, self.quoted, sign)
        return seal(buf, self.packet, self.quoted, before)

    # ── from the guest ────────────────────────────────────────────────────────────────────────────────────────

    cdef int take_guest(self, uint8_t* buf, long long now_us) noexcept nogil:
        """A frame of the guest; see the class for the answer."""
        kind: cython.int = self.packet.kind
        self.stats.guest_frames += 1
        if kind == PacketKind.REFUSED:
            self.stats.refused += 1
            return _SEND
        if kind == PacketKind.PASS:
            self.neighbours.note_arp(buf, self.packet)
            self.neighbours.note_advertisement(buf, self.packet)
            return _SEND
        if self.is_passing:
            return _SEND
        if kind != PacketKind.TCP:
            self._translate_mention(buf, False, -1)
            return _SEND
        row: cython.int = self.table.find(self.packet, False)
        if row == _NONE:
            if self.packet.flags & TcpFlag.RST:
                self.stats.untouched += 1
                return _SEND
            row = self.row_for(OffsetState.UNKNOWN, now_us)
            if row == _NONE:
                return _SEND
        self.table.touch(row, now_us)
        self._translate_guest(row, buf, now_us)
        return _SEND

    cdef int _translate_guest(self, int row, uint8_t* buf, long long now_us) noexcept nogil:
        flags: cython.int = self.packet.flags
        if flags & TcpFlag.RST:
            self.offsets.refused(row, self.packet)
            self.stats.resets_seen += 1
        elif flags & TcpFlag.SYN:
            self._guest_syn(row, buf, now_us)
        else:
            # Without a SYN the connection is older than the rewriter: its offset is 0; it is tracked for its copies.
            self.offsets.goes_on(row, self.packet)
            self.table.assure(row, now_us)
        if self.offsets.at[row].flags & (ConnectionFlag.HEARD | ConnectionFlag.NOTED) == ConnectionFlag.HEARD:
            self._note_address(row, buf)
        if self.offsets.at[row].state == OffsetState.KNOWN:
            self.offsets.shift_guest(row, buf, self.packet, -1)
            self.progress.guest(row, buf, self.packet)
            self.stats.rewritten += 1
            if self.keeps_copies and not self.is_serving:
                self.copies.keep(row, buf, self.packet, now_us)
            self._note_end(row, now_us)
        self.saved.changed(row)
        if self.held.queues.at[row].head != _NONE:
            self.release_held(row, now_us)
        return 0

    cdef int _guest_syn(self, int row, uint8_t* buf, long long now_us) noexcept nogil:
        is_new: cython.bint = self.offsets.guest_syn(row, buf, self.packet, self.is_serving)
        if self.offsets.at[row].state == OffsetState.AWAITING_PRIMARY:
            self.progress.guest_syn(row, self.packet, is_new)
        if is_new:
            self.copies.forget(row)
            self.table.reopen(row, now_us)
        return 0

    cdef int _note_address(self, int row, uint8_t* buf) noexcept nogil:
        """Rule R4: the guest answers from its own address, unless it is a router and sends other hosts' packets."""
        if self.packet.flags & TcpFlag.RST:
            return 0
        self.offsets.at[row].flags = self.offsets.at[row].flags | ConnectionFlag.NOTED
        if self.table.find(self.packet, True) == _NONE:
            self.neighbours.note_packet(buf, self.packet)
        return 0

    cdef int release_held(self, int row, long long now_us) noexcept nogil:
        """The offset has become known: packets that need not wait any longer go on, in order. Uses `packet`."""
        left: cython.int = self.held.queues.at[row].count
        while left > 0:
            record: cython.int = self.held.take(row)
            self.copies.parse(record, self.packet)
            if self._must_wait(row, now_us):
                self.held.put_back(row, record)
            else:
                self._translate_client(row, self.copies.pool.arena.memory, now_us)
                self.to_guest.push(0, record)
            left -= 1
        return 0

    cdef int shift(self, uint8_t* buf, int sign) noexcept nogil:
        """`packet` is a client's."""
        if self.is_passing:
            return 0
        if self.packet.kind != PacketKind.TCP:
            return self._translate_mention(buf, True, sign)
        row: cython.int = self.table.find(self.packet, True)
        return 0 if row == _NONE else self.offsets.shift(row, buf, self.packet, sign)
