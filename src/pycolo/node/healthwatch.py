"""Looks at a protected pair's counters once a second, and tells the pair table when the verdict changes.

A pair that was just formed is probed first (`Prober`), and again each second for as long as nothing comes back.

What is judged, and how, is in `failover.health`; only the primary has the counters that it needs.
"""

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, Final, Protocol

import structlog

from pycolo.checkpoint.records import CheckpointRecord, Outcome, ReasonKind
from pycolo.errors import PeerError, StateError
from pycolo.failover.health import WINDOW_MS, Health, Verdict
from pycolo.failover.pair import Pair, Told
from pycolo.failover.pairstates import Fact, State
from pycolo.node.decider import Decider
from pycolo.node.guest import Guest

LOOK_S: Final = 1.0
"""Between two looks at the counters."""

log = structlog.get_logger("colo")

_PREFIX: Final = "uncompared_"
_SUFFIX: Final = "_bytes"
_WATCHED: Final = frozenset({State.PRIMARY_PROTECTED, State.DEGRADED, State.PRIMARY_BROKEN})


class Probes(Protocol):
    """See `pycolo.node.prober.Prober`."""

    async def probe(self) -> float | None:
        """Milliseconds until a frame of the nodes' own was back; None: it did not come back."""


class HealthWatch:
    """A service of one node; `each_second` is called as well."""

    def __init__(
        self, decider: Decider, guest: Guest, prober: Probes | None, each_second: Callable[[], None] = lambda: None
    ) -> None:
        self._decider = decider
        self._guest = guest
        self._prober = prober
        self._each_second = each_second
        self._task: asyncio.Task[None] | None = None
        self._looking = asyncio.Lock()
        self._probe_ms: float | None = None
        self._health: Health | None = None

    async def start(self) -> None:
        """Begin to look."""
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def close(self) -> None:
        """Look no more."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    async def _run(self) -> None:
        try:
            while True:
                await self.look()
                self._each_second()
                await asyncio.sleep(LOOK_S)
        except StateError:
            return  # the data path has ended
        except Exception as error:
            log.critical("nothing watches the pair's health any more; this is a bug", exc_info=error)

    def changed(self, _: Fact | None, before: Pair, after: Pair) -> None:
        """Another state of the pair: what was counted before a pair was formed says nothing about it."""
        if after.state not in _WATCHED:
            self._health = None
        elif before.state not in _WATCHED:
            self._health = Health()
            self._probe_ms = None

    def checkpoint(self, record: CheckpointRecord) -> None:
        """One has ended. Looked at with the next counters."""
        if self._health is None or record.outcome is not Outcome.COMMITTED or not record.reasons:
            return
        if record.reasons[0].kind is ReasonKind.TIMEOUT:
            self._health.timed_out()

    async def prove(self) -> str:
        """What is there to be said for a pair that was just formed: what was compared, or that there was no traffic.

        Raises `PeerError` for a pair that is degraded already, or gone.
        """
        await self.look()
        if self._health is None:
            raise PeerError("the pair broke while the way to the secondary was being tried")
        if self._health.verdict is Verdict.DEGRADED:
            raise PeerError(f"the pair is degraded: {self._health.why}")
        compared = self._health.window.compared
        return f"compared {compared} bytes" if compared else str(Verdict.UNSEEN)

    async def look(self) -> None:
        """Judge by the counters of the moment. Raises `StateError` when the data path has ended."""
        async with self._looking:
            await self._look()

    async def _look(self) -> None:
        health = self._health
        if health is None:
            return
        snapshot = await self._guest.snapshot()
        if health is not self._health:
            return  # the pair was dissolved meanwhile
        counters = snapshot.get("counters", {})
        health.found_equal(counters.get("compared", 0))
        health.counted(self._decider.now_ms, counters.get("compared_bytes", 0), uncompared_bytes(counters))
        if self._prober is not None and self._probe_ms is None:
            took_ms = await self._prober.probe()
            if health is not self._health:
                return
            self._probe_ms = took_ms
            health.probed(has_returned=took_ms is not None)
        self._tell(health)

    def _tell(self, health: Health) -> None:
        state = self._decider.pair.state
        if health.verdict is Verdict.DEGRADED:
            if state is State.PRIMARY_PROTECTED:
                self._decider.tell(Fact.UNHEALTHY, Told(text=health.why))
        elif state is State.DEGRADED:
            self._decider.tell(Fact.WELL)

    def shown(self) -> dict[str, Any] | None:
        """For the status; None where there is nothing to judge: no pair, or its secondary."""
        if self._health is None:
            return None
        health, window = self._health, self._health.window
        return {
            "verdict": health.verdict.value,
            "why": health.why,
            "probe_ms": None if self._probe_ms is None else round(self._probe_ms, 1),
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
