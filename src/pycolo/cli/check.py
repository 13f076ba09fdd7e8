"""`colo check`: what a failover will need, tried beforehand on this host."""

import asyncio
import json
import os
import shutil
import sys
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import click

from pycolo.cli.target import file_of, say
from pycolo.errors import ConfigError, PycoloError

if TYPE_CHECKING:
    from pycolo.check import Item, Moment
    from pycolo.config import PairConfig
    from pycolo.link.hello import Role

NODE_S: Final = 60.0
"""The other node runs its dry runs meanwhile."""

LEVEL_COLUMNS: Final = 9
"""`refused` and two spaces."""

TEXT_COLUMNS_MIN: Final = 40
"""With less room beside the names the text goes below them."""

_IDLE: Final = frozenset({"waiting", "linked"})
"""States in which a secondary has no guest that could take over."""


@click.command(short_help="Try beforehand what a failover will need.")
@click.argument("path", type=click.Path(path_type=Path), metavar="FILE")
@click.option("--json", "as_json", is_flag=True, help="The table as JSON.")
def check(path: Path, *, as_json: bool) -> None:
    """Look at FILE, a node's file, at this host and its guest and, if the node runs, at the other host.

    FILE may be NAME, of /etc/colo/NAME.toml, too.

    Run it as the node's user, on both hosts. It runs the dry runs that the file names and, unless this host's guest
    serves or may come to, `network.retire`. Exit code 1: something is refused, or FILE has errors.
    """
    from pycolo.check import Level  # noqa: PLC0415 - keeps `colo --help` fast
    from pycolo.check.table import worst  # noqa: PLC0415
    from pycolo.config import load  # noqa: PLC0415

    path = file_of(path)
    config = load(path)
    items = asyncio.run(all_items(config))
    level = worst(items)
    if as_json:
        table = {
            "file": str(path),
            "pair": config.pair,
            "level": level.value,
            "items": [item._asdict() for item in items],
        }
        click.echo(json.dumps(table, indent=2))
    else:
        say(check_lines(items, columns()))
    sys.exit(1 if level is Level.REFUSED else 0)


async def all_items(config: "PairConfig") -> "list[Item]":
    """This host by the file, then what only its node can see."""
    from pycolo.check import check_host  # noqa: PLC0415 - keeps `colo --help` fast
    from pycolo.check.hostfacts import look  # noqa: PLC0415
    from pycolo.check.hosts import host_items  # noqa: PLC0415

    seen = await asyncio.to_thread(look_at_node, config)
    facts = await asyncio.to_thread(look, config)
    items = [*host_items(facts), *node_items(config, seen), *await check_host(config, seen.moment)]
    return [*items, *await _beyond(config, seen)]


async def _beyond(config: "PairConfig", seen: "Seen") -> "list[Item]":
    """The guest, the other host, both together: the running node's to ask."""
    import msgspec  # noqa: PLC0415 - keeps `colo --help` fast

    from pycolo.check import Item, table  # noqa: PLC0415
    from pycolo.check.guest import asked_items  # noqa: PLC0415
    from pycolo.node.control import ask  # noqa: PLC0415

    if not seen.moment.is_running:
        unseen = table.warning("other host", "no node runs here to ask it: start both nodes, and check again")
        return [*await asked_items(config, seen.moment.role.value), unseen]
    if seen.fault or seen.pair != config.pair:
        return []
    try:
        answer = await asyncio.to_thread(ask, config.control.socket, {"command": "check"}, timeout_s=NODE_S)
        return msgspec.convert(answer["items"], list[Item])
    except (PycoloError, KeyError, msgspec.ValidationError) as error:
        text = f"it does not say what only it can see ({error}): is it of another version? Restart it"
        return [table.warning("node", text)]


# ── this host's node ────────────────────────────────────────────────────────────────────────────────────────


class Seen(NamedTuple):
    """`fault`: why a node that runs could not be asked. `uid`: whose process it is. `pair`: what it says."""

    moment: "Moment"
    fault: str = ""
    uid: int | None = None
    pair: str = ""


