"""Both guests of a pair in one process: `VmGuest` with its plans, paths and relays; only QEMUs and taps are made up.

`QemuStandIn` takes the place of `Machine`. It answers what the plans ask, migrates over the real relays, and does what
a test wants to go wrong: `faults` maps a QMP command, or the name of one of its methods, to an exception or to `HANG`.
`WiringStandIn` takes the place of `TapWiring`; its `faults` are its methods.
"""

import asyncio
import socket
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from struct import pack
from typing import Any, ClassVar, Self

import structlog

from pycolo.checkpoint.epoch import Epoch
from pycolo.config import load
from pycolo.errors import ConnectError, PeerError
from pycolo.failover.pairstates import Fact, Role
from pycolo.link.codec import DATA_FROM_PRIMARY, DATA_FROM_SECONDARY
from pycolo.node.datalinks import DataLinks
from pycolo.node.loopcall import LoopCall
from pycolo.qmp.client import QmpEvent
from pycolo.qmp.probe import Facts
from pycolo.transport.linksetup import RawLink
from pycolo.transport.linksocket import LinkSocket
from pycolo.transport.portspec import parse_port
from pycolo.transport.streamport import StreamPort
from pycolo.vm import guest as vmguest
from pycolo.vm import pathslot, primaryguest, secondaryguest
from pycolo.vm.backstream import ColoMessage
from pycolo.vm.findings import Findings
from pycolo.vm.guest import VmGuest
from pycolo.vm.guestwiring import CardPorts
from pycolo.vm.streamorders import StreamOrders
from support.qemufacts import GOOD

DEADLINE_S = 20

HANG = object()

CONFIG = """
pair = "vm1"
role = "{role}"
state = "{place}/state"
link = {{ listen = "127.0.0.1:9000", peer = "127.0.0.1:9001", insecure = true }}
qemu = {{ qmp = "{place}/qmp.sock", directory = "{place}", command = ["qemu"] }}
control = {{ socket = "{place}/control.sock" }}
checkpoint = {{ min_distance_ms = 0, max_interval_ms = 0, timeout_ms = 1000 }}
card = [{{ netdev = "hn0" }}]
"""

FACTS = replace(GOOD, package="a stand-in", vcpus=1, capabilities={"x-colo": False})


class WiringStandIn:
    """See the module, and `GuestWiring`."""

    def __init__(self, place: Path) -> None:
        self._place = place
        self.where = "its bridge"
        """Of the guest's tap; or "apart"; or "beside": the node's has its place."""
        self.is_left = False
        self.has_taps = False
        self.opened = 0
        self.faults: dict[str, Exception] = {}

    @property
    def is_on_lan(self) -> bool:
        return self.where != "apart"

    def _do(self, name: str, where: str) -> None:
        if name in self.faults:
            raise self.faults[name]
        self.where = where

    async def make_ready(self, facts: Facts) -> None:
        self._do("make_ready", self.where)
        self.has_taps = True

    def open(self) -> list[CardPorts]:
        """Ports that never connect."""
        self.opened += 1
        names = (f"unix:{self._place}/{name}.sock,reconnect-ms=100,vnet_hdr=on" for name in ("lan", "guest"))
        lan, guest = (StreamPort(parse_port(text, "card"), "card") for text in names)
        return [CardPorts(lan, guest, None)]

    async def insert(self) -> None:
        self._do("insert", "beside")

    async def insert_apart(self) -> None:
        self._do("insert_apart", "apart")

    async def withdraw(self) -> None:
        self._do("withdraw", "its bridge")
        self.has_taps = self.is_left = False

    async def serve(self) -> None:
        self._do("serve", "beside")

    async def serve_alone(self) -> None:
        self._do("serve_alone", self.where)

    async def settle(self, netdevs: Any) -> None:
        self._do("settle", "its bridge")

    async def try_input(self) -> None:
        """No guest reads it."""

    async def leave(self) -> None:
        self._do("leave", "apart")


