"""The faults, one after another, each with its repair; and what is measured and judged of each."""

import json
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from time import monotonic_ns
from typing import Final, NamedTuple

import msgspec

from pycolo_lab.errors import LabError
from pycolo_lab.pacemaker.hosts import start_cluster, stop_cluster
from pycolo_lab.pacemaker.recipes import CLONE
from pycolo_lab.pacemaker.stage import ClusterStage
from pycolo_lab.pacemaker.wire import handover_ms
from pycolo_lab.processes import Host, Process
from pycolo_lab.qemu import counter
from pycolo_lab.qemu.counter import CounterResult
from pycolo_lab.qemu.law import breaches, gap_at
from pycolo_lab.qemu.topology import GUEST_ADDRESS
from pycolo_lab.scoreboard import Scoreboard, Slot

CONNECTIONS: Final = 24
INTERVAL_MS: Final = 10
STALL_S: Final = 60.0
WARM_S: Final = 1.0
SETTLED_S: Final = 1.0
CUT_S: Final = 8.0
"""A host that serves and is cut off stays so for this long; the other one must not be on meanwhile."""
BEFORE_NS: Final = 500_000_000
"""Of the wire before the fault: a dead host sends nothing after it."""

CLIENTS_S: Final = 90.0
SERVED_S: Final = 60.0


class Fault(NamedTuple):
    """`strike(stage, serving)`; `repair(stage, serving)`. `moves`: the other host serves afterwards.

    `ends_guest`: the cluster is stopped, and the guest with it; clients connect anew. `votes`: needs so many.
    """

    name: str
    text: str
    strike: Callable[[ClusterStage, str], None]
    repair: Callable[[ClusterStage, str], None]
    moves: bool | None = True
    ends_guest: bool = False
    votes: int = 0


class RoundFacts(msgspec.Struct, kw_only=True):
    """One round. `without_ms`: from the last frame of the old host's guest to the first one of the new one's."""

    fault: str
    broken: list[str]
    served_by: str
    without_ms: float | None
    gap_ms: float | None
    """The longest time in which no client got an answer."""
    connections: int
    lost: int
    shots: int


def _other(letter: str) -> str:
    return "b" if letter == "a" else "a"


def _nothing(stage: ClusterStage, letter: str) -> None:
    """The cluster has repaired it."""


def _standby(stage: ClusterStage, letter: str) -> None:
    pcs = ("pcs", "node", "standby", letter)
    stage.order(letter, pcs, ("crm_standby", "-N", letter, "-v", "on"))


def _online(stage: ClusterStage, letter: str) -> None:
    stage.order(letter, ("pcs", "node", "unstandby", letter), ("crm_standby", "-N", letter, "-D"))


def _move(stage: ClusterStage, letter: str) -> None:
    pcs = ("pcs", "resource", "move", CLONE, _other(letter), "--promoted")
    stage.order(letter, pcs, ("crm_resource", "-r", CLONE, "--move", "--promoted", "-N", _other(letter)))


def _clear(stage: ClusterStage, letter: str) -> None:
    stage.order(letter, ("pcs", "resource", "clear", CLONE), ("crm_resource", "-r", CLONE, "--clear"))


def _power_on(stage: ClusterStage, letter: str) -> None:
    stage.power_on(letter)


def _cut_link(stage: ClusterStage, letter: str) -> None:
    stage.network.cut_link()


def _restore_link(stage: ClusterStage, letter: str) -> None:
    stage.network.restore_link()


def _cut_host(stage: ClusterStage, letter: str) -> None:
    """It lives on; only the power switch reaches it."""
    stage.network.cut_host(stage.keys[letter])


def _restore_host(stage: ClusterStage, letter: str) -> None:
    stage.network.restore_host(stage.keys[letter])


def _kill_both(stage: ClusterStage, letter: str) -> None:
    """Whichever is found dead last is the primary, and has the guest begin anew."""
    for one in (letter, _other(letter)):
        stage.kill_qemu(one)
    stage.rest(SETTLED_S)


