"""Loads for the services of the Debian guest, by the programs that people use, and what these say of them.

Run as a program it types in an ssh session, since no program measures that: ADDRESS SECONDS.
"""

import csv
import json
import re
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from pycolo_lab.qemu.observations import percentile
from pycolo_lab.work.keys import GREETING, Session
from pycolo_lab.work.result import SSH_OPTIONS, USER, Work

GUEST = "10.9.0.2"
COPIED_BYTES = 10_000_000
REDIS_TRIAL = 100
"""Requests of each connection from which redis' rate is taken beforehand: its benchmark has no duration."""

STALL_S = 60.0


class Measure(NamedTuple):
    """What a load has achieved."""

    requests: float
    """Or megabytes."""
    per_second: float
    p50_ms: float | None = None
    p99_ms: float | None = None


class Load(NamedTuple):
    """One load. `command(seconds, directory, size)` is what to run, with files of its own; `parse` takes its output."""

    name: str
    programs: tuple[str, ...]
    command: Callable[[float, Path, int], list[str]]
    parse: Callable[[str, Path, float], Measure]
    """Of its output, its directory and how long it took."""
    trial: int = 0
    """Its size in a short run that gives its rate; 0: its duration is given."""
    unit: str = "requests"
    recommended: str = "protected"
    """The column with what docs/services.md recommends for it."""


def web(name: str, url: str, *, kept: bool, connections: int = 4) -> Load:
    """ApacheBench; `kept`: connections are used again."""

    def command(seconds: float, directory: Path, _size: int) -> list[str]:
        times = ["-t", str(round(seconds)), "-n", "1000000", "-e", str(directory / "times.csv")]
        return ["ab", "-q", *(["-k"] if kept else []), "-c", str(connections), *times, url]

    # In what TLS carries there is no pattern.
    recommended = "masks" if url.startswith("http:") else "protected"
    return Load(name, ("ab",), command, parse_web, recommended=recommended)


def parse_web(output: str, directory: Path, _took_s: float) -> Measure:
    """ab's requests per second, and its table of percentiles."""
    with (directory / "times.csv").open() as file:
        rows = [(int(row[0]), float(row[1])) for row in list(csv.reader(file))[1:]]
    return Measure(
        int(_found(r"Complete requests:\s+(\d+)", output)),
        float(_found(r"Requests per second:\s+([\d.]+)", output)),
        dict(rows)[50],
        max(time for share, time in rows if share <= 99),  # of few requests ab says 0 for the last percents
    )


def redis(what: str, connections: int) -> Load:
    """redis-benchmark with one command on one key."""
    words = {
        "SET": ["SET", "colo:bench", "x" * 16],
        "GET": ["GET", "colo:bench"],
        "INCR": ["INCR", "colo:counter"],
        "LPUSH": ["LPUSH", "colo:list", "x" * 16],
    }

    def command(_seconds: float, _directory: Path, size: int) -> list[str]:
        options = ["-h", GUEST, "-c", str(connections), "-n", str(size), "--csv"]
        return ["redis-benchmark", *options, *words[what]]

    trial = REDIS_TRIAL * connections
    # Of the others the answer is the same in whatever order they come.
    recommended = "follow" if what in ("INCR", "LPUSH") else "protected"
    name = f"redis {what}, {connections}"
    return Load(name, ("redis-benchmark",), command, parse_redis, trial, recommended=recommended)


def parse_redis(output: str, _directory: Path, took_s: float) -> Measure:
    """redis-benchmark's line of CSV. The number of requests is its rate times the time."""
    lines = [line for line in output.splitlines() if line.startswith('"')]
    (row,) = csv.DictReader(lines)
    rate = float(row["rps"])
    return Measure(rate * took_s, rate, float(row["p50_latency_ms"]), float(row["p99_latency_ms"]))


