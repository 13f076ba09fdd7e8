"""Tells when this host's libvirt answers again, after an attempt to protect has failed for want of it."""

import asyncio
from typing import Final, Protocol

from pycolo.failover.pair import Told
from pycolo.failover.pairstates import Fact

LOOK_S: Final = 1.0
"""Pause between two questions. A libvirtd that has gone refuses at once, which costs no more than a thread."""


class Domain(Protocol):
    """See `DomainGuest`."""

    async def answers(self) -> bool:
        """Whether libvirt does."""


class Host(Protocol):
    """See `GuestHost`."""

    def tell(self, fact: Fact, told: Told) -> None:
        """Report AVAILABLE."""


class LibvirtWatch:
    """`domain`: None for a guest that is not libvirt's. Used in asyncio's thread only."""

    def __init__(self, domain: Domain | None, host: Host) -> None:
        self._domain = domain
        self._host = host
        self._watching: asyncio.Task[None] | None = None

    async def is_lacking(self) -> bool:
        """Whether libvirt does not answer. AVAILABLE is told when it does again."""
        if self._domain is None or await self._domain.answers():
            return False
        if self._watching is None or self._watching.done():
            self._watching = asyncio.get_running_loop().create_task(self._watch(self._domain))
        return True

    async def _watch(self, domain: Domain) -> None:
        while True:
            await asyncio.sleep(LOOK_S)
            if await domain.answers():
                break
        self._host.tell(Fact.AVAILABLE, Told(text="libvirt answers again"))

    async def close(self) -> None:
        """No more."""
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.gather(self._watching, return_exceptions=True)
