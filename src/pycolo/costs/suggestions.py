"""Masks that may be worth while (rule C7): proposed from differences that were seen, never applied.

What differs in one shape at one place over several connections is noise: a word between the same bytes, which both
guests wrote with the same length. Proposed is a pattern of these bytes and of what the words were made of.
"""

import re
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from pycolo.compare.difference import Difference
from pycolo.compare.kinds import DifferenceKind
from pycolo.compare.patterns import PatternError, compile_pattern
from pycolo.costs.services import EPHEMERAL_FROM
from pycolo.costs.shapes import ShapeKind, shape_of

SEEN_MIN: Final = 3
"""Differences, and connections, before anything is proposed: two may be alike by chance."""

PLACES_MAX: Final = 64
"""Kept at once. A guest chooses what is a place; the one that was seen longest ago goes first."""

CONTEXT_BYTES: Final = 24
CONTEXT_BYTES_MIN: Final = 4
"""Fewer bytes in front of a word are in front of others too."""

VALUE_BYTES_MAX: Final = 128
"""Of a header's value, of which the comparator keeps only a part."""

TCP: Final = 6

DATE: Final = r"Date: [A-Z][a-z]{2}, \d\d [A-Z][a-z]{2} \d{4} \d\d:\d\d:\d\d GMT\r\n"
"""RFC 9110 section 5.6.7."""

_HEADER: Final = re.compile(rb"\n([A-Za-z][A-Za-z0-9-]{0,31}:[ \t]?)[^\r\n]*\Z")
_WORD: Final = re.compile(rb"[0-9A-Za-z_-]*")
_WORD_START: Final = re.compile(rb"[0-9A-Za-z_-]*\Z")
_CLASSES: Final = (
    (re.compile(rb"[0-9]*"), r"\d"),
    (re.compile(rb"[0-9a-f]*"), "[0-9a-f]"),
    (re.compile(rb"[0-9A-F]*"), "[0-9A-F]"),
    (re.compile(rb"[0-9A-Za-z]*"), "[0-9A-Za-z]"),
)
_WIDEST: Final = "[0-9A-Za-z_-]"

_SENT_BACK: Final = re.compile(r"cookie|session|token|csrf|nonce|auth|secret|location", re.IGNORECASE)
SENT_BACK: Final = "clients may send this back, and the survivor of a failover would not know it"
COUNTED: Final = "a number that differs may say that the guests did their work in another order: try [[order]] first"
"""What speaks against a proposal."""


class _Place(NamedTuple):
    """Where a word stands. `before` and `behind` are patterns; a header's value has any signs."""

    port: int
    direction: str
    before: str
    behind: str
    is_value: bool


@dataclass(slots=True)
class _Seen:
    differences: int = 0
    connections: set[str] = field(default_factory=set)
    words: bytes = b""
    """One of each sign."""
    shortest: int = VALUE_BYTES_MAX
    longest: int = 1
    is_number: bool = True


class Suggestions:
    """Told of each difference; says what might be masked."""

    def __init__(self) -> None:
        self._seen: dict[_Place, _Seen] = {}

    def difference(self, difference: Difference) -> None:
        """The comparator has found one."""
        key = difference.connection
        if difference.kind is not DifferenceKind.PAYLOAD or key is None or key.ip_proto != TCP:
            return
        is_guests = key.source_port >= EPHEMERAL_FROM > key.destination_port > 0
        port, direction = (key.destination_port, "out") if is_guests else (key.source_port, "in")
        found = _place(difference, port, direction)
        if found is None:
            return
        place, words = found
        seen = self._seen.pop(place, None) or _Seen()
        self._seen[place] = seen
        while len(self._seen) > PLACES_MAX:
            del self._seen[next(iter(self._seen))]
        seen.differences += 1
        seen.is_number = seen.is_number and shape_of(difference).kind is ShapeKind.NUMBER
        if len(seen.connections) < SEEN_MIN:
            seen.connections.add(str(key))
        seen.words = bytes(set(seen.words).union(*words))
        seen.shortest = min(seen.shortest, len(words[0]))
        seen.longest = max(seen.longest, len(words[0]))

    def proposed(self) -> list[dict[str, Any]]:
        """`ports`, `direction`, `pattern`, in how many `differences` it was seen, what speaks against it (`caution`,
        perhaps empty); the most frequent first.
        """
        found = []
        for place, seen in sorted(self._seen.items(), key=lambda item: -item[1].differences):
            if min(seen.differences, len(seen.connections)) < SEEN_MIN:
                continue
            pattern = _pattern(place, seen)
            try:
                compile_pattern(pattern)
            except PatternError:
                continue  # longer than a pattern may be
            found.append(
                {
                    "ports": [place.port],
                    "direction": place.direction,
                    "pattern": pattern,
                    "differences": seen.differences,
                    "caution": _caution(place, seen),
                }
            )
        return found