def look_at_node(config: "PairConfig") -> Seen:
    """A node that cannot be asked may take over at any moment, as far as this process knows."""
    from pycolo.check import Moment  # noqa: PLC0415 - keeps `colo --help` fast
    from pycolo.node.control import ask  # noqa: PLC0415

    role = _role_on_disk(config)
    try:
        pid, uid = _owner(config.control.socket)
    except (FileNotFoundError, ConnectionRefusedError):
        return Seen(Moment(role))
    except OSError as error:
        return Seen(Moment(role, 0, may_take_over=True), error.strerror or str(error))
    try:
        status = ask(config.control.socket, {"command": "status"})
    except PycoloError as error:
        return Seen(Moment(role, pid, may_take_over=True), str(error), uid)
    return Seen(_moment_of(status, role, pid), uid=uid, pair=str(status.get("pair", "")))


def _moment_of(status: dict[str, Any], on_disk: "Role", pid: int) -> "Moment":
    from pycolo.check import Moment  # noqa: PLC0415 - keeps `colo --help` fast
    from pycolo.link.hello import Role  # noqa: PLC0415

    said, term = status.get("role"), status.get("term")
    return Moment(
        Role(said) if said in list(Role) else on_disk,
        pid,
        may_take_over=status.get("state") not in _IDLE,
        is_linked=bool(status.get("peer")),
        term=term if isinstance(term, int) else 0,
    )


def _role_on_disk(config: "PairConfig") -> "Role":
    """With a record that cannot be read, the role with which nothing is tried on the network."""
    from pycolo.check.places import read_record  # noqa: PLC0415 - keeps `colo --help` fast
    from pycolo.link.hello import Role  # noqa: PLC0415

    try:
        record = read_record(config.state)
    except ConfigError:
        return Role.PRIMARY
    return config.role if record is None else record.role


def _owner(path: Path) -> tuple[int, int]:
    """Process and user that listen there. Raises `OSError`."""
    from pycolo.transport.occupied import owner_of_path  # noqa: PLC0415 - keeps `colo --help` fast

    return owner_of_path(path, 1)


def node_items(config: "PairConfig", seen: Seen) -> "Iterator[Item]":
    """What the running node says."""
    from pycolo.check import table  # noqa: PLC0415 - keeps `colo --help` fast

    name, moment = "node", seen.moment
    if not moment.is_running:
        yield table.ok(name, f"not running; it will begin as the {moment.role}")
    elif seen.fault:
        yield table.warning(name, f"it cannot be asked what it does ({seen.fault}): run the check as the node's user")
    elif seen.pair != config.pair:
        text = f"{config.control.socket} is the socket of another pair's node ({seen.pair}): choose another path"
        yield table.refused("control.socket", text)
    else:
        yield table.ok(name, f"running as the {moment.role}, term {moment.term}")
    if seen.uid is not None and seen.uid != os.geteuid():
        yield table.warning(
            name, f"it runs as user {seen.uid}, this check as {os.geteuid()}: run the check as that user"
        )


# ── text ────────────────────────────────────────────────────────────────────────────────────────────────────


def columns() -> int | None:
    """Width of the terminal; None where lines need not end: in a file or a pipe."""
    if sys.stdout.isatty() or os.environ.get("COLUMNS", "").isdigit():
        return shutil.get_terminal_size().columns
    return None


def check_lines(items: "Sequence[Item]", width: int | None) -> Iterator[str]:
    """One line per item, or as many as `width` demands, below a heading for each place; then the sum."""
    names = max((len(item.name) for item in items), default=0) + 2
    places = list(dict.fromkeys(item.where for item in items))
    for place in places:
        if len(places) > 1:
            yield f"{place}:"
        yield from _place_lines([item for item in items if item.where == place], names, width)
    counts = [sum(item.level.value == level for item in items) for level in ("warning", "refused")]
    warnings = "1 warning" if counts[0] == 1 else f"{counts[0]} warnings"
    yield f"{len(items)} items: {warnings}, {counts[1]} refused"


def _place_lines(items: "Sequence[Item]", names: int, width: int | None) -> Iterator[str]:
    indent = LEVEL_COLUMNS + names
    for item in items:
        head = f"{item.level.value:<{LEVEL_COLUMNS}}{item.name:<{names}}"
        if width is None:
            yield head + item.text
        elif width - indent >= TEXT_COLUMNS_MIN:
            yield from _wrapped(item.text, width, head, " " * indent)
        else:
            yield head.rstrip()
            yield from _wrapped(item.text, width, " " * LEVEL_COLUMNS, " " * LEVEL_COLUMNS)


def _wrapped(text: str, width: int, first: str, further: str) -> list[str]:
    return textwrap.wrap(
        text, max(width, len(further) + 20), initial_indent=first, subsequent_indent=further, break_on_hyphens=False
    ) or [first.rstrip()]
