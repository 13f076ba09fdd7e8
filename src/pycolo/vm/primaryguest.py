"""What a node does for the primary's QEMU: attach to it while it runs, keep the barrier, let go of it again.

The methods named after a plan's steps are that plan's handlers (`pycolo.failover.plans`).
"""

import asyncio
import socket
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import msgspec
import structlog

from pycolo.errors import ConnectError, PeerError
from pycolo.node.primarypath import PrimaryPath
from pycolo.node.secondarypath import SecondaryPath
from pycolo.qmp.client import QmpEvent
from pycolo.qmp.judge import compare, judge
from pycolo.qmp.probe import Facts
from pycolo.transport.linksetup import RawLink
from pycolo.vm import wiring
from pycolo.vm.barrier import PATH_ANSWER_S, PrimaryBarrier
from pycolo.vm.findings import check_findings
from pycolo.vm.guesthost import PrimaryHost
from pycolo.vm.machine import Machine
from pycolo.vm.paths import make_primary_path
from pycolo.vm.relay import Relay
from pycolo.vm.secondaryguest import COLO_CAPABILITIES, Handlers, SecondaryGuest

CHECKPOINT_DELAY_MS: Final = 1_000_000_000
"""QEMU's own periodic checkpoint, eleven days off: ours come from the coordinator. Setting it starts one at once."""

FIND_S: Final = 0.3
"""A QEMU that runs answers at its QMP socket at once; one that does not may still come."""

RELAY_S: Final = 10.0
"""For the two ends of the migration stream to meet."""

MIGRATION_STALL_S: Final = 60.0
"""A first migration whose stream stands still for so long is given up."""

WORD_S: Final = 0.1
"""The secondary's node tells what has become of its QEMU a moment after this host's QEMU has noticed."""

LOOK_S: Final = 0.05
"""How often the first migration is looked at."""

log = structlog.get_logger("colo")


