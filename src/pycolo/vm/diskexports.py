"""The end of a secondary's exports: at a takeover no more writes of the old primary's, and what is there is flushed."""

from collections.abc import Sequence
from typing import Final

import structlog

from pycolo.errors import PycoloError, QmpError
from pycolo.qmp import commands
from pycolo.vm.machine import Machine

STOP_S: Final = 5.0
"""Stopping the NBD server takes two milliseconds."""

FLUSH_S: Final = 5.0
"""A flush takes as long as the host's disk needs for what was written since the last checkpoint."""

log = structlog.get_logger("colo")


async def end_exports(machine: Machine, nodes: Sequence[str]) -> None:
    """Take no more of the primary's writes: one that thaws later must not reach this guest's disk.

    Then put on the disk what the primary has overwritten since the last checkpoint, and what with: `nodes`. Until a
    guest flushes, QEMU has the tables of both in its memory. A survivor that died with them would leave the primary's
    newer blocks where its own guest has seen the older ones. What this guest itself has written lately need not be
    there: that is what a disk's cache may lose. Raises `PycoloError`.
    """
    try:
        await machine.execute("nbd-server-stop", timeout_s=STOP_S)
    except QmpError as error:
        if "not running" not in error.description:  # the second attempt of a takeover
            raise
    for node in nodes:
        try:
            said = await machine.execute(
                "human-monitor-command", {"command-line": commands.flush(node)}, timeout_s=FLUSH_S
            )
        except PycoloError as error:
            said = str(error)
        if said := str(said or "").strip():
            log.warning(f"{node} was not flushed before this host serves: {said}")
