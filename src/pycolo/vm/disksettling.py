"""After a takeover: the survivor's QEMU puts its overlays into its images, and this node sees to it that it is noted.

QEMU gives no event and has no job for it: it is done when the overlays' nodes are gone. Until then the images alone are
not what the guest has written. If QEMU dies before, the node puts them together itself; `qemu-img` and QEMU exclude
each other by the locks of the files.

A node may be killed between any two of these steps. What its next life has to know is in the note, which is written
before each step that cannot be seen from outside.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final, Protocol

import msgspec
import structlog

from pycolo.errors import PycoloError, StateError
from pycolo.qmp.diskwords import Nodes
from pycolo.vm import diskimages
from pycolo.vm.diskabove import Above, take_away
from pycolo.vm.diskexports import end_exports
from pycolo.vm.disknote import DiskNote, DiskNoteFile, DiskState, NotedDisk
from pycolo.vm.machine import Machine

LOOK_S: Final = 0.02
"""Pause between two looks. The shorter it is, the less often a dying QEMU leaves overlays to be judged."""

LATE_S: Final = 30.0
"""130 MB take QEMU 0.3 s. If it has not done it by now it may never: it tries once, and says nothing of a failure (seen
with a full file system, QEMU 7.2).
"""

LATE_LOOK_S: Final = 1.0
"""Pause between two looks from then on."""

AGAIN_S: Final = 10.0
"""Until the node tries again what it could not put together: there may be room then, or a `qemu-img` may have ended
that a killed node has left.
"""

OVER_S: Final = 60.0
"""So long a protection waits for it, and fails then."""

REPLICATION: Final = "replication"
"""The driver of a survivor's disk, still there when the overlays are gone. A QEMU without it has never had them."""

log = structlog.get_logger("colo")


class Guard(Protocol):
    """Keeps a domain from being started: see `pycolo.vm.imageguard`."""

    def hold(self, *, is_held: bool) -> None:
        """The images are not whole: no guest may begin from them."""

    def pause(self, *, is_paused: bool) -> None:
        """This node writes to them itself."""


