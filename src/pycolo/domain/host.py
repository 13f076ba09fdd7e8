"""This host's libvirt, asked and told about one domain. Each method is one or a few calls, with a time-out."""

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeVar

from pycolo.domain.connection import CALL_S, Connection
from pycolo.domain.definition import (
    Placed,
    Portrait,
    arguments_of,
    home_of,
    in_bridge,
    mac_of,
    moved_interface,
    placed,
    portrait,
    secondary_xml,
    taps,
)
from pycolo.domain.disks import DiskImage, secondary_disks, used_paths, with_images
from pycolo.domain.events import DomainEvents
from pycolo.domain.library import Library
from pycolo.domain.network import Network, network
from pycolo.errors import PeerError

START_S: Final = 20.0
"""libvirt starts a QEMU in half a second, also to learn its version, and waits for it; a busy host takes longer."""

PIDS: Final = Path("/run/libvirt/qemu")
"""Where libvirt notes a domain's process: its interface for programs does not say it."""

T = TypeVar("T")


class Domain(NamedTuple):
    """A domain of this host, at one moment."""

    uuid: str
    is_active: bool
    is_persistent: bool
    starts_by_itself: bool
    has_saved_state: bool
    xml: str
    """The definition of the domain that runs, or of the next start."""


class Versions(NamedTuple):
    """libvirt's numbers: 9000000 is 9.0.0."""

    libvirt: int
    hypervisor: int

    @property
    def shown(self) -> str:
        """For people."""
        return f"libvirt {_dotted(self.libvirt)}, QEMU {_dotted(self.hypervisor)}"


def _dotted(number: int) -> str:
    return f"{number // 1_000_000}.{number // 1_000 % 1_000}.{number % 1_000}"


