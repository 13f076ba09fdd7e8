"""A libvirt in this process, in the place of the binding: the calls that a node makes, and what can go wrong with them.

tests/unit/domain/test_library.py holds its methods against the binding's own, where that is installed.
"""

import json
import threading
import uuid
from collections.abc import Callable
from typing import Any

from pycolo.domain.library import Library

XML = """<domain type='qemu' id='1'>
  <name>vm1</name>
  <uuid>{uuid}</uuid>
  <devices>
    <emulator>/usr/bin/qemu-system-x86_64</emulator>
    <interface type='bridge'>
      <mac address='52:54:00:00:00:01'/><source bridge='br0'/><target dev='vnet0'/><model type='virtio'/>
      <alias name='net0'/>
    </interface>
    <interface type='bridge'>
      <mac address='52:54:00:00:00:02'/><source bridge='br1'/><target dev='vnet1'/><model type='virtio'/>
      <alias name='net1'/>
    </interface>
    <memballoon model='none'/>
  </devices>
</domain>
"""
UUID = str(uuid.UUID(int=7))


class StandInError(Exception):
    """As libvirt.libvirtError."""

    def __init__(self, text: str, code: int = 1) -> None:
        super().__init__(text)
        self.code = code

    def get_error_code(self) -> int:
        return self.code


class StandInDomain:
    """As libvirt.virDomain."""

    def __init__(self, daemon: "StandInDaemon", name: str, xml: str, *, is_active: bool) -> None:
        self.daemon = daemon
        self.called = name
        self.xml = xml
        self.is_on = is_active
        self.is_paused = False
        self.is_kept = True
        self.starts = 0
        self.is_saved = False
        self.moved: list[str] = []
        self.inactive: str | None = None
        """The definition of the next start, where it differs."""

    def name(self) -> str:
        return self.called

    def isActive(self) -> int:
        return int(self.is_on)

    def isPersistent(self) -> int:
        return int(self.is_kept)

    def autostart(self) -> int:
        return self.starts

    def setAutostart(self, autostart: int) -> int:
        self.starts = autostart
        return 0

    def hasManagedSaveImage(self, flags: int = 0) -> int:
        return int(self.is_saved)

    def UUIDString(self) -> str:
        return self.xml.partition("<uuid>")[2].partition("<")[0]

    def XMLDesc(self, flags: int = 0) -> str:
        if flags & StandInCore.VIR_DOMAIN_XML_INACTIVE and self.inactive is not None:
            return self.inactive
        return self.xml

    def state(self, flags: int = 0) -> list[int]:
        return [3 if self.is_paused else 1, 1]

    def create(self) -> int:
        self.is_on = True
        return 0

    def updateDeviceFlags(self, xml: str, flags: int = 0) -> int:
        self.daemon.refuse_if("update")
        self.moved.append(xml)
        if self.inactive is not None:
            return 0
        mac, bridge = xml.split("address=")[1].split('"')[1], xml.split("bridge=")[1].split('"')[1]
        head, rest = self.xml.split(mac, 1)
        before = rest.split("bridge='", 1)
        self.xml = f"{head}{mac}{before[0]}bridge='{bridge}'{before[1].split(chr(39), 1)[1]}"
        return 0


class StandInNetwork:
    """As libvirt.virNetwork."""

    def __init__(self, xml: str) -> None:
        self.xml = xml
        self.is_on = True
        self.starts = 1

    def XMLDesc(self, flags: int = 0) -> str:
        return self.xml

    def isActive(self) -> int:
        return int(self.is_on)

    def isPersistent(self) -> int:
        return 1

    def autostart(self) -> int:
        return self.starts


class StandInConnection:
    """As libvirt.virConnect."""

    def __init__(self, daemon: "StandInDaemon") -> None:
        self.daemon = daemon
        self.closed: Callable[..., None] | None = None
        self.is_up = True

    def isAlive(self) -> int:
        return int(self.is_up)

    def setKeepAlive(self, interval: int, count: int) -> int:
        return 0

    def registerCloseCallback(self, cb: Callable[..., None], opaque: Any) -> int:
        self.closed = cb
        return 0

    def unregisterCloseCallback(self) -> int:
        self.closed = None
        return 0

    def close(self) -> int:
        self.is_up = False
        self.daemon.connections.remove(self)
        return 0

    def getLibVersion(self) -> int:
        return 9_000_000

    def getVersion(self) -> int:
        return 7_002_022

    def lookupByName(self, name: str) -> StandInDomain:
        self.daemon.require_up(self)
        if name not in self.daemon.domains:
            raise StandInError(
                f"Domain not found: no domain with matching name '{name}'", StandInCore.VIR_ERR_NO_DOMAIN
            )
        return self.daemon.domains[name]

    def networkLookupByName(self, name: str) -> StandInNetwork:
        self.daemon.refuse_if("network")
        if name not in self.daemon.networks:
            raise StandInError(
                f"Network not found: no network with matching name '{name}'", StandInCore.VIR_ERR_NO_NETWORK
            )
        return self.daemon.networks[name]

    def defineXML(self, xml: str) -> StandInDomain:
        name = xml.partition("<name>")[2].partition("<")[0]
        self.daemon.defined.append(xml)
        return self.daemon.domains.setdefault(name, StandInDomain(self.daemon, name, xml, is_active=False))

    def listAllDomains(self, flags: int = 0) -> list[StandInDomain]:
        self.daemon.require_up(self)
        return list(self.daemon.domains.values())

    def createXML(self, xmlDesc: str, flags: int = 0) -> StandInDomain:  # noqa: N803 - libvirt's name
        self.daemon.refuse_if("create")
        name = xmlDesc.partition("<name>")[2].partition("<")[0]
        made = self.daemon.domains.setdefault(name, StandInDomain(self.daemon, name, xmlDesc, is_active=True))
        made.xml, made.is_on, made.is_paused = xmlDesc, True, True
        self.daemon.created.append(xmlDesc)
        return made


