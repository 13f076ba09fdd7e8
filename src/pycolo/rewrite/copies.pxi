"""Copies of the secondary's frames that the client has not acknowledged, to be sent again at takeover.

The client may have missed any of them: until the takeover only the primary's packets reach it. The guest itself would
repeat its payload only after its retransmission time-out, and bare ACKs never; with the copies the gap ends at once.
They are an optimisation: when their memory is used up, further packets are not copied, only counted; a copy without an
acknowledgement expires after UNACKED_MS. One eighth of the pool is left to the other users.
"""


@cython.final
cdef class UnackedCopies:
    """`queues`, by row: packets with payload or FIN in the order sent; `last_ack`, by row: the latest bare ACK."""

    cdef readonly Pool pool
    cdef readonly Queues queues
    cdef int* last_ack
    cdef readonly long long skipped
    cdef long long _bytes_max

    def __dealloc__(self):
        release_column(self.last_ack)

    def __init__(self, rows, budget_bytes=limits.UNACKED_BYTES_MAX, records_max=limits.UNACKED_PACKETS_MAX):
        self.pool = Pool(budget_bytes, records_max)
        self.queues = Queues(self.pool, rows, False)
        self.last_ack = <int*>column(self.last_ack, rows, sizeof(int), 0)
        self.skipped = 0
        self._bytes_max = budget_bytes - budget_bytes // 8

    cdef int open_row(self, int row) noexcept nogil:
        """A new row of the table has no copies."""
        self.last_ack[row] = _NONE
        return self.queues.open(row)

    cdef int keep(self, int row, uint8_t* buf, Packet packet, long long now_us) noexcept nogil:
        """Copy a translated packet of the secondary."""
        if packet.flags & (TcpFlag.SYN | TcpFlag.RST):
            return 0
        length: cython.longlong = packet.payload_len + (1 if packet.flags & TcpFlag.FIN else 0)
        return self.keep_frame(
            row, buf, packet.start, packet.end, packet.vnet_len, length == 0, seq_add(packet.seq, length), now_us
        )

    cdef inline int keep_frame(self, int row, uint8_t* buf, Py_ssize_t start, Py_ssize_t end, Py_ssize_t vnet_len,
            bint is_bare, uint32_t behind, long long now_us) noexcept nogil:
        """The same; an ack of `behind` acknowledges all of it. `is_bare`: it only acknowledges."""
        record: cython.int
        if is_bare:
            if self.last_ack[row] != _NONE:
                self.pool.free(self.last_ack[row])
            self.last_ack[row] = self._store(buf, start, end, vnet_len, now_us)
            return 0
        record = self._store(buf, start, end, vnet_len, now_us)
        if record == _NONE:
            return 0
        self.pool.at[record].seq = behind
        return self.pool.push(&self.queues.at[row], record)

    cdef inline int acknowledged(self, int row, uint32_t ack) noexcept nogil:
        """The client has acknowledged everything before `ack`."""
        cdef Queue* queue = &self.queues.at[row]
        while queue.head != _NONE and seq_diff(self.pool.at[queue.head].seq, ack) <= 0:
            self.pool.free(self.pool.pop_first(queue))
        return 0

    cdef int forget(self, int row) noexcept nogil:
        """Drop the copies of a connection."""
        self.queues.free_all(row)
        if self.last_ack[row] != _NONE:
            self.pool.free(self.last_ack[row])
            self.last_ack[row] = _NONE
        return 0

    cdef int take(self, int row) noexcept nogil:
        """The next packet to send again, or -1: payload in order, or, without payload, the latest bare ACK."""
        record: cython.int = self.queues.pop(row)
        if record == _NONE:
            record = self.last_ack[row]
        elif self.last_ack[row] != _NONE:
            self.pool.free(self.last_ack[row])
        self.last_ack[row] = _NONE
        return record

    cdef int parse(self, int record, Packet packet) noexcept nogil:
        """Point `packet` at a record of the pool."""
        pos: cython.longlong = self.pool.at[record].pos
        end: cython.longlong = pos + self.pool.at[record].length
        return parse_frame(self.pool.arena.memory, pos, end, self.pool.at[record].vnet_len, packet)

    cdef Py_ssize_t write(self, Queues frames, uint8_t* out, Py_ssize_t pos, Py_ssize_t end,
            bint has_vnet) noexcept nogil:
        """Write the frames of list 0 with their length words to `out` from `pos`; returns the new end."""
        words: cython.Py_ssize_t = 8 if has_vnet else 4
        record: cython.int = frames.at[0].head
        while record != _NONE:
            size: cython.Py_ssize_t = self.pool.at[record].length
            if end - pos < size + words:
                break
            store32(out, pos, size)
            if has_vnet:
                store32(out, pos + 4, self.pool.at[record].vnet_len)
            copy(out, pos + words, self.pool.arena.memory, self.pool.at[record].pos, size)
            pos += words + size
            self.pool.free(frames.pop(0))
            record = frames.at[0].head
        return pos

    cdef int age(self, int row, long long before_us) noexcept nogil:
        """Drop copies made before that time."""
        record: cython.int = self.queues.at[row].head
        while record != _NONE and self.pool.at[record].arrived_us < before_us:
            self.pool.free(self.queues.pop(row))
            record = self.queues.at[row].head
        record = self.last_ack[row]
        if record != _NONE and self.pool.at[record].arrived_us < before_us:
            self.pool.free(record)
            self.last_ack[row] = _NONE
        return 0

    cdef inline int _store(self, uint8_t* buf, Py_ssize_t start, Py_ssize_t end, Py_ssize_t vnet_len,
            long long now_us) noexcept nogil:
        record: cython.int = _NONE
        if self.pool.arena.used_bytes - self.pool._spare_bytes < self._bytes_max:
            record = self.pool.store(buf, start, end - start, vnet_len)
        if record == _NONE:
            self.skipped += 1
        else:
            self.pool.at[record].arrived_us = now_us
        return record
