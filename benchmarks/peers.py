"""The peers: QEMU, `colo proxy`, a relay that compares nothing, and a sink, each behind the same sockets."""

import os
import random
import select
import socket
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from loads import VNET_BYTES

HERE: Final = Path(__file__).resolve().parent
QUEUE_PACKETS: Final = 65_536
"""max_queue_size of both: QEMU drops what is above it, and a chunk of small frames of one connection is above 1024."""

START_S: Final = 60.0
SPIN_US: Final = 500

NAMES: Final = {"compare": ("pri", "sec", "out"), "rewriter": ("cin", "gout", "gin", "cout")}
WAYS: Final = {"compare": (("pri", "out"),), "rewriter": (("cin", "gout"), ("gin", "cout"))}
_RELAYED: Final = {"compare": "pri>out,sec>", "rewriter": "cin>gout,gin>cout"}
_SUNK: Final = {"compare": "pri>,sec>", "rewriter": "cin>,gin>"}


@dataclass(frozen=True)
class Shape:
    """`kind`: compare or rewriter. `is_tcp`: TCP sockets on the loopback instead of unix sockets."""

    kind: str = "compare"
    is_tcp: bool = False
    vnet: bool = False


class Peer:
    """A running peer: its process, and the other ends of its sockets by their names."""

    def __init__(self, name: str, shape: Shape, process: "subprocess.Popen[bytes]") -> None:
        self.name = name
        self.shape = shape
        self.process = process
        self.ends: dict[str, socket.socket] = {}

    def cpu_s(self) -> float:
        """Processor time of all its threads; the scheduler counts nanoseconds."""
        tasks = Path(f"/proc/{self.process.pid}/task").iterdir()
        return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9

    def memory_bytes(self) -> int:
        """Resident."""
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")


