"""The measurements: each set-up is built, measured and removed before the next one, so that they share nothing. The
nodes are the product's alone, without the twist: its cost would count as theirs.

Processor time is the kernel's own figure for each process, all threads: it includes kernel work for the process, and
also work on behalf of others (the sender carries a frame across a veth pair or a bridge).
"""

import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from pycolo_lab.baseline import client, server
from pycolo_lab.baseline.bridge import BareBridge
from pycolo_lab.baseline.facts import (
    CLIENT,
    PRIMARY,
    SECONDARY,
    SERVER_A,
    SERVER_B,
    Arm,
    BulkResult,
    Load,
    Measured,
)
from pycolo_lab.errors import LabError
from pycolo_lab.interruption import Interruption
from pycolo_lab.namespaces import Namespace
from pycolo_lab.options import Control, LabOptions
from pycolo_lab.processes import Host, Process, Processes
from pycolo_lab.scoreboard import Scoreboard, Slot
from pycolo_lab.stage import START_TIMEOUT_S, Stage
from pycolo_lab.topology import GUEST_ADDRESSES

SHARE: Final = 0.2
SECONDS_MIN: Final = 1.0
"""Share of the run's `seconds` for each load, and its minimum; there are nine loads."""

WARM_UP_S: Final = 0.5
"""Before it, for TCP to open its windows."""

MOVING_S: Final = 10.0
"""The same: so long at most until each transfer has moved."""

CLIENT_EXIT_S: Final = 5.0

ASKING: Final = "ask"
SLOTS: Final = {"download": Slot.DOWNLOAD_BYTES, "upload": Slot.UPLOAD_BYTES}
LAST_QUESTION_S: Final = 1.0
PROBE_EVERY_S: Final = 0.1


class Place(NamedTuple):
    """A set-up for a load: what the client needs, and the processes whose processor time counts."""

    arm: Arm
    directory: Path
    processes: Processes
    client: Namespace
    address: str
    watched: dict[str, list[Process]]


class Reading(NamedTuple):
    """All counters at one time."""

    at_ns: int
    download_bytes: int
    upload_bytes: int
    processor_ns: dict[str, int]


