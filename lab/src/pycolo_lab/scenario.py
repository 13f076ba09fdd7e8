"""The run: measure a baseline if requested, build, load, power off host A in the middle, go on, collect. It records
facts without judgement."""

import signal
import sys
import time
from pathlib import Path
from typing import Final, Protocol, TextIO, TypeVar

import msgspec

from pycolo_lab import guest_server
from pycolo_lab.baseline.runner import Baseline
from pycolo_lab.errors import LabError, RunInterruptedError
from pycolo_lab.facts import (
    Event,
    Kill,
    NodeStatus,
    ProbeResult,
    RunFacts,
    Sample,
    SessionsResult,
    TransferResult,
)
from pycolo_lab.faults import power_off_host_a, stopped
from pycolo_lab.held import Hold
from pycolo_lab.interruption import LOOK_S, Interruption
from pycolo_lab.observe import SHOWN, read_counters
from pycolo_lab.options import Control, LabOptions
from pycolo_lab.processes import Host, Process
from pycolo_lab.prompt import END, FAILOVER, KILL
from pycolo_lab.provenance import setting
from pycolo_lab.scoreboard import Scoreboard, Slot
from pycolo_lab.stage import Stage
from pycolo_lab.topology import choose_guest_port

TICK_S: Final = 0.005
"""One look at the scoreboard: the resolution of the curves around the kill."""

STATUS_EVERY_NS: Final = 100_000_000
SHOW_EVERY_NS: Final = 100_000_000

TRANSFERS_START: Final = 0.15
SESSIONS_OPENED_BY: Final = 0.45
KILL_AT: Final = 0.5
"""Shares of `seconds`."""

SESSIONS_LATE_S: Final = 5.0
"""A busy machine may take that much longer to open them; then the kill comes all the same."""

KILL_PROGRESS: Final = 0.35
KILL_PROGRESS_LATEST: Final = 0.75
"""Transfers with a size: the kill comes when the slower one has that share of it, or the faster one the
other."""

MOVING_NS: Final = 500_000_000
"""A transfer is in flight when it moved within this time before the kill."""

LOAD_S_MAX: Final = 30.0
"""A run is held when the whole load is there, or after so long."""

TRANSFERS_LATE_S: Final = 10.0
"""On a busy machine a transfer has not moved yet when the fault is due: it waits for that, but not for ever."""

LATE_SESSIONS_SHARE: Final = 10
LATE_SESSIONS_MIN: Final = 3
"""For ten sessions before the kill one is opened after it, and never fewer than three."""

AFTER_KILL_S_MIN: Final = 2.5
PROBE_AFTER_S: Final = 1.0
STOP_S: Final = 1.0
"""The control without comparison: guest B's server stands still for that long, and guest A's answers go out
all the same. The client forgets what guest A took and guest B had no room for, and reads on beyond what guest
B has sent."""

STOP_BEFORE_KILL_S: Final = 0.2

LAST_QUESTION_S: Final = 0.2
"""To a node that is about to die."""

CLIENT_EXIT_S: Final = 5.0
"""A client gives up by itself after `stall_seconds`; this comes on top, for a machine that is busy."""

Result = TypeVar("Result", TransferResult, SessionsResult, ProbeResult)


class Live(msgspec.Struct, kw_only=True):
    """What the view gets to see, ten times a second."""

    phase: str
    now_ns: int
    options: LabOptions
    facts: RunFacts
    sessions_open: int
    sessions_failed: int
    primary: NodeStatus | None
    secondary: NodeStatus | None


class View(Protocol):
    """The observers: see `pycolo_lab.view`."""

    def event(self, event: Event, started_ns: int) -> None:
        """Something happened."""

    def show(self, live: Live) -> None:
        """This is how it stands."""

    def close(self) -> None:
        """The terminal is to be used by others now."""


