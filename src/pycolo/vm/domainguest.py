"""The guest of this host as a domain of libvirt: the way to its monitor, and the secondary's domain.

The primary's node tells the other one its domain's definition (order "domain"), before that one is asked to prepare.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import msgspec
import structlog

from pycolo.config import PairConfig
from pycolo.domain.anymonitor import DomainMonitor
from pycolo.domain.connection import Connection
from pycolo.domain.definition import Interface, Portrait, interfaces, network_names, refusals
from pycolo.domain.disks import DiskImage, disk_refusals, named
from pycolo.domain.host import DomainHost
from pycolo.domain.network import Network, missing
from pycolo.domain.place import DomainWire
from pycolo.errors import ConnectError, PeerError, StateError
from pycolo.hostnet.wire import Wire, make_private_bridge, private_bridge_name
from pycolo.link.orders import JsonObject
from pycolo.qmp.client import Qmp, QmpEvent
from pycolo.qmp.guestdisks import GuestDisk
from pycolo.qmp.monitor import Monitor
from pycolo.transport.occupied import owner_of_path
from pycolo.vm.commandline import qmp_arguments
from pycolo.vm.domainfolder import make_folder
from pycolo.vm.imageguard import domain_guard
from pycolo.vm.leftover import end_leftover_qemu, mark_of

OWN_S = 0.3
"""A QEMU that runs answers at its own socket at once."""

GONE_S = 5.0
"""For libvirt to have noticed that a QEMU was killed."""

log = structlog.get_logger("colo")

AskPeer = Callable[[str, JsonObject], Awaitable[JsonObject]]


class DomainSource:
    """See `MonitorSource`: QEMU's own QMP socket, which a secondary's QEMU has; else the monitor that libvirt lends."""

    passes_descriptors = True

    def __init__(self, config: PairConfig, host: DomainHost) -> None:
        self.where = f"domain {host.name}"
        self._config = config
        self._host = host

    async def open(
        self, name: str, on_event: Callable[[QmpEvent], None], on_closed: Callable[[str], None], timeout_s: float
    ) -> Monitor:
        """See `MonitorSource`."""
        if self.has_own_socket():
            own = Qmp(self._config.qemu.qmp, name, on_event, on_closed)
            await own.connect(timeout_s)
            return own
        lent = DomainMonitor(self._host, name, on_event, on_closed)
        await lent.connect(timeout_s)
        return lent

    def has_own_socket(self) -> bool:
        """Whether the domain's QEMU listens at `qemu.qmp` as well: it has been a secondary's."""
        try:
            listener = owner_of_path(self._config.qemu.qmp, OWN_S)[0]
        except OSError:
            return False
        return listener > 0 and listener == self._host.pid()

    @property
    def yank(self) -> Path | None:
        """See `MonitorSource`."""
        return self._config.qemu.yank if self.has_own_socket() else None

    async def taps(self) -> Mapping[str, str]:
        """See `MonitorSource`. A node without the right to look into libvirt's QEMU learns it so."""
        with suppress(PeerError, ConnectError):
            return await self._host.taps()
        return {}

    def pid(self) -> int:
        """See `MonitorSource`."""
        return self._host.pid()


