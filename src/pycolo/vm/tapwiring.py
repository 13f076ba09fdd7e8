"""The node beside QEMU, as `GuestWiring`: its own TAP stands in the bridge in the place of the guest's.

::

    bridge ── node's TAP ── data path ── packet socket on the guest's tap ── QEMU, any -netdev tap

Nothing is added to QEMU. While this node is gone the guest's tap is in no bridge: the guest is cut off, as it must be
while its output is not compared.
"""

import asyncio
import re
from collections.abc import Mapping
from typing import Final, Protocol

import structlog

from pycolo.config import PairConfig
from pycolo.errors import ConfigError
from pycolo.hostnet.trial import send_trial
from pycolo.hostnet.wire import Wire, private_bridge_name
from pycolo.qmp.probe import Facts, Netdev
from pycolo.transport.guesttap import GuestTap, open_guest
from pycolo.transport.ports import open_device
from pycolo.transport.portspec import parse_port
from pycolo.vm.domainguest import DomainGuest
from pycolo.vm.guestwiring import CardPorts
from pycolo.vm.hooks import Network

log = structlog.get_logger("colo")

_TAP: Final = re.compile(r"(?:^|[,\s])ifname=([^,\s]+)")


class CardWire(Protocol):
    """The place of one card's tap on this host: see `pycolo.hostnet.wire.Wire`. Its methods block."""

    node_tap: str

    @property
    def is_left(self) -> bool:
        """Whether an earlier process of this node has left it attached."""

    def prepare(self, tap: str) -> None:
        """Make the node's TAP."""

    def attach(self) -> None:
        """The node's TAP takes the place of the guest's."""

    def hold_apart(self) -> None:
        """Neither is in a bridge."""

    def detach(self) -> None:
        """The guest's tap is back in its place; the node's TAP is gone."""

    def settle(self, tap: str) -> None:
        """The guest's tap is in its place, whatever has been left; the node's TAP is gone."""


class Card:
    """One `[[card]]` on this host."""

    def __init__(self, netdev: str, tap: str | None, wire: CardWire) -> None:
        """`tap`: as the file says; None: as QEMU says."""
        self.netdev = netdev
        self.wire = wire
        self.tap = tap or ""
        self._given = tap
        self.port: GuestTap | None = None

    def find(self, netdevs: Mapping[str, Netdev]) -> None:
        """Find the tap of QEMU's netdev. Raises `ConfigError`."""
        if self._given is not None:
            return
        netdev = netdevs.get(self.netdev)
        if netdev is None:
            raise ConfigError("card.netdev", f"one of QEMU's: {', '.join(netdevs) or 'it has none'}", self.netdev)
        found = _TAP.search(netdev.info)
        if found is None:
            expected = "a netdev of type tap whose ifname QEMU knows; give card.tap"
            raise ConfigError("card.netdev", expected, f"{self.netdev}: {netdev.type},{netdev.info}")
        self.tap = found[1]

    def open(self) -> CardPorts:
        """The ports of this card's data path. Raises `ConnectError`."""
        lan = open_device(parse_port(f"tap:{self.wire.node_tap},vnet_hdr=on", "card"), f"card {self.netdev}")
        try:
            spec = parse_port(f"packet:{self.tap},vnet_hdr=on", "card")
            guest = open_guest(spec, f"card {self.netdev}", may_go=True)
        except BaseException:
            lan.close()
            raise
        self.port = guest
        return CardPorts(lan, guest, guest)


class TapWiring:
    """See `GuestWiring`. `hooks`: the user's own commands, for what else has to happen on a host that serves."""

    def __init__(self, cards: list[Card], hooks: Network) -> None:
        self.cards = cards
        self._hooks = hooks

    @property
    def is_left(self) -> bool:
        """Whether a journal of an earlier process is there."""
        return any(card.wire.is_left for card in self.cards)

    async def make_ready(self, facts: Facts) -> None:
        """Make the nodes' TAPs. Those of an earlier process are in their places still."""
        for card in self.cards:
            card.find(facts.netdevs)
            await asyncio.to_thread(card.wire.prepare, card.tap)

    def open(self) -> list[CardPorts]:
        """Those of all cards."""
        made: list[CardPorts] = []
        try:
            for card in self.cards:
                made.append(card.open())
        except BaseException:
            for ports in made:
                ports.close()
            raise
        return made

    async def insert(self) -> None:
        """The nodes' TAPs take the places of the guest's."""
        await self._each("attach")

    async def insert_apart(self) -> None:
        """No TAP is in a bridge."""
        await self._each("hold_apart")

    async def withdraw(self) -> None:
        """The guest's TAPs are back in their places."""
        await self._each("detach")

    async def serve(self) -> None:
        """The nodes' TAPs join their bridges; the guest's stay out, even if the user's command has moved them."""
        await self._hooks.serve()
        await self._each("attach")

    async def serve_alone(self) -> None:
        """See `settle` for the taps."""
        await self._hooks.serve()

    async def settle(self, netdevs: Mapping[str, Netdev]) -> None:
        """See `GuestWiring`. A card of which nothing says where it belongs is warned of: its user may know."""
        for card in self.cards:
            try:
                card.find(netdevs)
                await asyncio.to_thread(card.wire.settle, card.tap)
            except ConfigError as error:
                log.warning(f"the guest serves, but perhaps not on its network: {error}")

    async def try_input(self) -> None:
        """By the nodes' TAPs."""
        for card in self.cards:
            await asyncio.to_thread(send_trial, card.wire.node_tap)

    async def leave(self) -> None:
        """No TAP is in a bridge."""
        await self._each("hold_apart")
        await self._hooks.leave()

    async def _each(self, what: str) -> None:
        for card in self.cards:
            await asyncio.to_thread(getattr(card.wire, what))


def make_wiring(config: PairConfig, hooks: Network, domain: DomainGuest | None = None) -> TapWiring:
    """As the node's file says. `domain`: libvirt is told where the taps are."""
    cards = []
    for number, card in enumerate(config.card):
        private = None if domain is None else private_bridge_name(config.pair, number)
        wire = Wire(config.pair, number, card, config.state, private)
        placed: CardWire = wire if domain is None else domain.wire(number, card.netdev, wire)
        cards.append(Card(card.netdev, card.tap, placed))
    return TapWiring(cards, hooks)
