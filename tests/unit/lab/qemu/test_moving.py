"""A node that dies in a move: when it does, and when no client may be answered."""

import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from pycolo_lab.processes import Host
from pycolo_lab.qemu import dying
from pycolo_lab.qemu.moving import MOVES, Moving

DIE_IN_STEPS = """
import sys
from pathlib import Path
from pycolo_lab.qemu.dying import note_step
for name in sys.argv[2:]:
    note_step(Path(sys.argv[1]), name)
"""

ATTACH = ["colo-lab joins br0", "br0 forwards from colo-lab", "switch: colo-lab in the place of tap0"]
DETACH = ["tap0 joins br0", "br0 forwards from tap0", "switch: tap0 back in its place"]
OTHER_CARD = [name.replace("tap0", "tap1").replace("colo-lab", "colo-lab.1") for name in ATTACH]


def run_steps(order: Path, names: list[str]) -> int:
    return subprocess.run([sys.executable, "-c", DIE_IN_STEPS, order, *names], check=False).returncode


def test_a_node_dies_behind_the_step_of_the_order(tmp_path):
    order = tmp_path / "die.order"
    assert run_steps(order, ["never ordered"]) == 0
    dying.order(order, 2)
    assert run_steps(order, ["one", "two", "three"]) == -signal.SIGKILL
    assert dying.steps_done(order) == ["one", "two"]
    dying.order(order, 0)
    assert run_steps(order, ["four"]) == 0
    assert dying.steps_done(order) == []


def moving(tmp_path: Path, move: str, *, is_primary: bool, done: list[str], is_dead: bool = True) -> Moving:
    order = tmp_path / "die.order"
    files = {host: SimpleNamespace(order=order) for host in (Host.A, Host.B)}
    stage = SimpleNamespace(files=files, is_running=lambda _host: not is_dead)
    dying.order(order, 9)
    for name in done:
        dying.note_step(order, name)
    return Moving(stage, Host.A, 1 + MOVES.index((move, is_primary)))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("move", "is_primary", "done", "is_cut_off"),
    [
        ("protect", True, [], False),
        ("protect", True, ATTACH[:2], False),
        ("protect", True, OTHER_CARD, False),
        ("protect", True, ATTACH, True),
        ("unprotect", True, DETACH[:2], True),
        ("unprotect", True, DETACH, False),
        ("takeover", False, [], True),
        ("takeover", False, ATTACH, True),
        ("protect", False, ATTACH, False),
    ],
)
def test_clients_are_cut_off_while_the_dead_node_has_the_tap_s_place(move, is_primary, done, is_cut_off, tmp_path):
    assert moving(tmp_path, move, is_primary=is_primary, done=done).is_cut_off() is is_cut_off


def test_a_move_with_fewer_steps_cuts_no_client_off(tmp_path):
    one = moving(tmp_path, "takeover", is_primary=False, done=ATTACH, is_dead=False)
    assert not one.is_cut_off()
    assert "fewer steps" in one.account
