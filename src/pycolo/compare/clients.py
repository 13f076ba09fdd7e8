"""The client's frames, where they are seen: what they tell (rule C8), and which the secondary is not to get (rule R1).

The secondary's rewriter takes the primary's ISN from the ACK that completes a handshake, and cannot tell a lie. This
node can, for it knows what its own guest has sent: a segment that this guest turns down, since it acknowledges
something else (RFC 9293 sections 3.10.7.3 and 3.10.7.4), is *withheld*. So is one that follows a SYN which this guest
has not answered yet: no client acknowledges what has not left. For that the SYNs are remembered, the latest of each
hash; one that is displaced costs no more than this protection.
"""

import cython

from pycolo import limits
from pycolo.storage.pool import filled

if cython.compiled:
    from cython.cimports.pycolo.compare.tcp import TcpComparison
    from cython.cimports.pycolo.conntrack.table import ConnectionTable
    from cython.cimports.pycolo.wire.framing import Span, frame_at
    from cython.cimports.pycolo.wire.kinds import PacketKind, TcpFlag
    from cython.cimports.pycolo.wire.packet import Packet, parse_frame
    from cython.cimports.pycolo.wire.seq import seq_diff
else:
    from pycolo.compare.tcp import TcpComparison
    from pycolo.conntrack.table import ConnectionTable
    from pycolo.wire.framing import Span, frame_at
    from pycolo.wire.kinds import PacketKind, TcpFlag
    from pycolo.wire.packet import Packet, parse_frame
    from pycolo.wire.seq import seq_diff

_NONE = cython.declare(cython.int, -1)
_PLACES = cython.declare(cython.longlong, limits.CLIENT_SYNS_MAX - 1)
_HELD_US = cython.declare(cython.longlong, limits.HANDSHAKE_HELD_MS * 1000)
_WINDOW_BYTES = cython.declare(cython.longlong, limits.HANDSHAKE_WINDOW_BYTES)


class Clients:
    """`behind`: where the frame ends that is withheld, or the last one that is not."""

    def __init__(self, table: ConnectionTable, tcp: TcpComparison):
        self.table = table
        self.tcp = tcp
        self.behind = 0
        self._hash = filled(limits.CLIENT_SYNS_MAX, "I", 0)
        self._isn = filled(limits.CLIENT_SYNS_MAX, "I", 0)
        self._us = filled(limits.CLIENT_SYNS_MAX, "q", -(1 << 62))

    def take(
        self,
        buf: cython.uchar[::1],
        pos: cython.Py_ssize_t,
        end: cython.Py_ssize_t,
        span: Span,
        packet: Packet,
        now_us: cython.longlong,
    ) -> cython.Py_ssize_t:
        """Hear frames until one is to be withheld: where that begins, or the end of the last whole one."""
        self.tcp.sees_client = True
        while frame_at(buf, pos, end, self.tcp.held.has_vnet, span) == 1:
            parse_frame(buf, span.start, span.end, span.vnet_len, packet)
            self.behind = span.end
            if packet.kind == PacketKind.TCP and self._is_withheld(buf, packet, now_us):
                return pos
            pos = span.end
        self.behind = pos
        return pos

    def _is_withheld(self, buf: cython.uchar[::1], packet: Packet, now_us: cython.longlong) -> cython.bint:
        row: cython.int = self.table.find(packet, True)
        if packet.flags & (TcpFlag.SYN | TcpFlag.ACK | TcpFlag.RST) == TcpFlag.SYN:
            self._note_syn(packet, now_us)
        elif packet.flags & TcpFlag.ACK:
            if row != _NONE and self.tcp.turns_down(row, packet):
                return True
            if self._is_early(packet, now_us) and (row == _NONE or not self.tcp.may_take(row, packet)):
                return True
        if row != _NONE:
            self.tcp.client(row, buf, packet, now_us)
        return False

    def _note_syn(self, packet: Packet, now_us: cython.longlong) -> cython.int:
        place: cython.Py_ssize_t = self.table.wanted_hash() & _PLACES
        self._hash[place] = self.table.wanted_hash()
        self._isn[place] = packet.seq
        self._us[place] = now_us
        return 0

    def _is_early(self, packet: Packet, now_us: cython.longlong) -> cython.bint:
        """Whether a segment is near the latest SYN of its client, which may still be answered."""
        place: cython.Py_ssize_t = self.table.wanted_hash() & _PLACES
        if packet.flags & TcpFlag.RST or self._hash[place] != self.table.wanted_hash():
            return False
        if now_us - self._us[place] >= _HELD_US:
            return False
        ahead: cython.longlong = seq_diff(packet.seq, self._isn[place])
        return -_WINDOW_BYTES <= ahead <= _WINDOW_BYTES
