"""`colo node`: a node of a pair whose guests are QEMU's, and everything that may be asked of it."""

import asyncio
import signal
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

import msgspec
import structlog

from pycolo.config import PairConfig
from pycolo.errors import ConnectError, PeerError, PycoloError, StateError
from pycolo.failover.arbiter import Decision
from pycolo.failover.plans import PREPARE_SECONDARY, PROTECT, UNPROTECT
from pycolo.link.hello import Role
from pycolo.link.orders import JsonObject
from pycolo.metrics.server import MetricsServer
from pycolo.node.control import Answer
from pycolo.node.servicemanager import Notifier
from pycolo.node.supervisor import NodeState
from pycolo.vm.memory import freeze_heap
from pycolo.vm.secondaryguest import SecondaryGuest
from pycolo.vm.survivingnode import SurvivingNode

STATUS_S: Final = 1.0
"""The other guest's facts for `colo status`."""

ACQUIRE_S: Final = 10.0
"""For the arbiter's permission to begin; nobody waits but the operator."""

STOP_S: Final = 10.0
"""For the last unprotect; service managers wait for half a minute or more."""

RELINK_S: Final = 2.0
"""Ten of the secondary's attempts to form the link anew."""

LOOK_S: Final = 0.02

log = structlog.get_logger("colo")


