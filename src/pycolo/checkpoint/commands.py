"""The coordinator's commands."""

from dataclasses import dataclass

from pycolo.checkpoint.records import CheckpointRecord, Reason


@dataclass(frozen=True, slots=True)
class AskHypervisor:
    """Command: request a checkpoint from QEMU (migrate-set-parameters). `epoch` is the one that it will begin."""

    epoch: int
    reasons: tuple[Reason, ...]


@dataclass(frozen=True, slots=True)
class Commit:
    """Command: drain the primary's sockets, release all held packets, discard the secondary's.

    The answer is `committed`, after which LOADED may pass, or `colo_ended` if the commit fails: LOADED must not pass
    then. `epoch` is the one that begins.
    """

    epoch: int


@dataclass(frozen=True, slots=True)
class Suspect:
    """Command: the pair is suspect; find out which QEMU hangs. The checkpoint goes on until COLO ends or the pair is
    lost."""

    text: str


@dataclass(frozen=True, slots=True)
class Dissolve:
    """Command: COLO has ended in QEMU. The other node, if alive, discards its guest; this node's guest serves on.

    The coordinator is disarmed already, and the running checkpoint is recorded as aborted.
    """

    text: str


@dataclass(frozen=True, slots=True)
class Refused:
    """Command: report that no checkpoint will answer `reason`."""

    reason: Reason
    why: str


@dataclass(frozen=True, slots=True)
class Record:
    """Command: a checkpoint has ended; log, count and show it."""

    record: CheckpointRecord


Command = AskHypervisor | Commit | Suspect | Dissolve | Refused | Record
