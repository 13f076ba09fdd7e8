"""The fencing command as a process: no shell, a time-out that kills all of it, one line of what it said."""

import asyncio
import os
import signal
import sys
from contextlib import suppress
from pathlib import Path
from time import monotonic, monotonic_ns

import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from pycolo import arbiters
from pycolo.arbiters.usercommand import Ended, fill_in, run_command
from pycolo.errors import ConfigError
from pycolo.failover.arbiter import Decision
from support.descriptors import descriptors
from support.etcd import Settings

pytestmark = pytest.mark.slow


def sh(script: str) -> tuple[str, ...]:
    return ("sh", "-c", script)


def ended(*words: str, timeout_s: float = 20.0) -> Ended:
    return asyncio.run(run_command(words, timeout_s))


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"
    except FileNotFoundError:
        return False


def test_success_and_failure():
    assert ended("true") == Ended(0, "")
    assert ended(*sh("echo not shown; echo first >&2; echo the last one >&2; exit 7")) == Ended(7, "the last one")


def test_a_command_that_was_killed_is_no_success():
    assert ended(*sh("kill -9 $$")).exit_code == -signal.SIGKILL


def test_what_cannot_be_started_says_why(tmp_path):
    (tmp_path / "plain").write_text("no program")
    assert ended("/nonexistent/fence") == Ended(
        None, "/nonexistent/fence: cannot be started: No such file or directory"
    )
    assert ended(str(tmp_path / "plain")).text.endswith("cannot be started: Permission denied")
    assert ended("nul\0byte").exit_code is None


def test_no_shell_reads_the_words(tmp_path):
    made = tmp_path / "made"
    assert ended("echo", f"; touch {made}", "$(id)", "*").exit_code == 0
    assert not made.exists()


def test_too_long_kills_all_of_it(tmp_path):
    script = f"sleep 300 & echo $! > {tmp_path}/pid; echo still busy >&2; wait"
    for timeout_s in (0.3, 3.0, 30.0):  # a busy machine may need all of the time to start the shell
        began = monotonic()
        result = ended(*sh(script), timeout_s=timeout_s)
        if "still busy" in result.text:
            break
    assert result == Ended(None, f"killed: it did not end within {timeout_s:g} s, last line: still busy")
    assert monotonic() - began < 60
    deadline = monotonic() + 10
    while is_alive(int((tmp_path / "pid").read_text())):
        assert monotonic() < deadline, "a part of the command has survived"


def test_one_who_keeps_stderr_open_is_not_waited_for(tmp_path):
    began = monotonic()
    assert ended(*sh(f"sleep 300 & echo $! > {tmp_path}/pid; echo done >&2")) == Ended(0, "done")
    assert monotonic() - began < 60
    with suppress(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), signal.SIGKILL)


def test_much_output_is_read_and_its_end_is_kept():
    lines = "for n in range(20000): print('line', n, 'x' * 80, file=sys.stderr)"
    script = f"import sys\n{lines}\nprint('\\x1b[1mend\\x07', file=sys.stderr)"
    assert ended(sys.executable, "-c", script) == Ended(0, "[1mend")


def test_descriptors_and_processes_are_given_back(tmp_path):
    async def scene() -> None:
        task = asyncio.get_running_loop().create_task(run_command(sh(f"echo $$ > {tmp_path}/pid; sleep 300"), 300))
        deadline = monotonic() + 20
        while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text().strip():
            assert monotonic() < deadline
            await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert not is_alive(int((tmp_path / "pid").read_text()))

    before = descriptors()
    asyncio.run(scene())
    assert descriptors() <= before


@given(st.text(st.sampled_from("{}ab peer"), max_size=20))
def test_placeholders_are_replaced_once(text):
    values = {"peer": "{pair}", "pair": "vm1"}
    expected = text.replace("{peer}", "\0").replace("{pair}", "vm1").replace("\0", "{pair}")
    assert fill_in([text], values) == [expected]


# ── the arbiter ─────────────────────────────────────────────────────────────────────────────────────────────


def now_ms() -> int:
    return monotonic_ns() // 1_000_000


def scene(words, play, role=lambda: "secondary", **options):
    """`play(arbiter, change)`: `change()` waits for the next change of the verdict."""

    async def run() -> None:
        changes: asyncio.Queue[None] = asyncio.Queue()
        arbiter = arbiters.make(
            Settings(kind="command", command=words, **options),
            pair="vm1",
            role=role,
            peer="10.0.0.1",
            identity="b",
            term=4,
            apart_ms=0,
            on_change=lambda: changes.put_nowait(None),
        )
        await arbiter.start()
        try:
            async with asyncio.timeout(30):
                await play(arbiter, changes.get)
        finally:
            await arbiter.close()

    asyncio.run(run())


