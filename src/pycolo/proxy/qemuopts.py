"""QEMU's option syntax: `-object TYPE,key=value,…`, and typed access to the properties.

A comma inside a value is doubled. A key without a value is a switch: `server` is `server=on`, `nowait` is `wait=off`.
-object and -netdev may also be one JSON object, as libvirt writes them. What QEMU would silently misread (an unknown
key, a key given twice) is an error here.
"""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from typing import Final

import msgspec

from pycolo.errors import ConfigError

_IDENTIFIER: Final = re.compile(r"[A-Za-z][A-Za-z0-9._-]*\Z")
_NUMBER: Final = re.compile(r"(0[xX][0-9a-fA-F]{1,16}|[0-9]{1,19})\Z")
_SWITCHES: Final = {
    "on": True,
    "yes": True,
    "true": True,
    "y": True,
    "off": False,
    "no": False,
    "false": False,
    "n": False,
}
"""The words that QEMU accepts for a switch."""


class OptionError(ConfigError):
    """A wrong command-line option. `option`: as the user wrote it; `what`: why it is wrong and what to do."""

    def __init__(self, option: str, what: str) -> None:
        super().__init__(option, what, None)
        self.args = (f"{option}: {what}",)


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """` (did you mean '…'?)`, or "" when no word is close."""
    close = get_close_matches(word, list(known), 1)
    return f" (did you mean '{close[0]}'?)" if close else ""


class Group(msgspec.Struct, frozen=True):
    """One option and its parsed value. `head`: the type or backend. A key without a value has None."""

    option: str
    head: str
    items: tuple[tuple[str, str | None], ...]

    @property
    def where(self) -> str:
        """Its name in messages."""
        return f"{self.option} {self.head}"


def parse_group(option: str, text: str, head_key: str) -> Group:
    """Parse `text`; `head_key` is the key that the first word stands for. Raises `OptionError`."""
    items = _json_items(option, text) if text.startswith("{") else _split(option, text)
    head = None
    if items and items[0][1] is None:
        head = items.pop(0)[0]
    named = [value for key, value in items if key == head_key]
    if named and head is None:
        head = named[0]
        items = [item for item in items if item[0] != head_key]
    if not head:
        raise OptionError(option, f"'{text}' must begin with a {head_key}")
    return Group(option, head, tuple(items))


def _split(option: str, text: str) -> list[tuple[str, str | None]]:
    items: list[tuple[str, str | None]] = []
    for part in _at_single_commas(text):
        key, equals, value = part.partition("=")
        if not key:
            raise OptionError(option, f"'{text}' has an empty property (a comma in a value is written ',,')")
        items.append((key, value if equals else None))
    return items


def _at_single_commas(text: str) -> list[str]:
    parts = [""]
    pos = 0
    while pos < len(text):
        if text.startswith(",,", pos):
            parts[-1] += ","
            pos += 2
        elif text[pos] == ",":
            parts.append("")
            pos += 1
        else:
            parts[-1] += text[pos]
            pos += 1
    return parts


def _json_items(option: str, text: str) -> list[tuple[str, str | None]]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise OptionError(option, f"'{text[:60]}' is not JSON: {error}") from error
    items: list[tuple[str, str | None]] = []
    for key, value in found.items():
        if isinstance(value, bool):
            items.append((key, "on" if value else "off"))
        elif isinstance(value, str | int):
            items.append((key, str(value)))
        else:
            raise OptionError(option, f"property '{key}' must be a string, a number or a boolean")
    return items


class Properties:
    """The properties of one group. A key that is not in `known` is an error; `refused` maps keys to a reason.

    A refused property may still be switched off. `given` holds the names that the user wrote.
    """

    def __init__(self, group: Group, known: Sequence[str], refused: Mapping[str, str] | None = None) -> None:
        self.where = group.where
        self._values: dict[str, str] = {}
        refused = refused or {}
        for key, value in group.items:
            name, text = self._named(key, value, (*known, *refused))
            if name in self._values:
                raise OptionError(self.where, f"property '{name}' is given twice")
            if name in refused and _SWITCHES.get(text, True):
                raise OptionError(self.where, f"property '{name}': {refused[name]}")
            self._values[name] = text

    def _named(self, key: str, value: str | None, known: Sequence[str]) -> tuple[str, str]:
        if key not in known:
            if value is None and key.startswith("no") and key[2:] in known:
                return key[2:], "off"
            raise OptionError(self.where, f"unknown property '{key}'{did_you_mean(key, known)}")
        return key, "on" if value is None else value

    def has(self, name: str) -> bool:
        """Whether the user gave it."""
        return name in self._values

    def text(self, name: str) -> str | None:
        """The value as written, or None if absent. Raises `OptionError` if it is empty."""
        value = self._values.get(name)
        if value == "":
            raise OptionError(self.where, f"property '{name}' is empty")
        return value

    def required(self, name: str) -> str:
        """As `text`, but a missing property is an error."""
        value = self.text(name)
        if value is None:
            raise OptionError(self.where, f"property '{name}' is missing")
        return value

    def identifier(self) -> str:
        """The group's id."""
        found = self.required("id")
        if not _IDENTIFIER.match(found):
            raise OptionError(self.where, f"invalid id '{found}': use a letter, then letters, digits, '-', '.' and '_'")
        return found

    def switch(self, name: str, default: bool) -> bool:  # noqa: FBT001 - the value when it is not given
        """A property that is `on` or `off`."""
        value = self._values.get(name)
        if value is None:
            return default
        if value not in _SWITCHES:
            raise OptionError(self.where, f"property '{name}' must be on or off, not '{value}'")
        return _SWITCHES[value]

    def number(self, name: str, default: int, lowest: int, highest: int) -> int:
        """An integer between two bounds, decimal or 0x…."""
        value = self.text(name)
        if value is None:
            return default
        number = int(value, 16 if value[1:2] in ("x", "X") else 10) if _NUMBER.match(value) else -1
        if not lowest <= number <= highest:
            raise OptionError(
                self.where, f"property '{name}' must be a number from {lowest} to {highest}, not '{value}'"
            )
        return number

    def choice(self, name: str, default: str, choices: Sequence[str]) -> str:
        """One of the words in `choices`."""
        value = self._values.get(name, default)
        if value not in choices:
            hint = did_you_mean(value, choices)
            raise OptionError(self.where, f"property '{name}' must be {' or '.join(choices)}, not '{value}'{hint}")
        return value
