"""A domain's monitor as libvirtd lends it: commands and events, no out-of-band ones, nothing while libvirtd is gone."""

import json
from collections.abc import Callable, Mapping
from typing import Any

from pycolo.domain.connection import DomainTimeout
from pycolo.domain.host import DomainHost
from pycolo.domain.library import Library
from pycolo.errors import ConnectError, PeerError, QmpError, QmpTimeout, StateError
from pycolo.qmp.client import QmpEvent, hint, version_of
from pycolo.qmp.monitor import COMMAND_TIMEOUT_S


class LentMonitor:
    """A `Monitor`. `on_event` and `on_closed` as those of `Qmp`."""

    def __init__(
        self, host: DomainHost, name: str, on_event: Callable[[QmpEvent], None], on_closed: Callable[[str], None]
    ) -> None:
        self.name = name
        self.version = ""
        self._host = host
        self._on_event = on_event
        self._on_closed = on_closed
        self._found: Any = None
        self._endings: list[Callable[[], None]] = []

    @property
    def is_connected(self) -> bool:
        """See `Monitor`."""
        return self._found is not None

    async def connect(self, timeout_s: float) -> None:
        """Find the domain, which runs. Raises `ConnectError`, `PeerError`."""
        self._endings = [self._host.events.listen(self._on_event), self._host.connection.on_lost(self._lost)]
        try:
            self._found = await self._host.connection.call(self._where, self._attach, timeout_s)
            self.version = version_of(await self.execute("query-version", timeout_s=timeout_s))
        except BaseException:
            await self.close()
            raise

    def _attach(self, connection: Any, library: Library) -> Any:
        found = connection.lookupByName(self._host.name)
        if not found.isActive():
            raise ConnectError(f"{self._where} is shut off: virsh start {self._host.name}")
        self._host.events.register(connection, library, found)
        return found

    @property
    def _where(self) -> str:
        return f"{self.name}: domain {self._host.name}"

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
            raise ConnectError(f"{self.name}: {command}: libvirt does not lend the monitor of domain {self._host.name}")
        message = json.dumps({"execute": command, **({"arguments": arguments} if arguments else {})})

        def ask(connection: Any, library: Library) -> str:
            if descriptors:
                return str(library.qemu.qemuMonitorCommandWithFiles(found, message, list(descriptors), 0)[0])
            return str(library.qemu.qemuMonitorCommand(found, message, 0))

        try:
            said = await self._host.connection.call(f"{self.name}: {command}", ask, timeout_s)
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

    # ── the end ───────────────────────────────────────────────────────────────────────────────────────────────

    def _lost(self, text: str) -> None:
        if self._found is not None:
            self._forget()
            self._on_closed(f"{self._where}: {text}")

    def _forget(self) -> None:
        self._found = None
        for end in self._endings:
            end()

    async def close(self) -> None:
        """See `Monitor`."""
        self._forget()
