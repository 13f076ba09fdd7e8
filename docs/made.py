"""The parts of the documentation that are made from the code.

A part stands between two marks of a page, `<!-- begin: NAME … -->` and `<!-- end -->`:

* `configuration`, `metrics`, `rule_tests` and the pair table's parts are kept in the pages, so that they can be read
  wherever these are. `python docs/made.py` (`make docs` says when) writes them anew.
* `commands` and `limits` are made when the site is built; so are the copies of files from the repository's root.
"""

import ast
import inspect
import re
import sys
import textwrap
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from types import ModuleType

import click
import msgspec

from pycolo import limits
from pycolo.cli import colo
from pycolo.config import PairConfig
from pycolo.config.reading import section_and_key
from pycolo.config.section import Section
from pycolo.failover import pairdiagram
from pycolo.failover.pairstates import SECONDARY, State
from pycolo.metrics.catalog import CATALOG

DOCS = Path(__file__).resolve().parent
MARKED = re.compile(r"(<!-- begin: (\w+)[^>]* -->\n)(.*?)(<!-- end -->\n)", flags=re.DOTALL)


def table(head: str, rows: Sequence[tuple[str, ...]]) -> str:
    """Markdown. A bar within a cell would end it."""
    lines = [head, "|" + "---|" * head.count(" | ") + "---|"]
    lines += ["| " + " | ".join(cell.replace("|", r"\|") for cell in row) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def said(body: list[ast.stmt]) -> dict[str, str]:
    """What the text below each assignment of a module or class says of it, on one line."""
    found = {}
    for statement, below in pairwise(body):
        if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
            match below:
                case ast.Expr(ast.Constant(str() as text)):
                    found[statement.target.id] = " ".join(text.split())
    return found


# ── the configuration file ──────────────────────────────────────────────────────────────────────────────────


def configuration() -> str:
    """A heading, what the table is for, and its keys, for each table of the file."""
    tables: list[tuple[str, type[Section]]] = [("At the top", PairConfig)]
    for field in msgspec.structs.fields(PairConfig):
        section, _ = section_and_key(field.type)
        if section is not None:
            tables.append((field.name, section))
    return "\n".join(
        f"## {heading}\n\n{textwrap.dedent(inspect.getdoc(section) or '')}\n\n"
        + table("| key | value | default | meaning |", list(_keys(section, said(_body(section)))))
        for heading, section in tables
    )


def _body(section: type[Section]) -> list[ast.stmt]:
    (found,) = ast.parse(inspect.getsource(section)).body
    assert isinstance(found, ast.ClassDef)
    return found.body


def _keys(section: type[Section], meanings: dict[str, str]) -> Iterator[tuple[str, ...]]:
    for field in msgspec.structs.fields(section):
        _, key = section_and_key(field.type)
        if key is not None:
            yield f"`{field.name}`", key.expected, _default(field, key.write), meanings[field.name]


def _default(field: msgspec.structs.FieldInfo, write: Callable[[object], object]) -> str:
    if field.required:
        return "required"
    if field.default is None or field.default is msgspec.NODEFAULT:
        return "none"
    return msgspec.json.encode(write(field.default)).decode()


# ── metrics and limits ──────────────────────────────────────────────────────────────────────────────────────


def metrics() -> str:
    """Every metric of a node."""
    rows = [
        (f"`{spec.name}`", spec.type, " ".join(f"`{label}`" for label in spec.labels), spec.help) for spec in CATALOG
    ]
    return table("| metric | type | labels | meaning |", rows)


def limits_of(module: ModuleType = limits) -> str:
    """Every bound: a table below each of the module's headings."""
    source = inspect.getsource(module)
    reasons = said(ast.parse(source).body)
    parts = re.split(r"^# ── (.+?) ─+$", source, flags=re.MULTILINE)
    text = ""
    for heading, part in zip(parts[1::2], parts[2::2], strict=True):
        names = re.findall(r"^([A-Z0-9_]+): Final", part, flags=re.MULTILINE)
        rows = [(f"`{name}`", shown(name, getattr(module, name)), reasons[name]) for name in names]
        text += f"## {heading.capitalize()}\n\n" + table("| limit | value | reason |", rows) + "\n"
    return text


def shown(name: str, value: object) -> str:
    """A value with the unit that its name ends in."""
    if not isinstance(value, int):
        return ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)
    if "_BYTES" in name:
        for power, unit in ((20, "MiB"), (10, "KiB")):
            if value >= 1 << power and value % (1 << power) == 0:
                return f"{value >> power} {unit}"
        return f"{value:,} bytes"
    return f"{value:,} ms" if name.endswith("_MS") else f"{value:,}"


