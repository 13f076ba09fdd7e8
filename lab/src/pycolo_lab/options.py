"""What a run is asked to do."""

import sys
from enum import Enum
from typing import Final, Literal

import msgspec

from pycolo import limits

Nic = Literal["auto", "tap", "veth"]


TOO_BUSY: Final = "the machine was too busy for the nodes' heartbeat: try again, or raise --heartbeat-timeout"
"""Where one node has given the other up and both were alive."""


class Control(Enum):
    """A negative control: the part of the product that is switched off."""

    NONE = "none"
    REWRITE = "rewrite"
    COMPARE = "compare"


class LabOptions(msgspec.Struct, frozen=True, kw_only=True):
    """One run of the demo.

    `size_bytes` is what each transfer moves; None: as much as fits into `seconds`. `seconds` is the rough
    length of the load, with the kill about in its middle.
    """

    seconds: float = 10.0
    sessions: int = 50
    size_bytes: int | None = None
    seed: int = 1
    control: Control = Control.NONE
    ipv6: bool = False
    tls: bool = True
    nic: Nic = "auto"
    hold: bool = False
    baseline: bool = False
    """Measure transfers over a bare bridge, through nodes that compare nothing, and protected, before the run."""
    heartbeat_timeout_ms: int = limits.HEARTBEAT_TIMEOUT_MS
    """Of both nodes."""
    node_command: tuple[str, ...] = (sys.executable, "-m", "pycolo")
    """How the nodes are started; everything after it is their own command line."""
    twisted_command: tuple[str, ...] = (sys.executable, "-m", "pycolo_lab.twisted")
    """The same for host B's node, with the twist at its guest's network card."""

    @property
    def stall_seconds(self) -> float:
        """Without progress for that long a client gives up.

        A control is meant to stall, so it waits only for what a sound takeover never needs: TCP's back-off
        after two lost retransmissions (0.2 + 0.4 + 0.8 s) with a margin.
        """
        return 10.0 if self.control is Control.NONE else 4.0
