"""Results of a run of the libvirt laboratory: plain data."""

import msgspec


class Judged(msgspec.Struct, kw_only=True):
    """What a round's clients have seen."""

    broken: list[str]
    connections: int
    lost: int
    answers: int
    lines: int
    """Acknowledged by the guest's disk; 0 without a disk."""
    gap_ms: float | None
    """The longest time around the fault in which no client got an answer."""
    notes: list[str]
    """What the work was that a client has done."""


class RoundFacts(msgspec.Struct, kw_only=True):
    """One round of a scenario."""

    scenario: str
    broken: list[str]
    """The requirements that failed."""
    served_by: str = ""
    """The host whose guest clients reached afterwards; empty when the guest ended."""
    connections: int = 0
    lost: int = 0
    answers: int = 0
    lines: int = 0
    """Acknowledged by the guest's disk."""
    gap_ms: float | None = None
    """The longest time in which no client got an answer."""
    notes: list[str] = msgspec.field(default_factory=list)
    whole_again_s: float = 0.0
    """How long `protect` took after the repair; 0 when the pair was whole."""

    def take(self, judged: Judged) -> None:
        """What the clients have seen belongs to the round."""
        self.broken += judged.broken
        self.notes += judged.notes
        self.connections, self.lost, self.answers = judged.connections, judged.lost, judged.answers
        self.lines, self.gap_ms = judged.lines, judged.gap_ms
