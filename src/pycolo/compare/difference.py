"""What the comparator tells the outside: differences, and the commands that carry them."""

from dataclasses import dataclass

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
    DifferenceKind.QUEUE_FULL: "as many packets wait as max_queue_size allows",
    DifferenceKind.MEMORY_FULL: "the memory for held packets is used up",
    DifferenceKind.TABLE_FULL: "every connection that fits the table holds packets",
    DifferenceKind.UNPROTECTED: "TCP-MD5 or TCP-AO signs its segments: this connection cannot be protected",
}


@dataclass(frozen=True, slots=True)
class Difference:
    """One difference: where it was, what it was, and the bytes around it.

    `connection`: as the guest sends, None where no single one is to blame. `seq`: sequence number in the primary's
    space, for TCP. `primary`, `secondary`: up to DIFFERENCE_CONTEXT_BYTES before the first difference and as many
    from it on; `primary_index`, `secondary_index` say where in them it is. `waited_ms`: for the time-outs.
    """

    kind: DifferenceKind
    connection: ConnectionKey | None
    seq: int
    waited_ms: int
    primary: bytes = b""
    primary_index: int = 0
    secondary: bytes = b""
    secondary_index: int = 0

    def __str__(self) -> str:
        sentence = _SENTENCES[self.kind].format(seq=self.seq, waited_ms=self.waited_ms)
        return f"{self.connection or 'all connections'}: {sentence}"


@dataclass(frozen=True, slots=True)
class RequestCheckpoint:
    """A checkpoint is to copy the primary's state over the secondary's; once per epoch."""

    difference: Difference


@dataclass(frozen=True, slots=True)
class ReportDifference:
    """A difference for the record: the policy has been applied, or a checkpoint is asked for already."""

    difference: Difference


Command = RequestCheckpoint | ReportDifference
