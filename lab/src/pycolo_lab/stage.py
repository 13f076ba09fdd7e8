"""The stage of a run: network, two nodes, two guests with their servers, and the observers.

`build` leaves a protected pair; nothing here knows about load or faults.
"""

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from pycolo_lab import guest_server
from pycolo_lab.errors import LabError
from pycolo_lab.interruption import Interruption
from pycolo_lab.namespaces import Namespace
from pycolo_lab.observe import NodeProbe
from pycolo_lab.options import TOO_BUSY, Control, LabOptions
from pycolo_lab.processes import Host, Process, Processes, run_to_end
from pycolo_lab.topology import LINK_A_ADDRESS, LINK_PORT, Topology

PAIR: Final = "demo"
"""The name of the pair, for both nodes and their certificates."""

NODES: Final = ("primary", "secondary")
"""Only these processes end with EXIT_FENCED."""

START_TIMEOUT_S: Final = 20.0
"""For each step of the start; on a busy machine a node needs some seconds."""


EXIT_FENCED: Final = 3
"""Printed by a node that ends because the other one serves."""

PLAIN_TEXT: Final = ["--insecure", "--insecure-link", f"{LINK_A_ADDRESS}/30"]
"""The laboratory's link does not leave the machine."""


class Stage:
    """Everything that must exist before the first client. `tick` is called during waits.

    Two guests on one kernel draw from the same secrets: unless `twisted` is false, host B's node has the twist at its
    guest's card, which makes them as independent as two machines.
    """

    def __init__(
        self,
        options: LabOptions,
        directory: Path,
        guest_port: str,
        tick: Callable[[], None],
        interruption: Interruption,
        *,
        twisted: bool = True,
    ) -> None:
        self._options = options
        self._commands = {
            "primary": options.node_command,
            "secondary": options.twisted_command if twisted else options.node_command,
        }
        self._directory = directory
        self._tick = tick
        self._interruption = interruption
        self._must_run: list[Process] = []
        self.nodes: dict[str, Process] = {}
        self.processes = Processes(directory)
        self.topology = Topology(directory / "netns", guest_port, interruption.look, ipv6=options.ipv6)
        self.probes = {role: NodeProbe(self.control_socket(role)) for role in ("primary", "secondary")}

    def control_socket(self, role: str) -> Path:
        """Where the node listens for questions."""
        return self._directory / f"{role}.sock"

    def build(self) -> None:
        """Network, nodes, guests, servers, in this order; returns when both nodes say that they are
        protected.

        Raises `LabError` with the reason if that fails.
        """
        self.build_network()
        self._start_server("server-a", Host.A, self.topology.guest_a)
        self.server_b = self._start_server("server-b", Host.B, self.topology.guest_b)
        self.wait_until_protected()

    def build_network(self) -> None:
        """Everything but the servers: both guests have their card and their address afterwards."""
        topology = self.topology
        topology.build()
        self.nodes = self._start_nodes()
        self._must_run += self.nodes.values()
        for guest in (topology.guest_a, topology.guest_b):
            topology.attach_guest(guest, self.assert_alive)

    def wait_until_protected(self) -> None:
        """Both nodes say so."""
        self.until(self._is_protected, START_TIMEOUT_S, "the pair did not become protected")

    def tick(self) -> None:
        """Let a little time pass; raises the exceptions of the run's own wait."""
        self._tick()

    def expect(self, process: Process) -> None:
        """From here on the process must run as long as its host does."""
        self._must_run.append(process)

    def assert_alive(self) -> None:
        """Raise `LabError` when a node or a server that should run has ended."""
        for process in self._must_run:
            if process.name in NODES and process.exit_code() == EXIT_FENCED:
                where = f"{process.name} on {process.host.value}"
                timeout_ms = self._options.heartbeat_timeout_ms
                raise LabError(f"{where} was given up after {timeout_ms} ms of silence, alive; {TOO_BUSY}")
        self.processes.assert_running(*self._must_run)

    def forget_host_a(self) -> None:
        """Host A's processes must be dead from here on; its node can no longer be queried."""
        self._must_run = [process for process in self._must_run if process.host is not Host.A]
        self.probes.pop("primary").close()

    def until(self, condition: Callable[[], bool], timeout_s: float, otherwise: str) -> None:
        """Wait for the condition; raise `LabError(otherwise)` when it does not come true in time."""
        deadline = time.monotonic() + timeout_s
        while not condition():
            if time.monotonic() > deadline:
                words = "; ".join(f"{process.name}: {process.last_words()}" for process in self._must_run)
                raise LabError(f"{otherwise} within {timeout_s:.0f} s ({words})")
            self._tick()

    def _is_protected(self) -> bool:
        states = {role: probe.status.state if probe.status else "" for role, probe in self.probes.items()}
        return states == {"primary": "protected", "secondary": "protected"}

    def _start_nodes(self) -> dict[str, Process]:
        topology = self.topology
        link = f"{LINK_A_ADDRESS}:{LINK_PORT}"
        guest_a = topology.guest_port_option(topology.guest_a)
        guest_b = topology.guest_port_option(topology.guest_b)
        security = ["--tls", str(self._make_certificates())] if self._options.tls else PLAIN_TEXT
        primary = self._node_command("primary", "--listen", link, "--guest", guest_a, *security)
        secondary = self._node_command("secondary", "--connect", link, "--guest", guest_b, *security)
        return {
            "primary": self.processes.start("primary", Host.A, topology.host_a, primary),
            "secondary": self.processes.start("secondary", Host.B, topology.host_b, secondary),
        }

    def _node_command(self, role: str, *own: str) -> list[str]:
        control = self._options.control
        weakened = {Control.COMPARE: "primary", Control.REWRITE: "secondary"}.get(control)
        without = ["--without", control.value] if role == weakened else []
        heartbeat = ["--heartbeat-timeout", str(self._options.heartbeat_timeout_ms)]
        common = ["--pair", PAIR, "--arbiter", "first-to-notice", "--lan", "packet:eth0"]
        socket = ["--control", str(self.control_socket(role))]
        return [*self._commands[role], role, *own, *common, *heartbeat, *socket, *without]

    def _make_certificates(self) -> Path:
        directory = self._directory / "tls"
        made = run_to_end(
            [*self._options.node_command, "certs", "init", str(directory), "--pair", PAIR],
            self._interruption,
            timeout_s=START_TIMEOUT_S,
        )
        if made is None or made.returncode != 0:
            said = f"not within {START_TIMEOUT_S:.0f} s" if made is None else made.stderr or made.stdout
            words = " | ".join(said.strip().splitlines()[-2:])
            raise LabError(f"certificates for the link could not be made: {words}")
        return directory

    def _start_server(self, name: str, host: Host, guest: Namespace) -> Process:
        address = ["--address", self.topology.guest_address, "--seed", str(self._options.seed)]
        process = self.processes.start(name, host, guest, [sys.executable, "-m", guest_server.__name__, *address])
        self._must_run.append(process)
        self.until(lambda: "ready" in process.log.read_text(), START_TIMEOUT_S, f"{name} did not start")
        return process
