"""Signals at moments drawn by lot for a command that builds a lot: does it end, what does it say, what does it leave?

Whatever the command starts inherits a variable of its environment, by which it is found afterwards, in whatever
namespace it lives.
"""

import os
import random
import re
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

MARK = "PYCOLO_INTERRUPTED_RUN"
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
EARLY_S = 2.0
"""Namespaces, nodes and guests are made by then: that is where most can go wrong."""

GONE_S = 20.0
"""The kernel kills what is left in an instant; a busy machine takes longer to bury it."""

OF_THE_LAB = re.compile("br0|to-.+|lnk|gnic|tap0")
"""Its interfaces; all are in namespaces of their own."""


@dataclass(frozen=True, kw_only=True)
class Blow:
    """What is sent when: the signal, and perhaps a second one soon after."""

    number: signal.Signals
    after_s: float
    to_group: bool
    """As a terminal does; else to the process alone, as `kill` does."""
    again_s: float | None

    def __str__(self) -> str:
        to = "group" if self.to_group else "process"
        again = "" if self.again_s is None else f", again {self.again_s * 1e3:.0f} ms later"
        return f"{self.number.name} to the {to} after {self.after_s:.3f} s{again}"


@dataclass(kw_only=True)
class Outcome:
    blow: Blow
    code: int | None
    """None: it hung."""
    took_s: float
    """From the signal to the end."""
    said: str
    left: list[str] = field(default_factory=list)
    was_over: bool = False
    """It had ended before the signal came."""
    tells: bool = False
    """Its progress is on standard error too."""

    @property
    def faults(self) -> list[str]:
        found = ["hung"] if self.code is None else []
        if self.is_python_s:
            return found + self.left
        if "Traceback" in self.said or "Exception ignored" in self.said:
            found.append("traceback")
        elif self._lines() > (1 if self.blow.again_s is None else 2):
            found.append("more than a line a signal")
        if not self.was_over and self.code not in self._codes():
            found.append(f"exit code {self.code}")
        return found + self.left

    def _lines(self) -> int:
        return sum(not self.tells or line.startswith("colo: ") for line in self.said.splitlines())

    @property
    def is_python_s(self) -> bool:
        """The interpreter was still starting, and says so in its own way: no line of ours has run by then."""
        return "Traceback" in self.said and "/pycolo/" not in self.said

    def _codes(self) -> tuple[int | None, ...]:
        # The number itself: before Python began, or by a second signal. 0 and 1: the run came to its end first.
        return (None, 130, -self.blow.number, 0, 1)


def blows(count: int, seed: int, whole_s: float) -> Iterator[Blow]:
    """Two of three early; one of three by a whole process group; one of six twice."""
    rng = random.Random(seed)
    for _ in range(count):
        yield Blow(
            number=rng.choice(SIGNALS),
            after_s=rng.uniform(0, EARLY_S) if rng.random() < 2 / 3 else rng.uniform(EARLY_S, whole_s),
            to_group=rng.random() < 1 / 3,
            again_s=rng.uniform(0, 0.4) if rng.random() < 1 / 6 else None,
        )


def strike(command: Sequence[str], blow: Blow, *, ends_within_s: float, tells: bool = False) -> Outcome:
    """Run the command, send the signal, wait, look around. `tells`: see `Outcome`."""
    interfaces = _interfaces()
    with tempfile.TemporaryDirectory(prefix="struck-", dir="/tmp") as scratch:
        mark = Path(scratch).name
        home = Path(scratch, "cwd")
        home.mkdir()
        temporary = Path(scratch, "tmp")
        temporary.mkdir()
        said_path = Path(scratch, "said")
        with said_path.open("wb") as said:
            process = subprocess.Popen(
                command,
                cwd=home,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=said,
                start_new_session=True,
                env={**os.environ, MARK: mark, "TMPDIR": str(temporary), "XDG_CACHE_HOME": str(Path(scratch, "cache"))},
            )
        try:
            outcome = _strike(process, blow, ends_within_s)
        finally:
            left = _left(mark)
            for pid in marked(mark):
                _kill(pid)
            process.kill()
            process.wait()
        outcome.said = said_path.read_text(errors="replace")
        outcome.tells = tells
        outcome.left = left
        outcome.left += [f"left the file {path.name}" for folder in (home, temporary) for path in folder.iterdir()]
        outcome.left += [f"left the interface {name}" for name in _interfaces() - interfaces]
    return outcome


def _strike(process: "subprocess.Popen[bytes]", blow: Blow, ends_within_s: float) -> Outcome:
    try:
        process.wait(blow.after_s)
    except subprocess.TimeoutExpired:
        pass
    was_over = process.poll() is not None
    began = time.monotonic()
    _send(process, blow)
    if blow.again_s is not None:
        try:
            process.wait(blow.again_s)
        except subprocess.TimeoutExpired:
            _send(process, blow)
    code: int | None
    try:
        code = process.wait(ends_within_s)
    except subprocess.TimeoutExpired:
        code = None
    return Outcome(blow=blow, code=code, took_s=time.monotonic() - began, said="", was_over=was_over)


def _send(process: "subprocess.Popen[bytes]", blow: Blow) -> None:
    if process.poll() is not None:
        return
    if blow.to_group:
        os.killpg(process.pid, blow.number)
    else:
        process.send_signal(blow.number)


def _left(mark: str) -> list[str]:
    deadline = time.monotonic() + GONE_S
    while (pids := marked(mark)) and time.monotonic() < deadline:
        time.sleep(0.05)
    return [f"left the process {pid}: {_line(pid)}" for pid in pids]


def marked(mark: str) -> list[int]:
    """Processes whose environment has the mark."""
    wanted = f"{MARK}={mark}".encode()
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            if wanted in path.read_bytes():
                found.append(int(path.parent.name))
        except OSError:
            continue
    return found


def _line(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")[:200]
    except OSError:
        return "?"


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass


def _interfaces() -> set[str]:
    return {name for name in os.listdir("/sys/class/net") if OF_THE_LAB.fullmatch(name)}
