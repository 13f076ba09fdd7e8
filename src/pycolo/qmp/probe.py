"""What a QEMU is and can do, queried once when a node connects. `pycolo.qmp.judge` draws the conclusions.

QMP has no command that lists netdevs or blocks of memory; `info network` and `info ramblock` of the human monitor do.
To learn whether a netdev accepts
filters, the probe adds one that lacks a property which a redirector needs: QEMU checks the netdev first and refuses for
that reason (vhost, several queues), otherwise for the missing property. QEMU refuses in any case, so nothing is
changed. Whether a tap has vnet headers the host says, not QEMU: its own questions for that (x-query-virtio-status) make
some versions abort.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from pycolo.errors import PeerError, QmpError
from pycolo.qmp.commands import permitted
from pycolo.qmp.monitor import Monitor
from pycolo.qmp.tapflags import tap_has_vnet
from pycolo.qmp.topology import FOLDERS, PROPERTIES, DevicePlace, device_places, ram_blocks
from pycolo.qmp.versions import FORCE, Version, why_unknown

PROBE_TIMEOUT_S: Final = 10.0
"""Time-out of one query. The first one for types loads QEMU's modules: tens of milliseconds, more on a busy host."""

PROBE_FILTER_ID: Final = "colo-probe"

PROXY_TYPES: Final = frozenset({
    "colo-compare", "filter-buffer", "filter-mirror", "filter-redirector", "filter-replay", "filter-rewriter",
})  # fmt: skip
"""QOM types with which QEMU, or another program, holds, copies or diverts a guest's frames."""

