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

What comes from outside is a claim until the guest confirms it (rule R1). A client's SYN makes frames that follow it
wait for the guest's answer, for HANDSHAKE_HELD_MS, and nothing else. The ACK that teaches has exactly the number with
which the guest said the client's side begins (`due`), and a right checksum. Where the guest took payload of the SYN
(RFC 7413) and the primary did not, the client begins in front of that (`first`). A SYN|ACK from outside may be a lie:
the one that the guest acknowledges counts, out of the last two.
"""

import cython

from pycolo import limits
from pycolo.rewrite.kinds import ConnectionFlag as _Flag
from pycolo.storage.pool import filled, grown

if cython.compiled:
    from cython.cimports.pycolo.conntrack.table import ConnectionTable
    from cython.cimports.pycolo.rewrite.kinds import ConnectionFlag, OffsetState
    from cython.cimports.pycolo.wire.kinds import TcpFlag
    from cython.cimports.pycolo.wire.octets import load32
    from cython.cimports.pycolo.wire.packet import Packet
    from cython.cimports.pycolo.wire.patch import set_ack, shift_sack, shift_seq, shift_timestamps
    from cython.cimports.pycolo.wire.seq import seq_add, seq_diff
else:
    from pycolo.conntrack.table import ConnectionTable
    from pycolo.rewrite.kinds import ConnectionFlag, OffsetState
    from pycolo.wire.kinds import TcpFlag
    from pycolo.wire.octets import load32
    from pycolo.wire.packet import Packet
    from pycolo.wire.patch import set_ack, shift_sack, shift_seq, shift_timestamps
    from pycolo.wire.seq import seq_add, seq_diff

_HELD_US = cython.declare(cython.longlong, limits.HANDSHAKE_HELD_MS * 1000)
_WINDOW_BYTES = cython.declare(cython.longlong, limits.HANDSHAKE_WINDOW_BYTES)

# What a new SYN of the guest leaves of the flags, and what a checkpoint takes from them.
_KEPT_BY_SYN = cython.declare(cython.int, int(_Flag.CLAIM | _Flag.HEARD | _Flag.NOTED))
_VOIDED_BY_CHECKPOINT = cython.declare(
    cython.int,
    int(_Flag.CLAIM | _Flag.HAS_TIMESTAMP | _Flag.TENTATIVE | _Flag.ALTERNATIVE | _Flag.SPOKEN | _Flag.SENT_VALUE),
)


class SeqOffsets:
    """Columns by row of the connection table: `state`, `flags`, `seq_offset`, `ts_offset` and what they come from."""

    def __init__(self, rows):
        self.state = filled(rows, "i", 0)
        self.flags = filled(rows, "i", 0)
        self.seq_offset = filled(rows, "I", 0)
        self.ts_offset = filled(rows, "I", 0)
        self.secondary_isn = filled(rows, "I", 0)
        self.secondary_value = filled(rows, "I", 0)
        self.due = filled(rows, "I", 0)
        self.first = filled(rows, "I", 0)
        self._claim_isn = filled(rows, "I", 0)
        self._claim_end = filled(rows, "I", 0)
        self._claim_us = filled(rows, "q", 0)
        self._answer_isn = filled(rows, "I", 0)
        self._other_isn = filled(rows, "I", 0)
        self._other_seq_offset = filled(rows, "I", 0)
        self._other_ts_offset = filled(rows, "I", 0)

    def grow(self, rows):
        """Make room for `rows` connections."""
        self.state = grown(self.state, rows, "i", 0)
        self.flags = grown(self.flags, rows, "i", 0)
        self.seq_offset = grown(self.seq_offset, rows, "I", 0)
        self.ts_offset = grown(self.ts_offset, rows, "I", 0)
        self.secondary_isn = grown(self.secondary_isn, rows, "I", 0)
        self.secondary_value = grown(self.secondary_value, rows, "I", 0)
        self.due = grown(self.due, rows, "I", 0)
        self.first = grown(self.first, rows, "I", 0)
        self._claim_isn = grown(self._claim_isn, rows, "I", 0)
        self._claim_end = grown(self._claim_end, rows, "I", 0)
        self._claim_us = grown(self._claim_us, rows, "q", 0)
        self._answer_isn = grown(self._answer_isn, rows, "I", 0)
        self._other_isn = grown(self._other_isn, rows, "I", 0)
        self._other_seq_offset = grown(self._other_seq_offset, rows, "I", 0)
        self._other_ts_offset = grown(self._other_ts_offset, rows, "I", 0)

    def open_row(self, row: cython.int, state: cython.int) -> cython.int:
        """A new row of the table: begin with `state` and offsets of 0."""
        self.state[row] = state
        self.flags[row] = 0
        self.seq_offset[row] = 0
        self.ts_offset[row] = 0
        return 0

    # ── claims ────────────────────────────────────────────────────────────────────────────────────────────────

    def client_syn(self, row: cython.int, packet: Packet, now_us: cython.longlong) -> cython.int:
        """A SYN from the client. With a new ISN on an old connection only the guest's answer tells what it is."""
        begin: cython.longlong = seq_add(packet.seq, 1)
        if self.flags[row] & ConnectionFlag.DUE and (self.due[row] == begin or self.first[row] == begin):
            return 0  # the guest has answered it
        if not self.flags[row] & ConnectionFlag.CLAIM or self._claim_isn[row] != packet.seq or packet.payload_len:
            self._claim_end[row] = seq_add(begin, packet.payload_len)  # sent again it has no payload any more
        self._claim_isn[row] = packet.seq
        self._claim_us[row] = now_us
        self.flags[row] |= ConnectionFlag.CLAIM
        return 0

    def follows_claim(self, row: cython.int, packet: Packet, now_us: cython.longlong) -> cython.bint:
        """Whether a client's packet continues a SYN that the guest may still answer."""
        if not self.flags[row] & ConnectionFlag.CLAIM or now_us - self._claim_us[row] >= _HELD_US:
            return False
        return 0 < seq_diff(packet.seq, self._claim_isn[row]) <= _WINDOW_BYTES

    def refused(self, row: cython.int, packet: Packet) -> cython.int:
        """A RST of the guest: the answer to a claim if it acknowledges that."""
        if packet.flags & TcpFlag.ACK and packet.ack == seq_add(self._claim_isn[row], 1):
            self.flags[row] &= ~ConnectionFlag.CLAIM
        return 0

    def must_wait(self, row: cython.int, packet: Packet, now_us: cython.longlong) -> cython.bint:
        """Whether a client's segment (no SYN, no RST) has to wait while the offset is not known."""
        if self.completes(row, packet):
            return False
        if self.follows_claim(row, packet, now_us):
            return True
        if self.flags[row] & (ConnectionFlag.DUE | ConnectionFlag.OWN) != ConnectionFlag.DUE:
            return False
        return packet.flags & TcpFlag.ACK != 0 and 0 < seq_diff(packet.seq, self.due[row]) <= _WINDOW_BYTES

    # ── learning ──────────────────────────────────────────────────────────────────────────────────────────────

    def guest_syn(
        self, row: cython.int, buf: cython.uchar[::1], packet: Packet, is_serving: cython.bint
    ) -> cython.bint:
        """A SYN or SYN|ACK from the secondary; whether it begins a new incarnation (else it is sent again)."""
        is_new: cython.bint = self.secondary_isn[row] != packet.seq or not self.flags[row] & ConnectionFlag.HAS_ISN
        if is_new:
            self.state[row] = OffsetState.AWAITING_PRIMARY
            self.flags[row] = (self.flags[row] & _KEPT_BY_SYN) | ConnectionFlag.HAS_ISN
            self.flags[row] |= ConnectionFlag.OWN if is_serving else 0
            self.flags[row] |= 0 if packet.flags & TcpFlag.ACK else ConnectionFlag.OPENS
            self.secondary_isn[row] = packet.seq
            self.seq_offset[row] = 0
            self.ts_offset[row] = 0
        elif self.state[row] == OffsetState.KNOWN:
            return False
        if packet.timestamp_pos:
            self.secondary_value[row] = load32(buf, packet.timestamp_pos)
            self.flags[row] |= ConnectionFlag.HAS_TIMESTAMP
        if packet.flags & TcpFlag.ACK:
            self._note_due(row, packet.ack, is_new)
        return is_new

    def _note_due(self, row: cython.int, due: cython.longlong, is_new: cython.bint) -> cython.int:
        """With which number the client's side begins; with which the client does, if the primary took no payload."""
        begin: cython.longlong = seq_add(self._claim_isn[row], 1)
        takes_payload: cython.bint = self.flags[row] & ConnectionFlag.CLAIM and due == self._claim_end[row]
        if takes_payload:
            self.first[row] = begin
        elif is_new or due != self.due[row]:
            self.first[row] = due
        if takes_payload or due == begin:
            self.flags[row] &= ~ConnectionFlag.CLAIM
        self.due[row] = due
        self.flags[row] |= ConnectionFlag.DUE
        return 0

    def completes(self, row: cython.int, packet: Packet) -> cython.bint:
        """Whether a client's segment (no SYN, no RST) is the one that completes the handshake that the guest is in."""
        if not self.flags[row] & ConnectionFlag.DUE or not packet.flags & TcpFlag.ACK:
            return False
        return packet.seq == self.due[row] or packet.seq == self.first[row]

    def answers(self, row: cython.int, packet: Packet) -> cython.bint:
        """Whether a segment from outside is a SYN|ACK to the guest's SYN, and the guest has not acknowledged one."""
        both: cython.int = TcpFlag.SYN | TcpFlag.ACK
        if packet.flags & (both | TcpFlag.RST) != both:
            return False
        if self.state[row] == OffsetState.AWAITING_PRIMARY:
            return self.flags[row] & ConnectionFlag.OPENS != 0
        return self.flags[row] & ConnectionFlag.TENTATIVE != 0

    def learn(self, row: cython.int, buf: cython.uchar[::1], packet: Packet, is_answer: cython.bint) -> cython.int:
        """What acknowledges the primary's SYN, and echoes its TSval. `is_answer`: it is a SYN|ACK."""
        if is_answer:
            if self.flags[row] & ConnectionFlag.TENTATIVE:
                self._other_isn[row] = self._answer_isn[row]
                self._other_seq_offset[row] = self.seq_offset[row]
                self._other_ts_offset[row] = self.ts_offset[row]
                self.flags[row] |= ConnectionFlag.ALTERNATIVE
            self._answer_isn[row] = packet.seq
            self.flags[row] |= ConnectionFlag.TENTATIVE
        self.state[row] = OffsetState.KNOWN
        if self.flags[row] & ConnectionFlag.OWN:
            return 0
        primary_isn: cython.longlong = seq_add(packet.ack, -1)
        self.seq_offset[row] = seq_add(self.secondary_isn[row], -primary_isn)
        self.ts_offset[row] = 0
        if packet.timestamp_pos and self.flags[row] & ConnectionFlag.HAS_TIMESTAMP:
            primary_value: cython.longlong = load32(buf, packet.timestamp_pos + 4)
            if primary_value:
                self.ts_offset[row] = seq_add(self.secondary_value[row], -primary_value)
        return 0

    def goes_on(self, row: cython.int, packet: Packet) -> cython.int:
        """The guest said something that is neither SYN nor RST: it follows no claim, and has chosen its SYN|ACK.

        It holds on to what it has (RFC 5961 section 4.2), which may be a connection older than we are.
        """
        flags: cython.int = self.flags[row] & ~(ConnectionFlag.CLAIM | ConnectionFlag.TENTATIVE)
        if self.state[row] == OffsetState.UNKNOWN:
            self.state[row] = OffsetState.KNOWN
        if flags & ConnectionFlag.ALTERNATIVE:
            flags &= ~ConnectionFlag.ALTERNATIVE
            if packet.ack == seq_add(self._other_isn[row], 1) and self._other_isn[row] != self._answer_isn[row]:
                self.seq_offset[row] = self._other_seq_offset[row]
                self.ts_offset[row] = self._other_ts_offset[row]
        self.flags[row] = flags
        return 0

    def committed(self, row: cython.int) -> cython.int:
        """A checkpoint: the secondary's numbers are the primary's now."""
        flags: cython.int = self.flags[row] & ~_VOIDED_BY_CHECKPOINT
        if not flags & ConnectionFlag.GUEST_FIN_ACKED:
            flags &= ~ConnectionFlag.GUEST_FIN
        self.state[row] = OffsetState.KNOWN
        self.seq_offset[row] = 0
        self.ts_offset[row] = 0
        self.flags[row] = flags
        return 0

    # ── adding ────────────────────────────────────────────────────────────────────────────────────────────────

    def shift(self, row: cython.int, buf: cython.uchar[::1], packet: Packet, sign: cython.int) -> cython.int:
        """Translate a segment of the client for the secondary: ack, SACK edges and TSecr (`sign` 1); or back (-1)."""
        if not packet.flags & TcpFlag.ACK:
            return 0
        if self.seq_offset[row]:
            set_ack(buf, packet, seq_add(packet.ack, sign * cython.cast(cython.longlong, self.seq_offset[row])))
            shift_sack(buf, packet, sign * cython.cast(cython.longlong, self.seq_offset[row]))
        if self.ts_offset[row]:
            shift_timestamps(buf, packet, 0, sign * cython.cast(cython.longlong, self.ts_offset[row]))
        return 0

    def shift_guest(self, row: cython.int, buf: cython.uchar[::1], packet: Packet, sign: cython.int) -> cython.int:
        """Translate a segment of the secondary for the client: seq (on each one) and TSval (`sign` -1); or back (1)."""
        if self.seq_offset[row]:
            shift_seq(buf, packet, sign * cython.cast(cython.longlong, self.seq_offset[row]))
        if self.ts_offset[row]:
            shift_timestamps(buf, packet, sign * cython.cast(cython.longlong, self.ts_offset[row]), 0)
        return 0

    # ── what another rewriter has to know ─────────────────────────────────────────────────────────────────────

    def is_told(self, table: ConnectionTable, row: cython.int) -> cython.bint:
        """Whether a row's offsets are not 0, or not known yet."""
        if not table.in_use(row):
            return False
        if self.state[row] == OffsetState.KNOWN:
            return self.seq_offset[row] != 0 or self.ts_offset[row] != 0
        return self.state[row] == OffsetState.AWAITING_PRIMARY and not self.flags[row] & ConnectionFlag.OWN

    def has_any(self, table):
        """Whether a connection that has not ended has offsets that are not 0."""
        connections: ConnectionTable = table
        row: cython.int = 0
        found: cython.bint = False
        with cython.nogil:
            while row < connections.rows and not found:
                if self.state[row] == OffsetState.KNOWN and self.is_told(connections, row):
                    found = self.flags[row] & ConnectionFlag.ENDED == 0
                row += 1
        return found
