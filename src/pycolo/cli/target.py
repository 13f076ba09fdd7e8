"""The node that a command addresses, `--config` or `--control`; and its answer, made safe for a terminal."""

from collections.abc import Callable, Iterable
from functools import wraps
from pathlib import Path
from typing import Any

import click


def for_a_node(function: Callable[..., None]) -> Callable[..., None]:
    """Options that name a running node; the command receives its control socket as `control`."""

    @wraps(function)
    def command(*, config: Path | None, control: Path | None, **given: Any) -> None:
        if (config is None) == (control is None):
            raise click.UsageError("Name the node: either --config FILE or --control PATH.")
        if config is not None:
            from pycolo.config import load  # noqa: PLC0415 - keeps `colo --help` fast

            control = load(config).control.socket
        function(control=control, **given)

    for option in (
        click.option("--control", type=click.Path(path_type=Path), help="The node's control socket."),
        click.option("--config", type=click.Path(path_type=Path), help="The node's TOML file; names the socket too."),
    ):
        command = option(command)
    return command


def say(lines: Iterable[str]) -> None:
    """Print each line, see `printable`."""
    for line in lines:
        click.echo(printable(line))


def printable(line: str) -> str:
    """Remove terminal sequences: parts of a line come from QEMU and from the other node."""
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in line)
