"""What is not exactly etcd's answer is no answer; no wait is longer than the time-out."""

import asyncio
import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from time import monotonic

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pycolo.arbiters.etcdclient import EtcdStore, StoreError
from pycolo.arbiters.httprequest import Endpoint
from pycolo.errors import ConfigError
from pycolo.failover.store import (
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
    RevokeLease,
    TermRecord,
    Terms,
)
from support.etcd import Serve, read_request, serving

HEADER = {"cluster_id": "9" * 18, "member_id": "2", "revision": "5", "raft_term": "3"}
TERMS = Terms("b", 1, 2, "a")
CLAIM = Claim(7, "a", 2, TERMS, 0, 0)
KEEP = KeepTerms(TERMS, 3, 4)
REQUESTS = [ReadKeys(), GrantLease(3), RenewLease(7), CLAIM, KEEP, RevokeLease(7)]


def b64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def http(body: object, status: str = "200 OK", *, chunked: bool = False) -> bytes:
    data = body if isinstance(body, bytes) else msgspec.json.encode(body)
    if chunked:
        parts = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in (data[:5], data[5:]) if part)
        return f"HTTP/1.1 {status}\r\nTransfer-Encoding: chunked\r\n\r\n".encode() + parts + b"0\r\n\r\n"
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(data)}\r\n\r\n".encode() + data


def says(answer: bytes) -> Serve:
    """A server that reads what it gets, says this, and closes."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(answer)
        await writer.drain()

    return serve


@asynccontextmanager
async def server(serve: Serve) -> AsyncIterator[str]:
    async with serving(serve) as port:
        yield f"http://127.0.0.1:{port}"


def ask(serve: Serve, request, timeout_s: float = 5.0):
    async def play():
        async with server(serve) as url:
            return await EtcdStore((url,), "/colo/", "vm1", timeout_s).ask(request)

    return asyncio.run(play())


def keys(*records: tuple[str, str] | None) -> dict:
    """A read's answer: (key, value) of each."""
    ranges = [
        {"kvs": [{"key": b64(found[0]), "mod_revision": "4", "value": b64(found[1]), "lease": "7"}]} if found else {}
        for found in records
    ]
    return {"header": HEADER, "succeeded": True, "responses": [{"response_range": one} for one in ranges]}


GONE = {"error": "etcdserver: requested lease not found", "code": 5}


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize(
    ("request_", "status", "body", "answer"),
    [
        (ReadKeys(), "200 OK", keys(None, None), KeysRead(None, None, 3)),
        (
            ReadKeys(),
            "200 OK",
            keys(("/colo/vm1/server", '{"holder":"a","term":2}'), ("/colo/vm1/term", '{"holder":"b","term":3}')),
            KeysRead(Record("a", 2, 7, 4), TermRecord("b", 3, 3, "", 4), 3),
        ),
        (
            ReadKeys(),
            "200 OK",
            keys(None, ("/colo/vm1/term", '{"holder":"b","term":1,"granted":2,"grantee":"a"}')),
            KeysRead(None, TermRecord("b", 1, 2, "a", 4), 3),
        ),
        (KEEP, "200 OK", {"header": HEADER, "succeeded": True}, Claimed(is_done=True)),
        (KEEP, "200 OK", {"header": HEADER}, Claimed(is_done=False)),
        (GrantLease(3), "200 OK", {"header": HEADER, "ID": "7", "TTL": "5"}, LeaseGranted(7, 5, 3)),
        (RenewLease(7), "200 OK", {"result": {"header": HEADER, "ID": "7", "TTL": "3"}}, LeaseRenewed(3, 3)),
        (RenewLease(7), "200 OK", {"result": {"header": HEADER, "ID": "7"}}, LeaseGone()),
        (CLAIM, "200 OK", {"header": HEADER, "succeeded": True}, Claimed(is_done=True)),
        (CLAIM, "200 OK", {"header": HEADER}, Claimed(is_done=False)),
        (CLAIM, "404 Not Found", GONE, LeaseGone()),
        (RevokeLease(7), "200 OK", {"header": HEADER}, LeaseGone()),
        (RevokeLease(7), "404 Not Found", GONE, LeaseGone()),
    ],
)
def test_answers(request_, status, body, answer, chunked):
    assert ask(says(http(body, status, chunked=chunked)), request_) == answer


GOOD_GRANT = http({"header": HEADER, "ID": "7", "TTL": "5"})


