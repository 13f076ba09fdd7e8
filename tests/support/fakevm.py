"""Two hosts with `colo node` and a fake QEMU each (`support.fakeqemu`), and a client on the LAN of both.

A host is on the LAN while its `network.serve` command was the last: the client's questions go to every host that is,
and only such a host's answers are heard, as with a bridge.
"""

import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from pycolo_lab.qemu.nodes import toml
from support.etcd import free_ports
from support.nodes import PATIENCE_S, Connection, wait_for
from support.releases import PRESENT
from support.segments import batch, udp

TESTS = Path(__file__).resolve().parent.parent
FAKE = TESTS / "support" / "fakeqemu.py"

HEARTBEAT_TIMEOUT_MS = 1_500
COMPARE_TIMEOUT_MS = 20_000
"""Both far beyond what a busy machine makes of a living node: see `support.nodes`."""

AGAIN_S = 0.1
"""The client repeats a question after that: it may not have arrived."""

HASTY_S = 0.3

PROGRAM = f"""
import os, signal, sys
from pycolo.cli import main
from pycolo.qmp.client import Qmp
from pycolo.qmp.probe import probe

def hasten(number, frame):
    Qmp.execute.__kwdefaults__["timeout_s"] = {HASTY_S}
    probe.__defaults__ = ({HASTY_S},)

def calm(number, frame):
    Qmp.execute.__kwdefaults__["timeout_s"] = 5.0
    probe.__defaults__ = (10.0,)

def die_at(place):
    from pycolo.vm.guest import VmGuest
    on_step = VmGuest._on_step

    def step(guest, run):
        on_step(guest, run)
        task = run.task()
        if task is not None and (run.plan.name + " " + task.does) == place:
            os.kill(os.getpid(), signal.SIGKILL)

    VmGuest._on_step = step

signal.signal(signal.SIGUSR1, hasten)
signal.signal(signal.SIGUSR2, calm)
if place := os.environ.get("DIES_AT"):
    die_at(place)
sys.argv[0] = "colo"
main()
"""
"""`colo`, but on SIGUSR1 it waits less for a QEMU that hangs, and it is killed before the step DIES_AT of a plan."""


