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
"""

import cython

from pycolo.storage.pool import filled, grown

if cython.compiled:
    from cython.cimports.pycolo.rewrite.kinds import ConnectionFlag, OffsetState
    from cython.cimports.pycolo.wire.kinds import TcpFlag
    from cython.cimports.pycolo.wire.octets import load32
    from cython.cimports.pycolo.wire.packet import Packet
    from cython.cimports.pycolo.wire.patch import set_ack, shift_sack, shift_seq, shift_timestamps
    from cython.cimports.pycolo.wire.seq import seq_add, seq_diff, seq_max
else:
    from pycolo.rewrite.kinds import ConnectionFlag, OffsetState
    from pycolo.wire.kinds import TcpFlag
    from pycolo.wire.octets import load32
    from pycolo.wire.packet import Packet
    from pycolo.wire.patch import set_ack, shift_sack, shift_seq, shift_timestamps
    from pycolo.wire.seq import seq_add, seq_diff, seq_max

# What a client may have sent behind its SYN before the guest has answered: more than any initial window, and little
# of the sequence space.
_INITIAL_BYTES_MAX = cython.declare(cython.longlong, 1 << 20)


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
        if packet.flags & TcpFlag.ACK:
            if packet.timestamp_pos:
                self._note_echo(row, load32(buf, packet.timestamp_pos + 4))
            if self.seq_offset[row]:
                set_ack(buf, packet, seq_add(packet.ack, self.seq_offset[row]))
                shift_sack(buf, packet, self.seq_offset[row])
            if self.ts_offset[row]:
                shift_timestamps(buf, packet, 0, self.ts_offset[row])
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
