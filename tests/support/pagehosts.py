"""Hosts for a page of the documentation: two hosts and a client out of namespaces, in which its commands are run.

Run as a program, as process 1 of a PID namespace, so that nothing outlives it:

    unshare --net --mount --pid --fork --kill-child --mount-proc python pagehosts.py PAGE DIRECTORY

DIRECTORY is an empty one in which all hosts find the programs that a page takes for granted.

A block is run when the line before its fence says where: `<!-- on: host A, host B -->`. Each host has one shell for the
whole page, as a reader has. What they say goes to standard output; the exit code is 0 when every block went well.
"""

import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

BLOCK_S = 60.0
HOSTS = ("host A", "host B", "client")
COPIED = ("etc", "srv", "var", "root")
"""Directories in which each host writes for itself."""

DONE = "@@done@@"

_BLOCK = re.compile(r"^<!-- on: (?P<where>[^>]+) -->\n```bash\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)


class Block(NamedTuple):
    where: list[str]
    text: str


def blocks(page: str) -> list[Block]:
    return [Block(re.split(r",\s*", found["where"].strip()), found["text"]) for found in _BLOCK.finditer(page)]


class Shell:
    """One host: a network, a file system to write to, and a shell."""

    def __init__(self, name: str, programs: Path) -> None:
        self.name = name
        environment = {**os.environ, "PATH": f"{programs}:{os.environ['PATH']}:/usr/sbin:/sbin"}
        self.process = subprocess.Popen(
            ["unshare", "--net", "--mount", "--uts", "bash"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=environment,
        )

    @property
    def pid(self) -> int:
        return self.process.pid

    def run(self, text: str, *, quiet: bool = False) -> None:
        """A block; raises when its last command, or any that is not in a condition, fails."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"set -e\n{text}\nset +e; echo {DONE}\n".encode())
        self.process.stdin.flush()
        os.set_blocking(self.process.stdout.fileno(), False)
        said, deadline = b"", time.monotonic() + BLOCK_S
        while f"{DONE}\n".encode() not in said:
            octets = self.process.stdout.read()
            if octets:
                said += octets
                if not quiet:
                    sys.stdout.write(octets.decode(errors="replace").replace(f"{DONE}\n", ""))
                    sys.stdout.flush()
            elif octets == b"" or self.process.poll() is not None:
                raise SystemExit(f"FAILED on {self.name}: {said.decode(errors='replace')}")
            elif time.monotonic() > deadline:
                raise SystemExit(f"FAILED on {self.name}: not done within {BLOCK_S:.0f} s")
            else:
                time.sleep(0.02)


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True)


def own_file_system() -> str:
    """Commands that give a host directories of its own."""
    lines = ["mount --make-rprivate /", "mount -t tmpfs tmpfs /run"]
    for name in COPIED:
        lines.append(f"mkdir -p /run/.own/{name}/upper /run/.own/{name}/work")
        options = f"lowerdir=/{name},upperdir=/run/.own/{name}/upper,workdir=/run/.own/{name}/work"
        lines.append(f"mount -t overlay overlay -o {options} /{name}")
    return "\n".join([*lines, "mkdir -p /run/work", "cd /run/work"])


def stand_ins(directory: Path, host_b: int) -> None:
    """ssh and scp to host B, by way of its mount namespace."""
    enter = f"nsenter --target {host_b} --mount --net"
    scripts = {
        "ssh": f'#!/bin/bash\nshift\nexec {enter} -- "$@"\n',
        "scp": f'#!/bin/bash\nset -e; umask 077\nto="${{!#}}"; to="${{to#*:}}"\nfor each in "${{@:1:$#-1}}"; do\n'
        f'  {enter} tee "$to/$(basename "$each")" < "$each" > /dev/null\ndone\n',
    }
    for name, text in scripts.items():
        (directory / name).write_text(text)
        (directory / name).chmod(0o755)


def connect(shells: dict[str, Shell]) -> None:
    """The clients' network, with a bridge on each host, and the cable between the hosts."""
    ip("link", "set", "lo", "up")
    ip("link", "add", "lan", "type", "bridge", "forward_delay", "0")
    ip("link", "set", "lan", "up")
    for number, shell in enumerate(shells.values()):
        ip("link", "add", f"to{number}", "type", "veth", "peer", "name", "eth0", "netns", str(shell.pid))
        ip("link", "set", f"to{number}", "master", "lan", "up")
    a, b = (str(shells[name].pid) for name in ("host A", "host B"))
    ip("link", "add", "lnk", "netns", a, "type", "veth", "peer", "name", "lnk", "netns", b)
    for number, name in enumerate(("host A", "host B"), start=1):
        shells[name].run(
            "ip link set lo up; ip link set lnk up; ip link add br0 type bridge forward_delay 0\n"
            f"ip addr add 192.0.2.{number}/30 dev lnk; ip addr add 198.51.100.{number + 1}/24 dev br0\n"
            "ip link set eth0 master br0 up; ip link set br0 up",
            quiet=True,
        )
    shells["client"].run("ip link set lo up; ip addr add 198.51.100.1/24 dev eth0; ip link set eth0 up", quiet=True)


def main() -> None:
    page = Path(sys.argv[1])
    found = blocks(page.read_text(encoding="utf-8"))
    assert found, f"{page} has no block that says where it runs"
    subprocess.run(["mount", "--make-rprivate", "/"], check=True)
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", "/run"], check=True)
    programs = Path(sys.argv[2])
    (programs / "colo").write_text(f'#!/bin/sh\nexec {sys.executable} -m pycolo "$@"\n')
    (programs / "colo").chmod(0o755)
    shells = {name: Shell(name, programs) for name in HOSTS}
    for shell in shells.values():
        shell.run(own_file_system(), quiet=True)
    connect(shells)
    stand_ins(programs, shells["host B"].pid)
    for block in found:
        for name in block.where:
            print(f"── {name} ──\n{block.text}", flush=True)
            shells[name].run(block.text)
    print("every block went well")


if __name__ == "__main__":
    main()