class Host:
    """Host "a" begins as the primary, "b" as the secondary."""

    def __init__(self, place: Path, letter: str, link: dict[str, Any], change: dict[str, dict[str, Any]]) -> None:
        self.letter = letter
        self.place = place / letter
        self.place.mkdir(parents=True)
        self.control = self.place / "control.sock"
        self.config = self.place / "vm.toml"
        self.qemu: subprocess.Popen[bytes] | None = None
        self.node: subprocess.Popen[bytes] | None = None
        self.release = PRESENT
        self._on_lan = self.place / "on-lan"
        self._faults = self.place / "faults.json"
        self._log = self.place / "node.log"
        self.lan = socket.socket(socket.AF_UNIX)
        self.lan.bind(str(self.place / "lan.sock"))
        self.lan.listen(256)
        tables = self._settings("primary" if letter == "a" else "secondary", link)
        for name, table in change.items():
            tables[name] = tables.get(name, {}) | table
        self.config.write_text(toml(tables))

    def _settings(self, role: str, link: dict[str, Any]) -> dict[str, dict[str, Any]]:
        place = self.place
        return {
            "": {"pair": "vm1", "role": role, "state": str(place / "state")},
            "link": link,
            "qemu": {
                "qmp": str(place / "qmp.sock"),
                "yank": str(place / "yank.sock"),
                "netdev": "hn0",
                "directory": str(place),
                "command": [sys.executable, "-S", str(FAKE), str(place)],
            },
            "network": {"serve": ["touch", str(self._on_lan)], "retire": ["rm", "-f", str(self._on_lan)]},
            "checkpoint": {"min_distance_ms": 0, "max_interval_ms": 0},
            "compare": {"compare_timeout_ms": COMPARE_TIMEOUT_MS},
            "heartbeat": {"interval_ms": 25, "timeout_ms": HEARTBEAT_TIMEOUT_MS},
            "protect": {"automatic": False},
            "arbiter": {"kind": "first-to-notice"},
            "control": {"socket": str(self.control)},
            "log": {"level": "debug"},
        }

    # ── processes ───────────────────────────────────────────────────────────────────────────────────────────

    def start_qemu(self) -> None:
        """As the user has started the primary's, long before there was a node."""
        sockets = [word for name in ("qmp", "yank") for word in ("-qmp", f"unix:{self.place / name}.sock,server=on")]
        with open(self.place / "qemu.out", "ab") as output:
            self.qemu = subprocess.Popen([sys.executable, "-S", str(FAKE), str(self.place), *sockets], stderr=output)
        self._on_lan.touch()

    def start_node(self, dies_at: str = "") -> None:
        """`dies_at`: a plan and a step or undo of it, before which the node is killed."""
        command = [self.release.python, "-c", PROGRAM, "node", "--config", str(self.config)]
        environment = self.release.environment | {"DIES_AT": dies_at}
        with open(self._log, "ab") as output:
            self.node = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=environment
            )

    def wait_dead(self) -> None:
        """Until the node has been killed by itself."""
        assert self.node is not None
        assert self.node.wait(PATIENCE_S) == -signal.SIGKILL, self.log
        self.node = None

    def hasten(self, *, is_hasty: bool = True) -> None:
        """Let the node wait less, or as long as ever, for QEMU's answers."""
        assert self.node is not None
        self.node.send_signal(signal.SIGUSR1 if is_hasty else signal.SIGUSR2)

    def end_node(self) -> None:
        """In order."""
        assert self.node is not None
        self.node.send_signal(signal.SIGTERM)
        assert self.node.wait(PATIENCE_S) == 0, self.log
        self.node = None

    def kill_node(self) -> None:
        assert self.node is not None
        self.node.kill()
        self.node.wait()
        self.node = None

    def kill_qemu(self) -> None:
        os.kill(self.facts()["pid"], signal.SIGKILL)

    # ── questions ───────────────────────────────────────────────────────────────────────────────────────────

    @property
    def log(self) -> str:
        return self._log.read_text() if self._log.exists() else ""

    def facts(self) -> dict[str, Any]:
        """Of this host's QEMU."""
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(PATIENCE_S)
            sock.connect(str(self.place / "test.sock"))
            return json.loads(sock.makefile().readline())

    @property
    def has_qemu(self) -> bool:
        try:
            self.facts()
        except (OSError, ValueError):
            return False
        return True

    def ask(self, command: str, **more: Any) -> dict[str, Any]:
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(PATIENCE_S)
            sock.connect(str(self.control))
            sock.sendall(json.dumps({"command": command, **more}).encode() + b"\n")
            return json.loads(sock.makefile().readline())

    def do(self, command: str) -> dict[str, Any]:
        """It must not be refused."""
        answer = self.ask(command)
        assert "error" not in answer, f"{command}: {answer}\n{self.log}"
        return answer

    @property
    def state(self) -> str | None:
        """With the role: "primary linked"."""
        assert self.node is not None
        assert self.node.poll() is None, f"node {self.letter} has ended: {self.node.returncode}\n{self.log}"
        try:
            status = self.ask("status")
        except (ConnectionError, FileNotFoundError):
            return None
        return f"{status['role']} {status['state']}"

    def wait_state(self, *states: str) -> None:
        try:
            wait_for(lambda: self.state in states, f"node {self.letter} to be {states}")
        except AssertionError as error:
            raise AssertionError(f"{error}; it is {self.state}\n{self.log}") from None

    def fault(self, at: str, do: str, skip: int = 0, times: int = 1) -> None:
        """Something that is to go wrong in this host's QEMU, or in its next one; so many times in a row."""
        fresh = self._faults.with_suffix(".test")
        fresh.write_text(json.dumps([{"at": at, "do": do, "skip": skip}] * times))
        fresh.replace(self._faults)

    @property
    def is_fault_done(self) -> bool:
        return json.loads(self._faults.read_text()) == []

    def no_fault(self) -> None:
        self._faults.unlink(missing_ok=True)

    @property
    def is_on_lan(self) -> bool:
        return self._on_lan.exists()

    def close(self) -> None:
        if self.node is not None:
            self.kill_node()
        self.lan.close()


