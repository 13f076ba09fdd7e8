"""`colo demo`: a client's connections outlive the primary, shown on this machine."""

import re
from pathlib import Path
from tempfile import TemporaryFile
from typing import TYPE_CHECKING, Any, Final

import click

from pycolo import limits
from pycolo.cli.streams import require_output
from pycolo_lab.cli.ownserver import own_server, own_server_options

UNITS: Final = {"": 10**6, "K": 10**3, "M": 10**6, "G": 10**9}
"""A plain number means megabytes, as everywhere where speeds are megabytes per second."""

if TYPE_CHECKING:
    IntType = click.ParamType[int]
else:
    IntType = click.ParamType  # Debian's click cannot be subscripted yet


class Size(IntType):
    """Bytes from "200" (megabytes), "200M", "1.5G"."""

    name = "SIZE"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return bytes, or fail with a correct example."""
        if isinstance(value, int):
            return value
        matched = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMG]?)B?", str(value).strip().upper())
        if not matched or float(matched[1]) == 0:
            self.fail(f"{value!r} is not a size; give 200M, 1.5G or 200 (megabytes)", param, ctx)
        return int(float(matched[1]) * UNITS[matched[2]])


def writable_report(path: Path) -> Path:
    """The same path. Raises `click.BadParameter`, so that no run begins whose report cannot be written."""
    try:
        if path.is_fifo():  # opening one waits for its reader
            return path
        if path.exists():
            with path.open("ab"):
                pass
        else:
            with TemporaryFile(dir=path.absolute().parent):
                pass
    except OSError as error:
        why = f"{path}: {error.strerror} (--no-report writes none)"
        raise click.BadParameter(why, param_hint="--report") from error
    return path


@click.command(short_help="Show a connection outliving its server, on this machine.")
@click.option(
    "--seconds",
    type=click.FloatRange(3, 600),
    default=10.0,
    show_default=True,
    help="Rough length of the load; the kill is in its middle.",
)
@click.option(
    "--sessions",
    type=click.IntRange(1, 5000),
    default=50,
    show_default=True,
    help="Small sessions open at the kill.",
)
@click.option("--size", type=Size(), help="Size of each transfer, e.g. 200M [default: as much as fits into --seconds].")
@click.option(
    "--seed",
    type=int,
    default=1,
    show_default=True,
    help="Seed of the transfers' content and the sessions' pauses.",
)
@click.option("--ipv6", is_flag=True, help="The clients speak IPv6.")
@click.option(
    "--without",
    type=click.Choice(["rewrite", "compare"]),
    help="A negative control: leave that part out and show what breaks.",
)
@click.option("--insecure", is_flag=True, help="Use plain text instead of TLS on the link between the hosts.")
@click.option(
    "--nic",
    type=click.Choice(["auto", "tap", "veth"]),
    default="auto",
    show_default=True,
    help="How the guests are attached.",
)
@click.option(
    "--report",
    type=click.Path(dir_okay=False, path_type=Path),
    default=Path("colo-report.html"),
    show_default=True,
    help="Path of the HTML report.",
)
@click.option("--no-report", is_flag=True, help="Write no report.")
@click.option(
    "--json",
    "as_json",
    is_flag=True,
    help="Print only the summary as JSON on standard output.",
)
@click.option(
    "--heartbeat-timeout",
    type=click.IntRange(3 * limits.HEARTBEAT_INTERVAL_MS, 60_000),
    default=limits.HEARTBEAT_TIMEOUT_MS,
    show_default=True,
    metavar="MS",
    help="Time-out of both nodes. Raise it if the machine is too busy.",
)
@click.option(
    "--baseline",
    is_flag=True,
    help="Before the run, measure the transfers over a bare bridge, through nodes that compare nothing, and protected.",
)
@own_server_options
@click.option(
    "--hold",
    is_flag=True,
    help="Stop before the kill and read commands: kill, failover, status, divergences, shell, end.",
)
@click.pass_context
def demo(ctx: click.Context, /, **given: Any) -> None:
    """Show how a client's TCP connections outlive the primary.

    Builds a client, a LAN, two hosts and two guests in network namespaces, puts load on them, cuts host A off in the
    middle and kills every process on it. Every connection must go on, and every byte must be correct. With --serve and
    --client, both guests run your own server, and your own client connects to it. Needs root or user namespaces; cleans
    up after itself. Exit code: 0 when everything held, 1 when something failed (the verdict says what; a control given
    with --without must fail), 3 when a control did not show its failure.
    """
    own = own_server(ctx, given)
    report = None if given["no_report"] else writable_report(given["report"])
    require_output()
    # Imported here: `--help` and wrong usage do not need the laboratory.
    from pycolo_lab.interruption import Interruption  # noqa: PLC0415

    interruption = Interruption()
    interruption.watch()  # before the slow imports
    from pycolo_lab.demo import run_demo  # noqa: PLC0415
    from pycolo_lab.options import Control, LabOptions  # noqa: PLC0415

    options = LabOptions(
        seconds=given["seconds"],
        sessions=given["sessions"],
        size_bytes=given["size"],
        seed=given["seed"],
        control=Control(given["without"] or "none"),
        ipv6=given["ipv6"],
        tls=not given["insecure"],
        nic=given["nic"],
        hold=given["hold"],
        baseline=given["baseline"],
        heartbeat_timeout_ms=given["heartbeat_timeout"],
    )
    if own is not None:
        from pycolo_lab.own.demo import run_own  # noqa: PLC0415

        ctx.exit(run_own(options, own, interruption, as_json=given["as_json"], report=report))
    ctx.exit(run_demo(options, interruption, as_json=given["as_json"], report=report))
