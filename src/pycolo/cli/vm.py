"""`colo node`, and the commands for a running one: protect, unprotect, checkpoint, switchover; `colo qemu-args`."""

import asyncio
import json
import shlex
import sys
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Thread
from typing import TYPE_CHECKING, Any, Final

import click

from pycolo.cli.diskprogress import Tenths
from pycolo.cli.logfile import LogFile, configure_log
from pycolo.cli.status import checkpoint_line, warning_lines
from pycolo.cli.streams import PREFIX
from pycolo.cli.target import for_a_node, printable, say
from pycolo.errors import EXIT_INTERRUPTED, PycoloError

if TYPE_CHECKING:
    from pycolo.vm.assembly import VmNode

PLAN_TIMEOUT_S: Final = 86_400.0
"""The guest's disks and memory are copied first: a day is enough for 10 TB at 1 Gbit/s. Ctrl-C ends the wait only."""

DECISION_TIMEOUT_S: Final = 60.0
"""`colo failover` and `colo checkpoint` wait until the node is done."""

PROGRESS_S: Final = 0.3
"""Interval at which the plan's current step is queried."""

_config = click.option(
    "--config", "path", required=True, type=click.Path(path_type=Path), metavar="FILE", help="The node's TOML file."
)


@click.command(short_help="Run the node of one virtual machine on this host.")
@_config
@click.option("--check", is_flag=True, help="Only check the file and print it with all defaults.")
def node(path: Path, *, check: bool) -> None:
    """Run the node beside this host's QEMU: proxy, checkpoints, migration relay, heartbeats, arbiter.

    The file gives the role for the very first start; afterwards the state directory does. SIGINT and SIGTERM end the
    node in order and leave the guest running.
    """
    from pycolo.config import describe, load  # noqa: PLC0415 - keeps `colo --help` fast

    config = load(path)
    if check:
        click.echo(describe(config), nl=False)
        return
    from pycolo.node.servicemanager import Notifier  # noqa: PLC0415 - `--check` needs neither
    from pycolo.vm.assembly import run_node  # noqa: PLC0415

    file = LogFile(sys.stderr.fileno(), sys.stderr.encoding)
    running: list[VmNode] = []

    def facts() -> dict[str, object]:
        return running[0].log_facts() if running else {"pair": config.pair}

    configure_log(file, config.log.format, config.log.level, facts)
    notifier = Notifier.from_environment()
    try:
        code = asyncio.run(run_node(config, str(path.absolute()), notifier, running.append))
        if running and running[0].gave_up and config.log.format == "text":
            file.write(f"{PREFIX}{running[0].gave_up}")
        sys.exit(code)
    finally:
        notifier.close()
        file.close()


@click.command(short_help="Give the running virtual machine a secondary.")
@for_a_node
@click.option("--force", is_flag=True, help="Also where the guest is known to be lost, or QEMU's version is unknown.")
@click.option("--json", "as_json", is_flag=True, help="Print the node's answer as JSON, and no steps.")
def protect(*, control: Path, force: bool, as_json: bool) -> None:
    """Attach to the running QEMU, start a secondary on the other host, and bring the pair into COLO state.

    The command waits until the pair is protected and prints each step. If a step fails, the steps before it are undone
    and the virtual machine goes on as before. Until `colo unprotect` the node that serves protects the guest again by
    itself after each failure. Warnings follow the last line, and stay in `colo status`.

    The node refuses what is known to be fatal to the guest. --force overrides that until `colo unprotect` or the node's
    end; `colo status` shows what was overridden.
    """
    _carry_out(control, "protect", as_json=as_json, **({"force": True} if force else {}))


@click.command(short_help="Go on without a secondary.")
@for_a_node
def unprotect(*, control: Path) -> None:
    """End the secondary, and remove from the running QEMU what `colo protect` has added."""
    _carry_out(control, "unprotect")


@click.command(short_help="Make a checkpoint now.")
@for_a_node
def checkpoint(*, control: Path) -> None:
    """Copy the primary's state to the secondary now, and wait until that is done."""
    from pycolo.node.control import ask  # noqa: PLC0415 - keeps `colo --help` fast

    say([_outcome(ask(control, {"command": "checkpoint"}, timeout_s=DECISION_TIMEOUT_S))])


@click.command(short_help="Let the other host serve; this one becomes its secondary.")
@for_a_node
@click.option("--json", "as_json", is_flag=True, help="Print the node's answer as JSON, and no steps.")
def switchover(*, control: Path, as_json: bool) -> None:
    """Change the roles of a protected pair, while no connection is lost: before maintenance of a host.

    The guest is copied once more; then this node stops sending, and the other one takes over. No host is fenced. The
    guest of the host that has served ends, and the pair is protected again, which the command waits for. It may be run
    on either host. If the other node does not take over, the one that served goes on.
    """
    _carry_out(control, "switchover", as_json=as_json)


@click.command(short_help="Confirm that the other node is down: this one goes on alone.")
@for_a_node
@click.option("--begin-anew", is_flag=True,
              help="No host has a guest any more: one is to begin anew, from its start, on this one.")  # fmt: skip
@click.option("--other-is-lost", is_flag=True,
              help="With --begin-anew: the other host will not come back, so its node need not be asked.")  # fmt: skip
