"""What two nodes ask one another apart from the link, over connections that never fail, or always."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from pycolo.errors import ConnectError
from pycolo.failover.pair import Pair, Settings, Told
from pycolo.failover.pairstates import Fact, State
from pycolo.link.orders import Order, encode_order
from pycolo.transport.controlchannel import ChannelClosed, PeerOrder
from pycolo.vm import otherpaths
from pycolo.vm.otherpaths import CALLS_MAX, OtherPaths

DEADLINE_S = 20


class Wire:
    """A connection: what one end sends is an event at the other."""

    def __init__(self) -> None:
        self.ends = [End(self, 0), End(self, 1)]


class End:
    """One end; a `Control`, and its socket, and the `Established` that it came with."""

    trusted_until_ns = 0

    def __init__(self, wire: Wire, number: int) -> None:
        self._wire, self._number = wire, number
        self.on_event: Callable[[object], None] = lambda event: None
        self.is_closed = False

    @property
    def other(self) -> "End":
        return self._wire.ends[1 - self._number]

    @property
    def messages(self) -> "End":
        return self

    @property
    def link(self) -> "End":
        return self

    def start(self) -> None:
        """Nothing is lost before it."""

    def order(self, payload: bytes) -> None:
        self.other.on_event(PeerOrder(payload))

    def close(self, reason: object = None, text: str = "") -> None:
        self.is_closed = True
        for end in (self, self.other):
            end.on_event(ChannelClosed("closed"))


def make_control(end: Any, on_event: Any) -> End:
    end.on_event = on_event
    return end  # type: ignore[no-any-return]


class Side:
    """One node: its pair's value, what it was told, and its questions."""

    def __init__(self, state: State, term: int = 0) -> None:
        self.pair = Pair(Settings(150), state, term)
        self.told: list[tuple[Fact, Told]] = []
        self.dials: list[Callable[[], End]] = []

    def connect(self, other: "Side") -> None:
        loop = asyncio.get_running_loop()

        def dial() -> End:
            wire = Wire()
            loop.call_soon_threadsafe(other.paths.accepted, wire.ends[1])
            return wire.ends[0]

        self.dials = [dial]

    def begin(self) -> None:
        self.paths = OtherPaths(
            self.dials,  # type: ignore[arg-type]
            make_control,
            lambda: self.pair,
            lambda fact, told: self.told.append((fact, told)),
        )

    async def until_told(self, count: int = 1) -> tuple[Fact, Told]:
        async with asyncio.timeout(DEADLINE_S):
            while len(self.told) < count:
                await asyncio.sleep(0.005)
        return self.told[count - 1]


async def both(asking: Side, asked: Side) -> None:
    asking.connect(asked)
    asked.begin()
    asking.begin()
    await asking.paths.start()


def play(work: Callable[[], Any]) -> None:
    asyncio.run(work())


@pytest.mark.parametrize(
    ("state", "fact"),
    [
        (State.SERVING, Fact.PEER_ALIVE),
        (State.SECONDARY_PROTECTED, Fact.PEER_ALIVE),
        (State.SECONDARY_WAITING, Fact.PEER_EMPTY),
    ],
)
def test_a_node_in_doubt_hears_what_the_other_one_does_and_its_term(state: State, fact: Fact) -> None:
    async def work() -> None:
        asking, asked = Side(State.PRIMARY_SUSPECT), Side(state, term=7)
        asking.pair = asking.pair._replace(doubt=3)
        await both(asking, asked)
        found, told = await asking.until_told()
        assert (found, told.ask, told.term) == (fact, 3, 7)
        await asking.paths.close()
        await asked.paths.close()

    play(work)


def test_a_node_that_is_being_prepared_does_not_say_what_it_is() -> None:
    async def work() -> None:
        asking, asked = Side(State.PRIMARY_SUSPECT), Side(State.PREPARING)
        await both(asking, asked)
        asked.pair = asked.pair._replace(state=State.PREPARING)
        await asyncio.sleep(0.05)
        assert asking.told == []
        asked.pair = asked.pair._replace(state=State.SECONDARY_PROTECTED)
        asking.paths.ask(0)
        assert (await asking.until_told())[0] is Fact.PEER_ALIVE
        await asking.paths.close()
        await asked.paths.close()

    play(work)


