"""Where the links of `colo primary` and `colo secondary` come from: one way, for the node's whole life."""

import ssl
from collections.abc import Callable
from typing import Final

import msgspec

from pycolo import __version__
from pycolo.failover import pairstates
from pycolo.failover.pair import Pair
from pycolo.failover.pairstates import State
from pycolo.link.codec import Channel
from pycolo.link.hello import PROTOCOL_LOWEST, PROTOCOL_VERSION, Hello, Role
from pycolo.node.links import Links
from pycolo.node.linksides import DialingSide, ListeningSide
from pycolo.node.loopcall import LoopCall
from pycolo.node.options import NodeOptions
from pycolo.transport import tls

_DIALS: Final = frozenset({State.SECONDARY_WAITING, State.YIELDING, State.ASKING, State.CONFIRMED})


def dials(pair: Pair) -> bool:
    """Whether a secondary tries to reach the primary now.

    One that relieves it does so only without a link: a second one would tell the primary that it does not take over.
    """
    return pair.state in _DIALS or (pair.state is State.RELIEVING and not pair.link)


class OwnSide:
    """Listens as primary, or dials as secondary. `instance`: of this process, drawn at random."""

    def __init__(self, options: NodeOptions, pair: Callable[[], Pair], links: Links, instance: int) -> None:
        """Raises `ConfigError` for certificates or an address that cannot be used."""
        self._options = options
        self._pair = pair
        self._links = links
        self._instance = instance
        self._call = LoopCall()
        self._side: ListeningSide | DialingSide | None = None
        self._context: ssl.SSLContext | None = None
        self._interface: str | None = None
        if options.tls is None:
            self._interface = tls.check_plaintext_allowed(
                options.link.host, insecure=options.insecure, allowed_link=options.insecure_link
            )
        elif options.role is Role.PRIMARY:
            self._context = tls.server_context(options.tls, options.pair)
        else:
            self._context = tls.client_context(options.tls, options.pair)

    def become(self, role: pairstates.Role) -> None:
        """Begin. A secondary that has taken over has no address to listen at. Raises `ConnectError`."""
        if self._side is not None or role.value != self._options.role.value:
            return
        link = self._options.link
        if role is pairstates.Role.PRIMARY:
            self._side = ListeningSide(
                link, self._context, self._interface, self.hello, self._links.accepted, self._call
            )
        else:
            self._side = DialingSide(
                link, self._context, self._interface, self.hello_to, self._is_wanted, self._links.dialed
            )

    async def close(self) -> None:
        """No further link."""
        if self._side is not None:
            await self._side.close()

    def hello(self, channel: Channel) -> Hello:
        """What this node says of itself; called in other threads too."""
        return Hello(
            protocol=PROTOCOL_LOWEST,
            highest=PROTOCOL_VERSION,
            program=f"pycolo {__version__}",
            pair=self._options.pair,
            role=self._options.role,
            channel=channel,
            term=self._pair().term,
            epoch=0,
            features=frozenset(
                {
                    f"vnet_hdr={int(self._options.has_vnet)}",
                    f"heartbeat_timeout={self._options.heartbeat_timeout_ms}",
                }
            ),
            instance=self._instance,
            peer_instance=self._links.bound_instance,
        )

    def hello_to(self, channel: Channel, peer_instance: int) -> Hello:
        """`peer_instance`: of the primary's process that the connection before has reached."""
        return msgspec.structs.replace(self.hello(channel), peer_instance=peer_instance)

    def _is_wanted(self) -> bool:
        return dials(self._pair())
