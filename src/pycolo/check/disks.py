"""What `[disks]` needs of this host: the disks of its command line, qemu-img, and room for overlays."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from pycolo.check.places import user_name
from pycolo.check.programs import find_program
from pycolo.check.table import Item, ok, refused
from pycolo.config import PairConfig
from pycolo.domain.disks import disk_refusals, is_device, writable_disks
from pycolo.domain.user import closed_to, qemu_user
from pycolo.errors import ConfigError
from pycolo.qmp.diskwords import CommandDisk, command_disks

PROGRAM: Final = "qemu-img"

NAME: Final = "disks"

COPIED_BY_TABLE: Final = "a table [disks], which may be empty, in both files has it copied to the other host"


def disk_items(config: PairConfig) -> list[Item]:
    """Nothing without `[disks]`. Sizes and room are judged with the primary's disks, by `colo protect`. A domain's
    disks are in `domain_disk_items`.
    """
    if config.disks is None or config.guest is not None:
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


def domain_disk_items(config: PairConfig, xml: str | None) -> Iterator[Item]:
    """`xml`: the domain, as this host's libvirt knows it; None: it does not. Blocks."""
    disks = writable_disks(xml) if xml is not None else ()
    options = config.disks
    if options is None:
        for disk in disks:
            place = f" ({disk.image.path})" if disk.image is not None else ""
            yield refused(NAME, f"{disk.name}{place} is writable: {COPIED_BY_TABLE}")
        return
    if xml is not None and (whys := disk_refusals(xml)):
        yield from (refused(NAME, why) for why in whys)
        return
    _, fault = find_program(PROGRAM)
    if fault and (disks or xml is None):
        yield refused(NAME, f"{fault}; Debian has it in qemu-utils")
        return
    places = {disk.name: disk.image.path for disk in disks if disk.image is not None}
    folders = [options.images, options.overlays]
    for path in places.values():
        folders += [None if is_device(path) else path.parent, options.overlays or path.parent]
    for folder in dict.fromkeys(folder for folder in folders if folder is not None):
        if (why := _why_unusable(folder) or _why_closed(folder)) is not None:
            yield refused(NAME, why)
            return
    if xml is not None:
        yield ok(NAME, ", ".join(f"{name} at {path}" for name, path in places.items()) or "no disk is writable")


def _why_closed(folder: Path) -> str | None:
    """Whether libvirt's QEMU gets there; not known where it is run by a user with another name."""
    user = qemu_user()
    if user is None or (closed := closed_to(user, folder)) is None:
        return None
    return f"{folder} cannot be reached by QEMU's user {user.pw_name}: chmod o+x {closed}"


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
