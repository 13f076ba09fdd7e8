"""Carries out the commands of the pair table, each by the part of the node that it concerns."""

from collections.abc import Callable
from typing import Protocol

import structlog

from pycolo.failover.pair import Pair, Told
from pycolo.failover.pairstates import Command, Fact, Role
from pycolo.link.orders import JsonObject, Order
from pycolo.node.datalinks import DataLinks
from pycolo.node.guest import Answer, Guest
from pycolo.node.links import Links
from pycolo.node.peerrpc import OnAnswer
from pycolo.node.permission import Permission
from pycolo.node.records import RecordKeeper

log = structlog.get_logger("colo")

C = Command
Tell = Callable[[Fact, Told], None]


class Sides(Protocol):
    """Where links come from."""

    def become(self, role: Role) -> None:
        """Listen as the primary, dial as the secondary."""


class Paths(Protocol):
    """The other node's addresses, apart from the link. Questions that come over them have negative numbers."""

    def ask(self, doubt: int) -> None:
        """Ask over each of them; what is answered is told as PEER_ALIVE or PEER_EMPTY with `doubt` as its `ask`."""

    def ask_discard(self, arguments: JsonObject, on_answer: OnAnswer) -> None:
        """Ask for the promise over each of them."""

    def answer(self, number: int, answer: JsonObject) -> None:
        """The question of that number was carried out."""

    def refuse(self, number: int, why: str) -> None:
        """The question of that number was not carried out."""


class NoOtherPath:
    """For nodes that know one address of the other node, which the link itself is dialed at."""

    def ask(self, doubt: int) -> None:
        """No answer."""

    def ask_discard(self, arguments: JsonObject, on_answer: OnAnswer) -> None:
        """No answer."""

    def answer(self, number: int, answer: JsonObject) -> None:
        """No question comes over another path."""

    def refuse(self, number: int, why: str) -> None:
        """No question comes over another path."""


class Lease(Protocol):
    """What must be there before a guest is protected."""

    def acquire(self, term: int, on_acquired: Callable[[int, str], None]) -> None:
        """Then `on_acquired(term, "")`, with the term to work under, or with the reason why there is none."""

    def abandon(self) -> bool:
        """It is not needed any more: `on_acquired` is not called. Whether it was still awaited."""


class Parts:
    """The parts of one node that carry commands out."""

    def __init__(
        self,
        guest: Guest,
        links: Links,
        permission: Permission,
        record: RecordKeeper,
        sides: Sides,
        paths: Paths,
        lease: Lease,
    ) -> None:
        self.guest = guest
        self.links = links
        self.permission = permission
        self.record = record
        self.sides = sides
        self.paths = paths
        self.lease = lease


