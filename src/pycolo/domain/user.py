"""The user whom libvirt runs QEMU as, by its usual names."""

import os
import pwd
from pathlib import Path
from typing import Final

USERS: Final = ("libvirt-qemu", "qemu")
"""Debian's and Fedora's. Where libvirt's qemu.conf names another one, it needs the right to the node's folders."""


def qemu_user() -> pwd.struct_passwd | None:
    """None: this host has neither."""
    for name in USERS:
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    return None


def closed_to(user: pwd.struct_passwd, directory: Path) -> Path | None:
    """The first directory on the way to `directory` that `user` may not pass; None: it gets there.

    What is not there yet is made so that it does.
    """
    for place in reversed((directory, *directory.parents)):
        try:
            found = place.stat()
        except FileNotFoundError:
            return None
        bits = 0o100 if found.st_uid == user.pw_uid else 0o010 if found.st_gid in _groups(user) else 0o001
        if not found.st_mode & bits:
            return place
    return None


def _groups(user: pwd.struct_passwd) -> list[int]:
    return os.getgrouplist(user.pw_name, user.pw_gid)
