"""One node's life, in the main thread: ::

    primary      WAITING ─────► PROTECTED ─────► SUSPECT ─────► ALONE ──(a new secondary)──► PROTECTED
    secondary    WAITING ─────► PROTECTED ─────► SUSPECT ─────► SERVING
                    ▲               │               │  ▲
                    └── goodbye ────┴── heard again ┘  └── silence, or the control connection is lost
    either       any ──(the other serves under a higher term)──► FENCED: this node ends

A suspicion is no permission: the arbiter turns it into one. While it has not, the primary holds what it holds and the
secondary keeps what its guest sends. A lost *data* connection alone is no suspicion at all, for the other node's heart
still beats: who notices it says goodbye, and the pair is formed anew. Everything here runs in asyncio's thread; other
threads' news arrives through `_call`.

**A primary that was stopped and wakes up** (SIGSTOP, a swapped-out host) may find that the secondary has taken over
meanwhile, and must let nothing out before it knows. No thread can count on running first, so the data path itself
checks before each write whether the secondary has confirmed a heartbeat that is younger than the time-out: so long it
cannot have given this node up. Heartbeats confirm one another (`transport.controlchannel`), both nodes must have the
same time-out (their hellos say so), and in SUSPECT the same check holds everything back. It does not see a host whose
CLOCK_MONOTONIC stood still as well (a paused virtual machine): that takes an arbiter that fences.
"""

import asyncio
import secrets
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import suppress
from enum import StrEnum
from time import monotonic_ns
from typing import Any

import structlog

from pycolo import __version__
from pycolo.arbiters import ArbiterRunner
from pycolo.errors import PycoloError
from pycolo.failover.arbiter import Arbiter, Decision, make_arbiter
from pycolo.link.codec import Channel, GoodbyeReason
from pycolo.link.hello import PROTOCOL_VERSION, Hello
from pycolo.node.control import Answer, ControlServer
from pycolo.node.datapath import DataPath
from pycolo.node.divergences import Divergences
from pycolo.node.nopath import NoPath
from pycolo.node.options import NodeOptions
from pycolo.transport import controlchannel as control
from pycolo.transport.controlchannel import SWITCH_INTERVAL_S, ControlChannel, ControlEvent
from pycolo.transport.linksetup import Established
from pycolo.transport.linksocket import LinkSocket
from pycolo.transport.ports import Port, open_device
from pycolo.transport.portspec import PortSpec
from pycolo.transport.streamport import StreamPort

log = structlog.get_logger("colo")


class NodeState(StrEnum):
    """See the module's picture. LINKED and PROTECTING: the nodes talk, but there is no pair (`pycolo.vm.node`).

    TAKING_OVER: the arbiter agreed, and what it takes to serve is not done yet (`pycolo.vm.survivingnode`).
    """

    WAITING = "waiting"
    LINKED = "linked"
    PROTECTING = "protecting"
    PROTECTED = "protected"
    SUSPECT = "suspect"
    ALONE = "alone"
    TAKING_OVER = "taking-over"
    SERVING = "serving"
    FENCED = "fenced"


PortOpener = Callable[[PortSpec, str], Port]
"""Opens a port, given what the user wrote and the option it was written for (`--lan`, `--guest`)."""


def open_port(spec: PortSpec, option: str) -> Port:
    """A device or a stream. Raises `ConnectError`."""
    return open_device(spec, option) if spec.kind.is_device else StreamPort(spec, option)


