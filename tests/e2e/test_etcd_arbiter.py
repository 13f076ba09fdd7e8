"""The arbiter `etcd` with a real etcd: killed, stopped, unreachable and forgetful at the wrong moments.

While a test runs, `Watch` looks every few milliseconds whether more than one node may release.
"""

import asyncio
import base64
import urllib.request
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from time import monotonic, monotonic_ns

import msgspec
import pytest

from pycolo import arbiters
from pycolo.arbiters import ArbiterRunner
from pycolo.failover.arbiter import Decision
from support.etcd import Etcd, Settings, Way
from support.ports import unused_port

pytestmark = pytest.mark.etcd

TTL_MS = 2000  # the least that etcd grants
WAIT_S = 20
LONG_TTL_MS = 120_000  # longer than any test lasts: what comes within it does not come of a lease that has run out


@pytest.fixture
def etcd(tmp_path) -> Iterator[Etcd]:
    with Etcd(tmp_path) as running:
        yield running


def node(etcd: Etcd | Way, identity: str, term: int = 0, *urls: str, ttl_ms: int = TTL_MS) -> ArbiterRunner:
    options = Settings(kind="etcd", endpoints=urls or (etcd.url,), ttl_ms=ttl_ms)
    return arbiters.make(
        options,
        pair="vm1",
        role=lambda: "primary",
        peer="-",
        identity=identity,
        term=term,
        apart_ms=0,
        on_change=lambda: None,
    )


class Pair:
    """Two nodes' arbiters, watched."""

    def __init__(self, a: ArbiterRunner, b: ArbiterRunner) -> None:
        self.a, self.b = a, b
        self.broken: list[str] = []

    async def watch(self) -> None:
        while True:
            able = [one.verdict() for one in (self.a, self.b) if may_release(one)]
            if len(able) > 1:
                self.broken.append(str(able))
            await asyncio.sleep(0.003)


def may_release(one: ArbiterRunner) -> bool:
    until_ns = one.serve_until_ns()
    return until_ns is None or monotonic_ns() < until_ns


@asynccontextmanager
async def pair(a: ArbiterRunner, b: ArbiterRunner, *, forms=True) -> AsyncIterator[Pair]:
    """`forms`: the first has acquired and the second is paired with it."""
    watched = Pair(a, b)
    watching = asyncio.get_running_loop().create_task(watched.watch())
    await a.start()
    await b.start()
    try:
        async with asyncio.timeout(60):
            if forms:
                granted = await a.acquire()
                assert granted.decision is Decision.GRANTED
                a.paired(granted.term)
                b.paired(granted.term)
            yield watched
    finally:
        watching.cancel()
        with suppress(asyncio.CancelledError):
            await watching
        await a.close()
        await b.close()
    assert watched.broken == []


async def until(condition, what: str) -> None:
    deadline = monotonic() + WAIT_S
    while not condition():
        assert monotonic() < deadline, what() if callable(what) else what
        await asyncio.sleep(0.005)


async def releases(one: ArbiterRunner) -> None:
    """It may release, or may again: of a lease that is not renewed in time, on a busy machine, a holder lets go."""
    await until(lambda: may_release(one), lambda: one.verdict().text)


