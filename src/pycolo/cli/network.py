"""`colo network`: what a node has moved on this host's network."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from pycolo.cli.target import file_of, say
from pycolo.errors import ConfigError, PycoloError

if TYPE_CHECKING:
    from pycolo.config import PairConfig
    from pycolo.hostnet.recovery import Tell


@click.group()
def network() -> None:
    """What a node has moved on this host's network."""


@network.command(short_help="Put taps back that a dead node has moved.")
@click.argument("path", type=click.Path(path_type=Path), metavar="FILE", required=False)
@click.option("--state", type=click.Path(path_type=Path), metavar="DIR", help="The node's state directory.")
def restore(path: Path | None, *, state: Path | None) -> None:
    """Put guests' taps back into their bridges when the node that moved them is dead and does not come back.

    Name the node by FILE, its TOML file or the NAME of /etc/colo/NAME.toml, or by its state directory. A node that runs
    is refused: stop it, or use `colo unprotect`. Make sure that the other host does not serve this guest: its address
    would be on the network twice. Run it in the node's network namespace. It may be repeated. libvirt is told where a
    domain's tap is, if FILE names the domain. Exit code 1: something could not be put back, or libvirt was not told.
    """
    if (path is None) == (state is None):
        raise click.UsageError("Name the node: either FILE or --state DIR.")
    from pycolo.hostnet.recovery import restore as put_back  # noqa: PLC0415 - keeps `colo --help` fast

    tell = None
    if path is not None:
        from pycolo.config import load  # noqa: PLC0415

        config = load(file_of(path))
        state, tell = config.state, _teller(config)
    assert state is not None
    errors = put_back(state, lambda line: say([line]), tell)
    if errors:
        raise PycoloError("\n".join(map(str, errors)))


def _teller(config: "PairConfig") -> "Tell | None":
    """None: the guest is no domain of libvirt's."""
    guest, cards = config.guest, config.card
    if guest is None:
        return None
    from pycolo.domain.place import tell_home  # noqa: PLC0415

    def tell(number: int, tap: str, bridge: str) -> None:
        if number >= len(cards):
            raise ConfigError("card", f"a card[{number}], as when the node moved {tap}", len(cards))
        tell_home(guest, cards[number].netdev, tap, bridge)

    return tell
