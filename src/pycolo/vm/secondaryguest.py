"""What a node does for the secondary's QEMU: prepare it, keep the barrier, take over, throw it away.

The methods named after a plan's steps are that plan's handlers (`pycolo.failover.plans`); each may be called again
after a crash in the middle and then does what is left.
"""

import asyncio
import socket
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import structlog

from pycolo.errors import ConnectError, PeerError, QmpTimeout, StateError
from pycolo.link.codec import Channel
from pycolo.link.orders import JsonObject
from pycolo.node.secondarypath import SecondaryPath
from pycolo.qmp.client import QmpEvent
from pycolo.qmp.judge import judge
from pycolo.qmp.probe import Facts
from pycolo.transport.linksetup import RawLink
from pycolo.vm import wiring
from pycolo.vm.barrier import PATH_ANSWER_S, SecondaryBarrier
from pycolo.vm.commandline import qmp_arguments
from pycolo.vm.findings import check_findings
from pycolo.vm.guesthost import SecondaryHost
from pycolo.vm.machine import Machine
from pycolo.vm.paths import make_secondary_path
from pycolo.vm.relay import Relay

COLO_CAPABILITIES: Final = {"events": True, "x-colo": True}

LEAVE_COLO_S: Final = 1.0
"""It takes 3 ms; a QEMU that has not answered by then hangs."""

STREAM_END_S: Final = 0.25
"""After the QEMU has left COLO: how long it may take to close the stream, and so to say whether it had loaded."""

ANNOUNCE: Final = {"initial": 50, "max": 550, "rounds": 4, "step": 100}
"""QEMU's own announce-self defaults."""

log = structlog.get_logger("colo")

Handlers = Mapping[str, Callable[[], Awaitable[None]]]


