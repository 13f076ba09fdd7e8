"""How soon does a client retransmit a segment that only the secondary guest has lost?

    .venv/bin/python benchmarks/repeated_ack.py [--rounds 20] [--segments 8] [--json] [--help]

A client, two nodes and two guests with Linux' own TCP, in network namespaces. The client sends a request of a few full
segments in one go; the first of them is taken away on its way to the secondary's guest, the primary's guest gets all.
So the primary's ACKs run ahead and wait (rule C3), and the secondary repeats its ACK with SACK blocks. Three ways:

* blocks     what the node does: the repetition goes to the client with the secondary's blocks
* no-blocks  the same without the blocks, which are taken out on the way to the client
* none       the repetitions are taken away on the way to the client

The time is taken at the client's network card, from the first time that it sent the segment until the second. What
made its kernel send it, the kernel's counters say (TcpExt in /proc/net/netstat). `--patient` gives the client a least
retransmission time-out of 20 s and no tail loss probe: then only a fast retransmission can come soon, however busy the
machine. Needs root and /dev/net/tun, and pycolo-lab. Exit code 1 when an answer was wrong or did not come.
"""

import argparse
import hashlib
import json
import os
import select
import socket
import statistics
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from pyroute2 import IPRoute

from pycolo.core import Packet, keep_sack_blocks, parse_frame
from pycolo.transport.ports import DevicePort, open_device
from pycolo.transport.portspec import parse_port
from pycolo.wire.kinds import PacketKind
from pycolo_lab import guest_server, twisted
from pycolo_lab.errors import LabError
from pycolo_lab.interruption import Interruption
from pycolo_lab.namespaces import Namespace, run_isolated
from pycolo_lab.observe import NodeProbe, read_counters
from pycolo_lab.processes import Host, Processes
from pycolo_lab.topology import (
    CLIENT_ADDRESSES,
    CLIENT_MAC,
    GUEST_ADDRESSES,
    GUEST_MAC,
    index_of,
    raise_up,
    require_tun,
    switch_ipv6_off,
)

WAYS: Final = ("blocks", "no-blocks", "none")
SEGMENT_BYTES: Final = 1448
"""Of payload in a full segment: 1500 bytes less the headers, with timestamps."""

FULL_BYTES: Final = 1000
"""The lines before the request are shorter, its segments are not."""

LINE_BYTES: Final = 16
"""The server's instruction, before the payload and in one segment with it."""

PATIENT_MS: Final = 20_000
RTAX_RTO_MIN: Final = 13
"""linux/rtnetlink.h: the kernel looks at this metric of a route only if it is locked."""

START_S: Final = 20.0
ANSWER_S: Final = 60.0
COUNTERS: Final = (
    "TcpExtTCPFastRetrans",
    "TcpExtTCPSackRecovery",
    "TcpExtTCPLossProbes",
    "TcpExtTCPTimeouts",
    "TcpExtTCPSlowStartRetrans",
)


@dataclass
class Round:
    """One connection. Times in µs; `repetitions`: ACKs with blocks on the way to the client, until it sent again."""

    way: str
    again_us: float
    first_repetition_us: float
    repetitions: int
    counters: dict[str, int]


# ── between a network card and a node ───────────────────────────────────────────────────────────────────────


class Loss:
    """The segment of the present connection that is lost: seen by both cables. `way` is how the client is told."""

    def __init__(self) -> None:
        self.begin(WAYS[0])

    def begin(self, way: str) -> None:
        """For the next connection."""
        self.way = way
        self.seq = -1
        self.is_taken = False
        self.sent_ns = self.again_ns = self.told_ns = 0
        self.repetitions = 0

    def parsed(self, frame: bytearray) -> Packet | None:
        """A TCP segment of it, or None."""
        packet = Packet()
        return packet if parse_frame(frame, 0, len(frame), 0, packet) == PacketKind.TCP else None

    def from_client(self, frame: bytearray) -> bool:
        """Every frame passes; the time of the lost segment is recorded."""
        packet, now_ns = self.parsed(frame), time.monotonic_ns()
        if packet is None or packet.payload_len < FULL_BYTES:
            return True
        if self.seq < 0:
            self.seq, self.sent_ns = packet.seq, now_ns
        elif packet.seq == self.seq and not self.again_ns:
            self.again_ns = now_ns
        return True

    def to_client(self, frame: bytearray) -> bool:
        """Change a node's repetitions as `way` says."""
        packet = self.parsed(frame)
        if packet is None or self.again_ns or packet.payload_len or packet.ack != self.seq or not packet.sack_len:
            return True
        self.repetitions += 1
        self.told_ns = self.told_ns or time.monotonic_ns()
        if self.way == "no-blocks":
            keep_sack_blocks(frame, packet, 0)
        return self.way != "none"

    def to_secondary(self, frame: bytearray) -> bool:
        """The segment is lost once."""
        packet = self.parsed(frame)
        if packet is None or self.is_taken or packet.payload_len < FULL_BYTES:
            return True
        self.is_taken = True
        return False


