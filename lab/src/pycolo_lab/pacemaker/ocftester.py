"""ocf-tester, of the package resource-agents: does the agent keep the rules of OCF?"""

import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Final

from pycolo.arbiters import resourceagent
from pycolo_lab.errors import LabError
from pycolo_lab.pacemaker import standin

TESTER_S: Final = 120.0


def run_tester() -> None:
    """With a stand-in for the node. Raises `LabError` with what it finds fault with."""
    with tempfile.TemporaryDirectory(prefix="colo-ocf-") as directory:
        Path(directory).chmod(0o755)  # a part of it is done as another user
        _run_tester(Path(directory))


def _run_tester(directory: Path) -> None:
    for name, source in (("agent", resourceagent.__file__), ("colo", standin.__file__)):
        shutil.copyfile(source, directory / name)
        (directory / name).chmod(0o755)
    (directory / "vm1.toml").touch()
    given = {
        "config": "vm1.toml",
        "control": "control.sock",
        "program": "colo",
        "log": "log",
    }
    options = [word for name, value in given.items() for word in ("-o", f"{name}={directory / value}")]
    words = ["ocf-tester", "-n", "vm1", *options, str(directory / "agent")]
    done = subprocess.run(words, capture_output=True, text=True, timeout=TESTER_S, check=False)
    if done.returncode != 0:
        raise LabError(f"ocf-tester: {' | '.join((done.stdout + done.stderr).strip().splitlines()[-6:])}")
