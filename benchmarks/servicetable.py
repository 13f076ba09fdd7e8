"""Columns and results of bench_services.py: what each column protects with, the medians, the table."""

import statistics
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from pycolo.checkpoint.records import ReasonKind

NOT_COUNTED = (ReasonKind.PERIODIC, ReasonKind.OPERATOR, ReasonKind.FIRST)
"""Kinds of checkpoints that no traffic has asked for."""


class Column(NamedTuple):
    """One way to run the guest. A protected one is a name and a TOML text, which is added to both nodes' files."""

    name: str
    toml: str = ""
    is_protected: bool = True
    is_beside: bool = False
    """Unprotected, while a second guest does the same work on the same machine."""

    @property
    def more(self) -> dict[str, Any]:
        """The text, parsed."""
        return tomllib.loads(self.toml)


ALONE = Column("unprotected", is_protected=False)
BESIDE = Column("two guests", is_protected=False, is_beside=True)
PROTECTED = Column("protected")
RECOMMENDED = "recommended"
"""No run of its own: for each load the column that its documentation recommends."""

FOLDER = Path(__file__).with_name("columns")


def columns() -> tuple[Column, ...]:
    """Those of every run: a file in `columns` is one, by its name."""
    files = (Column(path.stem, path.read_text()) for path in sorted(FOLDER.glob("*.toml")))
    return (ALONE, BESIDE, PROTECTED, *files)


def column_of(given: str) -> Column:
    """NAME=FILE.toml. Raises `ValueError` in words."""
    name, _, path = given.partition("=")
    if not name or not path:
        raise ValueError(f"--column {given}: give NAME=FILE.toml")
    try:
        column = Column(name, Path(path).read_text())
        column.more  # noqa: B018 - a wrong file is named before the first guest boots
    except (OSError, ValueError) as error:
        raise ValueError(f"--column {given}: {error}") from error
    return column


class Cell(msgspec.Struct, kw_only=True):
    """What one load has achieved in one column, in one round."""

    load: str
    column: str
    unit: str = "requests"
    requests: float = 0
    per_second: float = 0
    p50_ms: float | None = None
    p99_ms: float | None = None
    checkpoints: int = 0
    """Without those that no traffic has asked for."""
    others: float = 0
    """The share of the machine's processors that other programs had meanwhile."""
    error: str | None = None


class Row(msgspec.Struct, kw_only=True):
    """The same over all rounds: medians."""

    load: str
    column: str
    unit: str
    per_second: float | None
    of_unprotected: float | None
    """In percent: the median of each round's own."""
    of_two_guests: float | None
    p50_ms: float | None
    p99_ms: float | None
    checkpoints_per_1000: float | None
    """Requests; None for a load that has none."""
    others: float | None = None
    """The largest share of any round."""
    rounds: int
    errors: list[str]


class Results(msgspec.Struct, kw_only=True):
    """Of a run."""

    qemu: str
    accelerator: str
    seconds: float
    rounds: int
    load_average: list[float]
    """Of the machine, at the beginning and after each round."""
    columns: dict[str, str]
    """Name -> TOML text."""
    rows: list[Row]


def checkpoints_of(status: dict[str, Any]) -> int:
    """So many has traffic asked for, as a node says."""
    counts = (status.get("checkpoint") or {}).get("count") or {}
    return sum(count for kind, count in counts.items() if kind not in NOT_COUNTED)


def rows_of(rounds: Sequence[Sequence[Cell]]) -> list[Row]:
    """In the order of the first round's cells, load by load."""
    cells = [cell for one in rounds for cell in one]
    loads = dict.fromkeys(cell.load for cell in cells)
    columns = dict.fromkeys(cell.column for cell in cells)
    found = [[c for c in cells if (c.load, c.column) == (load, column)] for load in loads for column in columns]
    return [_row(same, rounds) for same in found if same]


def recommended_rows(rows: Sequence[Row], column_of_load: Mapping[str, str]) -> list[Row]:
    """For each load that of the column that is recommended for it, if that was in the run."""
    return [
        msgspec.structs.replace(row, column=RECOMMENDED) for row in rows if row.column == column_of_load.get(row.load)
    ]


def _row(cells: Sequence[Cell], rounds: Sequence[Sequence[Cell]]) -> Row:
    first = cells[0]
    done = [cell for cell in cells if cell.error is None]
    counted = first.unit == "requests" and any(cell.requests for cell in done)
    per_1000 = [1e3 * cell.checkpoints / cell.requests for cell in done if cell.requests] if counted else []
    return Row(
        load=first.load,
        column=first.column,
        unit=first.unit,
        per_second=middle([cell.per_second for cell in done]),
        of_unprotected=middle(_shares(first, rounds, ALONE.name)),
        of_two_guests=middle(_shares(first, rounds, BESIDE.name)),
        p50_ms=middle([cell.p50_ms for cell in done if cell.p50_ms is not None]),
        p99_ms=middle([cell.p99_ms for cell in done if cell.p99_ms is not None]),
        checkpoints_per_1000=middle(per_1000),
        others=round(max(cell.others for cell in cells), 3),
        rounds=len(done),
        errors=[cell.error for cell in cells if cell.error is not None],
    )


def _shares(which: Cell, rounds: Sequence[Sequence[Cell]], base: str) -> list[float]:
    """In percent of the column `base` of the same round, since the machine's other work changes."""
    found = []
    for one in rounds:
        rates = {(c.load, c.column): c.per_second for c in one if c.error is None and c.per_second}
        own, other = rates.get((which.load, which.column)), rates.get((which.load, base))
        found += [100 * own / other] if own and other else []
    return found


def middle(values: Sequence[float]) -> float | None:
    """The median; None of none."""
    return round(statistics.median(values), 3) if values else None


def markdown(rows: Sequence[Row]) -> str:
    """A line for each load, a cell for each column."""
    columns = list(dict.fromkeys(row.column for row in rows))
    lines = [f"| load | {' | '.join(columns)} |", f"|---{'|---' * len(columns)}|"]
    for load in dict.fromkeys(row.load for row in rows):
        own = {row.column: row for row in rows if row.load == load}
        lines.append(f"| {load} | {' | '.join(_cell(own[name]) if name in own else '' for name in columns)} |")
    return "\n".join(lines)


def _cell(row: Row) -> str:
    if row.per_second is None:
        return f"failed: {row.errors[0]}" if row.errors else "-"
    parts = [f"{_short(row.per_second)}{'' if row.unit == 'requests' else ' ' + row.unit}/s"]
    if row.column != ALONE.name:
        shares = [_short(share) for share in (row.of_unprotected, row.of_two_guests) if share is not None]
        parts.append(f"({' / '.join(shares[: 1 if row.column == BESIDE.name else 2])} %)" if shares else "")
    if row.p50_ms is not None and row.p99_ms is not None:
        parts.append(f"{_short(row.p50_ms)}/{_short(row.p99_ms)} ms")
    if row.checkpoints_per_1000 is not None and row.column not in (ALONE.name, BESIDE.name):
        parts.append(f"{_short(row.checkpoints_per_1000)} cp")
    return " ".join(part for part in parts if part)


def _short(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.2g}" if value < 10 else f"{value:.0f}"
