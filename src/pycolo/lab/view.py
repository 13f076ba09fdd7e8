"""What a person sees while a run is going on: a live panel on a terminal, plain lines elsewhere."""

import sys
from typing import Final, TextIO

from rich.console import Console, Group
from rich.live import Live as RichLive
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from pycolo.lab.facts import Event, NodeStatus
from pycolo.lab.scenario import Live, View
from pycolo.lab.series import Field, rates
from pycolo.lab.summary import Summary
from pycolo.lab.wording import rows

BARS: Final = "▁▂▃▄▅▆▇█"
SPARK_COLUMNS: Final = 56
SPARK_BUCKET_NS: Final = 100_000_000
LATEST_BUCKETS: Final = 3
"""The speed beside a curve is the mean of these."""

EVENTS_SHOWN: Final = 8


def sparkline(values: list[float], top: float) -> str:
    """Bars from low to high; a blank where there was nothing."""
    if top <= 0:
        return " " * len(values)
    return "".join(" " if value <= 0 else BARS[min(7, int(value / top * 7.999))] for value in values)


class PlainView:
    """One line for each event."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def event(self, event: Event, started_ns: int) -> None:
        """Print it with the seconds since the start."""
        print(f"{(event.at_ns - started_ns) / 1e9:6.2f} s  {event.text}", file=self._stream, flush=True)

    def show(self, live: Live) -> None:
        """Nothing: lines are for what happens, not for how it stands."""

    def close(self) -> None:
        """Nothing to give back."""


class LiveView:
    """A panel that is drawn anew ten times a second, by the caller's thread."""

    def __init__(self, console: Console) -> None:
        self._events: list[tuple[float, str]] = []
        self._live = RichLive(console=console, auto_refresh=False, transient=True)
        self._live.start()

    def event(self, event: Event, started_ns: int) -> None:
        """Keep it for the list at the bottom."""
        self._events.append(((event.at_ns - started_ns) / 1e9, event.text))

    def show(self, live: Live) -> None:
        """Draw."""
        self._live.update(_panel(live, self._events), refresh=True)

    def close(self) -> None:
        """Give the terminal back."""
        self._live.stop()


def make_view(*, as_json: bool) -> View:
    """A live panel where standard output is a terminal; with JSON on it, the lines go to standard error."""
    if as_json:
        return PlainView(sys.stderr)
    console = Console()
    return LiveView(console) if console.is_terminal else PlainView(sys.stdout)


def _panel(live: Live, events: list[tuple[float, str]]) -> Panel:
    killed = live.facts.kill is not None
    seconds = (live.now_ns - live.facts.started_ns) / 1e9
    title = Text(f" colo demo · {live.phase} · {seconds:.1f} s ", style="bold white on red" if killed else "bold")
    return Panel(Group(_curves(live), Text(), _nodes(live), Text(), _log(events)), title=title, border_style="dim")


def _curves(live: Live) -> Table:
    table = Table.grid(padding=(0, 2))
    curves: tuple[tuple[str, Field, str], ...] = (
        ("download", "download_bytes", "cyan"),
        ("upload", "upload_bytes", "magenta"),
        ("answers", "answers", "green"),
    )
    edges = [live.now_ns - SPARK_BUCKET_NS * (SPARK_COLUMNS - i) for i in range(SPARK_COLUMNS + 1)]
    samples = live.facts.samples
    for label, field, colour in curves:
        values = rates(samples, field, edges)
        latest = sum(values[-LATEST_BUCKETS:]) / LATEST_BUCKETS
        total = getattr(samples[-1], field) if samples else 0
        in_bytes = field != "answers"
        speed = f"{latest / 1e6:6,.0f} MB/s" if in_bytes else f"{latest:6,.0f} /s"
        amount = f"{total / 1e6:8,.0f} MB" if in_bytes else f"{total:8,}"
        table.add_row(label, Text(sparkline(values, max(values)), style=colour), speed, amount)
    return table


def _nodes(live: Live) -> Table:
    table = Table.grid(padding=(0, 2))
    failed = f", {live.sessions_failed} failed" if live.sessions_failed else ""
    table.add_row("sessions", Text(f"{live.sessions_open} open{failed}", style="red" if failed else ""))
    if live.facts.kill is not None:
        table.add_row("host A", "[bold red]✗ dead[/bold red]")
    else:
        table.add_row("host A", _node_line(live.primary, ("compared", "released", "held", "divergences")))
    table.add_row("host B", _node_line(live.secondary, ("rewritten", "guest_frames")))
    return table


def _node_line(status: NodeStatus | None, names: tuple[str, ...]) -> str:
    if status is None:
        return "[dim]starting[/dim]"
    counters = ", ".join(f"{status.counters.get(name, 0):,} {name.replace('_', ' ')}" for name in names)
    return f"[bold]{status.role} {status.state}[/bold]  {counters}"


def _log(events: list[tuple[float, str]]) -> Table:
    table = Table.grid(padding=(0, 2))
    for seconds, text in events[-EVENTS_SHOWN:]:
        table.add_row(Text(f"{seconds:6.2f} s", style="dim"), text)
    return table


def print_summary(summary: Summary) -> None:
    """The facts in two columns, then everything that failed, then the verdict."""
    console = Console(highlight=False, soft_wrap=True)
    console.print()
    for label, text in rows(summary):
        console.print(Text(f"  {label:>22}  ", style="dim"), Text(text), sep="")
    console.print()
    if summary.control:
        for text in summary.control.seen:
            console.print(Text(f"  seen: {text}"))
        console.print(Text(summary.verdict, style="bold yellow" if summary.control.shown else "bold red"))
        return
    for failure in summary.failures:
        console.print(Text("  ✗ ", style="red"), Text(failure), sep="")
    style = "bold green" if summary.ok else "bold red"
    console.print(Text(("✓ " if summary.ok else "✗ ") + summary.verdict, style=style))
