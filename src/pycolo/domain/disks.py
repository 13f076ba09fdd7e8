"""The disks of a domain's definition: where a host has their images, the secondary's form, what cannot be copied.

A disk's name is that of its `<target dev='…'/>`: libvirt numbers QEMU's block nodes anew at each start, and differently
where a disk was attached later. Pure: XML in, XML out.
"""

import xml.etree.ElementTree as ET
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from pycolo.domain.definition import parsed, written
from pycolo.errors import PeerError
from pycolo.qmp.guestdisks import GuestDisk

LOCAL: Final[Mapping[str, str]] = {"file": "file", "block": "dev"}
"""libvirt's types of a source that is an image of the host itself, and the attribute with its path."""

NEVER_FLUSHED: Final = "unsafe"
"""The cache mode in which QEMU puts nothing on the disk by itself."""


class DomainDisk(NamedTuple):
    """A disk that the guest may write to."""

    name: str
    device: str
    """The id of its device in QEMU; "" in the definition of a domain that does not run."""
    kind: str
    """libvirt's type: "file", "block", "network" …"""
    image: "DiskImage | None"
    """None: it is not one of this host's files or devices."""
    is_flushed: bool
    """Whether QEMU puts on the disk what it has acknowledged, when the guest stops."""


class DiskImage(NamedTuple):
    """Where a host has a disk."""

    path: Path
    format: str


def is_device(path: Path) -> bool:
    """Whether an image is a device of the host, by its path."""
    return path.is_relative_to("/dev") and not path.is_relative_to("/dev/shm")  # noqa: S108 - told apart, not used


def writable_disks(xml: str) -> tuple[DomainDisk, ...]:
    """In their order. CD-ROMs and read-only disks are none. Raises `PeerError` for what is no definition."""
    return tuple(_disk(element) for element in _writable(parsed(xml)))


def _writable(root: ET.Element) -> list[ET.Element]:
    return [
        element
        for element in root.iterfind("devices/disk")
        if element.get("device", "disk") in ("disk", "lun") and element.find("readonly") is None
    ]


def _disk(element: ET.Element) -> DomainDisk:
    alias, kind = element.find("alias"), element.get("type", "")
    path, driver = _path(element), element.find("driver")
    form, cache = (driver.get("type", "raw"), driver.get("cache", "")) if driver is not None else ("raw", "")
    return DomainDisk(
        name=_name(element),
        device=alias.get("name", "") if alias is not None else "",
        kind=kind,
        image=DiskImage(Path(path), form) if path else None,
        is_flushed=cache != NEVER_FLUSHED,
    )


def _name(element: ET.Element) -> str:
    target = element.find("target")
    return target.get("dev", "") if target is not None else ""


def _path(element: ET.Element) -> str:
    source, attribute = element.find("source"), LOCAL.get(element.get("type", ""))
    return source.get(attribute, "") if source is not None and attribute is not None else ""


def used_paths(xml: str) -> tuple[str, ...]:
    """All images and ISO files of a domain on this host, with those below them, as far as its definition names them."""
    return tuple(
        path
        for disk in parsed(xml).iterfind("devices/disk")
        for element in (disk, *disk.iter("backingStore"), *disk.iter("mirror"))
        if (path := _path(element))
    )


def read_only_paths(xml: str) -> tuple[str, ...]:
    """Images and ISO files that each host needs at the same path: they are not copied."""
    root = parsed(xml)
    copied = _writable(root)
    return tuple(
        path for element in root.iterfind("devices/disk") if element not in copied and (path := _path(element))
    )


# ── of the guest that runs ──────────────────────────────────────────────────────────────────────────────────


def named(disks: Iterable[GuestDisk], xml: str) -> list[GuestDisk]:
    """QEMU's account of the disks of a domain that runs, with the names and the images of its definition.

    A former secondary's uppermost block node says nothing of either.
    """
    known = {disk.device: disk for disk in writable_disks(xml)}
    found = []
    for disk in disks:
        of_domain = known.get(disk.device)
        if of_domain is not None and of_domain.image is not None:
            disk = msgspec.structs.replace(
                disk,
                name=of_domain.name,
                file=str(of_domain.image.path),
                format=of_domain.image.format,
                is_flushed=of_domain.is_flushed,
                has_generated_name=False,
            )
        found.append(disk)
    return found


# ── on the other host ───────────────────────────────────────────────────────────────────────────────────────


def image_of(disk: GuestDisk, own: str | None, images: Path | None) -> DiskImage:
    """Where this host has, or will have, the copy of a disk of the other one's domain: where its own definition of the
    domain says, else in the directory `images`, else at the same path.
    """
    for mine in writable_disks(own) if own is not None else ():
        if mine.name == disk.name and mine.image is not None:
            return mine.image
    path = Path(disk.file)
    return DiskImage(path if images is None else images / path.name, disk.format)


