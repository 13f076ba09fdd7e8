"""The comparator's output besides frames: differences, and the commands that carry them."""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from pycolo.compare.kinds import DifferenceKind
from pycolo.conntrack.key import ConnectionKey

_SENTENCES = {
    DifferenceKind.PAYLOAD: "the streams differ at sequence number {seq}",
    DifferenceKind.SYN_OPTIONS: "the SYNs do not agree in MSS, window scale, SACK or timestamps",
    DifferenceKind.FIN: "one stream ends at sequence number {seq} where the other goes on",
    DifferenceKind.RST: "one side resets the connection, the other does not",
    DifferenceKind.TIMEOUT: "a primary packet found no partner within {waited_ms} ms",
    DifferenceKind.SECONDARY_TIMEOUT: "a secondary packet found no partner within {waited_ms} ms",
    DifferenceKind.DATAGRAM: "no datagram of the secondary equals the primary's",
    DifferenceKind.QUEUE_FULL: "max_queue_size packets are waiting",
    DifferenceKind.MEMORY_FULL: "the memory for held packets is used up",
    DifferenceKind.TABLE_FULL: "the table is full of connections that hold packets",
    DifferenceKind.UNPROTECTED: "TCP-MD5 or TCP-AO signs its segments: this connection cannot be protected",
    DifferenceKind.MUTUAL_WAIT: "it waits for the secondary and another connection for the primary, {waited_ms} ms",
}


@dataclass(frozen=True, slots=True)
class Difference:
    """One difference: its place, its kind, and the bytes around it.

    `connection`: as the guest sends, None if no single one is the cause. `seq`: sequence number in the primary's space,
    for TCP. `primary`, `secondary`: up to DIFFERENCE_CONTEXT_BYTES before the first difference and as many from it on;
    `primary_index`, `secondary_index` are its positions. `waited_ms`: for the time-outs. `card`: where it was found, if
    the guest has several. `masked`: bit n says that the byte n + 1 in front of the difference differed too and a mask
    let it: in `secondary` is then the primary's.
    """

    kind: DifferenceKind
    connection: ConnectionKey | None
    seq: int
    waited_ms: int
    primary: bytes = b""
    primary_index: int = 0
    secondary: bytes = b""
    secondary_index: int = 0
    card: str = ""
    masked: int = 0

    @property
    def masked_positions(self) -> list[int]:
        """Of the masked bytes, counted from the difference: -1 is the one in front of it."""
        return [-number - 1 for number in range(self.masked.bit_length()) if self.masked >> number & 1][::-1]

    def __str__(self) -> str:
        sentence = _SENTENCES[self.kind].format(seq=self.seq, waited_ms=self.waited_ms)
        where = f" on {self.card}" if self.card else ""
        return f"{self.connection or 'all connections'}{where}: {sentence}"


@dataclass(frozen=True, slots=True)
class RequestCheckpoint:
    """Request a checkpoint, which copies the primary's state to the secondary; once per epoch."""

    difference: Difference


@dataclass(frozen=True, slots=True)
class ReportDifference:
    """A difference to record: the policy has been applied, or a checkpoint is requested already."""

    difference: Difference


Command = RequestCheckpoint | ReportDifference


def on_card(card: str, commands: Iterable[Command]) -> list[Command]:
    """`commands` of the comparator of one of several cards."""
    return [type(command)(replace(command.difference, card=card)) for command in commands]
