"""Which libvirt: this machine's, or Debian 13's in a root of its own below build/lab."""

import re
from pathlib import Path
from typing import Final, NamedTuple

from pycolo_lab.errors import LabError
from pycolo_lab.qemu.machine import PROGRAM, Qemu, find_qemu
from pycolo_lab.qemu.programs import Programs

LIBVIRT_PROGRAMS: Final = ("libvirtd", "virsh", "ip", "nsenter", "qemu-img")


class Release(NamedTuple):
    """A libvirt with its QEMU. `inside`: words before a command that runs in its root."""

    version: str
    qemu: Qemu
    root: Path | None = None

    @property
    def inside(self) -> tuple[str, ...]:
        """Before a command of it, on a host."""
        return () if self.root is None else ("chroot", str(self.root))


def find_release(programs: Programs) -> Release:
    """This machine's; what is missing is installed as root on Debian. Raises `LabError`."""
    programs.require(LIBVIRT_PROGRAMS)
    qemu = find_qemu(None, programs)
    said = programs.output_of(["virsh", "--version"], "asking libvirt for its version").strip()
    if not re.fullmatch(r"\d+(\.\d+)+", said):
        raise LabError(f"virsh --version says no version, but: {said[:80]}")
    return Release(said, qemu)


__all__ = ["PROGRAM", "Release", "find_release"]
