"""`colo explain`: why did it checkpoint? The last divergences byte by byte, and the checkpoints that followed."""

import json
from collections.abc import Iterator
from pathlib import Path
from time import monotonic_ns
from typing import Any, Final

import click

from pycolo.cli.status import checkpoint_line
from pycolo.cli.target import for_a_node, say

ROW_BYTES: Final = 8
"""Bytes of one side in a row: both sides fit 100 columns."""

Fields = dict[str, Any]


@click.command(short_help="Show why the last checkpoints were made.")
@for_a_node
@click.option("--last", type=click.IntRange(1, 64), default=3, show_default=True, metavar="N", help="How many of each.")
@click.option("--json", "as_json", is_flag=True, help="The same as JSON.")
def explain(*, control: Path, last: int, as_json: bool) -> None:
    """Show the last divergences: connection, kind, sequence number, and both guests' bytes side by side.

    The first different byte stands in brackets. Below are the last checkpoints with what asked for them.
    """
    from pycolo.node.control import ask  # noqa: PLC0415 - keeps `colo --help` fast

    answer = ask(control, {"command": "status"})
    divergences = answer["divergences"][-last:]
    checkpoints = ((answer.get("checkpoint") or {}).get("last") or [])[-last:]
    if as_json:
        click.echo(json.dumps({"divergences": divergences, "checkpoints": checkpoints}, indent=2))
        return
    say(explanation(divergences, checkpoints, monotonic_ns()))


def explanation(divergences: list[Fields], checkpoints: list[Fields], now_ns: int) -> Iterator[str]:
    """Newest last, as in a log. `now_ns`: this host's monotonic clock, which is the node's as well."""
    if not divergences:
        yield "no divergence so far"
    for divergence in divergences:
        yield from divergence_lines(divergence, now_ns)
        yield ""
    if checkpoints:
        yield "checkpoints"
    for record in checkpoints:
        yield f"  {checkpoint_line(record)}"


def divergence_lines(divergence: Fields, now_ns: int) -> Iterator[str]:
    """One divergence, and the bytes around it where it has any."""
    yield divergence["text"]
    facts = [f"kind {divergence['kind']}"]
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
