"""The nodes of the laboratory, as a user sets them up: a vm.toml each, a fencing command, queries to a node."""

import json
import shlex
import socket
from pathlib import Path
from typing import Any, Final

import msgspec

from pycolo_lab.interruption import Look
from pycolo_lab.processes import Host
from pycolo_lab.qemu.control import ASK_TIMEOUT_S, NodeControl
from pycolo_lab.qemu.machine import IMAGES, OVERLAYS, Machine
from pycolo_lab.qemu.topology import BRIDGE, HOST_ADDRESSES, STORE_ADDRESS
from pycolo_lab.topology import LINK_A_ADDRESS, LINK_B_ADDRESS

PAIR: Final = "lab"
LINK_PORT: Final = 9000
STORE_URL: Final = f"http://{STORE_ADDRESS}:2379"
LINK_ADDRESSES: Final = {Host.A: LINK_A_ADDRESS, Host.B: LINK_B_ADDRESS}
PLAIN_TEXT: Final = {"insecure": True, "insecure_link": f"{LINK_A_ADDRESS}/30"}
LETTERS: Final = {Host.A: "a", Host.B: "b"}

HEARTBEAT_INTERVAL_MS: Final = 25
HEARTBEAT_TIMEOUT_MS: Final = 150
"""The configured detection time; what a takeover takes is measured beyond it."""

COMPARE_TIMEOUT_MS: Final = 500

FENCE_MS: Final = 1000
"""With arbiter command: the time limit of the fencing script, which takes some milliseconds, and the head start."""

LEASE_MS: Final = 3000
"""With arbiter etcd: the longest wait of the other host for a dead one's lease."""

PAGE_PORT: Final = 9109
"""Of a node's metrics and page, on its own host's loopback."""


class NodeSetting(msgspec.Struct, frozen=True, kw_only=True):
    """What a scenario may say about the nodes."""

    arbiter: str = "command"
    """"command": the fencing script kills the other host; "manual": nothing happens without `colo failover`;
    "etcd": an etcd on the LAN knows who serves; "pacemaker": see `pycolo_lab.pacemaker`."""
    head_start_ms: int = 1000
    """With arbiter pacemaker."""
    heartbeat_timeout_ms: int = HEARTBEAT_TIMEOUT_MS
    compare: bool = True
    checkpoint_interval_ms: int = 10_000
    checkpoint_timeout_ms: int = 5000
    has_paths: bool = False
    """Whether the nodes know each other's addresses on the LAN. Then the link has TLS: plain text is for one link."""
    has_gate: bool = False
    """Between the first primary's node and its QEMU's monitor, see `gate`."""
    can_die: bool = False
    """Whether the nodes can be told to die in a move, see `dying`."""
    has_page: bool = False
    """Whether each node serves metrics, with its page, on its own host."""
    has_small_disks: bool = False
    """Whether each host's images and overlays are on file systems that can be filled."""
    overlays_in: Path | None = None
    """Folder in which each host's overlays are, instead of in memory."""
    automatic: bool = False
    """Whether the nodes protect the guest again by themselves; with pacemaker they always do."""
    more: dict[str, Any] = {}
    """Of both nodes' files, as a TOML file says it: keys that are added, or have another value."""


def other(host: Host) -> Host:
    """The other one of the two."""
    return Host.B if host is Host.A else Host.A


