"""The demo as its user runs it: real TCP stacks, real nodes, real death."""

import json
import os
import pty
import re
import signal
import subprocess
import sys
import tempfile
import termios
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from support.interrupts import MARK, OF_THE_LAB, marked
from support.nodes import wait_for

COLO = [sys.executable, "-m", "pycolo"]
# Without any right of root's: an ordinary user of a user namespace, in which the demo has to make its own.
AS_ORDINARY_USER = ["unshare", "--user", "--map-user=1000", "--map-group=1000"]
SHORT = ["demo", "--seconds", "3", "--sessions", "20", "--heartbeat-timeout", "2000"]
"""A run loads the machine as far as it goes: with a short time-out a node that lives is given up at times."""

WITH_PATIENCE = ["--heartbeat-timeout", "4000"]
"""For the runs that load it most."""

pytestmark = [pytest.mark.namespaces, pytest.mark.timeout(300)]


def run(*arguments: str, cwd: Path, prefix: Sequence[str] = ()) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [*prefix, *COLO, *arguments], capture_output=True, text=True, timeout=240, check=False, cwd=cwd
    )


def summary_of(done: "subprocess.CompletedProcess[str]") -> dict[str, Any]:
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.fixture(autouse=True)
def _nothing_is_left(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No interface, no process and no directory outlives a run; runs of others, at the same time, are theirs."""
    interfaces = set(os.listdir("/sys/class/net"))
    directory = tempfile.mkdtemp(prefix="t-", dir="/tmp")
    monkeypatch.setenv("TMPDIR", directory)
    monkeypatch.setenv(MARK, directory)
    yield
    wait_for(lambda: marked(directory) == [], "every process of the run to be gone")
    # Others may make interfaces of their own meanwhile, but not with these names.
    assert {name for name in os.listdir("/sys/class/net") if OF_THE_LAB.fullmatch(name)} <= interfaces
    os.rmdir(directory)


@pytest.mark.parametrize("options", [[], ["--ipv6"], ["--nic", "veth"], ["--insecure"]], ids=" ".join)
def test_every_connection_outlives_host_a(tmp_path: Path, options: list[str]) -> None:
    done = run(*SHORT, "--json", *options, cwd=tmp_path)
    summary = summary_of(done)
    assert done.returncode == 0, summary["failures"]
    assert summary["ok"]
    assert summary["connections_kept"] == summary["connections_at_kill"] == 22
    assert summary["resets_seen_by_clients"] == 0
    assert summary["download"]["in_flight_at_kill"]
    assert summary["upload"]["in_flight_at_kill"]
    assert summary["takeover"]["decided_ms"] > 0
    for transfer in (summary["download"], summary["upload"]):
        assert transfer["protected"]["bytes"] >= transfer["bytes_at_kill"] > 0
        assert transfer["protected"]["bytes"] + transfer["after_kill"]["bytes"] == transfer["bytes"]
        apart = transfer["protected"]["seconds"] + transfer["after_kill"]["seconds"]
        assert apart < transfer["seconds"], "the stand-still is in neither"
    answers = [summary["sessions"][phase]["answers"] for phase in ("protected", "after_kill")]
    assert all(answers)
    assert sum(answers) < summary["sessions"]["answers"], "nor is the wait at the kill"
    assert summary["setting"]["command"].startswith("colo demo --seconds 3")
    assert (tmp_path / "colo-report.html").stat().st_size > 10_000


@pytest.mark.parametrize("prefix", [[], AS_ORDINARY_USER], ids=["root", "user"])
def test_a_baseline_is_measured_before_the_kill(tmp_path: Path, prefix: Sequence[str]) -> None:
    done = run(
        "demo",
        "--seconds",
        "3",
        "--sessions",
        "20",
        "--baseline",
        "--json",
        *WITH_PATIENCE,
        cwd=tmp_path,
        prefix=prefix,
    )
    summary = summary_of(done)
    assert done.returncode == 0, summary["failures"]
    assert summary["connections_kept"] == summary["connections_at_kill"] == 22, "the demo goes on as ever"
    baseline = summary["baseline"]
    assert set(baseline) == {"download", "upload", "both"}
    for name, load in baseline.items():
        assert load["percent_of_bridge"] > 0
        assert load["percent_of_uncompared"] > 0
        for arm in ("bridge", "uncompared", "protected"):
            place = load[arm]
            assert place["seconds"] >= 1
            for kind in ("download", "upload"):
                assert (place[f"{kind}_megabytes_per_second"] > 0) is (name in (kind, "both")), (name, arm, kind)
            assert place["checked_bytes"] > 0
            assert place["answers"] > 0
            assert place["answer_us_p50"] > 0
            nodes = set() if arm == "bridge" else {"primary node", "secondary node", "server in guest B"}
            spent = place["processor_seconds_per_gigabyte"]
            assert set(spent) == {"server in guest A", "client"} | nodes
            if arm == "uncompared":
                spent.pop("server in guest B")  # nothing waits for it, and it stands still
            assert min(spent.values()) > 0
    assert 'id="baseline"' in (tmp_path / "colo-report.html").read_text()
    assert summary["setting"]["as_root"] is (not prefix and os.geteuid() == 0)
    assert (tmp_path / "colo-report.html").stat().st_uid == os.geteuid()


def test_a_size_moves_exactly_that(tmp_path: Path) -> None:
    done = run(*SHORT, "--json", "--size", "100M", "--no-report", cwd=tmp_path)
    summary = summary_of(done)
    assert done.returncode == 0, summary["failures"]
    assert summary["download"]["bytes"] == 100_000_000
    assert 0 < summary["download"]["bytes_at_kill"] < 100_000_000
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("kind", ["xterm", "dumb"])
def test_what_happened_stays_on_a_terminal_of_40_columns(tmp_path: Path, kind: str) -> None:
    seen, own = pty.openpty()
    termios.tcsetwinsize(own, (24, 40))
    with subprocess.Popen(
        [*COLO, *SHORT, "--no-report"],
        stdin=own,
        stdout=own,
        stderr=own,
        cwd=tmp_path,
        env={**os.environ, "TERM": kind},
    ) as demo:
        os.close(own)
        came = b""
        while piece := read_or_end(seen):
            came += piece
        assert demo.wait(60) == 0
    os.close(seen)
    drawn, switched, left = came.decode().rpartition("\x1b[?1049l")
    assert bool(switched) is (kind == "xterm")
    assert (" MB/s" in drawn) is (kind == "xterm"), "a picture while it runs"
    lines = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", left).replace("\r", "").splitlines()
    assert max(map(len, lines)) <= 40
    said = " ".join(" ".join(lines).split())
    assert "host A is dead: both cables pulled, its node and its guest killed within" in said
    assert "22 of 22 connections outlived host A" in said
    assert bool(re.search(r"s download [\d,]+ MB/s, upload", said)) is (kind == "dumb"), "lines while it runs"


def test_a_terminal_whose_demo_was_killed_can_be_used(tmp_path: Path) -> None:
    seen, own = pty.openpty()
    with subprocess.Popen(
        [*COLO, *SHORT, "--no-report"], stdout=own, stderr=own, cwd=tmp_path, env={**os.environ, "TERM": "xterm"}
    ) as demo:
        os.close(own)
        came = b""
        while b"\x1b[?1049h" not in came:
            piece = read_or_end(seen)
            assert piece, came
            came += piece
        (child,) = Path(f"/proc/{demo.pid}/task/{demo.pid}/children").read_text().split()
        os.kill(int(child), signal.SIGKILL)
        while piece := read_or_end(seen):
            came += piece
        assert demo.wait(60) == 128 + signal.SIGKILL
    os.close(seen)
    _, back, said = came.decode().rpartition("\x1b[?1047l\x1b[?25h")
    assert back
    assert "was killed by SIGKILL" in said, "where it can be read"


def read_or_end(terminal: int) -> bytes:
    try:
        return os.read(terminal, 65536)
    except OSError:  # EIO: its other end is closed
        return b""


@pytest.mark.parametrize("part", ["rewrite", "compare"])
def test_each_control_fails_as_it_must(tmp_path: Path, part: str) -> None:
    done = run(*SHORT, "--json", "--without", part, cwd=tmp_path)
    summary = summary_of(done)
    assert done.returncode == 1
    assert summary["control"]["shown"], summary
    assert summary["connections_kept"] < summary["connections_at_kill"]
    assert summary["new_connection_ms"] is not None


def test_a_report_that_cannot_be_written_costs_the_exit_code_only(tmp_path: Path) -> None:
    done = run(*SHORT, "--json", "--report", "/dev/full", cwd=tmp_path)
    assert summary_of(done)["ok"]
    assert done.returncode == 1
    assert "/dev/full: the report could not be written: No space left on device" in done.stderr


def takes_signals(pid: int) -> bool:
    """Whether the process and its child, in which the laboratory lives, take SIGTERM themselves."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        caught = [
            int(re.findall(r"SigCgt:\s+(\w+)", Path(f"/proc/{each}/status").read_text())[0], 16)
            for each in (pid, *children)
        ]
    except OSError:
        return False
    return bool(children) and all(mask >> (signal.SIGTERM - 1) & 1 for mask in caught)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL], ids=lambda n: n.name)