def suspects(one: ArbiterRunner) -> None:
    one.suspected(monotonic_ns() // 1_000_000)


def is_granted(one: ArbiterRunner) -> bool:
    return one.verdict().decision is Decision.GRANTED


def is_denied(one: ArbiterRunner) -> bool:
    return one.verdict().decision is Decision.DENIED


def post(etcd: Etcd, path: str, body: dict) -> dict:
    request = urllib.request.Request(f"{etcd.url}{path}", msgspec.json.encode(body))
    with urllib.request.urlopen(request, timeout=20) as answer:
        return msgspec.json.decode(answer.read())


def key(name: str) -> str:
    return base64.b64encode(f"/colo/vm1/{name}".encode()).decode()


# ── in order ────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_holder_serves_for_longer_than_its_lease_and_the_other_does_not(etcd):
    async def scene() -> None:
        async with pair(node(etcd, "a"), node(etcd, "b")) as two:
            suspects(two.b)
            until_ns = two.a.serve_until_ns()
            assert 0 < until_ns - monotonic_ns() < TTL_MS * 1_000_000
            while two.a.serve_until_ns() < until_ns + TTL_MS * 500_000:
                await releases(two.a)
                assert not may_release(two.b)
                await asyncio.sleep(0.05)
            assert two.a.verdict()[:2] == (Decision.WAIT, 1)
            assert two.b.verdict().decision is Decision.WAIT
            said = "a holds the lease, under term 1"
            await until(lambda: said in two.b.verdict().text, lambda: two.b.verdict().text)

    asyncio.run(scene())


def test_a_dead_holder_is_taken_over_from_when_its_lease_has_run_out(etcd):
    async def scene() -> None:
        async with pair(node(etcd, "a"), node(etcd, "b")) as two:
            await two.a.close()  # dies without a word
            dead = two.a.serve_until_ns()
            suspects(two.b)
            await until(lambda: is_granted(two.b), lambda: two.b.verdict().text)
            assert monotonic_ns() > dead
            assert two.b.verdict().term == 2
            await releases(two.b)
            two.b.serves(2)
            late = node(etcd, "a", term=1)  # comes back, and knows nothing of that
            await late.start()
            try:
                answer = await late.acquire(1)
            finally:
                await late.close()
            assert answer.decision is Decision.DENIED
            assert "b holds the lease, under term 2" in answer.text

    asyncio.run(scene())


def test_a_resignation_is_taken_over_from_at_once(etcd):
    async def scene() -> None:
        async with pair(*(node(etcd, name, ttl_ms=LONG_TTL_MS) for name in "ab")) as two:
            suspects(two.b)
            await until(lambda: "holds the lease" in two.b.verdict().text, "b has not asked")
            await two.a.resign()
            assert not may_release(two.a)
            await until(lambda: is_granted(two.b), lambda: two.b.verdict().text)
            assert two.b.verdict().term == 2

    asyncio.run(scene())


def test_who_goes_alone_opens_a_term_that_the_other_cannot_follow(etcd):
    async def scene() -> None:
        async with pair(node(etcd, "a"), node(etcd, "b")) as two:
            suspects(two.b)
            suspects(two.a)
            await until(lambda: is_granted(two.a), lambda: two.a.verdict().text)
            assert two.a.verdict().term == 2
            await until(lambda: "may serve at any moment" in two.b.verdict().text, lambda: two.b.verdict().text)
            two.a.serves(2)
            await until(lambda: is_denied(two.b), lambda: two.b.verdict().text)
            assert "a holds the lease, under term 2" in two.b.verdict().text

    asyncio.run(scene())


def test_of_two_that_begin_at_once_one_serves(etcd):
    async def scene() -> None:
        async with pair(node(etcd, "a"), node(etcd, "b"), forms=False) as two:
            answers = await asyncio.gather(two.a.acquire(), two.b.acquire())
            assert sorted(answer.decision.value for answer in answers) == ["denied", "granted"]

    asyncio.run(scene())


def test_a_restarted_node_has_its_own_lease_again_at_once_under_a_new_term(etcd):
    async def scene() -> None:
        async with pair(*(node(etcd, "a", term, ttl_ms=LONG_TTL_MS) for term in (0, 1)), forms=False) as two:
            assert (await two.a.acquire()).term == 1
            await two.a.close()
            # The watch would see both within the old bound; one process cannot have two lives.
            two.a._until_ns = 0
            assert (await two.b.acquire())[:2] == (Decision.GRANTED, 2)

    asyncio.run(scene())


# ── etcd in trouble ─────────────────────────────────────────────────────────────────────────────────────────


def test_an_etcd_that_stands_still_grants_nothing_and_holds_everything_back(etcd):
    async def scene() -> None:
        async with pair(node(etcd, "a"), node(etcd, "b")) as two:
            etcd.pause()
            suspects(two.b)
            await until(lambda: not may_release(two.a), "a goes on without its lease")
            await until(lambda: "holds everything back" in two.a.verdict().text, lambda: two.a.verdict().text)
            await until(lambda: "nothing is granted without it" in two.b.verdict().text, lambda: two.b.verdict().text)
            assert not may_release(two.b)
            etcd.go_on()
            await until(lambda: may_release(two.a) or may_release(two.b), "neither node goes on")
            if may_release(two.a):
                assert two.a.verdict()[:2] == (Decision.WAIT, 1)
            else:
                assert (await two.b.acquire())[:2] == (Decision.GRANTED, 2)  # b serves: open until then
                await until(lambda: is_denied(two.a), lambda: two.a.verdict().text)

    asyncio.run(scene())


def test_a_killed_etcd_that_comes_back_gives_the_lease_to_its_holder(etcd):
    async def scene() -> None:
        async with pair(node(etcd, "a"), node(etcd, "b")) as two:
            etcd.kill()
            await until(lambda: not may_release(two.a), "a goes on without its lease")
            await asyncio.to_thread(etcd.start)
            await releases(two.a)
            assert two.a.verdict()[:2] == (Decision.WAIT, 1)
            await until(lambda: not two.a.verdict().text.startswith("etcd"), lambda: two.a.verdict().text)

    asyncio.run(scene())


def test_etcd_killed_again_and_again_in_the_middle_of_requests(etcd):
    async def scene() -> None:
        async with pair(node(etcd, "a"), node(etcd, "b")) as two:
            suspects(two.b)
            for pause_s in (0.0, 0.31, 0.07):
                etcd.kill()
                await asyncio.sleep(pause_s)
                await asyncio.to_thread(etcd.start)
                await releases(two.a)
            await two.a.close()
            await until(lambda: is_granted(two.b), lambda: two.b.verdict().text)
            assert two.b.verdict().term == 2

    asyncio.run(scene())


@pytest.mark.parametrize("lost", [b"/v3/kv/txn", b"/v3/lease/grant", b"compare"])
def test_a_request_whose_answer_was_lost_is_looked_up_before_it_is_believed(etcd, lost):
    async def scene() -> None:
        async with Way(etcd.client_port) as way, pair(node(way, "a"), node(way, "b")) as two:
            await two.a.resign()
            lose = [True, True]
            way.loses_answer = lambda request: lost in request and bool(lose) and lose.pop()
            way.requests.clear()
            suspects(two.b)
            await until(lambda: is_granted(two.b), lambda: two.b.verdict().text)
            assert lose == [] or lost == b"compare"
            # A claim that was done counts once, however its answer was lost: the term is the next one.
            assert two.b.verdict().term == 2
            claims = [request for request in way.requests if b"compare" in request]
            assert len(claims) == 1
            await releases(two.b)

    asyncio.run(scene())


def test_renewals_whose_answers_are_lost_do_not_count(etcd):
    async def scene() -> None:
        async with Way(etcd.client_port) as way, pair(node(way, "a"), node(etcd, "b")) as two:
            way.loses_answer = lambda request: b"keepalive" in request
            await until(lambda: not may_release(two.a), "a believes what it was not told")
            way.loses_answer = lambda _: False
            await releases(two.a)

    asyncio.run(scene())


def test_a_dead_endpoint_is_passed_over(etcd):
    async def scene() -> None:
        nowhere = f"http://127.0.0.1:{unused_port()}"
        async with pair(node(etcd, "a", 0, nowhere, etcd.url), node(etcd, "b", 0, etcd.url, nowhere)) as two:
            until_ns = two.a.serve_until_ns()
            await until(lambda: two.a.serve_until_ns() > until_ns + TTL_MS * 500_000, lambda: two.a.verdict().text)

    asyncio.run(scene())


def test_another_cluster_is_not_believed(etcd, tmp_path):
    async def scene() -> None:
        (tmp_path / "other").mkdir()
        with Etcd(tmp_path / "other") as other:
            # Both are new clusters; what tells them apart is the cluster's ID, made from its members' addresses.
            async with pair(node(etcd, "a", 0, etcd.url, other.url), node(etcd, "b")) as two:
                etcd.pause()
                await until(lambda: "another cluster" in two.a.verdict().text, lambda: two.a.verdict().text)
                etcd.go_on()
                await releases(two.a)

    asyncio.run(scene())


# ── keys in trouble ─────────────────────────────────────────────────────────────────────────────────────────


def test_a_holder_whose_key_was_taken_is_fenced(etcd):
    async def scene() -> None:
        async with pair(node(etcd, "a"), node(etcd, "b")) as two:
            value = base64.b64encode(b'{"holder":"c","term":9}').decode()
            for name in ("server", "term"):
                post(etcd, "/v3/kv/put", {"key": key(name), "value": value})
            await until(lambda: is_denied(two.a), lambda: two.a.verdict().text)
            assert "c holds the lease, under term 9" in two.a.verdict().text
            assert not may_release(two.a)

    asyncio.run(scene())


def test_a_key_that_is_not_ours_grants_nothing(etcd):
    async def scene() -> None:
        post(etcd, "/v3/kv/put", {"key": key("server"), "value": base64.b64encode(b"somebody else").decode()})
        async with pair(node(etcd, "a"), node(etcd, "b"), forms=False) as two:
            waiting = asyncio.get_running_loop().create_task(two.a.acquire())
            await until(lambda: "was not written by colo" in two.a.verdict().text, lambda: two.a.verdict().text)
            waiting.cancel()
            with suppress(asyncio.CancelledError):
                await waiting
            assert not may_release(two.a)

    asyncio.run(scene())


def test_an_etcd_that_has_forgotten_the_pair_grants_no_takeover(etcd):
    async def scene() -> None:
        async with pair(node(etcd, "a"), node(etcd, "b")) as two:
            await two.a.close()
            post(etcd, "/v3/kv/deleterange", {"key": key("server")})
            post(etcd, "/v3/kv/deleterange", {"key": key("term")})
            suspects(two.b)
            await until(lambda: "is it the same etcd" in two.b.verdict().text, lambda: two.b.verdict().text)
            two.b.operator_confirmed(monotonic_ns() // 1_000_000)
            two.a._until_ns = 0  # as the operator says
            await until(lambda: is_granted(two.b), lambda: two.b.verdict().text)
            await releases(two.b)

    asyncio.run(scene())


def test_the_operator_is_believed_without_etcd_and_etcd_learns_of_it(etcd):
    async def scene() -> None:
        async with pair(node(etcd, "a"), node(etcd, "b")) as two:
            await two.a.close()
            etcd.kill()
            two.a._until_ns = 0  # as the operator says
            two.b.operator_confirmed(monotonic_ns() // 1_000_000)
            await until(lambda: is_granted(two.b), lambda: two.b.verdict().text)
            assert two.b.serve_until_ns() is None
            await asyncio.to_thread(etcd.start)
            await until(lambda: two.b.serve_until_ns() is not None, lambda: two.b.verdict().text)
            await releases(two.b)
            late = node(etcd, "a", term=1)
            await late.start()
            try:
                assert (await late.acquire(1)).decision is Decision.DENIED
            finally:
                await late.close()

    asyncio.run(scene())
