"""The node that a command addresses, by its name, file or socket; and its answer, made safe for a terminal."""

from collections.abc import Callable, Iterable
from functools import wraps
from pathlib import Path
from typing import Any, Final

import click

FILES: Final = Path("/etc/colo")
"""Where the unit colo@NAME reads NAME.toml."""


def for_a_node(function: Callable[..., None]) -> Callable[..., None]:
    """What names a running node; the command receives its control socket as `control`."""

    @wraps(function)
    def command(*, name: str | None, config: Path | None, control: Path | None, **given: Any) -> None:
        if [name, config, control].count(None) != 2:
            raise click.UsageError("Name the node: NAME of /etc/colo/NAME.toml, or --config FILE, or --control PATH.")
        if name is not None:
            if "/" in name:
                raise click.UsageError(f"{name} is a path: --config {name}")
            config = FILES / f"{name}.toml"
        if config is not None:
            from pycolo.config import load  # noqa: PLC0415 - keeps `colo --help` fast

            control = load(config).control.socket
        function(control=control, **given)

    for option in (
        click.option("--control", type=click.Path(path_type=Path), help="The node's control socket, likewise."),
        click.option("--config", type=click.Path(path_type=Path), help="The node's TOML file, in place of NAME."),
    ):
        command = option(command)
    return click.argument("name", required=False)(command)


def file_of(word: Path) -> Path:
    """A node's file by its path, or by the NAME of /etc/colo/NAME.toml, as the other commands name a node."""
    is_name = len(word.parts) == 1 and not word.suffix and not word.exists()
    return FILES / f"{word}.toml" if is_name else word


def say(lines: Iterable[str]) -> None:
    """Print each line, see `printable`."""
    for line in lines:
        click.echo(printable(line))


def printable(line: str) -> str:
    """Remove terminal sequences: parts of a line come from QEMU and from the other node."""
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in line)
