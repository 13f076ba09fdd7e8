"""A node and its guest: found or started, wired, kept in a record; plans are run here, one at a time.

What is to become of it when something breaks is its subclass's (`pycolo.vm.survivingnode`).
"""

import asyncio
from contextlib import suppress
from socket import gethostname
from time import monotonic_ns
from typing import Any, Final

import msgspec
import structlog

from pycolo.arbiters import ArbiterRunner, make
from pycolo.checkpoint.epoch import Epoch
from pycolo.compare.difference import Command
from pycolo.config import PairConfig
from pycolo.errors import ConnectError, PeerError, PycoloError, StateError
from pycolo.failover.plans import Plan, PlanRun
from pycolo.link.hello import Role
from pycolo.link.orders import Order, encode_order
from pycolo.node.control import ControlServer
from pycolo.node.datapath import DataPath
from pycolo.node.nopath import NoPath
from pycolo.node.planner import run_plan
from pycolo.node.servicemanager import Notifier
from pycolo.node.supervisor import NodeState
from pycolo.vm.checkpointdriver import CheckpointDriver
from pycolo.vm.hooks import run_hook
from pycolo.vm.leftover import end_leftover_qemu, is_our_qemu
from pycolo.vm.linkednode import PROBE_PAUSE_S, LinkedNode
from pycolo.vm.memory import trim_heap
from pycolo.vm.nodeoptions import node_options
from pycolo.vm.primaryguest import FIND_S, PrimaryGuest
from pycolo.vm.secondaryguest import Handlers, SecondaryGuest
from pycolo.vm.statefile import NodeRecord, StateFile

RESTART_S: Final = 5.0
"""A node that comes back tries to reach the other one for so long, some twenty times, before it asks the arbiter."""

log = structlog.get_logger("colo")


