"""Carries out the cures of one QEMU: see `pycolo.qmp.cures`.

PCI configuration space is reached as the guest reaches it, through the ports 0xcf8 (which register) and 0xcfc (its
value), with the human monitor's `i` and `o`. The guest may stand between its two accesses, so the first one's value is
put back.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping
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

log = structlog.get_logger("colo")


class Executes(Protocol):
    """A `Machine`."""

    async def execute(self, command: str, arguments: Mapping[str, Any] | None = None) -> Any:
        """A QMP command's answer. Raises `PeerError`, `ConnectError`."""


class ConfigSpace:
    """The PCI configuration space of bus 0. The guest stands still meanwhile."""

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

    @asynccontextmanager
    async def _selected(self, register: int) -> AsyncIterator[None]:
        before = await self._input("w", ADDRESS_PORT)
        await self._output("w", ADDRESS_PORT, _ENABLE | register & ~3)
        try:
            yield
        finally:
            await self._output("w", ADDRESS_PORT, before)

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
                case Action.CLOSE_RCBA:
                    await self._close_rcba()
                case Action.REOPEN_RCBA:
                    await self._reopen_rcba()

    def loaded(self) -> None:
        """The secondary has loaded a state, its RCBA with it. Any thread."""
        self._rcba = None

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
