"""The code base's own rules, checked on whatever exists.

An exception needs a reason, and has one place: the tables below.
"""

import ast
import re
import tomllib
from collections.abc import Iterator
from functools import cache
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
from Cython.Compiler import ExprNodes, Nodes
from Cython.Compiler.Nodes import Node
from Cython.Compiler.TreeFragment import parse_from_strings
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from pycolo import core
from pycolo_lab.qemu.programs import PACKAGES

ROOT = Path(__file__).resolve().parents[3]
PRODUCT = sorted((ROOT / "src").rglob("*.py"))
LAB = sorted((ROOT / "lab" / "src").rglob("*.py"))
SOURCES = PRODUCT + LAB
TESTS = sorted((ROOT / "tests").rglob("*.py"))
PYTHON = SOURCES + TESTS + sorted((ROOT / "benchmarks").rglob("*.py")) + sorted((ROOT / "docs").glob("*.py"))
CORE = ROOT / "src" / "pycolo" / "core.pyx"
STUB = CORE.with_suffix(".pyi")
PARTS = sorted((ROOT / "src").rglob("*.pxi"))
COMPILED = [CORE, *PARTS]

FILE_LINES_MAX = 500
TEST_FILE_LINES_MAX = 800
FUNCTION_LINES_MAX = 60
LINE_LENGTH_MAX = 120

# path -> reason
LONG_FILES: dict[str, str] = {"src/pycolo/core.pyi": "a module has one stub, and that is its table of contents"}

# path::function -> reason
LONG_FUNCTIONS: dict[str, str] = {}

# path::expression -> reason; wire/seq.pxi is where serial arithmetic lives and needs none
PLAIN_COMPARISONS: dict[str, str] = {}

# Drawers for junk, or names that hide a module of the standard library.
FORBIDDEN_MODULES = {"utils", "util", "common", "helpers", "manager", "misc", "io", "queue", "select"}


def shown(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), filename=shown(path))


def text_files() -> Iterator[Path]:
    """What is written by hand and kept in the repository, as far as it can be told without git."""
    for top in ("src", "lab", "tests", "benchmarks", "docs", "scripts", ".ci", "."):
        inside = ROOT.glob("*") if top == "." else (ROOT / top).rglob("*")
        yield from (path for path in sorted(inside) if path.is_file() and is_written_by_hand(path))


def is_written_by_hand(path: Path) -> bool:
    suffixes = {".py", ".pyi", ".pyx", ".pxi", ".pxd", ".md", ".toml", ".sh", ".lock", ".json", ".yaml", ".yml"}
    scripts_and_settings = {"Makefile", "run", ".gitignore", ".editorconfig"}
    return path.suffix in suffixes or path.name in scripts_and_settings


# ── size and names ──────────────────────────────────────────────────────────────────────────────────────────


def test_files_are_short_enough_to_read():
    found = []
    for path in [*PYTHON, *COMPILED, STUB]:
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
    for path in COMPILED:
        for number, name, lines in compiled_functions(path.read_text(encoding="utf-8")):
            if lines > FUNCTION_LINES_MAX:
                found.append(f"{shown(path)}:{number}: {name} has {lines} lines")
    assert found == []


def compiled_functions(source: str) -> Iterator[tuple[int, str, int]]:
    """Functions of Cython source: first line, name, how many lines. A function ends where the indentation does."""
    lines = source.splitlines()
    for start, line in enumerate(lines):
        if not (head := re.match(r"( *)(?:cdef|cpdef|def) (?!class |struct |enum )[^=]*?(\w+)\(", line)):
            continue
        at = start
        depth = 0
        while (depth := depth + lines[at].count("(") - lines[at].count(")")) > 0:
            at += 1
        end = at
        while at + 1 < len(lines) and (not lines[at + 1] or lines[at + 1].startswith(head[1] + " ")):
            at += 1
            end = at if lines[at] else end
        yield start + 1, head[2], end - start + 1


