"""The disks of the secondary's guest: copies of the primary's, with overlays for what the two have not agreed on.

The primary's node asks with the order "disks" whether they fit, before anything is touched; `prepare-secondary` makes
them, and "open-disk" connects one with the primary. See docs/adr/0063.
"""

import asyncio
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import structlog

from pycolo.config import PairConfig
from pycolo.domain.disks import DiskImage
from pycolo.errors import PeerError, PycoloError, StateError
from pycolo.link.codec import Channel
from pycolo.link.orders import JsonObject
from pycolo.qmp.diskrules import writable
from pycolo.qmp.diskwords import Nodes, Overlays, secondary_command
from pycolo.qmp.guestdisks import GuestDisk
from pycolo.vm import diskimages
from pycolo.vm.diskabove import devices_of, put_above
from pycolo.vm.diskexports import end_exports
from pycolo.vm.disklink import DiskLink
from pycolo.vm.disknote import DiskNote, DiskNoteFile, DiskState, NotedDisk
from pycolo.vm.diskplaces import CommandPlaces, DiskPlaces, Place
from pycolo.vm.guesthost import GuestHost, open_raw
from pycolo.vm.imageseal import seal
from pycolo.vm.machine import Machine

log = structlog.get_logger("colo")


class Copy(NamedTuple):
    """One disk here."""

    number: int
    disk: GuestDisk
    place: Place

    @property
    def names(self) -> Nodes:
        """Of its block nodes."""
        return Nodes(self.number)

    @property
    def path(self) -> Path:
        """Its image here."""
        return self.place.path

    @property
    def overlays(self) -> Overlays:
        """Its files."""
        return self.place.overlays

    @property
    def noted(self) -> NotedDisk:
        """For the note."""
        return NotedDisk(
            name=self.disk.name,
            image=str(self.path),
            format=self.place.format,
            active=str(self.overlays.active),
            hidden=str(self.overlays.hidden),
            node=self.names.top if self.place.command is None else "",
        )


