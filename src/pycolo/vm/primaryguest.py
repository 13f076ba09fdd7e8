"""The primary's QEMU: the node attaches to it while it runs, keeps the barrier, and detaches again.

Methods named after a plan's steps are the handlers of these steps (`pycolo.failover.plans`).
"""

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Final

import msgspec
import structlog

from pycolo.check.guest import judged
from pycolo.checkpoint.parts import Flow
from pycolo.compare.difference import Command
from pycolo.errors import ConnectError, PeerError, QmpTimeout, StateError
from pycolo.failover.pairstates import Fact
from pycolo.link.codec import Channel
from pycolo.link.orders import JsonObject
from pycolo.node.planner import Handler
from pycolo.node.rowsfile import KeptRows
from pycolo.qmp.client import QmpEvent
from pycolo.qmp.cures import Moment
from pycolo.qmp.judge import compare
from pycolo.qmp.probe import Facts
from pycolo.qmp.versions import colo_capabilities
from pycolo.transport.linksetup import RawLink
from pycolo.vm import firstsync, incolo
from pycolo.vm.arrivals import arrived
from pycolo.vm.attempt import Attempt
from pycolo.vm.barrier import PrimaryBarrier
from pycolo.vm.cardrows import CardRows
from pycolo.vm.checkpointdriver import CheckpointDriver
from pycolo.vm.curing import Curing
from pycolo.vm.domainguest import DomainGuest
from pycolo.vm.firstsync import FirstSync
from pycolo.vm.guesthost import GuestHost
from pycolo.vm.guestwiring import GuestWiring
from pycolo.vm.interference import Interference
from pycolo.vm.machine import Machine
from pycolo.vm.memorysample import MemorySample, open_sample
from pycolo.vm.outgoing import OutgoingStream
from pycolo.vm.pathslot import PathSlot
from pycolo.vm.primarydisks import PrimaryDisks
from pycolo.vm.primarypaths import PrimaryPaths
from pycolo.vm.relay import Relay
from pycolo.vm.secondaryguest import SecondaryGuest
from pycolo.vm.streamorders import ask_behind

FIND_S: Final = 0.3
"""A running QEMU answers at its QMP socket at once; if none does, the node looks again later."""

RELAY_S: Final = 10.0
"""Time limit for connecting both ends of the migration stream."""

HANG_S: Final = 1.0
"""Time for the monitor to answer after a checkpoint has exceeded its time limit; a QEMU that does not hangs."""

log = structlog.get_logger("colo")


