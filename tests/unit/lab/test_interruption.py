"""A signal is recorded and looked at; a second one ends the process with everything that it has started."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from pycolo_lab import processes
from pycolo_lab.errors import RunInterruptedError
from pycolo_lab.interruption import SAME_S, SIGNALS, Interruption, Warden, signals_held
from support.nodes import wait_for

pytestmark = pytest.mark.slow

GRACE_S = 0.05


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_is_raised_where_it_is_looked_for_and_nowhere_else(number: signal.Signals) -> None:
    interruption = Interruption()
    interruption.watch()
    interruption.look()
    os.kill(os.getpid(), number)
    sum(range(1000))  # handlers run between two lines
    with pytest.raises(RunInterruptedError, match=f"interrupted by {number.name}; everything was shut down"):
        interruption.look()
    assert RunInterruptedError.exit_code == 130


def test_a_rest_ends_soon_after_a_signal() -> None:
    interruption = Interruption()
    interruption.watch()
    with subprocess.Popen(["sh", "-c", f"sleep 0.2; kill -TERM {os.getpid()}"]):
        began = time.monotonic()
        with pytest.raises(RunInterruptedError):
            interruption.rest(60)
    assert time.monotonic() - began < 30


def test_what_nohup_ignores_stays_ignored() -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    interruption = Interruption()
    interruption.watch()
    os.kill(os.getpid(), signal.SIGHUP)
    interruption.look()


def test_signals_wait_while_they_are_held() -> None:
    interruption = Interruption()
    interruption.watch()
    with signals_held():
        signal.raise_signal(signal.SIGTERM)  # to this thread: another test's, if one lives, holds none
        interruption.look()
    with pytest.raises(RunInterruptedError):
        interruption.look()


# ── programs ────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_program_s_output_and_exit_code_are_told() -> None:
    done = processes.run_to_end(["sh", "-c", "echo out; echo err >&2; exit 3"], Interruption(), timeout_s=60)
    assert done is not None
    assert (done.returncode, done.stdout, done.stderr) == (3, "out\n", "err\n")


def test_a_program_that_takes_too_long_is_gone() -> None:
    assert processes.run_to_end(["sleep", "600"], Interruption(), timeout_s=0.1) is None


def test_an_interruption_ends_a_program_and_what_it_has_started() -> None:
    interruption = Interruption()
    interruption.watch()
    script = f"sleep 601 & echo $! >&3; sleep 0.2; kill -INT {os.getpid()}; wait"
    ours, theirs = os.pipe()
    with pytest.raises(RunInterruptedError):
        processes.run_to_end(
            ["bash", "-c", f"exec 3>/proc/{os.getpid()}/fd/{theirs}; {script}"], interruption, timeout_s=60
        )
    os.close(theirs)
    with os.fdopen(ours) as stream:
        started = int(stream.readline())
    wait_for(lambda: not is_running(started), "what the program has started to be gone")


def test_a_program_may_end_in_order() -> None:
    interruption = Interruption()
    interruption.watch()
    script = f"trap 'echo in order >&3; exit' INT; kill -TERM {os.getpid()}; while :; do sleep 0.05; done"
    ours, theirs = os.pipe()
    with pytest.raises(RunInterruptedError):
        processes.run_to_end(
            ["bash", "-c", f"exec 3>/proc/{os.getpid()}/fd/{theirs}; {script}"],
            interruption,
            timeout_s=60,
            ends_in_order=True,
        )
    os.close(theirs)
    with os.fdopen(ours) as stream:
        assert stream.read() == "in order\n"


# ── the second signal ───────────────────────────────────────────────────────────────────────────────────────

DEAF = """
    import time
    from pycolo_lab.interruption import Interruption
    from pycolo_lab.processes import run_to_end

    class Deaf(Interruption):
        def look(self):
            if self._number is not None:
                print("deaf", flush=True)

    interruption = Deaf()
    interruption.watch()
    run_to_end(["sh", "-c", "sleep 602 & echo $! > /proc/$PPID/fd/1; wait"], interruption, timeout_s=600)
"""


@pytest.mark.parametrize("number", SIGNALS)
def test_a_second_signal_ends_a_process_that_never_looks(number: signal.Signals) -> None:
    with script(DEAF) as process:
        assert process.stdout is not None
        started = int(process.stdout.readline())
        process.send_signal(number)
        assert process.stdout.readline() == "deaf\n"
        time.sleep(SAME_S + GRACE_S)
        process.send_signal(number)
        assert process.wait(60) == -number
    wait_for(lambda: not is_running(started), "the program's child to be gone")


def test_the_same_signal_from_two_senders_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pycolo_lab.interruption.SAME_S", 600.0)
    interruption = Interruption()
    interruption.watch()
    for _ in range(3):  # a second one would end the tests
        os.kill(os.getpid(), signal.SIGTERM)
        sum(range(1000))
    with pytest.raises(RunInterruptedError):
        interruption.look()


def test_a_warden_kills_a_deaf_child_at_the_second_signal() -> None:
    ignore = "[signal.signal(number, signal.SIG_IGN) for number in (1, 2, 15)]"
    deaf = f"import signal, time; {ignore}; print(flush=True); time.sleep(603)"
    with subprocess.Popen([sys.executable, "-c", deaf], stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()
        warden = Warden(child.pid, kills=True)
        warden.watch()
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(SAME_S + GRACE_S)
        os.kill(os.getpid(), signal.SIGINT)
        assert warden.wait() == -signal.SIGKILL
        assert warden.second == signal.SIGINT
        child.returncode = -signal.SIGKILL  # the warden has asked for it


@contextmanager
def script(text: str) -> Iterator["subprocess.Popen[str]"]:
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(text)], stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()


def is_running(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as stream:
            return stream.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