def test_functions_of_cython_are_measured():
    source = """cdef int width = 3

cdef inline int first(uint8_t* buf, Py_ssize_t length,
        int more) noexcept nogil:
    if more:

        return 1
    return 0


cdef class Thing:
    cdef int* column

    def __init__(
        self,
        count=limits.COUNT,
    ):
        self.count = (
            count
        )

    cpdef int second(self) noexcept nogil:
        cdef int row = first(self.column, 3, 4)
        return row
"""
    assert list(compiled_functions(source)) == [(3, "first", 6), (14, "__init__", 7), (22, "second", 3)]


def test_lines_of_cython_are_as_short_as_those_of_python():
    found = [
        f"{shown(path)}:{number}: {len(line)} characters"
        for path in COMPILED
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1)
        if len(line) > LINE_LENGTH_MAX or line.endswith(" ") or "\t" in line
    ]
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
    assert [shown(path) for path in COMPILED if not path.read_text(encoding="utf-8").startswith('"""')] == []


def test_every_folder_with_modules_is_a_package():
    folders = {path.parent for path in SOURCES if path.parent.name != "src"}
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
    """RFC 1982: use seq_diff, seq_max … of wire/seq.pxi. The specification's numbers have no wrap: model/numbers.py."""
    found = [
        f"{shown(path)}:{line}: {expression}"
        for path in SOURCES
        if not shown(path).startswith("src/pycolo/model/")
        for line, expression in plain_comparisons(parsed(path))
        if f"{shown(path)}::{expression}" not in PLAIN_COMPARISONS
    ]
    found += [
        f"{shown(path)}:{line}: orders {names}"
        for path in PARTS
        if shown(path) != "src/pycolo/wire/seq.pxi"
        for line, names in plain_comparisons_of_cython(path.read_text(encoding="utf-8"))
    ]
    assert found == []


def serial_names_of_cython(node: Node) -> set[str]:
    """As `serial_names`, of Cython's tree."""
    match node:
        case ExprNodes.NameNode(name=name) | ExprNodes.AttributeNode(attribute=name):
            return {name} if SERIAL_NAME.search(name) else set()
        case ExprNodes.IndexNode(base=base):
            return serial_names_of_cython(base)
        case ExprNodes.SimpleCallNode(function=function, args=arguments):
            converts = getattr(function, "name", "") in {"int", "abs", "min", "max"}
            return set().union(*map(serial_names_of_cython, arguments)) if converts else set()
        case _:
            return set().union(*map(serial_names_of_cython, parts_of_cython(node)))


def parts_of_cython(node: Node) -> Iterator[Node]:
    for name in node.child_attrs or ():
        part = getattr(node, name)
        yield from (each for each in (part if isinstance(part, list) else [part]) if isinstance(each, Node))


def nodes_of_cython(source: str) -> Iterator[Node]:
    waiting = [parse_from_strings("compiled", source)]
    while waiting:
        yield (node := waiting.pop())
        waiting += parts_of_cython(node)


def plain_comparisons_of_cython(source: str) -> Iterator[tuple[int, list[str]]]:
    """As `plain_comparisons`, of Cython source: line, names."""
    for node in nodes_of_cython(source):
        match node:
            case ExprNodes.PrimaryCmpNode() | ExprNodes.CascadedCmpNode():
                operands = [operand for name in ("operand1", "operand2") if (operand := getattr(node, name, None))]
                operands = operands if node.operator in {"<", "<=", ">", ">="} else []
            case ExprNodes.SimpleCallNode(function=ExprNodes.NameNode(name="min" | "max"), args=operands):
                pass
            case _:
                continue
        if names := set().union(*map(serial_names_of_cython, operands)):
            yield node.pos[1], sorted(names)


@pytest.mark.parametrize(
    "trap",
    [
        "ack < other",
        "min(ack, 5)",
        "0 <= packet.seq < end",
        "0 <= start < packet.seq",
        "self.row[at].max_ack > frontier",
        "self.primary_seq[row] >= frontier",
        "<long long>isn - 1 >= limit",
        "rows[row].seq & mask > x",
    ],
)
def test_the_rule_sees_cython(trap):
    source = f"cdef int ask(int row) noexcept nogil:\n    if row and ({trap}):\n        return 1\n"
    assert [line for line, _ in plain_comparisons_of_cython(source)] == [2]