class NodeFiles:
    """The paths of one host's files. `look` is called while it waits for a node, and may raise."""

    def __init__(self, directory: Path, host: Host, look: Look) -> None:
        self.host = host
        self.letter = LETTERS[host]
        self.directory = directory / self.letter
        self.config = self.directory / "vm.toml"
        self.control = self.directory / "control.sock"
        self._node = NodeControl(self.control, host, look)
        self.qmp = self.directory / "qmp.sock"
        self.watch = self.directory / "watch.sock"
        self.behind_gate = self.directory / "qmp.sock.behind"
        self.refusing = self.directory / "refusing"
        self.order = self.directory / "die.order"
        self.fence = self.directory / "fence"
        self.images = self.directory / IMAGES
        self.overlays = self.directory / OVERLAYS
        self.certificates = directory / "tls"
        self._node_pid = self.directory / "node.pid"
        self._qemu_pid = self.directory / "qemu.pid"

    def write(self, machine: Machine, setting: NodeSetting, peer: "NodeFiles", lock: Path) -> None:
        """Make the host's directory, its vm.toml and its fencing script."""
        self.directory.mkdir()
        (self.directory / "state").mkdir()
        self.write_config(machine, setting)
        self.fence.write_text(_fencing_script(peer, lock))
        self.fence.chmod(0o755)

    def write_config(self, machine: Machine, setting: NodeSetting, command: list[str] | None = None) -> None:
        """The vm.toml, with another `command` for QEMU than the right one if it is given."""
        settings = self._settings(machine, setting, command or self.qemu_command(machine))
        self.config.write_text(toml(with_more(settings, setting.more)))

    def qemu_command(self, machine: Machine) -> list[str]:
        """The right one."""
        return machine.command(self.directory, f"guest-{self.letter}")

    def note_node(self, pid: int) -> None:
        """The fencing script of the other host looks here."""
        self._node_pid.write_text(str(pid))

    @property
    def pid_files(self) -> tuple[Path, Path]:
        """Of node and QEMU."""
        return self._node_pid, self._qemu_pid

    @property
    def qemu_pid(self) -> int | None:
        """Of the QEMU that runs here; None when none does."""
        return running_pid(self._qemu_pid, str(self.qmp))

    def _settings(self, machine: Machine, setting: NodeSetting, command: list[str]) -> dict[str, Any]:
        arbiter: dict[str, Any] = {"kind": setting.arbiter}
        if setting.arbiter == "command":
            arbiter |= {"command": [str(self.fence)], "timeout_ms": FENCE_MS, "head_start_ms": FENCE_MS}
        elif setting.arbiter == "etcd":
            arbiter |= {"endpoints": [STORE_URL], "ttl_ms": LEASE_MS}
        elif setting.arbiter == "pacemaker":
            arbiter |= {"node": LETTERS[other(self.host)], "head_start_ms": setting.head_start_ms}
        return {
            "": {
                "pair": PAIR,
                "role": "primary" if self.host is Host.A else "secondary",
                "state": str(self.directory / "state"),
            },
            "link": {
                "listen": f"{LINK_ADDRESSES[self.host]}:{LINK_PORT}",
                "peer": f"{LINK_ADDRESSES[other(self.host)]}:{LINK_PORT}",
                **(self._other_paths() if setting.has_paths else PLAIN_TEXT),
            },
            "qemu": {
                "qmp": str(self.qmp),
                "yank": str(self.directory / "yank.sock"),
                "directory": str(self.directory),
                "command": command,
                "environment": machine.environment,
                "start_timeout_ms": 20_000,
            },
            "[card]": [{"netdev": netdev, "bridge": BRIDGE} for netdev in machine.netdevs],
            **({"disks": {"overlays": str(self.overlays)}} if machine.disk else {}),
            "checkpoint": {
                "min_distance_ms": 20,
                "max_interval_ms": setting.checkpoint_interval_ms,
                "timeout_ms": setting.checkpoint_timeout_ms,
            },
            "compare": {"compare_timeout_ms": COMPARE_TIMEOUT_MS, "enabled": setting.compare},
            "protect": {"automatic": setting.automatic or setting.arbiter == "pacemaker"},
            "heartbeat": {"interval_ms": HEARTBEAT_INTERVAL_MS, "timeout_ms": setting.heartbeat_timeout_ms},
            "arbiter": arbiter,
            "control": {"socket": str(self.control)},
            **({"metrics": {"listen": f"127.0.0.1:{PAGE_PORT}"}} if setting.has_page else {}),
            "log": {"format": "text", "level": "debug"},
        }

    def _other_paths(self) -> dict[str, Any]:
        return {
            "tls": str(self.certificates),
            "also_listen": [f"{HOST_ADDRESSES[self.host]}:{LINK_PORT}"],
            "also_peer": [f"{HOST_ADDRESSES[other(self.host)]}:{LINK_PORT}"],
        }

    def ask(self, command: str, timeout_s: float = ASK_TIMEOUT_S) -> dict[str, Any]:
        """The node's answer to a command. Raises `LabError` when it refuses or does not answer."""
        return self._node.ask(command, timeout_s)

    def heard(self, connection: socket.socket, timeout_s: float) -> bytes:
        """The line that a node sends, or what there is of it when it hangs up. Raises `TimeoutError`."""
        return self._node.heard(connection, timeout_s)

    def tell(self, command: str) -> socket.socket:
        """Send a command and do not wait; the answer comes on the returned connection. Raises `LabError`."""
        return self._node.tell(command)

    def status(self) -> dict[str, Any] | None:
        """What the node says about itself; None when it does not answer."""
        return self._node.status()


def wrong_command(right: list[str], how: str) -> list[str]:
    """A command line for QEMU that is no secondary of `right`.

    "memory": of another size; "device": the network card in another slot; "ends": a program that ends at once.
    """
    command = list(right)
    match how:
        case "memory":
            at = command.index("-m") + 1
            command[at] = f"{int(command[at].removesuffix('K')) + 1024}K"
        case "device":
            command[command.index("-device") + 1] += ",addr=0x10"
        case "ends":
            command = ["false"]
        case _:
            raise AssertionError(how)
    return command


def running_pid(path: Path, mark: str) -> int | None:
    """The process named in a pid file, if it runs and its command line holds `mark` (pids are used again)."""
    try:
        pid = int(path.read_text())
        line = Path(f"/proc/{pid}/cmdline").read_bytes()
    except (OSError, ValueError):
        return None
    return pid if mark.encode() in line else None


def toml(tables: dict[str, Any]) -> str:
    """A TOML document; the table "" is the top. Several tables of one name are a list."""
    lines: list[str] = []
    for name, given in tables.items():
        for table in given if isinstance(given, list) else [given]:
            lines += [f"[{name}]"] if name else []
            lines += [f"{key} = {_value(value)}" for key, value in table.items()]
            lines.append("")
    return "\n".join(lines)


def with_more(tables: dict[str, Any], more: dict[str, Any]) -> dict[str, Any]:
    """The tables, as `toml` takes them, with what a parsed TOML file adds or replaces."""
    found = dict(tables)
    for name, value in more.items():
        if isinstance(value, dict):
            found[name] = {**found.get(name, {}), **value}
        elif isinstance(value, list) and value and isinstance(value[0], dict):
            found[f"[{name}]"] = value
        else:
            found[""] = {**found[""], name: value}
    return found


def _value(value: Any) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {_value(item)}" for key, item in value.items()) + " }" if value else "{}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_value, value)) + "]"
    # A JSON string, number or truth value is one of TOML's too.
    return json.dumps(value, ensure_ascii=False)


def _fencing_script(peer: NodeFiles, lock: Path) -> str:
    """Power the other host off, as a management board would: node and QEMU die, or this host has lost the race.

    Both hosts may fence each other at once; only one of them can create the directory `lock`.
    """
    killing = "\n".join(
        f'[ -f {shlex.quote(str(path))} ] && kill -9 "$(cat {shlex.quote(str(path))})" 2>/dev/null'
        for path in peer.pid_files
    )
    return f"#!/bin/sh\nmkdir {shlex.quote(str(lock))} || exit 1\n{killing}\nexit 0\n"
