"""`colo node --config`, and `colo protect`, `unprotect`, `checkpoint`, `failover` of a running one."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
import structlog

from pycolo.config import PairConfig, parse
from pycolo.node.servicemanager import Notifier
from support.asked import STATUS, answering
from support.configs import changed, example

pytestmark = pytest.mark.slow


@pytest.fixture
def vm_toml(tmp_path: Path) -> Path:
    path = tmp_path / "vm.toml"
    path.write_text(example())
    return path


@pytest.mark.parametrize("command", ["node", "protect", "unprotect", "checkpoint", "failover", "explain", "qemu-args"])
def test_every_command_explains_itself(command: str):
    # In a process of its own: click keeps a command's help option from its first use.
    done = subprocess.run(
        [sys.executable, "-m", "pycolo", command, "-h"], capture_output=True, text=True, timeout=60, check=True
    )
    name = "" if command in ("node", "qemu-args") else " [NAME]"
    assert done.stdout.startswith(f"Usage: colo {command} [OPTIONS]{name}\n")


# ── colo node ───────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def run_node(monkeypatch):
    """Replaces the node's life by a function of the test."""

    def replace(life):
        module = ModuleType("pycolo.vm.assembly")
        module.run_node = life
        monkeypatch.setitem(sys.modules, "pycolo.vm.assembly", module)

    return replace


def test_check_prints_the_whole_configuration_and_starts_nothing(colo, vm_toml: Path):
    code, out, error = colo("node", "--config", vm_toml, "--check")
    assert (code, error) == (0, "")
    assert parse(out.encode(), "out") == parse(example().encode(), "in")
    assert "compare_timeout_ms = 500" in out


def test_each_error_of_the_file_is_a_line_and_nothing_starts(colo, tmp_path: Path, run_node):
    run_node(None)
    path = tmp_path / "vm.toml"
    path.write_text(changed({"link.listen": "x", "pair": None, "log.level": "loud"}))
    code, out, error = colo("node", "--config", path)
    assert (code, out) == (1, "")
    lines = error.splitlines()
    assert [line.startswith(f"colo: {path}: ") for line in lines] == [True] * 3


def test_the_node_gets_its_configuration_and_its_exit_code_counts(colo, vm_toml: Path, run_node, monkeypatch):
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    found = []

    async def life(config: PairConfig, file: str, notifier: Notifier, on_node) -> int:
        assert file == str(vm_toml)
        found.append((config, notifier.watchdog_interval_s))
        return 3

    run_node(life)
    assert colo("node", "--config", vm_toml)[0] == 3
    assert found == [(parse(example().encode(), "in"), None)]


def test_the_log_is_as_configured(colo, tmp_path: Path, run_node):
    async def life(_config: PairConfig, _file: str, _notifier: Notifier, _on_node) -> int:
        log = structlog.get_logger("colo")
        log.info("not shown")
        log.warning("shown", term=3)
        return 0

    run_node(life)
    path = tmp_path / "vm.toml"
    path.write_text(changed({"log.level": "warning", "log.format": "json"}))
    (line,) = colo("node", "--config", path)[2].splitlines()
    found = json.loads(line)
    assert (found["event"], found["level"], found["term"]) == ("shown", "warning", 3)
    assert found["pair"] == "vm1"
    path.write_text(changed({"log.level": "warning", "log.format": "text"}))
    (line,) = colo("node", "--config", path)[2].splitlines()
    assert "shown" in line
    assert not line.startswith("{")


def test_what_the_service_manager_says_is_passed_on(colo, vm_toml: Path, run_node, monkeypatch):
    monkeypatch.setenv("NOTIFY_SOCKET", "/nowhere")
    monkeypatch.setenv("WATCHDOG_USEC", "4000000")
    monkeypatch.delenv("WATCHDOG_PID", raising=False)
    found = []

    async def life(_config: PairConfig, _file: str, notifier: Notifier, _on_node) -> int:
        found.append((notifier.watchdog_interval_s, "NOTIFY_SOCKET" in os.environ))
        return 0

    run_node(life)
    assert colo("node", "--config", vm_toml)[0] == 0
    assert found == [(2.0, False)]


