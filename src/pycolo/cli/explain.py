"""`colo explain`: why checkpoints are made: the last divergences byte by byte, or which traffic costs how much."""

import json
from collections.abc import Iterator
from pathlib import Path
from time import monotonic_ns
from typing import Any

import click

from pycolo.cli.costs import cost_lines
from pycolo.cli.diskprogress import disk_lines
from pycolo.cli.ordering import order_lines
from pycolo.cli.status import bypass_lines, checkpoint_line, mask_lines, parts_line, size
from pycolo.cli.suggestions import suggestion_lines
from pycolo.cli.target import for_a_node, say
from pycolo.node.sidebyside import divergence_lines

Fields = dict[str, Any]


@click.command(short_help="Show why checkpoints are made, and which traffic costs how much.")
@for_a_node
@click.option("--last", type=click.IntRange(1, 64), default=3, show_default=True, metavar="N", help="Number of each.")
@click.option(
    "--by",
    type=click.Choice(["port", "connection", "reason"]),
    help="Instead: what traffic costs, added up by the guest's port, by connection, or by the checkpoints' reason.",
)
@click.option(
    "--over",
    type=click.Choice(["minute", "hour", "start"]),
    help="With --by: the last minute, the last hour (the default), or everything since this node's first start.",
)
@click.option(
    "--suggest",
    is_flag=True,
    help="Instead: masks that would have hidden what differed since the node's start, for its file. Applies nothing.",
)
@click.option("--json", "as_json", is_flag=True, help="The same as JSON.")
def explain(*, control: Path, last: int, by: str | None, over: str | None, suggest: bool, as_json: bool) -> None:
    """Show the last divergences: connection, kind, sequence number, and both guests' bytes side by side.

    The first different byte is in brackets. Below are the last checkpoints and the reason for each,
    how each port's requests are ordered and why, and the disks whose copies were lost.

    With --by it shows what traffic has cost instead: checkpoints, the guest's pauses, how long clients have waited for
    checkpoints, and for each row in words what differed; by port also how its requests are ordered. With --suggest it
    proposes masks.
    """
    from pycolo.node.control import ask  # noqa: PLC0415 - keeps `colo --help` fast

    if by is None and over is not None:
        raise click.UsageError("--over: only with --by")
    if suggest and by is not None:
        raise click.UsageError("--suggest: not with --by")
    if suggest:
        found = ask(control, {"command": "costs", "suggest": True})
        say(json.dumps(found, indent=2).splitlines() if as_json else suggestion_lines(found))
        return
    if by is not None:
        costs = ask(control, {"command": "costs", "by": by, "over": over or "hour"})
        if as_json:
            click.echo(json.dumps(costs, indent=2))
            return
        order = ask(control, {"command": "status"}).get("order", []) if by == "port" else []
        say([*cost_lines(costs), *order_of_requests(order)])
        return
    answer = ask(control, {"command": "status"})
    divergences = answer["divergences"][-last:]
    checkpoint = answer.get("checkpoint") or {}
    checkpoints = (checkpoint.get("last") or [])[-last:]
    pace = checkpoint.get("pace") or {}
    losses = [disk for disk in answer.get("disks", []) if disk["state"] == "lost"][-last:]
    if as_json:
        found = {
            "divergences": divergences,
            "checkpoints": checkpoints,
            "spacing": checkpoint.get("spacing"),
            "parts_ms": checkpoint.get("parts_ms"),
            "disks": losses,
            "masks": answer.get("masks", {}),
            "bypassed": answer.get("bypassed", {}),
            "order": answer.get("order", []),
        }
        click.echo(json.dumps(found, indent=2))
        return
    say(
        [
            *([] if divergences else [why_none(answer)]),
            *explanation(divergences, checkpoints, monotonic_ns(), pace.get("why"), checkpoint),
            *order_of_requests(answer.get("order", [])),
            *mask_lines(answer.get("masks", {})),
            *bypass_lines(answer.get("bypassed", {})),
            *(["disks that ended the protection"] if losses else []),
            *(f"  {line}" for line in disk_lines(losses)),
        ]
    )


def order_of_requests(ports: list[Fields]) -> Iterator[str]:
    """With a title; nothing where no port was ordered."""
    if ports:
        yield "order of requests"
        yield from (f"  {line}" for line in order_lines(ports, says_why=True))


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
    divergences: list[Fields],
    checkpoints: list[Fields],
    now_ns: int,
    finding: str | None = None,
    checkpoint: Fields | None = None,
) -> Iterator[str]:
    """Oldest first, as in a log. `now_ns`: this host's monotonic clock, which is also the node's. `finding`: why pauses
    are longer than their target. `checkpoint`: of the status answer.
    """
    for divergence in divergences:
        yield from divergence_lines(divergence, now_ns)
        yield ""
    if checkpoints:
        yield "checkpoints"
    for record in checkpoints:
        yield f"  {checkpoint_line(record)}"
    told = checkpoint or {}
    if checkpoints and told.get("spacing", {}).get("of"):
        yield str(told["spacing"]["why"])
    if checkpoints and told.get("parts_ms"):
        yield parts_line(told["parts_ms"])
    if finding:
        yield finding
