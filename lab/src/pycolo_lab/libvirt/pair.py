"""The nodes of the pair: their files, their processes, and what they say of themselves."""

import shutil
import sys
import time
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

from pycolo_lab.errors import LabError
from pycolo_lab.libvirt.domain import NAME
from pycolo_lab.libvirt.stage import LibvirtStage
from pycolo_lab.pacemaker.switch import PowerSwitch
from pycolo_lab.processes import Host, Process
from pycolo_lab.qemu.control import NodeControl
from pycolo_lab.qemu.nodes import FENCE_MS, LETTERS, LINK_ADDRESSES, LINK_PORT, PLAIN_TEXT, other, toml
from pycolo_lab.qemu.stage import SERVING, are_whole
from pycolo_lab.qemu.topology import BRIDGE

CONFIG: Final = f"/etc/colo/{NAME}.toml"
RUN: Final = f"/run/colo/{NAME}"
CONTROL: Final = f"{RUN}/control.sock"
FENCE: Final = "/etc/colo/fence"

LOCK: Final = "fenced"

HEARTBEAT_TIMEOUT_MS: Final = 500
"""The product's default: which host serves is looked at here, not how soon."""

STATE_S: Final = 40.0
PROTECT_S: Final = 120.0
"""libvirt starts a QEMU, and all of the guest's memory and disk is copied, on a busy machine."""

FENCING: Final = """#!/bin/sh
mkdir {lock} || exit 1
exec {agent} --action=off --plug={peer}
"""
"""Both hosts may fence each other at once; only one of them can create the directory."""


class Pair:
    """On a stage whose hosts are up."""

    def __init__(self, stage: LibvirtStage) -> None:
        self.stage = stage
        self._lock = stage.directory / LOCK
        self._lives = 0
        self._is_asked = False
        self._nodes: dict[Host, Process] = {}
        self._keys = {letter: host for host, letter in LETTERS.items()}
        path = stage.directory / "switch.sock"
        self.switch = PowerSwitch(path, self._switched_off, self._switched_on, self._is_on)
        self.controls = {host: NodeControl(one.on_disk(CONTROL), host, stage.look) for host, one in stage.hosts.items()}

    def _switched_off(self, letter: str) -> None:
        self.stage.power_off(self._keys[letter])

    def _switched_on(self, letter: str) -> None:
        self.power_on(self._keys[letter])

    def _is_on(self, letter: str) -> bool:
        return self.stage.hosts[self._keys[letter]].powered.is_on

    # ── life ──────────────────────────────────────────────────────────────────────────────────────────────────

    def build(self) -> None:
        """Both nodes' files, and both nodes. Raises `LabError` when they do not link."""
        write_files(self.stage)
        for host in self.stage.hosts:
            self.start_node(host)
        self.until_linked()

    def start_node(self, host: Host) -> None:
        """Whatever became of the one before."""
        self._lives += 1
        one = self.stage.hosts[host]
        # As its unit does.
        one.powered.run("install", "-d", "-m", "0755", RUN)
        command = one.powered.command(sys.executable, "-m", "pycolo", "node", "--config", CONFIG)
        name = f"node-{LETTERS[host]}-{self._lives}"
        self._nodes[host] = self.stage.processes.start(name, host, one.namespace, command)

    def close(self) -> None:
        """The power switch answers no more."""
        self.switch.close()

    # ── looking ───────────────────────────────────────────────────────────────────────────────────────────────

    def statuses(self) -> dict[Host, dict[str, Any] | None]:
        """Of both nodes; None for one that does not answer."""
        return {host: control.status() if self.is_running(host) else None for host, control in self.controls.items()}

    def is_running(self, host: Host) -> bool:
        """Whether that host's node lives."""
        return host in self._nodes and self._nodes[host].exit_code() is None

    def states(self) -> tuple[str, ...]:
        """Both nodes' states, in order of the hosts."""
        return tuple(status["state"] if status else "gone" for status in self.statuses().values())

    def is_whole(self) -> bool:
        """Whether both nodes say that the guest is protected."""
        return are_whole(self.states(), compares=True)

    def serving(self) -> Host | None:
        """The host whose guest serves clients, as its node says."""
        for host, status in self.statuses().items():
            if status and status["role"] == "primary" and status["state"] in SERVING:
                return host
        return None

    def until(self, what: str, holds: Callable[[], bool], timeout_s: float = STATE_S) -> None:
        """Wait for a condition; raise `LabError` with what the nodes say when it does not come true."""
        try:
            self.stage.until(what, holds, timeout_s)
        except LabError as error:
            raise LabError(f"{error}: {self.account()}") from error

    def until_linked(self) -> None:
        """Until both nodes talk, and nothing is protected."""
        self.until("the nodes did not link", lambda: self.states() == ("linked", "linked"))

    def account(self) -> str:
        """What both nodes say, on one line."""
        parts = []
        for host, status in self.statuses().items():
            said = f"{status['role']}, {status['state']}" if status else "no answer"
            words = self._nodes[host].last_words()[-300:] if host in self._nodes else "never started"
            parts.append(f"node on {host.value}: {said} ({words})")
        return "; ".join(parts)

    # ── doing ─────────────────────────────────────────────────────────────────────────────────────────────────

    def ensure_whole(self) -> float:
        """Wait until the guest is protected; the seconds that it took, 0 when it was. Raises `LabError`.

        The first time `colo protect` is asked for it; the nodes remember that.
        """
        if self.is_whole():
            return 0.0
        began = time.monotonic()
        self.may_fence_again()
        if not self._is_asked:
            self.until_linked()
            host = self.serving()
            if host is None:
                raise LabError(f"no host serves: {self.account()}")
            self.controls[host].ask("protect", timeout_s=PROTECT_S)
            self._is_asked = True
        self.until("the pair did not become protected", self.is_whole, PROTECT_S)
        return time.monotonic() - began

    def may_fence_again(self) -> None:
        """Once the fault before has been repaired."""
        if self._lock.exists():
            self._lock.rmdir()

    def unprotect(self, primary: Host) -> None:
        """`colo unprotect`. Raises `LabError`."""
        self._is_asked = False
        self.controls[primary].ask("unprotect", timeout_s=STATE_S)
        self.until_linked()

    def log(self, host: Host) -> str:
        """Of that host's node."""
        return self._nodes[host].log.read_text(errors="replace")

    def make_checkpoints(self, primary: Host, count: int) -> None:
        """So many, one after another. Raises `LabError` when they are not made."""
        wanted = self._epoch(primary) + count
        for _ in range(count):
            self.controls[primary].ask("checkpoint", timeout_s=STATE_S)
        self.until("no checkpoint was made", lambda: self._epoch(primary) >= wanted)

    def _epoch(self, primary: Host) -> int:
        return int(self.controls[primary].ask("status")["checkpoint"]["epoch"])

    def power_on(self, host: Host) -> None:
        """The host boots, and its node starts."""
        self.stage.power_on(host)
        self.start_node(host)


