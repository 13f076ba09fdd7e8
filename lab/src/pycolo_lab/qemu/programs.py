"""Programs that the laboratory needs: found, installed as root on Debian, or named in one line."""

import os
import shutil
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from pycolo_lab.errors import LabError
from pycolo_lab.interruption import Interruption
from pycolo_lab.processes import run_to_end

PACKAGES: Final = {
    "qemu-system-x86_64": ("qemu-system-x86",),
    "busybox": ("busybox-static",),
    "gcc": ("gcc", "libc6-dev"),
    "mke2fs": ("e2fsprogs",),
    "unshare": ("util-linux",),
    "qemu-img": ("qemu-utils",),
    "ip": ("iproute2",),
    "tc": ("iproute2",),
    "dpkg": ("dpkg",),
    "apt-get": ("apt",),
    "debootstrap": ("debootstrap",),
    "etcd": ("etcd-server",),
    "corosync": ("corosync",),
    "pacemakerd": ("pacemaker",),
    "crm_mon": ("pacemaker-cli-utils",),
    "crm": ("crmsh",),
    "pcs": ("pcs",),
    "ocf-tester": ("resource-agents",),
    "xmllint": ("libxml2-utils",),
    "nsenter": ("util-linux",),
    "libvirtd": ("libvirt-daemon", "libvirt-daemon-driver-qemu"),
    "virsh": ("libvirt-clients",),
    "pgbench": ("postgresql-contrib",),
    "psql": ("postgresql-client",),
    "redis-benchmark": ("redis-tools",),
    "scp": ("openssh-client",),
    "ssh": ("openssh-client",),
    "ab": ("apache2-utils",),
}
"""Program -> Debian packages that bring it."""

APT_TIMEOUT_S: Final = 600
"""For one call of apt-get: QEMU and what it needs are 60 MB."""

WORDS_SHOWN: Final = 3
"""Last lines of a program that failed, in the error."""


class Programs:
    """Runs programs to their end, for as long as nothing interrupts."""

    def __init__(self, interruption: Interruption) -> None:
        self._interruption = interruption

    def require(self, names: Iterable[str]) -> None:
        """Ensure that these programs are on PATH; as root on Debian, install missing ones.

        Raises `LabError` naming the packages.
        """
        wanted = list(names)
        missing = missing_of(wanted)
        if not missing:
            return
        packages = packages_of(missing)
        if may_install():
            say(f"installing Debian packages: {' '.join(packages)}")
            self.apt("update", required=False)
            self.apt("install", "--yes", "--no-install-recommends", *packages, required=False)
            missing = missing_of(wanted)
        if missing:
            raise LabError(f"{', '.join(missing)} missing: as root, apt-get install {' '.join(packages)}")

    def apt(self, *words: str, directory: Path | None = None, required: bool = True) -> bool:
        """Call apt-get; returns whether it succeeded. Raises `LabError` when it is `required` to."""
        return self.run(
            ["apt-get", "-qq", *words],
            f"apt-get {words[0]}",
            directory=directory,
            required=required,
            # With a run level packages start no service of their own where systemd does not do it.
            environment={"DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"},
            ends_in_order=words[0] == "install",
        )

    def run(
        self,
        command: list[str],
        what: str,
        *,
        directory: Path | None = None,
        required: bool = True,
        environment: dict[str, str] | None = None,
        timeout_s: float = APT_TIMEOUT_S,
        ends_in_order: bool = False,
    ) -> bool:
        """Run a program to its end; returns whether it succeeded. Raises `LabError` when it is `required` to."""
        done = run_to_end(
            command,
            self._interruption,
            timeout_s=timeout_s,
            directory=directory,
            environment=environment,
            ends_in_order=ends_in_order,
        )
        if done is None:
            raise LabError(f"{what} did not end within {timeout_s:.0f} s")
        if done.returncode != 0 and required:
            raise LabError(f"{what} failed: {_words(done.stderr or done.stdout, done.returncode)}")
        return done.returncode == 0

    def output_of(self, command: list[str], what: str, timeout_s: float = 60) -> str:
        """Standard output of a program. Raises `LabError` when it fails."""
        done = run_to_end(command, self._interruption, timeout_s=timeout_s)
        if done is None:
            raise LabError(f"{what}: {command[0]} did not end within {timeout_s:.0f} s")
        if done.returncode != 0:
            raise LabError(f"{what} failed: {_words(done.stderr, done.returncode)}")
        return done.stdout


def missing_of(programs: Iterable[str]) -> list[str]:
    """Those that are not on PATH."""
    return [name for name in programs if shutil.which(name) is None]


def packages_of(programs: Iterable[str]) -> list[str]:
    """The Debian packages that bring them."""
    return sorted({package for name in programs for package in PACKAGES.get(name, (name,))})


def may_install() -> bool:
    """Whether this user may install what is missing, on this system."""
    return os.geteuid() == 0 and shutil.which("apt-get") is not None


def _words(said: str, code: int) -> str:
    return " | ".join(said.strip().splitlines()[-WORDS_SHOWN:]) or f"exit code {code}"


def say(text: str) -> None:
    """Tell the user about a step that takes a while."""
    print(text, file=sys.stderr, flush=True)
