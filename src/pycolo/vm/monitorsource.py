"""The way to the monitor of this host's QEMU: the QMP socket that its command line names, or another one."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final, Protocol

from pycolo.qmp.client import Qmp, QmpEvent
from pycolo.qmp.monitor import Monitor
from pycolo.transport.occupied import owner_of_path

OWNER_S: Final = 5.0
"""For the kernel to say who listens at a socket: a queue that is full makes it wait."""


class MonitorSource(Protocol):
    """Where a `Machine` finds its QEMU."""

    where: str
    """For messages: "qemu.qmp /run/colo/vm1/qmp.sock"."""
    passes_descriptors: bool
    """See `Machine.passes_descriptors`."""

    @property
    def yank(self) -> Path | None:
        """A second QMP socket of the QEMU that was opened, for `yank`; None: it has none."""

    async def open(
        self, name: str, on_event: Callable[[QmpEvent], None], on_closed: Callable[[str], None], timeout_s: float
    ) -> Monitor:
        """A connected monitor. Raises `ConnectError`, `PeerError`."""

    async def taps(self) -> Mapping[str, str]:
        """Netdev → interface, where another program than QEMU knows it. Empty, when none can be asked."""

    def pid(self) -> int:
        """The process behind the monitor that was opened; 0: unknown. Blocks."""


class SocketSource:
    """The QMP socket at `path`; `yank`: see `MonitorSource`."""

    passes_descriptors = False

    def __init__(self, path: Path, yank: Path | None) -> None:
        self.where = f"qemu.qmp {path}"
        self.yank = yank
        self._path = path

    async def open(
        self, name: str, on_event: Callable[[QmpEvent], None], on_closed: Callable[[str], None], timeout_s: float
    ) -> Monitor:
        """See `MonitorSource`."""
        qmp = Qmp(self._path, name, on_event, on_closed)
        await qmp.connect(timeout_s)
        return qmp

    async def taps(self) -> Mapping[str, str]:
        """See `MonitorSource`: QEMU itself has opened its taps."""
        return {}

    def pid(self) -> int:
        """Of the process that listens there."""
        try:
            return owner_of_path(self._path, OWNER_S)[0]
        except OSError:
            return 0
