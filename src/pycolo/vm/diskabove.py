"""Puts a secondary's overlays above the disk of a QEMU that libvirt has started, while that waits for its first state.

libvirt's command line and its definition of the domain have the image alone: so they stay true when the overlays are
gone, and a survivor that is saved, restored or migrated later is started without them. What QEMU leaves above the image
of a survivor is taken away, where QEMU can.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from pycolo.errors import PeerError
from pycolo.qmp.diskprobe import Executes, probe_disks
from pycolo.qmp.diskwords import Nodes, Overlays, replication_node
from pycolo.qmp.guestdisks import PERIPHERAL, GuestDisk

WAKING: Final = "-waking"
"""Of the id of an export that is there for a moment."""


async def devices_of(machine: Executes) -> dict[str, GuestDisk]:
    """The disks as libvirt has started them, by their devices' ids. Raises `PeerError`, `ConnectError`."""
    return {disk.device: disk for disk in await probe_disks(machine)}


async def put_above(machine: Executes, names: Nodes, disk: GuestDisk, path: Path, overlays: Overlays) -> None:
    """`disk` is one of `devices_of`, and has to have its image at `path`. Raises `PeerError`, `ConnectError`."""
    if Path(disk.file) != path:
        raise PeerError(f"libvirt has started {disk.shown} with the image {disk.file}, not with the copy {path}")
    await machine.execute("blockdev-add", replication_node(names, names.top, overlays, disk.node))
    # QEMU adds nodes as inactive ones while it waits for a migration, and no device may write to them; exporting one
    # makes it active.
    waking = f"{names.export}{WAKING}"
    await machine.execute(
        "block-export-add", {"type": "nbd", "id": waking, "node-name": names.top, "name": waking, "writable": True}
    )
    try:
        place = {"path": f"{PERIPHERAL}{disk.device}", "property": "drive"}
        await machine.execute("qom-set", {**place, "value": names.top})
    finally:
        await machine.execute("block-export-del", {"id": waking, "mode": "hard"})


class Above(NamedTuple):
    """A survivor's disk."""

    device: str
    """The id of its device."""
    top: str
    """The replication node, which has nothing to do any more."""
    image: str
    """libvirt's node, below it."""


async def take_away(machine: Executes, disks: Sequence[Above], may_run: Callable[[], bool]) -> bool:
    """Let the devices of a guest that runs have their images again, as libvirt has started them; it stands still for
    some milliseconds. False: this QEMU cannot (10.0 and later can), or the guest does not run.

    Replication wants to write to the image as long as it is active, and the device shares that with no other writer.
    So it is made inactive first, and for that the guest must stand still. `may_run()`: whether it may go on then. What
    fails leaves the guest as it was. Raises `PeerError`, `ConnectError`.
    """
    known = {command["name"] for command in await machine.execute("query-commands")}
    if "blockdev-set-active" not in known or not (await machine.execute("query-status"))["running"]:
        return False
    await machine.execute("stop")
    try:
        for disk in disks:
            await machine.execute("blockdev-set-active", {"node-name": disk.top, "active": False})
            place = {"path": f"{PERIPHERAL}{disk.device}", "property": "drive"}
            await machine.execute("qom-set", {**place, "value": disk.image})
            await machine.execute("blockdev-del", {"node-name": disk.top})
            await machine.execute("blockdev-set-active", {"node-name": disk.image, "active": True})
    finally:
        if may_run():
            await machine.execute("cont")  # makes active what is not
    return True
