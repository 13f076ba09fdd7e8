"""The numbers of a run in words, for the terminal and for the page."""

from collections.abc import Iterator
from typing import Final

from pycolo_lab.summary import (
    LatencySummary,
    PhaseSummary,
    ProxySummary,
    SessionsSummary,
    Summary,
    TransferSummary,
)

Row = tuple[str, str]

SLOW_MB_S: Final = 10
"""Below it a digit after the point says something."""

NOTHING_MOVED: Final = "nothing moved"

WHY_FASTER: Final = (
    "Under protection each byte goes to both guests, their answers are compared, and the slower one sets the pace. "
    "All of that crosses one link between the nodes, and clients, guests and nodes share {cpus}. After the kill "
    "guest B serves alone: nothing is mirrored, compared or waited for, host A's processes are gone, and only the "
    "translation of the old connections' numbers is left. That rate says nothing about protection."
)
"""Why the second of the two rates is the higher one."""


def before_the_kill(summary: Summary) -> str:
    """What to call the time before the kill: a control leaves a part of the protection out."""
    return "before the kill" if summary.control else "protected"


def why_faster(summary: Summary) -> str:
    """The reason, with the machine's cores."""
    cpus = summary.setting.cpus
    return WHY_FASTER.format(cpus="the same core" if cpus == 1 else f"the same {cpus} cores")


def rows(summary: Summary) -> list[Row]:
    """Return label and text, the most important first."""
    found = [
        ("connections kept", f"{summary.connections_kept} of {summary.connections_at_kill}"),
        ("resets seen by clients", str(summary.resets_seen_by_clients)),
    ]
    before = before_the_kill(summary)
    if summary.download:
        found += _transfer_rows("download", before, summary.download)
    if summary.upload:
        found += _transfer_rows("upload", before, summary.upload)
    if summary.sessions:
        found += _session_rows(before, summary.sessions)
    if summary.new_connection_ms is not None:
        found.append(("a new connection", f"open after {summary.new_connection_ms:.1f} ms"))
    takeover = summary.takeover
    if takeover:
        since = "colo failover" if summary.fault == "failover" else "the kill"
        text = (
            f"decided {takeover.decided_ms:.0f} ms after {since}, done after {takeover.done_ms:.0f} ms, "
            f"{takeover.frames_resent} frames sent again"
        )
        found.append(("takeover", text))
    if summary.proxy:
        found += _proxy_rows(summary.proxy)
    return found


def rate(phase: PhaseSummary) -> str:
    """A transfer's speed."""
    speed = phase.megabytes_per_second
    return f"{speed:,.0f} MB/s" if speed >= SLOW_MB_S else f"{speed:,.1f} MB/s"


def _transfer_rows(name: str, before: str, transfer: TransferSummary) -> Iterator[Row]:
    for when, phase in ((before, transfer.protected), ("after the kill", transfer.after_kill)):
        moved = f"{rate(phase)} ({phase.bytes / 1e6:,.0f} MB in {phase.seconds:.1f} s)"
        yield f"{name}, {when}", moved if phase.bytes else NOTHING_MOVED
    at_kill, otherwise = transfer.pause_at_kill_ms, transfer.pause_otherwise_ms
    yield f"{name} stood still", f"{at_kill:,.0f} ms at the kill, else {otherwise:,.0f} ms at most"
    state = "every byte right" if transfer.complete else f"FAILED: {transfer.error}"
    yield f"{name} in all", f"{transfer.bytes / 1e6:,.0f} MB, {state}"


def _session_rows(before: str, sessions: SessionsSummary) -> Iterator[Row]:
    yield f"an answer, {before}", latency(sessions.protected)
    yield "an answer, after the kill", latency(sessions.after_kill)
    if sessions.kept:
        waited = f"p50 {sessions.pause_at_kill_ms_p50:,.0f} ms, max {sessions.pause_at_kill_ms_max:,.0f} ms"
        yield (
            "sessions waited",
            f"{waited} at the kill, else {sessions.pause_otherwise_ms_max:,.0f} ms at most",
        )
    yield (
        "sessions",
        f"{sessions.answers:,} right answers, {sessions.answers_after_kill:,} of them asked after the kill",
    )
    yield (
        "sessions opened later",
        f"{sessions.opened_after_kill_ok} of {sessions.opened_after_kill} work",
    )


def latency(latency: LatencySummary) -> str:
    """How long answers took."""
    if not latency.answers:
        return "none came"
    return f"p50 {latency.ms_p50:.1f} ms, p99 {latency.ms_p99:.1f} ms ({latency.answers:,} answers)"


def _proxy_rows(proxy: ProxySummary) -> Iterator[Row]:
    released = f"{proxy.compared:,} compared, {proxy.released:,} released, {proxy.discarded:,} discarded"
    yield "frames", f"{released}, {proxy.rewritten:,} rewritten"
    yield "divergences", str(proxy.divergences)
    if proxy.hold_us_p50 is not None and proxy.hold_us_p99 is not None:
        p50, p99 = proxy.hold_us_p50 / 1000, proxy.hold_us_p99 / 1000
        yield "latency added", f"p50 {p50:.2f} ms, p99 {p99:.2f} ms for which the primary held a packet"
