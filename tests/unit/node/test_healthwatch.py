"""A protected pair's verdict: told to the pair table when it changes, and shown."""

import asyncio

import pytest

from pycolo.checkpoint.records import CheckpointRecord, Outcome, Reason, ReasonKind
from pycolo.errors import PeerError, StateError
from pycolo.failover.health import SILENT_EPOCHS
from pycolo.failover.pair import Pair, Settings
from pycolo.failover.pairstates import State
from pycolo.node.decider import Decider
from pycolo.node.healthwatch import HealthWatch, uncompared_bytes


class FakeGuest:
    """Only its counters."""

    def __init__(self):
        self.counters = {"compared_bytes": 500, "uncompared_older_bytes": 9, "uncompared_vnet_header_bytes": 7}
        self.meanwhile = lambda: None

    async def snapshot(self):
        self.meanwhile()
        if self.counters is None:
            raise StateError("data path", "ended", "running")
        return {"counters": dict(self.counters)}

    def pass_on(self, reason, octets):
        self.counters[f"uncompared_{reason}_bytes"] += octets


class Watched:
    """A pair in `state`, and its health."""

    def __init__(self, state, prober=None):
        self.decider = Decider(Pair(Settings(timeout_ms=100), state))
        self.decider.does = lambda command, pair, told: None
        self.guest = FakeGuest()
        self.health = HealthWatch(self.decider, self.guest, prober)
        self.decider.watch = self.health.changed
        self.came(State.PRIMARY_LINKED, state)

    def came(self, before, after):
        self.health.changed(None, *(self.pair._replace(state=state) for state in (before, after)))

    @property
    def pair(self):
        return self.decider.pair

    async def look(self, **passed):
        for reason, octets in passed.items():
            self.guest.pass_on(reason, octets)
        await self.health.look()


def in_a_loop(test):
    return lambda *arguments: asyncio.run(test(*arguments))


@in_a_loop
async def test_too_much_uncompared_degrades_the_pair_and_says_why():
    watched = Watched(State.PRIMARY_PROTECTED)
    await watched.look()
    assert watched.health.shown()["verdict"] == "no traffic yet"
    await watched.look(vnet_header=1000)
    assert watched.pair.shown == "degraded"
    assert "vnet header" in watched.pair.text
    shown = watched.health.shown()
    assert (shown["verdict"], shown["uncompared_bytes"], shown["compared_bytes"]) == ("degraded", 1000, 0)
    assert "vnet header" in shown["why"]


@in_a_loop
async def test_what_may_pass_leaves_it_protected():
    watched = Watched(State.PRIMARY_PROTECTED)
    await watched.look()
    await watched.look(older=1000)
    assert watched.pair.shown == "protected"
    assert watched.health.shown()["allowed_bytes"] == 1000
    assert watched.health.shown()["age_ms"] is None


@in_a_loop
async def test_what_was_counted_before_the_pair_was_formed_says_nothing():
    watched = Watched(State.PRIMARY_PROTECTED)
    await watched.look()
    watched.came(State.PRIMARY_PROTECTED, State.ALONE)
    assert watched.health.shown() is None
    await watched.look(vnet_header=1000)
    watched.came(State.COMMITTING, State.PRIMARY_PROTECTED)
    await watched.look()
    assert watched.pair.shown == "protected"
    assert watched.health.shown()["uncompared_bytes"] == 0


@in_a_loop
async def test_an_answer_of_a_pair_that_was_dissolved_meanwhile_is_none():
    watched = Watched(State.PRIMARY_PROTECTED)
    await watched.look()

    def formed_anew():
        watched.came(State.PRIMARY_PROTECTED, State.ALONE)
        watched.came(State.COMMITTING, State.PRIMARY_PROTECTED)

    watched.guest.meanwhile = formed_anew
    await watched.look(vnet_header=1000)
    watched.guest.meanwhile = lambda: None
    await watched.look()
    assert watched.pair.shown == "protected"


