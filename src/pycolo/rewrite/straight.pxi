"""The straight path: segments in the middle of a connection, and datagrams, which are nearly all frames.

The rules are those of `translator`, `offsets` and `progress`, reduced to the simple case: no flag but ACK and PSH, no
option but timestamps, the offset known, no claim, nothing waiting, no end begun. A frame is translated in place. Any
other frame is left to `Translator`: `take` then returns False and has changed nothing.
"""

# Flags that a connection on the straight path may have; its guest must have SPOKEN.
cdef enum:
    _STEADY = (
        ConnectionFlag.OPENS | ConnectionFlag.DUE | ConnectionFlag.HAS_TIMESTAMP | ConnectionFlag.HAS_ISN
        | ConnectionFlag.OWN | ConnectionFlag.SPOKEN | ConnectionFlag.ECHOED | ConnectionFlag.SENT_VALUE
        | ConnectionFlag.HEARD | ConnectionFlag.NOTED
    )
    _LONG_HEADER = 32
    _VALUE = 24
    _ECHO = 28


cdef inline void turn_key(uint32_t* key) noexcept nogil:
    """The key of the opposite direction; the words of an IPv4 key that are always 0 need not be set."""
    key[0], key[4] = key[4], key[0]
    key[8] = key[8] >> 16 | key[8] << 16
    if key[9] >> 8 == 6:
        key[1], key[5] = key[5], key[1]
        key[2], key[6] = key[6], key[2]
        key[3], key[7] = key[7], key[3]


cdef inline long long pseudo_total(const uint32_t* key) noexcept nogil:
    """The sum of a TCP pseudo-header without the length: folded, it is that of its 16-bit words."""
    cdef long long total = <long long>key[0] + key[4] + IpProto.PROTO_TCP
    if key[9] >> 8 == 6:
        total += <long long>key[1] + key[2] + key[3] + key[5] + key[6] + key[7]
    return total


cdef inline Py_ssize_t header_pos(Segment* s) noexcept nogil:
    """Position of the TCP header in a frame that `find_segment` has found."""
    return 54 if s.key[9] >> 8 == 6 else 34


cdef inline long long add32(uint8_t* field, uint32_t delta) noexcept nogil:
    """Add to a number of a header; returns what to add to its checksum's complement (RFC 1624, equation 3)."""
    cdef uint32_t old = load32(field, 0)
    cdef uint32_t new = old + delta
    store32(field, 0, new)
    return <long long>(0xFFFFFFFFU - old) + new


cdef inline bint is_datagram(const uint8_t* frame, Py_ssize_t size) noexcept nogil:
    """Whether the frame is a whole UDP datagram: those are never changed."""
    cdef uint32_t[11] key
    cdef Py_ssize_t stop
    cdef Py_ssize_t l4 = find_transport(frame, size, IpProto.PROTO_UDP, key, &stop)
    if l4 == 0:
        return False
    size = load16(frame, l4 + 4)
    return size == 0 or (size >= 8 and size <= stop - l4)


