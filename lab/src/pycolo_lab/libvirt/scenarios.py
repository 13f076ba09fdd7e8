"""What a run can play: the scenarios by name."""

from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from pycolo_lab.errors import LabUsageError
from pycolo_lab.libvirt.facts import RoundFacts
from pycolo_lab.libvirt.plain import PLAIN, play_plain
from pycolo_lab.libvirt.stage import LibvirtStage


class Scenario(NamedTuple):
    """`play(stage, number)` is one round, `number` from 1."""

    name: str
    text: str
    play: Callable[[LibvirtStage, int], RoundFacts]


SCENARIOS: Final = (Scenario(PLAIN, "no node: libvirtd restarted and killed, save and restore, destroy", play_plain),)


def choose(names: Sequence[str]) -> list[Scenario]:
    """The scenarios of these names, in their order; all without a name. Raises `LabUsageError` with the known ones."""
    known = {scenario.name: scenario for scenario in SCENARIOS}
    if wrong := [name for name in names if name not in known]:
        raise LabUsageError(f"no scenario {', '.join(wrong)}; there are {', '.join(known)}")
    return [known[name] for name in names] or list(SCENARIOS)
