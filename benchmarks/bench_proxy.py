"""QEMU and `colo proxy` side by side: the same command line, frames and sockets, in turns in the same run.

    python benchmarks/bench_proxy.py [--quick] [--rows WORD|WORD] [--help]

Each row of the table is one load (loads.py) through four peers. QEMU 7.2 or newer runs colo-compare or filter-rewriter
without a machine. `relay` compares nothing: it passes the primary's frames on and throws the secondary's away; `sink`
throws everything away. What these two reach is what the sockets and the driver (engine.c) allow: no comparison can be
faster, and the driver is not what limits a row in which a peer stays well below the sink.

Peer and driver have a processor each (`--cpus`). The peers take turns; each has three rounds, and the median is shown.
A round in which other programs had more than 6 % of one of the two processors is measured again, up to three times;
where none was quiet the quietest is kept and the row says so. What comes out is checked in the same rounds: each
connection's frames in order, no byte missing (a difference that is found holds a connection, so it would be missing),
payload and checksum of each 61st frame. Results: bench.json, bench.md and two pictures in benchmarks/results.
"""

import argparse
import json
import os
import shutil
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Final

import machine
import report
from loads import CUT, DATAGRAMS, HALF_ACKS, JOINED, LARGE, MIXED, SMALL, VNET
from peers import Shape
from sessions import TRIES, Found, Load, compared, waited

RESULTS: Final = Path(__file__).resolve().parent / "results"
QUICK: Final = RESULTS.parents[1] / "build" / "benchmarks" / "quick"
MILLION: Final = 1_000_000
_REWRITER: Final = Shape("rewriter")

ROWS: Final = (
    Load("compare-64", "compare, unix, 64 B, 1000 connections", SMALL, 1000),
    Load("compare-imix", "IMIX", MIXED, 1000),
    Load("compare-acks", "half bare ACKs", HALF_ACKS, 1000),
    Load("compare-udp", "UDP, 64 B", DATAGRAMS, 1000),
    Load("compare-1448", "1448 B, 1000 connections", LARGE, 1000),
    Load("compare-1448-10000", "1448 B, 10,000 connections", LARGE, 10_000),
    Load("compare-cut", "1448 against 2×724", CUT, 1000),
    Load("compare-joined", "2×724 against 1448", JOINED, 1000),
    Load("compare-vnet", "vnet_hdr, 1448 B", VNET, 1000, Shape(vnet=True)),
    Load("compare-tcp", "TCP sockets, IMIX", MIXED, 1000, Shape(is_tcp=True)),
    Load("rewriter-1448", "rewriter both ways, 1448 B", LARGE, 1000, _REWRITER),
    Load("rewriter-imix", "rewriter both ways, IMIX", MIXED, 1000, _REWRITER),
    Load("compare-64-1000000", "64 B, 1,000,000 connections", SMALL, MILLION, peers=("relay", "colo")),
)
_QUICK_ROWS: Final = ("compare-64", "compare-1448", "rewriter-1448")
LATENCY: Final = "latency"


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="three rows and the latency, short; kept in build/ only")
    parser.add_argument(
        "--rows", default="", help=f"{', '.join(row.key for row in ROWS)}, {LATENCY}; part of a name, |"
    )
    parser.add_argument("--peers", help="of qemu,relay,colo,sink; comma between")
    parser.add_argument("--rounds", type=int, help="3; with --quick 1")
    parser.add_argument("--seconds", type=float, help="of a round: 1.5; with --quick 0.5")
    parser.add_argument(
        "--tries", type=int, default=TRIES, help="how often a disturbed round is measured (default: %(default)s)"
    )
    parser.add_argument("--cpus", help="PEER,DRIVER: the processors of both; 'none': as the scheduler likes")
    parser.add_argument("--colo-option", action="append", default=[], help="one more word for `colo proxy`")
    parser.add_argument("--results", type=Path, help="where they are written, instead of benchmarks/results")
    chosen = parser.parse_args()
    chosen.rounds = chosen.rounds or (1 if chosen.quick else 3)
    chosen.seconds = chosen.seconds or (0.5 if chosen.quick else 1.5)
    chosen.results = chosen.results or (QUICK if chosen.quick else RESULTS)
    return chosen


def wanted(key: str, chosen: argparse.Namespace) -> bool:
    if chosen.rows:
        return any(word in key for word in chosen.rows.split("|"))
    return not chosen.quick or key in (*_QUICK_ROWS, LATENCY)


def is_there(peer: str, chosen: argparse.Namespace) -> bool:
    if chosen.peers and peer.partition("-")[0] not in chosen.peers.split(","):
        return False
    return peer != "qemu" or shutil.which("qemu-system-x86_64") is not None


def shown(found: Found) -> dict[str, Any]:
    return asdict(found) | {
        "rate": found.rate,
        "cpu_s_per_million": found.cpu_per_million,
        "is_contended": found.is_contended,
    }


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def measured(chosen: argparse.Namespace, cores: machine.Cores | None) -> dict[str, Any]:
    rows = []
    for row in (row for row in ROWS if wanted(row.key, chosen)):
        peers = tuple(peer for peer in row.peers if is_there(peer, chosen))
        say(f"{row.title}: {', '.join(peers)}")
        found = compared(
            replace(row, peers=peers), cores, chosen.rounds, chosen.seconds, chosen.tries, chosen.colo_option
        )
        for one in found:
            say(f"  {one.peer:<6} {one.rate:>10,.0f} a second  {one.wrong}")
        rows.append({"key": row.key, "title": row.title, "flows": row.flows, "peers": [shown(one) for one in found]})
    latency = []
    if wanted(LATENCY, chosen):
        say("latency")
        count = 2000 if chosen.quick else 20_000
        found_there = waited(
            SMALL, cores, chosen.rounds, count, chosen.colo_option, lambda peer: is_there(peer, chosen)
        )
        latency = [asdict(one) | {"p50_us": one.p50} for one in found_there]
        say("")
    return {"machine": machine.described(cores), "rounds": chosen.rounds, "rows": rows, "latency": latency}


def main() -> None:
    chosen = options()
    if shutil.which("cc") is None:
        raise SystemExit("error: cc is not installed: as root, apt-get install gcc libc6-dev")
    if not is_there("qemu", chosen):
        say("without QEMU (as root, apt-get install qemu-system-x86)")
    cores = machine.chosen(chosen.cpus)
    if cores:
        os.sched_setaffinity(0, {cores.driver})
    found = measured(chosen, cores)
    table = report.markdown(found)
    chosen.results.mkdir(parents=True, exist_ok=True)
    (chosen.results / "bench.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    (chosen.results / "bench.md").write_text(table, encoding="utf-8")
    for name, picture in report.pictures(found).items():
        (chosen.results / name).write_text(picture, encoding="utf-8")
    print(table)
    wrong = [
        f"{row['title']}: {one['peer']}: {one['wrong']}"
        for row in found["rows"]
        for one in row["peers"]
        if one["wrong"]
    ]
    for line in wrong:
        say(f"error: {line}")
    raise SystemExit(bool([line for line in wrong if ": colo:" in line]))


if __name__ == "__main__":
    main()
