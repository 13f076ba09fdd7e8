"""What lasts as long as a node with a QEMU and decides nothing: metrics, and the word to systemd that it is well."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

import structlog

from pycolo.config import MetricsOptions
from pycolo.metrics.server import MetricsServer, Status
from pycolo.node.servicemanager import Notifier

log = structlog.get_logger("colo")


class Metrics:
    """The metrics server that `options` ask for. `shown()`: what its page shows."""

    def __init__(self, options: MetricsOptions, status: Status, shown: Status) -> None:
        self._is_page_open = options.is_page_open
        self._server = MetricsServer(options.listen, status, shown, is_page_open=self._is_page_open)

    async def start(self) -> None:
        """Raises `ConnectError`."""
        await self._server.start()
        where = f"http://{self._server.address}"
        log.info("metrics", url=f"{where}/metrics", **({"page": f"{where}/"} if self._is_page_open else {}))

    async def close(self) -> None:
        """Closes its port."""
        await self._server.close()


class ServiceManager:
    """Tells systemd that the node is ready, that it is well, and that it ends."""

    def __init__(self, notify: Notifier, status: Callable[[], str], answers: Callable[[], Awaitable[object]]) -> None:
        """`status()`: one line. `answers()` returns when the data path has answered; raises TimeoutError."""
        self._notify = notify
        self._status = status
        self._answers = answers
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """The node is ready."""
        self._notify.ready(self._status())
        self._task = asyncio.get_running_loop().create_task(self._notify.watchdog(self._is_well))

    async def close(self) -> None:
        """The node ends."""
        self._notify.stopping()
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    async def _is_well(self) -> bool:
        """Whether the data path answers in time; that the event loop does shows by itself."""
        try:
            async with asyncio.timeout(self._notify.watchdog_interval_s):
                await self._answers()
        except TimeoutError:
            return False
        return True
