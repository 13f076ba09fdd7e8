"""Where this host has the copies of a guest's disks: as `qemu.command` says it, or as libvirt and `[disks]` do."""

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple, Protocol

from pycolo.check.disks import copy_path
from pycolo.config import DisksOptions, PairConfig
from pycolo.domain.disks import DiskImage, image_of, is_device
from pycolo.domain.host import DomainHost
from pycolo.errors import PeerError, StateError
from pycolo.qmp.diskrules import writable
from pycolo.qmp.diskwords import CommandDisk, Overlays, command_disks, overlays_in
from pycolo.qmp.guestdisks import GuestDisk

_NAME: Final = re.compile(r"[a-z][a-z0-9]*")
"""Of a `<target dev>`, from which files are named."""


FORMATS: Final = ("qcow2", "raw")
"""Of a domain's images; those of a command line are of the user's own choice on each host."""


class Place(NamedTuple):
    """Of one disk."""

    name: str
    path: Path
    format: str
    overlays: Overlays
    """Beside the image, or where `[disks]` says."""
    is_flushed: bool = True
    """Whether QEMU puts on the disk what it has acknowledged, when the guest stops."""
    command: CommandDisk | None = None
    """Its words in `qemu.command`; None: libvirt starts the guest."""
    why_unusable: str = ""
    """What keeps a copy from being there, whatever is there now."""

    @property
    def image(self) -> DiskImage:
        """For libvirt."""
        return DiskImage(self.path, self.format)


def _overlays(config: PairConfig, options: DisksOptions, image: Path, name: str) -> Overlays:
    """Several pairs have disks of one name, and many have their images, or their overlays, in one directory."""
    return overlays_in(options.overlays or image.parent, f"{config.pair}.{name}")


def _why_not(path: Path, names: Sequence[str], options: DisksOptions) -> str:
    """Why a copy cannot be at `path`; "": nothing is known. `names`: the real paths of all copies."""
    if names.count(os.path.realpath(path)) > 1:
        return "two disks would be there: give the images names of their own"
    if is_device(path) and options.overlays is None:
        return "it is a device, so [disks] overlays must name a directory for the overlays"
    if is_device(path) and not path.exists():
        return "there is no such device: make one of the same size"
    return ""


class DiskPlaces(Protocol):
    """Asked for the places before anything is touched."""

    async def find(self, disks: Sequence[GuestDisk]) -> list[Place]:
        """`disks`: the primary's. Raises `PycoloError`."""


def _options(config: PairConfig) -> DisksOptions:
    """Raises `StateError`: the primary's node asks only if its own file has the table."""
    if config.disks is None:
        raise StateError("disks", "without [disks] in its file", "the same tables in both files")
    return config.disks


class CommandPlaces:
    """The node starts the guest: its command line has the disks, whatever the primary has."""

    def __init__(self, config: PairConfig) -> None:
        self._config = config

    async def find(self, disks: Sequence[GuestDisk]) -> list[Place]:
        """See `DiskPlaces`. Raises `ConfigError` for a disk that cannot be copied."""
        options = _options(self._config)
        found = []
        disks_here = command_disks(self._config.qemu.command)
        names = [os.path.realpath(copy_path(self._config, disk)) for disk in disks_here]
        for disk in disks_here:
            path = copy_path(self._config, disk)
            why = _why_not(path, names, options)
            parts = (disk.node, disk.node["file"])
            is_flushed = not any(part.get("cache", {}).get("no-flush") for part in parts)
            overlays = _overlays(self._config, options, path, disk.name)
            found.append(Place(disk.name, path, disk.format, overlays, is_flushed, disk, why))
        return found


class DomainPlaces:
    """libvirt starts the guest: its disks are the primary's, in files of this host."""

    def __init__(self, config: PairConfig, host: DomainHost) -> None:
        self._config = config
        self._host = host

    async def find(self, disks: Sequence[GuestDisk]) -> list[Place]:
        """See `DiskPlaces`. Raises `ConnectError`, `PeerError` when libvirt does not say how the domain is defined."""
        options = _options(self._config)
        copied = writable(disks)
        if strange := [disk.name for disk in copied if not _NAME.fullmatch(disk.name)]:
            raise PeerError(f"disk {strange[0]!r} of the other node's domain has no name of libvirt's")
        own = await self._host.kept_definition()
        images = {disk.name: image_of(disk, own, options.images) for disk in copied}
        if relative := [image.path for image in images.values() if not image.path.is_absolute()]:
            raise PeerError(
                f"an image of the other node's domain is {str(relative[0])!r}, which is no path from the root"
            )
        others = await self._host.users_of([str(image.path) for image in images.values()])
        names = [os.path.realpath(image.path) for image in images.values()]
        found = []
        for disk in copied:
            image = images[disk.name]
            why = ""
            if (other := others.get(str(image.path))) is not None:
                why = f"it is a disk of domain {other} of that host"
            elif image.format not in FORMATS:
                why = f"its format is {image.format}, and only {' and '.join(FORMATS)} are copied"
            else:
                why = _why_not(image.path, names, options)
            overlays = _overlays(self._config, options, image.path, disk.name)
            found.append(Place(disk.name, image.path, image.format, overlays, disk.is_flushed, None, why))
        return found
