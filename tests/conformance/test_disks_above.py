"""A real QEMU that waits for a migration, with disks as libvirt starts them: each gets its overlays above it."""

import asyncio
import json
import subprocess
from pathlib import Path

import pytest

from conformance.test_qmp_qemu import Qemu
from pycolo.errors import PeerError
from pycolo.qmp.diskwords import Nodes, overlays_in
from pycolo.vm import diskimages
from pycolo.vm.diskabove import devices_of, put_above

pytestmark = pytest.mark.qemu

SIZE = 1 << 20
DISKS = {
    "virtio-disk0": ("virtio-blk-pci", "qcow2"),
    "scsi0-0-0-0": ("scsi-hd,bus=scsi0.0", "raw"),
    "ide0-0-0": ("ide-hd,bus=ide.0", "qcow2"),
}
"""Device id → its -device, and the image's format."""


def arguments(place: Path) -> list[str]:
    words = ["-machine", "pc,accel=tcg", "-m", "32M", "-incoming", "defer", "-device", "virtio-scsi-pci,id=scsi0"]
    for device, (driver, form) in DISKS.items():
        image = place / f"{device}.{form}"
        subprocess.run(["qemu-img", "create", "-q", "-f", form, str(image), str(SIZE)], check=True)
        storage = {"driver": "file", "filename": str(image), "node-name": f"{device}-storage", "auto-read-only": True}
        node = {"driver": form, "file": f"{device}-storage", "node-name": f"{device}-format", "read-only": False}
        words += ["-blockdev", json.dumps(storage), "-blockdev", json.dumps(node)]
        words += ["-device", f"{driver},id={device},drive={device}-format,werror=report,rerror=report"]
    return words


@pytest.mark.slow
def test_each_disk_of_a_qemu_that_waits_gets_its_overlays(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with asyncio.timeout(100), Qemu(*arguments(tmp_path)) as qemu:
            await qemu.qmp.connect(60.0)
            address = {"type": "unix", "data": {"path": f"{qemu.folder}/nbd"}}
            await qemu.qmp.execute("nbd-server-start", {"addr": address})
            for number, device in enumerate(DISKS):
                started, names = (await devices_of(qemu.qmp))[device], Nodes(number)
                overlays = overlays_in(tmp_path, device)
                await diskimages.create_overlays(overlays, SIZE)
                export = {"type": "nbd", "id": names.export, "node-name": started.node, "name": device}
                await qemu.qmp.execute("block-export-add", {**export, "writable": True})
                with pytest.raises(PeerError, match="not with the copy /elsewhere"):
                    await put_above(qemu.qmp, names, started, Path("/elsewhere"), overlays)
                await put_above(qemu.qmp, names, started, Path(started.file), overlays)
            found = {disk.device: (disk.node, disk.format) for disk in (await devices_of(qemu.qmp)).values()}
            assert found == {device: (f"colo-disk-{number}", "replication") for number, device in enumerate(DISKS)}
            assert (await qemu.qmp.execute("query-status"))["status"] == "inmigrate"

    asyncio.run(scenario())
