"""What traffic has cost, as `colo explain --by` shows it."""

from collections.abc import Iterator
from textwrap import wrap
from typing import Any, Final

from pycolo.cli.status import size

Fields = dict[str, Any]

ROWS_SHOWN: Final = 10
"""`--json` has all that the node keeps."""

COLUMNS: Final = 100
"""Of a terminal; the lines in words are wrapped."""

WINDOWS: Final = {"minute": (60, "last minute"), "hour": (3600, "last hour")}


def cost_lines(answer: Fields) -> Iterator[str]:
    """A line about the whole, then for each row its numbers and one sentence."""
    yield f"{_window(answer)}: {_total(answer['total'])}"
    rows = [*answer["rows"][:ROWS_SHOWN], *([answer["others"]] if answer["others"] else [])]
    if not rows:
        yield "no checkpoint was made, and nothing has differed"
        return
    yield f"{'checkpoints':>11}  {'paused':>9}  {'clients waited':>14}  {'differed':>9}  {'uncompared':>10}"
    for row in rows:
        yield (
            f"{row['checkpoints']:>11}  {span(row['paused_ms']):>9}  {span(row['waited_ms']):>14}  "
            f"{row['differences']:>9}  {size(row['uncompared_bytes']):>10}"
        )
        yield from wrap(row["words"], COLUMNS, initial_indent="  ", subsequent_indent="    ", break_long_words=False)
    if len(answer["rows"]) > ROWS_SHOWN:
        yield f"{len(answer['rows']) - ROWS_SHOWN} more rows: --json has them"


def _window(answer: Fields) -> str:
    """Over what time; a node that was started a moment ago has not seen all of it."""
    seconds = answer["seconds"]
    if answer["over"] not in WINDOWS:
        return f"since this node's first start, {span(1000 * seconds)} ago"
    whole_s, name = WINDOWS[answer["over"]]
    return name if seconds >= whole_s else f"{name}, of which this node has seen {span(1000 * seconds)}"


def _total(total: Fields) -> str:
    waited = ""
    if total["waits"]:
        waited = (
            f", clients waited {span(total['waited_ms'])} for them, none longer than {span(total['longest_wait_ms'])}"
        )
    number = total["checkpoints"]
    return f"{number} checkpoint{'s' * (number != 1)}, the guest paused {span(total['paused_ms'])}{waited}"


def span(ms: float) -> str:
    """A time in the largest fitting unit."""
    if ms < 1000:
        return f"{ms:.0f} ms"
    seconds = ms / 1000
    if seconds < 120:
        return f"{seconds:.1f} s"
    minutes = seconds / 60
    return f"{minutes:.0f} min" if minutes < 120 else f"{minutes / 60:.0f} h"
