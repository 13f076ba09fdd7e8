"""The link to the other node: a control connection with its heartbeats and words, and a data connection for each card.

Each link that is formed has a higher number than all before. Everything that is heard over a link is told as a fact
of that number; the pair table decides which of them still matter (`pycolo.failover.pair`).

**A primary believes in a link when the secondary's first word has come over it** (`linked`, which says whether its
guest is in step). Until then the link that was there before stays the present one.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from time import monotonic_ns
from typing import Final, Protocol

import structlog

from pycolo.errors import PeerError, PycoloError
from pycolo.failover.heartbeat import SuspicionReason
from pycolo.failover.pair import Pair, Told
from pycolo.failover.pairstates import Fact, State
from pycolo.link.codec import Channel, GoodbyeReason
from pycolo.link.orders import JsonObject, Order
from pycolo.node.datalinks import DataLinks
from pycolo.node.loopcall import LoopCall
from pycolo.node.options import NodeOptions
from pycolo.node.peerrpc import ANSWER_TIMEOUT_S, NO_ANSWER, OnAnswer, PeerRpc
from pycolo.transport import controlchannel as control
from pycolo.transport.controlchannel import ControlEvent
from pycolo.transport.linksetup import Established
from pycolo.transport.linksocket import LinkSocket

FIRST_WORD: Final = "linked"
"""The secondary's first order on a link."""

FACT_OF_ORDER: Final = {
    "prepare": Fact.PREPARE_ASKED,
    "protected": Fact.PEER_PROTECTED,
    "discard": Fact.DISCARD_ASKED,
    "gone": Fact.PEER_GUEST_GONE,
    "broken": Fact.COLO_BROKEN,
    "resign": Fact.RESIGN_ASKED,
    "hand-over": Fact.HANDED_OVER,
}
"""What the nodes say to one another. `prepare` and `discard` are answered; the others are not."""

TERM_MAX: Final = (1 << 64) - 1
"""What the link's messages have room for."""

log = structlog.get_logger("colo")

Tell = Callable[[Fact, Told], None]


class Control(Protocol):
    """What a link needs of its control connection: see `ControlChannel`."""

    @property
    def trusted_until_ns(self) -> int:
        """See there."""

    def start(self) -> None:
        """See there."""

    def fall_silent(self) -> None:
        """See there."""

    def announce_takeover(self, term: int, epoch: int) -> None:
        """See there."""

    def order(self, payload: bytes) -> None:
        """See there."""

    def close(self, reason: GoodbyeReason | None, text: str) -> None:
        """See there."""


Served = Mapping[str, Callable[[JsonObject], Awaitable[JsonObject]]]
"""Questions that are not for the pair table, by their names. Each raises `PycoloError` to refuse."""

Meet = Callable[[int], None]

MakeControl = Callable[[LinkSocket, Callable[[ControlEvent], None]], Control]
"""`(socket, on_event)`; `on_event` may be called in any thread."""


def control_maker(options: NodeOptions, told: Callable[[], tuple[int, int]]) -> MakeControl:
    """Makes the control connection of each link. `told`: the term and the epoch that each heartbeat carries."""

    def make(link: LinkSocket, on_event: Callable[[ControlEvent], None]) -> Control:
        return control.ControlChannel(
            link,
            told,
            on_event,
            interval_ms=options.heartbeat_interval_ms,
            timeout_ms=options.heartbeat_timeout_ms,
            own_stall_ms=options.own_stall_ms,
        )

    return make


class Link:
    """One link. `data` is None once the data paths have taken it."""

    def __init__(self, number: int, channel: Control, control: Established, data: DataLinks) -> None:
        self.number = number
        self.channel = channel
        self.peer = control.link.stream
        self.instance = control.theirs.instance
        self.term = control.theirs.term
        self.program = control.theirs.program
        self.protocol = control.welcome.protocol
        self.data: DataLinks | None = data
        self.rpc = PeerRpc(channel.order)

    def take_data(self) -> DataLinks | None:
        """The data connections, for the data paths: once."""
        data, self.data = self.data, None
        return data

    def end(self, reason: GoodbyeReason | None, text: str = "") -> None:
        """Close the connections; blocks until the last words have left. Without a reason there is no goodbye."""
        self.channel.close(reason, text)


