"""What a command does not need, it does not import: `colo proxy` is there quickly. Modules are counted, not seconds."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import pytest

from pycolo.cli import COMMANDS, colo

pytestmark = pytest.mark.slow

HEAVY = (
    "asyncio",
    "cryptography",
    "importlib.metadata",
    "multiprocessing",
    "prometheus_client",
    "pygments",
    "pyroute2",
    "qemu",
    "rich",
    "ssl",
    "structlog",
    "pycolo.config",
    "pycolo.vm",
    "pycolo_lab",
)
"""Each takes longer than all that `colo proxy` needs to listen, or brings one with it that does."""

IMPORT = """
import json, sys, threading
events = []
sys.addaudithook(lambda name, given: events.append(name) if name.startswith(("socket.", "subprocess.")) else None)
import pycolo.cli
print(json.dumps({"modules": list(sys.modules), "threads": threading.active_count(), "events": events}))
"""

LISTEN = """
import json, os, signal, sys
from pycolo.proxy.process import Proxy
start = Proxy.start
def started(proxy):
    modules = list(sys.modules)  # everything listens
    start(proxy)
    print(json.dumps({"modules": modules}), flush=True)
    os.kill(os.getpid(), signal.SIGTERM)
Proxy.start = started
from pycolo.__main__ import main
main()
"""


def said_by(script: str, *arguments: str) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def heavy(modules: list[str]) -> set[str]:
    return {name for name in HEAVY for module in modules if module == name or module.startswith(f"{name}.")}


def test_the_command_line_imports_no_command() -> None:
    found = said_by(IMPORT)
    assert heavy(found["modules"]) == set()
    assert {"pycolo.core", "msgspec"}.isdisjoint(found["modules"]), "nor what most commands need"
    assert found["threads"] == 1
    assert found["events"] == []


def compare_line(folder: Path) -> list[str]:
    chardevs = [["-chardev", f"socket,id={name},path={folder}/{name},server=on,wait=off"] for name in "pso"]
    properties = "id=c,primary_in=p,secondary_in=s,outdev=o,iothread=io"
    objects = ["-object", "iothread,id=io", "-object", f"colo-compare,{properties}"]
    return [word for chardev in chardevs for word in chardev] + objects


def rewriter_line(folder: Path) -> list[str]:
    names = ("client_in", "guest_out", "guest_in", "client_out")
    chardevs = [["-chardev", f"socket,id={name},path={folder}/{name},server=on,wait=off"] for name in names]
    properties = ",".join(f"{name}={name}" for name in names)
    return [word for chardev in chardevs for word in chardev] + ["-object", f"filter-rewriter,id=r,{properties}"]


def watched_line(folder: Path) -> list[str]:
    return [*compare_line(folder), "--metrics", "127.0.0.1:0"]


@pytest.mark.parametrize("line", [compare_line, rewriter_line, watched_line])
def test_the_proxy_listens_without_them(tmp_path: Path, line: Any) -> None:
    found = said_by(LISTEN, "proxy", *line(tmp_path))
    assert heavy(found["modules"]) == set()


def test_every_command_is_where_the_table_says() -> None:
    context = click.Context(colo, info_name="colo")
    assert set(colo.list_commands(context)) >= COMMANDS.keys()
    for name in COMMANDS:
        command = colo.get_command(context, name)
        assert command is not None
        assert command.name == name
    assert colo.get_command(context, "no-such-command") is None
