"""After a takeover: the survivor's QEMU puts its overlays into its images, and this node sees to it that it is noted.

QEMU gives no event and has no job for it: it is done when the overlays' nodes are gone. Until then the images alone are
not what the guest has written. If QEMU dies before, the node puts them together itself; `qemu-img` and QEMU exclude
each other by the locks of the files.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Final

import structlog

from pycolo.errors import PycoloError, StateError
from pycolo.qmp.diskwords import Nodes
from pycolo.vm import diskimages
from pycolo.vm.disknote import DiskNote, DiskNoteFile, DiskState, NotedDisk
from pycolo.vm.machine import Machine

LOOK_S: Final = 0.02
"""Pause between two looks. The shorter it is, the less often a dying QEMU leaves overlays to be judged."""

REPLICATION: Final = "replication"
"""The driver of a survivor's disk: the node stays when the overlays are gone. A QEMU without it has never had them."""

log = structlog.get_logger("colo")


class DiskSettling:
    """Lives as long as the node."""

    def __init__(self, note: DiskNoteFile) -> None:
        self._note = note
        self._busy = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None
        self._machine: Machine | None = None

    def guest_found(self, machine: Machine) -> None:
        """This host's guest serves. Images that were a copy are its own from now on."""
        self._machine = machine
        if self._due() is not None:
            self._spawn(lambda: self.watch(machine))
        elif self._note.read() is not None:
            self._note.write(None)

    def guest_gone(self) -> None:
        """There is no QEMU: what it has left in overlays is put into the images now, and none can begin meanwhile."""
        if self._due() is not None:
            self._spawn(self.recover)

    def is_due(self) -> bool:
        """Whether overlays have to be put into the images still."""
        return self._due() is not None

    def _spawn(self, work: Callable[[], Awaitable[None]]) -> None:
        before = self._task

        async def one_after_the_other() -> None:
            if before is not None:
                await asyncio.wait((before,))
            try:
                await work()
            except (PycoloError, OSError) as error:
                log.error(f"the disks are not settled yet: {str(error) or type(error).__name__}")

        self._task = asyncio.get_running_loop().create_task(one_after_the_other())

    async def over(self) -> None:
        """Wait until nothing is left to be done. Raises `StateError` when that has failed."""
        if self._task is not None:
            await asyncio.wait((self._task,))
        machine = self._machine
        if self._due() is not None and machine is not None and machine.is_there:
            await self.watch(machine)
        if self._due() is not None:
            raise StateError("disks", "not settled since the takeover", "settled")

    async def require_whole(self) -> None:
        """Make the images of this host, which has no guest, ready for one. Raises `PycoloError` when they cannot be."""
        note = self._note.read()
        if note is not None and note.state is DiskState.COPYING:
            images = ", ".join(disk.image for disk in note.disks)
            raise StateError("disks", f"a copy that was not finished ({images})", "whole: begin on the other host")
        self.guest_gone()
        await self.over()

    async def close(self) -> None:
        """The node ends; it goes on with this at its next start."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def watch(self, machine: Machine) -> None:
        """Return when QEMU has put everything together, and it is noted. Raises `PycoloError`."""
        async with self._busy:
            while (note := self._due()) is not None:
                nodes = await machine.execute("query-named-block-nodes", {"flat": True})
                await self._note_settled(note, {node["node-name"]: node["drv"] for node in nodes})
                await asyncio.sleep(LOOK_S)

    async def _note_settled(self, note: DiskNote, nodes: Mapping[str, str]) -> None:
        for number, disk in enumerate(note.disks):
            names = Nodes(number)
            if disk.is_settled:
                continue
            if nodes.get(disk.node or disk.name) != REPLICATION:
                raise StateError(
                    f"disk {disk.name}", f"of a guest that was started without {disk.active}", "put together"
                )
            if not nodes.keys() & {names.active, names.hidden}:
                note = note.settled(disk.name)
                await self._forget_overlays(note, disk)
                log.info(f"disk {disk.name}: its overlays are in {disk.image}")
        if note.is_settled:
            await asyncio.to_thread(self._note.write, None)

    async def _forget_overlays(self, note: DiskNote, disk: NotedDisk) -> None:
        await asyncio.to_thread(self._note.write, note)
        await diskimages.remove_overlays(disk.overlays)

    def _due(self) -> DiskNote | None:
        note = self._note.read()
        return note if note is not None and note.state is DiskState.SETTLING else None

    async def recover(self) -> None:
        """QEMU has ended: put together what it had not. Raises `PycoloError`."""
        async with self._busy:
            note = self._due()
            if note is None:
                return
            for disk in note.disks:
                if not disk.is_settled:
                    await self._put_together(disk)
                    note = note.settled(disk.name)
                    await self._forget_overlays(note, disk)
            await asyncio.to_thread(self._note.write, None)

    async def _put_together(self, disk: NotedDisk) -> None:
        """Unless QEMU had done it, and died before this node knew: then the overlays are closed, and out of date."""
        found = [await diskimages.info(path, "qcow2") for path in disk.overlays]
        if not any(overlay is not None and overlay.is_dirty for overlay in found):
            log.info(f"disk {disk.name}: QEMU had put its overlays into {disk.image} before it ended")
            return
        log.warning(f"disk {disk.name}: QEMU has ended before its overlays were in {disk.image}; putting them there")
        await diskimages.put_together(Path(disk.image), disk.format, disk.overlays)
