"""QEMU's own bugs under COLO, with and without what the product does about them: real QEMUs, no nodes.

In the suite runs what takes seconds. By hand, for each version, with `COLO_QEMU=10.0` or `11.1`, and with more
formations, because the losses are a matter of chance:

    COLO_QEMU=10.0 COLO_FORMATIONS=20 pytest tests/e2e/test_machine_shapes.py
"""

import os
import subprocess
import sys

import pytest

pytestmark = [pytest.mark.qemu, pytest.mark.namespaces, pytest.mark.timeout(900)]

QEMU = os.environ.get("COLO_QEMU")
FORMATIONS = os.environ.get("COLO_FORMATIONS")


def shape(*words: str) -> tuple[int, str]:
    """The exit code and what was said."""
    version = ["--qemu", QEMU] if QEMU else []
    done = subprocess.run(
        [sys.executable, "-m", "pycolo", "lab", "shape", *version, *words],
        capture_output=True,
        text=True,
        timeout=850,
        check=False,
    )
    return done.returncode, done.stderr + done.stdout


def test_q35_is_cured():
    code, said = shape("--machine", "q35", "--checkpoints", "2")
    assert code == 0, said


def test_without_the_cure_q35_aborts_at_its_first_checkpoint():
    code, said = shape("--machine", "q35", "--checkpoints", "1", "--without-cures")
    if QEMU == "11.1":
        assert "failed" in said
        assert "subregion->container" not in said
    else:
        assert code == 1
        assert "0 checkpoints" in said
        assert "!subregion->container" in said


if FORMATIONS is not None:  # a loss is a matter of chance, so these are for many formations only

    def test_memory_of_a_round_size_is_the_same_on_both_sides():
        code, said = shape("--checkpoints", "2", "--formations", FORMATIONS)
        assert code == 0, said

    def test_without_the_cure_memory_is_lost():
        code, said = shape("--checkpoints", "2", "--formations", FORMATIONS, "--without-cures")
        assert code == 1, said
        assert "stale pages" in said