class DomainHost:
    """`name`: of the domain; `connection`: to this host's libvirtd."""

    def __init__(self, name: str, connection: Connection, pids: Path = PIDS) -> None:
        self.name = name
        self.connection = connection
        self.events = DomainEvents()
        self._pids = pids

    def pid(self) -> int:
        """See `pid_of_domain`."""
        return pid_of_domain(self.name, self._pids)

    async def find(self) -> Domain | None:
        """None: this host has no domain of this name. Raises `ConnectError`, `PeerError`."""

        def find(connection: Any, library: Library) -> Domain | None:
            found = _lookup(connection, library, self.name)
            if found is None:
                return None
            is_persistent = bool(found.isPersistent())
            return Domain(
                uuid=found.UUIDString(),
                is_active=bool(found.isActive()),
                is_persistent=is_persistent,
                starts_by_itself=is_persistent and bool(found.autostart()),
                has_saved_state=is_persistent and bool(found.hasManagedSaveImage(0)),
                xml=found.XMLDesc(0),
            )

        return await self._call("find", find)

    async def versions(self) -> Versions:
        """Of this host's daemon and of the QEMU that it uses. Raises `ConnectError`, `PeerError`."""

        def ask(connection: Any, library: Library) -> Versions:
            return Versions(connection.getLibVersion(), connection.getVersion())

        return await self._call("version", ask, START_S)

    async def portrait(self, own: Sequence[str], homes: Mapping[str, str] | None = None) -> Portrait:
        """See `definition.portrait`. Raises `ConnectError`, `PeerError`."""

        def read(connection: Any, library: Library) -> tuple[str, str, str | None]:
            core = library.core
            found = connection.lookupByName(self.name)
            running = core.VIR_DOMAIN_XML_MIGRATABLE | core.VIR_DOMAIN_XML_SECURE
            kept = core.VIR_DOMAIN_XML_INACTIVE | core.VIR_DOMAIN_XML_SECURE
            return found.UUIDString(), found.XMLDesc(running), found.XMLDesc(kept) if found.isPersistent() else None

        uuid, migratable, inactive = await self._call("definition", read)
        return portrait(self.name, uuid, migratable, inactive, own, homes)

    async def kept_definition(self) -> str | None:
        """What the next start of the domain uses here; None: it is not defined. Raises `ConnectError`, `PeerError`."""

        def read(connection: Any, library: Library) -> str | None:
            found = _lookup(connection, library, self.name)
            if found is None or not found.isPersistent():
                return None
            return str(found.XMLDesc(library.core.VIR_DOMAIN_XML_INACTIVE))

        return await self._call("definition", read)

    async def users_of(self, paths: Sequence[str]) -> dict[str, str]:
        """Path → another domain of this host that has it, by whatever name. Raises `ConnectError`, `PeerError`."""

        def ask(connection: Any, library: Library) -> dict[str, str]:
            users = {
                os.path.realpath(path): str(domain.name())
                for domain in connection.listAllDomains()
                if domain.name() != self.name
                for path in used_paths(domain.XMLDesc(0))
            }
            return {path: users[real] for path in paths if (real := os.path.realpath(path)) in users}

        return await self._call("disks of other domains", ask, START_S) if paths else {}

    async def start_secondary(
        self,
        told: Portrait,
        arguments: Sequence[str],
        bridges: Mapping[str, str],
        images: Mapping[str, DiskImage] | None = None,
    ) -> int:
        """Define the domain as the other host has it, and start it paused, for the primary's state; its process.
        `images`: this host's copies of its disks, by their names; None: no disk is copied.

        Raises `ConnectError`, `PeerError`, also for a domain of this name that runs here.
        """
        xml, inactive = secondary_xml(told, arguments, bridges), told.inactive
        if images is not None:
            xml = secondary_disks(xml, images)
            inactive = with_images(inactive, images) if inactive is not None else None

        def start(connection: Any, library: Library) -> None:
            found = _lookup(connection, library, self.name)
            if found is not None and found.isActive():
                raise PeerError(
                    f"domain {self.name} runs on this host too, and not for this pair: virsh destroy {self.name} "
                    "here, unless it is the one that is to be protected"
                )
            if found is not None and found.UUIDString() != told.uuid:
                raise PeerError(
                    f"domain {self.name} of this host is another one (UUID {found.UUIDString()}, the primary's has "
                    f"{told.uuid}): virsh undefine or rename it"
                )
            if inactive is not None:
                connection.defineXML(inactive).setAutostart(0)
            connection.createXML(xml, library.core.VIR_DOMAIN_START_PAUSED)

        await self._call("start", start, START_S)
        pid = self.pid()
        if not pid:
            raise PeerError(
                f"domain {self.name} was started, and {self._pids}/{self.name}.pid does not name its process"
            )
        return pid

    async def waits_here(self, argument: str) -> bool:
        """Whether a domain runs, paused, with this argument of QEMU: an earlier process of the node has left it.

        Raises `ConnectError`, `PeerError`.
        """

        def ask(connection: Any, library: Library) -> bool:
            found = _lookup(connection, library, self.name)
            if found is None or not found.isActive() or argument not in arguments_of(found.XMLDesc(0)):
                return False
            return bool(found.state()[0] == library.core.VIR_DOMAIN_PAUSED)

        return await self._call("state", ask)

    async def alive(self) -> None:
        """Have libvirt answer. Raises `ConnectError`, `PeerError`."""
        await self._call("version", lambda connection, _: connection.getLibVersion())

    async def is_active(self) -> bool:
        """Whether it runs. Raises `ConnectError`, `PeerError`."""

        def ask(connection: Any, library: Library) -> bool:
            found = _lookup(connection, library, self.name)
            return found is not None and bool(found.isActive())

        return await self._call("state", ask)

    async def start(self) -> None:
        """Start it as `virsh start` does. Raises `ConnectError`, `PeerError`."""
        await self._call("start", lambda connection, _: connection.lookupByName(self.name).create(), START_S)

    async def placed(self, netdev: str) -> Placed | None:
        """Where libvirt believes a card's tap to be; None: the domain does not run.

        Raises `ConnectError`, `PeerError`.
        """

        def ask(connection: Any, library: Library) -> Placed | None:
            found = _lookup(connection, library, self.name)
            return placed(found.XMLDesc(0), netdev) if found is not None and found.isActive() else None

        return await self._call(f"card {netdev}", ask)

    async def taps(self) -> dict[str, str]:
        """Netdev → interface, of the domain that runs. Raises `ConnectError`, `PeerError`."""
        found = await self.find()
        return taps(found.xml) if found is not None and found.is_active else {}

    async def move_card(self, netdev: str, bridge: str) -> None:
        """Let libvirt move a card's tap to a bridge, and believe it there. The tap must be in no bridge.

        A card that comes home to its network's bridge is the network's again. Raises `ConnectError`, `PeerError`.
        """

        def move(connection: Any, library: Library) -> None:
            found = connection.lookupByName(self.name)
            live = found.XMLDesc(0)
            home = None
            if found.isPersistent():
                home = home_of(found.XMLDesc(library.core.VIR_DOMAIN_XML_INACTIVE), mac_of(live, netdev))
            is_home = home is not None and _is_bridge_of(connection, library, home.network, bridge)
            element = moved_interface(live, netdev, home if home is not None and is_home else in_bridge(bridge))
            found.updateDeviceFlags(element, library.core.VIR_DOMAIN_AFFECT_LIVE)

        await self._call(f"card {netdev} into {bridge}", move)

    async def network(self, name: str) -> Network | None:
        """A network of this host; None: it has none of this name. Raises `ConnectError`, `PeerError`."""
        return await self._call(f"network {name}", lambda connection, library: _network(connection, library, name))

    async def _call(self, what: str, function: Callable[[Any, Library], T], timeout_s: float = CALL_S) -> T:
        return await self.connection.call(f"domain {self.name}: {what}", function, timeout_s)


def _network(connection: Any, library: Library, name: str) -> Network | None:
    try:
        found = connection.networkLookupByName(name)
    except library.core.libvirtError as error:
        if error.get_error_code() == library.core.VIR_ERR_NO_NETWORK:
            return None
        raise
    return network(
        found.XMLDesc(0),
        is_active=bool(found.isActive()),
        starts_by_itself=not found.isPersistent() or bool(found.autostart()),
    )


def _is_bridge_of(connection: Any, library: Library, name: str | None, bridge: str) -> bool:
    """False also where libvirt cannot say so: a host whose networks are out of order serves all the same."""
    try:
        found = _network(connection, library, name) if name is not None else None
    except library.core.libvirtError:
        return False
    return found is not None and found.is_active and found.bridge == bridge


def _lookup(connection: Any, library: Library, name: str) -> Any:
    try:
        return connection.lookupByName(name)
    except library.core.libvirtError as error:
        if error.get_error_code() == library.core.VIR_ERR_NO_DOMAIN:
            return None
        raise


def pid_of_domain(name: str, pids: Path = PIDS) -> int:
    """The process of a domain that runs; 0: it does not, or libvirt does not note it here."""
    try:
        pid = int((pids / f"{name}.pid").read_text(encoding="ascii"))
        words = Path(f"/proc/{pid}/cmdline").read_bytes()
    except (OSError, ValueError):
        return 0
    return pid if process_mark(name) in words else 0


def process_mark(name: str) -> bytes:
    """What the command line of a domain's QEMU has, and no other's."""
    doubled = name.replace(",", ",,")
    return b"guest=" + doubled.encode() + b","
