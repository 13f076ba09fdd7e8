"""How far each end of a connection has come, as its guest says: which of the client's claims are to be believed.

Numbers are those that the client knows. ::

    sent       behind the last byte that the guest has sent          acked      the client has everything before it
    taken      the guest has acknowledged everything before it       received   … and may have taken so much by now
    edge       the right end of the window that it offers

A client's segment is *believable* if the guest would take it (RFC 9293 section 3.10.7.4): in the window, and it
acknowledges nothing that was not sent; and what it changes counts only with a right checksum. A RST counts if its
number is exactly the one that the guest expects (RFC 5961 section 3.2); one that is only in the window is answered by
the guest with an ACK, and if the client meant it, by the client with an exact one. Whatever counted wrongly ends with
the next thing that the guest says.
"""


cdef long long segment_end(Packet packet) noexcept nogil:
    """The number behind a segment."""
    count: cython.longlong = packet.payload_len
    if packet.flags & TcpFlag.SYN:
        count += 1
    if packet.flags & TcpFlag.FIN:
        count += 1
    return seq_add(packet.seq, count)


@cython.final
cdef class Progress:
    """Columns by row, beside those of `offsets`, whose flags it shares."""

    cdef readonly SeqOffsets offsets
    cdef uint32_t* acked
    cdef uint32_t* guest_fin
    cdef uint32_t* client_fin
    cdef uint32_t* _sent
    cdef uint32_t* _taken
    cdef uint32_t* _received
    cdef uint32_t* _edge
    cdef int* _scale
    cdef uint32_t* _echoed
    cdef uint32_t* _sent_value

    def __dealloc__(self):
        release_column(self.acked)
        release_column(self.guest_fin)
        release_column(self.client_fin)
        release_column(self._sent)
        release_column(self._taken)
        release_column(self._received)
        release_column(self._edge)
        release_column(self._scale)
        release_column(self._echoed)
        release_column(self._sent_value)

    def __init__(self, offsets: SeqOffsets, rows):
        self.offsets = offsets
        self.acked = <uint32_t*>column(self.acked, rows, sizeof(uint32_t), 0)
        self.guest_fin = <uint32_t*>column(self.guest_fin, rows, sizeof(uint32_t), 0)
        self.client_fin = <uint32_t*>column(self.client_fin, rows, sizeof(uint32_t), 0)
        self._sent = <uint32_t*>column(self._sent, rows, sizeof(uint32_t), 0)
        self._taken = <uint32_t*>column(self._taken, rows, sizeof(uint32_t), 0)
        self._received = <uint32_t*>column(self._received, rows, sizeof(uint32_t), 0)
        self._edge = <uint32_t*>column(self._edge, rows, sizeof(uint32_t), 0)
        self._scale = <int*>column(self._scale, rows, sizeof(int), 0)
        self._echoed = <uint32_t*>column(self._echoed, rows, sizeof(uint32_t), 0)
        self._sent_value = <uint32_t*>column(self._sent_value, rows, sizeof(uint32_t), 0)

    cdef int open_row(self, int row) noexcept nogil:
        """A new row, of which nothing is known."""
        self._scale[row] = _SCALE_UNKNOWN
        return 0

    # ── a beginning ───────────────────────────────────────────────────────────────────────────────────────────

    cdef int guest_syn(self, int row, Packet packet, bint is_new) noexcept nogil:
        """The guest's SYN or SYN|ACK, before its offset is known."""
        if is_new:
            self._scale[row] = packet.window_scale if packet.window_scale >= 0 else 0
        if packet.flags & TcpFlag.ACK:
            self._taken[row] = self._received[row] = packet.ack
            self._edge[row] = seq_add(packet.ack, packet.window)
        return 0

    cdef int learned(self, int row, Packet packet) noexcept nogil:
        """The client has acknowledged the primary's SYN."""
        self._sent[row] = self.acked[row] = packet.ack
        if self.offsets.flags[row] & ConnectionFlag.DUE:
            self.offsets.flags[row] = self.offsets.flags[row] | ConnectionFlag.SPOKEN
        return 0

    # ── what the guest says ───────────────────────────────────────────────────────────────────────────────────

    cdef int guest(self, int row, uint8_t* buf, Packet packet) noexcept nogil:
        """A translated segment of the guest."""
        flags: cython.int = self.offsets.flags[row]
        has_spoken: cython.bint = flags & ConnectionFlag.SPOKEN != 0
        if not has_spoken:
            self._sent[row] = self.acked[row] = packet.seq
        if packet.timestamp_pos:
            self._sent_value[row] = load32(buf, packet.timestamp_pos)
            flags |= ConnectionFlag.SENT_VALUE
        if packet.flags & TcpFlag.RST:
            is_acceptable: cython.bint = (
                seq_diff(packet.seq, self.acked[row]) >= 0 and seq_diff(packet.seq, self._sent[row]) <= 0
            )
            if is_acceptable and not flags & ConnectionFlag.TENTATIVE:
                flags |= ConnectionFlag.RESET
            self.offsets.flags[row] = flags
            return 0
        if packet.flags & TcpFlag.ACK:
            self._note_ack(row, packet, has_spoken)
            flags = (flags | ConnectionFlag.SPOKEN) & ~ConnectionFlag.RESET
        end: cython.longlong = segment_end(packet)
        self._sent[row] = seq_max(self._sent[row], end)
        if packet.flags & TcpFlag.FIN:
            self.guest_fin[row] = end
            flags |= ConnectionFlag.GUEST_FIN
        self.offsets.flags[row] = flags
        return 0

    cdef int _note_ack(self, int row, Packet packet, bint has_spoken) noexcept nogil:
        window: cython.longlong = packet.window
        if not packet.flags & TcpFlag.SYN:
            window <<= self._scale[row]
        edge: cython.longlong = seq_add(packet.ack, window)
        if not has_spoken:
            self._taken[row] = self._received[row] = packet.ack
            self._edge[row] = edge
        self._taken[row] = seq_max(self._taken[row], packet.ack)
        self._received[row] = seq_max(self._received[row], packet.ack)
        self._edge[row] = seq_max(self._edge[row], edge)
        return 0

    # ── what the client says ──────────────────────────────────────────────────────────────────────────────────

    cdef bint is_in_window(self, int row, long long seq) noexcept nogil:
        """Whether the guest would look at a segment with that number (a keep-alive's is one below)."""
        if not self.offsets.flags[row] & ConnectionFlag.SPOKEN:
            return False
        return seq_diff(seq, self._taken[row]) >= -1 and seq_diff(seq, self._edge[row]) <= 0

    cdef bint client(self, int row, uint8_t* buf, Packet packet) noexcept nogil:
        """A segment of the client, before it is translated; whether `acked` has moved."""
        flags: cython.int = packet.flags
        if flags & TcpFlag.RST:
            self._client_reset(row, buf, packet)
            return False
        if not flags & TcpFlag.ACK or not self.is_in_window(row, packet.seq):
            return False
        # A keep-alive is answered, and what it says is not taken.
        if seq_diff(packet.ack, self._sent[row]) > 0 or seq_diff(packet.seq, self._taken[row]) < 0:
            return False
        end: cython.longlong = segment_end(packet)
        if seq_diff(packet.seq, self._received[row]) <= 0:
            self._received[row] = seq_max(self._received[row], end)
        has_moved: cython.bint = seq_diff(packet.ack, self.acked[row]) > 0
        has_newer_echo: cython.bint = packet.timestamp_pos != 0 and self._is_newer_echo(row, buf, packet)
        if not (has_moved or has_newer_echo or flags & TcpFlag.FIN) or not is_intact(buf, packet):
            return False
        if has_newer_echo:
            self._echoed[row] = load32(buf, packet.timestamp_pos + 4)
            self.offsets.flags[row] = self.offsets.flags[row] | ConnectionFlag.ECHOED
        if has_moved:
            self.acked[row] = packet.ack
            if self.offsets.flags[row] & ConnectionFlag.GUEST_FIN and packet.ack == self.guest_fin[row]:
                self.offsets.flags[row] = self.offsets.flags[row] | ConnectionFlag.GUEST_FIN_ACKED
        if flags & TcpFlag.FIN:
            self.client_fin[row] = end
            self.offsets.flags[row] = self.offsets.flags[row] | ConnectionFlag.CLIENT_FIN
        return has_moved

    cdef int _client_reset(self, int row, uint8_t* buf, Packet packet) noexcept nogil:
        if not self.offsets.flags[row] & ConnectionFlag.SPOKEN:
            return 0
        if (packet.seq == self._taken[row] or packet.seq == self._received[row]) and is_intact(buf, packet):
            self.offsets.flags[row] = self.offsets.flags[row] | ConnectionFlag.RESET
        return 0

    cdef bint _is_newer_echo(self, int row, uint8_t* buf, Packet packet) noexcept nogil:
        """Whether the client echoes a TSval that is newer than any that the guest has sent.

        The primary's clock may be ahead. 0 is "nothing to echo" (RFC 7323 section 3.2).
        """
        echo: cython.longlong = load32(buf, packet.timestamp_pos + 4)
        if echo == 0 or not self.offsets.flags[row] & ConnectionFlag.SENT_VALUE:
            return False
        return seq_diff(echo, self._newest_value(row)) > 0

    cdef Py_ssize_t _newest_value(self, int row) noexcept nogil:
        if self.offsets.flags[row] & ConnectionFlag.ECHOED:
            return seq_max(self._echoed[row], self._sent_value[row])
        return self._sent_value[row]

    # ── an end ────────────────────────────────────────────────────────────────────────────────────────────────

    cdef bint has_ended(self, int row) noexcept nogil:
        """Both FINs are acknowledged, the client's by being the last number that the guest expects; or a RST counted.

        A FIN that the guest has not taken (a forged one) lies behind what it goes on to acknowledge.
        """
        flags: cython.int = self.offsets.flags[row]
        if flags & ConnectionFlag.RESET:
            return True
        if not flags & ConnectionFlag.SPOKEN:
            return flags & ConnectionFlag.ENDED != 0
        both: cython.int = ConnectionFlag.GUEST_FIN_ACKED | ConnectionFlag.CLIENT_FIN
        return flags & both == both and self.client_fin[row] == self._taken[row]

    # ── takeover ──────────────────────────────────────────────────────────────────────────────────────────────

    cdef int catch_up(self, int row) noexcept nogil:
        """No TSval may be older than what the client has echoed, or it drops the segment (PAWS, RFC 7323 section 5).

        The primary's clock may have been read a little later than the secondary's: move ts_offset by what is missing.
        """
        both: cython.int = ConnectionFlag.ECHOED | ConnectionFlag.SENT_VALUE
        if self.offsets.flags[row] & both != both:
            return 0
        missing: cython.longlong = seq_diff(self._echoed[row], self._sent_value[row])
        if missing > 0:
            self.offsets.ts_offset[row] = seq_add(self.offsets.ts_offset[row], -missing)
        return 0

    cdef int lift(self, int row, uint8_t* buf, Packet packet) noexcept nogil:
        """The same for a frame that was already translated and is to be sent again: it is as new as the newest."""
        if not packet.timestamp_pos or not self.offsets.flags[row] & ConnectionFlag.SENT_VALUE:
            return 0
        missing: cython.longlong = seq_diff(self._newest_value(row), load32(buf, packet.timestamp_pos))
        if missing > 0:
            shift_timestamps(buf, packet, missing, 0)
        return 0