_CLIENT: Final = re.compile(r"(?P<id>\S+): index=(?P<index>\d+),type=(?P<type>[\w-]+),?(?P<rest>.*)")
_CHILD: Final = re.compile(r"child<(?P<type>.+)>")
_TAP_NAME: Final = re.compile(r"(?:^|,)ifname=(?P<name>[^,/]+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Netdev:
    """A network backend of QEMU."""

    id: str
    type: str
    """"tap", "user", "socket", "vhost-user" …"""
    info: str = ""
    """As `info network` shows it: "ifname=tap0,script=no,downscript=no"."""
    queues: int = 1
    refusal: str | None = None
    """Why QEMU accepts no filter on it ("Vhost is not supported"), in QEMU's words; None: it accepts one."""
    vnet_header: bool | None = None
    """Whether the tap has vnet headers; None: not a tap of this host, or unknown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Nic:
    """A network device that the guest sees."""

    name: str
    model: str
    mac: str
    netdev: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Disk:
    """A block device with a medium."""

    device: str
    driver: str
    """The format of its image: "qcow2", "raw" …"""
    file: str
    is_writable: bool
    size_bytes: int = 0
    """As the guest sees it; 0: unknown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """One QEMU at one moment."""

    vm: str
    version: Version
    package: str
    machine: str
    """"pc-i440fx-7.2-machine"."""
    accelerator: Literal["kvm", "tcg"]
    """"tcg", software emulation, means anything but KVM."""
    status: str
    """QEMU's RunState: "running", "paused", "inmigrate" …"""
    is_running: bool
    vcpus: int
    cpu_type: str
    ram_bytes: int
    """Includes hot-plugged memory."""
    commands: frozenset[str]
    object_types: frozenset[str]
    """The network filters that it has."""
    capabilities: Mapping[str, bool]
    """Migration capability → whether it is on."""
    migration: str
    """Status of the last migration; "none" if there was none."""
    migration_blockers: tuple[str, ...]
    """Why this VM cannot migrate, in QEMU's words."""
    netdevs: Mapping[str, Netdev]
    nics: tuple[Nic, ...]
    disks: tuple[Disk, ...]
    devices: tuple[str, ...] | None = None
    """QOM types of the devices that were added to the machine, sorted; None: an older node has not told them."""
    places: tuple[DevicePlace, ...] | None = None
    """Where the same devices are; None: an older node has not told it."""
    ram_blocks: Mapping[str, int] | None = None
    """Blocks of memory, ROMs among them → the most bytes that each may have; None: an older node has not told it."""
    proxies: tuple[str, ...] = ()
    """QEMU's own COLO proxy in this machine, as "id (type)"; filters of a colo node before [[card]], too."""
    has_preload: bool | None = None
    """Whether its process has the library that software emulation needs; None: unknown, or not needed."""
    has_vhost: bool | None = None
    """Whether its process has /dev/vhost-net open; None: unknown."""

    @property
    def is_tcg(self) -> bool:
        """Software emulation."""
        return self.accelerator == "tcg"


async def probe(qmp: Monitor, timeout_s: float = PROBE_TIMEOUT_S, *, is_forced: bool = False) -> Facts:
    """Query everything; `timeout_s` applies to each query. Changes nothing in the VM.

    A QEMU of an unknown version is asked for its version only, unless `is_forced`. Raises the errors of `Qmp.execute`,
    and `PeerError` for an unknown version or an answer that cannot be parsed.
    """
    asker = _Asker(qmp, timeout_s)
    try:
        version, package = await _version(asker)
        if not is_forced and (why := why_unknown(version)) is not None:
            raise PeerError(f"{qmp.name} cannot be protected: {why}{FORCE}")
        return await _facts(asker, version, package)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise PeerError(
            f"{qmp.name}: {asker.last}: the answer cannot be parsed ({type(error).__name__}: {error}); "
            "is this a QEMU 7.2 or newer?"
        ) from error


async def netdevs(qmp: Monitor, timeout_s: float = PROBE_TIMEOUT_S) -> dict[str, Netdev]:
    """Its network backends by their ids, without what only `probe` asks. Raises as `probe` does."""
    text = await _Asker(qmp, timeout_s).ask("human-monitor-command", **{"command-line": "info network"})
    lines = network_lines(text)[1]
    return {name: Netdev(id=name, type=kind, info=info, queues=queues) for name, (kind, info, queues) in lines.items()}


class _Asker:
    """Queries with one time-out; remembers the last one, for the message about an answer that cannot be parsed."""

    def __init__(self, qmp: Monitor, timeout_s: float) -> None:
        self.name = qmp.name
        self.last = ""
        self._qmp = qmp
        self._timeout_s = timeout_s

    async def ask(self, command: str, **arguments: Any) -> Any:
        """The answer."""
        self.last = command
        return await self._qmp.execute(permitted(command), arguments or None, timeout_s=self._timeout_s)

    async def ask_if(self, commands: frozenset[str], command: str, otherwise: Any, **arguments: Any) -> Any:
        """The answer, or `otherwise` if `commands` lacks the command or QEMU refuses it."""
        if command not in commands:
            return otherwise
        try:
            return await self.ask(command, **arguments)
        except QmpError:
            return otherwise


async def _version(asker: _Asker) -> tuple[Version, str]:
    answer = await asker.ask("query-version")
    numbers = answer["qemu"]
    return (int(numbers["major"]), int(numbers["minor"]), int(numbers["micro"])), answer.get("package", "")


async def _facts(asker: _Asker, version: Version, package: str) -> Facts:
    # Not query-qmp-schema, which has them too: the guest's network would stand still while QEMU writes all of that.
    commands = frozenset(command["name"] for command in await asker.ask("query-commands"))
    filters = frozenset(found["name"] for found in await asker.ask("qom-list-types", implements="netfilter"))
    status = await asker.ask("query-status")
    kvm = await asker.ask_if(commands, "query-kvm", {"enabled": False})
    cpus = await asker.ask("query-cpus-fast")
    memory = await asker.ask("query-memory-size-summary")
    migration = await asker.ask("query-migrate")
    capabilities = await asker.ask("query-migrate-capabilities")
    netdevs, nics = await _network(asker, filters)
    devices, places = await _devices(asker)
    return Facts(
        vm=asker.name,
        version=version,
        package=package,
        machine=await asker.ask("qom-get", path="/machine", property="type"),
        accelerator="kvm" if kvm["enabled"] else "tcg",
        status=status["status"],
        is_running=status["running"],
        vcpus=len(cpus),
        cpu_type=await asker.ask("qom-get", path=cpus[0]["qom-path"], property="type") if cpus else "",
        ram_bytes=memory["base-memory"] + memory.get("plugged-memory", 0),
        commands=commands,
        object_types=filters,
        capabilities={found["capability"]: found["state"] for found in capabilities},
        migration=migration.get("status", "none"),
        migration_blockers=tuple(migration.get("blocked-reasons", ())),
        netdevs=netdevs,
        nics=nics,
        disks=_disks(await asker.ask("query-block")),
        devices=devices,
        places=places,
        ram_blocks=ram_blocks(await asker.ask("human-monitor-command", **{"command-line": "info ramblock"})),
        proxies=await _proxies(asker),
    )


async def _children(asker: _Asker, path: str) -> list[tuple[str, str]]:
    """Name and QOM type of each."""
    found = []
    for entry in await asker.ask("qom-list", path=path):
        if (child := _CHILD.fullmatch(entry["type"])) is not None:
            found.append((str(entry["name"]), child["type"]))
    return found


async def _devices(asker: _Asker) -> tuple[tuple[str, ...], tuple[DevicePlace, ...]]:
    found = {}
    for folder in FOLDERS:
        for name, kind in await _children(asker, folder):
            path = f"{folder}/{name}"
            known = [entry["name"] for entry in await asker.ask("qom-list", path=path)]
            properties = {one: await _property(asker, path, one) for one in PROPERTIES if one in known}
            found[path] = (kind, properties)
    return tuple(sorted(kind for kind, _ in found.values())), device_places(found)


async def _property(asker: _Asker, path: str, name: str) -> Any:
    """None if QEMU does not say it."""
    try:
        return await asker.ask("qom-get", path=path, property=name)
    except QmpError:
        return None


async def _proxies(asker: _Asker) -> tuple[str, ...]:
    try:
        objects = await _children(asker, "/objects")
    except QmpError:  # without a machine there are none
        return ()
    return tuple(sorted(f"{name} ({kind})" for name, kind in objects if kind in PROXY_TYPES))


def _disks(blocks: list[dict[str, Any]]) -> tuple[Disk, ...]:
    return tuple(
        Disk(
            device=block["device"] or block.get("qdev", "") or block["inserted"].get("node-name", ""),
            driver=block["inserted"]["drv"],
            file=block["inserted"]["file"],
            is_writable=not block["inserted"]["ro"],
            size_bytes=int(block["inserted"].get("image", {}).get("virtual-size", 0)),
        )
        for block in blocks
        if block.get("inserted")
    )


# ── the network ─────────────────────────────────────────────────────────────────────────────────────────────


async def _network(asker: _Asker, filters: frozenset[str]) -> tuple[dict[str, Netdev], tuple[Nic, ...]]:
    text = await asker.ask("human-monitor-command", **{"command-line": "info network"})
    nics, lines = network_lines(text)
    netdevs = {}
    for name, (kind, info, queues) in lines.items():
        refusal = await _filter_refusal(asker, name) if "filter-redirector" in filters else None
        tap = _TAP_NAME.search(info) if kind == "tap" else None
        netdevs[name] = Netdev(
            id=name,
            type=kind,
            info=info,
            queues=queues,
            refusal=refusal,
            vnet_header=None if tap is None else tap_has_vnet(tap["name"]),
        )
    return netdevs, nics


def network_lines(text: str) -> tuple[tuple[Nic, ...], dict[str, tuple[str, str, int]]]:
    r"""Parse `info network`: the devices, and netdev id → (type, the rest of its line, queues).

    A device's line is followed by its netdev's line, which begins with " \ "; both appear once per queue. Other lines
    describe filters and hubs.
    """
    nics: list[Nic] = []
    netdevs: dict[str, tuple[str, str, int]] = {}
    device: re.Match[str] | None = None
    for line in text.splitlines():
        found = None if line.startswith("  - ") else _CLIENT.search(line)
        if found is None:
            continue
        if found["type"] == "nic":
            device = found
            if found["index"] == "0":
                said = dict(part.partition("=")[::2] for part in found["rest"].split(","))
                nics.append(
                    Nic(name=found["id"], model=said.get("model", ""), mac=said.get("macaddr", ""), netdev=None)
                )
            continue
        kind, info, queues = netdevs.get(found["id"], (found["type"], found["rest"], 0))
        netdevs[found["id"]] = (kind, info, queues + 1)
        if line.startswith(" \\ ") and device is not None and device["index"] == "0" and nics:
            last = nics[-1]
            nics[-1] = Nic(name=last.name, model=last.model, mac=last.mac, netdev=found["id"])
        device = None
    return tuple(nics), netdevs


async def _filter_refusal(asker: _Asker, netdev: str) -> str | None:
    filter_of_nothing = {"qom-type": "filter-redirector", "id": PROBE_FILTER_ID, "netdev": netdev}
    try:
        await asker.ask("object-add", **filter_of_nothing)
    except QmpError as error:
        return None if "indev" in error.description else error.description
    await asker.ask("object-del", id=PROBE_FILTER_ID)
    return None
