"""A host with processes of its own."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib.resources import files
from pathlib import Path

import pytest

from pycolo_lab.errors import LabError
from pycolo_lab.namespaces import Namespace
from pycolo_lab.powered import PoweredHost

FIRST = """
mount -t proc proc /proc
mkdir -p "$2/root/run"
mount --bind "$2/root/run" /run
echo "$1 $3" > /run/booted
while :; do sleep 3600; done
"""

pytestmark = pytest.mark.namespaces


@pytest.fixture
def host(tmp_path: Path) -> Iterator[PoweredHost]:
    namespace = Namespace.create(tmp_path, "netns")
    script = tmp_path / "first.sh"
    script.write_text(FIRST)
    powered = PoweredHost("a", namespace, tmp_path / "disk", script, ["more"])
    powered.directory.mkdir()
    yield powered
    powered.die()
    namespace.delete()


def test_what_runs_on_a_host_ends_with_its_first_process(host):
    host.boot()
    assert host.run("cat", "/run/booted") == "a more\n"
    assert host.run("sh", "-c", "sleep 3600 >/dev/null 2>&1 & echo $! > /run/pid; echo started") == "started\n"
    assert host.lives(host.pid_of("/run/pid"))
    failed = host.ended("sh", "-c", "echo why >&2; exit 3")
    assert failed is not None
    assert (failed.returncode, failed.stderr) == (3, "why\n")

    host.die()
    assert not host.is_on
    assert host.ended("true") is None
    assert not host.lives(1)
    assert host.run("echo", "on") == ""


def test_a_host_that_two_switch_off_at_once_is_off(host):
    """The power switch, whose thread carries out what a node orders, and the laboratory's end."""
    host.boot()
    with ThreadPoolExecutor(8) as pool:
        for ended in [pool.submit(host.die) for _ in range(8)]:
            ended.result(20)
    assert not host.is_on


def test_a_host_that_boots_again_has_its_disk_and_an_empty_run(host):
    host.boot()
    host.run("sh", "-c", "echo kept > $0/kept; echo gone > /run/gone", str(host.directory))
    host.die()
    host.boot()
    assert (host.directory / "kept").read_text() == "kept\n"
    assert host.pid_of("/run/gone") == 0
    assert not (host.root / "run" / "gone").exists()


def test_a_process_of_a_host_can_be_killed(host):
    host.boot()
    host.run("sh", "-c", "sleep 3600 >/dev/null 2>&1 & echo $! > /run/pid")
    pid = host.pid_of("/run/pid")
    assert host.lives(pid)
    host.kill(pid)
    assert "sleep" not in host.run("cat", f"/proc/{pid}/cmdline")


def test_a_first_process_that_ends_is_named(host, tmp_path):
    (tmp_path / "first.sh").write_text("exit 1\n")
    with pytest.raises(LabError, match=f"host a does not boot: see {host.directory}/console"):
        host.boot()


@pytest.mark.parametrize("laboratory", ["libvirt", "pacemaker"])
def test_a_first_process_sees_those_off_that_have_lost_their_parents_and_starts_none(host, tmp_path, laboratory):
    words = files(f"pycolo_lab.{laboratory}").joinpath("host.sh").read_text()
    script = FIRST.rpartition("while")[0] + words.rpartition("/run/booted\n")[2]
    (tmp_path / "first.sh").write_text(script)
    host.boot()
    for _ in range(5):
        host.run("sh", "-c", "for i in 1 2 3 4; do sh -c 'sleep 0.01 >/dev/null 2>&1 &'; done")
    deadline = time.monotonic() + 20
    left = []
    while len(left) != 2 and time.monotonic() < deadline:
        left = host.run("sh", "-c", "for i in /proc/[0-9]*; do read -r name < $i/comm && echo $name; done").split()
        time.sleep(0.02)
    assert sorted(left) in (["sh", "sh"], ["sh", "sleep"]), "the first process, and the one that asks"
