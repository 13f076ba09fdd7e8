"""The QEMU laboratory as its user runs it: one scenario on real virtual machines; and the guest's service by itself."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pycolo_lab.guest_server import PATTERN_BYTES, pattern
from pycolo_lab.qemu import image

SEED = 1

LAB = [sys.executable, "-m", "pycolo", "lab", "qemu"]

# In a network namespace: raise loopback, start the service (it goes into the background), be its client.
CONVERSATION = """
import socket, subprocess, sys
from pyroute2 import IPRoute
from pycolo_lab.clients import Transfer, Upload, download, probe
from pycolo_lab.guest_server import Conversation
from pycolo_lab.scoreboard import Scoreboard
from pathlib import Path

with IPRoute() as netlink:
    netlink.link("set", index=netlink.link_lookup(ifname="lo")[0], state="up")
service, pattern, scoreboard = sys.argv[1:]
subprocess.run([service, pattern], check=True)
assert probe("127.0.0.1", 1, 30.0).error is None

board = Scoreboard(Path(scoreboard))
for work in (download, lambda transfer: Upload(transfer).run()):
    transfer = Transfer("127.0.0.1", board, 10_000_001, 1, 30.0)
    with transfer.socket:
        work(transfer)

lines = [b"count a\\n", b"rnd\\n", b"count b\\n", b"ask x\\n", b"nonsense\\n"]
history = Conversation()
expected = [history.answer(line) for line in lines][3]
with socket.create_connection(("127.0.0.1", 5000), timeout=30) as one, one.makefile("rb") as stream:
    one.sendall(b"".join(lines))
    answers = stream.readlines()  # nonsense ends the connection
first, drew, second, asked = answers
assert first == b"1 00000000 a\\n", answers
number, last, word = drew.split()
assert (number, word) == (b"2", b"rnd") and len(last) == 8, answers
assert second == b"3 %s b\\n" % last, answers
assert asked == expected, answers
with socket.create_connection(("127.0.0.1", 5000), timeout=30) as other, other.makefile("rb") as stream:
    other.sendall(b"count c\\n")
    assert stream.readline() == b"4 %s c\\n" % last

with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams:
    datagrams.settimeout(30)
    datagrams.sendto(b"echo", ("127.0.0.1", 5000))
    assert datagrams.recv(99) == b"echo"
"""


@pytest.fixture
def own_tmp() -> Iterator[Path]:
    """A TMPDIR for one run, short enough for sockets; no process, file or mount of the run outlives it."""
    directory = Path(tempfile.mkdtemp(prefix="t-", dir="/tmp"))
    yield directory
    deadline = time.monotonic() + 30
    while (left := processes_in(directory)) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert left == []
    assert str(directory) not in Path("/proc/mounts").read_text()
    directory.rmdir()


def processes_in(directory: Path) -> list[str]:
    """Command lines that name it."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if str(directory) in line:
            found.append(line)
    return found


@pytest.mark.namespaces
def test_the_guest_s_service_speaks_the_demo_s_protocol_and_counts(tmp_path):
    if shutil.which("gcc") is None:
        pytest.skip("needs a C compiler: as root, apt-get install gcc libc6-dev")
    service, source = tmp_path / "service", Path(image.__file__).parent / "guest" / "service.c"
    subprocess.run(["gcc", "-Wall", "-Wextra", "-Werror", "-O2", "-o", service, source], check=True)
    (tmp_path / "pattern").write_bytes(pattern(SEED)[:PATTERN_BYTES])
    as_user = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    # The service dies with the PID namespace.
    unshare = ["unshare", *as_user, "--net", "--pid", "--fork", "--kill-child"]
    done = subprocess.run(
        [*unshare, sys.executable, "-c", CONVERSATION, service, tmp_path / "pattern", tmp_path / "scoreboard"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def play(name, own_tmp):
    """What one scenario has found."""
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "pycolo",
            "lab",
            "qemu",
            "--scenario",
            name,
            "--guest",
            "small",
            "--accel",
            "tcg",
            "--json",
        ],
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
        env={**os.environ, "TMPDIR": str(own_tmp)},
    )
    assert done.returncode == 0, f"{done.stderr}\n{done.stdout}"
    (scenario,) = json.loads(done.stdout)["scenarios"]
    assert scenario["broken"] == []
    return scenario


@pytest.mark.qemu
@pytest.mark.tun
@pytest.mark.namespaces
@pytest.mark.timeout(300)
def test_connections_outlive_the_host_of_a_real_guest(own_tmp):
    """The first run on a machine fetches the guest's kernel, too."""
    scenario = play("host", own_tmp)
    assert scenario["breaches"] == 0
    assert scenario["kept"] == scenario["connections"] == 48
    assert sum(scenario["checkpoints"].values()) > 0, "questions for random numbers force checkpoints"
    assert scenario["rounds"][0]["served_by"] == "host B"


@pytest.mark.qemu
@pytest.mark.tun
@pytest.mark.namespaces
@pytest.mark.timeout(300)
def test_a_guest_that_changes_much_of_its_memory_stays_protected(own_tmp):
    """What has changed is copied, and no checkpoint is given up. How often depends on the machine."""
    scenario = play("busy-memory", own_tmp)
    assert scenario["breaches"] == 0
    assert scenario["kept"] == scenario["connections"] == 48
    assert scenario["aborted"] == 0
    assert sum(scenario["checkpoints"].values()) > 0
    assert any("MiB" in note for note in scenario["rounds"][0]["notes"])


@pytest.mark.qemu
@pytest.mark.tun
@pytest.mark.namespaces
@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("name", "said"),
    [("checkpoint-refused", "x-checkpoint-delay"), ("checkpoint-aborted", "aborted: ")],
    ids=["refused", "aborted"],
)
def test_a_checkpoint_that_fails_costs_no_connection_and_moves_no_guest(name, said, own_tmp):
    """Refused by a real QEMU the pair stays; broken in the middle, it ends in QEMU and is made again."""
    scenario = play(name, own_tmp)
    assert scenario["breaches"] == 0
    assert scenario["kept"] == scenario["connections"] == 48
    assert scenario["aborted"] > 0
    assert {one["served_by"] for one in scenario["rounds"]} == {"host A"}
    notes = [note for one in scenario["rounds"] for note in one["notes"]]
    assert any(said in note for note in notes), notes
