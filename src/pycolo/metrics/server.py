"""The HTTP server behind `metrics.listen`: GET /metrics in Prometheus' text format or OpenMetrics, and nothing else.

It lives in the node's event loop and has no thread of its own. A scrape asks the node for its status, the very answer
that `colo status` gets, and what was made of it is kept for a second: however often somebody asks, the node is asked
once a second. A node that does not answer in time is a scrape that says so (`colo_status_up 0`); an event loop that
hangs is no answer at all, which Prometheus shows as `up 0`.

Who connects gets one request, a few seconds and one of a few places. While all are taken, others wait in the kernel's
queue, and a place rests for a moment before it is given away again: that bounds what a client can cost the node.
Nothing is encrypted and nobody is asked for a password.
"""

import asyncio
import socket
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from time import monotonic_ns
from typing import Any, Final

import structlog
from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.openmetrics import exposition as openmetrics

from pycolo.errors import ConnectError
from pycolo.metrics.collector import NodeCollector
from pycolo.transport.linksetup import Address

Status = Callable[[], Awaitable[Mapping[str, Any]]]

PLAIN: Final = "text/plain; version=0.0.4; charset=utf-8"
"""What `generate_latest` writes, of whichever version; the library's own name for it is younger than Debian 12."""

CLIENTS_MAX: Final = 8
"""Connections at once: a Prometheus or two, and somebody with curl."""

REST_S: Final = 0.05
"""A place's rest after each request: 160 requests a second at most, some percent of a core."""

HEAD_S: Final = 2.0
"""A client that has not sent its request by then is closed."""

REQUEST_S: Final = 6.0
"""A whole request, below Prometheus' own scrape_timeout of 10 s."""

HEAD_BYTES_MAX: Final = 8192
"""A request of Prometheus has some 400 bytes."""

STATUS_S: Final = 3.0
"""The data path answers between two batches, and QEMU and the other node are given a second each."""

KEEP_MS: Final = 1000
"""So old may an answer be: scrapes come every 15 s, and one more reader costs nothing."""

_BACKLOG: Final = 16

log = structlog.get_logger("colo")


