"""The folder of the sockets that a domain's QEMU makes: libvirt runs QEMU as a user of its own."""

import os
from pathlib import Path
from typing import Final

from pycolo.domain.user import qemu_user
from pycolo.errors import ConnectError

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
        if (user := qemu_user()) is not None and os.geteuid() == 0:
            os.chown(path, -1, user.pw_gid)
    except OSError as error:
        raise ConnectError(f"qemu.directory {path}: {error.strerror or error}") from error
