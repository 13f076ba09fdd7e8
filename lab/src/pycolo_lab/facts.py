"""Observations of a run, without judgement. Times are CLOCK_MONOTONIC nanoseconds, the same clock in every process."""

from typing import Any

import msgspec

from pycolo_lab.baseline.facts import Measured


class Pause(msgspec.Struct, array_like=True, frozen=True):
    """A period in which a client waited in vain."""

    start_ns: int
    end_ns: int

    @property
    def ns(self) -> int:
        """Its length."""
        return self.end_ns - self.start_ns


class TransferResult(msgspec.Struct, kw_only=True):
    """The result of a transfer client. `error` is None if every byte arrived and was correct."""

    started_ns: int
    ended_ns: int
    bytes: int
    pauses: list[Pause]
    error: str | None
    retransmits: int = 0


class SessionResult(msgspec.Struct, kw_only=True):
    """One small session. `after_kill` counts the questions asked after the kill and answered correctly."""

    number: int
    opened_ns: int | None
    ended_ns: int
    answers: int
    after_kill: int
    pauses: list[Pause]
    error: str | None


class Latency(msgspec.Struct, kw_only=True):
    """How long answers took, microseconds; zeros where there was none."""

    answers: int
    p50_us: int
    p99_us: int


class SessionsResult(msgspec.Struct, kw_only=True):
    """All small sessions, and how long an answer took: before the kill, and after each one's wait at the kill."""

    sessions: list[SessionResult]
    protected: Latency
    after_kill: Latency


class ProbeResult(msgspec.Struct, kw_only=True):
    """A connection that was opened after the kill."""

    connect_ms: float
    total_ms: float
    error: str | None


class Sample(msgspec.Struct, array_like=True, frozen=True):
    """The scoreboard at one time."""

    at_ns: int
    download_bytes: int
    upload_bytes: int
    answers: int


class Event(msgspec.Struct, array_like=True, frozen=True):
    """An event for the reader of the report."""

    at_ns: int
    text: str


class Takeover(msgspec.Struct, frozen=True):
    """The secondary's own account of its takeover."""

    suspected_ns: int
    decided_ns: int
    done_ns: int
    resent: int = 0


class HoldTime(msgspec.Struct, frozen=True):
    """How long the primary held packets for comparison, microseconds: the latency that protection adds."""

    p50: float
    p99: float
    max: float


class NodeStatus(msgspec.Struct, kw_only=True):
    """A node's answer to `status` on its control socket; unknown keys are ignored."""

    role: str
    state: str
    counters: dict[str, int] = {}
    divergences: list[dict[str, Any]] = []
    takeover: Takeover | None = None
    hold_us: HoldTime | None = None


class Kill(msgspec.Struct, kw_only=True):
    """The time when host A was cut off, and what was in flight. `how`: "kill", or "failover" if host B was told to take
    over while host A was alive."""

    at_ns: int
    how: str = "kill"
    download_bytes: int
    upload_bytes: int
    download_moving: bool
    upload_moving: bool


class Setting(msgspec.Struct, kw_only=True):
    """Where and when the run took place, and the command line that asked for it."""

    command: str
    began: str
    """ISO 8601, with the offset from UTC."""
    kernel: str
    guest_port: str
    as_root: bool
    tls: bool
    ip_version: int
    cpus: int
    version: str


class RunFacts(msgspec.Struct, kw_only=True):
    """Everything that a run gives to the verdict and the report. None: the run did not get that far."""

    setting: Setting
    started_ns: int
    ended_ns: int = 0
    baseline: list[Measured] = []
    """With --baseline: before anything else."""
    load_started_ns: int = 0
    kill: Kill | None = None
    download: TransferResult | None = None
    upload: TransferResult | None = None
    sessions: SessionsResult | None = None
    probe: ProbeResult | None = None
    primary: NodeStatus | None = None
    secondary_before: NodeStatus | None = None
    secondary: NodeStatus | None = None
    counters: dict[str, dict[str, int]] = {}
    """Kernel counters of guest B: name -> {"before", "kill", "after"}; "before" is the load's start."""
    client_resets: int = 0
    """TcpEstabResets of the client's kernel during the run."""
    samples: list[Sample] = []
    events: list[Event] = []
    ended_at_prompt: bool = False
    """With --hold: before anything was done to host A."""
    trouble: list[str] = []
    """Failures of the laboratory itself: a node that died unexpectedly, a client that had to be killed."""
