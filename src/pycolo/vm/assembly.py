"""`colo node`: a node of a pair whose guests are QEMU's, put together of its parts.

Nothing else knows all of them. What they decide is in the pair table (`pycolo.failover.pairtable`).
"""

import asyncio
import secrets
import signal
from collections.abc import Callable, Sequence
from functools import partial
from socket import gethostname
from typing import Any, Final

import structlog

from pycolo.arbiters import ArbiterRunner, make
from pycolo.checkpoint.records import CheckpointRecord
from pycolo.config import PairConfig
from pycolo.failover.fencing import FencingArbiter
from pycolo.failover.pacemaker import PacemakerArbiter
from pycolo.failover.pair import Pair, Settings, restarted
from pycolo.failover.pairstates import Fact, Role, State
from pycolo.link import hello
from pycolo.link.codec import Channel
from pycolo.node.commands import Commands, Parts
from pycolo.node.control import ControlServer
from pycolo.node.costs import Costs
from pycolo.node.costsfile import costs_file
from pycolo.node.decider import Decider
from pycolo.node.divergences import Divergences
from pycolo.node.gate import Gate
from pycolo.node.healthwatch import HealthWatch
from pycolo.node.journal import Journal
from pycolo.node.leasing import Leasing
from pycolo.node.links import Links, control_maker
from pycolo.node.node import Given, Node, Service
from pycolo.node.operator import Identity, Operator
from pycolo.node.pacemaker import Pacemaker
from pycolo.node.permission import Permission
from pycolo.node.primarypath import PrimaryPath
from pycolo.node.prober import Prober
from pycolo.node.servicemanager import Notifier
from pycolo.node.takeovers import Takeovers, takeovers_file
from pycolo.transport.linksetup import Address, Established, dial
from pycolo.vm.checking import Checking
from pycolo.vm.coldstart import ColdStart
from pycolo.vm.guest import VmGuest
from pycolo.vm.host import NodeHost
from pycolo.vm.memory import freeze_heap
from pycolo.vm.nodeoptions import node_options
from pycolo.vm.operator import VmOperator
from pycolo.vm.otherpaths import OtherPaths
from pycolo.vm.page import Page
from pycolo.vm.pausable import PausableGuest
from pycolo.vm.recordkeeper import StateKeeper
from pycolo.vm.services import Metrics, ServiceManager
from pycolo.vm.sides import RoleSides
from pycolo.vm.statefile import NodeRecord, StateFile
from pycolo.vm.streamorders import StreamOrders
from pycolo.vm.switchover import Switchover

PASSING: Final = frozenset({State.COMMITTING, State.CONFIRMED})
"""Lines about these are for debugging: they last for milliseconds, or say nothing that a user can use."""

GUARDED: Final = frozenset({State.SECONDARY_WAITING, State.SECONDARY_LINKED, State.PRIMARY_EMPTY})
"""This host has no guest, and the other one's images are newer, or may be."""

UNCOMPARED: Final = "NEGATIVE CONTROL: this node compares nothing ([compare] enabled = false)"

log = structlog.get_logger("colo")


class VmNode:
    """What `run_node` and the log need of a node."""

    def __init__(self, node: Node, config: PairConfig, epoch: Callable[[], int]) -> None:
        self.node = node
        self._config = config
        self._epoch = epoch

    @property
    def gave_up(self) -> str:
        """Why it ended by itself, on one line."""
        return self.node.gave_up

    def log_facts(self) -> dict[str, object]:
        """What every line of a JSON log says. Any thread."""
        pair = self.node.pair
        return {"pair": self._config.pair, "role": shown_role(pair), "term": pair.term, "epoch": self._epoch()}


def shown_role(pair: Pair) -> str:
    """A node that is not on the network yet is not the primary for its user."""
    return Role.SECONDARY.value if pair.state is State.SWITCHING else pair.role.value


def settings_of(config: PairConfig) -> Settings:
    """The pair's times."""
    has_head_start = config.arbiter.kind == FencingArbiter.name
    return Settings(
        timeout_ms=config.heartbeat.timeout_ms,
        head_start_ms=config.arbiter.head_start_ms if has_head_start else 0,
        protects_by_itself=config.protect.automatic,
    )


