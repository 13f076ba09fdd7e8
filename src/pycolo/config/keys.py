"""The types of keys: the expected value in words, how it is read from TOML, and how it is written."""

import ipaddress
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

from pycolo.errors import ConfigError
from pycolo.link.hello import Role, check_pair_name
from pycolo.transport.linksetup import Address

FOUND_CHARACTERS_MAX: Final = 60
"""How much of a wrong value a message shows."""

PLACEHOLDERS: Final = ("peer", "pair", "role", "term")
"""Placeholders in the user's own commands; `pycolo.arbiters.usercommand` fills them in."""


class Found:
    """A value as an error message shows it: short, on one line, in TOML's words."""

    def __init__(self, value: object) -> None:
        self.value = value

    def __repr__(self) -> str:
        match self.value:
            case None:
                return "nothing"
            case Found():
                return repr(self.value)
            case bool():
                return str(self.value).lower()
            case dict():
                return "a table"
            case []:
                return "an empty array"
            case list():
                return "an array"
            case str():
                return shortened(self.value)
            case int() if abs(self.value) > 1 << 64:  # Python refuses to print very long ones
                return "an enormous number"
            case _:
                return str(self.value)


def shortened(text: str) -> str:
    """`text` quoted, on one line, truncated when it is long."""
    return repr(text if len(text) <= FOUND_CHARACTERS_MAX else text[:FOUND_CHARACTERS_MAX] + "…")


class Words(Found):
    """What was found, described rather than shown."""

    def __repr__(self) -> str:
        return str(self.value)


class Verbatim(Found):
    """Text in which characters are counted: with single quotes TOML takes each as it is."""

    def __repr__(self) -> str:
        text = str(self.value)
        if len(text) > FOUND_CHARACTERS_MAX or not text.isprintable() or "'" in text:
            return shortened(text)
        return f"'{text}'"


class WrongError(Exception):
    """A value that is not allowed; `place` follows the key's own path."""

    def __init__(self, expected: str, found: object, place: str = "") -> None:
        super().__init__(expected)
        self.expected = expected
        self.found = found
        self.place = place


def shown_key(key: str) -> str:
    """A key as written if it is a bare key, else quoted."""
    return key if re.fullmatch(r"[A-Za-z0-9_-]{1,60}", key) else shortened(key)


# ── kinds ───────────────────────────────────────────────────────────────────────────────────────────────────


class Key(NamedTuple):
    """The type of a key: `expected` in words; `read` from TOML, `write` to TOML."""

    expected: str
    read: Callable[[Any], object]
    write: Callable[[Any], object] = lambda value: value


def integer(lowest: int, highest: int, unit: str) -> Key:
    """An integer in `unit`, both bounds included."""
    expected = f"{unit} from {lowest} to {highest}"

    def read(value: object) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not lowest <= value <= highest:
            raise WrongError(expected, value)
        return value

    return Key(expected, read)


def milliseconds(lowest: int, highest: int) -> Key:
    """A duration; both bounds included."""
    return integer(lowest, highest, "milliseconds")


def boolean() -> Key:
    """true or false, and nothing similar."""
    expected = "true or false"

    def read(value: object) -> bool:
        if not isinstance(value, bool):
            raise WrongError(expected, value)
        return value

    return Key(expected, read)


def choice(*choices: str) -> Key:
    """One of these strings."""
    expected = " or ".join((", ".join(choices[:-1]), choices[-1]))

    def read(value: object) -> str:
        if value not in choices:
            raise WrongError(expected, value)
        return str(value)

    return Key(expected, read)


def text(expected: str, pattern: str) -> Key:
    """A string that matches all of `pattern`."""

    def read(value: object) -> str:
        if not isinstance(value, str) or not re.fullmatch(pattern, value):
            raise WrongError(expected, value)
        return value

    return Key(expected, read)


def pair_name() -> Key:
    """As `--pair`."""
    expected = "1 to 64 letters, digits, dots, dashes or underscores"

    def read(value: object) -> str:
        try:
            return check_pair_name(value if isinstance(value, str) else "")
        except ConfigError as error:
            raise WrongError(expected, value) from error

    return Key(expected, read)


def role() -> Key:
    """A `Role`."""
    key = choice(*Role)
    return Key(key.expected, lambda value: Role(str(key.read(value))), str)


