"""Results of a run of the libvirt laboratory: plain data."""

import msgspec


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
