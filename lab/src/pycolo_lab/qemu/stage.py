"""The stage of a scenario: network, a virtual machine, two nodes, a protected pair, and its faults."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final

from pycolo_lab.errors import LabError
from pycolo_lab.guest_server import PORT
from pycolo_lab.interruption import Look
from pycolo_lab.processes import Host, Process, Processes, reap_strangers
from pycolo_lab.qemu import dying, gate
from pycolo_lab.qemu.machine import (
    DISK_BYTES,
    Machine,
    furnish_root,
    is_ready,
    mount_from,
    mount_small,
    qmp_options,
)
from pycolo_lab.qemu.monitor import Monitor
from pycolo_lab.qemu.nodes import PAIR, NodeFiles, NodeSetting, other, running_pid, wrong_command
from pycolo_lab.qemu.observations import Observations
from pycolo_lab.qemu.store import Store
from pycolo_lab.qemu.topology import GUEST_ADDRESS, Network

STATE_TIMEOUT_S: Final = 20.0
"""Time limit for a node to reach a state on a busy machine; most take a second."""

PROTECT_TIMEOUT_S: Final = 180.0
"""`protect` starts a QEMU and copies all of the guest's memory and disks: seconds, but a minute of a busy Debian's."""

DISK_S: Final = 120.0
"""Until a disk is made: half a gigabyte of a Debian is copied."""

POLL_S: Final = 0.05
NODE_END_S: Final = 10.0
"""For a node to end in order."""

SERVING: Final = ("protecting", "protected", "degraded", "alone", "serving", "linked", "waiting")
"""States of a primary's node in which its guest serves clients."""

DIRECTORY_CHARACTERS_MAX: Final = 107 - len("/a/migration-12345678.sock")
"""A unix socket's path has 107 characters at most; the rest is for what this host's sockets are called."""

TELL: Final = """
import socket, sys
address, port, line = sys.argv[1:]
with socket.create_connection((address, int(port)), timeout=15) as told:
    told.sendall(line.encode() + b"\\n")
    assert told.recv(99)
"""

NODE_COMMAND: Final = (sys.executable, "-m", "pycolo")


