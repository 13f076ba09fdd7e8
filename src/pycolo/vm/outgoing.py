"""This node's end of the stream that the primary's QEMU migrates into."""

import socket
from contextlib import suppress
from pathlib import Path
from typing import Final

from pycolo.vm.arrivals import accepted
from pycolo.vm.machine import Machine
from pycolo.vm.relay import listen_for_stream

ACCEPT_S: Final = 10.0
"""Time limit for QEMU to connect: it does so before it answers `migrate`."""

NAME: Final = "colo"
"""QEMU's name for its end, where that is passed to it."""


class OutgoingStream:
    """A unix socket at `path`, to which QEMU connects; for a QEMU that may open none, a pair of which it gets one."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._listening: socket.socket | None = None

    def open(self, machine: Machine) -> None:
        """Listen, if `machine` connects. Raises `ConnectError`."""
        if not machine.passes_descriptors:
            self._listening = listen_for_stream(self._path)

    async def begin(self, machine: Machine) -> socket.socket:
        """Start the migration; this end. Raises `PeerError`, `ConnectError`, `TimeoutError`: QEMU does not connect."""
        if self._listening is None:
            return await self._passed(machine)
        return await accepted(self._listening, machine.migrate(f"unix:{self._path}"), ACCEPT_S)

    async def _passed(self, machine: Machine) -> socket.socket:
        ours, theirs = socket.socketpair()
        try:
            await machine.migrate(f"fd:{NAME}", theirs.fileno())
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        return ours

    def close(self) -> None:
        """Listen no longer. What `begin` has returned stays open."""
        if self._listening is not None:
            self._listening.close()
            self._listening = None
            with suppress(OSError):
                self._path.unlink()
