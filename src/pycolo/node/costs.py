"""What traffic costs, as this node is told of it; a service of the node, which keeps it over a restart.

See `pycolo.costs.ledger`. Everything is in asyncio's thread, but for writing the file.
"""

import asyncio
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, Final

import structlog

from pycolo.checkpoint.records import CheckpointRecord
from pycolo.compare.difference import Difference
from pycolo.compare.wait import Wait
from pycolo.costs.ledger import BY, OVER, Kept, Ledger
from pycolo.costs.suggestions import Suggestions
from pycolo.errors import ConnectError
from pycolo.node.control import Answer
from pycolo.node.shownfile import ShownFile

WRITE_S: Final = 60.0
"""Between two writes of the file. A node that is killed loses as much."""

log = structlog.get_logger("colo")


def wall_s() -> int:
    """Seconds of the wall clock."""
    return int(datetime.now(UTC).timestamp())


class Costs:
    """`file` None: nothing is kept."""

    def __init__(self, file: ShownFile[Kept] | None = None) -> None:
        self._file = file
        self._ledger = Ledger(wall_s())
        self._suggestions = Suggestions()
        self._has_news = False
        self._is_failing = False
        self._ending = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        if file is not None:
            try:
                self._ledger = Ledger(wall_s(), file.read())
            except ConnectError as error:
                log.warning(str(error))

    # ── facts ─────────────────────────────────────────────────────────────────────────────────────────────────

    def difference(self, difference: Difference) -> None:
        """The comparator has found one."""
        self._has_news = True
        self._ledger.difference(difference, wall_s())
        self._suggestions.difference(difference)

    def checkpoint(self, record: CheckpointRecord) -> None:
        """One has ended."""
        self._has_news = True
        self._ledger.checkpoint(record, wall_s())

    def waited(self, epoch: int, waits: list[Wait]) -> None:
        """The checkpoint that began `epoch` has released these connections' packets."""
        self._has_news = True
        self._ledger.waited(epoch, waits, wall_s())

    # ── answers ───────────────────────────────────────────────────────────────────────────────────────────────

    def request(self, request: dict[str, Any]) -> Answer:
        """`{"command": "costs", "by": …, "over": …}`; with `"suggest": true`: the masks that might be worth while."""
        if request.get("suggest") is True:
            return {"masks": self._suggestions.proposed()}
        by, over = request.get("by", "port"), request.get("over", "hour")
        if by not in BY or over not in OVER:
            return {"error": f'costs: "by" is one of {", ".join(BY)}; "over" is one of {", ".join(OVER)}'}
        return self._ledger.answer(by, over, wall_s())

    def status(self) -> dict[str, Any]:
        """`costs` in the status: counters by service, for metrics."""
        return {"services": self._ledger.services.status()}

    # ── life ──────────────────────────────────────────────────────────────────────────────────────────────────

    async def start(self) -> None:
        """Write from now on."""
        if self._file is not None:
            self._task = asyncio.get_running_loop().create_task(self._keep_writing(self._file))

    async def close(self) -> None:
        """Write what is new, and end."""
        self._ending.set()
        if self._task is not None:
            await self._task

    async def _keep_writing(self, file: ShownFile[Kept]) -> None:
        has_ended = False
        while not has_ended:
            with suppress(TimeoutError):
                async with asyncio.timeout(WRITE_S):
                    has_ended = await self._ending.wait()
            await self._write(file)

    async def _write(self, file: ShownFile[Kept]) -> None:
        if not self._has_news:
            return
        self._has_news = False
        octets = file.packed(self._ledger.kept(wall_s()))
        try:
            await asyncio.to_thread(file.write, octets)
            self._is_failing = False
        except ConnectError as error:
            self._has_news = True
            if not self._is_failing:
                self._is_failing = True
                log.warning(str(error))
