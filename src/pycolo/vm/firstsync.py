"""Waits until the secondary has the guest's first state, and sees to it that the copy comes to an end."""

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, Final

import structlog

from pycolo.checkpoint.firstcopy import PAUSE_MAX_MS, FirstCopy, Progress
from pycolo.errors import ConnectError, PeerError, QmpTimeout
from pycolo.vm.attempt import Attempt
from pycolo.vm.machine import Machine

MIGRATION_STALL_S: Final = 60.0
"""The first migration is given up after its stream has not moved for this long."""

WORD_S: Final = 0.1
"""This host's QEMU notices the other one's end first; the other node's report, a moment later, says why."""

LOOK_S: Final = 0.05
"""Interval at which the first migration is checked."""

UNLIMITED: Final = 1 << 40
"""Bytes per second: QEMU limits a migration to 128 MiB/s otherwise, but not the checkpoints that follow."""

QEMU_BANDWIDTH: Final = 128 << 20
QEMU_DOWNTIME_MS: Final = 300
"""QEMU's own max-bandwidth and downtime-limit, for when the node lets go."""

log = structlog.get_logger("colo")


class FirstSync:
    """One first synchronisation. `moved()`: bytes of its stream."""

    def __init__(self, machine: Machine, name: str, pause_target_ms: int, moved: Callable[[], int]) -> None:
        self._machine = machine
        self._name = name
        self._moved = moved
        self._copy = FirstCopy(pause_target_ms)

    async def prepare(self) -> None:
        """Before the migration: as fast as it can, and with the pause that checkpoints may take."""
        await self._set({"max-bandwidth": UNLIMITED, "downtime-limit": self._copy.pause_ms})

    async def wait(self, attempt: Attempt) -> None:
        """Return once `attempt` is decided. Raises `PeerError` when the copy has failed or will not end."""
        loop = asyncio.get_running_loop()
        moved_bytes, moved_at = -1, loop.time()
        while not attempt.decided.is_set():
            if attempt.broken is not None:
                await asyncio.sleep(WORD_S)
                break
            bytes_now = self._moved()
            if bytes_now != moved_bytes:
                moved_bytes, moved_at = bytes_now, loop.time()
            elif loop.time() - moved_at > MIGRATION_STALL_S:
                raise PeerError(f"{self._name}: the migration stands still at {bytes_now} bytes")
            with suppress(TimeoutError):
                async with asyncio.timeout(LOOK_S):
                    await attempt.decided.wait()
            if not attempt.decided.is_set():
                await self._look(attempt)
        if not attempt.is_whole:
            raise PeerError(f"{self._name}: the first synchronisation has failed: {attempt.broken}")

    async def _look(self, attempt: Attempt) -> None:
        try:
            found = await self._machine.execute("query-migrate")
        except QmpTimeout:  # it copies the rest with the guest stopped; the stream's moving says whether it hangs
            return
        except (PeerError, ConnectError):
            if attempt.is_whole:
                return
            raise
        if found.get("status") in ("failed", "cancelled") and not attempt.is_whole:
            raise PeerError(f"{self._name}: the migration has {found['status']}")
        progress = progress_of(found)
        if progress is not None and self._copy.looked(progress):
            log.warning(f"{self._name}: {self._copy.says}", allowed_ms=self._copy.pause_ms)
            await self._set({"downtime-limit": self._copy.pause_ms})
        if self._copy.is_hopeless:
            limit_s = PAUSE_MAX_MS // 1000
            raise PeerError(f"{self._name} cannot be protected: {self._copy.says}; at most {limit_s} s are accepted")

    async def _set(self, parameters: Mapping[str, int]) -> None:
        await self._machine.execute("migrate-set-parameters", parameters)


async def forget(machine: Machine) -> None:
    """Give QEMU its own limits back."""
    given = {"max-bandwidth": QEMU_BANDWIDTH, "downtime-limit": QEMU_DOWNTIME_MS}
    await machine.execute("migrate-set-parameters", given)


def progress_of(found: Mapping[str, Any]) -> Progress | None:
    """What `query-migrate` says of a copy that runs."""
    ram = found.get("ram")
    if found.get("status") != "active" or not isinstance(ram, Mapping):
        return None
    page = ram.get("page-size", 4096)
    return Progress(
        passes=int(ram.get("dirty-sync-count", 0)),
        left_bytes=int(ram.get("remaining", 0)),
        copy_rate=float(ram.get("mbps", 0.0)) * 1e6 / 8,
        change_rate=float(ram.get("dirty-pages-rate", 0)) * page,
    )
