"""What the checkpoint driver needs of this host's guest: the `CheckpointHost` of whatever QEMU is the primary's."""

from collections.abc import Callable
from typing import Protocol

from pycolo.vm.guesthost import GuestHost
from pycolo.vm.memorysample import MemorySample
from pycolo.vm.primaryguest import PrimaryGuest


class Guest(Protocol):
    """As much of `VmGuest`."""

    primary: PrimaryGuest | None

    def checkpoint_overdue(self, text: str) -> None:
        """See `CheckpointHost`."""

    def pair_broken(self, text: str) -> None:
        """See `CheckpointHost`."""


class GuestCheckpoints:
    """Without a primary's QEMU there is no stream, and nothing to ask."""

    def __init__(self, host: GuestHost, guest: Guest) -> None:
        self.call: Callable[..., None] = host.call
        self._guest = guest
        self.checkpoint_overdue = guest.checkpoint_overdue
        self.pair_broken = guest.pair_broken

    @property
    def ram_bytes(self) -> int:
        """See `CheckpointHost`."""
        side = self._guest.primary
        return 0 if side is None or side.facts is None else side.facts.ram_bytes

    def stream(self) -> tuple[int, int] | None:
        """See `CheckpointHost`."""
        side = self._guest.primary
        return None if side is None else side.stream()

    def memory_sample(self) -> MemorySample | None:
        """See `CheckpointHost`."""
        side = self._guest.primary
        return None if side is None else side.memory_sample()

    async def ask_hypervisor(self) -> None:
        """See `CheckpointHost`."""
        if self._guest.primary is not None:
            await self._guest.primary.request_checkpoint()
