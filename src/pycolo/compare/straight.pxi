"""UDP, the straight path: whole datagrams that arrive in the same order from both guests.

The rules are those of `datagram`, reduced as in `steady`: the first of two equal datagrams is stored, and the second is
compared with the first waiting one. In another order the partner is searched for as in `datagram`. Any other frame is
left to the general path: `take` then returns False and has changed nothing.
"""


cdef inline Py_ssize_t find_transport(const uint8_t* frame, Py_ssize_t size, int proto, uint32_t* key,
        Py_ssize_t* stop) noexcept nogil:
    """Where the transport header of an Ethernet frame begins, of which 8 bytes at least are there; 0 for any frame but
    `proto` over IPv4 without options or IPv6 without extension headers, whole and without VLAN tag.

    `key` is the connection's (see `table`; of an IPv4 key the words that are always 0 are not set), `stop` is behind
    the last byte of IP.
    """
    cdef Py_ssize_t l4
    cdef int i
    if size < 42:
        return 0
    cdef uint32_t ethertype = load16(frame, 12)
    if ethertype == 0x0800 and frame[14] == 0x45 and frame[23] == proto and not load16(frame, 20) & 0x3FFF:
        l4 = 34
        stop[0] = 14 + load16(frame, 16)
        key[0] = load32(frame, 26)
        key[4] = load32(frame, 30)
        key[9] = proto | 4 << 8
    elif ethertype == 0x86DD and size >= 62 and frame[14] >> 4 == 6 and frame[20] == proto:
        l4 = 54
        stop[0] = 54 + load16(frame, 18)
        for i in range(4):
            key[i] = load32(frame, 22 + 4 * i)
            key[4 + i] = load32(frame, 38 + 4 * i)
        key[9] = proto | 6 << 8
    else:
        return 0
    if stop[0] > size or stop[0] < l4 + 8:
        return 0
    key[8] = <uint32_t>load16(frame, l4) | <uint32_t>load16(frame, l4 + 2) << 16
    key[10] = 0
    return l4


# What may be known of a connection here.
cdef enum:
    _DATAGRAM_PLAIN = RowFlag.ACTIVE | RowFlag.PRIMARY_INDEXED | RowFlag.SECONDARY_INDEXED


@cython.final
cdef class SteadyDatagrams:
    """The connections and queues are those of `held`."""

    cdef ConnectionTable table
    cdef Held held
    cdef Pool pool
    cdef DatagramComparison datagram

    def __init__(self, table, held, datagram):
        self.table = table
        self.held = held
        self.pool = held.pool
        self.datagram = datagram

    cdef bint take(self, uint8_t* buf, Py_ssize_t start, Py_ssize_t end, Py_ssize_t vnet_len, bint is_primary,
            long long now_us) noexcept nogil:
        """Whether the frame was handled."""
        cdef uint32_t[11] key
        cdef const uint8_t* frame = buf + start + vnet_len
        cdef Py_ssize_t stop
        cdef Py_ssize_t l4 = find_transport(frame, end - start - vnet_len, IpProto.PROTO_UDP, key, &stop)
        if l4 == 0 or (vnet_len and buf[start + 1]):
            return False  # GSO: maybe many datagrams
        cdef Py_ssize_t size = load16(frame, l4 + 4)
        if size < 8 or size > stop - l4:
            return False
        cdef int row = self.table.lookup(key, hash_key(key, self.table._key0, self.table._key1))
        if row == _NONE or self.held.rows[row].flags & ~_DATAGRAM_PLAIN:
            return False
        cdef int length = size - 8
        cdef Py_ssize_t payload = l4 + 8 + vnet_len
        cdef bint is_done
        if is_primary:
            is_done = self._take_primary_datagram(row, buf, start, end, vnet_len, payload, length, now_us)
        else:
            is_done = self._take_secondary_datagram(row, buf, start, end, vnet_len, payload, length, now_us)
        if is_done:
            self.table.touch(row, now_us)
        return is_done

    cdef inline bint _equals(self, int record, const uint8_t* payload, int length) noexcept nogil:
        cdef Record* rec = &self.pool.at[record]
        if rec.payload_len != length or rec.chain != _NONE or rec.flags & (_MATCHED | _PART):
            return False
        return memcmp(self.pool.arena.memory + rec.pos + rec.payload_pos, payload, length) == 0

    cdef inline bint _take_primary_datagram(self, int row, uint8_t* buf, Py_ssize_t start, Py_ssize_t end,
            Py_ssize_t vnet_len, Py_ssize_t payload, int length, long long now_us) noexcept nogil:
        cdef Row* r = &self.held.rows[row]
        cdef int record = r.secondary.head
        if (
            record == _NONE
            or r.primary.head != _NONE
            or not self._equals(record, buf + start + payload, length)
            or not self.held.leave_unheld(buf, start, end)
        ):
            return self._store(row, True, buf, start, end, vnet_len, payload, length, now_us)
        self.held._leave_index(record)
        self.pool.pop_first(&r.secondary)
        self.held._unpin(row, 1)
        self.held.discard(record)
        self._count(length)
        return True

    cdef inline bint _take_secondary_datagram(self, int row, uint8_t* buf, Py_ssize_t start, Py_ssize_t end,
            Py_ssize_t vnet_len, Py_ssize_t payload, int length, long long now_us) noexcept nogil:
        cdef Row* r = &self.held.rows[row]
        cdef int record = r.primary.head
        if record == _NONE or r.secondary.head != _NONE or not self._equals(record, buf + start + payload, length):
            return self._store(row, False, buf, start, end, vnet_len, payload, length, now_us)
        self.held._leave_index(record)
        self.pool.pop_first(&r.primary)
        self.held._unpin(row, 1)
        self.held.stats.discarded += 1
        self._count(length)
        self.held.release(record, now_us)
        if r.primary.head != _NONE:
            self.datagram._release_matched(row, now_us)
        return True

    cdef inline int _count(self, int length) noexcept nogil:
        self.held.stats.compared += 1
        self.held.stats.compared_bytes += length
        return 0

    cdef inline bint _store(self, int row, bint is_primary, uint8_t* buf, Py_ssize_t start, Py_ssize_t end,
            Py_ssize_t vnet_len, Py_ssize_t payload, int length, long long now_us) noexcept nogil:
        """It does not equal the other guest's first waiting datagram, or there is none."""
        cdef Row* r = &self.held.rows[row]
        cdef Queue* queue = &r.primary if is_primary else &r.secondary
        cdef int flag = RowFlag.PRIMARY_INDEXED if is_primary else RowFlag.SECONDARY_INDEXED
        cdef int record, last
        if queue.count >= self.held.queue_packets_max:
            return False
        record = self.pool.store(buf, start, end - start, vnet_len)
        if record == _NONE:
            return False
        cdef Record* rec = &self.pool.at[record]
        rec.arrived_us = now_us
        rec.flags = 0
        rec.payload_pos = payload
        rec.payload_len = length
        if (r.secondary.head if is_primary else r.primary.head) != _NONE:
            if is_primary:
                self.datagram._add_primary(row, record, 0)
            else:
                self.datagram._add_secondary(row, record)
            self.datagram._release_matched(row, now_us)
            return True
        last = queue.tail
        self.pool.push(queue, record)
        self.held._pin(row)
        if queue.count >= _INDEXED_FROM or r.flags & flag:
            self.datagram._index(row, is_primary, last, record, False)
        return True
