"""Carries out the cures of one QEMU: see `pycolo.qmp.cures`.

PCI configuration space is reached as the guest reaches it, through the ports 0xcf8 (which register) and 0xcfc (its
value), with the human monitor's `i` and `o`. The guest may stand between its two accesses, so the first one's value is
put back.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from concurrent.futures import CancelledError
from contextlib import asynccontextmanager
from typing import Any, Final, Protocol

import structlog

from pycolo.errors import CheckpointError, PeerError
from pycolo.qmp.commands import Size, port_input, port_output, port_value
from pycolo.qmp.cures import Action, Cure, Moment, Role, cures_for, is_q35
from pycolo.qmp.probe import Facts

CURE_S: Final = 10.0
"""A cure takes 3 to 12 ms; one that takes this long means a QEMU that hangs."""

ADDRESS_PORT: Final = 0xCF8
DATA_PORT: Final = 0xCFC
_ENABLE: Final = 1 << 31

RCBA: Final = 0x1F << 11 | 0xF0
"""Device 31, function 0, register 0xF0: the ICH9's root complex base address."""

RCBA_IS_ON: Final = 1

PAM_PC: Final = 0x59
PAM_Q35: Final = 0x91
"""The host bridge's first PAM register: each write to it rebuilds the memory map."""

COMMAND: Final = 0x04
"""Each device's command register; its low byte is read and written."""

BUS_MASTER: Final = 1 << 2

VIRTIO_VENDOR: Final = 0x1AF4

VIRTIO_EVERY_S: Final = 1.0
"""Between two looks at the virtio devices: one takes a millisecond or two of a pause, and few guests boot."""

log = structlog.get_logger("colo")


class Executes(Protocol):
    """A `Machine`."""

    async def execute(self, command: str, arguments: Mapping[str, Any] | None = None) -> Any:
        """A QMP command's answer. Raises `PeerError`, `ConnectError`."""


class ConfigSpace:
    """The PCI configuration space. A register is bus, device, function and offset. The guest stands still meanwhile."""

    def __init__(self, machine: Executes) -> None:
        self._machine = machine

    async def read(self, register: int, size: Size) -> int:
        """The register's value. Raises `PeerError`, `ConnectError`."""
        async with self._selected(register):
            return await self._input(size, DATA_PORT + register % 4)

    async def write(self, register: int, size: Size, value: int) -> None:
        """Set the register. Raises `PeerError`, `ConnectError`."""
        async with self._selected(register):
            await self._output(size, DATA_PORT + register % 4, value)

    async def change(self, registers: Iterable[int], to: Callable[[int, int], int | None]) -> None:
        """Set each byte to `to(register, value)`, unless that is None. Raises `PeerError`, `ConnectError`."""
        async with self._address_kept():
            for register in registers:
                port = DATA_PORT + register % 4
                await self._select(register)
                value = to(register, await self._input("b", port))
                if value is not None:
                    await self._output("b", port, value)

    @asynccontextmanager
    async def _selected(self, register: int) -> AsyncIterator[None]:
        async with self._address_kept():
            await self._select(register)
            yield

    @asynccontextmanager
    async def _address_kept(self) -> AsyncIterator[None]:
        before = await self._input("w", ADDRESS_PORT)
        try:
            yield
        finally:
            await self._output("w", ADDRESS_PORT, before)

    async def _select(self, register: int) -> None:
        await self._output("w", ADDRESS_PORT, _ENABLE | register & ~3)

    async def _input(self, size: Size, port: int) -> int:
        line = port_input(size, port)
        said = await self._say(line)
        value = port_value(said)
        if value is None:
            raise PeerError(f"QEMU's monitor answers {line} with {said[:80]!r} instead of a value")
        return value

    async def _output(self, size: Size, port: int, value: int) -> None:
        line = port_output(size, port, value)
        if said := await self._say(line):
            raise PeerError(f"QEMU's monitor answers {line} with {said[:80]!r}")

    async def _say(self, line: str) -> str:
        return str(await self._machine.execute("human-monitor-command", {"command-line": line})).strip()


