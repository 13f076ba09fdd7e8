"""Counters by service for a monitoring system, whose labels must be few for as long as the process lives."""

from typing import Any, Final

from pycolo.costs.sums import Sums

SERVICES_MAX: Final = 16
"""Each label is a time series in the monitoring system; few machines have more services that diverge."""

OTHERS: Final = "others"


class ServiceCounters:
    """The first `SERVICES_MAX` services that cost anything have a label until the process ends, the rest have one."""

    def __init__(self) -> None:
        self._sums: dict[str, Sums] = {}

    def add(self, service: str | None, sums: Sums) -> None:
        """`service` None: it cannot be told."""
        is_known = service in self._sums
        name = service if service is not None and (is_known or len(self._sums) < SERVICES_MAX) else OTHERS
        self._sums.setdefault(name, Sums()).add(sums)

    def status(self) -> dict[str, Any]:
        """By label: counters that only grow."""
        return {
            name: {
                "checkpoints": sums.checkpoints,
                "waited_us": sums.waited_us,
                "uncompared_bytes": sums.uncompared_bytes,
            }
            for name, sums in self._sums.items()
        }