class Cable(threading.Thread):
    """Frames between a card and the stream of a node, one by one; those that `in_` and `out` refuse are lost."""

    def __init__(
        self,
        card: DevicePort,
        node: Path,
        in_: Callable[[bytearray], bool],
        out: Callable[[bytearray], bool],
    ) -> None:
        super().__init__(daemon=True)
        self._card = card.fileno()
        self._in, self._out = in_, out
        self._node = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._node.connect(os.fspath(node))
        self._pending = bytearray()

    def run(self) -> None:
        with suppress(OSError):  # the node has ended
            self._run()

    def _run(self) -> None:
        poll = select.poll()
        for fd in (self._card, self._node.fileno()):
            poll.register(fd, select.POLLIN)
        while True:
            for fd, _ in poll.poll():
                if fd == self._card:
                    self._read_card()
                elif not self._read_node():
                    return

    def _read_card(self) -> None:
        while True:
            try:
                frame = bytearray(os.read(self._card, 1 << 16))
            except BlockingIOError:
                return
            if self._in(frame):
                self._node.sendall(len(frame).to_bytes(4, "big") + frame)

    def _read_node(self) -> bool:
        octets = self._node.recv(1 << 18)
        self._pending += octets
        while len(self._pending) >= 4 and len(self._pending) >= (end := 4 + int.from_bytes(self._pending[:4], "big")):
            frame = self._pending[4:end]
            del self._pending[:end]
            if self._out(frame):
                os.write(self._card, frame)
        return bool(octets)


# ── the stage ───────────────────────────────────────────────────────────────────────────────────────────────


class Stage:
    """Namespaces, nodes, guests with their servers, cables."""

    def __init__(self, directory: Path, interruption: Interruption, *, is_patient: bool) -> None:
        self._directory = directory
        self._interruption = interruption
        self._is_patient = is_patient
        self.processes = Processes(directory)
        self.hosts, self.client, self.guest_a, self.guest_b = (
            Namespace.create(directory, name) for name in ("hosts", "client", "guest-a", "guest-b")
        )
        self.loss = Loss()

    def build(self) -> None:
        cards = {name: self._tap(name) for name in ("client", "guest-b")}
        with self.hosts.entered(), IPRoute() as netlink:
            raise_up(netlink, "lo")
        self._start_nodes()
        self._attach(self.client, CLIENT_MAC, CLIENT_ADDRESSES[4])
        if self._is_patient:
            self._make_patient()
        for name, host, guest in (("a", Host.A, self.guest_a), ("b", Host.B, self.guest_b)):
            self._attach(guest, GUEST_MAC, GUEST_ADDRESSES[4])
            serve = [sys.executable, "-m", guest_server.__name__, "--address", GUEST_ADDRESSES[4][0], "--seed", "1"]
            server = self.processes.start(f"server-{name}", host, guest, serve)
            self._until(lambda server=server: "ready" in server.log.read_text(), f"server-{name} did not start")
        # No process is started behind this line: it would be forked from a process with threads.
        Cable(cards["client"], self._directory / "lan", self.loss.from_client, self.loss.to_client).start()
        Cable(cards["guest-b"], self._directory / "guest-b.sock", lambda _: True, self.loss.to_secondary).start()
        probes = [NodeProbe(self._directory / f"{role}.sock") for role in ("primary", "secondary")]
        self._until(lambda: all(self._is_protected(probe) for probe in probes), "the pair did not become protected")

    def _tap(self, name: str) -> DevicePort:
        return open_device(parse_port(f"tap:eth0,netns={self._directory / name},vnet_hdr=off", name), name)

    def _start_nodes(self) -> None:
        common = ["--insecure", "--arbiter", "manual", "--heartbeat-timeout", "10000"]
        guest_a = f"tap:eth0,netns={self.guest_a.path},vnet_hdr=off"
        # The link is loopback: the port is as good as any, in a namespace of its own.
        own = {
            "primary": ["--listen", "127.0.0.1:7000", "--guest", guest_a, "--compare-timeout", "60000"],
            "secondary": ["--connect", "127.0.0.1:7000", "--guest", self._stream("guest-b.sock")],
        }
        lans = {"primary": self._stream("lan"), "secondary": self._stream("lan-b")}
        module = {"primary": "pycolo", "secondary": twisted.__name__}
        for role, host in (("primary", Host.A), ("secondary", Host.B)):
            control = ["--control", str(self._directory / f"{role}.sock")]
            command = [sys.executable, "-m", module[role], role, *own[role], "--lan", lans[role], *control, *common]
            self.processes.start(role, host, self.hosts, command)
        for name in ("lan", "guest-b.sock"):
            self._until((self._directory / name).exists, f"no node listens on {name}")

    def _stream(self, name: str) -> str:
        return f"unix:{self._directory / name},server=on"

    def _attach(self, namespace: Namespace, mac: str, address: tuple[str, int]) -> None:
        with namespace.entered(), IPRoute() as netlink:
            self._until(lambda: bool(netlink.link_lookup(ifname="eth0")), f"{namespace.name} has no network card")
            switch_ipv6_off()
            index = index_of(netlink, "eth0")
            netlink.link("set", index=index, address=mac)
            raise_up(netlink, "lo")
            raise_up(netlink, "eth0")
            netlink.addr("add", index=index, address=address[0], prefixlen=address[1])

    def _make_patient(self) -> None:
        with self.client.entered(), IPRoute() as netlink:
            Path("/proc/sys/net/ipv4/tcp_early_retrans").write_text("0")  # no tail loss probe
            index = index_of(netlink, "eth0")
            own = CLIENT_ADDRESSES[4][0]
            metrics = {"attrs": [("RTAX_LOCK", 1 << RTAX_RTO_MIN), ("RTAX_RTO_MIN", PATIENT_MS)]}
            netlink.route("add", dst=f"{GUEST_ADDRESSES[4][0]}/32", oif=index, scope=253, prefsrc=own, metrics=metrics)

    def _is_protected(self, probe: NodeProbe) -> bool:
        probe.poll()
        return probe.status is not None and probe.status.state == "protected"

    def _until(self, condition: Callable[[], bool], otherwise: str) -> None:
        until = time.monotonic() + START_S
        while not condition():
            self._interruption.rest(0.02)
            if time.monotonic() > until:
                words = {process.name: process.last_words() for process in self.processes._all}
                raise LabError(f"{otherwise} within {START_S:.0f} s; {words}")

    # ── one connection ────────────────────────────────────────────────────────────────────────────────────────

    def play(self, way: str, segments: int) -> Round:
        """A request of which one segment is lost. Raises `LabError` when the answer is wrong, or does not come."""
        payload = os.urandom(segments * SEGMENT_BYTES - LINE_BYTES)
        line = b"put %*d\n" % (LINE_BYTES - len("put \n"), len(payload))
        loss = self.loss
        loss.begin(way)
        with self.client.entered():
            sock = socket.create_connection((GUEST_ADDRESSES[4][0], guest_server.PORT), ANSWER_S)
            with sock, sock.makefile("rb") as answers:
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                for word in (b"one", b"two"):
                    sock.sendall(b"ask " + word + b"\n")
                    answers.readline()
                before = read_counters(self.client)
                sock.sendall(line + payload)
                try:
                    answer = answers.readline().strip()
                except TimeoutError:
                    answer = b""
                after = read_counters(self.client)
        if answer != hashlib.sha256(payload).hexdigest().encode() or not loss.again_ns:
            raise LabError(f"{way}: the guest answered {answer!r} to a request of {segments} segments")
        return Round(
            way,
            (loss.again_ns - loss.sent_ns) / 1000,
            (loss.told_ns - loss.sent_ns) / 1000 if loss.told_ns else 0.0,
            loss.repetitions,
            {name: after[name] - before[name] for name in COUNTERS},
        )


