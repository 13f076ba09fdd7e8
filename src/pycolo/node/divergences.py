"""The last divergences, for `colo status` and `colo explain`; the first ones in the log as well, then their number."""

from collections import Counter, deque
from collections.abc import Callable, Iterable
from time import monotonic_ns
from typing import Any, Final

import structlog

from pycolo.compare.difference import Command, Difference
from pycolo.node.digest import Digest

KEPT: Final = 64
"""The last divergences that `colo status` and `colo explain` show."""

CONNECTIONS_KEPT: Final = 4096
"""Connections that have diverged, the last ones, without their bytes: some 300 KB as JSON."""

log = structlog.get_logger("colo")


class Divergences:
    """`policy`: what is done about them, for the log. `observe`: told of each."""

    def __init__(self, policy: str, observe: Callable[[Difference], None] = lambda difference: None) -> None:
        self.records: deque[dict[str, Any]] = deque(maxlen=KEPT)
        self.kinds: Counter[str] = Counter()
        self.total = 0
        self._connections: dict[str, dict[str, Any]] = {}
        self._policy = policy
        self._observe = observe
        self._digest = Digest("divergences")

    def note(self, commands: Iterable[Command]) -> None:
        """The comparator has reported these."""
        for command in commands:
            self.records.append(_record(command.difference))
            self.kinds[command.difference.kind.name.lower()] += 1
            self.total += 1
            self._remember(command.difference)
            self._observe(command.difference)
            self._log(command.difference)

    def answer(self) -> dict[str, Any]:
        """Answer to `divergences`: the last ones with their bytes, and further connections without."""
        return {
            "total": self.total,
            "divergences": list(self.records),
            "connections": list(self._connections.values()),
        }

    def summarise(self) -> None:
        """Write the line about the last minute, if it is due."""
        if line := self._digest.due(monotonic_ns() // 1_000_000):
            log.warning(line, policy=self._policy)

    def _remember(self, difference: Difference) -> None:
        """Keep the latest of each connection."""
        if difference.connection is None:
            return
        name = str(difference.connection)
        self._connections.pop(name, None)
        if len(self._connections) >= CONNECTIONS_KEPT:
            self._connections.pop(next(iter(self._connections)))
        self._connections[name] = {
            "connection": name,
            "card": difference.card or None,
            "kind": difference.kind.name.lower(),
            "at_ns": monotonic_ns(),
        }

    def _log(self, difference: Difference) -> None:
        self.summarise()
        if self._digest.is_whole(difference.kind.name.lower(), monotonic_ns() // 1_000_000):
            log.warning(
                f"divergence: {difference}",
                kind=difference.kind.name.lower(),
                primary=difference.primary[difference.primary_index :][:16].hex(" "),
                secondary=difference.secondary[difference.secondary_index :][:16].hex(" "),
                policy=self._policy,
            )


def _record(difference: Difference) -> dict[str, Any]:
    """As in the control socket's answers."""
    return {
        "connection": str(difference.connection) if difference.connection else None,
        "card": difference.card or None,
        "kind": difference.kind.name.lower(),
        "seq": difference.seq,
        "waited_ms": difference.waited_ms,
        "text": str(difference),
        "primary": difference.primary.hex(),
        "primary_index": difference.primary_index,
        "secondary": difference.secondary.hex(),
        "secondary_index": difference.secondary_index,
        "masked": difference.masked_positions,
        "at_ns": monotonic_ns(),
    }
