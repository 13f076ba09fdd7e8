"""A client and two guests with the kernel's own TCP, two nodes; run in a network namespace of its own.

    client ─ veth ─ br0 ┬─ tap coloa ─ node ─ packet vneta ─ veth ─ guest a
                        └─ tap colob ─ node ─ packet vnetb ─ veth ─ guest b

Prints how long the connections stood still; ends with a traceback if one of them did not go on.
"""

import ctypes
import os
import socket
import subprocess
import sys
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from support.nodes import COMPARE_TIMEOUT_MS, HEARTBEAT_TIMEOUT_MS, Node

GUEST_MAC = "02:00:00:00:00:02"
SERVER = """
import socket, threading
def serve(sock):
    number = 0
    while line := sock.recv(1 << 16):
        number += len(line)
        sock.sendall(b"%d\\n" % number)
listener = socket.create_server(("", 7))
print("ready", flush=True)
while True:
    threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()
"""
PATIENCE_S = 60
libc = ctypes.CDLL(None, use_errno=True)


def run(*command: str) -> None:
    subprocess.run(command, check=True, timeout=20)


class Space:
    """A network namespace with one card."""

    def __init__(self, stack: ExitStack, name: str, cable: str, address: str, *, mac: str = "") -> None:
        command = ["unshare", "--net", "sh", "-c", "echo ready; exec sleep 600"]
        self._holder = stack.enter_context(subprocess.Popen(command, stdout=subprocess.PIPE))
        stack.callback(self._holder.kill)
        assert self._holder.stdout is not None
        self._holder.stdout.readline()
        self._enter = ["nsenter", "--target", str(self._holder.pid), "--net"]
        run("ip", "link", "add", cable, "type", "veth", "peer", "name", "eth0", "netns", str(self._holder.pid))
        for place in ("all", "default"):
            self.run("sh", "-c", f"echo 1 > /proc/sys/net/ipv6/conf/{place}/disable_ipv6")
        if mac:
            self.run("ip", "link", "set", "eth0", "address", mac)
        self.run("ip", "addr", "add", f"{address}/24", "dev", "eth0")
        for card in ("lo", "eth0"):
            self.run("ip", "link", "set", card, "up")
        run("ip", "link", "set", cable, "up")

    def run(self, *command: str) -> None:
        run(*self._enter, *command)

    def start(self, stack: ExitStack, program: str) -> None:
        """A Python program, up to its first line."""
        command = [*self._enter, sys.executable, "-c", program]
        process = stack.enter_context(subprocess.Popen(command, stdout=subprocess.PIPE))
        stack.callback(process.kill)
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"

    @contextmanager
    def entered(self):
        """Sockets that are made here are of that namespace."""
        with open("/proc/self/ns/net") as own, open(f"/proc/{self._holder.pid}/ns/net") as other:
            assert libc.setns(other.fileno(), 0) == 0, os.strerror(ctypes.get_errno())
            try:
                yield
            finally:
                assert libc.setns(own.fileno(), 0) == 0, os.strerror(ctypes.get_errno())


class Client:
    """One connection, whose answers count what was sent."""

    def __init__(self, space: Space) -> None:
        with space.entered():
            self._sock = socket.create_connection(("10.9.0.2", 7), timeout=PATIENCE_S)
        self._lines = self._sock.makefile("rb")
        self._sent = 0

    def ask(self, octets: bytes = b"x") -> None:
        self._sock.sendall(octets)
        self._sent += len(octets)
        while (line := self._lines.readline()) != b"%d\n" % self._sent:
            assert line, "the connection ended"
            assert int(line) < self._sent


def node(stack: ExitStack, place: Path, role: str, side: str, *options: str) -> Node:
    common = ("--insecure", "--arbiter", "first-to-notice", "--heartbeat-timeout", str(HEARTBEAT_TIMEOUT_MS))
    found = Node(role, place / side, "--lan", f"tap:colo{side}", "--guest", f"packet:vnet{side}", *common, *options)
    stack.callback(found.close)
    return found


def build(stack: ExitStack) -> Space:
    """The hosts; returns the client's."""
    for place in ("all", "default"):
        Path(f"/proc/sys/net/ipv6/conf/{place}/disable_ipv6").write_text("1")
    run("ip", "link", "set", "lo", "up")
    run("ip", "link", "add", "br0", "type", "bridge")
    run("ip", "link", "set", "br0", "up")
    client = Space(stack, "client", "cable", "10.9.0.1")
    run("ip", "link", "set", "cable", "master", "br0")
    for side in "ab":
        run("ip", "tuntap", "add", "dev", f"colo{side}", "mode", "tap")
        run("ip", "link", "set", f"colo{side}", "master", "br0", "up")
        Space(stack, side, f"vnet{side}", "10.9.0.2", mac=GUEST_MAC).start(stack, SERVER)
    return client


def main(place: Path) -> None:
    rows = ("--rows", str(place / "rows"))
    with ExitStack() as stack:
        client = build(stack)
        primary = node(
            stack, place, "primary", "a", "--listen", "127.0.0.1:0", "--compare-timeout", str(COMPARE_TIMEOUT_MS)
        )
        link = ("--connect", primary.link)
        secondary = node(stack, place, "secondary", "b", *link, *rows)
        for one in (primary, secondary):
            one.wait_state("protected")
        clients = [Client(client) for _ in range(3)]
        for _ in range(20):
            for one in clients[1:]:
                one.ask()
        clients[0].ask()  # silent from here to the end
        primary.kill()
        secondary.wait_state("serving")
        for one in clients[1:]:
            one.ask(b"y" * 5_000)
        for round_number in range(2):
            secondary.kill()
            began_s = time.monotonic()
            secondary = node(stack, place, "secondary", "b", *link, *rows)
            for one in clients[1:]:
                one.ask(b"z" * 5_000)
            print(f"restart {round_number}: {time.monotonic() - began_s:.1f} s", flush=True)
            counters = secondary.counters()
            assert counters["rows_restored"] == len(clients), counters
            Client(client).ask()
        clients[0].ask()
        print("went on", flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