class Supervisor(ABC):
    """Base of both roles. `run` returns the process's exit code."""

    path: DataPath | NoPath

    def __init__(self, options: NodeOptions) -> None:
        self.options = options
        self.state = NodeState.WAITING
        self.since_ns = monotonic_ns()
        self.term = 0
        self.peer: str | None = None
        self.instance = secrets.randbits(64) | 1
        self.takeover: dict[str, int] | None = None
        self._peer_instance = 0
        self._control: ControlChannel | None = None
        self._data: LinkSocket | None = None
        self._arbiter: Arbiter | ArbiterRunner = self._make_arbiter()
        self._arbiter_timer: asyncio.TimerHandle | None = None
        self._data_timer: asyncio.TimerHandle | None = None
        self._divergences = Divergences(options.on_divergence.name.lower())
        self._suspected_ns = 0
        self._exit_code = 0
        self.gave_up = ""
        """Why it ended by itself, on one line."""
        self._done = asyncio.Event()
        self._loop = asyncio.get_running_loop()

    # ── life ──────────────────────────────────────────────────────────────────────────────────────────────────

    async def run(self) -> int:
        """Until `stop`, or until this node must not go on."""
        sys.setswitchinterval(SWITCH_INTERVAL_S)  # a busy data path must not hold the heart back
        server = self._control_server()
        try:
            self.path.start()
            await self._begin()
            if server is not None:
                await server.start()
            await self._done.wait()
        finally:
            if server is not None:
                await server.close()
            await self._end()
            await asyncio.to_thread(self.path.stop)
        return self._exit_code

    def _control_server(self) -> ControlServer | None:
        """Where this node is asked."""
        return ControlServer(self.options.control, self._request) if self.options.control else None

    def _make_arbiter(self) -> Arbiter | ArbiterRunner:
        """Whom to ask about the pair that is about to work together."""
        return make_arbiter(self.options.arbiter, self.term)

    @property
    def epoch(self) -> int:
        """Checkpoints count it: only a node with a QEMU makes any."""
        return 0

    def is_in(self, *states: NodeState) -> bool:
        """Whether the state is one of these now; it may be another after each await."""
        return self.state in states

    @property
    def _is_over(self) -> bool:
        """Whatever is still heard: nothing follows from it."""
        return self._done.is_set()

    def stop(self, why: str) -> None:
        """End in order: say goodbye, so that the other node does not take this for a failure."""
        log.info("stopping", why=why)
        self._finish(0)

    @abstractmethod
    async def _begin(self) -> None:
        """Listen, or begin to dial."""

    async def _end(self) -> None:
        if self._control is not None:
            channel, self._control = self._control, None
            await asyncio.to_thread(channel.close, GoodbyeReason.SHUTDOWN, "the node was stopped")
        if self._data is not None:
            self._data.close()

    def _finish(self, exit_code: int, why: str = "") -> None:
        self._exit_code = exit_code
        self.gave_up = why
        self._done.set()

    def _call(self, function: Callable[..., None], *arguments: Any) -> None:
        """From any thread: do it in asyncio's."""
        with suppress(RuntimeError):  # the loop is closed: nobody is interested any more
            self._loop.call_soon_threadsafe(function, *arguments)

    def _enter(self, state: NodeState, text: str) -> None:
        self.state = state
        self.since_ns = monotonic_ns()
        log.info(text, state=state.value, term=self.term)

    def _path_callbacks(self) -> dict[str, Any]:
        """What every data path is built with."""
        return {
            "on_link_lost": lambda text: self._call(self._data_lost, text),
            "on_note": lambda text: self._call(log.warning, text),
            "on_fatal": lambda error: self._call(self._fatal, error),
            "spin_us": self.options.spin_us,
        }

    def _fatal(self, error: BaseException) -> None:
        """The data path has ended: so does the process, without a goodbye. The recovery is the other's failover."""
        if isinstance(error, PycoloError):
            why = str(error)
            log.error(why)
        else:
            why = "the data path has failed; this is a bug"
            log.critical(why, exc_info=error)
        if self._control is not None:
            self._control = None
        self._finish(70, why)

    # ── the link ──────────────────────────────────────────────────────────────────────────────────────────────

    def hello(self, channel: Channel) -> Hello:
        """What this node says of itself; called in other threads too."""
        return Hello(
            protocol=PROTOCOL_VERSION,
            program=f"pycolo {__version__}",
            pair=self.options.pair,
            role=self.options.role,
            channel=channel,
            term=self.term,
            epoch=self.epoch,
            features=frozenset(
                {
                    f"vnet_hdr={int(self.options.has_vnet)}",
                    f"heartbeat_timeout={self.options.heartbeat_timeout_ms}",
                }
            ),
            instance=self.instance,
            peer_instance=self._peer_instance,
        )

    def _bind(self, channel: Channel, made: Established) -> None:
        """One of the two connections is there."""
        if self._is_over:
            made.link.close()
            return
        self._peer_instance = made.theirs.instance
        self.term = max(self.term, made.welcome.term)
        self.peer = made.link.stream
        if channel is Channel.DATA:
            if self._data is not None:
                self._data.close()
            self._data = made.messages
        else:
            if self._control is not None:
                self._close_control(GoodbyeReason.REPLACED, "a new connection replaces this one")
            self._control = self._make_control(made.messages)
            self._control.start()
        if self._control is not None and self._data is not None:
            self._pair()

    def _make_control(self, link: LinkSocket) -> ControlChannel:
        channel: ControlChannel

        def on_event(event: ControlEvent) -> None:
            self._call(self._heard, channel, event)

        channel = ControlChannel(
            link,
            lambda: (self.term, self.epoch),
            on_event,
            interval_ms=self.options.heartbeat_interval_ms,
            timeout_ms=self.options.heartbeat_timeout_ms,
            own_stall_ms=self.options.own_stall_ms,
        )
        return channel

    def _pair(self) -> None:
        """Both connections are there: form the pair."""
        link, self._data = self._data, None
        assert link is not None
        if self._data_timer is not None:
            self._data_timer.cancel()
            self._data_timer = None
        self._suspected_ns = 0
        self._arbiter = self._make_arbiter()
        self.takeover = None
        self.path.post(lambda: self.path.attach(link))
        self._formed()
        self._enter(NodeState.PROTECTED, "the pair is whole")

    @abstractmethod
    def _formed(self) -> None:
        """Tell the data path."""

    def _close_control(self, reason: GoodbyeReason | None, text: str = "") -> None:
        channel, self._control = self._control, None
        if channel is not None:
            self._loop.run_in_executor(None, channel.close, reason, text)

    def _unbind(self) -> None:
        """Forget the other node's connections."""
        self._peer_instance = 0
        self.peer = None
        if self._data is not None:
            self._data.close()
            self._data = None
        self.path.post(self.path.detach)

    # ── news ──────────────────────────────────────────────────────────────────────────────────────────────────

    def _heard(self, channel: ControlChannel, event: ControlEvent) -> None:
        if channel is not self._control or self._is_over:
            return  # an older connection's last words
        match event:
            case control.Suspected(at_ns=at_ns, text=text):
                self._suspect(at_ns, text)
            case control.Heard():
                self._recovered()
            case control.PeerState(term=term) | control.PeerTakeover(term=term):
                self._arbiter.term_seen(term)
                self._consult()
            case control.PeerGoodbye(text=text):
                self._control = None
                self._peer_left(text)
            case control.ChannelClosed(text=text):
                self._control = None
                self._suspect(monotonic_ns(), text)

    def _suspect(self, at_ns: int, text: str) -> None:
        if self._control is None:
            self._peer_instance = 0  # the same process may come back, or a new one
        if self.state is not NodeState.PROTECTED:
            if self.state is NodeState.WAITING:
                self._unbind()
            return
        self._suspected_ns = at_ns
        self._enter(NodeState.SUSPECT, f"the other node may be dead: {text}")
        self._arbiter.suspected(monotonic_ns() // 1_000_000)
        self._consult()

    def _recovered(self) -> None:
        if self.state is NodeState.SUSPECT:
            self._suspected_ns = 0
            self._arbiter.recovered(monotonic_ns() // 1_000_000)
            self._enter(NodeState.PROTECTED, "the other node was heard again")

    def _data_lost(self, text: str) -> None:
        """Wait for a word about the heart: with the other node's death both connections end."""
        if self._is_over:
            return
        log.warning(text)
        if self.state is NodeState.PROTECTED and self._data_timer is None:
            delay_s = self.options.heartbeat_timeout_ms / 1000
            self._data_timer = self._loop.call_later(delay_s, self._data_lost_alone)

    def _data_lost_alone(self) -> None:
        self._data_timer = None
        if self.state is not NodeState.PROTECTED or self._is_over:
            return
        text = "the data connection is lost while the other node lives; the pair is formed anew"
        self._close_control(GoodbyeReason.OTHER, text)
        self._peer_left(text)

    @abstractmethod
    def _peer_left(self, text: str) -> None:
        """The other node said goodbye (or we did): it will not serve, and is not dead."""

    # ── deciding ──────────────────────────────────────────────────────────────────────────────────────────────

    def _consult(self) -> None:
        """Ask the arbiter; again when it wants to be asked again."""
        if self._arbiter_timer is not None:
            self._arbiter_timer.cancel()
            self._arbiter_timer = None
        if self._is_over:
            return
        verdict = self._arbiter.verdict()
        if verdict.decision is Decision.GRANTED:
            if self.state in (NodeState.PROTECTED, NodeState.SUSPECT):
                self.term = verdict.term
                self.takeover = {
                    "suspected_ns": self._suspected_ns or monotonic_ns(),
                    "decided_ns": monotonic_ns(),
                }
                if self._control is not None:
                    self._control.announce_takeover(self.term, self.epoch)
                self._close_control(GoodbyeReason.OTHER, "this node serves alone now")
                self._unbind()
                self._granted(verdict.text)
        elif verdict.decision is Decision.DENIED:
            self.term = verdict.term
            self._fenced(verdict.text)
        elif (deadline_ms := self._arbiter.deadline_ms()) is not None:
            delay_s = max(0, deadline_ms - monotonic_ns() // 1_000_000) / 1000
            self._arbiter_timer = self._loop.call_later(delay_s, self._arbiter_due)

    def _arbiter_due(self) -> None:
        self._arbiter.timer_fired(monotonic_ns() // 1_000_000)
        self._consult()

    @abstractmethod
    def _granted(self, text: str) -> None:
        """This node may serve alone."""

    def _fenced(self, text: str) -> None:
        """The other node serves: this one must not, and ends."""
        self.path.post(self.path.halt)
        self._enter(NodeState.FENCED, text)
        self._finish(3, "; ".join([text, *self._if_nobody_was_dead("--heartbeat-timeout of both nodes")]))

    def _if_nobody_was_dead(self, option: str) -> list[str]:
        """A node that hears of the other's takeover lives: what to do if its host was never away."""
        if self.options.arbiter == "manual":
            return []  # an operator has said so
        timeout_ms = self.options.heartbeat_timeout_ms
        return [f"if no host was down, one was too busy for a heartbeat's {timeout_ms} ms: raise {option}"]

    # ── questions ─────────────────────────────────────────────────────────────────────────────────────────────

    async def _request(self, request: dict[str, Any]) -> Answer:
        match request["command"]:
            case "status":
                return await self.status()
            case "failover":
                return self._confirmed()
            case "divergences":
                return self._divergences.answer()
            case other:
                return {"error": f"unknown command {other!r}; known are status, divergences and failover"}

    def _confirmed(self) -> Answer:
        if self.state not in (NodeState.PROTECTED, NodeState.SUSPECT):
            return {"error": f"nothing to decide: this node is {self.state.value}"}
        log.warning("the operator confirms that the other node is down")
        self._arbiter.operator_confirmed(monotonic_ns() // 1_000_000)
        self._consult()
        return {"state": self.state.value, "term": self.term}

    def _silence_ms(self) -> int | None:
        """For how long the other node has not confirmed a heartbeat; None without one."""
        trusted_ns = self._control.trusted_until_ns if self._control is not None else 0
        if not trusted_ns:
            return None
        return max(0, (monotonic_ns() - trusted_ns) // 1_000_000 + self.options.heartbeat_timeout_ms)

    async def status(self) -> Answer:
        """What `colo status` shows."""
        snapshot = await asyncio.wrap_future(self.path.ask(self.path.snapshot))
        return {
            "role": self.options.role.value,
            "state": self.state.value,
            "since_ms": (monotonic_ns() - self.since_ns) // 1_000_000,
            "pair": self.options.pair,
            "term": self.term,
            "epoch": self.epoch,
            "peer": self.peer,
            "arbiter": {"name": self.options.arbiter, "says": self._arbiter.verdict().text},
            "version": __version__,
            "takeover": self.takeover,
            "divergences": list(self._divergences.records),
            "divergence_kinds": dict(self._divergences.kinds),
            "heartbeat_silence_ms": self._silence_ms(),
            **snapshot,
        }