class Client:
    """Asks one question after the other until each is answered, and holds the answers to the law of the counter.

    A guest's answer says how many questions it has counted, so each must say one more than the one before, whichever
    gives it: a state that clients have seen never goes back, and nothing is counted twice or left out.
    """

    def __init__(self, hosts: list[Host]) -> None:
        self._hosts = hosts
        self._taps: dict[socket.socket, tuple[Host, bytearray]] = {}
        self._heard: list[bytes] = []
        self.asked = 0
        self.last = "-"

    def ask(self, word: str = "count", patience_s: float = PATIENCE_S, again_s: float = AGAIN_S) -> str:
        """The answer's last word. `word` "draw": something on which the guests must disagree."""
        self.begin(word)
        return self.finish(word, patience_s, again_s)

    def begin(self, word: str = "count") -> None:
        """Ask, and don't wait for the answer."""
        self.asked += 1
        self.send(udp(f"{self.asked} {word}".encode(), from_client=True))

    def finish(self, word: str = "count", patience_s: float = PATIENCE_S, again_s: float = AGAIN_S) -> str:
        until_s = time.monotonic() + patience_s
        while time.monotonic() < until_s:
            again_at_s = time.monotonic() + again_s
            while (octets := self.receive(again_at_s - time.monotonic())) is not None:
                if (last := self._answer(octets, word)) is not None:
                    self.last = last
                    return last
            self.send(udp(f"{self.asked} {word}".encode(), from_client=True))
        logs = "\n".join(host.log for host in self._hosts)
        raise TimeoutError(f"question {self.asked} was not answered within {patience_s} s\n{logs}")

    def _answer(self, octets: bytes, word: str) -> str | None:
        if octets[12:14] != b"\x08\x00" or octets[23] != 17:
            return None
        number, count, last = octets[42:].decode().split()
        if int(number) != self.asked:
            return None
        assert int(count) == self.asked, f"question {number} was counted as {count}"
        assert word == "draw" or last == self.last, f"question {number}: {last} is remembered, {self.last} was drawn"
        return last

    # ── frames; the names are those of `support.nodes.Wire` ─────────────────────────────────────────────────

    def send(self, *frames: bytes) -> None:
        """To every guest that is on the LAN."""
        self._accept()
        for sock, (host, _) in list(self._taps.items()):
            if host.is_on_lan:
                with suppress(OSError):
                    sock.sendall(batch(list(frames)))

    def receive(self, timeout_s: float) -> bytes | None:
        """The next frame of a guest on the LAN."""
        until_s = time.monotonic() + timeout_s
        while not self._heard:
            self._accept()
            left_s = max(0, until_s - time.monotonic())
            ready = select.select([*self._taps, *(host.lan for host in self._hosts)], [], [], left_s)[0]
            if not ready:
                return None
            for sock in ready:
                if sock in self._taps:
                    self._read(sock)
        return self._heard.pop(0)

    def _accept(self) -> None:
        for host in self._hosts:
            while select.select([host.lan], [], [], 0)[0]:
                self._taps[host.lan.accept()[0]] = (host, bytearray())

    def _read(self, sock: socket.socket) -> None:
        host, buffer = self._taps[sock]
        octets = b""
        with suppress(OSError):
            octets = sock.recv(1 << 18)
        if not octets:
            sock.close()
            del self._taps[sock]
            return
        buffer += octets
        while len(buffer) >= 4 and len(buffer) >= (end := 4 + int.from_bytes(buffer[:4], "big")):
            if host.is_on_lan:
                self._heard.append(bytes(buffer[4:end]))
            del buffer[:end]

    def close(self) -> None:
        for sock in self._taps:
            sock.close()