async def make_node(config: PairConfig, notify: Notifier, file: str) -> VmNode:
    """Find this host's QEMU, and make the parts. `file`: the configuration's. Raises `ConfigError`, `ConnectError`."""
    record = StateKeeper(StateFile(config.state), NodeRecord(role=config.role))
    journal, costs = Journal(PASSING, Takeovers(takeovers_file(config.state))), Costs(costs_file(config.state))
    divergences = Divergences("checkpoint", costs.difference)
    host = NodeHost(config, record, journal, divergences, costs)
    guest = VmGuest(host)
    has_guest = await guest.find()
    now_ms = int(asyncio.get_running_loop().time() * 1000)
    pair, commands = restarted(settings_of(config), record.pair_record, has_guest=has_guest, now_ms=now_ms)
    decider = Decider(pair)
    host.decider = decider
    assembly = _Assembly(config, file, decider, record, host, guest, journal, divergences, costs)
    return assembly.node(commands, notify)


class _Assembly:
    """Makes the parts, in the order in which they need one another."""

    def __init__(
        self,
        config: PairConfig,
        file: str,
        decider: Decider,
        record: StateKeeper,
        host: NodeHost,
        guest: VmGuest,
        journal: Journal,
        divergences: Divergences,
        costs: Costs,
    ) -> None:
        self._config = config
        self._decider = decider
        self._record = record
        self._host = host
        self._guest = guest
        self._journal = journal
        self._divergences = divergences
        self._costs = costs
        guest.checkpoints.on_record = self._checkpoint_ended
        self._failovers: dict[str, int] = {}
        self._health = HealthWatch(
            decider, guest, Prober(self._primary_paths, guest.checkpoints.is_running), divergences.summarise
        )
        make_control = control_maker(
            node_options(config, hello.Role.PRIMARY), lambda: (self._pair().term, record.epoch.number)
        )
        served = {
            "status": self._other_status,
            **StreamOrders(lambda: guest.secondary).served,
            **guest.orders,
            "force": host.findings.hear_force,
        }
        self._checking = Checking(
            config, file, self._pair, lambda: guest.secondary or guest.primary, guest.disks.places, guest.domain
        )
        served["borders"] = guest.vhost.tell_counters
        served |= {"check": self._checking.tell_host, "clock": self._checking.tell_clock}
        self._links = Links(
            self._pair, make_control, decider.tell, served, record.epoch.meet, cards=max(1, len(config.card))
        )
        self._switchover = Switchover(decider, self._links, guest, config.arbiter.kind)
        served["switchover"] = self._switchover.asked
        self._runner: ArbiterRunner
        self._pacemaker = _pacemaker(config, decider)
        self._permission = Permission(self._make_runner, decider.tell, lambda: self._pair().term)
        self._gate = Gate(self._links.trusted_until_ns, self._permission.serve_until_ns)
        self._paths: OtherPaths
        self._sides = RoleSides(
            config, self._pair, lambda: record.epoch.number, self._links, secrets.randbits(64) | 1, self._path_made
        )
        addresses = (config.link.peer, *config.link.also_peer)
        dials = [partial(self._dial_path, address) for address in addresses]
        self._paths = OtherPaths(dials, make_control, self._pair, decider.tell)
        host.wire(self._links, self._sides, self._gate)

    def node(self, commands: Any, notify: Notifier) -> VmNode:
        """The whole node."""
        config, decider, guest, record = self._config, self._decider, self._guest, self._record
        parts = Parts(guest, self._links, self._permission, record, self._sides, self._paths, Leasing(self._runner))

        def epoch() -> int:
            return record.epoch.number

        identity = Identity(config.pair, lambda: shown_role(self._pair()), epoch, config.heartbeat.timeout_ms)
        health = self._health
        operator = Operator(
            identity,
            decider,
            guest,
            self._links,
            self._permission,
            self._journal,
            self._divergences,
            health,
            self._costs,
        )
        vm_operator = VmOperator(
            operator,
            decider,
            guest,
            self._links,
            self._divergences,
            self._journal,
            self._failovers,
            config.pair,
            health,
            self._host.findings,
            self._checking,
            ColdStart(decider, self._paths, lambda: operator.cluster, guest.disks.settling.require_whole),
            self._switchover,
        )
        does = Commands(parts, decider.tell, epoch, operator.refused)
        does.on_protect_ended = vm_operator.protect_ended
        services: list[Service] = [
            self._paths,
            health,
            self._costs,
            self._journal.takeovers,
            ControlServer(config.control.socket, vm_operator.request, config.control.mode, config.control.group),
        ]
        if config.metrics is not None:
            page = Page(vm_operator.status, self._costs, self._journal)
            services.insert(0, Metrics(config.metrics, vm_operator.own_status, page.shown))
        services.append(ServiceManager(notify, lambda: f"{self._pair().role}, {self._pair().shown}", guest.answers))
        given = Given(commands, "" if config.compare.enabled else UNCOMPARED, services, record.close)
        node = Node(decider, parts, self._sides, self._gate, self._journal, operator, does, given, self._changed)
        self._host.failed = node.failed
        self._guard_images(self._pair())
        if self._pacemaker is not None:
            operator.cluster = self._pacemaker.join(node, self._permission, PausableGuest(guest, self._host))
        return VmNode(node, config, epoch)

    def _pair(self) -> Pair:
        return self._decider.pair

    def _make_runner(self, on_change: Callable[[], None]) -> ArbiterRunner:
        config = self._config
        if self._pacemaker is not None:
            self._runner = self._pacemaker.run(on_change)
            return self._runner
        self._runner = make(
            config.arbiter,
            pair=config.pair,
            role=lambda: self._pair().role.value,
            peer=config.link.peer.host,
            identity=f"{gethostname()} {config.link.listen}",
            term=self._pair().term,
            apart_ms=config.heartbeat.timeout_ms,
            on_change=on_change,
        )
        return self._runner

    def _path_made(self, made: Established) -> None:
        self._paths.accepted(made)

    def _dial_path(self, address: Address) -> Established:
        """In a thread of its own."""
        sides = self._sides
        return dial(address, sides.hello(Channel.PATH), sides.client_context(), interface=sides.interface(address))

    async def _other_status(self, arguments: Any) -> dict[str, Any]:
        return await self._guest.guest_status()

    def _primary_paths(self) -> Sequence[PrimaryPath]:
        side = self._guest.primary
        return side.paths.comparing if side is not None else []

    def _checkpoint_ended(self, record: CheckpointRecord) -> None:
        self._costs.checkpoint(record)
        self._health.checkpoint(record)

    def _guard_images(self, pair: Pair) -> None:
        """A secondary's domain that has no guest is not to be started by hand."""
        if self._guest.domain is not None and self._config.disks is not None:
            self._guest.domain.guard.set(is_guarded=pair.state in GUARDED)

    def _changed(self, fact: Fact | None, before: Pair, after: Pair) -> None:
        self._guard_images(after)
        self._health.changed(fact, before, after)
        is_failover = before.state is not State.RELIEVING
        if is_failover and fact is Fact.GRANTED and after.state in (State.GOING_ALONE, State.TAKING_OVER):
            kind = "take-over" if after.state is State.TAKING_OVER else "go-alone"
            self._failovers[kind] = self._failovers.get(kind, 0) + 1
        if after.state in (State.ALONE, State.SERVING):
            self._journal.done()
        is_outdated = after.state is State.RETIRING and after.term > before.term
        if is_outdated and before.state is not State.HANDING_OVER:
            config = self._config
            timeout_ms, option = config.heartbeat.timeout_ms, "heartbeat.timeout_ms in both files"
            self._journal.is_outdated = True
            if advice := self._journal.advice(config.arbiter.kind, timeout_ms, option):
                log.warning(advice)


def _pacemaker(config: PairConfig, decider: Decider) -> Pacemaker | None:
    """None: another arbiter."""
    arbiter = config.arbiter
    if arbiter.kind != PacemakerArbiter.name:
        return None
    assert arbiter.node is not None, "checked with the file"
    return Pacemaker(arbiter.node, config.link.peer, arbiter.head_start_ms, decider)


async def run_node(config: PairConfig, file: str, notify: Notifier, on_node: Callable[[VmNode], None]) -> int:
    """Run until SIGINT or SIGTERM, or until the node ends by itself; the process's exit code.

    `file`: the configuration's, for the check of both hosts.
    """
    freeze_heap()
    made = await make_node(config, notify, file)
    on_node(made)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, made.node.stop, number.name)
    return await made.node.run()
