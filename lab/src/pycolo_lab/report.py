"""The report of a demo: its sections, made of `pycolo_lab.page`'s parts and `pycolo_lab.charts`' pictures."""

from pathlib import Path
from typing import Final

from pycolo_lab.baseline import wording as baseline_wording
from pycolo_lab.charts import Band, Curve, Key, Lifeline, Mark, lifelines, line_chart
from pycolo_lab.facts import Pause, RunFacts, SessionResult, TransferResult
from pycolo_lab.options import LabOptions
from pycolo_lab.page import (
    Card,
    Entry,
    Phase,
    State,
    bullets,
    cards,
    comparison,
    counters,
    document,
    header,
    kernel_table,
    phases,
    section,
    timeline,
    two_columns,
    write_page,
)
from pycolo_lab.series import Field, rates, value_at
from pycolo_lab.summary import LatencySummary, PhaseSummary, Summary
from pycolo_lab.wording import NOTHING_MOVED, before_the_kill, rate, rows, why_faster

BUCKETS: Final = 160
"""Points of a curve over the whole run: about one for six pixels of a wide screen."""

ZOOM_BEFORE_MS: Final = 100
ZOOM_AFTER_MS_MIN: Final = 400
ZOOM_AFTER_MS_MAX: Final = 4000
ZOOM_PAUSES: Final = 1.6
"""The close view shows that many times the longest pause after the kill."""

LIFELINES_MAX: Final = 120
GAP_MS_MIN: Final = 50
"""Shorter pauses would be thinner than the line's own end."""

NS: Final = 1e9
KILLED: Final = Mark(0, "host A killed")


def write_report(path: Path, facts: RunFacts, summary: Summary, options: LabOptions) -> None:
    """Write the page. Raises OSError when the file cannot be written; half a page is not left behind."""
    write_page(path, render(facts, summary, options))


def render(facts: RunFacts, summary: Summary, options: LabOptions) -> str:
    """Return the page."""
    body = [_header(facts, summary, options), _problems(summary), _cards(summary)]
    if facts.kill is not None:
        body += [_phases(summary), _why(summary), _charts(facts, summary)]
    body += [
        section("facts", "The facts", two_columns(rows(summary))),
        _baseline(summary),
        section("kernel", "The kernel of guest B", kernel_table(facts.counters), KERNEL),
        _timeline(facts),
        _node_tables(summary),
    ]
    return document(f"colo demo: {summary.verdict}", body)


# ── words and numbers ───────────────────────────────────────────────────────────────────────────────────────

KERNEL: Final = "Its TCP counters. Packets with wrong numbers from a proxy would show in the first four."


def _header(facts: RunFacts, summary: Summary, options: LabOptions) -> str:
    state: State
    if summary.control:
        state = "expected" if summary.control.shown else "bad"
        kicker = f"negative control · without {summary.control.without}"
    else:
        state = "good" if summary.ok else "bad"
        kicker = "colo demo"
    also = [f"{summary.seconds:.1f} s in all", f"seed {options.seed}"]
    return header(state, kicker, summary.verdict, facts.setting, also)


def _problems(summary: Summary) -> str:
    if summary.control:
        items, title = summary.control.seen, "Observations"
    else:
        items, title = summary.failures, "What failed"
    return section("problems", title, bullets(items), style="problems") if items else ""


def _cards(summary: Summary) -> str:
    found = [
        Card(str(summary.connections_kept), f"of {summary.connections_at_kill}", "connections outlived host A"),
        Card(str(summary.resets_seen_by_clients), "", "resets seen by clients"),
    ]
    if summary.takeover:
        found.append(Card(f"{summary.takeover.done_ms:,.0f}", "ms", "from the kill to takeover done"))
    if summary.proxy and summary.proxy.hold_us_p50 is not None:
        found.append(Card(f"{summary.proxy.hold_us_p50 / 1000:.2f}", "ms", "median latency added by comparing"))
    return cards(found)


def _phases(summary: Summary) -> str:
    """Three cards: under protection, at the kill, after it. No number mixes two of them."""
    before: list[Entry] = []
    after: list[Entry] = []
    still: list[Entry] = []
    for name, transfer in (("download", summary.download), ("upload", summary.upload)):
        if transfer:
            before.append(_speed(name, transfer.protected))
            after.append(_speed(name, transfer.after_kill))
            still.append(Entry(f"{name} stood still", f"{transfer.pause_at_kill_ms:,.0f}", "ms"))
    sessions = summary.sessions
    if sessions:
        before.append(_answer(sessions.protected))
        after.append(_answer(sessions.after_kill))
        if sessions.kept:
            longest = f"median; {sessions.pause_at_kill_ms_max:,.0f} ms at most"
            still.append(Entry("sessions waited", f"{sessions.pause_at_kill_ms_p50:,.0f}", "ms", longest))
    title = before_the_kill(summary).capitalize()
    protection = "a part of the protection is left out" if summary.control else "both guests serve, and are compared"
    return phases(
        [
            Phase(title, protection, before, "before"),
            Phase("At the kill", "no guest serves until host B has taken over", still, "kill"),
            Phase("After the kill", "guest B serves alone", after, "after"),
        ]
    )


