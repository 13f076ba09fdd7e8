"""The display of a run: a live picture on a terminal, plain lines elsewhere; then the summary.

Everything is laid out in lines for the available width, from 40 columns on. The events stay on the terminal when the
picture is gone.
"""

import sys
from collections.abc import Iterable
from typing import Final, TextIO

from rich.console import Console, ConsoleDimensions, Group
from rich.control import Control
from rich.live import Live as RichLive
from rich.panel import Panel
from rich.text import Text

from pycolo_lab.baseline import wording as baseline_wording
from pycolo_lab.facts import Event, NodeStatus
from pycolo_lab.scenario import Live, View
from pycolo_lab.series import Field, rates
from pycolo_lab.summary import Summary
from pycolo_lab.terminal import hanging, terminal_columns, terminal_size, wrapped
from pycolo_lab.wording import rows

BARS: Final = "▁▂▃▄▅▆▇█"
SPARK_COLUMNS_MAX: Final = 120
SPARK_BUCKET_NS: Final = 100_000_000
LATEST_BUCKETS: Final = 3
"""The speed beside a curve is the mean of these."""

PROGRESS_NS: Final = 1_000_000_000
"""Interval of progress lines in plain output."""

ROOMY: Final = 60
"""Columns from which on the picture has a frame, and totals beside the curves."""

TWO_COLUMNS: Final = 72
"""Columns from which on the summary has its labels at the left of the texts, not above them."""

NODE_COLUMNS: Final = 10


def event_lines(seconds: float, text: str, columns: int | None) -> list[str]:
    """Time and text; text that does not fit continues below, indented behind the time."""
    return hanging(f"{seconds:6.2f} s  ", text, columns)


def sparkline(values: list[float], top: float) -> str:
    """Bars from low to high; a blank where there was no value."""
    if top <= 0:
        return " " * len(values)
    return "".join(" " if value <= 0 else BARS[min(7, int(value / top * 7.999))] for value in values)


# ── during the run ──────────────────────────────────────────────────────────────────────────────────────────


class PlainView:
    """A line for each event, and a progress line every second."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._said_ns = 0

    def event(self, event: Event, started_ns: int) -> None:
        """Print it with the seconds since the start."""
        self.say(event.at_ns - started_ns, event.text)

    def show(self, live: Live) -> None:
        """Print a progress line, once a second, while there is load."""
        kill = live.facts.kill
        # The kill begins a second of its own: no figure mixes before and after.
        since = max(self._said_ns, live.facts.load_started_ns, kill.at_ns if kill else 0)
        if not live.facts.load_started_ns or live.now_ns - since < PROGRESS_NS:
            return
        self._said_ns = live.now_ns
        self.say(live.now_ns - live.facts.started_ns, _progress(live, since))

    def close(self) -> None:
        """Nothing to give back."""

    def say(self, since_start_ns: int, text: str) -> None:
        """A line with the time since the start."""
        for line in event_lines(since_start_ns / 1e9, text, terminal_columns(self._stream)):
            print(line, file=self._stream, flush=True)


def _progress(live: Live, since_ns: int) -> str:
    down, up, answers = (
        rates(live.facts.samples, field, [since_ns, live.now_ns])[0]
        for field in ("download_bytes", "upload_bytes", "answers")
    )
    lost = f", {live.sessions_failed} sessions failed" if live.sessions_failed else ""
    return f"download {down / 1e6:,.0f} MB/s, upload {up / 1e6:,.0f} MB/s, {answers:,.0f} answers/s{lost}"


class LiveView:
    """A picture that the caller's thread redraws ten times a second, on the terminal's alternate screen.

    There it leaves nothing behind when the terminal changes its size, and the earlier screen returns; then the events
    are printed on that.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._events: list[tuple[float, str]] = []
        self._live = RichLive(console=console, auto_refresh=False, screen=True)
        self._live.start()

    def event(self, event: Event, started_ns: int) -> None:
        """Keep the event, for the picture and for afterwards."""
        self._events.append(((event.at_ns - started_ns) / 1e9, event.text))
        if not self._live.is_started:
            self._print(self._events[-1:])

    def show(self, live: Live) -> None:
        """Draw."""
        if self._live.is_started:
            size = terminal_size(self._console.file)
            if size is not None:
                self._console.size = ConsoleDimensions(*size)  # the current size, whatever the environment says
            self._live.update(picture(live, self._events, *self._console.size), refresh=True)

    def close(self) -> None:
        """Restore the terminal, and print the events on it."""
        if self._live.is_started:
            self._console.control(Control.clear(), Control.home())  # for a terminal without an alternate screen
            self._live.stop()
            self._print(self._events)

    def _print(self, events: Iterable[tuple[float, str]]) -> None:
        columns = terminal_columns(self._console.file)
        for seconds, text in events:
            for line in event_lines(seconds, text, columns):
                self._console.print(Text(line), soft_wrap=True)


def make_view(*, as_json: bool) -> View:
    """A live picture where standard output is a terminal that can draw; with JSON on it, lines on standard error."""
    if as_json:
        return PlainView(sys.stderr)
    console = Console()
    draws = console.is_terminal and not console.is_dumb_terminal and console.encoding.startswith("utf")
    return LiveView(console) if draws else PlainView(sys.stdout)