class PrimaryGuest:
    """The primary's QEMU under this node, protected or not. `on_gone(text)`: its process has ended."""

    def __init__(
        self,
        host: GuestHost,
        slot: PathSlot,
        wiring: GuestWiring,
        checkpoints: CheckpointDriver,
        on_gone: Callable[[str], None],
        domain: DomainGuest | None = None,
    ) -> None:
        """`domain`: the guest is a domain of libvirt."""
        self._host = host
        self._domain = domain
        self._checkpoints = checkpoints
        self._on_gone = on_gone
        self._config = host.config
        self._attempt: Attempt | None = None
        self._relay: Relay | None = None
        self._link: RawLink | None = None
        self._outgoing = OutgoingStream(Path(host.config.qemu.directory) / "relay.sock")
        self._first: FirstSync | None = None
        source = None if domain is None else domain.source
        self.machine = Machine(host.config.qemu, host.config.pair, self._heard_event, self._heard_end, source)
        self.paths = PrimaryPaths(host, slot, wiring, self._differ, self._strayed)
        self.disks = PrimaryDisks(host, lambda: self.machine, self._disk_lost, domain)
        self._interference = Interference(host, host.findings, self._is_protected, checkpoints.is_running)
        self.facts: Facts | None = None
        self.is_tidy = False
        """QEMU holds nothing of an earlier process of this node, and the guest is on the network."""

    async def connect(self) -> None:
        """Connect to a QEMU that runs already. Raises `ConnectError`, `PeerError`."""
        await self.machine.connect(FIND_S)

    @property
    def is_wired(self) -> bool:
        """Whether a data path of this node is in the guest's path."""
        return bool(self.paths)

    # ── protect ───────────────────────────────────────────────────────────────────────────────────────────────

    def protect_handlers(self, attempt: Attempt) -> dict[str, Handler]:
        """Handlers of `protect`."""
        self._attempt = attempt
        return {
            **self._both_handlers(),
            "probe": self.probe,
            "prepare-peer": self.prepare_peer,
            "copy-disks": self.copy_disks,
            "make-taps": self.make_taps,
            "open-path": self.open_path,
            "take-place": self.take_place,
            "open-relay": self.open_relay,
            "set-parameters": self.set_parameters,
            "migrate": self.migrate,
            "first-checkpoint": self.first_checkpoint,
            "ensure-running": self.ensure_protected_running,
        }

    def _both_handlers(self) -> dict[str, Handler]:
        """Undos of `protect` that are steps of `go-alone` too."""
        return {
            "leave-colo": self.leave_colo,
            "reset-parameters": self.reset_parameters,
            "close-relay": self.close_relay,
            "drop-disks": self.drop_disks,
            "give-back-place": self.give_back_place,
            "close-path": self.close_path,
            "remove-taps": self.remove_taps,
        }

    async def probe(self) -> None:
        """Query QEMU, and refuse what cannot work."""
        findings = self._host.findings
        self.facts = await self.machine.probe(is_forced=findings.is_forced)
        findings.weigh("guest", judged(self.facts, "primary", self._config), self._config.pair)
        await self.disks.probe(self.facts)

    async def prepare_peer(self) -> None:
        """Ask the other node to try its host and start its QEMU."""
        epoch, findings = self._host.epoch, self._host.findings
        try:
            await self._host.ask_peer("force", {"is_forced": findings.is_forced})
        except PeerError:  # an older node knows no such order
            if findings.is_forced:
                raise
        if self._domain is not None:
            await self._domain.tell(self._host.ask_peer)
        await self.disks.agree()
        timeout_s = (self._config.qemu.start_timeout_ms + self._config.arbiter.timeout_ms) / 1000 + RELAY_S
        answer = await self._host.ask_peer("prepare", {"epoch": epoch.number}, timeout_s)
        epoch.meet(int(answer.get("epoch", 0)))
        theirs = msgspec.convert(answer["facts"], Facts)
        findings.hear(answer)
        findings.weigh("pair", compare(self._known, theirs), self._config.pair)

    async def copy_disks(self) -> None:
        """Copy the disks, and from then on each write."""
        await self.disks.copy()

    async def make_taps(self) -> None:
        """Make the nodes' TAPs."""
        await self.paths.make_ready(self._known)

    async def open_path(self) -> None:
        """Start the data paths, which pass all frames on until the first synchronisation."""
        attempt = self._present
        await self.paths.open(attempt.link, attempt.take_data())
        await self.paths.watch_processors(self.machine)

    async def take_place(self) -> None:
        """Put the nodes' TAPs in the places of the guest's."""
        await self.paths.insert()

    async def open_relay(self) -> None:
        """Open both ends of the migration stream: a unix socket for this QEMU, a connection to the other node."""
        await self._drop_relay()
        self._outgoing.open(self.machine)
        arrival = self._host.expect_link(Channel.MIGRATION)
        self._link = await arrived(arrival, self._host.ask_peer("open-relay"), RELAY_S)

    async def set_parameters(self) -> None:
        """Turn COLO on and QEMU's own periodic checkpoints off."""
        await self.machine.set_capabilities(colo_capabilities(self._known.version))
        target_ms, behind = self._config.protect.pause_target_ms, partial(ask_behind, self._host, self._sent_bytes)
        self._first = FirstSync(self.machine, self._config.pair, target_ms, self._sent_bytes, behind)
        await self._first.prepare()
        await incolo.request_checkpoint(self.machine)

    def _sent_bytes(self) -> int:
        return 0 if self._relay is None else self._relay.forward_bytes

    async def migrate(self) -> None:
        """Start the migration into COLO, through the relay."""
        attempt, link = self._present, self._link
        assert link is not None
        curing = Curing(self.machine, self._known, "primary")
        await curing.apply(Moment.BEFORE_MIGRATE)
        guest = await self._outgoing.begin(self.machine)
        self._relay = Relay(
            guest,
            link,
            is_primary=True,
            on_message=PrimaryBarrier(
                self.paths.comparing,
                self._host.epoch,
                self._checkpoints,
                lambda: self._heard_ready(attempt, curing),
                self._host.until_ns,
                curing,
                lambda: Flow() if self._relay is None else self._relay.flow,
                self.disks.stand_still,
            ).guard,
            on_ended=lambda text: self._host.call(self._heard_stream_end, attempt, text),
            ask=self.disks.ask,
        )
        self._relay.start()

    async def first_checkpoint(self) -> None:
        """Wait until the secondary has the first state, and the record on disk says so."""
        assert self._first is not None
        await self._first.wait(self._present)
        await incolo.until_running(self.machine)

    @property
    def _present(self) -> Attempt:
        assert self._attempt is not None
        return self._attempt

    @property
    def _known(self) -> Facts:
        assert self.facts is not None
        return self.facts

    def _differ(self, found: list[Command], epoch: int) -> None:
        """In the data path's thread."""
        found = self._checkpoints.unexplained(found, epoch)
        self._host.note_divergences(found)
        self._host.call(self._checkpoints.want, found, epoch)

    def _strayed(self, text: str, epoch: int) -> None:
        """In a data path's thread."""
        self._host.call(self._checkpoints.want_for, text, epoch)

    # ── letting go ────────────────────────────────────────────────────────────────────────────────────────────

    def alone_handlers(self) -> dict[str, Handler]:
        """Handlers of `go-alone`."""
        return {
            **self._both_handlers(),
            "ensure-running": self.ensure_running,
            "release-held": self.release_held,
            "yank": self.yank,
        }

    async def release_held(self) -> None:
        """Send what is held; compare no longer."""
        await self.paths.release_held()

    async def yank(self) -> None:
        """Free a QEMU that waits on the stream by closing our end; then yank, for one that hangs elsewhere in it."""
        await self.close_relay()
        await self.machine.yank()

    async def leave_colo(self) -> None:
        """End COLO, or cancel a migration under way. The guest runs by itself afterwards."""
        await self.close_relay()
        if not self.machine.is_there:
            return
        await incolo.leave(self.machine)
        await self.ensure_running()

    async def reset_parameters(self) -> None:
        """Turn COLO off, and give QEMU its own limits for a migration back."""
        before = {} if self.facts is None else self.facts.capabilities
        await self.machine.set_capabilities({"x-colo": False, "return-path": before.get("return-path", False)})
        await firstsync.forget(self.machine)

    async def close_relay(self) -> None:
        """Close both ends of the migration stream."""
        self._interference.forget()
        if self._attempt is not None:
            self._attempt.decide(is_whole=False)  # the relay may wait for the decision
        await self._drop_relay()
        await self.disks.cut()

    async def _drop_relay(self) -> None:
        self._host.forget_link(Channel.MIGRATION)
        self._outgoing.close()
        relay, self._relay = self._relay, None
        link, self._link = self._link, None
        if relay is not None:
            await asyncio.to_thread(relay.close)
        elif link is not None:
            link.close()

    async def drop_disks(self) -> None:
        """Remove what copying the disks has added."""
        await self.disks.drop()

    async def give_back_place(self) -> None:
        """Connect the guest to its network directly, unless open connections still need their offsets translated."""
        await self.paths.withdraw(self.machine)

    async def close_path(self) -> None:
        """End the data paths."""
        await self.paths.close()

    async def remove_taps(self) -> None:
        """Remove the nodes' TAPs."""
        await self.paths.clear()

    async def ensure_running(self) -> None:
        """Resume the guest if it is stopped."""
        if self.machine.is_there:
            await incolo.ensure_running(self.machine)

    async def ensure_protected_running(self) -> None:
        """As `ensure_running`. Once the pair is whole, a QEMU that does not answer is no reason to undo."""
        try:
            await self.ensure_running()
        except (PeerError, ConnectError):
            if self._attempt is None or not self._attempt.is_whole:
                raise

    # ── the barrier ───────────────────────────────────────────────────────────────────────────────────────────

    async def _heard_ready(self, attempt: Attempt, curing: Curing) -> None:
        """READY has arrived. It is held until the record on disk says that either guest may serve.

        Raises `StateError` when it must not pass at all.
        """
        if not attempt.decided.is_set() and not attempt.giving_up.is_given_up and attempt.broken is None:
            await self.disks.require_in_step()
            await curing.apply(Moment.READY_HELD)
            self._host.epoch.begin()
            attempt.answer(Fact.SYNCHRONISED)
            await attempt.decided.wait()  # `close_relay` decides as well: an undo waits for nothing here
        if not attempt.is_whole:
            raise StateError("synchronise", "given up", "protecting")

    def adopt(self, side: SecondaryGuest) -> None:
        """The secondary has taken over: its QEMU and its path now belong to this object."""
        self.machine = side.machine
        self.machine.rebind(self._heard_event, self._heard_end)
        self.paths.adopt(side.paths)
        side.paths = []
        self.is_tidy = True

    async def resume(self, kept: Sequence[KeptRows], files: CardRows) -> None:
        """Translate the connections of before a takeover again, if the guest is still wired to this node."""
        await self.paths.resume(self.machine, kept, files)

    async def tidy(self) -> None:
        """Remove what an earlier process of this node has left of COLO and of the wiring."""
        if await incolo.is_in_colo(self.machine):
            await self.leave_colo()
        if self.paths.is_left:
            log.info("the guest is still wired to an earlier process of this node; connecting it to its network")
            await self.give_back_place()
        await self.disks.drop()
        await self.ensure_running()

    def _heard_stream_end(self, attempt: Attempt, text: str) -> None:
        log.info(text)
        attempt.broken = attempt.broken or text
        if attempt is self._attempt:
            self._checkpoints.heard_colo_end(text)

    # ── what happens to it ────────────────────────────────────────────────────────────────────────────────────

    def stream(self) -> tuple[int, int] | None:
        """What the migration stream has moved, and when the last of it; None: there is none. Any thread."""
        relay = self._relay
        return None if relay is None else relay.progress

    def memory_sample(self) -> MemorySample | None:
        """A sample of the guest's memory; None: this node may not read it, or the guest is gone."""
        if self.facts is None or not self.machine.pid:
            return None
        return open_sample(self.machine.pid, self.facts.ram_bytes)

    async def answers(self) -> bool:
        """Whether QEMU answers now that a checkpoint has exceeded its time limit. Raises `PeerError`, `ConnectError`.

        A write that the other host does not take keeps this QEMU from answering as well, so the disks are cut first.
        """
        await self.disks.cut()
        try:
            await self.machine.execute("query-status", timeout_s=HANG_S)
        except QmpTimeout:
            return False
        return True

    async def request_checkpoint(self) -> None:
        """Make QEMU begin a checkpoint now. Raises `PeerError`, `ConnectError`."""
        await incolo.request_checkpoint(self.machine)

    def _disk_lost(self, text: str) -> None:
        """The other host's copy of a disk is out of date from now on."""
        log.warning(text)
        self._note_broken(text)
        self._checkpoints.heard_colo_end(text)

    @property
    def interrupted(self) -> JsonObject | None:
        """How long the last `protect` has kept the guest from its clients; None: there was none."""
        return None if self._first is None else {"stop_ms": self._first.stop_ms, "move_ms": self.paths.move_ms}

    def _heard_event(self, event: QmpEvent) -> None:
        self.disks.heard_event(event)
        if self._first is not None:
            self._first.heard_event(event)
        self._interference.heard(event)
        if event.name == "STOP":
            self._checkpoints.heard_stop(event.at_us)
        elif event.name == "RESUME":
            self._checkpoints.heard_resume(event.at_us)
        elif event.name == "COLO_EXIT":
            reason = str(event.data.get("reason", ""))
            self._note_broken(f"QEMU has left COLO ({reason})")
            if reason == "error":  # with another reason this node has asked for it, or the stream ends next
                self._checkpoints.heard_colo_end("QEMU has left COLO after an error")

    def _heard_end(self, text: str) -> None:
        self._note_broken(text)
        self._interference.ended(lambda: self._on_gone(text), is_told_late=self._domain is not None)

    def _is_protected(self) -> bool:
        return self._attempt is not None and self._attempt.is_whole and self._relay is not None

    def _note_broken(self, text: str) -> None:
        if self._attempt is not None:
            self._attempt.broken = self._attempt.broken or text

    async def end(self) -> None:
        """Kill the QEMU, and remove all that belongs to it."""
        await self.close_relay()
        await self.machine.kill()
        await self.paths.abandon()

    async def clear(self) -> None:
        """Remove all that was made for a QEMU that is gone."""
        await self.close_relay()
        await self.paths.abandon()

    async def abandon(self) -> None:
        """Another QEMU has replaced this one."""
        await self.clear()
        await self.machine.release()

    async def release(self) -> None:
        """The node ends; the guest runs on."""
        await self.close_relay()
        await self.machine.release()
