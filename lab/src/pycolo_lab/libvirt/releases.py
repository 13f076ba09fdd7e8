"""Which libvirt: this machine's, or Debian 13's in a root of its own below build/lab."""

import re
from pathlib import Path
from typing import Final, NamedTuple

from pycolo_lab.errors import LabError
from pycolo_lab.qemu.machine import Qemu, find_qemu, qemu_in
from pycolo_lab.qemu.otherdebian import Debian, fetched_root
from pycolo_lab.qemu.programs import Programs, may_install, say

OTHERS: Final = {
    "11.3": Debian(
        "trixie",
        also=(
            *("libvirt-daemon", "libvirt-daemon-driver-qemu", "libvirt-daemon-driver-network"),
            *("libvirt-clients", "qemu-utils", "iproute2"),
        ),
        label="trixie-libvirt-network",
    )
}
"""libvirt's versions that another Debian has."""

LIBVIRT_PROGRAMS: Final = ("libvirtd", "virsh")
OWN_PROGRAMS: Final = ("ip", "nsenter", "qemu-img")

BINDING_PACKAGE: Final = "python3-libvirt"
BINDING: Final = Path("/usr/lib/python3/dist-packages/libvirt.py")
"""What the nodes ask libvirt with, unless their own environment has it: they say so when neither has."""


class Release(NamedTuple):
    """A libvirt with its QEMU. `inside`: words before a command that runs in its root."""

    version: str
    qemu: Qemu
    root: Path | None = None

    @property
    def inside(self) -> tuple[str, ...]:
        """Before a command of it, on a host."""
        return () if self.root is None else ("chroot", str(self.root))


def find_release(wanted: str | None, programs: Programs) -> Release:
    """A version in `OTHERS`, which is fetched; None is this machine's, which is installed as root on Debian.

    Raises `LabError`.
    """
    programs.require(needed(wanted))
    if not BINDING.exists() and may_install():
        say(f"installing Debian packages: {BINDING_PACKAGE}")
        programs.apt("install", "--yes", "--no-install-recommends", BINDING_PACKAGE, required=False)
    root = None if wanted is None else fetched_root(OTHERS[wanted], programs)
    qemu = find_qemu(None, programs) if root is None else qemu_in(root, programs)
    inside = [] if root is None else ["chroot", str(root)]
    said = programs.output_of([*inside, "virsh", "--version"], "asking libvirt for its version").strip()
    if not re.fullmatch(r"\d+(\.\d+)+", said):
        raise LabError(f"virsh --version says no version, but: {said[:80]}")
    return Release(said, qemu, root)


def needed(wanted: str | None) -> tuple[str, ...]:
    """The programs that this machine must have."""
    return OWN_PROGRAMS if wanted is not None else (*LIBVIRT_PROGRAMS, *OWN_PROGRAMS)
