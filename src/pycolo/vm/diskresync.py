"""Brings a copy up to date that differs only in what is noted: in rounds while the guest runs, then a last short one.

Each round copies what the work bitmap has, and the guest writes meanwhile into the next one. For the last round the
guest stands still; before it goes on, each of its writes waits for the other host (`sync=none`, `write-blocking`).
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final, NamedTuple

from pycolo.errors import ConnectError, PeerError, QmpError
from pycolo.qmp.diskbitmaps import WORK, Base, found_bitmaps, granularity_bytes
from pycolo.qmp.diskprobe import why_not_in_step
from pycolo.qmp.diskwords import Nodes
from pycolo.vm.machine import Machine

LOOK_S: Final = 0.01
"""Interval at which a round is looked at: the guest stands still during the last one."""

ROUNDS_MAX: Final = 12
"""Each leaves what the guest has written during it. After so many it writes as fast as it can be copied."""

LAST_BYTES: Final = 4 << 20
"""No round is made for less: it takes some milliseconds to copy."""

STALL_S: Final = 60.0
"""A round that has not moved for this long is given up, as a full copy is."""

STOPPED_S: Final = 5.0
"""For so long at most the guest stands still. It takes tens of milliseconds; what does not end is given up."""


class ResyncDisk(NamedTuple):
    """One disk. `mirror`: the arguments of its `blockdev-mirror`, as for a full copy."""

    name: str
    shown: str
    size_bytes: int
    base: Base
    mirror: Mapping[str, Any]


class Resync:
    """One attempt. `cut()` closes the connections to the other host. `note(copied, total)`: bytes, for each disk."""

    def __init__(
        self,
        machine: Machine,
        disks: Sequence[ResyncDisk],
        *,
        pause_target_s: float,
        speed: int,
        cut: Callable[[], Awaitable[None]],
        note: Callable[[Mapping[str, tuple[int, int]]], None],
    ) -> None:
        """`speed`: of each disk, bytes per second; 0: as fast as it can be."""
        self._machine = machine
        self._disks = disks
        self._pause_target_s = pause_target_s
        self._speed = speed
        self._cut = cut
        self._note = note
        self._loop = asyncio.get_running_loop()
        self._copied = dict.fromkeys(range(len(disks)), 0)
        """Bytes of each disk, by rounds that have ended."""
        self.stopped_s = 0.0
        """The guest has stood still for so long."""

    @property
    def copied_bytes(self) -> int:
        """Of all disks."""
        return sum(self._copied.values())

    async def run(self) -> bool:
        """True: the two hosts have the same, and each write is on both from here on. False: the guest writes faster
        than it is copied. Raises `PeerError`, `ConnectError`; the guest runs afterwards if it did before.
        """
        await self._begin()
        left = await self._left()
        for _ in range(ROUNDS_MAX):
            began_s, before = self._loop.time(), self.copied_bytes
            await self._round(self._speed)
            left = await self._left()
            took_s = max(self._loop.time() - began_s, 1e-6)
            if sum(left.values()) <= max(LAST_BYTES, (self.copied_bytes - before) / took_s * self._pause_target_s):
                await self._finish()
                return True
        return False

    async def _begin(self) -> None:
        """A bitmap of what is to be copied: what is noted, and what the guest writes from now on."""
        for disk in self._disks:
            at = {"node": disk.base.node}
            await self._machine.execute(
                "block-dirty-bitmap-add", {**at, "name": WORK, "granularity": granularity_bytes(disk.size_bytes)}
            )
            await self._machine.execute(
                "block-dirty-bitmap-merge", {**at, "target": WORK, "bitmaps": [disk.base.bitmap]}
            )

    async def _left(self) -> dict[int, int]:
        """Bytes of each disk that are still to be copied."""
        found = found_bitmaps(await self._machine.execute("query-named-block-nodes", {"flat": True}))
        left = {}
        for number, disk in enumerate(self._disks):
            bitmap = found.get(disk.base.node, {}).get(WORK)
            if bitmap is None:
                raise PeerError(f"{disk.shown}: QEMU has lost the note of what is to be copied")
            left[number] = bitmap
        self._note({disk.name: (self._copied[n], self._copied[n] + left[n]) for n, disk in enumerate(self._disks)})
        return left

    async def _round(self, speed: int) -> None:
        """Copy what the work bitmaps have now. Raises `PeerError` when it could not be copied."""
        for number, disk in enumerate(self._disks):
            names = Nodes(number)
            backup: dict[str, Any] = {
                "job-id": names.backup,
                "device": disk.base.node,
                "target": names.target,
                "sync": "bitmap",
                "bitmap": WORK,
                "bitmap-mode": "on-success",
                "auto-dismiss": False,
            }
            await self._machine.execute("blockdev-backup", {**backup, "speed": speed} if speed else backup)
        await self._until_ended()

    async def _until_ended(self) -> None:
        moved, since_s = -1, self._loop.time()
        while True:
            jobs = {job["device"]: job for job in await self._machine.execute("query-block-jobs")}
            own = {number: jobs.get(Nodes(number).backup) for number in range(len(self._disks))}
            self._note_round(own)
            if all(job is None or job.get("status") == "concluded" for job in own.values()):
                break
            now = sum(job["offset"] for job in own.values() if job is not None)
            if now != moved:
                moved, since_s = now, self._loop.time()
            elif self._loop.time() - since_s > STALL_S:
                raise PeerError(f"the copy of the disks stands still at {(self.copied_bytes + now) >> 20} MiB")
            await asyncio.sleep(LOOK_S)
        for number, job in own.items():
            disk = self._disks[number]
            if job is None:
                raise PeerError(f"{disk.shown}: its copy has ended, and QEMU does not say how")
            await self._machine.execute("job-dismiss", {"id": Nodes(number).backup})
            if (error := job.get("error")) is not None:
                raise PeerError(f"{disk.shown}: it could not be copied to the other host: {error}")
            self._copied[number] += job["offset"]

    def _note_round(self, jobs: Mapping[int, Mapping[str, Any] | None]) -> None:
        shown = {}
        for number, job in jobs.items():
            done = self._copied[number]
            offset, whole = (job["offset"], job["len"]) if job is not None else (0, 0)
            shown[self._disks[number].name] = (done + offset, done + max(whole, offset))
        self._note(shown)

    async def _finish(self) -> None:
        """The last round, while the guest stands still."""
        was_running = bool((await self._machine.execute("query-status"))["running"])
        began_s = self._loop.time()
        await self._machine.execute("stop")
        try:
            async with asyncio.timeout(STOPPED_S):
                if any((await self._left()).values()):
                    await self._round(0)
                for disk in self._disks:
                    await self._machine.execute("blockdev-mirror", {**disk.mirror, "sync": "none"})
                await self._until_in_step()
        except BaseException as error:
            if not isinstance(error, QmpError):
                await self._cut()  # a host that hangs must not keep the guest stopped
            if isinstance(error, TimeoutError):
                raise PeerError(f"the last part of the disks was not copied within {STOPPED_S:g} s") from error
            raise
        finally:
            if was_running:
                with suppress(PeerError, ConnectError):  # the plan's own step looks after it again
                    await self._machine.execute("cont")
            self.stopped_s = self._loop.time() - began_s

    async def _until_in_step(self) -> None:
        wanted = {Nodes(number).job: disk.shown for number, disk in enumerate(self._disks)}
        while (why := why_not_in_step(jobs := await self._machine.execute("query-block-jobs"), wanted)) is not None:
            if not wanted.keys() <= {job["device"] for job in jobs}:
                raise PeerError(why)
            await asyncio.sleep(LOOK_S)
