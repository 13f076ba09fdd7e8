"""The command line: `colo`. Knows everything; each command's module is imported when it is used."""

import sys

import click

from pycolo import __version__
from pycolo.cli import certs, demo, explain, lab, node, proxy, status, vm
from pycolo.errors import PycoloError


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="colo")
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
    """Entry point: an expected error is a line on standard error and exit code 1, never a traceback."""
    try:
        colo(prog_name="colo")
    except PycoloError as error:
        for line in str(error).splitlines():  # a configuration file's errors come all at once
            click.echo(f"colo: {line}", err=True)
        sys.exit(1)
