"""The numbers of a run in words, for the terminal and for the page."""

from collections.abc import Iterator

from pycolo.lab.summary import ProxySummary, SessionsSummary, Summary, TransferSummary

Row = tuple[str, str]


def rows(summary: Summary) -> list[Row]:
    """Return label and text, the most important first."""
    found = [
        ("connections kept", f"{summary.connections_kept} of {summary.connections_at_kill}"),
        ("resets seen by clients", str(summary.resets_seen_by_clients)),
    ]
    if summary.download:
        found += _transfer_rows("download", summary.download)
    if summary.upload:
        found += _transfer_rows("upload", summary.upload)
    if summary.sessions:
        found += _session_rows(summary.sessions)
    if summary.new_connection_ms is not None:
        found.append(("a new connection", f"open after {summary.new_connection_ms:.1f} ms"))
    takeover = summary.takeover
    if takeover:
        text = (
            f"decided {takeover.decided_ms:.0f} ms after the kill, done after {takeover.done_ms:.0f} ms, "
            f"{takeover.frames_resent} frames sent again"
        )
        found.append(("takeover", text))
    if summary.proxy:
        found += _proxy_rows(summary.proxy)
    return found


def _transfer_rows(name: str, transfer: TransferSummary) -> Iterator[Row]:
    state = "every byte right" if transfer.complete else f"FAILED: {transfer.error}"
    yield name, f"{transfer.bytes / 1e6:,.0f} MB at {transfer.megabytes_per_second:,.0f} MB/s, {state}"
    at_kill, otherwise = transfer.pause_at_kill_ms, transfer.pause_otherwise_ms
    yield f"{name} stood still", f"{at_kill:,.0f} ms at the kill, else {otherwise:,.0f} ms at most"


def _session_rows(sessions: SessionsSummary) -> Iterator[Row]:
    yield (
        "sessions",
        f"{sessions.answers:,} right answers, {sessions.answers_after_kill:,} of them asked after the kill",
    )
    if sessions.kept:
        waited = f"p50 {sessions.pause_at_kill_ms_p50:,.0f} ms, max {sessions.pause_at_kill_ms_max:,.0f} ms"
        yield (
            "sessions waited",
            f"{waited} at the kill, else {sessions.pause_otherwise_ms_max:,.0f} ms at most",
        )
    yield (
        "an answer took",
        f"p50 {sessions.latency_ms_p50:.1f} ms, p99 {sessions.latency_ms_p99:.1f} ms before the kill",
    )
    yield (
        "sessions opened later",
        f"{sessions.opened_after_kill_ok} of {sessions.opened_after_kill} work",
    )


def _proxy_rows(proxy: ProxySummary) -> Iterator[Row]:
    released = f"{proxy.compared:,} compared, {proxy.released:,} released, {proxy.discarded:,} discarded"
    yield "frames", f"{released}, {proxy.rewritten:,} rewritten"
    yield "divergences", str(proxy.divergences)
    if proxy.hold_us_p50 is not None and proxy.hold_us_p99 is not None:
        p50, p99 = proxy.hold_us_p50 / 1000, proxy.hold_us_p99 / 1000
        yield "latency added", f"p50 {p50:.2f} ms, p99 {p99:.2f} ms for which the primary held a packet"
