"""The run: the user's server in both guests, the user's client, host A killed in the middle.

It gathers facts and judges nothing.
"""

import signal
import sys
import time
from pathlib import Path
from typing import Final, Protocol, TextIO

import msgspec

from pycolo_lab.errors import LabError, RunInterruptedError
from pycolo_lab.facts import Event, NodeStatus
from pycolo_lab.held import Hold
from pycolo_lab.interruption import Interruption
from pycolo_lab.namespaces import mount
from pycolo_lab.observe import SHOWN, read_counters
from pycolo_lab.options import LabOptions
from pycolo_lab.own.facts import ClientsResult, Divergences, Fault, OwnFacts
from pycolo_lab.own.options import OwnOptions
from pycolo_lab.own.runner import ENDINGS, NATURAL_END_S, Job
from pycolo_lab.own.servers import Servers
from pycolo_lab.own.socktable import ESTABLISHED, DatagramTable, Socket, SocketTable
from pycolo_lab.processes import Host, Process
from pycolo_lab.prompt import END, FAILOVER, KILL
from pycolo_lab.provenance import setting
from pycolo_lab.scoreboard import Scoreboard, Slot
from pycolo_lab.stage import Stage
from pycolo_lab.topology import choose_guest_port

TICK_S: Final = 0.01
STATUS_EVERY_NS: Final = 100_000_000
PROGRESS_NS: Final = 1_000_000_000

KILL_AT: Final = 0.5
"""Share of `seconds`."""

IN_FLIGHT_S: Final = 2.0
"""So long the kill waits for a moment in which something is in flight."""

FLIGHT_LOOK_S: Final = 0.0005

LOAD_S_MAX: Final = 5.0
"""So long the kill waits until the nodes have compared anything at all."""

AFTER_KILL_S_MIN: Final = 2.5
LAST_QUESTION_S: Final = 0.2
"""Host A's node is cut off then; its last word is about what had diverged."""

HOST_A_GONE_S: Final = 1.0
RUNNER_EXIT_S: Final = NATURAL_END_S + sum(seconds for _, seconds in ENDINGS) + 5.0
CLIENT_COUNTERS: Final = ("TcpEstabResets", "TcpOutRsts", "TcpRetransSegs", "TcpExtTCPTimeouts", "TcpAttemptFails")


class Lines(Protocol):
    """The observers: `pycolo_lab.view` has one."""

    def event(self, event: Event, started_ns: int) -> None:
        """Something happened."""

    def say(self, since_start_ns: int, text: str) -> None:
        """How it stands."""

    def close(self) -> None:
        """Nothing more will happen."""