async def decided(arbiter, change) -> None:
    while arbiter.verdict().decision is Decision.WAIT:
        await change()


def test_the_command_is_told_whom_to_fence(tmp_path):
    async def play(arbiter, change):
        assert await arbiter.acquire(9) == (Decision.GRANTED, 9, "command needs no lease")
        assert arbiter.serve_until_ns() is None
        arbiter.suspected(now_ms())
        await decided(arbiter, change)
        assert arbiter.verdict()[:2] == (Decision.GRANTED, 5)

    scene((*sh(f'printf "%s " "$@" > {tmp_path}/said'), "sh", "{peer}", "{pair}", "{role}", "{term}"), play)
    assert (tmp_path / "said").read_text() == "10.0.0.1 vm1 secondary 5 "


def test_the_command_is_told_the_role_of_the_moment(tmp_path):
    roles = ["primary"]

    async def play(arbiter, change):
        arbiter.suspected(now_ms())
        await decided(arbiter, change)
        roles[0] = "secondary"
        arbiter.paired(7)
        arbiter.suspected(now_ms())
        await decided(arbiter, change)

    scene((*sh(f'echo "$@" >> {tmp_path}/said'), "sh", "{role}", "{term}"), play, role=lambda: roles[0])
    assert (tmp_path / "said").read_text() == "primary 5\nsecondary 8\n"


def test_a_failure_is_logged_in_one_line_and_tried_again(tmp_path):
    async def play(arbiter, change):
        arbiter.suspected(now_ms())
        await decided(arbiter, change)
        assert arbiter.verdict().decision is Decision.GRANTED

    with capture_logs() as lines:
        scene(sh(f"test -e {tmp_path}/tried && exit 0; touch {tmp_path}/tried; echo switch: busy >&2; exit 3"), play)
    failures = [line["event"] for line in lines if line["log_level"] == "error"]
    assert failures == ["sh: the other node is not fenced: exit code 3; switch: busy"]


def test_the_other_heard_again_does_not_stop_a_fencing(tmp_path):
    async def play(arbiter, change):
        arbiter.suspected(now_ms())
        while "under way" not in arbiter.verdict().text:
            await change()
        arbiter.recovered(now_ms())
        (tmp_path / "go").touch()
        await decided(arbiter, change)
        assert "heard again" in arbiter.verdict().text
        assert arbiter.verdict().decision is Decision.GRANTED

    scene(sh(f"until test -e {tmp_path}/go; do sleep 0.02; done"), play)


def test_a_time_out_grants_nothing(tmp_path):
    async def play(arbiter, change):
        arbiter.suspected(now_ms())
        while "did not end within" not in arbiter.verdict().text:
            await change()
        assert arbiter.verdict().decision is Decision.WAIT

    scene(("sleep", "300"), play, timeout_ms=100)


# ── make ────────────────────────────────────────────────────────────────────────────────────────────────────


def make(**settings):
    return arbiters.make(
        Settings(**settings),
        pair="vm1",
        role=lambda: "primary",
        peer="p",
        identity="a",
        term=1,
        apart_ms=0,
        on_change=lambda: None,
    )


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"kind": "command"}, "arbiter.command: expected the words"),
        ({"kind": "etcd"}, "arbiter.endpoints: expected at least one URL"),
        ({"kind": "etcd", "endpoints": ("10.0.0.3:2379",)}, "arbiter.endpoints: expected a URL"),
        ({"kind": "etcd", "endpoints": ("http://[::1",)}, "arbiter.endpoints: expected a URL"),
        ({"kind": "pacemaker"}, "arbiter.kind: expected one of manual, command, etcd, pacemaker, first-to-notice"),
    ],
)
def test_wrong_settings_are_named(settings, message):
    async def attempt() -> None:
        make(**settings)

    with pytest.raises(ConfigError, match=message):
        asyncio.run(attempt())


@pytest.mark.parametrize("kind", ["manual", "first-to-notice"])
def test_arbiters_that_need_no_service(kind):
    async def play() -> None:
        arbiter = make(kind=kind)
        await arbiter.start()
        assert arbiter.name == kind
        assert (await arbiter.acquire()).decision is Decision.GRANTED
        assert arbiter.serve_until_ns() is None
        arbiter.suspected(now_ms())
        arbiter.operator_confirmed(now_ms())
        assert arbiter.verdict()[:2] == (Decision.GRANTED, 2)
        arbiter.paired(7)
        assert arbiter.verdict()[:2] == (Decision.WAIT, 7)
        await arbiter.resign()
        await arbiter.close()

    asyncio.run(play())
