"""The offsets between the secondary's numbers and those that the client knows, per connection.

``seq_offset = secondary_isn - primary_isn`` (mod 2^32) and ``ts_offset = secondary's TSval - primary's TSval``, both
learned from one handshake::

    client                     primary                secondary
      │ ── SYN ─────────────────►│ ──────────────────────►│
      │ ◄── SYN|ACK seq=p ───────│                        │ ── SYN|ACK seq=s, TSval=t ──► (compared, discarded)
      │ ── ACK ack=p+1 TSecr=e ─►│ ──────────────────────►│  seq_offset = s - p, ts_offset = t - e

and for a connection that the guest begins from the outside's SYN|ACK, which acknowledges the primary's ISN. Towards
the secondary acks, SACK edges and TSecr grow by the offsets; from the secondary seq and TSval shrink by them. Linux
6.15 and later drop a handshake ACK whose TSecr is not one they sent: hence the timestamps.

A primary that has taken over before has offsets of its own, and a secondary that becomes a copy of it needs the same
ones. They travel as a table: the number of its format, then a record per connection, in big-endian words of 32 bits ::

    kind  source (1 or 4 words)  destination (1 or 4)  source_port | destination_port << 16  vlan
    seq_offset  ts_offset  secondary_isn  secondary_value  client_isn

`kind` is IP version | state << 8 | flags << 16. No table at all says that every offset is 0.
"""

import cython

from pycolo.errors import LinkError
from pycolo.storage.pool import filled, grown

if cython.compiled:
    from cython.cimports.pycolo.conntrack.table import ConnectionTable
    from cython.cimports.pycolo.rewrite.kinds import ConnectionFlag, OffsetState
    from cython.cimports.pycolo.wire.kinds import IpProto, TcpFlag
    from cython.cimports.pycolo.wire.octets import load32, store32
    from cython.cimports.pycolo.wire.packet import Packet
    from cython.cimports.pycolo.wire.patch import set_ack, shift_sack, shift_seq, shift_timestamps
    from cython.cimports.pycolo.wire.seq import seq_add, seq_diff, seq_max
else:
    from pycolo.conntrack.table import ConnectionTable
    from pycolo.rewrite.kinds import ConnectionFlag, OffsetState
    from pycolo.wire.kinds import IpProto, TcpFlag
    from pycolo.wire.octets import load32, store32
    from pycolo.wire.packet import Packet
    from pycolo.wire.patch import set_ack, shift_sack, shift_seq, shift_timestamps
    from pycolo.wire.seq import seq_add, seq_diff, seq_max

# What a client may have sent behind its SYN before the guest has answered: more than any initial window, and little
# of the sequence space.
_INITIAL_BYTES_MAX = cython.declare(cython.longlong, 1 << 20)

# The table's format, and the bytes of its parts.
_FORMAT = cython.declare(cython.longlong, 0x636F0001)
_HEADER_BYTES = cython.declare(cython.Py_ssize_t, 4)
_NUMBERS_BYTES = cython.declare(cython.Py_ssize_t, 20)
_RECORD4_BYTES = cython.declare(cython.Py_ssize_t, 40)
_RECORD6_BYTES = cython.declare(cython.Py_ssize_t, 64)
_VLAN_MAX = cython.declare(cython.longlong, (1 << 26) - 1)
# What of a connection's flags means something to another rewriter.
_TRAVELS = cython.declare(cython.int, 0x01 | 0x02 | 0x04 | 0x08 | 0x10 | 0x80)


