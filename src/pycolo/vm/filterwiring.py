"""The node in QEMU's network, as `GuestWiring`: chardevs and filters, and the user's commands for the tap."""

from pycolo.config import PairConfig
from pycolo.qmp.probe import Facts
from pycolo.vm import wiring
from pycolo.vm.guestwiring import CardPorts
from pycolo.vm.hooks import Network
from pycolo.vm.machine import Machine
from pycolo.vm.qemuport import QemuPort

_CHARDEVS = "qemu.directory"


class FilterWiring:
    """See `GuestWiring`."""

    is_exact = False

    def __init__(self, config: PairConfig, network: Network) -> None:
        self._directory = config.qemu.directory
        self._netdev = config.qemu.netdev
        self._network = network

    async def make_ready(self, machine: Machine, facts: Facts) -> None:
        """QEMU listens on the four sockets."""
        await wiring.add_chardevs(machine, self._directory)

    def open(self) -> list[CardPorts]:
        """The node's ends of them."""
        specs = wiring.ports(self._directory)
        ports = {name: QemuPort(spec, _CHARDEVS) for name, spec in specs.items()}
        return [CardPorts(**ports, tap=None)]

    async def insert(self, machine: Machine) -> None:
        """Add the filters."""
        await wiring.add_filters(machine, self._netdev)

    insert_apart = insert

    async def withdraw(self, machine: Machine) -> None:
        """Remove the filters."""
        if machine.is_there:
            await wiring.remove_filters(machine)

    async def clear(self, machine: Machine) -> None:
        """Remove the sockets."""
        if machine.is_there:
            await wiring.remove_chardevs(machine)

    async def renew(self, machine: Machine) -> bool:
        """See `wiring.renew_filters`."""
        return await wiring.renew_filters(machine, self._netdev)

    async def is_left(self, machine: Machine) -> bool:
        """Whether QEMU has one of our filters."""
        return bool(await wiring.find_filters(machine))

    async def after_colo(self, machine: Machine) -> None:
        """QEMU 7.2 switches the filters off."""
        await wiring.switch_filters_on(machine)

    async def serve(self) -> None:
        """`network.serve`."""
        await self._network.serve()

    serve_alone = serve

    async def settle(self, machine: Machine) -> None:
        """`serve_alone` has."""

    async def try_input(self) -> None:
        """Nothing: with filters vhost is refused."""

    async def leave(self) -> None:
        """`network.retire`."""
        await self._network.leave()
