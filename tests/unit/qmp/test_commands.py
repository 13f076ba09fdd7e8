"""All QMP commands in the product are in one list, and of QEMU's experimental ones only what COLO needs."""

import ast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pycolo.qmp.commands import (
    COMMANDS,
    EXPERIMENTAL,
    MONITOR_LINES,
    permitted,
    port_input,
    port_output,
    port_value,
)
from support.documentation import ROOT

PRODUCT = ROOT / "src" / "pycolo"
QMP_NAMES = {"execute", "execute_aside", "ask", "ask_if"}


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
    assert {name for name, text in literals() if text in ("i/", "o/")} == {"commands.py"}


@given(value=st.integers(0, (1 << 32) - 1), port=st.integers(0, 0xFFFF), size=st.sampled_from("bw"))
def test_a_port_is_written_and_read_as_the_monitor_writes_it(value, port, size):
    assert port_output(size, port, value) == f"o/{size} {hex(port)} {hex(value)}"
    assert port_input(size, port) == f"i/{size} {hex(port)}"
    letter = {"b": "b", "w": "l"}[size]  # seen with 7.2, 10.0 and 11.1: asked by one letter, answered by another
    assert port_value(f"port{letter}[0x{port:04x}] = 0x{value:08x}\r\n") == value


@given(st.text(max_size=30))
def test_any_other_answer_is_no_value(answer):
    assert port_value(answer) is None


@pytest.mark.parametrize("command", ["x-query-virtio-status", "query-chardevs", ""])
def test_nothing_else_can_be_sent(command):
    with pytest.raises(ValueError, match="not among the QMP commands"):
        permitted(command)
