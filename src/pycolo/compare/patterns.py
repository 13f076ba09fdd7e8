"""The patterns of noise masks (rule C7): a small language over bytes, and the positions of its automaton.

It is a part of Python's `re` for bytes, with the same meaning: literals, escapes, `.`, classes, groups, `|`, and
repeats with a bound. Without a bound there would be no longest match, and what is looked at for one difference could be
anything; so `*` and `+` are refused.

A pattern becomes a *position automaton* (Glushkov, 1961; McNaughton and Yamada, 1960): one state for each byte of a
longest match, none for anything else. `pycolo.core.Masks` runs all of them at once, a bit for each position: time is
bytes times positions, whatever the bytes are.
"""

import re
from dataclasses import dataclass
from string import ascii_letters, digits
from typing import Final, NamedTuple

from pycolo import limits

ALL_BYTES: Final = (1 << 256) - 1

Set = int
"""Of bytes, or of positions: a bit for each."""


class PatternError(Exception):
    """What is wrong, and at which character of the pattern, from 1."""

    def __init__(self, expected: str, column: int) -> None:
        super().__init__(expected)
        self.expected = expected
        self.column = column


@dataclass(frozen=True, slots=True)
class Automaton:
    """By position: the bytes that it takes, and the positions that may follow it. `first` may begin a match, `last` may
    end one; `longest`: the bytes of the longest match.
    """

    takes: tuple[Set, ...]
    follow: tuple[Set, ...]
    first: Set
    last: Set
    longest: int


def compile_pattern(text: str) -> Automaton:
    """Raises `PatternError`."""
    reader = _Reader(text)
    tree = reader.alternatives()
    if reader.pos < len(text):
        raise reader.error("no ) without a (")
    if (size := _size(tree)) > limits.MASK_POSITIONS_MAX:
        raise PatternError(f"a pattern of at most {limits.MASK_POSITIONS_MAX} bytes with its repeats, not {size}", 1)
    if not size:
        raise PatternError("a pattern that can match at least one byte", 1)
    builder = _Builder()
    whole = builder.add(tree)
    return Automaton(tuple(builder.takes), tuple(builder.follow), whole.first, whole.last, whole.longest)


# ── reading ─────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class _Bytes:
    members: Set


@dataclass(frozen=True, slots=True)
class _All:
    parts: "tuple[_Tree, ...]"


@dataclass(frozen=True, slots=True)
class _Either:
    parts: "tuple[_Tree, ...]"


@dataclass(frozen=True, slots=True)
class _Times:
    part: "_Tree"
    lowest: int
    highest: int


_Tree = _Bytes | _All | _Either | _Times


def _members(octets: bytes) -> Set:
    return sum(1 << octet for octet in set(octets))


_DIGITS: Final = _members(digits.encode())
_WORDS: Final = _members((ascii_letters + digits + "_").encode())
_SPACES: Final = _members(b" \t\n\r\f\v")
_CLASSES: Final = {
    "d": _DIGITS,
    "D": ALL_BYTES & ~_DIGITS,
    "w": _WORDS,
    "W": ALL_BYTES & ~_WORDS,
    "s": _SPACES,
    "S": ALL_BYTES & ~_SPACES,
}
_CONTROLS: Final = {"n": 10, "r": 13, "t": 9, "f": 12, "v": 11, "a": 7}
_DOT: Final = ALL_BYTES & ~(1 << 10)

_DEPTH_MAX: Final = 32
"""Of groups: a person writes two."""


