"""`colo primary` and `colo secondary`."""

import asyncio
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from pycolo import limits
from pycolo.cli.logfile import LogFile, configure_log
from pycolo.cli.streams import PREFIX
from pycolo.compare.kinds import DivergencePolicy
from pycolo.errors import ConfigError
from pycolo.failover.arbiter import ARBITERS
from pycolo.failover.pacemaker import PacemakerArbiter
from pycolo.link.hello import PAIR_DEFAULT, Role
from pycolo.node.options import NodeOptions
from pycolo.transport.linksetup import Address
from pycolo.transport.portspec import PortSpec, parse_port
from pycolo.transport.tls import check_plaintext_allowed

if TYPE_CHECKING:
    from pycolo.node.opening import PortOpener

F = TypeVar("F", bound=Callable[..., Any])

PORT_HELP = "tap:NAME, packet:IFNAME, unix:PATH or tcp:HOST:PORT, with ,vnet_hdr=off ,netns=PATH ,server=on …"

WHO = {"lan": "clients are", "guest": "guest is"}
"""What is at each side, for messages."""


def _options(*options: Callable[[F], F]) -> Callable[[F], F]:
    def decorate(function: F) -> F:
        for option in reversed(options):
            function = option(function)
        return function

    return decorate


_common = _options(
    click.option("--pair", default=PAIR_DEFAULT, show_default=True, help="Name of the pair; the same on both nodes."),
    click.option("--lan", help=f"Where the clients are, both directions: {PORT_HELP}"),
    click.option("--lan-in", help="Frames from the clients, if not from --lan (QEMU: filter-mirror's outdev)."),
    click.option("--lan-out", help="Frames to the clients, if not to --lan (QEMU: a redirector's indev)."),
    click.option("--guest", help="Where the guest is, both directions: as for --lan."),
    click.option("--guest-in", help="Frames from the guest, if not from --guest (QEMU: a redirector's outdev)."),
    click.option("--guest-out", help="Frames to the guest, if not to --guest."),
    click.option(
        "--tls",
        type=click.Path(exists=True, file_okay=False, path_type=Path),
        help="Directory of `colo certs init`: TLS 1.3 with certificates on both sides.",
    ),
    click.option("--insecure", is_flag=True, help="Plain text: over loopback, or over --insecure-link."),
    click.option("--insecure-link", metavar="IFACE|ADDRESS|PREFIX", help="The link on which plain text is allowed."),
    click.option(
        "--arbiter",
        type=click.Choice(sorted({*ARBITERS, PacemakerArbiter.name})),
        default="manual",
        show_default=True,
        help="What turns a suspicion into permission. first-to-notice is for tests: a cut link makes both serve.",
    ),
    click.option("--peer-node", metavar="NAME", help="--arbiter pacemaker: the other host's name in the cluster."),
    click.option(
        "--head-start",
        type=click.IntRange(0, 600_000),
        default=limits.HEAD_START_MS,
        show_default=True,
        metavar="MS",
        help="--arbiter pacemaker, two votes: the primary's host fences first; longer than fencing a host takes.",
    ),
    click.option(
        "--heartbeat-interval",
        type=click.IntRange(1, 60_000),
        default=limits.HEARTBEAT_INTERVAL_MS,
        show_default=True,
        metavar="MS",
        help="Interval between heartbeats.",
    ),
    click.option(
        "--heartbeat-timeout",
        type=click.IntRange(3, 600_000),
        default=limits.HEARTBEAT_TIMEOUT_MS,
        show_default=True,
        metavar="MS",
        help="Silence of this length is a suspicion.",
    ),
    click.option(
        "--control",
        type=click.Path(path_type=Path),
        help="Unix socket for `colo status` and `colo failover`.",
    ),
    click.option(
        "--spin",
        type=click.IntRange(0, 1_000_000),
        default=0,
        show_default=True,
        metavar="µs",
        help="Poll for frames this long before sleeping: lower latency, at the price of one CPU core.",
    ),
)


