"""A small HTTP server for scrapes: GET /metrics; a node may have further resources. `colo proxy` has one too.

It runs in an event loop and has no thread of its own. `answer` makes the response, for the request's Accept header. A
client gets one request, a few seconds, and one of a few places. While all places are taken, further clients wait in the
kernel's queue, and a freed place rests for a moment: that bounds the cost of clients. There is neither encryption nor a
password. A resource for people needs a Host header with an address, `localhost` or the configured name: otherwise a web
site could let a name of its own point here, and read what a browser on this host may read (DNS rebinding).
"""

import asyncio
import socket
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from ipaddress import ip_address
from typing import Final, NamedTuple

import structlog

Answer = Callable[[str], Awaitable[tuple[bytes, str]]]
"""Accept header → body and content type."""


class Reply(NamedTuple):
    """What a resource answers. `headers`: whole lines."""

    body: bytes
    content_type: str = "text/plain; charset=utf-8"
    status: str = "200 OK"
    headers: str = ""


Resource = Callable[[], Awaitable[Reply]]

CLIENTS_MAX: Final = 8
"""Connections at once: one or two Prometheus servers, and a manual query."""

REST_S: Final = 0.05
"""A place's rest after each request: at most 160 requests a second, some percent of a core."""

HEAD_S: Final = 2.0
"""A client that has not sent its request by then is disconnected."""

REQUEST_S: Final = 6.0
"""Time limit for a whole request, below Prometheus' own scrape_timeout of 10 s."""

HEAD_BYTES_MAX: Final = 8192
"""Longest request; one from Prometheus has some 400 bytes."""

log = structlog.get_logger("colo")


class ScrapeServer:
    """Serves `listening`, which it owns, from `start` to `close` in the running event loop.

    `resources`: besides /metrics, for people. `name`: the host that `listening` was configured with.
    """

    def __init__(
        self,
        listening: socket.socket,
        answer: Answer,
        resources: Mapping[bytes, Resource] | None = None,
        name: str = "localhost",
    ) -> None:
        self._socket: socket.socket | None = listening
        self._answer = answer
        self._resources = resources or {}
        self._name = name
        self._loop = asyncio.get_running_loop()
        self._clients: dict[asyncio.Task[None], socket.socket] = {}
        self._places = CLIENTS_MAX

    # ── life ──────────────────────────────────────────────────────────────────────────────────────────────────

    def start(self) -> None:
        """Take clients."""
        assert self._socket is not None
        self._socket.setblocking(False)
        self._loop.add_reader(self._socket, self._accept)

    async def close(self) -> None:
        """Close the port and all connections without waiting."""
        if self._socket is None:
            return
        self._loop.remove_reader(self._socket)
        self._socket.close()
        self._socket = None
        clients = list(self._clients)
        for client in clients:
            client.cancel()
        await asyncio.gather(*clients, return_exceptions=True)

    # ── clients ───────────────────────────────────────────────────────────────────────────────────────────────

    def _accept(self) -> None:
        assert self._socket is not None
        try:
            client = self._socket.accept()[0]
        except BlockingIOError:  # the client has left
            return
        except OSError:  # no descriptor left: do not compete for the next one
            self._take_place()
            return
        client.setblocking(False)
        task = self._loop.create_task(self._serve(client), name="metrics client")
        self._clients[task] = client
        task.add_done_callback(self._ended)
        self._take_place(is_kept=True)

    def _take_place(self, *, is_kept: bool = False) -> None:
        """Accept clients only while a place is free."""
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
        """Free the place; also for a task that was cancelled before it began."""
        self._clients.pop(task).close()
        self._loop.call_later(REST_S, self._give_place)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("metrics: a request failed; this is a bug", exc_info=error)

    async def _serve(self, client: socket.socket) -> None:
        with suppress(OSError, TimeoutError):  # disconnected or too slow
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
            return _response("431 Request Header Fields Too Large", b"request too long\n")
        line, *headers = head[:end].split(b"\r\n")
        words = line.split(b" ")
        if len(words) != 3 or not words[2].startswith(b"HTTP/1."):
            return _response("400 Bad Request", b"expected: GET /metrics HTTP/1.1\n")
        method, target, _ = words
        if method not in (b"GET", b"HEAD"):
            return _response("405 Method Not Allowed", b"only GET and HEAD\n", "Allow: GET, HEAD\r\n")
        is_head = method == b"HEAD"
        path = target.partition(b"?")[0]
        if path == b"/metrics":
            body, kind = await self._answer(",".join(_values(headers, b"accept")))
            return _response("200 OK", body, content_type=kind, is_head=is_head)
        resource = self._resources.get(path)
        if resource is None:
            return _response("404 Not Found", b"see /metrics\n", is_head=is_head)
        if not all(self._is_own(host) for host in _values(headers, b"host")):
            return _response("421 Misdirected Request", b"name this server by its address\n", is_head=is_head)
        reply = await resource()
        return _response(reply.status, reply.body, reply.headers, reply.content_type, is_head=is_head)

    def _is_own(self, host: str) -> bool:
        """Whether the value of a Host header names this server."""
        name = host[1:].partition("]")[0] if host.startswith("[") else host.partition(":")[0]
        try:
            ip_address(name)
        except ValueError:
            return name.lower() in ("localhost", self._name.lower())
        return True


def _values(headers: list[bytes], name: bytes) -> list[str]:
    found = [header.partition(b":") for header in headers]
    return [value.decode("latin-1").strip() for key, _, value in found if key.lower() == name]


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
