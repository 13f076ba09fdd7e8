"""Where this host has the copies of a guest's disks: as `qemu.command` says it, or as libvirt and `[disks]` do."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

from pycolo.check.disks import copy_path
from pycolo.config import PairConfig
from pycolo.domain.disks import DEVICES, DiskImage, image_of
from pycolo.domain.host import DomainHost
from pycolo.errors import StateError
from pycolo.qmp.diskrules import writable
from pycolo.qmp.diskwords import CommandDisk, command_disks
from pycolo.qmp.guestdisks import GuestDisk


class Place(NamedTuple):
    """Of one disk."""

    name: str
    path: Path
    format: str
    overlays: Path
    """The directory of its overlays."""
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


class DiskPlaces(Protocol):
    """Asked for the places before anything is touched."""

    async def find(self, disks: Sequence[GuestDisk]) -> list[Place]:
        """`disks`: the primary's. Raises `PycoloError`."""


class CommandPlaces:
    """The node starts the guest: its command line has the disks, whatever the primary has."""

    def __init__(self, config: PairConfig) -> None:
        self._config = config

    async def find(self, disks: Sequence[GuestDisk]) -> list[Place]:
        """See `DiskPlaces`. Raises `ConfigError` for a disk that cannot be copied."""
        options = self._config.disks
        if options is None:
            raise StateError("disks", "without [disks] in its file", "the same tables in both files")
        found = []
        for disk in command_disks(self._config.qemu.command):
            path = copy_path(self._config, disk)
            parts = (disk.node, disk.node["file"])
            is_flushed = not any(part.get("cache", {}).get("no-flush") for part in parts)
            found.append(Place(disk.name, path, disk.format, options.overlays or path.parent, is_flushed, disk))
        return found


class DomainPlaces:
    """libvirt starts the guest: its disks are the primary's, in files of this host."""

    def __init__(self, config: PairConfig, host: DomainHost) -> None:
        self._config = config
        self._host = host

    async def find(self, disks: Sequence[GuestDisk]) -> list[Place]:
        """See `DiskPlaces`. Raises `ConnectError`, `PeerError` when libvirt does not say how the domain is defined."""
        options = self._config.disks
        if options is None:
            raise StateError("disks", "without [disks] in its file", "the same tables in both files")
        copied = writable(disks)
        own = await self._host.kept_definition()
        images = {disk.name: image_of(disk, own, options.images) for disk in copied}
        others = await self._host.users_of([str(image.path) for image in images.values()])
        paths = [image.path for image in images.values()]
        found = []
        for disk in copied:
            image = images[disk.name]
            why = ""
            if (other := others.get(str(image.path))) is not None:
                why = f"it is a disk of domain {other} of that host"
            elif paths.count(image.path) > 1:
                why = "two disks would be there: give the images names of their own"
            elif str(image.path).startswith(DEVICES) and options.overlays is None:
                why = "it is a device, so [disks] overlays must name a directory for the overlays"
            elif str(image.path).startswith(DEVICES) and not image.path.exists():
                why = "there is no such device: make one of the same size"
            overlays = options.overlays or image.path.parent
            found.append(Place(disk.name, image.path, image.format, overlays, disk.is_flushed, None, why))
        return found
