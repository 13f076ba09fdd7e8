"""What a node needs of a QEMU's monitor, whichever way leads to it: a QMP socket, or libvirt."""

from collections.abc import Mapping
from typing import Any, Final, Protocol

COMMAND_TIMEOUT_S: Final = 5.0
"""A command takes about a millisecond; during a checkpoint it waits for the main loop, some tens of milliseconds."""


class Monitor(Protocol):
    """One connection. Events and its end are told by the callbacks that it was made with, see `pycolo.qmp.client`."""

    name: str
    """Of the VM; every message to the user begins with it."""
    version: str
    """QEMU's, "7.2.22"; empty before the first connection."""

    @property
    def is_connected(self) -> bool:
        """Whether commands can be sent."""

    async def execute(
        self,
        command: str,
        arguments: Mapping[str, Any] | None = None,
        *,
        timeout_s: float = COMMAND_TIMEOUT_S,
        oob: bool = False,
    ) -> Any:
        """QEMU's return value. Raises `QmpError`, `QmpTimeout`, `ConnectError`, `PeerError`: see `Qmp.execute`."""

    async def pass_descriptor(self, descriptor: int, name: str) -> None:
        """Give QEMU a copy of an open file, under `name`. Raises as `execute` does."""

    async def close(self) -> None:
        """Close the connection; outstanding commands fail. Never waits for QEMU."""
