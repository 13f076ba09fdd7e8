"""Where the links of a node whose role changes come from: it always listens, and as the secondary it dials as well.

It listens in either role, since a node in doubt asks the other one what it does (`pycolo.vm.otherpaths`). Where a node
listens it shows the primary's certificate, where it dials the secondary's, whatever its role.
"""

import asyncio
import ssl
from collections.abc import Callable
from typing import Final

import msgspec
import structlog

from pycolo import __version__
from pycolo.config import PairConfig
from pycolo.errors import PeerError, PycoloError
from pycolo.failover import pairstates
from pycolo.failover.pair import Pair
from pycolo.link.codec import Channel
from pycolo.link.hello import ORDERING, PROTOCOL_LOWEST, PROTOCOL_VERSION, Hello, Role
from pycolo.node.links import Links
from pycolo.node.linksides import DialingSide, ListeningSide
from pycolo.node.loopcall import LoopCall
from pycolo.node.ownside import dials
from pycolo.transport import tls
from pycolo.transport.linksetup import Address, Established, RawLink

RETRY_S: Final = 1.0
"""Pause before another attempt to begin dialing: a certificate that has expired may be replaced."""

log = structlog.get_logger("colo")


class RoleSides:
    """`instance`: of this process, drawn at random. `on_path` gets the connections on which the other node asks."""

    def __init__(
        self,
        config: PairConfig,
        pair: Callable[[], Pair],
        epoch: Callable[[], int],
        links: Links,
        instance: int,
        on_path: Callable[[Established], None],
    ) -> None:
        self._config = config
        self._cards = max(1, len(config.card))
        self._pair = pair
        self._epoch = epoch
        self._links = links
        self._instance = instance
        self._on_path = on_path
        self._call = LoopCall()
        self._loop = asyncio.get_running_loop()
        self._listening: list[ListeningSide] = []
        self._dialing: DialingSide | None = None
        self._expected: dict[Channel, asyncio.Future[RawLink]] = {}
        self._is_closed = False
        self._tasks: set[asyncio.Task[None]] = set()

    # ── both ways to a link ─────────────────────────────────────────────────────────────────────────────────

    def become(self, role: pairstates.Role) -> None:
        """Dial as the secondary, do not dial as the primary. The first call raises `ConnectError`, `ConfigError`."""
        if not self._listening:
            self._listen()
        if role is pairstates.Role.SECONDARY and self._dialing is None:
            self._dial()
        elif role is pairstates.Role.PRIMARY and self._dialing is not None:
            dialing, self._dialing = self._dialing, None
            self._spawn(dialing)

    def _listen(self) -> None:
        link = self._config.link
        context = tls.server_context(link.tls, self._config.pair) if link.tls is not None else None
        for address in (link.listen, *link.also_listen):
            interface = self.interface(address)
            self._listening.append(ListeningSide(address, context, interface, self.hello, self._made, self._call))

    def _dial(self) -> None:
        peer = self._config.link.peer
        try:
            context, interface = self.client_context(), self.interface(peer)
        except PycoloError as error:
            log.error(str(error))
            self._loop.call_later(RETRY_S, self._dial_again)
            return
        self._dialing = DialingSide(
            peer, context, interface, self._hello_to, self._is_wanted, self._links.dialed, self._cards
        )

    def _dial_again(self) -> None:
        if self._dialing is None and self._pair().role is pairstates.Role.SECONDARY and not self._is_closed:
            self._dial()

    def client_context(self) -> ssl.SSLContext | None:
        """For connections that this node opens; None: plain text. Raises `ConfigError`."""
        link = self._config.link
        return tls.client_context(link.tls, self._config.pair) if link.tls is not None else None

    def interface(self, address: Address) -> str | None:
        """The interface that a connection to or at `address` is bound to. Raises `ConfigError`."""
        link = self._config.link
        if link.tls is not None:
            return None
        allowed = link.insecure_link
        return tls.check_plaintext_allowed(address.host, insecure=link.insecure, allowed_link=allowed, names=tls.KEYS)

    def _is_wanted(self) -> bool:
        return dials(self._pair())

    def _made(self, made: Established) -> None:
        if isinstance(made.link, RawLink):
            waiting = self._expected.get(made.theirs.channel)
            if waiting is None or waiting.done():
                made.close()
            else:
                waiting.set_result(made.link)
        elif made.theirs.channel is Channel.PATH:
            self._on_path(made)
        else:
            self._links.accepted(made)

    async def close(self) -> None:
        """No further link."""
        self._is_closed = True
        for channel in list(self._expected):
            self.forget_link(channel)
        if self._dialing is not None:
            await self._dialing.close()
        for side in self._listening:
            await side.close()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _spawn(self, dialing: DialingSide) -> None:
        task = self._loop.create_task(dialing.close())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # ── raw connections ────────────────────────────────────────────────────────────────────────────────────

    def expect_link(self, channel: Channel) -> "asyncio.Future[RawLink]":
        """The other node is about to open one."""
        self.forget_link(channel)
        self._expected[channel] = arrival = self._loop.create_future()
        return arrival

    def forget_link(self, channel: Channel) -> None:
        """It is not expected any more."""
        waiting = self._expected.pop(channel, None)
        if waiting is not None and not waiting.done():
            waiting.cancel()

    def dial_raw(self, channel: Channel) -> RawLink:
        """Open a raw connection to the primary; blocks. Raises `ConnectError`, `LinkError`, `PeerError`."""
        dialing = self._dialing
        if dialing is None:
            raise PeerError("this node is not the secondary")
        made = dialing.connect(self.hello(channel))
        assert isinstance(made.link, RawLink)
        return made.link

    # ── what it says of itself ──────────────────────────────────────────────────────────────────────────────

    def hello(self, channel: Channel) -> Hello:
        """What this node says of itself; called in other threads too."""
        pair = self._pair()
        return Hello(
            protocol=PROTOCOL_LOWEST,
            highest=PROTOCOL_VERSION,
            program=f"pycolo {__version__}",
            pair=self._config.pair,
            role=Role(pair.role.value),
            channel=channel,
            term=pair.term,
            epoch=self._epoch(),
            features=frozenset(self._features()),
            instance=self._instance,
            peer_instance=self._links.bound_instance,
        )

    def _features(self) -> list[str]:
        cards = len(self._config.card)
        wiring = [f"cards={cards}"] if cards else []
        return [ORDERING, "vnet_hdr=0", f"heartbeat_timeout={self._config.heartbeat.timeout_ms}", *wiring]

    def _hello_to(self, channel: Channel, peer_instance: int) -> Hello:
        return msgspec.structs.replace(self.hello(channel), peer_instance=peer_instance)