def address(port_min: int) -> Key:
    """An `Address`; port_min 0 allows "any free port"."""
    expected = "HOST:PORT, or [HOST]:PORT for IPv6"

    def read(value: object) -> Address:
        try:
            address = Address.parse(value if isinstance(value, str) and len(value) < 300 else "", "")
            if ":" in address.host:
                ipaddress.IPv6Address(address.host)
            elif not re.fullmatch(r"[A-Za-z0-9._-]+", address.host):
                raise WrongError(expected, value)
        except (ConfigError, ValueError) as error:
            wrong_port = isinstance(error, ConfigError) and error.expected.startswith("a port")
            raise WrongError(
                f"a port from {port_min} to 65535 at the end" if wrong_port else expected, value
            ) from error
        if address.port < port_min:
            raise WrongError(f"a port from {port_min} to 65535 at the end", value)
        return address

    return Key(expected, read, str)


def addresses(port_min: int) -> Key:
    """An array of `Address`."""
    one = address(port_min)

    def read(value: object) -> list[Address]:
        if not isinstance(value, list):
            raise WrongError("an array of HOST:PORT", value)
        found: list[Address] = []
        for number, item in enumerate(value):
            try:
                found.append(one.read(item))  # type: ignore[arg-type]
            except WrongError as error:
                error.place = f"[{number}]"
                raise
        return found

    return Key("an array of HOST:PORT", read, lambda value: [str(item) for item in value])


def path(expected: str, bytes_max: int, forbidden: str = "\0") -> Key:
    """An absolute path: the node and its QEMU may have different working directories."""

    def read(value: object) -> Path:
        if not isinstance(value, str) or not value.startswith("/") or set(forbidden) & set(value):
            raise WrongError(expected, value)
        if len(value.encode()) > bytes_max:
            raise WrongError(f"at most {bytes_max} bytes: a unix socket path must be short", value)
        return Path(value)

    return Key(expected, read, str)


def strings(expected: str, check: Callable[[str], object] = lambda _: None) -> Key:
    """At least one; `check` raises `WrongError` for an item that is not allowed."""

    def read(value: object) -> list[str]:
        if not isinstance(value, list) or not value or value[0] == "":
            raise WrongError(expected, value)
        for number, word in enumerate(value):
            if not isinstance(word, str) or "\0" in word:
                raise WrongError("a string", word, f"[{number}]")
            try:
                check(word)
            except WrongError as error:
                error.place = f"[{number}]"
                raise
        return list(value)

    return Key(expected, read)


def variables() -> Key:
    """Environment variables."""
    expected = "a table of strings"

    def read(value: object) -> dict[str, str]:
        if not isinstance(value, dict):
            raise WrongError(expected, value)
        for name, text in value.items():
            if not name or "=" in name or "\0" in name:
                raise WrongError("names of environment variables", name)
            if not isinstance(text, str) or "\0" in text:
                raise WrongError("a string", text, f".{shown_key(name)}")
        return dict(value)

    return Key(expected, read)


def mode() -> Key:
    """A file mode for owner and group only: write access to the socket decides about failovers."""
    expected = 'a mode for owner and group, such as "0600" or "0660"'

    def read(value: object) -> int:
        if not isinstance(value, str) or not re.fullmatch(r"0?6[0246]0", value):
            raise WrongError(expected, value)
        return int(value, 8)

    return Key(expected, read, "{:04o}".format)


def check_placeholders(word: str) -> None:
    """Raises `WrongError` for an unknown placeholder."""
    known = [f"{{{name}}}" for name in PLACEHOLDERS]
    if set(re.findall(r"\{[A-Za-z_]+\}", word)) - set(known):
        raise WrongError(f"no other placeholders than {', '.join(known)}", word)


def check_command(word: str) -> None:
    """Raises `WrongError` for an argument that colo itself adds to QEMU's command line."""
    if word in ("-incoming", "--incoming"):
        raise WrongError("a command line without -incoming, which colo adds", word)


def check_endpoint(text: str) -> None:
    """Raises `WrongError` unless it is an HTTP address."""
    try:
        parts = urlsplit(text)
        is_good = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        is_good = is_good and parts.path in ("", "/") and not (parts.query or parts.fragment)
    except ValueError:
        is_good = False
    if not is_good or not re.fullmatch(r"[!-~]+", text):
        raise WrongError("a URL such as http://10.0.0.3:2379", text)
