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
    help="10.0 or 11.1: Debian 13's, fetched into build/lab; or the path of a QEMU [default: the one on PATH].",
)
@click.option(
    "--accel",
    type=click.Choice(["auto", "kvm", "tcg"]),
    default="auto",
    show_default=True,
    help="auto: KVM if a guest boots with it, otherwise software emulation.",
)
@click.option(
    "--guest",
    type=click.Choice(["usual", "small", "debian"]),
    default="usual",
    show_default=True,
    help="usual: q35, 2 vCPUs, 256 MiB, 2 network cards, more devices; small: pc, 1 vCPU, 96 MiB, for quick runs; "
    "debian: q35, 512 MiB, a Debian with nginx, redis, PostgreSQL and sshd on a writable disk.",
)
@click.option("--hold", is_flag=True, help="Run no scenario: leave a protected pair running, and say how to enter.")
@click.option(
    "--arbiter",
    type=click.Choice(["command", "manual"]),
    help="Arbiter of a held pair: fence the other host, or wait for `colo failover` [default: command].",
)
@click.option(
    "--heartbeat-timeout",
    type=click.IntRange(75, 60_000),
    metavar="MS",
    help="Silence of this length is a suspicion [default: 150, of `reboot` 500]. On a busy machine give more.",
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
    guest: str,
    hold: bool,
    arbiter: str | None,
    heartbeat_timeout: int | None,
    keep: bool,
    as_json: bool,
) -> None:
    """Kill hosts, QEMUs, nodes and links under a real guest's TCP connections.

    Builds two hosts, a LAN and a client in network namespaces, boots a Linux guest, protects it, puts load on it
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
        guest=guest,
        arbiter=arbiter,
        heartbeat_timeout_ms=heartbeat_timeout,
        hold=hold,
        keep=keep,
        as_json=as_json,
    )
    ctx.exit(run_qemu_lab(options, interruption))


@lab.command(short_help="Form pairs of one machine shape, and compare their memory.")
@click.option("--qemu", metavar="VERSION|PATH", help="As for `colo lab qemu`.")
@click.option("--machine", default="pc", show_default=True, help="As QEMU's -machine.")
@click.option("--vcpus", type=click.IntRange(1, 64), default=1, show_default=True)
@click.option("--memory", default="96M", show_default=True, help="As QEMU's -m.")
@click.option("--cpu", default="qemu64", show_default=True, help="As QEMU's -cpu.")
@click.option("--device", "devices", multiple=True, metavar="DEVICE", help="As QEMU's -device; may be repeated.")
@click.option("--formations", type=click.IntRange(1, 10_000), default=1, show_default=True, help="Pairs, in turn.")
@click.option("--checkpoints", type=click.IntRange(0, 10_000), default=5, show_default=True, help="Of each pair.")
@click.option("--pages", type=click.IntRange(64), help="Compare a sample of this many pages [default: all].")
@click.option("--without-cures", is_flag=True, help="Leave QEMU as it is: some shapes fail then.")
@click.option(
    "--without-preload",
    is_flag=True,
    help="The library too: 7.2 and 10.0 hang at a checkpoint then, 11.1 runs replaced code.",
)
@click.pass_context
def shape(
    ctx: click.Context,
    *,
    qemu: str | None,
    machine: str,
    vcpus: int,
    memory: str,
    cpu: str,
    devices: tuple[str, ...],
    formations: int,
    checkpoints: int,
    pages: int | None,
    without_cures: bool,
    without_preload: bool,
) -> None:
    """Form pairs of QEMUs one after another, and compare the two guests' memory at each checkpoint.

    Software emulation, no nodes, no network: it asks whether QEMU's COLO keeps this machine the same on both sides. The
    last pair ends with a failover. Exit code: 0 when nothing was lost, 1 otherwise.
    """
    from pycolo_lab.interruption import Interruption  # noqa: PLC0415

    interruption = Interruption()
    interruption.watch()  # before the slow imports
    from pycolo_lab.qemu.shapes import Shape  # noqa: PLC0415
    from pycolo_lab.qemu.shapesession import run_shape  # noqa: PLC0415

    require_output()
    asked = Shape(
        machine=machine,
        vcpus=vcpus,
        memory=memory,
        cpu=cpu,
        devices=devices,
        formations=formations,
        checkpoints=checkpoints,
        pages=pages,
        cures=not without_cures,
        preload=not without_preload,
    )
    ctx.exit(run_shape(asked, qemu, interruption))


@lab.command(short_help="The same pair under a real corosync and Pacemaker.")
@click.option("--fault", "faults", multiple=True, metavar="NAME", help="Only this fault; may be repeated.")
@click.option("--list", "listing", is_flag=True, help="List the faults and exit.")
@click.option("--rounds", type=click.IntRange(1, 1_000), default=1, show_default=True, help="Rounds of each fault.")
@click.option("--token", type=click.IntRange(300, 60_000), default=1_000, show_default=True, metavar="MS",
              help="Corosync's token time-out.")  # fmt: skip
@click.option("--head-start", type=click.IntRange(0, 60_000), default=4_000, show_default=True, metavar="MS",
              help="How much later the secondary has the primary's host fenced, with two votes.")  # fmt: skip
@click.option("--votes", type=click.IntRange(2, 3), default=2, show_default=True,
              help="3: a third host that only votes.")  # fmt: skip
@click.option("--tool", type=click.Choice(("crm", "pcs")), default="crm", show_default=True,
              help="What makes the cluster's resources.")  # fmt: skip
@click.option("--keep", is_flag=True, help="Copy logs and configurations to build/lab/last-pacemaker.")
@click.pass_context
def pacemaker(
    ctx: click.Context,
    *,
    faults: tuple[str, ...],
    listing: bool,
    rounds: int,
    token: int,
    head_start: int,
    votes: int,
    tool: str,
    keep: bool,
) -> None:
    """Let Pacemaker run a protected guest, and break hosts, nodes, QEMUs and the link under it.

    Two hosts, each with its own processes and files, form a real cluster with a power switch. Pacemaker starts both
    nodes by the resource agent and promotes one. In every round the wire is watched: two hosts must never serve; and
    every connection must go on. Needs root and /dev/net/tun; on Debian without systemd it installs what is missing.
    Exit code: 0 when everything held, 1 when something did not.
    """
    from pycolo_lab.interruption import Interruption  # noqa: PLC0415

    interruption = Interruption()
    interruption.watch()  # before the slow imports
    from pycolo_lab.pacemaker.rounds import FAULTS  # noqa: PLC0415
    from pycolo_lab.pacemaker.session import PacemakerLabOptions, run_pacemaker_lab  # noqa: PLC0415

    if listing:
        for fault in FAULTS:
            click.echo(f"{fault.name:<20} {fault.text}")
        return
    require_output()
    options = PacemakerLabOptions(
        faults=faults, rounds=rounds, token_ms=token, head_start_ms=head_start, votes=votes, tool=tool, keep=keep
    )
    ctx.exit(run_pacemaker_lab(options, interruption))


@lab.command(short_help="The same pair as a domain of two real libvirts.")
@click.option("--scenario", "scenarios", multiple=True, metavar="NAME", help="Only this scenario; may be repeated.")
@click.option("--list", "listing", is_flag=True, help="List the scenarios and exit.")
@click.option("--rounds", type=click.IntRange(1, 1_000), help="Rounds of each scenario [default: 1].")
@click.option("--seed", type=int, default=1, show_default=True, help="Seed of the random moments.")
@click.option("--guest", type=click.Choice(("usual", "small", "debian")), default="usual", show_default=True,
              help="usual: as virt-install makes it, a q35 of 256 MiB; small: a pc of 98 MiB; debian: as usual, with "
              "512 MiB, and a Debian with nginx, redis, PostgreSQL and sshd on a writable disk.")  # fmt: skip
@click.option("--libvirt", "version", metavar="VERSION",
              help="11.3: Debian 13's, with its QEMU, fetched into build/lab [default: this machine's].")  # fmt: skip
@click.option(
    "--machine", metavar="MACHINE", help="As libvirt's <type machine=…>, e.g. q35 [default: the guest's own]."
)
@click.option("--network", "has_network", is_flag=True, help="Its card is on a network of libvirt's.")
@click.option("--disk/--no-disk", "has_disk", default=True, show_default=True, help="Give the guest a writable disk.")
@click.option("--hold", is_flag=True, help="Run no scenario: leave a protected domain running, and say how to enter.")
@click.option("--keep", is_flag=True, help="Copy logs and configurations to build/lab/last-libvirt.")
@click.pass_context
def libvirt(
    ctx: click.Context,
    *,
    scenarios: tuple[str, ...],
    listing: bool,
    rounds: int | None,
    seed: int,
    guest: str,
    version: str | None,
    machine: str | None,
    has_network: bool,
    has_disk: bool,
    hold: bool,
    keep: bool,
) -> None:
    """Protect a domain on two hosts with a libvirtd each, and break or order what people break and order.

    After each fault `virsh list` must be true on both hosts, taps must be where they belong, and nothing may be lost.
    Needs root and /dev/net/tun; on Debian without systemd it installs what is missing. Leaves only build/lab behind.
    Exit code: 0 when everything held, 1 when something did not.
    """
    from pycolo_lab.interruption import Interruption  # noqa: PLC0415

    interruption = Interruption()
    interruption.watch()  # before the slow imports
    from pycolo_lab.libvirt.options import LibvirtLabOptions  # noqa: PLC0415
    from pycolo_lab.libvirt.scenarios import SCENARIOS  # noqa: PLC0415
    from pycolo_lab.libvirt.session import run_libvirt_lab  # noqa: PLC0415

    if listing:
        for scenario in SCENARIOS:
            click.echo(f"{scenario.name:<20} {scenario.text}")
        return
    require_output()
    options = LibvirtLabOptions(
        scenarios=scenarios,
        rounds=rounds,
        seed=seed,
        guest=guest,
        machine=machine,
        has_network=has_network,
        has_disk=has_disk,
        libvirt=version,
        hold=hold,
        keep=keep,
    )
    ctx.exit(run_libvirt_lab(options, interruption))
