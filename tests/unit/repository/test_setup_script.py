"""scripts/setup.sh where something is missing that it does not install."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
PROGRAMS = ("bash", "cat", "dirname", "find", "id", "mkdir", "tail", "touch")


def test_without_a_compiler_it_ends_with_one_line_that_says_what_to_install(tmp_path):
    (tmp_path / "scripts").mkdir()
    shutil.copy(ROOT / "scripts" / "setup.sh", tmp_path / "scripts")
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    (tmp_path / ".venv" / "bin" / "python").symlink_to(sys.executable)
    (tmp_path / "programs").mkdir()
    for name in PROGRAMS:
        (tmp_path / "programs" / name).symlink_to(shutil.which(name))
    env = {name: value for name, value in os.environ.items() if name != "CC"} | {"PATH": str(tmp_path / "programs")}
    command = [tmp_path / "scripts" / "setup.sh", "package"]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 1
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: no C compiler or no Python.h here")
    assert line.endswith(": as root, apt-get install gcc libc6-dev python3-dev")
    assert not (tmp_path / ".venv" / ".package").exists()
