"""A node's host and its QEMU, as far as disks need them."""

import asyncio
import os
import socket
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from pycolo.config import DisksOptions
from pycolo.errors import PeerError
from pycolo.link.codec import Channel
from pycolo.qmp.client import QmpEvent
from pycolo.transport.linksetup import RawLink
from pycolo.vm.findings import Findings

Answer = Callable[[dict[str, Any]], Any]


class DiskMachine:
    """Answers QMP as `answers` says (a value, a function of the arguments or an error), and notes what it was asked."""

    def __init__(self) -> None:
        self.answers: dict[str, Any] = {}
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self.is_there = True
        self.pid = 1
        self.passes_descriptors = False
        self.passed: dict[str, int] = {}

    async def execute(self, command: str, arguments: Any = None, **options: Any) -> Any:
        given = dict(arguments or {})
        self.asked.append((command, given))
        await asyncio.sleep(0)
        answer = self.answers.get(command, {})
        if isinstance(answer, Exception):
            raise answer
        result = answer(given) if callable(answer) else answer
        return await result if asyncio.iscoroutine(result) else result

    async def execute_aside(self, command: str, timeout_s: float, arguments: Any = None) -> Any:
        return await self.execute(command, arguments)

    async def pass_descriptor(self, descriptor: int, name: str) -> None:
        self.passed[name] = os.dup(descriptor)

    @property
    def commands(self) -> list[str]:
        return [command for command, _ in self.asked]

    def arguments(self, command: str) -> list[dict[str, Any]]:
        return [arguments for asked, arguments in self.asked if asked == command]


class DiskHost:
    """A `GuestHost` of one node; `peer` answers its orders."""

    def __init__(self, place: Path, command: list[str] | None = None, **options: Any) -> None:
        disks = DisksOptions(overlays=place / "overlays", **options)
        qemu = SimpleNamespace(directory=place, command=command or [])
        protect, checkpoint = SimpleNamespace(pause_target_ms=100), SimpleNamespace(timeout_ms=5_000)
        self.config: Any = SimpleNamespace(
            pair="vm1", disks=disks, qemu=qemu, state=place, protect=protect, checkpoint=checkpoint
        )
        self.findings = Findings()
        self.peer: dict[str, Answer] = {}
        self.ordered: list[str] = []
        self.arrivals: dict[Channel, asyncio.Future[RawLink]] = {}
        self.dialed: list[socket.socket] = []

    def call(self, function: Callable[..., None], *arguments: Any) -> None:
        asyncio.get_running_loop().call_soon(function, *arguments) if _in_loop() else function(*arguments)

    async def ask_peer(self, order: str, arguments: Any = None, timeout_s: float = 0) -> Any:
        self.ordered.append(order)
        if order not in self.peer:
            raise PeerError(f"the other node knows no order {order!r}")
        return self.peer[order](arguments or {})

    def expect_link(self, channel: Channel) -> "asyncio.Future[RawLink]":
        self.arrivals[channel] = arrival = asyncio.get_running_loop().create_future()
        return arrival

    def forget_link(self, channel: Channel) -> None:
        arrival = self.arrivals.pop(channel, None)
        if arrival is not None:
            arrival.cancel()

    def arrive(self, channel: Channel) -> socket.socket:
        """The other node's connection comes; its far end."""
        near, far = socket.socketpair()
        self.arrivals[channel].set_result(RawLink(near, channel.value))
        return far

    def dial_raw(self, channel: Channel) -> RawLink:
        near, far = socket.socketpair()
        self.dialed.append(far)
        return RawLink(near, channel.value)


def _in_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def event(name: str, **data: Any) -> QmpEvent:
    """One of QEMU's."""
    return QmpEvent(name, data, 0, 0)
