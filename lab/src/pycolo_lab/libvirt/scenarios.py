"""What a run can play: the scenarios by name."""

from collections.abc import Sequence
from typing import Final, NamedTuple

from pycolo_lab.errors import LabUsageError
from pycolo_lab.libvirt.faults import FAULTS, Fault
from pycolo_lab.libvirt.plain import PLAIN


class Scenario(NamedTuple):
    """`fault` is None where no node takes part."""

    name: str
    text: str
    fault: Fault | None = None


SCENARIOS: Final = (
    Scenario(PLAIN, "no node: libvirtd restarted and killed, save and restore, shutdown"),
    *(Scenario(fault.name, fault.text, fault) for fault in FAULTS),
)


def choose(names: Sequence[str]) -> list[Scenario]:
    """The scenarios of these names, those without nodes first; all without a name.

    Raises `LabUsageError` with the known ones.
    """
    known = {scenario.name: scenario for scenario in SCENARIOS}
    if wrong := [name for name in names if name not in known]:
        raise LabUsageError(f"no scenario {', '.join(wrong)}; there are {', '.join(known)}")
    chosen = [known[name] for name in names] or list(SCENARIOS)
    return sorted(chosen, key=lambda scenario: scenario.fault is not None)
