"""Where libvirt believes a guest's tap to be: told whenever the node has moved it.

libvirtd puts each tap back into the bridge that it believes it in, whenever it is started again. So while the node
stands in a tap's place, libvirt is told that the tap is in the card's private bridge, and before the tap goes home,
that it is there. A tap is silenced while two parties move it: no frame passes.
"""

import asyncio
from collections.abc import Coroutine
from typing import Any, Final, TypeVar

import structlog

from pycolo.domain.connection import CALL_S
from pycolo.domain.host import DomainHost
from pycolo.errors import PycoloError
from pycolo.hostnet.execution import carry_out
from pycolo.hostnet.facts import BridgePlace
from pycolo.hostnet.looking import find_link, name_of
from pycolo.hostnet.netlink import Netlink
from pycolo.hostnet.plan import Join, Leave, Step
from pycolo.hostnet.wire import Wire

RETRY_S: Final = 1.0
"""Until a libvirtd that was away is asked again."""

ASK_S: Final = 3 * CALL_S

T = TypeVar("T")

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
        believed = self._ask(self._host.placed(self._netdev))
        if believed is None or believed.tap != self._tap or believed.bridge == bridge:
            return
        with Netlink() as netlink:
            link = find_link(netlink, self._tap)
            before = name_of(netlink, link.master) if link is not None and link.master else None
            if before is not None:
                carry_out(netlink, Step(f"{self._tap} leaves {before}", (Leave(self._tap),)))
            try:
                self._ask(self._host.move_card(self._netdev, bridge))
            except PycoloError:
                if before is not None:
                    join = Join(self._tap, BridgePlace(before))
                    carry_out(netlink, Step(f"{self._tap} joins {before}", (join,)))
                raise

    def _ask(self, question: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(question, self._loop).result(ASK_S)
