"""`colo lab`: laboratories with real virtual machines."""

import sys

import click

from pycolo.cli.streams import require_output


@click.group(short_help="Laboratories with real virtual machines.")
def lab() -> None:
    """Laboratories with real virtual machines."""


@lab.command(short_help="Break two QEMUs, two hosts and a link under load.")
@click.option("--scenario", "scenarios", multiple=True, metavar="NAME", help="Only this scenario; may be repeated.")
@click.option("--list", "listing", is_flag=True, help="List the scenarios and exit.")
@click.option("--rounds", type=click.IntRange(1, 10_000), help="Rounds of each scenario: fault, repair, protect again.")
@click.option("--seed", type=int, default=1, show_default=True, help="Seed of the random moments in protect-killed.")
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
    help="auto: KVM if a guest boots with it, otherwise software emulation.",
)
@click.option("--hold", is_flag=True, help="Run no scenario: leave a protected pair running, and say how to enter.")
@click.option(
    "--arbiter",
    type=click.Choice(["command", "manual"]),
    help="Arbiter of a held pair: fence the other host, or wait for `colo failover` [default: command].",
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

    Builds two hosts, a LAN and a client in network namespaces, boots a small Linux guest, protects it, puts load on it
    and injects failures. Every connection must go on, and a counter in the guest must count as one machine does. Needs
    root and /dev/net/tun; installs missing packages on Debian; leaves only build/lab behind. Exit code: 0 when
    everything held, 1 when something did not, 2 for contradictory options.
    """
    # Imported here: `--help` and wrong usage do not need the laboratory.
    from pycolo_lab.interruption import Interruption  # noqa: PLC0415

    interruption = Interruption()
    interruption.watch()  # before the slow imports
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
