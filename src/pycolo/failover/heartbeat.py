"""Suspicion: the other node has been silent for too long, or its connection is gone.

**Silence is counted in this node's own running time.** After a stall (a busy machine, a paused VM, another
thread that holds the interpreter) the clock has jumped, but this node did not listen meanwhile, and the
other one's heartbeats may still wait in a buffer. So a step of the clock counts as silence up to
`own_stall_ms`; the rest is this node's own delay. Some of it always counts: a node that stalls all the time
must still notice, later, that it is alone.

The shell takes the time, reads the connection, and then calls `timer_fired` with that time: so what arrived
during a stall is heard before the silence is judged.
"""

from dataclasses import dataclass
from enum import Enum

from pycolo import limits


class SuspicionReason(Enum):
    """Why the other node is suspected."""

    SILENCE = "silence"
    CONNECTION_LOST = "connection lost"


@dataclass(frozen=True, slots=True)
class Suspect:
    """Command: ask the arbiter. `silent_ms` is the other node's silence in this node's running time."""

    reason: SuspicionReason
    silent_ms: int


@dataclass(frozen=True, slots=True)
class Recovered:
    """Command: the other node was heard again after a `Suspect` for silence; withdraw an open question."""

    silent_ms: int


class HeartbeatDetector:
    """Facts: `heard`, `connection_lost`, `timer_fired`. Commands: `Suspect` once per silence, `Recovered`."""

    def __init__(
        self,
        now_ms: int,
        interval_ms: int = limits.HEARTBEAT_INTERVAL_MS,
        timeout_ms: int = limits.HEARTBEAT_TIMEOUT_MS,
        own_stall_ms: int = limits.OWN_STALL_MS,
    ) -> None:
        """The other node counts as heard at `now_ms`: its hello just came."""
        assert 0 < interval_ms <= own_stall_ms < timeout_ms, "a step between two timers is no stall, a stall no silence"
        self.interval_ms = interval_ms
        self.timeout_ms = timeout_ms
        self.own_stall_ms = own_stall_ms
        self._awake_ms = now_ms  # the last time at which we were seen running
        self._silent_ms = 0
        self._suspected = False
        self._is_lost = False
        self._commands: list[Suspect | Recovered] = []

    @property
    def silent_ms(self) -> int:
        """The other node's silence so far, in this node's running time."""
        return self._silent_ms

    def heard(self, now_ms: int) -> None:
        """A message came from the other node."""
        if self._is_lost:
            return  # read late, from a connection that is gone
        self._count(now_ms)
        if self._suspected:
            self._suspected = False
            self._commands.append(Recovered(self._silent_ms))
        self._silent_ms = 0

    def connection_lost(self, now_ms: int) -> None:
        """The connection ended without a goodbye."""
        self._count(now_ms)
        self._is_lost = True
        self._suspect(SuspicionReason.CONNECTION_LOST)

    def timer_fired(self, now_ms: int) -> None:
        """`deadline_ms` has come (calls that come early or twice do no harm)."""
        self._count(now_ms)
        if self._silent_ms >= self.timeout_ms:
            self._suspect(SuspicionReason.SILENCE)

    def deadline_ms(self) -> int | None:
        """When to call `timer_fired` next: at least every interval, because its lateness shows a stall."""
        if self._suspected:
            return None
        return self._awake_ms + min(self.interval_ms, self.timeout_ms - self._silent_ms)

    def commands(self) -> list[Suspect | Recovered]:
        """The commands since the last call, in order."""
        drained, self._commands = self._commands, []
        return drained

    def _count(self, now_ms: int) -> None:
        step_ms = max(0, now_ms - self._awake_ms)
        self._silent_ms += min(step_ms, self.own_stall_ms)
        self._awake_ms += step_ms

    def _suspect(self, reason: SuspicionReason) -> None:
        if not self._suspected:
            self._suspected = True
            self._commands.append(Suspect(reason, self._silent_ms))
