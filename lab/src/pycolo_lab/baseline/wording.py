"""The numbers as a table, for the terminal and for the page."""

from collections.abc import Callable, Iterable, Iterator
from typing import Final, NamedTuple

from pycolo_lab.baseline.facts import WHO
from pycolo_lab.baseline.summary import BaselineSummary, LoadSummary, PlaceSummary, percent
from pycolo_lab.terminal import wrapped

TITLE: Final = "What protection costs"

NOTE: Final = (
    "Two bulk transfers before the run: (a) over a bare bridge, (b) through both nodes and their link with comparing "
    "left out, (c) protected. In (b) nothing waits for guest B, which soon falls behind for good: it is what the nodes "
    "could do, without protection. Client, guests, nodes and other processes share the machine."
)

HEAD: Final = ("(a) bridge", "(b) uncompared", "(c) protected", "(c)/(b)", "(c)/(a)")

ABSENT: Final = "–"

SLOW: Final = 10
"""Below it a digit after the point says something."""

LOADS: Final = (("download", "download"), ("upload", "upload"), ("both", "both at once"))


class Row(NamedTuple):
    """A label and its cells, one for each of `HEAD`; without cells it is a heading."""

    label: str
    cells: tuple[str, ...] = ()


def table(baseline: BaselineSummary) -> Iterator[Row]:
    """All rows."""
    both = baseline.both
    yield Row("MB/s")
    yield _speeds("download", baseline.download)
    yield _speeds("upload", baseline.upload)
    yield _row("both at once: download", both, lambda place: place.download_megabytes_per_second)
    yield _row("both at once: upload", both, lambda place: place.upload_megabytes_per_second)
    yield _speeds("both at once: sum", both)
    yield Row("a small answer meanwhile, p50 in µs, and the part added to (a)")
    for name, label in LOADS:
        load: LoadSummary = getattr(baseline, name)
        yield _row(label, load, lambda place: place.answer_us_p50, has_shares=False)
        added = [_number(place.added_us_p50) for place in (load.uncompared, load.protected)]
        yield Row(f"{label}: added", (ABSENT, *added, "", ""))
    for name, label in LOADS:
        yield Row(f"processor seconds per GB, {label}")
        yield from _processor(getattr(baseline, name))


def lines(baseline: BaselineSummary, columns: int | None) -> list[str]:
    """For a terminal of that width: a table, or, if it does not fit, a text for each row."""
    found = list(table(baseline))
    heading = [*wrapped(f"{TITLE}. {NOTE}", columns), ""]
    widths = [max(len(row.cells[i]) for row in found if row.cells) for i in range(len(HEAD))]
    widths = [max(width, len(title)) for width, title in zip(widths, HEAD, strict=True)]
    indent = max(len(row.label) for row in found if row.cells) + 2

    def laid_out(label: str, cells: Iterable[str]) -> str:
        padded = "  ".join(f"{cell:>{width}}" for cell, width in zip(cells, widths, strict=True))
        return f"{label:<{indent}}  {padded}".rstrip()

    head = laid_out("", HEAD)
    if columns is not None and columns < len(head):
        return heading + [line for row in found for line in _narrow(row, columns)]
    return [*heading, head, *(laid_out(f"  {row.label}", row.cells) if row.cells else row.label for row in found)]


def _narrow(row: Row, columns: int) -> Iterator[str]:
    yield from wrapped(row.label, columns)
    if row.cells:
        told = (f"{title} {cell}" for title, cell in zip(HEAD, row.cells, strict=True) if cell not in (ABSENT, ""))
        yield from (f"  {line}" for line in wrapped(", ".join(told), columns - 2))


def _speeds(label: str, load: LoadSummary) -> Row:
    return _row(label, load, lambda place: place.megabytes_per_second)


def _row(
    label: str, load: LoadSummary, value: Callable[[PlaceSummary], float | None], *, has_shares: bool = True
) -> Row:
    bridge, uncompared, protected = (value(place) for place in (load.bridge, load.uncompared, load.protected))
    shares = ("", "")
    if has_shares:
        shares = (_share(protected, uncompared), _share(protected, bridge))
    return Row(label, (_number(bridge), _number(uncompared), _number(protected), *shares))


def _processor(load: LoadSummary) -> Iterator[Row]:
    for who in WHO:
        yield Row(who, (*(_seconds(place, (who,)) for place in _places(load)), "", ""))
    yield Row("all of them", (*(_seconds(place, WHO) for place in _places(load)), "", ""))


def _places(load: LoadSummary) -> tuple[PlaceSummary, ...]:
    return load.bridge, load.uncompared, load.protected


def _seconds(place: PlaceSummary, names: tuple[str, ...]) -> str:
    spent = place.processor_seconds_per_gigabyte or {}
    found = [spent[name] for name in names if name in spent]
    return f"{sum(found):.2f}" if found else ABSENT


def _number(value: float | None) -> str:
    if value is None:
        return ABSENT
    return f"{value:,.0f}" if abs(value) >= SLOW else f"{value:,.1f}"


def _share(part: float | None, whole: float | None) -> str:
    found = percent(part or 0, whole or 0)
    return ABSENT if found is None else f"{found:.0f} %" if found >= SLOW else f"{found:.1f} %"