# ── the pair table ──────────────────────────────────────────────────────────────────────────────────────────


def pair_picture() -> str:
    """Both roles' states: what changes them."""
    primary = [state for state in State if state not in SECONDARY]
    secondary = [state for state in State if state in SECONDARY]
    return "\n".join(f"```mermaid\n{pairdiagram.picture(states)}\n```\n" for states in (primary, secondary))


def pair_states() -> str:
    """Every state."""
    return table("| state | `colo status` | role | what may leave |", pairdiagram.states_table())


def pair_rows() -> str:
    """Every row."""
    return table("| states | facts | then | what is done | why |", pairdiagram.rows_table())


def pair_otherwise() -> str:
    """Why nothing follows elsewhere."""
    return table("| fact | elsewhere |", pairdiagram.otherwise_table())


# ── the tests of each rule ──────────────────────────────────────────────────────────────────────────────────

TESTS = DOCS.parent / "tests"


def rule_tests() -> str:
    """For each rule the files whose tests are marked with it, and how many in each: `@pytest.mark.rule("C3")`."""
    found: dict[str, Counter[str]] = {}
    for path in sorted(TESTS.rglob("test_*.py")):
        for rules in marked_tests(ast.parse(path.read_text(encoding="utf-8"))):
            for rule in rules:
                found.setdefault(rule, Counter())[path.relative_to(TESTS).as_posix()] += 1
    rows = [
        (rule, ", ".join(f"[{name.removesuffix('.py')}](../tests/{name}) ({count})" for name, count in files.items()))
        for rule, files in sorted(found.items(), key=lambda item: ("CRE".find(item[0][0]), int(item[0][1:])))
    ]
    return table("| rule | tests |", rows)


def marked_tests(module: ast.Module) -> Iterator[set[str]]:
    """Of each test function the rules that it is marked with, by itself or by its module's `pytestmark`."""
    assigned = [
        node.value for node in module.body if isinstance(node, ast.Assign) and "pytestmark" in ast.unparse(node)
    ]
    everywhere = _rules(assigned)
    for node in ast.walk(module):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"):
            yield everywhere | _rules(node.decorator_list)


def _rules(marks: list[ast.expr]) -> set[str]:
    calls = [node for mark in marks for node in ast.walk(mark) if isinstance(node, ast.Call)]
    arguments = [argument for call in calls if ast.unparse(call.func) == "pytest.mark.rule" for argument in call.args]
    return {str(ast.literal_eval(argument)) for argument in arguments}


# ── commands ────────────────────────────────────────────────────────────────────────────────────────────────


def commands() -> str:
    """What each command's `--help` says, as Markdown."""
    return "\n".join(_command(context) for context in every_command())


def every_command(command: click.Command = colo, above: click.Context | None = None) -> Iterator[click.Context]:
    """The command itself, then those below it."""
    name = "colo" if above is None else command.name
    context = click.Context(command, parent=above, info_name=name)
    yield context
    if isinstance(command, click.Group):
        for inner in command.list_commands(context):
            found = command.get_command(context, inner)
            assert found is not None
            yield from every_command(found, context)


