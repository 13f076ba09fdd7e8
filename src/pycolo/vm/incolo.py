"""A primary's QEMU and COLO, by its monitor: a checkpoint, COLO's end, and the guest that runs on. All idempotent."""

import asyncio
from contextlib import suppress
from typing import Any, Final, Protocol

from pycolo.errors import ConnectError, PeerError
from pycolo.vm.pathslot import PATH_ANSWER_S

CHECKPOINT_DELAY_MS: Final = 1_000_000_000
"""Moves QEMU's periodic checkpoint eleven days off: the coordinator requests ours. Setting it starts one."""

LOOK_S: Final = 0.05
"""Interval at which QEMU is asked whether it has got there."""

_MIGRATES: Final = ("setup", "active", "device", "pre-switchover")
_NOT_OVER: Final = ("active", "device", "colo", "cancelling", "setup")
_STANDS: Final = ("paused", "postmigrate", "finish-migrate", "colo")


class Asked(Protocol):
    """See `Machine`."""

    async def execute(self, command: str, arguments: dict[str, Any] | None = None) -> Any:
        """Raises `PeerError`, `ConnectError`."""


async def request_checkpoint(machine: Asked) -> None:
    """Make QEMU begin a checkpoint now, and none by itself. Raises `PeerError`, `ConnectError`."""
    await machine.execute("migrate-set-parameters", {"x-checkpoint-delay": CHECKPOINT_DELAY_MS})


async def is_in_colo(machine: Asked) -> bool:
    """Whether it is, in either role. Raises `PeerError`, `ConnectError`."""
    return bool((await machine.execute("query-colo-status"))["mode"] != "none")


async def until_running(machine: Asked) -> None:
    """Wait until QEMU has received READY. If it does not answer, the checkpoints' time limit notices it."""
    with suppress(PeerError, ConnectError):
        for _ in range(int(PATH_ANSWER_S / LOOK_S)):
            if (await machine.execute("query-status"))["running"]:
                return
            await asyncio.sleep(LOOK_S)


async def leave(machine: Asked) -> None:
    """End COLO, or cancel a migration under way; wait until that is over. Raises `PeerError`, `ConnectError`."""
    if await is_in_colo(machine):
        with suppress(PeerError):  # it may have left COLO in between
            await machine.execute("x-colo-lost-heartbeat")
    elif (await machine.execute("query-migrate")).get("status") in _MIGRATES:
        await machine.execute("migrate_cancel")
    for _ in range(int(PATH_ANSWER_S / LOOK_S)):
        is_over = not await is_in_colo(machine)
        status = (await machine.execute("query-migrate")).get("status")
        if is_over and status not in _NOT_OVER:
            break
        await asyncio.sleep(LOOK_S)


async def ensure_running(machine: Asked) -> None:
    """Resume the guest if it is stopped. Raises `PeerError`, `ConnectError`."""
    status = await machine.execute("query-status")
    if not status["running"] and status["status"] in _STANDS:
        await machine.execute("cont")
