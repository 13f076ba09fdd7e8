"""Two hosts with `colo node` and a fake QEMU each (`support.fakeqemu`), and a client on the LAN of both.

A host is a network namespace with the bridge br0, the client's card in it, and a cable to the other host. The client's
questions go to both bridges: who answers is who has a device there. Tests need the marks `namespaces` and `tun`.
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

from pycolo.hostnet import looking
from pycolo.hostnet.facts import Link
from pycolo.hostnet.netlink import Netlink
from pycolo.hostnet.wire import node_tap_name
from pycolo_lab.qemu.nodes import toml
from support import netns
from support.nodes import PATIENCE_S, Connection, wait_for
from support.releases import PRESENT
from support.segments import udp
from support.taphost import inside, open_packet_socket

TESTS = Path(__file__).resolve().parent.parent
FAKE = TESTS / "support" / "fakeqemu.py"

ADDRESSES = {"a": "10.8.0.1", "b": "10.8.0.2"}
LINK_PORT = 9000
GUEST_TAP = "tap0"
NETDEV = f"tap,id=hn0,ifname={GUEST_TAP}"
NODE_TAP = node_tap_name("vm1", 0)

HEARTBEAT_TIMEOUT_MS = 3_000
COMPARE_TIMEOUT_MS = 20_000
"""Both far beyond what a busy machine makes of a living node: see `support.nodes`."""

NOT_YET = ("state is waiting", "no guest to protect: no QEMU answers")
"""Why a node refuses to protect its guest at first; on a busy machine QEMU greets later than the node looks."""

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
    from pycolo.vm.planrunner import PlanRunner
    on_step = PlanRunner._on_step

    def step(guest, run):
        on_step(guest, run)
        task = run.task()
        if task is not None and (run.plan.name + " " + task.does) == place:
            os.kill(os.getpid(), signal.SIGKILL)

    PlanRunner._on_step = step

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
        self.serves = self.place / "serves"
        self.namespace = netns.made()
        self.lan = self._build()
        self._life = socket.socket(socket.AF_UNIX)
        self._life.bind(str(self.place / "life.sock"))
        self._life.listen(256)
        self._faults = self.place / "faults.json"
        self._log = self.place / "node.log"
        tables = self._settings("primary" if letter == "a" else "secondary", link)
        for name, table in change.items():
            tables[name] = tables.get(name, {}) | table
        self.config.write_text(toml(tables))

    def _build(self) -> socket.socket:
        """The client's end of the LAN."""
        lines = (
            "echo 1 >/proc/sys/net/ipv6/conf/default/disable_ipv6",
            "ip -batch - <<END",
            "link set lo up",
            "link add br0 type bridge forward_delay 0 mcast_snooping 0",
            "link set br0 up",
            "link add lan type veth peer name client",
            "link set client up",
            "link set lan master br0 up",
            "END",
        )
        self.namespace.run("sh", "-ec", "\n".join(lines))
        with inside(self.namespace.path):
            return open_packet_socket("client")

    def cable(self, other: "Host") -> None:
        """Between the two nodes."""
        self._ip(f"link add lnk type veth peer name lnk netns {other.namespace.pid}", *self._up())
        other._ip(*other._up())

    def _up(self) -> tuple[str, str]:
        return f"address add {ADDRESSES[self.letter]}/30 dev lnk", "link set lnk up"

    def _ip(self, *lines: str) -> None:
        self.namespace.run("sh", "-ec", "\n".join(("ip -batch - <<END", *lines, "END")))

    def _settings(self, role: str, link: dict[str, Any]) -> dict[str, Any]:
        place = self.place
        return {
            "": {"pair": "vm1", "role": role, "state": str(place / "state")},
            "link": link,
            "qemu": {
                "qmp": str(place / "qmp.sock"),
                "yank": str(place / "yank.sock"),
                "directory": str(place),
                "command": [sys.executable, "-S", str(FAKE), str(place), "-netdev", NETDEV],
            },
            "[card]": [{"netdev": "hn0", "bridge": "br0"}],
            "network": {"serve": ["touch", str(self.serves)], "retire": ["rm", "-f", str(self.serves)]},
            "checkpoint": {"min_distance_ms": 0, "max_interval_ms": 0},
            "compare": {"compare_timeout_ms": COMPARE_TIMEOUT_MS},
            "heartbeat": {"interval_ms": 25, "timeout_ms": HEARTBEAT_TIMEOUT_MS},
            "protect": {"automatic": False},
            "arbiter": {"kind": "first-to-notice"},
            "control": {"socket": str(self.control)},
            "log": {"level": "debug"},
        }

    # ── processes ───────────────────────────────────────────────────────────────────────────────────────────

    def start_qemu(self, *, is_bridged: bool = True) -> None:
        """As the user has started the primary's, long before there was a node; its tap in the bridge, or in none."""
        sockets = [word for name in ("qmp", "yank") for word in ("-qmp", f"unix:{self.place / name}.sock,server=on")]
        bridge = ["--bridge", "br0"] if is_bridged else []
        command = [sys.executable, "-S", str(FAKE), str(self.place), "-netdev", NETDEV, *bridge, *sockets]
        with open(self.place / "qemu.out", "ab") as output:
            self.qemu = subprocess.Popen([*self.nsenter, *command], stderr=output)

    def start_node(self, dies_at: str = "") -> None:
        """`dies_at`: a plan and a step or undo of it, before which the node is killed."""
        command = [*self.nsenter, self.release.python, "-c", PROGRAM, "node", "--config", str(self.config)]
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
    def nsenter(self) -> list[str]:
        return ["nsenter", f"--net={self.namespace.path}"]

    def _link(self, name: str) -> Link | None:
        with inside(self.namespace.path), Netlink() as netlink:
            return looking.find_link(netlink, name)

    def _is_reached(self, name: str) -> bool:
        """Whether this device is in the bridge, and a process reads it."""
        link = self._link(name)
        return link is not None and link.master != 0 and link.has_carrier

    @property
    def is_on_lan(self) -> bool:
        return self._is_reached(GUEST_TAP) or self.is_beside

    @property
    def is_beside(self) -> bool:
        """Whether the node's TAP has the place of the guest's."""
        return self._is_reached(NODE_TAP) and not self._is_reached(GUEST_TAP)

    @property
    def is_apart(self) -> bool:
        """Whether the guest's tap is there and in no bridge, nor is the node's TAP."""
        return self._link(GUEST_TAP) is not None and not self.is_on_lan

    @property
    def is_as_before(self) -> bool:
        """Whether the guest's tap is in its bridge, and the node has no device any more."""
        return self._is_reached(GUEST_TAP) and self._link(NODE_TAP) is None

    def close(self) -> None:
        if self.node is not None:
            self.kill_node()
        self._life.close()  # no QEMU begins any more
        self.lan.close()


