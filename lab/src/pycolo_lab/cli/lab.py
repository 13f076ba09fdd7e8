"""`colo lab`: laboratories with real virtual machines."""

import sys

import click

from pycolo.cli.streams import require_output


@click.group(short_help="Laboratories with real virtual machines.")
def lab() -> None:
    """Laboratories with real virtual machines."""


@lab.command(short_help="Two QEMUs, two hosts, a client, and what can go wrong.")
@click.option("--scenario", "scenarios", multiple=True, metavar="NAME", help="Only this one; may be repeated.")
@click.option("--list", "listing", is_flag=True, help="Name the scenarios and end.")
@click.option("--rounds", type=click.IntRange(1, 10_000), help="Of each scenario: fault, repair, protect again.")
@click.option("--seed", type=int, default=1, show_default=True, help="Of what is drawn by lot: protect-killed.")
@click.option(
    "--qemu",
    metavar="VERSION|PATH",
    help="10.0: Debian 13's, fetched into build/lab; or the path of a QEMU [default: the one on PATH].",
)
@click.option(
    "--accel",
    type=click.Choice(["auto", "kvm", "tcg"]),
    default="auto",
    show_default=True,
    help="auto: KVM where a guest boots with it, else software emulation.",
)
@click.option("--hold", is_flag=True, help="Play nothing: leave a protected pair running and say how to get inside.")
@click.option(
    "--arbiter",
    type=click.Choice(["command", "manual"]),
    help="Of a pair that is held: fence the other host, or wait for `colo failover` [default: command].",
)
@click.option("--keep", is_flag=True, help="Copy logs, configurations and results to build/lab/last-run.")
@click.option("--json", "as_json", is_flag=True, help="Print the facts as JSON on standard output.")
@click.pass_context
def qemu(
    ctx: click.Context,
    *,
    scenarios: tuple[str, ...],
    listing: bool,
    rounds: int | None,
    seed: int,
    qemu: str | None,
    accel: str,
    hold: bool,
    arbiter: str | None,
    keep: bool,
    as_json: bool,
) -> None:
    """Kill hosts, QEMUs, nodes and links under a real guest's TCP connections.

    Builds two hosts, a LAN and a client in network namespaces, boots a small Linux guest, protects it, puts load on
    it and lets things die. Every connection must go on, and a counter in the guest must count as one machine does.
    Needs root and /dev/net/tun; installs what is missing on Debian; leaves only build/lab behind. Exit code: 0 when
    everything held, 1 when something did not, 2 for options that do not go together.
    """
    # Imported here: `--help` and wrong usage do not need the laboratory.
    from pycolo_lab.interruption import Interruption  # noqa: PLC0415

    interruption = Interruption()
    interruption.watch()  # before the other imports, which take a while
    from pycolo_lab.qemu.options import QemuLabOptions  # noqa: PLC0415
    from pycolo_lab.qemu.session import run_qemu_lab  # noqa: PLC0415
    from pycolo_lab.qemu.summary import COLUMNS, list_lines  # noqa: PLC0415
    from pycolo_lab.terminal import terminal_columns  # noqa: PLC0415

    if listing:
        for line in list_lines(terminal_columns(sys.stdout) or COLUMNS):
            click.echo(line)
        return
    require_output()
    options = QemuLabOptions(
        scenarios=scenarios,
        rounds=rounds,
        seed=seed,
        qemu=qemu,
        accelerator=accel,
        arbiter=arbiter,
        hold=hold,
        keep=keep,
        as_json=as_json,
    )
    ctx.exit(run_qemu_lab(options, interruption))