@click.command(short_help="Run the primary's node: mirror, compare, release.")
@click.option("--listen", required=True, metavar="HOST:PORT", help="Where the secondary's node reaches this one.")
@_common
@click.option(
    "--on-divergence",
    type=click.Choice(["report", "hold", "reset"]),
    default="report",
    show_default=True,
    help="What to do with a connection that differs: let it through, hold it, or reset the client.",
)
@click.option(
    "--ack-policy",
    type=click.Choice(["commit", "immediate"]),
    default="commit",
    show_default=True,
    help="commit: acknowledge to the client only what the secondary has too. immediate: as QEMU, a little faster.",
)
@click.option(
    "--compare-timeout",
    type=click.IntRange(1, 3_600_000),
    default=limits.COMPARE_TIMEOUT_MS,
    show_default=True,
    metavar="MS",
    help="A packet that waits longer is a difference.",
)
@click.option(
    "--max-queue-size",
    type=click.IntRange(1, limits.HELD_PACKETS_MAX // 2),
    default=limits.NODE_QUEUE_PACKETS_MAX,
    show_default=True,
    metavar="PACKETS",
    help="Held packets per connection and side; at this limit reading stops.",
)
@click.option("--without", type=click.Choice(["compare"]), help="A negative control: release everything at once.")
@click.pass_obj
def primary(open_port: "PortOpener | None", /, **given: Any) -> None:
    """Run the node beside the primary guest.

    It passes every client frame to the guest and to the secondary's node, compares the answers of both guests, and
    releases the primary's answer only if the secondary gave the same.
    """
    _run(Role.PRIMARY, given.pop("listen"), "--listen", given, open_port)


@click.command(short_help="Run the secondary's node: rewrite, and take over.")
@click.option("--connect", required=True, metavar="HOST:PORT", help="Where the primary's node listens.")
@_common
@click.option(
    "--rows",
    type=click.Path(path_type=Path),
    help="File in /run for the translated connections after a takeover: a restart then ends none of them.",
)
@click.option("--without", type=click.Choice(["rewrite"]), help="A negative control: leave sequence numbers unchanged.")
@click.pass_obj
def secondary(open_port: "PortOpener | None", /, **given: Any) -> None:
    """Run the node beside the secondary guest.

    It passes the client frames of the primary to its guest, translated to the guest's own sequence numbers, and sends
    the guest's answers to the primary's node. With the arbiter's permission it serves the clients itself.
    """
    _run(Role.SECONDARY, given.pop("connect"), "--connect", given, open_port)


def _run(role: Role, link: str, link_option: str, given: dict[str, Any], open_port: "PortOpener | None") -> None:
    try:
        options = _node_options(role, link, link_option, given)
        if options.tls is None:
            check_plaintext_allowed(options.link.host, insecure=options.insecure, allowed_link=options.insecure_link)
    except ConfigError as error:
        raise click.UsageError(str(error), click.get_current_context()) from error
    file = LogFile(sys.stderr.fileno(), sys.stderr.encoding)
    configure_log(file)
    try:
        code, gave_up = asyncio.run(_life(options, open_port))
        if gave_up:
            file.write(f"{PREFIX}{gave_up}")
        sys.exit(code)
    finally:
        file.close()


def _node_options(role: Role, link: str, link_option: str, given: dict[str, Any]) -> NodeOptions:
    lan, guest = given["lan"], given["guest"]
    ports: dict[str, PortSpec | None] = {}
    for name, both in (("lan_in", lan), ("lan_out", lan), ("guest_in", guest), ("guest_out", guest)):
        option = "--" + name.replace("_", "-")
        text = given[name] or both
        ports[name] = parse_port(text, option if given[name] else option.rpartition("-")[0]) if text else None
    for name in ("lan_in", "lan_out", "guest_in"):
        if ports[name] is None:
            side = name.partition("_")[0]
            other = f"--{name.replace('_', '-')}, in one"
            raise ConfigError(f"--{side}", f"where the {WHO[side]}, in both directions ({other})", None)
    extra: dict[str, Any] = {}
    if role is Role.PRIMARY:
        extra = {
            "on_divergence": DivergencePolicy[given["on_divergence"].upper()],
            "commits_input": given["ack_policy"] == "commit",
            "compare_timeout_ms": given["compare_timeout"],
            "queue_packets_max": given["max_queue_size"],
        }
    else:
        extra = {"rows": given["rows"]}
    return NodeOptions(
        role=role,
        link=Address.parse(link, link_option),
        lan_in=_given(ports["lan_in"]),
        lan_out=_given(ports["lan_out"]),
        guest_in=_given(ports["guest_in"]),
        guest_out=ports["guest_out"],
        pair=given["pair"],
        tls=given["tls"],
        insecure=given["insecure"],
        insecure_link=given["insecure_link"],
        arbiter=given["arbiter"],
        peer_node=given["peer_node"],
        head_start_ms=given["head_start"],
        heartbeat_interval_ms=given["heartbeat_interval"],
        heartbeat_timeout_ms=given["heartbeat_timeout"],
        control=given["control"],
        without=given["without"],
        spin_us=given["spin"],
        **extra,
    )


def _given(port: PortSpec | None) -> PortSpec:
    assert port is not None
    return port


async def _life(options: NodeOptions, open_port: "PortOpener | None") -> tuple[int, str]:
    """The exit code, and the reason if the node ended by itself."""
    # Imported here, so that the other commands start without the compiled core.
    from pycolo.node.roles import make_node  # noqa: PLC0415

    node = make_node(options) if open_port is None else make_node(options, open_port)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, node.stop, signal.Signals(number).name)
    return await node.run(), node.gave_up
