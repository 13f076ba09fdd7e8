"""Node processes between a client and two guests that speak a tiny TCP, all over unix sockets: no root needed."""

import json
import random
import re
import select
import signal
import socket
import struct
import subprocess
import threading
import time
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

from support.releases import PRESENT, Release
from support.segments import Flow, Tcp, batch, frame, mss, read

PATIENCE_S = 30
SEQ_MASK = 0xFFFFFFFF

HEARTBEAT_TIMEOUT_MS = 3_000
"""Six times the default, since nothing here waits for it: a process's death is noticed at once, by the end of its
connections."""

COMPARE_TIMEOUT_MS = 20_000
"""For the same reason: no secondary that lives is too late for this one."""


def wait_for(condition, what="it", patience_s=PATIENCE_S):
    """The first true value of `condition()`."""
    until_s = time.monotonic() + patience_s
    while not (found := condition()):
        assert time.monotonic() < until_s, f"waited {patience_s} s for {what} in vain"
        time.sleep(0.005)
    return found


# ── processes ───────────────────────────────────────────────────────────────────────────────────────────────


class Node:
    """One `colo primary` or `colo secondary`, its stderr in a file, its control socket beside it."""

    def __init__(self, role: str, place: Path, *options: str, stderr: Any = None, release: Release = PRESENT) -> None:
        place.mkdir(parents=True, exist_ok=True)
        self.role = role
        self.control = place / "control"
        self._log = place / "log"
        self._file = stderr or self._log.open("ab")
        command = [release.python, "-m", "pycolo", role, "--control", str(self.control), *options]
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=self._file,
            env=release.environment,
        )

    @property
    def log(self) -> str:
        return self._log.read_text() if self._log.exists() else ""

    @property
    def link(self) -> str:
        """Where a primary listens, as it says itself."""

        def found() -> str | None:
            assert self.process.poll() is None, self.log
            match = re.search(r"listening for the other node.*link=(\S+)", self.log)
            return match and match[1]

        return wait_for(found, "the primary's address")

    def wait_log(self, text: str, count: int = 1) -> None:
        """Until a text is in the log that often; the log is written a moment after the fact."""
        wait_for(lambda: self.log.count(text) >= count, f"{text!r} in the log of the {self.role}; {self.log}")

    def ask(self, command: str) -> dict[str, Any]:
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(PATIENCE_S)
            sock.connect(str(self.control))
            sock.sendall(json.dumps({"command": command}).encode() + b"\n")
            return json.loads(sock.makefile().readline())

    def status(self) -> dict[str, Any]:
        return self.ask("status")

    def counters(self) -> dict[str, int]:
        return self.status()["counters"]

    @property
    def state(self) -> str | None:
        assert self.process.poll() is None, f"{self.role} ended: {self.process.returncode}\n{self.log}"
        try:
            return self.status()["state"]
        except (ConnectionError, FileNotFoundError):
            return None

    def wait_state(self, *states: str) -> None:
        wait_for(lambda: self.state in states, f"{self.role} to be {states}; {self.log}")

    def fail_over(self, *states: str) -> int:
        """`colo failover`, which may answer before it is done, on a busy machine; the term in the end."""
        answer = self.ask("failover")
        assert "error" not in answer, answer
        self.wait_state(*states)
        return self.status()["term"]

    def memory_kb(self) -> int:
        return int(re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{self.process.pid}/status").read_text())[1])

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def end(self) -> int:
        return self.process.wait(PATIENCE_S)

    def close(self) -> None:
        if self.process.poll() is None:
            self.kill()
        if self._file is not None and hasattr(self._file, "close"):
            self._file.close()


# ── streams ─────────────────────────────────────────────────────────────────────────────────────────────────


class Wire:
    """The test's end of a node's stream port: connects to where the node listens."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._pending = b""
        self._lock = threading.Lock()
        self.sock = socket.socket(socket.AF_UNIX)
        wait_for(self.reconnect, f"{self.path} to be listened on")

    def reconnect(self) -> bool:
        """Try once."""
        self.sock.close()
        self._pending = b""
        self.sock = socket.socket(socket.AF_UNIX)
        try:
            self.sock.connect(str(self.path))
        except OSError:
            return False
        return True

    def send(self, *frames: bytes) -> None:
        with self._lock:
            self.sock.sendall(batch(list(frames)))

    def receive(self, timeout_s: float) -> bytes | None:
        """The next frame; None after `timeout_s`. Raises EOFError at the end."""
        until_s = time.monotonic() + timeout_s
        while True:
            if len(self._pending) >= 4:
                end = 4 + int.from_bytes(self._pending[:4], "big")
                if len(self._pending) >= end:
                    found, self._pending = self._pending[4:end], self._pending[end:]
                    return found
            left_s = max(0, until_s - time.monotonic())
            if not select.select([self.sock], [], [], left_s)[0]:
                return None
            try:
                octets = self.sock.recv(1 << 18)
            except ConnectionResetError:
                octets = b""
            if not octets:
                raise EOFError(str(self.path))
            self._pending += octets

    def rest(self, quiet_s: float = 0.3) -> list[bytes]:
        """What comes until nothing comes for `quiet_s`, or until the end."""
        found = []
        with suppress(EOFError):
            while (octets := self.receive(quiet_s)) is not None:
                found.append(octets)
        return found

    def close(self) -> None:
        self.sock.close()


# ── a tiny TCP ──────────────────────────────────────────────────────────────────────────────────────────────


class Guest(threading.Thread):
    """Answers on every connection: b"re:" + what was asked, once more if it is asked again."""

    def __init__(self, wire: Wire, prefix: bytes = b"re:", seed: int = 1) -> None:
        super().__init__(daemon=True)
        self.wire = wire
        self.prefix = prefix
        self.is_mute = False
        self.asked: list[bytes] = []
        self.other_frames: list[bytes] = []
        self._chance = random.Random(seed)
        self._connections: dict[Flow, list[Any]] = {}
        self._closing = False
        self.start()

    def run(self) -> None:
        while not self._closing:
            try:
                octets = self.wire.receive(0.2)
                if octets is not None:
                    self._take(octets)
            except (OSError, EOFError, ValueError):
                if self._closing:
                    return
                time.sleep(0.02)
                self.wire.reconnect()

    def close(self) -> None:
        self._closing = True
        self.join(PATIENCE_S)
        self.wire.close()

    def _take(self, octets: bytes) -> None:
        try:
            assert octets[12:14] == b"\x08\x00"
            assert octets[23] == 6
            segment = read(octets)
        except (AssertionError, IndexError, struct.error):
            self.other_frames.append(octets)
            return
        if "S" in segment.flags:
            isn = self._chance.getrandbits(32)
            state = [isn + 1, (segment.seq + 1) & SEQ_MASK, None]
            self._connections[segment.flow] = state
            self._send(Tcp(isn, "SA", ack=state[1], options=mss(1460), flow=segment.flow))
            return
        state = self._connections.get(segment.flow)
        if state is None or not segment.data:
            return
        if segment.seq == state[1]:
            self.asked.append(segment.data)
            answer = self.prefix + segment.data
            state[1] = segment.end
            state[2] = (state[0], answer)
            state[0] += len(answer)
        if state[2] is not None:
            self._send(Tcp(state[2][0], "PA", state[2][1], ack=state[1], flow=segment.flow))

    def _send(self, segment: Tcp) -> None:
        if not self.is_mute:
            self.wire.send(frame(segment))


class Connection:
    """The client's side of one connection, over the world's LAN as it is now. Repeats what is not answered."""

    def __init__(self, world: "World", port: int, isn: int = 7_000) -> None:
        self.world = world
        self.flow = Flow(client_port=port)
        self.seq = isn + 1
        syn = Tcp(isn, "S", options=mss(1460), flow=self.flow, from_client=True)
        answer = self._exchange(syn, lambda got: "S" in got.flags)
        self.ack = answer.end
        self._send(Tcp(self.seq, "A", ack=self.ack, flow=self.flow, from_client=True))

    def ask(self, data: bytes, prefix: bytes = b"re:") -> bytes:
        """The answer to `data`, at the right place of the stream."""
        self.send(data)
        return self.answer(data, prefix)

    def send(self, data: bytes) -> None:
        self._send(Tcp(self.seq, "PA", data, ack=self.ack, flow=self.flow, from_client=True))

    def answer(self, data: bytes, prefix: bytes = b"re:") -> bytes:
        request = Tcp(self.seq, "PA", data, ack=self.ack, flow=self.flow, from_client=True)
        expected = prefix + data
        got = self._exchange(request, lambda got: got.data == expected and got.seq == self.ack, is_sent=True)
        assert got.ack == request.end
        self.seq, self.ack = request.end, got.end
        self._send(Tcp(self.seq, "A", ack=self.ack, flow=self.flow, from_client=True))
        return got.data

    def _send(self, segment: Tcp) -> None:
        with suppress(OSError):  # the node has died meanwhile: a lost packet
            self.world.lan.send(frame(segment))

    def _exchange(self, segment: Tcp, is_answer: Any, is_sent: bool = False) -> Tcp:
        until_s = time.monotonic() + PATIENCE_S
        while time.monotonic() < until_s:
            if not is_sent:
                self._send(segment)
            is_sent = False
            while (got := self._receive(0.25)) is not None:
                if got.flow == self.flow and is_answer(got):
                    return got
        raise AssertionError(f"no answer to {segment}\n{self.world.logs()}")

    def _receive(self, timeout_s: float) -> Tcp | None:
        try:
            octets = self.world.lan.receive(timeout_s)
        except EOFError:
            time.sleep(0.02)
            return None
        if octets is None:
            return None
        try:
            return read(octets)
        except (AssertionError, IndexError, struct.error):
            return Tcp(0, flow=Flow(1, 1))  # nothing of ours


# ── everything together ─────────────────────────────────────────────────────────────────────────────────────


class World:
    """A client's LAN, two nodes, two guests. `through(address)` may put something into the link."""

    def __init__(self, place: Path, through: Any = None) -> None:
        self.place = place
        self.stack = ExitStack()
        self.through = through
        self.address = ""  # where a secondary finds the primary, also one that has died
        self.nodes: dict[str, Node] = {}
        self.releases: dict[str, Release] = {}
        self.lans: dict[str, Wire] = {}
        self.guests: dict[str, Guest] = {}
        self.lan: Wire = None  # type: ignore[assignment]
        self._ports = iter(range(5_000, 60_000))

    def start(self, role: str, *options: str, stderr: Any = None, security: tuple[str, ...] = ("--insecure",)) -> Node:
        place = self.place / role
        for name in ("lan", "guest"):
            options += (f"--{name}", f"unix:{place / name},server=on")
        defaults = {"--arbiter": "first-to-notice", "--heartbeat-timeout": f"{HEARTBEAT_TIMEOUT_MS}"}
        if role == "primary":
            defaults["--compare-timeout"] = f"{COMPARE_TIMEOUT_MS}"
        for option, value in defaults.items():
            if option not in options:
                options += (option, value)
        if role == "primary":
            options += ("--listen", "127.0.0.1:0")
        else:
            if self.primary.process.poll() is None:
                address = self.primary.link
                self.address = self.through(address) if self.through else address
            options += ("--connect", self.address)
        node = Node(role, place, *options, *security, stderr=stderr, release=self.releases.get(role, PRESENT))
        self.stack.callback(node.close)
        self.nodes[role] = node
        return node

    def attach(self, role: str, **guest: Any) -> None:
        """Connect the client's LAN and a guest to a node; once per role, both come back by themselves."""
        place = self.place / role
        self.lans[role] = Wire(place / "lan")
        self.stack.callback(self.lans[role].close)
        if role not in self.guests:
            self.guests[role] = Guest(Wire(place / "guest"), seed=len(role), **guest)
            self.stack.callback(self.guests[role].close)

    def protected(self, primary: tuple[str, ...] = (), secondary: tuple[str, ...] = (), **both: Any) -> "World":
        """Start all of it and wait for the pair."""
        self.start("primary", *primary, **both)
        self.start("secondary", *secondary, **both)
        for role in ("primary", "secondary"):
            self.attach(role)
        self.lan = self.lans["primary"]
        for node in self.nodes.values():
            node.wait_state("protected")
            node.wait_log("the pair is whole")
        return self

    @property
    def primary(self) -> Node:
        return self.nodes["primary"]

    @property
    def secondary(self) -> Node:
        return self.nodes["secondary"]

    def connect(self) -> Connection:
        return Connection(self, next(self._ports))

    def logs(self) -> str:
        return "\n".join(f"{role}:\n{node.log}" for role, node in self.nodes.items())

    def close(self) -> None:
        self.stack.close()


class Relay:
    """Stands in the link. Each connection is "control" or "data", as its hello says, and can be hurt alone."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._target = ("", 0)
        self._closing = False
        self.rate_bytes_s: int | None = None
        self.stalled: set[str] = set()
        self.connections: list[tuple[str, socket.socket, socket.socket]] = []
        self._threads: list[threading.Thread] = []
        self._socks: list[socket.socket] = []

    def __call__(self, address: str) -> str:
        host, _, port = address.rpartition(":")
        self._target = (host, int(port))
        self._start(self._accept)
        return "{}:{}".format(*self._listener.getsockname())

    def cut(self, channel: str) -> None:
        """End the connections of that channel at both ends."""
        for name, *socks in self.connections:
            if name == channel:
                for sock in socks:
                    with suppress(OSError):
                        sock.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self._closing = True
        self.stalled.clear()
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for name in ("control", "data", "?"):
            self.cut(name)
        for thread in self._threads:
            thread.join(PATIENCE_S)
        for sock in self._socks:
            sock.close()

    def _start(self, target: Any, *arguments: Any) -> None:
        thread = threading.Thread(target=target, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while not self._closing:
            try:
                near = self._listener.accept()[0]
            except OSError:
                return
            self._socks.append(near)
            with suppress(OSError):  # one of the nodes has gone meanwhile
                self._join(near)

    def _join(self, near: socket.socket) -> None:
        near.settimeout(PATIENCE_S)
        first = near.recv(1 << 16)
        near.settimeout(None)
        name = "data" if b'"channel":"data"' in first else "control" if b'"control"' in first else "?"
        far = socket.create_connection(self._target, timeout=PATIENCE_S)
        self._socks.append(far)
        far.settimeout(None)
        far.sendall(first)
        self.connections.append((name, near, far))
        self._start(self._forward, name, near, far)
        self._start(self._forward, name, far, near)

    def _forward(self, name: str, source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while octets := source.recv(1 << 14):
                while name in self.stalled and not self._closing:
                    time.sleep(0.01)
                if self.rate_bytes_s and name == "data":
                    time.sleep(len(octets) / self.rate_bytes_s)
                target.sendall(octets)
        with suppress(OSError):
            target.shutdown(socket.SHUT_WR)


def one_line(log: str, text: str) -> str:
    """The only line of a log that has `text` in it."""
    lines = [line for line in log.splitlines() if text in line]
    assert len(lines) == 1, f"{text!r} is in {len(lines)} lines of\n{log}"
    assert "Traceback" not in log, log
    return lines[0]
