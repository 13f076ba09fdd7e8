"""docs/differences-from-qemu.md has a row for each intended difference that a test asserts, and no other."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

HERE = Path(__file__).resolve().parent
DOCUMENT = HERE.parents[1] / "docs" / "differences-from-qemu.md"


def named_in_tests() -> Iterator[tuple[str, str]]:
    """(name, module) of each `difference="name"` and each `@difference("name")`."""
    for path in sorted(HERE.glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call):
                continue
            values = [keyword.value for keyword in node.keywords if keyword.arg == "difference"]
            if isinstance(node.func, ast.Name) and node.func.id == "difference":
                values += node.args
            for value in values:
                if isinstance(value, ast.Constant) and isinstance(value.value, str):
                    yield value.value, path.stem


def rows() -> dict[str, list[str]]:
    """name -> the other cells of its row."""
    found = {}
    for line in DOCUMENT.read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        if len(cells) == 5 and (name := re.fullmatch(r"`([a-z0-9-]+)`", cells[0])):
            assert name[1] not in found, f"{name[1]} has two rows"
            found[name[1]] = cells[1:]
    return found


def test_each_difference_has_its_row():
    assert {name for name, _ in named_in_tests()} - rows().keys() == set()


def test_each_row_is_asserted_by_a_test():
    assert rows().keys() - {name for name, _ in named_in_tests()} == set()


def test_each_row_says_what_both_do_and_why_and_where_it_is_tested():
    modules: dict[str, set[str]] = {}
    for name, module in named_in_tests():
        modules.setdefault(name, set()).add(module)
    for name, cells in rows().items():
        assert all(cells), f"{name}: an empty cell"
        assert set(re.findall(r"`(\w+)`", cells[-1])) == modules[name], name
