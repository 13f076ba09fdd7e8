"""A node's file: the documentation's own example, and changes to it."""

import copy
import json
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

from pycolo.config import ConfigFileError, PairConfig, parse
from pycolo.errors import ConfigError

PAGE = Path(__file__).resolve().parents[2] / "docs" / "configuration.md"


def examples() -> list[str]:
    """Every whole file on the page."""
    return examples_of(PAGE.name)


def examples_of(page: str) -> list[str]:
    """The TOML that a page shows."""
    text = (PAGE.parent / page).read_text(encoding="utf-8")
    return re.findall(r"^```toml\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)


def example() -> str:
    """The complete file that docs/configuration.md shows."""
    text, *_ = examples()
    return text


EXAMPLE = tomllib.loads(example())

WITHOUT_CARDS = """
pair = "vm1"
role = "secondary"
state = "/s"
[link]
listen = "[fd00::1]:9000"
peer = "host-b.example:9000"
insecure = true
[qemu]
qmp = "/q"
directory = "/d"
[control]
socket = "/c"
"""
"""The keys that are required, but for the cards'."""


def changed(changes: dict[str, Any]) -> str:
    """The example with other values, by path; None takes a key or a table out."""
    tables = copy.deepcopy(EXAMPLE)
    for path, value in changes.items():
        *above, key = path.split(".")
        table = tables
        for name in above:
            table = table.setdefault(name, {})
        if value is None:
            table.pop(key, None)
        else:
            table[key] = value
    plain = [f"{key} = {written(value)}" for key, value in tables.items() if not is_table(key, value)]
    for name, table in tables.items():
        if is_table(name, table):
            plain += [f"[{name}]", *(f"{key} = {written(value)}" for key, value in table.items())]
    return "\n".join(plain) + "\n"


def is_table(name: str, value: Any) -> bool:
    return isinstance(value, dict) and name in EXAMPLE


def written(value: Any) -> str:
    """In TOML, which for these types is JSON but for tables."""
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{json.dumps(key)} = {written(inner)}" for key, inner in value.items()) + " }"
    if isinstance(value, list):
        return "[" + ", ".join(map(written, value)) + "]"
    return json.dumps(value)


def checkable(directory: Path, changes: dict[str, Any] | None = None) -> dict[str, Any]:
    """Changes to the example by which this host passes every check; further ones on top."""
    for name in ("run", "state"):
        (directory / name).mkdir(exist_ok=True)
    return {
        "state": str(directory / "state"),
        "link.listen": "127.0.0.1:1",
        "link.peer": "127.0.0.1:2",
        "link.tls": None,
        "link.insecure": True,
        "qemu.qmp": str(directory / "run" / "qmp.sock"),
        "qemu.yank": None,
        "qemu.directory": str(directory / "run"),
        "qemu.command": ["true"],
        "network.serve": ["true"],
        "network.serve_dry_run": ["true"],
        "network.retire": ["true"],
        "arbiter.kind": "manual",
        "arbiter.command": None,
        "arbiter.dry_run": None,
        "control.socket": str(directory / "run" / "control.sock"),
        "control.group": None,
        "metrics": None,
        **(changes or {}),
    }


def read(text: str) -> PairConfig:
    """The file vm.toml with this text."""
    return parse(text.encode(), "vm.toml")


def errors_of(text: str | bytes) -> list[str]:
    """What is wrong with it: the lines without the file's name."""
    octets = text.encode() if isinstance(text, str) else text
    with pytest.raises(ConfigFileError) as caught:
        parse(octets, "vm.toml")
    assert isinstance(caught.value, ConfigError)
    lines = str(caught.value).split("\n")
    assert len(lines) == len(caught.value.errors)
    assert all(line.startswith("vm.toml: ") for line in lines)
    return [line.removeprefix("vm.toml: ") for line in lines]
