"""Facts -> numbers: the output of `colo demo --json`. Pure; `pycolo_lab.verdict` adds the verdict."""

from collections.abc import Iterable
from typing import Final, Literal

import msgspec

from pycolo_lab.baseline.summary import BaselineSummary, measure_baseline
from pycolo_lab.facts import Kill, Latency, NodeStatus, Pause, RunFacts, SessionResult, Setting, TransferResult
from pycolo_lab.options import LabOptions
from pycolo_lab.series import Field, value_at

KILL_WINDOW_NS: Final = 4_000_000_000
"""A pause that overlaps this time after the kill counts as the kill's."""

MS: Final = 1_000_000


class PhaseSummary(msgspec.Struct, kw_only=True):
    """A transfer under protection, or after the kill."""

    bytes: int
    seconds: float
    megabytes_per_second: float


class TransferSummary(msgspec.Struct, kw_only=True):
    """One transfer. Pauses are milliseconds without progress; `at_kill` bytes had come when host A died.

    `protected` is from its start until it stood still at the kill, `after_kill` from when it moved again to its end:
    their bytes are all bytes, and the time in which it stood still is in neither.
    """

    bytes: int
    seconds: float
    protected: PhaseSummary
    after_kill: PhaseSummary
    bytes_at_kill: int
    in_flight_at_kill: bool
    complete: bool
    error: str | None
    pause_at_kill_ms: float
    pause_otherwise_ms: float
    retransmits: int


class LatencySummary(msgspec.Struct, kw_only=True):
    """How long answers took, milliseconds."""

    answers: int
    ms_p50: float
    ms_p99: float


class SessionsSummary(msgspec.Struct, kw_only=True):
    """The small sessions. Pauses are milliseconds of waiting for an answer, over the sessions that were kept.

    `protected` are the answers that came before the kill; `after_kill` those to questions that a session asked after
    its wait at the kill, so that this wait is in neither.
    """

    opened_before_kill: int
    kept: int
    opened_after_kill: int
    opened_after_kill_ok: int
    answers: int
    answers_after_kill: int
    pause_at_kill_ms_p50: float
    pause_at_kill_ms_max: float
    pause_otherwise_ms_max: float
    protected: LatencySummary
    after_kill: LatencySummary
    latency_ms_p50: float
    latency_ms_p99: float
    """Those of `protected`, under their earlier names."""


class TakeoverSummary(msgspec.Struct, kw_only=True):
    """Milliseconds after the kill."""

    suspected_ms: float
    decided_ms: float
    done_ms: float
    frames_resent: int


class ProxySummary(msgspec.Struct, kw_only=True):
    """The nodes' own counters: the primary's shortly before its death, the secondary's at the end."""

    compared: int
    released: int
    discarded: int
    rewritten: int
    divergences: int
    first_divergence: str | None
    hold_us_p50: float | None
    hold_us_p99: float | None
    primary: dict[str, int]
    secondary: dict[str, int]


class ControlSummary(msgspec.Struct, kw_only=True):
    """A negative control: the omitted part, whether the failure showed, and how."""

    without: str
    shown: bool
    seen: list[str]


class Summary(msgspec.Struct, kw_only=True):
    """What `colo demo --json` prints. A part is null when the run did not get that far. `judged` is false for a held
    run that was ended before anything was done to host A: it shows nothing, good or bad."""

    judged: bool = True
    ok: bool
    verdict: str
    failures: list[str]
    control: ControlSummary | None
    setting: Setting
    seconds: float
    fault: str | None = None
    """"kill", or "failover" where host B was told to take over while host A lived."""
    connections_at_kill: int = 0
    connections_kept: int = 0
    resets_seen_by_clients: int = 0
    download: TransferSummary | None = None
    upload: TransferSummary | None = None
    sessions: SessionsSummary | None = None
    new_connection_ms: float | None = None
    takeover: TakeoverSummary | None = None
    proxy: ProxySummary | None = None
    kernel_of_guest_b: dict[str, dict[str, int]] = {}
    baseline: BaselineSummary | None = None
    """With --baseline."""


