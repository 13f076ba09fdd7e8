"""Observations of a run with the user's own server. Times are CLOCK_MONOTONIC nanoseconds."""

from enum import Enum
from typing import Any

import msgspec

from pycolo_lab.facts import Event, NodeStatus, Setting


class Fate(Enum):
    """The fate of a connection that was open at the kill."""

    OPEN = "open"
    CLOSED = "closed"
    """Closed in order: one side sent a FIN."""
    ABORTED = "aborted"
    """The client reset it: it closed it with data unread, or gave up."""
    RESET = "reset"
    """The server's side reset it."""
    STALLED = "stalled"
    """It moved before the kill, and no byte has moved since."""
    LOST = "lost"
    """The client's kernel gave up on it."""


class Moment(Enum):
    """When a run of the client was under way."""

    BEFORE = "before"
    ACROSS = "across"
    AFTER = "after"


class Run(msgspec.Struct, kw_only=True):
    """One run of the client's command. `code`: as the shell counts, 128 and the signal's number for a signal."""

    number: int
    started_ns: int
    ended_ns: int
    code: int
    ended_by_us: bool = False
    words: str = ""
    """The end of its output, of a run that failed."""

    def moment(self, killed_ns: int) -> Moment:
        """With respect to the kill."""
        if self.ended_ns < killed_ns:
            return Moment.BEFORE
        return Moment.ACROSS if self.started_ns <= killed_ns else Moment.AFTER

    @property
    def failed(self) -> bool:
        """By itself: not because the run was over."""
        return self.code != 0 and not self.ended_by_us


class ConnectionRecord(msgspec.Struct, kw_only=True):
    """A TCP connection that was open at the kill. `port`: the client's; `moved`: bytes, both directions."""

    port: int
    run: int | None
    first_ns: int
    moved_at_kill: int
    moved: int
    pause_ns: int
    fate: Fate


class ClientsResult(msgspec.Struct, kw_only=True):
    """What the client runner leaves. `runs`: those across the kill and those that failed, all of them; of the others
    the first RUNS_KEPT."""

    runs: list[Run]
    runs_ended_well: int
    connections: list[ConnectionRecord]
    accepted_after: int
    """New connections after the kill."""
    resets_after: int
    """Connections, open at the kill or new since, that the server's side reset."""
    blind: str | None = None
    """Why the client's kernel could not be asked about its connections."""


class Fault(msgspec.Struct, kw_only=True):
    """What was done to host A, and when."""

    at_ns: int
    how: str
    """"kill", or "failover": host B was told to take over while host A lived."""


class DivergedConnection(msgspec.Struct, frozen=True):
    """One line of a node's answer to `divergences`."""

    connection: str
    kind: str
    at_ns: int


class Divergences(msgspec.Struct, kw_only=True):
    """A node's answer to `divergences`. `divergences`: the last ones with their bytes; `connections`: more, without."""

    total: int = 0
    divergences: list[dict[str, Any]] = []
    connections: list[DivergedConnection] = []


class OwnFacts(msgspec.Struct, kw_only=True):
    """Everything that a run gives to the verdict and the report. None: the run did not get that far."""

    setting: Setting
    serve: str
    client: str | None
    host: str
    port: int
    udp: bool
    started_ns: int
    ended_ns: int = 0
    load_started_ns: int = 0
    fault: Fault | None = None
    clients: ClientsResult | None = None
    primary: NodeStatus | None = None
    secondary: NodeStatus | None = None
    divergences: Divergences | None = None
    """The primary's answer after it was cut off, and before it died."""
    counters: dict[str, dict[str, int]] = {}
    client_counters: dict[str, dict[str, int]] = {}
    events: list[Event] = []
    notes: list[str] = []
    """What the guests share with the machine, and why."""
    trouble: list[str] = []