class Client:
    """Asks one question after the other until each is answered, and holds the answers to the law of the counter.

    A guest's answer says how many questions it has counted, so each must say one more than the one before, whichever
    gives it: a state that clients have seen never goes back, and nothing is counted twice or left out.
    """

    def __init__(self, hosts: list[Host]) -> None:
        self._hosts = hosts
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
        for host in self._hosts:
            for octets in frames:
                with suppress(BlockingIOError):
                    host.lan.send(octets)

    def receive(self, timeout_s: float) -> bytes | None:
        """The next frame of a guest on the LAN."""
        ready = select.select([host.lan for host in self._hosts], [], [], max(0, timeout_s))[0]
        return bytes(ready[0].recv(1 << 17)) if ready else None


class Pair:
    """Everything. `change`: tables of the configuration file, laid over what is there."""

    def __init__(self, place: Path, change: dict[str, dict[str, Any]] | None = None) -> None:
        self.change = change or {}
        tls = self.change.pop("link", {"insecure": True, "insecure_link": f"{ADDRESSES['a']}/30"})
        self.hosts = {
            mine: Host(
                place,
                mine,
                {"listen": f"{ADDRESSES[mine]}:{LINK_PORT}", "peer": f"{ADDRESSES[theirs]}:{LINK_PORT}", **tls},
                self.change,
            )
            for mine, theirs in (("a", "b"), ("b", "a"))
        }
        self.a, self.b = self.hosts["a"], self.hosts["b"]
        self.a.cable(self.b)
        self.client = Client([self.a, self.b])
        self.lan = self.client  # for `support.nodes.Connection`
        self._ports = iter(range(5_001, 60_000))

    def start(self, **dies_at: str) -> "Pair":
        """The guest runs, and both nodes are linked. `dies_at`: by host, see `Host.start_node`."""
        self.a.start_qemu()
        wait_for(lambda: self.a.has_qemu, "the primary's QEMU")
        for letter, host in self.hosts.items():
            host.start_node(dies_at.get(letter, ""))
        self.wait("primary linked", "secondary linked")
        wait_for(lambda: "the guest is there" in self.a.log, "the node to have heard QEMU's greeting")
        return self

    def protected(self) -> "Pair":
        self.protect(self.start().a)
        return self

    def wait(self, a: str, b: str) -> None:
        self.a.wait_state(a)
        self.b.wait_state(b)

    def protect(self, host: Host) -> dict[str, Any]:
        """`protect`, again while the link is formed anew, and while the node has not heard its guest's greeting yet."""
        until_s = time.monotonic() + PATIENCE_S
        answer = host.ask("protect")
        while any(why in answer.get("error", "") for why in NOT_YET):
            assert time.monotonic() < until_s, self.logs()
            host.wait_state("primary linked")
            answer = host.ask("protect")
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
        for host in self.hosts.values():
            wait_for(lambda host=host: not host.has_qemu, "the fake QEMU's end")
            if host.qemu is not None:
                host.qemu.wait(PATIENCE_S)
            host.namespace.close()


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
