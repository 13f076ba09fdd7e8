"""A host: namespaces that are entered from outside, and that end with their first process."""

import os
import shutil
import signal
import subprocess
import time
from importlib.resources import files
from pathlib import Path
from typing import Final

from pycolo_lab.errors import LabError
from pycolo_lab.interruption import Look
from pycolo_lab.namespaces import Namespace

BOOT_S: Final = 10.0
POLL_S: Final = 0.02

USER: Final = "hacluster"
GROUP: Final = "haclient"

START: Final = """
corosync -f >/var/log/corosync/out 2>&1 </dev/null &
for i in $(seq 400); do corosync-cfgtool -s >/dev/null 2>&1 && break; sleep 0.05; done
PCMK_logfile=/var/log/pacemaker/pacemaker.log PCMK_logfacility=none PCMK_fail_fast=no \
setsid pacemakerd >/var/log/pacemaker/out 2>&1 </dev/null &
"""
"""The cluster on one host, as its two services do."""

STOP: Final = """
for name in pacemakerd corosync; do
    pid=$(pidof $name) || continue
    kill $pid
    while kill -0 $pid 2>/dev/null; do sleep 0.05; done
done
"""
"""Pacemaker stops what it runs, then corosync leaves."""


class ClusterHost:
    """`directory` is its disk: it outlives the host's death."""

    def __init__(self, letter: str, namespace: Namespace, directory: Path, shared: Path, look: Look) -> None:
        self.letter = letter
        self.namespace = namespace
        self.directory = directory
        self._shared = shared
        self._look = look
        self._unshare: subprocess.Popen[bytes] | None = None
        self._first = 0

    @property
    def is_on(self) -> bool:
        """Whether it runs."""
        return self._unshare is not None and self._unshare.poll() is None

    def boot(self) -> None:
        """Start it: /run is empty, its disk is as it was."""
        run = self.directory / "root" / "run"
        shutil.rmtree(run, ignore_errors=True)
        for name in ("cib", "blackbox", "cores", "pengine"):
            (self.directory / "root/var/lib/pacemaker" / name).mkdir(parents=True, exist_ok=True)
        (self.directory / "root/var/log/pacemaker").mkdir(parents=True, exist_ok=True)
        for path in (self.directory / "root/var/lib/pacemaker", self.directory / "root/var/log/pacemaker"):
            for one in (path, *path.rglob("*")):
                shutil.chown(one, USER, GROUP)
        script = str(files(__package__).joinpath("host.sh"))
        words = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--propagation", "private"]
        words += ["sh", script, self.letter, str(self.directory), str(self._shared)]
        with self.namespace.entered(), (self.directory / "console").open("ab") as console:
            self._unshare = subprocess.Popen(
                words,
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=console,
                start_new_session=True,
            )
        deadline = time.monotonic() + BOOT_S
        while not (run / "booted").exists():
            if not self.is_on or time.monotonic() > deadline:
                raise LabError(f"host {self.letter} does not boot: see {self.directory}/console")
            time.sleep(POLL_S)
        pid = self._unshare.pid
        self._first = int(Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0])

    def die(self) -> None:
        """All its processes at once."""
        if self._unshare is None:
            return
        if self.is_on and self._first:
            os.kill(self._first, signal.SIGKILL)
        self._unshare.wait()
        self._unshare = None

    def command(self, *words: str) -> list[str]:
        """The words of a command that does that inside."""
        return ["nsenter", "--target", str(self._first), "--net", "--mount", "--pid", "--", *words]

    def run(self, *words: str, timeout_s: float = 60.0) -> str:
        """Its output; empty when it fails or the host is off."""
        if not self.is_on:
            return ""
        try:
            done = subprocess.run(self.command(*words), capture_output=True, text=True, timeout=timeout_s, check=False)
        except subprocess.TimeoutExpired:
            return ""
        return done.stdout if done.returncode == 0 else ""

    def start_cluster(self) -> None:
        """Corosync and Pacemaker."""
        self.run("sh", "-c", START)

    def stop_cluster(self) -> None:
        """In order."""
        self.run("sh", "-c", STOP, timeout_s=120)

    def pid_of(self, path: str) -> int:
        """The first word of a pid file of the host, as a process id inside it; 0 without one."""
        text = self.run("cat", path).split()
        return int(text[0]) if text else 0

    def kill(self, pid: int, signal_: str = "KILL") -> None:
        """A process of the host."""
        if pid:
            self.run("kill", f"-{signal_}", str(pid))
