"""Why a machine refuses private namespaces, on one line: the refused call, and what to do about it."""

import errno
import os
from pathlib import Path
from typing import Final

from pycolo_lab.errors import LabError

CAP_SYS_ADMIN: Final = 21  # linux/capability.h

NAMESPACES_OF_PROC: Final = "/proc/thread-self/ns/net"

IN_A_CONTAINER: Final = "start the container with --privileged, or with --cap-add SYS_ADMIN and no seccomp profile"


def require_proc() -> None:
    """Raise `LabError` if /proc is not mounted, as in a plain chroot."""
    if not os.access(NAMESPACES_OF_PROC, os.R_OK):
        raise LabError(f"{NAMESPACES_OF_PROC} is missing: mount /proc first (mount -t proc proc /proc)")


def refused_namespaces(call: str, error: OSError) -> LabError:
    """For making mount and network namespaces, as root or in a user namespace."""
    if os.geteuid() != 0:
        return _refused(call, error, f"run it as root, or {_user_namespaces(error)}")
    if has_sys_admin():
        return _refused(call, error, "root is confined here (seccomp, an LSM, a limit): allow the call there")
    return _refused(call, error, f"root has no CAP_SYS_ADMIN here; {IN_A_CONTAINER}, or {_user_namespaces(error)}")


def refused_private_root(error: OSError) -> LabError:
    """For cutting the mounts off from the machine's."""
    cure = "nothing may be mounted here"
    if error.errno == errno.EINVAL:
        cure = "the root is not a mount point (a plain chroot): mount --bind DIR DIR before chroot DIR, and /proc in it"
    return _refused("mount --make-rprivate /", error, cure)


def refused_mount(what: str, error: OSError) -> LabError:
    """For the run's own directory."""
    cure = "nothing may be mounted here"
    if error.errno in (errno.EPERM, errno.EACCES):
        cure = f"a security module (AppArmor, SELinux) confines this process; {IN_A_CONTAINER}"
    return _refused(what, error, cure)


def refused_pids(call: str, error: OSError) -> LabError:
    """For a PID namespace with a /proc of its own."""
    return _refused(
        call, error, f"virtual machines need PID namespaces: run it as root of the machine, or {IN_A_CONTAINER}"
    )


def has_sys_admin() -> bool:
    """Whether this process has the capability that namespaces take."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return True
    effective = next((int(line.split()[1], 16) for line in lines if line.startswith("CapEff:")), 0)
    return bool(effective >> CAP_SYS_ADMIN & 1)


def _refused(call: str, error: OSError, cure: str) -> LabError:
    return LabError(f"no namespaces for the laboratory: {call}: {os.strerror(error.errno or 0)}; {cure}")


def _user_namespaces(error: OSError) -> str:
    """The obstacle to user namespaces, as far as the kernel shows it."""
    for name, forbidding, right in (
        ("user/max_user_namespaces", "0", "10000"),
        ("kernel/unprivileged_userns_clone", "0", "1"),
        ("kernel/apparmor_restrict_unprivileged_userns", "1", "0"),
    ):
        try:
            value = Path("/proc/sys", name).read_text().strip()
        except OSError:
            continue
        if value == forbidding:
            return f"allow user namespaces: sysctl {name.replace('/', '.')}={right} (it is {value})"
    if error.errno == errno.ENOSPC:
        return "allow more user namespaces: sysctl user.max_user_namespaces"
    return "allow user namespaces (a chroot, seccomp or a security module forbids them here)"
