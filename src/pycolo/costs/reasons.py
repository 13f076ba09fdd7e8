"""Which reason for a checkpoint a difference is."""

from typing import Final

from pycolo.checkpoint.records import ReasonKind
from pycolo.compare.kinds import DifferenceKind

_KINDS: Final = {
    DifferenceKind.TIMEOUT: ReasonKind.TIMEOUT,
    DifferenceKind.SECONDARY_TIMEOUT: ReasonKind.TIMEOUT,
    DifferenceKind.MUTUAL_WAIT: ReasonKind.MUTUAL_WAIT,
    DifferenceKind.QUEUE_FULL: ReasonKind.QUEUE_FULL,
    DifferenceKind.MEMORY_FULL: ReasonKind.QUEUE_FULL,
    DifferenceKind.TABLE_FULL: ReasonKind.QUEUE_FULL,
}


def reason_of(kind: DifferenceKind) -> ReasonKind:
    """Any other kind of difference is a divergence."""
    return _KINDS.get(kind, ReasonKind.DIVERGENCE)
