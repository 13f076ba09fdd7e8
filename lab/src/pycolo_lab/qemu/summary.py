"""The results of a run as text: a line as each scenario ends, the table at the end, the list of scenarios.

No line is longer than the terminal is wide. From 80 columns on there is a table, whose cells continue on the next line
if they do not fit; otherwise an entry per scenario.
"""

import statistics
import sys
from collections.abc import Iterable, Sequence
from itertools import zip_longest
from typing import Final

from rich.console import Console
from rich.text import Text

from pycolo.checkpoint.records import ReasonKind
from pycolo_lab.qemu.facts import PauseComparison, PauseFacts, RunFacts, ScenarioFacts
from pycolo_lab.qemu.scenarios import SCENARIOS
from pycolo_lab.terminal import hanging, listed, terminal_columns

COLUMNS: Final = 100
"""Of a file or a pipe, which have no width of their own."""

TWO_COLUMNS: Final = 60
"""Columns from which on the list has its names beside their texts."""

TITLES: Final = (
    ("", "scenario"),
    ("", ""),
    ("", "kept"),
    ("stood", "still ms"),
    ("first", "answer ms"),
    ("repair", "still ms"),
    ("check-", "points"),
    ("pause", "ms"),
    ("whole", "again s"),
)
"""Of the table, two lines each."""

TO_THE_LEFT: Final = (0, 1, 6)
"""Columns of the table that hold words; the others hold numbers."""

UNITS: Final = ("ms", "s")
BARE_TITLES: Final = tuple((upper, lower.rsplit(" ", 1)[0] if " " in lower else lower) for upper, lower in TITLES)
"""The same without units, for a terminal of 80 columns; the text below the table has them too."""

LAYOUTS: Final = ((TITLES, 2, 0), (TITLES, 1, 0), (BARE_TITLES, 1, 0), (TITLES, 1, 6), (BARE_TITLES, 1, 6))
"""Titles of the table, the gap between two columns, and how many of `FOLDED` may go on in the line below: the roomiest
one that fits is taken."""

FOLDED: Final = (6, 7, 8, 4, 3, 5)
"""Columns whose cells can be two lines or more, in the order in which they become that: causes, pairs of numbers."""

LETTERS: Final = {kind.value: kind.value[0] for kind in ReasonKind}
"""A table has room for a letter per cause of a checkpoint; what each means stands below it."""

BAD: Final = "bold red"


def print_run(run: RunFacts) -> None:
    """The table and what did not hold, on standard output."""
    console = Console(highlight=False, soft_wrap=True)
    for line in run_lines(run, terminal_columns(sys.stdout) or COLUMNS):
        console.print(line)


def run_lines(run: RunFacts, columns: int) -> list[Text]:
    """The same in lines of so many columns."""
    lines: list[Text] = []
    if run.scenarios:
        lines += _scenarios(run.scenarios, columns)
        lines += _plain(_legend(run), columns)
    if run.pause is not None:
        lines += _plain(comparison_line(run.pause), columns)
    for scenario in run.scenarios:
        for text in scenario.broken:
            lines += _plain(f"{scenario.name}: {text}", columns, BAD)
        if scenario.holds and scenario.first_breaches:
            lines += _plain(f"{scenario.name}: it failed as it must: {scenario.first_breaches[0]}", columns)
    return [*lines, Text("Everything held.") if run.holds else Text("Not everything held.", style=BAD)]


def list_lines(columns: int) -> list[str]:
    """Every scenario, and what happens in it."""
    pairs = [(scenario.name, scenario.text) for scenario in SCENARIOS]
    pairs.append(("pause", "how long a checkpoint stops the primary, against QEMU's own tcp:"))
    return listed(pairs, columns, TWO_COLUMNS)


def _plain(text: str, columns: int, style: str = "") -> list[Text]:
    return [Text(line, style=style) for line in hanging("", text, columns)]


# ── the scenarios ───────────────────────────────────────────────────────────────────────────────────────────


def _scenarios(scenarios: Sequence[ScenarioFacts], columns: int) -> list[Text]:
    rows = [_cells(one) for one in scenarios]
    for titles, gap, foldable in LAYOUTS:
        widths = _fitting(titles, rows, columns - gap * (len(titles) - 1), foldable)
        if widths is not None:
            return _table(titles, rows, widths, " " * gap)
    return [line for one, row in zip(scenarios, rows, strict=True) for line in _entry(one, row, columns)]


def _fitting(
    titles: Sequence[tuple[str, str]], rows: Sequence[Sequence[str]], room: int, foldable: int
) -> list[int] | None:
    """The columns' widths: as much as their cells need, or less for those that are folded; None when none do."""
    widths = [max(map(len, (*title, *(row[i] for row in rows)))) for i, title in enumerate(titles)]
    for column in FOLDED[:foldable]:
        missing = sum(widths) - room
        if missing <= 0:
            break
        pieces = (len(piece) for row in rows for piece in _pieces(row[column]))
        widths[column] = max(widths[column] - missing, *map(len, titles[column]), *pieces)
    return widths if sum(widths) <= room else None


