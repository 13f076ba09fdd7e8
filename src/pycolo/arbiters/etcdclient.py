"""etcd's version 3 protocol over its JSON gateway, as far as a lease needs it.

One HTTP connection for each request, closed after it: no late answer can be taken for another request's. Everything is
bounded and typed; an answer that is not exactly what it has to be is no answer (`StoreError`), and the next request
goes to the next endpoint.
"""

import asyncio
import ssl
from base64 import b64decode, b64encode
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Final, NoReturn, TypeVar
from urllib.parse import urlsplit

import msgspec

from pycolo.errors import ConfigError, PeerError
from pycolo.failover.store import (
    Answer,
    Claim,
    Claimed,
    GrantLease,
    KeysRead,
    LeaseGone,
    LeaseGranted,
    LeaseRenewed,
    ReadKeys,
    Record,
    RenewLease,
    Request,
    RevokeLease,
)

BODY_BYTES_MAX: Final = 64 << 10
"""Two keys of a hundred bytes, and room."""

HEADERS_MAX: Final = 64
"""Lines of an answer's head."""

LEASE_NOT_FOUND: Final = 5
"""gRPC's NOT_FOUND."""


class StoreError(PeerError):
    """No answer, or none that can be believed: what was asked may have been done all the same."""


class LeaseNotFoundError(StoreError):
    """etcd knows no such lease, or no more: nothing was done, and nothing will be."""


class _Header(msgspec.Struct):
    cluster_id: int
    raft_term: int


class _KeyValue(msgspec.Struct):
    key: str
    value: str
    mod_revision: int
    lease: int = 0


class _Range(msgspec.Struct):
    kvs: tuple[_KeyValue, ...] = ()


class _Response(msgspec.Struct):
    response_range: _Range | None = None


class _Reply(msgspec.Struct):
    header: _Header


T = TypeVar("T", bound="_Reply | _KeepAlive")


class _Txn(_Reply):
    succeeded: bool = False
    responses: tuple[_Response, ...] = ()


class _Granted(_Reply):
    id: int = msgspec.field(name="ID")
    ttl: int = msgspec.field(name="TTL")


class _Alive(_Reply):
    id: int = msgspec.field(name="ID")
    ttl: int = msgspec.field(name="TTL", default=0)


class _KeepAlive(msgspec.Struct):
    result: _Alive

    @property
    def header(self) -> _Header:
        """Of what the stream holds."""
        return self.result.header


class _Failure(msgspec.Struct):
    code: int
    error: str = ""


class _Value(msgspec.Struct, forbid_unknown_fields=True):
    """What stands in both keys."""

    holder: str
    term: int


class Endpoint:
    """One URL. Raises `ConfigError`."""

    def __init__(self, url: str) -> None:
        try:
            parts = urlsplit(url)
            port = parts.port or (443 if parts.scheme == "https" else 80)
        except ValueError as error:
            raise ConfigError("arbiter.endpoints", "a URL such as http://10.0.0.3:2379", url) from error
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.path not in ("", "/"):
            raise ConfigError("arbiter.endpoints", "a URL such as http://10.0.0.3:2379", url)
        self.url = url.rstrip("/")
        self.host, self.port = parts.hostname, port
        self.host_header = parts.netloc.rpartition("@")[2]
        self.tls = ssl.create_default_context() if parts.scheme == "https" else None

    async def exchange(self, method: str, path: str, body: bytes) -> tuple[int, bytes]:
        """Status and body of the answer. Raises `OSError`, `ValueError`, `EOFError`, asyncio's errors of streams."""
        reader, writer = await asyncio.open_connection(self.host, self.port, ssl=self.tls, limit=BODY_BYTES_MAX)
        try:
            head = (
                f"{method} {path} HTTP/1.1\r\nHost: {self.host_header}\r\nContent-Type: application/json\r\n"
                f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
            )
            writer.write(head.encode("ascii") + body)
            await writer.drain()
            return await _read_answer(reader)
        finally:
            # Nothing more is said on it: no orderly end is waited for, which a stopped peer would never give.
            writer.transport.abort()
            with suppress(OSError, asyncio.TimeoutError):
                await writer.wait_closed()