@cython.final
cdef class StraightTranslator:
    """Its state is `general`'s. `taken` frames were handled here; `is_on` False leaves all of them to `general`."""

    cdef public bint is_on
    cdef readonly long long taken
    cdef bint _keeps_copies
    cdef Translator general
    cdef ConnectionTable table
    cdef SeqOffsets offsets
    cdef UnackedCopies copies
    cdef HandshakeFrames held
    cdef RewriteStats stats

    def __init__(self, Translator general not None):
        self.is_on = True
        self.taken = 0
        self.general = general
        self.table = general.table
        self.offsets = general.offsets
        self.copies = general.copies
        self.held = general.held
        self.stats = general.stats

    cdef Py_ssize_t run(self, uint8_t* buf, Py_ssize_t pos, Py_ssize_t end, bint has_vnet, bint is_client,
            long long now_us) noexcept nogil:
        """Translate frames of a batch while they are on the straight path; returns the position after them.
        """
        cdef Py_ssize_t words = 8 if has_vnet else 4
        cdef Py_ssize_t vnet_len = 0
        cdef Py_ssize_t length
        cdef long long count = 0
        if not self.is_on or self.general.is_passing:
            return pos
        self._keeps_copies = self.general.keeps_copies and not self.general.is_serving
        while end - pos >= words:
            length = load32(buf, pos)
            if has_vnet:
                vnet_len = load32(buf, pos + 4)
                if not is_vnet_len(vnet_len):
                    break
            if length > end - pos - words or length > _FRAMING_LENGTH_MAX:
                break
            if not self.take(buf, pos + words, pos + words + length, vnet_len, is_client, now_us):
                break
            count += 1
            pos += words + length
        self.taken += count
        if is_client:
            self.stats.client_frames += count
        else:
            self.stats.guest_frames += count
        return pos

    cdef inline bint take(self, uint8_t* buf, Py_ssize_t start, Py_ssize_t end, Py_ssize_t vnet_len, bint is_client,
            long long now_us) noexcept nogil:
        """Whether the frame was handled."""
        cdef Segment s
        cdef uint8_t* frame = buf + start + vnet_len
        cdef bint is_partial
        if not find_segment(frame, end - start - vnet_len, &s):
            return is_datagram(frame, end - start - vnet_len)
        is_partial = vnet_len != 0 and buf[start] & VnetFlag.NEEDS_CSUM != 0
        if is_client:
            return self._take_client(buf + start, frame, vnet_len, is_partial, &s)
        return self._take_guest(buf, start, end, vnet_len, is_partial, &s, now_us)

    # ── from outside to the guest ─────────────────────────────────────────────────────────────────────────────

    cdef inline bint _take_client(self, uint8_t* vnet, uint8_t* frame, Py_ssize_t vnet_len, bint is_partial,
            Segment* s) noexcept nogil:
        cdef RewriteRow* r
        cdef Py_ssize_t l4 = header_pos(s)
        cdef uint8_t* header = frame + l4
        cdef long long change = 0
        cdef int row
        turn_key(s.key)
        row = self.table.lookup(s.key, hash_key(s.key, self.table._key0, self.table._key1))
        if row == _NONE:
            self.stats.untouched += 1
            return True
        r = &self.offsets.at[row]
        if r.state != OffsetState.KNOWN or r.flags & (~_STEADY | ConnectionFlag.SPOKEN) != ConnectionFlag.SPOKEN:
            return False
        r.flags |= ConnectionFlag.HEARD
        self._note_client(row, r, vnet, frame, vnet_len, l4, s)
        if r.seq_offset:
            change = add32(header + TCP_ACK, r.seq_offset)
        if r.ts_offset and s.payload - l4 == _LONG_HEADER and load32(header, _ECHO):
            change += add32(header + _ECHO, r.ts_offset)
        self._correct(header, change, is_partial)
        return True

    cdef inline void _correct(self, uint8_t* header, long long change, bint is_partial) noexcept nogil:
        """The header has changed by this sum. A partial checksum includes none of these numbers."""
        if change and not is_partial:
            store16(header, CHECKSUM, 0xFFFF - fold(0xFFFF - load16(header, CHECKSUM) + change))
        self.stats.rewritten += 1

    cdef inline int _note_client(self, int row, RewriteRow* r, const uint8_t* vnet, uint8_t* frame,
            Py_ssize_t vnet_len, Py_ssize_t l4, Segment* s) noexcept nogil:
        """As `Progress.client`."""
        cdef bint has_moved, has_newer_echo
        cdef uint32_t echo
        if seq_diff(s.seq, r.taken) < 0 or seq_diff(s.seq, r.edge) > 0 or seq_diff(s.ack, r.sent) > 0:
            return 0
        if seq_diff(s.seq, r.received) <= 0:
            r.received = seq_max(r.received, s.seq + s.payload_len)
        has_moved = seq_diff(s.ack, r.acked) > 0
        has_newer_echo = False
        echo = 0
        if s.payload - l4 == _LONG_HEADER:
            echo = load32(frame, l4 + _ECHO)
            has_newer_echo = self._is_newer_echo(r, echo)
        if not (has_moved or has_newer_echo) or not self._is_intact(vnet, frame, vnet_len, l4, s):
            return 0
        if has_newer_echo:
            r.echoed = echo
            r.flags |= ConnectionFlag.ECHOED
        if has_moved:
            r.acked = s.ack
            self.copies.acknowledged(row, s.ack)
        return 0

    cdef inline bint _is_newer_echo(self, RewriteRow* r, uint32_t echo) noexcept nogil:
        if echo == 0 or not r.flags & ConnectionFlag.SENT_VALUE or seq_diff(echo, r.sent_value) <= 0:
            return False
        return not r.flags & ConnectionFlag.ECHOED or seq_diff(echo, r.echoed) > 0

    cdef inline bint _is_intact(self, const uint8_t* vnet, uint8_t* frame, Py_ssize_t vnet_len, Py_ssize_t l4,
            Segment* s) noexcept nogil:
        """As the function of that name."""
        cdef Py_ssize_t length = s.payload + s.payload_len - l4
        if vnet_len and (vnet[0] & (VnetFlag.NEEDS_CSUM | VnetFlag.DATA_VALID) or vnet[1]):
            return True
        return ones_sum(frame, l4, length, pseudo_total(s.key) + length) == 0xFFFF

    # ── from the guest ────────────────────────────────────────────────────────────────────────────────────────

    cdef inline bint _take_guest(self, uint8_t* buf, Py_ssize_t start, Py_ssize_t end, Py_ssize_t vnet_len,
            bint is_partial, Segment* s, long long now_us) noexcept nogil:
        cdef RewriteRow* r
        cdef Py_ssize_t l4 = header_pos(s)
        cdef uint8_t* header = buf + start + vnet_len + l4
        cdef long long change = 0
        cdef int row = self.table.lookup(s.key, hash_key(s.key, self.table._key0, self.table._key1))
        if row == _NONE or self.table.at[row].list != _ASSURED:
            return False
        if self.held.count and self.held.queues.at[row].head != _NONE:
            return False
        r = &self.offsets.at[row]
        if r.state != OffsetState.KNOWN or r.flags & (~_STEADY | ConnectionFlag.SPOKEN) != ConnectionFlag.SPOKEN:
            return False
        if r.flags & (ConnectionFlag.HEARD | ConnectionFlag.NOTED) == ConnectionFlag.HEARD:
            return False
        self.table.touch(row, now_us)
        if r.seq_offset:
            change = add32(header + TCP_SEQ, -r.seq_offset)
            s.seq -= r.seq_offset
        if s.payload - l4 == _LONG_HEADER:
            if r.ts_offset:
                change += add32(header + _VALUE, -r.ts_offset)
            r.sent_value = load32(header, _VALUE)
            r.flags |= ConnectionFlag.SENT_VALUE
        self._correct(header, change, is_partial)
        self._note_guest(r, s)
        if self._keeps_copies:
            self.copies.keep_frame(
                row, buf, start, end, vnet_len, s.payload_len == 0, s.seq + s.payload_len, now_us
            )
        return True

    cdef inline void _note_guest(self, RewriteRow* r, Segment* s) noexcept nogil:
        """As `Progress.guest`."""
        r.taken = seq_max(r.taken, s.ack)
        r.received = seq_max(r.received, s.ack)
        r.edge = seq_max(r.edge, s.ack + (<long long>s.window << r.scale))
        r.sent = seq_max(r.sent, s.seq + s.payload_len)
