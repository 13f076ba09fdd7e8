"""Waits until the secondary has the guest's first state, and sees to it that the copy ends, and not too soon.

QEMU stops the guest for the rest of the copy when it has *sent* nearly all of it. Between the two QEMUs there are some
megabytes of buffers, and a page of zeros takes 9 bytes of them: the other QEMU, which has to clear such a page twice,
may then have a gigabyte of memory still to fill, while the guest stands still. So a copy may not end before the other
QEMU has read what was sent: around the end of the first pass the rate is limited to next to nothing until then, and the
pause to less than anything takes.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Any, Final

import structlog

from pycolo.checkpoint.firstcopy import PAUSE_MAX_MS, FirstCopy, Progress
from pycolo.errors import ConnectError, PeerError, QmpTimeout
from pycolo.qmp.client import QmpEvent
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

FIRST_PASS: Final = 1
"""In QEMU's count of passes: all of the memory is copied once."""

TRICKLE: Final = 40 << 10
"""Bytes per second while the end is held back: a page in each of QEMU's intervals of 100 ms, in which the guest changes
more than that. QEMU takes 0 for no limit."""

TRICKLE_DOWNTIME_MS: Final = 1
"""Together with that rate: less than a page may be left."""

BEHIND_BYTES: Final = 64 << 10
"""What the other QEMU need not have read: 7,000 pages of zeros, some 10 ms."""

BEHIND_STALL_S: Final = 5.0
"""The end is no longer held back once the other QEMU has read nothing for this long."""

QEMU_BANDWIDTH: Final = 128 << 20
QEMU_DOWNTIME_MS: Final = 300
"""QEMU's own max-bandwidth and downtime-limit, for when the node lets go."""

log = structlog.get_logger("colo")


class FirstSync:
    """One first synchronisation. `moved()`: bytes of its stream.

    `behind()`: how many of them the other QEMU has not read; None: it is not told, and the copy ends when QEMU likes.
    """

    def __init__(
        self,
        machine: Machine,
        name: str,
        pause_target_ms: int,
        moved: Callable[[], int],
        behind: Callable[[], Awaitable[int | None]],
    ) -> None:
        self._machine = machine
        self._name = name
        self._moved = moved
        self._behind = behind
        self._copy = FirstCopy(pause_target_ms)
        self._pass_began = asyncio.Event()
        self._may_end = False
        self._is_trickling = False
        self._left_bytes: int | None = None
        self._was_read_once = False
        self._least_behind: int | None = None
        self._least_at = 0.0
        self._stopped_us: int | None = None
        self.stop_ms: float | None = None
        """How long the guest has stood still at the end of the copy, by QEMU's clock; None: not known yet."""

    def heard_event(self, event: QmpEvent) -> None:
        """Each event of QEMU's."""
        if event.name == "MIGRATION_PASS":
            self._pass_began.set()
        elif event.name == "STOP" and self._stopped_us is None:
            self._stopped_us = event.at_us
        elif event.name == "RESUME" and self._stopped_us is not None and self.stop_ms is None:
            self.stop_ms = (event.at_us - self._stopped_us) / 1000

    async def prepare(self) -> None:
        """Before the migration: as fast as it can, and without an end."""
        await self._set({"max-bandwidth": UNLIMITED, "downtime-limit": TRICKLE_DOWNTIME_MS})

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
            await self._until_news(attempt)
            if not attempt.decided.is_set():
                await self._look(attempt)
        if self._is_trickling:
            with suppress(PeerError, ConnectError):  # it has ended by itself
                await self._let_end()
        if not attempt.is_whole:
            raise PeerError(f"{self._name}: the first synchronisation has failed: {attempt.broken}")

    async def _until_news(self, attempt: Attempt) -> None:
        """Until the attempt is decided, a pass begins, or it is time to look."""
        news = [asyncio.ensure_future(one.wait()) for one in (attempt.decided, self._pass_began)]
        try:
            await asyncio.wait(news, timeout=LOOK_S, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for one in news:
                one.cancel()
        self._pass_began.clear()

    async def _look(self, attempt: Attempt) -> None:
        try:
            found = await self._machine.execute("query-migrate")
            progress = progress_of(found)
            if progress is not None and not self._may_end:
                await self._hold_end(progress)
        except QmpTimeout:  # it copies the rest with the guest stopped; the stream's moving says whether it hangs
            return
        except (PeerError, ConnectError):
            if attempt.is_whole:
                return
            raise
        if found.get("status") in ("failed", "cancelled") and not attempt.is_whole:
            raise PeerError(f"{self._name}: the migration has {found['status']}")
        if progress is not None and self._may_end and self._copy.looked(progress):
            log.warning(f"{self._name}: {self._copy.says}", allowed_ms=self._copy.pause_ms)
            await self._set({"downtime-limit": self._copy.pause_ms})
        if self._copy.is_hopeless:
            limit_s = PAUSE_MAX_MS // 1000
            raise PeerError(f"{self._name} cannot be protected: {self._copy.says}; at most {limit_s} s are accepted")

    async def _hold_end(self, progress: Progress) -> None:
        """Let the copy end once the other QEMU has read what was sent.

        That is waited for twice: before the first pass is over, since a guest that is idle ends the copy with it; and
        behind it.
        """
        is_first = progress.passes <= FIRST_PASS
        left_before, self._left_bytes = self._left_bytes, progress.left_bytes
        if not self._is_trickling:
            is_nearly_over = left_before is not None and 2 * progress.left_bytes <= left_before
            if is_first and (self._was_read_once or not is_nearly_over):
                return
            self._is_trickling, self._least_behind = True, None
            await self._set({"max-bandwidth": TRICKLE})
        now_s, behind = asyncio.get_running_loop().time(), await self._behind()
        log.debug("the end of the first copy is held back", behind_bytes=behind, left_bytes=progress.left_bytes)
        if self._least_behind is None or (behind is not None and behind < self._least_behind):
            self._least_behind, self._least_at = behind, now_s
        if behind is not None and behind > BEHIND_BYTES and now_s - self._least_at <= BEHIND_STALL_S:
            return
        if not is_first:
            await self._let_end()
            return
        await self._set({"max-bandwidth": UNLIMITED})
        self._was_read_once, self._is_trickling = True, False

    async def _let_end(self) -> None:
        await self._set({"max-bandwidth": UNLIMITED, "downtime-limit": self._copy.pause_ms})
        self._may_end, self._is_trickling = True, False

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
