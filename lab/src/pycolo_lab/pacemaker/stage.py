"""The stage: hosts with a cluster, a protected pair that Pacemaker has started, clients, and a watched wire.

Two hosts have guests; a third one, if there is one, only votes.
"""

import socket
import sys
import time
from pathlib import Path
from typing import Final

from pyroute2 import IPRoute

from pycolo.limits import HEARTBEAT_TIMEOUT_MS
from pycolo_lab.errors import LabError
from pycolo_lab.guest_server import PORT
from pycolo_lab.interruption import Look
from pycolo_lab.pacemaker.cluster import Cluster, recipe, write_disk, write_shared
from pycolo_lab.pacemaker.hosts import boot, cluster_host, start_cluster
from pycolo_lab.pacemaker.recipes import RESOURCE
from pycolo_lab.pacemaker.switch import PowerSwitch
from pycolo_lab.pacemaker.wire import Bridged, Cable, Wire
from pycolo_lab.processes import Host, Processes
from pycolo_lab.qemu.machine import Machine, furnish_root
from pycolo_lab.qemu.nodes import LETTERS, NodeFiles, NodeSetting, other
from pycolo_lab.qemu.topology import BRIDGE, GUEST_ADDRESS, GUEST_MAC, HOST_ADDRESSES, STORE_ADDRESS, Network
from pycolo_lab.topology import index_of

PROTECTED_S: Final = 120.0
POLL_S: Final = 0.1
ACCEPT_S: Final = 2.0

PROGRAM: Final = """#!/bin/sh
exec {python} -m pycolo "$@"
"""

VOTER: Final = "c"
"""The third host: it has corosync and Pacemaker, and no guest."""

PRIORITY_DELAY_S: Final = 4
"""With two votes, longer than fencing takes here."""

BRIDGE_MACS: Final = {Host.A: "02:00:00:00:02:0a", Host.B: "02:00:00:00:02:0b"}
"""Fixed: the cluster's addresses are on the bridges, which take the lowest address of their ports otherwise, and so
another one when the guest's tap comes or goes. Until their neighbours have noticed, a host would look dead."""

PID_FILE: Final = f"/run/resource-agents/colo-{RESOURCE}.pid"


