"""TAP devices: those that a process has open, and the node's own, which outlives the node."""

import fcntl
import os
import re
import struct
from pathlib import Path
from typing import Final

from pycolo.errors import ConnectError

# linux/if_tun.h
_TUN_DEVICE: Final = "/dev/net/tun"
_TUNSETIFF: Final = 0x400454CA
_TUNSETPERSIST: Final = 0x400454CB
_IFF_TAP_VNET: Final = 0x0002 | 0x1000 | 0x4000
"""IFF_TAP, IFF_NO_PI and IFF_VNET_HDR: as the node's port opens it."""


def taps_of_process(pid: int, proc: Path = Path("/proc")) -> list[str]:
    """Names of the TAP devices that a process has open, in the order of its descriptors, each once.

    Also of those that were opened for it and passed as descriptors.
    """
    folder = proc / str(pid) / "fdinfo"
    found: dict[str, None] = {}
    try:
        for entry in sorted(folder.iterdir(), key=lambda path: int(path.name)):
            name = _tap_of(entry)
            if name is not None:
                found[name] = None
    except OSError as error:
        raise ConnectError(f"process {pid}: {folder} cannot be read: {error.strerror or error}") from error
    return list(found)


def _tap_of(entry: Path) -> str | None:
    try:
        said = entry.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:  # closed meanwhile
        return None
    matched = re.search(r"^iff:\t(.+)$", said, flags=re.MULTILINE)
    return matched[1] if matched else None


def make_tap(name: str) -> None:
    """Make a TAP device that is there until it is deleted, or leave the one that is there."""
    try:
        fd = os.open(_TUN_DEVICE, os.O_RDWR | os.O_CLOEXEC)
        try:
            fcntl.ioctl(fd, _TUNSETIFF, struct.pack("16sH22x", name.encode(), _IFF_TAP_VNET))
            fcntl.ioctl(fd, _TUNSETPERSIST, 1)
        finally:
            os.close(fd)
    except OSError as error:
        raise ConnectError(f"{name}: {_TUN_DEVICE}: {error.strerror or error}") from error