class Baseline:
    """`measure` once. `event` receives each result; `tick` lets a little time pass and may raise."""

    def __init__(
        self,
        options: LabOptions,
        directory: Path,
        guest_port: str,
        event: Callable[[str], None],
        tick: Callable[[], None],
        interruption: Interruption,
    ) -> None:
        self._options = options
        self._directory = directory
        self._guest_port = guest_port
        self._event = event
        self._outer_tick = tick
        self._interruption = interruption
        self._stage: Stage | None = None
        self._polled_s = 0.0
        self._seconds = max(SECONDS_MIN, options.seconds * SHARE)

    def measure(self) -> list[Measured]:
        """Every load in every set-up. Raises `LabError` if one has no result."""
        found = self._over_a_bridge()
        for arm, control in ((Arm.UNCOMPARED, Control.COMPARE), (Arm.PROTECTED, Control.NONE)):
            found += self._through_nodes(arm, control)
        return found

    def _over_a_bridge(self) -> list[Measured]:
        directory = self._make_directory(Arm.BRIDGE)
        processes = Processes(directory)
        try:
            bridge = BareBridge(directory / "netns", self._interruption.look, ipv6=self._options.ipv6)
            bridge.build()
            place = Place(Arm.BRIDGE, directory, processes, bridge.client, self._address(), {})
            place.watched[SERVER_A] = [self._start_server(place, "server", Host.A, bridge.guest)]
            found = self._all_loads(place)
        finally:
            processes.kill_all()
        bridge.delete()
        return found

    def _through_nodes(self, arm: Arm, control: Control) -> list[Measured]:
        directory = self._make_directory(arm)
        options = msgspec.structs.replace(self._options, control=control)
        stage = Stage(options, directory, self._guest_port, self._tick, self._interruption, twisted=False)
        self._stage = stage
        try:
            stage.build_network()
            topology = stage.topology
            nodes = {PRIMARY: [stage.nodes["primary"]], SECONDARY: [stage.nodes["secondary"]]}
            place = Place(arm, directory, stage.processes, topology.client, self._address(), nodes)
            place.watched[SERVER_A] = [self._start_server(place, "server-a", Host.A, topology.guest_a)]
            place.watched[SERVER_B] = [self._start_server(place, "server-b", Host.B, topology.guest_b)]
            stage.wait_until_protected()
            found = self._all_loads(place)
            self._assert_as_told(stage, arm)
        finally:
            self._stage = None
            stage.processes.kill_all()
        for probe in stage.probes.values():
            probe.close()
        stage.topology.delete()
        return found

    def _make_directory(self, arm: Arm) -> Path:
        directory = self._directory / arm.value[0]  # paths of sockets are short
        directory.mkdir()
        return directory

    def _address(self) -> str:
        return GUEST_ADDRESSES[6 if self._options.ipv6 else 4][0]

    def _start_server(self, place: Place, name: str, host: Host, guest: Namespace) -> Process:
        command = ["--address", place.address, "--seed", str(self._options.seed)]
        process = place.processes.start(name, host, guest, [sys.executable, "-m", server.__name__, *command])
        self._until(place, lambda: "ready" in process.log.read_text(), START_TIMEOUT_S, f"{name} did not start")
        return process

    def _assert_as_told(self, stage: Stage, arm: Arm) -> None:
        """Check that a set-up compares if and only if it should."""
        primary = stage.probes["primary"]
        primary.refresh(LAST_QUESTION_S, self._interruption.rest)
        counters = primary.status.counters if primary.status else {}
        divergences, compared = counters.get("divergences", 0), counters.get("compared", 0)
        if divergences:
            raise LabError(f"{_name(arm)}: {divergences} divergences of two deterministic guests")
        if bool(compared) is not (arm is Arm.PROTECTED):
            raise LabError(f"{_name(arm)}: the primary's node compared {compared} frames")

    # ── one place ───────────────────────────────────────────────────────────────────────────────────────────

    def _all_loads(self, place: Place) -> list[Measured]:
        found = {load: self._one_load(place, load) for load in Load}
        alone, both = (found[Load.DOWNLOAD], found[Load.UPLOAD]), found[Load.BOTH]
        speeds = [f"{kind} {_rate(each, kind)}" for kind, each in zip(("download", "upload"), alone, strict=True)]
        together = f"both at once {_rate(both, 'download')} + {_rate(both, 'upload')}"
        self._event(f"{_name(place.arm)}: {', '.join(speeds)}, {together} MB/s")
        return list(found.values())

    def _one_load(self, place: Place, load: Load) -> Measured:
        board_path = place.directory / f"{load.value}.board"
        board = Scoreboard(board_path)
        clients = {kind: self._start_client(place, load, kind, board_path) for kind in (*load.kinds, ASKING)}
        watched = {**place.watched, CLIENT: list(clients.values())}
        self._until(
            place,
            lambda: all(board[SLOTS[kind]] or clients[kind].exit_code() is not None for kind in load.kinds),
            MOVING_S,
            "the transfer did not begin",
        )
        self._interruption.rest(WARM_UP_S)
        before = _read(board, watched)
        self._interruption.rest(self._seconds)
        after = _read(board, watched)
        board[Slot.FINISH] = 1
        for kind, process in clients.items():
            self._wait_for_end(place, kind, process)
        results = {kind: self._result(place, load, kind) for kind in clients}
        return Measured(
            arm=place.arm,
            load=load,
            seconds=(after.at_ns - before.at_ns) / 1e9,
            download_bytes=after.download_bytes - before.download_bytes,
            upload_bytes=after.upload_bytes - before.upload_bytes,
            processor_ns={who: after.processor_ns[who] - before.processor_ns[who] for who in watched},
            answers_ns=[
                each.took_ns
                for each in results[ASKING].answers
                if before.at_ns <= each.asked_ns and each.asked_ns + each.took_ns <= after.at_ns
            ],
            checked_bytes=sum(results[kind].checked_bytes for kind in load.kinds),
        )

    def _start_client(self, place: Place, load: Load, kind: str, board: Path) -> Process:
        given = {
            "--address": place.address,
            "--result": _result_path(place, load, kind),
            "--seed": self._options.seed,
            "--stall-seconds": self._options.stall_seconds,
            "--scoreboard": board,
        }
        options = [str(word) for pair in given.items() for word in pair]
        command = [sys.executable, "-m", client.__name__, kind, *options]
        return place.processes.start(f"{load.value}-{kind}", Host.CLIENT, place.client, command)

    def _wait_for_end(self, place: Place, kind: str, process: Process) -> None:
        patience_s = self._options.stall_seconds + CLIENT_EXIT_S
        self._until(place, lambda: process.exit_code() is not None, patience_s, f"the {kind} client did not end")
        if process.exit_code() != 0:
            raise LabError(f"{_name(place.arm)}: the {kind} client failed: {process.last_words()}")

    def _result(self, place: Place, load: Load, kind: str) -> BulkResult:
        result = msgspec.json.decode(_result_path(place, load, kind).read_bytes(), type=BulkResult)
        if result.error is not None:
            raise LabError(f"{_name(place.arm)}: {kind}: {result.error}")
        return result

    # ── time ────────────────────────────────────────────────────────────────────────────────────────────────

    def _until(self, place: Place, condition: Callable[[], bool], timeout_s: float, otherwise: str) -> None:
        deadline = time.monotonic() + timeout_s
        while not condition():
            place.processes.assert_running(*(each for watched in place.watched.values() for each in watched))
            if time.monotonic() > deadline:
                raise LabError(f"{_name(place.arm)}: {otherwise} within {timeout_s:.0f} s")
            self._tick()

    def _tick(self) -> None:
        self._outer_tick()
        stage = self._stage
        if stage is None:
            return
        stage.assert_alive()
        now = time.monotonic()
        if now - self._polled_s >= PROBE_EVERY_S:
            self._polled_s = now
            for probe in stage.probes.values():
                probe.poll()


