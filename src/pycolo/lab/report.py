"""The report: one HTML page that needs nothing else, readable in light and dark, on screen and on paper."""

from html import escape
from importlib.resources import files
from pathlib import Path
from typing import Final

from pycolo.lab.charts import Band, Curve, Lifeline, Mark, lifelines, line_chart
from pycolo.lab.facts import Pause, RunFacts, SessionResult, TransferResult
from pycolo.lab.observe import CLEAN
from pycolo.lab.options import LabOptions
from pycolo.lab.series import Field, rates, value_at
from pycolo.lab.summary import Summary
from pycolo.lab.wording import rows

BUCKETS: Final = 160
"""Points of a curve over the whole run: about one for six pixels."""

ZOOM_BEFORE_MS: Final = 100
ZOOM_AFTER_MS_MIN: Final = 400
ZOOM_AFTER_MS_MAX: Final = 4000
ZOOM_PAUSES: Final = 1.6
"""The close view shows that many times the longest pause after the kill."""

LIFELINES_MAX: Final = 120
GAP_MS_MIN: Final = 50
"""Shorter pauses would be thinner than the line's own end."""

NS: Final = 1e9


def write_report(path: Path, facts: RunFacts, summary: Summary, options: LabOptions) -> None:
    """Write the page. Raises OSError when the file cannot be written; half a page is not left behind."""
    page = render(facts, summary, options)
    with path.open("w", encoding="utf-8") as file:
        try:
            file.write(page)
            file.flush()
        except OSError:
            # Only a file of ours: not a device or a pipe that somebody named on purpose.
            if path.is_file():
                path.unlink()
            raise


def render(facts: RunFacts, summary: Summary, options: LabOptions) -> str:
    """Return the page."""
    style = (files(__package__) / "report.css").read_text(encoding="utf-8")
    body = [_header(facts, summary, options), _problems(summary), _cards(summary)]
    if facts.kill is not None:
        body.append(_charts(facts, summary))
    body += [_facts_table(summary), _kernel_table(facts), _timeline(facts), _node_tables(summary)]
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>colo demo: {escape(summary.verdict)}</title><style>{style}</style></head>\n"
        f"<body><main>{''.join(body)}</main></body></html>\n"
    )


# ── words and numbers ───────────────────────────────────────────────────────────────────────────────────────


def _header(facts: RunFacts, summary: Summary, options: LabOptions) -> str:
    setting = facts.setting
    if summary.control:
        state = "expected" if summary.control.shown else "bad"
        kicker = f"negative control · without {escape(summary.control.without)}"
    else:
        state = "good" if summary.ok else "bad"
        kicker = "colo demo"
    wires = "TAP devices" if setting.guest_port == "tap" else "veth pairs and packet sockets"
    where = [
        f"pycolo {setting.version}",
        f"Linux {setting.kernel}, {setting.cpus} CPUs",
        f"guests behind {wires}",
        f"IPv{setting.ip_version}",
        "link under TLS" if setting.tls else "link in plain text",
        "root" if setting.as_root else "unprivileged user",
        f"{summary.seconds:.1f} s in all, seed {options.seed}",
    ]
    return (
        f'<header class="{state}"><p class="kicker">{kicker}</p><h1>{escape(summary.verdict)}</h1>'
        f"<p class=where>{' · '.join(escape(word) for word in where)}</p></header>"
    )


def _problems(summary: Summary) -> str:
    if summary.control:
        items, title = summary.control.seen, "What was seen"
    else:
        items, title = summary.failures, "What failed"
    if not items:
        return ""
    listed = "".join(f"<li>{escape(item)}</li>" for item in items)
    return f"<section class=problems><h2>{title}</h2><ul>{listed}</ul></section>"


def _cards(summary: Summary) -> str:
    cards = [
        (
            f"{summary.connections_kept}<small> of {summary.connections_at_kill}</small>",
            "connections outlived host A",
        ),
        (str(summary.resets_seen_by_clients), "resets seen by clients"),
    ]
    transfers = [transfer for transfer in (summary.download, summary.upload) if transfer]
    if transfers:
        pause = max(transfer.pause_at_kill_ms for transfer in transfers)
        cards.append((f"{pause:,.0f}<small> ms</small>", "longest pause of a transfer"))
    if summary.takeover:
        cards.append((f"{summary.takeover.done_ms:,.0f}<small> ms</small>", "from the kill to takeover done"))
    if summary.proxy and summary.proxy.hold_us_p50 is not None:
        cards.append((f"{summary.proxy.hold_us_p50 / 1000:.2f}<small> ms</small>", "median latency added by comparing"))
    drawn = "".join(f"<div class=card><b>{number}</b><span>{text}</span></div>" for number, text in cards)
    return f"<section class=cards>{drawn}</section>"


def _facts_table(summary: Summary) -> str:
    body = "".join(f"<tr><th>{escape(label)}</th><td>{escape(text)}</td></tr>" for label, text in rows(summary))
    return f"<section><h2>The facts</h2><table class=facts>{body}</table></section>"