@pytest.mark.parametrize("after_s", [0.0, 2.5])
def test_a_signal_takes_everything_down(tmp_path: Path, number: signal.Signals, after_s: float) -> None:
    """As soon as it can be taken, while namespaces are being made, and later, in the middle of the run."""
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    with subprocess.Popen(
        [*COLO, *SHORT, "--no-report"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "TMPDIR": str(scratch)},
    ) as demo:
        wait_for(lambda: takes_signals(demo.pid), "the demo to begin")
        time.sleep(after_s)
        demo.send_signal(number)
        _, said = demo.communicate(timeout=60)
    if number is not signal.SIGKILL:
        assert demo.returncode == 130
        assert said.count("\n") == 1
        assert number.name in said
        assert not list(scratch.iterdir())


@pytest.mark.parametrize("kills", [True, False])
def test_a_signal_ends_a_held_run_with_its_verdict(tmp_path: Path, kills: bool) -> None:
    """It is the answer to the prompt here, and no interruption."""
    theirs, ours = os.pipe()  # open to the end: the end of the input would be an answer too
    try:
        with subprocess.Popen(
            [*COLO, *SHORT, "--no-report", "--hold"],
            stdin=theirs,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=tmp_path,
            start_new_session=True,
        ) as demo:
            assert demo.stdout is not None
            while "everything is shut down" not in demo.stdout.readline():
                pass
            if kills:
                os.write(ours, b"kill\n")
                while "takeover done" not in demo.stdout.readline():
                    pass
            os.killpg(demo.pid, signal.SIGINT)  # as a terminal does: to the run and to the process that waits for it
            out, said = demo.communicate(timeout=60)
    finally:
        os.close(theirs)
        os.close(ours)
    assert (demo.returncode, said) == (0, "")
    assert ("22 of 22 connections outlived host A" if kills else "nothing to judge") in out