def picture(live: Live, events: list[tuple[float, str]], width: int, height: int) -> Panel | Group:
    """The picture, in at most so many columns and lines."""
    killed = live.facts.kill is not None
    seconds = (live.now_ns - live.facts.started_ns) / 1e9
    title = Text(f" colo demo · {live.phase} · {seconds:.1f} s ", style="bold white on red" if killed else "bold")
    if width < ROOMY:
        title.truncate(width)
        return Group(title, *_body(live, events, width, height - 1))
    return Panel(Group(*_body(live, events, width - 4, height - 2)), title=title, border_style="dim")


def _body(live: Live, events: list[tuple[float, str]], width: int, height: int) -> list[Text]:
    lines = [*_curves(live, width), Text(), *_nodes(live, width), Text()]
    log: list[str] = []
    for seconds, text in reversed(events):
        latest = event_lines(seconds, text, width)
        if len(lines) + len(latest) + len(log) > height:
            break  # an event is shown whole or not at all
        log = latest + log
    return [*lines[: max(height, 0)], *map(Text, log)]


def _curves(live: Live, width: int) -> list[Text]:
    curves: tuple[tuple[str, Field, str], ...] = (
        ("download", "download_bytes", "cyan"),
        ("upload", "upload_bytes", "magenta"),
        ("answers", "answers", "green"),
    )
    roomy = width >= ROOMY - 4
    columns = min(SPARK_COLUMNS_MAX, width - (36 if roomy else 21))
    edges = [live.now_ns - SPARK_BUCKET_NS * (columns - i) for i in range(columns + 1)]
    samples = live.facts.samples
    lines = []
    for label, field, colour in curves:
        values = rates(samples, field, edges)
        latest = sum(values[-LATEST_BUCKETS:]) / LATEST_BUCKETS
        total = getattr(samples[-1], field) if samples else 0
        in_bytes = field != "answers"
        speed = f"{latest / 1e6:6,.0f} MB/s" if in_bytes else f"{latest:6,.0f} /s  "
        amount = (f"{total / 1e6:9,.0f} MB" if in_bytes else f"{total:9,}   ") if roomy else ""
        bars = sparkline(values, max(values))
        lines.append(Text.assemble(f"{label:<8} ", (bars, colour), f" {speed} {amount}".rstrip()))
    return lines


def _nodes(live: Live, width: int) -> list[Text]:
    failed = f", {live.sessions_failed} failed" if live.sessions_failed else ""
    lines = _labelled("sessions", f"{live.sessions_open} open{failed}", width, "red" if failed else "")
    if live.facts.kill is not None:
        lines += _labelled("host A", "✗ dead", width, "bold red")
    else:
        lines += _labelled("host A", _node(live.primary, ("compared", "released", "held", "divergences")), width)
    return lines + _labelled("host B", _node(live.secondary, ("rewritten", "guest_frames")), width)


def _labelled(label: str, text: str, width: int, style: str = "") -> list[Text]:
    first, *others = wrapped(text, width - NODE_COLUMNS)
    lines = [Text.assemble(f"{label:<{NODE_COLUMNS}}", (first, style))]
    return lines + [Text.assemble(" " * NODE_COLUMNS, (other, style)) for other in others]


def _node(status: NodeStatus | None, names: tuple[str, ...]) -> str:
    if status is None:
        return "starting"
    counters = ", ".join(f"{status.counters.get(name, 0):,} {name.replace('_', ' ')}" for name in names)
    return f"{status.role} {status.state}: {counters}"


# ── afterwards ──────────────────────────────────────────────────────────────────────────────────────────────


def print_summary(summary: Summary) -> None:
    """The facts, then everything that failed, then the verdict."""
    console = Console(highlight=False, soft_wrap=True)
    for line in summary_lines(summary, terminal_columns(sys.stdout)):
        console.print(line)


def summary_lines(summary: Summary, columns: int | None) -> list[Text]:
    """The same in lines: in two columns where there is room, else with each label above its text."""
    lines = [Text(), *row_lines(rows(summary), columns), Text()]
    if summary.baseline:
        lines += [*map(Text, baseline_wording.lines(summary.baseline, columns)), Text()]
    if summary.control:
        for text in summary.control.seen:
            lines += bullet("seen: ", text, columns, "")
        style = "bold yellow" if summary.control.shown else "bold red"
        return lines + [Text(line, style=style) for line in wrapped(summary.verdict, columns)]
    for failure in summary.failures:
        lines += bullet("✗ ", failure, columns, "red")
    style, mark = ("bold green", "✓ ") if summary.ok else ("bold red", "✗ ")
    if not summary.judged:
        style, mark = "bold", ""
    return lines + [Text(line, style=style) for line in wrapped(mark + summary.verdict, columns)]


def row_lines(found: Iterable[tuple[str, str]], columns: int | None) -> list[Text]:
    """Labels and texts."""
    pairs = list(found)
    widest = max((len(label) for label, _ in pairs), default=0)
    lines = []
    for label, text in pairs:
        if columns is not None and columns < TWO_COLUMNS:
            lines += [Text(line, style="dim") for line in wrapped(label, columns)]
            lines += [Text(f"  {line}") for line in wrapped(text, columns - 2)]
            continue
        first, *others = wrapped(text, columns - widest - 4 if columns else None)
        lines.append(Text.assemble((f"  {label:>{widest}}  ", "dim"), first))
        lines += [Text(" " * (widest + 4) + other) for other in others]
    return lines


def bullet(sign: str, text: str, columns: int | None, style: str) -> list[Text]:
    """An item of a list."""
    indent = len(sign) + 2
    first, *others = wrapped(text, columns - indent if columns else None)
    return [Text.assemble(("  " + sign, style), first), *(Text(" " * indent + other) for other in others)]