def test_a_degraded_pair_is_protected_again_when_it_is_well(monkeypatch):
    now_ms = 0
    monkeypatch.setattr(Decider, "now_ms", property(lambda _: now_ms))

    async def seconds():
        nonlocal now_ms
        watched = Watched(State.PRIMARY_PROTECTED)
        await watched.look()
        await watched.look(vnet_header=1000)
        assert watched.pair.shown == "degraded"
        for _ in range(30):
            now_ms += 1000
            watched.guest.counters["compared_bytes"] += 100
            await watched.look()
        assert watched.pair.shown == "protected"
        assert watched.health.shown()["why"] == ""

    asyncio.run(seconds())


class FakeProber:
    def __init__(self, *answers):
        self.answers = list(answers)

    async def probe(self):
        return self.answers.pop(0)


@in_a_loop
async def test_a_pair_is_probed_until_the_frame_comes_back_and_degraded_meanwhile():
    watched = Watched(State.PRIMARY_PROTECTED, FakeProber(None, None, 1.25))
    for _ in range(2):
        await watched.look()
        assert watched.pair.shown == "degraded"
        assert watched.health.shown()["probe_ms"] is None
    for _ in range(2):
        await watched.look()
        assert watched.pair.shown == "protected"
        assert watched.health.shown()["probe_ms"] == 1.2


@in_a_loop
async def test_what_there_is_to_be_said_for_a_new_pair():
    watched = Watched(State.PRIMARY_PROTECTED, FakeProber(1.0))
    assert await watched.health.prove() == "no traffic yet"
    watched.guest.counters["compared_bytes"] += 12
    assert await watched.health.prove() == "compared 12 bytes"
    await watched.look(vnet_header=1000)
    with pytest.raises(PeerError, match=r"degraded: .*vnet header"):
        await watched.health.prove()
    watched.came(State.DEGRADED, State.ALONE)
    with pytest.raises(PeerError, match="broke"):
        await watched.health.prove()


@in_a_loop
async def test_a_new_pair_without_a_way_back_is_nothing_to_say_yes_to():
    watched = Watched(State.PRIMARY_PROTECTED, FakeProber(None))
    with pytest.raises(PeerError, match="did not come back"):
        await watched.health.prove()


@in_a_loop
async def test_it_says_so_when_the_data_path_has_ended():
    watched = Watched(State.PRIMARY_PROTECTED)
    watched.guest.counters = None
    with pytest.raises(StateError):
        await watched.look()
    await watched.health.start()
    await watched.health.close()


@pytest.mark.parametrize("state", [State.SECONDARY_PROTECTED, State.ALONE, State.PRIMARY_LINKED])
def test_only_the_primary_of_a_pair_has_a_health(state):
    async def shown():
        watched = Watched(state)
        await watched.look(vnet_header=1000)
        return watched.health.shown()

    assert asyncio.run(shown()) is None


def test_the_counters_of_a_data_path_by_reason():
    counters = {"compared_bytes": 1, "uncompared_older": 2, "uncompared_older_bytes": 3, "uncompared_signed_bytes": 0}
    assert uncompared_bytes(counters) == {"older": 3, "signed": 0}


def ended(kind, outcome=Outcome.COMMITTED):
    return CheckpointRecord(1, (Reason(kind, ""),), 0, 0, 0, 0, outcome)


@in_a_loop
async def test_a_secondary_that_answers_nothing_degrades_the_pair_until_it_does():
    watched = Watched(State.PRIMARY_PROTECTED)
    for _ in range(SILENT_EPOCHS - 1):
        watched.health.checkpoint(ended(ReasonKind.TIMEOUT))
    watched.health.checkpoint(ended(ReasonKind.PERIODIC))
    watched.health.checkpoint(ended(ReasonKind.TIMEOUT, Outcome.ABORTED))
    await watched.look()
    assert watched.pair.shown == "protected"
    watched.health.checkpoint(ended(ReasonKind.TIMEOUT))
    await watched.look()
    assert watched.pair.shown == "degraded"
    assert "answers nothing" in watched.pair.text
    watched.guest.counters["compared"] = 1
    await watched.look()
    assert watched.pair.shown == "protected"
