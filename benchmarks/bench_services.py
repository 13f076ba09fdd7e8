"""What protection costs a service: each load unprotected, beside a second guest, and protected in several ways.

    .venv/bin/python benchmarks/bench_services.py [--quick] [--rounds 3] [--column NAME=FILE.toml] [--json FILE]

The Debian guest of the QEMU laboratory (`colo lab qemu --guest debian`) and real clients: ApacheBench,
redis-benchmark, pgbench, ssh, scp. In each round one guest goes through all columns: unprotected; unprotected while a
second guest does the same work for a client of its own, which is the fair 100 % where both guests of a pair share one
machine; protected; and protected in the way of each file in columns/. Each --column adds one more: a TOML file whose
keys are added to both nodes' files. The second round begins with the second column, and so on, since a guest ages. The
last column, recommended, is no run of its own: for each load it shows again the column that docs/services.md recommends
for it.

A cell: requests per second (% of unprotected / % of two guests), p50/p99, and cp: checkpoints per 1,000 requests,
without the periodic ones. Percentages are medians of each round's own, since a machine's other work changes. Needs
root.
"""

import argparse
import os
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from signal import SIGKILL
from typing import NamedTuple

import msgspec
from otherwork import OtherWork
from serviceloads import LOADS, QUICK, STALL_S, Load, Measure
from servicetable import (
    BESIDE,
    Cell,
    Column,
    Results,
    checkpoints_of,
    column_of,
    columns,
    markdown,
    recommended_rows,
    rows_of,
)

from pycolo_lab.errors import LabError
from pycolo_lab.interruption import Interruption
from pycolo_lab.namespaces import run_isolated, run_with_own_pids
from pycolo_lab.processes import Host, Process
from pycolo_lab.qemu import debian
from pycolo_lab.qemu.image import Image, cache_directory, ensure_image
from pycolo_lab.qemu.machine import GUESTS, Machine, Qemu, find_qemu, probed_accelerator
from pycolo_lab.qemu.nodes import NodeSetting
from pycolo_lab.qemu.programs import Programs, say
from pycolo_lab.qemu.session import DEBIAN_ROOM_BYTES
from pycolo_lab.qemu.stage import Stage
from pycolo_lab.qemu.topology import Network

SETTING = NodeSetting(heartbeat_timeout_ms=1000, arbiter="manual")
"""With time for a busy machine: nothing dies here, and nothing should be suspected."""

SECONDS, QUICK_SECONDS = 10.0, 5.0
REQUESTS_MIN = 20
SETTLED_S = 2.0
"""After a change of the column: what it has left to do is done."""


class Found(NamedTuple):
    """What the run is made with."""

    qemu: Qemu
    image: Image
    guest: debian.DebianGuest