class ClusterStage:
    """Everything on it dies with the process."""

    def __init__(
        self,
        machine: Machine,
        network: Network,
        directory: Path,
        look: Look,
        *,
        token_ms: int,
        head_start_ms: int,
        votes: int = 2,
        tool: str = "crm",
    ) -> None:
        """`tool` makes the resources: `crm` or `pcs`."""
        directory.mkdir()
        self.network = network
        self.directory = directory
        self.look = look
        self.processes = Processes(directory)
        self.files = {host: NodeFiles(directory, host, look) for host in (Host.A, Host.B)}
        self._machine = machine
        self._token_ms = token_ms
        self._head_start_ms = head_start_ms
        self._tool = tool
        self.votes = votes
        shared = directory / "shared"
        self.hosts = {
            letter: cluster_host(letter, network.hosts[host], self.files[host].directory, shared)
            for host, letter in LETTERS.items()
        }
        if votes > len(self.hosts):
            self.hosts[VOTER] = cluster_host(VOTER, network.store, directory / VOTER, shared)
            self.hosts[VOTER].directory.mkdir()
        self.cluster = Cluster(self.hosts, look)
        self.keys = {letter: host for host, letter in LETTERS.items()}
        self.switch = PowerSwitch(directory / "switch.sock", self.power_off, self.power_on, self._is_on)
        write_shared(shared, directory / "switch.sock")
        self.program = directory / "colo"
        self.program.write_text(PROGRAM.format(python=sys.executable))
        self.program.chmod(0o755)
        self.wire = Wire({letter: Cable(network.lan, f"to-host-{letter}") for letter in "ab"}, GUEST_MAC)
        inside = {letter: network.hosts[host] for host, letter in LETTERS.items()}
        self.taps = Wire({letter: Cable(host, "", Bridged(host)) for letter, host in inside.items()}, GUEST_MAC)
        """What leaves the guests of hosts that the LAN does not see."""

    def _is_on(self, letter: str) -> bool:
        return self.hosts[letter].is_on

    # ── life ──────────────────────────────────────────────────────────────────────────────────────────────────

    def build(self) -> None:
        """From nothing to a protected pair, by Pacemaker alone."""
        furnish_root(self._machine, self.directory)
        for host, address in BRIDGE_MACS.items():
            with self.network.hosts[host].entered(), IPRoute() as netlink:
                netlink.link("set", index=index_of(netlink, BRIDGE), address=address)
            self.network.serve_without_node(host)
        setting = NodeSetting(
            arbiter="pacemaker", head_start_ms=self._head_start_ms, heartbeat_timeout_ms=HEARTBEAT_TIMEOUT_MS
        )
        addresses = {letter: HOST_ADDRESSES[host] for host, letter in LETTERS.items()} | {VOTER: STORE_ADDRESS}
        for host, files in self.files.items():
            files.write(self._machine, setting, self.files[other(host)], self.directory / "lock")
        for machine in self.hosts.values():
            write_disk(machine, {letter: addresses[letter] for letter in self.hosts}, self._token_ms)
        for letter in self.hosts:
            boot(self.hosts[letter])
        for letter in self.hosts:
            start_cluster(self.hosts[letter])
        self.cluster.wait_online(set(self.hosts))
        delay_s = PRIORITY_DELAY_S if self.votes == 2 else 0
        self.cluster.configure(recipe(self.program, delay_s, VOTER if VOTER in self.hosts else ""), self._tool)
        self.wait_protected()
        self.wait_booted()

    def power_off(self, letter: str) -> None:
        """Both cables first: a dead host says nothing more."""
        self.network.cut_host(self.keys[letter])
        self.hosts[letter].die()

    def power_on(self, letter: str) -> None:
        """It boots, and its services start."""
        if not self.hosts[letter].is_on:
            self.network.restore_host(self.keys[letter])
            boot(self.hosts[letter])
            start_cluster(self.hosts[letter])

    def clear(self) -> None:
        """End all of it."""
        self.switch.close()
        for letter in self.hosts:
            self.hosts[letter].die()
        self.processes.kill_all()
        self.wire.close()
        self.taps.close()

    def order(self, letter: str, pcs: tuple[str, ...], other: tuple[str, ...]) -> None:
        """Give the cluster an order on that host, by `pcs` where that has made the resources."""
        self.hosts[letter].run(*(pcs if self._tool == "pcs" else other))

    # ── looking ───────────────────────────────────────────────────────────────────────────────────────────────

    def states(self) -> dict[str, str]:
        """Host -> what its node says; "" where none answers."""
        found = {}
        for host, files in self.files.items():
            answer = files.status() if self.hosts[LETTERS[host]].is_on else None
            found[LETTERS[host]] = f"{answer['role']} {answer['state']}" if answer else ""
        return found

    def serving(self) -> str:
        """The host that Pacemaker has promoted; empty for none."""
        return next((letter for letter, role in self.cluster.roles().items() if role == "Promoted"), "")

    def wait_protected(self) -> str:
        """Until Pacemaker and both nodes agree; the host that serves."""
        deadline = time.monotonic() + PROTECTED_S
        while True:
            states = self.states()
            if sorted(states.values()) == ["primary protected", "secondary protected"]:
                promoted = self.serving()
                if promoted and states[promoted] == "primary protected":
                    return promoted
            if time.monotonic() > deadline:
                raise LabError(f"not protected within {PROTECTED_S:.0f} s: {states}, {self.cluster.roles()}")
            self.rest(POLL_S)

    def wait_booted(self) -> None:
        """Until the guest's server accepts a connection."""
        self.cluster.wait("the guest's server", self._accepts, PROTECTED_S)

    def _accepts(self) -> bool:
        with self.network.client.entered(), socket.socket() as connection:
            connection.settimeout(ACCEPT_S)
            return connection.connect_ex((GUEST_ADDRESS, PORT)) == 0

    def rest(self, seconds: float) -> None:
        """Let time pass."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            self.look()
            time.sleep(min(left, POLL_S))

    # ── faults ────────────────────────────────────────────────────────────────────────────────────────────────

    def kill_node(self, letter: str, signal: str = "KILL") -> None:
        """The node's process of that host."""
        self.hosts[letter].kill(self.hosts[letter].pid_of(PID_FILE), signal)

    def kill_qemu(self, letter: str) -> None:
        """The QEMU of that host."""
        self.hosts[letter].kill(self.hosts[letter].pid_of("/run/lab/qemu.pid"))
