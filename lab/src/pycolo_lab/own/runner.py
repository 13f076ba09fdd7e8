"""Runs the user's client repeatedly, in the client's namespace, and watches its connections.

A separate process, controlled through the scoreboard: KILLED_AT_NS when host A was cut off, FINISH when no more runs
are to be started. It leaves one JSON result.
"""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections import deque
from pathlib import Path
from typing import Final

import msgspec

from pycolo_lab.clients import leave_result
from pycolo_lab.namespaces import die_with_parent
from pycolo_lab.own.commands import Command
from pycolo_lab.own.connections import Connections
from pycolo_lab.own.facts import ClientsResult, Fate, Run
from pycolo_lab.own.farewells import Farewells
from pycolo_lab.own.socktable import DatagramTable, Socket, SocketTable
from pycolo_lab.scoreboard import Scoreboard, Slot

TICK_S: Final = 0.02
"""One look at processes and connections: the resolution of their pauses."""

PAUSE_S: Final = 0.1
"""Between two runs in one place: a client that ends at once is not to take the processor from the nodes."""

NEW_CONNECTION_S: Final = 1.0
"""After the kill one more run is started, whatever the others do; not where one at a time was asked for."""

NATURAL_END_S: Final = 1.0
"""At the end a run may still finish by itself; what goes on is asked with the signals below."""

ENDINGS: Final = ((signal.SIGINT, 2.0), (signal.SIGTERM, 2.0), (signal.SIGKILL, 2.0))
"""Each with the seconds that it is given."""

RUNS_KEPT: Final = 500
"""Of the runs about which there is nothing to tell."""

LAST_BYTES: Final = 4096
LAST_LINES: Final = 4
WORDS_CHARACTERS_MAX: Final = 300
NOT_STARTED: Final = 126
"""As a shell says that a program is there and cannot be run."""

OUTPUT_BYTES_MAX: Final = 1 << 20
"""A client's output is cut when it is longer; only its end is looked at."""


class Job(msgspec.Struct, kw_only=True):
    """What the runner is told, as a JSON file. `command` None: the person has a client of their own."""

    command: Command | None
    places: int
    host: str
    port: int
    udp: bool
    interface: str
    directory: str
    at_kill: str
    """Where the table of connections at the kill is, when the scoreboard says that host A was cut off."""
    result: str
    scoreboard: str


class Place:
    """One of the places in which one run follows the other."""

    def __init__(self, number: int, directory: Path) -> None:
        self.directory = directory / f"client-{number}"
        self.log = directory / f"client-{number}.log"
        self.process: subprocess.Popen[bytes] | None = None
        self.number = 0
        self.started_ns = 0
        self.free_since = 0.0

    def start(self, command: Command, number: int, host: str, port: int) -> None:
        """Run `number` begins. Raises OSError when the program cannot be started."""
        words = command.filled({"host": host, "port": port, "dir": str(self.directory), "n": number})
        self.started_ns = time.monotonic_ns()
        self.number = number
        shutil.rmtree(self.directory, ignore_errors=True)
        self.directory.mkdir()
        self.log.write_bytes(b"")
        with self.log.open("ab") as output:
            self.process = subprocess.Popen(
                words,
                cwd=self.directory,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=die_with_parent,  # noqa: PLW1509 - this process has one thread
            )

    def send(self, number: signal.Signals) -> None:
        """To the run and to what it has started."""
        if self.process is not None:
            try:
                os.killpg(self.process.pid, number)
            except ProcessLookupError:
                return

    def last_words(self) -> str:
        """The end of the run's output on one line."""
        with self.log.open("rb") as output:
            output.seek(max(0, output.seek(0, os.SEEK_END) - LAST_BYTES))
            # A progress line is written over and over.
            lines = output.read().replace(b"\r", b"\n").decode(errors="replace").splitlines()
        said = [line.strip() for line in lines if line.strip()]
        return clean(" | ".join(said[-LAST_LINES:])) or "no output"


