"""What the tests themselves promise to who runs them."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[3]

SKIPPING = """
import pytest

@pytest.mark.qemu
@pytest.mark.parametrize("number", range(3))
def test_with_qemu(number): ...

@pytest.mark.etcd
def test_with_etcd(): ...

def test_with_nothing(): ...

def test_on_a_whim():
    pytest.skip("it is late")
"""

SIGNALLED = """
import signal, subprocess
import pytest

@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM])
def test_what_is_started_ends_by(number):
    with subprocess.Popen(["sleep", "60"]) as process:
        process.send_signal(number)
        assert process.wait(30) == -number

def test_we_do_not():
    signal.raise_signal(signal.SIGINT)
"""


RULED = """
import pytest

@pytest.mark.rule("C1", "C3")
@pytest.mark.parametrize("number", range(2))
def test_of_two_rules(number): ...

@pytest.mark.rule("C2")
def test_of_another(): ...

def test_of_none(): ...
"""


def run(folder, text, *arguments, where="test_inner.py", path=os.environ["PATH"], prefix=()):
    """Lines of a run of pytest with this repository's conftest.py over one file of tests."""
    (folder / where).parent.mkdir(parents=True, exist_ok=True)
    (folder / "conftest.py").write_text((ROOT / "tests" / "conftest.py").read_text(encoding="utf-8"), encoding="utf-8")
    (folder / where).write_text(text)
    options = ["-c", ROOT / "pyproject.toml", "--rootdir", folder, "-p", "no:cacheprovider", *arguments, folder]
    done = subprocess.run(
        [*prefix, sys.executable, "-m", "pytest", *options],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
        env={**os.environ, "PATH": path, "PYCOLO_CI": "0", "PYTEST_ADDOPTS": ""},
    )
    return done.returncode, done.stdout.splitlines()


def test_the_end_says_how_many_tests_need_what_and_how_to_get_it(tmp_path):
    code, lines = run(tmp_path, SKIPPING, path="/nonexistent")
    assert code == 0
    assert lines[-4] == "3 tests need QEMU: as root, apt-get install qemu-system-x86"
    assert sorted(lines[-3:-1]) == [
        "1 test needs etcd: as root, apt-get install etcd-server",
        "1 test skipped: it is late",
    ]
    assert "1 passed, 5 skipped" in lines[-1], "pytest's own line stays the last"


@pytest.mark.parametrize("how", ["in the foreground", "in the background"])
def test_who_starts_the_tests_may_ignore_signals(tmp_path, how):
    ignoring = ["/usr/bin/env", "--ignore-signal=HUP,INT,QUIT,TERM"] if how == "in the background" else []
    tests = SIGNALLED if ignoring else SIGNALLED.partition("def test_we_do_not")[0]
    code, lines = run(tmp_path, tests, prefix=ignoring)
    assert code == 0, "\n".join(lines)


def test_the_end_says_how_long_each_group_took(tmp_path):
    code, lines = run(tmp_path, RULED, where="tests/laws/inner/test_inner.py")
    assert code == 0
    assert re.fullmatch(r"tests/laws: 4 tests, \d+ s", lines[-2])
    assert "4 passed" in lines[-1], "pytest's own line stays the last"


@pytest.mark.parametrize(("rules", "chosen"), [(["C3"], 2), (["C2"], 1), (["C1", "C2"], 3)])
def test_the_tests_of_a_rule_are_chosen(tmp_path, rules, chosen):
    code, lines = run(tmp_path, RULED, *(f"--rule={rule}" for rule in rules))
    assert code == 0
    assert f" {chosen} passed, {4 - chosen} deselected in " in lines[-1]
