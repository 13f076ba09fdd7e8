"""This host's QEMU as a part of the node: the pair table's commands start plans, and plans end with facts.

One object lives as long as the node and serves both roles. It holds a `PrimaryGuest`, a `SecondaryGuest` or neither; a
takeover turns the second into the first. It decides nothing: the table says what follows from a fact.

Plans run as jobs, one at a time (`pycolo.vm.jobs`). `retire` and `discard` cancel the job under way, because they end
its guest. `protect` can be given up and is undone then. Every other job runs to its end.
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

import msgspec
import structlog

from pycolo.errors import ConnectError, PeerError, PycoloError
from pycolo.failover.pair import Told
from pycolo.failover.pairstates import Fact, Role
from pycolo.failover.plans import GO_ALONE, PREPARE_SECONDARY, PROTECT, TAKE_OVER
from pycolo.link.orders import JsonObject
from pycolo.node.datalinks import DataLinks
from pycolo.node.guest import Answer
from pycolo.vm.attempt import Attempt
from pycolo.vm.cardrows import CardRows
from pycolo.vm.checkpointdriver import CheckpointDriver
from pycolo.vm.domainguest import domain_guest, why_missing
from pycolo.vm.guestcheckpoints import GuestCheckpoints
from pycolo.vm.guesthost import GuestHost
from pycolo.vm.guestsearch import GuestSearch
from pycolo.vm.hooks import Network
from pycolo.vm.hostdisks import HostDisks
from pycolo.vm.jobs import Job, Jobs
from pycolo.vm.leftover import is_our_qemu, mark_of
from pycolo.vm.libvirtwatch import LibvirtWatch
from pycolo.vm.pathslot import PathSlot
from pycolo.vm.planrunner import PlanRunner
from pycolo.vm.primaryguest import PrimaryGuest
from pycolo.vm.secondaryguest import SecondaryGuest, end_leftover, end_strays
from pycolo.vm.tapwiring import make_wiring
from pycolo.vm.vhostcheck import VhostCheck

RETRY_S: Final = 1.0
"""Pause between two attempts of a job that must succeed."""

STOP_S: Final = 10.0
"""Time for the jobs under way when the node ends; service managers wait for half a minute or more."""

Ready = Callable[[JsonObject], None]
"""Called once the secondary's guest waits for the first copy: its facts, for the primary."""

ABSENT: Final[JsonObject] = {"qmp": "absent", "version": "", "status": None, "colo": None, "pid": None}

log = structlog.get_logger("colo")