class Curing:
    """The cures of one QEMU in one role. Made in asyncio's thread."""

    def __init__(self, machine: Executes, facts: Facts, role: Role) -> None:
        self._machine = machine
        self._config = ConfigSpace(machine)
        self._pam = PAM_Q35 if is_q35(facts) else PAM_PC
        self._loop = asyncio.get_running_loop()
        self._due: dict[Moment, list[Cure]] = {}
        for cure in cures_for(facts, role):
            self._due.setdefault(cure.moment, []).append(cure)
        self._rcba: int | None = None
        """RCBA before CLOSE_RCBA, until a state has been loaded."""
        self._commands: dict[int, int] = {}
        """Command registers before ENABLE_VIRTIO, until a state has been loaded."""
        self._virtio_due_s = 0.0

    def at(self, moment: Moment) -> None:
        """Apply the cures that are due, from a thread of its own. Raises `PycoloError`."""
        if moment not in self._due:
            return
        try:
            asyncio.run_coroutine_threadsafe(self.apply(moment), self._loop).result(CURE_S)
        except (TimeoutError, CancelledError) as error:
            raise CheckpointError(moment.value, "QEMU has not done in time what COLO needs") from error

    async def apply(self, moment: Moment) -> None:
        """Apply the cures that are due. Raises `PeerError`, `ConnectError`."""
        for cure in self._due.get(moment, ()):
            match cure.action:
                case Action.STOP:
                    log.info("the guest stands still while its memory is copied: this QEMU loses changes otherwise")
                    await self._machine.execute("stop")
                case Action.FLUSH:
                    await self._config.write(self._pam, "b", await self._config.read(self._pam, "b"))
                case Action.ENABLE_VIRTIO:
                    await self._enable_virtio()
                case Action.RENEW_VIRTIO:
                    await self._renew_virtio()
                case Action.CLOSE_RCBA:
                    await self._close_rcba()
                case Action.REOPEN_RCBA:
                    await self._reopen_rcba()

    def loaded(self) -> None:
        """The secondary has loaded a state, with RCBA and all command registers. Any thread."""
        self._rcba = None
        self._commands = {}

    async def _close_rcba(self) -> None:
        value = await self._config.read(RCBA, "w")
        if value & RCBA_IS_ON:
            self._rcba = value
            await self._config.write(RCBA, "w", value & ~RCBA_IS_ON)

    async def _reopen_rcba(self) -> None:
        value, self._rcba = self._rcba, None
        if value is None:
            return
        await self._machine.execute("stop")
        try:
            if await self._config.read(RCBA, "w") == value & ~RCBA_IS_ON:
                await self._config.write(RCBA, "w", value)
        finally:
            await self._machine.execute("cont")

    async def _enable_virtio(self) -> None:
        if self._loop.time() < self._virtio_due_s:
            return
        self._virtio_due_s = self._loop.time() + VIRTIO_EVERY_S

        def enabled(register: int, value: int) -> int | None:
            if value & BUS_MASTER:
                return None
            self._commands[register] = value
            return value | BUS_MASTER

        if registers := await self._virtio_commands():
            await self._config.change(registers, enabled)

    async def _renew_virtio(self) -> None:
        found, self._commands = self._commands, {}

        def renewed(register: int, value: int) -> int:
            before = found.get(register, value)
            return before if value == before | BUS_MASTER else value

        registers = await self._virtio_commands()
        if not registers:
            return
        await self._machine.execute("stop")
        try:
            await self._config.change(registers, renewed)
        finally:
            await self._machine.execute("cont")

    async def _virtio_commands(self) -> list[int]:
        """The command registers of all virtio devices that the guest can reach now."""
        return [register for bus in await self._machine.execute("query-pci") for register in _virtio(bus["devices"])]


def _virtio(devices: Iterable[Mapping[str, Any]], *, is_root: bool = True) -> list[int]:
    """The command registers of virtio devices, as `query-pci` tells where they are. Behind a bridge that the guest has
    not numbered yet there is nothing to reach.
    """
    found: list[int] = []
    for device in devices:
        if device["id"]["vendor"] == VIRTIO_VENDOR and (is_root or device["bus"]):
            found.append(device["bus"] << 16 | device["slot"] << 11 | device["function"] << 8 | COMMAND)
        found += _virtio(device.get("pci_bridge", {}).get("devices", []), is_root=False)
    return found