class GuestNode(LinkedNode):
    """Base of `VmNode`: the guest of this host."""

    def __init__(self, config: PairConfig, notify: Notifier) -> None:
        """Raises `ConfigError`, `ConnectError` when the state directory cannot be used."""
        self._file = StateFile(config.state)
        self._record = self._file.read(NodeRecord(role=Role(config.role)))
        self._live = self._make_live(config)
        super().__init__(config, node_options(config, self._record.role))
        self.term = self._record.term
        self.pair_epoch = Epoch(self._record.epoch)
        self.path: DataPath | NoPath = NoPath()
        self.checkpoints = CheckpointDriver(config.checkpoint, self, self.pair_epoch)
        self.primary: PrimaryGuest | None = None
        self.secondary: SecondaryGuest | None = None
        self.failovers: dict[str, int] = {}
        self._notify = notify
        self._plan: PlanRun | None = None
        self._plan_lock = asyncio.Lock()
        self._broken_timer: asyncio.TimerHandle | None = None
        self._is_leaving = False
        """This node is becoming the secondary: nothing else may begin."""
        self._is_dissolving = False
        """The secondary is being told to throw its guest away: this node's must live."""

    def _make_live(self, config: PairConfig) -> ArbiterRunner:
        return make(
            config.arbiter,
            pair=config.pair,
            role=lambda: self.role.value,
            peer=config.link.peer.host,
            identity=f"{gethostname()} {config.link.listen}",
            term=self._record.term,
            on_change=self._consult,
        )

    def _make_arbiter(self) -> ArbiterRunner:
        """One for this node's whole life."""
        return self._live

    def _control_server(self) -> ControlServer:
        given = self.config.control
        return ControlServer(given.socket, self._request, given.mode, given.group)

    # ── life ──────────────────────────────────────────────────────────────────────────────────────────────────

    async def _begin(self) -> None:
        await self._live.start()
        if not self.config.compare.enabled:
            log.warning("NEGATIVE CONTROL: this node compares nothing ([compare] enabled = false)")
        if self.role is Role.PRIMARY:
            self.primary = PrimaryGuest(self)
            await self._find_guest()
            if self._record.was_protected:
                # The other node may have taken over meanwhile: nothing leaves before that is known.
                self._suspected_ns = monotonic_ns()
                self._enter(NodeState.SUSPECT, "restarted while the pair was protected")
                self.spawn(self._suspect_unless_heard())
        else:
            await self.end_leftover()
            self.save(was_protected=False)
            await self.leave_network()
        self._open_sides()
        self.spawn(self._look_for_higher_term())
        self.spawn(self._keep_guest())

    async def _suspect_unless_heard(self) -> None:
        """It is this node that was away: before the other one is suspected, and fenced, it is asked."""
        while self.is_in(NodeState.SUSPECT):
            await asyncio.sleep(RESTART_S)
            if self.is_in(NodeState.SUSPECT) and self._control is None and self.guest_lives:
                self._live.suspected(monotonic_ns() // 1_000_000)
                self._consult()
                return

    @property
    def guest_lives(self) -> bool:
        """Whether this host's QEMU is there, with or without its monitor."""
        if self.primary is not None and self.primary.machine.is_there:
            return True
        return is_our_qemu(self._record.pid, self.config.qemu.qmp)

    async def _find_guest(self) -> None:
        """The primary's QEMU may be there already, or come later."""
        assert self.primary is not None
        try:
            await self.primary.connect()
        except (ConnectError, PeerError) as error:
            log.warning(f"no guest yet: {error}")
            return
        await self._welcome(self.primary)

    async def _welcome(self, side: PrimaryGuest) -> None:
        """An unprotected guest runs on its own tap, on the network."""
        log.info("the guest is there", qemu=side.machine.version, pid=side.machine.pid)
        if self._record.was_protected:
            return
        try:
            await side.tidy()
            await self.serve_network()
        except PycoloError as error:
            log.error(f"the guest may be cut off: {error}")

    async def _keep_guest(self) -> None:
        """A primary's QEMU that was not there may come; one whose monitor broke off is asked again."""
        while True:
            await asyncio.sleep(PROBE_PAUSE_S)
            side = self.primary
            if side is None or side.machine.is_there or self._plan_lock.locked() or self._is_leaving:
                continue
            if not side.machine.is_over:  # the process lives, only its monitor broke off
                with suppress(ConnectError, PeerError, StateError):
                    await side.machine.connect(FIND_S)
                    if self.primary is side and not self._is_leaving:
                        log.info("the guest's monitor is back")
                    else:  # another QEMU by now, whose monitor serves one client: let go of it
                        await side.machine.release()
                continue
            fresh = PrimaryGuest(self)
            try:
                await fresh.machine.connect(FIND_S)
            except (ConnectError, PeerError, StateError):
                await fresh.release()
                continue
            if self.primary is not side or self._is_leaving:
                await fresh.release()
                continue
            await side.abandon()
            self.primary = fresh
            await self._welcome(fresh)

    async def _end(self) -> None:
        self._notify.stopping()
        await self._end_tasks()
        await self.checkpoints.close()
        await self._live.close()
        await self._close_sides()
        await self.questions.close()
        await super()._end()
        if self._link_data is not None:
            self._link_data.close()
        if self.primary is not None:
            await self.primary.release()
        if self.secondary is not None and self.is_in(NodeState.TAKING_OVER, NodeState.SERVING):
            await self.secondary.release()  # it is on its way to be the only guest
        elif self.secondary is not None:
            await self.secondary.discard()

    def save(self, *, was_protected: bool) -> None:
        """Keep what a restarted node must know."""
        side = self.secondary or self.primary
        pid = side.machine.pid if side is not None else 0
        self._record = NodeRecord(
            role=self.role, term=self.term, epoch=self.epoch, was_protected=was_protected, pid=pid
        )
        self._file.write(self._record)

    async def record_term(self) -> None:
        """A step of both plans: on disk before anything is served."""
        if self._is_leaving or self.is_in(NodeState.FENCED):
            raise StateError("serve", self.state.value, "a node that may serve")
        side = self.secondary or self.primary
        pid = side.machine.pid if side is not None else 0
        record = NodeRecord(role=Role.PRIMARY, term=self.term, epoch=self.epoch, was_protected=False, pid=pid)
        await asyncio.to_thread(self._file.write, record)
        self._record = record

    def note_pid(self, pid: int) -> None:
        """This host's QEMU is another one now, or none."""
        self._record = msgspec.structs.replace(self._record, pid=pid)
        self._file.write(self._record)

    # ── the user's network ────────────────────────────────────────────────────────────────────────────────────

    async def serve_network(self) -> None:
        """The guest's tap onto the network."""
        await self._hook("serve", self.config.network.serve)

    async def leave_network(self) -> None:
        """The guest's tap off the network."""
        await self._hook("retire", self.config.network.retire)

    async def _hook(self, name: str, command: list[str]) -> None:
        values = {"pair": self.config.pair, "peer": self.config.link.peer.host}
        await run_hook(f"network.{name}", command, values | {"role": self.role.value, "term": str(self.term)})

    # ── paths ─────────────────────────────────────────────────────────────────────────────────────────────────

    def use_path(self, path: DataPath) -> None:
        """A guest is attached."""
        self.path = path
        path.start()

    async def drop_path(self, path: DataPath) -> None:
        """It is not any more."""
        if self.path is path:
            self.path = NoPath()
        await asyncio.to_thread(path.stop)
        trim_heap()

    def path_callbacks(self) -> dict[str, Any]:
        """What every data path is built with."""
        return self._path_callbacks()

    def on_serving(self, resent: int) -> None:
        """The takeover's frames have been sent again; in the data path's thread."""
        self._call(self._resent, resent)

    def _resent(self, resent: int) -> None:
        if self.takeover is not None:
            self.takeover["resent"] = resent

    def note_differences(self, commands: list[Command], epoch: int) -> None:
        """Divergences that arose in `epoch`, from the data path's thread."""
        self._call(self._divergences.note, commands)
        self._call(self.checkpoints.want, commands, epoch)

    # ── plans ─────────────────────────────────────────────────────────────────────────────────────────────────

    async def _run(self, plan: Plan, handlers: Handlers) -> None:
        """One plan at a time. Raises what its required step raised, once what was done is undone."""
        async with self._plan_lock:
            self._plan = run = PlanRun(plan)
            log.info(f"plan {plan.name}")
            try:
                await run_plan(run, handlers, self._on_step)
            finally:
                self._plan = None

    def _on_step(self, run: PlanRun) -> None:
        task = run.task()
        if task is not None:
            log.debug(f"plan {run.plan.name}: {task.does}", undo=task.is_undo)

    async def _discard_guest(self, text: str) -> None:
        """The secondary's guest is of no use any more."""
        async with self._plan_lock:
            side, self.secondary = self.secondary, None
            if side is not None:
                log.info(f"the guest is thrown away: {text}")
                await side.discard()
            self.save(was_protected=False)

    async def end_leftover(self) -> None:
        """A QEMU of an earlier life of this node, found by its pid and its socket."""
        if self._record.pid:
            await asyncio.to_thread(end_leftover_qemu, self._record.pid, self.config.qemu.qmp)
            self.note_pid(0)

    @property
    def epoch(self) -> int:
        """Of the pair, as this node knows it. Any thread."""
        return self.pair_epoch.number

    def become_protected(self) -> None:
        """The primary's first barrier: from here on the arbiter decides what a broken pair becomes.

        Raises `StateError` when protecting was given up meanwhile.
        """
        if not self.is_in(NodeState.PROTECTING):
            raise StateError("synchronise", self.state.value, "protecting")
        self.pair_epoch.begin()
        self.checkpoints.heard_ready()
        self._enter(NodeState.PROTECTED, "the pair is protected")

    def tell_protected(self) -> None:
        """The secondary counts as protected when it is told. Raises `PeerError`."""
        self._send_order(encode_order(Order(id=0, order="protected", arguments={"epoch": self.epoch})))

    async def ask_hypervisor(self) -> None:
        """For the checkpoints: have QEMU begin one."""
        if self.primary is not None:
            await self.primary.request_checkpoint()

    # ── what its subclass decides ─────────────────────────────────────────────────────────────────────────────

    def guest_gone(self, text: str) -> None:
        """This host's QEMU has ended."""
        raise NotImplementedError

    def pair_broken(self, text: str) -> None:
        """COLO has ended while the pair was whole."""
        raise NotImplementedError

    def checkpoint_overdue(self, text: str) -> None:
        """A checkpoint does not come to its end."""
        raise NotImplementedError
