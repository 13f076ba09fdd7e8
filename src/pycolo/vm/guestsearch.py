"""Finds the primary's QEMU while it is missing, and connects again to a monitor that was lost."""

import asyncio
from contextlib import suppress
from typing import Final, Protocol

import structlog

from pycolo.errors import ConnectError, PeerError, StateError
from pycolo.vm.guesthost import GuestHost
from pycolo.vm.primaryguest import PrimaryGuest

RETRY_S: Final = 1.0
"""Pause between two searches."""

log = structlog.get_logger("colo")


class Owner(Protocol):
    """Has the guest."""

    primary: PrimaryGuest | None

    @property
    def is_idle(self) -> bool:
        """No job runs or waits."""

    def new_primary(self) -> PrimaryGuest:
        """Of a QEMU that is not connected yet."""

    def welcome(self, side: PrimaryGuest) -> None:
        """A QEMU has been found."""

    def replace(self, old: PrimaryGuest, fresh: PrimaryGuest) -> None:
        """Another QEMU has come after the one that has ended."""


class GuestSearch:
    """For `owner`. Used in asyncio's thread only."""

    def __init__(self, host: GuestHost, owner: Owner) -> None:
        self._host = host
        self._owner = owner
        self.looking = asyncio.Lock()
        """Held while a QEMU is searched for, and while one is started: its monitor serves one client."""

    async def run(self) -> None:
        """Until it is cancelled."""
        while True:
            await asyncio.sleep(RETRY_S)
            async with self.looking:
                await self._look()

    async def _look(self) -> None:
        side = self._owner.primary
        if side is None or side.machine.is_there or not self._owner.is_idle:
            return
        with suppress(ConnectError, PeerError, StateError):
            if side.machine.is_over:
                await self._find_another(side)
            else:
                await self._connect_again(side)

    async def _connect_again(self, side: PrimaryGuest) -> None:
        was_known = side.machine.pid > 0
        await side.connect()
        if self._owner.primary is not side:  # replaced meanwhile; its monitor serves only one client
            await side.machine.release()
        elif was_known:
            log.info("the guest's monitor is back")
        else:
            self._owner.welcome(side)
            self._host.guest_came()

    async def _find_another(self, side: PrimaryGuest) -> None:
        fresh = self._owner.new_primary()
        try:
            await fresh.connect()
        except BaseException:
            await fresh.release()
            raise
        if self._owner.primary is not side or not self._owner.is_idle:
            await fresh.release()
            return
        self._owner.replace(side, fresh)
        self._owner.welcome(fresh)
        self._host.guest_came()
