"""A guest's disks, as QEMU describes them: who uses which block node, where in the machine, and how large it is.

Pure. `pycolo.qmp.diskrules` judges them; `pycolo.qmp.diskprobe` asks QEMU.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Final

import msgspec

VIRTIO_BACKEND: Final = "/virtio-backend"
"""QEMU names a virtio device by the part behind the transport; the properties are those of the device before it."""

PERIPHERAL: Final = "/machine/peripheral/"

PFLASH: Final = "pflash"
"""Firmware is no disk of the guest: `pycolo.qmp.judge` decides about it."""


class GuestDisk(msgspec.Struct, frozen=True, kw_only=True):
    """One device of the guest with a medium."""

    name: str
    """What the device's `drive` property says: a block node's name, or a -drive's id. For a domain it is libvirt's name
    of the disk. It is the same on both hosts.
    """
    device: str
    """The id in -device; "" without one."""
    kind: str
    """The device's QOM type."""
    place: str
    """Where the guest finds it: the bus, then the address there."""
    size_bytes: int
    """What the guest sees."""
    used_bytes: int
    """What it takes on this host."""
    format: str
    """The driver of its uppermost node; "replication" in a guest that was a secondary before."""
    file: str
    is_writable: bool
    iothread: str
    """The QOM path of the iothread that serves it, or of the first one; "": the main loop does."""
    has_generated_name: bool
    """QEMU has made the name up, so that another QEMU gives another one."""
    node: str = ""
    """Its uppermost block node, whatever `name` is. An older node of the pair does not say it."""
    is_flushed: bool = True
    """Of a domain of libvirt: whether QEMU puts on the disk what it has acknowledged, when the guest stops."""
    unit: str = ""
    """What names the block device that it is on, on each host that has that; "": a file, or nothing is known."""

    @property
    def shown(self) -> str:
        """For messages."""
        return f"disk {self.name} ({self.kind} at {self.place})"


def device_path(block: Mapping[str, Any]) -> str | None:
    """The QOM path of the device that uses an entry of query-block; None: no device does, or the tray is empty.

    QEMU says a path for a virtio device, and for others their id if they have one.
    """
    qdev = block.get("qdev")
    if not qdev or not block.get("inserted") or str(block.get("device", "")).startswith(PFLASH):
        return None
    path = qdev if qdev.startswith("/") else PERIPHERAL + qdev
    return str(path).removesuffix(VIRTIO_BACKEND)


def guest_disks(blocks: Iterable[Mapping[str, Any]], devices: Mapping[str, Mapping[str, Any]]) -> tuple[GuestDisk, ...]:
    """`blocks`: the answer to query-block. `devices`: QOM path → the device's properties, see `DEVICE_PROPERTIES`."""
    found = []
    for block in blocks:
        path = device_path(block)
        if path is not None:
            found.append(_disk(block, path, devices[path]))
    return tuple(sorted(found, key=lambda disk: (disk.place, disk.name)))


DEVICE_PROPERTIES: Final = (
    "type",
    "drive",
    "parent_bus",
    "addr",
    "unit",
    "channel",
    "scsi-id",
    "lun",
    "iothread",
    "iothread-vq-mapping",
)
"""Of a disk's device, each where it has it."""


def _disk(block: Mapping[str, Any], path: str, properties: Mapping[str, Any]) -> GuestDisk:
    inserted = block["inserted"]
    image = inserted["image"]
    name = str(properties.get("drive") or block.get("device") or inserted.get("node-name", ""))
    return GuestDisk(
        name=name,
        device=path.removeprefix(PERIPHERAL) if path.startswith(PERIPHERAL) else "",
        kind=str(properties["type"]),
        place=_place(properties),
        size_bytes=int(image["virtual-size"]),
        used_bytes=int(image.get("actual-size", image["virtual-size"])),
        format=str(inserted["drv"]),
        file=str(inserted["file"]),
        is_writable=not inserted["ro"],
        iothread=_iothread(properties),
        has_generated_name=name.startswith("#"),
        node=str(inserted.get("node-name", "")),
    )


def _place(properties: Mapping[str, Any]) -> str:
    bus = str(properties.get("parent_bus") or "").rpartition("/")[2]
    if "addr" in properties:  # PCI's device and function
        address = f"{properties['addr'] >> 3:02x}.{properties['addr'] & 7}"
    elif "scsi-id" in properties:
        address = ":".join(str(properties.get(part, 0)) for part in ("channel", "scsi-id", "lun"))
    else:
        address = str(properties.get("unit", ""))
    return f"{bus} {address}".strip() or "a place of its own"


def _iothread(properties: Mapping[str, Any]) -> str:
    if found := properties.get("iothread"):
        return str(found)
    mapping = properties.get("iothread-vq-mapping") or ()
    return next((str(entry.get("iothread", "")) for entry in mapping), "")