class Scenario:
    """One run in `directory`; `run` is called once."""

    def __init__(
        self, options: LabOptions, directory: Path, view: View, interruption: Interruption, out: TextIO
    ) -> None:
        """`out`: the user's terminal, for a held run."""
        self._options = options
        self._directory = directory
        self._view = view
        self._board = Scoreboard(directory / "scoreboard")
        self._loads: dict[str, Process] = {}
        self._phase = "baseline" if options.baseline else "building"
        self._asked_ns = self._shown_ns = 0
        self._client_resets_before = 0
        self._takeover_noticed = False
        guest_port, self._port_why = choose_guest_port(options.nic)
        self._facts = RunFacts(
            setting=setting(options, guest_port),
            started_ns=time.monotonic_ns(),
        )
        self._interruption = interruption
        self._stage = Stage(options, directory, guest_port, self._tick, interruption)
        self._hold = Hold(self._stage, as_root=self._facts.setting.as_root, more=self._progress, out=out)

    def run(self) -> RunFacts:
        """Return the facts, also of a run that went wrong under load.

        Raises `LabError` when it did not come to a load at all, `RunInterruptedError` on a signal. Every
        process is gone when this returns or raises.
        """
        try:
            if self._options.baseline:
                self._measure_baseline()
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

    # ── before the load ─────────────────────────────────────────────────────────────────────────────────────

    def _measure_baseline(self) -> None:
        directory = self._directory / "baseline"
        directory.mkdir()
        port = self._facts.setting.guest_port
        self._event("baseline: the same transfers without and with protection, before any kill")
        baseline = Baseline(self._options, directory, port, self._event, self._tick, self._interruption)
        self._facts.baseline = baseline.measure()

    def _build(self) -> None:
        self._phase = "building"
        wires = "TAP devices" if self._facts.setting.guest_port == "tap" else "veth pairs"
        self._event(
            f"building: a client, a LAN, two hosts, two guests with one address behind {wires} ({self._port_why})"
        )
        self._stage.build()
        self._event("protected: guest B runs in lock-step behind guest A")

    # ── the load and its middle ─────────────────────────────────────────────────────────────────────────────

    def _load(self) -> None:
        options, facts = self._options, self._facts
        facts.counters = {name: {"before": value} for name, value in self._guest_b_counters().items()}
        self._client_resets_before = read_counters(self._stage.topology.client).get("TcpEstabResets", 0)
        self._phase = "under load"
        facts.load_started_ns = time.monotonic_ns()
        late = max(LATE_SESSIONS_MIN, options.sessions // LATE_SESSIONS_SHARE)
        window = f"{options.seconds * SESSIONS_OPENED_BY:.3f}"
        self._start_client(
            "sessions",
            "sessions",
            "--count",
            str(options.sessions),
            "--late",
            str(late),
            "--open-over",
            window,
        )
        self._event(f"{options.sessions} small sessions, opened one after another")
        if options.size_bytes is None:
            self._for(options.seconds * TRANSFERS_START)
        else:
            # Transfers with an end of their own may be short: they wait for the sessions.
            while not self._sessions_are_open():
                self._tick()
        size = str(options.size_bytes or 0)
        self._start_client("download", "clients", "download", "--size", size)
        self._start_client("upload", "clients", "upload", "--size", size)
        self._event("a large download and a large upload")

    def _until_the_fault(self) -> bool:
        """False when the person ends the run before."""
        command: str | None = KILL
        if self._options.hold:
            deadline = time.monotonic() + LOAD_S_MAX
            while not (self._both_move() and self._sessions_are_open()) and time.monotonic() < deadline:
                self._tick()
            self._view.close()
            self._hold.open(f"the built-in server is at {self._stage.topology.guest_address} port {guest_server.PORT}")
            try:
                while (command := self._hold.command()) is None:
                    self._tick()
            except RunInterruptedError:
                self._interruption.forget()
                command = END
        else:
            while not self._is_time_to_kill():
                self._tick()
        if command == END:
            self._facts.ended_at_prompt = True
            return False
        if self._options.control is Control.COMPARE:
            self._event(f"control: guest B's server stands still for {STOP_S:.0f} s")
            with stopped(self._stage.server_b):
                self._for(STOP_S)
            self._for(STOP_BEFORE_KILL_S)
        if command == KILL:
            self._power_off()
        else:
            self._switch_over()
        return True

    def _sessions_are_open(self) -> bool:
        opened = self._board[Slot.SESSIONS_OPEN] + self._board[Slot.SESSIONS_FAILED]
        since_s = (time.monotonic_ns() - self._facts.load_started_ns) / 1e9
        late_s = since_s - self._options.seconds * SESSIONS_OPENED_BY
        return opened >= self._options.sessions or late_s > SESSIONS_LATE_S

    def _is_time_to_kill(self) -> bool:
        size = self._options.size_bytes
        if size is None or self._options.control is Control.REWRITE:
            # Without rewriting there may be no progress to wait for: guest B never agrees.
            since_s = (time.monotonic_ns() - self._facts.load_started_ns) / 1e9
            late_s = since_s - self._options.seconds * KILL_AT
            if late_s < 0 or not self._sessions_are_open():
                return False
            return self._options.control is Control.REWRITE or late_s > TRANSFERS_LATE_S or self._both_move()
        shares = [self._board[slot] / size for slot in (Slot.DOWNLOAD_BYTES, Slot.UPLOAD_BYTES)]
        ended = any(self._loads[kind].exit_code() is not None for kind in ("download", "upload"))
        return min(shares) >= KILL_PROGRESS or max(shares) >= KILL_PROGRESS_LATEST or ended

    def _power_off(self) -> None:
        kill, stage = self._before_the_fault(KILL), self._stage
        if self._options.hold:
            self._hold.remember_divergences(LAST_QUESTION_S)
        kill.at_ns, took_ns = power_off_host_a(stage.topology, stage.processes, self._board)
        self._facts.kill = kill
        self._phase = "host A is dead"
        took = f"{took_ns / 1e6:.1f} ms"
        self._event(f"host A is dead: both cables pulled, its node and its guest killed within {took}", kill.at_ns)
        if self._options.hold:
            self._hold.killed()

    def _switch_over(self) -> None:
        """As an operator moves the service: `colo failover` on host B, while host A lives."""
        kill = self._before_the_fault(FAILOVER)
        self._hold.remember_divergences(LAST_QUESTION_S)
        kill.at_ns = self._board[Slot.KILLED_AT_NS] = time.monotonic_ns()
        answer = self._hold.failover()
        self._facts.kill = kill
        self._phase = "host B serves"
        self._event(f"host B was told to serve; {answer}", kill.at_ns)
        self._hold.failed_over()

    def _before_the_fault(self, how: str) -> Kill:
        stage, facts = self._stage, self._facts
        for probe in stage.probes.values():
            probe.refresh(0.3, self._interruption.rest)
        facts.primary = stage.probes["primary"].status
        facts.secondary_before = stage.probes["secondary"].status
        for name, value in self._guest_b_counters().items():
            facts.counters[name]["kill"] = value
        self._tick()
        before = facts.samples[-1]
        stage.forget_host_a()
        return Kill(
            at_ns=0,
            how=how,
            download_bytes=before.download_bytes,
            upload_bytes=before.upload_bytes,
            download_moving=self._moves("download"),
            upload_moving=self._moves("upload"),
        )

    def _both_move(self) -> bool:
        return self._moves("download") and self._moves("upload")

    def _moves(self, kind: str) -> bool:
        """Whether the transfer has begun, has not ended, and moved within MOVING_NS."""
        samples, field = self._facts.samples, f"{kind}_bytes"
        since = samples[-1].at_ns - MOVING_NS
        earlier = next((getattr(sample, field) for sample in reversed(samples) if sample.at_ns <= since), 0)
        return self._loads[kind].exit_code() is None and getattr(samples[-1], field) > earlier

    def _go_on(self) -> None:
        options, facts = self._options, self._facts
        assert facts.kill is not None
        rest_s = max(AFTER_KILL_S_MIN, options.seconds * (1 - KILL_AT))
        until = facts.kill.at_ns + int(rest_s * 1e9)
        probe_ns = time.monotonic_ns() + int(PROBE_AFTER_S * 1e9)
        transfers = [self._loads["download"], self._loads["upload"]]
        is_over = not options.hold
        while (
            not is_over
            or time.monotonic_ns() < until
            or (options.size_bytes is not None and any(process.exit_code() is None for process in transfers))
        ):
            is_over = self._step(is_over=is_over)
            if "probe" not in self._loads and time.monotonic_ns() >= probe_ns:
                if facts.kill.how == KILL:
                    self._stage.topology.delete_host_a()
                self._start_client("probe", "clients", "probe")
                self._event("a new connection")

    def _step(self, *, is_over: bool) -> bool:
        """One tick, and whether the person has ended the run; a signal is an answer to the prompt, once."""
        try:
            self._tick()
            return is_over or self._hold.is_over(self._kill_what_is_left)
        except RunInterruptedError:
            if is_over:
                raise
            self._interruption.forget()
            return True

    def _kill_what_is_left(self) -> None:
        """After a failover: host A has been serving nothing since."""
        self._stage.topology.cut_host_a()
        self._stage.processes.kill_host(Host.A)
        self._event("host A is dead; host B served already")

    def _finish(self) -> None:
        options = self._options
        if self._facts.trouble:
            return
        self._phase = "coming to an end"
        self._event("ending the clients")
        self._board[Slot.FINISH] = 1
        deadline = time.monotonic() + options.stall_seconds + CLIENT_EXIT_S
        while time.monotonic() < deadline and any(process.exit_code() is None for process in self._loads.values()):
            self._tick()

    # ── after it ────────────────────────────────────────────────────────────────────────────────────────────

    def _collect(self) -> None:
        facts, topology = self._facts, self._stage.topology
        cut_short = bool(facts.trouble)
        for name, process in self._loads.items():
            self._interruption.look()
            if process.wait(timeout_s=LOOK_S) is None:
                process.send(signal.SIGKILL)
                if not cut_short:
                    facts.trouble.append(f"the {name} client did not end and was killed")
            elif process.exit_code() != 0:
                facts.trouble.append(f"the {name} client failed: {process.last_words()}")
        facts.download = self._result("download", TransferResult)
        facts.upload = self._result("upload", TransferResult)
        facts.sessions = self._result("sessions", SessionsResult)
        facts.probe = self._result("probe", ProbeResult)
        for name, value in self._guest_b_counters().items():
            facts.counters.setdefault(name, {})["after"] = value
        facts.client_resets = read_counters(topology.client).get("TcpEstabResets", 0) - self._client_resets_before
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
        if self._facts.kill is None or self._facts.kill.how == KILL:
            self._event("host B misses the heartbeats of host A", takeover.suspected_ns)
            self._event("host B decides to take over", takeover.decided_ns)
        self._event(f"takeover done, {takeover.resent} frames sent again", takeover.done_ns)

    def _result(self, name: str, kind: type[Result]) -> Result | None:
        try:
            return msgspec.json.decode(self._result_path(name).read_bytes(), type=kind)
        except (FileNotFoundError, msgspec.DecodeError):
            return None

    def _result_path(self, name: str) -> Path:
        return self._directory / f"{name}.json"

    def _guest_b_counters(self) -> dict[str, int]:
        found = read_counters(self._stage.topology.guest_b)
        return {name: found.get(name, 0) for name in SHOWN}

    def _start_client(self, name: str, module: str, *own: str) -> None:
        common = {
            "--address": self._stage.topology.guest_address,
            "--result": self._result_path(name),
            "--seed": self._options.seed,
            "--stall-seconds": self._options.stall_seconds,
            "--scoreboard": self._directory / "scoreboard",
        }
        options = [str(word) for pair in common.items() for word in pair]
        command = [sys.executable, "-m", f"{__package__}.{module}", *own, *options]
        self._loads[name] = self._stage.processes.start(name, Host.CLIENT, self._stage.topology.client, command)

    def _progress(self) -> list[str]:
        board = self._board
        sessions = f"{board[Slot.SESSIONS_OPEN]} sessions open, {board[Slot.SESSIONS_FAILED]} failed"
        moved = f"download {board[Slot.DOWNLOAD_BYTES] / 1e6:,.0f} MB, upload {board[Slot.UPLOAD_BYTES] / 1e6:,.0f} MB"
        return [f"clients  {sessions}; {moved}"]

    # ── time ────────────────────────────────────────────────────────────────────────────────────────────────

    def _event(self, text: str, at_ns: int | None = None) -> None:
        event = Event(at_ns or time.monotonic_ns(), text)
        self._facts.events.append(event)
        self._view.event(event, self._facts.started_ns)

    def _for(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            self._tick()

    def _tick(self) -> None:
        """Sleep a little, look at everything, tell the view. Raises `LabError` when a node has died by
        itself."""
        time.sleep(TICK_S)
        self._interruption.look()
        now = time.monotonic_ns()
        stage, board, facts = self._stage, self._board, self._facts
        if facts.load_started_ns:
            facts.samples.append(Sample(now, board[Slot.DOWNLOAD_BYTES], board[Slot.UPLOAD_BYTES], board[Slot.ANSWERS]))
        stage.assert_alive()
        if now - self._asked_ns >= STATUS_EVERY_NS:
            self._asked_ns = now
            for probe in stage.probes.values():
                probe.poll()
            self._notice_takeover(stage.probes["secondary"].status)
        if now - self._shown_ns >= SHOW_EVERY_NS and not self._options.hold:
            self._shown_ns = now
            primary = stage.probes.get("primary")
            self._view.show(
                Live(
                    phase=self._phase,
                    now_ns=now,
                    options=self._options,
                    facts=facts,
                    sessions_open=board[Slot.SESSIONS_OPEN],
                    sessions_failed=board[Slot.SESSIONS_FAILED],
                    primary=primary.status if primary else None,
                    secondary=stage.probes["secondary"].status,
                )
            )