class StandInCore:
    """As the module libvirt."""

    libvirtError = StandInError  # noqa: N815 - libvirt's name
    VIR_ERR_NO_DOMAIN = 42
    VIR_ERR_NO_NETWORK = 43
    VIR_DOMAIN_PAUSED = 3
    VIR_DOMAIN_START_PAUSED = 1
    VIR_DOMAIN_AFFECT_LIVE = 1
    VIR_DOMAIN_XML_SECURE = 1
    VIR_DOMAIN_XML_INACTIVE = 2
    VIR_DOMAIN_XML_MIGRATABLE = 8

    def __init__(self, daemon: "StandInDaemon") -> None:
        self.daemon = daemon

    def open(self, name: str) -> StandInConnection:
        self.daemon.refuse_if("open")
        if not self.daemon.is_up:
            raise StandInError("Failed to connect socket to '/run/libvirt/libvirt-sock': No such file or directory")
        made = StandInConnection(self.daemon)
        self.daemon.connections.append(made)
        return made


class StandInQemu:
    """As the module libvirt_qemu."""

    def __init__(self, daemon: "StandInDaemon") -> None:
        self.daemon = daemon

    def qemuMonitorEventRegister(self, conn: Any, dom: Any, event: Any, cb: Any, opaque: Any, flags: int = 0) -> int:
        if self.daemon.listeners:
            raise StandInError("invalid argument: event callback already tracked")
        self.daemon.listeners.append(cb)
        return 0

    def qemuMonitorCommand(self, domain: Any, cmd: str, flags: int = 0) -> str:
        self.daemon.asked.append(cmd)
        self.daemon.frozen.wait(20)
        self.daemon.require_up(None)
        return self.daemon.answer(json.loads(cmd))

    def qemuMonitorCommandWithFiles(
        self, domain: Any, cmd: str, files: Any = None, flags: int = 0
    ) -> tuple[str, list[int]]:
        self.daemon.passed += list(files)
        return self.qemuMonitorCommand(domain, cmd, flags), []


class StandInDaemon:
    """The libvirtd of one host."""

    def __init__(self, *names: str) -> None:
        self.is_up = True
        self.refused: set[str] = set()
        self.domains = {name: StandInDomain(self, name, XML.format(uuid=UUID), is_active=True) for name in names}
        self.networks: dict[str, StandInNetwork] = {}
        self.connections: list[StandInConnection] = []
        self.listeners: list[Callable[..., None]] = []
        self.asked: list[str] = []
        self.passed: list[int] = []
        self.created: list[str] = []
        self.defined: list[str] = []
        self.frozen = threading.Event()
        self.frozen.set()
        """Cleared: QEMU answers no command."""
        self.said: dict[str, Any] = {"query-version": {"qemu": {"major": 7, "minor": 2, "micro": 22}}}

    def library(self) -> Library:
        return Library(StandInCore(self), StandInQemu(self))

    def answer(self, asked: dict[str, Any]) -> str:
        name = asked["execute"]
        if isinstance(self.said.get(name), str):
            return str(self.said[name])
        return json.dumps({"return": self.said.get(name, {}), "id": "libvirt-7"})

    def tell(self, event: str, data: dict[str, Any] | None = None) -> None:
        """An event of QEMU's, in this thread as in libvirt's."""
        for listener in self.listeners:
            listener(None, None, event, 1_700_000_000, 250_000, json.dumps(data) if data else None, None)

    def refuse_if(self, what: str) -> None:
        if what in self.refused:
            raise StandInError(f"internal error: {what}\nis refused")

    def require_up(self, connection: StandInConnection | None) -> None:
        if not self.is_up or (connection is not None and not connection.is_up):
            raise StandInError("internal error: client socket is closed")

    def die(self) -> None:
        """As kill -9."""
        self.is_up = False
        for one in self.connections:
            one.is_up = False
            if one.closed is not None:
                one.closed(one, 0, None)
        self.connections.clear()
        self.listeners.clear()

    def come_back(self) -> None:
        self.is_up = True
