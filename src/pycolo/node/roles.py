"""`colo primary` and `colo secondary`: nodes without a QEMU of their own, put together."""

import secrets
from collections.abc import Callable
from functools import partial
from typing import Any, Final

import structlog

from pycolo.failover import pairstates
from pycolo.failover.arbiter import make_arbiter
from pycolo.failover.pair import Record, Settings, restarted
from pycolo.link.hello import Role
from pycolo.node.commands import Commands, NoOtherPath, Parts
from pycolo.node.control import ControlServer
from pycolo.node.costs import Costs
from pycolo.node.decider import Decider
from pycolo.node.divergences import Divergences
from pycolo.node.gate import Gate
from pycolo.node.healthwatch import HealthWatch
from pycolo.node.journal import Journal
from pycolo.node.leasing import NoLease
from pycolo.node.links import Links, MakeControl, control_maker
from pycolo.node.loopcall import LoopCall
from pycolo.node.node import Given, Node, Service
from pycolo.node.opening import PortOpener, open_port
from pycolo.node.operator import Identity, Operator
from pycolo.node.options import NodeOptions
from pycolo.node.ownside import OwnSide
from pycolo.node.pacemaker import Pacemaker
from pycolo.node.permission import Permission, run_core
from pycolo.node.plainguest import PlainPrimary, PlainSecondary
from pycolo.node.primarypath import PrimaryPath
from pycolo.node.prober import Prober
from pycolo.node.records import NoRecord
from pycolo.node.rowsfile import KeptRows, RowsFile
from pycolo.node.secondarypath import SecondaryPath
from pycolo.node.survivor import find_survivor
from pycolo.path.cores import new_comparator, new_rewriter, node_ages
from pycolo.transport.ports import Port

EPOCH: Final = 0
"""Checkpoints count it: only a node with a QEMU makes any."""

log = structlog.get_logger("colo")


def make_node(options: NodeOptions, open_one: PortOpener = open_port) -> Node:
    """In the event loop's thread. `open_one` opens each of its ports. Raises `ConnectError`, `ConfigError`."""
    role = pairstates.Role(options.role.value)
    settings = Settings(timeout_ms=options.heartbeat_timeout_ms, back_off_first_ms=0)
    kept = find_survivor(options)
    if kept is not None:
        pair, commands = restarted(settings, Record(pairstates.Role.PRIMARY, kept.term), has_guest=True)
        pair = pair._replace(state=pairstates.State.SERVING)
    else:
        pair, commands = restarted(settings, Record(role, is_wished=True), has_guest=True)
    return put_together(options, Decider(pair), commands, open_one, kept=kept)


def put_together(
    options: NodeOptions,
    decider: Decider,
    commands: tuple[pairstates.Command, ...],
    open_one: PortOpener = open_port,
    make_control: MakeControl | None = None,
    kept: KeptRows | None = None,
) -> Node:
    """Make the parts. `make_control` makes a link's control connection; `kept`: the secondary serves on.

    Raises `ConnectError`, `ConfigError`.
    """
    call = LoopCall()
    journal, costs = Journal(), Costs()
    divergences = Divergences(options.on_divergence.name.lower(), costs.difference)
    links = Links(
        lambda: decider.pair, make_control or control_maker(options, lambda: (decider.pair.term, EPOCH)), decider.tell
    )
    pacemaker = _pacemaker(options, decider)
    arbiter = pacemaker.run if pacemaker else run_core(make_arbiter(options.arbiter, decider.pair.term))
    permission = Permission(arbiter, decider.tell, lambda: decider.pair.term)
    gate = Gate(links.trusted_until_ns, permission.serve_until_ns)
    sides = OwnSide(options, lambda: decider.pair, links, secrets.randbits(64) | 1)
    node: Node

    def on_data_lost(link: int, text: str) -> None:
        call(node.data_lost, link, text)

    def on_retired() -> None:  # the other node serves, or may
        advice = journal.advice(options.arbiter, options.heartbeat_timeout_ms, "--heartbeat-timeout of both nodes")
        node.finish(3, "; ".join(filter(None, (journal.cause, advice))))

    base: dict[str, Any] = {
        "on_note": lambda text: call(_note, text),
        "on_fatal": lambda error: call(node.failed, error),
        "spin_us": options.spin_us,
    }
    guest: PlainPrimary | PlainSecondary
    if options.role is Role.PRIMARY:
        guest = PlainPrimary(gate, partial(_say_prepare, links, decider), on_data_lost, on_retired)
        guest.path = _primary_path(
            options,
            open_one,
            on_commands=lambda found: call(divergences.note, found),
            on_link_lost=guest.data_lost,
            **base,
        )
    else:
        guest = PlainSecondary(on_data_lost, on_retired)
        base |= {"term": lambda: decider.pair.term, "on_serving": lambda resent: call(journal.served, resent)}
        guest.path = _secondary_path(options, open_one, kept, on_link_lost=guest.data_lost, **base)
    parts = Parts(guest, links, permission, NoRecord(), sides, NoOtherPath(), NoLease())
    node = _composed(options, decider, commands, parts, sides, gate, journal, divergences, costs)
    node.operator.cluster = pacemaker.join(node, permission, guest) if pacemaker else None
    return node