def write_files(stage: LibvirtStage) -> None:
    """Both nodes' files, before a host looks for them: they are written below its overlay, which remembers a miss."""
    agent, lock = stage.directory / "fence_lab", stage.directory / LOCK
    shutil.copyfile(Path(str(files("pycolo_lab.pacemaker").joinpath("fence_lab"))), agent)
    agent.chmod(0o755)
    agent.with_name("fence_lab.socket").write_text(f"{stage.directory}/switch.sock\n")
    for host, one in stage.hosts.items():
        one.write(CONFIG, toml(settings(host, has_disk=stage.has_disk, has_network=stage.has_network)))
        one.write(FENCE, FENCING.format(lock=lock, agent=agent, peer=LETTERS[other(host)]), mode=0o755)


def settings(host: Host, *, has_disk: bool, has_network: bool = False) -> dict[str, Any]:
    """A node's file, as a user writes it for a domain. `has_disk`: a writable one; `has_network`: libvirt knows where
    its card belongs.
    """
    return {
        "": {
            "pair": NAME,
            "role": "primary" if host is Host.A else "secondary",
            "state": f"/var/lib/colo/{NAME}",
        },
        "link": {
            "listen": f"{LINK_ADDRESSES[host]}:{LINK_PORT}",
            "peer": f"{LINK_ADDRESSES[other(host)]}:{LINK_PORT}",
            **PLAIN_TEXT,
        },
        "guest": {"domain": NAME},
        **({"disks": {}} if has_disk else {}),
        "[card]": [{"netdev": "hostnet0", **({} if has_network else {"bridge": BRIDGE})}],
        "checkpoint": {"min_distance_ms": 20, "max_interval_ms": 2000},
        "compare": {"compare_timeout_ms": 500},
        "heartbeat": {"interval_ms": 25, "timeout_ms": HEARTBEAT_TIMEOUT_MS},
        "arbiter": {
            "kind": "command",
            "command": [FENCE],
            "timeout_ms": 5 * FENCE_MS,
            "head_start_ms": 5 * FENCE_MS,
        },
        "control": {"socket": CONTROL},
        "log": {"format": "text", "level": "debug"},
    }
