"""A node's metrics server, configured by `metrics.listen`.

A scrape queries the node's status, the same answer that `colo status` gets. The result is kept for a second, so any
number of scrapes costs one query per second. If the node does not answer in time, the scrape says so (`colo_status_up
0`); if its event loop hangs, there is no response at all, which Prometheus shows as `up 0`.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from time import monotonic_ns
from typing import Any, Final

import structlog
from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.exposition import choose_encoder

from pycolo.metrics.collector import NodeCollector
from pycolo.metrics.listening import listen
from pycolo.metrics.scraping import ScrapeServer
from pycolo.transport.linksetup import Address

Status = Callable[[], Awaitable[Mapping[str, Any]]]

STATUS_S: Final = 3.0
"""The data path answers between two batches; QEMU and the other node get a second each."""

KEEP_MS: Final = 1000
"""Maximum age of the cached status: Prometheus scrapes every 15 s, and further readers cost nothing."""

log = structlog.get_logger("colo")


class MetricsServer:
    """Serves `status()` on `address`, from `start` to `close`, in the running event loop."""

    def __init__(self, address: Address, status: Status) -> None:
        """Port 0 selects a free one: see `address` after `start`."""
        self.address = address
        self._status = status
        self._server: ScrapeServer | None = None
        self._asking: asyncio.Task[None] | None = None
        self._answer: Mapping[str, Any] | None = None
        self._answered_ms: int | None = None
        self._bodies: dict[str, bytes] = {}
        self._has_complained = False
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(NodeCollector(lambda: self._answer))
        ProcessCollector(registry=self._registry)

    # ── life ──────────────────────────────────────────────────────────────────────────────────────────────────

    async def start(self) -> None:
        """Listen. Raises `ConnectError`."""
        self._loop = asyncio.get_running_loop()
        where = f"metrics.listen {self.address}"
        advice = "give each node on this host its own address and port"
        listening = await asyncio.to_thread(listen, self.address.host, self.address.port, where, advice)
        self.address = Address(self.address.host, listening.getsockname()[1])
        self._server = ScrapeServer(listening, self._body)
        self._server.start()

    async def close(self) -> None:
        """Close the port and all connections; waits only for a running status query."""
        server, self._server = self._server, None
        if server is None:
            return
        await server.close()
        asking = self._asking
        if asking is not None:
            await asyncio.wait({asking}, timeout=STATUS_S)
            asking.cancel()
            await asyncio.gather(asking, return_exceptions=True)

    # ── answers ───────────────────────────────────────────────────────────────────────────────────────────────

    async def _body(self, accept: str) -> tuple[bytes, str]:
        await self._refresh()
        encode, kind = choose_encoder(accept)
        if kind not in self._bodies:
            self._bodies[kind] = encode(self._registry)
        return self._bodies[kind], kind

    async def _refresh(self) -> None:
        """Ensure that `_answer` is None or no older than `KEEP_MS`. Concurrent scrapes share one query.

        The query is never cancelled, however late: another thread may be about to answer it.
        """
        if self._is_fresh():
            return
        if self._asking is None:
            self._asking = self._loop.create_task(self._ask(), name="metrics status")
        asking = self._asking
        await asyncio.wait({asking}, timeout=STATUS_S)
        if not asking.done():
            self._answer = None
            self._bodies.clear()
            self._complain(f"the node did not report its status within {STATUS_S:g} s")

    def _is_fresh(self) -> bool:
        return self._answered_ms is not None and _now_ms() - self._answered_ms < KEEP_MS

    async def _ask(self) -> None:
        try:
            self._answer = await self._status()
            self._has_complained = False
        except Exception as error:  # a scrape must not end what it asks
            self._answer = None
            self._complain(f"the node could not report its status: {error!r}")
        self._answered_ms = _now_ms()
        self._bodies.clear()
        self._asking = None

    def _complain(self, text: str) -> None:
        """Log once until the next success."""
        if not self._has_complained:
            self._has_complained = True
            log.warning(f"metrics: {text}")


def _now_ms() -> int:
    return monotonic_ns() // 1_000_000
