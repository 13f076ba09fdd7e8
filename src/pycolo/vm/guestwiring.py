"""How the node stands in the guest's path: what the plans need of it (`pycolo.vm.tapwiring`)."""

from collections.abc import Mapping
from typing import NamedTuple, Protocol

from pycolo.node.guestwire import GuestWire
from pycolo.qmp.probe import Facts, Netdev
from pycolo.transport.ports import Port


class CardPorts(NamedTuple):
    """The ports of one card's data path, each for both directions. `tap`: the guest's, as what it counts."""

    lan: Port
    guest: Port
    tap: GuestWire | None

    def close(self) -> None:
        """No data path takes them."""
        for port in (self.lan, self.guest):
            port.close()


class GuestWiring(Protocol):
    """Each call can be repeated, and then does what is left to do. Raises `PycoloError`."""

    @property
    def is_left(self) -> bool:
        """Whether an earlier process of this node is still wired to the guest."""

    async def make_ready(self, facts: Facts) -> None:
        """Make the nodes' TAPs; nothing changes for the guest yet."""

    def open(self) -> list[CardPorts]:
        """The ports of the data paths, one for each card."""

    async def insert(self) -> None:
        """Put the node into the path of a guest that serves. The data path runs."""

    async def insert_apart(self) -> None:
        """Put the node into the path of a guest that is on no network."""

    async def withdraw(self) -> None:
        """Connect the guest to its network directly, and remove the nodes' TAPs."""

    async def serve(self) -> None:
        """This host serves the clients from now on."""

    async def serve_alone(self) -> None:
        """The guest serves without a secondary, and nothing of an earlier process is left: it is on its network."""

    async def settle(self, netdevs: Mapping[str, Netdev]) -> None:
        """The guest serves, and no data path of this node is in its way: its taps are in their places."""

    async def try_input(self) -> None:
        """Send the guest frames that it does not answer, on each card, the way that the clients' frames take."""

    async def leave(self) -> None:
        """This host's guest is on no network."""
