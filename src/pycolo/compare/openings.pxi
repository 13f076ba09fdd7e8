"""A connection's row: found, or made with what is known from the beginning; and removed when its time is over (C10).

What the user's rules say of a connection (C7) is looked up when its row is made, and is a flag of it from then on.
"""

cdef enum:
    _EVICTED_PER_SCAN = 1024
    _FLOWS_MAX = 256
assert limits.FLOWS_MAX == _FLOWS_MAX


@cython.final
cdef class Openings:
    """`flows`: of the connections that are never compared."""

    cdef ConnectionTable table
    cdef Held held
    cdef TcpComparison tcp
    cdef Admission admission
    cdef readonly Flows flows
    cdef int* _rule_of
    cdef long long[_FLOWS_MAX] _packets
    cdef long long[_FLOWS_MAX] _octets

    def __dealloc__(self):
        release_column(self._rule_of)

    def __init__(self, table, held, tcp, admission, flows):
        cdef int rule
        self.table = table
        self.held = held
        self.tcp = tcp
        self.admission = admission
        self.flows = flows
        self._rule_of = <int*>column(self._rule_of, held.table.rows_max if self.flows.count else 1, sizeof(int), 0)
        for rule in range(_FLOWS_MAX):
            self._packets[rule] = self._octets[rule] = 0

    def bypassed(self):
        """{table: (packets of the primary, their bytes of payload)} of the tables that the flows name."""
        cdef int rule
        found = {}
        for rule in range(self.flows.count):
            table = self.flows.tables[rule]
            packets, octets = found.get(table, (0, 0))
            found[table] = (packets + self._packets[rule], octets + self._octets[rule])
        found.pop(0, None)
        return found

    cdef int row_for(self, Packet packet, long long now_us) noexcept nogil:
        """The row of a packet's connection, created if needed; -1 if there is no place."""
        row: cython.int = self.table.find(packet, False)
        if row != _NONE:
            self.table.heard(row, packet, now_us)
            return row
        row = self.table.insert(now_us)
        if row == _NONE:
            victim: cython.int = self.table.evict(now_us)
            if victim == _NONE:
                self.admission.report_full(DifferenceKind.TABLE_FULL, _NONE, now_us)
                return _NONE
            self._give_up(victim)
            row = self.table.insert(now_us)
        self.held.open_row(row)
        rule: cython.int = self.flows.first(self.table.at[row].key)
        if rule != _NONE:
            self.held.rows[row].flags = RowFlag.EXEMPT
            self._rule_of[row] = rule
        elif packet.ip_proto == IpProto.PROTO_TCP:
            self.tcp.open_row(row, packet.kind == PacketKind.TCP and packet.flags & TcpFlag.SYN != 0)
        return row

    cdef int bypass(self, int row, int record, Packet packet, long long now_us) noexcept nogil:
        """Release a packet of the primary whose connection is never compared. When that ends is a guess, and does no
        harm: a row that is made again has the same flag.
        """
        if packet.kind == PacketKind.TCP and packet.flags & TcpFlag.RST:
            self.table.close(row, now_us)
        elif packet.kind == PacketKind.TCP and packet.flags & TcpFlag.FIN:
            self.table.ending(row, now_us)
        self.held.uncompared.count(PassReason.BYPASSED, packet.payload_len)
        self._packets[self._rule_of[row]] += 1
        self._octets[self._rule_of[row]] += packet.payload_len
        return self.held.pass_on(record, packet.kind, now_us)

    cdef int expire(self, long long now_us) noexcept nogil:
        """Remove rows that were closed or idle for long enough."""
        cdef long long passed = self.table.passed_over
        cdef long long before
        evicted: cython.int = 0
        while evicted + self.table.passed_over - passed < _EVICTED_PER_SCAN:
            before = self.table.passed_over
            row: cython.int = self.table.expired(now_us)
            if row != _NONE:
                self._give_up(row)
                evicted += 1
            elif self.table.passed_over == before:
                return 0
        return 0

    cdef int _give_up(self, int row) noexcept nogil:
        self.tcp.close_row(row)
        return self.table.remove(row)
