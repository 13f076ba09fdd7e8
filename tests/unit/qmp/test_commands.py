"""All QMP commands in the product are in one list, and of QEMU's experimental ones only what COLO needs."""

import ast

import pytest

from pycolo.qmp.commands import COMMANDS, EXPERIMENTAL, MONITOR_LINES, permitted
from support.documentation import ROOT

PRODUCT = ROOT / "src" / "pycolo"
QMP_NAMES = {"execute", "ask", "ask_if"}


def literals():
    """Every text in the modules that talk to QEMU, but for docstrings."""
    for path in [*(PRODUCT / "qmp").glob("*.py"), *(PRODUCT / "vm").glob("*.py")]:
        tree = ast.parse(path.read_text())
        prose = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in prose:
                yield path.name, node.value


def sent():
    """The names of commands in calls."""
    for path in [*(PRODUCT / "qmp").glob("*.py"), *(PRODUCT / "vm").glob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
                continue
            if node.func.attr in QMP_NAMES:
                yield from (one.value for one in node.args[:2] if isinstance(one, ast.Constant))


def test_the_list_is_what_is_sent_no_more_and_no_less():
    assert set(sent()) - {None} == COMMANDS


def test_of_the_experimental_names_only_what_colo_needs_is_in_the_source():
    found = {text for _, text in literals() if text.startswith("x-") and " " not in text}
    assert found == EXPERIMENTAL
    assert {command for command in COMMANDS if command.startswith("x-")} <= EXPERIMENTAL


def test_the_human_monitor_is_asked_for_nothing_else():
    assert {text for _, text in literals() if text.startswith("info ")} == MONITOR_LINES


@pytest.mark.parametrize("command", ["x-query-virtio-status", "query-chardevs", ""])
def test_nothing_else_can_be_sent(command):
    with pytest.raises(ValueError, match="not among the QMP commands"):
        permitted(command)
