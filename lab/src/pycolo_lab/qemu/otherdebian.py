"""Other Debians, each in a root of its own below build/lab: fetched once."""

import shutil
from pathlib import Path
from typing import Final, NamedTuple

from pycolo_lab.qemu.image import cache_directory
from pycolo_lab.qemu.programs import Programs, say

DEBOOTSTRAP_S: Final = 900

QEMU_PACKAGE: Final = "qemu-system-x86"


class Debian(NamedTuple):
    """A Debian that has other versions."""

    release: str
    suite: str | None = None
    """Of backports, which QEMU comes from; None: the release's own QEMU."""
    also: tuple[str, ...] = ()
    """Packages besides QEMU's."""
    label: str = ""

    @property
    def name(self) -> str:
        """Also of its root's folder."""
        return self.label or self.suite or self.release


DEBIAN_VERSIONS: Final = {"10.0": Debian("trixie"), "11.1": Debian("trixie", "trixie-backports")}
"""QEMU versions that another Debian has, and which one."""


def is_fetched(debian: Debian) -> bool:
    """Whether it is there."""
    return _stamp(debian).is_file()


def _stamp(debian: Debian) -> Path:
    return cache_directory() / f"{debian.name}.stamp"


def fetched_root(debian: Debian, programs: Programs) -> Path:
    """Its root, fetched when there is none. Raises `LabError`."""
    root = cache_directory() / debian.name
    if not is_fetched(debian):
        programs.require(["debootstrap"])
        say(f"fetching Debian {debian.name} into {root} (once, some minutes)")
        if root.exists():
            programs.run(["rm", "-rf", "--one-file-system", str(root)], f"removing the unfinished {root}")
        root.mkdir(parents=True)
        packages = QEMU_PACKAGE if debian.suite is None else "ca-certificates"
        command = ["debootstrap", "--variant=minbase", f"--include={packages}", debian.release, str(root)]
        programs.run(command, f"debootstrap {debian.release}", timeout_s=DEBOOTSTRAP_S)
        _install_more(debian, root, programs)
        _stamp(debian).touch()
    return root


def _install_more(debian: Debian, root: Path, programs: Programs) -> None:
    """What is in no release that debootstrap has used, or starts services where it is installed."""
    packages, options = list(debian.also), []
    if debian.suite is not None:
        sources = root / "etc/apt/sources.list"
        mirror = sources.read_text().split()[1]
        sources.write_text(sources.read_text() + f"deb {mirror} {debian.suite} main\n")
        packages, options = [QEMU_PACKAGE, *packages], ["-t", debian.suite]
    if not packages:
        return
    shutil.copyfile("/etc/resolv.conf", root / "etc/resolv.conf")
    refusing = root / "usr/sbin/policy-rc.d"
    refusing.write_text("#!/bin/sh\nexit 101\n")
    refusing.chmod(0o755)
    for words in (["update"], ["install", "--yes", "--no-install-recommends", *options, *packages]):
        command = ["chroot", str(root), "apt-get", "-qq", *words]
        environment = {"DEBIAN_FRONTEND": "noninteractive"}
        programs.run(command, f"apt-get {words[0]} of {debian.name}", timeout_s=DEBOOTSTRAP_S, environment=environment)
