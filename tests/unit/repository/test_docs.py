"""What the documentation says is so: links, command lines, states, limits, counters, names of functions."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import click
import pytest

from pycolo import limits
from pycolo.cli import colo
from pycolo.compare.kinds import DifferenceKind, DivergencePolicy, PacketFate
from pycolo.compare.trace import TracedPacket
from pycolo.core import Comparator, PrimaryOrder, Rewriter
from pycolo.errors import EXIT_INTERRUPTED
from pycolo.failover.arbiter import ARBITERS
from pycolo.failover.kinds import ARBITER_KINDS
from pycolo.failover.pairstates import SHOWN
from pycolo.node.ordering import Ordering
from pycolo.order.tuner import Tuner
from pycolo.path.cores import comparator_counters, rewriter_counters
from pycolo.proxy import exposition
from pycolo.proxy.capture import comment_on
from pycolo.proxy.line import parse_line
from pycolo.transport.portspec import parse_port
from pycolo_lab.demo import EXIT_CONTROL_SILENT, EXIT_FAILED, EXIT_OK
from pycolo_lab.observe import CLEAN
from pycolo_lab.qemu.scenarios import SCENARIOS
from support.commands import commands_of

ROOT = Path(__file__).resolve().parents[3]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
TREES = (ROOT / "src", ROOT / "lab" / "src")
SOURCES = [path for tree in TREES for path in sorted(tree.rglob("*")) if path.suffix in {".py", ".pyx", ".pxi"}]
SOURCE_TEXT = "\n".join(path.read_text(encoding="utf-8") for path in SOURCES)

PORT_OPTIONS = {"lan", "lan_in", "lan_out", "guest", "guest_in", "guest_out"}


def shown(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def text(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def prose(page: Path) -> str:
    """A page without its fenced blocks."""
    return re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)


# ── links ───────────────────────────────────────────────────────────────────────────────────────────────────


def links() -> Iterator[tuple[Path, str]]:
    for page in PAGES:
        for target in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
            if "://" not in target:
                yield page, target


def anchors(page: Path) -> set[str]:
    """The anchors that a page's headings get on the usual code hosts."""
    titles = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def test_every_relative_link_leads_somewhere():
    broken = []
    for page, target in links():
        name, _, anchor = target.partition("#")
        place = (page.parent / name).resolve() if name else page
        if not place.exists() or (anchor and anchor not in anchors(place)):
            broken.append(f"{shown(page)}: {target}")
    assert broken == []


def test_every_page_can_be_reached_from_the_readme():
    reached = set()
    waiting = [ROOT / "README.md"]
    while waiting:
        page = waiting.pop()
        if page not in reached:
            reached.add(page)
            targets = (target.partition("#")[0] for where, target in links() if where == page)
            waiting += [place for name in targets if (place := (page.parent / name).resolve()).suffix == ".md"]
    assert [shown(page) for page in PAGES if page not in reached] == []


# ── command lines ───────────────────────────────────────────────────────────────────────────────────────────


def command_lines() -> Iterator[tuple[str, list[str]]]:
    """Every line in a code block that begins with `colo`, as words; a backslash at its end joins the next one."""
    for page in PAGES:
        for line in page.read_text(encoding="utf-8").replace("\\\n", " ").splitlines():
            matched = re.match(r" {4,}(?:\$ )?(colo (?:[a-z]+|--).*)$", line)
            if matched:
                yield shown(page), shlex.split(matched[1], comments=True)


def parse(words: list[str]) -> click.Context:
    """As click would, down to the command, without running it. Raises `click.UsageError`."""
    command: click.Command = colo
    while isinstance(command, click.Group):
        name, *words = words
        found = command.get_command(click.Context(command), name)
        assert found is not None, f"no command {name}"
        command = found
    return command.make_context(command.name, words)


def without_files(words: list[str]) -> list[str]:
    """Directories that a reader has, and this test has not."""
    return [str(ROOT) if before == "--tls" else word for before, word in zip(["", *words], words, strict=False)]


@pytest.mark.parametrize(("page", "words"), list(command_lines()))
def test_command_lines_parse(page: str, words: list[str]):
    if words[1] == "proxy":  # QEMU's syntax, which click passes on unread
        parse_line(words[2:])
        return
    context = parse(without_files(words[1:]))
    if words[1] == "lab":  # its --guest is a machine's name
        return
    for name in PORT_OPTIONS & context.params.keys():
        if context.params[name] is not None:
            parse_port(context.params[name], f"--{name}")