class Runner:
    """All places, and the connections of what runs in them."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._board = Scoreboard(Path(job.scoreboard))
        directory = Path(job.directory)
        # One more, for the run after the kill; where one at a time was asked for there is never a second one.
        count = 0 if job.command is None else job.places if job.places == 1 else job.places + 1
        self._places = [Place(number, directory) for number in range(count)]
        self._extra = self._places[job.places :]
        self._started = 0
        self._ended_well = 0
        self._quiet: deque[Run] = deque(maxlen=RUNS_KEPT)
        self._kept: list[Run] = []
        self._killed_ns = 0
        self._connections = Connections(udp=job.udp)
        self._blind: str | None = None
        self._table: SocketTable | DatagramTable | None = DatagramTable() if job.udp else None
        self._farewells: Farewells | None = None
        if not job.udp:
            try:
                self._table = SocketTable(job.host, job.port)
                self._table.read()
                self._farewells = Farewells(job.interface, job.port)
            except OSError as error:
                self._blind = error.strerror or str(error)
                self._table = None

    def run(self) -> None:
        """Until FINISH; returns when every run is over."""
        while not self._board[Slot.FINISH]:
            self._look()
            self._start_runs()
            time.sleep(TICK_S)
        self._look()
        result = self._account()
        # The connections are judged before we end what has no end of its own.
        self._bring_to_an_end()
        result.runs = sorted([*self._quiet, *self._kept], key=lambda run: run.number)
        result.runs_ended_well = self._ended_well
        leave_result(Path(self._job.result), result)

    def _look(self) -> None:
        now = time.monotonic_ns()
        if self._farewells is not None:
            self._farewells.look(now)
        if self._table is not None:
            self._connections.seen(self._table.read(), now)
        if not self._killed_ns and self._board[Slot.KILLED_AT_NS]:
            self._note_kill()
        self._reap(now)
        running = sum(1 for place in self._places if place.process is not None)
        self._board[Slot.RUNS_RUNNING] = running
        self._board[Slot.CONNECTIONS_OPEN] = self._connections.established
        self._board[Slot.RUNS_ENDED] = self._ended_well

    def _note_kill(self) -> None:
        self._killed_ns = self._board[Slot.KILLED_AT_NS]
        sessions = {place.process.pid: place.number for place in self._places if place.process is not None}
        table = msgspec.json.decode(Path(self._job.at_kill).read_bytes(), type=list[Socket])
        self._connections.killed(self._killed_ns, table, socket_owners(sessions))

    def _start_runs(self) -> None:
        command = self._job.command
        if command is None:
            return
        now, failed = time.monotonic(), self._board[Slot.RUNS_FAILED]
        wanted = self._places[: self._job.places]
        if self._killed_ns and time.monotonic_ns() - self._killed_ns > NEW_CONNECTION_S * 1e9:
            wanted, self._extra = [*wanted, *self._extra], []
        for place in wanted:
            if place.process is None and now - place.free_since >= PAUSE_S and not (failed and not self._killed_ns):
                self._started += 1
                self._start(place, command)

    def _start(self, place: Place, command: Command) -> None:
        try:
            place.start(command, self._started, self._job.host, self._job.port)
        except OSError as error:
            place.free_since = time.monotonic()
            words = f"{command.words[0]}: {error.strerror}"
            now = time.monotonic_ns()
            self._keep(Run(number=self._started, started_ns=now, ended_ns=now, code=NOT_STARTED, words=words))

    def _reap(self, now_ns: int, *, by_us: bool = False) -> None:
        for place in self._places:
            code = None if place.process is None else place.process.poll()
            if code is None:
                if place.process is not None and place.log.stat().st_size > OUTPUT_BYTES_MAX:
                    os.truncate(place.log, 0)
                continue
            place.process, place.free_since = None, time.monotonic()
            run = Run(
                number=place.number,
                started_ns=place.started_ns,
                ended_ns=now_ns,
                code=code if code >= 0 else 128 - code,
                ended_by_us=by_us,
            )
            if run.code != 0:
                run.words = place.last_words()
            self._keep(run)

    def _keep(self, run: Run) -> None:
        if run.failed:
            self._board[Slot.RUNS_FAILED] += 1
        else:
            self._ended_well += 1
        across = self._killed_ns and run.started_ns <= self._killed_ns <= run.ended_ns
        (self._kept if run.code != 0 or across else self._quiet).append(run)

    def _account(self) -> ClientsResult:
        now = time.monotonic_ns()
        farewells = self._farewells.first if self._farewells is not None else {}
        accepted = self._farewells.accepted if self._farewells is not None else {}
        records = self._connections.records(now, farewells)
        new = [port for port, at_ns in accepted.items() if self._killed_ns and at_ns > self._killed_ns]
        ends = [farewells[port] for port in new if port in farewells]
        resets = sum(1 for record in records if record.fate is Fate.RESET)
        resets += sum(1 for end in ends if end.how == "rst" and end.by_guest)
        return ClientsResult(
            runs=[],
            runs_ended_well=0,
            connections=records,
            accepted_after=len(new),
            resets_after=resets,
            blind=self._blind,
        )

    def _bring_to_an_end(self) -> None:
        self._wait_for_ends(NATURAL_END_S, by_us=False)
        for number, seconds in ENDINGS:
            for place in self._places:
                place.send(number)
            self._wait_for_ends(seconds, by_us=True)

    def _wait_for_ends(self, seconds: float, *, by_us: bool) -> None:
        deadline = time.monotonic() + seconds
        while any(place.process is not None for place in self._places) and time.monotonic() < deadline:
            self._reap(time.monotonic_ns(), by_us=by_us)
            time.sleep(TICK_S)


def clean(text: str) -> str:
    """A program's own words, shortened, without terminal sequences."""
    text = text.replace("\t", " ")
    shown = "".join(each if each.isprintable() else "\N{REPLACEMENT CHARACTER}" for each in text)
    half = WORDS_CHARACTERS_MAX // 2
    return shown if len(shown) <= WORDS_CHARACTERS_MAX else f"{shown[:half]} … {shown[-half:]}"


def socket_owners(sessions: dict[int, int]) -> dict[int, int]:
    """Inode of a socket -> what `sessions` says about the session of a process that has it open."""
    found: dict[int, int] = {}
    for entry in os.scandir("/proc"):
        if not entry.name.isdigit():
            continue
        try:
            stat = Path(entry.path, "stat").read_text()
            owner = sessions.get(int(stat.rpartition(")")[2].split()[3]))
            if owner is None:
                continue
            for file in os.scandir(f"{entry.path}/fd"):
                target = os.readlink(file.path)
                if target.startswith("socket:["):
                    found[int(target[8:-1])] = owner
        except OSError:  # it has ended meanwhile
            continue
    return found


def main() -> None:
    """Run one job."""
    Runner(msgspec.json.decode(Path(sys.argv[1]).read_bytes(), type=Job)).run()


if __name__ == "__main__":
    main()
