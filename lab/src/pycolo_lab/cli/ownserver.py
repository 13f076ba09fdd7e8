"""`colo demo --serve … --client …`: the options of a run with the user's own server."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click
from click.core import ParameterSource

if TYPE_CHECKING:
    from pycolo_lab.own.options import OwnOptions

F = TypeVar("F", bound=Callable[..., Any])

NAMES: Final = ("client", "port", "udp", "clients", "ready_seconds")
"""Options for the user's own server only."""

BUILT_IN_NAMES: Final = ("sessions", "size", "seed", "without", "baseline")
"""Options of the built-in load."""


def own_server_options(function: F) -> F:
    """The options."""
    for option in reversed(
        (
            click.option(
                "--serve",
                metavar="COMMAND",
                help="Your own server, in both guests, e.g. 'python3 -m http.server {port}'. Placeholders: {port}, "
                "{host} (the guest's address), {dir} (an empty directory of its own).",
            ),
            click.option(
                "--client",
                metavar="COMMAND",
                help="Your own client against it, e.g. 'curl -sS http://{host}:{port}/'; restarted when it has "
                "ended. Placeholders: {host}, {port}, {dir}, {n} (number of the run).",
            ),
            click.option("--clients", type=click.IntRange(1, 200), default=4, show_default=True, help="At a time."),
            click.option(
                "--port",
                type=click.IntRange(1, 65535),
                default=8080,
                show_default=True,
                help="Port on which your server listens.",
            ),
            click.option("--udp", is_flag=True, help="Your server uses UDP."),
            click.option(
                "--ready-seconds",
                type=click.FloatRange(0.5, 600),
                default=20.0,
                show_default=True,
                help="Time limit for your server to listen.",
            ),
        )
    ):
        function = option(function)
    return function


def own_server(ctx: click.Context, given: dict[str, Any]) -> "OwnOptions | None":
    """The requested server and client; None for the built-in server. Raises `CommandError` on wrong usage."""
    # Imported here: the other commands start without the laboratory.
    from pycolo_lab.own.commands import CLIENT_PLACES, SERVER_PLACES, CommandError, parse_command  # noqa: PLC0415
    from pycolo_lab.own.options import OwnOptions  # noqa: PLC0415

    is_given = {name for name in given if ctx.get_parameter_source(name) is ParameterSource.COMMANDLINE}
    if given["serve"] is None:
        for name in NAMES:
            if name in is_given:
                raise CommandError(f"{_option(name)} needs --serve: it applies to your own server only")
        return None
    for name in BUILT_IN_NAMES:
        if name in is_given:
            raise CommandError(f"{_option(name)} applies to the built-in load, which --serve replaces")
    serve = parse_command("--serve", given["serve"], SERVER_PLACES)
    client = None if given["client"] is None else parse_command("--client", given["client"], CLIENT_PLACES)
    if client is None and not given["hold"]:
        raise CommandError("--serve needs --client, or --hold for a client that you start yourself")
    return OwnOptions(
        serve=serve,
        client=client,
        port=given["port"],
        udp=given["udp"],
        clients=given["clients"],
        ready_seconds=given["ready_seconds"],
    )


def _option(name: str) -> str:
    return "--" + name.replace("_", "-")