def _pieces(cell: str) -> list[str]:
    """Where it can be folded: between causes, behind the stroke of a pair."""
    return cell.replace("/", "/ ").split()


def _folded(cell: str, width: int) -> list[str]:
    """A cell in lines of so many columns, which is room for each of its pieces."""
    if len(cell) <= width:
        return [cell]
    lines: list[str] = []
    for piece in _pieces(cell):
        glue = "" if lines and lines[-1].endswith("/") else " "
        if lines and len(lines[-1] + glue + piece) <= width:
            lines[-1] += glue + piece
        else:
            lines.append(piece)
    return lines


def _cells(one: ScenarioFacts) -> list[str]:
    return [
        one.name,
        _verdict(one),
        f"{one.kept}/{one.connections}",
        _middle(r.stood_still_ms for r in one.rounds),
        _middle(r.first_answer_ms for r in one.rounds),
        _middle(r.repair_stood_still_ms for r in one.rounds),
        " ".join(f"{count}{LETTERS.get(kind, ' ' + kind)}" for kind, count in one.checkpoints.items()) or "none",
        _pause(one.pause),
        _middle((r.whole_again_ms / 1e3 for r in one.rounds), digits=1),
    ]


def _table(
    titles: Sequence[tuple[str, str]], rows: Iterable[Sequence[str]], widths: Sequence[int], gap: str
) -> list[Text]:
    def line(cells: Sequence[str]) -> str:
        placed = (
            f"{cell:<{width}}" if index in TO_THE_LEFT else f"{cell:>{width}}"
            for index, (cell, width) in enumerate(zip(cells, widths, strict=True))
        )
        return gap.join(placed).rstrip()

    heads = [Text(line([title[half] for title in titles]), style="bold") for half in (0, 1)]
    folded = ([_folded(cell, width) for cell, width in zip(row, widths, strict=True)] for row in rows)
    bodies = [Text(line(cells)) for row in folded for cells in zip_longest(*row, fillvalue="")]
    for body in bodies:
        body.highlight_words(["FAILED"], BAD)
    return [*heads, *bodies]


def _entry(one: ScenarioFacts, cells: Sequence[str], columns: int) -> list[Text]:
    """A scenario where there is no room for a table: what each number is stands beside it."""
    found = []
    for title, cell in zip(TITLES[2:], cells[2:], strict=True):
        *words, last = " ".join(title).replace("- ", "").split()
        found.append(f"{' '.join(words)} {cell} {last}" if last in UNITS else f"{last} {cell}")
    head = Text(f"{one.name}: {_verdict(one)}", style="bold" if one.holds else BAD)
    return [head, *map(Text, hanging("  ", ", ".join(found), columns))]


def _verdict(one: ScenarioFacts) -> str:
    return "ok" if one.holds else "FAILED"


def _legend(run: RunFacts) -> str:
    kinds = dict.fromkeys(kind for one in run.scenarios for kind in one.checkpoints if kind in LETTERS)
    causes = ", ".join(f"{LETTERS[kind]} {kind}" for kind in kinds)
    return (
        f"QEMU {run.qemu} ({run.accelerator}). Stood still: no connection got an answer; a host that falls silent is "
        f"suspected after {run.detection_ms} ms at the earliest. First answer: from the fault on. Repair: the longest "
        "such stretch from then until the guest was protected again. Of several rounds: median/longest. Pause: STOP to "
        "RESUME of the primary, median/p99. Whole again: seconds; the others: milliseconds."
        + (f" Checkpoints by cause: {causes}." if causes else "")
    )


def _middle(values: Iterable[float], digits: int = 0) -> str:
    """The median, and the largest where there are several."""
    found = list(values)
    if not found:
        return "-"
    middle = f"{statistics.median(found):.{digits}f}"
    return middle if len(found) == 1 else f"{middle}/{max(found):.{digits}f}"


def _pause(pause: PauseFacts | None) -> str:
    return "-" if pause is None else f"{pause.median_ms:.1f}/{pause.p99_ms:.1f}"


def comparison_line(pause: PauseComparison) -> str:
    """The pause benchmark in one sentence."""
    ours, theirs = pause.through_nodes, pause.over_tcp
    return (
        f"A checkpoint of an idle guest pauses the primary for {ours.median_ms:.1f} ms (p99 {ours.p99_ms:.1f}, "
        f"{ours.count} checkpoints) through the nodes, {theirs.median_ms:.1f} ms (p99 {theirs.p99_ms:.1f}, "
        f"{theirs.count}) over QEMU's own tcp: migration (link MTU {pause.link_mtu}): "
        f"{pause.times_shorter:.1f} times shorter"
    )


def scenario_line(facts: ScenarioFacts) -> str:
    """One scenario, as it ends."""
    still = max((r.stood_still_ms for r in facts.rounds), default=0.0)
    verdict = "ok" if facts.holds else "FAILED: " + "; ".join(facts.broken)
    return f"  kept {facts.kept}/{facts.connections}, stood still {still:.0f} ms, {facts.breaches} breaches: {verdict}"
