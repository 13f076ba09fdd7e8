"""What a guest gets of its node: the `GuestHost` that is put together of the node's parts."""

import asyncio
from collections.abc import Callable, Container

import structlog

from pycolo.check import before_protect
from pycolo.compare.difference import Command
from pycolo.compare.wait import Wait
from pycolo.config import PairConfig
from pycolo.failover.pair import Told
from pycolo.failover.pairstates import ON_GUARD, Fact, Role, State
from pycolo.link.codec import Channel
from pycolo.link.orders import JsonObject
from pycolo.node.costs import Costs
from pycolo.node.decider import Decider
from pycolo.node.divergences import Divergences
from pycolo.node.gate import Gate
from pycolo.node.journal import Journal
from pycolo.node.links import Links
from pycolo.node.loopcall import LoopCall
from pycolo.node.peerrpc import ANSWER_TIMEOUT_S
from pycolo.transport.linksetup import RawLink
from pycolo.vm.findings import Findings
from pycolo.vm.recordkeeper import StateKeeper
from pycolo.vm.sides import RoleSides

log = structlog.get_logger("colo")


class NodeHost:
    """A `GuestHost`. The parts that are made after the guest are set before it tells anything."""

    decider: Decider | None = None
    """None until the guest has been looked for."""
    failed: Callable[[BaseException], None]
    """What is to be done when the data path has ended."""
    _links: Links
    _sides: RoleSides
    _gate: Gate

    def __init__(
        self, config: PairConfig, record: StateKeeper, journal: Journal, divergences: Divergences, costs: Costs
    ) -> None:
        self.config = config
        self.epoch = record.epoch
        self.pid = record.pid
        self.spin_us = 0
        self.findings = Findings()
        self._record = record
        self._journal = journal
        self._divergences = divergences
        self._costs = costs
        self._call = LoopCall()

    def wire(self, links: Links, sides: RoleSides, gate: Gate) -> None:
        """The other parts are there."""
        self._links, self._sides, self._gate = links, sides, gate

    # ── the pair ────────────────────────────────────────────────────────────────────────────────────────────

    def call(self, function: Callable[..., None], *arguments: object) -> None:
        """See `GuestHost`."""
        self._call(function, *arguments)

    def tell(self, fact: Fact, told: Told) -> None:
        """See `GuestHost`."""
        if self.decider is not None:
            self.decider.tell(fact, told)

    def until_ns(self) -> int:
        """See `GuestHost`."""
        return self._gate.until_ns()

    def role(self) -> Role:
        """See `GuestHost`."""
        return self.decider.pair.role if self.decider is not None else self._record.pair_record.role

    def term(self) -> int:
        """See `GuestHost`."""
        if self.decider is None:
            return self._record.pair_record.term
        return max(self.decider.pair.term, self.decider.pair.opened)

    def is_on_guard(self) -> bool:
        """See `GuestHost`."""
        return self._is_in(ON_GUARD)

    def is_taking_over(self) -> bool:
        """See `GuestHost`."""
        return self._is_in((State.TAKING_OVER, State.SWITCHING))

    def guest_came(self) -> None:
        """See `GuestHost`."""
        log.info("a guest has come")
        self.tell(Fact.AVAILABLE, Told(text="a guest has come"))

    def _is_in(self, states: Container[State]) -> bool:
        return self.decider is not None and self.decider.pair.state in states

    async def try_host(self) -> None:
        """See `GuestHost`."""
        self.findings.keep_items(await before_protect(self.config, self.role(), self.term()))

    # ── the other node ──────────────────────────────────────────────────────────────────────────────────────

    async def ask_peer(
        self, order: str, arguments: JsonObject | None = None, timeout_s: float = ANSWER_TIMEOUT_S
    ) -> JsonObject:
        """See `GuestHost`."""
        return await self._links.request(order, arguments, timeout_s)

    def expect_link(self, channel: Channel) -> "asyncio.Future[RawLink]":
        """See `GuestHost`."""
        return self._sides.expect_link(channel)

    def forget_link(self, channel: Channel) -> None:
        """See `GuestHost`."""
        self._sides.forget_link(channel)

    def dial_raw(self, channel: Channel) -> RawLink:
        """See `GuestHost`."""
        return self._sides.dial_raw(channel)

    # ── kept and shown ──────────────────────────────────────────────────────────────────────────────────────

    def note_pid(self, pid: int) -> None:
        """See `GuestHost`."""
        self.pid = pid
        self._record.note_pid(pid)

    def note_divergences(self, found: list[Command]) -> None:
        """See `GuestHost`."""
        self._call(self._divergences.note, found)

    def note_waits(self, epoch: int, waits: list[Wait]) -> None:
        """See `GuestHost`."""
        self._call(self._costs.waited, epoch, waits)

    def on_serving(self, resent: int) -> None:
        """See `GuestHost`."""
        self._call(self._journal.resent, resent)

    def on_note(self, text: str) -> None:
        """See `GuestHost`."""
        self._call(log.warning, text)

    def on_fatal(self, error: BaseException) -> None:
        """See `GuestHost`."""
        self._call(self.failed, error)
