"""How the node stands in the guest's path: what the plans need of it, whatever it is made of.

filterwiring    in QEMU's network: chardevs and filters (`pycolo.vm.wiring`), and the user's hooks
tapwiring       beside QEMU: the node's own TAP in the place of the guest's (`[[card]]`)
"""

from typing import NamedTuple, Protocol

from pycolo.node.guestwire import GuestWire
from pycolo.qmp.probe import Facts
from pycolo.transport.ports import Port
from pycolo.vm.machine import Machine


class CardPorts(NamedTuple):
    """The ports of one card's data path. `tap`: both of the guest's, where they are its tap."""

    lan_in: Port
    lan_out: Port
    guest_in: Port
    guest_out: Port
    tap: GuestWire | None

    def close(self) -> None:
        """No data path takes them."""
        for port in (self.lan_in, self.lan_out, self.guest_in, self.guest_out):
            port.close()


class GuestWiring(Protocol):
    """Each call can be repeated, and then does what is left to do. Raises `PycoloError`."""

    @property
    def is_exact(self) -> bool:
        """Whether the border of the input is exact: see `pycolo.border`."""

    async def make_ready(self, machine: Machine, facts: Facts) -> None:
        """Make what the data path is opened with; nothing changes for the guest yet."""

    def open(self) -> list[CardPorts]:
        """The ports of the data paths, one for each card."""

    async def insert(self, machine: Machine) -> None:
        """Put the node into the path of a guest that serves. The data path runs."""

    async def insert_apart(self, machine: Machine) -> None:
        """Put the node into the path of a guest that is on no network."""

    async def withdraw(self, machine: Machine) -> None:
        """Connect the guest to its network directly."""

    async def clear(self, machine: Machine) -> None:
        """Remove what `make_ready` has made. The data path has ended."""

    async def renew(self, machine: Machine) -> bool:
        """Get ready for `open` again, after a restart of the node. False: the guest is not wired to this node."""

    async def is_left(self, machine: Machine) -> bool:
        """Whether an earlier process of this node is still wired to the guest."""

    async def after_colo(self, machine: Machine) -> None:
        """QEMU has left COLO as the secondary."""

    async def serve(self) -> None:
        """This host serves the clients from now on."""

    async def serve_alone(self) -> None:
        """The guest serves without a secondary, and nothing of an earlier process is left: it is on its network."""

    async def settle(self, machine: Machine) -> None:
        """The guest serves, and no data path of this node is in its way: its taps are in their places."""

    async def try_input(self) -> None:
        """Send the guest frames that it does not answer, on each card, the way that the clients' frames take."""

    async def leave(self) -> None:
        """This host's guest is on no network."""
