"""kinds.pxd (for compiled code) and kinds.py (for everybody else) hold the same names and numbers."""

import importlib
import re
from pathlib import Path

import pytest

SOURCE_ROOT = Path(__file__).resolve().parents[3] / "src"
DECLARATIONS = sorted(SOURCE_ROOT.rglob("kinds.pxd"))


def declared(path):
    """{enum: {member: number}} of a .pxd."""
    enums = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        if head := re.fullmatch(r"cdef enum (\w+):", line):
            members = enums.setdefault(head[1], {})
        elif member := re.fullmatch(r"    (\w+) = (\w+)", line):
            members[member[1]] = int(member[2], 0)
        else:
            assert not line or line.startswith("#"), f"{path.name}: what does {line!r} mean?"
    return enums


@pytest.mark.parametrize("path", DECLARATIONS, ids=lambda path: path.parent.name)
def test_both_say_the_same(path):
    name = ".".join(path.with_suffix("").relative_to(SOURCE_ROOT).parts)
    module = importlib.import_module(name)
    enums = {
        key: {member: value.value for member, value in enum.__members__.items()}
        for key, enum in vars(module).items()
        # IntFlag is no IntEnum; both are int, and enums have members.
        if isinstance(enum, type) and issubclass(enum, int) and enum.__module__ == name
    }
    assert declared(path) == enums


def test_every_layer_with_kinds_is_looked_at():
    assert {path.parent.name for path in DECLARATIONS} >= {"wire", "compare", "rewrite"}


@pytest.mark.parametrize("path", DECLARATIONS, ids=lambda path: path.parent.name)
def test_no_name_stands_for_two_numbers(path):
    """Members of C enums share one namespace: the second one would win in every module that uses both."""
    names = [member for members in declared(path).values() for member in members]
    assert len(names) == len(set(names))