def _command(context: click.Context) -> str:
    command = context.command
    usage = f"{context.command_path} {' '.join(command.collect_usage_pieces(context))}"
    text = f"## {context.command_path}\n\n```text\n{usage}\n```\n\n{_help(command.help or '')}\n"
    if isinstance(command, click.Group):
        inner = []
        for name in command.list_commands(context):
            found = command.get_command(context, name)
            path = f"{context.command_path} {name}"
            inner.append((f"[{path}](#{anchor(path)})", found.get_short_help_str(200) if found else ""))
        return text + "\n" + table("| command | |", inner)
    options = [
        record
        for param in command.get_params(context)
        if (record := param.get_help_record(context)) is not None and record[1] and "--help" not in record[0]
    ]
    options = [(re.sub(r"(INTEGER|FLOAT) RANGE", "NUMBER", names), says) for names, says in options]
    return text + "".join(f"\n`{names}`\n: {_escaped(says)}\n" for names, says in options)


def anchor(title: str) -> str:
    """As the usual code hosts make it of a heading."""
    return re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")


def _help(text: str) -> str:
    """Click's paragraphs: one that begins with \\b keeps its lines."""
    paragraphs = []
    for paragraph in inspect.cleandoc(text).split("\n\n"):
        if paragraph.lstrip().startswith("\b"):
            lines = paragraph.replace("\b", "").strip("\n")
            paragraphs.append(f"```text\n{textwrap.dedent(lines)}\n```")
        else:
            paragraphs.append(_escaped(paragraph))
    return "\n\n".join(paragraphs) + "\n"


def _escaped(text: str) -> str:
    """Help is plain text with code in backticks: what else Markdown would read is taken literally."""
    text = re.sub(r"(\d+)<=x<=(\d+)", r"from \1 to \2", " ".join(text.split()))
    pieces = re.split(r"(`[^`]*`)", text)
    return "".join(piece if piece.startswith("`") else re.sub(r"([\[\]<>*_|#])", r"\\\1", piece) for piece in pieces)


# ── files of the repository's root ──────────────────────────────────────────────────────────────────────────


def from_the_root(name: str) -> str:
    """A page of the root without its title, as a page of this folder."""
    page = (DOCS.parent / name).read_text(encoding="utf-8")
    inward = re.sub(r"\]\(docs/", "](", page.partition("\n")[2])
    return re.sub(r"\]\((CHANGELOG|CONTRIBUTING)\.md", lambda found: f"]({found[1].lower()}.md", inward)


# ── pages ───────────────────────────────────────────────────────────────────────────────────────────────────

KEPT = {
    "configuration": configuration,
    "metrics": metrics,
    "rule_tests": rule_tests,
    "pair_picture": pair_picture,
    "pair_states": pair_states,
    "pair_rows": pair_rows,
    "pair_otherwise": pair_otherwise,
}
MADE_AT_BUILD = {
    "commands": commands,
    "limits": limits_of,
    "contributing": lambda: from_the_root("CONTRIBUTING.md"),
    "changelog": lambda: from_the_root("CHANGELOG.md"),
}


def renewed(page: str) -> str:
    """`page` with the parts that are kept in it made anew."""
    return _filled(page, KEPT)


def complete(page: str) -> str:
    """`page` with all of its parts, as the site has it."""
    return _filled(page, KEPT | MADE_AT_BUILD)


def _filled(page: str, makers: dict[str, Callable[[], str]]) -> str:
    def made(part: re.Match[str]) -> str:
        begin, name, old, end = part.groups()
        return begin + ("\n" + makers[name]() + "\n" if name in makers else old) + end

    return MARKED.sub(made, page)


if __name__ == "__main__":
    for path in sorted(DOCS.rglob("*.md")):
        before = path.read_text(encoding="utf-8")
        after = renewed(before)
        if after != before:
            path.write_text(after, encoding="utf-8")
            sys.stdout.write(f"{path.relative_to(DOCS.parent)}: made anew\n")
