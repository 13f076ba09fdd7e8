"""How long does no frame pass while a guest's tap moves from its bridge to the node, and back?

    .venv/bin/python benchmarks/moving_a_tap.py [--moves 20] [--openvswitch BRIDGE] [--json] [--help]

A client and a guest with Linux' own TCP, each in a network namespace, and a host with a bridge in a third; a process
passes the guest's frames between its namespace and the tap, as a QEMU does, and another one is the node: a packet
socket on the tap, and the node's TAP. The client sends a datagram each millisecond, which the guest answers, and
one TCP connection carries data all the time. Ten times the tap is attached and ten times detached.

Of each move: the longest time without an answer in it, less the millisecond that there is always; the same without a
move, in a fifth of a second; and the datagrams that were lost. With `--openvswitch BRIDGE` the host is this process's
own network namespace, in which Open vSwitch runs with that bridge. Needs root and /dev/net/tun. Exit code 1 when the
TCP connection broke or carried something else than was sent.
"""

import argparse
import ctypes
import fcntl
import json
import os
import select
import signal
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import pairwise
from multiprocessing import Pipe
from pathlib import Path
from typing import Any, Final

from pycolo.config import CardOptions
from pycolo.hostnet.wire import Wire

GUEST: Final = "10.77.0.2"
CLIENT: Final = "10.77.0.1"
PORT: Final = 7001
INTERVAL_S: Final = 0.001
AROUND_S: Final = 0.5
"""Before and after a move."""

CONTROL_S: Final = 0.2
"""Of it, without a move: what the machine's other work does to the same traffic."""


# ── namespaces and processes ────────────────────────────────────────────────────────────────────────────────


class Room:
    """A network namespace."""

    def __init__(self, path: str = "") -> None:
        self._holder = None
        if not path:
            self._holder = subprocess.Popen(["unshare", "--net", "sh", "-c", "echo; exec sleep 3600"], stdout=-1)
            assert self._holder.stdout is not None
            self._holder.stdout.readline()
        self.path = path or f"/proc/{self._holder.pid if self._holder else 0}/ns/net"

    def enter(self) -> None:
        """This process is in it from now on."""
        with open(self.path) as namespace:
            if ctypes.CDLL(None).setns(namespace.fileno(), 0x40000000):
                sys.exit("needs root")

    def run(self, *lines: str) -> None:
        """Lines of `ip`."""
        text = "\n".join(lines) + "\n"
        subprocess.run(["nsenter", f"--net={self.path}", "ip", "-batch", "-"], input=text, text=True, check=True)

    def fork(self, work: Callable[[], None]) -> int:
        """A process in it."""
        pid = os.fork()
        if pid:
            return pid
        code = 1
        try:
            signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
            self.enter()
            work()
            code = 0
        except SystemExit:
            code = 0
        finally:
            os._exit(code)

    def close(self) -> None:
        """End it."""
        if self._holder is not None:
            self._holder.kill()
            self._holder.wait()