@pytest.mark.parametrize("harmless", ["ack == max_ack", "seq_diff(seq, ack) > 0", "flags & TcpFlag.ACK > 0"])
def test_the_rule_lets_cython_pass(harmless):
    source = f"cdef int ask(int row) noexcept nogil:\n    if {harmless}:\n        return 1\n"
    assert list(plain_comparisons_of_cython(source)) == []


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


def test_a_test_that_suppresses_a_health_check_suppresses_that_of_time_too():
    """A decorator's list replaces that of `conftest`; a busy machine draws its examples slowly."""
    lists = [
        (str(path), found)
        for path in TESTS
        for found in re.findall(r"@settings\([^)]*suppress_health_check=\[([^\]]*)\]", path.read_text())
    ]
    assert len(lists) > 3
    assert [entry for entry in lists if "too_slow" not in entry[1]] == []


def test_nothing_is_left_to_do():
    # Put together here, so that this file does not hold the words it looks for.
    words = re.compile(r"\b(" + "|".join(("TO" + "DO", "FIX" + "ME", "XX" + "X")) + r")\b")
    assert [shown(path) for path in text_files() if words.search(path.read_text(encoding="utf-8"))] == []


def test_no_file_mentions_a_path_of_a_developers_machine():
    places = re.compile(r"(?<![\w.}$])/(?:" + "|".join(("wo" + "rk", "ro" + "ot", "ho" + "me")) + r")/")
    found = [
        f"{shown(path)}:{number}: {line.strip()}"
        for path in text_files()
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1)
        if places.search(line)
    ]
    assert found == []


# ── compiled modules ────────────────────────────────────────────────────────────────────────────────────────


PURE = ("wire", "storage", "conntrack", "compare", "rewrite")


def test_the_core_is_all_of_its_parts():
    included = re.findall(r'^include "([^"]+)"$', CORE.read_text(encoding="utf-8"), re.M)
    assert sorted(CORE.parent / name for name in included) == PARTS


@pytest.mark.parametrize("part", PARTS, ids=shown)
def test_a_part_of_the_core_imports_nothing(part):
    """What the core knows of the outside stands at the head of core.pyx."""
    text = part.read_text(encoding="utf-8")
    assert re.findall(r"^\s*(?:(?:from [\w.]+ )?c?import|cdef extern|include) .*", text, re.M) == []


def test_pure_parts_of_the_core_call_nothing_of_the_operating_system():
    """The purity line: only transport/ and path/ read and write, and know the time."""
    head = CORE.read_text(encoding="utf-8").partition('\ninclude "')[0]
    calls = {
        name
        for names in re.findall(r"^from (?:posix|libc\.(?:stdio|time|errno))\b[\w.]* cimport (.*)$", head, re.M)
        for name in re.split(r", *", names)
    }
    calls |= {"receive_bytes", "send_bytes", "epoll_ctl", "epoll_wait"}
    assert {"read", "write", "errno", "clock_gettime"} <= calls
    found = [
        f"{shown(part)}:{node.pos[1]}: {node.name}"
        for part in PARTS
        if part.parent.name in PURE
        for node in nodes_of_cython(part.read_text(encoding="utf-8"))
        if isinstance(node, ExprNodes.NameNode) and node.name in calls
    ]
    assert found == []


def test_the_head_of_the_core_imports_only_what_it_may():
    """Values and errors of the layers that it is made of; of C, memory and bytes."""
    head = CORE.read_text(encoding="utf-8").partition('\ninclude "')[0]
    modules = set(re.findall(r"^(?:from ([\w.]+) c?import|c?import ([\w.]+))", head, re.M))
    found = {first or second for first, second in modules}
    allowed = {"ipaddress", "cython", "errno", "pycolo", "pycolo.errors", "libc.errno", "libc.stdint", "libc.stdlib"}
    allowed |= {"libc.string", "posix.time", "posix.unistd", "pycolo.link.codec"}
    assert sorted(name for name in found - allowed if not re.match(rf"pycolo\.({'|'.join(PURE)})\.\w+$", name)) == []


