"""colo-compare through its sockets: QEMU's and `colo proxy`, fed alike, one after the other in the same run.

    python benchmarks/bench_proxy.py [--rounds 5] [--pairs 100000] [--json] [--help]

Both get the same command line and the same frames over unix sockets: TCP segments in order, each from both guests, on
1, 1000 or 10000 connections. This process fills both inputs in chunks of 128 KiB and empties the output; the frames
are made beforehand. `relay` compares nothing: it passes the primary's frames on and throws the secondary's away. What
it reaches is what the sockets and this driver allow, and no comparison can be faster.

The peer and this driver have a processor each where there are two or more (`--cpus`). Throughput: pairs released per
second, median over rounds in which the peers take turns; the spread of the rounds is what else the machine does. CPU:
seconds of the peer's processor per million pairs. Latency: one pair at a time, from before the primary's segment is
sent until it is back, the driver never asleep; the secondary's is sent right before it, or 100 µs before it.
"""

import argparse
import gc
import json
import os
import select
import shutil
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Final

CHUNK_BYTES: Final = 128 << 10
RECEIVE_BYTES: Final = 1 << 20
QUEUE_PACKETS: Final = 65_536
"""max_queue_size of both: QEMU drops what is above it, and a chunk of small frames of one connection is above 1024."""

START_S: Final = 20.0
STALL_S: Final = 10.0
"""Nothing has come out for that long: the peer has lost the rest."""

HEADERS: Final = 14 + 20 + 20
GAPS_US: Final = (0, 100)
_SEQ_POS: Final = 4 + 14 + 20 + 4
_FRAME_BYTES_KEPT: Final = 256 << 20


@dataclass
class Result:
    """One peer under one load. Rates in pairs per second, `cpu` in seconds per million pairs."""

    peer: str
    payload: int
    flows: int
    rates: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    lost: int = 0

    @property
    def median(self) -> float:
        return statistics.median(self.rates)

    @property
    def spread(self) -> float:
        """(largest - smallest) / median."""
        return (max(self.rates) - min(self.rates)) / self.median


@dataclass
class Latency:
    """Microseconds for one pair. `gap_us`: between the secondary's segment and the primary's."""

    peer: str
    payload: int
    gap_us: int
    p50: float
    p99: float


# ── frames ──────────────────────────────────────────────────────────────────────────────────────────────────


def checksum(octets: bytes) -> int:
    total = sum(struct.unpack(f">{len(octets) // 2}H", octets))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def template(flow: int, payload: int) -> bytearray:
    """A guest's segment behind its length word; the TCP checksum is left 0, nobody on the way looks at it."""
    ip = struct.pack(">BBHHHBBH", 0x45, 0, 40 + payload, 0, 0x4000, 64, 6, 0) + bytes([10, 0, 0, 1])
    ip += struct.pack(">I", 0x0A010000 + (flow >> 14))
    ip = ip[:10] + struct.pack(">H", checksum(ip)) + ip[12:]
    tcp = struct.pack(">HHIIBBHHH", 80, 1024 + (flow & 0x3FFF), 0, 1, 0x50, 0x18, 65_535, 0, 0)
    frame = b"\x02\0\0\0\0\x02\x02\0\0\0\0\x01\x08\0" + ip + tcp + bytes(payload)
    return bytearray(struct.pack(">I", len(frame)) + frame)


