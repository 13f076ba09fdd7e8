"""vhost is relied on only after it was seen to count exactly: what speaks against it, and what follows."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pycolo.errors import PeerError
from pycolo.failover.pairstates import Fact
from pycolo.vm.findings import Findings
from pycolo.vm.vhostcheck import CHECKPOINTS, ORDER, VhostCheck, aborted, cards_of, faults
from support import virtualloop
from support.qemufacts import GOOD, TAP

VHOST = replace(GOOD, netdevs={"hn0": replace(TAP, refusal="Vhost is not supported")})
COUNTERS = {
    "borders_exact": 3,
    "borders_inexact": 1,
    "guest_frames_out": 40,
    "guest_purged": 2,
    "guest_foreign": 5,
    "divergences": 7,
}
WELL = {"borders_exact": 10, "guest_frames_out": 2000}
WRONG = [
    ({"borders_inexact": 1}, "1 of 11 checkpoints its tap did not count"),
    ({"borders_exact": -1}, "only 9 of 10 checkpoints were counted"),
    ({"guest_frames_out": -2000}, "no frame reached it"),
    ({"guest_purged": 64}, "64 frames that the guest had not read"),
    ({"guest_foreign": 1}, "1 frames of others"),
    ({"divergences": 2}, "2 differences between the guests"),
]


def later(*changes: dict[str, int]) -> dict[str, int]:
    found = dict(COUNTERS)
    for change in changes:
        for name, by in change.items():
            found[name] = found.get(name, 0) + by
    return found


def test_what_happened_before_the_check_does_not_count() -> None:
    assert faults("the primary", {"": COUNTERS}, {"": later(WELL)}, 10) == []


@pytest.mark.parametrize(("change", "words"), WRONG)
def test_each_counter_that_speaks_against_it_is_named_with_its_card(change: dict[str, int], words: str) -> None:
    (fault,) = faults("the primary", {"": COUNTERS}, {"": later(WELL, change)}, 10)
    assert fault.startswith("the primary: ")
    assert words in fault
    two = {"hn0": later(WELL), "hn1": later(WELL, change)}
    (fault,) = faults("the secondary", dict.fromkeys(two, COUNTERS), two, 10)
    assert fault.startswith("the secondary, card hn1: ")


@given(st.lists(st.sampled_from(WRONG), unique_by=lambda one: one[1], max_size=3))
def test_nothing_that_is_wrong_makes_up_for_something_else(wrong: list[tuple[dict[str, int], str]]) -> None:
    found = faults("it", {"": COUNTERS}, {"": later(WELL, *(change for change, _ in wrong))}, 10)
    assert bool(found) == bool(wrong)


def test_cards_that_come_and_go_are_a_fault() -> None:
    assert faults("it", {"hn0": COUNTERS}, {"hn0": later(WELL), "hn1": COUNTERS}, 10)
    assert faults("it", {}, {}, 10)


def test_a_checkpoint_that_was_not_committed_is_a_fault() -> None:
    assert aborted([{"epoch": 4, "outcome": "committed"}, {"epoch": 5, "outcome": "aborted", "why": "gone"}]) == [
        "checkpoint 5 was aborted: gone"
    ]


@pytest.mark.parametrize("snapshot", [{}, {"counters": None}, {"cards": [{"card": "a"}]}, {"cards": [3]}])
def test_counters_that_cannot_be_read_are_an_error(snapshot: dict[str, Any]) -> None:
    with pytest.raises(PeerError, match="cannot be read"):
        cards_of(snapshot)


def test_the_counters_of_one_card_and_of_several() -> None:
    assert cards_of({"counters": {"a": 1, "b": "x"}}) == {"": {"a": 1}}
    cards = [{"card": name, "mode": "comparing", "counters": {"a": 1}} for name in ("hn0", "hn1")]
    assert cards_of({"counters": {"a": 2}, "cards": cards}) == {"hn0": {"a": 1}, "hn1": {"a": 1}}


# ── the whole ───────────────────────────────────────────────────────────────────────────────────────────────


class World:
    """Host, guest and wiring of the primary, and the other node; each checkpoint moves both sides' counters."""

    def __init__(self) -> None:
        self.config = SimpleNamespace(card=[SimpleNamespace(netdev="hn0")])
        self.findings = Findings()
        self.here, self.there = dict(COUNTERS), dict(COUNTERS)
        self.outcome: dict[str, Any] | Exception = {"epoch": 1, "outcome": "committed"}
        self.hangs = False
        self.guards = True
        self.told: list[tuple[Fact, str]] = []
        self.bursts = 0
        self.check = VhostCheck(self, self, self)  # type: ignore[arg-type]

    async def snapshot(self) -> dict[str, Any]:
        return {"counters": dict(self.here)}

    async def ask_peer(self, order: str) -> dict[str, Any]:
        assert order == ORDER
        return {"cards": [{"card": "", "counters": dict(self.there)}]}

    async def checkpoint(self) -> dict[str, Any]:
        if self.hangs:
            await asyncio.Event().wait()
        if isinstance(self.outcome, Exception):
            raise self.outcome
        for side in (self.here, self.there):
            side["borders_exact"] += 1
            side["guest_frames_out"] += 200
        return self.outcome

    async def try_input(self) -> None:
        self.bursts += 1

    def is_on_guard(self) -> bool:
        return self.guards

    def tell(self, fact: Fact, told: Any) -> None:
        self.told.append((fact, told.text))


