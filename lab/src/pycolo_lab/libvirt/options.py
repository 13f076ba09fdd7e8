"""What a run of the libvirt laboratory is asked to do."""

import msgspec

from pycolo_lab.errors import LabUsageError
from pycolo_lab.libvirt.releases import OTHERS


class LibvirtLabOptions(msgspec.Struct, frozen=True, kw_only=True):
    """One run."""

    scenarios: tuple[str, ...] = ()
    """By name; empty: all."""
    rounds: int | None = None
    """Of each scenario; None: one."""
    guest: str = "usual"
    has_disk: bool = True
    """A writable one; the Debian guest has one anyway."""
    has_network: bool = False
    """Its card is on a network of libvirt's."""
    machine: str | None = None
    """As libvirt's <type machine=…>; None: the guest's own."""
    libvirt: str | None = None
    """A version in `OTHERS`; None: this machine's."""
    seed: int = 1
    """Of random moments."""
    hold: bool = False
    keep: bool = False


def check_options(options: LibvirtLabOptions) -> None:
    """Raise `LabUsageError` for contradictory options."""
    if options.libvirt not in (None, *OTHERS):
        raise LabUsageError(f"--libvirt {options.libvirt}: not one of {', '.join(OTHERS)}")
    for name, is_given in (("--scenario", bool(options.scenarios)), ("--rounds", options.rounds is not None)):
        if options.hold and is_given:
            raise LabUsageError(f"{name} contradicts --hold: a held pair runs no scenario")