def _kernel_table(facts: RunFacts) -> str:
    lines = []
    for name, values in facts.counters.items():
        before, kill, after = (values.get(moment) for moment in ("before", "kill", "after"))
        grown = (after if after is not None else kill or 0) - (before or 0)
        if name not in CLEAN and not grown:
            continue
        style = ("clean" if not grown else "dirty") if name in CLEAN else ""
        cells = "".join(f"<td>{'' if value is None else f'{value:,}'}</td>" for value in (before, kill, after))
        note = {"clean": "must stay 0 ✓", "dirty": "must stay 0 ✗"}.get(style, "")
        lines.append(f'<tr class="{style}"><th><code>{name}</code></th>{cells}<td>{note}</td></tr>')
    head = "<tr><th>counter</th><td>before the load</td><td>at the kill</td><td>at the end</td><td></td></tr>"
    return (
        "<section><h2>The kernel of guest B</h2>"
        "<p>What its TCP counted. A packet whose numbers a proxy got wrong would show in the first four.</p>"
        f"<table class=numbers><thead>{head}</thead><tbody>{''.join(lines)}</tbody></table></section>"
    )


def _timeline(facts: RunFacts) -> str:
    zero = facts.kill.at_ns if facts.kill else facts.started_ns
    events = sorted(facts.events, key=lambda event: event.at_ns)
    seconds = [f"{(event.at_ns - zero) / NS:+.3f} s".replace("-", "−") for event in events]
    body = "".join(
        f"<tr><td>{at}</td><th>{escape(event.text)}</th></tr>" for at, event in zip(seconds, events, strict=True)
    )
    since = "the kill" if facts.kill else "the start"
    table = f"<table class=timeline><caption>Seconds from {since}</caption>{body}</table>"
    return f"<section><h2>What happened</h2>{table}</section>"


def _node_tables(summary: Summary) -> str:
    if summary.proxy is None:
        return ""
    tables = []
    for title, counters in (
        ("the primary node, shortly before its death", summary.proxy.primary),
        ("the secondary node, at the end", summary.proxy.secondary),
    ):
        body = "".join(
            f"<tr><th><code>{escape(name)}</code></th><td>{value:,}</td></tr>"
            for name, value in sorted(counters.items())
        )
        tables.append(f"<details><summary>Counters of {title}</summary><table class=numbers>{body}</table></details>")
    return f"<section>{''.join(tables)}</section>"


# ── pictures ────────────────────────────────────────────────────────────────────────────────────────────────


def _charts(facts: RunFacts, summary: Summary) -> str:
    return (
        f"<section><h2>Throughput</h2>{_legend(('download', 'download'), ('upload', 'upload'))}"
        f"{_throughput(facts, summary)}</section>"
        "<section class=pair>"
        f"<div><h2>Close to the kill</h2><p>Bytes that came, counted from the moment of the kill.</p>"
        f"{_zoom(facts, summary)}</div>"
        f"<div><h2>Small sessions</h2><p>Right answers per second, all sessions together.</p>"
        f"{_answers(facts, summary)}</div></section>"
        "<section><h2>Every connection</h2><p>One line each, from its opening to its end, in the order of "
        "opening: the two transfers, then the sessions. A gap is a wait of 50 ms or more; a cross is a lost "
        "connection.</p>"
        f"{_lives(facts, summary)}</section>"
    )


def _legend(*entries: tuple[str, str]) -> str:
    keys = "".join(f'<span class="key {style}">{name}</span>' for style, name in entries)
    return f"<p class=legend>{keys}</p>"


def _x_range(facts: RunFacts) -> tuple[float, float]:
    """The whole load, in seconds from the kill."""
    assert facts.kill is not None
    end = facts.samples[-1].at_ns
    return (facts.load_started_ns - facts.kill.at_ns) / NS, (end - facts.kill.at_ns) / NS


def _takeover_band(summary: Summary, unit_ms: float) -> list[Band]:
    if summary.takeover is None or summary.takeover.done_ms <= 0:
        return []
    return [Band(0, summary.takeover.done_ms / unit_ms, f"takeover done after {summary.takeover.done_ms:.0f} ms")]


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
        marks=[Mark(0, "host A killed")],
    )


def _answers(facts: RunFacts, summary: Summary) -> str:
    return line_chart(
        [_curve(facts, "answers", "sessions", "answers per second", 1)],
        title="answers of the small sessions over time",
        x_range=_x_range(facts),
        x_label="seconds from the kill",
        y_label="per s",
        bands=_takeover_band(summary, 1000),
        marks=[Mark(0, "host A killed")],
        width=510,
        height=280,
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
    marks = [Mark(0, "killed")]
    if summary.takeover and 0 < summary.takeover.done_ms < after_ms:
        marks.append(Mark(summary.takeover.done_ms, "taken over"))
    return line_chart(
        curves,
        title="bytes of both transfers around the kill",
        x_range=(-ZOOM_BEFORE_MS, after_ms),
        x_label="milliseconds from the kill",
        y_label="MB",
        bands=_takeover_band(summary, 1),
        marks=marks,
        width=510,
        height=280,
        filled=False,
    )


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
        marks=[Mark(0, "host A killed")],
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
