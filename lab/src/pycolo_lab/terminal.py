"""Text for a terminal of any width: nothing is cut, what does not fit goes on below."""

import os
import sys
import textwrap
from collections.abc import Iterable
from typing import IO, Final

TEXT_COLUMNS_MIN: Final = 10
"""Narrower a text is never wrapped, however narrow the terminal."""

GIVE_BACK: Final = "\x1b[?1047l\x1b[?25h"
"""Back from the other screen, with a cursor; nothing where the picture had not begun (1049 would move the cursor)."""


def terminal_size(stream: IO[str]) -> tuple[int, int] | None:
    """Columns and lines of the terminal behind the stream; None where there is none, or one that does not know."""
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
    """Undo what a picture on standard output has done to the terminal, when the process that drew it was killed."""
    if sys.stdout.isatty() and os.environ.get("TERM") not in (None, "dumb"):
        print(GIVE_BACK, end="", flush=True)


def wrapped(text: str, columns: int | None) -> list[str]:
    """The text in lines of so many columns; in one, where there is no such limit."""
    if columns is None:
        return [text]
    return textwrap.wrap(text, max(columns, TEXT_COLUMNS_MIN), break_on_hyphens=False) or [""]


def hanging(first: str, text: str, columns: int | None) -> list[str]:
    """The text behind something that only its first line has."""
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
