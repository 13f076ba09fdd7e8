"""Charts as inline SVG. Colours are CSS classes of the page, so that light and dark both work."""

import math
from collections.abc import Callable, Sequence
from html import escape
from typing import Final

import msgspec

WIDTH: Final = 1040
LEFT: Final = 64
RIGHT: Final = 16
TOP: Final = 26
BOTTOM: Final = 40
TICKS_WANTED: Final = 6


class Curve(msgspec.Struct, frozen=True):
    """One line: its CSS class, its name, and points in the units of the axes."""

    style: str
    name: str
    points: Sequence[tuple[float, float]]


class Band(msgspec.Struct, frozen=True):
    """A stretch of the x axis that is shaded, with a tooltip."""

    start: float
    end: float
    text: str


class Mark(msgspec.Struct, frozen=True):
    """A vertical line with a word at its top."""

    at: float
    text: str


class Lifeline(msgspec.Struct, frozen=True):
    """One connection: from when to when, where it waited, and whether it was lost at its end."""

    style: str
    name: str
    start: float
    end: float
    gaps: Sequence[tuple[float, float]]
    lost: bool


class Frame:
    """The drawing area: from values to pixels."""

    def __init__(self, x_range: tuple[float, float], y_range: tuple[float, float], width: int, height: int) -> None:
        self.x_range, self.y_range = x_range, y_range
        self.width, self.height = width, height
        self.right, self.bottom = width - RIGHT, height - BOTTOM

    def x(self, value: float) -> float:
        """Pixels from the left."""
        low, high = self.x_range
        return LEFT + (value - low) / (high - low) * (self.right - LEFT)

    def y(self, value: float) -> float:
        """Pixels from the top."""
        low, high = self.y_range
        return self.bottom - (value - low) / (high - low) * (self.bottom - TOP)

    def svg(self, parts: Sequence[str], title: str) -> str:
        """The finished picture."""
        head = f'<svg viewBox="0 0 {self.width} {self.height}" role="img" aria-label="{escape(title)}">'
        return "\n".join([head, *parts, "</svg>"])


def nice_ticks(low: float, high: float, wanted: int = TICKS_WANTED) -> list[float]:
    """Return round numbers within [low, high], about as many as wanted."""
    raw = (high - low) / wanted
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= raw * 0.7)
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [index * step for index in range(first, last + 1)]


def line_chart(
    curves: Sequence[Curve],
    *,
    title: str,
    x_range: tuple[float, float],
    x_label: str,
    y_label: str,
    bands: Sequence[Band] = (),
    marks: Sequence[Mark] = (),
    width: int = WIDTH,
    height: int = 300,
    filled: bool = True,
) -> str:
    """Lines over a common x axis, with the area below them lightly filled."""
    values = [y for curve in curves for _, y in curve.points] or [0.0]
    low, high = min(0.0, *values), max(1.0, *values)
    margin = (high - low) * 0.08
    frame = Frame(x_range, (low - margin if low < 0 else 0.0, high + margin), width, height)
    parts = [_band(frame, band) for band in bands]
    parts += _axes(frame, x_label, y_label)
    for curve in curves:
        path = " ".join(f"{frame.x(x):.1f},{frame.y(y):.1f}" for x, y in curve.points)
        if filled and curve.points:
            start, end = frame.x(curve.points[0][0]), frame.x(curve.points[-1][0])
            zero = f"{frame.y(0):.1f}"
            corners = f"{start:.1f},{zero} {path} {end:.1f},{zero}"
            parts.append(f'<polygon class="area {curve.style}" points="{corners}"/>')
        name = f"<title>{escape(curve.name)}</title>"
        parts.append(f'<polyline class="line {curve.style}" points="{path}">{name}</polyline>')
    parts += [_mark(frame, mark) for mark in marks]
    return frame.svg(parts, title)


