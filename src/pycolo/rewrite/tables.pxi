"""The offsets as a table, for the rewriter of another node.

A primary that has taken over has offsets of its own, and a secondary that becomes a copy of it needs the same ones.
They are sent as a table: the number of its format, then a record per connection, in big-endian words of 32 bits ::

    kind  source (1 or 4 words)  destination (1 or 4)  source_port | destination_port << 16  vlan
    seq_offset  ts_offset  secondary_isn  secondary_value  due  guest_fin  client_fin

`kind` is IP version | state << 8 | flags << 16. An empty table means that every offset is 0.
"""


# The table's format, and the sizes of its parts.
cdef enum:
    _TABLES_FORMAT = 1668218882
    _TABLES_HEADER_BYTES = 4
    _NUMBERS_BYTES = 28
    _RECORD4_BYTES = 48
    _RECORD6_BYTES = 72
    _VLAN_MAX = 0x3FFFFFF
# The flags of a connection that matter to another rewriter: those below OWN.
cdef enum:
    _TRAVELS = 511


@cython.final
cdef class OffsetTable:
    """Reads and writes the rows of `offsets`, which are those of `connections`."""

    cdef readonly ConnectionTable connections
    cdef readonly SeqOffsets offsets
    cdef uint32_t* _key

    def __dealloc__(self):
        release_column(self._key)

    def __init__(self, connections: ConnectionTable, offsets: SeqOffsets):
        self.connections = connections
        self.offsets = offsets
        self._key = <uint32_t*>column(self._key, 11, sizeof(uint32_t), 0)

    def export(self):
        """The bytes of the table of all rows whose offsets are nonzero, or not known yet; b"" if there are none."""
        size: cython.Py_ssize_t
        with nogil:
            size = self._table_bytes()
        if size == 0:
            return b""
        out = bytearray(_TABLES_HEADER_BYTES + size)
        octets: cython.uchar[::1] = out
        with nogil:
            self._write_table(&octets[0])
        return bytes(out)

    cdef Py_ssize_t _table_bytes(self) noexcept nogil:
        size: cython.Py_ssize_t = 0
        row: cython.int = 0
        while row < self.connections.rows:
            if self.offsets.is_told(self.connections, row):
                size += _RECORD4_BYTES if self._is_ipv4(row) else _RECORD6_BYTES
            row += 1
        return size

    cdef bint _is_ipv4(self, int row) noexcept nogil:
        self.connections.copy_key(row, self._key, 0)
        return self._key[9] >> 8 == 4

    cdef int _write_table(self, uint8_t* out) noexcept nogil:
        row: cython.int = 0
        pos: cython.Py_ssize_t = _TABLES_HEADER_BYTES
        store32(out, 0, _TABLES_FORMAT)
        while row < self.connections.rows:
            if self.offsets.is_told(self.connections, row):
                pos = self._write_record(row, 1 if self._is_ipv4(row) else 4, out, pos)
            row += 1
        return 0

    cdef Py_ssize_t _write_record(self, int row, int words, uint8_t* out, Py_ssize_t pos) noexcept nogil:
        cdef RewriteRow* r = &self.offsets.at[row]
        i: cython.int = 0
        kind: cython.longlong = (self._key[9] >> 8) | (r.state << 8)
        store32(out, pos, kind | ((r.flags & _TRAVELS) << 16))
        while i < words:
            store32(out, pos + 4 + 4 * i, self._key[i])
            store32(out, pos + 4 + 4 * (words + i), self._key[4 + i])
            i += 1
        pos += 4 + 8 * words
        store32(out, pos, self._key[8])
        store32(out, pos + 4, self._key[10])
        store32(out, pos + 8, r.seq_offset)
        store32(out, pos + 12, r.ts_offset)
        store32(out, pos + 16, r.secondary_isn)
        store32(out, pos + 20, r.secondary_value)
        store32(out, pos + 24, r.due)
        store32(out, pos + 28, r.guest_fin)
        store32(out, pos + 32, r.client_fin)
        return pos + 36

    def check(self, octets):
        """Raises LinkError unless `octets` is a table (or empty) of no more connections than this node has room for."""
        size: cython.Py_ssize_t = len(octets)
        if size == 0:
            return
        view: cython.uchar[::1] = octets
        cdef uint8_t* table = &view[0]
        if size < _TABLES_HEADER_BYTES or load32(table, 0) != _TABLES_FORMAT:
            raise LinkError("table of offsets: unknown format; both nodes must have the same version")
        pos: cython.Py_ssize_t = _TABLES_HEADER_BYTES
        count: cython.Py_ssize_t = 0
        while pos < size:
            length: cython.Py_ssize_t = self._check_record(table, pos, size)
            if length == 0:
                raise LinkError(f"table of offsets: bad record at byte {pos} of {size}; link closed")
            pos += length
            count += 1
        room: cython.int = self.connections.rows_max
        if count > room:
            raise LinkError(f"table of offsets: {count} connections, but this node has room for {room}; link closed")

    cdef Py_ssize_t _check_record(self, uint8_t* table, Py_ssize_t pos, Py_ssize_t size) noexcept nogil:
        """Its length, or 0 if it is not a record."""
        if size - pos < _RECORD4_BYTES:
            return 0
        kind: cython.longlong = load32(table, pos)
        length: cython.Py_ssize_t = _RECORD6_BYTES if kind & 0xFF == 6 else _RECORD4_BYTES
        state: cython.longlong = (kind >> 8) & 0xFF
        travels: cython.longlong = _TRAVELS
        if (kind & 0xFF != 4 and kind & 0xFF != 6) or size - pos < length or (kind >> 16) & ~travels:
            return 0
        if state != OffsetState.KNOWN and state != OffsetState.AWAITING_PRIMARY:
            return 0
        return length if load32(table, pos + length - _NUMBERS_BYTES - 4) <= _VLAN_MAX else 0

    cdef int read_key(self, uint8_t* table, Py_ssize_t pos, Packet packet) noexcept nogil:
        """Fill `packet` with the connection of the record at `pos`."""
        packet.ip_version = load32(table, pos) & 0xFF
        packet.ip_proto = IpProto.PROTO_TCP
        packet.source0 = load32(table, pos + 4)
        packet.source1 = packet.source2 = packet.source3 = 0
        packet.destination1 = packet.destination2 = packet.destination3 = 0
        if packet.ip_version == 4:
            packet.destination0 = load32(table, pos + 8)
            pos += 12
        else:
            packet.source1 = load32(table, pos + 8)
            packet.source2 = load32(table, pos + 12)
            packet.source3 = load32(table, pos + 16)
            packet.destination0 = load32(table, pos + 20)
            packet.destination1 = load32(table, pos + 24)
            packet.destination2 = load32(table, pos + 28)
            packet.destination3 = load32(table, pos + 32)
            pos += 36
        packet.source_port = load32(table, pos) & 0xFFFF
        packet.destination_port = load32(table, pos) >> 16
        packet.vlan = load32(table, pos + 4)
        return 0

    cdef Py_ssize_t adopt(self, int row, long long now_us, uint8_t* table, Py_ssize_t pos) noexcept nogil:
        """Adopt the record at `pos` into `row` (-1: none), after `committed`; returns where the next record begins.

        Facts from outside stay: they are the client's, not a guest's.
        """
        kind: cython.longlong = load32(table, pos)
        if row < 0:
            return pos + (_RECORD6_BYTES if kind & 0xFF == 6 else _RECORD4_BYTES)
        cdef RewriteRow* r = &self.offsets.at[row]
        flags: cython.int = r.flags & ~(_TRAVELS | ConnectionFlag.OWN)
        r.state = (kind >> 8) & 0xFF
        r.flags = flags | ((kind >> 16) & _TRAVELS)
        pos += _RECORD6_BYTES - _NUMBERS_BYTES if kind & 0xFF == 6 else _RECORD4_BYTES - _NUMBERS_BYTES
        r.seq_offset = load32(table, pos)
        r.ts_offset = load32(table, pos + 4)
        r.secondary_isn = load32(table, pos + 8)
        r.secondary_value = load32(table, pos + 12)
        r.due = r.first = load32(table, pos + 16)
        r.guest_fin = load32(table, pos + 20)
        r.client_fin = load32(table, pos + 24)
        if r.state == OffsetState.KNOWN:
            self.connections.assure(row, now_us)
        if r.flags & ConnectionFlag.ENDED:
            self.connections.close(row, now_us)
        return pos + _NUMBERS_BYTES
