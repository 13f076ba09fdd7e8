"""The network of a fake QEMU (`support.fakeqemu`): chardevs, filter-redirectors, one netdev; as net/filter-mirror.c.

Kept where it matters: an outlet drops frames while it is not connected; an inlet is dead once its
peer has gone, until it is removed and added again.
"""

import asyncio
import os
import socket
import struct
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

from support.fakeqmp import Refusal

NO_HEADER = struct.pack(">I", 0)
"""The vnet word of a card that has no vnet headers."""


def framed(octets: bytes, vnet: bytes = b"") -> bytes:
    return struct.pack(">I", len(octets)) + vnet + octets


def whole_frames(buffer: bytearray, vnet: bytes = b"") -> list[bytes]:
    """The whole frames at the beginning of `buffer`, out of it."""
    found = []
    words = 4 + len(vnet)
    while len(buffer) >= words:
        end = words + int.from_bytes(buffer[:4], "big")
        if len(buffer) < end:
            break
        assert buffer[4:words] == vnet
        found.append(bytes(buffer[words:end]))
        del buffer[:end]
    return found


class Chardev:
    """A listening unix socket with one connection at a time. `on_frame` None: what comes is kept in the buffer."""

    def __init__(self, name: str, path: str, awake: asyncio.Event) -> None:
        self.name = name
        self.path = path
        self.on_frame: Callable[[bytes], None] | None = None
        self.on_closed: Callable[[], None] | None = None
        self._awake = awake
        self._buffer = bytearray()
        self._sock: socket.socket | None = None
        with suppress(FileNotFoundError):
            os.unlink(path)
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        self._listener.bind(path)
        self._listener.listen(1)
        self._task = asyncio.get_running_loop().create_task(self._run())

    @property
    def filename(self) -> str:
        return f"{'' if self._sock else 'disconnected:'}unix:{self.path},server=on"

    def send(self, octets: bytes) -> None:
        """Not connected: dropped, as QEMU does."""
        if self._sock is not None:
            with suppress(OSError):
                self._sock.send(framed(octets, NO_HEADER))

    def handle(self, on_frame: Callable[[bytes], None] | None, on_closed: Callable[[], None] | None) -> None:
        self.on_frame, self.on_closed = on_frame, on_closed
        self._deliver()

    def _deliver(self) -> None:
        while self.on_frame is not None and (found := whole_frames(self._buffer, NO_HEADER)):
            for octets in found:
                self.on_frame(octets)

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            sock, _ = await loop.sock_accept(self._listener)
            await self._awake.wait()
            self._sock = sock
            self._buffer.clear()
            while octets := await self._received(sock):
                await self._awake.wait()
                self._buffer += octets
                self._deliver()
            sock.close()
            self._sock = None
            if self.on_closed is not None:
                self.on_closed()

    async def _received(self, sock: socket.socket) -> bytes:
        with suppress(OSError):
            return await asyncio.get_running_loop().sock_recv(sock, 1 << 18)
        return b""

    def close(self) -> None:
        self._task.cancel()
        self._listener.close()
        if self._sock is not None:
            self._sock.close()
        with suppress(FileNotFoundError):
            os.unlink(self.path)


class Redirector:
    """A filter-redirector."""

    def __init__(self, arguments: dict[str, Any]) -> None:
        self.id: str = arguments["id"]
        self.queue: str = arguments.get("queue", "all")
        self.indev: str | None = arguments.get("indev")
        self.outdev: str | None = arguments.get("outdev")
        self.is_on = True
        self.is_dead = False
        """Its peer at `indev` has gone: it injects nothing any more, whatever connects."""


class Network:
    """The netdev hn0: a tap, the filters, the guest's card."""

    def __init__(self, to_guest: Callable[[bytes], None], to_lan: Callable[[bytes], None]) -> None:
        self.filters: list[Redirector] = []
        self.chardevs: dict[str, Chardev] = {}
        self._ends = {"tx": to_guest, "rx": to_lan}

    def send(self, octets: bytes, queue: str, behind: Redirector | None = None) -> None:
        """From the tap (tx) along the list to the guest, or from the guest (rx) against it to the tap."""
        chain = self.filters if queue == "tx" else self.filters[::-1]
        for one in chain[chain.index(behind) + 1 if behind else 0 :]:
            if one.is_on and one.outdev is not None and one.queue in (queue, "all"):
                self.chardevs[one.outdev].send(octets)
                return
        self._ends[queue](octets)

    def add(self, arguments: dict[str, Any]) -> Refusal | dict[str, Any]:
        """As object-add of a filter-redirector."""
        one = Redirector(arguments)
        if arguments.get("netdev") != "hn0":
            return Refusal("GenericError", "Parameter 'netdev' expects a network backend id")
        if one.indev is None and one.outdev is None:
            text = "filter redirector needs 'indev' or 'outdev' at least one property set"
            return Refusal("GenericError", text)
        assert arguments.get("vnet_hdr_support") is True
        if one.id in [other.id for other in self.filters]:
            return Refusal("GenericError", f"attempt to add duplicate property '{one.id}' to object (type 'container')")
        for name in (one.indev, one.outdev):
            if name is not None and name not in self.chardevs:
                return Refusal("DeviceNotFound", f"Device '{name}' not found")
            if name is not None and self._user_of(name):
                return Refusal("GenericError", f"Device '{name}' is in use")
        self._place(one, arguments.get("position", "tail"), arguments.get("insert", "behind"))
        if one.indev is not None:
            self.chardevs[one.indev].handle(partial(self._inject, one), partial(self._died, one))
        return {}

    def _user_of(self, chardev: str) -> bool:
        return any(chardev in (one.indev, one.outdev) for one in self.filters)

    def _place(self, one: Redirector, position: str, insert: str) -> None:
        at = {"tail": len(self.filters), "head": 0}.get(position)
        if at is None:
            partner = next(other for other in self.filters if f"id={other.id}" == position)
            at = self.filters.index(partner) + (insert == "behind")
        self.filters.insert(at, one)

    def _inject(self, one: Redirector, octets: bytes) -> None:
        self.send(octets, one.queue, one)

    def _died(self, one: Redirector) -> None:
        one.is_dead = True
        assert one.indev is not None
        self.chardevs[one.indev].handle(None, None)

    def remove(self, name: str) -> Refusal | dict[str, Any]:
        found = next((one for one in self.filters if one.id == name), None)
        if found is None:
            return Refusal("GenericError", f"object '{name}' not found")
        self.filters.remove(found)
        if found.indev is not None:
            self.chardevs[found.indev].handle(None, None)
        return {}

    def remove_chardev(self, name: str) -> Refusal | dict[str, Any]:
        if name not in self.chardevs:
            return Refusal("GenericError", f"Chardev '{name}' not found")
        if self._user_of(name):
            return Refusal("GenericError", f"Chardev '{name}' is busy")
        self.chardevs.pop(name).close()
        return {}
