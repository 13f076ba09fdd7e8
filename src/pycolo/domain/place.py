"""Where libvirt believes a guest's tap to be: told whenever the node has moved it.

libvirtd puts each tap back into the bridge that it believes it in, whenever it is started again. So while the node
stands in a tap's place, libvirt is told that the tap is in the card's private bridge, and before the tap goes home,
that it is there. A tap is silenced while two parties move it: no frame passes.
"""

import asyncio
from collections.abc import Callable, Coroutine
from concurrent.futures import CancelledError
from typing import Any, Final

import structlog

from pycolo.config import GuestOptions
from pycolo.domain.connection import CALL_S, Connection
from pycolo.domain.host import DomainHost
from pycolo.errors import ConnectError, PycoloError
from pycolo.hostnet.execution import carry_out
from pycolo.hostnet.facts import BridgePlace
from pycolo.hostnet.looking import find_link, name_of
from pycolo.hostnet.netlink import Netlink
from pycolo.hostnet.plan import Join, Leave, Step
from pycolo.hostnet.wire import Wire

RETRY_S: Final = 1.0
"""Until a libvirtd that was away is asked again."""

ASK_S: Final = 3 * CALL_S

Ask = Callable[[Coroutine[Any, Any, Any]], Any]

log = structlog.get_logger("colo")


class DomainWire:
    """A card's wire, of which libvirt is told. Its methods block, in a thread that is not the loop's."""

    def __init__(self, wire: Wire, host: DomainHost, netdev: str, private: str) -> None:
        self.node_tap = wire.node_tap
        self._wire = wire
        self._host = host
        self._netdev = netdev
        self._private = private
        self._tap = ""
        self._untold: str | None = None
        self._loop = asyncio.get_running_loop()

    @property
    def is_left(self) -> bool:
        """See `Wire`."""
        return self._wire.is_left

    def prepare(self, tap: str) -> None:
        """See `Wire`."""
        self._tap = tap
        self._wire.prepare(tap)

    def attach(self) -> None:
        """See `Wire`."""
        self._wire.attach()
        self._tell(self._private)

    def hold_apart(self) -> None:
        """See `Wire`."""
        self._wire.hold_apart()
        if self._tap:
            self._tell(self._private)

    def detach(self) -> None:
        """See `Wire`."""
        self._go_home()
        self._wire.detach()

    def settle(self, tap: str) -> None:
        """See `Wire`."""
        self._tap = tap
        self._go_home()
        self._wire.settle(tap)

    # ── telling ───────────────────────────────────────────────────────────────────────────────────────────────

    def _go_home(self) -> None:
        home = self._wire.home_bridge
        if self._tap and home is not None:
            self._tell(home)

    def _tell(self, bridge: str) -> None:
        """Tell it now; later, if libvirt cannot be asked. That must not keep a host from serving."""
        try:
            self._move(bridge)
            self._untold = None
        except PycoloError as error:
            if self._untold is None:
                log.warning(f"libvirt is not told yet that {self._tap} is in {bridge}: {error}")
            self._untold = bridge
            self._loop.call_soon_threadsafe(self._loop.call_later, RETRY_S, self._again, bridge)

    def _again(self, bridge: str) -> None:
        if self._untold == bridge:
            self._loop.run_in_executor(None, self._tell, bridge)

    def _move(self, bridge: str) -> None:
        move_in_libvirt(self._host, self._netdev, self._tap, bridge, self._ask)

    def _ask(self, question: Coroutine[Any, Any, Any]) -> Any:
        try:
            return asyncio.run_coroutine_threadsafe(question, self._loop).result(ASK_S)
        except (TimeoutError, CancelledError) as error:
            raise ConnectError("libvirt has not answered, and is waited for no longer") from error


def move_in_libvirt(host: DomainHost, netdev: str, tap: str, bridge: str, ask: Ask) -> None:
    """Let libvirt move a card's tap to a bridge, unless it believes it there. `ask` waits for a coroutine's result.

    Nothing, where libvirt knows no such tap. What it refuses leaves the tap where it was. Raises `PycoloError`.
    """
    believed = ask(host.placed(netdev))
    if believed is None or believed.tap != tap or believed.bridge == bridge:
        return
    with Netlink() as netlink:
        link = find_link(netlink, tap)
        before = name_of(netlink, link.master) if link is not None and link.master else None
        if before is not None:
            carry_out(netlink, Step(f"{tap} leaves {before}", (Leave(tap),)))
        try:
            ask(host.move_card(netdev, bridge))
        except PycoloError:
            if before is not None:
                carry_out(netlink, Step(f"{tap} joins {before}", (Join(tap, BridgePlace(before)),)))
            raise


def tell_home(guest: GuestOptions, netdev: str, tap: str, bridge: str) -> None:
    """`move_in_libvirt` without a node. Raises `PycoloError`."""
    with asyncio.Runner() as runner:
        host = runner.run(_host(guest))
        try:
            move_in_libvirt(host, netdev, tap, bridge, runner.run)
        finally:
            runner.run(host.connection.close())


async def _host(guest: GuestOptions) -> DomainHost:
    """Both know the loop that they are made in."""
    return DomainHost(guest.domain, Connection(guest.uri))