def measure(facts: RunFacts, options: LabOptions) -> Summary:
    """Compute the numbers; the verdict on them is still empty."""
    summary = Summary(
        ok=False,
        verdict="",
        failures=[],
        control=None,
        setting=facts.setting,
        seconds=round((facts.ended_ns - facts.started_ns) / 1e9, 1),
        resets_seen_by_clients=facts.client_resets,
        takeover=takeover_summary(facts.secondary, facts.kill.at_ns if facts.kill else None),
        proxy=proxy_summary(facts.primary, facts.secondary, divergence_count(facts.primary)),
        kernel_of_guest_b=facts.counters,
        fault=facts.kill.how if facts.kill else None,
        baseline=measure_baseline(facts.baseline) if facts.baseline else None,
    )
    if facts.kill:
        kill, size = facts.kill, options.size_bytes
        summary.download = _transfer(facts, "download", size)
        summary.upload = _transfer(facts, "upload", size)
        summary.sessions = _sessions(facts, kill)
        if facts.probe and not facts.probe.error:
            summary.new_connection_ms = round(facts.probe.connect_ms, 1)
        _count_connections(summary)
    return summary


def longest_pause_ms(pauses: Iterable[Pause], kill_ns: int, *, at_kill: bool) -> float:
    """Return the longest pause around the kill, or the longest elsewhere."""
    found = [pause.ns for pause in pauses if _is_at_kill(pause, kill_ns) is at_kill]
    return round(max(found, default=0) / MS, 1)


def stand_still(pauses: Iterable[Pause], kill_ns: int, decided_ns: int | None) -> Pause:
    """Return the stretch around the kill in which a client's bytes stood still; an empty one if they did not.

    Host A is dead a few milliseconds after the kill began, and what it had let out may still trickle in. When host B
    decides to take over, neither serves: the stretch is the one around that moment, or the longest where that is not
    known.
    """
    near = [pause for pause in pauses if _is_at_kill(pause, kill_ns)]
    if decided_ns is not None and decided_ns >= kill_ns:
        near = [pause for pause in near if pause.start_ns <= decided_ns <= pause.end_ns]
    return max(near, key=lambda pause: pause.ns, default=Pause(kill_ns, kill_ns))


def _is_at_kill(pause: Pause, kill_ns: int) -> bool:
    return pause.end_ns >= kill_ns and pause.start_ns <= kill_ns + KILL_WINDOW_NS


