"""Questions to the other node apart from the link: at each of its addresses, with the pair's certificates.

A node in doubt asks what the other one does (`state`), once a second until the doubt is over. A primary that is not
linked asks as well: another node may have served since. The promise not to serve (`discard`) may be asked for and given
this way too. Each question is a connection of its own that carries orders; either role listens for it.
"""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Final

import structlog

from pycolo.errors import PycoloError
from pycolo.failover.pair import Pair, Told
from pycolo.failover.pairstates import UNPROTECTED, Fact, State
from pycolo.link.codec import GoodbyeReason
from pycolo.link.orders import JsonObject, Order
from pycolo.node.inthread import opened
from pycolo.node.links import Control, MakeControl, term_of
from pycolo.node.loopcall import LoopCall
from pycolo.node.peerrpc import NO_ANSWER, OnAnswer, PeerRpc
from pycolo.transport import controlchannel as control
from pycolo.transport.controlchannel import ControlEvent
from pycolo.transport.linksetup import Established

ASK_PAUSE_S: Final = 1.0
"""Pause between two questions at one address."""

ANSWER_S: Final = 2.0
"""Time limit for an answer once the other node is connected."""

CALLS_MAX: Final = 4
"""Connections of the other node that are served at the same time."""

IN_DOUBT: Final = frozenset(
    {
        State.PRIMARY_SUSPECT,
        State.PRIMARY_ACTING,
        State.HANDING_OVER,
        State.RESTARTED,
        State.PRIMARY_EMPTY,
        State.YIELDING,
        State.ASKING,
        State.CONFIRMED,
    }
)
"""States in which an answer may spare a failover."""

ANSWER_OF: Final = {Fact.PEER_ALIVE: "alive", Fact.PEER_EMPTY: "empty"}
FACT_OF: Final = {word: fact for fact, word in ANSWER_OF.items()}

log = structlog.get_logger("colo")

Dial = Callable[[], Established]
"""Connects to one address of the other node; blocks. Raises `PycoloError`."""

Tell = Callable[[Fact, Told], None]


class _Call:
    """One connection that carries orders."""

    def __init__(
        self, made: Established, make_control: MakeControl, on_order: "Callable[[_Call, Order], None]"
    ) -> None:
        self._call = LoopCall()
        self._on_order = on_order
        self.is_over = asyncio.Event()
        self._channel: Control = make_control(made.messages, lambda event: self._call(self._heard, event))
        self.rpc = PeerRpc(self._channel.order)
        self._channel.start()

    def _heard(self, event: ControlEvent) -> None:
        match event:
            case control.PeerOrder(payload=payload):
                order = self.rpc.heard(payload)
                if order is not None:
                    self._on_order(self, order)
            case control.ChannelClosed(text=text):
                self.rpc.lost(text)
                self.is_over.set()

    async def close(self) -> None:
        """What was said is sent first."""
        await asyncio.to_thread(self._channel.close, GoodbyeReason.OTHER, "answered")