class DomainGuest:
    """Lives as long as the node. Used in asyncio's thread."""

    def __init__(self, config: PairConfig) -> None:
        assert config.guest is not None
        self._config = config
        self.host = DomainHost(config.guest.domain, Connection(config.guest.uri))
        self.source = DomainSource(config, self.host)
        self.guard = domain_guard(self.host)
        self._told: Portrait | None = None
        self._own_arguments = (*qmp_arguments(config), "-incoming", "defer")
        self._wires: list[tuple[str, Wire]] = []

    def wire(self, number: int, netdev: str, wire: Wire) -> DomainWire:
        """The wire of the card with this number, of which libvirt is told."""
        self._wires.append((netdev, wire))
        return DomainWire(wire, self.host, netdev, private_bridge_name(self._config.pair, number))

    # ── the primary's ─────────────────────────────────────────────────────────────────────────────────────────

    async def named(self, disks: Sequence[GuestDisk]) -> list[GuestDisk]:
        """The guest's disks as the domain's definition names them. Raises `PycoloError`, also for one that cannot be
        copied.
        """
        found = await self.host.find()
        if found is None:
            return list(disks)
        await self._refuse(found.xml)
        return named(disks, found.xml)

    async def _refuse(self, xml: str) -> None:
        whys = [*refusals(xml), *(disk_refusals(xml) if self._config.disks is not None else ())]
        networks = await self._found(network_names(interfaces(xml)))
        whys += [why for one in networks if (why := one.why_not) is not None]
        if whys:
            raise PeerError(f"domain {self.host.name} cannot be protected: {'; '.join(whys)}")

    async def tell(self, ask_peer: AskPeer) -> None:
        """Refuse a domain that cannot be protected, and tell the other node what it is. Raises `PycoloError`."""
        found = await self.host.find()
        if found is None or not found.is_active:
            raise ConnectError(f"domain {self.host.name} does not run on this host: virsh start {self.host.name}")
        await self._refuse(found.xml)
        homes = {netdev: home for netdev, wire in self._wires if (home := wire.home_bridge) is not None}
        told = await self.host.portrait(self._own_arguments, homes)
        await ask_peer("domain", msgspec.to_builtins(told))

    # ── the secondary's ───────────────────────────────────────────────────────────────────────────────────────

    async def hear(self, arguments: JsonObject) -> JsonObject:
        """The order "domain": what the primary's domain is. Raises `PycoloError`."""
        try:
            told = msgspec.convert(arguments, Portrait)
        except msgspec.ValidationError as error:
            raise PeerError(f"the other node's domain cannot be read: {error}") from error
        if told.name != self.host.name:
            raise StateError("domain", f"guest.domain {self.host.name!r}", f"the primary's, {told.name!r}")
        homes = {card.netdev: await self._home(card) for card in interfaces(told.migratable)}
        for netdev, wire in self._wires:
            wire.assume(homes.get(netdev))
        self._told = told
        return {}

    async def _home(self, card: Interface) -> str | None:
        """The bridge on this host: a network's may have another name here."""
        if card.network is None:
            return card.bridge
        found = await self.host.network(card.network)
        why = missing(card.network) if found is None else found.why_not
        if found is None or why is not None:
            raise PeerError(f"domain {self.host.name}: its card {card.mac}: {why}")
        return found.bridge

    async def _found(self, names: Iterable[str]) -> list[Network]:
        """Those that this host has, each once."""
        found = [await self.host.network(name) for name in dict.fromkeys(names)]
        return [one for one in found if one is not None]

    async def gateways(self) -> dict[str, str]:
        """Network that is each host's own → what guests know of this host on it. Raises `ConnectError`, `PeerError`."""
        assert self._config.guest is not None
        found = await self.host.find()
        names = network_names(interfaces(found.xml)) if found is not None else []
        networks = await self._found([*names, *self._config.guest.own_networks])  # the domain may not be defined yet
        return {one.name: one.gateway for one in networks if one.is_of_one_host and one.gateway}

    # ── the secondary's domain ────────────────────────────────────────────────────────────────────────────────

    async def start(self, images: Mapping[str, DiskImage] | None = None) -> int:
        """Start the secondary's domain, as the primary's node has told it; its process. `images`: see `DomainHost`.

        Raises `PycoloError`.
        """
        self.guard.let_go()
        told = self._told
        if told is None:
            raise StateError("prepare", "without the primary's domain", "guest.domain in both files")
        await self.end_waiting()
        bridges = {}
        for number, card in enumerate(self._config.card):
            bridges[card.netdev] = private_bridge_name(self._config.pair, number)
            await asyncio.to_thread(make_private_bridge, bridges[card.netdev])
        await asyncio.to_thread(make_folder, self._config.qemu.directory)
        return await self.host.start_secondary(told, self._own_arguments, bridges, images)

    async def end_waiting(self) -> None:
        """End a domain that waits for a primary's state, which an earlier process of this node has left.

        Raises `PycoloError`.
        """
        if await self.host.waits_here(self._own_arguments[1]):
            await asyncio.to_thread(end_leftover_qemu, self.host.pid(), mark_of(self._config))
            await self.gone()

    async def gone(self) -> None:
        """Wait until libvirt has noticed that the domain's process has ended; or does not answer."""
        with suppress(TimeoutError, PeerError, ConnectError):
            async with asyncio.timeout(GONE_S):
                while await self.host.is_active():
                    await asyncio.sleep(0.05)

    async def answers(self) -> bool:
        """Whether this host's libvirt does."""
        try:
            await self.host.alive()
        except (PeerError, ConnectError):
            return False
        return True

    async def begin(self) -> int:
        """Start the domain as `virsh start` does; its process. Raises `PycoloError`."""
        self.guard.let_go()
        await self.host.start()
        return self.host.pid()


def why_missing(config: PairConfig) -> str:
    """For a message where this host has no guest."""
    if config.guest is None:
        return f"no QEMU answers at qemu.qmp {config.qemu.qmp}"
    return f"domain {config.guest.domain} does not run here, or libvirt ({config.guest.uri}) does not lend its monitor"


def domain_guest(config: PairConfig) -> DomainGuest | None:
    """None: the file names no domain. Makes the folder in which the node keeps things of its own, too.

    Raises `ConnectError` when that cannot be made.
    """
    if config.guest is None:
        return None
    make_folder(config.qemu.directory)
    return DomainGuest(config)
