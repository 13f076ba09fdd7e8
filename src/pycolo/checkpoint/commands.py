"""What the coordinator commands."""

from dataclasses import dataclass

from pycolo.checkpoint.records import CheckpointRecord, Reason


@dataclass(frozen=True, slots=True)
class AskHypervisor:
    """Command: ask QEMU for a checkpoint (migrate-set-parameters). `epoch` is the one that it will open."""

    epoch: int
    reasons: tuple[Reason, ...]


@dataclass(frozen=True, slots=True)
class Commit:
    """Command: drain the primary's sockets, release all that is held, discard the secondary's.

    Answered by `committed`, behind which LOADED may pass, or by `colo_ended` when it cannot be done: LOADED must not
    pass then. `epoch` is the one that begins.
    """

    epoch: int


@dataclass(frozen=True, slots=True)
class Suspect:
    """Command: the pair is suspect; find out which QEMU hangs. The checkpoint goes on until COLO ends or the pair is
    lost."""

    text: str


@dataclass(frozen=True, slots=True)
class Dissolve:
    """Command: COLO has ended in QEMU. If the other node lives it discards its guest, and this node's serves on.

    The coordinator is disarmed already, and the checkpoint that was under way is recorded as aborted.
    """

    text: str


@dataclass(frozen=True, slots=True)
class Refused:
    """Command: report that `reason` will have no checkpoint."""

    reason: Reason
    why: str


@dataclass(frozen=True, slots=True)
class Record:
    """Command: a checkpoint has ended; log, count and show it."""

    record: CheckpointRecord


Command = AskHypervisor | Commit | Suspect | Dissolve | Refused | Record