def plain_frames(name: str) -> None:
    """No checksum or segment is left to the device: Open vSwitch's userspace datapath takes neither."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        for command in (0x1F, 0x24, 0x17):  # ETHTOOL_STSO, _SGSO, _STXCSUM
            value = ctypes.create_string_buffer(struct.pack("=II", command, 0))
            with suppress(OSError):
                fcntl.ioctl(sock, 0x8946, struct.pack("16sP", name.encode(), ctypes.addressof(value)))


def open_tap(name: str) -> int:
    fd = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    fcntl.ioctl(fd, 0x400454CA, struct.pack("16sH22x", name.encode(), 0x0002 | 0x1000 | 0x4000))
    fcntl.ioctl(fd, 0x400454D0, 0x01 | 0x02 | 0x04 | 0x08)
    return fd


def open_packet(name: str) -> int:
    sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_NONBLOCK, 0)
    for option, value in ((15, 1), (20, 1), (23, 1)):  # PACKET_VNET_HDR, _QDISC_BYPASS, _IGNORE_OUTGOING
        sock.setsockopt(263, option, value)
    sock.setsockopt(socket.SOL_SOCKET, 33, 8 << 20)
    sock.bind((name, 3))
    return sock.detach()


def pass_on(one: int, other: int) -> None:
    """Frames between two devices; what one does not take is lost, as on a full card."""
    poll = select.epoll()
    for fd in (one, other):
        poll.register(fd, select.EPOLLIN)
    while True:
        for fd, _ in poll.poll():
            for _ in range(64):
                try:
                    frame = os.read(fd, 70_000)
                except OSError:
                    break
                with suppress(OSError):
                    os.write(other if fd == one else one, frame)


# ── guest and client ────────────────────────────────────────────────────────────────────────────────────────


def serve() -> None:
    """Answers each datagram, and sends what comes over TCP back."""
    plain_frames("nic")
    datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    datagrams.bind(("", PORT))
    listener = socket.create_server(("", PORT))
    peers: list[socket.socket] = []
    while True:
        for sock in select.select([datagrams, listener, *peers], [], [])[0]:
            if sock is listener:
                peers.append(listener.accept()[0])
            elif sock is datagrams:
                datagrams.sendto(*datagrams.recvfrom(100))
            elif octets := sock.recv(65536):
                sock.sendall(octets)


def ask(pipe: Any) -> None:
    """A datagram each millisecond until the pipe says something; then the times of all answers, by number."""
    plain_frames("client")
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.connect((GUEST, PORT))
    sock.setblocking(False)
    answers: dict[int, float] = {}
    sent, due = 0, time.monotonic()
    while not pipe.poll():
        now = time.monotonic()
        if now >= due:
            with suppress(OSError):
                sock.send(struct.pack("Q", sent))
            sent, due = sent + 1, max(due + INTERVAL_S, now)
        select.select([sock], [], [], max(0, due - time.monotonic()))
        with suppress(OSError):
            while True:
                answers[struct.unpack("Q", sock.recv(100))[0]] = time.monotonic()
    pipe.send((sent, answers))


def converse(pipe: Any) -> None:
    """Data over one connection until the pipe says something; then how many bytes came back as sent, or None."""
    sock = socket.create_connection((GUEST, PORT), timeout=30)
    total = 0
    while not pipe.poll():
        block = total.to_bytes(8, "big") * 500
        sock.sendall(block)
        found = b""
        while len(found) < len(block):
            part = sock.recv(len(block) - len(found))
            if not part:
                break
            found += part
        if found != block:
            pipe.send(None)
            return
        total += len(block)
        time.sleep(0.002)
    pipe.send(total)


# ── the moves ───────────────────────────────────────────────────────────────────────────────────────────────


def build(host: Room, guest: Room, client: Room, switch: str | None) -> None:
    host.run(
        *([] if switch else ["link add br0 type bridge forward_delay 0", "link set br0 up"]),
        f"link add mt-lan type veth peer name client netns {client.path.split('/')[2]}",
        "link set mt-lan up",
        *([] if switch else ["link set mt-lan master br0"]),
    )
    client.run("link set client up", f"addr add {CLIENT}/24 dev client")
    if switch:
        subprocess.run(["ovs-vsctl", "add-port", switch, "mt-lan"], check=True)
    guest.run("link set lo up", "tuntap add nic mode tap vnet_hdr")
    guest.run("link set nic address 52:54:00:00:00:01 up", f"addr add {GUEST}/24 dev nic")


def moves(wire: Wire, count: int) -> Iterator[tuple[str, float, float]]:
    """Name, begin and end of each move."""
    for number in range(count):
        is_attach = number % 2 == 0
        if is_attach:
            wire.prepare("mt-tap")
            node = os.fork()
            if node == 0:
                pass_on(open_tap(wire.node_tap), open_packet("mt-tap"))
            time.sleep(AROUND_S)
        begin = time.monotonic()
        (wire.attach if is_attach else wire.detach)()
        end = time.monotonic()
        if not is_attach:
            os.kill(node, signal.SIGKILL)
            os.waitpid(node, 0)
        time.sleep(AROUND_S)
        yield ("attach" if is_attach else "detach"), begin, end


def measured(count: int, switch: str | None) -> dict[str, Any]:
    host, guest, client = Room("/proc/self/ns/net" if switch else ""), Room(), Room()
    pids: list[int] = []
    try:
        build(host, guest, client, switch)
        host.enter()
        tap = open_tap("mt-tap")
        host.run("link set mt-tap up", *([] if switch else ["link set mt-tap master br0"]))
        if switch:
            subprocess.run(["ovs-vsctl", "add-port", switch, "mt-tap"], check=True)
        pids.append(guest.fork(lambda: pass_on(tap, open_tap("nic"))))
        pids.append(guest.fork(serve))
        time.sleep(1)
        pipes = [Pipe() for _ in range(2)]
        pids.append(client.fork(lambda: ask(pipes[0][1])))
        pids.append(client.fork(lambda: converse(pipes[1][1])))
        time.sleep(1)
        with tempfile.TemporaryDirectory() as state:
            done = list(moves(Wire("mt", 0, CardOptions(netdev="hn0"), Path(state)), count))
        for pipe, _ in pipes:
            pipe.send("end")
        (sent, answers), carried = pipes[0][0].recv(), pipes[1][0].recv()
        return summary(done, sent, answers, carried)
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        if switch:
            for name in ("mt-lan", "mt-tap"):
                subprocess.run(["ovs-vsctl", "--if-exists", "del-port", switch, name], check=False)
        for room in (host, guest, client):
            room.close()


def summary(
    done: list[tuple[str, float, float]], sent: int, answers: dict[int, float], carried: int | None
) -> dict[str, Any]:
    times = sorted(answers.values())

    def longest_ms(begin: float, end: float) -> float:
        within = [at for at in times if begin <= at <= end]
        gap = max((later - earlier for earlier, later in pairwise(within)), default=end - begin)
        return round((gap - INTERVAL_S) * 1000, 1)

    gaps = [
        (name, longest_ms(begin - CONTROL_S / 2, end + CONTROL_S / 2), round((end - begin) * 1000, 1))
        for name, begin, end in done
    ]
    without = [gap for _, gap, _ in gaps]
    control = [longest_ms(end + AROUND_S - CONTROL_S, end + AROUND_S) for *_, end in done]
    return {
        "moves": len(done),
        "without_traffic_ms": {"median": statistics.median(without), "largest": max(without)},
        "without_a_move_ms": {"median": statistics.median(control), "largest": max(control)},
        "call_ms": {"median": statistics.median(took for *_, took in gaps), "largest": max(took for *_, took in gaps)},
        "datagrams": {"sent": sent, "lost": sent - len(answers)},
        "tcp_bytes": carried,
        "each": gaps,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--moves", type=int, default=20)
    parser.add_argument("--openvswitch", metavar="BRIDGE")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    found = measured(options.moves, options.openvswitch)
    if options.json:
        print(json.dumps(found, indent=2))
    else:
        for name, gap, took in found["each"]:
            print(f"{name}  {gap:6.1f} ms without traffic  (the call: {took:.1f} ms)")
        datagrams = found["datagrams"]
        for name, which in (("moves", "without_traffic_ms"), ("times without a move", "without_a_move_ms")):
            gap = found[which]
            print(
                f"{found['moves']} {name}: median {gap['median']:.1f} ms without traffic, largest {gap['largest']:.1f}"
            )
        print(f"{datagrams['sent']} datagrams, {datagrams['lost']} lost; TCP: {found['tcp_bytes']} bytes came back")
    sys.exit(0 if found["tcp_bytes"] else 1)


if __name__ == "__main__":
    main()
