"""The types of keys that say which connections are meant."""

import re
from collections.abc import Callable
from typing import Final, TypeVar

from pycolo.compare.flows import PORT_MAX, AddressError, Network, network
from pycolo.compare.patterns import PatternError, compile_pattern
from pycolo.config.keys import Key, Verbatim, WrongError

LISTED_MAX: Final = 64
"""Addresses or ports of one table; more are better written as a prefix or a range."""

T = TypeVar("T")

Ports = tuple[int, int]
"""The first and the last one."""


def ports() -> Key:
    """An array of ports and ranges of ports, each read as its first and its last one."""
    expected = f'an array of 1 to {LISTED_MAX} ports and ranges, such as [80, "8000-8099"]'

    def read(value: object) -> list[Ports]:
        if not isinstance(value, list) or not 0 < len(value) <= LISTED_MAX:
            raise WrongError(expected, value)
        return [_read_one(_port, item, number) for number, item in enumerate(value)]

    return Key(expected, read, lambda value: [one if one == last else f"{one}-{last}" for one, last in value])


def networks() -> Key:
    """An array of addresses and prefixes, of both versions of IP."""
    expected = f'an array of 1 to {LISTED_MAX} addresses and prefixes, such as ["192.0.2.7", "2001:db8::/32"]'

    def read(value: object) -> list[Network]:
        if not isinstance(value, list) or not 0 < len(value) <= LISTED_MAX:
            raise WrongError(expected, value)
        return [_read_one(_network, item, number) for number, item in enumerate(value)]

    return Key(expected, read, lambda value: [str(one) for one in value])


def pattern() -> Key:
    """A mask's pattern."""
    expected = "a pattern such as 'id=[0-9a-f]{16}'"

    def read(value: object) -> str:
        if not isinstance(value, str):
            raise WrongError(expected, value)
        try:
            compile_pattern(value)
        except PatternError as error:
            raise WrongError(f"{error.expected}, at character {error.column}", Verbatim(value)) from error
        return value

    return Key(expected, read)


def _read_one(read: Callable[[object], T], item: object, number: int) -> T:
    try:
        return read(item)
    except WrongError as error:
        error.place = f"[{number}]"
        raise


def _port(item: object) -> Ports:
    expected = f'a port from 1 to {PORT_MAX}, or a range such as "8000-8099"'
    found = re.fullmatch(r"([0-9]{1,5})-([0-9]{1,5})", item) if isinstance(item, str) else None
    first, last = (int(found[1]), int(found[2])) if found else (item, item)
    if isinstance(first, bool) or not isinstance(first, int) or not isinstance(last, int):
        raise WrongError(expected, item)
    if not 1 <= first <= last <= PORT_MAX:
        raise WrongError(expected, item)
    return first, last


def _network(item: object) -> Network:
    try:
        return network(item if isinstance(item, str) and len(item) < 64 else "")
    except AddressError as error:
        raise WrongError(str(error), item) from error
    except ValueError as error:
        is_host = "has host bits set" in str(error)
        expected = (
            "a prefix without bits behind its length" if is_host else "an address, or a prefix such as 192.0.2.0/24"
        )
        raise WrongError(expected, item) from error
