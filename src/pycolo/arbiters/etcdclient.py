"""etcd's version 3 protocol over its JSON gateway, as far as a lease needs it.

One HTTP connection for each request (`httprequest`). Everything is bounded and typed. An answer that is not exactly as
expected counts as none (`StoreError`), and the next request goes to the next endpoint.
"""

import asyncio
from base64 import b64decode, b64encode
from collections.abc import Sequence
from typing import Any, Final, NoReturn, TypeVar

import msgspec

from pycolo.arbiters.httprequest import Endpoint, TlsContexts, TlsFiles
from pycolo.errors import ConfigError, PeerError
from pycolo.failover.store import (
    Answer,
    Claim,
    Claimed,
    GrantLease,
    KeepTerms,
    KeysRead,
    LeaseGone,
    LeaseGranted,
    LeaseRenewed,
    ReadKeys,
    Record,
    RenewLease,
    Request,
    RevokeLease,
    TermRecord,
    Terms,
)

LEASE_NOT_FOUND: Final = 5
"""gRPC's NOT_FOUND."""


class StoreError(PeerError):
    """No answer, or none that can be trusted: the request may have been done all the same."""


class LeaseNotFoundError(StoreError):
    """etcd does not know the lease, or no longer: nothing was done, and nothing will be."""


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
V = TypeVar("V", bound="_Server | _Terms")


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


class _Server(msgspec.Struct, forbid_unknown_fields=True):
    """The value of the key `server`."""

    holder: str
    term: int


class _Terms(msgspec.Struct, forbid_unknown_fields=True):
    """The value of the key `term`."""

    holder: str
    term: int
    granted: int = 0
    grantee: str = ""


def _encoded(text: str) -> str:
    return b64encode(text.encode()).decode("ascii")


class EtcdStore:
    """The two keys of one pair. `ask` is called for one request at a time."""

    def __init__(
        self, endpoints: Sequence[str], prefix: str, pair: str, timeout_s: float, tls: TlsFiles | None = None
    ) -> None:
        """`timeout_s`: for a whole request. Raises `ConfigError` for an endpoint that is no URL, or unusable files."""
        contexts = TlsContexts(tls or TlsFiles())
        self._endpoints = [Endpoint(url, contexts) for url in endpoints]
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
            case KeepTerms():
                return Claimed((await self._post("/v3/kv/txn", self._keeping(request), _Txn)).succeeded)
            case RevokeLease(lease=lease):
                await self._post("/v3/lease/revoke", {"ID": str(lease)}, _Reply)
                return LeaseGone()

    # ── bodies ──────────────────────────────────────────────────────────────────────────────────────────────

    def _reading(self) -> dict[str, Any]:
        keys = (self._server_key, self._term_key)
        return {"success": [{"request_range": {"key": _encoded(key)}} for key in keys]}

    def _claiming(self, claim: Claim) -> dict[str, Any]:
        value = _encoded(msgspec.json.encode(_Server(claim.holder, claim.term)).decode())
        server = {"key": _encoded(self._server_key), "value": value, "lease": str(claim.lease)}
        puts = [{"request_put": server}, {"request_put": self._terms(claim.terms)}]
        return {"compare": self._unchanged(claim), "success": puts}

    def _keeping(self, request: KeepTerms) -> dict[str, Any]:
        return {"compare": self._unchanged(request), "success": [{"request_put": self._terms(request.terms)}]}

    def _terms(self, terms: Terms) -> dict[str, str]:
        value = msgspec.json.encode(_Terms(*terms)).decode()
        return {"key": _encoded(self._term_key), "value": _encoded(value)}

    def _unchanged(self, request: Claim | KeepTerms) -> list[dict[str, str]]:
        found = ((self._server_key, request.server_revision), (self._term_key, request.term_revision))
        return [
            {"key": _encoded(key), "target": "MOD", "result": "EQUAL", "mod_revision": str(revision)}
            for key, revision in found
        ]

    def _keys(self, txn: _Txn) -> KeysRead:
        ranges = [response.response_range for response in txn.responses]
        if not txn.succeeded or len(ranges) != 2:
            self._refuse("the answer to a read holds no two keys")
        server = self._value(ranges[0], self._server_key, _Server)
        term = self._value(ranges[1], self._term_key, _Terms)
        return KeysRead(
            None if server is None else _server_record(*server),
            None if term is None else _term_record(*term),
            txn.header.raft_term,
        )

    def _value(self, found: _Range | None, key: str, kind: type[V]) -> tuple[V, _KeyValue] | None:
        if found is None:
            self._refuse("the answer to a read holds no two keys")
        if not found.kvs:
            return None
        pair = found.kvs[0]
        if len(found.kvs) != 1 or pair.key != _encoded(key) or pair.mod_revision <= 0:
            self._refuse("the answer to a read is about another key")
        try:
            return msgspec.json.decode(b64decode(pair.value, validate=True), type=kind), pair
        except (msgspec.MsgspecError, ValueError):
            self._refuse(f"the key {key} was not written by colo: delete it, or set another arbiter.prefix")

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
        except (OSError, EOFError, ValueError, ConfigError) as error:
            self._refuse(_printable(getattr(error, "strerror", None) or str(error) or type(error).__name__))

    def _refuse(self, what: str) -> NoReturn:
        endpoint = self._endpoints.pop(0)
        self._endpoints.append(endpoint)
        raise StoreError(f"{endpoint.url}: {what}")


def _printable(text: str) -> str:
    return "".join(letter if letter.isprintable() else " " for letter in text)[:200]


def _server_record(value: _Server, pair: _KeyValue) -> Record:
    return Record(value.holder, value.term, pair.lease, pair.mod_revision)


def _term_record(value: _Terms, pair: _KeyValue) -> TermRecord:
    return TermRecord(value.holder, value.term, max(value.term, value.granted), value.grantee, pair.mod_revision)
