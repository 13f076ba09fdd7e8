"""How long a checkpoint stops a guest that syncs its writes: without a disk, with one, and where its overlays are.

    .venv/bin/python benchmarks/bench_disk_pause.py [--qemu 10.0] [--rate 400] [--checkpoints 40] [--case NAME] [--json]

The usual guest of `colo lab qemu`. A client has it add lines to a file, each synced before the next one is written, and
does not wait for the answers. Without a disk that file is in the guest's memory. Of each case: how many lines a second
were answered, and median and 99th percentile of the pauses, from the nodes' records. What the pause is made of is seen
by what the cases differ in:

    none      no disk: the guest's memory and devices
    memory    and the gate, the mirror's drain, and emptying the overlays, all in memory
    disk      and the disk's own time: the overlays are in --folder, which should be on one

Needs root.
"""

import argparse
import json
import socket
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec

from pycolo_lab.errors import LabError
from pycolo_lab.guest_server import PORT
from pycolo_lab.interruption import Interruption
from pycolo_lab.namespaces import run_isolated, run_with_own_pids
from pycolo_lab.processes import Host
from pycolo_lab.qemu.image import ensure_image
from pycolo_lab.qemu.machine import Machine, find_qemu, probed_accelerator
from pycolo_lab.qemu.nodes import NodeSetting
from pycolo_lab.qemu.observations import percentile
from pycolo_lab.qemu.programs import Programs, say
from pycolo_lab.qemu.stage import Stage
from pycolo_lab.qemu.topology import GUEST_ADDRESS, Network

CASES = ("none", "memory", "disk")
DISTANCE_S = 0.3
"""Between two checkpoints: so much is in the overlays."""

SETTLED_S = 3.0
ENDED_S = 30.0
SETTING = NodeSetting(heartbeat_timeout_ms=1000, arbiter="manual", checkpoint_interval_ms=0)


class Pauses(msgspec.Struct):
    """One case."""

    case: str
    lines_per_second: float
    pauses_ms: list[float]

    def __str__(self) -> str:
        times = sorted(self.pauses_ms)
        return (
            f"{self.case:<7} {self.lines_per_second:>5.0f} lines/s, {len(times)} checkpoints: pause median "
            f"{statistics.median(times):.1f} ms, p99 {percentile(times, 0.99):.1f} ms"
        )


def one_case(case: str, stage: Stage, given: argparse.Namespace) -> Pauses:
    """Boot, protect, write, make checkpoints. Raises `LabError`."""
    setting = SETTING
    if case == "disk":
        setting = msgspec.structs.replace(setting, overlays_in=Path(given.scratch) / case)
    stage.build(setting)
    words = [sys.executable, __file__, "--write", str(given.rate)]
    writer = stage.processes.start("writer", Host.CLIENT, stage.network.client, words)
    stage.rest(SETTLED_S)
    began, before = time.monotonic(), _answered(writer)
    seen = _last_epoch(stage)
    pauses: list[float] = []
    for _ in range(given.checkpoints):
        stage.rest(DISTANCE_S)
        stage.files[Host.A].ask("checkpoint")
        pauses += [record["pause_ms"] for record in _records(stage) if record["epoch"] > seen and record["pause_ms"]]
        seen = _last_epoch(stage)
    rate = (_answered(writer) - before) / (time.monotonic() - began)
    if writer.exit_code() is not None:
        raise LabError(f"{case}: the writer has ended: {writer.last_words()}")
    return Pauses(case, rate, pauses)


def _records(stage: Stage) -> list[dict[str, Any]]:
    status = stage.files[Host.A].status() or {}
    return [one for one in (status.get("checkpoint") or {}).get("last", []) if one["outcome"] == "committed"]


def _last_epoch(stage: Stage) -> int:
    return max((int(record["epoch"]) for record in _records(stage)), default=0)


def _answered(writer: Any) -> int:
    """By what it has printed last."""
    numbers = [line for line in writer.log.read_text(errors="replace").split() if line.isdigit()]
    return int(numbers[-1]) if numbers else 0


# ── the client ──────────────────────────────────────────────────────────────────────────────────────────────


def write_lines(rate: float) -> None:
    """One connection, which asks for so many lines a second and prints how many were answered."""
    with socket.create_connection((GUEST_ADDRESS, PORT)) as guest:
        guest.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        began, asked, answered, shown = time.monotonic(), 0, 0, 0.0
        while True:
            now = time.monotonic()
            due = min(int((now - began) * rate), answered + int(rate))  # a second's at most on their way
            if due > asked:
                guest.settimeout(ENDED_S)
                guest.sendall(b"".join(b"append %064x\n" % number for number in range(asked, due)))
                asked = due
            guest.settimeout(1 / rate)
            with suppress(TimeoutError):
                received = guest.recv(1 << 16)
                if not received:
                    return
                answered += received.count(b"\n")
            if now - shown > 0.05:
                shown = now
                sys.stdout.write(f"{answered}\n")
                sys.stdout.flush()


# ── the run ─────────────────────────────────────────────────────────────────────────────────────────────────


def perform(given: argparse.Namespace, machine: Machine, directory: Path, interruption: Interruption) -> int:
    """All cases, each with guests of its own."""
    accelerator = probed_accelerator("auto", machine.qemu, machine.image, directory, interruption)
    found = []
    for case in given.case or CASES:
        of_case = msgspec.structs.replace(machine, accelerator=accelerator).with_disk(
            None if case == "none" else "qcow2"
        )
        network = Network(directory / f"netns-{case}", interruption.look)
        network.build()
        stage = Stage(of_case, network, directory / case, interruption.look)
        try:
            found.append(one_case(case, stage, given))
        finally:
            stage.clear()
            network.delete()
        say(str(found[-1]))
    if given.json:
        sys.stdout.write(json.dumps(msgspec.to_builtins(found)) + "\n")
    return 0


def main(words: Sequence[str] | None = None) -> int:
    """The exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--qemu", help="as for `colo lab qemu`")
    parser.add_argument("--rate", type=float, default=400, help="lines a second that the client asks for")
    parser.add_argument("--checkpoints", type=int, default=40)
    parser.add_argument("--case", action="append", choices=CASES, help="only this one; may be repeated")
    parser.add_argument("--folder", type=Path, default=Path("build"), help="on a disk [default: build]")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--write", type=float, help=argparse.SUPPRESS)
    given = parser.parse_args(words)
    if given.write:
        write_lines(given.write)
        return 0
    interruption = Interruption()
    interruption.watch()
    programs = Programs(interruption)
    programs.require(["ip", "qemu-img"])
    machine = Machine(qemu=find_qemu(given.qemu, programs), image=ensure_image(programs), accelerator="tcg")
    with tempfile.TemporaryDirectory(prefix="disk-pause-", dir=given.folder) as scratch:
        given.scratch = Path(scratch).absolute()
        return run_isolated(
            lambda directory: run_with_own_pids(
                lambda _pid: perform(given, machine, directory, interruption), interruption
            ),
            interruption,
        )


if __name__ == "__main__":
    sys.exit(main())
