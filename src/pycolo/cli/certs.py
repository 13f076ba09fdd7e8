"""`colo certs`: certificates for the link between the two nodes."""

from datetime import UTC, datetime
from pathlib import Path

import click

from pycolo.errors import ConfigError, PycoloError
from pycolo.link.hello import PAIR_DEFAULT, Role
from pycolo.transport.certs import (
    VALID_DAYS_DEFAULT,
    VALID_DAYS_MAX,
    authority_key,
    create,
    files_of_both_roles,
    node_files,
)


@click.group()
def certs() -> None:
    """Certificates for the link between the two nodes."""


@certs.command()
@click.argument("directory", type=click.Path(file_okay=False, path_type=Path), metavar="DIR")
@click.option(
    "--days",
    type=click.IntRange(1, VALID_DAYS_MAX),
    default=VALID_DAYS_DEFAULT,
    show_default=True,
    help="How long the certificates are valid.",
)
@click.option(
    "--pair",
    metavar="NAME",
    default=PAIR_DEFAULT,
    show_default=True,
    help="Name of the pair: `pair` in the nodes' files, or their --pair.",
)
@click.option("--force", is_flag=True, help="Replace the certificates in DIR; both nodes then need the new ones.")
def init(directory: Path, days: int, pair: str, *, force: bool) -> None:
    """Create a small authority and the certificates of both roles in DIR."""
    try:
        ends = create(directory, pair, days, datetime.now(UTC), force=force)
    except ConfigError as error:
        kind = click.UsageError if error.path.startswith("--") else click.ClickException
        raise kind(str(error)) from error
    except PycoloError as error:
        raise click.ClickException(str(error)) from error
    click.echo(f"Certificates for the pair {pair}, valid until {ends:%Y-%m-%d}:")
    click.echo("For `colo node`, on both hosts, since either may become the primary:")
    click.echo("  " + " ".join(str(path) for path in files_of_both_roles(directory)))
    click.echo("For `colo primary` and `colo secondary`, whose roles stay:")
    for role in Role:
        names = " ".join(str(path) for path in node_files(directory, role))
        click.echo(f"  {role} host:".ljust(18) + names)
    click.echo("Copy them into a directory that only the node's user can read, and name it: `link.tls` in the file of")
    click.echo("`colo node`, else --tls. `colo check` says what is missing.")
    click.echo(f"Keep {authority_key(directory)} off both hosts: its owner can impersonate either node.")