def _place(difference: Difference, port: int, direction: str) -> tuple[_Place, tuple[bytes, bytes]] | None:
    """Where the difference is, and both words; None where there is no such place, or they are of different length."""
    before = difference.primary[: difference.primary_index]
    ours = difference.primary[difference.primary_index :]
    theirs = difference.secondary[difference.secondary_index :]
    if not ours or not theirs:
        return None
    shape = shape_of(difference)
    if shape.kind is ShapeKind.BODY_LENGTH:
        return None  # behind it come as many bytes, which no mask hides
    if shape.kind is ShapeKind.HTTP_DATE:
        return _Place(port, direction, DATE, "", is_value=True), (b"", b"")
    if shape.kind is ShapeKind.HEADER and (header := _HEADER.search(before)) is not None:
        values = [_value(before[header.end(1) :] + side) for side in (ours, theirs)]
        is_whole = all(b"\r" in side for side in (ours, theirs))
        if is_whole and len(values[0]) != len(values[1]):
            return None
        return _Place(port, direction, _quoted(header[1]), r"\r\n", is_value=True), (values[0], values[1])
    return _word_place(before, ours, theirs, port, direction)


def _word_place(
    before: bytes, ours: bytes, theirs: bytes, port: int, direction: str
) -> tuple[_Place, tuple[bytes, bytes]] | None:
    start = _WORD_START.search(before)
    began = start[0] if start is not None else b""
    context = before[: len(before) - len(began)][-CONTEXT_BYTES:]
    mine, other = (began + _matched(side) for side in (ours, theirs))
    at = len(mine) - len(began)
    if (
        len(mine) != len(other)
        or not mine
        or len(context) < CONTEXT_BYTES_MIN
        or ours[at : at + 1] != theirs[at : at + 1]
    ):
        return None
    if not ours[at : at + 1] or not all(
        0x20 <= octet < 0x7F or octet in b"\r\n\t" for octet in context + ours[at : at + 1]
    ):
        return None
    return _Place(port, direction, _quoted(context), _quoted(ours[at : at + 1]), is_value=False), (mine, other)


def _caution(place: _Place, seen: _Seen) -> str:
    if _SENT_BACK.search(place.before):
        return SENT_BACK
    return COUNTED if seen.is_number else ""


def _matched(octets: bytes) -> bytes:
    found = _WORD.match(octets)
    return found[0] if found is not None else b""


def _value(octets: bytes) -> bytes:
    return octets.partition(b"\r")[0]


def _quoted(octets: bytes) -> str:
    r"""As a pattern; a ' would end a string of TOML."""
    names = {10: r"\n", 13: r"\r", 9: r"\t", 39: r"\x27"}
    return "".join(names.get(octet) or re.sub(r"[^\w :;,=<>\"/@%&!#-]", r"\\\g<0>", chr(octet)) for octet in octets)


def _pattern(place: _Place, seen: _Seen) -> str:
    if place.is_value:
        return place.before if not place.behind else f"{place.before}[^\\r\\n]{{1,{VALUE_BYTES_MAX}}}{place.behind}"
    made_of = next((name for members, name in _CLASSES if members.fullmatch(seen.words)), _WIDEST)
    times = f"{{{seen.shortest}}}" if seen.shortest == seen.longest else f"{{{seen.shortest},{seen.longest}}}"
    return f"{place.before}{made_of}{times}{place.behind}"
