"""`--watch`: refresh the same view."""

import os
import shutil
import sys
from collections.abc import Callable
from time import sleep
from typing import Final

import click

from pycolo.cli.target import printable
from pycolo.errors import PycoloError

HOME: Final = "\x1b[H"
CLEAR_ALL: Final = "\x1b[2J"
CLEAR_LINE_END: Final = "\x1b[K"
CLEAR_BELOW: Final = "\x1b[J"


def watch(view: Callable[[], list[str]], interval_s: float) -> None:
    """Show `view` every `interval_s` until Ctrl-C. If the node does not answer, show one line and keep trying.

    On a terminal the new view replaces the old one in a single write, so that nothing flickers. Elsewhere each view is
    a block followed by an empty line.
    """
    is_terminal = sys.stdout.isatty()
    try:
        if is_terminal:
            click.echo(CLEAR_ALL, nl=False)
        while True:
            lines = _lines(view)
            if is_terminal:
                size = shutil.get_terminal_size()
                click.echo(screen(lines, size), nl=False)
            else:
                click.echo("\n".join([*lines, ""]))
            sleep(interval_s)
    except KeyboardInterrupt:
        if is_terminal:
            click.echo()


def _lines(view: Callable[[], list[str]]) -> list[str]:
    try:
        return [printable(line) for line in view()]
    except PycoloError as error:
        return [printable(line) for line in str(error).splitlines()]


def screen(lines: list[str], size: os.terminal_size) -> str:
    """Draws `lines` over the terminal's contents; lines that do not fit are left out, the last row stays free."""
    shown = [line[: size.columns] for line in lines[: max(1, size.lines - 1)]]
    return HOME + "".join(f"{line}{CLEAR_LINE_END}\n" for line in shown) + CLEAR_BELOW
