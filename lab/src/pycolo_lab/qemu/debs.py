"""Debian packages that are fetched and unpacked without being installed, and the busybox that is."""

import re
import shutil
from pathlib import Path
from typing import Final

from pycolo_lab.errors import LabError
from pycolo_lab.qemu.programs import Programs

KERNEL_PACKAGE: Final = "linux-image-cloud-amd64"

PROGRAMS: Final = ("apt-get", "dpkg", "busybox")
"""What this module runs, or reads."""


def kernel_package(programs: Programs) -> str:
    """The package that Debian's meta package stands for today."""
    for attempt in range(2):
        listed = programs.output_of(["apt-cache", "depends", KERNEL_PACKAGE], "looking for Debian's cloud kernel")
        named = re.search(r"Depends: (linux-image-\S+-cloud-amd64)", listed)
        if named:
            return named[1]
        if attempt == 0:
            programs.apt("update", required=False)
    raise LabError(
        f"apt-cache knows no {KERNEL_PACKAGE}: the guest's image needs Debian's package lists (apt-get update)"
    )


def unpacked(package: str, directory: Path, programs: Programs) -> Path:
    """Fetch a package and unpack it into a folder of its own, without installing it."""
    root = directory / package
    fetched = directory / f"{package}.fetched"
    fetched.mkdir()
    if not programs.apt("download", package, directory=fetched, required=False):
        programs.apt("update", required=False)
        programs.apt("download", package, directory=fetched)
    for archive in fetched.glob("*.deb"):
        programs.run(["dpkg", "-x", str(archive), str(root)], f"unpacking {archive.name}")
    return root


def kernel_image(kernel: Path) -> Path:
    """The kernel itself, out of its unpacked package."""
    found = sorted((kernel / "boot").glob("vmlinuz-*"))
    if not found:
        raise LabError(f"Debian's kernel package {kernel.name} holds no boot/vmlinuz-*; remove build/lab and try again")
    return found[-1]


def busybox() -> bytes:
    """The one on PATH, for a system without libraries. Raises `LabError` when it needs some."""
    path = shutil.which("busybox")
    assert path is not None, "require() has seen it"
    content = Path(path).read_bytes()
    if b"/ld-linux" in content:
        raise LabError(f"{path} is not static; the guest has no libraries: as root, apt-get install busybox-static")
    return content
