"""The report of a run with the user's own server: its sections, made of `pycolo_lab.page`'s parts."""

from html import escape
from pathlib import Path
from typing import Any, Final

from pycolo.node.sidebyside import halves
from pycolo_lab.causes import NOT_PROTECTED
from pycolo_lab.charts import Band, Key, Lifeline, Mark, lifelines
from pycolo_lab.own.facts import ConnectionRecord, OwnFacts, Run
from pycolo_lab.own.summary import GOOD, Account, DivergenceSummary, OwnSummary
from pycolo_lab.own.verdict import in_words
from pycolo_lab.own.wording import rows
from pycolo_lab.page import (
    Card,
    State,
    bullets,
    cards,
    counters,
    document,
    header,
    kernel_table,
    section,
    timeline,
    two_columns,
    write_page,
)

NS: Final = 1e9
LIFELINES_MAX: Final = 120
GAP_MS_MIN: Final = 50

RUNS: Final = (
    "One line each: the client's runs, from start to end, then the connections that were open at the kill, from the "
    "first look at them. A cross is a run that failed, or a connection that did not go on."
)
KERNEL: Final = (
    "What its TCP counted. A server and a client of your own may have reasons for some of it: a server that closes a "
    "connection with data unread sends a reset, and so does a client that is ended."
)


def write_report(path: Path, facts: OwnFacts, summary: OwnSummary) -> None:
    """Write the page. Raises OSError when the file cannot be written; half a page is not left behind."""
    write_page(path, render(facts, summary))


def render(facts: OwnFacts, summary: OwnSummary) -> str:
    """Return the page."""
    state: State = "good" if summary.ok else "bad"
    body = [
        header(
            state, "colo demo · your own server", summary.verdict, facts.setting, [f"{summary.seconds:.1f} s in all"]
        ),
        section("problems", "What failed", bullets(summary.failures), style="problems") if summary.failures else "",
        section("remarks", "To be known", bullets(summary.remarks)) if summary.remarks else "",
        _cards(summary),
    ]
    if facts.fault is not None:
        body.append(section("runs", "Every run of the client", _lives(facts, summary), RUNS))
    body += [_divergences(summary), section("facts", "The facts", two_columns(rows(summary)))]
    body += [
        section("kernel", "The kernel of guest B", kernel_table(facts.counters, clean=()), KERNEL),
        _timeline(facts),
    ]
    if summary.proxy is not None:
        tables = counters("The primary node, shortly before its death", summary.proxy.primary)
        tables += counters("The secondary node, at the end", summary.proxy.secondary)
        body.append(section("nodes", "Counters of the nodes", tables))
    return document(f"colo demo: {summary.verdict}", body)


def _cards(summary: OwnSummary) -> str:
    found = []
    if summary.connections is not None:
        found.append(
            Card(str(summary.connections.kept), f"of {summary.connections.at_kill}", "connections outlived host A")
        )
    if summary.runs is not None and summary.client is not None:
        found.append(Card(str(summary.runs.across_ok), f"of {summary.runs.across}", "runs of the client went on"))
    if summary.diverged is not None:
        found.append(Card(str(summary.diverged.connections), "", "connections diverged"))
    if summary.connections is not None and summary.connections.kept and summary.protocol == "tcp":
        found.append(Card(f"{summary.connections.pause_ms_max:,.0f}", "ms", "longest wait of a connection at the kill"))
    if summary.takeover:
        found.append(Card(f"{summary.takeover.done_ms:,.0f}", "ms", "from the kill to takeover done"))
    return cards(found)


def _timeline(facts: OwnFacts) -> str:
    zero, since = (facts.fault.at_ns, "the kill") if facts.fault else (facts.started_ns, "the start")
    return section("timeline", "What happened", timeline(facts.events, zero, since))


# ── runs ────────────────────────────────────────────────────────────────────────────────────────────────────