def importers_of_the_core() -> list[str]:
    return [
        shown(path)
        for path in SOURCES
        for node in ast.walk(parsed(path))
        if (isinstance(node, ast.ImportFrom) and node.module == "pycolo.core")
        or (isinstance(node, ast.ImportFrom) and node.module == "pycolo" and "core" in [n.name for n in node.names])
        or (isinstance(node, ast.Import) and "pycolo.core" in [name.name for name in node.names])
    ]


def test_what_may_not_know_the_core_does_not():
    """The layers of pyproject.toml for the one module that import-linter cannot read."""
    importers = importers_of_the_core()
    assert importers
    strangers = ("model", "failover", "checkpoint", "link", "config", "arbiters", "metrics", "qmp", "errors", "limits")
    assert [path for path in importers if path.split("/")[2].removesuffix(".py") in strangers] == []


def stub_classes() -> dict[str, ast.ClassDef]:
    return {node.name: node for node in parsed(STUB).body if isinstance(node, ast.ClassDef)}


def test_the_stub_names_all_that_the_core_has():
    """The stub is all that mypy sees of it."""
    functions = {node.name for node in parsed(STUB).body if isinstance(node, ast.FunctionDef)}
    public = {name: value for name, value in vars(core).items() if not name.startswith("_")}
    there = {name for name, value in public.items() if getattr(value, "__module__", None) == "pycolo.core"}
    assert functions | stub_classes().keys() == there
    constants = [
        n.target.id for n in parsed(STUB).body if isinstance(n, ast.AnnAssign) and isinstance(n.target, ast.Name)
    ]
    assert [name for name in constants if not name.startswith("_") and name not in public] == []


@pytest.mark.parametrize("node", stub_classes().values(), ids=stub_classes())
def test_the_stub_names_all_members_of_a_class(node):
    members = {n.name for n in node.body if isinstance(n, ast.FunctionDef)}
    members |= {n.target.id for n in node.body if isinstance(n, ast.AnnAssign) and isinstance(n.target, ast.Name)}
    there = {member for member in vars(getattr(core, node.name)) if not member.startswith("_")}
    assert members - {"__init__"} == there


def parameters_in_the_stub() -> dict[str, list[str]]:
    """Of functions and methods, the names."""
    tree = parsed(STUB)
    scopes = [("", tree.body), *((node.name + ".", node.body) for node in stub_classes().values())]
    return {
        scope + node.name: [argument.arg for argument in node.args.args]
        for scope, body in scopes
        for node in body
        if isinstance(node, ast.FunctionDef) and not any(map(ast.unparse, node.decorator_list))
    }


def parameters_in(part: Path) -> Iterator[tuple[str, list[str]]]:
    """Of what Python can call. The static methods of `views` become functions."""
    waiting = [("", parse_from_strings("compiled", part.read_text(encoding="utf-8")))]
    while waiting:
        scope, node = waiting.pop()
        match node:
            case Nodes.CClassDefNode(class_name=name):
                scope = f"{name}."
            case Nodes.DefNode(name=name, args=arguments):
                yield scope + name, [argument.declarator.name or argument.base_type.name for argument in arguments]
                continue
            case Nodes.CFuncDefNode(overridable=True, declarator=declarator):
                names = [argument.declarator for argument in declarator.args[1:]]
                yield scope + declarator.base.name, ["self", *(name.name for name in names)]
                continue
        waiting += ((scope, each) for each in parts_of_cython(node))


def test_the_stub_names_the_parameters():
    there = dict(chain.from_iterable(map(parameters_in, PARTS)))
    said = parameters_in_the_stub()
    assert said == {name: there.get(name) for name in said}


# ── dependencies ────────────────────────────────────────────────────────────────────────────────────────────


def project(folder: str = ".") -> dict[str, Any]:
    return tomllib.loads((ROOT / folder / "pyproject.toml").read_text(encoding="utf-8"))


def declared() -> dict[str, list[str]]:
    """Requirements by the file that pins them. Both distributions are installed from the tree, and pinned together."""
    both = (project(), project("lab"))
    at_run_time = [text for found in both for text in found["build-system"]["requires"]]
    at_run_time += [text for found in both for text in found["project"]["dependencies"]]
    at_run_time = [text for text in at_run_time if Requirement(text).name != "pycolo"]
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
