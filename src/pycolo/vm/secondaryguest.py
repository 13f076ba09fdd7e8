"""The secondary's QEMU: the node prepares it, keeps the barrier, and takes over with it or discards it.

Methods named after a plan's steps are the handlers of these steps (`pycolo.failover.plans`). Each can be repeated after
it has failed half-way, and then does the rest.
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from time import monotonic_ns
from typing import Final

import structlog

from pycolo.check.guest import judged
from pycolo.errors import PeerError, PycoloError, QmpTimeout, StateError
from pycolo.link.codec import Channel
from pycolo.link.hello import Role
from pycolo.link.orders import JsonObject
from pycolo.node.datalinks import DataLinks
from pycolo.node.planner import Handler
from pycolo.node.secondarypath import SecondaryPath
from pycolo.qmp.client import QmpEvent
from pycolo.qmp.cures import Moment
from pycolo.qmp.probe import Facts
from pycolo.qmp.versions import colo_capabilities
from pycolo.vm.backstream import ColoMessage
from pycolo.vm.barrier import SecondaryBarrier
from pycolo.vm.cardrows import CardRows
from pycolo.vm.commandline import qmp_arguments
from pycolo.vm.curing import Curing
from pycolo.vm.domainguest import DomainGuest
from pycolo.vm.guesthost import GuestHost, open_raw
from pycolo.vm.guestwiring import GuestWiring
from pycolo.vm.leftover import end_leftover_qemu, end_waiting_qemus, mark_of
from pycolo.vm.machine import Machine
from pycolo.vm.nodeoptions import node_options
from pycolo.vm.paths import make_secondary_path
from pycolo.vm.pathslot import PATH_ANSWER_S, PathSlot, ask_paths
from pycolo.vm.relay import Relay
from pycolo.vm.secondarydisks import SecondaryDisks

LEAVE_COLO_S: Final = 1.0
"""Leaving COLO takes 3 ms; a QEMU that has not answered after this time hangs. While it loads a checkpoint it does not
answer either: it has as long again as that was copied."""

STREAM_END_S: Final = 0.25
"""Time for QEMU to close the stream after it has left COLO; until then it may still send LOADED."""

ANNOUNCE: Final = {"initial": 50, "max": 550, "rounds": 4, "step": 100}
"""QEMU's own announce-self defaults."""

log = structlog.get_logger("colo")