class _Reader:
    def __init__(self, text: str) -> None:
        self.text = text
        self.pos = 0
        self._depth = 0

    def error(self, expected: str, at: int | None = None) -> PatternError:
        return PatternError(expected, (self.pos if at is None else at) + 1)

    def _next(self) -> str:
        return self.text[self.pos : self.pos + 1]

    def alternatives(self) -> _Tree:
        self._depth += 1
        if self._depth > _DEPTH_MAX:
            raise self.error(f"at most {_DEPTH_MAX} groups in one another")
        parts = [self._sequence()]
        while self._next() == "|":
            self.pos += 1
            parts.append(self._sequence())
        self._depth -= 1
        return parts[0] if len(parts) == 1 else _Either(tuple(parts))

    def _sequence(self) -> _Tree:
        parts: list[_Tree] = []
        while self._next() not in ("", "|", ")"):
            parts.append(self._repeated(self._atom()))
        return _All(tuple(parts))

    def _repeated(self, part: _Tree) -> _Tree:
        at = self.pos
        bounds = re.compile(r"\?|\{(\d{1,4})(?:,(\d{1,4}))?\}", re.ASCII).match(self.text, at)
        if bounds is None:
            if self._next() in ("*", "+") or self._next() == "{":
                raise self.error("a repeat with a bound, such as {1,64}")
            return part
        self.pos = bounds.end()
        lowest = 0 if bounds[1] is None else int(bounds[1])
        highest = 1 if bounds[1] is None else int(bounds[2] or bounds[1])
        if not lowest <= highest or not highest:
            raise self.error("a repeat whose second number is not below the first, and not 0", at)
        if self._next() and self._next() in "?*+{":
            raise self.error("one repeat for each part")
        return _Times(part, lowest, highest)

    def _atom(self) -> _Tree:
        at, character = self.pos, self._next()
        self.pos += 1
        match character:
            case "(":
                return self._group(at)
            case "[":
                return _Bytes(self._class(at))
            case "\\":
                return _Bytes(self._escape())
            case ".":
                return _Bytes(_DOT)
            case "^" | "$":
                raise self.error("no anchor: a stream has no lines", at)
            case "*" | "+" | "?" | "{":
                raise self.error("something to repeat", at)
        return _Bytes(1 << self._plain(character, at))

    def _plain(self, character: str, at: int) -> int:
        if not "\x00" <= character <= "\x7f":
            raise self.error(r"bytes above \x7f as \xHH", at)
        return ord(character)

    def _group(self, at: int) -> _Tree:
        if self.text.startswith("?:", self.pos):
            self.pos += 2
        elif self._next() == "?":
            raise self.error("a plain group, ( or (?:", at)
        inner = self.alternatives()
        if self._next() != ")":
            raise self.error("a ) for this (", at)
        self.pos += 1
        return inner

    def _escape(self) -> Set:
        r"""What stands behind a \."""
        at, character = self.pos - 1, self._next()
        self.pos += 1
        if character == "x":
            digits_found = self.text[self.pos : self.pos + 2]
            if not re.fullmatch(r"[0-9A-Fa-f]{2}", digits_found):
                raise self.error(r"two hexadecimal digits behind \x", at)
            self.pos += 2
            return 1 << int(digits_found, 16)
        if character in _CLASSES:
            return _CLASSES[character]
        if character in _CONTROLS:
            return 1 << _CONTROLS[character]
        if not character or character.isalnum() or not character.isascii():
            raise self.error(r"one of \d \w \s \D \W \S \n \r \t \f \v \a \xHH, or an escaped sign", at)
        return 1 << ord(character)

    def _class(self, at: int) -> Set:
        is_inverse = self._next() == "^"
        self.pos += is_inverse
        found = 0
        while self._next() != "]":
            if not self._next():
                raise self.error("a ] for this [", at)
            found |= self._range()
        if not found:
            raise self.error(r"something within [ ]; a ] itself is \]", at)
        self.pos += 1
        if is_inverse and found == ALL_BYTES:
            raise self.error("a class that leaves a byte", at)
        return ALL_BYTES & ~found if is_inverse else found

    def _range(self) -> Set:
        at = self.pos
        first = self._member()
        if self._next() != "-" or self.text[self.pos + 1 : self.pos + 2] in ("", "]"):
            return first
        self.pos += 1
        last = self._member()
        low, high = first.bit_length() - 1, last.bit_length() - 1
        if first.bit_count() != 1 or last.bit_count() != 1 or low > high:
            raise self.error("a range from a byte to a later one", at)
        return (1 << high + 1) - (1 << low)

    def _member(self) -> Set:
        at, character = self.pos, self._next()
        self.pos += 1
        if character == "\\":
            return self._escape()
        if character == "[":
            raise self.error(r"\[ for a [ within a class", at)
        return 1 << self._plain(character, at)


def _size(tree: _Tree) -> int:
    """Positions, without making any."""
    match tree:
        case _Bytes():
            return 1
        case _Times():
            return tree.highest * _size(tree.part)
    return sum(map(_size, tree.parts))


# ── positions ───────────────────────────────────────────────────────────────────────────────────────────────


class _Part(NamedTuple):
    """Of the automaton: whether it may match nothing, where it may begin and end, and its longest match."""

    is_optional: bool
    first: Set
    last: Set
    longest: int


class _Builder:
    def __init__(self) -> None:
        self.takes: list[Set] = []
        self.follow: list[Set] = []

    def add(self, tree: _Tree) -> _Part:
        match tree:
            case _Bytes():
                self.takes.append(tree.members)
                self.follow.append(0)
                position = 1 << len(self.takes) - 1
                return _Part(False, position, position, 1)
            case _All():
                whole = _Part(True, 0, 0, 0)
                for part in tree.parts:
                    whole = self._behind(whole, self.add(part))
                return whole
            case _Either():
                parts = [self.add(part) for part in tree.parts]
                whole = parts[0]
                for other in parts[1:]:
                    whole = _Part(
                        whole.is_optional or other.is_optional,
                        whole.first | other.first,
                        whole.last | other.last,
                        max(whole.longest, other.longest),
                    )
                return whole
        return self._times(tree)

    def _behind(self, one: _Part, other: _Part) -> _Part:
        self._link(one.last, other.first)
        return _Part(
            one.is_optional and other.is_optional,
            one.first | (other.first if one.is_optional else 0),
            other.last | (one.last if other.is_optional else 0),
            one.longest + other.longest,
        )

    def _times(self, tree: _Times) -> _Part:
        """Each copy may be followed by the next one; from the last that must be there on, each may end it.

        Nothing is the same however often it is repeated; its copies have no positions, and so no limit.
        """
        first = before = self.add(tree.part)
        if not first.longest:
            return first
        lowest = 0 if first.is_optional else tree.lowest
        last = before.last if lowest <= 1 else 0
        for number in range(2, tree.highest + 1):
            copy = self.add(tree.part)
            self._link(before.last, copy.first)
            last |= copy.last if number >= lowest else 0
            before = copy
        return _Part(lowest == 0, first.first, last, tree.highest * first.longest)

    def _link(self, ends: Set, begins: Set) -> None:
        for position in range(ends.bit_length()):
            if ends >> position & 1:
                self.follow[position] |= begins