class Commands:
    """`epoch()` is the pair's. `on_refused` is called when the operator's word decides nothing."""

    def __init__(self, parts: Parts, tell: Tell, epoch: Callable[[], int], on_refused: Callable[[], None]) -> None:
        self._parts = parts
        self._tell = tell
        self._epoch = epoch
        self._on_refused = on_refused
        self.on_protect_ended: Answer = lambda fact, why: None
        """Called with the answer to each PROTECT, even if the table has given that up meanwhile."""

    def __call__(self, command: Command, pair: Pair, told: Told) -> None:
        """Carry the command out; a fact answers what takes time."""
        if command in _FOR_THE_GUEST:
            self._guest(command, pair, told)
        elif command in _FOR_THE_ARBITER:
            self._arbiter(command, told)
        elif command in _FOR_THE_OTHER_NODE:
            self._other_node(command, pair, told)
        else:
            self._own(command, pair)

    def _guest(self, command: Command, pair: Pair, told: Told) -> None:
        guest = self._parts.guest
        match command:
            case C.HALT:
                guest.halt()
            case C.RELEASE:
                self._parts.links.announce(pair.term, self._epoch())
                self._parts.permission.serves()
                guest.release()
            case C.PROTECT:
                self._protect(pair)
            case C.CANCEL_PROTECT:
                why = told.text or pair.text
                if self._parts.lease.abandon():
                    self.on_protect_ended(Fact.PROTECT_FAILED, why)
                guest.cancel_protect(why)
            case C.PREPARE:
                self._prepare(pair, told)
            case C.DISCARD_GUEST:
                guest.discard()
            case C.SWITCH:
                self._switch(pair)
            case C.RETIRE:
                guest.retire(self._when_recorded(pair))

    def _arbiter(self, command: Command, told: Told) -> None:
        permission = self._parts.permission
        match command:
            case C.ASK_ARBITER:
                permission.ask()
            case C.ASK_HARMLESS:
                permission.ask_harmless()
            case C.WITHDRAW:
                permission.withdraw()
            case C.TELL_OPERATOR:
                permission.operator_confirmed()
            case C.TELL_RESIGNED:
                permission.peer_resigned(told.text)
            case C.RESIGN_LEASE:
                permission.resign()

    def _other_node(self, command: Command, pair: Pair, told: Told) -> None:
        links = self._parts.links
        match command:
            case C.SAY_GONE:
                self._say("gone", pair, {"why": pair.text})
            case C.SAY_BROKEN:
                self._say("broken", pair, {"why": pair.text})
            case C.SAY_PROTECTED:
                self._say("protected", pair, {"epoch": self._epoch()})
                self._parts.guest.committed()
            case C.ASK_RESIGN:
                self._say("resign", pair, {})
            case C.SAY_HANDED_OVER:
                self._say("hand-over", pair, {})
            case C.SAY_RESIGNED:
                links.resign(pair.text)
            case C.ASK_DISCARD:
                self._ask_discard(pair)
            case C.PROMISE:
                self._way_of(told).answer(told.ask, {"term": pair.term})
            case C.REFUSE_PROMISE:
                why = f"this node is {pair.shown}: what has begun cannot be called back"
                self._way_of(told).refuse(told.ask, why)
            case C.UNLINK if pair.opened:
                links.part()
                self._parts.guest.unlinked()
            case C.UNLINK:
                links.cut()
                self._parts.guest.unlinked()

    def _own(self, command: Command, pair: Pair) -> None:
        match command:
            case C.HOLD:
                return  # the gate is closed with the transition
            case C.RECORD:
                self._parts.record.keep(pair.record(), self._kept(pair.asked))
            case C.KEEP_WISH:
                self._parts.record.keep(pair.record(), _say_failure)
            case C.ASK_PATHS:
                self._parts.paths.ask(pair.doubt)
            case C.BECOME_PRIMARY:
                self._parts.sides.become(Role.PRIMARY)
            case C.BECOME_SECONDARY:
                self._parts.sides.become(Role.SECONDARY)
            case C.REFUSE_OPERATOR:
                self._on_refused()

    def _switch(self, pair: Pair) -> None:
        """A primary that hands over is told when clients are heard here: until then it mirrors what they send."""
        links, ask = self._parts.links, self._answer(pair)

        def answer(fact: Fact, why: str) -> None:
            if fact is Fact.SERVED:
                links.announce(pair.term, self._epoch())
            ask(fact, why)

        if not pair.has_word:
            links.announce(pair.term, self._epoch())
        self._parts.permission.serves()
        self._parts.guest.switch(answer)

    # ── protecting ──────────────────────────────────────────────────────────────────────────────────────────

    def _protect(self, pair: Pair) -> None:
        """The arbiter must know which node serves before there are two that could."""
        ask = self._answer(pair)

        def answer(fact: Fact, why: str) -> None:
            self.on_protect_ended(fact, why)
            ask(fact, why)

        def on_acquired(term: int, why: str) -> None:
            if why:
                answer(Fact.PROTECT_FAILED, why)
            elif term > pair.term:
                self.on_protect_ended(Fact.TERM_OPENED, "")
                text = f"the arbiter has opened term {term}"
                self._tell(Fact.TERM_OPENED, Told(term, ask=pair.asked, text=text))
            else:
                self._with_data(self._parts.guest.protect, answer, Fact.PROTECT_FAILED)

        self._parts.lease.acquire(pair.term, on_acquired)

    def _prepare(self, pair: Pair, told: Told) -> None:
        links, ask = self._parts.links, self._answer(pair)

        def answer(fact: Fact, why: str) -> None:
            links.refuse(told.ask, why)
            ask(fact, why)

        def prepare(link: int, data: DataLinks, answer: Answer) -> None:
            self._parts.guest.prepare(link, data, lambda said: links.answer(told.ask, said), answer)

        self._with_data(prepare, answer, Fact.PREPARE_FAILED)

    def _ask_discard(self, pair: Pair) -> None:
        """A node in doubt does not rely on the link."""
        asked, arguments = pair.asked, {"term": pair.term}

        def promised(reply: Order) -> None:
            fact = Fact.PROMISED if reply.error is None else Fact.PROMISE_REFUSED
            self._tell(fact, Told(ask=asked, text=reply.error or ""))

        self._parts.links.ask("discard", arguments, promised)
        if not pair.is_heard:
            self._parts.paths.ask_discard(arguments, promised)

    def _way_of(self, told: Told) -> "Links | Paths":
        """Where that question came from."""
        return self._parts.paths if told.ask < 0 else self._parts.links

    # ── answers ─────────────────────────────────────────────────────────────────────────────────────────────

    def _when_recorded(self, pair: Pair) -> Answer:
        """RETIRED counts when the new role is on disk."""
        answer = self._answer(pair)

        def retired(fact: Fact, text: str) -> None:
            def kept(why: str) -> None:
                answer(Fact.RETIRE_FAILED if why else fact, why or text)

            if fact is Fact.RETIRED:
                self._parts.record.keep(pair.record(), kept)
            else:
                answer(fact, text)

        return retired

    def _answer(self, pair: Pair) -> Answer:
        return lambda fact, text: self._tell(fact, Told(ask=pair.asked, text=text))

    def _kept(self, asked: int) -> Callable[[str], None]:
        def kept(why: str) -> None:
            _say_failure(why)
            self._tell(Fact.RECORD_FAILED if why else Fact.RECORDED, Told(ask=asked, text=why))

        return kept

    def _with_data(self, use: Callable[..., None], answer: Answer, failed: Fact) -> None:
        """`use(link, data, answer)`, or `failed` where the data connection is gone."""
        link = self._parts.links.present
        data = link.take_data() if link is not None else None
        if link is None or data is None:
            answer(failed, "there is no data connection")
        else:
            use(link.number, data, answer)

    def _say(self, order: str, pair: Pair, arguments: JsonObject) -> None:
        self._parts.links.say(order, {**arguments, "term": pair.term})


def _say_failure(why: str) -> None:
    if why:
        log.error(why)


_FOR_THE_GUEST = frozenset(
    {C.HALT, C.RELEASE, C.PROTECT, C.CANCEL_PROTECT, C.PREPARE, C.DISCARD_GUEST, C.SWITCH, C.RETIRE}
)
_FOR_THE_ARBITER = frozenset(
    {C.ASK_ARBITER, C.ASK_HARMLESS, C.WITHDRAW, C.TELL_OPERATOR, C.TELL_RESIGNED, C.RESIGN_LEASE}
)
_FOR_THE_OTHER_NODE = frozenset(
    {
        C.SAY_GONE,
        C.SAY_BROKEN,
        C.SAY_PROTECTED,
        C.SAY_HANDED_OVER,
        C.ASK_RESIGN,
        C.SAY_RESIGNED,
        C.ASK_DISCARD,
        C.PROMISE,
        C.REFUSE_PROMISE,
        C.UNLINK,
    }
)