@pytest.mark.parametrize("role", ["primary", "secondary"])
def test_a_node_that_was_too_busy_is_told_as_such(tmp_path: Path, role: str) -> None:
    """It stands still for longer than the heartbeat's time-out, as on a machine that has no time for it."""
    with subprocess.Popen(
        [*COLO, "demo", "--seconds", "60", "--sessions", "3", "--no-report", "--heartbeat-timeout", "1000"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        cwd=tmp_path,
    ) as demo:
        assert demo.stdout is not None
        while "small sessions" not in demo.stdout.readline():
            pass
        node = next(pid for pid in descendants(demo.pid) if f"\0{role}\0" in command_line(pid))
        os.kill(node, signal.SIGSTOP)
        time.sleep(3)
        os.kill(node, signal.SIGCONT)
        said = demo.stdout.read()
    assert demo.returncode == 1
    assert "was given up after 1000 ms of silence, alive" in said.splitlines()[-1]
    assert "raise --heartbeat-timeout" in said.splitlines()[-1]


def descendants(pid: int) -> list[int]:
    children = [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return children + [one for child in children for one in descendants(child)]


def command_line(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text(errors="replace")
    except OSError:
        return ""


def test_a_body_that_fails_says_so_in_one_line(capfd: pytest.CaptureFixture[str]) -> None:
    script = (
        "import sys; from pycolo_lab.errors import LabError; from pycolo_lab.namespaces import run_isolated\n"
        "from pycolo_lab.interruption import Interruption\n"
        "def body(directory):\n"
        "    (directory / 'file').write_text('x')\n"
        "    raise LabError('no bridge here')\n"
        "sys.exit(run_isolated(body, Interruption()))"
    )
    assert subprocess.run([sys.executable, "-c", script], timeout=90, check=False).returncode == 1
    assert capfd.readouterr().err == "colo: no bridge here\n"


# ── output that cannot be written ───────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("redirected", "why"),
    [
        (">&-", "colo: standard output is closed: leave it open, or redirect it to a file or to /dev/null\n"),
        (">/dev/full", "colo: standard output: No space left on device\n"),
        ("| head -n 1 >/dev/null", "colo: standard output: its reader has gone\n"),
    ],
)
def test_a_demo_whose_output_is_lost_ends_in_one_line(tmp_path: Path, redirected: str, why: str) -> None:
    began = time.monotonic()
    command = f"{' '.join([*COLO, 'demo', '--seconds', '600', '--no-report'])} {redirected}"
    done = subprocess.run(["sh", "-c", command], stderr=subprocess.PIPE, text=True, timeout=240, check=False)
    assert done.stderr == why
    assert time.monotonic() - began < 200, "the load is not waited for"


def test_json_that_is_lost_costs_a_good_run_its_exit_code(tmp_path: Path) -> None:
    command = f"{' '.join([*COLO, *SHORT, '--json', '--no-report'])} >/dev/full"
    done = subprocess.run(["sh", "-c", command], stderr=subprocess.PIPE, text=True, timeout=240, check=False)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == "colo: standard output: No space left on device"


@pytest.mark.parametrize("encoding", ["latin-1", "ascii"])
def test_a_run_without_a_terminal_is_lines_of_the_characters_that_there_are(tmp_path: Path, encoding: str) -> None:
    done = subprocess.run(
        [*COLO, *SHORT],
        capture_output=True,
        timeout=240,
        check=False,
        cwd=tmp_path,
        env={**os.environ, "PYTHONIOENCODING": encoding},
    )
    assert done.returncode == 0, done.stderr
    assert b"OK 22 of 22 connections outlived host A" in done.stdout
    assert re.search(rb"\d s  host A is dead", done.stdout)
    assert b"\x1b" not in done.stdout
    assert done.stderr == b""
    assert (tmp_path / "colo-report.html").stat().st_size > 10_000
