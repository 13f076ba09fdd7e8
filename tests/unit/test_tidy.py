"""The code base's own rules, checked on whatever exists.

An exception needs a reason, and has one place: the tables below.
"""

import ast
import re
import tomllib
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from pycolo.lab.qemu.programs import PACKAGES

ROOT = Path(__file__).resolve().parents[2]
SOURCES = sorted((ROOT / "src").rglob("*.py"))
TESTS = sorted((ROOT / "tests").rglob("*.py"))
PYTHON = SOURCES + TESTS + sorted((ROOT / "benchmarks").rglob("*.py")) + sorted((ROOT / "docs").glob("*.py"))

FILE_LINES_MAX = 500
TEST_FILE_LINES_MAX = 800
FUNCTION_LINES_MAX = 60

# path -> reason
LONG_FILES: dict[str, str] = {}

# path::function -> reason
LONG_FUNCTIONS: dict[str, str] = {}

# path::expression -> reason; wire/seq.py is where serial arithmetic lives and needs none
PLAIN_COMPARISONS: dict[str, str] = {}

# Drawers for junk, or names that hide a module of the standard library.
FORBIDDEN_MODULES = {"utils", "util", "common", "helpers", "manager", "misc", "io", "queue", "select"}


def shown(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), filename=shown(path))


def text_files() -> Iterator[Path]:
    """What is written by hand and kept in the repository, as far as it can be told without git."""
    for top in ("src", "tests", "benchmarks", "docs", "scripts", ".ci", "."):
        inside = ROOT.glob("*") if top == "." else (ROOT / top).rglob("*")
        yield from (path for path in sorted(inside) if path.is_file() and is_written_by_hand(path))


def is_written_by_hand(path: Path) -> bool:
    suffixes = {".py", ".pyi", ".pxd", ".md", ".toml", ".sh", ".lock", ".json", ".yaml", ".yml"}
    scripts_and_settings = {"Makefile", "run", ".gitignore", ".editorconfig"}
    return path.suffix in suffixes or path.name in scripts_and_settings


# ── size and names ──────────────────────────────────────────────────────────────────────────────────────────


def test_files_are_short_enough_to_read():
    found = []
    for path in PYTHON + sorted((ROOT / "src").rglob("*.p[xy][di]")):
        lines_max = TEST_FILE_LINES_MAX if path in TESTS else FILE_LINES_MAX
        lines = len(path.read_text(encoding="utf-8").splitlines())
        if lines > lines_max and shown(path) not in LONG_FILES:
            found.append(f"{shown(path)}: {lines} lines, at most {lines_max}")
    assert found == []


