"""`colo network`: what a node has moved on this host's network."""

from pathlib import Path

import click

from pycolo.cli.target import say
from pycolo.errors import PycoloError


@click.group()
def network() -> None:
    """What a node has moved on this host's network."""


@network.command()
@click.argument("path", type=click.Path(path_type=Path), metavar="FILE", required=False)
@click.option("--state", type=click.Path(path_type=Path), metavar="DIR", help="The node's state directory.")
def restore(path: Path | None, *, state: Path | None) -> None:
    """Put guests' taps back into their bridges when the node that moved them is dead and does not come back.

    Name the node by FILE, its TOML file, or by its state directory. A node that runs is refused: stop it, or use
    `colo unprotect`. Make sure that the other host does not serve this guest: its address would be on the network
    twice. Run it in the node's network namespace. It may be repeated. Exit code 1: something could not be put back.
    """
    if (path is None) == (state is None):
        raise click.UsageError("Name the node: either FILE or --state DIR.")
    from pycolo.hostnet.recovery import restore as put_back  # noqa: PLC0415 - keeps `colo --help` fast

    if path is not None:
        from pycolo.config import load  # noqa: PLC0415

        state = load(path).state
    assert state is not None
    errors = put_back(state, lambda line: say([line]))
    if errors:
        raise PycoloError("\n".join(map(str, errors)))
