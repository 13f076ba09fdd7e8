"""What a run of the QEMU laboratory is asked to do."""

import msgspec

from pycolo_lab.qemu.machine import GUEST_DEFAULT

ARBITER_DEFAULT = "command"


class QemuLabOptions(msgspec.Struct, frozen=True, kw_only=True):
    """One run."""

    scenarios: tuple[str, ...] = ()
    """By name; empty: all."""
    rounds: int | None = None
    """Of each scenario; None: what the scenario says."""
    qemu: str | None = None
    accelerator: str = "auto"
    guest: str = GUEST_DEFAULT
    seed: int = 1
    """Seed of the random moments in `protect-killed`."""
    arbiter: str | None = None
    """Of a pair that is held; None: `ARBITER_DEFAULT`."""
    heartbeat_timeout_ms: int | None = None
    """Of the nodes; None: what the scenario says."""
    hold: bool = False
    keep: bool = False
    as_json: bool = False
