"""What has to be installed for the laboratory: found, installed as root on Debian, or named in one line."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from pycolo.lab.errors import LabError

PACKAGES: Final = {
    "qemu-system-x86_64": ("qemu-system-x86",),
    "busybox": ("busybox-static",),
    "gcc": ("gcc", "libc6-dev"),
    "ip": ("iproute2",),
    "tc": ("iproute2",),
    "dpkg": ("dpkg",),
    "apt-get": ("apt",),
    "debootstrap": ("debootstrap",),
    "etcd": ("etcd-server",),
}
"""Program -> Debian packages that bring it."""

APT_TIMEOUT_S: Final = 600
"""For one call of apt-get: QEMU and what it needs are 60 MB."""

WORDS_SHOWN: Final = 3
"""Last lines of a program that failed, in the error."""


def require(programs: Iterable[str]) -> None:
    """See to it that these programs are on PATH; installs what is missing as root on Debian.

    Raises `LabError` naming the packages.
    """
    missing = [name for name in programs if shutil.which(name) is None]
    if not missing:
        return
    packages = sorted({package for name in missing for package in PACKAGES.get(name, (name,))})
    if os.geteuid() == 0 and shutil.which("apt-get"):
        say(f"installing Debian packages: {' '.join(packages)}")
        apt("update", required=False)
        apt("install", "--yes", "--no-install-recommends", *packages, required=False)
        missing = [name for name in missing if shutil.which(name) is None]
    if missing:
        raise LabError(f"{', '.join(missing)} missing: as root, apt-get install {' '.join(packages)}")


def apt(*words: str, directory: Path | None = None, required: bool = True) -> bool:
    """Call apt-get; returns whether it succeeded. Raises `LabError` when it is `required` to."""
    return run(
        ["apt-get", "-qq", *words],
        f"apt-get {words[0]}",
        directory=directory,
        required=required,
        environment={"DEBIAN_FRONTEND": "noninteractive"},
    )


def run(
    command: list[str],
    what: str,
    *,
    directory: Path | None = None,
    required: bool = True,
    environment: dict[str, str] | None = None,
    timeout_s: float = APT_TIMEOUT_S,
) -> bool:
    """Run a program to its end; returns whether it succeeded. Raises `LabError` when it is `required` to."""
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            errors="replace",
            stdin=subprocess.DEVNULL,
            timeout=timeout_s,
            check=False,
            cwd=directory,
            env={**os.environ, **(environment or {})},
        )
    except FileNotFoundError as error:
        raise LabError(f"{what}: {command[0]} is not installed") from error
    except subprocess.TimeoutExpired as error:
        raise LabError(f"{what} did not end within {timeout_s:.0f} s") from error
    if done.returncode != 0 and required:
        words = (done.stderr or done.stdout).strip().splitlines()[-WORDS_SHOWN:]
        raise LabError(f"{what} failed: {' | '.join(words) or f'exit code {done.returncode}'}")
    return done.returncode == 0


def output_of(command: list[str], what: str, timeout_s: float = 60) -> str:
    """Standard output of a program. Raises `LabError` when it fails."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=timeout_s, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise LabError(f"{what}: {command[0]}: {error}") from error
    if done.returncode != 0:
        words = done.stderr.strip().splitlines()[-WORDS_SHOWN:]
        raise LabError(f"{what} failed: {' | '.join(words) or f'exit code {done.returncode}'}")
    return done.stdout


def say(text: str) -> None:
    """Tell the user what takes a while."""
    print(text, file=sys.stderr, flush=True)
