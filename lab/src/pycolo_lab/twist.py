"""Makes two guests on one kernel as independent as two machines are.

Two TCP stacks on one kernel derive initial sequence numbers from one clock: their offsets are small, and most timestamp
differences are 0. Without further measures the laboratory would prove nothing about rewriting. The twist, at the
secondary guest's network card, adds a random 32-bit number to its sequence numbers and another to its timestamps, per
connection; the guest does not notice, and the node sees an independent machine.
"""

from secrets import randbits

from pycolo.core import (
    COMPLETE,
    Packet,
    Span,
    frame_at,
    jhash2,
    parse_frame,
    seq_add,
    set_ack,
    shift_sack,
    shift_seq,
    shift_timestamps,
)
from pycolo.transport.ports import Port
from pycolo.wire.buffers import Buffer
from pycolo.wire.kinds import PacketKind, TcpFlag


class TwistedPort:
    """A port to a guest with the twist in it. The numbers are a keyed hash of the connection: there is no table."""

    def __init__(self, port: Port) -> None:
        self.name = port.name
        self.vnet_len = port.vnet_len
        self._port = port
        self._seed = randbits(32)
        self._packet = Packet()
        self._span = Span()

    def fileno(self) -> int:
        """The port's own."""
        return self._port.fileno()

    def read_batch(self, buf: Buffer, pos: int) -> int:
        """Frames of the guest, twisted."""
        end = self._port.read_batch(buf, pos)
        self._each(buf, pos, end, is_from_guest=True)
        return end

    def write_batch(self, buf: Buffer, pos: int, end: int) -> int:
        """Frames for the guest, untwisted. What the port does not take is offered again later: twist it back."""
        self._each(buf, pos, end, is_from_guest=False)
        reached = self._port.write_batch(buf, pos, end)
        self._each(buf, reached, end, is_from_guest=False, is_undo=True)
        return reached

    def service(self, now_us: int) -> int | None:
        """The port's own."""
        return self._port.service(now_us)

    def take_reset(self) -> bool:
        """The port's own."""
        return self._port.take_reset()

    def counters(self) -> dict[str, int]:
        """The port's own."""
        return self._port.counters()

    def close(self) -> None:
        """The port's own."""
        self._port.close()

    def _each(self, buf: Buffer, pos: int, end: int, *, is_from_guest: bool, is_undo: bool = False) -> None:
        span, packet = self._span, self._packet
        while frame_at(buf, pos, end, self.vnet_len != 0, span) == COMPLETE:
            pos = span.end
            if parse_frame(buf, span.start, span.end, span.vnet_len, packet) != PacketKind.TCP:
                continue
            seq_twist, value_twist = self._numbers(is_from_guest)
            if is_from_guest:
                shift_seq(buf, packet, seq_twist)
                shift_timestamps(buf, packet, value_twist, 0)
            elif packet.flags & TcpFlag.ACK:
                sign = 1 if is_undo else -1
                set_ack(buf, packet, seq_add(packet.ack, sign * seq_twist))
                shift_sack(buf, packet, sign * seq_twist)
                shift_timestamps(buf, packet, 0, sign * value_twist)

    def _numbers(self, is_from_guest: bool) -> tuple[int, int]:  # noqa: FBT001 - the two directions
        packet = self._packet
        client = (packet.source0, packet.source1, packet.source2, packet.source3, packet.source_port)
        guest_port = packet.destination_port
        if is_from_guest:
            client = (
                packet.destination0,
                packet.destination1,
                packet.destination2,
                packet.destination3,
                packet.destination_port,
            )
            guest_port = packet.source_port
        words = memoryview(bytearray(24)).cast("I")
        for i, word in enumerate((*client, guest_port)):
            words[i] = word
        return jhash2(words, self._seed), jhash2(words, self._seed ^ 0x5BD1E995)
