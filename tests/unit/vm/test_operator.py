"""What an operator may ask of a node with a QEMU, and when the answer comes. The guest and the link are fakes."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from structlog.testing import capture_logs

from pycolo.failover.pair import NOTHING_TOLD, Pair, Settings, Told
from pycolo.failover.pairstates import Command, Fact, State
from pycolo.node.decider import Decider
from pycolo.qmp.judge import Finding
from pycolo.vm import operator as operators
from pycolo.vm.findings import Findings
from pycolo.vm.operator import VmOperator

C, F, S = Command, Fact, State


INTERRUPTED = {"stop_ms": 42.0, "move_ms": 7.0}
FORMED = {
    "state": "protected",
    "epoch": 4,
    "term": 0,
    "seen": "no traffic yet",
    "warnings": [],
    "interrupted": INTERRUPTED,
}
"""The answer to `protect`."""


class Health:
    async def prove(self):
        return "no traffic yet"


class Guest:
    """Has nothing to do, and settles at once."""

    def __init__(self) -> None:
        self.done: list[str] = []
        self.checkpoints = self
        self.vhost = self

    def status(self) -> dict[str, Any]:
        return {"phase": "idle"}

    def release(self) -> None:
        self.done.append("release")

    async def settled(self) -> None:
        self.done.append("settled")

    async def passed(self) -> None:
        pass

    async def checkpoint(self) -> dict[str, Any]:
        return {"epoch": 5, "outcome": "committed", "at": "now"}

    async def guest_status(self) -> dict[str, Any]:
        return {"qmp": "connected"}

    def disk_status(self) -> list[dict[str, object]]:
        return []

    def interrupted(self) -> dict[str, float]:
        return INTERRUPTED

    def plan_status(self) -> None:
        return None


class Links:
    present = None

    async def request(self, order: str, timeout_s: float) -> dict[str, Any]:
        return {"qmp": "absent"}


class Switchover:
    async def run(self) -> dict[str, Any]:
        return {"state": "switched over"}


class Divergences:
    records = ()


class World:
    """A decider whose commands are noted; `answers` says which fact follows a command."""

    unprotected_ns = None

    async def begin(self, *, is_other_lost: bool) -> dict[str, Any]:
        return {"lost": is_other_lost}

    def __init__(
        self, state: State, answers: dict[Command, Fact] | None = None, *, protects_by_itself: bool = True, **more: Any
    ) -> None:
        self.answers = answers or {}
        self.commands: list[Command] = []
        settings = Settings(150, protects_by_itself=protects_by_itself, retry_ms=3_600_000, steady_ms=3_600_000)
        self.decider = Decider(Pair(settings, state, link=1, last_link=1, is_heard=True, **more))
        self.decider.does = self._does
        self.decider.watch = lambda fact, before, after: None
        self.guest = Guest()
        self.findings = Findings()
        self.operator = VmOperator(
            self,
            self.decider,
            self.guest,
            Links(),
            Divergences(),
            self,
            {"take-over": 1},
            "vm1",  # type: ignore[arg-type]
            Health(),
            self.findings,
            self,
            self,
            Switchover(),
        )

    def _does(self, command: Command, pair: Pair, told: Told) -> None:
        self.commands.append(command)
        fact = self.answers.get(command)
        if fact is not None:
            asyncio.get_running_loop().call_soon(self._answer, command, fact, pair.asked)

    def _answer(self, command: Command, fact: Fact, asked: int) -> None:
        why = "vm1: no QEMU" if fact is F.PROTECT_FAILED else ""
        if command is C.PROTECT:
            self.operator.protect_ended(fact, why)
        self.decider.tell(fact, Told(term=self.decider.pair.term + 1 if fact is F.TERM_OPENED else 0, ask=asked))

    async def status(self) -> dict[str, Any]:
        pair = self.decider.pair
        return {"state": pair.shown, "epoch": 4, "term": pair.term, "role": pair.role}

    async def failover(self) -> dict[str, Any]:
        return {"state": "serving"}

    async def both(self, links: object) -> dict[str, Any]:
        assert isinstance(links, Links)
        return {"items": [["clocks", "ok", "0.001 s apart", "both hosts"]]}

    def ask(self, command: str, **more: Any) -> Awaitable[dict[str, Any]]:
        return self.operator.request({"command": command, **more})


def play(work: Callable[[], Awaitable[None]]) -> None:
    async def run() -> None:
        async with asyncio.timeout(20):
            await work()

    asyncio.run(run())


def test_check_answers_in_every_state() -> None:
    async def work() -> None:
        for state in S:
            assert (await World(state).ask("check"))["items"][0][0] == "clocks"

    play(work)


WHOLE = {C.PROTECT: F.SYNCHRONISED, C.RECORD: F.RECORDED}


def test_protect_answers_when_the_pair_is_whole_and_the_plan_has_ended() -> None:
    async def work() -> None:
        world = World(S.PRIMARY_LINKED, WHOLE)
        assert await world.ask("protect") == FORMED
        assert world.guest.done == ["settled"]
        assert world.decider.pair.is_wished

    play(work)


def test_force_holds_until_unprotect_or_a_protect_without_it() -> None:
    async def work() -> None:
        for command in ("unprotect", "protect"):
            world = World(S.PRIMARY_LINKED, WHOLE)
            await world.ask("protect", force=True)
            assert world.findings.is_forced
            world.findings.weigh("guest", [Finding("refuse", "tcg", "it stands still", may_be_forced=True)], "vm1")
            (note,) = (await world.ask("status"))["warnings"]
            assert (note["code"], note["overridden"]) == ("tcg", True)
            world.decider.pair = world.decider.pair._replace(state=S.PRIMARY_LINKED)
            await world.ask(command)
            assert not world.findings.is_forced
            if command == "unprotect":
                assert (await world.ask("status"))["warnings"] == []

    play(work)


def test_a_failed_protect_says_why() -> None:
    async def work() -> None:
        world = World(S.PRIMARY_LINKED, {C.PROTECT: F.PROTECT_FAILED})
        with capture_logs() as said:
            (error,) = (await world.ask("protect")).values()
        assert error == "vm1: no QEMU; the node tries again by itself, until `colo unprotect`"
        assert [line["event"] for line in said if line["log_level"] == "warning"] == [
            "protecting has failed: vm1: no QEMU"
        ]

    play(work)


def test_a_failed_attempt_of_a_node_that_protects_on_command_only_is_the_last_one() -> None:
    async def work() -> None:
        world = World(S.PRIMARY_LINKED, {C.PROTECT: F.PROTECT_FAILED}, protects_by_itself=False)
        assert await world.ask("protect") == {"error": "vm1: no QEMU"}

    play(work)


def test_a_new_term_is_a_new_link_and_then_protect_goes_on() -> None:
    async def work() -> None:
        world = World(S.PRIMARY_LINKED, {C.PROTECT: F.TERM_OPENED, C.RECORD: F.RECORDED})
        asking = asyncio.ensure_future(world.ask("protect"))
        while world.decider.pair.state is not S.ALONE:
            await asyncio.sleep(0)
        world.answers |= WHOLE
        world.decider.tell(F.LINKED, Told(link=2))
        assert await asking == {**FORMED, "term": 1}

    play(work)


def test_protect_without_a_link_is_remembered_and_refused_for_now(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(operators, "RELINK_S", 0.01)

    async def work() -> None:
        world = World(S.PRIMARY_WAITING)
        assert "state is waiting" in (await world.ask("protect"))["error"]
        assert world.decider.pair.is_wished

    play(work)


def test_protect_while_the_node_protects_by_itself_has_the_same_end() -> None:
    async def work() -> None:
        world = World(S.PROTECTING, WHOLE, is_wished=True, asked=1)
        asking = asyncio.ensure_future(world.ask("protect"))
        await asyncio.sleep(0)
        world._answer(C.PROTECT, F.SYNCHRONISED, 1)
        assert (await asking)["state"] == "protected"

    play(work)


@pytest.mark.parametrize("state", [S.PRIMARY_PROTECTED, S.PRIMARY_SUSPECT, S.DISSOLVING])
def test_what_is_protected_cannot_be_protected(state: State) -> None:
    async def work() -> None:
        assert "must be linked" in (await World(state).ask("protect"))["error"]

    play(work)


@pytest.mark.parametrize("command", ["protect", "unprotect"])
def test_the_secondary_refuses_what_is_the_primarys(command: str) -> None:
    async def work() -> None:
        assert "ask the other node" in (await World(S.SECONDARY_LINKED).ask(command))["error"]

    play(work)


def test_unprotect_waits_for_the_promise_and_for_the_guest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(operators, "RELINK_S", 0.01)

    async def work() -> None:
        world = World(S.PRIMARY_PROTECTED, {C.ASK_DISCARD: F.PROMISED, C.RECORD: F.RECORDED}, is_wished=True)
        assert (await world.ask("unprotect"))["state"] == "alone"
        assert world.guest.done == ["settled"]
        assert not world.decider.pair.is_wished

    play(work)


def test_unprotect_without_a_promise_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(operators, "PROMISE_S", 0.01)

    async def work() -> None:
        assert "not promised" in (await World(S.PRIMARY_PROTECTED).ask("unprotect"))["error"]

    play(work)


def test_unprotect_of_an_unprotected_guest_takes_away_what_is_left() -> None:
    async def work() -> None:
        world = World(S.PRIMARY_LINKED)
        assert (await world.ask("unprotect"))["state"] == "linked"
        assert world.guest.done == ["release", "settled"]

    play(work)


def test_a_checkpoint_is_made_where_the_pair_is_protected() -> None:
    async def work() -> None:
        assert (await World(S.PRIMARY_PROTECTED).ask("checkpoint"))["outcome"] == "committed"
        refused = {
            S.SECONDARY_PROTECTED: "checkpoint: state is secondary, must be primary: ask the other node",
            S.PRIMARY_LINKED: "checkpoint: state is linked, must be protected",
        }
        for state, said in refused.items():
            assert (await World(state).ask("checkpoint"))["error"] == said

    play(work)


def test_the_status_says_what_is_wished_and_how_both_guests_are() -> None:
    async def work() -> None:
        status = await World(S.PRIMARY_PROTECTED, is_wished=True, failures=2, text="the pair is whole").ask("status")
        assert status["protection"] == {
            "wished": True,
            "automatic": True,
            "unprotected_ms": None,
            "failures": 2,
            "lacks": False,
            "why": "the pair is whole",
            "interrupted": INTERRUPTED,
        }
        assert (status["vm"]["qmp"], status["other_vm"]["qmp"]) == ("connected", "absent")
        assert (status["failovers"], status["plan"], status["link_up"]) == ({"take-over": 1}, None, False)

    play(work)


def test_other_commands() -> None:
    async def work() -> None:
        world = World(S.PRIMARY_LINKED)
        assert await world.ask("explain") == {"divergences": [], "checkpoint": {"phase": "idle"}}
        assert await world.ask("failover") == {"state": "serving"}
        assert await world.ask("switchover") == {"state": "switched over"}
        assert "known are status" in (await world.ask("sing"))["error"]
        world.decider.tell(F.STOPPING, NOTHING_TOLD)

    play(work)


def test_a_guest_begins_anew_only_where_that_is_asked_for():
    async def run():
        world = World(State.SECONDARY_WAITING)
        ask = world.operator.request
        assert await ask({"command": "begin-anew"}) == {"lost": False}
        assert await ask({"command": "begin-anew", "other_is_lost": True}) == {"lost": True}
        assert "lost" not in await ask({"command": "failover"})

    asyncio.run(run())