def test_functions_are_short_enough_to_read():
    found = []
    for path in PYTHON:
        for node in ast.walk(parsed(path)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = (node.end_lineno or node.lineno) - node.lineno + 1
                if lines > FUNCTION_LINES_MAX and f"{shown(path)}::{node.name}" not in LONG_FUNCTIONS:
                    found.append(f"{shown(path)}:{node.lineno}: {node.name} has {lines} lines")
    assert found == []


def test_exceptions_are_still_needed():
    """Who shortens a file or a function takes its exception away too."""
    for name in LONG_FILES:
        assert len((ROOT / name).read_text(encoding="utf-8").splitlines()) > FILE_LINES_MAX, name
    for place in LONG_FUNCTIONS:
        path, _, function = place.partition("::")
        names = {node.name: node for node in ast.walk(parsed(ROOT / path)) if isinstance(node, ast.FunctionDef)}
        assert (names[function].end_lineno or 0) - names[function].lineno + 1 > FUNCTION_LINES_MAX, place
    for place in PLAIN_COMPARISONS:
        path, _, expression = place.partition("::")
        assert expression in [source for _, source in plain_comparisons(parsed(ROOT / path))], place


def test_no_module_is_a_junk_drawer():
    names = {part: path for path in SOURCES for part in path.relative_to(ROOT).with_suffix("").parts}
    assert sorted(FORBIDDEN_MODULES & names.keys()) == []


def test_every_module_says_what_it_is():
    assert [shown(path) for path in PYTHON if not ast.get_docstring(parsed(path))] == []


def test_every_folder_with_modules_is_a_package():
    folders = {path.parent for path in SOURCES if path.parent != ROOT / "src"}
    assert [shown(folder) for folder in sorted(folders) if not (folder / "__init__.py").is_file()] == []


# ── serial numbers ──────────────────────────────────────────────────────────────────────────────────────────

SERIAL_NAME = re.compile(r"(^|_)(seq|ack|isn)$")


def serial_names(node: ast.AST) -> set[str]:
    """Names of sequence numbers that an operand is computed from.

    A call makes something new of its arguments (`seq_diff(ack, seq)` is an ordinary signed number), unless it
    only converts them. Names in capitals are constants, offsets and flags; as a subscript they name a field.
    """
    match node:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return {name} if SERIAL_NAME.search(name) else set()
        case ast.Subscript(value=value, slice=ast.Name(id=field) | ast.Attribute(attr=field)):
            return serial_names(value) | ({field} if SERIAL_NAME.search(field.lower()) else set())
        case ast.Subscript(value=value):
            return serial_names(value)
        case ast.Call(func=ast.Name(id=name) | ast.Attribute(attr=name), args=arguments):
            converts = name in {"int", "abs", "cast", "min", "max"}
            return set().union(*map(serial_names, arguments)) if converts else set()
        case ast.Call():
            return set()
        case _:
            return set().union(*map(serial_names, ast.iter_child_nodes(node)))


def plain_comparisons(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Where `<`, `>`, `min` or `max` is applied to sequence numbers, which wrap around: line, expression."""
    for node in ast.walk(tree):
        match node:
            case ast.Compare(left=left, ops=ops, comparators=others):
                ordered = any(isinstance(op, ast.Lt | ast.LtE | ast.Gt | ast.GtE) for op in ops)
                operands = [left, *others] if ordered else []
            case ast.Call(func=ast.Name(id="min" | "max"), args=operands):
                pass
            case _:
                continue
        if any(map(serial_names, operands)):
            yield node.lineno, ast.unparse(node)


def test_sequence_numbers_are_compared_by_serial_arithmetic_only():
    """RFC 1982: use seq_lt, seq_max … of wire/seq.py. The specification's numbers have no wrap: model/numbers.py."""
    found = [
        f"{shown(path)}:{line}: {expression}"
        for path in SOURCES
        if shown(path) != "src/pycolo/wire/seq.py" and not shown(path).startswith("src/pycolo/model/")
        for line, expression in plain_comparisons(parsed(path))
        if f"{shown(path)}::{expression}" not in PLAIN_COMPARISONS
    ]
    assert found == []


@pytest.mark.parametrize(
    "trap",
    [
        "ack < other",
        "max_ack = ack if ack - max_ack > 0 else max_ack",
        "min(connection.primary_ack, connection.secondary_ack)",
        "0 <= packet.seq < end",
        "row[SEQ] > frontier",
        "cython.cast(cython.uint, isn - 1) >= limit",
        "(seq & mask) > x",
        "table.seq[slot] < x",
    ],
)
def test_the_rule_sees(trap):
    assert list(plain_comparisons(ast.parse(trap)))


@pytest.mark.parametrize(
    "harmless",
    [
        "ack == max_ack",
        "seq is None",
        "seq_diff(seq, ack) > 0",
        "stack > 1 and pack < track",
        "duplicate_acks > 3",
        "at + TCP_ACK + 4 > size",
        "flags & ACK > 0",
        "max(length, limit)",
    ],
)
def test_the_rule_lets_pass(harmless):
    assert not list(plain_comparisons(ast.parse(harmless)))


# ── what must not be written ────────────────────────────────────────────────────────────────────────────────


def test_nothing_is_left_to_do():
    # Put together here, so that this file does not hold the words it looks for.
    words = re.compile(r"\b(" + "|".join(("TO" + "DO", "FIX" + "ME", "XX" + "X")) + r")\b")
    assert [shown(path) for path in text_files() if words.search(path.read_text(encoding="utf-8"))] == []


def test_no_file_mentions_a_place_on_somebodys_machine():
    places = re.compile(r"(?<![\w.}$])/(?:" + "|".join(("wo" + "rk", "ro" + "ot", "ho" + "me")) + r")/")
    found = [
        f"{shown(path)}:{number}: {line.strip()}"
        for path in text_files()
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1)
        if places.search(line)
    ]
    assert found == []


# ── compiled modules ────────────────────────────────────────────────────────────────────────────────────────


def compiled_sources() -> list[Path]:
    """Sources of the modules that setup.py compiles."""
    for node in parsed(ROOT / "setup.py").body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "COMPILED":
            paths = [ROOT / "src" / f"{name.replace('.', '/')}.py" for name in ast.literal_eval(node.value)]
            return [path for path in paths if path.exists()]
    raise AssertionError("setup.py has no list COMPILED any more")


def signatures(tree: ast.Module) -> dict[str, tuple[list[str], int]]:
    """Public functions and methods: the names of their parameters, and how many have a default."""
    found = {}
    for scope, body in [("", tree.body)] + [(n.name + ".", n.body) for n in tree.body if isinstance(n, ast.ClassDef)]:
        for node in body:
            if isinstance(node, ast.FunctionDef) and not is_hidden(node):
                found[scope + node.name] = ([a.arg for a in node.args.args], len(node.args.defaults))
    return found


def is_hidden(node: ast.FunctionDef) -> bool:
    """Private, C only (a `cfunc`: unseen by Python once compiled), or a property (an attribute there)."""
    decorators = " ".join(map(ast.unparse, node.decorator_list))
    return node.name.startswith("_") or "cfunc" in decorators or "property" in decorators


@pytest.mark.parametrize("source", compiled_sources(), ids=shown)
def test_a_compiled_module_has_a_typed_stub_that_says_the_same(source):
    """The stub is all that mypy sees of a compiled module. It may leave out what only C code calls."""
    stub = source.with_suffix(".pyi")
    assert stub.is_file(), f"{shown(stub)} is missing"
    said, meant = signatures(parsed(stub)), signatures(parsed(source))
    assert said == {name: meant.get(name) for name in said}


@pytest.mark.parametrize("path", sorted((ROOT / "src").rglob("*.p[xy][di]")), ids=shown)
def test_a_stub_or_declaration_has_its_source(path):
    assert path.with_suffix(".py").is_file()


# ── dependencies ────────────────────────────────────────────────────────────────────────────────────────────


def project() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def declared() -> dict[str, list[str]]:
    """Requirements by the file that pins them."""
    extras = project()["project"]["optional-dependencies"].values()
    at_run_time = [*project()["build-system"]["requires"], *project()["project"]["dependencies"], *chain(*extras)]
    groups = {f"requirements-{name}.lock": group for name, group in project()["dependency-groups"].items()}
    return {"requirements.lock": at_run_time, **groups}


def pins(lock: str) -> dict[str, str]:
    lines = (ROOT / lock).read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if not re.fullmatch(r"[\w.-]+==[\w.+!]+|#.*|", line)] == []
    pinned = (line.split("==") for line in lines if line and not line.startswith("#"))
    return {canonicalize_name(name): version for name, version in pinned}