class VmGuest:
    """See `pycolo.node.guest.Guest`. Used in asyncio's thread only."""

    def __init__(self, host: GuestHost) -> None:
        self._host = host
        self._slot = PathSlot(host)
        self.domain = domain_guest(host.config)
        self._wiring = make_wiring(host.config, Network(host.config, host.role, host.term), self.domain)
        self._rows = CardRows(host.config.qemu.directory, host.config.pair, host.term, len(host.config.card))
        self.disks = HostDisks(host, self.domain)
        self.orders = {**self.disks.orders, **({"domain": self.domain.hear} if self.domain is not None else {})}
        """What the other node may ask of this guest, besides `open_relay`."""
        self._jobs = Jobs()
        self._keeping: asyncio.Task[None] | None = None
        self._asking: set[asyncio.Task[None]] = set()
        self._attempt: Attempt | None = None
        self._plans = PlanRunner()
        self._may_serve = False
        """This host's guest serves alone, so a QEMU that is found is connected to the network."""
        self.is_paused = False  # Pacemaker has not promoted this node, or has demoted it
        self.disks.settling.may_run = lambda: not self.is_paused
        self._search = GuestSearch(host, self)
        self._libvirt = LibvirtWatch(self.domain, host)
        self._link = 0
        self.primary: PrimaryGuest | None = None
        self.secondary: SecondaryGuest | None = None
        checkpoints = GuestCheckpoints(host, self)
        target_ms = host.config.protect.pause_target_ms
        self.checkpoints = CheckpointDriver(host.config.checkpoint, checkpoints, host.epoch, target_ms)
        self.vhost = VhostCheck(host, self, self._wiring)

    # ── life ──────────────────────────────────────────────────────────────────────────────────────────────────

    async def find(self) -> bool:
        """Connect to a primary's QEMU if it runs already. Returns whether this host's QEMU runs. Before `start`."""
        if self._host.role() is Role.PRIMARY:
            self.primary = self.new_primary()
            try:
                await self.primary.connect()
                self.welcome(self.primary)
            except (ConnectError, PeerError) as error:
                log.warning(f"no guest yet: {error}")
            if self.primary.machine.is_there:
                return True
            self.disks.settling.guest_gone()
        return is_our_qemu(self._host.pid, mark_of(self._host.config))

    def start(self) -> None:
        """See `Guest`."""
        self._keeping = asyncio.get_running_loop().create_task(self._search.run())

    async def stop(self) -> None:
        """See `Guest`. A guest that serves, or is about to, runs on."""
        if self._keeping is not None:
            self._keeping.cancel()
        if self._attempt is not None:
            self._attempt.give_up("the node was stopped")
        await self._jobs.close(STOP_S)
        for task in list(self._asking):
            task.cancel()
        await asyncio.gather(*self._asking, *([self._keeping] if self._keeping else []), return_exceptions=True)
        await self._libvirt.close()
        self.vhost.end()
        await self.checkpoints.close()
        await self.disks.settling.close()
        if self.domain is not None:
            await self.domain.guard.close()
        if self.secondary is not None and self._host.is_taking_over():
            await self.secondary.release()
        elif self.secondary is not None:
            await self.secondary.discard()
        if self.primary is not None:
            await self.primary.release()
        await self._slot.stop()

    async def settled(self) -> None:
        """See `Guest`."""
        await self._jobs.settled()

    async def answers(self) -> None:
        """Wait for an answer of the data path. Raises TimeoutError."""
        await self._slot.answers()

    # ── searching for QEMU ────────────────────────────────────────────────────────────────────────────────────

    @property
    def is_idle(self) -> bool:
        """See `guestsearch.Owner`."""
        return self._jobs.is_idle

    @property
    def looking(self) -> asyncio.Lock:
        """See `GuestSearch`."""
        return self._search.looking

    def replace(self, old: PrimaryGuest, fresh: PrimaryGuest) -> None:
        """See `guestsearch.Owner`."""
        self.primary = fresh
        self._jobs.add(Job("abandon", lambda: self._abandon(old), must_end=True))

    async def _abandon(self, side: PrimaryGuest) -> None:
        await side.abandon()
        self._rows.discard()  # they are about connections of the guest that is gone

    def welcome(self, side: PrimaryGuest) -> None:
        """A QEMU has been found. An unprotected one is connected to its tap, and the tap to the network."""
        log.info("the guest is there", qemu=side.machine.version, pid=side.machine.pid)
        try:
            self._host.note_pid(side.machine.pid)
        except PycoloError as error:
            log.error(str(error))
        self.disks.settling.guest_found(side.machine)
        if self._may_serve:
            self.release()

    def new_primary(self) -> PrimaryGuest:
        """Of a QEMU that is not connected yet."""
        return PrimaryGuest(self._host, self._slot, self._wiring, self.checkpoints, self._gone, self.domain)

    def _gone(self, text: str) -> None:
        """This host's QEMU has ended."""
        log.error(text)
        self.disks.settling.guest_gone()
        self._host.tell(Fact.GUEST_GONE, Told(text=text))

    # ── the table's commands ──────────────────────────────────────────────────────────────────────────────────

    def halt(self) -> None:
        """See `Guest`."""
        self._may_serve = False
        self._slot.halt()

    def unlinked(self) -> None:
        """See `Guest`. A secondary still reads what the primary has sent before."""
        if self.secondary is None:
            self._slot.detach()

    def release(self) -> None:
        """See `Guest`. Repeated until it succeeds. A second call while it runs changes nothing."""
        self._may_serve = True
        last, current = self._jobs.last, self._jobs.current
        if self.is_paused or (last is not None and last.name == "release"):
            return
        if self._attempt is not None:
            self._attempt.give_up("this node goes on alone")
        if current is not None and (current.name == "switch" or (current.name == "protect" and self._is_whole)):
            self._jobs.clear()
        self._disarm("this node goes on alone")
        self._jobs.add(Job("release", self._go_alone))

    def protect(self, link: int, data: DataLinks, answer: Answer) -> None:
        """See `Guest`."""
        if self._attempt is not None:
            self._attempt.give_up("another attempt has begun")
        attempt = self._attempt = Attempt(link, data, answer)
        self._jobs.add(
            Job("protect", lambda: self._protect(attempt), lambda: attempt.fail(attempt.giving_up.why or "given up"))
        )

    def cancel_protect(self, why: str) -> None:
        """See `Guest`."""
        attempt = self._attempt
        if attempt is None:
            return
        if attempt.is_whole:
            self.release()
            return
        attempt.give_up(why)
        self._jobs.drop("protect")

    def committed(self) -> None:
        """See `Guest`. READY passes now."""
        attempt = self._attempt
        if attempt is None:
            return
        self._may_serve = False
        self.checkpoints.heard_ready()
        attempt.decide(is_whole=True)
        if not attempt.is_whole or attempt.broken is not None:
            self.checkpoints.heard_colo_end(attempt.broken or "the first synchronisation has failed")

    def prepare(self, link: int, data: DataLinks, ready: Ready, answer: Answer) -> None:
        """See `Guest`."""

        def drop() -> None:
            data.close()
            answer(Fact.PREPARE_FAILED, "given up")

        self._jobs.add(Job("prepare", lambda: self._prepare(link, data, ready, answer), drop))

    def discard(self) -> None:
        """See `Guest`."""
        self._jobs.clear()
        self._jobs.add(Job("discard", self._discard, must_end=True))

    def switch(self, answer: Answer) -> None:
        """See `Guest`."""
        self._jobs.add(Job("switch", lambda: self._switch(answer), lambda: answer(Fact.SERVE_FAILED, "given up")))

    def retire(self, answer: Answer) -> None:
        """See `Guest`."""
        self._may_serve = False
        self._disarm("this node must not serve")
        self._jobs.clear()
        self._jobs.add(Job("retire", lambda: self._retire(answer), must_end=True))

    def _disarm(self, why: str) -> None:
        self.vhost.end()
        self.checkpoints.disarm(why)

    @property
    def _is_whole(self) -> bool:
        return self._attempt is not None and self._attempt.is_whole

    # ── the jobs ───────────────────────────────────────────────────────────────────────────────────────

    async def _protect(self, attempt: Attempt) -> None:
        side = self.primary
        if side is None or self.is_paused or not side.machine.is_there:
            missing = f"no guest to protect: {why_missing(self._host.config)}"
            attempt.fail("Pacemaker has not promoted this node" if self.is_paused else missing, lacks=True)
            return
        self._link = attempt.link
        why, lacks = "this is a bug", False
        try:
            await self.disks.settling.over()
            await self._host.try_host()
            await self._plans.run(PROTECT, side.protect_handlers(attempt), attempt.giving_up)
        except (PycoloError, OSError) as error:
            why = str(error) or type(error).__name__
            lacks = not attempt.is_answered and await self._libvirt.is_lacking()
        finally:
            if not attempt.is_whole:
                self._failed(attempt, why, lacks=lacks)
        if attempt.is_whole:
            self.checkpoints.arm()
            self.vhost.begin(side.facts)

    def _failed(self, attempt: Attempt, why: str, *, lacks: bool) -> None:
        """The copy has failed: the answer says so. After SYNCHRONISED the table hears that COLO is broken."""
        if attempt.is_answered:
            log.warning(f"protecting has failed: {why}")
            self.pair_broken(why)
        attempt.fail(why, lacks=lacks)

    async def _go_alone(self) -> None:
        """Repeat until it succeeds: there is no way back."""
        if self.primary is None:
            await self._discard()
            self.primary = self.new_primary()
        side, is_first = self.primary, True
        while True:
            try:
                await self._let_go(side, is_first=is_first)
                return
            except (PycoloError, OSError) as error:
                log.error(f"going on alone is not done yet: {str(error) or type(error).__name__}")
            is_first = False
            await asyncio.sleep(RETRY_S)

    async def _let_go(self, side: PrimaryGuest, *, is_first: bool) -> None:
        if side.machine.is_over or not side.machine.pid:
            await side.clear()
            return
        if not side.machine.is_there:  # only its monitor is lost: clients need not wait for that
            await side.release_held()
            await side.connect()
        await self.disks.settling.claim(side.machine)
        if is_first and not side.is_wired and not side.is_tidy and (kept := self._rows.read()) is not None:
            await side.resume(kept, self._rows)
        if is_first and not side.is_wired and not side.is_tidy:
            await side.tidy()
        else:
            await self._plans.run(GO_ALONE, side.alone_handlers())
        if not side.is_tidy:
            await self._wiring.serve_alone()
            if not side.is_wired:
                await self._wiring.settle(await side.machine.netdevs())
            side.is_tidy = True

    async def _prepare(self, link: int, data: DataLinks, ready: Ready, answer: Answer) -> None:
        if self.primary is not None:
            data.close()
            answer(Fact.PREPARE_FAILED, "this node has the primary's guest")
            return
        if self.secondary is not None:
            await self._discard()
        side: SecondaryGuest

        def broken(text: str) -> None:
            log.info(text)
            if self.secondary is side:
                self.pair_broken(text)

        side = SecondaryGuest(
            self._host,
            self._slot,
            self._wiring,
            self._rows,
            self.disks.copies,
            on_gone=self._gone,
            on_broken=broken,
            domain=self.domain,
        )
        self.secondary, self._link = side, link
        try:
            await self.disks.settling.close()  # the other guest's disks come in the place of what is left here
            await self._host.try_host()
            await self._plans.run(PREPARE_SECONDARY, side.prepare_handlers(link, data))
        except (PycoloError, OSError) as error:
            self.secondary = None
            answer(Fact.PREPARE_FAILED, str(error) or type(error).__name__)
            return
        told = self._host.findings.told()
        facts = msgspec.to_builtins(side.facts)
        ready({"facts": facts, "version": side.machine.version, "epoch": self._host.epoch.number, **told})

    async def _discard(self) -> None:
        side, self.secondary = self.secondary, None
        try:
            if side is not None:
                log.info("discarding the secondary's guest")
                await side.discard()
            else:
                await end_strays(self._host, self.domain)
                self._rows.discard()
                await self._wiring.leave()
        except (PycoloError, OSError) as error:
            log.error(str(error))

    async def _switch(self, answer: Answer) -> None:
        side = self.secondary
        if side is None:
            answer(*((Fact.SERVED, "") if self.primary is not None else (Fact.SERVE_FAILED, "this node has no guest")))
            return
        try:
            await self._plans.run(TAKE_OVER, side.takeover_handlers())
        except (PycoloError, OSError) as error:
            why = str(error) or type(error).__name__
            log.error(f"the takeover is not done yet: {why}")
            answer(Fact.SERVE_FAILED, why)
            return
        self.primary = self.new_primary()
        self.primary.adopt(side)
        self.secondary = None
        self._may_serve, self.is_paused = True, False
        self.disks.settling.guest_found(self.primary.machine)
        answer(Fact.SERVED, "")

    async def _retire(self, answer: Answer) -> None:
        primary, secondary = self.primary, self.secondary
        self.primary = self.secondary = None
        pids = {side.machine.pid for side in (primary, secondary) if side is not None} | {self._host.pid}
        try:
            if primary is not None:
                await primary.end()
            if secondary is not None:
                await secondary.discard()
            await end_leftover(self._host)
            if left := [pid for pid in pids if is_our_qemu(pid, mark_of(self._host.config))]:
                raise PeerError(f"QEMU (process {left[0]}) has not ended")
            self._rows.discard()
            await self._wiring.leave()
        except (PycoloError, OSError) as error:
            why = str(error) or type(error).__name__
            log.error(f"this node has not left the network yet: {why}")
            answer(Fact.RETIRE_FAILED, why)
            return
        answer(Fact.RETIRED, "")

    # ── facts ──────────────────────────────────────────────────────────────────────────────────────────────────

    def pair_broken(self, text: str) -> None:
        """COLO has ended while the pair was whole."""
        self._host.tell(Fact.COLO_BROKEN, Told(link=self._link, text=text))

    def checkpoint_overdue(self, text: str) -> None:
        """A checkpoint has exceeded its time limit: one of the QEMUs hangs, or the connection between them."""
        log.error(text)
        task = asyncio.get_running_loop().create_task(self._find_who_hangs(text))
        self._asking.add(task)
        task.add_done_callback(self._asking.discard)

    async def _find_who_hangs(self, text: str) -> None:
        side = self.primary
        if side is None or not self._host.is_on_guard():
            return
        with suppress(PeerError, ConnectError):  # it is gone: `Machine` reports that
            if await side.answers():
                self.pair_broken(text)
            elif self._host.is_on_guard():
                self._host.tell(Fact.GUEST_HANGS, Told(text=f"QEMU of this host hangs: {text}"))

    # ── for the other node, and for the operator ──────────────────────────────────────────────────────────────

    async def checkpoint(self) -> dict[str, Any]:
        """Make a checkpoint and return its record. Raises `StateError`, `CheckpointError`."""
        return await self.checkpoints.operator_checkpoint()

    async def guest_status(self) -> JsonObject:
        """What `colo status` shows of QEMU."""
        side = self.secondary or self.primary
        return await side.machine.status() if side is not None else dict(ABSENT)

    def plan_status(self) -> dict[str, Any] | None:
        """The plan under way, for the status."""
        return self._plans.status()

    def interrupted(self) -> JsonObject | None:
        """How long the last `protect` has kept the guest from its clients."""
        return None if self.primary is None else self.primary.interrupted

    def disk_status(self) -> list[dict[str, Any]]:
        """The disks that are copied, for the status."""
        return self.primary.disks.status() if self.primary is not None else self.disks.copies.status()

    async def snapshot(self) -> dict[str, Any]:
        """See `Guest`."""
        return await self._slot.snapshot()