class Bench:
    """One run: two stages, of which the second has the guest beside."""

    def __init__(self, given: argparse.Namespace, found: Found, directory: Path, interruption: Interruption) -> None:
        self._given = given
        self._found = found
        self._directory = directory
        self._interruption = interruption
        self._more: dict[str, object] = {}
        self._runs = 0

    def perform(self, _outer_pid: int) -> int:
        """As process 1 of the run's namespaces."""
        accelerator = probed_accelerator(
            "auto", self._found.qemu, self._found.image, self._directory, self._interruption
        )
        machine = Machine(
            qemu=self._found.qemu, image=self._found.image, accelerator=accelerator, guest=GUESTS["debian"]
        ).with_debian(self._found.guest)
        self._stage, self._beside = (self._made(machine, name) for name in ("pair", "beside"))
        say(f"QEMU {machine.qemu.version}, {accelerator}: booting two guests")
        try:
            self._stage.set_up(SETTING)
            if BESIDE in self._given.columns:
                self._beside.boot(SETTING)
                self._tell_beside("stop")
            rounds, loads = [], [os.getloadavg()[0]]
            for number in range(1, self._given.rounds + 1):
                rounds.append(self._round(number))
                loads.append(os.getloadavg()[0])
        finally:
            self._stage.clear()
            self._beside.clear()
        self._report(rounds, machine, loads)
        return 0 if all(cell.error is None for one in rounds for cell in one) else 1

    def _made(self, machine: Machine, name: str) -> Stage:
        network = Network(self._directory / f"netns-{name}", self._interruption.look)
        network.build()
        return Stage(machine, network, self._directory / name, self._interruption.look)

    # ── a round ───────────────────────────────────────────────────────────────────────────────────────────────

    def _round(self, number: int) -> list[Cell]:
        cells: list[Cell] = []
        first = (number - 1) % len(self._given.columns)
        for column in (*self._given.columns[first:], *self._given.columns[:first]):
            self._enter(column)
            for load in self._given.loads:
                cell = self._cell(load, column)
                cells.append(cell)
                say(f"round {number}, {column.name}, {load.name}: {cell.error or f'{cell.per_second:.1f}/s'}")
            self._leave(column)
        return cells

    def _enter(self, column: Column) -> None:
        if column.is_beside:
            self._tell_beside("cont")
        if column.is_protected:
            if column.more != self._more:
                self._stage.reconfigure(msgspec.structs.replace(SETTING, more=column.more))
                self._more = column.more
            self._stage.protect()
        self._stage.rest(SETTLED_S)

    def _leave(self, column: Column) -> None:
        if column.is_beside:
            self._tell_beside("stop")
        if column.is_protected:
            self._stage.unprotect()

    def _tell_beside(self, command: str) -> None:
        """By its monitor: a guest that is stopped so does not see that time has passed."""
        with self._beside.watch(Host.A) as monitor:
            monitor.ask(command)

    def _cell(self, load: Load, column: Column) -> Cell:
        cell = Cell(load=load.name, column=column.name, unit=load.unit)
        try:
            size = self._size(load)
            before, others = self._checkpoints(), OtherWork()
            found = self._run(load, size, is_beside=column.is_beside)
            cell.checkpoints, cell.others = self._checkpoints() - before, others.share()
        except (LabError, ValueError, KeyError, OSError) as error:
            cell.error = str(error) or repr(error)
            return cell
        cell.requests, cell.per_second, cell.p50_ms, cell.p99_ms = found
        return cell

    def _size(self, load: Load) -> int:
        """So many requests take about as long as they should."""
        if not load.trial:
            return 0
        rate = self._run(load, load.trial, is_beside=False).per_second
        return max(REQUESTS_MIN, round(rate * self._given.seconds))

    def _checkpoints(self) -> int:
        return checkpoints_of(self._stage.files[Host.A].status() or {})

    def _run(self, load: Load, size: int, *, is_beside: bool) -> Measure:
        """The load, on both guests at once if there is one beside. Raises `LabError`, `ValueError`."""
        self._runs += 1
        directory = self._directory / f"load-{self._runs}"
        began = time.monotonic()
        processes = [self._start(load, size, self._stage, directory)]
        if is_beside:
            processes.append(self._start(load, size, self._beside, self._directory / f"load-{self._runs}-beside"))
        took_s = self._ended(load, processes[0], began)
        for process in processes[1:]:
            process.send(SIGKILL)
            process.wait(STALL_S)
        output = processes[0].log.read_text(errors="replace")
        if processes[0].exit_code() != 0:
            raise LabError(f"{load.name}: exit code {processes[0].exit_code()}: {processes[0].last_words()}")
        found = load.parse(output, directory, took_s)
        for path in directory.iterdir():
            path.unlink()
        return found

    def _start(self, load: Load, size: int, stage: Stage, directory: Path) -> Process:
        directory.mkdir()
        command = load.command(self._given.seconds, directory, size)
        return stage.processes.start(directory.name, Host.CLIENT, stage.network.client, command)

    def _ended(self, load: Load, process: Process, began: float) -> float:
        limit_s = 3 * self._given.seconds + STALL_S
        while process.exit_code() is None:
            if time.monotonic() - began > limit_s:
                process.send(SIGKILL)
                raise LabError(f"{load.name}: not over within {limit_s:.0f} s")
            self._stage.rest(0.05)
        return time.monotonic() - began

    # ── the report ────────────────────────────────────────────────────────────────────────────────────────────

    def _report(self, rounds: Sequence[Sequence[Cell]], machine: Machine, loads: Sequence[float]) -> None:
        rows = rows_of(rounds)
        results = Results(
            qemu=machine.qemu.version,
            accelerator=machine.accelerator,
            seconds=self._given.seconds,
            rounds=self._given.rounds,
            load_average=[round(one, 1) for one in loads],
            columns={column.name: column.toml for column in self._given.columns},
            rows=[*rows, *recommended_rows(rows, {load.name: load.recommended for load in self._given.loads})],
        )
        print(markdown(results.rows))
        averages = ", ".join(f"{one:.1f}" for one in results.load_average)
        most = max(results.rows, key=lambda row: row.others or 0)
        print(
            f"\nQEMU {results.qemu} ({results.accelerator}), {results.rounds} rounds of {results.seconds:g} s for each "
            f"load; the machine's load average: {averages}. Other programs had at most {most.others or 0:.0%} of the "
            f"processors ({most.column}, {most.load}): above a tenth, take no rate for true."
        )
        if self._given.json:
            self._given.json.write_bytes(msgspec.json.format(msgspec.json.encode(results), indent=2) + b"\n")