# ── the run ─────────────────────────────────────────────────────────────────────────────────────────────────


def run(given: argparse.Namespace, directory: Path, interruption: Interruption) -> int:
    stage = Stage(directory, interruption, is_patient=given.patient)
    try:
        stage.build()
        rounds = []
        for _ in range(given.rounds):
            for way in given.ways:
                interruption.look()
                rounds.append(stage.play(way, given.segments))
    finally:
        stage.processes.kill_all()
    if given.json:
        print(json.dumps([asdict(each) for each in rounds]))
    else:
        print_table(given, rounds)
    return 0


def print_table(given: argparse.Namespace, rounds: list[Round]) -> None:
    print(f"{given.rounds} connections each, the first of {given.segments} segments is lost for the secondary")
    print(f"{'way':<10} {'sent again after, ms':>28} {'repetitions':>12}  counted by the client's kernel, in all")
    for way in given.ways:
        mine = [each for each in rounds if each.way == way]
        times = sorted(each.again_us / 1000 for each in mine)
        middle = f"{statistics.median(times):.2f} ({times[0]:.2f} to {times[-1]:.2f})"
        totals: dict[str, Any] = {name: sum(each.counters[name] for each in mine) for name in COUNTERS}
        counted = ", ".join(f"{name.removeprefix('TcpExt')} {count}" for name, count in totals.items() if count)
        print(f"{way:<10} {middle:>28} {statistics.median(each.repetitions for each in mine):>12}  {counted}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=20, help="connections of each way [20]")
    parser.add_argument("--segments", type=int, default=8, help="full segments of a request [8]")
    parser.add_argument("--way", dest="ways", action="append", choices=WAYS, help="only these; may be given again")
    parser.add_argument("--patient", action="store_true", help="the client does nothing by time")
    parser.add_argument("--json", action="store_true", help="print each connection's figures as JSON")
    given = parser.parse_args()
    given.ways = given.ways or list(WAYS)
    interruption = Interruption()
    interruption.watch()
    require_tun()
    return run_isolated(lambda directory: run(given, directory, interruption), interruption)


if __name__ == "__main__":
    sys.exit(main())