def with_images(xml: str, images: Mapping[str, DiskImage]) -> str:
    """A definition with this host's images in it, by the disks' names."""
    root = parsed(xml)
    for element in _writable(root):
        if (image := images.get(_name(element))) is not None:
            _put(element, image)
    return written(root)


def _put(element: ET.Element, image: DiskImage) -> None:
    kind = "block" if is_device(image.path) else "file"
    source, driver = element.find("source"), element.find("driver")
    if source is None:
        source = ET.SubElement(element, "source")
    if driver is None:
        driver = ET.SubElement(element, "driver", name="qemu")
    for attribute in (*LOCAL.values(), "index"):
        source.attrib.pop(attribute, None)
    element.set("type", kind)
    source.set(LOCAL[kind], str(image.path))
    driver.set("type", image.format)
    for below in element.findall("backingStore"):
        element.remove(below)


def secondary_disks(xml: str, images: Mapping[str, DiskImage]) -> str:
    """The secondary's definition with this host's copies in it.

    Without iothreads, with which a secondary aborts at a failover; and errors are reported to the guest: one that stops
    for them does not survive the next checkpoint. Raises `PeerError` for a disk that would be written to and is not
    copied.
    """
    root = parsed(xml)
    for element in _writable(root):
        image = images.get(_name(element))
        if image is None:
            raise PeerError(f"disk {_name(element)} of the primary's domain is not among those that are copied")
        _put(element, image)
        driver = element.find("driver")
        assert driver is not None, "just put there"
        _remove_iothreads(driver)
        driver.set("error_policy", "report")
        driver.set("rerror_policy", "report")
    if images:
        for driver in root.iterfind("devices/controller[@type='scsi']/driver"):
            _remove_iothreads(driver)
    return written(root)


def _remove_iothreads(driver: ET.Element) -> None:
    driver.attrib.pop("iothread", None)
    for mapping in driver.findall("iothreads"):
        driver.remove(mapping)


# ── what cannot be copied ───────────────────────────────────────────────────────────────────────────────────

_BUSES: Final = ("virtio", "scsi", "sata", "ide")
"""Those of the devices in `pycolo.qmp.diskrules`, SUPPORTED."""

_REFUSED: Final[Sequence[tuple[str, str]]] = (
    ("shareable", "is shared with other guests (<shareable/>), whose writes would not be copied: detach it"),
    ("transient", "is thrown away when the guest ends (<transient/>): remove that, or make the disk read-only"),
    ("encryption", "is encrypted by QEMU (<encryption>), which is not copied: encrypt inside the guest instead"),
    ("source/encryption", "is encrypted by QEMU (<encryption>), which is not copied: encrypt inside the guest instead"),
    ("source/slices", "is a part of a file (<slices>), which cannot be copied: give it a file of its own"),
    (
        "source/dataStore",
        "keeps its data in another file (<dataStore>), which is not copied: qemu-img convert makes one",
    ),
    ("mirror", "is being copied by libvirt (<mirror>): virsh blockjob {domain} {name} --abort"),
    ("backingStore/source", "has a backing file, which is not copied: virsh blockpull {domain} {name} --wait"),
)
"""Below a `<disk>`, and why it cannot be copied."""


def _floppies(root: ET.Element) -> list[str]:
    """Those with a medium that is not read-only."""
    return [
        _name(element)
        for element in root.iterfind("devices/disk[@device='floppy']")
        if element.find("source") is not None and element.find("readonly") is None
    ]


def disk_refusals(xml: str) -> tuple[str, ...]:
    """Why disks of a domain cannot be copied, each on one line with what to do; empty: nothing is known."""
    root = parsed(xml)
    domain, found = root.findtext("name", ""), []
    found += [f"its floppy disk {name} may be written to, and is not copied: eject it" for name in _floppies(root)]
    for element in _writable(root):
        name, kind, driver = _name(element), element.get("type", ""), element.find("driver")
        target = element.find("target")
        bus = target.get("bus", "") if target is not None else ""
        if bus and bus not in _BUSES:
            found.append(
                f"its disk {name} is on a bus of type {bus!r}, and only those on {', '.join(_BUSES)} are copied: "
                "virsh edit, <target dev='…' bus='virtio'/>, or make it read-only"
            )
        if kind not in LOCAL:
            found.append(
                f"its disk {name} has a source of type {kind!r}, and only those of type 'file' and 'block' are copied: "
                "virsh edit, <disk type='file'> with <source file='…'/>"
            )
        elif element.get("device") == "lun":
            found.append(f"its disk {name} is passed through (device='lun'), and cannot be copied: make it a 'disk'")
        elif driver is not None and driver.get("copy_on_read") == "on":
            found.append(f"its disk {name} has copy_on_read='on', which has not been tried: remove that")
        for path, why in _REFUSED:
            if element.find(path) is not None:
                found.append(f"its disk {name} {why.format(domain=domain, name=name)}")
    return tuple(dict.fromkeys(found))