def tpcb(clients: int, name: str = "TPC-B", script: str = "tpcb-like") -> Load:
    """One of pgbench's own scripts."""

    def command(seconds: float, directory: Path, _size: int) -> list[str]:
        logs = ["--log", f"--log-prefix={directory / 'log'}"]
        options = ["--client", str(clients), "--time", str(round(seconds)), "--no-vacuum", "--builtin", script]
        return ["pgbench", "--host", GUEST, "--username", "postgres", *options, *logs, "bench"]

    recommended = "protected" if script == "select-only" else "follow"
    return Load(f"{name}, {clients}", ("pgbench",), command, parse_tpcb, recommended=recommended)


def parse_tpcb(output: str, directory: Path, _took_s: float) -> Measure:
    """pgbench's rate, and the times in its log: the third number of each line, microseconds."""
    lines = [line for path in directory.glob("log.*") for line in path.read_text().splitlines()]
    times = [int(line.split()[2]) / 1e3 for line in lines]
    # Without a transaction it says no rate.
    return measure(times, float(_found(r"tps = ([\d.]+)", output)) if times else 0.0)


def keys() -> Load:
    """Typing in an ssh session."""

    def command(seconds: float, _directory: Path, _size: int) -> list[str]:
        return [sys.executable, __file__, GUEST, str(seconds)]

    return Load("ssh, a key", ("ssh",), command, parse_keys)


def parse_keys(output: str, _directory: Path, _took_s: float) -> Measure:
    """The waits that this module prints, in milliseconds."""
    waits = json.loads(output.splitlines()[-1])
    return measure(waits, 1e3 / statistics.mean(waits))


def copy(*, to_guest: bool) -> Load:
    """scp of one file, one way."""
    there = f"{USER}@{GUEST}:copied"

    def command(_seconds: float, directory: Path, _size: int) -> list[str]:
        here = directory / "copied"
        if to_guest:
            here.write_bytes(bytes(range(250)) * (COPIED_BYTES // 250))
        ends = [str(here), there] if to_guest else [there, str(here)]
        return ["scp", *SSH_OPTIONS, *ends]

    return Load(f"scp {'to' if to_guest else 'from'} the guest", ("scp",), command, parse_copy, unit="MB")


def parse_copy(_output: str, _directory: Path, took_s: float) -> Measure:
    """With the handshake."""
    megabytes = COPIED_BYTES / 1e6
    return Measure(megabytes, megabytes / took_s)


def measure(times_ms: Sequence[float], per_second: float) -> Measure:
    """Of the times of all requests."""
    times = sorted(times_ms)
    if not times:
        raise ValueError("no request was answered")
    return Measure(len(times), per_second, statistics.median(times), percentile(times, 0.99))


def _found(pattern: str, output: str) -> str:
    found = re.search(pattern, output)
    if not found:
        raise ValueError(f"no {pattern!r} in: {' | '.join(output.splitlines()[-3:])}")
    return found[1]


LOADS = (
    web("web, static", f"http://{GUEST}/", kept=True),
    web("web, a request's id", f"http://{GUEST}/id", kept=True),
    web("HTTPS, kept", f"https://{GUEST}/", kept=True),
    web("HTTPS, new each time", f"https://{GUEST}/", kept=False),
    *(redis(what, connections) for what in ("SET", "GET", "INCR") for connections in (1, 10, 50)),
    redis("LPUSH", 10),
    *(tpcb(clients) for clients in (1, 4, 8)),
    tpcb(4, "simple update", "simple-update"),
    tpcb(4, "select only", "select-only"),
    keys(),
    copy(to_guest=True),
    copy(to_guest=False),
)
QUICK = ("web, static", "redis SET, 10", "redis INCR, 1", "redis INCR, 10", "TPC-B, 1", "TPC-B, 4", "ssh, a key")


def main() -> None:
    """Type, and print the waits in milliseconds."""
    address, seconds = sys.argv[1], float(sys.argv[2])
    waits: list[float] = []
    with Session(Work(address, Path(), STALL_S, lambda: True)) as session:
        session.expect(GREETING)
        ends = time.monotonic() + seconds
        while time.monotonic() < ends:
            waits.append(1e3 * session.type("abcdefgh"[len(waits) % 8] if len(waits) % 40 else "\n"))
    print(json.dumps(waits))


if __name__ == "__main__":
    main()
