"""The link of a node whose role may change: two ways to come to it, three connections on it.

Knows nothing of guests. What follows from a link that is there or lost is its subclass's (`pycolo.vm.node`).
"""

import asyncio
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any, Final

import msgspec
import structlog

from pycolo.arbiters import ArbiterRunner
from pycolo.config import PairConfig
from pycolo.errors import ConfigError, ConnectError, LinkError, PeerError, PycoloError
from pycolo.link.codec import Channel, GoodbyeReason
from pycolo.link.hello import Hello, Role
from pycolo.link.orders import JsonObject
from pycolo.node.linksides import DialingSide, ListeningSide
from pycolo.node.options import NodeOptions
from pycolo.node.supervisor import NodeState, Supervisor
from pycolo.transport import tls
from pycolo.transport.linksetup import Established, RawLink, dial
from pycolo.transport.linksocket import LinkSocket
from pycolo.vm.questions import ANSWER_TIMEOUT_S, Questions

PROBE_PAUSE_S: Final = 1.0
"""A primary without a link asks the other node's address so often whether somebody serves there."""

log = structlog.get_logger("colo")


class LinkedNode(Supervisor):
    """Base of `VmNode`: the link."""

    def __init__(self, config: PairConfig, options: NodeOptions) -> None:
        self.config = config
        super().__init__(options)
        self.questions = Questions(self._send_order, self._ordered)
        self._link_data: LinkSocket | None = None
        self._listening: ListeningSide | None = None
        self._dialing: DialingSide | None = None
        self._migration_link: asyncio.Future[RawLink] | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def role(self) -> Role:
        """The role that this node has now."""
        return self.options.role

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """For other threads."""
        return self._loop

    async def _ordered(self, order: str, arguments: JsonObject) -> JsonObject:
        """Do what the other node asks."""
        raise NotImplementedError

    # ── work in the background ────────────────────────────────────────────────────────────────────────────────

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Have something done in the background; a failure is one line in the log."""
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done_with)

    def _done_with(self, task: "asyncio.Task[None]") -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            if isinstance(error, PycoloError):
                log.error(str(error))
            else:
                log.critical("this is a bug", exc_info=error)

    @property
    def call(self) -> Any:
        """For other threads: `call(function, *arguments)` has it done in asyncio's."""
        return self._call

    async def _end_tasks(self) -> None:
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    # ── both ways to the link ─────────────────────────────────────────────────────────────────────────────────

    def _open_sides(self) -> None:
        """Listen as primary, dial as secondary."""
        context, interface = self._security()
        if self.role is Role.PRIMARY:
            self._listening = ListeningSide(self.options.link, context, interface, self.hello, self._made, self._call)
        else:
            self._dialing = DialingSide(
                self.options.link, context, interface, self._hello_for, self._is_free, self._dialed
            )

    def _security(self) -> tuple[Any, str | None]:
        """(TLS context or None, interface to bind to or None) for the present role."""
        if self.options.tls is not None:
            make = tls.server_context if self.role is Role.PRIMARY else tls.client_context
            return make(self.options.tls, self.options.pair), None
        interface = tls.check_plaintext_allowed(
            self.options.link.host, insecure=self.options.insecure, allowed_link=self.options.insecure_link
        )
        return None, interface

    async def _close_sides(self) -> None:
        for side in (self._listening, self._dialing):
            if side is not None:
                await side.close()
        self._listening = self._dialing = None

    def _hello_for(self, channel: Channel, peer_instance: int) -> Hello:
        self._peer_instance = peer_instance
        return self.hello(channel)

    def _is_free(self) -> bool:
        return self.is_in(NodeState.WAITING) or (self.is_in(NodeState.SUSPECT) and self._control is None)

    def _dialed(self, link: Established, data: Established) -> None:
        self._close_control(GoodbyeReason.REPLACED, "a new connection replaces this one")
        self._data = None
        self._bind(Channel.CONTROL, link)
        self._bind(Channel.DATA, data)

    def _made(self, made: Established) -> None:
        """The secondary has connected."""
        if isinstance(made.link, RawLink):
            waiting = self._migration_link
            if waiting is None or waiting.done():
                made.link.close()
            else:
                waiting.set_result(made.link)
            return
        self._bind(made.theirs.channel, made)

    # ── what goes over it ─────────────────────────────────────────────────────────────────────────────────────

    def take_data_link(self) -> LinkSocket:
        """The data connection, for the path. Raises `PeerError` when there is none."""
        link, self._link_data = self._link_data, None
        if link is None:
            raise PeerError("the other node is not linked")
        return link

    def trusted_until_ns(self) -> int:
        """Up to when the other node certainly has not taken over; 0 without a control connection. Any thread."""
        channel = self._control
        trusted_ns = channel.trusted_until_ns if channel is not None else 0
        bound_ns = self._arbiter.serve_until_ns() if isinstance(self._arbiter, ArbiterRunner) else None
        return trusted_ns if bound_ns is None else min(trusted_ns, bound_ns)

    def expect_migration_link(self) -> "asyncio.Future[RawLink]":
        """The other node will open it."""
        self.forget_migration_link()
        self._migration_link = self._loop.create_future()
        return self._migration_link

    def forget_migration_link(self) -> None:
        """Nobody waits for it any more."""
        waiting, self._migration_link = self._migration_link, None
        if waiting is not None and not waiting.done():
            waiting.cancel()

    def dial_raw(self, channel: Channel) -> RawLink:
        """Open the migration connection to the primary; blocks. Raises `ConnectError`, `LinkError`."""
        assert self._dialing is not None
        made = self._dialing.connect(self.hello(channel))
        assert isinstance(made.link, RawLink)
        return made.link

    def _send_order(self, payload: bytes) -> None:
        channel = self._control
        if channel is None:
            raise PeerError("the other node is not linked")
        channel.order(payload)

    async def ask_peer(
        self, order: str, arguments: JsonObject | None = None, timeout_s: float = ANSWER_TIMEOUT_S
    ) -> JsonObject:
        """Ask the other node. Raises `PeerError`."""
        return await self.questions.ask(order, arguments, timeout_s)

    async def _look_for_higher_term(self) -> None:
        """A primary without a link asks whether the other serves: it may be the one that was away."""
        while True:
            await asyncio.sleep(PROBE_PAUSE_S)
            if self.role is not Role.PRIMARY or self._control is not None:
                continue
            if not self.is_in(NodeState.WAITING, NodeState.SUSPECT, NodeState.ALONE):
                continue
            with suppress(ConnectError, LinkError, ConfigError):
                await self._ask_term()

    async def _ask_term(self) -> None:
        peer = self.config.link.peer
        hello = msgspec.structs.replace(self.hello(Channel.CONTROL), role=Role.SECONDARY, peer_instance=0)
        context = tls.client_context(self.options.tls, self.options.pair) if self.options.tls is not None else None
        interface = self._security()[1]
        made = await asyncio.to_thread(dial, peer, hello, context, interface=interface)
        made.link.close()
        if made.welcome.term > self.term and self.role is Role.PRIMARY and self._control is None:
            self.term = made.welcome.term
            self._fenced(f"the other node serves under term {self.term}")

    def _unlink(self) -> None:
        """Forget the other node's connections."""
        self._unbind()
        if self._link_data is not None:
            self._link_data.close()
            self._link_data = None

    def _form_anew(self, text: str) -> None:
        """The connections have served for something that failed: new ones."""
        self._close_control(GoodbyeReason.OTHER, text)
        self._unlink()
        self._enter(NodeState.WAITING, text)
