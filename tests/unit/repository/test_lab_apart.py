"""The laboratory is a distribution of its own, and the product knows nothing of it (docs/adr/0044)."""

import ast
import re
import tomllib
from importlib.metadata import EntryPoint
from pathlib import Path

import click
import pytest
from packaging.requirements import Requirement

from pycolo.cli.added import ELSEWHERE, GROUP

ROOT = Path(__file__).resolve().parents[3]
PRODUCT = ROOT / "src" / "pycolo"
LAB = ROOT / "lab" / "src" / "pycolo_lab"


def project(folder: str) -> dict:
    return tomllib.loads((ROOT / folder / "pyproject.toml").read_text(encoding="utf-8"))["project"]


PYCOLO, PYCOLO_LAB = project("."), project("lab")


def test_both_have_one_version_and_the_laboratory_needs_exactly_it():
    assert PYCOLO_LAB["version"] == PYCOLO["version"]
    assert f"pycolo=={PYCOLO['version']}" in PYCOLO_LAB["dependencies"]


def test_what_both_need_they_need_alike():
    ours, theirs = ({Requirement(text).name: text for text in found["dependencies"]} for found in (PYCOLO, PYCOLO_LAB))
    shared = ours.keys() & theirs.keys()
    assert {"click", "msgspec"} <= shared
    assert [name for name in shared if ours[name] != theirs[name]] == []
    assert (PYCOLO["requires-python"], PYCOLO["license"]) == (PYCOLO_LAB["requires-python"], PYCOLO_LAB["license"])
    assert (ROOT / "lab" / "LICENSE").read_bytes() == (ROOT / "LICENSE").read_bytes()


def imported(path: Path) -> set[str]:
    """The modules that a file imports; what is imported from a package may be a module of it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            of_package = (ROOT / "src" / (node.module or "").replace(".", "/")).is_dir()
            found |= {f"{node.module}.{alias.name}" for alias in node.names} if of_package else {node.module or ""}
    return found


def test_the_laboratory_knows_what_is_documented_of_the_product_and_nothing_else():
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    section = text.partition("## What the laboratory may use\n")[2].partition("\n## ")[0]
    cells = "".join(re.findall(r"^\|([^|]+)\|", section, re.M))
    documented = {f"pycolo.{name}" for name in re.findall(r"`([\w.]+)`", cells)}
    used = {name for path in LAB.rglob("*.py") for name in imported(path) if name.split(".")[0] == "pycolo"}
    assert used == documented


@pytest.mark.parametrize("trace", ["apt-get", "twist", "pycolo_lab", "etc/passwd", "busybox", "initramfs.pack"])
def test_the_product_has_no_trace_of_the_laboratory(trace: str):
    sources = [path for path in PRODUCT.rglob("*") if path.suffix in {".py", ".pyx", ".pxi", ".pyi", ".c"}]
    assert sources
    assert [str(path) for path in sources if trace in path.read_text(encoding="utf-8")] == []


def test_the_only_c_in_the_product_is_what_a_users_qemu_preloads():
    assert [path.relative_to(PRODUCT).as_posix() for path in PRODUCT.rglob("*.c")] == ["vm/preload.c"]


def test_each_command_it_adds_is_named_by_the_product_and_is_one():
    added = PYCOLO_LAB["entry-points"][GROUP]
    assert dict.fromkeys(added, PYCOLO_LAB["name"]) == ELSEWHERE
    for name, value in added.items():
        command = EntryPoint(name, value, GROUP).load()
        assert isinstance(command, click.Command)
        assert command.name == name