class Stage:
    """Built by `build`; everything on it dies with the process. `look` is called while it waits, and may raise."""

    def __init__(self, machine: Machine, network: Network, directory: Path, look: Look) -> None:
        self.network = network
        self.observations = Observations()
        self.directory = directory
        if len(str(directory)) > DIRECTORY_CHARACTERS_MAX:
            raise LabError(f"{directory} is too long for sockets' names below it: set TMPDIR to a shorter directory")
        directory.mkdir()
        furnish_root(machine, directory)
        self.processes = Processes(directory)
        self.files = {host: NodeFiles(directory, host, look) for host in (Host.A, Host.B)}
        self._machine = machine
        self.look = look
        self._setting = NodeSetting()
        self._lock = directory / "fenced"
        self.store = Store(self.processes, network.store, directory, look)
        self._nodes: dict[Host, Process] = {}
        self._lives = 0

    # ── building ──────────────────────────────────────────────────────────────────────────────────────────────

    def build(self, setting: NodeSetting) -> None:
        """Boot a guest on host A, start both nodes, protect. Raises `LabError` when it does not come to that."""
        self.set_up(setting)
        self.protect()

    def set_up(self, setting: NodeSetting) -> None:
        """The same without the protection."""
        self.boot(setting)
        for host in self.files:
            self.start_node(host)
        self.until_linked()

    def reconfigure(self, setting: NodeSetting) -> None:
        """Give both nodes, which protect nothing, other files, and start them again; the guest goes on."""
        self._setting = setting
        for host in self.files:
            self.restart_node(host)

    def boot(self, setting: NodeSetting) -> None:
        """A guest on host A, and no node. Raises `LabError` when it does not get ready."""
        self._setting = setting
        if setting.arbiter == "etcd":
            self.store.start()
        if setting.has_paths:
            self._make_certificates()
        for host, files in self.files.items():
            files.write(self._machine, setting, self.files[other(host)], self._lock)
        if setting.has_small_disks:
            for files in self.files.values():
                mount_small(self._machine, files.images)
                mount_small(self._machine, files.overlays)
        for host, files in self.files.items():
            if setting.overlays_in is not None:
                mount_from(self._machine, files.overlays, setting.overlays_in / host.name)
        self._make_disk()
        self.start_guest(Host.A)

    def _make_disk(self) -> None:
        """On host A, empty or a copy of what is to be on it; the other host's node makes its own."""
        machine = self._machine
        if machine.disk is None:
            return
        path = machine.disk_file(self.files[Host.A].directory)
        path.parent.mkdir(exist_ok=True)
        words = ["create", "-q", "-f", machine.disk, str(path), str(DISK_BYTES)]
        if machine.disk_source is not None:
            words = ["convert", "-f", "qcow2", "-O", machine.disk, str(machine.disk_source), str(path)]
        made = subprocess.run(["qemu-img", *words], capture_output=True, text=True, timeout=DISK_S, check=False)
        if made.returncode != 0:
            raise LabError(f"qemu-img {words[0]} has failed: {made.stderr.strip()}")

    def _make_certificates(self) -> None:
        command = [*NODE_COMMAND, "certs", "init", str(self.files[Host.A].certificates), "--pair", PAIR]
        made = subprocess.run(command, capture_output=True, text=True, timeout=STATE_TIMEOUT_S, check=False)
        if made.returncode != 0:
            raise LabError(f"colo certs init has failed: {made.stderr.strip()}")

    def start_guest(self, host: Host) -> None:
        """Start a guest there that no node knows yet."""
        files = self.files[host]
        self.network.serve_without_node(host)
        environment = [f"{name}={value}" for name, value in self._machine.environment.items()]
        command = self._machine.command(files.directory, f"guest-{files.letter}")
        qmp = files.behind_gate if self._setting.has_gate else files.qmp
        network = self.network.hosts[host]
        (files.directory / "serial.log").unlink(missing_ok=True)
        name = f"qemu-{files.letter}"
        qemu = self.processes.start(name, host, network, ["env", *environment, *command, *qmp_options(qmp)])
        boot_s = self._machine.guest.boot_s
        deadline = time.monotonic() + boot_s
        while not is_ready(files.directory):
            self.processes.assert_running(qemu)
            if time.monotonic() > deadline:
                raise LabError(f"the guest was not ready within {boot_s:.0f} s (its console: {files.directory})")
            self.rest(POLL_S)
        if self._setting.has_gate:
            words = [sys.executable, "-m", gate.__name__, files.qmp, files.behind_gate, files.refusing]
            self.processes.start("gate-a", Host.A, network, list(map(str, words)))

    def start_node(self, host: Host) -> None:
        """Start the node of that host, whatever became of the one before."""
        self._lives += 1
        files = self.files[host]
        command = (sys.executable, "-m", dying.__name__, str(files.order)) if self._setting.can_die else NODE_COMMAND
        process = self.processes.start(
            f"node-{files.letter}-{self._lives}",
            host,
            self.network.hosts[host],
            [*command, "node", "--config", str(files.config)],
        )
        self._nodes[host] = process
        files.note_node(process.pid)
        self.observations.new_life(host)

    # ── looking ───────────────────────────────────────────────────────────────────────────────────────────────

    def rest(self, seconds: float) -> None:
        """Let time pass, in the run's own way."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            self.look()
            time.sleep(min(left, POLL_S))

    def poll(self) -> dict[Host, dict[str, Any] | None]:
        """The status of both nodes; None for one that does not answer."""
        found = {}
        for host, files in self.files.items():
            found[host] = files.status() if self.is_running(host) else None
            if found[host] is not None:
                self.observations.take(host, found[host] or {})
        return found

    def until(self, what: str, condition: Callable[[], bool], timeout_s: float = STATE_TIMEOUT_S) -> None:
        """Wait for a condition; raise `LabError` when it does not come true."""
        deadline = time.monotonic() + timeout_s
        while not condition():
            if time.monotonic() > deadline:
                raise LabError(f"{what} within {timeout_s:.0f} s: {self.account()}")
            self.rest(POLL_S)

    def account(self) -> str:
        """The states of both nodes, on one line."""
        parts = []
        for host, status in self.poll().items():
            process = self._nodes.get(host)
            said = f"{status['role']}, {status['state']}" if status else "no answer"
            parts.append(
                f"node on {host.value}: {said} ({process.last_words()[-300:] if process else 'never started'})"
            )
        return "; ".join(parts)

    def is_running(self, host: Host) -> bool:
        """Whether that host's node process lives."""
        process = self._nodes.get(host)
        return process is not None and process.exit_code() is None

    def serving(self) -> Host | None:
        """The host whose guest serves clients, as its node says; None when none does."""
        for host, status in self.poll().items():
            if status and status["role"] == "primary" and status["state"] in SERVING:
                return host
        return None

    def states(self) -> tuple[str, ...]:
        """Both nodes' states, in order of the hosts."""
        return tuple(status["state"] if status else "gone" for status in self.poll().values())

    def is_whole(self) -> bool:
        """Whether both nodes say that the guest is protected."""
        return are_whole(self.states(), compares=self._setting.compare)

    def is_ordering(self) -> bool:
        """Whether requests wait for their turn, or for their answer, at the node that serves."""
        host = self.serving()
        status = self.files[host].status() if host is not None else None
        counters: dict[str, int] = (status or {}).get("counters") or {}
        return counters.get("ordered_waiting", 0) > 0

    def node_memory_kib(self) -> dict[str, int]:
        """Resident memory of each node."""
        return {host.value: _resident_kib(process.pid) for host, process in self._nodes.items()}

    # ── doing ─────────────────────────────────────────────────────────────────────────────────────────────────

    def protect(self) -> None:
        """`colo protect` at the node that serves; returns when both say that they are protected."""
        self.until_linked()
        host = self.serving()
        assert host is not None, "one of two linked nodes is the primary"
        self._forget_fencing()
        self.files[host].ask("protect", timeout_s=PROTECT_TIMEOUT_S)
        self.until("the pair did not become protected", self.is_whole)

    def unprotect(self) -> None:
        """`colo unprotect` at the node that serves; returns when both are linked again."""
        host = self.serving()
        if host is None:
            raise LabError(f"no host serves: {self.account()}")
        self.files[host].ask("unprotect", timeout_s=PROTECT_TIMEOUT_S)
        self.until_linked()

    def until_linked(self) -> None:
        """Wait until the nodes talk and nothing is protected."""
        self.until("the nodes did not link", self._both_linked)

    def _both_linked(self) -> bool:
        self.processes.assert_running(*self._nodes.values())
        return self.states() == ("linked", "linked")

    def failover(self, host: Host) -> None:
        """`colo failover` at that host's node: the operator says that the other one is down."""
        self.files[host].ask("failover")

    def _forget_fencing(self) -> None:
        if self._lock.exists():
            self._lock.rmdir()

    def kill_node(self, host: Host) -> None:
        """SIGKILL the node, and only it."""
        _kill(self._nodes[host].pid)

    def restart_node(self, host: Host, wrong: str | None = None) -> None:
        """Stop it in order, and start it with the right configuration; `wrong`: see `wrong_command`."""
        files = self.files[host]
        command = files.qemu_command(self._machine)
        files.write_config(self._machine, self._setting, wrong_command(command, wrong) if wrong else command)
        process = self._nodes[host]
        process.send(signal.SIGTERM)
        self.until(f"{process.name} does not end", lambda: process.exit_code() is not None, NODE_END_S)
        self.start_node(host)
        self.until_linked()

    def signal_qemu(self, host: Host, number: signal.Signals) -> None:
        """To the QEMU that runs on that host, if one does."""
        pid = self.files[host].qemu_pid
        if pid is not None:
            os.kill(pid, number)

    def signal_node(self, host: Host, number: signal.Signals) -> None:
        """To that host's node, and nothing that it has started."""
        os.kill(self._nodes[host].pid, number)

    def refuse_checkpoints(self, host: Host, *, is_refusing: bool) -> None:
        """Whether the QEMU there, which has a gate, refuses to make checkpoints."""
        refusing = self.files[host].refusing
        if is_refusing:
            refusing.touch()
        else:
            refusing.unlink(missing_ok=True)

    def checkpoint_status(self, host: Host) -> dict[str, Any]:
        """What that host's node says of its checkpoints. Raises `LabError` when it does not answer."""
        found: dict[str, Any] = self.files[host].ask("status")["checkpoint"]
        return found

    def tell_guest(self, line: str) -> None:
        """A command for the guest's service, from the client's machine; returns once it is answered."""
        words = [sys.executable, "-c", TELL, GUEST_ADDRESS, str(PORT), line]
        process = self.processes.start("tell-guest", Host.CLIENT, self.network.client, words)
        self.until(f"the guest did not answer {line!r}", lambda: process.exit_code() is not None)
        if process.exit_code() != 0:
            raise LabError(f"the guest was not told {line!r}: {process.last_words()}")

    def kill_qemu(self, host: Host) -> None:
        """SIGKILL the QEMU that runs on that host."""
        pid = self.files[host].qemu_pid
        if pid is None:
            raise LabError(f"no QEMU to kill on {host.value}")
        _kill(pid)

    def power_off(self, host: Host) -> None:
        """Cables first, then node and QEMU: a killed process' kernel would still close connections."""
        self.network.cut_host(host)
        self.kill_node(host)
        self.kill_qemu(host)

    def power_on(self, host: Host) -> None:
        """The host is back, with its disk: its node's state. Nothing else runs on it."""
        pid = self.files[host].qemu_pid
        if pid is not None:
            _kill(pid)
        self.network.restore_host(host)
        if not self.is_running(host):
            self.start_node(host)

    def watch(self, host: Host) -> Monitor:
        """Events of that host's QEMU, on a QMP socket that no node uses."""
        return Monitor(self.files[host].watch, self.look, is_urgent=True)

    def node_log(self, host: Host) -> str:
        """What the node there has logged."""
        return self._nodes[host].log.read_text(errors="replace")

    def run_colo(self, command: str, host: Host) -> tuple[int, str]:
        """`colo COMMAND` as its user runs it: exit code, and what it said on stderr."""
        process = self.processes.start(
            f"colo-{command}",
            host,
            self.network.hosts[host],
            [*NODE_COMMAND, command, "--control", str(self.files[host].control)],
        )
        deadline = time.monotonic() + PROTECT_TIMEOUT_S
        while (code := process.exit_code()) is None:
            if time.monotonic() > deadline:
                raise LabError(f"colo {command} does not end within {PROTECT_TIMEOUT_S:.0f} s: {self.account()}")
            self.rest(POLL_S)
        return code, process.log.read_text(errors="replace").strip()

    def clear(self) -> None:
        """End everything on the stage, and all processes of its nodes."""
        self.processes.kill_all()
        self.store.clear()
        for files in self.files.values():
            for path in files.pid_files:
                pid = running_pid(path, str(files.directory))
                if pid is not None:
                    _kill(pid)
        reap_strangers()


def are_whole(states: Iterable[str], *, compares: bool) -> bool:
    """Of both nodes. A primary that compares nothing is degraded as soon as clients have had some bytes."""
    return set(states) <= ({"protected"} if compares else {"protected", "degraded"})


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def _resident_kib(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("VmRSS:")), 0)
