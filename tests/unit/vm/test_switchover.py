"""When `colo switchover` is refused, and what it answers. The guest and the link are fakes, the pair table is real."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from pycolo.errors import CheckpointError, PeerError, PycoloError, StateError
from pycolo.failover.pair import Pair, Settings, Told
from pycolo.failover.pairstates import Command, Fact, State
from pycolo.node.decider import Decider
from pycolo.vm import switchover as module
from pycolo.vm.switchover import PROTOCOL, Switchover

C, F, S = Command, Fact, State


class Link:
    program = "pycolo 9"

    def __init__(self, protocol: int) -> None:
        self.protocol = protocol


class World:
    """One node. `after`: the facts that follow a command, each with the number of the question then."""

    def __init__(self, state: State, after: dict[Command, list[tuple[Fact, Told]]] | None = None, **more: Any) -> None:
        self.after = after or {}
        self.protocol = PROTOCOL
        self.arbiter = "manual"
        self.done: list[str] = []
        self.copying: BaseException | None = None
        self.checkpoints = self
        never_ms = 3_600_000
        hand_over_ms = more.pop("hand_over_ms", never_ms)
        settings = Settings(150, retry_ms=never_ms, steady_ms=never_ms, hand_over_ms=hand_over_ms)
        self.decider = Decider(Pair(settings, state, link=1, last_link=1, **{"is_heard": True, **more}))
        self.decider.does = self._does
        self.decider.watch = lambda fact, before, after: None

    @property
    def switchover(self) -> Switchover:
        return Switchover(self.decider, self, self, self.arbiter)  # type: ignore[arg-type]

    @property
    def present(self) -> Link | None:
        return Link(self.protocol) if self.decider.pair.link else None

    async def request(self, order: str, arguments: Any = None, timeout_s: float = 0) -> dict[str, Any]:
        self.done.append(f"ask {order}")
        if self.copying is not None:
            raise self.copying
        self.decider.tell(F.HANDED_OVER, Told(link=1))
        return {}

    def disarm(self, why: str) -> None:
        self.done.append("disarm")

    async def checkpoint(self) -> dict[str, Any]:
        self.done.append("copy")
        if self.copying is not None:
            raise self.copying
        return {}

    def _does(self, command: Command, pair: Pair, told: Told) -> None:
        self.done.append(command.name)
        for fact, more in self.after.get(command, ()):
            asyncio.get_running_loop().call_soon(self.tell, fact, more)

    def tell(self, fact: Fact, told: Told) -> None:
        self.decider.tell(fact, told._replace(ask=self.decider.pair.asked))


NOTHING = Told()
SERVES = {C.SAY_HANDED_OVER: [(F.HIGHER_TERM, Told(term=1))], C.RETIRE: [(F.RETIRED, NOTHING)]}
FOLLOWS = {
    **SERVES,
    C.BECOME_SECONDARY: [(F.LINKED, Told(term=1, link=2)), (F.PREPARE_ASKED, NOTHING), (F.PEER_PROTECTED, NOTHING)],
}
TAKES_OVER = {
    C.TELL_RESIGNED: [(F.GRANTED, Told(term=1))],
    C.RECORD: [(F.RECORDED, NOTHING)],
    C.SWITCH: [(F.SERVED, NOTHING)],
}
PROTECTS = {
    **TAKES_OVER,
    C.BECOME_PRIMARY: [(F.LINKED, Told(link=2))],
    C.PROTECT: [(F.SYNCHRONISED, NOTHING)],
}


def play(work: Callable[[], Awaitable[None]]) -> None:
    async def run() -> None:
        async with asyncio.timeout(20):
            await work()

    asyncio.run(run())


async def refused(world: World) -> str:
    with pytest.raises(PycoloError) as found:
        await world.switchover.run()
    return str(found.value)


def test_the_guest_is_copied_and_no_checkpoint_follows_the_word() -> None:
    async def work() -> None:
        world = World(S.PRIMARY_PROTECTED, FOLLOWS, is_wished=True)
        answer = await world.switchover.run()
        assert (answer["state"], answer["role"], answer["term"]) == ("protected", "secondary", 1)
        assert "the other node serves" in answer["seen"]
        begun = ["copy", "disarm", "HOLD", "RESIGN_LEASE", "SAY_HANDED_OVER"]
        assert world.done[: len(begun)] == begun

    play(work)


def test_at_the_secondary_the_primary_is_asked() -> None:
    async def work() -> None:
        world = World(S.SECONDARY_PROTECTED, PROTECTS, is_wished=True)
        answer = await world.switchover.run()
        assert (answer["state"], answer["role"], answer["term"]) == ("protected", "primary", 1)
        assert world.done[0] == "ask switchover"

    play(work)


def test_the_primary_answers_before_it_hands_over() -> None:
    async def work() -> None:
        world = World(S.PRIMARY_PROTECTED)
        assert await world.switchover.asked({}) == {}
        assert world.done == ["copy"]
        await asyncio.sleep(0)
        assert world.decider.pair.state is S.HANDING_OVER

    play(work)


def test_without_a_wish_it_says_how_to_protect() -> None:
    async def work() -> None:
        answer = await World(S.PRIMARY_PROTECTED, SERVES).switchover.run()
        assert answer["state"] == "waiting"
        assert "`colo protect` on its host" in answer["seen"]

    play(work)


# ── refused ─────────────────────────────────────────────────────────────────────────────────────────────────

PAIR = (S.PRIMARY_PROTECTED, S.SECONDARY_PROTECTED)


@pytest.mark.parametrize("state", [state for state in S if state not in PAIR])
def test_what_is_no_protected_pair_is_refused_with_its_state(state: State) -> None:
    async def work() -> None:
        world = World(state, text="for a reason")
        assert f"{world.decider.pair.shown}: for a reason, must be protected" in await refused(world)
        assert world.done == []

    play(work)


@pytest.mark.parametrize("state", PAIR)
def test_other_refusals(state: State) -> None:
    async def work() -> None:
        world = World(state)
        world.protocol = PROTOCOL - 1
        assert "the other node (pycolo 9) speaks version" in (said := await refused(world))
        assert said.endswith("upgrade it first")
        world = World(state)
        world.arbiter = "pacemaker"
        assert "`pcs resource move` or `crm resource move`" in await refused(world)
        assert "not linked" in await refused(World(state, is_heard=False))
        assert world.done == []

    play(work)


def test_a_secondary_is_not_asked_by_its_primary() -> None:
    async def work() -> None:
        with pytest.raises(StateError, match="must be primary"):
            await World(S.SECONDARY_PROTECTED).switchover.asked({})

    play(work)


def test_what_the_copy_or_the_primary_refuses_changes_nothing() -> None:
    async def work() -> None:
        for state, error in zip(PAIR, (CheckpointError("reply", "it hangs"), PeerError("no")), strict=True):
            world = World(state)
            world.copying = error
            assert await refused(world) == str(error)
            assert world.decider.pair.state is state

    play(work)


def test_a_pair_that_breaks_during_the_copy_is_not_handed_over() -> None:
    async def work() -> None:
        world = World(S.PRIMARY_PROTECTED)

        async def checkpoint() -> dict[str, Any]:
            world.decider.tell(F.LINK_LOST, Told(link=1))
            return {}

        world.checkpoint = checkpoint  # type: ignore[method-assign]
        assert "suspect" in await refused(world)
        assert "SAY_HANDED_OVER" not in world.done

    play(work)


# ── how it ends ─────────────────────────────────────────────────────────────────────────────────────────────


def test_a_secondary_that_promises_leaves_the_primary_serving() -> None:
    async def work() -> None:
        after = {
            C.ASK_DISCARD: [(F.PROMISED, NOTHING)],
            C.RECORD: [(F.RECORDED, NOTHING)],
        }
        said = await refused(World(S.PRIMARY_PROTECTED, after, hand_over_ms=0))
        assert "has not taken over" in said
        assert "this node is alone" in said

    play(work)


def test_a_secondary_that_says_nothing_needs_an_operator(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "DECIDED_S", 0.01)

    async def work() -> None:
        world = World(S.PRIMARY_PROTECTED)
        assert "`colo failover` here" in await refused(world)
        assert "under way" not in await refused(world)  # the state says it all

    play(work)


def test_a_host_that_does_not_retire_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RETIRED_S", 0.01)

    async def work() -> None:
        after = {**SERVES, C.RETIRE: [(F.RETIRE_FAILED, Told(text="no bridge"))]}
        assert "retire failed: no bridge" in await refused(World(S.PRIMARY_PROTECTED, after))

    play(work)


def test_a_node_that_is_not_granted_to_serve_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "DECIDED_S", 0.01)

    async def work() -> None:
        assert "this node does not serve" in await refused(World(S.SECONDARY_PROTECTED))

    play(work)


def test_protection_that_does_not_come_back_at_once_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LINKED_S", 0.01)
    monkeypatch.setattr(module, "COPIED_S", 0.01)

    async def work() -> None:
        said = await refused(World(S.PRIMARY_PROTECTED, SERVES, is_wished=True))
        assert "the other node serves" in said
        assert "not protected yet" in said

    play(work)
