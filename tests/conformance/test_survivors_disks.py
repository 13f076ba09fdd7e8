"""A real QEMU with a secondary's disk takes over and is killed: the node that finds its overlays puts them together.

Replication begins and ends by `xen-set-replication`, which does to the disks what COLO does, without a second QEMU.
"""

import asyncio
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from pycolo.qmp.client import Qmp
from pycolo.qmp.diskwords import Nodes, overlays_in, replication_node
from pycolo.vm import diskimages
from pycolo.vm.disknote import DiskNote, DiskNoteFile, DiskState, NotedDisk
from pycolo.vm.disksettling import DiskSettling

pytestmark = [
    pytest.mark.qemu,
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("qemu-io") is None, reason="needs qemu-io: as root, apt-get install qemu-utils"),
    pytest.mark.skipif(shutil.which("qemu-system-x86_64") is None, reason="needs QEMU: apt install qemu-system-x86"),
]

DEADLINE_S = 60
SIZE = 4 << 20
NAMES = Nodes(0)


def io(*words: str) -> str:
    words = ("qemu-io", "-f", "raw", *words)
    done = subprocess.run(words, capture_output=True, text=True, timeout=DEADLINE_S, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


class Host:
    """One with a secondary's QEMU, whose guest never runs: a client of NBD writes what it would."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.image, self.overlays = place / "a.raw", overlays_in(place, "vda")
        disk = NotedDisk(
            name="vda",
            image=str(self.image),
            format="raw",
            active=str(self.overlays.active),
            hidden=str(self.overlays.hidden),
        )
        DiskNoteFile(place).write(DiskNote(state=DiskState.FOLLOWING, disks=(disk,)))

    async def begin(self) -> None:
        await diskimages.create_image(self.image, "raw", SIZE)
        await diskimages.create_overlays(self.overlays, SIZE)
        io("-c", "write -P 1 0 4M", str(self.image))
        words = ["qemu-system-x86_64", "-machine", "pc", "-accel", "tcg", "-m", "32", "-S", "-nodefaults"]
        socket = self.place / "qmp.sock"
        self.process = subprocess.Popen([*words, "-display", "none", "-qmp", f"unix:{socket},server=on,wait=off"])
        self.qemu = Qmp(socket, "vm1", lambda event: None, lambda text: None)
        await self.qemu.connect(DEADLINE_S)
        file = {"driver": "file", "filename": str(self.image)}
        await self._ask("blockdev-add", driver="raw", node_name=NAMES.parent, file=file)
        self.nbd = self.place / "nbd.sock"
        await self._ask("nbd-server-start", addr={"type": "unix", "data": {"path": str(self.nbd)}})
        await self._export(NAMES.export, NAMES.parent)
        await self.qemu.execute("blockdev-add", replication_node(NAMES, "vda", self.overlays, NAMES.parent))
        await self._ask("device_add", driver="virtio-blk-pci", drive="vda", share_rw=True)
        await self._ask("xen-set-replication", enable=True, primary=False)
        await self._export("guest", "vda")

    async def _ask(self, command: str, **arguments: Any) -> Any:
        return await self.qemu.execute(command, {name.replace("_", "-"): value for name, value in arguments.items()})

    async def _export(self, name: str, node: str) -> None:
        await self._ask("block-export-add", type="nbd", id=name, node_name=node, name=name, writable=True)

    async def write(self, export: str, command: str) -> None:
        await asyncio.to_thread(io, "-c", command, f"nbd+unix:///{export}?socket={self.nbd}")

    async def take_over(self) -> None:
        await self._ask("xen-set-replication", enable=False, primary=False, failover=True)

    async def until_put_together(self) -> None:
        while any(node["node-name"] == NAMES.active for node in await self._ask("query-named-block-nodes", flat=True)):
            await asyncio.sleep(0.01)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


@pytest.mark.parametrize("dies", ["before it goes on", "at once", "when it has put it together"])
def test_the_image_is_what_the_guest_has_seen_whenever_its_qemu_dies(tmp_path: Path, dies: str) -> None:
    """Its node was killed right behind the record of the takeover, and its next one claims the disks."""
    host = Host(tmp_path)

    async def life() -> None:
        async with asyncio.timeout(DEADLINE_S):
            await host.begin()
            await host.write(NAMES.export, "write -P 2 0 64k")
            await host.write("guest", "write -f -P 3 64k 64k")
            await host._ask("block-export-del", id="guest", mode="hard")
            await DiskSettling(DiskNoteFile(tmp_path)).claim(host.qemu)  # type: ignore[arg-type]
            if dies != "before it goes on":
                await host.take_over()
            if dies == "when it has put it together":
                await host.until_put_together()
            host.kill()
            await host.qemu.close()
            await DiskSettling(DiskNoteFile(tmp_path)).recover()

    try:
        asyncio.run(life())
    finally:
        host.kill()
    said = io("-c", "read -P 1 0 64k", "-c", "read -P 3 64k 64k", "-c", "read -P 1 128k 3968k", str(host.image))
    assert "verification failed" not in said, said
    assert DiskNoteFile(tmp_path).read() is None
