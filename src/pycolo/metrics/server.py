"""A node's metrics server, configured by `metrics.listen`; the page for people is served by it too.

A scrape queries the node's status, the same answer that `colo status` gets. The result is kept for a second, so any
number of scrapes costs one query per second. If the node does not answer in time, the scrape says so (`colo_status_up
0`); if its event loop hangs, there is no response at all, which Prometheus shows as `up 0`.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from time import monotonic_ns
from typing import Any, Final

import structlog
from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.exposition import choose_encoder

from pycolo.metrics.collector import NodeCollector
from pycolo.metrics.listening import listen
from pycolo.metrics.page import HEADERS, REFUSAL, page
from pycolo.metrics.scraping import Reply, Resource, ScrapeServer
from pycolo.transport.linksetup import Address

Status = Callable[[], Awaitable[Mapping[str, Any]]]

STATUS_S: Final = 3.0
"""The data path answers between two batches; QEMU and the other node get a second each."""

KEEP_MS: Final = 1000
"""Maximum age of the cached status: Prometheus scrapes every 15 s, and further readers cost nothing."""

log = structlog.get_logger("colo")


class Asking:
    """Asks the node `status()`, and keeps its answer for `KEEP_MS`. In the running event loop."""

    def __init__(self, status: Status, on_news: Callable[[], None] = lambda: None) -> None:
        """`on_news`: there is another `answer`."""
        self._status = status
        self._on_news = on_news
        self._loop = asyncio.get_running_loop()
        self._asking: asyncio.Task[None] | None = None
        self._answered_ms: int | None = None
        self._has_complained = False
        self.answer: Mapping[str, Any] | None = None
        """The last one; None: the node does not answer."""

    async def fresh(self) -> Mapping[str, Any] | None:
        """An answer no older than `KEEP_MS`, or None. Concurrent callers share one query.

        The query is never cancelled, however late: another thread may be about to answer it.
        """
        if self._answered_ms is not None and _now_ms() - self._answered_ms < KEEP_MS:
            return self.answer
        if self._asking is None:
            self._asking = self._loop.create_task(self._ask(), name="metrics status")
        asking = self._asking
        await asyncio.wait({asking}, timeout=STATUS_S)
        if not asking.done():
            self.answer = None
            self._on_news()
            self._complain(f"the node did not report its status within {STATUS_S:g} s")
        return self.answer

    async def close(self) -> None:
        """Wait for a running query, for as long as a client would."""
        asking = self._asking
        if asking is not None:
            await asyncio.wait({asking}, timeout=STATUS_S)
            asking.cancel()
            await asyncio.gather(asking, return_exceptions=True)

    async def _ask(self) -> None:
        try:
            self.answer = await self._status()
            self._has_complained = False
        except Exception as error:  # a scrape must not end what it asks
            self.answer = None
            self._complain(f"the node could not report its status: {error!r}")
        self._answered_ms = _now_ms()
        self._on_news()
        self._asking = None

    def _complain(self, text: str) -> None:
        """Log once until the next success."""
        if not self._has_complained:
            self._has_complained = True
            log.warning(f"metrics: {text}")


class MetricsServer:
    """Serves `status()` on `address`, from `start` to `close`, in the running event loop.

    `shown()`: what the page shows; None: there is no page. `is_page_open` False: the page says where it would be shown.
    """

    def __init__(
        self, address: Address, status: Status, shown: Status | None = None, *, is_page_open: bool = True
    ) -> None:
        """Port 0 selects a free one: see `address` after `start`."""
        self.address = address
        self._status = status
        self._shown = shown
        self._is_page_open = is_page_open
        self._server: ScrapeServer | None = None
        self._bodies: dict[str, bytes] = {}
        self._asked: list[Asking] = []

    # ── life ──────────────────────────────────────────────────────────────────────────────────────────────────

    async def start(self) -> None:
        """Listen. Raises `ConnectError`."""
        scraped = Asking(self._status, self._bodies.clear)
        self._asked.append(scraped)
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(NodeCollector(lambda: scraped.answer))
        ProcessCollector(registry=self._registry)
        where = f"metrics.listen {self.address}"
        advice = "give each node on this host its own address and port"
        listening = await asyncio.to_thread(listen, self.address.host, self.address.port, where, advice)
        self.address = Address(self.address.host, listening.getsockname()[1])
        self._server = ScrapeServer(listening, self._body, self._resources(), self.address.host)
        self._server.start()

    async def close(self) -> None:
        """Close the port and all connections; waits only for running queries."""
        server, self._server = self._server, None
        if server is None:
            return
        await server.close()
        await asyncio.gather(*(asked.close() for asked in self._asked))

    # ── answers ───────────────────────────────────────────────────────────────────────────────────────────────

    async def _body(self, accept: str) -> tuple[bytes, str]:
        await self._asked[0].fresh()
        encode, kind = choose_encoder(accept)
        if kind not in self._bodies:
            self._bodies[kind] = encode(self._registry)
        return self._bodies[kind], kind

    def _resources(self) -> dict[bytes, Resource]:
        if self._shown is None:
            return {}
        if not self._is_page_open:
            return {b"/": _refused, b"/page.json": _refused}
        asked = Asking(self._shown)
        self._asked.append(asked)

        async def data() -> Reply:
            found = await asked.fresh()
            if found is None:
                return Reply(b"the node does not answer\n", status="503 Service Unavailable")
            return Reply(json.dumps(found).encode(), "application/json", headers=HEADERS)

        return {b"/": page, b"/page.json": data}


async def _refused() -> Reply:
    return Reply(REFUSAL, status="403 Forbidden")


def _now_ms() -> int:
    return monotonic_ns() // 1_000_000
