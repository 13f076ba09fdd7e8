"""The requirements of a run, checked before anything is installed or built; one line names what is missing."""

import os
import shutil
from pathlib import Path
from typing import Final

from pycolo_lab.errors import LabError, LabUsageError
from pycolo_lab.interruption import Interruption
from pycolo_lab.namespaces import run_isolated, run_with_own_pids
from pycolo_lab.qemu import debian
from pycolo_lab.qemu.image import IMAGE_PROGRAMS, cache_directory, is_image_there
from pycolo_lab.qemu.machine import GUESTS, PROGRAM
from pycolo_lab.qemu.options import QemuLabOptions
from pycolo_lab.qemu.otherdebian import DEBIAN_VERSIONS, is_fetched
from pycolo_lab.qemu.programs import may_install, missing_of, packages_of
from pycolo_lab.topology import require_tun

IMAGE_BYTES: Final = 500_000_000
"""Disk space for building the guest's image: Debian's kernel, packed and unpacked, and its servers' packages."""

KVM: Final = "/dev/kvm"

DEBIAN_BYTES: Final = 2_500_000_000
"""Disk space for another Debian with a QEMU."""


def check_options(options: QemuLabOptions) -> None:
    """Raise `LabUsageError` for contradictory options."""
    if options.hold:
        for name, is_given in (
            ("--scenario", bool(options.scenarios)),
            ("--rounds", options.rounds is not None),
            ("--json", options.as_json),
        ):
            if is_given:
                raise LabUsageError(f"{name} contradicts --hold: a held pair runs no scenario")
    elif options.arbiter is not None:
        raise LabUsageError("--arbiter applies to a held pair only (--hold): each scenario has its own")
    wanted = options.qemu
    if wanted is not None and wanted not in DEBIAN_VERSIONS:
        if "/" not in wanted:
            known = ", ".join(DEBIAN_VERSIONS)
            raise LabUsageError(f"--qemu {wanted}: neither an available version ({known}) nor the path of a QEMU")
        if not os.access(wanted, os.X_OK) or Path(wanted).is_dir():
            raise LabUsageError(f"--qemu {wanted}: there is no program there that this user may run")


def check_machine(options: QemuLabOptions, *, with_etcd: bool, interruption: Interruption) -> int:
    """0 if this machine and this user meet the requirements; otherwise the exit code of a child that has said why.

    Raises `LabError` too.
    """
    if os.uname().machine != "x86_64":
        raise LabError(f"the QEMU laboratory needs an x86-64 machine, this is {os.uname().machine}")
    if options.accelerator == "kvm":
        _check_kvm()
    if _is_debian_missing(options) and os.geteuid() != 0:
        raise LabError(
            "building the Debian guest needs root (debootstrap): run it as root once, or use another --guest"
        )
    missing = missing_of(_programs(options, with_etcd=with_etcd))
    if missing and not may_install():
        packages = " ".join(packages_of(missing))
        raise LabError(f"{', '.join(missing)} missing: as root on Debian, apt-get install {packages}")
    _check_room(options)

    def look(_directory: Path) -> int:
        require_tun()
        return run_with_own_pids(lambda _pid: 0, interruption)

    return run_isolated(look, interruption)


def _programs(options: QemuLabOptions, *, with_etcd: bool) -> list[str]:
    programs = ["ip", *(["etcd"] if with_etcd else []), *([PROGRAM] if options.qemu is None else [])]
    if not is_image_there():
        programs += IMAGE_PROGRAMS
    if options.qemu in DEBIAN_VERSIONS and not is_fetched(DEBIAN_VERSIONS[options.qemu]):
        programs.append("debootstrap")
    if _is_debian_missing(options):
        programs += debian.PROGRAMS
    return programs


def _is_debian_missing(options: QemuLabOptions) -> bool:
    return GUESTS[options.guest].is_debian and not debian.is_there(cache_directory())


def _check_kvm() -> None:
    try:
        os.close(os.open(KVM, os.O_RDWR | os.O_CLOEXEC))
    except OSError as error:
        raise LabError(f"--accel kvm: {KVM}: {error.strerror}; --accel tcg needs none") from error


def _check_room(options: QemuLabOptions) -> None:
    needed = 0 if is_image_there() else IMAGE_BYTES
    if options.qemu in DEBIAN_VERSIONS and not is_fetched(DEBIAN_VERSIONS[options.qemu]):
        needed += DEBIAN_BYTES
    if _is_debian_missing(options):
        needed += debian.BUILD_BYTES
    if not needed:
        return
    folder = cache_directory()
    there = next(parent for parent in (folder, *folder.parents) if parent.is_dir())
    if not os.access(there, os.W_OK | os.X_OK):
        raise LabError(f"{folder} cannot be created: this user may not write to {there}; run it as root, or elsewhere")
    free = shutil.disk_usage(there).free
    if free < needed:
        raise LabError(f"{there} has room for {free / 1e6:,.0f} MB, building needs {needed / 1e6:,.0f} MB: make room")
