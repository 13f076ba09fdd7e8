"""The numbers of a run with the user's own server in words, for the terminal and for the page."""

from collections.abc import Iterator

from pycolo.node.sidebyside import divergence_lines
from pycolo_lab.own.summary import ConnectionsSummary, DivergedSummary, OwnSummary, RunsSummary

Row = tuple[str, str]


def rows(summary: OwnSummary) -> list[Row]:
    """Return label and text, the most important first."""
    found: list[Row] = [("server", f"{in_one_line(summary.serve)}   ({summary.protocol} {summary.address})")]
    if summary.client is not None:
        found.append(("client", in_one_line(summary.client)))
    if summary.connections is not None:
        found += _connection_rows(summary.connections, summary)
    if summary.runs is not None and summary.client is not None:
        found += _run_rows(summary.runs)
    takeover = summary.takeover
    if takeover:
        since = "the kill" if summary.fault == "kill" else "colo failover"
        done = f"done after {takeover.done_ms:.0f} ms, {takeover.frames_resent} frames sent again"
        found.append(("takeover", f"decided {takeover.decided_ms:.0f} ms after {since}, {done}"))
    if summary.proxy:
        proxy = summary.proxy
        released = f"{proxy.compared:,} compared, {proxy.released:,} released, {proxy.discarded:,} discarded"
        found.append(("frames", f"{released}, {proxy.rewritten:,} rewritten"))
        if proxy.hold_us_p50 is not None and proxy.hold_us_p99 is not None:
            p50, p99 = proxy.hold_us_p50 / 1000, proxy.hold_us_p99 / 1000
            found.append(("latency added", f"p50 {p50:.2f} ms, p99 {p99:.2f} ms for which the primary held a packet"))
    if summary.diverged:
        found += _diverged_rows(summary.diverged)
    return found


def in_one_line(command: str) -> str:
    """A command may be a script of several lines."""
    return " ".join(command.split())


def _connection_rows(connections: ConnectionsSummary, summary: OwnSummary) -> Iterator[Row]:
    yield "connections kept", f"{connections.kept} of {connections.at_kill} that were open at the kill"
    if summary.protocol == "tcp":
        fates = ", ".join(f"{count} {fate}" for fate, count in sorted(connections.fates.items()))
        if fates:
            yield "their fate", fates
        yield "resets seen by clients", f"{summary.resets_seen_by_clients} after the kill"
        if connections.kept:
            yield "stood still", f"{connections.pause_ms_max:,.0f} ms at the kill, the longest of them"
        yield "new connections", f"{connections.new_after_kill} after the kill"


def _run_rows(runs: RunsSummary) -> Iterator[Row]:
    yield "runs of the client", f"{runs.before} before the kill, {runs.across} across it, {runs.after} after it"
    yield (
        "of these succeeded",
        f"{runs.across_ok} of {runs.across} across the kill, {runs.after_ok} of {runs.after} after it",
    )


def _diverged_rows(diverged: DivergedSummary) -> Iterator[Row]:
    if not diverged.reports:
        yield "divergences", "none: both guests gave the same answers"
        return
    at_kill = f"{diverged.at_kill} of those open at the kill, {diverged.lost} lost"
    yield "divergences", f"{diverged.reports:,} on {diverged.connections:,} connections; {at_kill}"


def divergence_text(diverged: DivergedSummary) -> Iterator[str]:
    """What diverged, with the bytes."""
    for group in diverged.kinds:
        yield f"{group.count} like this, usually {group.cause}:" if group.count > 1 else f"usually {group.cause}:"
        lines = list(divergence_lines(group.first, 0))
        yield from (f"  {line}" for line in [lines[0], *lines[2:]])
        yield ""
