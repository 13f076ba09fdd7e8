"""By what a block device is the same one on two hosts, as a LUN is that both see: each would write to the other's disk.

The locks of images hold on one host only, for devices. What the kernel knows of a device's origin is compared instead.
"""

import os
import stat
from pathlib import Path
from typing import Final

SYSFS: Final = Path("/sys/dev/block")

NAMES: Final = ("dm/uuid", "wwid", "device/wwid")
"""Of a logical volume or a multipath device, of NVMe, of SCSI. Below a device's directory in sysfs."""


def unit_of(path: Path, sysfs: Path = SYSFS) -> str:
    """The same text on each host that has the device; "": a file, or nothing is known."""
    try:
        found = path.stat()
    except OSError:
        return ""
    return unit_of_device(found.st_rdev, sysfs) if stat.S_ISBLK(found.st_mode) else ""


def unit_of_device(number: int, sysfs: Path = SYSFS) -> str:
    """Of the device with this number."""
    place = Path(os.path.realpath(sysfs / f"{os.major(number)}:{os.minor(number)}"))
    part = _text(place / "partition")
    if part:
        place = place.parent
    known = next((said for name in NAMES if (said := _text(place / name))), "")
    return f"{known} {part}".strip() if known else ""


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii", errors="replace").strip()
    except OSError:
        return ""