class Load:
    """`pairs` frames in order, connection after connection in turn; `advance` makes them the next ones."""

    def __init__(self, payload: int, flows: int, pairs: int) -> None:
        self.payload, self.flows = payload, flows
        self.size = 4 + HEADERS + payload
        self.pairs = min(pairs, _FRAME_BYTES_KEPT // self.size) // flows * flows or flows
        self._sent_per_flow = 0
        rounds = self.pairs // flows
        self.octets = bytearray(b"".join(template(flow, payload) for flow in range(flows)) * rounds)
        self.advance()

    def advance(self) -> None:
        pack, octets = struct.Struct(">I").pack_into, self.octets
        for number in range(self.pairs):
            seq = 1 + (self._sent_per_flow + number // self.flows) * self.payload
            pack(octets, number * self.size + _SEQ_POS, seq & 0xFFFFFFFF)
        self._sent_per_flow += self.pairs // self.flows


# ── peers ───────────────────────────────────────────────────────────────────────────────────────────────────

RELAY: Final = """
import select, socket, sys
def listening(name):
    end = socket.socket(socket.AF_UNIX); end.bind(sys.argv[1] + "/" + name); end.listen(1); return end
pri, sec, out = [end.accept()[0] for end in [listening(name) for name in ("pri", "sec", "out")]]
buf = memoryview(bytearray(1 << 20))
poller = select.epoll()
for end in (pri, sec):
    poller.register(end, select.EPOLLIN)
while True:
    for fd, _ in poller.poll():
        count = (pri if fd == pri.fileno() else sec).recv_into(buf)
        if not count:
            sys.exit()
        if fd == pri.fileno():
            out.sendall(buf[:count])
"""


def command(peer: str, folder: Path, extra: list[str]) -> list[str]:
    if peer == "relay":
        return [sys.executable, "-c", RELAY, str(folder)]
    sockets = []
    for name in ("pri", "sec", "out"):
        sockets += ["-chardev", f"socket,id={name},path={folder / name},server=on,wait=off"]
    compare = (
        "colo-compare,id=c0,primary_in=pri,secondary_in=sec,outdev=out,iothread=iot0"
        f",compare_timeout=60000,max_queue_size={QUEUE_PACKETS}"
    )
    line = [*sockets, "-object", "iothread,id=iot0", "-object", compare]
    if peer == "qemu":
        return ["qemu-system-x86_64", "-machine", "none", "-nodefaults", "-nographic", "-monitor", "none", *line]
    return [sys.executable, "-m", "pycolo", "proxy", *line, *extra]


class Peer:
    """A running peer and the other ends of its sockets."""

    def __init__(self, name: str, folder: Path, process: "subprocess.Popen[bytes]", stack: ExitStack) -> None:
        self.name = name
        self._process = process
        self.pri, self.sec, self.out = (self._connect(folder / one, stack) for one in ("pri", "sec", "out"))

    def _connect(self, path: Path, stack: ExitStack) -> socket.socket:
        end = stack.enter_context(socket.socket(socket.AF_UNIX))
        until = time.monotonic() + START_S
        while True:
            try:
                end.connect(os.fspath(path))
                return end
            except OSError:
                if self._process.poll() is not None or time.monotonic() > until:
                    raise SystemExit(f"{self.name} does not start") from None
                time.sleep(0.02)

    def cpu_s(self) -> float:
        """What all its threads have used; the scheduler counts nanoseconds."""
        tasks = Path(f"/proc/{self._process.pid}/task").iterdir()
        return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9


@contextmanager
def running(name: str, cpus: tuple[int, int] | None, extra: list[str]) -> Iterator[Peer]:
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="colo-bench-")))
        pin = ["taskset", "-c", str(cpus[0])] if cpus else []
        process = subprocess.Popen(
            [*pin, *command(name, folder, extra)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        stack.callback(process.wait)
        stack.callback(process.kill)
        peer = Peer(name, folder, process, stack)
        one_pair(peer, template(20_000, 8))  # until it is there
        yield peer


def one_pair(peer: Peer, frame: bytearray) -> None:
    """A frame for an output that is not connected yet is lost: try until one comes."""
    until = time.monotonic() + START_S
    while time.monotonic() < until:
        for end in (peer.sec, peer.pri):
            end.sendall(frame)
        if select.select([peer.out], [], [], 0.3)[0]:
            time.sleep(0.1)
            peer.out.recv(RECEIVE_BYTES)
            return
        struct.pack_into(">I", frame, _SEQ_POS, struct.unpack_from(">I", frame, _SEQ_POS)[0] + 8)
    raise SystemExit(f"{peer.name}: nothing comes out")


# ── measuring ───────────────────────────────────────────────────────────────────────────────────────────────


def throughput(peer: Peer, load: Load, result: Result) -> None:
    """One round."""
    whole = memoryview(load.octets)
    into = memoryview(bytearray(RECEIVE_BYTES))
    sent = {peer.pri: 0, peer.sec: 0}
    received, expected = 0, len(whole)
    poller = select.epoll()
    by_fd = {end.fileno(): end for end in (*sent, peer.out)}
    for end in by_fd.values():
        end.setblocking(False)
        poller.register(end, select.EPOLLIN if end is peer.out else select.EPOLLOUT)
    before_cpu, began = peer.cpu_s(), time.perf_counter()
    while received < expected:
        events = poller.poll(STALL_S)
        if not events:
            break
        for fd, _ in events:
            end = by_fd[fd]
            if end is peer.out:
                received += end.recv_into(into)
                continue
            at = sent[end]
            sent[end] = at + end.send(whole[at : at + CHUNK_BYTES])
            if sent[end] == expected:
                poller.unregister(end)
    took = time.perf_counter() - began - (STALL_S if received < expected else 0)
    poller.close()
    pairs = received // load.size
    result.lost += load.pairs - pairs
    result.rates.append(pairs / took)
    result.cpu.append((peer.cpu_s() - before_cpu) / max(1, pairs) * 1e6)


def latency(peer: Peer, payload: int, gap_us: int, count: int) -> Latency:
    """`count` pairs, each when the one before is back."""
    frame = template(20_001 + gap_us, payload)
    into = memoryview(bytearray(RECEIVE_BYTES))
    peer.pri.setblocking(True)
    peer.sec.setblocking(True)
    peer.out.setblocking(False)
    took = []
    gc.disable()
    for number in range(count):
        struct.pack_into(">I", frame, _SEQ_POS, 1 + number * payload & 0xFFFFFFFF)
        got, began = 0, time.perf_counter_ns()
        peer.sec.send(frame)
        if gap_us:
            until = began + gap_us * 1000
            while (began := time.perf_counter_ns()) < until:
                pass
        peer.pri.send(frame)
        while got < len(frame):
            try:
                got += peer.out.recv_into(into)
            except BlockingIOError:
                if time.perf_counter_ns() - began > STALL_S * 1e9:
                    raise SystemExit(f"{peer.name}: a pair does not come out") from None
        took.append((time.perf_counter_ns() - began) / 1000)
    gc.enable()
    took.sort()
    return Latency(peer.name, payload, gap_us, took[count // 2], took[count * 99 // 100])


def numbers(text: str) -> list[int]:
    return [int(word) for word in text.split(",")]


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", default="qemu,colo,relay", help="which, in their order")
    parser.add_argument("--payloads", type=numbers, default=[64, 1448], help="bytes of TCP payload, comma between")
    parser.add_argument("--flows", type=numbers, default=[1, 1000, 10_000], help="connections, comma between")
    parser.add_argument("--pairs", type=int, default=100_000, help="pairs a round, at most")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--latency-pairs", type=int, default=20_000)
    parser.add_argument("--cpus", help="PEER,DRIVER: the processors of both; 'none': as the scheduler likes")
    parser.add_argument("--colo-option", action="append", default=[], help="one more word for `colo proxy`")
    parser.add_argument("--json", action="store_true")
    return parser.parse_args()


def chosen_cpus(text: str | None) -> tuple[int, int] | None:
    allowed = sorted(os.sched_getaffinity(0))
    if text == "none" or (text is None and (len(allowed) < 2 or shutil.which("taskset") is None)):
        return None
    first, second = numbers(text) if text else allowed[-2:]
    return first, second


def main() -> None:
    chosen = options()
    peers = chosen.peers.split(",")
    if "qemu" in peers and shutil.which("qemu-system-x86_64") is None:
        print("qemu-system-x86_64 is not on PATH: without it", file=sys.stderr)
        peers.remove("qemu")
    cpus = chosen_cpus(chosen.cpus)
    if cpus:
        os.sched_setaffinity(0, {cpus[1]})
    results: list[Result] = []
    for payload in chosen.payloads:
        for flows in chosen.flows:
            results += compared(peers, payload, flows, chosen, cpus)
    latencies = []
    for payload in chosen.payloads:
        for name in peers:
            with running(name, cpus, chosen.colo_option) as peer:
                latencies += [latency(peer, payload, gap_us, chosen.latency_pairs) for gap_us in GAPS_US]
    if chosen.json:
        found = [asdict(one) | {"median": one.median, "spread": one.spread} for one in results]
        print(json.dumps({"throughput": found, "latency_us": [asdict(one) for one in latencies]}, indent=2))
    else:
        show(results, latencies, cpus)


def compared(
    peers: list[str], payload: int, flows: int, chosen: argparse.Namespace, cpus: tuple[int, int] | None
) -> list[Result]:
    """All peers under one load, in turns; the first round of each is for warming up."""
    load = Load(payload, flows, chosen.pairs)
    results = [Result(name, payload, flows) for name in peers]
    with ExitStack() as stack:
        there = [stack.enter_context(running(name, cpus, chosen.colo_option)) for name in peers]
        for number in range(chosen.rounds + 1):
            if number:
                load.advance()
            for peer, result in zip(there, results, strict=True):
                throughput(peer, load, result if number else Result(peer.name, payload, flows))
    return results


def show(results: list[Result], latencies: list[Latency], cpus: tuple[int, int] | None) -> None:
    where = f"peer on processor {cpus[0]}, driver on {cpus[1]}" if cpus else "processors as the scheduler likes"
    print(f"{os.cpu_count()} processors; {where}; Python {sys.version.split()[0]}; median of the rounds")
    heads = f"{'payload':>8} {'flows':>6} {'peer':>6}"
    print(f"\n{heads} {'pairs/s':>10} {'spread':>7} {'CPU s/M':>8} {'x QEMU':>7}  lost")
    of_qemu = {(one.payload, one.flows): one.median for one in results if one.peer == "qemu"}
    for one in results:
        base = of_qemu.get((one.payload, one.flows))
        times = f"{one.median / base:7.1f}" if base else f"{'':7}"
        cpu = statistics.median(one.cpu)
        print(
            f"{one.payload:>8} {one.flows:>6} {one.peer:>6} {one.median:>10,.0f} {one.spread:>7.0%} {cpu:>8.2f} {times}"
            f"  {one.lost or ''}"
        )
    print(f"\n{'payload':>8} {'gap µs':>6} {'peer':>6} {'p50 µs':>10} {'p99 µs':>7}   one pair in flight")
    for found in latencies:
        print(f"{found.payload:>8} {found.gap_us:>6} {found.peer:>6} {found.p50:>10.1f} {found.p99:>7.1f}")


if __name__ == "__main__":
    main()