class MetricsServer:
    """Serves what `status()` answers on `address`, from `start` to `close`, in the running event loop."""

    def __init__(self, address: Address, status: Status) -> None:
        """Port 0 takes one that is free: see `address` after `start`."""
        self.address = address
        self._status = status
        self._socket: socket.socket | None = None
        self._clients: dict[asyncio.Task[None], socket.socket] = {}
        self._places = CLIENTS_MAX
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
        try:
            family, _, _, _, target = (
                await self._loop.getaddrinfo(self.address.host, self.address.port, type=socket.SOCK_STREAM)
            )[0]
            self._socket = socket.create_server(target, family=family, backlog=_BACKLOG)
        except OSError as error:
            raise ConnectError(
                f"metrics.listen {self.address}: cannot listen: {error.strerror or error} "
                f"(give each node an address and port of its own, on this host)"
            ) from error
        self._socket.setblocking(False)
        self.address = Address(self.address.host, self._socket.getsockname()[1])
        self._loop.add_reader(self._socket, self._accept)

    async def close(self) -> None:
        """Close the port and all connections; waits for nobody but a status question that is under way."""
        if self._socket is None:
            return
        self._loop.remove_reader(self._socket)
        self._socket.close()
        self._socket = None
        clients = list(self._clients)
        for client in clients:
            client.cancel()
        await asyncio.gather(*clients, return_exceptions=True)
        asking = self._asking
        if asking is not None:
            await asyncio.wait({asking}, timeout=STATUS_S)
            asking.cancel()
            await asyncio.gather(asking, return_exceptions=True)

    # ── clients ───────────────────────────────────────────────────────────────────────────────────────────────

    def _accept(self) -> None:
        assert self._socket is not None
        try:
            client = self._socket.accept()[0]
        except BlockingIOError:  # it went away again
            return
        except OSError:  # no descriptor left: others need the next one more
            self._take_place()
            return
        client.setblocking(False)
        task = self._loop.create_task(self._serve(client), name="metrics client")
        self._clients[task] = client
        task.add_done_callback(self._ended)
        self._take_place(is_kept=True)

    def _take_place(self, *, is_kept: bool = False) -> None:
        """Look for the next client only while there is a place for it."""
        self._places -= 1
        if self._places == 0 and self._socket is not None:
            self._loop.remove_reader(self._socket)
        if not is_kept:
            self._loop.call_later(REST_S, self._give_place)

    def _give_place(self) -> None:
        self._places += 1
        if self._socket is not None:
            self._loop.add_reader(self._socket, self._accept)

    def _ended(self, task: asyncio.Task[None]) -> None:
        """Also of a task that was cancelled before it began."""
        self._clients.pop(task).close()
        self._loop.call_later(REST_S, self._give_place)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("metrics: a request has failed; this is a bug", exc_info=error)

    async def _serve(self, client: socket.socket) -> None:
        with suppress(OSError, TimeoutError):  # gone, or too slow: its own loss
            async with asyncio.timeout(REQUEST_S):
                async with asyncio.timeout(HEAD_S):
                    head = await self._head(client)
                await self._loop.sock_sendall(client, await self._reply(head))
                client.shutdown(socket.SHUT_WR)

    async def _head(self, client: socket.socket) -> bytes:
        head = b""
        while b"\r\n\r\n" not in head and len(head) <= HEAD_BYTES_MAX:
            octets = await self._loop.sock_recv(client, HEAD_BYTES_MAX)
            if not octets:
                raise ConnectionResetError
            head += octets
        return head

    # ── requests ──────────────────────────────────────────────────────────────────────────────────────────────

    async def _reply(self, head: bytes) -> bytes:
        end = head.find(b"\r\n\r\n")
        if not 0 <= end <= HEAD_BYTES_MAX:
            return _response("431 Request Header Fields Too Large", b"too long a request\n")
        line, *headers = head[:end].split(b"\r\n")
        words = line.split(b" ")
        if len(words) != 3 or not words[2].startswith(b"HTTP/1."):
            return _response("400 Bad Request", b"expected: GET /metrics HTTP/1.1\n")
        method, target, _ = words
        if method not in (b"GET", b"HEAD"):
            return _response("405 Method Not Allowed", b"only GET and HEAD\n", "Allow: GET, HEAD\r\n")
        is_head = method == b"HEAD"
        if target.partition(b"?")[0] != b"/metrics":
            return _response("404 Not Found", b"the metrics are at /metrics\n", is_head=is_head)
        accepted = b",".join(header for header in headers if header.lower().startswith(b"accept:"))
        kind = openmetrics.CONTENT_TYPE_LATEST if b"application/openmetrics-text" in accepted else ""
        kind = kind or PLAIN
        return _response("200 OK", await self._body(kind), content_type=kind, is_head=is_head)

    async def _body(self, kind: str) -> bytes:
        await self._refresh()
        if kind not in self._bodies:
            make = openmetrics.generate_latest if kind == openmetrics.CONTENT_TYPE_LATEST else generate_latest
            self._bodies[kind] = make(self._registry)
        return self._bodies[kind]

    async def _refresh(self) -> None:
        """See that `_answer` is no older than `KEEP_MS`, or None. All who wait for the status share one question.

        It is never cancelled, however late: another thread may be about to answer it.
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
            self._complain(f"the node has not said its status within {STATUS_S:g} s")

    def _is_fresh(self) -> bool:
        return self._answered_ms is not None and _now_ms() - self._answered_ms < KEEP_MS

    async def _ask(self) -> None:
        try:
            self._answer = await self._status()
            self._has_complained = False
        except Exception as error:  # a scrape must not end what it asks
            self._answer = None
            self._complain(f"the node could not say its status: {error!r}")
        self._answered_ms = _now_ms()
        self._bodies.clear()
        self._asking = None

    def _complain(self, text: str) -> None:
        """Once, until it is well again."""
        if not self._has_complained:
            self._has_complained = True
            log.warning(f"metrics: {text}")


def _response(
    status: str,
    body: bytes,
    headers: str = "",
    content_type: str = "text/plain; charset=utf-8",
    *,
    is_head: bool = False,
) -> bytes:
    head = (
        f"HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\nContent-Length: {len(body)}\r\n{headers}"
        "Cache-Control: no-store\r\nConnection: close\r\n\r\n"
    )
    return head.encode() + (b"" if is_head else body)


def _now_ms() -> int:
    return monotonic_ns() // 1_000_000