async def _read_answer(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    version, _, rest = (await reader.readuntil(b"\r\n")).partition(b" ")
    if version not in (b"HTTP/1.1", b"HTTP/1.0") or not rest[:3].isdigit():
        raise ValueError("the answer is not HTTP")
    headers: dict[bytes, bytes] = {}
    for _ in range(HEADERS_MAX):
        line = await reader.readuntil(b"\r\n")
        if line == b"\r\n":
            break
        name, _, value = line.partition(b":")
        headers[name.strip().lower()] = value.strip()
    else:
        raise ValueError(f"the answer has more than {HEADERS_MAX} headers")
    if headers.get(b"transfer-encoding", b"").lower() == b"chunked":
        return int(rest[:3]), await _read_chunks(reader)
    size = int(headers[b"content-length"]) if b"content-length" in headers else -1
    if not 0 <= size <= BODY_BYTES_MAX:
        raise ValueError(f"the answer's length is not from 0 to {BODY_BYTES_MAX}")
    return int(rest[:3]), await reader.readexactly(size)


async def _read_chunks(reader: asyncio.StreamReader) -> bytes:
    body = b""
    while True:
        size = int((await reader.readuntil(b"\r\n")).partition(b";")[0], 16)
        if not 0 <= size <= BODY_BYTES_MAX - len(body):
            raise ValueError(f"the answer is longer than {BODY_BYTES_MAX} bytes")
        if size == 0:
            return body  # trailers may follow; the connection is closed anyway
        body += await reader.readexactly(size)
        await reader.readexactly(2)


def _encoded(text: str) -> str:
    return b64encode(text.encode()).decode("ascii")


class EtcdStore:
    """The two keys of one pair. `ask` is called for one request at a time."""

    def __init__(self, endpoints: Sequence[str], prefix: str, pair: str, timeout_s: float) -> None:
        """`timeout_s`: for a whole request. Raises `ConfigError` for an endpoint that is no URL."""
        self._endpoints = [Endpoint(url) for url in endpoints]
        self._timeout_s = timeout_s
        self._server_key = f"{prefix}{pair}/server"
        self._term_key = f"{prefix}{pair}/term"
        self._cluster_id = 0

    async def ask(self, request: Request) -> Answer:
        """The answer. Raises `StoreError`; then the next request goes to the next endpoint."""
        try:
            return await self._answer(request)
        except LeaseNotFoundError:
            return LeaseGone()

    async def _answer(self, request: Request) -> Answer:
        match request:
            case ReadKeys():
                return self._keys(await self._post("/v3/kv/txn", self._reading(), _Txn))
            case GrantLease(ttl_s=ttl_s):
                granted = await self._post("/v3/lease/grant", {"TTL": str(ttl_s)}, _Granted)
                if granted.id <= 0 or granted.ttl <= 0:
                    self._refuse("a lease was granted without an ID or a time")
                return LeaseGranted(granted.id, granted.ttl, granted.header.raft_term)
            case RenewLease(lease=lease):
                alive = (await self._post("/v3/lease/keepalive", {"ID": str(lease)}, _KeepAlive)).result
                if alive.id != lease:
                    self._refuse("another lease was renewed than was asked")
                return LeaseRenewed(alive.ttl, alive.header.raft_term) if alive.ttl > 0 else LeaseGone()
            case Claim():
                return Claimed((await self._post("/v3/kv/txn", self._claiming(request), _Txn)).succeeded)
            case RevokeLease(lease=lease):
                await self._post("/v3/lease/revoke", {"ID": str(lease)}, _Reply)
                return LeaseGone()

    # ── bodies ──────────────────────────────────────────────────────────────────────────────────────────────

    def _reading(self) -> dict[str, Any]:
        keys = (self._server_key, self._term_key)
        return {"success": [{"request_range": {"key": _encoded(key)}} for key in keys]}

    def _claiming(self, claim: Claim) -> dict[str, Any]:
        value = _encoded(msgspec.json.encode(_Value(claim.holder, claim.term)).decode())
        server, term = _encoded(self._server_key), _encoded(self._term_key)
        found = ((server, claim.server_revision), (term, claim.term_revision))
        return {
            "compare": [
                {"key": key, "target": "MOD", "result": "EQUAL", "mod_revision": str(revision)}
                for key, revision in found
            ],
            "success": [
                {"request_put": {"key": server, "value": value, "lease": str(claim.lease)}},
                {"request_put": {"key": term, "value": value}},
            ],
        }

    def _keys(self, txn: _Txn) -> KeysRead:
        ranges = [response.response_range for response in txn.responses]
        if not txn.succeeded or len(ranges) != 2:
            self._refuse("the answer to a read holds no two keys")
        server, term = (
            self._record(found, key) for found, key in zip(ranges, (self._server_key, self._term_key), strict=True)
        )
        return KeysRead(server, term, txn.header.raft_term)

    def _record(self, found: _Range | None, key: str) -> Record | None:
        if found is None:
            self._refuse("the answer to a read holds no two keys")
        if not found.kvs:
            return None
        pair = found.kvs[0]
        if len(found.kvs) != 1 or pair.key != _encoded(key) or pair.mod_revision <= 0:
            self._refuse("the answer to a read is about another key")
        try:
            value = msgspec.json.decode(b64decode(pair.value, validate=True), type=_Value)
        except (msgspec.MsgspecError, ValueError):
            self._refuse(f"the key {key} was not written by colo: delete it, or set another arbiter.prefix")
        return Record(value.holder, value.term, pair.lease, pair.mod_revision)

    # ── exchange ────────────────────────────────────────────────────────────────────────────────────────────

    async def _post(self, path: str, body: dict[str, Any], kind: type[T]) -> T:
        status, answer = await self._exchange("POST", path, msgspec.json.encode(body))
        try:
            if status != 200:
                self._failed(status, msgspec.json.decode(answer, type=_Failure, strict=False))
            decoded = msgspec.json.decode(answer, type=kind, strict=False)
        except msgspec.MsgspecError:
            self._refuse(f"HTTP status {status} with an answer that is not etcd's")
        header = decoded.header
        if header.cluster_id != (self._cluster_id or header.cluster_id):
            self._refuse("it belongs to another cluster than before: correct arbiter.endpoints, or restart the node")
        if header.raft_term <= 0:
            self._refuse("it is in no cluster")
        self._cluster_id = header.cluster_id
        return decoded

    def _failed(self, status: int, failure: _Failure) -> NoReturn:
        if failure.code == LEASE_NOT_FOUND and "lease not found" in failure.error:
            raise LeaseNotFoundError(failure.error)
        self._refuse(f"HTTP status {status}: {_printable(failure.error)}")

    async def _exchange(self, method: str, path: str, body: bytes) -> tuple[int, bytes]:
        try:
            async with asyncio.timeout(self._timeout_s):
                return await self._endpoints[0].exchange(method, path, body)
        except TimeoutError:
            self._refuse(f"no answer within {self._timeout_s * 1000:.0f} ms")
        except (OSError, EOFError, ValueError, asyncio.LimitOverrunError) as error:
            self._refuse(_printable(getattr(error, "strerror", None) or str(error) or type(error).__name__))

    def _refuse(self, what: str) -> NoReturn:
        endpoint = self._endpoints.pop(0)
        self._endpoints.append(endpoint)
        raise StoreError(f"{endpoint.url}: {what}")


def _printable(text: str) -> str:
    return "".join(letter if letter.isprintable() else " " for letter in text)[:200]
