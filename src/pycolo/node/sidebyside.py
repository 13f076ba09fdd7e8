"""A divergence in words, with both guests' bytes side by side: for `colo explain` and for the laboratory."""

from collections.abc import Collection, Iterator
from typing import Any, Final, NamedTuple

ROW_BYTES: Final = 8
"""Bytes of one side in a row: both sides fit 100 columns."""

MASKED: Final = -1
"""A byte of the secondary that a mask has let differ: what it was is not kept."""

Fields = dict[str, Any]


def divergence_lines(divergence: Fields, now_ns: int) -> Iterator[str]:
    """One divergence, and the bytes around it where it has any."""
    yield divergence["text"]
    facts = [f"kind {divergence['kind']}"]
    if divergence.get("card"):
        facts.append(f"card {divergence['card']}")
    if divergence.get("connection"):
        facts.append(f"connection {divergence['connection']}")
        facts.append(f"sequence number {divergence['seq']}")
    if divergence.get("waited_ms"):
        facts.append(f"waited {divergence['waited_ms']} ms")
    if "at_ns" in divergence:
        facts.append(f"{max(0, now_ns - divergence['at_ns']) / 1e9:.1f} s ago")
    yield f"  {', '.join(facts)}"
    primary, secondary = bytes.fromhex(divergence["primary"]), bytes.fromhex(divergence["secondary"])
    if primary or secondary:
        masked = divergence.get("masked", ())
        yield from side_by_side(primary, divergence["primary_index"], secondary, divergence["secondary_index"], masked)
        if masked:
            yield "  **: this byte differed as well, and a mask let it"


def side_by_side(
    primary: bytes, primary_index: int, secondary: bytes, secondary_index: int, masked: Collection[int] = ()
) -> Iterator[str]:
    """Both sides' bytes, laid so that what is compared stands in one row; positions count from the difference.

    `masked`: positions of bytes of the secondary that a mask let differ. Where one side has no bytes at all, as after a
    time-out, nothing is marked.
    """
    before = max(primary_index, secondary_index)
    after = max(len(primary) - primary_index, len(secondary) - secondary_index)
    are_both = bool(primary) and bool(secondary)
    width = 4 * ROW_BYTES + 2
    yield f"  {'':>5}  {'primary':<{width}}  {'':1}  {'secondary':<{width}}".rstrip()
    for start in range(-_rounded_up(before), max(after, 1), ROW_BYTES):
        left, right = _cells(primary, primary_index, start), _cells(secondary, secondary_index, start, masked)
        differs = start == 0 or any(map(_differs, left, right))
        mark = "≠" if differs and are_both else " "
        first = -start if are_both else -1
        yield f"  {start:>+5}  {_half(left, first)}  {mark}  {_half(right, first)}".rstrip()


def _rounded_up(count: int) -> int:
    return -(-count // ROW_BYTES) * ROW_BYTES


def _cells(octets: bytes, index: int, start: int, masked: Collection[int] = ()) -> list[int | None]:
    positions = range(start, start + ROW_BYTES)
    return [
        None if not 0 <= index + at < len(octets) else MASKED if at in masked else octets[index + at]
        for at in positions
    ]


def _differs(one: int | None, other: int | None) -> bool:
    """Not where one is missing, or was not compared."""
    return None not in (one, other) and MASKED not in (one, other) and one != other


def _half(cells: list[int | None], first: int) -> str:
    """One side of a row: `48[32]2f …`, then the same as text; `first`: which cell stands in brackets."""
    text = ""
    for number, octet in enumerate(cells):
        separator = "[" if number == first else "]" if number == first + 1 and number else " "
        text += separator + ("  " if octet is None else _hex(octet))
    text += "]" if first == len(cells) - 1 else " "
    return f"{text} {''.join(' ' if octet is None else _shown(octet) for octet in cells)}"


def _hex(octet: int) -> str:
    return "**" if octet == MASKED else f"{octet:02x}"


def _shown(octet: int) -> str:
    if octet == MASKED:
        return "*"
    return chr(octet) if 0x20 <= octet < 0x7F else "."


# ── for a page ──────────────────────────────────────────────────────────────────────────────────────────────


class Cell(NamedTuple):
    """One byte of one side; blanks where that side has none."""

    hex: str
    text: str
    differs: bool


class Line(NamedTuple):
    """ROW_BYTES bytes of one side; `position` counts from the first difference."""

    position: int
    cells: list[Cell]


def halves(divergence: Fields) -> tuple[list[Line], list[Line]] | None:
    """Both sides' bytes in lines that stand for the same positions; None where there are none."""
    primary, secondary = bytes.fromhex(divergence["primary"]), bytes.fromhex(divergence["secondary"])
    if not primary and not secondary:
        return None
    at, other_at = divergence["primary_index"], divergence["secondary_index"]
    after = max(len(primary) - at, len(secondary) - other_at, 1)
    left: list[Line] = []
    right: list[Line] = []
    for start in range(-_rounded_up(max(at, other_at)), after, ROW_BYTES):
        ours = _cells(primary, at, start)
        theirs = _cells(secondary, other_at, start, divergence.get("masked", ()))
        differs = list(map(_differs, ours, theirs))
        left.append(Line(start, [_cell(octet, differs=each) for octet, each in zip(ours, differs, strict=True)]))
        right.append(Line(start, [_cell(octet, differs=each) for octet, each in zip(theirs, differs, strict=True)]))
    return left, right


def _cell(octet: int | None, *, differs: bool) -> Cell:
    return Cell("  ", " ", differs=False) if octet is None else Cell(_hex(octet), _shown(octet), differs=differs)
