"""The command line: `colo`. It may import everything; a command's module is imported when it is used or described."""

import sys
from collections.abc import Iterable
from importlib import import_module
from typing import TYPE_CHECKING, Final

import click

from pycolo.cli import streams
from pycolo.errors import EXIT_INTERRUPTED, PycoloError

if TYPE_CHECKING:
    from pycolo.node.opening import PortOpener

COMMANDS: Final = {
    "certs": "certs:certs",
    "check": "check:check",
    "checkpoint": "vm:checkpoint",
    "explain": "explain:explain",
    "failover": "vm:failover",
    "network": "network:network",
    "switchover": "vm:switchover",
    "node": "vm:node",
    "primary": "node:primary",
    "protect": "vm:protect",
    "proxy": "proxy:proxy",
    "qemu-args": "vm:qemu_args",
    "resource-agent": "resourceagent:resource_agent",
    "secondary": "node:secondary",
    "status": "status:status",
    "unprotect": "vm:unprotect",
}
"""Each command's module in this package and its name there. Other distributions add more: `added`."""


class Commands(click.Group):
    """The `colo` group. For `colo proxy` it imports little: the proxy listens after a tenth of a second."""

    def list_commands(self, _ctx: click.Context) -> list[str]:
        """All command names, sorted, with those that other distributions add."""
        from pycolo.cli import added  # noqa: PLC0415 - reads what is installed

        return sorted(COMMANDS.keys() | added.names())

    def get_command(self, _ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import and return the command; None if there is none of that name."""
        if cmd_name not in COMMANDS:
            from pycolo.cli import added  # noqa: PLC0415 - reads what is installed

            return added.command(cmd_name)
        module, _, name = COMMANDS[cmd_name].partition(":")
        command: click.Command = getattr(import_module(f"{__name__}.{module}"), name)
        return command


def _version(ctx: click.Context, _parameter: click.Parameter, is_asked: bool) -> None:  # noqa: FBT001 - click's
    if is_asked:
        from pycolo import __version__  # noqa: PLC0415 - looked up when it is asked for

        click.echo(f"colo, version {__version__}")
        ctx.exit()


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--version", is_flag=True, expose_value=False, is_eager=True, callback=_version, help="Show the version.")
def colo() -> None:
    """Keep a virtual machine's TCP connections alive when its host dies (COLO: coarse-grained lock-stepping)."""


def main(open_port: "PortOpener | None" = None) -> None:
    """Run `colo`. Errors and interruptions become one line on standard error, never a traceback.

    `open_port` opens the ports of `colo primary` and `colo secondary`; a program may pass its own to wrap them.
    """
    streams.set_up()
    sys.exit(_carried_out(open_port))


def _carried_out(open_port: "PortOpener | None") -> int | str | None:
    try:
        code = _carry_out(open_port)
        sys.stdout.flush()
    except (KeyboardInterrupt, click.Abort):
        return EXIT_INTERRUPTED
    except streams.OutputError as error:
        streams.abandon_output()
        _say([str(error)])
        return error.exit_code
    except PycoloError as error:
        _say(str(error).splitlines())  # a configuration file's errors are reported together
        return error.exit_code
    except click.ClickException as error:
        return _refuse(error)
    return code


def _carry_out(open_port: "PortOpener | None") -> int | str | None:
    try:
        code: int | None = colo(prog_name="colo", standalone_mode=False, obj=open_port)
        return code
    except SystemExit as ended:
        return ended.code


def _refuse(error: click.ClickException) -> int:
    """Click's message on one line with the common prefix; for wrong usage, also where to read the right one."""
    if isinstance(error, getattr(click.exceptions, "NoArgsIsHelpError", ())):
        error.show()
        return error.exit_code
    text = " ".join(error.format_message().split())
    if isinstance(error, click.UsageError):
        text = text[:1].lower() + text[1:].rstrip(".")
        if error.ctx is not None:
            text += f"; see {error.ctx.command_path} --help"
    _say([text])
    return error.exit_code


def _say(lines: Iterable[str]) -> None:
    for line in lines:
        print(f"{streams.PREFIX}{line}", file=sys.stderr)