def test_there_are_command_lines_to_check():
    used = {words[1] for _, words in command_lines()}
    assert {"certs", "demo", "primary", "secondary", "status", "failover", "proxy"} <= used


def test_options_that_the_text_names_exist():
    """Of `colo`; the other programs' are not in backticks alone."""
    known = {"--help", "--version"}
    groups: list[click.Command] = [colo]
    while groups:
        command = groups.pop()
        known |= {option for param in command.params for option in param.opts}
        known |= set(re.findall(r"^ +(--[a-z]+) ", command.help or "", flags=re.MULTILINE))  # colo proxy's
        if isinstance(command, click.Group):
            groups += commands_of(command).values()
    for page in PAGES:
        if page.name in ("CONTRIBUTING.md", "CHANGELOG.md"):
            continue
        named = set(re.findall(r"`(--[a-z0-9-]+)[^`]*`", prose(page)))
        assert named <= known, shown(page)


# ── states, codes, names ────────────────────────────────────────────────────────────────────────────────────


def first_column(page: str, heading: str) -> list[str]:
    """The first cells of the first table behind a heading."""
    rows = []
    for line in text(page).partition(f"{heading}\n")[2].splitlines():
        if line.startswith("|"):
            rows.append(line.split("|")[1].strip())
        elif rows:
            break
    return rows[2:]


def codes(cells: list[str]) -> list[str]:
    return [name for cell in cells for name in re.findall(r"`([^`]+)`", cell)]


def test_states_are_those_of_the_code():
    assert set(codes(first_column("docs/failover.md", "## States"))) == set(SHOWN.values())


def test_arbiters_are_those_of_the_code():
    assert codes(first_column("docs/failover.md", "## Suspicion is not permission")) == list(ARBITERS)
    assert {*ARBITERS, *codes(first_column("docs/fencing.md", "# Fence the other host"))} == set(ARBITER_KINDS)


def test_policies_and_kinds_are_those_of_the_code():
    policies = codes(first_column("docs/rules.md", "## What a difference does"))
    assert {*policies, "checkpoint"} == {policy.name.lower() for policy in DivergencePolicy}
    sentence = text("docs/rules.md").partition("The kinds of difference")[2].partition("The three that end")[0]
    assert re.findall(r"`([a-z_]+)`", sentence) == [kind.name.lower() for kind in DifferenceKind]


def test_each_scenario_has_one_row():
    table = text("docs/qemu-laboratory.md").partition("| | what dies |")[2].partition("\n\n")[0]
    names = [name for row in table.splitlines() for name in re.findall(r"`([a-z-]+)`", row.split("|", 2)[1:2][0])]
    assert sorted(names) == sorted([*(scenario.name for scenario in SCENARIOS), "pause"])


def test_exit_codes_are_those_of_the_code():
    assert (EXIT_OK, EXIT_FAILED, EXIT_CONTROL_SILENT, EXIT_INTERRUPTED) == (0, 1, 3, 130)
    sources = [(ROOT / f"src/pycolo/node/{name}.py").read_text(encoding="utf-8") for name in ("node", "roles")]
    assert {code for source in sources for code in re.findall(r"finish\((\d+)", source)} == {"0", "3", "70"}
    of_nodes, _, of_laboratories = text("docs/exit-codes.md").partition("`colo proxy` ends")
    assert re.findall(r"\| (\d+) \|$", of_nodes, flags=re.MULTILINE) == ["0", "1", "2", "3", "70"]
    assert re.findall(r"\| (\d+) \|$", of_laboratories, flags=re.MULTILINE) == ["0", "1", "2", "3", "130"]


def test_kernel_counters_are_those_of_the_verdict():
    assert [name for name in CLEAN if f"`{name}`" not in text("docs/laboratory.md")] == []


ORDERED: Final = Ordering(Tuner({}), PrimaryOrder()).counters()


@pytest.mark.parametrize(
    ("heading", "counters", "path"),
    [
        ("## Counters of the primary", comparator_counters(Comparator(1)) | ORDERED, "primarypath"),
        ("## Counters of the secondary", rewriter_counters(Rewriter(1)), "secondarypath"),
    ],
)
def test_counters_are_those_of_the_code(heading: str, counters: dict[str, int], path: str):
    documented = set(codes(first_column("docs/status.md", heading)))
    source = (ROOT / f"src/pycolo/node/{path}.py").read_text(encoding="utf-8")
    added = set(re.findall(r'^ {12}"([a-z_]+)": ', source, flags=re.MULTILINE))
    assert sorted(counters.keys() - documented) == []
    assert sorted(documented - counters.keys() - added) == []


