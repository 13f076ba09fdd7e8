"""`colo status` and `colo failover`: questions to a running node."""

import json
from pathlib import Path
from typing import Any

import click

_socket = click.option(
    "--control",
    type=click.Path(path_type=Path),
    required=True,
    help="The node's control socket (its own --control).",
)


@click.command(short_help="Show what a running node does.")
@_socket
@click.option("--json", "as_json", is_flag=True, help="Everything, as JSON.")
def status(*, control: Path, as_json: bool) -> None:
    """Show role, state, counters, hold times and the last divergences of a running node."""
    from pycolo.node.control import ask  # noqa: PLC0415 - keeps `colo --help` fast

    answer = ask(control, {"command": "status"})
    if as_json:
        click.echo(json.dumps(answer, indent=2))
        return
    for line in _lines(answer):
        click.echo(line)


@click.command(short_help="Confirm that the other node is down: this one goes on alone.")
@_socket
def failover(control: Path) -> None:
    """Tell a node that the other one is down for certain. It then serves alone.

    The node takes your word for it: if the other one still serves, clients see two machines with one address.
    """
    from pycolo.node.control import ask  # noqa: PLC0415 - keeps `colo --help` fast

    answer = ask(control, {"command": "failover"})
    click.echo(f"{answer['state']}, term {answer['term']}")


def _lines(answer: dict[str, Any]) -> list[str]:
    since_s = answer["since_ms"] / 1000
    arbiter = answer["arbiter"]
    lines = [
        f"{answer['role']} of pair {answer['pair']}: {answer['state']} for {since_s:.1f} s, term {answer['term']}",
        f"other node: {answer['peer'] or 'none'}; arbiter {arbiter['name']}: {arbiter['says']}",
    ]
    if not answer["compiled"]:
        lines.append("the packet path runs uncompiled")
    if answer["hold_us"]:
        held = answer["hold_us"]
        lines.append(f"packets were held for p50 {held['p50']} µs, p99 {held['p99']} µs, at most {held['max']} µs")
    width = max(map(len, answer["counters"]))
    lines += [f"  {name:<{width}} {value:>12}" for name, value in sorted(answer["counters"].items()) if value]
    lines += [f"divergence: {difference['text']}" for difference in answer["divergences"][-5:]]
    return lines
