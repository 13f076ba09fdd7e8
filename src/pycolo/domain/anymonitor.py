"""A domain's monitor, whether libvirtd runs or not: lent by libvirtd, or else QEMU's own socket, which it has left.

QEMU accepts the next client as soon as libvirtd is gone. When that is back it waits for its monitor, so the socket is
given up then. A node notices neither, but that a command takes longer.
"""

import asyncio
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import structlog

from pycolo.domain.host import DomainHost
from pycolo.domain.monitor import LentMonitor
from pycolo.errors import ConnectError, PeerError, PycoloError
from pycolo.qmp.client import Qmp, QmpEvent
from pycolo.qmp.monitor import COMMAND_TIMEOUT_S, Monitor

LOOK_S: Final = 0.5
"""Interval at which a libvirtd that is gone is looked for, and a QEMU's socket tried."""

OPEN_S: Final = 2.0
"""A libvirtd that has just been started answers as soon as it has found its domains again."""

TOLD_S: Final = 0.01

REPEATED: Final = frozenset({"migrate-set-parameters", "migrate-set-capabilities", "x-colo-lost-heartbeat", "cont"})
"""Commands that may be carried out twice, as all queries: they are sent again when libvirtd goes before the answer."""

_KEY: Final = re.compile(rb'"file":"([^"\0]+)/master-key\.aes"')
"""Where a QEMU keeps libvirt's secret: beside its monitor's socket. The socket itself it was given as an open file."""

log = structlog.get_logger("colo")


def socket_of(pid: int, proc: Path = Path("/proc")) -> Path | None:
    """The monitor's socket of a domain's process; None: its command line does not show it."""
    try:
        found = _KEY.search((proc / str(pid) / "cmdline").read_bytes())
    except OSError:
        return None
    return Path(found[1].decode(errors="surrogateescape")) / "monitor.sock" if found else None


class DomainMonitor:
    """A `Monitor` that is connected until QEMU ends, or `close`."""

    def __init__(
        self, host: DomainHost, name: str, on_event: Callable[[QmpEvent], None], on_closed: Callable[[str], None]
    ) -> None:
        self.name = name
        self.version = ""
        self._host = host
        self._on_event = on_event
        self._on_closed = on_closed
        self._current: Monitor | None = None
        self._there = asyncio.Event()
        self._keeper: asyncio.Task[None] | None = None
        self._is_open = False

    @property
    def is_connected(self) -> bool:
        """See `Monitor`. Also while it changes from one to the other."""
        return self._is_open

    async def connect(self, timeout_s: float) -> None:
        """Find the monitor of the domain, which runs. Raises `ConnectError`, `PeerError`."""
        try:
            await self._borrow(timeout_s)
        except ConnectError:
            if not await self._open_socket():
                raise
        assert self._current is not None
        self.version = self._current.version
        self._is_open = True
        if isinstance(self._current, Qmp):
            self._keep()

    async def _borrow(self, timeout_s: float) -> None:
        lent = LentMonitor(self._host, self.name, self._on_event, self._lost)
        await lent.connect(timeout_s)
        self._use(lent)

    async def _open_socket(self) -> bool:
        path = await asyncio.to_thread(lambda: socket_of(self._host.pid()))
        if path is None:
            return False
        qmp = Qmp(path, self.name, self._on_event, self._lost)
        try:
            await qmp.connect(LOOK_S)
        except (ConnectError, PeerError):
            return False
        self._use(qmp)
        return True

    def _use(self, monitor: Monitor) -> None:
        self._current = monitor
        self._there.set()

    # ── from one to the other ─────────────────────────────────────────────────────────────────────────────────

    def _lost(self, text: str) -> None:
        self._forget()
        if self._is_open and (self._keeper is None or self._keeper.done()):
            log.warning(f"{text}; until it is back the node asks QEMU itself")
            self._keep()

    def _forget(self) -> None:
        self._current = None
        self._there.clear()

    def _keep(self) -> None:
        self._keeper = asyncio.get_running_loop().create_task(self._find_again())

    async def _find_again(self) -> None:
        """Until libvirt lends the monitor again, or QEMU has ended."""
        while self._host.pid():
            if self._current is None:
                with suppress(PycoloError):
                    await self._borrow(OPEN_S)
                    log.info(f"{self.name}: libvirt lends the monitor of domain {self._host.name} again")
                    return
                await self._open_socket()
            await asyncio.sleep(LOOK_S)
            own = self._current
            if own is not None and await self._is_libvirt_back():
                self._forget()
                await own.close()
        self._is_open = False
        self._there.set()
        self._on_closed(f"{self.name}: domain {self._host.name} has ended")

    async def _is_libvirt_back(self) -> bool:
        with suppress(PycoloError):
            await self._host.connection.call(self.name, lambda connection, library: None, OPEN_S)
            return True
        return False

    # ── commands ──────────────────────────────────────────────────────────────────────────────────────────────

    async def execute(
        self,
        command: str,
        arguments: Mapping[str, Any] | None = None,
        *,
        timeout_s: float = COMMAND_TIMEOUT_S,
        oob: bool = False,
    ) -> Any:
        """See `Monitor`."""
        loop = asyncio.get_running_loop()
        until_s = loop.time() + timeout_s
        while True:
            monitor = await self._present(command, until_s - loop.time())
            left_s = max(0.01, until_s - loop.time())
            try:
                return await monitor.execute(command, arguments, timeout_s=left_s, oob=oob)
            except ConnectError:
                may_repeat = command in REPEATED or command.startswith("query-")
                if not self._is_open or not may_repeat or loop.time() >= until_s:
                    raise
                if self._current is monitor:  # its end is told next
                    await asyncio.sleep(TOLD_S)

    async def pass_descriptor(self, descriptor: int, name: str) -> None:
        """See `Monitor`."""
        monitor = await self._present("getfd", COMMAND_TIMEOUT_S)
        await monitor.pass_descriptor(descriptor, name)

    async def _present(self, command: str, timeout_s: float) -> Monitor:
        with suppress(TimeoutError):
            async with asyncio.timeout(max(0.0, timeout_s)):
                while self._is_open and self._current is None:
                    await self._there.wait()
        if self._current is None or not self._is_open:
            raise ConnectError(f"{self.name}: {command}: no monitor of domain {self._host.name}, and libvirt is gone")
        return self._current

    async def close(self) -> None:
        """See `Monitor`."""
        self._is_open = False
        self._there.set()
        keeper, self._keeper = self._keeper, None
        if keeper is not None:
            keeper.cancel()
            await asyncio.gather(keeper, return_exceptions=True)
        current, self._current = self._current, None
        if current is not None:
            await current.close()
