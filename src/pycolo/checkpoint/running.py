"""The checkpoint that is running, or has been committed and waits for its RESUME; and a fact's arguments."""

from typing import Final, NamedTuple

from pycolo.checkpoint.parts import Moments, Part, parts_of
from pycolo.checkpoint.records import CheckpointRecord, Reason, ReasonList

RESUME_WAIT_US: Final = 1_000_000
"""RESUME arrives some 0.3 ms after LOADED has passed. After this time the record ends without a pause."""


class Told(NamedTuple):
    """A fact's arguments."""

    now_us: int
    at_us: int = 0
    reason: Reason | None = None
    epoch: int | None = None
    why: str = ""
    released_frames: int = 0
    released_bytes: int = 0
    discarded_frames: int = 0
    moments: Moments | None = None


class Running:
    """The running checkpoint, or a committed one until its RESUME."""

    def __init__(self, began_us: int, ran_us: int) -> None:
        self.began_us = began_us
        self.ran_us = ran_us  # the guest, since the last one
        self.reasons = ReasonList()
        self.stopped_at_us: int | None = None  # in QEMU's time
        self.resumed_at_us: int | None = None
        self.resumed_us: int | None = None  # in ours
        self.is_suspected = False
        self.record: CheckpointRecord | None = None  # once committed
        self.moments: Moments | None = None

    @property
    def resume_due_us(self) -> int:
        """When to stop waiting for RESUME."""
        assert self.record is not None
        return self.record.ended_us + RESUME_WAIT_US

    def lead_us(self, resumed_at_us: int | None) -> int:
        """How long the guest ran on after the request, having resumed at `resumed_at_us`; 0 if that is unknown."""
        if self.stopped_at_us is None or resumed_at_us is None:
            return 0
        return max(0, self.stopped_at_us - resumed_at_us - self.ran_us)

    @property
    def pause_us(self) -> int | None:
        """None if it is unknown, or if the host's clock was set back meanwhile."""
        if self.stopped_at_us is None or self.resumed_at_us is None:
            return None
        pause_us = self.resumed_at_us - self.stopped_at_us
        return pause_us if pause_us >= 0 else None

    @property
    def parts(self) -> dict[Part, int] | None:
        """None if the pause is unknown."""
        if self.moments is None or self.pause_us is None:
            return None
        assert self.stopped_at_us is not None
        assert self.resumed_at_us is not None
        return parts_of(self.moments, self.began_us, self.stopped_at_us, self.resumed_at_us)