def play(change: Callable[[World], None] = lambda world: None, facts: Any = VHOST) -> tuple[World, str]:
    async def scene() -> tuple[World, str]:
        world = World()
        change(world)
        world.check.begin(facts)
        try:
            await world.check.passed()
        except PeerError as error:
            return world, str(error)
        return world, ""

    return virtualloop.run(scene())


def test_what_holds_is_a_standing_note() -> None:
    world, why = play()
    assert (why, world.told, world.bursts) == ("", [], CHECKPOINTS + 1)
    (note,) = world.findings.to_status()
    assert note["code"] == "vhost-self-check"
    assert f"{CHECKPOINTS} forced checkpoints" in note["text"]


def lags(world: World) -> None:
    world.there["guest_purged"] = 0
    plain = world.checkpoint

    async def checkpoint() -> dict[str, Any]:
        world.there["guest_purged"] += 1
        return await plain()

    world.checkpoint = checkpoint  # type: ignore[method-assign]


def is_aborted(world: World) -> None:
    world.outcome = {"epoch": 2, "outcome": "aborted", "why": "too late"}


def is_refused(world: World) -> None:
    world.outcome = PeerError("not now")


@pytest.mark.parametrize(
    ("change", "words"), [(lags, "the secondary: 10 frames"), (is_aborted, "too late"), (is_refused, "not now")]
)
def test_what_does_not_hold_ends_the_protection_as_the_operator_would(
    change: Callable[[World], None], words: str
) -> None:
    world, why = play(change)
    assert words in why
    assert why.endswith("start QEMU with vhost=off")
    assert world.told == [(Fact.UNPROTECT_WISHED, why)]
    assert world.findings.to_status() == []


def test_a_pair_that_broke_meanwhile_is_not_given_up() -> None:
    def breaks(world: World) -> None:
        is_refused(world)
        world.guards = False

    world, why = play(breaks)
    assert why
    assert world.told == []


@pytest.mark.parametrize("facts", [None, GOOD])
def test_without_vhost_nothing_is_tried(facts: Any) -> None:
    world, why = play(facts=facts)
    assert (why, world.bursts, world.findings.to_status()) == ("", 0, [])


def test_a_pair_that_is_dissolved_meanwhile_is_said_to_the_operator() -> None:
    async def scene() -> None:
        world = World()
        world.hangs = True
        world.check.begin(VHOST)
        waiting = asyncio.ensure_future(world.check.passed())
        while not world.bursts:
            await asyncio.sleep(0)
        world.check.end()
        with pytest.raises(PeerError, match="the pair broke meanwhile"):
            await waiting
        await world.check.passed()

    virtualloop.run(scene())


def test_the_other_node_gets_the_counters_of_each_card() -> None:
    async def scene() -> None:
        world = World()
        told = await world.check.tell_counters({})
        assert cards_of(told) == {"": COUNTERS}

    virtualloop.run(scene())
