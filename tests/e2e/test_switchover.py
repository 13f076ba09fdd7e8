"""`colo switchover` with two `colo node` processes and a fake QEMU each: while both live, with a fault at each point.

Clients hold every answer to the law of the counter (`support.fakevm.Client`).
"""

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from pycolo.failover.plans import TAKE_OVER
from support.etcd import Etcd
from support.fakevm import ADDRESSES, Host, Pair
from support.nodes import PATIENCE_S, wait_for
from support.taphost import inside

pytestmark = [pytest.mark.namespaces, pytest.mark.tun]

Make = Callable[..., Pair]

WISHED: dict[str, Any] = {"protect": {"automatic": True}, "arbiter": {"kind": "manual"}}


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    made: list[Pair] = []

    def build(**change: dict[str, Any]) -> Pair:
        made.append(Pair(tmp_path, {**WISHED, **change}))
        return made[-1]

    yield build
    for pair in made:
        pair.close()


def ask_a_lot(pair: Pair) -> None:
    """With and without a difference between the guests."""
    for word in ("count", "draw", "count"):
        pair.client.ask(word)


def swapped(pair: Pair, host: Host) -> None:
    """The pair is protected, and `host` serves."""
    host.wait_state("primary protected")
    pair.other(host).wait_state("secondary protected")
    wait_for(lambda: pair.serving() is host, "one host on the LAN")


def test_there_and_back_and_no_connection_is_lost(make: Make) -> None:
    """Asked at the primary's node, then at the secondary's."""
    pair = make().protected()
    old = pair.connect()
    old.ask(b"before")
    ask_a_lot(pair)
    answer = pair.a.do("switchover")
    assert (answer["state"], answer["role"], answer["term"]) == ("protected", "secondary", 1)
    swapped(pair, pair.b)
    old.ask(b"between")
    ask_a_lot(pair)
    answer = pair.a.do("switchover")
    assert (answer["state"], answer["role"], answer["term"]) == ("protected", "primary", 2)
    swapped(pair, pair.a)
    old.ask(b"after")
    ask_a_lot(pair)
    for host in pair.hosts.values():
        assert "state=suspect" not in host.log


@pytest.mark.etcd
def test_there_and_back_with_etcd(make: Make, tmp_path: Path) -> None:
    """The lease goes from one host to the other and back: the old holder gives it up, no lapse is waited for."""
    etcd = Etcd(tmp_path, address=ADDRESSES["a"])
    pair = make(arbiter={"kind": "etcd", "endpoints": [etcd.url], "ttl_ms": 60_000})
    try:
        with inside(pair.a.namespace.path):
            etcd.start()
        pair.protected()
        old = pair.connect()
        old.ask(b"before")
        for host, term in ((pair.b, 2), (pair.a, 3)):
            ask_a_lot(pair)
            assert pair.other(host).do("switchover")["role"] == "secondary"
            swapped(pair, host)
            old.ask(b"after")
            assert host.ask("status")["term"] == term
        ask_a_lot(pair)
    finally:
        etcd.kill()


def test_what_is_no_protected_pair_is_refused(make: Make) -> None:
    pair = make().start()
    for host in pair.hosts.values():
        error = host.ask("switchover")["error"]
        assert error.startswith("switchover: state is linked")
        assert "protected" in error
    pair.client.ask()
    assert pair.serving() is pair.a


# ── a fault in between ──────────────────────────────────────────────────────────────────────────────────────


def ends_in_a_protected_pair(pair: Pair) -> None:
    """Whichever host serves now."""
    pair.client.finish()
    wait_for(lambda: {pair.a.state, pair.b.state} == {"primary protected", "secondary protected"}, "a whole pair")
    ask_a_lot(pair)


def test_the_node_that_takes_over_is_killed(make: Make) -> None:
    """From its record on it is the primary; started again it serves, and the other one follows."""
    pair = make().start()
    pair.b.end_node()
    pair.b.start_node(f"{TAKE_OVER.name} {TAKE_OVER.steps[0].name}")
    pair.wait("primary linked", "secondary linked")
    pair.protect(pair.a)
    pair.client.ask("draw")
    asked = ThreadPoolExecutor(1).submit(pair.a.ask, "switchover")
    pair.b.wait_dead()
    pair.client.begin()
    pair.b.start_node()
    ends_in_a_protected_pair(pair)
    assert pair.serving() is pair.b
    assert asked.result(PATIENCE_S)["role"] == "secondary"


def asked_until_the_last_copy(pair: Pair) -> "Future[Any]":
    """On a machine that is too busy for the heartbeat the pair may break first: the order is refused then."""
    asked = ThreadPoolExecutor(1).submit(pair.a.ask, "switchover")
    wait_for(lambda: pair.b.is_fault_done or asked.done(), "the last copy")
    if pair.b.is_fault_done:
        return asked
    pair.wait("primary protected", "secondary protected")
    return asked_until_the_last_copy(pair)


def test_the_secondary_dies_before_it_takes_over(make: Make) -> None:
    """What cannot take over does not: the primary's guest goes on."""
    pair = make().protected()
    pair.client.ask("draw")
    pair.b.fault("before REPLY", "hang")  # the last copy does not end
    asked = asked_until_the_last_copy(pair)
    pair.b.kill_node()
    assert "error" in asked.result(PATIENCE_S)
    pair.client.begin()
    pair.b.start_node()
    ends_in_a_protected_pair(pair)
    assert pair.serving() is pair.a