class SecondaryGuest:
    """One incarnation of the secondary: from `prepare` until it serves or is discarded."""

    def __init__(self, host: SecondaryHost) -> None:
        self._host = host
        self._config = host.config
        self._directory = Path(host.config.qemu.directory)
        self._relay: Relay | None = None
        name = f"{host.config.pair} (secondary)"
        self.machine = Machine(host.config.qemu, name, self._heard_event, host.guest_gone)
        self.path: SecondaryPath | None = None
        self.facts: Facts | None = None

    # ── prepare-secondary ─────────────────────────────────────────────────────────────────────────────────────

    def prepare_handlers(self) -> Handlers:
        """Steps of `prepare-secondary`, and what undoes them."""
        return {
            "start-qemu": self.start_qemu,
            "connect-qmp": self.connect_qmp,
            "probe": self.probe,
            "add-chardevs": self.add_chardevs,
            "open-path": self.open_path,
            "add-filters": self.add_filters,
            "set-capabilities": self.set_capabilities,
            "listen-for-migration": self.listen_for_migration,
            "stop-qemu": self.stop_qemu,
            "close-path": self.close_path,
        }

    async def start_qemu(self) -> None:
        """Start the configured command; without one, a QEMU with -incoming defer runs already."""
        if self._config.qemu.command:
            await self._host.end_leftover()
            await self._host.leave_network()
            await self.machine.start([*qmp_arguments(self._config), "-incoming", "defer"])
            self._host.note_pid(self.machine.pid)

    async def connect_qmp(self) -> None:
        """Connect to its QMP socket."""
        await self.machine.connect(self._config.qemu.start_timeout_ms / 1000)

    async def probe(self) -> None:
        """Refuse what cannot work."""
        self.facts = await self.machine.probe()
        check_findings(
            judge(
                self.facts, "secondary", self._config.qemu.netdev, has_yank_socket=self._config.qemu.yank is not None
            ),
            self._config.pair,
        )

    async def add_chardevs(self) -> None:
        """The four sockets."""
        await wiring.add_chardevs(self.machine, self._directory)

    async def open_path(self) -> None:
        """The data path, which holds everything until the guest has its first state."""
        link = self._host.take_data_link()
        self.path = path = make_secondary_path(self._host)
        self._host.use_path(path)
        await self._ask_path(path.hold)
        await self._ask_path(lambda: path.attach(link))

    async def add_filters(self) -> None:
        """The node into the guest's path."""
        await wiring.add_filters(self.machine, self._config.qemu.netdev)

    async def set_capabilities(self) -> None:
        """x-colo on the secondary too: QEMU 10.0 dies at the migration's first byte without it."""
        capabilities = [{"capability": name, "state": state} for name, state in COLO_CAPABILITIES.items()]
        await self.machine.execute("migrate-set-capabilities", {"capabilities": capabilities})

    async def listen_for_migration(self) -> None:
        """QEMU listens on a unix socket of ours."""
        await self.machine.execute("migrate-incoming", {"uri": f"unix:{self._incoming}"})

    async def stop_qemu(self) -> None:
        """Discard this guest's QEMU."""
        if self._relay is not None:
            relay, self._relay = self._relay, None
            await asyncio.to_thread(relay.close)
        await self.machine.kill()
        self._host.note_pid(0)

    async def close_path(self) -> None:
        """Close the four sockets."""
        if self.path is not None:
            path, self.path = self.path, None
            await self._host.drop_path(path)

    @property
    def _incoming(self) -> Path:
        return self._directory / "incoming.sock"

    # ── the migration stream ──────────────────────────────────────────────────────────────────────────────────

    async def open_relay(self) -> JsonObject:
        """The primary has asked for it: connect its node with this QEMU."""
        path = self.path
        if path is None:
            raise StateError("open-relay", "no data path", "prepared")
        guest = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            guest.connect(str(self._incoming))
        except OSError as error:
            guest.close()
            raise ConnectError(f"migration socket {self._incoming}: {error.strerror or error}") from error
        try:
            link = await asyncio.to_thread(self._host.dial_raw, Channel.MIGRATION)
        except BaseException:
            guest.close()
            raise
        assert isinstance(link, RawLink)
        self._relay = Relay(
            guest,
            link,
            is_primary=False,
            on_message=SecondaryBarrier(path, self._host).guard,
            on_ended=lambda text: self._host.call(log.info, text),
        )
        self._relay.start()
        return {}

    # ── take-over ─────────────────────────────────────────────────────────────────────────────────────────────

    def takeover_handlers(self) -> Handlers:
        """Steps of `take-over`."""
        return {
            "record-term": self._host.record_term,
            "yank": self.yank,
            "leave-colo": self.leave_colo,
            "filters-on": self.filters_on,
            "serve-network": self._host.serve_network,
            "switch-routes": self.switch_routes,
            "announce": self.announce,
        }

    async def yank(self) -> None:
        """The migration stream goes through this node: closing our end frees a QEMU that waits on it."""
        if self._relay is not None:
            self._relay.end_input()

    async def leave_colo(self) -> None:
        """The guest runs on its own from here, with the state that it has."""
        if await self._colo_mode() != "none":
            resumed = asyncio.ensure_future(
                self.machine.wait_for(lambda event: event.name == "RESUME", PATH_ANSWER_S, "RESUME after COLO")
            )
            try:
                await self._lose_heartbeat()
            except BaseException:
                resumed.cancel()
                raise
            try:
                await resumed
            except PeerError:
                if (await self.machine.execute("query-status"))["status"] != "running":
                    await self.machine.execute("cont")
        if self._relay is not None:
            relay, self._relay = self._relay, None
            await asyncio.to_thread(relay.close, drain_s=STREAM_END_S)

    async def _colo_mode(self) -> str:
        """A QEMU that hangs in the stream is yanked out of it; whether it had loaded a state may stay unsaid then."""
        try:
            status = await self.machine.execute("query-colo-status", timeout_s=LEAVE_COLO_S)
        except QmpTimeout:
            await self.machine.yank()
            status = await self.machine.execute("query-colo-status")
        return str(status["mode"])

    async def _lose_heartbeat(self) -> None:
        """As above."""
        try:
            await self.machine.execute("x-colo-lost-heartbeat", timeout_s=LEAVE_COLO_S)
        except QmpTimeout:
            await self.machine.yank()
            if await self._colo_mode() != "none":
                await self.machine.execute("x-colo-lost-heartbeat")

    async def filters_on(self) -> None:
        """QEMU 7.2 has switched them off."""
        await wiring.switch_filters_on(self.machine)

    async def switch_routes(self) -> None:
        """From here on the clients talk to this guest."""
        assert self.path is not None
        self.path.post(self.path.take_over)

    async def announce(self) -> None:
        """QEMU announces its card too; the path announces every address that it has seen the guest use."""
        await self.machine.execute("announce-self", ANNOUNCE)

    # ── what happens to it ────────────────────────────────────────────────────────────────────────────────────

    def _heard_event(self, event: QmpEvent) -> None:
        if event.name == "COLO_EXIT":  # a suspicion, never a permission: the primary's silence decides
            log.info("QEMU has left COLO", reason=str(event.data.get("reason", "")))

    async def discard(self) -> None:
        """Throw the guest away."""
        await self.stop_qemu()
        await self.close_path()
        with suppress(OSError):
            self._incoming.unlink()

    async def release(self) -> None:
        """This node ends: a guest that serves lives on."""
        await self.machine.release()

    async def _ask_path(self, question: Callable[[], Any]) -> Any:
        assert self.path is not None
        return await asyncio.wait_for(asyncio.wrap_future(self.path.ask(question)), PATH_ANSWER_S)
