"""The result of a check: items, each with a level and one line."""

from collections.abc import Sequence
from enum import StrEnum
from typing import Final, NamedTuple

THIS_HOST: Final = "this host"


class Level(StrEnum):
    """Ordered by weight."""

    OK = "ok"
    WARNING = "warning"
    """It works, or may; a person should know."""
    REFUSED = "refused"
    """It will fail when it is needed."""


class Item(NamedTuple):
    """One thing that was looked at. `text`: what was found and, unless it is ok, what to do; one line."""

    name: str
    level: Level
    text: str
    where: str = THIS_HOST


def ok(name: str, text: str) -> Item:
    """As it must be."""
    return Item(name, Level.OK, one_line(text))


def warning(name: str, text: str) -> Item:
    """Not certain, or not wise."""
    return Item(name, Level.WARNING, one_line(text))


def refused(name: str, text: str) -> Item:
    """To be corrected first."""
    return Item(name, Level.REFUSED, one_line(text))


def worst(items: Sequence[Item]) -> Level:
    """The heaviest level."""
    return max((item.level for item in items), key=list(Level).index, default=Level.OK)


def one_line(text: str) -> str:
    """Parts come from files and programs: no line breaks, nothing for a terminal to obey."""
    return "".join(letter if letter.isprintable() else " " for letter in " ".join(text.split()))