@contextmanager
def running(name: str, shape: Shape, cpu: int | None, options: list[str], under: Sequence[str] = ()) -> Iterator[Peer]:
    """`name`: qemu, colo, relay, sink, or colo-spin and relay-spin. `options`: more words for `colo proxy`.

    `under`: a command that runs it.
    """
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="colo-bench-")))
        ports = free_ports(len(NAMES[shape.kind])) if shape.is_tcp else 0
        pin = [] if cpu is None else ["taskset", "-c", str(cpu)]
        log = stack.enter_context((folder / "log").open("wb"))
        process = subprocess.Popen(
            [*pin, *under, *command(name, shape, folder, ports), *(options if name.startswith("colo") else [])],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
        stack.callback(process.wait)
        stack.callback(process.kill)
        peer = Peer(name, shape, process)
        ends = [one for one in NAMES[shape.kind] if name != "sink" or one not in ("out", "gout", "cout")]
        for number, one in enumerate(ends):
            address = ("127.0.0.1", ports + number) if shape.is_tcp else os.fspath(folder / one)
            peer.ends[one] = connected(peer, address, folder / "log", stack)
        if name != "sink":
            for source, sink in WAYS[shape.kind]:
                one_frame(peer, peer.ends[source], peer.ends[sink])
        yield peer


def command(name: str, shape: Shape, folder: Path, ports: int) -> list[str]:
    if name in ("relay", "relay-spin", "sink"):
        on_ports = ",".join(f"{one}={ports + number}" for number, one in enumerate(NAMES[shape.kind]))
        place = f"tcp:{on_ports}" if shape.is_tcp else os.fspath(folder)
        ways = (_SUNK if name == "sink" else _RELAYED)[shape.kind]
        return [sys.executable, str(HERE / "engine.py"), place, ways, str(SPIN_US if name == "relay-spin" else 0)]
    line = []
    for number, one in enumerate(NAMES[shape.kind]):
        where = f"host=127.0.0.1,port={ports + number}" if shape.is_tcp else f"path={folder / one}"
        line += ["-chardev", f"socket,id={one},{where},server=on,wait=off"]
    if shape.kind == "compare":
        wires = "primary_in=pri,secondary_in=sec,outdev=out,iothread=iot0"
        vnet = ",vnet_hdr_support=on" if shape.vnet else ""
        limits = f"compare_timeout=60000,max_queue_size={QUEUE_PACKETS}"
        line += ["-object", "iothread,id=iot0", "-object", f"colo-compare,id=c0,{wires},{limits}{vnet}"]
    elif name == "qemu":
        line += rewriter_of_qemu()
    else:
        line += ["-object", "filter-rewriter,id=rew0,client_in=cin,guest_out=gout,guest_in=gin,client_out=cout"]
    if name == "qemu":
        return ["qemu-system-x86_64", "-machine", "none", "-nodefaults", "-nographic", "-monitor", "none", *line]
    spin = ["--spin", str(SPIN_US)] if name == "colo-spin" else []
    return [sys.executable, "-m", "pycolo", "proxy", *line, *spin]


def rewriter_of_qemu() -> list[str]:
    """QEMU's is a filter of a netdev: redirectors on either side of it, and nothing connected to the netdev."""
    port = free_ports(2)
    netdevs = [f"socket,id=nd0,udp=127.0.0.1:{port},localaddr=127.0.0.1:{port + 1}"]
    netdevs += ["hubport,id=hp0,hubid=0,netdev=nd0", "hubport,id=hp1,hubid=0"]
    filters = [
        "filter-redirector,id=f0,netdev=nd0,queue=tx,indev=cin",
        "filter-redirector,id=f1,netdev=nd0,queue=rx,outdev=cout",
        "filter-rewriter,id=rew0,netdev=nd0,queue=all",
        "filter-redirector,id=f2,netdev=nd0,queue=tx,outdev=gout",
        "filter-redirector,id=f3,netdev=nd0,queue=rx,indev=gin",
    ]
    return [word for text in netdevs for word in ("-netdev", text)] + [
        word for text in filters for word in ("-object", text)
    ]


def free_ports(count: int) -> int:
    """The first of `count` ports in a row that are free at the moment, of TCP and of UDP."""
    chance = random.SystemRandom()
    while True:
        first = chance.randrange(10_000, 32_000)
        with ExitStack() as stack:
            try:
                for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
                    for number in range(count):
                        end = stack.enter_context(socket.socket(socket.AF_INET, kind))
                        end.bind(("127.0.0.1", first + number))
            except OSError:
                continue
            return first


def connected(peer: Peer, address: str | tuple[str, int], log: Path, stack: ExitStack) -> socket.socket:
    until = time.monotonic() + START_S
    while True:
        end = socket.socket(socket.AF_UNIX if isinstance(address, str) else socket.AF_INET)
        try:
            end.connect(address)
            return stack.enter_context(end)
        except OSError:
            end.close()
            if peer.process.poll() is not None or time.monotonic() > until:
                said = log.read_text(errors="replace").strip().splitlines() or ["it says nothing"]
                raise SystemExit(f"error: {peer.name} does not start: {said[-1]}") from None
            time.sleep(0.02)


def one_frame(peer: Peer, source: socket.socket, sink: socket.socket) -> None:
    """A frame for an output that is not connected yet is lost: send frames that peers ignore, until one arrives."""
    frame = b"\x02\0\0\0\0\x02\x02\0\0\0\0\x01\x88\xb5" + bytes(46)
    framed = struct.pack(">I", len(frame)) + frame
    if peer.shape.vnet:
        framed = struct.pack(">II", VNET_BYTES + len(frame), VNET_BYTES) + bytes(VNET_BYTES) + frame
    until = time.monotonic() + START_S
    while time.monotonic() < until:
        source.sendall(framed)
        if select.select([sink], [], [], 0.3)[0]:
            while select.select([sink], [], [], 0.2)[0]:
                sink.recv(1 << 16)
            return
    raise SystemExit(f"error: {peer.name}: nothing comes out")