def _lives(facts: OwnFacts, summary: OwnSummary) -> str:
    assert facts.fault is not None
    account, zero = Account(facts), facts.fault.at_ns
    runs = account.runs
    step = max(1, -(-len(runs) // LIFELINES_MAX))
    across = {run.number for run in account.runs if run.started_ns <= zero <= run.ended_ns}
    shown = [run for index, run in enumerate(runs) if index % step == 0 or run.failed or run.number in across]
    lines = [_run_life(run, zero) for run in shown]
    lines += [_connection_life(account, each, facts) for each in account.connections[:LIFELINES_MAX]]
    ends = [line.end for line in lines] or [0.0]
    band = []
    if summary.takeover and summary.takeover.done_ms > 0:
        band = [Band(0, summary.takeover.done_ms / 1000, f"until takeover done, {summary.takeover.done_ms:.0f} ms")]
    word = "host A killed" if facts.fault.how == "kill" else "colo failover"
    return lifelines(
        lines,
        title="every run of the client and every connection at the kill",
        x_range=((facts.load_started_ns - zero) / NS, max(*ends, 0.1)),
        x_label="seconds from the kill",
        keys=[
            Key("line sessions", "a run of the client"),
            Key("line download", "a connection"),
            Key("line upload", "a connection that had diverged"),
        ],
        marks=[Mark(0, word)],
        bands=band,
        row_height=max(3.0, min(8.0, 480 / (len(lines) + 1))),
    )


def _run_life(run: Run, zero: int) -> Lifeline:
    outcome = in_words(run) if run.failed else "until the end" if run.ended_by_us else "succeeded"
    return Lifeline(
        style="sessions",
        name=f"run {run.number}: {outcome}",
        start=(run.started_ns - zero) / NS,
        end=(run.ended_ns - zero) / NS,
        gaps=[],
        lost=run.failed,
    )


def _connection_life(account: Account, record: ConnectionRecord, facts: OwnFacts) -> Lifeline:
    assert facts.fault is not None
    zero = facts.fault.at_ns
    diverged = account.has_diverged(record)
    run = next((run for run in account.runs if run.number == record.run), None)
    end_ns = run.ended_ns if run else facts.ended_ns
    pause_s = record.pause_ns / NS
    return Lifeline(
        style="upload" if diverged else "download",
        name=f"connection from port {record.port}: {record.fate.value}" + (", had diverged" if diverged else ""),
        start=(record.first_ns - zero) / NS,
        end=max((end_ns - zero) / NS, pause_s),
        gaps=[(0.0, pause_s)] if pause_s * 1000 >= GAP_MS_MIN else [],
        lost=record.fate not in GOOD,
    )


# ── what diverged ───────────────────────────────────────────────────────────────────────────────────────────


def _divergences(summary: OwnSummary) -> str:
    if summary.diverged is None:
        return ""
    if not summary.diverged.reports:
        return section("divergences", "What diverged", "", "Nothing: both guests gave the same answers.")
    body = "".join(_divergence(group) for group in summary.diverged.kinds)
    return section("divergences", "What diverged", body, NOT_PROTECTED)


def _divergence(group: DivergenceSummary) -> str:
    like = f"{group.count} like this, usually " if group.count > 1 else "Usually "
    return (
        f"<h3>{escape(str(group.first['text']))}</h3><p>{escape(like + group.cause)}.</p>"
        f'<div class="sides">{_sides(group.first)}</div>'
    )


def _sides(divergence: dict[str, Any]) -> str:
    """Both sides' bytes, one below or beside the other; the ones that differ are marked."""
    found = halves(divergence)
    if found is None:
        return ""
    drawn = []
    for title, lines in (("guest A", found[0]), ("guest B", found[1])):
        body = "\n".join(
            f"{line.position:>+4}  "
            + " ".join(_marked(cell.hex, differs=cell.differs) for cell in line.cells)
            + "  "
            + "".join(_marked(cell.text, differs=cell.differs) for cell in line.cells)
            for line in lines
        )
        drawn.append(f"<figure><figcaption>{title}</figcaption><pre>{body}</pre></figure>")
    return "".join(drawn)


def _marked(text: str, *, differs: bool) -> str:
    return f"<mark>{escape(text)}</mark>" if differs else escape(text)