def _speed(name: str, phase: PhaseSummary) -> Entry:
    if not phase.bytes:
        return Entry(name, "–", "", NOTHING_MOVED)
    number, unit = rate(phase).split()
    return Entry(name, number, unit, f"{phase.bytes / 1e6:,.0f} MB in {phase.seconds:.1f} s")


def _answer(latency: LatencySummary) -> Entry:
    if not latency.answers:
        return Entry("an answer", "–", "", "none came")
    return Entry("an answer", f"{latency.ms_p50:.1f}", "ms", f"median; p99 {latency.ms_p99:.1f} ms")


def _why(summary: Summary) -> str:
    transfers = [transfer for transfer in (summary.download, summary.upload) if transfer]
    faster = any(t.after_kill.megabytes_per_second > t.protected.megabytes_per_second for t in transfers)
    if summary.control or not faster:
        return ""
    return section("why", "Why it is faster after the kill", "", why_faster(summary))


def _baseline(summary: Summary) -> str:
    if summary.baseline is None:
        return ""
    body = comparison(baseline_wording.HEAD, baseline_wording.table(summary.baseline))
    return section("baseline", baseline_wording.TITLE, body, baseline_wording.NOTE)


def _timeline(facts: RunFacts) -> str:
    zero, since = (facts.kill.at_ns, "the kill") if facts.kill else (facts.started_ns, "the start")
    return section("timeline", "What happened", timeline(facts.events, zero, since))


def _node_tables(summary: Summary) -> str:
    proxy = summary.proxy
    if proxy is None:
        return ""
    tables = counters("The primary node, shortly before its death", proxy.primary)
    tables += counters("The secondary node, at the end", proxy.secondary)
    return section("nodes", "Counters of the nodes", tables)


# ── pictures ────────────────────────────────────────────────────────────────────────────────────────────────


def _charts(facts: RunFacts, summary: Summary) -> str:
    return (
        section("throughput", "Throughput", _throughput(facts, summary))
        + '<div class="pair">'
        + section("close", "Close to the kill", _zoom(facts, summary), "Bytes received since the kill.")
        + section(
            "answers", "Small sessions", _answers(facts, summary), "Correct answers per second, all sessions together."
        )
        + "</div>"
        + section("connections", "Every connection", _lives(facts, summary), CONNECTIONS)
    )


CONNECTIONS: Final = (
    "One line each, from its opening to its end, in the order of opening: the two transfers, then the sessions. A wait "
    f"is shown from {GAP_MS_MIN} ms on."
)


def _x_range(facts: RunFacts) -> tuple[float, float]:
    """The whole load, in seconds from the kill."""
    assert facts.kill is not None
    end = facts.samples[-1].at_ns
    return (facts.load_started_ns - facts.kill.at_ns) / NS, (end - facts.kill.at_ns) / NS


def _takeover_band(summary: Summary, unit_ms: float) -> list[Band]:
    if summary.takeover is None or summary.takeover.done_ms <= 0:
        return []
    return [Band(0, summary.takeover.done_ms / unit_ms, f"until takeover done, {summary.takeover.done_ms:.0f} ms")]