def _transfer(facts: RunFacts, name: Literal["download", "upload"], size: int | None) -> TransferSummary | None:
    result: TransferResult | None = getattr(facts, name)
    kill = facts.kill
    if result is None or kill is None:
        return None
    at_kill: int = getattr(kill, f"{name}_bytes")
    moving: bool = getattr(kill, f"{name}_moving")
    takeover = facts.secondary.takeover if facts.secondary else None
    still = stand_still(result.pauses, kill.at_ns, takeover.decided_ns if takeover else None)
    # While it stands still the counter does too; its middle is far from the edges, near which samples lie.
    field: Field = "download_bytes" if name == "download" else "upload_bytes"
    before = round(value_at(facts.samples, field, (still.start_ns + still.end_ns) // 2))
    before = min(max(before, at_kill), result.bytes)
    return TransferSummary(
        bytes=result.bytes,
        seconds=round(max(result.ended_ns - result.started_ns, 0) / 1e9, 2),
        protected=_phase(before, min(still.start_ns, result.ended_ns) - result.started_ns),
        after_kill=_phase(result.bytes - before, result.ended_ns - max(still.end_ns, result.started_ns)),
        bytes_at_kill=at_kill,
        in_flight_at_kill=moving and at_kill > 0 and (size is None or at_kill < size),
        complete=result.error is None,
        error=result.error,
        pause_at_kill_ms=longest_pause_ms(result.pauses, kill.at_ns, at_kill=True),
        pause_otherwise_ms=longest_pause_ms(result.pauses, kill.at_ns, at_kill=False),
        retransmits=result.retransmits,
    )


def _phase(moved: int, took_ns: int) -> PhaseSummary:
    seconds = max(took_ns, 0) / 1e9
    rate = round(moved / seconds / 1e6, 1) if moved and seconds else 0.0
    return PhaseSummary(bytes=moved, seconds=round(seconds, 3), megabytes_per_second=rate)


def _latency(latency: Latency) -> LatencySummary:
    return LatencySummary(
        answers=latency.answers,
        ms_p50=round(latency.p50_us / 1000, 2),
        ms_p99=round(latency.p99_us / 1000, 2),
    )


def is_kept(session: SessionResult) -> bool:
    """Whether a session that was open at the kill went on: correct answers to later questions."""
    return session.error is None and session.after_kill > 0


def _sessions(facts: RunFacts, kill: Kill) -> SessionsSummary | None:
    if facts.sessions is None:
        return None
    everyone = facts.sessions.sessions
    before = [s for s in everyone if s.opened_ns is not None and s.opened_ns <= kill.at_ns]
    # A handshake that the kill caught half-way belongs to those after it: the client had not been told that it was
    # open.
    after = [s for s in everyone if s.opened_ns is not None and s.opened_ns > kill.at_ns]
    never = [s for s in everyone if s.opened_ns is None and s.error]
    kept = [s for s in before if is_kept(s)]
    waits = sorted(longest_pause_ms(s.pauses, kill.at_ns, at_kill=True) for s in kept) or [0.0]
    others = [longest_pause_ms(s.pauses, kill.at_ns, at_kill=False) for s in everyone]
    protected = _latency(facts.sessions.protected)
    return SessionsSummary(
        opened_before_kill=len(before),
        kept=len(kept),
        opened_after_kill=len(after) + len(never),
        opened_after_kill_ok=sum(1 for s in after if is_kept(s)),
        answers=sum(s.answers for s in everyone),
        answers_after_kill=sum(s.after_kill for s in everyone),
        pause_at_kill_ms_p50=waits[len(waits) // 2],
        pause_at_kill_ms_max=waits[-1],
        pause_otherwise_ms_max=max(others, default=0.0),
        protected=protected,
        after_kill=_latency(facts.sessions.after_kill),
        latency_ms_p50=protected.ms_p50,
        latency_ms_p99=protected.ms_p99,
    )


def takeover_summary(status: NodeStatus | None, kill_ns: int | None) -> TakeoverSummary | None:
    """Of host B's `status` at the end; `kill_ns`: when host A died, or was told to."""
    if kill_ns is None or status is None or status.takeover is None:
        return None
    takeover = status.takeover
    return TakeoverSummary(
        suspected_ms=round((takeover.suspected_ns - kill_ns) / MS, 1),
        decided_ms=round((takeover.decided_ns - kill_ns) / MS, 1),
        done_ms=round((takeover.done_ns - kill_ns) / MS, 1),
        frames_resent=takeover.resent,
    )


def proxy_summary(primary: NodeStatus | None, secondary: NodeStatus | None, divergences: int) -> ProxySummary | None:
    """Of both nodes' last answers; `divergences`: how many there were."""
    if primary is None:
        return None
    mine = primary.counters
    theirs = secondary.counters if secondary else {}
    first = primary.divergences[0] if primary.divergences else None
    return ProxySummary(
        compared=mine.get("compared", 0),
        released=mine.get("released", 0),
        discarded=mine.get("discarded", 0),
        rewritten=theirs.get("rewritten", 0),
        divergences=divergences,
        first_divergence=None if first is None else str(first.get("text", first)),
        hold_us_p50=primary.hold_us.p50 if primary.hold_us else None,
        hold_us_p99=primary.hold_us.p99 if primary.hold_us else None,
        primary=mine,
        secondary=theirs,
    )


def divergence_count(primary: NodeStatus | None) -> int:
    """How many divergences the primary's node counted, or still lists."""
    return max(primary.counters.get("divergences", 0), len(primary.divergences)) if primary else 0


def _count_connections(summary: Summary) -> None:
    transfers = [transfer for transfer in (summary.download, summary.upload) if transfer]
    at_kill = [transfer for transfer in transfers if transfer.bytes_at_kill > 0]
    kept = [t for t in at_kill if t.complete and t.bytes > t.bytes_at_kill]
    sessions = summary.sessions
    summary.connections_at_kill = len(at_kill) + (sessions.opened_before_kill if sessions else 0)
    summary.connections_kept = len(kept) + (sessions.kept if sessions else 0)