def _composed(
    options: NodeOptions,
    decider: Decider,
    commands: tuple[pairstates.Command, ...],
    parts: Parts,
    sides: OwnSide,
    gate: Gate,
    journal: Journal,
    divergences: Divergences,
    costs: Costs,
) -> Node:
    """The node of its parts, with what the operator and the health need of them."""
    guest = parts.guest
    warning = f"NEGATIVE CONTROL: this node works without {options.without}" if options.without else ""
    prober = Prober(lambda: [guest.path] if isinstance(guest, PlainPrimary) else [])
    health = HealthWatch(decider, guest, prober, divergences.summarise)
    identity = Identity(options.pair, lambda: options.role.value, lambda: EPOCH, options.heartbeat_timeout_ms)
    operator = Operator(identity, decider, guest, parts.links, parts.permission, journal, divergences, health, costs)
    does = Commands(parts, decider.tell, lambda: EPOCH, operator.refused)
    services: list[Service] = [ControlServer(options.control, operator.request)] if options.control else []
    given = Given(commands, warning, [health, *services])
    return Node(decider, parts, sides, gate, journal, operator, does, given, health.changed)


def _pacemaker(options: NodeOptions, decider: Decider) -> Pacemaker | None:
    """Where that is the arbiter. Raises `ConfigError`."""
    if options.peer_node is None:
        return None
    link = options.link if options.role is Role.SECONDARY else None
    return Pacemaker(options.peer_node, link, options.head_start_ms, decider)


def _say_prepare(links: Links, decider: Decider) -> None:
    links.say("prepare", {"term": decider.pair.term, "epoch": EPOCH})


def _note(text: str) -> None:
    log.warning(text)


# ── data paths ──────────────────────────────────────────────────────────────────────────────────────────────


def _primary_path(options: NodeOptions, open_one: PortOpener, **callbacks: Any) -> PrimaryPath:
    comparator = new_comparator(
        has_vnet=options.has_vnet,
        policy=options.on_divergence,
        commits_input=options.commits_input,
        needs_handshake=True,
        **node_ages(options.compare_timeout_ms),
        bypass=options.bypass,
        masks=options.masks,
        queue_packets_max=options.queue_packets_max,
        primary_name="--guest",
        secondary_name="data link",
    )
    ports = _open_ports(options, open_one)
    return PrimaryPath(comparator, *ports, compares=options.without != "compare", **callbacks)


def _secondary_path(
    options: NodeOptions, open_one: PortOpener, kept: KeptRows | None, *, term: Callable[[], int], **callbacks: Any
) -> SecondaryPath:
    rows = None if options.rows is None else RowsFile(options.rows, options.pair, term)
    if rows is not None and kept is None:
        rows.discard()
    rewriter = new_rewriter(keeps_copies=True, has_vnet=options.has_vnet, client_name="data link", guest_name="--guest")
    rewriter.is_passing = options.without == "rewrite"
    lan_in, lan_out, guest_in, guest_out = _open_ports(options, open_one)
    assert guest_out is not None
    path = SecondaryPath(rewriter, lan_in, lan_out, guest_in, guest_out, rows=rows, **callbacks)
    if kept is not None:
        restored = path.resume(kept)
        log.info(
            f"serving again, as before the restart: {restored.rows} connections of before the takeover go on",
            file=str(options.rows),
            term=kept.term,
            unreadable=restored.unreadable,
        )
    return path


def _open_ports(options: NodeOptions, open_one: PortOpener) -> tuple[Port, Port, Port, Port | None]:
    """(lan_in, lan_out, guest_in, guest_out); a port that is given twice is opened once."""
    opened: dict[str, Port] = {}
    names = ("--lan", "--lan", "--guest", "--guest")
    ports: list[Port | None] = []
    specs = (options.lan_in, options.lan_out, options.guest_in, options.guest_out)
    for spec, name in zip(specs, names, strict=True):
        if spec is None:
            ports.append(None)
            continue
        if spec.text not in opened:
            opened[spec.text] = open_one(spec, name)
        ports.append(opened[spec.text])
    lan_in, lan_out, guest_in, guest_out = ports
    assert lan_in is not None
    assert lan_out is not None
    assert guest_in is not None
    return lan_in, lan_out, guest_in, guest_out