class Links:
    """The present link, the one that waits for its first word, and the one whose last word is still to be said."""

    def __init__(
        self,
        pair: Callable[[], Pair],
        make_control: MakeControl,
        tell: Tell,
        served: Served | None = None,
        meet: Meet = lambda epoch: None,
        cards: int = 1,
    ) -> None:
        """`pair()` is the pair as it is now; `tell` gets the facts. `meet` gets the epoch that an order names.

        `cards`: how many data connections a link has; the hello has made sure that both nodes say the same.
        """
        self._pair = pair
        self._make_control = make_control
        self._tell = tell
        self._served = served or {}
        self._meet = meet
        self._cards = cards
        self._serving: set[asyncio.Task[None]] = set()
        self._loop = asyncio.get_running_loop()
        self._call = LoopCall()
        self._last_number = 0
        self._half: Established | None = None
        self._half_data: list[LinkSocket] = []
        self._waiting: Link | None = None
        self._parting: Link | None = None
        self._is_closed = False
        self.present: Link | None = None
        self.suspected_ns = 0
        """When the last suspicion arose, or the primary handed over (CLOCK_MONOTONIC)."""

    # ── answers ─────────────────────────────────────────────────────────────────────────────────────────────

    def trusted_until_ns(self) -> int:
        """Up to when the other node certainly has not taken over; 0 without a link. Any thread."""
        link = self.present
        return link.channel.trusted_until_ns if link is not None else 0

    @property
    def bound_instance(self) -> int:
        """The process that this node is bound to; 0: any process may connect. Any thread."""
        link = self.present
        return link.instance if link is not None and self._pair().is_heard else 0

    # ── made ────────────────────────────────────────────────────────────────────────────────────────────────

    def accepted(self, made: Established) -> None:
        """The secondary has opened one of its connections, the control connection first."""
        if self._is_closed:
            made.close()
        elif made.theirs.channel is Channel.CONTROL:
            self._drop_half()
            self._half = made
        elif self._half is None or self._half.theirs.instance != made.theirs.instance:
            made.close()  # of a secondary whose control connection was replaced meanwhile
        else:
            self._half_data.append(made.messages)
            if len(self._half_data) < self._cards:
                return
            half, data = self._half, DataLinks(self._half_data)
            self._half, self._half_data = None, []
            self._drop_waiting()
            self._waiting = self._new_link(half, data)
            self._waiting.channel.start()

    def dialed(self, control_made: Established, *data_made: Established) -> None:
        """This node, the secondary, has opened all connections."""
        if self._is_closed:
            for made in (control_made, *data_made):
                made.close()
            return
        link = self._new_link(control_made, DataLinks(made.messages for made in data_made))
        self._become_present(link)
        self._tell(Fact.LINKED, Told(link.term, link.number, role=self._pair().role))
        if self._pair().link == link.number:
            link.rpc.say(FIRST_WORD, {"in_step": self._pair().is_in_step})
            link.channel.start()
        elif self.present is link:
            self.cut()

    def _new_link(self, control_made: Established, data: DataLinks) -> Link:
        self._last_number += 1
        link: Link

        def on_event(event: ControlEvent) -> None:
            self._call(self._heard, link, event)

        channel = self._make_control(control_made.messages, on_event)
        link = Link(self._last_number, channel, control_made, data)
        return link

    def _become_present(self, link: Link) -> None:
        old, self.present = self.present, link
        if old is not None:
            self._let_go(old, GoodbyeReason.REPLACED, "a new connection replaces this one")

    # ── heard ───────────────────────────────────────────────────────────────────────────────────────────────

    def _heard(self, link: Link, event: ControlEvent) -> None:
        if self._is_closed:
            return
        match event:
            case control.PeerOrder(payload=payload):
                order = link.rpc.heard(payload)
                if order is not None:
                    self._ordered(link, order)
            case control.Suspected(reason=SuspicionReason.SILENCE, at_ns=at_ns, text=text):
                self._doubt(link, Fact.SILENT, at_ns, text)
            case control.Suspected(at_ns=at_ns, text=text):
                self._doubt(link, Fact.LINK_LOST, at_ns, text)
            case control.ChannelClosed(text=text):
                link.rpc.lost(text)
                if link is self._waiting:
                    self._drop_waiting()
                self._doubt(link, Fact.LINK_LOST, monotonic_ns(), text)
            case control.Heard(text=text):
                self._tell(Fact.HEARD, Told(link=link.number, text=text))
            case control.PeerState(term=term):
                self._tell(Fact.HEARD, Told(term, link.number))
            case control.PeerTakeover(term=term):
                self._tell(Fact.HIGHER_TERM, Told(term, link.number))
            case control.PeerGoodbye(reason=GoodbyeReason.SHUTDOWN, text=text):
                self._tell(Fact.PEER_LEFT, Told(link=link.number, text=text))
            case control.PeerGoodbye(reason=GoodbyeReason.RESIGNED, text=text):
                self._tell(Fact.PEER_RESIGNED, Told(link=link.number, text=text))
            case control.PeerGoodbye(text=text):
                self._doubt(link, Fact.LINK_LOST, monotonic_ns(), text)

    def _doubt(self, link: Link, fact: Fact, at_ns: int, text: str) -> None:
        if link.number == self._pair().link:
            self.suspected_ns = at_ns
        self._tell(fact, Told(link=link.number, text=f"the other node may be dead: {text}"))

    def _ordered(self, link: Link, order: Order) -> None:
        if order.order == FIRST_WORD:
            if link is self._waiting:
                self._believe(link, is_in_step=order.arguments.get("in_step") is True)
            return
        if order.order in self._served:
            task = self._loop.create_task(self._serve(link, order))
            self._serving.add(task)
            task.add_done_callback(self._serving.discard)
            return
        fact = FACT_OF_ORDER.get(order.order or "")
        if fact is None:
            if order.id != NO_ANSWER:
                link.rpc.refuse(order.id, f"this node knows no order {order.order!r}")
            return
        why, epoch = order.arguments.get("why"), order.arguments.get("epoch")
        if type(epoch) is int and 0 <= epoch <= TERM_MAX:
            self._meet(epoch)
        if fact is Fact.HANDED_OVER and link.number == self._pair().link:
            self.suspected_ns = monotonic_ns()
        told = Told(term_of(order.arguments), link.number, order.id, why if isinstance(why, str) else "")
        self._tell(fact, told)
        if fact is Fact.PREPARE_ASKED and self._pair().state is not State.PREPARING:
            link.rpc.refuse(order.id, f"this node is {self._pair().shown}")

    async def _serve(self, link: Link, order: Order) -> None:
        try:
            link.rpc.answer(order.id, await self._served[order.order or ""](order.arguments))
        except PycoloError as error:
            link.rpc.refuse(order.id, str(error))

    def _believe(self, link: Link, *, is_in_step: bool) -> None:
        self._waiting = None
        self._become_present(link)
        fact = Fact.LINKED_IN_STEP if is_in_step else Fact.LINKED
        self._tell(fact, Told(link.term, link.number, role=self._pair().role))
        if self._pair().link != link.number and self.present is link:
            self.cut()

    # ── said ────────────────────────────────────────────────────────────────────────────────────────────────

    def say(self, order: str, arguments: JsonObject) -> None:
        """Tell the other node something, if it is linked."""
        if self.present is not None:
            self.present.rpc.say(order, arguments)

    def ask(self, order: str, arguments: JsonObject, on_answer: OnAnswer) -> None:
        """See `PeerRpc.ask`. Without a link there is no answer."""
        if self.present is not None:
            self.present.rpc.ask(order, arguments, on_answer)

    async def request(
        self, order: str, arguments: JsonObject | None = None, timeout_s: float = ANSWER_TIMEOUT_S
    ) -> JsonObject:
        """The other node's answer. Raises `PeerError`."""
        if self.present is None:
            raise PeerError("the other node is not linked")
        said = {**(arguments or {}), "term": self._pair().term}
        return await self.present.rpc.request(order, said, timeout_s)

    def answer(self, number: int, answer: JsonObject) -> None:
        """The other node's order of that number was carried out."""
        if self.present is not None and number != NO_ANSWER:
            self.present.rpc.answer(number, answer)

    def refuse(self, number: int, why: str) -> None:
        """The other node's order of that number was not carried out."""
        if self.present is not None and number != NO_ANSWER:
            self.present.rpc.refuse(number, why)

    # ── ended ───────────────────────────────────────────────────────────────────────────────────────────────

    def cut(self) -> None:
        """Close the present link without a goodbye: a goodbye would say that this node will not serve."""
        link, self.present = self.present, None
        if link is not None:
            self._let_go(link, None)

    def part(self) -> None:
        """Stop confirming heartbeats. `announce` sends the last word, once the new term is on disk."""
        link, self.present = self.present, None
        if link is not None:
            link.channel.fall_silent()
            link.rpc.lost("this node is about to serve alone")
            self._end_parting()
            self._parting = link

    def announce(self, term: int, epoch: int) -> None:
        """Tell the node whose link was parted from that this one serves alone, under `term`."""
        if self._parting is not None:
            try:
                self._parting.channel.announce_takeover(term, epoch)
            except PycoloError as error:
                log.warning(f"the other node is not told of term {term}: {error}")
        self._end_parting()

    def resign(self, text: str) -> None:
        """Say over the present link that this node no longer serves, and close it."""
        link, self.present = self.present, None
        if link is not None:
            self._let_go(link, GoodbyeReason.RESIGNED, text)

    def seal(self) -> None:
        """Ignore everything that is heard, and refuse every connection, from now on."""
        self._is_closed = True

    async def close(self, reason: GoodbyeReason, text: str) -> None:
        """The node ends in order."""
        self.seal()
        self._drop_half()
        for task in list(self._serving):
            task.cancel()
        await asyncio.gather(*self._serving, return_exceptions=True)
        self._end_parting()  # without a goodbye: this node has a term to serve under
        links = [link for link in (self.present, self._waiting) if link is not None]
        self.present = self._waiting = None
        for link in links:
            await asyncio.to_thread(link.end, reason, text)
            self._close_data(link)

    def abandon(self) -> None:
        """The node ends as if it had died: without a goodbye."""
        self.seal()
        self.present = self._waiting = self._parting = None

    def _end_parting(self) -> None:
        link, self._parting = self._parting, None
        if link is not None:
            self._let_go(link, GoodbyeReason.OTHER, "this node serves alone now")

    def _drop_waiting(self) -> None:
        link, self._waiting = self._waiting, None
        if link is not None:
            self._let_go(link, None)

    def _drop_half(self) -> None:
        half, self._half = self._half, None
        if half is not None:
            half.link.close()
        data, self._half_data = self._half_data, []
        DataLinks(data).close()

    def _let_go(self, link: Link, reason: GoodbyeReason | None, text: str = "") -> None:
        link.channel.fall_silent()
        link.rpc.lost(text or "the link is closed")
        self._close_data(link)
        self._loop.run_in_executor(None, link.end, reason, text)

    def _close_data(self, link: Link) -> None:
        if (data := link.take_data()) is not None:
            data.close()


def term_of(said: JsonObject) -> int:
    """The term that the other node names; 0 if it names none, or an impossible one."""
    term = said.get("term")
    return term if type(term) is int and 0 <= term <= TERM_MAX else 0
