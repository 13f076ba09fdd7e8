"""A domain's monitor as libvirtd lends it: commands and events, no out-of-band ones, nothing while libvirtd is gone."""

import asyncio
import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from time import monotonic_ns
from typing import Any, Final

from pycolo.domain.connection import Connection, DomainTimeout
from pycolo.domain.library import Library
from pycolo.errors import ConnectError, PeerError, PycoloError, QmpError, QmpTimeout, StateError
from pycolo.qmp.client import QmpEvent, hint, version_of
from pycolo.qmp.monitor import COMMAND_TIMEOUT_S

CLOSE_S: Final = 1.0
"""To end the events of a QEMU that is let go. A libvirtd that does not answer ends them itself when this node ends."""


class LentMonitor:
    """A `Monitor`. `on_event` and `on_closed` as those of `Qmp`."""

    def __init__(
        self,
        connection: Connection,
        domain: str,
        name: str,
        on_event: Callable[[QmpEvent], None],
        on_closed: Callable[[str], None],
    ) -> None:
        self.name = name
        self.version = ""
        self._connection = connection
        self._domain = domain
        self._on_event = on_event
        self._on_closed = on_closed
        self._loop = asyncio.get_running_loop()
        self._found: Any = None
        self._events: int | None = None
        self._end_listening: Callable[[], None] = lambda: None

    @property
    def is_connected(self) -> bool:
        """See `Monitor`."""
        return self._found is not None

    async def connect(self, timeout_s: float) -> None:
        """Find the domain, which runs. Raises `ConnectError`, `PeerError`."""
        self._found, self._events = await self._connection.call(self._where, self._attach, timeout_s)
        self._end_listening = self._connection.on_lost(self._lost)
        try:
            self.version = version_of(await self.execute("query-version", timeout_s=timeout_s))
        except PycoloError:
            await self.close()
            raise

    def _attach(self, connection: Any, library: Library) -> tuple[Any, int]:
        found = connection.lookupByName(self._domain)
        if not found.isActive():
            raise ConnectError(f"{self.name}: domain {self._domain} is shut off: virsh start {self._domain}")
        return found, library.qemu.qemuMonitorEventRegister(connection, found, None, self._heard, None, 0)

    @property
    def _where(self) -> str:
        return f"{self.name}: domain {self._domain}"

    # ── commands ──────────────────────────────────────────────────────────────────────────────────────────────

    async def execute(
        self,
        command: str,
        arguments: Mapping[str, Any] | None = None,
        *,
        timeout_s: float = COMMAND_TIMEOUT_S,
        oob: bool = False,
    ) -> Any:
        """See `Monitor`. Raises `StateError` for an out-of-band command."""
        if oob:
            raise StateError(
                f"{self.name}: {command}", "libvirt's monitor, without out-of-band commands", "a QMP socket"
            )
        return await self._ask(command, arguments, (), timeout_s)

    async def pass_descriptor(self, descriptor: int, name: str) -> None:
        """See `Monitor`."""
        await self._ask("getfd", {"fdname": name}, (descriptor,), COMMAND_TIMEOUT_S)

    async def _ask(
        self, command: str, arguments: Mapping[str, Any] | None, descriptors: tuple[int, ...], timeout_s: float
    ) -> Any:
        found = self._found
        if found is None:
            raise ConnectError(f"{self.name}: {command}: libvirt does not lend the monitor of domain {self._domain}")
        message = json.dumps({"execute": command, **({"arguments": arguments} if arguments else {})})

        def ask(connection: Any, library: Library) -> str:
            if descriptors:
                return str(library.qemu.qemuMonitorCommandWithFiles(found, message, list(descriptors), 0)[0])
            return str(library.qemu.qemuMonitorCommand(found, message, 0))

        try:
            said = await self._connection.call(f"{self.name}: {command}", ask, timeout_s)
        except DomainTimeout:
            raise QmpTimeout(self.name, command, timeout_s, "no answer from QEMU, through libvirt") from None
        return self._answer(command, said)

    def _answer(self, command: str, said: str) -> Any:
        try:
            reply = json.loads(said)
            if "return" in reply:
                return reply["return"]
            kind, description = str(reply["error"]["class"]), str(reply["error"]["desc"])
        except (ValueError, KeyError, TypeError) as error:
            raise PeerError(f"{self.name}: {command}: libvirt's answer cannot be parsed: {said[:100]}") from error
        raise QmpError(self.name, command, kind, description, hint(kind, description))

    # ── events, and the end ───────────────────────────────────────────────────────────────────────────────────

    def _heard(
        self, connection: Any, domain: Any, event: str, seconds: int, micros: int, said: str, opaque: Any
    ) -> None:
        """In the thread of libvirt's events."""
        data: Any = None
        with suppress(ValueError):
            data = json.loads(said or "{}")
        made = QmpEvent(event, data if isinstance(data, dict) else {}, seconds * 1_000_000 + micros, monotonic_ns())
        with suppress(RuntimeError):  # the loop has ended
            self._loop.call_soon_threadsafe(self._deliver, made)

    def _deliver(self, event: QmpEvent) -> None:
        if self._found is not None:
            self._on_event(event)

    def _lost(self, text: str) -> None:
        if self._found is not None:
            self._forget()
            self._on_closed(f"{self._where}: {text}")

    def _forget(self) -> None:
        self._found = None
        self._end_listening()

    async def close(self) -> None:
        """See `Monitor`."""
        events, self._events = self._events, None
        was_connected = self._found is not None
        self._forget()
        if was_connected and events is not None:
            with suppress(PycoloError):
                await self._connection.call(
                    self._where,
                    lambda connection, library: library.qemu.qemuMonitorEventDeregister(connection, events),
                    CLOSE_S,
                )