def _maintain(stage: ClusterStage, letter: str) -> None:
    """Both clusters end and begin again under a guest that runs on."""
    pcs = ("pcs", "property", "set", "maintenance-mode=true")
    stage.order(letter, pcs, ("crm_attribute", "-n", "maintenance-mode", "-v", "true"))
    stage.rest(SETTLED_S)
    for host in stage.hosts.values():
        stop_cluster(host)
    for host in stage.hosts.values():
        start_cluster(host)
    stage.cluster.wait_online({"a", "b"})


def _end_maintenance(stage: ClusterStage, letter: str) -> None:
    pcs = ("pcs", "property", "set", "maintenance-mode=")
    stage.order(letter, pcs, ("crm_attribute", "-n", "maintenance-mode", "-D"))


def _stop_all(stage: ClusterStage) -> None:
    ending = [threading.Thread(target=stop_cluster, args=(host,)) for host in stage.hosts.values()]
    for thread in ending:
        thread.start()
    for thread in ending:
        thread.join()


def _forget_primary(stage: ClusterStage, letter: str) -> None:
    """As when both guests end within a millisecond: both nodes are secondaries, and wait for an operator."""
    _stop_all(stage)
    for one in (letter, _other(letter)):
        path = stage.hosts[one].directory / "state" / "node.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"role": "secondary"}))
    for host in stage.hosts.values():
        start_cluster(host)
    stage.cluster.wait("both nodes wait", lambda: set(stage.states().values()) == {"secondary waiting"})
    stage.rest(SETTLED_S)
    if stage.serving():
        raise LabError("Pacemaker has promoted a node that has no guest")
    words = (str(stage.program), "failover", "--begin-anew", "--control", "/run/lab/control.sock")
    if not any(stage.hosts[one].run(*words) for one in (letter, _other(letter))):  # one has the higher term
        raise LabError("neither node lets the guest begin anew")


def _restart(order: Callable[[str], tuple[str, str]]) -> Callable[[ClusterStage, str], None]:
    def strike(stage: ClusterStage, letter: str) -> None:
        _stop_all(stage)
        first, second = order(letter)
        start_cluster(stage.hosts[first])
        stage.rest(3 * SETTLED_S)
        start_cluster(stage.hosts[second])
        stage.cluster.wait_online({"a", "b"})

    return strike


FAULTS: Final = (
    Fault("qemu-killed", "QEMU killed on the promoted host", lambda s, x: s.kill_qemu(x), _nothing),
    Fault("node-killed", "node killed on the promoted host", lambda s, x: s.kill_node(x), _nothing),
    Fault("node-hangs", "node stopped (SIGSTOP) on the promoted host", lambda s, x: s.kill_node(x, "STOP"), _nothing),
    Fault("host-killed", "promoted host dies", lambda s, x: s.power_off(x), _power_on),
    Fault(
        "secondary-killed", "node killed on the other host", lambda s, x: s.kill_node(_other(x)), _nothing, moves=False
    ),
    Fault("link-cut", "cable between the nodes cut, the cluster's lives", _cut_link, _restore_link, moves=None),
    Fault(
        "host-cut", "both cables of the promoted host cut, two votes", _cut_host, _restore_host, moves=False, votes=2
    ),
    Fault("host-cut-off", "both cables of the promoted host cut, three votes", _cut_host, _restore_host, votes=3),
    Fault("guests-killed", "QEMU killed on both hosts", _kill_both, _nothing, moves=None, ends_guest=True),
    Fault(
        "no-primary",
        "both nodes are secondaries without a guest; `colo failover --begin-anew`",
        _forget_primary,
        _nothing,
        moves=None,
        ends_guest=True,
    ),
    Fault("standby", "promoted host put into standby", _standby, _online),
    Fault("move", "crm_resource --move", _move, _clear),
    Fault("maintenance", "maintenance mode, Pacemaker restarted on both", _maintain, _end_maintenance, moves=False),
    Fault(
        "restart-same-first",
        "cluster stopped; the host that served starts first",
        _restart(lambda x: (x, _other(x))),
        _nothing,
        moves=None,
        ends_guest=True,
    ),
    Fault(
        "restart-other-first",
        "cluster stopped; the other host starts first",
        _restart(lambda x: (_other(x), x)),
        _nothing,
        moves=None,
        ends_guest=True,
    ),
)