@pytest.mark.parametrize(("lock", "text"), [(lock, text) for lock, group in declared().items() for text in group])
def test_every_dependency_is_pinned_within_what_is_declared(lock, text):
    requirement = Requirement(text)
    assert requirement.specifier.contains(pins(lock)[canonicalize_name(requirement.name)])


def test_what_two_files_pin_they_pin_alike():
    """They are installed into one environment: the last one would win."""
    versions: dict[str, set[str]] = {}
    for lock in declared():
        for name, version in pins(lock).items():
            versions.setdefault(name, set()).add(version)
    assert {name: found for name, found in versions.items() if len(found) > 1} == {}


def test_who_only_runs_pycolo_installs_no_tool():
    tools = {canonicalize_name(Requirement(text).name) for text in chain(*project()["dependency-groups"].values())}
    needed = {canonicalize_name(Requirement(text).name) for text in declared()["requirements.lock"]}
    assert sorted((tools - needed) & pins("requirements.lock").keys()) == []


def test_set_up_installs_the_packages_that_the_laboratory_would():
    script = (ROOT / "scripts" / "setup.sh").read_text(encoding="utf-8")
    listed = re.search(r"test_programs=\(\n(.*?)\n\)", script, re.DOTALL)
    assert listed
    wanted = dict(line.strip().split(":") for line in listed[1].splitlines())
    assert wanted
    for program in wanted.keys() & PACKAGES.keys():
        assert wanted[program] in PACKAGES[program]
