"""What the page of a node shows: asked of its parts."""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from time import monotonic_ns
from typing import Any

from pycolo.costs.ledger import OVER
from pycolo.metrics.pagedata import page_data
from pycolo.node.costs import Costs
from pycolo.node.journal import Journal


class Page:
    """`status()`: as `colo status` gets it, which asks the other node too."""

    def __init__(self, status: Callable[[], Awaitable[dict[str, Any]]], costs: Costs, journal: Journal) -> None:
        self._status = status
        self._costs = costs
        self._journal = journal

    async def shown(self) -> dict[str, Any]:
        """See `page_data`."""
        status = await self._status()
        return page_data(
            status,
            {window: self._costs.request({"by": "port", "over": window}) for window in OVER},
            self._journal.takeovers,
            at_iso=datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            now_ns=monotonic_ns(),
        )
