"""Text for a terminal of any width: nothing is truncated; text that does not fit continues below."""

import os
import sys
import textwrap
from collections.abc import Iterable
from typing import IO, Final

TEXT_COLUMNS_MIN: Final = 10
"""Narrower a text is never wrapped, however narrow the terminal."""

GIVE_BACK: Final = "\x1b[?1047l\x1b[?25h"
"""Leave the alternate screen, with a cursor; no effect if it was not entered (1049 would move the cursor)."""


def terminal_size(stream: IO[str]) -> tuple[int, int] | None:
    """Columns and lines of the stream's terminal; None if it is not a terminal, or the size is unknown."""
    try:
        columns, lines = os.get_terminal_size(stream.fileno())
    except (OSError, ValueError):  # no terminal; no file at all
        return None
    return (columns, lines) if columns and lines else None


def terminal_columns(stream: IO[str]) -> int | None:
    """The same, the columns alone."""
    size = terminal_size(stream)
    return size[0] if size else None


def give_back() -> None:
    """Restore the terminal after a picture on standard output whose process was killed."""
    if sys.stdout.isatty() and os.environ.get("TERM") not in (None, "dumb"):
        print(GIVE_BACK, end="", flush=True)


def wrapped(text: str, columns: int | None) -> list[str]:
    """The text in lines of so many columns; in one line if there is no limit."""
    if columns is None:
        return [text]
    return textwrap.wrap(text, max(columns, TEXT_COLUMNS_MIN), break_on_hyphens=False) or [""]


def hanging(first: str, text: str, columns: int | None) -> list[str]:
    """The text with a prefix on its first line only."""
    lines = wrapped(text, columns - len(first) if columns else None)
    return [first + lines[0], *(" " * len(first) + line for line in lines[1:])]


def listed(pairs: Iterable[tuple[str, str]], columns: int, two_columns: int) -> list[str]:
    """Names with what they stand for: beside each other from so many columns on, else one above the other."""
    found = list(pairs)
    widest = max((len(name) for name, _ in found), default=0)
    lines = []
    for name, text in found:
        if columns < two_columns:
            lines += [*wrapped(name, columns), *hanging("  ", text, columns)]
        else:
            lines += hanging(f"{name:<{widest}}  ", text, columns)
    return lines
