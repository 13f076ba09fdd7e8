"""A divergence in words, with both guests' bytes side by side: for `colo explain` and for the laboratory."""

from collections.abc import Iterator
from typing import Any, Final, NamedTuple

ROW_BYTES: Final = 8
"""Bytes of one side in a row: both sides fit 100 columns."""

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
        yield from side_by_side(primary, divergence["primary_index"], secondary, divergence["secondary_index"])


def side_by_side(primary: bytes, primary_index: int, secondary: bytes, secondary_index: int) -> Iterator[str]:
    """Both sides' bytes, laid so that what is compared stands in one row; positions count from the difference.

    Where one side has no bytes at all, as after a time-out, nothing is marked.
    """
    before = max(primary_index, secondary_index)
    after = max(len(primary) - primary_index, len(secondary) - secondary_index)
    are_both = bool(primary) and bool(secondary)
    width = 4 * ROW_BYTES + 2
    yield f"  {'':>5}  {'primary':<{width}}  {'':1}  {'secondary':<{width}}".rstrip()
    for start in range(-_rounded_up(before), max(after, 1), ROW_BYTES):
        left, right = _cells(primary, primary_index, start), _cells(secondary, secondary_index, start)
        differs = start == 0 or any(None not in pair and pair[0] != pair[1] for pair in zip(left, right, strict=True))
        mark = "≠" if differs and are_both else " "
        first = -start if are_both else -1
        yield f"  {start:>+5}  {_half(left, first)}  {mark}  {_half(right, first)}".rstrip()


def _rounded_up(count: int) -> int:
    return -(-count // ROW_BYTES) * ROW_BYTES


def _cells(octets: bytes, index: int, start: int) -> list[int | None]:
    positions = range(index + start, index + start + ROW_BYTES)
    return [octets[at] if 0 <= at < len(octets) else None for at in positions]


def _half(cells: list[int | None], first: int) -> str:
    """One side of a row: `48[32]2f …`, then the same as text; `first`: which cell stands in brackets."""
    text = ""
    for number, octet in enumerate(cells):
        separator = "[" if number == first else "]" if number == first + 1 and number else " "
        text += separator + ("  " if octet is None else f"{octet:02x}")
    text += "]" if first == len(cells) - 1 else " "
    return f"{text} {''.join(' ' if octet is None else _shown(octet) for octet in cells)}"


def _shown(octet: int) -> str:
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
        ours, theirs = _cells(primary, at, start), _cells(secondary, other_at, start)
        differs = [None not in pair and pair[0] != pair[1] for pair in zip(ours, theirs, strict=True)]
        left.append(Line(start, [_cell(octet, differs=each) for octet, each in zip(ours, differs, strict=True)]))
        right.append(Line(start, [_cell(octet, differs=each) for octet, each in zip(theirs, differs, strict=True)]))
    return left, right


def _cell(octet: int | None, *, differs: bool) -> Cell:
    return Cell("  ", " ", differs=False) if octet is None else Cell(f"{octet:02x}", _shown(octet), differs=differs)