class OtherPaths:
    """`Paths` of a node that knows addresses of the other one. In asyncio's thread, but for `dials`."""

    def __init__(self, dials: Sequence[Dial], make_control: MakeControl, pair: Callable[[], Pair], tell: Tell) -> None:
        """`dials`: one for each address."""
        self._dials = dials
        self._make_control = make_control
        self._pair = pair
        self._tell = tell
        self._loop = asyncio.get_running_loop()
        self._last_number = NO_ANSWER
        self._is_closed = False
        self._last_failure = ""
        self._asked: dict[int, tuple[_Call, int]] = {}
        self._calls: set[_Call] = set()
        self._wakes = [asyncio.Event() for _ in dials]
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Begin to ask."""
        for dial, wake in zip(self._dials, self._wakes, strict=True):
            self._spawn(self._keep_asking(dial, wake))

    async def close(self) -> None:
        """No question any more, and no answer."""
        self._is_closed = True
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for call in list(self._calls):  # whose tasks were cancelled before they began
            await call.close()

    # ── asking ──────────────────────────────────────────────────────────────────────────────────────────────

    def ask(self, doubt: int) -> None:
        """See `Paths`."""
        for wake in self._wakes:
            wake.set()

    def ask_discard(self, arguments: JsonObject, on_answer: OnAnswer) -> None:
        """See `Paths`."""
        for dial in self._dials:
            self._spawn(self._ask_once(dial, "discard", arguments, on_answer))

    async def _keep_asking(self, dial: Dial, wake: asyncio.Event) -> None:
        while True:
            pair = self._pair()
            if pair.state in IN_DOUBT or (pair.state in UNPROTECTED and not pair.link):
                await self._ask_once(dial, "state", {}, self._answered(pair.doubt))
            try:
                async with asyncio.timeout(ASK_PAUSE_S):
                    await wake.wait()
            except TimeoutError:
                continue
            wake.clear()

    def _answered(self, doubt: int) -> OnAnswer:
        def on_answer(reply: Order) -> None:
            said = reply.answer or {}
            fact = FACT_OF.get(str(said.get("is")))
            if fact is not None:
                self._tell(fact, Told(term_of(said), ask=doubt, text=f"it says: {said.get('state')}"))

        return on_answer

    async def _ask_once(self, dial: Dial, order: str, arguments: JsonObject, on_answer: OnAnswer) -> None:
        call: _Call | None = None
        answered = asyncio.Event()

        def heard(reply: Order) -> None:
            answered.set()
            on_answer(reply)

        try:
            made = await opened(dial)
            call = _Call(made, self._make_control, lambda call, order: None)
            call.rpc.ask(order, arguments, heard)
            async with asyncio.timeout(ANSWER_S):
                await answered.wait()
        except (PycoloError, TimeoutError) as error:
            self._say(f"no answer to '{order}' over another path: {str(error) or 'not in time'}")
        finally:
            if call is not None:
                await call.close()

    def _say(self, line: str) -> None:
        """Say each failure once, not each time."""
        if line != self._last_failure:
            self._last_failure = line
            log.debug(line)

    async def states(self) -> list[JsonObject]:
        """What the other node says of itself, once for each address at which it answers."""
        said: list[JsonObject] = []

        def heard(reply: Order) -> None:
            if reply.answer is not None:
                said.append(reply.answer)

        await asyncio.gather(*(self._ask_once(dial, "state", {}, heard) for dial in self._dials))
        return said

    # ── answering ───────────────────────────────────────────────────────────────────────────────────────────

    def accepted(self, made: Established) -> None:
        """The other node has connected to ask."""
        if self._is_closed or len(self._calls) >= CALLS_MAX:
            made.close()
            return
        call = _Call(made, self._make_control, self._ordered)
        self._calls.add(call)
        self._spawn(self._serve(call))

    async def _serve(self, call: _Call) -> None:
        try:
            async with asyncio.timeout(2 * ANSWER_S):
                await call.is_over.wait()
        except TimeoutError:
            log.debug("a question over another path has not ended in time")
        finally:
            self._calls.discard(call)
            self._asked = {number: entry for number, entry in self._asked.items() if entry[0] is not call}
            await call.close()

    def _ordered(self, call: _Call, order: Order) -> None:
        match order.order:
            case "state":
                call.rpc.answer(order.id, self._state())
            case "discard":
                self._last_number -= 1
                self._asked[self._last_number] = (call, order.id)
                self._tell(Fact.DISCARD_ASKED, Told(term_of(order.arguments), ask=self._last_number))
            case other:
                call.rpc.refuse(order.id, f"this node knows no question {other!r}")

    def _state(self) -> JsonObject:
        pair = self._pair()
        answer = pair.path_answer
        return {
            "is": ANSWER_OF[answer] if answer is not None else None,
            "term": pair.term,
            "state": f"{pair.role.value}, {pair.shown}",
        }

    def answer(self, number: int, answer: JsonObject) -> None:
        """See `Paths`."""
        found = self._asked.pop(number, None)
        if found is not None:
            found[0].rpc.answer(found[1], answer)

    def refuse(self, number: int, why: str) -> None:
        """See `Paths`."""
        found = self._asked.pop(number, None)
        if found is not None:
            found[0].rpc.refuse(found[1], why)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
