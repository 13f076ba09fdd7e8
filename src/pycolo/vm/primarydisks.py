"""The disks of the primary's guest: copied to the other host while the guest runs, and then every write there as well.

A write is complete when both hosts have it. `ask` is asked at each checkpoint: QEMU goes on over a copy that it has
lost, and reports no error. See docs/adr/0063.
"""

import asyncio
import secrets
import socket
from collections.abc import Callable, Coroutine, Mapping, Sequence
from concurrent.futures import Future
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from typing import Any, Final

import msgspec
import structlog

from pycolo.errors import CheckpointError, ConnectError, PeerError, QmpError
from pycolo.link.codec import Channel
from pycolo.qmp.client import QmpEvent
from pycolo.qmp.diskbitmaps import Base
from pycolo.qmp.diskprobe import probe_disks, why_not_in_step
from pycolo.qmp.diskrules import HostImage, judge_disks, judge_images, writable
from pycolo.qmp.diskwords import Nodes
from pycolo.qmp.guestdisks import GuestDisk
from pycolo.qmp.probe import Facts
from pycolo.transport.linksetup import RawLink
from pycolo.vm.arrivals import Accepting, arrived
from pycolo.vm.blockunit import unit_of
from pycolo.vm.changenotes import ChangeNotes
from pycolo.vm.disklink import DiskLink
from pycolo.vm.disklosses import DiskLosses, Loss
from pycolo.vm.diskresync import Resync, ResyncDisk
from pycolo.vm.domainguest import DomainGuest
from pycolo.vm.guesthost import GuestHost
from pycolo.vm.machine import Machine
from pycolo.vm.relay import listen_for_stream

OPEN_S: Final = 10.0
"""Time limit for connecting one disk with the other host; QEMU's main loop stands still for a part of it."""

LOOK_S: Final = 0.2
"""Interval at which a copy that is being made is looked at."""

STALL_S: Final = 60.0
"""A copy that has not moved for this long is given up, as a migration is."""

ASK_S: Final = 60.0
"""For the answer at a checkpoint: QEMU 11 gives none while it writes its state. The checkpoint's own time limit, which
closes the stream, comes first.
"""

STOP_S: Final = 5.0
"""For QEMU to stop the guest, beyond the checkpoints' time limit: a write that waits for the other host is cut off when
that has passed, and the stop waits for the write."""

DROP_S: Final = 10.0
"""For jobs to end whose connections are closed."""

log = structlog.get_logger("colo")


