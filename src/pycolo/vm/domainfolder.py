"""The folder of the sockets that a domain's QEMU makes: libvirt runs QEMU as a user of its own."""

import os
import pwd
from pathlib import Path
from typing import Final

from pycolo.errors import ConnectError

USERS: Final = ("libvirt-qemu", "qemu")
"""Debian's and Fedora's. Where libvirt's qemu.conf names another one, it needs the folder's group."""

MODE: Final = 0o770

PASSABLE: Final = 0o711
"""Of what is above it: others may pass, but not list it."""


def make_folder(path: Path) -> None:
    """Make it, with the node's user and the group of libvirt's QEMU. A folder that is there keeps its owner.

    Raises `ConnectError`.
    """
    try:
        if path.is_dir():
            return
        for parent in reversed([one for one in path.parents if not one.exists()]):
            parent.mkdir()
            parent.chmod(PASSABLE)
        path.mkdir()
        path.chmod(MODE)
        if (group := _group()) is not None and os.geteuid() == 0:
            os.chown(path, -1, group)
    except OSError as error:
        raise ConnectError(f"qemu.directory {path}: {error.strerror or error}") from error


def _group() -> int | None:
    for name in USERS:
        try:
            return pwd.getpwnam(name).pw_gid
        except KeyError:
            continue
    return None
