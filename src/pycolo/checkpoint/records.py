"""The record of a checkpoint: its reasons, its outcome, the guest's pause."""

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any, Final

from pycolo.checkpoint.parts import Part, medians, shown

REASONS_PER_KIND_MAX: Final = 4
"""Reasons kept of each kind, per checkpoint: a broken pair differs in every connection, and four show as much as all.
The limit is per kind, so that many of one kind do not hide an operator's request."""

HISTORY_RECORDS: Final = 64
"""The last checkpoints that `colo status` can show."""

PAUSES_KEPT: Final = 1024
"""Pauses behind median and p99: ten of them lie above the 99th percentile."""

_UNIX: Final = datetime(1970, 1, 1, tzinfo=UTC)


class ReasonKind(StrEnum):
    """The kind of reason for a checkpoint."""

    DIVERGENCE = "divergence"
    """The replicas' output differs; the text says how."""
    TIMEOUT = "timeout"
    """A packet waited longer than compare_timeout for the other replica's."""
    MUTUAL_WAIT = "mutual_wait"
    """One connection waits for the secondary, another for the primary: only a checkpoint ends that."""
    QUEUE_FULL = "queue_full"
    """Memory for held packets is short."""
    PERIODIC = "periodic"
    """The maximum interval has passed."""
    OPERATOR = "operator"
    """`colo checkpoint`."""
    FIRST = "first"
    """The pair has just entered COLO: from this checkpoint on, the secondary can replace the primary."""
    HYPERVISOR = "hypervisor"
    """Not requested here: the hypervisor began by itself."""


@dataclass(frozen=True, slots=True)
class Reason:
    """`text` is one line for the user; `connection` is None if the reason concerns no single connection; `card` if the
    guest has one card only, or all of them are meant.
    """

    kind: ReasonKind
    text: str
    connection: str | None = None
    card: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """As the control socket's answers show it."""
        return {"kind": self.kind.value, "text": self.text, "connection": self.connection, "card": self.card}


class ReasonList:
    """Reasons in order of arrival, `REASONS_PER_KIND_MAX` of each kind, and the number of the others."""

    def __init__(self) -> None:
        self._reasons: list[Reason] = []
        self.more = 0
        self.since_us: int | None = None

    def __len__(self) -> int:
        return len(self._reasons)

    @property
    def kept(self) -> tuple[Reason, ...]:
        """The reasons kept."""
        return tuple(self._reasons)

    def add(self, reason: Reason, now_us: int) -> None:
        """Add a reason for a checkpoint, arisen at `now_us`."""
        self.since_us = now_us if self.since_us is None else min(self.since_us, now_us)
        if sum(one.kind is reason.kind for one in self._reasons) < REASONS_PER_KIND_MAX:
            self._reasons.append(reason)
        else:
            self.more += 1

    def take(self, other: "ReasonList") -> None:
        """Move all reasons from `other`."""
        for reason in other._reasons:
            assert other.since_us is not None
            self.add(reason, other.since_us)
        self.more += other.more
        other.clear()

    def clear(self) -> None:
        """Remove all reasons."""
        self._reasons, self.more, self.since_us = [], 0, None

    def drop(self, kind: ReasonKind) -> None:
        """Remove the reasons of `kind`."""
        self._reasons = [reason for reason in self._reasons if reason.kind is not kind]
        if not self._reasons:
            self.clear()


class Outcome(StrEnum):
    """The outcome of a checkpoint."""

    COMMITTED = "committed"
    """The secondary runs the primary's state; a new epoch has begun."""
    ABORTED = "aborted"
    """The secondary keeps its own state and its offsets."""


@dataclass(frozen=True, slots=True)
class CheckpointRecord:
    """One finished checkpoint. Times are monotonic microseconds of this node.

    `epoch` is the one that it began, or would have begun. `pause_us` is the primary's STOP to RESUME by QEMU's own time
    stamps; None if one of the two was not seen. `resumed_us` is when RESUME arrived here.
    """

    epoch: int
    reasons: tuple[Reason, ...]
    more_reasons: int
    requested_us: int
    began_us: int
    ended_us: int
    outcome: Outcome
    why: str | None = None
    resumed_us: int | None = None
    pause_us: int | None = None
    released_frames: int = 0
    released_bytes: int = 0
    discarded_frames: int = 0
    copied_bytes: int = 0
    """What has moved through the migration stream for it."""
    parts: Mapping[Part, int] | None = None
    """In µs, see `parts_of`; None where the pause is unknown."""

    def to_dict(self, unix_minus_monotonic_us: int) -> dict[str, Any]:
        """As the control socket's answers show it; the argument converts monotonic time to wall-clock time."""
        at = _UNIX + timedelta(microseconds=self.began_us + unix_minus_monotonic_us)
        whole_us = None if self.resumed_us is None else self.resumed_us - self.requested_us
        return {
            "epoch": self.epoch,
            "reasons": [reason.to_dict() for reason in self.reasons],
            "more_reasons": self.more_reasons,
            "at": at.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "outcome": self.outcome.value,
            "why": self.why,
            "request_to_resume_ms": _ms(whole_us),
            "pause_ms": _ms(self.pause_us),
            "released_frames": self.released_frames,
            "released_bytes": self.released_bytes,
            "discarded_frames": self.discarded_frames,
            "copied_bytes": self.copied_bytes,
            "parts_ms": shown(self.parts),
        }


@dataclass(frozen=True, slots=True)
class PauseSummary:
    """Statistics of the last `PAUSES_KEPT` pauses."""

    median_us: int
    p99_us: int
    max_us: int

    def to_dict(self) -> dict[str, Any]:
        """In milliseconds, as the control socket's answers show it."""
        return {"median": _ms(self.median_us), "p99": _ms(self.p99_us), "max": _ms(self.max_us)}


def summarise(pauses_us: Iterable[int]) -> PauseSummary | None:
    """Nearest rank: each number is a pause that occurred. None without pauses."""
    ordered = sorted(pauses_us)
    if not ordered:
        return None
    last = len(ordered) - 1
    return PauseSummary(ordered[last // 2], ordered[-(-99 * last // 100)], ordered[last])


class History:
    """The last records, and counts of all."""

    def __init__(self) -> None:
        self.last: deque[CheckpointRecord] = deque(maxlen=HISTORY_RECORDS)
        self.committed = 0
        self.aborted = 0
        self.count: dict[ReasonKind, int] = dict.fromkeys(ReasonKind, 0)
        """Committed checkpoints by the kind of their first reason; the sum is their number."""
        self._pauses_us: deque[int] = deque(maxlen=PAUSES_KEPT)

    def add(self, record: CheckpointRecord) -> None:
        """Add a finished checkpoint."""
        self.last.append(record)
        if record.outcome is Outcome.ABORTED:
            self.aborted += 1
            return
        self.committed += 1
        self.count[record.reasons[0].kind] += 1
        if record.pause_us is not None:
            self._pauses_us.append(record.pause_us)

    def parts(self) -> dict[Part, int] | None:
        """The medians of the parts of the last `HISTORY_RECORDS` checkpoints; None before the first."""
        return medians(record.parts for record in self.last if record.parts is not None)

    def pauses(self) -> PauseSummary | None:
        """None before the first pause."""
        return summarise(self._pauses_us)


def _ms(us: int | None) -> float | None:
    return None if us is None else round(us / 1000, 3)
