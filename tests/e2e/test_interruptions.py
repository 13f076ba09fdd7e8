"""Signals at any moment: a run ends, says one line at most, and leaves nothing; a second signal ends one that hangs.

`benchmarks/soak_signals.py` does the same with hundreds of them.
"""

import os
import signal
import subprocess
import sys
import textwrap
import time
from contextlib import suppress
from pathlib import Path

import pytest

from pycolo_lab.interruption import SAME_S
from support.interrupts import MARK, SIGNALS, Blow, blows, marked, strike
from support.nodes import wait_for

pytestmark = [pytest.mark.namespaces, pytest.mark.timeout(300)]

DEMO = [sys.executable, "-m", "pycolo", "demo", "--seconds", "3", "--sessions", "5", "--no-report"]
QEMU_LAB = [sys.executable, "-m", "pycolo", "lab", "qemu", "--scenario", "rest", "--rounds", "1", "--guest", "small"]
ENDS_WITHIN_S = 60.0


@pytest.mark.parametrize("blow", list(blows(10, seed=8, whole_s=6.0)), ids=str)
def test_a_demo_ends_whenever_a_signal_comes(blow: Blow) -> None:
    outcome = strike(DEMO, blow, ends_within_s=ENDS_WITHIN_S)
    assert outcome.faults == [], outcome.said


@pytest.mark.qemu
@pytest.mark.tun
@pytest.mark.parametrize("blow", list(blows(4, seed=58, whole_s=12.0)), ids=str)
def test_a_qemu_lab_ends_whenever_a_signal_comes(blow: Blow) -> None:
    """Also while it builds the guest's image, on a machine that has none yet."""
    outcome = strike(QEMU_LAB, blow, ends_within_s=ENDS_WITHIN_S, tells=True)
    assert outcome.faults == [], outcome.said


DEAF = """
    import os, signal, sys, time
    from pathlib import Path
    from pycolo_lab.interruption import Interruption
    from pycolo_lab.namespaces import Namespace, run_isolated, run_with_own_pids
    from pycolo_lab.processes import Host, Processes

    interruption = Interruption()

    def body(directory):
        namespace = Namespace.create(directory, "one")
        Processes(directory).start("sleeper", Host.A, namespace, ["sleep", "604"])
        print("hangs", flush=True)
        while True:
            time.sleep(1)  # and never looks

    def with_own_pids(directory):
        return run_with_own_pids(lambda _: body(directory), interruption)

    sys.exit(run_isolated(with_own_pids if len(sys.argv) > 1 else body, interruption))
"""


@pytest.mark.parametrize("pids", [[], ["own-pids"]], ids=["demo", "qemu-lab"])
@pytest.mark.parametrize("number", SIGNALS, ids=lambda number: number.name)
def test_a_second_signal_ends_what_hangs(number: signal.Signals, pids: list[str], tmp_path: Path) -> None:
    environment = {**os.environ, "TMPDIR": str(tmp_path), MARK: str(tmp_path)}
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(DEAF), *pids],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "hangs\n"
        while process.poll() is None:
            process.send_signal(number)
            time.sleep(2 * SAME_S)  # what comes sooner is taken for the same one
            process.send_signal(number)
            with suppress(subprocess.TimeoutExpired):  # two that came as one: once more
                process.wait(20)
        assert process.stderr is not None
        said = process.stderr.read()
    assert process.returncode == -number
    assert said == f"colo: killed by a second {number.name}\n"
    wait_for(lambda: marked(str(tmp_path)) == [], "everything to be gone")
    assert list(tmp_path.iterdir()) == []
