"""What a node must know after a restart, and where that is kept."""

from collections.abc import Callable
from typing import Protocol

from pycolo.failover.pair import Record

OnKept = Callable[[str], None]
"""Called with "" when the record is on disk, else with the reason why it is not."""


class RecordKeeper(Protocol):
    """Keeps the pair's record. Never waits: what takes time is answered later, in asyncio's thread."""

    def keep(self, record: Record, on_kept: OnKept) -> None:
        """Write it to disk, then call `on_kept`."""


class NoRecord:
    """For a node whose guest's state is not copied: after a restart it has nothing to remember."""

    def keep(self, record: Record, on_kept: OnKept) -> None:
        """Answered at once."""
        on_kept("")