class SecondaryDisks:
    """Lives as long as the node: the primary's node asks before there is a guest."""

    def __init__(self, host: GuestHost, note: DiskNoteFile, places: DiskPlaces | None = None) -> None:
        """`places`: None: those of `qemu.command`."""
        self._host = host
        self._config: PairConfig = host.config
        self._note = note
        self._places: DiskPlaces = CommandPlaces(host.config) if places is None else places
        self._planned: list[Copy] = []
        self._sessions: tuple[str, ...] = ()
        """For the note of what is planned."""
        self._copies: list[Copy] = []
        """Of the guest that is here: the next one is planned while it still is."""
        self._by_libvirt: dict[str, GuestDisk] = {}
        """Its disks as libvirt has started them, by their devices' ids; empty where `qemu.command` has."""
        self._links: list[DiskLink] = []

    # ── before the guest is started ───────────────────────────────────────────────────────────────────────────

    async def hear(self, arguments: JsonObject) -> JsonObject:
        """The order "disks": the primary's disks, answered with what is here for their copies. Raises `PycoloError`."""
        try:
            disks = msgspec.convert(arguments.get("disks"), tuple[GuestDisk, ...])
        except msgspec.ValidationError as error:
            raise PeerError(f"the other node's disks cannot be read: {error}") from error
        found = {place.name: place for place in await self._places.find(disks)}
        images = [await diskimages.look(place) for place in found.values()]
        known = [disk for disk in writable(disks) if disk.name in found]
        self._planned = [Copy(number, disk, found[disk.name]) for number, disk in enumerate(known)]
        resumed, why = await asyncio.to_thread(self._resumes, _words(arguments.get("noted")))
        self._sessions = tuple(token for token in (str(arguments.get("copy", "")), resumed) if token)
        return {"images": msgspec.to_builtins(images), "resumes": resumed, "why_full": why}

    def _resumes(self, sessions: list[str]) -> tuple[str, str]:
        """With which of the primary's `sessions` the images here are a copy; "", and why, if it must be made anew."""
        note = self._note.read()
        known = [] if note is None else [token for token in sessions if token in note.copies]
        if note is None or not known:
            return "", "the other host's images are not those of which the changes are noted"
        at_hand = {disk.name: disk for disk in note.disks}
        for copy in self._planned:
            noted = at_hand.pop(copy.disk.name, None)
            if noted is None or (noted.image, noted.format) != (str(copy.path), copy.place.format):
                return "", f"disk {copy.disk.name} had another image on the other host, or none"
            if not noted.seen:
                return "", f"the other node has not seen how the QEMU ended that wrote to {copy.path}"
            if noted.seen != seal(copy.path, is_flushed=copy.place.is_flushed):
                return "", f"{copy.path} was changed on the other host since its QEMU has ended"
        return known[0], ""

    async def command(self) -> list[str]:
        """QEMU's command line with copies that are ready for it. Raises `PycoloError`."""
        await self._prepare()
        changed = [(copy.place.command, copy.path, copy.overlays) for copy in self._copies if copy.place.command]
        return secondary_command(self._config.qemu.command, changed)

    async def images(self) -> dict[str, DiskImage] | None:
        """The copies, ready for a QEMU that libvirt starts, by the disks' names; None without `[disks]`.

        Raises `PycoloError`.
        """
        await self._prepare()
        return None if self._config.disks is None else {copy.disk.name: copy.place.image for copy in self._copies}

    async def _prepare(self) -> None:
        planned, self._planned, self._copies = self._planned, [], []
        if not planned:
            return
        noted = tuple(copy.noted for copy in planned)
        await self._note.keep(DiskNote(state=DiskState.COPYING, disks=noted, copies=self._sessions))
        self._copies = planned  # before, an older note would be sealed with what the images are like now
        for copy in planned:
            await diskimages.create_image(copy.path, copy.place.format, copy.disk.size_bytes)
            await diskimages.create_overlays(copy.overlays, copy.disk.size_bytes)

    # ── while it follows the primary ──────────────────────────────────────────────────────────────────────────

    async def export(self, machine: Machine) -> None:
        """Let QEMU take the primary's writes. Its exports are also what the replication nodes begin with."""
        if not self._copies:
            return
        address = {"type": "unix", "data": {"path": str(self._socket)}}
        await machine.execute("nbd-server-start", {"addr": address})
        self._by_libvirt = {} if self._copies[0].place.command is not None else await devices_of(machine)
        for copy in self._copies:
            names, started = copy.names, self._by_libvirt.get(copy.disk.device)
            if copy.place.command is None and started is None:
                raise StateError(f"disk {copy.disk.name}", f"without a device {copy.disk.device} here", "the primary's")
            node = self._image_node(copy)
            export = {"type": "nbd", "id": names.export, "node-name": node, "name": copy.disk.name}
            await machine.execute("block-export-add", {**export, "writable": True})
            if started is not None:
                await asyncio.to_thread(diskimages.give_overlays, copy.overlays, machine.pid)
                await put_above(machine, names, started, copy.path, copy.overlays)

    def _image_node(self, copy: Copy) -> str:
        """The block node of a copy's image: libvirt has names of its own."""
        started = self._by_libvirt.get(copy.disk.device)
        return copy.names.parent if started is None else started.node

    async def open_link(self, arguments: JsonObject) -> JsonObject:
        """The order "open-disk": connect this QEMU with the primary's node. Raises `PycoloError`."""
        name = str(arguments.get("disk"))
        if all(copy.disk.name != name for copy in self._copies):
            raise StateError("open-disk", f"without a disk {name}", "prepared")
        guest, link = await open_raw(self._host, self._socket, Channel.DISK, f"disk {name}: {self._socket}")
        made = DiskLink(guest, link, name, lambda text: None)  # the end of the migration stream says more
        self._links.append(made)
        made.start()
        return {}

    def follows(self) -> None:
        """The secondary has loaded the first state: the copies are whole. Raises `ConnectError`."""
        note = self._note.read()
        if note is not None and note.state is DiskState.COPYING:
            self._note.write(msgspec.structs.replace(note, state=DiskState.FOLLOWING))

    @property
    def _socket(self) -> Path:
        return Path(self._config.qemu.directory) / "disks.sock"

    # ── it takes over ─────────────────────────────────────────────────────────────────────────────────────────

    async def stop_exports(self, machine: Machine) -> None:
        """Take no more of the primary's writes. From the next step on this guest's own are in the overlays, and the
        note says so first. Raises `PycoloError`.
        """
        if not self._copies:
            return
        await self._cut()
        nodes = [node for copy in self._copies for node in (copy.names.hidden, self._image_node(copy))]
        await end_exports(machine, nodes)
        note = self._note.read()
        assert note is not None, "written with the copies"
        # From here on the images are no copy.
        settling = msgspec.structs.replace(note.settling(), disks=tuple(map(self._with_place, note.disks)))
        await self._note.keep(settling)
        self._copies = []

    def _with_place(self, noted: NotedDisk) -> NotedDisk:
        """With what libvirt's QEMU has of it below the overlays."""
        for copy in self._copies:
            if copy.disk.name == noted.name and copy.disk.device in self._by_libvirt:
                return msgspec.structs.replace(noted, device=copy.disk.device, below=self._image_node(copy))
        return noted

    # ── it ends ───────────────────────────────────────────────────────────────────────────────────────────────

    async def discard(self) -> None:
        """The guest has ended. Its copies stay; what is in the overlays is of no use."""
        await self._cut()
        copies, self._copies = self._copies, []
        try:
            await asyncio.to_thread(self._seal, copies)
        except PycoloError as error:
            log.warning(f"the next copy of the disks will be a full one: {error}")
        for copy in copies:
            await diskimages.remove_overlays(copy.overlays)

    def _seal(self, copies: list[Copy]) -> None:
        """Note what the images are like, so that nothing that changes them goes unnoticed."""
        note = self._note.read()
        if note is None or not copies or not note.copies:
            return
        flushed = {copy.disk.name: copy.place.is_flushed for copy in copies}
        sealed = tuple(
            msgspec.structs.replace(disk, seen=seal(Path(disk.image), is_flushed=flushed[disk.name]))
            for disk in note.disks
        )
        self._note.write(msgspec.structs.replace(note, disks=sealed))

    async def _cut(self) -> None:
        links, self._links = self._links, []
        for link in links:
            await asyncio.to_thread(link.cut)

    def status(self) -> list[dict[str, Any]]:
        """For `colo status`."""
        return [
            {"name": copy.disk.name, "state": "a copy", "size_bytes": copy.disk.size_bytes, "file": str(copy.path)}
            for copy in self._copies
        ]


def _words(value: object) -> list[str]:
    return [word for word in value if isinstance(word, str)] if isinstance(value, list) else []
