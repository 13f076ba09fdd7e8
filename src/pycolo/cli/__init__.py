"""The command line: `colo`. Knows everything; each command's module is imported when it is used."""

import signal
import sys
from typing import Final

import click

from pycolo.cli import certs, demo, explain, lab, node, proxy, status, vm
from pycolo.errors import PycoloError

EXIT_INTERRUPTED: Final = 130


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
    try:
        code = _carried_out()
    except KeyboardInterrupt:  # where click does not see it
        code = EXIT_INTERRUPTED
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # what the interpreter does at its end is not worth a traceback
    sys.exit(code)


def _carried_out() -> int | str | None:
    try:
        code: int | None = colo(prog_name="colo", standalone_mode=False)
        return code
    except SystemExit as ended:
        return ended.code
    except click.Abort:
        return EXIT_INTERRUPTED
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except PycoloError as error:
        for line in str(error).splitlines():  # a configuration file's errors come all at once
            click.echo(f"colo: {line}", err=True)
        return error.exit_code