# ── protect, unprotect ──────────────────────────────────────────────────────────────────────────────────────


class Plan:
    """A node that carries out three steps, each for as long as it takes until the command has seen it."""

    def __init__(self, error: str | None = None, **more: object) -> None:
        self.more = more
        self.asked: list[str] = []
        self.requests: list[dict] = []
        self._error = error
        self._step = 0
        self._seen = asyncio.Event()

    async def __call__(self, request: dict) -> dict:
        if request["command"] == "status":
            return self._status()
        self.asked.append(request["command"])
        self.requests.append(request)
        for self._step in (1, 2, 3):
            self._seen.clear()
            await self._seen.wait()
        return {"error": self._error} if self._error else {"state": "protected", "epoch": 1, "term": 4, **self.more}

    def _status(self) -> dict:
        if not self._step:
            return {**STATUS, "plan": None}
        names = ["attach", "start the secondary", "first checkpoint"]
        plan = {"name": "protect", "step": names[self._step - 1], "done": names[: self._step - 1]}
        self._seen.set()
        return {**STATUS, "plan": plan}


@pytest.mark.parametrize("command", ["protect", "unprotect"])
def test_the_steps_are_named_while_they_are_made(colo, tmp_path: Path, command: str):
    plan = Plan()
    with answering(tmp_path / "c", plan):
        code, out, error = colo(command, "--control", tmp_path / "c")
    assert (code, error, plan.asked) == (0, "", [command])
    assert out.splitlines() == [
        "protect: attach",
        "protect: start the secondary",
        "protect: first checkpoint",
        "protected, term 4",
    ]


WARNINGS = [
    {"code": "tcg", "text": "it deadlocks", "where": "the other host", "overridden": True},
    {"code": "no-yank", "text": "no command yank", "where": "this host", "overridden": False},
]


def test_protect_ends_with_what_was_overridden_and_the_warnings(colo, tmp_path: Path):
    plan = Plan(warnings=WARNINGS)
    with answering(tmp_path / "c", plan):
        code, out, error = colo("protect", "--control", tmp_path / "c", "--force")
    assert (code, error, plan.requests) == (0, "", [{"command": "protect", "force": True}])
    assert out.splitlines()[-3:] == [
        "protected, term 4",
        "overridden by --force (the other host): it deadlocks",
        "warning (this host): no command yank",
    ]


@pytest.mark.parametrize(
    ("took", "said"),
    [
        ({"stop_ms": 78.9, "move_ms": 12.2}, ", without traffic for 79 ms, and at most 12 ms while the taps moved"),
        ({"stop_ms": None, "move_ms": 12.2}, ""),
        (None, ""),
    ],
)
def test_protect_ends_with_what_clients_have_noticed(colo, tmp_path: Path, took: dict | None, said: str):
    with answering(tmp_path / "c", Plan(interrupted=took)):
        code, out, _ = colo("protect", "--control", tmp_path / "c")
    assert (code, out.splitlines()[-1]) == (0, f"protected, term 4{said}")


def test_protect_as_json_is_the_answer_and_nothing_else(colo, tmp_path: Path):
    async def node(request: dict) -> dict:
        return {"state": "protected", "epoch": 1, "term": 4, "warnings": WARNINGS} if request["command"] else {}

    with answering(tmp_path / "c", node):
        code, out, error = colo("protect", "--control", tmp_path / "c", "--json")
    assert (code, error) == (0, "")
    assert json.loads(out) == {"state": "protected", "epoch": 1, "term": 4, "warnings": WARNINGS}