def parsed(words: Sequence[str] | None = None) -> argparse.Namespace:
    """The options, with loads and columns chosen."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help=f"{len(QUICK)} of the loads, {QUICK_SECONDS:g} s each")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--seconds", type=float, help=f"of each load [default: {SECONDS:g}]")
    parser.add_argument("--load", action="append", default=[], metavar="NAME", help="only this one; may be repeated")
    parser.add_argument("--column", action="append", default=[], metavar="NAME=FILE.toml", help="may be repeated")
    parser.add_argument("--only", action="append", default=[], metavar="COLUMN", help="only this column; repeated")
    parser.add_argument("--qemu", help="as for `colo lab qemu`")
    parser.add_argument("--json", type=Path, metavar="FILE", help="the results as JSON, too")
    given = parser.parse_args(words)
    names = [load.name for load in LOADS]
    if unknown := set(given.load) - set(names):
        parser.error(f"no load {', '.join(sorted(unknown))}; there are: {'; '.join(names)}")
    wanted = given.load or (QUICK if given.quick else names)
    given.loads = [load for load in LOADS if load.name in wanted]
    given.seconds = given.seconds or (QUICK_SECONDS if given.quick else SECONDS)
    try:
        known = (*columns(), *map(column_of, given.column))
    except ValueError as error:
        parser.error(str(error))
    if unknown := set(given.only) - {column.name for column in known}:
        parser.error(f"no column {', '.join(sorted(unknown))}; there are: {', '.join(c.name for c in known)}")
    given.columns = [column for column in known if not given.only or column.name in given.only]
    return given


def main() -> int:
    """Exit code 1 when a load failed."""
    given = parsed()
    interruption = Interruption()
    interruption.watch()
    programs = Programs(interruption)
    programs.require(["ip", "qemu-img", *(program for load in given.loads for program in load.programs)])
    qemu = find_qemu(given.qemu, programs)
    found = Found(qemu, ensure_image(programs), debian.ensure(cache_directory(), programs))

    def perform(directory: Path) -> int:
        return run_with_own_pids(Bench(given, found, directory, interruption).perform, interruption)

    return run_isolated(perform, interruption, 2 * DEBIAN_ROOM_BYTES)


if __name__ == "__main__":
    with suppress(BrokenPipeError):
        sys.exit(main())