def test_a_primary_without_a_link_asks_whether_another_node_has_served_since() -> None:
    async def work() -> None:
        asking, asked = Side(State.PRIMARY_WAITING), Side(State.SERVING, term=1)
        await both(asking, asked)
        assert (await asking.until_told())[1].term == 1
        await asking.paths.close()
        await asked.paths.close()

    play(work)


def test_a_node_that_is_not_in_doubt_asks_nothing() -> None:
    async def work() -> None:
        asking, asked = Side(State.PRIMARY_PROTECTED), Side(State.SECONDARY_PROTECTED)
        await both(asking, asked)
        asking.paths.ask(0)
        await asyncio.sleep(0.05)
        assert asking.told == []
        await asking.paths.close()
        await asked.paths.close()

    play(work)


@pytest.mark.parametrize("is_given", [True, False])
def test_the_promise_is_asked_for_and_given_apart_from_the_link(is_given: bool) -> None:
    async def work() -> None:
        asking, asked = Side(State.PRIMARY_PROTECTED, 4), Side(State.YIELDING, 4)
        await both(asking, asked)
        replies: list[Order] = []
        asking.paths.ask_discard({"term": 4}, replies.append)
        fact, told = await asked.until_told()
        assert (fact, told.term, told.link) == (Fact.DISCARD_ASKED, 4, 0)
        assert told.ask < 0
        if is_given:
            asked.paths.answer(told.ask, {"term": 4})
        else:
            asked.paths.refuse(told.ask, "its arbiter acts")
        asked.paths.answer(told.ask, {})
        async with asyncio.timeout(DEADLINE_S):
            while not replies:
                await asyncio.sleep(0.005)
        assert [reply.error for reply in replies] == [None if is_given else "its arbiter acts"]
        await asking.paths.close()
        await asked.paths.close()

    play(work)


def test_an_address_where_no_node_answers_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(otherpaths, "ASK_PAUSE_S", 0.01)
    tries: list[int] = []

    def dial() -> Any:
        tries.append(1)
        raise ConnectError("path link: no route to host")

    async def work() -> None:
        asking = Side(State.PRIMARY_SUSPECT)
        asking.dials = [dial]
        asking.begin()
        await asking.paths.start()
        async with asyncio.timeout(DEADLINE_S):
            while len(tries) < 3:
                await asyncio.sleep(0.005)
        await asking.paths.close()
        assert asking.told == []

    play(work)


def test_strangers_to_the_protocol_are_refused_and_their_number_is_bounded() -> None:
    async def work() -> None:
        asked = Side(State.SERVING)
        asked.begin()
        wires = [Wire() for _ in range(CALLS_MAX + 1)]
        heard: list[object] = []
        wires[0].ends[0].on_event = heard.append
        for wire in wires:
            asked.paths.accepted(wire.ends[1])  # type: ignore[arg-type]
        assert [wire.ends[1].is_closed for wire in wires] == [False] * CALLS_MAX + [True]
        wires[0].ends[0].order(encode_order(Order(id=1, order="sing")))
        wires[0].ends[0].order(b"\xff")
        async with asyncio.timeout(DEADLINE_S):
            while not heard:
                await asyncio.sleep(0.005)
        assert b"knows no question 'sing'" in heard[0].payload  # type: ignore[attr-defined]
        await asked.paths.close()
        assert all(wire.ends[1].is_closed for wire in wires)
        late = Wire()
        asked.paths.accepted(late.ends[1])  # type: ignore[arg-type]
        assert late.ends[1].is_closed

    play(work)


def test_what_was_accepted_last_is_closed_too() -> None:
    async def work() -> None:
        asked, wire = Side(State.SERVING), Wire()
        asked.begin()
        asked.paths.accepted(wire.ends[1])  # type: ignore[arg-type]
        await asked.paths.close()  # its task has not begun
        assert wire.ends[1].is_closed

    play(work)