class DiskSettling:
    """Lives as long as the node. `guard`: of a domain's images."""

    def __init__(self, note: DiskNoteFile, guard: Guard | None = None) -> None:
        self._note = note
        self._guard = guard
        self._busy = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._machine: Machine | None = None
        self.may_run: Callable[[], bool] = lambda: True
        """Whether the guest may run at all: Pacemaker may have stopped it."""
        self._is_gone = False
        self._again: asyncio.TimerHandle | None = None
        self._failed = ""
        """Why the last task has not settled them."""

    # ── what has happened ─────────────────────────────────────────────────────────────────────────────────────

    def guest_found(self, machine: Machine) -> None:
        """This host's guest is there, and is the primary's."""
        self._machine, self._is_gone = machine, False
        self._forget_timer()
        if self._guard is not None:
            self._guard.hold(is_held=False)
        if self._due() is not None:
            self._spawn(lambda: self.watch(machine))

    async def claim(self, machine: Machine) -> None:
        """This host's guest is about to serve by itself: images that were a copy are its own from now on.

        It may be a survivor whose takeover an earlier process of this node has begun, and not come to `stop-disks`:
        then that is done here, before anything lets it leave COLO. Raises `PycoloError`.
        """
        note = self._note.read()
        if note is None or note.state is DiskState.SETTLING:
            return
        async with self._busy:
            nodes = {node["node-name"] for node in await machine.execute("query-named-block-nodes", {"flat": True})}
            overlays = {name for number in range(len(note.disks)) for name in _overlay_nodes(number)}
            if not nodes & overlays:
                await self._note.keep(None)
                return
            exports = await machine.execute("query-block-exports")
            hidden = [Nodes(number).hidden for number in range(len(note.disks))]
            await end_exports(machine, [*hidden, *(export["node-name"] for export in exports)])
            await self._note.keep(note.settling())
        self.guest_found(machine)

    def guest_gone(self) -> None:
        """There is no QEMU: what it has left in overlays is put into the images now, and none can begin meanwhile."""
        if self._due() is not None:
            if self._guard is not None:
                self._guard.hold(is_held=True)
            self._is_gone = True
            self._forget_timer()
            self._spawn(self._try_to_recover)

    async def _try_to_recover(self) -> None:
        """Raises `PycoloError`: then it is tried again later, unless a QEMU has been found."""
        try:
            await self.recover()
        except (PycoloError, OSError):
            self._forget_timer()
            if self._is_gone:
                self._again = asyncio.get_running_loop().call_later(AGAIN_S, self.guest_gone)
            raise

    def _forget_timer(self) -> None:
        if self._again is not None:
            self._again.cancel()
            self._again = None

    # ── who waits for it ──────────────────────────────────────────────────────────────────────────────────────

    async def over(self, patience_s: float | None = OVER_S) -> None:
        """Wait until nothing is left to be done. Raises `StateError` when that has failed, or takes longer."""
        with suppress(TimeoutError):
            async with asyncio.timeout(patience_s):
                if self._task is not None:
                    await asyncio.wait((self._task,))
                machine = self._machine
                if self._due() is not None and machine is not None and machine.is_there:
                    await self.watch(machine)
        if self._due() is not None:
            why = f" ({self._failed})" if self._failed else ""
            raise StateError("disks", f"not settled since the takeover{why}", "settled")

    async def require_whole(self, *, is_other_lost: bool) -> None:
        """Make the images of this host, which has no guest, ready for one. `is_other_lost`: so the operator says.
        Raises `PycoloError` when they cannot be, or are on the other host.
        """
        note = self._note.read()
        images = "" if note is None else ", ".join(disk.image for disk in note.disks)
        if note is not None and note.state is DiskState.COPYING:
            raise StateError("disks", f"a copy that was not finished ({images})", "whole: begin on the other host")
        if note is not None and note.state is DiskState.FOLLOWING:
            if not is_other_lost:
                raise StateError(
                    "disks",
                    f"a copy ({images}), which may lack parts of what was written since the last checkpoint",
                    "the guest's own: begin on the other host (or, if its disks are lost for good, --other-is-lost)",
                )
            log.warning(f"a guest begins anew from a copy, so check its file systems: {images}")
        self.guest_gone()
        await self.over(None)

    async def close(self) -> None:
        """Do nothing further. The node ends, and goes on with this at its next start; or another guest serves, and its
        disks come in the place of these.
        """
        self._is_gone = False
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._forget_timer()

    def _spawn(self, work: Callable[[], Awaitable[None]]) -> None:
        before = self._task

        async def one_after_the_other() -> None:
            if before is not None:
                await asyncio.wait((before,))
            try:
                await work()
                self._failed = ""
            except (PycoloError, OSError) as error:
                why = str(error) or type(error).__name__
                if why != self._failed:
                    log.error(f"the disks are not settled yet: {why}")
                self._failed = why

        self._task = asyncio.get_running_loop().create_task(one_after_the_other())
        self._tasks.add(self._task)
        self._task.add_done_callback(self._tasks.discard)

    # ── QEMU does it ──────────────────────────────────────────────────────────────────────────────────────────

    async def watch(self, machine: Machine) -> None:
        """Return when QEMU has put everything together, and it is noted. Raises `PycoloError`."""
        loop = asyncio.get_running_loop()
        late_s = loop.time() + LATE_S
        async with self._busy:
            while (note := self._due()) is not None:
                nodes = await machine.execute("query-named-block-nodes", {"flat": True})
                is_again = note.is_settled
                note = await self._note_settled(note, {node["node-name"]: node["drv"] for node in nodes})
                if note.is_settled:
                    await self._take_away(machine, note, is_again=is_again)
                    await self._forget(note)
                is_late = loop.time() > late_s
                if is_late and (left := self._due()) is not None:
                    self._say_late(left)
                await asyncio.sleep(LATE_LOOK_S if is_late else LOOK_S)

    def _say_late(self, note: DiskNote) -> None:
        """Once."""
        images = ", ".join(disk.image for disk in note.disks if not disk.is_settled)
        why = (
            f"QEMU has not put its overlays into {images} for {LATE_S:g} s: if there is no room, make some, and "
            "restart the guest's QEMU, since it does not try again; its node does it then"
        )
        if why != self._failed:
            self._failed = why
            log.warning(why)

    async def _note_settled(self, note: DiskNote, nodes: Mapping[str, str]) -> DiskNote:
        for number, disk in enumerate(note.disks):
            if disk.is_settled:
                continue
            if nodes.get(disk.node or disk.name) != REPLICATION:
                if not note.is_bypassed:
                    await self._note.keep(msgspec.structs.replace(note, is_bypassed=True))
                raise self._bypassed(disk)
            if not nodes.keys() & set(_overlay_nodes(number)):
                note = note.settled(disk.name)
                await self._forget_overlays(note, disk)
                log.info(f"disk {disk.name}: its overlays are in {disk.image}")
        return note

    async def _take_away(self, machine: Machine, note: DiskNote, *, is_again: bool) -> None:
        """The images are whole whatever comes of it. `is_again`: the node may have been killed while it did this, and
        have left a guest that stands still.
        """
        disks = [Above(disk.device, disk.node, disk.below) for disk in note.disks if disk.below]
        if not disks:
            return
        try:
            if is_again and self.may_run() and (await machine.execute("query-status"))["status"] == "paused":
                await machine.execute("cont")
            if await take_away(machine, disks, self.may_run):
                log.info("QEMU has the images alone again, as libvirt has started it")
        except PycoloError as error:
            log.warning(f"QEMU keeps a node above its images until the guest is started anew: {error}")

    def _bypassed(self, disk: NotedDisk) -> StateError:
        return StateError(
            f"disk {disk.name}",
            f"of a guest that was started without {disk.active} and {disk.hidden}, which do not fit {disk.image} any "
            "more",
            f"settled by you: keep or remove these two, then remove {self._note.path} and start this node again",
        )

    async def _forget_overlays(self, note: DiskNote, disk: NotedDisk) -> None:
        await self._note.keep(note)
        await diskimages.remove_overlays(disk.overlays)

    async def _forget(self, note: DiskNote) -> None:
        """A node that was killed may have left overlays that were settled."""
        for disk in note.disks:
            await diskimages.remove_overlays(disk.overlays)
        await self._note.keep(None)

    def _due(self) -> DiskNote | None:
        note = self._note.read()
        return note if note is not None and note.state is DiskState.SETTLING else None

    # ── the node does it ──────────────────────────────────────────────────────────────────────────────────────

    async def recover(self) -> None:
        """QEMU has ended: put together what it had not. Raises `PycoloError`."""
        async with self._busy:
            note = self._due()
            if note is None:
                return
            guard = self._guard
            if guard is not None:
                guard.pause(is_paused=True)
            try:
                await self._recover(note)
                if guard is not None:
                    guard.hold(is_held=False)
            finally:
                if guard is not None:
                    guard.pause(is_paused=False)

    async def _recover(self, note: DiskNote) -> None:
        for disk in note.disks:
            if disk.is_settled:
                continue
            if note.is_bypassed:
                raise self._bypassed(disk)
            note = (await self._put_together(note, disk)).settled(disk.name)
            await self._forget_overlays(note, disk)
        await self._forget(note)

    async def _put_together(self, note: DiskNote, disk: NotedDisk) -> DiskNote:
        """Unless QEMU had done it, and died before this node knew: then the overlays are closed, and out of date."""
        if not disk.is_owed:
            if not await self._is_left(disk):
                log.info(f"disk {disk.name}: QEMU had put its overlays into {disk.image} before it ended")
                return note
            note = note.owed(disk.name)
            await self._note.keep(note)
        log.warning(f"disk {disk.name}: QEMU has ended before its overlays were in {disk.image}; putting them there")
        await diskimages.put_together(Path(disk.image), disk.format, disk.overlays)
        return note

    async def _is_left(self, disk: NotedDisk) -> bool:
        """Whether QEMU has left something in overlays. Raises `StateError` when they are gone: it removes none."""
        is_left = False
        for path in disk.overlays:
            found = await diskimages.info(path, "qcow2")
            if found is None:
                raise StateError(
                    f"disk {disk.name}",
                    f"without its overlay {path}, which may have what its guest has written last",
                    f"there again (is its file system mounted?); to go on without it, remove {self._note.path} and "
                    "start this node again",
                )
            is_left = is_left or found.is_dirty
        return is_left


def _overlay_nodes(number: int) -> tuple[str, str]:
    names = Nodes(number)
    return names.active, names.hidden