def processor_ns(pid: int) -> int:
    """Processor time of a running process of this user, all its threads, including ended ones.

    Its own clock: how the kernel writes it into a clock's number is in clock_getcpuclockid(3)'s source, the bits of
    linux/posix-timers.h: ~pid, three bits of which CPUCLOCK_SCHED is 2.
    """
    return time.clock_gettime_ns(~pid << 3 | 2)


def _read(board: Scoreboard, watched: dict[str, list[Process]]) -> Reading:
    return Reading(
        time.monotonic_ns(),
        board[Slot.DOWNLOAD_BYTES],
        board[Slot.UPLOAD_BYTES],
        {who: _processor_ns(processes) for who, processes in watched.items()},
    )


def _processor_ns(processes: Iterable[Process]) -> int:
    try:
        return sum(processor_ns(process.pid) for process in processes)
    except OSError as error:
        raise LabError(f"baseline: a process ended unexpectedly: {error.strerror}") from error


def _result_path(place: Place, load: Load, kind: str) -> Path:
    return place.directory / f"{load.value}-{kind}.json"


def _name(arm: Arm) -> str:
    words = {
        Arm.BRIDGE: "over a bare bridge",
        Arm.UNCOMPARED: "through nodes that compare nothing",
        Arm.PROTECTED: "protected",
    }
    return f"baseline, {words[arm]}"


def _rate(measured: Measured, kind: str) -> str:
    moved = measured.download_bytes if kind == "download" else measured.upload_bytes
    return f"{moved / measured.seconds / 1e6:,.0f}"