class Rounds:
    """Plays faults on one stage; clients go on through all of those that leave the guest running."""

    def __init__(self, stage: ClusterStage) -> None:
        self._stage = stage
        self._number = 0
        self._board: Scoreboard
        self._clients: Process

    def play(self, fault: Fault) -> RoundFacts:
        """One round, with clients of its own."""
        stage = self._stage
        self._number += 1
        stage.cluster.forget_failures()
        serving = stage.wait_protected()
        self._start_clients()
        stage.rest(WARM_S)
        shots, at_ns = len(stage.switch.log), monotonic_ns()
        broken: list[str] = []
        now = ""
        try:
            if fault.ends_guest:
                self._end_clients()
            fault.strike(stage, serving)
            now = self._wait_served(fault, serving)
            stage.rest(CUT_S if fault.votes == 2 else SETTLED_S)
            settled_ns = monotonic_ns()
            fault.repair(stage, serving)
            stage.wait_protected()
            stage.wait_booted()
        except LabError as error:
            broken.append(str(error))
            settled_ns = monotonic_ns()
        result = None if fault.ends_guest else self._end_clients()
        turns = stage.wire.turns(at_ns - BEFORE_NS)
        allowed = 2 if fault.moves is not False else 1
        for seen in (turns, stage.taps.turns(at_ns - BEFORE_NS)):
            if len(seen) > allowed and not fault.ends_guest:
                broken.append("two served: " + ", ".join(f"{t.letter} ({t.frames} frames)" for t in seen))
        facts = RoundFacts(
            fault=fault.name,
            broken=broken,
            served_by=now,
            without_ms=handover_ms(turns),
            gap_ms=None,
            connections=0,
            lost=0,
            shots=len(stage.switch.log) - shots,
        )
        if result is not None:
            self._judge(facts, result, at_ns, settled_ns)
        return facts

    def _judge(self, facts: RoundFacts, result: CounterResult, at_ns: int, settled_ns: int) -> None:
        facts.connections, facts.lost = result.connections, len(result.failed)
        if result.failed:
            facts.broken.append(f"{len(result.failed)} connections lost, e.g. {result.failed[0]}")
        if found := breaches(result.answers, result.unanswered):
            facts.broken.append(f"{len(found)} breaches of the counter's law, first: {found[0].text}")
        gap = gap_at(result.answers, at_ns, settled_ns - at_ns)
        facts.gap_ms = gap.length_ms if gap is not None else None

    def _wait_served(self, fault: Fault, serving: str) -> str:
        """The host that Pacemaker says is promoted, once it is the right one."""
        stage = self._stage
        wanted = {True: {_other(serving)}, False: {serving}, None: {"a", "b"}}[fault.moves]
        found = ""

        def is_promoted() -> bool:
            nonlocal found
            found = stage.serving()
            return found in wanted

        stage.cluster.wait(f"promoted on {sorted(wanted)}", is_promoted, SERVED_S)
        return found

    # ── clients ───────────────────────────────────────────────────────────────────────────────────────────────

    def _path(self, name: str) -> Path:
        return self._stage.directory / f"{name}-{self._number}"

    def _start_clients(self) -> None:
        self._board = Scoreboard(self._path("scoreboard"))
        words = ["--connections", CONNECTIONS, "--interval-ms", INTERVAL_MS, "--draw-every", 8]
        words += ["--address", GUEST_ADDRESS, "--stall-seconds", STALL_S]
        words += ["--result", self._path("result"), "--scoreboard", self._path("scoreboard")]
        command = [sys.executable, "-m", counter.__name__, *map(str, words)]
        stage = self._stage
        self._clients = stage.processes.start(f"counter-{self._number}", Host.CLIENT, stage.network.client, command)
        stage.cluster.wait("clients connected", lambda: self._board[Slot.SESSIONS_OPEN] >= CONNECTIONS, CLIENTS_S)

    def _end_clients(self) -> CounterResult:
        self._board[Slot.FINISH] = 1
        if self._clients.wait(CLIENTS_S) is None:
            raise LabError("the clients do not end")
        return msgspec.json.decode(self._path("result").read_bytes(), type=CounterResult)
