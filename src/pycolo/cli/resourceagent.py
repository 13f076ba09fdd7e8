"""`colo resource-agent`: where the resource agent is."""

import click


@click.command("resource-agent", short_help="Print the path of Pacemaker's resource agent.")
def resource_agent() -> None:
    """Print the path of the resource agent ocf:pycolo:colo, to be installed where Pacemaker finds it.

    The Debian package installs it in /usr/lib/ocf/resource.d/pycolo/colo.
    """
    from pycolo.arbiters import resourceagent  # noqa: PLC0415 - keeps `colo --help` fast

    click.echo(resourceagent.__file__)
