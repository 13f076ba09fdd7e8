"""The disks in `colo check`: what `protect` would say of their copies, before anything is touched."""

from collections.abc import Sequence
from pathlib import Path

import msgspec

from pycolo.check.disks import NAME
from pycolo.check.guest import GUEST, finding_items
from pycolo.check.hosts import size
from pycolo.check.table import Item, ok, refused
from pycolo.config import PairConfig
from pycolo.errors import PycoloError
from pycolo.qmp.diskprobe import probe_disks
from pycolo.qmp.diskrules import HostImage, judge_disks, judge_images, writable
from pycolo.qmp.guestdisks import GuestDisk
from pycolo.qmp.probe import Facts
from pycolo.vm import diskimages
from pycolo.vm.blockunit import unit_of
from pycolo.vm.diskplaces import DiskPlaces
from pycolo.vm.domainguest import DomainGuest
from pycolo.vm.machine import Machine


async def images_here(
    config: PairConfig, places: DiskPlaces, disks: Sequence[GuestDisk] | None
) -> list[HostImage] | None:
    """What this host has for copies; None without `[disks]`, and where `check.disks` says why it cannot be told.

    `disks`: of the other host's guest; None: not told. A domain's copies depend on them.
    """
    if config.disks is None or (config.guest is not None and disks is None):
        return None
    try:
        return [await diskimages.look(place) for place in await places.find(disks or ())]
    except PycoloError:
        return None


async def guest_disks(
    config: PairConfig, machine: Machine, facts: Facts, domain: DomainGuest | None = None
) -> tuple[list[GuestDisk], list[Item]]:
    """The writable disks of this host's guest, and what keeps them from being copied. Nothing without `[disks]`."""
    if config.disks is None:
        return [], []
    try:
        disks: Sequence[GuestDisk] = await probe_disks(machine)
        if domain is not None:
            disks = await domain.named(disks)
    except PycoloError as error:
        return [], [refused(NAME, str(error))._replace(where=GUEST)]
    disks = [msgspec.structs.replace(disk, unit=unit_of(Path(disk.file))) for disk in disks]
    items = finding_items(judge_disks(disks, facts.commands))
    return writable(disks), [item._replace(where=GUEST) for item in items]


def copy_items(disks: Sequence[GuestDisk], images: Sequence[HostImage] | None) -> list[Item]:
    """Whether the copies of one host's disks fit on the other; nothing where that has not told."""
    if images is None:
        return []
    found = list(finding_items(judge_images(disks, images)))
    return found or [_copy_item(disk, image) for disk in disks for image in images if image.name == disk.name]


def _copy_item(disk: GuestDisk, image: HostImage) -> Item:
    there = "is there and is overwritten" if image.size_bytes else "is made"
    return ok(
        "disk copy",
        f"{disk.name}, {size(disk.size_bytes)}: {image.path} {there}, with room for {size(image.free_bytes)}; "
        f"{size(image.overlay_free_bytes)} for overlays",
    )
