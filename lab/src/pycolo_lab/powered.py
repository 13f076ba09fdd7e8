"""A host with processes of its own: network, mount and PID namespaces.

They are entered from outside, and end with their first process.
"""

import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from pycolo_lab.errors import LabError
from pycolo_lab.namespaces import Namespace
from pycolo_lab.processes import reap_strangers

BOOT_S: Final = 10.0
POLL_S: Final = 0.02
COMMAND_S: Final = 60.0


class PoweredHost:
    """`directory` is its disk: it outlives the host's death.

    `script` is the first process, with `words` behind the host's letter and its directory; it says that the host is up
    by making /run/booted, which is run/booted below `root` outside.
    """

    def __init__(
        self, letter: str, namespace: Namespace, directory: Path, script: Path, words: Sequence[str] = ()
    ) -> None:
        self.letter = letter
        self.namespace = namespace
        self.directory = directory
        self.root = directory / "root"
        self._first_words = ["sh", str(script), letter, str(directory), *words]
        self._unshare: subprocess.Popen[bytes] | None = None
        self._first = 0
        self._dying = threading.Lock()

    @property
    def is_on(self) -> bool:
        """Whether it runs."""
        return self._unshare is not None and self._unshare.poll() is None

    def boot(self) -> None:
        """Start it: /run is empty, its disk is as it was. Raises `LabError`."""
        run = self.root / "run"
        shutil.rmtree(run, ignore_errors=True)
        words = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--propagation", "private"]
        with self.namespace.entered(), (self.directory / "console").open("ab") as console:
            self._unshare = subprocess.Popen(
                [*words, *self._first_words],
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
        """All its processes at once. The power switch may ask for it while the laboratory ends it."""
        with self._dying:
            if self._unshare is None:
                return
            if self.is_on and self._first:
                with suppress(ProcessLookupError):
                    os.kill(self._first, signal.SIGKILL)
            while self._unshare.poll() is None:
                # A command that was broken off leaves a process that only this one sees off: the host's end waits.
                reap_strangers()
                time.sleep(POLL_S)
            self._unshare = None

    def command(self, *words: str) -> list[str]:
        """The words of a command that does that inside."""
        return ["nsenter", "--target", str(self._first), "--net", "--mount", "--pid", "--", *words]

    def ended(self, *words: str, timeout_s: float = COMMAND_S) -> "subprocess.CompletedProcess[str] | None":
        """A command that has ended inside; None when the host is off or the command does not end in time."""
        if not self.is_on:
            return None
        try:
            return subprocess.run(self.command(*words), capture_output=True, text=True, timeout=timeout_s, check=False)
        except subprocess.TimeoutExpired:
            return None

    def run(self, *words: str, timeout_s: float = COMMAND_S) -> str:
        """A command's output; empty when it fails or the host is off."""
        done = self.ended(*words, timeout_s=timeout_s)
        return done.stdout if done is not None and done.returncode == 0 else ""

    def pid_of(self, path: str) -> int:
        """The first word of a pid file of the host, as a process id inside it; 0 without one."""
        text = self.run("cat", path).split()
        return int(text[0]) if text else 0

    def kill(self, pid: int, signal_: str = "KILL") -> None:
        """A process of the host. By the shell: the program `kill` is in no essential package of Debian's."""
        if pid:
            self.run("sh", "-c", f"kill -{signal_} {pid}")

    def lives(self, pid: int) -> bool:
        """Whether a process of the host does."""
        done = self.ended("sh", "-c", f"kill -0 {pid}")
        return done is not None and done.returncode == 0