class OwnScenario:
    """One run in `directory`; `run` is called once. `out`: where a held run talks with the person."""

    def __init__(
        self,
        options: LabOptions,
        own: OwnOptions,
        directory: Path,
        interruption: Interruption,
        *,
        view: Lines,
        out: TextIO,
    ) -> None:
        self._options = options
        self._own = own
        self._directory = directory
        self._view = view
        self._interruption = interruption
        self._board = Scoreboard(directory / "scoreboard")
        self._runner: Process | None = None
        self._asked_ns = self._said_ns = 0
        self._takeover_noticed = False
        guest_port, self._port_why = choose_guest_port(options.nic)
        self._stage = Stage(options, directory, guest_port, self._tick, interruption)
        self._facts = OwnFacts(
            setting=setting(options, guest_port),
            serve=own.serve.text,
            client=own.client.text if own.client else None,
            host=self._stage.topology.guest_address,
            port=own.port,
            udp=own.udp,
            started_ns=time.monotonic_ns(),
        )
        self._servers = Servers(own, self._stage, directory)
        self._hold = Hold(self._stage, as_root=self._facts.setting.as_root, more=self._progress, out=out)

    def run(self) -> OwnFacts:
        """Return the facts, also of a run that went wrong under load.

        Raises `LabError` when it did not come to a load at all, `RunInterruptedError` on a signal. Every process is
        gone when this returns or raises.
        """
        try:
            self._build()
            try:
                self._load()
                if self._until_the_fault():
                    self._go_on()
            except RunInterruptedError:
                raise
            except LabError as error:
                self._facts.trouble.append(str(error))
                self._event(f"stopped: {error}")
            self._finish()
            self._collect()
        finally:
            self._stage.processes.kill_all()
            self._view.close()
        return self._facts

    # ── before the fault ────────────────────────────────────────────────────────────────────────────────────

    def _build(self) -> None:
        wires = "TAP devices" if self._facts.setting.guest_port == "tap" else "veth pairs"
        self._event(
            f"building: a client, a LAN, two hosts, two guests with one address behind {wires} ({self._port_why})"
        )
        self._stage.build_network()
        self._servers.start()
        self._facts.notes = self._servers.notes
        for note in self._servers.notes:
            self._event(f"note: {note}")
        self._event(f"your server listens on {self._own.protocol} port {self._own.port} in both guests")
        self._stage.wait_until_protected()
        self._event("protected: guest B runs in lock-step behind guest A")

    def _load(self) -> None:
        facts, own = self._facts, self._own
        facts.counters = {name: {"before": value} for name, value in self._guest_b_counters().items()}
        facts.client_counters = {name: {"before": value} for name, value in self._client_counters().items()}
        # On a file system of their own: who fills it is told so, and nothing else is.
        clients = self._directory / "clients"
        clients.mkdir()
        mount("colo-clients", str(clients), "tmpfs", 0, "mode=0755")
        job = Job(
            command=own.client,
            places=own.clients,
            host=facts.host,
            port=own.port,
            udp=own.udp,
            interface="eth0",
            directory=str(clients),
            at_kill=str(self._directory / "at-kill.json"),
            result=str(self._directory / "clients.json"),
            scoreboard=str(self._directory / "scoreboard"),
        )
        path = self._directory / "job.json"
        path.write_bytes(msgspec.json.encode(job))
        command = [sys.executable, "-m", "pycolo_lab.own.runner", str(path)]
        facts.load_started_ns = time.monotonic_ns()
        self._runner = self._stage.processes.start("clients", Host.CLIENT, self._stage.topology.client, command)
        self._stage.expect(self._runner)
        if own.client is not None:
            self._event(f"your client, {own.clients} at a time, each restarted when it ends")
        if self._options.hold:
            self._hold.rooms = self._servers.rooms
            self._hold.open(f"your server is at {facts.host} port {own.port}")

    def _until_the_fault(self) -> bool:
        """False when it does not come to one: ended at the prompt, or a client failed."""
        if self._options.hold:
            try:
                while (command := self._hold.command()) is None and not self._client_failed():
                    self._tick()
            except RunInterruptedError:
                self._interruption.forget()
                command = END
            if command == END or self._client_failed():
                return False
        else:
            command = KILL
            self._wait(self._options.seconds * KILL_AT)
        self._wait_for_load()
        if self._client_failed():
            return False
        if command == KILL:
            self._power_off()
        else:
            self._switch_over()
        return True

    def _client_failed(self) -> bool:
        return self._board[Slot.RUNS_FAILED] > 0

    def _wait_for_load(self) -> None:
        """A client takes its time to begin, and a person may be quick."""
        deadline = time.monotonic() + LOAD_S_MAX
        while time.monotonic() < deadline and not self._client_failed():
            primary = self._stage.probes["primary"].status
            if primary is not None and primary.counters.get("compared"):
                return
            self._tick()

    def _client_table(self) -> SocketTable | DatagramTable:
        with self._stage.topology.client.entered():
            return DatagramTable() if self._own.udp else SocketTable(self._facts.host, self._own.port)

    def _wait_for_flight(self, table: SocketTable | DatagramTable) -> None:
        """The kill comes at a moment when something is in flight, within IN_FLIGHT_S; it may be so for a millisecond
        only, so that nothing else is done between this look and the kill."""
        deadline = time.monotonic() + IN_FLIGHT_S
        while time.monotonic() < deadline and not any(each.state == ESTABLISHED for each in look_at(table)):
            self._interruption.look()
            time.sleep(FLIGHT_LOOK_S)

    def _mark_the_fault(self, at_ns: int, table: SocketTable | DatagramTable) -> None:
        """What is in flight now is what counts; the runner finds it as soon as the scoreboard says so."""
        (self._directory / "at-kill.json").write_bytes(msgspec.json.encode(look_at(table)))
        self._board[Slot.KILLED_AT_NS] = at_ns
        table.close()

    # ── the fault ───────────────────────────────────────────────────────────────────────────────────────────

    def _power_off(self) -> None:
        stage = self._stage
        self._before_the_fault()
        table = self._client_table()
        self._wait_for_flight(table)
        at_ns = time.monotonic_ns()
        # The cables first: nothing that host A says from here on reaches a client. So it may still be asked.
        stage.topology.cut_host_a()
        self._mark_the_fault(at_ns, table)
        self._ask_what_diverged()
        stage.processes.kill_host(Host.A)
        took_ms = (time.monotonic_ns() - at_ns) / 1e6
        self._facts.fault = Fault(at_ns=at_ns, how=KILL)
        text = f"host A is dead: both cables pulled, its node and its guest killed within {took_ms:.1f} ms"
        self._event(text, at_ns)
        if self._options.hold:
            self._hold.killed()

    def _switch_over(self) -> None:
        """As an operator moves the service: `colo failover` on host B, while host A lives."""
        self._before_the_fault()
        self._ask_what_diverged()
        table = self._client_table()
        self._wait_for_flight(table)
        at_ns = time.monotonic_ns()
        self._mark_the_fault(at_ns, table)
        answer = self._hold.failover()
        self._facts.fault = Fault(at_ns=at_ns, how=FAILOVER)
        self._event(f"host B was told to serve; {answer}", at_ns)
        self._hold.failed_over()

    def _before_the_fault(self) -> None:
        stage, facts = self._stage, self._facts
        for probe in stage.probes.values():
            probe.refresh(0.3, self._interruption.rest)
        facts.primary = stage.probes["primary"].status
        for name, value in self._guest_b_counters().items():
            facts.counters[name]["kill"] = value
        for name, value in self._client_counters().items():
            facts.client_counters[name]["kill"] = value
        self._tick()
        stage.forget_host_a()

    def _ask_what_diverged(self) -> None:
        answer = self._hold.remember_divergences(LAST_QUESTION_S)
        if answer is not None:
            self._facts.divergences = msgspec.convert(answer, Divergences)

    def _go_on(self) -> None:
        fault, is_held = self._facts.fault, self._options.hold
        assert fault is not None
        rest_s = 0.0 if is_held else self._options.seconds * (1 - KILL_AT)
        end_ns = fault.at_ns + int(max(AFTER_KILL_S_MIN, rest_s) * 1e9)
        is_over, is_gone = not is_held, fault.how != KILL
        while time.monotonic_ns() < end_ns or not is_over:
            try:
                self._tick()
                is_over = is_over or self._hold.is_over(self._kill_what_is_left)
            except RunInterruptedError:
                if is_over:
                    raise
                self._interruption.forget()  # it was the answer to the prompt
                is_over = True
            if not is_gone and time.monotonic_ns() > fault.at_ns + HOST_A_GONE_S * 1e9:
                self._stage.topology.delete_host_a()
                is_gone = True

    def _kill_what_is_left(self) -> None:
        """After a failover: host A has been serving nothing since."""
        self._stage.topology.cut_host_a()
        self._stage.processes.kill_host(Host.A)
        self._event("host A is dead; host B served already")

    # ── after it ────────────────────────────────────────────────────────────────────────────────────────────

    def _finish(self) -> None:
        runner = self._runner
        if runner is None:
            return
        if self._own.client is not None and self._facts.fault is not None:
            self._event("ending the clients")
        self._board[Slot.FINISH] = 1
        deadline = time.monotonic() + RUNNER_EXIT_S
        while runner.exit_code() is None and time.monotonic() < deadline:
            self._interruption.rest(TICK_S)
        if runner.exit_code() is None:
            runner.send(signal.SIGKILL)
            self._facts.trouble.append("the client runner did not end and was killed")
        elif runner.exit_code() != 0:
            self._facts.trouble.append(f"the client runner failed: {runner.last_words()}")

    def _collect(self) -> None:
        facts = self._facts
        try:
            facts.clients = msgspec.json.decode((self._directory / "clients.json").read_bytes(), type=ClientsResult)
        except (FileNotFoundError, msgspec.DecodeError):
            facts.clients = None
        for name, value in self._guest_b_counters().items():
            facts.counters.setdefault(name, {})["after"] = value
        for name, value in self._client_counters().items():
            facts.client_counters.setdefault(name, {})["after"] = value
        if facts.fault is None:
            self._ask_what_diverged()
        secondary = self._stage.probes["secondary"]
        secondary.refresh(1.0, self._interruption.rest)
        facts.secondary = secondary.status
        self._notice_takeover(facts.secondary)
        facts.ended_ns = time.monotonic_ns()

    def _notice_takeover(self, status: NodeStatus | None) -> None:
        if self._takeover_noticed or status is None or status.takeover is None:
            return
        self._takeover_noticed = True
        takeover = status.takeover
        if self._facts.fault is None or self._facts.fault.how == KILL:
            self._event("host B misses the heartbeats of host A", takeover.suspected_ns)
            self._event("host B decides to take over", takeover.decided_ns)
        self._event(f"takeover done, {takeover.resent} frames sent again", takeover.done_ns)

    def _guest_b_counters(self) -> dict[str, int]:
        found = read_counters(self._stage.topology.guest_b)
        return {name: found.get(name, 0) for name in SHOWN}

    def _client_counters(self) -> dict[str, int]:
        found = read_counters(self._stage.topology.client)
        return {name: found.get(name, 0) for name in CLIENT_COUNTERS}

    def _progress(self) -> list[str]:
        board = self._board
        open_now = f"{board[Slot.CONNECTIONS_OPEN]} connections open" if not self._own.udp else ""
        if self._own.client is None:
            return [f"your clients: {open_now or 'not counted'}"]
        runs = f"{board[Slot.RUNS_RUNNING]} under way, {board[Slot.RUNS_ENDED]} succeeded"
        return [
            f"runs of your client: {runs}, {board[Slot.RUNS_FAILED]} failed" + (f"; {open_now}" if open_now else "")
        ]

    # ── time ────────────────────────────────────────────────────────────────────────────────────────────────

    def _event(self, text: str, at_ns: int | None = None) -> None:
        event = Event(at_ns or time.monotonic_ns(), text)
        self._facts.events.append(event)
        self._view.event(event, self._facts.started_ns)

    def _wait(self, seconds: float) -> None:
        """A client that fails ends it early."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and not self._client_failed():
            self._tick()

    def _tick(self) -> None:
        """Sleep a little and look at everything. Raises `LabError` when something that should run has ended."""
        time.sleep(TICK_S)
        self._interruption.look()
        stage = self._stage
        stage.assert_alive()
        now = time.monotonic_ns()
        if now - self._asked_ns >= STATUS_EVERY_NS:
            self._asked_ns = now
            for probe in stage.probes.values():
                probe.poll()
            self._notice_takeover(stage.probes["secondary"].status)
            self._servers.bound_output()
        # The kill begins a second of its own.
        since_ns = max(self._said_ns, self._facts.load_started_ns, self._facts.fault.at_ns if self._facts.fault else 0)
        if self._facts.load_started_ns and not self._options.hold and now - since_ns >= PROGRESS_NS:
            self._said_ns = now
            for line in self._progress():
                self._view.say(now - self._facts.started_ns, line)


def look_at(table: SocketTable | DatagramTable) -> list[Socket]:
    """Nothing where the kernel does not answer such questions: the runner says so."""
    try:
        return table.read()
    except OSError:
        return []
