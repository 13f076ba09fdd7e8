"""The processes of a run: the namespace of each, and the host with which it dies."""

import os
import signal
import subprocess
import time
from collections.abc import Callable
from enum import Enum
from pathlib import Path
from typing import Final

from pycolo_lab.errors import LabError
from pycolo_lab.interruption import LOOK_S, Interruption
from pycolo_lab.namespaces import Namespace, die_with_parent

LOG_LINES_SHOWN: Final = 6
"""Of a process that died: its last words, enough for an error with its cause."""


ERROR: Final = "colo: "
"""How `colo` begins the line that says why it ends."""

IN_ORDER_S: Final = 60.0
"""apt-get comes to an end after the call of dpkg that is under way; a second signal ends it at once."""


class Host(Enum):
    """What a process dies with."""

    CLIENT = "client"
    A = "host A"
    B = "host B"


class Process:
    """One running process with its output in a file."""

    def __init__(self, name: str, host: Host, popen: "subprocess.Popen[bytes]", log: Path) -> None:
        self.name = name
        self.host = host
        self.log = log
        self._popen = popen

    @property
    def pid(self) -> int:
        """Its process id, which is its process group and session too."""
        return self._popen.pid

    def exit_code(self) -> int | None:
        """None while it runs."""
        return self._popen.poll()

    def send(self, number: signal.Signals) -> None:
        """Send a signal to it and to everything it started; nothing happens when it is gone."""
        if self._popen.poll() is None:
            try:
                os.killpg(self._popen.pid, number)
            except ProcessLookupError:
                pass

    def wait(self, timeout_s: float) -> int | None:
        """Its exit code, or None when it still runs after `timeout_s`."""
        try:
            return self._popen.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return None

    def last_words(self) -> str:
        """The end of its output on one line; of `colo` the error that it ends with, if there is one."""
        lines = self.log.read_text(errors="replace").strip().splitlines()
        if lines and lines[-1].startswith(ERROR):
            return lines[-1].removeprefix(ERROR)
        return " | ".join(line.strip() for line in lines[-LOG_LINES_SHOWN:]) or "no output"


def _dies_with(parent: int, number: signal.Signals = signal.SIGKILL) -> Callable[[], None]:
    """For a new process: it gets the signal when `parent` is gone, and does not begin if that is so already."""

    def prepare() -> None:
        die_with_parent(number)
        if os.getppid() != parent:
            os._exit(1)

    return prepare


def run_to_end(
    command: list[str],
    interruption: Interruption,
    *,
    timeout_s: float,
    directory: Path | None = None,
    environment: dict[str, str] | None = None,
    ends_in_order: bool = False,
) -> "subprocess.CompletedProcess[str] | None":
    """Run a program to its end, with its output; None when that does not come within `timeout_s`.

    On an interruption it is killed with all that it has started; or, if it `ends_in_order`, it gets a SIGINT and the
    time to do what it does then. Raises `RunInterruptedError`, and `LabError` when it cannot be started.
    """
    number = signal.SIGINT if ends_in_order else signal.SIGKILL
    try:
        popen = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            cwd=directory,
            env={**os.environ, **(environment or {})},
            start_new_session=True,
            preexec_fn=_dies_with(os.getpid(), number),  # noqa: PLW1509 - this process has one thread
        )
    except OSError as error:
        raise _not_started(command[0], error) from error
    with popen:
        deadline = time.monotonic() + timeout_s
        with interruption.ending(popen.pid):
            try:
                while time.monotonic() < deadline:
                    interruption.look()
                    try:
                        output, errors = popen.communicate(timeout=LOOK_S)
                    except subprocess.TimeoutExpired:
                        continue
                    return subprocess.CompletedProcess(command, popen.returncode, output, errors)
            finally:
                _end(popen, number)
    return None


def _not_started(what: str, error: OSError) -> LabError:
    return LabError(f"{what} could not be started: {error.filename or what}: {error.strerror}")


def _end(popen: "subprocess.Popen[str]", number: signal.Signals) -> None:
    """Also what it has started: it leads a process group."""
    if popen.poll() is None and number is not signal.SIGKILL:
        popen.send_signal(number)
        try:
            popen.communicate(timeout=IN_ORDER_S)
        except subprocess.TimeoutExpired:
            pass
    if popen.poll() is None:
        os.killpg(popen.pid, signal.SIGKILL)


class Processes:
    """All processes of a run. Only the main thread may start one: they die with the thread that made them."""

    def __init__(self, log_directory: Path) -> None:
        self._log_directory = log_directory
        self._all: list[Process] = []

    def start(self, name: str, host: Host, namespace: Namespace, command: list[str]) -> Process:
        """Start `command` inside `namespace`, in a session of its own, its output in `NAME.log`."""
        log = self._log_directory / f"{name}.log"
        try:
            with namespace.entered(), log.open("wb") as output:
                # The fork happens inside the namespace.
                popen = subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                    preexec_fn=_dies_with(os.getpid()),  # noqa: PLW1509 - this process has one thread
                )
        except OSError as error:
            raise _not_started(name, error) from error
        process = Process(name, host, popen, log)
        self._all.append(process)
        return process

    def named(self, name: str) -> Process | None:
        """The process that was started under that name last."""
        return next((process for process in reversed(self._all) if process.name == name), None)

    def kill_host(self, host: Host) -> None:
        """SIGKILL everything on that host, in one go."""
        for process in self._all:
            if process.host is host:
                process.send(signal.SIGKILL)

    def kill_all(self, wait_s: float = 2.0) -> None:
        """SIGKILL everything and wait until it is gone."""
        for process in self._all:
            process.send(signal.SIGKILL)
        deadline = time.monotonic() + wait_s
        for process in self._all:
            process.wait(max(0.0, deadline - time.monotonic()))

    def assert_running(self, *processes: Process) -> None:
        """Raise `LabError` with the last words of the first process that ended unexpectedly."""
        for process in processes:
            code = process.exit_code()
            if code is not None:
                ended = f"exit code {code}" if code >= 0 else signal.Signals(-code).name
                where = f"{process.name} on {process.host.value}"
                raise LabError(f"{where} ended by itself ({ended}): {process.last_words()}")


def reap_strangers() -> None:
    """As process 1 of its namespace the run inherits the QEMUs of nodes that died; take their exit codes."""
    if os.getpid() != 1:
        return
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            pid, state, parent = _stat(path)
        except (OSError, ValueError, IndexError):
            continue
        if state == "Z" and parent == 1:
            try:
                os.waitpid(pid, os.WNOHANG)
            except ChildProcessError:
                continue


def _stat(path: Path) -> tuple[int, str, int]:
    """Process id, state, parent: proc(5); the name in brackets may hold anything."""
    before, _, after = path.read_text().rpartition(")")
    words = after.split()
    return int(before.split(" ", 1)[0]), words[0], int(words[1])