class PrimaryDisks:
    """Of one QEMU at a time: `machine()`. `on_lost(text)`: a disk is no longer copied."""

    def __init__(
        self,
        host: GuestHost,
        machine: Callable[[], Machine],
        on_lost: Callable[[str], None],
        domain: DomainGuest | None = None,
    ) -> None:
        """`domain`: the guest is a domain of libvirt."""
        self._host = host
        self._domain = domain
        self._options = host.config.disks
        self._machine = machine
        self._on_lost = on_lost
        self._disks: list[GuestDisk] = []
        self._links: list[DiskLink] = []
        self._progress: list[dict[str, Any]] = []
        self._losses = DiskLosses()
        self._began_s = 0.0
        self._began_bytes: dict[str, int] = {}
        self._changes = ChangeNotes(machine)
        self._token = ""
        """Of the session that begins: the other node notes it with its images."""
        self._resumed: tuple[str, list[Base]] | None = None
        """The session whose images are at the other host still, and where the copy begins; None: copy everything."""
        self._incremental: dict[str, int] = {}
        """What an incremental copy has moved, in bytes, for each disk; empty after a full one."""

    # ── before anything is touched ────────────────────────────────────────────────────────────────────────────

    async def probe(self, facts: Facts) -> None:
        """Which disks are to be copied. Raises `PeerError` for one that cannot be."""
        self._disks = []
        if self._options is None:
            return
        disks: Sequence[GuestDisk] = await probe_disks(self._machine())
        if self._domain is not None:
            disks = await self._domain.named(disks)
        units = await asyncio.to_thread(lambda: [unit_of(Path(disk.file)) for disk in disks])
        disks = [msgspec.structs.replace(disk, unit=unit) for disk, unit in zip(disks, units, strict=True)]
        self._host.findings.weigh("disks", judge_disks(disks, facts.commands), self._host.config.pair)
        self._disks = writable(disks)

    async def agree(self) -> None:
        """Ask the other node what it has for the copies. Raises `PeerError` for what does not fit."""
        self._resumed = None
        if self._options is None:
            return
        self._token = secrets.token_hex(8)
        noted = await self._changes.found([disk.node for disk in self._disks])
        question = {"disks": msgspec.to_builtins(self._disks), "copy": self._token, "noted": list(noted)}
        answer = await self._host.ask_peer("disks", question, OPEN_S)
        try:
            images = msgspec.convert(answer.get("images"), list[HostImage])
        except msgspec.ValidationError as error:
            raise PeerError(f"the other node's images cannot be read: {error}") from error
        self._host.findings.weigh("images", judge_images(self._disks, images), self._host.config.pair)
        resumed = answer.get("resumes")
        if isinstance(resumed, str) and resumed in noted:
            self._resumed = resumed, noted[resumed]
        elif noted:
            log.info(f"the disks are copied in full: {answer.get('why_full', 'the other node says no reason')}")

    # ── copying ───────────────────────────────────────────────────────────────────────────────────────────────

    async def copy(self) -> None:
        """Copy all disks, and from then on each write. Returns when the two hosts have the same."""
        self._losses.begin()
        self._incremental = {}
        if not self._disks:
            return
        await self._clear(self._machine())
        for number, disk in enumerate(self._disks):
            await self._connect(Nodes(number), disk)
        if not await self._copy_changes():
            await self._copy_all()
        self._changes.begin(self._token, {disk.node: disk.size_bytes for disk in self._disks})

    async def _copy_all(self) -> None:
        self._incremental = {}
        await self._changes.forget()
        for number, disk in enumerate(self._disks):
            mirror = self._mirror(number, disk)
            await self._machine().execute("blockdev-mirror", {**mirror, "sync": "full", **self._speed})
        await self._until_in_step()

    def _mirror(self, number: int, disk: GuestDisk) -> dict[str, Any]:
        names = Nodes(number)
        return {
            "job-id": names.job,
            "device": disk.name if self._domain is None else disk.node,
            "target": names.target,
            "filter-node-name": names.filter,
            "copy-mode": "write-blocking",
            "on-target-error": "report",
        }

    @property
    def _speed(self) -> dict[str, int]:
        assert self._options is not None
        return {"speed": self._options.copy_limit_mib << 20} if self._options.copy_limit_mib else {}

    async def _copy_changes(self) -> bool:
        """Only what has been written since the two hosts had the same; False: everything has to be copied."""
        if self._resumed is None:
            return False
        token, bases = self._resumed
        await self._changes.forget(but=[token])
        mirrors = (self._mirror(number, disk) for number, disk in enumerate(self._disks))
        resync = Resync(
            self._machine(),
            [
                ResyncDisk(disk.name, disk.shown, disk.size_bytes, base, mirror)
                for disk, base, mirror in zip(self._disks, bases, mirrors, strict=True)
            ],
            pause_target_s=self._host.config.protect.pause_target_ms / 1000,
            speed=self._speed.get("speed", 0),
            cut=self.cut,
            note=self._note_incremental,
        )
        try:
            is_done = await resync.run()
        except QmpError as error:
            log.warning(f"QEMU cannot copy only what has changed, so the disks are copied in full: {error}")
            await self._clear_jobs(self._machine())
            return False
        await self._changes.forget_work()
        if not is_done:
            log.info("the guest writes as fast as its disks are copied, so they are copied in full")
            return False
        self._note_progress(await self._machine().execute("query-block-jobs"), self._began_s)
        stopped_ms = resync.stopped_s * 1000
        log.info(f"incremental copy: {resync.copied_bytes >> 10} KiB, the guest has stood still {stopped_ms:.0f} ms")
        return True

    def _note_incremental(self, shown: Mapping[str, tuple[int, int]]) -> None:
        self._incremental = {name: copied for name, (copied, _) in shown.items()}
        self._progress = [
            {
                "name": name,
                "state": "copying",
                "copied_bytes": copied,
                "size_bytes": whole,
                "is_incremental": True,
                "left_s": None,
            }
            for name, (copied, whole) in shown.items()
        ]

    async def _connect(self, names: Nodes, disk: GuestDisk) -> None:
        """QEMU connects to a socket of this node, and the other node to its QEMU; the bytes pass from then on."""
        machine, path = self._machine(), Path(self._host.config.qemu.directory) / "disk.sock"
        if machine.passes_descriptors:
            await self._connect_passed(machine, names, disk)
            return
        listening = listen_for_stream(path)
        try:
            arrival = self._host.expect_link(Channel.DISK)
            link = await arrived(arrival, self._host.ask_peer("open-disk", {"disk": disk.name}), OPEN_S)
            with ExitStack() as unlinked:
                unlinked.callback(link.close)

                def connected(guest: socket.socket) -> None:
                    """While QEMU waits: it reads the other QEMU's greeting before it answers this node."""
                    unlinked.pop_all()
                    self._link_up(guest, link, disk)

                with closing(Accepting(listening, connected)):
                    await self._add_target(machine, names, disk, {"type": "unix", "path": str(path)})
        finally:
            self._host.forget_link(Channel.DISK)
            listening.close()
            with suppress(OSError):
                path.unlink()

    async def _connect_passed(self, machine: Machine, names: Nodes, disk: GuestDisk) -> None:
        """As `_connect`, where QEMU gets its end from this node."""
        try:
            arrival = self._host.expect_link(Channel.DISK)
            link = await arrived(arrival, self._host.ask_peer("open-disk", {"disk": disk.name}), OPEN_S)
        finally:
            self._host.forget_link(Channel.DISK)
        ours, theirs = socket.socketpair()
        self._link_up(ours, link, disk)
        try:
            await machine.pass_descriptor(theirs.fileno(), names.target)
        finally:
            theirs.close()
        await self._add_target(machine, names, disk, {"type": "fd", "str": names.target})

    async def _add_target(self, machine: Machine, names: Nodes, disk: GuestDisk, server: Mapping[str, str]) -> None:
        node = {"driver": "nbd", "node-name": names.target, "export": disk.name, "server": dict(server)}
        await machine.execute("blockdev-add", node, timeout_s=OPEN_S)

    def _link_up(self, guest: socket.socket, link: RawLink, disk: GuestDisk) -> None:
        made = DiskLink(guest, link, disk.name, lambda text: self._host.call(self._link_ended, made, text))
        self._links.append(made)
        made.start()

    def _link_ended(self, link: DiskLink, text: str) -> None:
        if link in self._links:
            self._lose(Loss.COPY_CUT, text)

    async def _until_in_step(self) -> None:
        loop = asyncio.get_running_loop()
        moved, since = -1, loop.time()
        self._began_s, self._began_bytes = loop.time(), {}
        while True:
            jobs = await self._machine().execute("query-block-jobs")
            self._note_progress(jobs, loop.time())
            missing = next((entry["name"] for entry in self._progress if entry["state"] == "failed"), None)
            if missing is not None:
                raise PeerError(f"disk {missing}: it could not be copied to the other host")
            if why_not_in_step(jobs, self._jobs) is None:
                return
            now = sum(link.sent_bytes for link in self._links)
            if now != moved:
                moved, since = now, loop.time()
            elif loop.time() - since > STALL_S:
                raise PeerError(f"the copy of the disks stands still at {now >> 20} MiB")
            await asyncio.sleep(LOOK_S)

    def _note_progress(self, jobs: list[dict[str, Any]], now_s: float) -> None:
        shown = [_shown(disk, jobs, Nodes(number).job) for number, disk in enumerate(self._disks)]
        for entry in shown:
            first = self._began_bytes.setdefault(entry["name"], entry["copied_bytes"])
            copied, left = entry["copied_bytes"] - first, entry["size_bytes"] - entry["copied_bytes"]
            is_copying = entry["state"] == "copying" and copied > 0
            entry["left_s"] = round((now_s - self._began_s) * left / copied, 1) if is_copying else None
            if entry["state"] == "in step" and entry["name"] in self._incremental:
                entry |= {"is_incremental": True, "copied_bytes": self._incremental[entry["name"]]}
        self._progress = shown

    @property
    def _jobs(self) -> dict[str, str]:
        return {Nodes(number).job: disk.shown for number, disk in enumerate(self._disks)}

    # ── while they are copied ─────────────────────────────────────────────────────────────────────────────────

    @property
    def ask(self) -> Callable[[], "Future[None]"] | None:
        """The question at a checkpoint, for the relay's thread; None: there is nothing to ask about."""
        if not self._disks:
            return None
        loop = asyncio.get_running_loop()
        return lambda: asyncio.run_coroutine_threadsafe(self.require_in_step(), loop)

    async def require_in_step(self) -> None:
        """Raises `CheckpointError` when the other host has not all that the guest has written."""
        if not self._disks:
            return
        try:
            jobs, _ = await asyncio.gather(
                self._machine().execute_aside("query-block-jobs", ASK_S), self._changes.pass_checkpoint(ASK_S)
            )
        except (PeerError, ConnectError) as error:
            unknown = f"QEMU does not say whether its disks are copied: {error}"
            if isinstance(error, PeerError):  # else it is gone, and the disks are not the reason
                self._losses.note(Loss.NO_ANSWER, unknown)
            raise CheckpointError("stopped", unknown) from error
        if (why := why_not_in_step(jobs, self._jobs)) is not None:
            self._losses.note(Loss.COPY_BEHIND, why)
            raise CheckpointError("stopped", why)

    @property
    def stand_still(self) -> Callable[[], Coroutine[Any, Any, None]] | None:
        """What is to be awaited before REPLY passes; None: nothing.

        Upon REPLY QEMU stops the guest, and aborts when it stands already for an error of a disk. So the guest is
        stopped before: then no error comes between this look and QEMU's own stop. LOADED lets it run again.
        """
        return self._stand_still if self._disks else None

    async def _stand_still(self) -> None:
        """Raises `CheckpointError` when the guest stands for another reason than this."""
        machine = self._machine()
        timeout_s = self._host.config.checkpoint.timeout_ms / 1000 + STOP_S
        try:
            await machine.execute("stop", timeout_s=timeout_s)
            status = (await machine.execute("query-status"))["status"]
        except (PeerError, ConnectError) as error:
            raise CheckpointError("requested", f"QEMU has not stopped its guest: {error}") from error
        if status != "paused":
            raise CheckpointError("requested", f"the guest cannot be stopped for it: it is in {status}")

    def heard_event(self, event: QmpEvent) -> None:
        """An event of QEMU's."""
        data = event.data
        if event.name == "BLOCK_JOB_COMPLETED" and (disk := self._jobs.get(str(data.get("device")))) is not None:
            if self._links:
                why = data.get("error", "no reason given")
                self._lose(Loss.COPY_FAILED, f"{disk}: its copy on the other host has ended: {why}")
        elif event.name == "BLOCK_IO_ERROR" and data.get("action") == "stop" and self._disks:
            # QEMU aborts at a checkpoint in this state, so the pair ends before the next one.
            filters = {Nodes(number).filter: disk.shown for number, disk in enumerate(self._disks)}
            name = str(data.get("node-name") or data.get("device"))
            disk = filters.get(name, f"disk {name}")
            why = data.get("reason", "unknown")
            self._lose(Loss.OWN_DISK, f"{disk}: an error on this host ({why}), for which QEMU has stopped the guest")

    def _lose(self, loss: Loss, why: str) -> None:
        self._losses.note(loss, why)
        self._on_lost(why)

    # ── letting go ────────────────────────────────────────────────────────────────────────────────────────────

    async def cut(self) -> None:
        """Close the connections to the other host: a QEMU that waits for it goes on. Its guest's writes count here."""
        links, self._links = self._links, []
        for link in links:
            await asyncio.to_thread(link.cut)

    async def drop(self) -> None:
        """Remove what copying has added to QEMU, also what an earlier process of this node has left there.

        The connections are closed first: with one to a host that hangs, cancelling a job hangs as well.
        """
        await self.cut()
        self._disks, self._progress = [], []
        machine = self._machine()
        if machine.is_there:
            await self._clear(machine)

    async def _clear(self, machine: Machine) -> None:
        if self._options is None:
            return
        await self._clear_jobs(machine)
        await self._changes.forget_work()
        target = Nodes(0).target.removesuffix("0")
        for node in await machine.execute("query-named-block-nodes", {"flat": True}):
            if node["node-name"].startswith(target):
                await machine.execute("blockdev-del", {"node-name": node["node-name"]})

    async def _clear_jobs(self, machine: Machine) -> None:
        ours = tuple(name.removesuffix("0") for name in (Nodes(0).job, Nodes(0).backup))
        async with asyncio.timeout(DROP_S):
            while jobs := [job for job in await machine.execute("query-block-jobs") if job["device"].startswith(ours)]:
                for job in jobs:
                    with suppress(QmpError):  # it ends by itself just now
                        if job.get("status") == "concluded":
                            await machine.execute("job-dismiss", {"id": job["device"]})
                        else:
                            await machine.execute("block-job-cancel", {"device": job["device"], "force": True})
                await asyncio.sleep(0.01)

    def status(self) -> list[dict[str, Any]]:
        """For `colo status` and `colo explain`: each disk, and how far its copy is; then the last that were lost."""
        return [*self._progress, *self._losses.status()]


def _shown(disk: GuestDisk, jobs: list[dict[str, Any]], name: str) -> dict[str, Any]:
    job = next((job for job in jobs if job.get("device") == name), None)
    if job is None:
        return {"name": disk.name, "state": "failed", "copied_bytes": 0, "size_bytes": disk.size_bytes}
    state = "in step" if job.get("ready") else "copying"
    return {"name": disk.name, "state": state, "copied_bytes": job["offset"], "size_bytes": job["len"]}
