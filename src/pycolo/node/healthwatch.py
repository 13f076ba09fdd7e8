"""Looks at a protected pair's counters once a second, and tells the pair table when the verdict changes.

What is judged, and how, is in `failover.health`; only the primary has the counters that it needs.
"""

from collections.abc import Mapping
from typing import Any, Final

from pycolo.failover.health import WINDOW_MS, Health, Verdict
from pycolo.failover.pair import Told
from pycolo.failover.pairstates import Fact, State
from pycolo.node.decider import Decider
from pycolo.node.guest import Guest

LOOK_S: Final = 1.0
"""Between two looks at the counters."""

_PREFIX: Final = "uncompared_"
_SUFFIX: Final = "_bytes"
_WATCHED: Final = frozenset({State.PRIMARY_PROTECTED, State.DEGRADED, State.PRIMARY_BROKEN})


class HealthWatch:
    """One node's. `look` is to be called about every `LOOK_S`."""

    def __init__(self, decider: Decider, guest: Guest) -> None:
        self._decider = decider
        self._guest = guest
        self._health: Health | None = None

    def changed(self, before: State, after: State) -> None:
        """Another state of the pair: what was counted before a pair was formed says nothing about it."""
        if after not in _WATCHED:
            self._health = None
        elif before not in _WATCHED:
            self._health = Health()

    async def look(self) -> None:
        """Judge by the counters of the moment. Raises `StateError` when the data path has ended."""
        health = self._health
        if health is None:
            return
        snapshot = await self._guest.snapshot()
        if health is not self._health:
            return  # the pair was dissolved meanwhile
        counters = snapshot.get("counters", {})
        verdict = health.counted(self._decider.now_ms, counters.get("compared_bytes", 0), uncompared_bytes(counters))
        state = self._decider.pair.state
        if verdict is Verdict.DEGRADED and state is State.PRIMARY_PROTECTED:
            self._decider.tell(Fact.UNHEALTHY, Told(text=health.why))
        elif verdict is Verdict.WELL and state is State.DEGRADED:
            self._decider.tell(Fact.WELL)

    def shown(self) -> dict[str, Any] | None:
        """For the status; None where there is nothing to judge: no pair, or its secondary."""
        if self._health is None:
            return None
        health, window = self._health, self._health.window
        return {
            "verdict": health.verdict.value,
            "why": health.why,
            "age_ms": health.age_ms(self._decider.now_ms),
            "window_ms": WINDOW_MS,
            "compared_bytes": window.compared,
            "uncompared_bytes": window.uncompared,
            "allowed_bytes": window.allowed,
        }


def uncompared_bytes(counters: Mapping[str, int]) -> dict[str, int]:
    """Bytes of payload that left uncompared, by reason, from a data path's counters."""
    return {
        name.removeprefix(_PREFIX).removesuffix(_SUFFIX): value
        for name, value in counters.items()
        if name.startswith(_PREFIX) and name.endswith(_SUFFIX)
    }
