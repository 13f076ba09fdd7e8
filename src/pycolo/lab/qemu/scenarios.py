"""What is killed when, and what must hold: the scenarios as data."""

from collections.abc import Sequence
from enum import Enum
from typing import Final

import msgspec

from pycolo.lab.errors import LabError
from pycolo.lab.qemu.nodes import NodeSetting


class Fault(Enum):
    """What happens to the victim's host."""

    NONE = "nothing"
    QEMU = "its QEMU is killed"
    CHECKPOINT = "its QEMU is killed between STOP and RESUME of a checkpoint"
    HOST = "its cables are pulled, its node and its QEMU are killed"
    NODE = "its node is killed, its QEMU is not"
    LINK = "the cable between the hosts is pulled"


class Victim(Enum):
    """Whose host it happens to."""

    PRIMARY = "primary"
    SECONDARY = "secondary"


class Scenario(msgspec.Struct, frozen=True, kw_only=True):
    """One scenario. Each round is: fault, the clients go on, what is dead is started again, protect."""

    name: str
    text: str
    fault: Fault
    victim: Victim = Victim.PRIMARY
    is_busy: bool = False
    """A download and an upload run, besides the counting that always does."""
    arbiter: str = "command"
    confirms: bool = False
    """With a manual arbiter: the operator says `colo failover` at the primary's node."""
    compare: bool = True
    """False: the negative control, in which the counter's law has to be broken."""
    rounds: int = 1
    draws: bool = True
    """Whether the clients ask for random numbers, which force checkpoints; else they ask seldom, too."""

    @property
    def setting(self) -> NodeSetting:
        """How the nodes are configured."""
        # The control's only checkpoint is the first: what diverges stays so until the kill.
        interval_ms = 2000 if self.compare else 0
        return NodeSetting(arbiter=self.arbiter, compare=self.compare, checkpoint_interval_ms=interval_ms)


SCENARIOS: Final = (
    Scenario(name="rest", text="the primary's QEMU dies, nearly idle", fault=Fault.QEMU, draws=False),
    Scenario(name="load", text="the primary's QEMU dies under load", fault=Fault.QEMU, is_busy=True),
    Scenario(name="checkpoint", text="the primary's QEMU dies in mid-checkpoint", fault=Fault.CHECKPOINT),
    Scenario(
        name="checkpoint-secondary",
        text="the secondary's QEMU dies in mid-checkpoint",
        fault=Fault.CHECKPOINT,
        victim=Victim.SECONDARY,
    ),
    Scenario(name="host", text="the primary's host dies", fault=Fault.HOST),
    Scenario(name="node-primary", text="the primary's node dies and comes back", fault=Fault.NODE, arbiter="manual"),
    Scenario(name="node-fenced", text="the primary's node dies and is fenced", fault=Fault.NODE),
    Scenario(name="node-secondary", text="the secondary's node dies", fault=Fault.NODE, victim=Victim.SECONDARY),
    Scenario(name="secondary", text="the secondary's QEMU dies", fault=Fault.QEMU, victim=Victim.SECONDARY),
    Scenario(name="link", text="the link is cut, each fences the other", fault=Fault.LINK),
    Scenario(
        name="link-manual",
        text="the link is cut, nobody serves until told to",
        fault=Fault.LINK,
        arbiter="manual",
        confirms=True,
    ),
    Scenario(name="back", text="hosts die in turn: there, back, there, back", fault=Fault.HOST, rounds=4),
    Scenario(name="control", text="nothing is compared (has to fail)", fault=Fault.HOST, compare=False),
)

PAUSE: Final = "pause"
"""The benchmark's name among the scenarios."""


def choose(names: Sequence[str]) -> list[Scenario]:
    """The scenarios of these names; all without a name. `PAUSE` is none of them.

    Raises `LabError` naming the known ones.
    """
    known = {scenario.name: scenario for scenario in SCENARIOS}
    wrong = [name for name in names if name not in known and name != PAUSE]
    if wrong:
        raise LabError(f"no scenario {', '.join(wrong)}; there are {', '.join([*known, PAUSE])}")
    return [known[name] for name in names if name != PAUSE] if names else list(SCENARIOS)