class SecondaryGuest:
    """One QEMU, from `prepare` until it serves or is discarded."""

    def __init__(
        self,
        host: GuestHost,
        slot: PathSlot,
        wiring: GuestWiring,
        rows: CardRows,
        disks: SecondaryDisks,
        *,
        on_gone: Callable[[str], None],
        on_broken: Callable[[str], None],
        domain: DomainGuest | None = None,
    ) -> None:
        """`on_gone(text)`: its process has ended. `on_broken(text)`: the migration stream has, or COLO.

        A takeover writes `rows`. `domain`: the guest is a domain of libvirt.
        """
        self._host = host
        self._domain = domain
        self._slot = slot
        self._wiring = wiring
        self._rows = rows
        self._disks = disks
        self._on_broken = on_broken
        self._config = host.config
        self._directory = Path(host.config.qemu.directory)
        self._link = 0
        self._data: DataLinks | None = None
        self._relay: Relay | None = None
        self._curing: Curing | None = None
        self._replied_us: int | None = None
        source = None if domain is None else domain.source
        name = f"{host.config.pair} (secondary)"
        self.machine = Machine(host.config.qemu, name, self._heard_event, on_gone, source)
        self.paths: list[SecondaryPath] = []
        self.facts: Facts | None = None

    # ── prepare-secondary ─────────────────────────────────────────────────────────────────────────────────────

    def prepare_handlers(self, link: int, data: DataLinks) -> dict[str, Handler]:
        """Handlers of `prepare-secondary`. `data` are the data connections of `link`."""
        self._link, self._data = link, data
        return {
            "start-qemu": self.start_qemu,
            "connect-qmp": self.connect_qmp,
            "probe": self.probe,
            "make-taps": self.make_taps,
            "open-path": self.open_path,
            "stay-apart": self.stay_apart,
            "set-capabilities": self.set_capabilities,
            "export-disks": self.export_disks,
            "listen-for-migration": self.listen_for_migration,
            "stop-qemu": self.stop_qemu,
            "close-path": self.close_path,
        }

    async def start_qemu(self) -> None:
        """Start the domain or the command. Without either, a QEMU with -incoming defer is running already."""
        if self._domain is not None:
            await end_leftover(self._host)
            await self._domain.gone()
            await self._wiring.leave()
            self.machine.watch(await self._domain.start(await self._disks.images()))
            self._host.note_pid(self.machine.pid)
        elif self._config.qemu.command:
            await end_leftover(self._host)
            await asyncio.to_thread(end_waiting_qemus, self._config.qemu.qmp)
            await self._wiring.leave()
            command = await self._disks.command()
            await self.machine.start([*qmp_arguments(self._config), "-incoming", "defer"], command)
            self._host.note_pid(self.machine.pid)

    async def connect_qmp(self) -> None:
        """Connect to its QMP socket."""
        await self.machine.connect(self._config.qemu.start_timeout_ms / 1000)

    async def probe(self) -> None:
        """Query QEMU, and refuse what cannot work."""
        findings = self._host.findings
        self.facts = await self.machine.probe(is_forced=findings.is_forced)
        findings.weigh("guest", judged(self.facts, "secondary", self._config), self._config.pair)
        self._curing = Curing(self.machine, self.facts, "secondary")

    async def make_taps(self) -> None:
        """Make the nodes' TAPs."""
        assert self.facts is not None
        await self._wiring.make_ready(self.facts)

    async def open_path(self) -> None:
        """Start the data paths, which hold all frames until the guest has loaded its first state."""
        data, self._data = self._data, None
        if data is None:
            raise PeerError("the data connection is closed")
        self._rows.discard()
        options = node_options(self._config, Role.SECONDARY)
        callbacks = self._slot.callbacks()
        self.paths = [
            make_secondary_path(options, callbacks, self._host.on_serving, ports, rows)
            for ports, rows in zip(self._wiring.open(), self._rows, strict=True)
        ]
        self._slot.use(self.paths)
        await ask_paths(self.paths, lambda path: path.hold)
        await self._slot.attach(self.paths, self._link, data)

    async def stay_apart(self) -> None:
        """Take the guest's taps out of their bridges."""
        await self._wiring.insert_apart()
        await ask_paths(self.paths, lambda path: path.give_up_input)  # from here on the node alone sends there

    async def set_capabilities(self) -> None:
        """Turn COLO on here too."""
        assert self.facts is not None
        await self.machine.set_capabilities(colo_capabilities(self.facts.version))

    async def export_disks(self) -> None:
        """Let QEMU take the writes of the primary's disks."""
        await self._disks.export(self.machine)

    async def listen_for_migration(self) -> None:
        """Let QEMU listen for the migration on a unix socket."""
        await self.machine.execute("migrate-incoming", {"uri": f"unix:{self._incoming}"})

    async def stop_qemu(self) -> None:
        """Kill QEMU. What its disks are like then is noted: the next copy may begin with them."""
        if self._relay is not None:
            relay, self._relay = self._relay, None
            await asyncio.to_thread(relay.close)
        await self.machine.kill()
        self._host.note_pid(0)
        if self._domain is not None:
            await self._domain.gone()  # libvirt gives the images back to their owner, which is a change
        await self._disks.discard()

    async def close_path(self) -> None:
        """End the data paths, and close the data connections."""
        if self._data is not None:
            self._data.close()
            self._data = None
        paths, self.paths = self.paths, []
        await self._slot.drop(paths)

    @property
    def _incoming(self) -> Path:
        return self._directory / "incoming.sock"

    # ── the migration stream ──────────────────────────────────────────────────────────────────────────────────

    async def open_relay(self) -> JsonObject:
        """Connect the primary's node with this QEMU, for the migration. Raises `PycoloError`."""
        paths, curing = self.paths, self._curing
        if not paths or curing is None:
            raise StateError("open-relay", "no data path", "prepared")
        what = f"migration socket {self._incoming}"
        guest, link = await open_raw(self._host, self._incoming, Channel.MIGRATION, what)
        if self.paths is not paths or self._relay is not None:  # discarded meanwhile, or connected already
            guest.close()
            link.close()
            raise StateError("open-relay", "discarded or connected", "prepared")
        barrier = SecondaryBarrier(paths, self._host.epoch, curing)

        def guard(word: int) -> None:
            barrier.guard(word)
            if word == ColoMessage.REPLY:
                self._replied_us = monotonic_ns() // 1000
            elif word == ColoMessage.LOADED:
                self._replied_us = None
            elif word == ColoMessage.READY:
                self._disks.follows()

        self._relay = Relay(
            guest,
            link,
            is_primary=False,
            on_message=guard,
            on_request=barrier.request,
            on_ended=lambda text: self._host.call(self._on_broken, text),
        )
        self._relay.start()
        return {}

    @property
    def read_bytes(self) -> int | None:
        """Bytes of the stream that QEMU has read, at least; None: there is no stream."""
        return None if self._relay is None else self._relay.read_bytes

    # ── take-over ─────────────────────────────────────────────────────────────────────────────────────────────

    def takeover_handlers(self) -> dict[str, Handler]:
        """Handlers of `take-over`."""
        return {
            "yank": self.yank,
            "stop-disks": self.stop_disks,
            "leave-colo": self.leave_colo,
            "serve-network": self.serve_network,
            "switch-routes": self.switch_routes,
            "announce": self.announce,
        }

    async def yank(self) -> None:
        """Free a QEMU that waits on the migration stream: the stream goes through this node, which closes its end."""
        await ask_paths(self.paths, lambda path: path.hold_for_takeover)
        if self._relay is not None:
            self._relay.end_input()

    async def stop_disks(self) -> None:
        """Take no more writes of the primary's."""
        await self._disks.stop_exports(self.machine)

    async def leave_colo(self) -> None:
        """End COLO. The guest runs by itself afterwards, with the state that it has loaded."""
        if await self._colo_mode() != "none":
            resumed = asyncio.ensure_future(
                self.machine.wait_for(lambda event: event.name == "RESUME", PATH_ANSWER_S, "RESUME after COLO")
            )
            try:
                await self._lose_heartbeat()
            except BaseException:
                resumed.cancel()
                await asyncio.gather(resumed, return_exceptions=True)  # it may have failed before
                raise
            try:
                await resumed
            except PeerError:
                if (await self.machine.execute("query-status"))["status"] != "running":
                    await self.machine.execute("cont")
        if self._relay is not None:
            relay, self._relay = self._relay, None
            await asyncio.to_thread(relay.close, drain_s=STREAM_END_S)
        if self._curing is not None:
            await self._curing.apply(Moment.ABORTED)

    @property
    def _patience_s(self) -> float:
        """For an answer of QEMU, which gives none while it loads a state."""
        replied_us, relay = self._replied_us, self._relay
        if replied_us is None or relay is None:
            return LEAVE_COLO_S
        return LEAVE_COLO_S + max(0, relay.progress[1] - replied_us) / 1e6

    async def _colo_mode(self) -> str:
        """Query the COLO mode. Yanks a QEMU that hangs in the stream; a LOADED that it had not sent is lost then."""
        try:
            status = await self.machine.execute("query-colo-status", timeout_s=self._patience_s)
        except QmpTimeout:
            await self.machine.yank()
            status = await self.machine.execute("query-colo-status")
        return str(status["mode"])

    async def _lose_heartbeat(self) -> None:
        """Send x-colo-lost-heartbeat. Yanks a QEMU that hangs, as `_colo_mode` does."""
        try:
            await self.machine.execute("x-colo-lost-heartbeat", timeout_s=self._patience_s)
        except QmpTimeout:
            await self.machine.yank()
            if await self._colo_mode() != "none":
                await self.machine.execute("x-colo-lost-heartbeat")

    async def serve_network(self) -> None:
        """Give the node the guest's place in the network. From here on its next start finds the guest's connections."""
        await ask_paths(self.paths, lambda path: path.keep_rows)
        await self._wiring.serve()

    async def switch_routes(self) -> None:
        """Let this guest serve the clients."""
        for path in self.paths:
            path.post(path.take_over)

    async def announce(self) -> None:
        """Let QEMU announce its card. The path announces all addresses that it has seen the guest use."""
        await self.machine.execute("announce-self", ANNOUNCE)
        await self._turn_colo_off()

    async def _turn_colo_off(self) -> None:
        """Left on, the operator's own next migration or save of this guest would go into COLO, and hang."""
        before = {} if self.facts is None else self.facts.capabilities
        try:
            await self.machine.set_capabilities({"x-colo": False, "return-path": before.get("return-path", False)})
        except PeerError as error:  # it serves all the same
            log.warning(
                f"QEMU keeps the migration capability x-colo, so turn it off before the guest is migrated: {error}"
            )

    # ── what happens to it ────────────────────────────────────────────────────────────────────────────────────

    def _heard_event(self, event: QmpEvent) -> None:
        if event.name == "COLO_EXIT":  # no permission to serve: only the primary's word or its silence is
            self._on_broken(f"QEMU has left COLO ({event.data.get('reason', '')})")

    async def discard(self) -> None:
        """Kill QEMU and remove all that belongs to it."""
        self._host.findings.forget()
        await self.stop_qemu()
        await self.close_path()
        with suppress(OSError):
            self._incoming.unlink()

    async def release(self) -> None:
        """The node ends; the guest runs on."""
        await self.machine.release()


async def end_leftover(host: GuestHost) -> None:
    """Kill the QEMU that an earlier process of this node has left: see `leftover`. Raises `PycoloError`."""
    if host.pid:
        await asyncio.to_thread(end_leftover_qemu, host.pid, mark_of(host.config))
        host.note_pid(0)


async def end_strays(host: GuestHost, domain: DomainGuest | None) -> None:
    """`end_leftover`, and a QEMU of which no record knows: the node was killed right behind its start.

    It would keep the images locked, so that no copy could begin. Raises `PycoloError`.
    """
    await end_leftover(host)
    if domain is None:
        if host.config.qemu.command:
            await asyncio.to_thread(end_waiting_qemus, host.config.qemu.qmp)
        return
    try:
        await domain.end_waiting()
    except PycoloError as error:
        log.warning(f"whether an earlier process of this node has left a domain here is not known: {error}")
