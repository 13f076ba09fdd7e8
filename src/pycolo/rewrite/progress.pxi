"""How far each end of a connection is, by the guest's segments: they decide which client segments are believable.

Numbers are those that the client knows. ::

    sent       after the last byte that the guest has sent           acked      the client has everything before it
    taken      the guest has acknowledged everything before it       received   … and may have received up to this
    edge       the right end of the window that it offers

A client's segment is *believable* if the guest would accept it (RFC 9293 section 3.10.7.4): it lies in the window and
acknowledges nothing unsent; and its changes count only with a correct checksum. A RST counts if its number is exactly
the one that the guest expects (RFC 5961 section 3.2). To a RST elsewhere in the window the guest answers with an ACK; a
genuine client then sends an exact one. An error here ends with the guest's next segment.
"""


cdef long long segment_end(Packet packet) noexcept nogil:
    """The sequence number after a segment."""
    count: cython.longlong = packet.payload_len
    if packet.flags & TcpFlag.SYN:
        count += 1
    if packet.flags & TcpFlag.FIN:
        count += 1
    return seq_add(packet.seq, count)


@cython.final
cdef class Progress:
    """Its numbers are in the rows of `offsets`."""

    cdef readonly SeqOffsets offsets

    def __init__(self, offsets: SeqOffsets):
        self.offsets = offsets

    cdef int open_row(self, int row) noexcept nogil:
        """Initialise a new row: nothing is known."""
        cdef RewriteRow* r = &self.offsets.at[row]
        r.scale = _SCALE_UNKNOWN
        return 0

    # ── a beginning ───────────────────────────────────────────────────────────────────────────────────────────

    cdef int guest_syn(self, int row, Packet packet, bint is_new) noexcept nogil:
        """The guest's SYN or SYN|ACK, before its offset is known."""
        cdef RewriteRow* r = &self.offsets.at[row]
        if is_new:
            r.scale = packet.window_scale if packet.window_scale >= 0 else 0
        if packet.flags & TcpFlag.ACK:
            r.taken = r.received = packet.ack
            r.edge = seq_add(packet.ack, packet.window)
        return 0

    cdef int learned(self, int row, Packet packet) noexcept nogil:
        """The client has acknowledged the primary's SYN."""
        cdef RewriteRow* r = &self.offsets.at[row]
        r.sent = r.acked = packet.ack
        if r.flags & ConnectionFlag.DUE:
            r.flags |= ConnectionFlag.SPOKEN
        return 0

    # ── segments of the guest ─────────────────────────────────────────────────────────────────────────────────

    cdef int guest(self, int row, uint8_t* buf, Packet packet) noexcept nogil:
        """A translated segment of the guest."""
        cdef RewriteRow* r = &self.offsets.at[row]
        flags: cython.int = r.flags
        has_spoken: cython.bint = flags & ConnectionFlag.SPOKEN != 0
        if not has_spoken:
            r.sent = r.acked = packet.seq
        if packet.timestamp_pos:
            r.sent_value = load32(buf, packet.timestamp_pos)
            flags |= ConnectionFlag.SENT_VALUE
        if packet.flags & TcpFlag.RST:
            is_acceptable: cython.bint = (
                seq_diff(packet.seq, r.acked) >= 0 and seq_diff(packet.seq, r.sent) <= 0
            )
            if is_acceptable and not flags & ConnectionFlag.TENTATIVE:
                flags |= ConnectionFlag.RESET
            r.flags = flags
            return 0
        if packet.flags & TcpFlag.ACK:
            self._note_ack(row, packet, has_spoken)
            flags = (flags | ConnectionFlag.SPOKEN) & ~ConnectionFlag.RESET
        end: cython.longlong = segment_end(packet)
        r.sent = seq_max(r.sent, end)
        if packet.flags & TcpFlag.FIN:
            r.guest_fin = end
            flags |= ConnectionFlag.GUEST_FIN
        r.flags = flags
        return 0

    cdef int _note_ack(self, int row, Packet packet, bint has_spoken) noexcept nogil:
        cdef RewriteRow* r = &self.offsets.at[row]
        window: cython.longlong = packet.window
        if not packet.flags & TcpFlag.SYN:
            window <<= r.scale
        edge: cython.longlong = seq_add(packet.ack, window)
        if not has_spoken:
            r.taken = r.received = packet.ack
            r.edge = edge
        r.taken = seq_max(r.taken, packet.ack)
        r.received = seq_max(r.received, packet.ack)
        r.edge = seq_max(r.edge, edge)
        return 0

    # ── segments of the client ────────────────────────────────────────────────────────────────────────────────

    cdef bint is_in_window(self, int row, long long seq) noexcept nogil:
        """Whether the guest would process a segment with this number (a keep-alive's is one below)."""
        cdef RewriteRow* r = &self.offsets.at[row]
        if not r.flags & ConnectionFlag.SPOKEN:
            return False
        return seq_diff(seq, r.taken) >= -1 and seq_diff(seq, r.edge) <= 0

    cdef bint client(self, int row, uint8_t* buf, Packet packet) noexcept nogil:
        """A segment of the client, before translation. Returns whether `acked` has advanced."""
        cdef RewriteRow* r = &self.offsets.at[row]
        flags: cython.int = packet.flags
        if flags & TcpFlag.RST:
            self._client_reset(row, buf, packet)
            return False
        if not flags & TcpFlag.ACK or not self.is_in_window(row, packet.seq):
            return False
        # A keep-alive is answered, and its contents are ignored.
        if seq_diff(packet.ack, r.sent) > 0 or seq_diff(packet.seq, r.taken) < 0:
            return False
        end: cython.longlong = segment_end(packet)
        if seq_diff(packet.seq, r.received) <= 0:
            r.received = seq_max(r.received, end)
        has_moved: cython.bint = seq_diff(packet.ack, r.acked) > 0
        has_newer_echo: cython.bint = packet.timestamp_pos != 0 and self._is_newer_echo(row, buf, packet)
        if not (has_moved or has_newer_echo or flags & TcpFlag.FIN) or not is_intact(buf, packet):
            return False
        if has_newer_echo:
            r.echoed = load32(buf, packet.timestamp_pos + 4)
            r.flags |= ConnectionFlag.ECHOED
        if has_moved:
            r.acked = packet.ack
            if r.flags & ConnectionFlag.GUEST_FIN and packet.ack == r.guest_fin:
                r.flags |= ConnectionFlag.GUEST_FIN_ACKED
        if flags & TcpFlag.FIN:
            r.client_fin = end
            r.flags |= ConnectionFlag.CLIENT_FIN
        return has_moved

    cdef int _client_reset(self, int row, uint8_t* buf, Packet packet) noexcept nogil:
        cdef RewriteRow* r = &self.offsets.at[row]
        if not r.flags & ConnectionFlag.SPOKEN:
            return 0
        if (packet.seq == r.taken or packet.seq == r.received) and is_intact(buf, packet):
            r.flags |= ConnectionFlag.RESET
        return 0

    cdef bint _is_newer_echo(self, int row, uint8_t* buf, Packet packet) noexcept nogil:
        """Whether the client echoes a TSval newer than any that the guest has sent.

        The primary's clock may be ahead. 0 is "nothing to echo" (RFC 7323 section 3.2).
        """
        cdef RewriteRow* r = &self.offsets.at[row]
        echo: cython.longlong = load32(buf, packet.timestamp_pos + 4)
        if echo == 0 or not r.flags & ConnectionFlag.SENT_VALUE:
            return False
        return seq_diff(echo, self._newest_value(row)) > 0

    cdef Py_ssize_t _newest_value(self, int row) noexcept nogil:
        cdef RewriteRow* r = &self.offsets.at[row]
        if r.flags & ConnectionFlag.ECHOED:
            return seq_max(r.echoed, r.sent_value)
        return r.sent_value

    # ── the end of a connection ───────────────────────────────────────────────────────────────────────────────

    cdef bint has_ended(self, int row) noexcept nogil:
        """Whether both FINs are acknowledged (the client's is the last number the guest expects), or a RST counted.

        A FIN that the guest has not accepted (a forged one) lies beyond its later acks.
        """
        cdef RewriteRow* r = &self.offsets.at[row]
        flags: cython.int = r.flags
        if flags & ConnectionFlag.RESET:
            return True
        if not flags & ConnectionFlag.SPOKEN:
            return flags & ConnectionFlag.ENDED != 0
        both: cython.int = ConnectionFlag.GUEST_FIN_ACKED | ConnectionFlag.CLIENT_FIN
        return flags & both == both and r.client_fin == r.taken

    # ── takeover ──────────────────────────────────────────────────────────────────────────────────────────────

    cdef int catch_up(self, int row) noexcept nogil:
        """Keep TSval from falling behind the client's TSecr: it would drop the segment (PAWS, RFC 7323 section 5).

        The primary's clock may have been read a little later than the secondary's: correct ts_offset by the deficit.
        """
        cdef RewriteRow* r = &self.offsets.at[row]
        both: cython.int = ConnectionFlag.ECHOED | ConnectionFlag.SENT_VALUE
        if r.flags & both != both:
            return 0
        missing: cython.longlong = seq_diff(r.echoed, r.sent_value)
        if missing > 0:
            r.ts_offset = seq_add(r.ts_offset, -missing)
        return 0

    cdef int lift(self, int row, uint8_t* buf, Packet packet) noexcept nogil:
        """The same for a translated frame that is sent again: it is as recent as the newest."""
        cdef RewriteRow* r = &self.offsets.at[row]
        if not packet.timestamp_pos or not r.flags & ConnectionFlag.SENT_VALUE:
            return 0
        missing: cython.longlong = seq_diff(self._newest_value(row), load32(buf, packet.timestamp_pos))
        if missing > 0:
            shift_timestamps(buf, packet, missing, 0)
        return 0
