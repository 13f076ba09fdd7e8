"""`colo node`, and what is asked of a running one: protect, unprotect, checkpoint, failover; `colo qemu-args`."""

import asyncio
import json
import shlex
import sys
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Thread
from typing import TYPE_CHECKING, Any, Final

import click

from pycolo.cli.logfile import LogFile, configure_log
from pycolo.cli.status import checkpoint_line
from pycolo.cli.streams import PREFIX
from pycolo.cli.target import for_a_node, printable, say
from pycolo.errors import EXIT_INTERRUPTED, PycoloError

if TYPE_CHECKING:
    from pycolo.vm.node import VmNode

PLAN_TIMEOUT_S: Final = 900.0
"""A first checkpoint copies all of the guest's memory: a quarter of an hour is 64 GiB at 1 Gbit/s and some."""

DECISION_TIMEOUT_S: Final = 60.0
"""`colo failover` and `colo checkpoint` wait for what the node does then."""

PROGRESS_S: Final = 0.3
"""How often to ask for the plan's step meanwhile."""

_config = click.option(
    "--config", "path", required=True, type=click.Path(path_type=Path), metavar="FILE", help="The node's TOML file."
)


@click.command(short_help="Run the node of one virtual machine on this host.")
@_config
@click.option("--check", is_flag=True, help="Only check the file, and print it with all defaults.")
def node(path: Path, *, check: bool) -> None:
    """Run the node beside this host's QEMU: proxy, checkpoints, migration relay, heartbeats, arbiter.

    Which role it has at its very first start is in the file; afterwards the state directory knows it. SIGINT and
    SIGTERM end it in order, and leave the guest running.
    """
    from pycolo.config import describe, load  # noqa: PLC0415 - keeps `colo --help` fast

    config = load(path)
    if check:
        click.echo(describe(config), nl=False)
        return
    from pycolo.node.servicemanager import Notifier  # noqa: PLC0415 - `--check` needs neither
    from pycolo.vm.node import run_node  # noqa: PLC0415

    file = LogFile(sys.stderr.fileno(), sys.stderr.encoding)
    running: list[VmNode] = []

    def facts() -> dict[str, object]:
        return running[0].log_facts() if running else {"pair": config.pair}

    configure_log(file, config.log.format, config.log.level, facts)
    notifier = Notifier.from_environment()
    try:
        code = asyncio.run(run_node(config, notifier, running.append))
        if running and running[0].gave_up and config.log.format == "text":
            file.write(f"{PREFIX}{running[0].gave_up}")
        sys.exit(code)
    finally:
        notifier.close()
        file.close()


@click.command(short_help="Give the running virtual machine a secondary.")
@for_a_node
def protect(*, control: Path) -> None:
    """Attach to the running QEMU, start a secondary on the other host, and bring the pair into COLO state.

    Waits until the pair is protected, and names the steps meanwhile. When one fails, those before it are undone and
    the virtual machine goes on as it did.
    """
    _carry_out(control, "protect")


@click.command(short_help="Let the virtual machine go on without a secondary.")
@for_a_node
def unprotect(*, control: Path) -> None:
    """End the secondary, and take out of the running QEMU what `colo protect` has put in."""
    _carry_out(control, "unprotect")


@click.command(short_help="Make a checkpoint now.")
@for_a_node
def checkpoint(*, control: Path) -> None:
    """Copy the primary's state over the secondary's now, and wait until that is done."""
    from pycolo.node.control import ask  # noqa: PLC0415 - keeps `colo --help` fast

    say([_outcome(ask(control, {"command": "checkpoint"}, timeout_s=DECISION_TIMEOUT_S))])


@click.command(short_help="Confirm that the other node is down: this one goes on alone.")
@for_a_node
def failover(*, control: Path) -> None:
    """Tell a node that the other one is down for certain. It then serves alone.

    The node takes your word for it: if the other one still serves, clients see two machines with one address.
    """
    from pycolo.node.control import ask  # noqa: PLC0415 - keeps `colo --help` fast

    say([_outcome(ask(control, {"command": "failover"}, timeout_s=DECISION_TIMEOUT_S))])


def _outcome(answer: dict[str, Any]) -> str:
    if {"at", "epoch", "outcome"} <= answer.keys():
        return checkpoint_line(answer)
    if "state" in answer:
        return f"{answer['state']}, term {answer['term']}" if "term" in answer else str(answer["state"])
    return ", ".join(f"{name} {value}" for name, value in answer.items()) or "done"


def _carry_out(control: Path, command: str) -> None:
    """Ask for a plan, and name its steps until the node answers."""
    from pycolo.node.control import ask  # noqa: PLC0415 - keeps `colo --help` fast

    answers: SimpleQueue[dict[str, Any] | BaseException] = SimpleQueue()

    def wait() -> None:
        try:
            answers.put(ask(control, {"command": command}, timeout_s=PLAN_TIMEOUT_S))
        except BaseException as error:  # raised again below
            answers.put(error)

    # A daemon: Ctrl-C ends this program, not the plan.
    Thread(target=wait, name=command, daemon=True).start()
    named: list[str] = []
    try:
        while True:
            try:
                answer = answers.get(timeout=PROGRESS_S)
                break
            except Empty:
                _name_steps(control, named)
    except KeyboardInterrupt:
        click.echo(f"the node goes on with it; `colo status --control {printable(str(control))}` shows how far it is")
        sys.exit(EXIT_INTERRUPTED)
    if isinstance(answer, BaseException):
        raise answer
    say([_outcome(answer)])


def _name_steps(control: Path, named: list[str]) -> None:
    """Each step of the plan once, when it has begun."""
    from pycolo.node.control import ask  # noqa: PLC0415 - keeps `colo --help` fast

    try:
        plan = ask(control, {"command": "status"}).get("plan")
    except PycoloError:  # the answer to the command itself will say it
        return
    if plan:
        steps = [*plan.get("done", []), *([plan["step"]] if plan.get("step") else [])]
        new = [line for step in steps if (line := f"{plan['name']}: {step}") not in named]
        named += new
        say(new)


def _print_preload(ctx: click.Context, _parameter: click.Parameter, is_asked: bool) -> None:  # noqa: FBT001 - click's
    if is_asked:
        from pycolo.vm.preload import SOURCE  # noqa: PLC0415 - keeps `colo --help` fast

        click.echo(SOURCE)
        ctx.exit()


@click.command("qemu-args", short_help="Print what a QEMU that you start yourself needs.")
@_config
@click.option(
    "--preload",
    is_flag=True,
    expose_value=False,
    is_eager=True,
    callback=_print_preload,
    help="Print only where the C source is of the library that a QEMU under software emulation has to preload.",
)
@click.option("--role", type=click.Choice(["primary", "secondary"]), help="Default: the file's.")
@click.option("--json", "as_json", is_flag=True, help="As a JSON array of arguments.")
def qemu_args(path: Path, *, role: str | None, as_json: bool) -> None:
    """Print QMP sockets, chardevs and filters for a QEMU command line, in the order in which they have to be.

    `colo protect` adds the chardevs and filters to a QEMU that runs without them. With them on the command line the
    guest reaches the network through its node only, from the start.
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
