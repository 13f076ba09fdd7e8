"""What a run can play: the scenarios by name."""

from collections.abc import Sequence
from typing import Final, NamedTuple

from pycolo_lab.errors import LabUsageError
from pycolo_lab.libvirt.faults import FAULTS, QEMU_KILLED, Fault
from pycolo_lab.libvirt.plain import PLAIN
from pycolo_lab.libvirt.tried import REFUSED
from pycolo_lab.work.kinds import WORKS


class Scenario(NamedTuple):
    """`fault` is None where no node takes part."""

    name: str
    text: str
    fault: Fault | None = None
    work: str | None = None
    """What a client does meanwhile, with the services of a Debian guest: see `pycolo_lab.work`, WORKS."""


SCENARIOS: Final = (
    Scenario(PLAIN, "no node: libvirtd restarted and killed, save and restore, shutdown"),
    Scenario(REFUSED, "no node: networks, cards and disks that cannot be protected, in a domain that libvirt takes"),
    *(Scenario(fault.name, fault.text, fault) for fault in FAULTS),
    *(
        Scenario(name, f"the primary's QEMU is killed under {kind.text}", QEMU_KILLED, name)
        for name, kind in WORKS.items()
    ),
)


def choose(names: Sequence[str], *, has_disk: bool, has_services: bool = False) -> list[Scenario]:
    """The scenarios of these names, those without nodes first; without a name, all that such a guest can play.

    Raises `LabUsageError` with the known ones, or those that need another guest.
    """
    known = {scenario.name: scenario for scenario in SCENARIOS}
    if wrong := [name for name in names if name not in known]:
        raise LabUsageError(f"no scenario {', '.join(wrong)}; there are {', '.join(known)}")
    playable = [one for one in SCENARIOS if has_disk or one.fault is None or not one.fault.needs_disk]
    possible = [one for one in playable if one.work is None or has_services]
    chosen = [known[name] for name in names] or possible
    if without := [one.name for one in chosen if one not in playable]:
        raise LabUsageError(f"{', '.join(without)}: the guest needs a disk for it, so not with --no-disk")
    if without := [one.name for one in chosen if one not in possible]:
        raise LabUsageError(f"{', '.join(without)}: the guest has no such service: add --guest debian")
    return sorted(chosen, key=lambda scenario: scenario.fault is not None)
