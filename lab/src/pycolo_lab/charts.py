"""Charts as inline SVG that fit any width: positions along the x axis are in percent, text is in pixels.

Text is never scaled, so a label is as large on a phone as on a wide screen; only curves are drawn in a stretched
picture of their own, with unscaled strokes. Colours are CSS classes of the page, so that both light and dark mode work.
Every chart has a legend.
"""

import math
from collections.abc import Callable, Sequence
from html import escape
from typing import Final

import msgspec

CURVE_WIDTH: Final = 1000
"""Of the stretched picture, in units of its own."""

BOTTOM: Final = 40
"""Pixels below the x axis, for its numbers and its name."""

MARK_ROW: Final = 15
"""Pixels for the word of one mark; each has a row of its own, since two moments may be close."""

X_TICKS: Final = 5
Y_TICKS: Final = 4
"""About so many: on a narrow screen no number may touch the next one."""

BAND_PERCENT_MIN: Final = 0.2
TO_THE_LEFT_FROM: Final = 60
"""Percent of the width from which on a mark's word stands left of its line: it stays inside the picture."""


class Curve(msgspec.Struct, frozen=True):
    """One line: its CSS class, its name, and points in the units of the axes."""

    style: str
    name: str
    points: Sequence[tuple[float, float]]


class Band(msgspec.Struct, frozen=True):
    """A stretch of the x axis that is shaded, and what it is."""

    start: float
    end: float
    text: str


class Mark(msgspec.Struct, frozen=True):
    """A vertical line with a word at its top, and its CSS class."""

    at: float
    text: str
    style: str = "killed"


class Lifeline(msgspec.Struct, frozen=True):
    """One connection: from when to when, where it waited, and whether it was lost at its end."""

    style: str
    name: str
    start: float
    end: float
    gaps: Sequence[tuple[float, float]]
    lost: bool


class Key(msgspec.Struct, frozen=True):
    """An entry of a legend: the CSS classes of its sample, and what that stands for."""

    style: str
    text: str


class Frame:
    """The drawing area: from values to percent across and to pixels down."""

    def __init__(
        self, x_range: tuple[float, float], y_range: tuple[float, float], height: int, marks: Sequence[Mark]
    ) -> None:
        self.x_range, self.y_range = x_range, y_range
        self.top = 12 + MARK_ROW * max(len(marks), 1)
        self.bottom = self.top + height
        self.height = self.bottom + BOTTOM

    def percent(self, value: float) -> float:
        """Percent from the left."""
        low, high = self.x_range
        return (value - low) / (high - low) * 100

    def x(self, value: float) -> str:
        """Where a value lies across, as an attribute."""
        return f"{self.percent(value):.3f}%"

    def y(self, value: float) -> float:
        """Pixels from the top."""
        low, high = self.y_range
        return self.bottom - (value - low) / (high - low) * (self.bottom - self.top)


def nice_ticks(low: float, high: float, wanted: int) -> list[float]:
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
    height: int = 240,
    filled: bool = True,
) -> str:
    """Lines over a common x axis, with the area below them lightly filled."""
    values = [y for curve in curves for _, y in curve.points] or [0.0]
    low, high = min(0.0, *values), max(1.0, *values)
    margin = (high - low) * 0.08
    frame = Frame(x_range, (low - margin if low < 0 else 0.0, high + margin), height, marks)
    parts = [_band(frame, band) for band in bands]
    parts += _axes(frame, x_label, y_label)
    parts += _stretched(frame, [part for curve in curves for part in _curve(frame, curve, filled=filled)])
    parts += _marks(frame, marks)
    keys = [Key(f"line {curve.style}", curve.name) for curve in curves]
    return _figure(frame, parts, title, [*keys, *_keys(bands, marks)])


def lifelines(
    lines: Sequence[Lifeline],
    *,
    title: str,
    x_range: tuple[float, float],
    x_label: str,
    keys: Sequence[Key],
    marks: Sequence[Mark] = (),
    bands: Sequence[Band] = (),
    row_height: float = 5.0,
) -> str:
    """One row for each connection, from its opening to its end; a gap where it waited, a cross where it was lost.

    `keys` are for the styles of the lines.
    """
    frame = Frame(x_range, (0, len(lines) + 1), max(1, int(row_height * (len(lines) + 1))), marks)
    parts = [_band(frame, band) for band in bands]
    parts += _x_axis(frame, x_label)
    for row, line in enumerate(lines):
        parts += _life(frame, line, frame.y(len(lines) - row))
    parts += _marks(frame, marks)
    shown = list(keys)
    if any(line.gaps for line in lines):
        shown.append(Key("gap", "waiting"))
    if any(line.lost for line in lines):
        shown.append(Key("lost", "lost"))
    return _figure(frame, parts, title, [*shown, *_keys(bands, marks)])


# ── parts ───────────────────────────────────────────────────────────────────────────────────────────────────


def _figure(frame: Frame, parts: Sequence[str], title: str, keys: Sequence[Key]) -> str:
    named = "".join(f'<span class="key {escape(key.style)}">{escape(key.text)}</span>' for key in keys)
    head = f'<svg width="100%" height="{frame.height}" role="img" aria-label="{escape(title)}">'
    picture = "\n".join([head, *parts, "</svg>"])
    return f'<figure class="chart"><p class="legend">{named}</p><div class="plot">{picture}</div></figure>'


