"""The command line: `colo`. Knows everything; each command's module is imported when it is used."""

import sys
from collections.abc import Iterable

import click

from pycolo.cli import certs, demo, explain, lab, node, proxy, status, streams, vm
from pycolo.errors import EXIT_INTERRUPTED, PycoloError


def _version(ctx: click.Context, _parameter: click.Parameter, is_asked: bool) -> None:  # noqa: FBT001 - click's
    if is_asked:
        from pycolo import __version__  # noqa: PLC0415 - looked up when it is asked for

        click.echo(f"colo, version {__version__}")
        ctx.exit()


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--version", is_flag=True, expose_value=False, is_eager=True, callback=_version, help="Show the version.")
def colo() -> None:
    """Keep a virtual machine's TCP connections alive when its host dies (COLO: coarse-grained lock-stepping)."""


for command in (
    demo.demo,
    node.primary,
    node.secondary,
    proxy.proxy,
    status.status,
    explain.explain,
    vm.node,
    vm.protect,
    vm.unprotect,
    vm.checkpoint,
    vm.failover,
    vm.qemu_args,
    lab.lab,
    certs.certs,
):
    colo.add_command(command)


def main() -> None:
    """What `colo` does: errors and interruptions are a line on standard error, never a traceback."""
    streams.set_up()
    sys.exit(_carried_out())


def _carried_out() -> int | str | None:
    try:
        code = _carry_out()
        sys.stdout.flush()
    except (KeyboardInterrupt, click.Abort):
        return EXIT_INTERRUPTED
    except streams.OutputError as error:
        streams.abandon_output()
        _say([str(error)])
        return error.exit_code
    except PycoloError as error:
        _say(str(error).splitlines())  # a configuration file's errors come all at once
        return error.exit_code
    except click.ClickException as error:
        return _refuse(error)
    return code


def _carry_out() -> int | str | None:
    try:
        code: int | None = colo(prog_name="colo", standalone_mode=False)
        return code
    except SystemExit as ended:
        return ended.code


def _refuse(error: click.ClickException) -> int:
    """Click's words on one line, with the prefix of all errors; for wrong usage also where the right one stands."""
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