class Pair:
    """Everything. `change`: tables of the configuration file, laid over what is there."""

    def __init__(self, place: Path, change: dict[str, dict[str, Any]] | None = None) -> None:
        self.change = change or {}
        ports = dict(zip("ab", free_ports(2), strict=True))
        tls = self.change.pop("link", {"insecure": True})
        self.hosts = {
            mine: Host(
                place,
                mine,
                {"listen": f"127.0.0.1:{ports[mine]}", "peer": f"127.0.0.1:{ports[theirs]}", **tls},
                self.change,
            )
            for mine, theirs in (("a", "b"), ("b", "a"))
        }
        self.a, self.b = self.hosts["a"], self.hosts["b"]
        self.client = Client([self.a, self.b])
        self.lan = self.client  # for `support.nodes.Connection`
        self._ports = iter(range(5_001, 60_000))

    def start(self) -> "Pair":
        """The guest runs, and both nodes are linked."""
        self.a.start_qemu()
        wait_for(lambda: self.a.has_qemu, "the primary's QEMU")
        for host in self.hosts.values():
            host.start_node()
        self.wait("primary linked", "secondary linked")
        return self

    def protected(self) -> "Pair":
        self.protect(self.start().a)
        return self

    def wait(self, a: str, b: str) -> None:
        self.a.wait_state(a)
        self.b.wait_state(b)

    def protect(self, host: Host) -> dict[str, Any]:
        """`protect`, again while the link is formed anew."""
        while "state is waiting" in (answer := host.ask("protect")).get("error", ""):
            host.wait_state("primary linked")
        assert "error" not in answer, f"{answer}\n{self.logs()}"
        self.other(host).wait_state("secondary protected")
        return answer

    def other(self, host: Host) -> Host:
        return self.b if host is self.a else self.a

    def serving(self) -> Host:
        """The host that is on the LAN, alone."""
        found = [host for host in self.hosts.values() if host.is_on_lan]
        assert len(found) == 1, found
        return found[0]

    def connect(self) -> Connection:
        """A TCP connection to the guest."""
        return Connection(self, next(self._ports))  # type: ignore[arg-type]

    def logs(self) -> str:
        return "\n".join(f"{host.letter}:\n{host.log}" for host in self.hosts.values())

    def close(self) -> None:
        for host in self.hosts.values():
            host.close()
        self.client.close()  # the fake QEMUs see it, and end
        for host in self.hosts.values():
            wait_for(lambda host=host: not host.has_qemu, "the fake QEMU's end")
            if host.qemu is not None:
                host.qemu.wait(PATIENCE_S)


class Pool:
    """A linked pair for many tests; another one after a test that failed."""

    def __init__(self, new_place: Callable[[], Path]) -> None:
        self._new_place = new_place
        self._pair: Pair | None = None

    @contextmanager
    def linked(self) -> Iterator[Pair]:
        """Both nodes linked, the guest running unprotected on host `serving()`, before and afterwards."""
        try:
            if self._pair is None:
                self._pair = Pair(self._new_place())
                self._pair.start()
            yield self._pair
            self._tidy(self._pair)
        except BaseException:
            self.close()
            raise

    def _tidy(self, pair: Pair) -> None:
        for host in pair.hosts.values():
            host.no_fault()
        primary = pair.serving()
        wait_for(lambda: primary.facts()["running"], "the guest to run")
        if primary.state == "primary protected":
            primary.do("unprotect")
        primary.wait_state("primary linked")
        pair.other(primary).wait_state("secondary linked")
        assert "this is a bug" not in pair.logs(), pair.logs()

    def close(self) -> None:
        pair, self._pair = self._pair, None
        if pair is not None:
            pair.close()