@pytest.mark.parametrize(
    ("request_", "answer", "message"),
    [
        (ReadKeys(), b"", "closed before an answer|reset"),
        (ReadKeys(), b"SSH-2.0-OpenSSH_9.2\r\n\r\n", "the answer is not HTTP"),
        (ReadKeys(), GOOD_GRANT[:-4], "without sending complete message body"),
        (ReadKeys(), http({}, "503 Service Unavailable"), "HTTP status 503 with an answer that is not etcd's"),
        (ReadKeys(), http({"error": "etcdserver: no leader", "code": 14}, "503 x"), "HTTP status 503: etcdserver: no"),
        (ReadKeys(), http(b"<html>"), "HTTP status 200 with an answer that is not etcd's"),
        (ReadKeys(), http({}), "not etcd's"),
        (ReadKeys(), http({"header": HEADER, "succeeded": True}), "holds no two keys"),
        (ReadKeys(), http(keys(None)), "holds no two keys"),
        (ReadKeys(), http(keys(("/colo/vm2/server", '{"holder":"a","term":2}'), None)), "about another key"),
        (ReadKeys(), http(keys(("/colo/vm1/server", "hand-made"), None)), "/colo/vm1/server was not written by colo"),
        (ReadKeys(), http(keys(("/colo/vm1/server", '{"holder":"a","term":"x"}'), None)), "not written by colo"),
        (ReadKeys(), b"HTTP/1.1 200 OK\r\nContent-Length: 99999999\r\n\r\n" + b"x" * 70_000, "longer than 65536"),
        (ReadKeys(), b"HTTP/1.1 200 OK\r\n\r\n", "does not say how long"),
        (
            ReadKeys(),
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nfffffff\r\n" + b"x" * 70_000,
            "longer than",
        ),
        (ReadKeys(), b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", "the answer is not HTTP"),
        (ReadKeys(), b"HTTP/1.1 200 OK\r\nX: " + b"x" * 100_000, "not HTTP: Receive buffer too long"),
        (ReadKeys(), http(keys(None, None) | {"header": HEADER | {"raft_term": "0"}}), "it is in no cluster"),
        (GrantLease(3), http({"header": HEADER, "ID": "0", "TTL": "5"}), "without an ID or a time"),
        (GrantLease(3), http({"header": HEADER, "ID": "7"}), "not etcd's"),
        (RenewLease(7), http({"result": {"header": HEADER, "ID": "8", "TTL": "3"}}), "another lease was renewed"),
        (RenewLease(7), http({"error": {"message": "no leader"}}), "not etcd's"),
        (RevokeLease(7), http("gone", "404 Not Found"), "HTTP status 404"),
        (RevokeLease(7), http({"error": "page not found", "code": 5}, "404 Not Found"), "HTTP status 404: page"),
    ],
)
def test_what_is_not_etcds_answer_is_none(request_, answer, message):
    with pytest.raises(StoreError, match=message) as caught:
        ask(says(answer), request_)
    assert str(caught.value).startswith("http://127.0.0.1:")
    assert str(caught.value).isprintable()


@settings(max_examples=30)
@given(st.sampled_from(REQUESTS), st.binary(max_size=300) | st.binary(max_size=60).map(http))
def test_no_bytes_are_taken_for_a_grant_and_none_raise_anything_else(request_, junk):
    with pytest.raises(StoreError):
        ask(says(junk), request_)


@pytest.mark.slow
@pytest.mark.parametrize("trickles", [False, True])
def test_who_is_slow_is_not_waited_for(trickles):
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for byte in b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\n" + b" " * 50 if trickles else b"":
            writer.write(bytes([byte]))
            await writer.drain()
            await asyncio.sleep(0.05)
        await reader.readexactly(1 << 20)

    began = monotonic()
    with pytest.raises(StoreError, match="no answer within 300 ms"):
        ask(serve, ReadKeys(), 0.3)
    assert monotonic() - began < 20


def test_after_a_failure_the_next_endpoint_is_asked():
    async def play():
        async with server(says(http({}, "500 x"))) as bad, server(says(GOOD_GRANT)) as good:
            store = EtcdStore((bad, good), "/colo/", "vm1", 5.0)
            for url in (bad, None, None):
                if url:
                    with pytest.raises(StoreError, match=url):
                        await store.ask(GrantLease(3))
                else:
                    assert await store.ask(GrantLease(3)) == LeaseGranted(7, 5, 3)

    asyncio.run(play())


def test_an_answer_of_another_cluster_is_refused():
    async def play():
        other = http({"header": HEADER | {"cluster_id": "8"}, "ID": "7", "TTL": "5"})
        answers = [GOOD_GRANT, other, GOOD_GRANT]

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await says(answers.pop(0))(reader, writer)

        async with server(serve) as url:
            store = EtcdStore((url,), "/colo/", "vm1", 5.0)
            await store.ask(GrantLease(3))
            with pytest.raises(StoreError, match="another cluster than before"):
                await store.ask(GrantLease(3))
            assert await store.ask(GrantLease(3)) == LeaseGranted(7, 5, 3)

    asyncio.run(play())


def test_a_claim_writes_both_keys_if_neither_has_changed():
    store = EtcdStore(("http://h:1",), "/colo/", "vm1", 1.0)
    body = store._claiming(Claim(7, 'a"b', 2, TERMS, 10, 0))
    value = b64('{"holder":"a\\"b","term":2}')
    server_key, term_key = b64("/colo/vm1/server"), b64("/colo/vm1/term")
    assert body["success"] == [
        {"request_put": {"key": server_key, "value": value, "lease": "7"}},
        {"request_put": {"key": term_key, "value": b64('{"holder":"b","term":1,"granted":2,"grantee":"a"}')}},
    ]
    assert [(one["key"], one["mod_revision"]) for one in body["compare"]] == [(server_key, "10"), (term_key, "0")]


@pytest.mark.parametrize("url", ["", "h:2379", "ftp://h", "http://", "http://h:99999", "http://h/path", "http://[::1"])
def test_what_is_no_url_is_refused(url):
    with pytest.raises(ConfigError, match=r"arbiter\.endpoints"):
        Endpoint(url)


def test_urls():
    assert (Endpoint("http://[fd00::3]:2379/").host, Endpoint("http://[fd00::3]:2379/").port) == ("fd00::3", 2379)
    assert Endpoint("https://etcd.example").tls is not None