class VmNode(SurvivingNode):
    """Runs until `stop`."""

    _metrics: MetricsServer | None = None
    _is_stopping = False

    # ── the end ───────────────────────────────────────────────────────────────────────────────────────────────

    def stop(self, why: str) -> None:
        """End in order. A primary takes the protection away first: without this node its guest would be cut off."""
        if self.role is Role.PRIMARY and self.is_in(NodeState.PROTECTED) and not self._is_stopping:
            self._is_stopping = True
            self.spawn(self._unprotect_and_stop(why))
        else:
            super().stop(why)

    async def _unprotect_and_stop(self, why: str) -> None:
        log.info("taking the protection away before the end", why=why)
        try:
            await asyncio.wait_for(self.unprotect(), STOP_S)
        except (PycoloError, TimeoutError) as error:
            log.error(f"the guest stays cut off until this node is back: {str(error) or 'no end in time'}")
        super().stop(why)

    # ── protect and unprotect ─────────────────────────────────────────────────────────────────────────────────

    async def protect(self) -> None:
        """`colo protect`. Raises `PycoloError`."""
        side = self.primary
        if side is None:
            raise StateError("protect", "secondary", "primary: ask the other node")
        if self._plan_lock.locked():  # it is going alone just now, and forms the link anew behind that
            async with self._plan_lock:
                pass
            await self._wait_for_link()
        if not self.is_in(NodeState.LINKED):
            raise StateError("protect", self.state.value, "linked (is the other node running?)")
        if not side.machine.is_there:
            raise ConnectError(f"no guest to protect: nobody answers at qemu.qmp {self.config.qemu.qmp}")
        await self._acquire()
        self._enter(NodeState.PROTECTING, "protecting")
        try:
            await self._run(PROTECT, side.protect_handlers())
        except BaseException:
            if not self.is_in(NodeState.PROTECTED, NodeState.SUSPECT):
                self.save(was_protected=False)
            if self.is_in(NodeState.PROTECTING):
                self._form_anew("protecting has failed")
            raise
        if not self.is_in(NodeState.PROTECTED, NodeState.SUSPECT):
            raise PeerError(f"the pair broke while it was being protected: this node is {self.state.value}")
        self.takeover = None
        self.checkpoints.arm()

    async def _acquire(self) -> None:
        """The arbiter must know who serves before there are two who could. Raises `PeerError`."""
        try:
            verdict = await asyncio.wait_for(self._live.acquire(self.term), ACQUIRE_S)
        except TimeoutError as error:
            said = self._live.verdict().text
            raise PeerError(f"arbiter {self._live.name}: no word within {ACQUIRE_S:g} s: {said}") from error
        if verdict.decision is not Decision.GRANTED:
            raise PeerError(f"arbiter {self._live.name}: {verdict.text}")
        if verdict.term > self.term:
            self.term = verdict.term
            self.save(was_protected=False)
            self._form_anew(f"the arbiter has opened term {self.term}")  # both must know it before they are a pair
            await self._wait_for_link()
        if not self.is_in(NodeState.LINKED):
            raise PeerError("the link to the other node was lost; try again when it is there")

    async def _wait_for_link(self) -> None:
        """What follows may need it: the other node dials again at once."""
        for _ in range(int(RELINK_S / LOOK_S)):
            if self.is_in(NodeState.LINKED):
                return
            await asyncio.sleep(LOOK_S)

    async def unprotect(self) -> None:
        """`colo unprotect`. Raises `PycoloError`."""
        side = self.primary
        if side is None:
            raise StateError("unprotect", "secondary", "primary: ask the other node")
        if self.is_in(NodeState.PROTECTED):
            await self._give_up_secondary()
        elif not self.is_in(NodeState.LINKED, NodeState.WAITING, NodeState.ALONE, NodeState.SERVING):
            raise StateError("unprotect", self.state.value, "protected or unprotected")
        self.checkpoints.disarm("unprotect")
        try:
            await self._run(UNPROTECT, side.alone_handlers())
        finally:
            self.save(was_protected=False)
            if self.is_in(NodeState.PROTECTING):
                self._form_anew("unprotected")
                await self._wait_for_link()

    async def _give_up_secondary(self) -> None:
        """Only with its word: see `ask_peer`'s errors. Raises `PeerError`, `StateError`."""
        self._is_dissolving = True
        try:
            await self.ask_peer("discard")
        finally:
            self._is_dissolving = False
        if not self.is_in(NodeState.PROTECTED):
            raise StateError("unprotect", self.state.value, "protected: the pair broke meanwhile")
        self._enter(NodeState.PROTECTING, "taking the protection away")

    # ── orders ────────────────────────────────────────────────────────────────────────────────────────────────

    async def _ordered(self, order: str, arguments: JsonObject) -> JsonObject:
        match order, self.role:
            case "status", _:
                return await self._guest_status()
            case "prepare", Role.SECONDARY:
                return await self._prepare(int(arguments.get("epoch", 0)))
            case "open-relay", Role.SECONDARY:
                if self.secondary is None:
                    raise StateError("open-relay", "nothing prepared", "prepared")
                return await self.secondary.open_relay()
            case "protected", Role.SECONDARY:
                if self.is_in(NodeState.PROTECTING):
                    self._enter(NodeState.PROTECTED, "the pair is protected")
                    self.save(was_protected=True)
                return {}
            case "discard", Role.SECONDARY:
                if self.is_in(NodeState.TAKING_OVER, NodeState.SERVING, NodeState.FENCED) or self._is_leaving:
                    raise StateError("discard", self.state.value, "a secondary")
                if self._live.is_acting:
                    raise StateError("discard", "its arbiter acts", "a secondary whose arbiter does not")
                if self.is_in(NodeState.PROTECTED, NodeState.PROTECTING, NodeState.SUSPECT):
                    self._live.paired(self.term)  # from here on no permission means anything
                    self._enter(NodeState.LINKED, "the primary goes on alone")
                await self._discard_guest("the primary says so")
                return {}
            case "gone", Role.PRIMARY:
                why = str(arguments.get("why", ""))
                if self.is_in(NodeState.PROTECTING) and self.primary is not None:
                    self.primary.peer_gone(why)  # the plan that is at work fails by it
                else:
                    self.spawn(self._go_alone(why, NodeState.LINKED))
                return {}
            case "resign", Role.PRIMARY:
                self.check_can_resign()
                self.spawn(self._resign("the operator wants the other node to serve"))
                return {}
        raise StateError(f"order {order}", self.role.value, "the other role")

    async def _prepare(self, epoch: int) -> JsonObject:
        """Start the secondary's guest."""
        if not self.is_in(NodeState.LINKED):
            raise StateError("prepare", self.state.value, "linked")
        await self._discard_guest("a new one is prepared")
        if not self.is_in(NodeState.LINKED):
            raise StateError("prepare", self.state.value, "linked")
        self._enter(NodeState.PROTECTING, "preparing the secondary's guest")
        self.pair_epoch.meet(epoch)
        self.secondary = side = SecondaryGuest(self)
        try:
            await self._run(PREPARE_SECONDARY, side.prepare_handlers())
        except BaseException:
            self.secondary = None
            if self.is_in(NodeState.PROTECTING):
                state = NodeState.LINKED if self._control is not None else NodeState.WAITING
                self._enter(state, "preparing has failed")
            raise
        self.save(was_protected=False)
        facts = msgspec.to_builtins(side.facts)
        return {"facts": facts, "version": side.machine.version, "epoch": self.epoch}

    def log_facts(self) -> dict[str, object]:
        """What every line of a JSON log says. Any thread."""
        return {"pair": self.config.pair, "role": self.role.value, "term": self.term, "epoch": self.epoch}

    # ── questions ─────────────────────────────────────────────────────────────────────────────────────────────

    async def _request(self, request: dict[str, Any]) -> Answer:
        try:
            match request["command"]:
                case "status":
                    return await self.status()
                case "protect":
                    await self.protect()
                case "unprotect":
                    await self.unprotect()
                case "checkpoint":
                    return await self._checkpoint()
                case "explain":
                    return {"divergences": list(self._divergences.records), "checkpoint": self.checkpoints.status()}
                case "failover":
                    return await self._failover()
                case other:
                    known = "status, protect, unprotect, checkpoint, failover and explain"
                    return {"error": f"unknown command {other!r}; known are {known}"}
        except PycoloError as error:
            return {"error": str(error)}
        return {"state": self.state.value, "epoch": self.epoch, "term": self.term}

    async def _checkpoint(self) -> Answer:
        if not self.is_in(NodeState.PROTECTED) or self.role is not Role.PRIMARY:
            where = "the primary's node" if self.role is Role.SECONDARY else self.state.value
            raise StateError("checkpoint", where, "a protected pair, asked at the primary's node")
        return await self.checkpoints.operator_checkpoint()

    async def _failover(self) -> Answer:
        """The operator wants this node to serve. A primary that lives is asked to stop first."""
        if self.role is Role.SECONDARY and self.is_in(NodeState.PROTECTED) and self._control is not None:
            with suppress(PeerError):
                await self.ask_peer("resign", timeout_s=STATUS_S)
                for _ in range(200):
                    if self.primary is not None:  # it serves, and may be linked again already
                        return {"state": NodeState.SERVING.value, "term": self.term}
                    await asyncio.sleep(0.01)
        if self.is_in(NodeState.TAKING_OVER):
            return {"state": self.state.value, "term": self.term}
        return self._confirmed()

    async def _guest_status(self) -> JsonObject:
        side = self.secondary or self.primary
        if side is None:
            return {"qmp": "absent", "version": "", "status": None, "colo": None, "pid": None}
        return await side.machine.status()

    async def own_status(self) -> Answer:
        """What this node knows by itself: for metrics, which must not wait for the other node."""
        return {
            **await super().status(),
            "vm": await self._guest_status(),
            "checkpoint": self.checkpoints.status(),
            "plan": self._plan.to_status() if self._plan is not None else None,
            "failovers": self.failovers,
            "link_up": self._control is not None,
        }

    async def status(self) -> Answer:
        """What `colo status` shows."""
        other = None
        if self._control is not None and not self.is_in(NodeState.WAITING, NodeState.SUSPECT):
            with suppress(PeerError):
                other = await self.ask_peer("status", timeout_s=STATUS_S)
        return {**await self.own_status(), "other_vm": other}

    # ── life ───────────────────────────────────────────────────────────────────────────────────────────────

    async def _begin(self) -> None:
        if self.config.metrics is not None:
            self._metrics = MetricsServer(self.config.metrics.listen, self.own_status)
            await self._metrics.start()
            log.info("metrics", url=f"http://{self._metrics.address}/metrics")
        await super()._begin()
        self._notify.ready(f"{self.role.value}, {self.state.value}")
        self.spawn(self._keep_watchdog())

    async def _keep_watchdog(self) -> None:
        """systemd hears that the loop turns and the data path answers."""
        interval_s = self._notify.watchdog_interval_s
        while interval_s is not None:
            with suppress(TimeoutError):
                await asyncio.wait_for(asyncio.wrap_future(self.path.ask(lambda: None)), interval_s)
                self._notify.alive()
            await asyncio.sleep(interval_s)

    async def _end(self) -> None:
        if self._metrics is not None:
            await self._metrics.close()
        await super()._end()


async def run_node(config: PairConfig, notify: Notifier, on_node: Callable[[VmNode], None] = lambda node: None) -> int:
    """Run until SIGINT or SIGTERM, or until the node ends by itself; the process's exit code."""
    freeze_heap()
    node = VmNode(config, notify)
    on_node(node)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, node.stop, number.name)
    return await node.run()
