"""A guest with a QEMU that serves only when Pacemaker has promoted its node: see `pycolo.node.cluster.Pausable`."""

from pycolo.errors import StateError
from pycolo.vm.commandline import qmp_arguments
from pycolo.vm.guest import VmGuest
from pycolo.vm.guesthost import GuestHost
from pycolo.vm.hooks import Network


class PausableGuest:
    """Of `guest`."""

    def __init__(self, guest: VmGuest, host: GuestHost) -> None:
        self._guest = guest
        self._host = host
        self._network = Network(host.config, host.role, host.term)

    def hold_back(self) -> None:
        """See `Pausable`."""
        self._guest.is_paused = True

    @property
    def is_there(self) -> bool:
        """Whether this host has the primary's QEMU."""
        side = self._guest.primary
        return side is not None and not side.machine.is_over and side.machine.pid > 0

    async def pause(self) -> None:
        """Its CPUs stop."""
        self._guest.is_paused = True
        side = self._guest.primary
        if side is not None and side.machine.is_there:
            await side.machine.execute("stop")

    async def resume(self) -> None:
        """Its CPUs run; where there is no QEMU, the domain or `qemu.command` is started. Raises `PycoloError`."""
        guest = self._guest
        if not guest.is_paused:
            return
        if guest.secondary is not None:  # a takeover is under way: at its end the guest serves
            guest.is_paused = False
            return
        async with guest.looking:
            if not self.is_there:  # the search may have found one meanwhile
                await self._begin()
        side = guest.primary
        assert side is not None
        await side.machine.execute("cont")
        guest.is_paused = False
        guest.release()
        await guest.settled()
        self._host.guest_came()

    async def _begin(self) -> None:
        """A guest that begins anew, from its disks."""
        options, domain = self._host.config.qemu, self._guest.domain
        if domain is None and not options.command:
            raise StateError("promote", "without a QEMU, and without qemu.command", "one of the two")
        await self._guest.disks.settling.over()  # a survivor that died may have left what it had written in overlays
        await self._network.leave()
        side = self._guest.new_primary()
        try:
            if domain is not None:
                side.machine.watch(await domain.begin())
            else:
                await side.machine.start(qmp_arguments(self._host.config))
            await side.machine.connect(options.start_timeout_ms / 1000)
        except BaseException:
            await side.machine.kill()
            raise
        self._guest.primary = side
        self._guest.welcome(side)

    async def end(self) -> None:
        """Switch the guest off, and leave the network. Raises `PycoloError`."""
        self._guest.is_paused = True
        side = self._guest.primary
        if side is not None and self.is_there:
            await side.end()
            self._host.note_pid(0)
        await self._network.leave()

    async def snapshot(self) -> object:
        """The data path's answer."""
        return await self._guest.snapshot()