def _keys(bands: Sequence[Band], marks: Sequence[Mark]) -> list[Key]:
    return [*(Key("band", band.text) for band in bands), *(Key(f"mark {mark.style}", mark.text) for mark in marks)]


def _stretched(frame: Frame, parts: list[str]) -> list[str]:
    """Curves need numbers for coordinates: they are drawn in a picture that is as wide as it happens to be."""
    box = f'viewBox="0 0 {CURVE_WIDTH} {frame.height}" preserveAspectRatio="none"'
    return [f'<svg class="curves" width="100%" height="{frame.height}" {box}>', *parts, "</svg>"] if parts else []


def _curve(frame: Frame, curve: Curve, *, filled: bool) -> list[str]:
    if not curve.points:
        return []
    places = [(frame.percent(x) / 100 * CURVE_WIDTH, frame.y(y)) for x, y in curve.points]
    path = " ".join(f"{x:.2f},{y:.1f}" for x, y in places)
    parts = []
    if filled:
        zero = f"{frame.y(0):.1f}"
        corners = f"{places[0][0]:.2f},{zero} {path} {places[-1][0]:.2f},{zero}"
        parts.append(f'<polygon class="area {curve.style}" points="{corners}"/>')
    name = f"<title>{escape(curve.name)}</title>"
    parts.append(f'<polyline class="line {curve.style}" points="{path}">{name}</polyline>')
    return parts


def _life(frame: Frame, line: Lifeline, y: float) -> list[str]:
    parts = [f'<g class="life {line.style}"><title>{escape(line.name)}</title>']
    start = line.start
    for gap_start, gap_end in line.gaps:
        parts.append(_stroke(frame, start, gap_start, y, "open"))
        parts.append(_stroke(frame, gap_start, gap_end, y, "gap"))
        start = gap_end
    parts.append(_stroke(frame, start, line.end, y, "open"))
    if line.lost:
        cross = '<path class="lost" d="M-3,-3l6,6m0,-6l-6,6"/>'
        parts.append(f'<svg class="cross" x="{frame.x(line.end)}" y="{y:.1f}" width="1" height="1">{cross}</svg>')
    parts.append("</g>")
    return parts


def _stroke(frame: Frame, start: float, end: float, y: float, style: str) -> str:
    return f'<line class="{style}" x1="{frame.x(start)}" x2="{frame.x(max(start, end))}" y1="{y:.1f}" y2="{y:.1f}"/>'


def _band(frame: Frame, band: Band) -> str:
    start = min(max(frame.percent(band.start), 0.0), 100 - BAND_PERCENT_MIN)
    width = max(min(frame.percent(band.end), 100.0) - start, BAND_PERCENT_MIN)
    return (
        f'<rect class="band" x="{start:.3f}%" y="{frame.top}" width="{width:.3f}%" '
        f'height="{frame.bottom - frame.top}"><title>{escape(band.text)}</title></rect>'
    )


def _marks(frame: Frame, marks: Sequence[Mark]) -> list[str]:
    parts = []
    for row, mark in enumerate(marks):
        x, top = frame.x(mark.at), 4 + MARK_ROW * row
        anchor, shift = ("end", -6) if frame.percent(mark.at) > TO_THE_LEFT_FROM else ("start", 6)
        parts.append(f'<line class="mark {mark.style}" x1="{x}" x2="{x}" y1="{top}" y2="{frame.bottom}"/>')
        parts.append(_text(f"mark {mark.style}", x, top + 9, anchor, mark.text, shift))
    return parts


def _axes(frame: Frame, x_label: str, y_label: str) -> list[str]:
    parts = []
    ticks = nice_ticks(*frame.y_range, wanted=Y_TICKS)
    show = number(ticks)
    for value in ticks:
        y = frame.y(value)
        style = "zero" if value == 0 else "grid"
        parts.append(f'<line class="{style}" x1="0%" x2="100%" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(_text("tick", "0%", y + 4, "end", show(value), -8))
    parts.append(_text("label", "0%", frame.top - 12, "end", y_label, -8))
    return parts + _x_axis(frame, x_label)


def _x_axis(frame: Frame, label: str) -> list[str]:
    ticks = nice_ticks(*frame.x_range, wanted=X_TICKS)
    show = number(ticks)
    parts = [f'<line class="zero" x1="0%" x2="100%" y1="{frame.bottom}" y2="{frame.bottom}"/>']
    for value in ticks:
        x = frame.x(value)
        parts.append(f'<line class="grid" x1="{x}" x2="{x}" y1="{frame.top}" y2="{frame.bottom}"/>')
        parts.append(_text("tick", x, frame.bottom + 16, "middle", show(value)))
    parts.append(_text("label", "100%", frame.height - 6, "end", label))
    return parts


def _text(style: str, x: str, y: float, anchor: str, text: str, shift: int = 0) -> str:
    moved = f' dx="{shift}"' if shift else ""
    return f'<text class="{style}" x="{x}" y="{y:.1f}"{moved} text-anchor="{anchor}">{escape(text)}</text>'


def number(ticks: Sequence[float]) -> Callable[[float], str]:
    """As many digits as tell the ticks apart, and a real minus sign."""
    step = ticks[1] - ticks[0] if len(ticks) > 1 else 1.0
    digits = max(0, -math.floor(math.log10(step) + 1e-9))
    return lambda value: f"{value:,.{digits}f}".replace("-", "−")
