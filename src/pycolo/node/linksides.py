"""Both ways to get a link: listening for the other node, and dialing it. Used by every kind of node."""

import asyncio
import ssl
from collections.abc import Callable
from functools import partial
from time import monotonic_ns
from typing import Final

import structlog

from pycolo import limits
from pycolo.errors import ConnectError, LinkError
from pycolo.link.codec import Channel
from pycolo.link.hello import Hello
from pycolo.node.inthread import opened
from pycolo.transport.linksetup import Address, Established, Listener, dial

REFUSAL_REPEAT_S: Final = 60
REFUSALS_KEPT: Final = 32
"""Maximum of different reasons that are logged in a minute: strangers could make up any number."""

log = structlog.get_logger("colo")


class ListeningSide:
    """Listens from its construction until `close`; `on_made` is called in asyncio's thread.

    Raises `ConnectError` when the address cannot be had.
    """

    def __init__(
        self,
        address: Address,
        context: ssl.SSLContext | None,
        interface: str | None,
        hello: Callable[[Channel], Hello],
        on_made: Callable[[Established], None],
        call: Callable[..., None],
    ) -> None:
        """`call(function, *arguments)` has it done in asyncio's thread."""
        self._refusals: dict[str, int] = {}
        self._listener = Listener(
            address,
            context,
            lambda: hello(Channel.DATA),
            lambda made: call(on_made, made),
            lambda line: call(self._refused, line),
            interface=interface,
        )
        log.info("listening for the other node", link=str(self._listener.address), tls=context is not None)

    async def close(self) -> None:
        """No callback is called after this."""
        await asyncio.to_thread(self._listener.close)

    def _refused(self, line: str) -> None:
        """Log each reason once a minute: a refused secondary tries again five times a second."""
        reason = line.partition(": ")[2]
        now_s = monotonic_ns() // 1_000_000_000
        self._refusals = {text: at_s for text, at_s in self._refusals.items() if now_s - at_s < REFUSAL_REPEAT_S}
        if reason not in self._refusals and len(self._refusals) < REFUSALS_KEPT:
            self._refusals[reason] = now_s
            log.warning(line)


class DialingSide:
    """Dials until `close` while `is_wanted()`; `on_made(control, *data)` gets all connections, or is not called.

    `hello(channel, peer_instance)`: this node's hello. `cards`: how many data connections there are.
    """

    def __init__(
        self,
        address: Address,
        context: ssl.SSLContext | None,
        interface: str | None,
        hello: Callable[[Channel, int], Hello],
        is_wanted: Callable[[], bool],
        on_made: Callable[..., None],
        cards: int = 1,
    ) -> None:
        self._address = address
        self._context = context
        self._interface = interface
        self._hello = hello
        self._is_wanted = is_wanted
        self._on_made = on_made
        self._cards = cards
        self._last_failure = ""
        log.info("dialing the primary", link=str(address), tls=context is not None)
        self._task = asyncio.get_running_loop().create_task(self._dial())

    async def close(self) -> None:
        """Stop dialing."""
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    def connect(self, hello: Hello) -> Established:
        """One connection; blocks. Raises `ConnectError`, `LinkError`."""
        return dial(self._address, hello, self._context, interface=self._interface)

    async def _dial(self) -> None:
        while True:
            if self._is_wanted():
                try:
                    await self._dial_once()
                except (ConnectError, LinkError) as error:
                    self._failed(error)
            await asyncio.sleep(limits.LINK_RETRY_MS / 1000)

    async def _dial_once(self) -> None:
        made: list[Established] = []
        try:
            for channel in (Channel.CONTROL, *[Channel.DATA] * self._cards):
                peer_instance = made[0].theirs.instance if made else 0
                made.append(await opened(partial(self.connect, self._hello(channel, peer_instance))))
        except BaseException:
            for one in made:
                one.close()
            raise
        if not self._is_wanted():  # not any more
            for one in made:
                one.close()
            return
        self._last_failure = ""
        self._on_made(*made)

    def _failed(self, error: ConnectError | LinkError) -> None:
        """Log a failure only when it differs from the last one."""
        if str(error) != self._last_failure:
            self._last_failure = str(error)
            log.warning(f"no pair yet: {error}")
