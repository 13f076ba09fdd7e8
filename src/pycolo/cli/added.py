"""Commands that other distributions add to `colo`: their entry points in the group `pycolo.commands`.

They are looked up only for a command that is not the product's own, and to list all commands: reading what is installed
takes longer than `colo proxy` needs to start listening.
"""

from importlib.metadata import EntryPoint, entry_points
from typing import Final

import click

GROUP: Final = "pycolo.commands"
"""Group of entry points. Each has the command's name and refers to a `click.Command`."""

ELSEWHERE: Final = {"demo": "pycolo-lab", "lab": "pycolo-lab"}
"""Commands that the documentation names → the distribution that adds them."""


def names() -> set[str]:
    """Names of the added commands."""
    return {point.name for point in entry_points(group=GROUP)}


def command(name: str) -> click.Command | None:
    """The command; None if there is none of that name. A command that cannot be loaded says why when it is used."""
    for point in entry_points(group=GROUP, name=name):
        return _loaded(point)
    if name in ELSEWHERE:
        package = ELSEWHERE[name]
        cure = f"pip install {package}, or the Debian package {package}"
        return _refusing(name, f"{name} is a command of {package}, which is not installed: {cure}", is_listed=False)
    return None


def _loaded(point: EntryPoint) -> click.Command:
    package = point.dist.name if point.dist else point.value
    try:
        found = point.load()
    except (ImportError, AttributeError) as error:
        return _refusing(point.name, f"{point.name} of {package} cannot be loaded: {error}; reinstall {package}")
    if not isinstance(found, click.Command):
        return _refusing(point.name, f"{point.name} of {package} is not a command: {point.value}; remove {package}")
    return found


def _refusing(name: str, why: str, *, is_listed: bool = True) -> click.Command:
    """A command that accepts any arguments, `--help` too, and only reports why it cannot be used."""

    def refuse(**_given: object) -> None:
        raise click.ClickException(why)

    return click.Command(
        name,
        callback=refuse,
        params=[click.Argument(["words"], nargs=-1, type=click.UNPROCESSED)],
        context_settings={"ignore_unknown_options": True},
        short_help="Cannot be loaded: run it to see why.",
        add_help_option=False,
        hidden=not is_listed,
    )