class QemuStandIn:
    """See the module; the methods are those of `Machine`."""

    made: ClassVar[list["QemuStandIn"]] = []
    absent: ClassVar[set[str]] = set()
    """Names of machines that are not there to be connected to."""

    passes_descriptors = False

    def __init__(
        self,
        options: Any,
        name: str,
        on_event: Callable[..., None],
        on_gone: Callable[[str], None],
        source: object = None,
    ) -> None:
        self.pid = 0
        self.qmp: object | None = None
        self.version = "7.2.22"
        self.is_over = False
        self.name = name
        self.faults: dict[str, Any] = dict(World.faults.get(self._kind(), {}))
        self.done: list[str] = []
        self.mode = "none"
        self.migration = "none"
        self.is_running = True
        self.rcba = 0
        self.capabilities: dict[str, bool] = {}
        self._options = options
        self._on_event = on_event
        self._on_gone = on_gone
        self._stream: asyncio.StreamWriter | None = None
        self._listening: socket.socket | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._waiting: list[tuple[Callable[[QmpEvent], bool], asyncio.Future[QmpEvent]]] = []
        QemuStandIn.made.append(self)

    def _kind(self) -> str:
        return "secondary" if "secondary" in self.name else "primary"

    @property
    def is_there(self) -> bool:
        return self.qmp is not None and not self.is_over

    def rebind(self, on_event: Callable[..., None], on_gone: Callable[[str], None]) -> None:
        self._on_event, self._on_gone = on_event, on_gone

    async def _do(self, name: str) -> None:
        self.done.append(name)
        await asyncio.sleep(0)
        fault = self.faults.get(name)
        if fault is HANG:
            await asyncio.Event().wait()
        if fault is not None:
            raise fault

    async def start(self, extra: list[str], command: Any = None) -> None:
        await self._do("start")
        self.pid = -1

    async def connect(self, timeout_s: float = 1) -> None:
        await self._do("connect")
        if self._kind() in QemuStandIn.absent:
            raise ConnectError(f"{self._options.qmp}: no such file")
        self.qmp, self.pid = object(), -1

    async def kill(self) -> None:
        await self._do("kill")
        await self.release()

    async def release(self) -> None:
        self.is_over, self.qmp = True, None
        for task in self._tasks:
            task.cancel()
        self._close_stream()
        if self._listening is not None:
            self._listening.close()

    async def yank(self) -> None:
        await self._do("yank")

    async def probe(self, *, is_forced: bool) -> Facts:
        await self._do("probe")
        waits = self._kind() == "secondary"
        facts = replace(FACTS, **World.found)
        return replace(facts, status="inmigrate", is_running=False) if waits else facts

    async def netdevs(self) -> Any:
        return FACTS.netdevs

    async def status(self) -> dict[str, Any]:
        return {"qmp": "connected", "version": self.version, "status": "running", "colo": self.mode, "pid": self.pid}

    async def wait_for(self, wanted: Callable[[QmpEvent], bool], timeout_s: float, what: str) -> QmpEvent:
        future: asyncio.Future[QmpEvent] = asyncio.get_running_loop().create_future()
        self._waiting.append((wanted, future))
        async with asyncio.timeout(timeout_s):
            return await future

    async def execute(self, command: str, arguments: dict[str, Any] | None = None, **options: Any) -> Any:
        await self._do(command)
        if not self.is_there:
            raise ConnectError("no QEMU")
        do = getattr(self, "do_" + command.replace("-", "_"), None)
        return do(**{key.replace("-", "_"): value for key, value in (arguments or {}).items()}) if do else {}

    async def set_capabilities(self, wanted: dict[str, bool]) -> None:
        await self.execute("migrate-set-capabilities")
        self.capabilities |= wanted

    async def migrate(self, uri: str) -> None:
        await self.execute("migrate", {"uri": uri})

    # ── what it does ────────────────────────────────────────────────────────────────────────────────────────

    def do_query_status(self) -> Any:
        return {"running": self.is_running, "status": "running" if self.is_running else "paused"}

    def do_query_colo_status(self) -> Any:
        return {"mode": self.mode}

    def do_human_monitor_command(self, command_line: str) -> Any:
        way, _, words = command_line.partition(" ")
        if way == "o/w" and words.startswith("0xcfc "):
            self.rcba = int(words.split()[1], 16)
        value = self.rcba if words == "0xcfc" else 0
        return f"portl[{words}] = {value:#010x}\r\n" if way.startswith("i/") else ""

    def do_query_migrate(self) -> Any:
        return {"status": self.migration}

    def do_stop(self) -> Any:
        self.is_running = False

    def do_cont(self) -> Any:
        self.is_running = True

    def do_x_colo_lost_heartbeat(self) -> Any:
        self.leave("request")

    def do_migrate_cancel(self) -> Any:
        self.leave("request")

    def do_migrate(self, uri: str) -> Any:
        self.migration = "active"
        self._spawn(self._send(uri.removeprefix("unix:")))

    def do_migrate_incoming(self, uri: str) -> Any:
        path = Path(uri.removeprefix("unix:"))
        path.unlink(missing_ok=True)  # as QEMU does it
        server = socket.socket(socket.AF_UNIX)
        server.bind(str(path))
        server.listen(1)
        self._listening = server
        self._spawn(self._receive(server))

    def _spawn(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _send(self, path: str) -> None:
        reader, self._stream = await asyncio.open_unix_connection(path)
        self._stream.write(b"state" * 100)
        self.is_running = False
        await self._until_ready(reader)

    async def _until_ready(self, reader: asyncio.StreamReader) -> None:
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            assert await reader.readexactly(4) == pack(">I", ColoMessage.READY)
            self.mode, self.migration, self.is_running = "primary", "colo", True
            self.event("RESUME")
            await self._hear(reader)
        self._tasks.discard(asyncio.current_task())  # type: ignore[arg-type]
        self.leave("error")

    async def _hear(self, reader: asyncio.StreamReader) -> None:
        while await reader.read(1 << 16):
            self.done.append("heard of the stream")

    async def _receive(self, server: socket.socket) -> None:
        server.setblocking(False)
        sock, _ = await asyncio.get_running_loop().sock_accept(server)
        server.close()
        reader, self._stream = await asyncio.open_unix_connection(sock=sock)
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            await reader.readexactly(500)
            self.mode, self.migration = "secondary", "colo"
            if self.faults.get("ready") is not HANG:
                self._stream.write(pack(">I", ColoMessage.READY))
            await self._hear(reader)
        self._tasks.discard(asyncio.current_task())  # type: ignore[arg-type]
        self.leave("error")

    def _write(self, octets: bytes) -> None:
        assert self._stream is not None
        self._stream.write(octets)

    def ask_for_checkpoint(self) -> None:
        """The primary's REQUEST."""
        self._write(pack(">I", 1))

    def stop_for_checkpoint(self) -> None:
        """The secondary's REPLY."""
        self._write(pack(">I", ColoMessage.REPLY))

    def send_state(self) -> None:
        """Some of the primary's state."""
        self._write(b"state" * 100)

    def leave(self, reason: str) -> None:
        """COLO, or the migration, is over."""
        if self.is_over:
            return
        was_in_colo, self.mode = self.mode != "none", "none"
        self.migration = "completed" if was_in_colo else "failed"
        self.is_running = True
        self._close_stream()
        if was_in_colo:
            self.event("COLO_EXIT", reason=reason)
        self.event("RESUME")

    def _close_stream(self) -> None:
        if self._stream is not None:
            self._stream.close()
            self._stream = None

    def event(self, name: str, **data: Any) -> None:
        event = QmpEvent(name, data, 0, 0)
        for wanted, future in self._waiting:
            if not future.done() and wanted(event):
                future.set_result(event)
        self._on_event(event)

    def die(self) -> None:
        """The process ends."""
        self.is_over, self.qmp = True, None
        self._close_stream()
        self._on_gone("QEMU has ended")


def tcp_pair() -> tuple[socket.socket, socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        client = socket.create_connection(server.getsockname())
        return server.accept()[0], client


class Node:
    """The `GuestHost` of one guest: notes what it is told, and answers at once."""

    spin_us = 0

    def __init__(self, place: Path, role: Role) -> None:
        place.mkdir()
        (place / "vm.toml").write_text(CONFIG.format(role=role.value, place=place))
        self.place = place
        self.config = load(place / "vm.toml")
        self.epoch = Epoch(6)
        self.pid = 0
        self.findings = Findings()
        self.call = LoopCall()
        self.facts: list[tuple[Fact, str, int]] = []
        self.answers: list[tuple[Fact, str]] = []
        self.came = 0
        self.is_guarding = False
        self.is_next = False
        self.commits = True
        self.moment = role
        self.other: Node
        self.data: DataLinks | None = None
        self.expected: dict[Any, asyncio.Future[RawLink]] = {}
        self.is_cut = asyncio.Event()
        self.guest = VmGuest(self)

    def tell(self, fact: Fact, told: Any) -> None:
        self.facts.append((fact, told.text, told.link))

    def told(self) -> set[Fact]:
        return {fact for fact, _, _ in self.facts}

    def answer(self, fact: Fact, text: str) -> None:
        self.answers.append((fact, text))
        if fact is Fact.SYNCHRONISED and self.commits:
            asyncio.get_running_loop().call_soon(self.guest.committed)

    def until_ns(self) -> int:
        return 1 << 62

    def role(self) -> Role:
        return self.moment

    def term(self) -> int:
        return 3

    def is_on_guard(self) -> bool:
        return self.is_guarding

    def is_taking_over(self) -> bool:
        return self.is_next

    def guest_came(self) -> None:
        self.came += 1

    async def try_host(self) -> None:
        """This host has what it needs."""

    async def ask_peer(self, order: str, arguments: Any = None, timeout_s: float = DEADLINE_S) -> Any:
        asked = asyncio.ensure_future(self._ask(order, arguments or {}))
        cut = asyncio.ensure_future(self.is_cut.wait())
        try:
            await asyncio.wait((asked, cut), return_when=asyncio.FIRST_COMPLETED)
            if not asked.done():
                raise PeerError("the other node is gone")
            return asked.result()
        finally:
            asked.cancel()
            cut.cancel()

    async def _ask(self, order: str, arguments: Any) -> Any:
        served = StreamOrders(lambda: self.other.guest.secondary).served
        if order in served:
            return await served[order](arguments)
        if order == "force":
            return await self.other.findings.hear_force(arguments)
        assert order == "prepare"
        ready: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

        def failed(fact: Fact, text: str) -> None:
            self.other.answers.append((fact, text))
            if not ready.done():
                ready.set_exception(PeerError(f"the other node: {text}"))

        assert self.other.data is not None
        self.other.epoch.meet(arguments["epoch"])
        self.other.guest.prepare(1, self.other.data, lambda found: ready.done() or ready.set_result(found), failed)
        return await ready

    def expect_link(self, channel: Any) -> "asyncio.Future[RawLink]":
        arrival = asyncio.get_running_loop().create_future()
        self.expected[channel] = arrival
        return arrival

    def forget_link(self, channel: Any) -> None:
        if channel in self.expected:
            self.expected[channel].cancel()

    def dial_raw(self, channel: Any) -> RawLink:
        mine, theirs = tcp_pair()

        def hand_over(link: RawLink) -> None:
            waiting = self.other.expected.get(channel)
            if waiting is None or waiting.done():
                link.close()
            else:
                waiting.set_result(link)

        self.call(hand_over, RawLink(theirs, channel.value))
        return RawLink(mine, channel.value)

    def note_pid(self, pid: int) -> None:
        self.pid = max(0, pid)

    def note_waits(self, epoch: int, waits: list[Any]) -> None:
        """Not of interest."""

    def note_divergences(self, found: Any) -> None:
        """Not of interest."""

    def on_serving(self, resent: int) -> None:
        """Not of interest."""

    def on_note(self, text: str) -> None:
        """Not of interest."""

    def on_fatal(self, error: BaseException) -> None:
        raise error

    @property
    def wiring(self) -> WiringStandIn:
        """Where this host's tap is."""
        return self.guest._wiring  # type: ignore[return-value]

    @property
    def is_on_lan(self) -> bool:
        return self.wiring.is_on_lan

    @property
    def qemu(self) -> QemuStandIn:
        """The present guest's."""
        side = self.guest.secondary or self.guest.primary
        assert side is not None
        return side.machine  # type: ignore[return-value]


class World:
    """Both nodes. `faults`: of QEMUs that are still to come, by "primary" and "secondary"."""

    faults: ClassVar[dict[str, dict[str, Any]]] = {}
    found: ClassVar[dict[str, Any]] = {}
    """What a probe of either QEMU finds, unlike `FACTS`."""

    def __init__(self, place: Path) -> None:
        self.a, self.b = Node(place / "a", Role.PRIMARY), Node(place / "b", Role.SECONDARY)
        self.a.other, self.b.other = self.b, self.a
        self.links = 0

    async def __aenter__(self) -> Self:
        for node in (self.a, self.b):
            await node.guest.find()
            node.guest.start()
        return self

    async def __aexit__(self, *reason: object) -> None:
        for node in (self.a, self.b):
            await node.guest.stop()
        self.close_data()
        left = Counter(task.get_name() for task in asyncio.all_tasks() if task is not asyncio.current_task())
        stand_ins = {task.get_name() for one in QemuStandIn.made for task in one._tasks}
        assert not set(left) - stand_ins, left

    def link(self) -> None:
        """A data connection for either node."""
        self.links += 1
        self.close_data()
        primary, secondary = tcp_pair()
        self.a.data = DataLinks([LinkSocket(primary, "data link from b", DATA_FROM_SECONDARY)])
        self.b.data = DataLinks([LinkSocket(secondary, "data link to a", DATA_FROM_PRIMARY)])

    def close_data(self) -> None:
        for node in (self.a, self.b):
            if node.data is not None:
                node.data.close()

    def protect(self) -> None:
        self.link()
        assert self.a.data is not None
        self.a.guest.protect(self.links, self.a.data, self.a.answer)

    async def protected(self) -> None:
        self.a.guest.release()
        self.protect()
        await until(lambda: self.a.answers)
        assert self.a.answers == [(Fact.SYNCHRONISED, "")]
        await self.a.guest.settled()
        self.a.is_guarding = True


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while not condition():
            await asyncio.sleep(0.002)


def play(place: Path, monkeypatch: Any, scene: Callable[[World], Any], faults: dict[str, Any] | None = None) -> None:
    """`scene(world)`, with stand-ins for the QEMUs; no task may be left behind."""
    monkeypatch.setattr(pathslot, "trim_heap", lambda: None)  # looks for circles, for a tenth of a second
    monkeypatch.setattr(vmguest, "make_wiring", lambda config, hooks, domain: WiringStandIn(config.qemu.directory))
    for module in (primaryguest, secondaryguest):
        monkeypatch.setattr(module, "Machine", QemuStandIn)
    monkeypatch.setattr(World, "faults", faults or {})
    monkeypatch.setattr(QemuStandIn, "made", [])
    monkeypatch.setattr(QemuStandIn, "absent", set())

    async def limited() -> None:
        async with asyncio.timeout(DEADLINE_S), World(place) as world:
            await scene(world)

    with structlog.testing.capture_logs() as said:
        asyncio.run(limited())
    assert not [line for line in said if line["log_level"] == "critical"], said