class SeqOffsets:
    """Columns by row of the connection table: `state`, `flags`, `seq_offset`, `ts_offset` and what they come from."""

    def __init__(self, rows):
        self.state = filled(rows, "i", 0)
        self.flags = filled(rows, "i", 0)
        self.seq_offset = filled(rows, "I", 0)
        self.ts_offset = filled(rows, "I", 0)
        self._secondary_isn = filled(rows, "I", 0)
        self._secondary_value = filled(rows, "I", 0)
        self._client_isn = filled(rows, "I", 0)
        self._echoed = filled(rows, "I", 0)
        self._sent_value = filled(rows, "I", 0)
        self._key = filled(11, "I", 0)

    def grow(self, rows):
        """Make room for `rows` connections."""
        self.state = grown(self.state, rows, "i", 0)
        self.flags = grown(self.flags, rows, "i", 0)
        self.seq_offset = grown(self.seq_offset, rows, "I", 0)
        self.ts_offset = grown(self.ts_offset, rows, "I", 0)
        self._secondary_isn = grown(self._secondary_isn, rows, "I", 0)
        self._secondary_value = grown(self._secondary_value, rows, "I", 0)
        self._client_isn = grown(self._client_isn, rows, "I", 0)
        self._echoed = grown(self._echoed, rows, "I", 0)
        self._sent_value = grown(self._sent_value, rows, "I", 0)

    def open_row(self, row: cython.int, state: cython.int) -> cython.int:
        """A new row of the table: begin with `state` and offsets of 0."""
        self.state[row] = state
        self.flags[row] = 0
        self.seq_offset[row] = 0
        self.ts_offset[row] = 0
        return 0

    # ── learning ──────────────────────────────────────────────────────────────────────────────────────────────

    def client_syn(self, row: cython.int, packet: Packet) -> cython.int:
        """A SYN from the client. With a new ISN on an old connection only the secondary's answer tells what it is."""
        flags: cython.int = self.flags[row]
        if flags & ConnectionFlag.CLIENT_SYN and self._client_isn[row] == packet.seq:
            return 0
        if self.state[row] == OffsetState.KNOWN:
            flags |= ConnectionFlag.RESYN
        self._client_isn[row] = packet.seq
        self.flags[row] = flags | ConnectionFlag.CLIENT_SYN
        return 0

    def follows_syn(self, row: cython.int, packet: Packet) -> cython.bint:
        """Whether a client's packet continues its latest SYN, rather than an older connection."""
        return 0 < seq_diff(packet.seq, self._client_isn[row]) <= _INITIAL_BYTES_MAX

    def must_wait(self, row: cython.int, packet: Packet) -> cython.bint:
        """Whether a client's packet has to wait: nothing but its SYN may reach the guest before the guest's answer."""
        if packet.flags & TcpFlag.RST and not packet.flags & TcpFlag.ACK:
            return False
        if self.state[row] == OffsetState.UNKNOWN:
            return True
        # The old connection goes on until then: a SYN that somebody forged must not stop it.
        return self.flags[row] & ConnectionFlag.RESYN != 0 and self.follows_syn(row, packet)

    def guest_syn(self, row: cython.int, buf: cython.uchar[::1], packet: Packet) -> cython.bint:
        """A SYN or SYN|ACK from the secondary; whether it begins a new incarnation (else it is sent again)."""
        if self.state[row] != OffsetState.UNKNOWN and self._secondary_isn[row] == packet.seq:
            if packet.timestamp_pos and self.state[row] == OffsetState.AWAITING_PRIMARY:
                self._secondary_value[row] = load32(buf, packet.timestamp_pos)
            return False
        self.state[row] = OffsetState.AWAITING_PRIMARY
        self.flags[row] &= ConnectionFlag.CLIENT_SYN
        self._secondary_isn[row] = packet.seq
        self.seq_offset[row] = 0
        self.ts_offset[row] = 0
        if packet.timestamp_pos:
            self._secondary_value[row] = load32(buf, packet.timestamp_pos)
            self.flags[row] |= ConnectionFlag.HAS_TIMESTAMP
        return True

    def learn(self, row: cython.int, buf: cython.uchar[::1], packet: Packet) -> cython.int:
        """The first ack from outside: it acknowledges the primary's ISN, and echoes the primary's TSval."""
        primary_isn: cython.longlong = seq_add(packet.ack, -1)
        self.seq_offset[row] = seq_add(self._secondary_isn[row], -primary_isn)
        if packet.timestamp_pos and self.flags[row] & ConnectionFlag.HAS_TIMESTAMP:
            primary_value: cython.longlong = load32(buf, packet.timestamp_pos + 4)
            if primary_value:
                self.ts_offset[row] = seq_add(self._secondary_value[row], -primary_value)
        self.state[row] = OffsetState.KNOWN
        return 0

    def committed(self, row: cython.int) -> cython.int:
        """A checkpoint: the secondary's numbers are the primary's now."""
        self.state[row] = OffsetState.KNOWN
        self.seq_offset[row] = 0
        self.ts_offset[row] = 0
        self.flags[row] &= ~(ConnectionFlag.RESYN | ConnectionFlag.HAS_TIMESTAMP | ConnectionFlag.SENT_VALUE)
        return 0

    # ── adding ────────────────────────────────────────────────────────────────────────────────────────────────

    def to_secondary(self, row: cython.int, buf: cython.uchar[::1], packet: Packet) -> cython.int:
        """Translate a packet from outside for the secondary: ack, SACK edges and TSecr."""
        if packet.flags & TcpFlag.ACK and packet.timestamp_pos:
            self._note_echo(row, load32(buf, packet.timestamp_pos + 4))
        return self.shift(row, buf, packet, 1)

    def shift(self, row: cython.int, buf: cython.uchar[::1], packet: Packet, sign: cython.int) -> cython.int:
        """What `to_secondary` does to the packet's numbers (`sign` 1), or its reverse (-1)."""
        if not packet.flags & TcpFlag.ACK:
            return 0
        if self.seq_offset[row] and sign > 0:
            set_ack(buf, packet, seq_add(packet.ack, self.seq_offset[row]))
            shift_sack(buf, packet, self.seq_offset[row])
        elif self.seq_offset[row]:
            set_ack(buf, packet, seq_add(packet.ack, -cython.cast(cython.longlong, self.seq_offset[row])))
            shift_sack(buf, packet, -cython.cast(cython.longlong, self.seq_offset[row]))
        if self.ts_offset[row]:
            shift_timestamps(buf, packet, 0, sign * cython.cast(cython.longlong, self.ts_offset[row]))
        return 0

    def _note_echo(self, row: cython.int, echo: cython.longlong) -> cython.int:
        """The latest TSecr of the client; 0 is "nothing to echo" (RFC 7323 section 3.2), segments may overtake."""
        if echo == 0:
            return 0
        if self.flags[row] & ConnectionFlag.ECHOED:
            echo = seq_max(echo, self._echoed[row])
        self._echoed[row] = echo
        self.flags[row] |= ConnectionFlag.ECHOED
        return 0

    def from_secondary(self, row: cython.int, buf: cython.uchar[::1], packet: Packet) -> cython.int:
        """Translate a packet of the secondary for the client: seq (on every segment, RST and FIN too) and TSval."""
        if self.seq_offset[row]:
            shift_seq(buf, packet, -cython.cast(cython.longlong, self.seq_offset[row]))
        if packet.timestamp_pos:
            if self.ts_offset[row]:
                shift_timestamps(buf, packet, -cython.cast(cython.longlong, self.ts_offset[row]), 0)
            self._sent_value[row] = load32(buf, packet.timestamp_pos)
            self.flags[row] |= ConnectionFlag.SENT_VALUE
        return 0

    # ── takeover ──────────────────────────────────────────────────────────────────────────────────────────────

    def catch_up(self, row: cython.int) -> cython.int:
        """No TSval may be older than what the client has echoed, or it drops the segment (PAWS, RFC 7323 section 5).

        The primary's clock may have been read a little later than the secondary's: move ts_offset by what is missing.
        """
        both: cython.int = ConnectionFlag.ECHOED | ConnectionFlag.SENT_VALUE
        if self.flags[row] & both != both:
            return 0
        missing: cython.longlong = seq_diff(self._echoed[row], self._sent_value[row])
        if missing > 0:
            self.ts_offset[row] = seq_add(self.ts_offset[row], -missing)
        return 0

    def lift(self, row: cython.int, buf: cython.uchar[::1], packet: Packet) -> cython.int:
        """The same for a frame that was already translated and is to be sent again."""
        if not packet.timestamp_pos or not self.flags[row] & ConnectionFlag.ECHOED:
            return 0
        missing: cython.longlong = seq_diff(self._echoed[row], load32(buf, packet.timestamp_pos))
        if missing > 0:
            shift_timestamps(buf, packet, missing, 0)
        return 0

    # ── as a table ────────────────────────────────────────────────────────────────────────────────────────────

    def export_table(self, table):
        """The bytes of the table of all rows whose offsets are not 0, or not known yet; b"" for none."""
        size: cython.Py_ssize_t
        connections: ConnectionTable = table
        with cython.nogil:
            size = self._table_bytes(connections)
        if size == 0:
            return b""
        out = bytearray(_HEADER_BYTES + size)
        octets: cython.uchar[::1] = out
        with cython.nogil:
            self._write_table(connections, octets)
        return bytes(out)

    def has_any(self, table):
        """Whether a connection that has not ended has offsets that are not 0."""
        connections: ConnectionTable = table
        row: cython.int = 0
        found: cython.bint = False
        with cython.nogil:
            while row < connections.rows and not found:
                if self.state[row] == OffsetState.KNOWN and self._is_told(connections, row):
                    found = self.flags[row] & ConnectionFlag.ENDED == 0
                row += 1
        return found

    def _table_bytes(self, table: ConnectionTable) -> cython.Py_ssize_t:
        size: cython.Py_ssize_t = 0
        row: cython.int = 0
        while row < table.rows:
            if self._is_told(table, row):
                size += _RECORD4_BYTES if self._is_ipv4(table, row) else _RECORD6_BYTES
            row += 1
        return size

    def _is_told(self, table: ConnectionTable, row: cython.int) -> cython.bint:
        if not table.in_use(row):
            return False
        if self.state[row] == OffsetState.KNOWN:
            return self.seq_offset[row] != 0 or self.ts_offset[row] != 0
        return self.state[row] == OffsetState.AWAITING_PRIMARY

    def _is_ipv4(self, table: ConnectionTable, row: cython.int) -> cython.bint:
        table.copy_key(row, self._key, 0)
        return self._key[9] >> 8 == 4

    def _write_table(self, table: ConnectionTable, out: cython.uchar[::1]) -> cython.int:
        row: cython.int = 0
        pos: cython.Py_ssize_t = _HEADER_BYTES
        store32(out, 0, _FORMAT)
        while row < table.rows:
            if self._is_told(table, row):
                pos = self._write_record(row, 1 if self._is_ipv4(table, row) else 4, out, pos)
            row += 1
        return 0

    def _write_record(
        self, row: cython.int, words: cython.int, out: cython.uchar[::1], pos: cython.Py_ssize_t
    ) -> cython.Py_ssize_t:
        i: cython.int = 0
        store32(out, pos, (self._key[9] >> 8) | (self.state[row] << 8) | ((self.flags[row] & _TRAVELS) << 16))
        while i < words:
            store32(out, pos + 4 + 4 * i, self._key[i])
            store32(out, pos + 4 + 4 * (words + i), self._key[4 + i])
            i += 1
        pos += 4 + 8 * words
        store32(out, pos, self._key[8])
        store32(out, pos + 4, self._key[10])
        store32(out, pos + 8, self.seq_offset[row])
        store32(out, pos + 12, self.ts_offset[row])
        store32(out, pos + 16, self._secondary_isn[row])
        store32(out, pos + 20, self._secondary_value[row])
        store32(out, pos + 24, self._client_isn[row])
        return pos + 28

    def check_table(self, octets, rows_max):
        """Raises LinkError unless `octets` are a table (or nothing) of `rows_max` connections at most."""
        size: cython.Py_ssize_t = len(octets)
        if size == 0:
            return
        table: cython.uchar[::1] = octets
        if size < _HEADER_BYTES or load32(table, 0) != _FORMAT:
            raise LinkError("table of offsets: not of this version's format; the nodes must be of the same version")
        pos: cython.Py_ssize_t = _HEADER_BYTES
        count: cython.Py_ssize_t = 0
        while pos < size:
            length: cython.Py_ssize_t = self._check_record(table, pos)
            if length == 0:
                raise LinkError(f"table of offsets: bad record at byte {pos} of {size}; link closed")
            pos += length
            count += 1
        if count > rows_max:
            raise LinkError(f"table of offsets: {count} connections, this node takes {rows_max} at most; link closed")

    def _check_record(self, table: cython.uchar[::1], pos: cython.Py_ssize_t) -> cython.Py_ssize_t:
        """Its length, or 0 for anything that is no record."""
        if len(table) - pos < _RECORD4_BYTES:
            return 0
        kind: cython.longlong = load32(table, pos)
        length: cython.Py_ssize_t = _RECORD6_BYTES if kind & 0xFF == 6 else _RECORD4_BYTES
        state: cython.longlong = (kind >> 8) & 0xFF
        travels: cython.longlong = _TRAVELS
        if (kind & 0xFF != 4 and kind & 0xFF != 6) or len(table) - pos < length or (kind >> 16) & ~travels:
            return 0
        if state != OffsetState.KNOWN and state != OffsetState.AWAITING_PRIMARY:
            return 0
        return length if load32(table, pos + length - _NUMBERS_BYTES - 4) <= _VLAN_MAX else 0

    def read_key(self, table: cython.uchar[::1], pos: cython.Py_ssize_t, packet: Packet) -> cython.Py_ssize_t:
        """Make `packet` one of the connection of the record at `pos`; where its numbers begin is returned."""
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
        return pos + 8

    def adopt(
        self, row: cython.int, kind: cython.longlong, table: cython.uchar[::1], pos: cython.Py_ssize_t
    ) -> cython.bint:
        """Take a record's state, flags and numbers over, after `committed`; whether the connection has ended.

        What the client has echoed stays: it is of the client, not of a guest.
        """
        flags: cython.int = (kind >> 16) & 0xFFFF
        self.state[row] = (kind >> 8) & 0xFF
        self.flags[row] = (self.flags[row] & ConnectionFlag.ECHOED) | flags
        self.seq_offset[row] = load32(table, pos)
        self.ts_offset[row] = load32(table, pos + 4)
        self._secondary_isn[row] = load32(table, pos + 8)
        self._secondary_value[row] = load32(table, pos + 12)
        self._client_isn[row] = load32(table, pos + 16)
        return flags & ConnectionFlag.ENDED != 0