class PrimaryGuest:
    """The primary's QEMU under this node, protected or not."""

    def __init__(self, host: PrimaryHost) -> None:
        self._host = host
        self._config = host.config
        self._directory = Path(host.config.qemu.directory)
        self._relay: Relay | None = None
        self._link: RawLink | None = None
        self._listening: socket.socket | None = None
        self._is_synchronised = asyncio.Event()
        self._is_whole = asyncio.Event()
        """The secondary may have been told that it can take over: there is no way back any more."""
        self._is_needed = False
        self._broken: str | None = None
        self.machine = Machine(host.config.qemu, host.config.pair, self._heard_event, self._heard_end)
        self.path: PrimaryPath | None = None
        self.serving: SecondaryPath | None = None
        """The path with which this node took over, until it is the primary's path."""
        self.facts: Facts | None = None

    async def connect(self) -> None:
        """Find the running QEMU. Raises `ConnectError`."""
        await self.machine.connect(FIND_S)

    # ── protect ───────────────────────────────────────────────────────────────────────────────────────────────

    def protect_handlers(self) -> Handlers:
        """Steps of `protect`, and what undoes them."""
        return {
            "probe": self.probe,
            "prepare-peer": self.prepare_peer,
            "add-chardevs": self.add_chardevs,
            "open-path": self.open_path,
            "add-filters": self.add_filters,
            "open-relay": self.open_relay,
            "set-parameters": self.set_parameters,
            "migrate": self.migrate,
            "first-checkpoint": self.first_checkpoint,
            "leave-colo": self.leave_colo,
            "reset-parameters": self.reset_parameters,
            "close-relay": self.close_relay,
            "remove-filters": self.remove_filters,
            "close-path": self.close_path,
            "remove-chardevs": self.remove_chardevs,
            "discard-peer": self.discard_peer,
            "ensure-running": self.ensure_protected_running,
        }

    async def probe(self) -> None:
        """Refuse what cannot work."""
        self._is_synchronised.clear()
        self._is_whole.clear()
        self._broken = None
        self.facts = await self.machine.probe()
        check_findings(
            judge(self.facts, "primary", self._config.qemu.netdev, has_yank_socket=self._config.qemu.yank is not None),
            self._config.pair,
        )

    async def prepare_peer(self) -> None:
        """Have the other node start its QEMU."""
        epoch = self._host.pair_epoch
        timeout_s = self._config.qemu.start_timeout_ms / 1000 + RELAY_S
        answer = await self._host.ask_peer("prepare", {"epoch": epoch.number}, timeout_s)
        epoch.meet(int(answer.get("epoch", 0)))
        assert self.facts is not None
        theirs = msgspec.convert(answer["facts"], Facts)
        check_findings(compare(self.facts, theirs), self._config.pair)

    async def add_chardevs(self) -> None:
        """The four sockets."""
        await wiring.add_chardevs(self.machine, self._directory)

    async def open_path(self) -> None:
        """The data path: until the first synchronisation it passes everything on."""
        link = self._host.take_data_link()
        if self.path is None:
            state = None
            if self.serving is not None:
                state = await self._ask(self.serving, self.serving.hand_over)
                await asyncio.to_thread(self.serving.join)
            self.path = make_primary_path(self._host, state)
            self.serving = None
            self._host.use_path(self.path)
        path = self.path
        await self._ask(path, lambda: path.attach(link))

    async def add_filters(self) -> None:
        """The node into the guest's path."""
        await wiring.add_filters(self.machine, self._config.qemu.netdev)

    async def open_relay(self) -> None:
        """Both ends of the migration stream: a unix socket for QEMU here, a connection to the other node."""
        await self.close_relay()
        self._listening = _listen(self._relay_path)
        arrival = self._host.expect_migration_link()
        await self._host.ask_peer("open-relay")
        self._link = await asyncio.wait_for(arrival, RELAY_S)

    async def set_parameters(self) -> None:
        """QEMU's own checkpoints off, COLO on."""
        await self._set_capabilities(COLO_CAPABILITIES)
        await self.machine.execute("migrate-set-parameters", {"x-checkpoint-delay": CHECKPOINT_DELAY_MS})

    async def migrate(self) -> None:
        """Start the migration into COLO, through the relay."""
        assert self._listening is not None
        path, link = self.path, self._link
        assert path is not None
        assert link is not None
        self._host.save(was_protected=True)  # a moment too early: a restart then asks once too often
        await self._ask(path, path.start_mirroring)
        loop = asyncio.get_running_loop()
        accepting = loop.create_task(loop.sock_accept(self._listening))
        try:
            await self.machine.execute("migrate", {"uri": f"unix:{self._relay_path}"})
            guest, _ = await asyncio.wait_for(accepting, RELAY_S)
        finally:
            accepting.cancel()
        self._relay = Relay(
            guest,
            link,
            is_primary=True,
            on_message=PrimaryBarrier(path, self._host, self._synchronise).guard,
            on_ended=lambda text: self._host.call(self._heard_stream_end, text),
        )
        self._relay.start()

    async def first_checkpoint(self) -> None:
        """Until the secondary has the first state, and both run under comparison."""
        moved_bytes, moved_at = -1, asyncio.get_running_loop().time()
        while not self._is_synchronised.is_set() and not self._is_whole.is_set():
            if self._broken is not None:
                await asyncio.sleep(WORD_S)
                if self._is_whole.is_set():
                    break
                raise PeerError(f"{self._config.pair}: the first synchronisation has failed: {self._broken}")
            now = asyncio.get_running_loop().time()
            bytes_now = self._relay.forward_bytes if self._relay is not None else 0
            if bytes_now != moved_bytes:
                moved_bytes, moved_at = bytes_now, now
            elif now - moved_at > MIGRATION_STALL_S:
                raise PeerError(f"{self._config.pair}: the migration stands still at {bytes_now} bytes")
            with suppress(TimeoutError):
                await asyncio.wait_for(self._is_synchronised.wait(), LOOK_S)
            if not self._is_synchronised.is_set():
                await self._check_migration()
        # The pair is whole: what goes wrong now is a failover, not an undo.
        with suppress(PeerError, ConnectError, TimeoutError):
            await asyncio.wait_for(self._is_synchronised.wait(), PATH_ANSWER_S)
            for _ in range(int(PATH_ANSWER_S / LOOK_S)):
                if (await self.machine.execute("query-status"))["running"]:
                    break
                await asyncio.sleep(LOOK_S)

    def peer_gone(self, why: str) -> None:
        """The other node says that its guest has ended, and why: a better reason than what follows from it here."""
        self._broken = why

    async def _check_migration(self) -> None:
        try:
            state = (await self.machine.execute("query-migrate")).get("status")
        except (PeerError, ConnectError):
            if self._is_whole.is_set():
                return
            raise
        if state in ("failed", "cancelled") and not self._is_whole.is_set():
            raise PeerError(f"{self._config.pair}: the migration has {state}")

    # ── letting go ────────────────────────────────────────────────────────────────────────────────────────────

    def alone_handlers(self) -> Handlers:
        """Steps of `go-alone` and `unprotect`."""
        return {
            **self.protect_handlers(),
            "ensure-running": self.ensure_running,
            "record-term": self._host.record_term,
            "release-held": self.release_held,
            "yank": self.yank,
        }

    async def release_held(self) -> None:
        """There is no secondary any more: nothing waits for it."""
        path = self.path
        if path is not None:
            await self._ask(path, path.go_alone)

    async def yank(self) -> None:
        """Closing our end of the stream frees a QEMU that waits on it; one that hangs deeper is yanked as well."""
        await self.close_relay()
        await self.machine.yank()

    async def leave_colo(self) -> None:
        """The guest runs on its own from here; a migration that is still on its way is given up."""
        await self.close_relay()
        if not self.machine.is_there:
            return
        if (await self.machine.execute("query-colo-status"))["mode"] != "none":
            with suppress(PeerError):  # it may have left COLO in between
                await self.machine.execute("x-colo-lost-heartbeat")
        elif (await self.machine.execute("query-migrate")).get("status") in (
            "setup",
            "active",
            "device",
            "pre-switchover",
        ):
            await self.machine.execute("migrate_cancel")
        for _ in range(int(PATH_ANSWER_S / LOOK_S)):
            mode = (await self.machine.execute("query-colo-status"))["mode"]
            status = (await self.machine.execute("query-migrate")).get("status")
            if mode == "none" and status not in ("active", "device", "colo", "cancelling", "setup"):
                break
            await asyncio.sleep(LOOK_S)
        await self.ensure_running()

    async def reset_parameters(self) -> None:
        """As QEMU was found."""
        await self._set_capabilities({"x-colo": False})

    async def close_relay(self) -> None:
        """Both ends of the migration stream."""
        relay, self._relay = self._relay, None
        link, self._link = self._link, None
        if relay is not None:
            await asyncio.to_thread(relay.close)
        elif link is not None:
            link.close()
        if self._listening is not None:
            self._listening.close()
            self._listening = None
            with suppress(OSError):
                self._relay_path.unlink()
        self._host.forget_migration_link()

    async def remove_filters(self) -> None:
        """The guest talks to its tap directly again; connections that need their offsets keep the node in line."""
        self._is_needed = await self._has_offsets()
        if self._is_needed:
            log.info("connections from before a takeover are still open: the node stays in the guest's path")
        elif self.machine.is_there:
            await wiring.remove_filters(self.machine)

    async def close_path(self) -> None:
        """End the data path."""
        if self._is_needed:
            return
        for path in (self.path, self.serving):
            if path is not None:
                await self._host.drop_path(path)
        self.path = self.serving = None

    async def remove_chardevs(self) -> None:
        """The four sockets go."""
        if self.machine.is_there and not self._is_needed:
            await wiring.remove_chardevs(self.machine)

    async def discard_peer(self) -> None:
        """The secondary's guest is of no use any more."""
        with suppress(PeerError, ConnectError):  # a node that is gone has no guest that counts
            await self._host.ask_peer("discard")

    async def ensure_running(self) -> None:
        """Whatever has happened: the guest must not stay stopped."""
        if not self.machine.is_there:
            return
        status = await self.machine.execute("query-status")
        if not status["running"] and status["status"] in ("paused", "postmigrate", "finish-migrate", "colo"):
            await self.machine.execute("cont")

    async def ensure_protected_running(self) -> None:
        """As `ensure_running`; but once the pair is whole a QEMU that does not answer is a failover, not an undo."""
        try:
            await self.ensure_running()
        except (PeerError, ConnectError):
            if not self._is_whole.is_set():
                raise

    async def _set_capabilities(self, wanted: dict[str, bool]) -> None:
        capabilities = [{"capability": name, "state": state} for name, state in wanted.items()]
        await self.machine.execute("migrate-set-capabilities", {"capabilities": capabilities})

    @property
    def _relay_path(self) -> Path:
        return self._directory / "relay.sock"

    # ── the barrier ───────────────────────────────────────────────────────────────────────────────────────────

    async def _synchronise(self) -> None:
        """READY is here, and held. What goes wrong from here on is a failover, not a step to undo."""
        self._host.become_protected()
        self._is_whole.set()
        self._host.tell_protected()
        self._is_synchronised.set()

    def adopt(self, side: SecondaryGuest) -> None:
        """The secondary has taken over: its guest and its path are the primary's from here on."""
        self.machine = side.machine
        self.machine.rebind(self._heard_event, self._heard_end)
        self.serving, side.path = side.path, None

    async def tidy(self) -> None:
        """Unprotected: remove what an earlier run of this node has left of COLO and of the wiring."""
        if (await self.machine.execute("query-colo-status"))["mode"] != "none":
            await self.leave_colo()
        if await wiring.find_filters(self.machine):
            log.info("the guest is wired to an earlier life of this node; it goes back to its tap")
            await self.remove_filters()
        await self.remove_chardevs()
        await self.ensure_running()

    @property
    def broken(self) -> str | None:
        """Why the pair cannot be whole any more, if something was heard that says so."""
        return self._broken

    def _heard_stream_end(self, text: str) -> None:
        self._broken = self._broken or text
        self._host.checkpoints.heard_colo_end(text)

    # ── what happens to it ────────────────────────────────────────────────────────────────────────────────────

    async def request_checkpoint(self) -> None:
        """Have QEMU begin one now. Raises `PeerError`, `ConnectError`."""
        await self.machine.execute("migrate-set-parameters", {"x-checkpoint-delay": CHECKPOINT_DELAY_MS})

    def _heard_event(self, event: QmpEvent) -> None:
        checkpoints = self._host.checkpoints
        if event.name == "STOP":
            checkpoints.heard_stop(event.at_us)
        elif event.name == "RESUME":
            checkpoints.heard_resume(event.at_us)
        elif event.name == "COLO_EXIT":
            reason = str(event.data.get("reason", ""))
            self._broken = self._broken or f"QEMU has left COLO ({reason})"
            if reason == "error":  # else it was told to: by this node, or its stream ends next
                checkpoints.heard_colo_end("QEMU has left COLO after an error")

    def _heard_end(self, text: str) -> None:
        self._broken = text
        self._host.guest_gone(text)

    async def _has_offsets(self) -> bool:
        """Whether a client talks to this guest in another sequence space."""
        for path in (self.path, self.serving):
            if path is not None and self.machine.is_there and await self._ask(path, path.has_offsets):
                return True
        return False

    async def end(self) -> None:
        """Kill the guest: another one serves, or it is gone already."""
        self._is_needed = False
        await self.close_relay()
        await self.machine.kill()
        await self.close_path()

    async def abandon(self) -> None:
        """Another QEMU has come where this one was: nothing of this side is of use any more."""
        self._is_needed = False
        await self.release()
        await self.close_path()

    async def release(self) -> None:
        """This node ends: the guest lives on."""
        await self.close_relay()
        await self.machine.release()

    async def _ask(self, path: PrimaryPath | SecondaryPath, question: Callable[[], Any]) -> Any:
        return await asyncio.wait_for(asyncio.wrap_future(path.ask(question)), PATH_ANSWER_S)


def _listen(path: Path) -> socket.socket:
    with suppress(OSError):
        path.unlink()
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        sock.bind(str(path))
        sock.listen(1)
    except OSError as error:
        sock.close()
        raise ConnectError(f"migration socket {path}: {error.strerror or error}") from error
    return sock