def _curve(facts: RunFacts, field: Field, style: str, name: str, scale: float) -> Curve:
    """Growth per second; the kill lies on the edge of a bucket, so that no bucket mixes before and after."""
    assert facts.kill is not None
    start, end = facts.load_started_ns, facts.samples[-1].at_ns
    bucket = max((end - start) // BUCKETS, 1)
    first = facts.kill.at_ns - (facts.kill.at_ns - start) // bucket * bucket
    edges = list(range(first, end + 1, bucket))
    points = [
        ((edge + bucket / 2 - facts.kill.at_ns) / NS, rate * scale)
        for edge, rate in zip(edges, rates(facts.samples, field, edges), strict=False)
    ]
    return Curve(style, name, points)


def _throughput(facts: RunFacts, summary: Summary) -> str:
    return line_chart(
        [
            _curve(facts, "download_bytes", "download", "download", 1e-6),
            _curve(facts, "upload_bytes", "upload", "upload", 1e-6),
        ],
        title="throughput of both transfers over time",
        x_range=_x_range(facts),
        x_label="seconds from the kill",
        y_label="MB/s",
        bands=_takeover_band(summary, 1000),
        marks=[KILLED],
    )


def _answers(facts: RunFacts, summary: Summary) -> str:
    return line_chart(
        [_curve(facts, "answers", "sessions", "answers per second", 1)],
        title="answers of the small sessions over time",
        x_range=_x_range(facts),
        x_label="seconds from the kill",
        y_label="per s",
        bands=_takeover_band(summary, 1000),
        marks=[KILLED],
        height=220,
    )


def _zoom(facts: RunFacts, summary: Summary) -> str:
    assert facts.kill is not None
    kill_ns = facts.kill.at_ns
    transfers = [t for t in (summary.download, summary.upload) if t and t.complete]
    pauses = [transfer.pause_at_kill_ms for transfer in transfers]
    after_ms = min(max(ZOOM_AFTER_MS_MIN, max(pauses, default=0) * ZOOM_PAUSES), ZOOM_AFTER_MS_MAX)
    inside = [s for s in facts.samples if -ZOOM_BEFORE_MS <= (s.at_ns - kill_ns) / 1e6 <= after_ms]
    curves = []
    fields: tuple[tuple[Field, str], ...] = (("download_bytes", "download"), ("upload_bytes", "upload"))
    for field, style in fields:
        zero = value_at(facts.samples, field, kill_ns)
        points = [((s.at_ns - kill_ns) / 1e6, (getattr(s, field) - zero) / 1e6) for s in inside]
        curves.append(Curve(style, style, points))
    marks = [KILLED]
    if summary.takeover and 0 < summary.takeover.done_ms < after_ms:
        marks.append(Mark(summary.takeover.done_ms, "taken over", "taken"))
    return line_chart(
        curves,
        title="bytes of both transfers around the kill",
        x_range=(-ZOOM_BEFORE_MS, after_ms),
        x_label="milliseconds from the kill",
        y_label="MB",
        bands=_takeover_band(summary, 1),
        marks=marks,
        height=220,
        filled=False,
    )


LIFE_STYLES: Final = {"download": "download", "upload": "upload", "sessions": "a session"}


def _lives(facts: RunFacts, summary: Summary) -> str:
    assert facts.kill is not None
    kill_ns = facts.kill.at_ns
    lines = [
        _transfer_life(result, style, kill_ns)
        for result, style in ((facts.download, "download"), (facts.upload, "upload"))
        if result
    ]
    sessions = [s for s in (facts.sessions.sessions if facts.sessions else []) if s.opened_ns is not None]
    step = max(1, -(-len(sessions) // LIFELINES_MAX))
    shown = [s for index, s in enumerate(sessions) if index % step == 0 or s.error]
    lines += [_session_life(s, kill_ns) for s in sorted(shown, key=lambda s: s.opened_ns or 0)]
    return lifelines(
        lines,
        title="every connection from its opening to its end",
        x_range=_x_range(facts),
        x_label="seconds from the kill",
        keys=[Key(f"line {style}", name) for style, name in LIFE_STYLES.items()],
        marks=[KILLED],
        bands=_takeover_band(summary, 1000),
        row_height=max(3.0, min(8.0, 480 / (len(lines) + 1))),
    )


def _transfer_life(result: TransferResult, style: str, kill_ns: int) -> Lifeline:
    return Lifeline(
        style=style,
        name=f"{style}: {result.bytes / 1e6:,.0f} MB" + (f", {result.error}" if result.error else ""),
        start=(result.started_ns - kill_ns) / NS,
        end=(result.ended_ns - kill_ns) / NS,
        gaps=_gaps(result.pauses, kill_ns),
        lost=result.error is not None,
    )


def _session_life(session: SessionResult, kill_ns: int) -> Lifeline:
    assert session.opened_ns is not None
    outcome = session.error or f"{session.answers} answers, {session.after_kill} asked after the kill"
    return Lifeline(
        style="sessions",
        name=f"session {session.number}: {outcome}",
        start=(session.opened_ns - kill_ns) / NS,
        end=(session.ended_ns - kill_ns) / NS,
        gaps=_gaps(session.pauses, kill_ns),
        lost=session.error is not None,
    )


def _gaps(pauses: list[Pause], kill_ns: int) -> list[tuple[float, float]]:
    return [
        ((pause.start_ns - kill_ns) / NS, (pause.end_ns - kill_ns) / NS)
        for pause in pauses
        if pause.ns >= GAP_MS_MIN * 1e6
    ]
