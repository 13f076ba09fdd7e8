"""What a node does to a QEMU so that COLO works with it: which cure, at which moment, and why.

Some QEMUs have bugs that break COLO and that can be avoided over QMP, by accesses to the guest's PCI configuration
space from outside while the guest stands still. A table says for which QEMU; `pycolo.vm.curing` carries it out.

Pure. Measured under software emulation; what is said of KVM is read in QEMU's source.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Final, Literal

from pycolo.qmp.probe import Facts

TCG_RAM_STEP_BYTES: Final = 256 << 10
"""QEMU before 10.0 loses dirty bits under software emulation in RAM of a multiple of this size."""

Role = Literal["primary", "secondary"]


class Moment(Enum):
    """When a cure is due. The guest stands still at all of them but the first."""

    BEFORE_MIGRATE = "before the migration into COLO"
    READY_HELD = "READY is held"
    REPLY_HELD = "REPLY is held"
    LOADED_HELD = "LOADED is held"
    ABORTED = "the secondary serves: with its own state if a checkpoint has been aborted"


class Action(Enum):
    """What is done."""

    STOP = "stop the guest; READY lets it run again"
    FLUSH = "write the host bridge's PAM register back with its own value, after which QEMU empties all TLBs"
    CLOSE_RCBA = "clear the enable bit of the ICH9's RCBA register"
    ENABLE_VIRTIO = "switch bus mastering of virtio devices on where the guest has it off; the load overwrites it"
    RENEW_VIRTIO = (
        "write the command registers of virtio devices back, with what ENABLE_VIRTIO has found or their own values"
    )
    REOPEN_RCBA = "write the RCBA register back, if it still has the value that CLOSE_RCBA has written"


@dataclass(frozen=True, slots=True)
class Cure:
    """One row."""

    role: Role
    moment: Moment
    action: Action
    is_for: Callable[[Facts], bool]
    reason: str


def is_q35(facts: Facts) -> bool:
    """Of any version; the other machine with a host bridge that these cures know is pc."""
    return facts.machine.startswith("pc-q35")


def has_pam(facts: Facts) -> bool:
    """Whether the machine has PAM registers: pc or q35."""
    return facts.machine.startswith(("pc-q35", "pc-i440fx"))


def maps_rcba_twice(facts: Facts) -> bool:
    """Seen with q35 on 7.2 and 10.0; 11.1.3 does not. Between them the cure does no harm where it is not needed."""
    return is_q35(facts) and facts.version[:2] < (11, 1)


def _is_emulated(facts: Facts) -> bool:
    return facts.is_tcg and has_pam(facts)


def loses_whole_pages(facts: Facts) -> bool:
    """Whether software emulation forgets to track pages whose dirty bits it has cleared; mended in QEMU 10.0."""
    is_round = facts.ram_bytes > 0 and facts.ram_bytes % TCG_RAM_STEP_BYTES == 0
    return facts.is_tcg and facts.version[:2] < (10, 0) and is_round


def _loses_whole_pages(facts: Facts) -> bool:
    return _is_emulated(facts) and loses_whole_pages(facts)


CURES: Final[tuple[Cure, ...]] = (
    Cure(
        "primary",
        Moment.BEFORE_MIGRATE,
        Action.STOP,
        _loses_whole_pages,
        "before 10.0 software emulation clears dirty bits of RAM of a multiple of 256 KiB without emptying the TLBs, "
        "so what the guest writes during the copy is not copied again",
    ),
    Cure(
        "primary",
        Moment.READY_HELD,
        Action.FLUSH,
        _is_emulated,
        "software emulation empties the TLBs only after a look at the dirty bits that has found new ones, and the last "
        "one before the switch often finds none: pages in use are then not tracked in the first epoch",
    ),
    Cure(
        "primary",
        Moment.LOADED_HELD,
        Action.FLUSH,
        _loses_whole_pages,
        "as before the migration: each checkpoint clears the dirty bits again",
    ),
    Cure(
        "secondary",
        Moment.REPLY_HELD,
        Action.CLOSE_RCBA,
        maps_rcba_twice,
        "q35's ICH9 maps its RCBA region once more when it loads its state, and QEMU aborts when it is mapped already",
    ),
    Cure(
        "secondary",
        Moment.ABORTED,
        Action.REOPEN_RCBA,
        maps_rcba_twice,
        "no state was loaded, so the region that CLOSE_RCBA has unmapped would stay so",
    ),
    Cure(
        "secondary",
        Moment.REPLY_HELD,
        Action.ENABLE_VIRTIO,
        has_pam,
        "a virtio device does nothing once its guest has switched bus mastering off, as firmware and Linux do at boot, "
        "and that is no part of its state: a secondary caught there stays without that device",
    ),
    Cure(
        "secondary",
        Moment.ABORTED,
        Action.RENEW_VIRTIO,
        has_pam,
        "ENABLE_VIRTIO is not done at each checkpoint, and what it has changed is undone where no state was loaded",
    ),
)


def cures_for(facts: Facts, role: Role) -> tuple[Cure, ...]:
    """The rows for this QEMU in this role."""
    return tuple(cure for cure in CURES if cure.role == role and cure.is_for(facts))