def lifelines(
    lines: Sequence[Lifeline],
    *,
    title: str,
    x_range: tuple[float, float],
    x_label: str,
    marks: Sequence[Mark],
    bands: Sequence[Band] = (),
    row_height: float = 5.0,
) -> str:
    """One row for each connection, from its opening to its end; a gap where it waited, a cross where it was
    lost."""
    height = int(TOP + BOTTOM + row_height * (len(lines) + 1))
    frame = Frame(x_range, (0, len(lines) + 1), WIDTH, height)
    parts = [_band(frame, band) for band in bands]
    parts += _x_axis(frame, x_label)
    for row, line in enumerate(lines):
        y = frame.y(len(lines) - row)
        parts.append(f'<g class="life {line.style}"><title>{escape(line.name)}</title>')
        start = line.start
        for gap_start, gap_end in line.gaps:
            parts.append(_stroke(frame, start, gap_start, y, ""))
            parts.append(_stroke(frame, gap_start, gap_end, y, "gap"))
            start = gap_end
        parts.append(_stroke(frame, start, line.end, y, ""))
        if line.lost:
            x = frame.x(line.end)
            parts.append(f'<path class="lost" d="M{x - 3:.1f},{y - 3:.1f}l6,6m0,-6l-6,6"/>')
        parts.append("</g>")
    parts += [_mark(frame, mark) for mark in marks]
    return frame.svg(parts, title)


def _stroke(frame: Frame, start: float, end: float, y: float, style: str) -> str:
    return f'<path class="{style}" d="M{frame.x(start):.1f},{y:.1f}H{frame.x(max(start, end)):.1f}"/>'


def _band(frame: Frame, band: Band) -> str:
    start, end = frame.x(max(band.start, frame.x_range[0])), frame.x(min(band.end, frame.x_range[1]))
    return (
        f'<rect class="band" x="{start:.1f}" y="{TOP}" width="{max(end - start, 1):.1f}" '
        f'height="{frame.bottom - TOP}"><title>{escape(band.text)}</title></rect>'
    )


def _mark(frame: Frame, mark: Mark) -> str:
    x = frame.x(mark.at)
    # The word stays inside the picture.
    anchor, shift = ("end", -6) if x > frame.width * 0.8 else ("start", 6)
    return f'<line class="mark" x1="{x:.1f}" x2="{x:.1f}" y1="{TOP - 14}" y2="{frame.bottom}"/>' + _text(
        "mark", x + shift, TOP - 5, anchor, mark.text
    )


def _axes(frame: Frame, x_label: str, y_label: str) -> list[str]:
    parts = []
    ticks = nice_ticks(*frame.y_range, wanted=4)
    show = _number(ticks)
    for value in ticks:
        y = frame.y(value)
        style = "zero" if value == 0 else "grid"
        parts.append(f'<line class="{style}" x1="{LEFT}" x2="{frame.right}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(_text("tick", LEFT - 8, y + 4, "end", show(value)))
    parts.append(_text("label", LEFT - 8, TOP - 12, "end", y_label))
    return parts + _x_axis(frame, x_label)


def _x_axis(frame: Frame, label: str) -> list[str]:
    ticks = nice_ticks(*frame.x_range, wanted=max(5, frame.width // 110))
    show = _number(ticks)
    parts = [f'<line class="zero" x1="{LEFT}" x2="{frame.right}" y1="{frame.bottom}" y2="{frame.bottom}"/>']
    for value in ticks:
        x = frame.x(value)
        parts.append(f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{TOP}" y2="{frame.bottom}"/>')
        parts.append(_text("tick", x, frame.bottom + 16, "middle", show(value)))
    parts.append(_text("label", frame.right, frame.height - 6, "end", label))
    return parts


def _text(style: str, x: float, y: float, anchor: str, text: str) -> str:
    return f'<text class="{style}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def _number(ticks: Sequence[float]) -> Callable[[float], str]:
    """As many digits as tell the ticks apart, and a real minus sign."""
    step = ticks[1] - ticks[0] if len(ticks) > 1 else 1.0
    digits = max(0, -math.floor(math.log10(step) + 1e-9))
    return lambda value: f"{value:,.{digits}f}".replace("-", "−")