def failover(*, control: Path, begin_anew: bool, other_is_lost: bool) -> None:
    """Tell this node that the other one is certainly down. It then serves alone.

    The node relies on this: if the other node still serves, clients see two machines with one address.
    """
    from pycolo.node.control import ask  # noqa: PLC0415 - keeps `colo --help` fast

    if other_is_lost and not begin_anew:
        raise click.UsageError("--other-is-lost: only with --begin-anew")
    # A command of its own: a node that does not know it must not take it for `failover`.
    request = {"command": "begin-anew", "other_is_lost": other_is_lost} if begin_anew else {"command": "failover"}
    say([_outcome(ask(control, request, timeout_s=DECISION_TIMEOUT_S))])


def _outcome(answer: dict[str, Any]) -> str:
    if {"at", "epoch", "outcome"} <= answer.keys():
        return checkpoint_line(answer)
    if "state" in answer:
        parts = [answer["state"], f"term {answer['term']}" if "term" in answer else "", answer.get("seen", "")]
        parts.append(_interrupted(answer.get("interrupted") or {}))
        return ", ".join(part for part in parts if part)
    return ", ".join(f"{name} {value}" for name, value in answer.items()) or "done"


def _interrupted(took: dict[str, Any]) -> str:
    """What clients have noticed of `protect`."""
    if took.get("stop_ms") is None:
        return ""
    return f"without traffic for {took['stop_ms']:.0f} ms, and at most {took['move_ms']:.0f} ms while the taps moved"


def _carry_out(control: Path, command: str, *, as_json: bool = False, **more: Any) -> None:
    """Request a plan, and print its steps until the node answers."""
    from pycolo.node.control import ask  # noqa: PLC0415 - keeps `colo --help` fast

    answers: SimpleQueue[dict[str, Any] | BaseException] = SimpleQueue()

    def wait() -> None:
        try:
            answers.put(ask(control, {"command": command, **more}, timeout_s=PLAN_TIMEOUT_S))
        except BaseException as error:  # re-raised below
            answers.put(error)

    # A daemon thread: Ctrl-C ends this program, not the plan.
    Thread(target=wait, name=command, daemon=True).start()
    named: list[str] = []
    tenths = Tenths()
    try:
        while True:
            try:
                answer = answers.get(timeout=PROGRESS_S)
                break
            except Empty:
                if not as_json:
                    _name_steps(control, named, tenths)
    except KeyboardInterrupt:
        click.echo(f"the node continues; `colo status --control {printable(str(control))}` shows its progress")
        sys.exit(EXIT_INTERRUPTED)
    if isinstance(answer, BaseException):
        raise answer
    say(json.dumps(answer, indent=2).splitlines() if as_json else [_outcome(answer), *warning_lines(answer)])


def _name_steps(control: Path, named: list[str], tenths: Tenths) -> None:
    """Print each step of the plan once, when it begins, and how far the disks are copied."""
    from pycolo.node.control import ask  # noqa: PLC0415 - keeps `colo --help` fast

    try:
        status = ask(control, {"command": "status"})
    except PycoloError:  # the command's own answer reports it
        return
    plan = status.get("plan")
    if plan:
        steps = [*plan.get("done", []), *([plan["step"]] if plan.get("step") else [])]
        new = [line for step in steps if (line := f"{plan['name']}: {step}") not in named]
        named += new
        say([*new, *tenths.new_lines(status.get("disks", []))])


def _print_preload(ctx: click.Context, _parameter: click.Parameter, is_asked: bool) -> None:  # noqa: FBT001 - click's
    if is_asked:
        from pycolo.vm.preload import SOURCE  # noqa: PLC0415 - keeps `colo --help` fast

        click.echo(SOURCE)
        ctx.exit()


def _print_wrapper(ctx: click.Context, _parameter: click.Parameter, library: Path | None) -> None:
    if library is not None:
        from pycolo.vm.preload import wrapper  # noqa: PLC0415 - keeps `colo --help` fast

        click.echo(wrapper(library), nl=False)
        ctx.exit()


@click.command("qemu-args", short_help="Print the arguments for a QEMU that you start yourself.")
@_config
@click.option(
    "--preload",
    is_flag=True,
    expose_value=False,
    is_eager=True,
    callback=_print_preload,
    help="Print only the path of the C source of the library that a QEMU under software emulation must preload.",
)
@click.option(
    "--wrapper",
    type=click.Path(path_type=Path),
    expose_value=False,
    is_eager=True,
    callback=_print_wrapper,
    metavar="LIBRARY",
    help="Print only a script that starts QEMU with that library preloaded, such as libvirt's <emulator> needs.",
)
@click.option("--role", type=click.Choice(["primary", "secondary"]), help="Default: the file's.")
@click.option("--json", "as_json", is_flag=True, help="As a JSON array of arguments.")
def qemu_args(path: Path, *, role: str | None, as_json: bool) -> None:
    """Print what `colo node` needs on a QEMU command line: QMP sockets, and for a secondary `-incoming defer`.

    The guest's network cards need nothing: any `-netdev tap` with vhost=off.
    """
    from pycolo.config import load  # noqa: PLC0415 - keeps `colo --help` fast
    from pycolo.link.hello import Role  # noqa: PLC0415
    from pycolo.vm.commandline import qemu_arguments  # noqa: PLC0415

    config = load(path)
    arguments = qemu_arguments(config, Role(role) if role else config.role)
    if as_json:
        click.echo(json.dumps(arguments, indent=2))
        return
    options = [shlex.join(arguments[at : at + 2]) for at in range(0, len(arguments), 2)]
    click.echo(" \\\n".join(options))