def test_metrics_are_those_of_the_code():
    documented = re.findall(r"^(colo_proxy_\w+) ", exposition.__doc__ or "", flags=re.MULTILINE)
    assert codes(first_column("docs/colo-proxy.md", "## State, metrics, captures")) == documented


@pytest.mark.parametrize("fate", PacketFate)
def test_comments_in_captures_are_those_of_the_code(fate: PacketFate):
    comment = comment_on(TracedPacket(0, fate, 0, 7, b"")).replace("7", "N")
    assert f"* `{comment}`" in text("docs/colo-proxy.md")


CLASS = re.compile(r"^(?:cdef )?class (\w+)(?:\(([^)]*)\))?:\n((?:(?![^\s#@]).*\n)*)", flags=re.MULTILINE)
METHOD = re.compile(r"^    (?:async )?(?:c?p?def)\b[^\n(=]*?(\w+)\(", flags=re.MULTILINE)


def methods_by_class() -> dict[str, set[str]]:
    """Of every class of the sources, compiled or not; with those of its bases."""
    own: dict[str, set[str]] = {}
    bases: dict[str, set[str]] = {}
    for path in SOURCES:
        for name, of, body in CLASS.findall(path.read_text(encoding="utf-8") + "\n"):
            own.setdefault(name, set()).update(METHOD.findall(body))
            bases.setdefault(name, set()).update(set(re.findall(r"\w+", of)) - {name})

    def all_of(name: str) -> set[str]:
        return own.get(name, set()).union(*(all_of(base) for base in bases.get(name, ())))

    return {name: all_of(name) for name in own}


def test_methods_are_found_in_either_kind_of_source():
    methods = methods_by_class()
    assert {"run", "stop", "_changed"} <= methods["Node"]
    assert {"halt", "commit"} <= methods["PrimaryPath"], "with those of its bases"
    assert {"primary_frames", "feed", "_take", "due_us"} <= methods["Comparator"]
    assert "primary_frames" not in methods["Rewriter"]


def test_functions_that_the_pages_name_exist():
    """A name that was changed must be changed there too. A method is named with its class, or with a base's."""
    methods = methods_by_class()
    wrong = [
        f"{shown(page)}: {class_name}.{method}"
        for page in PAGES
        if "adr" not in page.parts and page.name != "CHANGELOG.md"
        for class_name, method in re.findall(r"`([A-Z][a-z]\w+)\.([a-z_]\w*)(?:\([^`]*)?`", prose(page))
        if (class_name in methods or page.name == "packet-walk.md") and method not in methods.get(class_name, ())
    ]
    assert wrong == []
    named = re.findall(r"`(?:[A-Z]\w+\.)?(_?[a-z]\w*)(?:\([^`]*)?`", text("docs/packet-walk.md"))
    words = set(re.findall(r"\w+", SOURCE_TEXT))
    assert [name for name in named if name not in words] == []


def test_seq_offset_is_added_where_the_walk_says():
    assert "rewrite/offsets.pxi" in text("docs/packet-walk.md").partition("Where is `seq_offset` added?")[2][:200]
    source = (ROOT / "src/pycolo/rewrite/offsets.pxi").read_text(encoding="utf-8")
    assert "set_ack(buf, packet, seq_add(packet.ack, sign *" in source


# ── limits ──────────────────────────────────────────────────────────────────────────────────────────────────

LIMIT = re.compile(r"`([A-Z]+(?:_[A-Z]+)+)` \((\d+)(?: (GiB|MiB|KiB|ms))?[;,)]")
UNITS = {"": 1, "ms": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}


def quoted_limits() -> Iterator[tuple[str, str, int]]:
    for page in PAGES:
        for name, number, unit in LIMIT.findall(page.read_text(encoding="utf-8").replace("\n", " ")):
            yield shown(page), name, int(number) * UNITS[unit]


@pytest.mark.parametrize(("page", "name", "value"), list(quoted_limits()))
def test_limits_are_those_of_the_code(page: str, name: str, value: int):
    assert getattr(limits, name) == value


def test_limits_are_quoted():
    assert len(list(quoted_limits())) >= 12


def test_limits_that_the_text_names_exist():
    for page in PAGES:
        for name in re.findall(r"`([A-Z]+(?:_[A-Z]+)*_(?:MS|BYTES|MAX|PACKETS_MAX|BYTES_MAX))`", prose(page)):
            assert hasattr(limits, name), f"{shown(page)}: {name}"