def test_a_plan_that_fails_is_one_line(colo, tmp_path: Path):
    with answering(tmp_path / "c", Plan("no secondary: no answer from 10.0.0.2:9000")):
        code, out, error = colo("protect", "--control", tmp_path / "c")
    assert code == 1
    assert out.splitlines()[0] == "protect: attach"
    assert error == f"colo: {tmp_path}/c: no secondary: no answer from 10.0.0.2:9000\n"


def test_ctrl_c_ends_the_command_and_not_the_plan(tmp_path: Path):
    done = []

    async def slow(request: dict) -> dict:
        if request["command"] == "status":
            return {**STATUS, "plan": {"name": "protect", "step": "first checkpoint", "done": []}}
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:  # the test's end
            done.append(request["command"])
            raise
        return {}

    with answering(tmp_path / "c", slow):
        process = subprocess.Popen(
            [sys.executable, "-m", "pycolo", "protect", "--control", str(tmp_path / "c")],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )
        with process:
            assert process.stdout is not None
            assert process.stdout.readline() == "protect: first checkpoint\n"
            process.send_signal(signal.SIGINT)
            out, error = process.communicate(timeout=60)
            assert (process.returncode, error) == (130, "")
        assert out.startswith("the node continues; `colo status --control ")
        assert done == [], "the node still does it"
    assert done == ["protect"]


# ── checkpoint, failover ────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("command", "answer", "shown"),
    [
        ("failover", {"state": "serving", "term": 3}, "serving, term 3"),
        ("checkpoint", STATUS["checkpoint"]["last"][1], "2026-11-23T15:00:00.123Z epoch 7 committed; pause 6.2 ms; "),
        ("checkpoint", {"epoch": 8, "pause_ms": 5.5}, "epoch 8, pause_ms 5.5"),
        ("checkpoint", {}, "done"),
    ],
)
def test_what_the_node_has_done_is_said(colo, tmp_path: Path, command: str, answer: dict, shown: str):
    async def node(request: dict) -> dict:
        return answer if request["command"] == command else {"error": "wrong command"}

    with answering(tmp_path / "c", node):
        code, out, error = colo(command, "--control", tmp_path / "c")
    assert (code, error) == (0, "")
    assert out.startswith(shown)
    assert out.count("\n") == 1


@pytest.mark.parametrize("command", ["checkpoint", "failover", "unprotect"])
def test_a_refusal_is_one_line(colo, tmp_path: Path, command: str):
    async def refuse(_: dict) -> dict:
        return {"error": "checkpoint: state is waiting, must be protected"}

    with answering(tmp_path / "c", refuse):
        code, out, error = colo(command, "--control", tmp_path / "c")
    assert (code, out) == (1, "")
    assert error == f"colo: {tmp_path}/c: checkpoint: state is waiting, must be protected\n"


def test_a_guest_begins_anew_by_a_command_of_its_own(colo, tmp_path: Path):
    """A node that does not know it must not take it for an ordinary failover."""
    asked = []

    async def node(request: dict) -> dict:
        asked.append(request)
        return {"state": "waiting; start the guest's QEMU now", "term": 4}

    with answering(tmp_path / "c", node):
        for words in (("--begin-anew",), ("--begin-anew", "--other-is-lost")):
            code, out, _ = colo("failover", *words, "--control", tmp_path / "c")
            assert (code, out) == (0, "waiting; start the guest's QEMU now, term 4\n")
        assert colo("failover", "--other-is-lost", "--control", tmp_path / "c")[0] == 2
    assert asked == [{"command": "begin-anew", "other_is_lost": lost} for lost in (False, True)]


def test_a_node_that_says_nothing_is_given_up(tmp_path: Path):
    from pycolo.errors import ConnectError
    from pycolo.node.control import ask

    async def silent(_: dict) -> dict:
        await asyncio.sleep(60)
        return {}

    with (
        answering(tmp_path / "c", silent),
        pytest.raises(ConnectError, match=r"the node does not answer within 0\.2 s"),
    ):
        ask(tmp_path / "c", {"command": "status"}, timeout_s=0.2)
