"""What `[disks]` needs of this host: the disks of its command line, qemu-img, and room for overlays."""

import os
from pathlib import Path
from typing import Final

from pycolo.check.places import user_name
from pycolo.check.programs import find_program
from pycolo.check.table import Item, ok, refused
from pycolo.config import PairConfig
from pycolo.errors import ConfigError
from pycolo.qmp.diskwords import CommandDisk, command_disks

PROGRAM: Final = "qemu-img"

NAME: Final = "disks"


def disk_items(config: PairConfig) -> list[Item]:
    """Nothing without `[disks]`. Sizes and room are judged with the primary's disks, by `colo protect`."""
    if config.disks is None:
        return []
    try:
        disks = command_disks(config.qemu.command)
    except ConfigError as error:
        return [refused(NAME, str(error))]
    if not disks:
        return [ok(NAME, "qemu.command has no writable disk")]
    _, fault = find_program(PROGRAM)
    if fault:
        return [refused(NAME, f"{fault}; Debian has it in qemu-utils")]
    for disk in disks:
        for directory in _directories(config, disk):
            if (why := _why_unusable(directory)) is not None:
                return [refused(NAME, f"{disk.name}: {why}")]
    return [ok(NAME, ", ".join(f"{disk.name} at {copy_path(config, disk)}" for disk in disks))]


def copy_path(config: PairConfig, disk: CommandDisk) -> Path:
    """Where this host's copy of a disk is."""
    images = None if config.disks is None else config.disks.images
    return disk.path if images is None else images / disk.path.name


def _directories(config: PairConfig, disk: CommandDisk) -> list[Path]:
    place = copy_path(config, disk).parent
    overlays = None if config.disks is None else config.disks.overlays
    return [place if disk.node["file"]["driver"] == "file" else overlays or place, overlays or place]


def _why_unusable(directory: Path) -> str | None:
    """A directory that is missing is made; then the nearest one above it counts."""
    there = next(place for place in (directory, *directory.parents) if place.exists())
    if not there.is_dir():
        return f"{there} is not a directory"
    if not os.access(there, os.W_OK | os.X_OK):
        return f"{there} cannot be written by {user_name()}: change its owner or mode, or name another one in [disks]"
    return None
