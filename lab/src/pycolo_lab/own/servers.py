"""The user's server in both guests: start it, wait until the client can reach it, explain why it cannot."""

import os
import sys
import time
from pathlib import Path
from typing import Final

import msgspec

from pycolo_lab.errors import LabError
from pycolo_lab.namespaces import Namespace
from pycolo_lab.own.listening import is_reachable, listeners, ports_in_use, why_unreachable
from pycolo_lab.own.options import OwnOptions
from pycolo_lab.own.room import OWN_DIRECTORY, RoomJob, RoomReport
from pycolo_lab.own.runner import clean
from pycolo_lab.processes import Host, Process
from pycolo_lab.stage import Stage

OUTPUT_BYTES_MAX: Final = 16 << 20
"""Of each server, on the laboratory's tmpfs of 256 MiB."""

BLOCK_BYTES: Final = 512  # stat(2)

UNREACHABLE_S: Final = 1.0
"""A server may open its sockets one after the other."""


class Servers:
    """`start` once; afterwards `notes` says what the guests share with the machine, `rooms` where they are."""

    def __init__(self, own: OwnOptions, stage: Stage, directory: Path) -> None:
        self._own = own
        self._stage = stage
        self._directory = directory
        self._running: list[tuple[Process, Namespace]] = []
        self.notes: list[str] = []
        self.rooms: dict[str, int] = {}

    def start(self) -> None:
        """Both at once, so that they are as alike as two copies can be; returns when both can be reached.

        Raises `LabError` when one of them ends, or does not listen where the client connects.
        """
        topology = self._stage.topology
        for letter, host, guest in (("a", Host.A, topology.guest_a), ("b", Host.B, topology.guest_b)):
            name = f"server-{letter}"
            scratch = self._directory / f"room-{letter}"
            scratch.mkdir()
            job = RoomJob(
                words=self._own.serve.filled(
                    {"port": self._own.port, "host": topology.guest_address, "dir": OWN_DIRECTORY}
                ),
                scratch=str(scratch),
                report=str(self._report(name)),
            )
            path = self._directory / f"{name}.json"
            path.write_bytes(msgspec.json.encode(job))
            command = [sys.executable, "-m", "pycolo_lab.own.room", str(path)]
            self._running.append((self._stage.processes.start(name, host, guest, command), guest))
        deadline = time.monotonic() + self._own.ready_seconds
        for process, guest in self._running:
            self._wait(process, guest, deadline)
        for process, _ in self._running:
            self._stage.expect(process)
            report = msgspec.json.decode(self._report(process.name).read_bytes(), type=RoomReport)
            self.rooms[process.name] = report.first
            self.notes += [note for note in report.notes if note not in self.notes]

    def bound_output(self) -> None:
        """A server may log every request: what is too much is thrown away."""
        for process, _ in self._running:
            if process.log.stat().st_blocks * BLOCK_BYTES > OUTPUT_BYTES_MAX:
                os.truncate(process.log, 0)

    def _report(self, name: str) -> Path:
        return self._directory / f"{name}.report"

    def _wait(self, process: Process, guest: Namespace, deadline: float) -> None:
        own, host = self._own, self._stage.topology.guest_address
        elsewhere_since: float | None = None
        while True:
            found = listeners(guest, own.port, udp=own.udp)
            if is_reachable(found, host):
                return
            code = process.exit_code()
            if code is not None:
                raise LabError(
                    f"--serve: the server in {guest.name} ended (exit {code}) before it listened on {own.protocol} "
                    f"port {own.port}: {said(process)}"
                )
            now = time.monotonic()
            elsewhere_since = (elsewhere_since or now) if found else None
            if elsewhere_since is not None and now - elsewhere_since > UNREACHABLE_S:
                raise LabError(f"--serve: the server in {guest.name}: {why_unreachable(found, own.port, host)}")
            if now > deadline:
                raise LabError(self._not_ready(process, guest))
            self._stage.tick()

    def _not_ready(self, process: Process, guest: Namespace) -> str:
        own = self._own
        return (
            f"--serve: nothing listens on {own.protocol} port {own.port} in {guest.name} after {own.ready_seconds:g} s"
            f"{self._hint(guest)} (its output: {said(process)})"
        )

    def _hint(self, guest: Namespace) -> str:
        own = self._own
        here, there = ports_in_use(guest, udp=own.udp), ports_in_use(guest, udp=not own.udp)
        if own.port in there:
            return "; it is a UDP server: give --udp" if not own.udp else "; it is a TCP server: leave --udp out"
        if here:
            ports = ", ".join(str(port) for port in here)
            return f"; it listens on port {ports}: write {{port}} in its command, or say --port"
        return ""


def said(process: Process) -> str:
    """The beginning and the end of its output on one line: an error stands in the one or in the other."""
    # Where its beginning was thrown away there is a hole.
    lines = process.log.read_text(errors="replace").replace("\0", "").splitlines()
    return clean(" | ".join(line.strip() for line in lines if line.strip())) or "no output"
