"""`colo explain`: the reasons for checkpoints: the last divergences byte by byte, and the checkpoints that followed."""

import json
from collections.abc import Iterator
from pathlib import Path
from time import monotonic_ns
from typing import Any

import click

from pycolo.cli.status import checkpoint_line, size
from pycolo.cli.target import for_a_node, say
from pycolo.node.sidebyside import divergence_lines

Fields = dict[str, Any]


@click.command(short_help="Show why the last checkpoints were made.")
@for_a_node
@click.option("--last", type=click.IntRange(1, 64), default=3, show_default=True, metavar="N", help="Number of each.")
@click.option("--json", "as_json", is_flag=True, help="The same as JSON.")
def explain(*, control: Path, last: int, as_json: bool) -> None:
    """Show the last divergences: connection, kind, sequence number, and both guests' bytes side by side.

    The first different byte is in brackets. Below are the last checkpoints and the reason for each.
    """
    from pycolo.node.control import ask  # noqa: PLC0415 - keeps `colo --help` fast

    answer = ask(control, {"command": "status"})
    divergences = answer["divergences"][-last:]
    checkpoint = answer.get("checkpoint") or {}
    checkpoints = (checkpoint.get("last") or [])[-last:]
    pace = checkpoint.get("pace") or {}
    if as_json:
        click.echo(json.dumps({"divergences": divergences, "checkpoints": checkpoints}, indent=2))
        return
    say(
        [
            *([] if divergences else [why_none(answer)]),
            *explanation(divergences, checkpoints, monotonic_ns(), pace.get("why")),
        ]
    )


def why_none(answer: Fields) -> str:
    """What a node without divergences says instead."""
    compared = answer.get("counters", {}).get("compared_bytes", 0)
    if compared:
        return f"no divergence so far: {size(compared)} of both guests' payload were equal"
    if answer["role"] == "secondary":
        return "no divergence here: the primary's node compares; ask that one"
    if answer["state"] in ("protected", "degraded"):
        return "no divergence so far: nothing was compared yet; let a client ask the guest something"
    return f"no divergence so far: this node is {answer['state']}, and compares nothing without a secondary"


def explanation(
    divergences: list[Fields], checkpoints: list[Fields], now_ns: int, finding: str | None = None
) -> Iterator[str]:
    """Oldest first, as in a log. `now_ns`: this host's monotonic clock, which is also the node's. `finding`: why pauses
    are longer than their target.
    """
    for divergence in divergences:
        yield from divergence_lines(divergence, now_ns)
        yield ""
    if checkpoints:
        yield "checkpoints"
    for record in checkpoints:
        yield f"  {checkpoint_line(record)}"
    if finding:
        yield finding
