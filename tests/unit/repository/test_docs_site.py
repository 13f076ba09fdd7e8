"""The README's first screen, the site's menu, its words, and the parts that are made from the code."""

import re
from pathlib import Path

import click
import pytest

from pycolo import limits
from pycolo.cli import COMMANDS
from support.documentation import DOCS, ROOT, load_made

made = load_made()

PAGES = sorted(DOCS.rglob("*.md"))
README = (ROOT / "README.md").read_text(encoding="utf-8")
FIRST_SCREEN = README.partition("\n## ")[0]
QEMU_OBJECTS = ("filter-mirror", "filter-redirector", "filter-rewriter", "filter-dump", "colo-compare", "iothread")


def docs_name(page: Path) -> str:
    return page.relative_to(DOCS).as_posix()


# ── the first screen ────────────────────────────────────────────────────────────────────────────────────────


def test_the_first_screen_is_one_screen():
    assert len(FIRST_SCREEN.splitlines()) <= 45
    assert len(README.splitlines()) <= 180


def test_the_first_screen_has_a_picture_two_commands_and_its_limits():
    shown = ["![", "packet-walk.svg", "$ make demo", "$ make test", "Who it is for", "What it is not yet"]
    assert [part for part in shown if part not in FIRST_SCREEN] == []


def test_the_first_screen_needs_no_word_of_qemu():
    assert [name for name in (*QEMU_OBJECTS, "chardev", "vnet", "COLO frame") if name in FIRST_SCREEN] == []


@pytest.mark.parametrize("word", ["arbiter", "checkpoint", "primary", "secondary", "node"])
def test_the_readme_explains_a_word_before_it_uses_it(word: str):
    """Emphasised where it is explained. A name within a picture's text, a command or its output is no use."""
    text = re.sub(r"!\[[^\]]*\]\([^)]*\)|^ {4}.*$|`[^`]*`", "", README, flags=re.MULTILINE)
    first = re.search(rf"\b{word}s?\b", text, flags=re.IGNORECASE)
    assert first is not None
    assert text[: first.start()].endswith("**"), text[first.start() - 60 : first.end() + 20]


# ── words ───────────────────────────────────────────────────────────────────────────────────────────────────


def everything_that_is_read() -> list[Path]:
    modules = (path for tree in ("src", "lab") for path in sorted((ROOT / tree).rglob("*.py")))
    return [*ROOT.glob("*.md"), *PAGES, ROOT / "pyproject.toml", ROOT / "lab" / "README.md", *modules]


def test_what_qemu_calls_colo_frame_is_called_checkpoint():
    """A frame is an Ethernet frame. The glossary names QEMU's word once."""
    named = [path for path in everything_that_is_read() if re.search(r"COLO\s+frame", path.read_text(encoding="utf-8"))]
    assert named == [DOCS / "glossary.md"]


@pytest.mark.parametrize("page", [ROOT / "README.md", *PAGES], ids=lambda page: page.name)
def test_a_sentence_has_a_subject(page: Path):
    unnamed = re.findall(r"\b(?:nobody|somebody|anybody|whoever)\b", page.read_text(encoding="utf-8"), re.IGNORECASE)
    assert unnamed == []


# ── the menu ────────────────────────────────────────────────────────────────────────────────────────────────


def test_every_page_is_in_the_menu_once():
    index = (DOCS / "index.md").read_text(encoding="utf-8")
    decisions = (DOCS / "adr/0001-record-decisions.md").read_text(encoding="utf-8")
    listed = re.findall(r"^\* \[[^\]]+\]\(([\w/.-]+\.md)\)", index, flags=re.MULTILINE)
    listed += [f"adr/{name}" for name in re.findall(r"^\| \[\d+\]\(([\w.-]+\.md)\)", decisions, flags=re.MULTILINE)]
    assert sorted([*listed, "index.md"]) == sorted(docs_name(page) for page in PAGES)


@pytest.mark.parametrize("page", PAGES, ids=docs_name)
def test_a_page_has_one_title(page: Path):
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    assert text.startswith("# ")
    assert len(re.findall(r"^# ", text, flags=re.MULTILINE)) == 1


@pytest.mark.parametrize("page", PAGES, ids=docs_name)
def test_a_page_is_plain_markdown(page: Path):
    """What only the site understands would be shown as code elsewhere."""
    assert re.findall(r"^(?:```|:::)\{", page.read_text(encoding="utf-8"), flags=re.MULTILINE) == []


@pytest.mark.parametrize("page", PAGES, ids=docs_name)
def test_a_command_of_several_lines_is_a_block(page: Path):
    """Otherwise it is shown as running text."""
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    assert [line for line in text.splitlines() if line.endswith(" \\") and not line.startswith("    ")] == []


# ── what is made from the code ──────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("page", PAGES, ids=docs_name)
def test_a_page_is_as_new_as_the_code(page: Path):
    text = page.read_text(encoding="utf-8")
    assert made.renewed(text) == text, "python docs/made.py makes it anew"


def test_every_mark_has_its_maker():
    named = {name for page in PAGES for _, name, _, _ in made.MARKED.findall(page.read_text(encoding="utf-8"))}
    assert named - {"made"} == made.KEPT.keys() | made.MADE_AT_BUILD.keys()


def every_command() -> list[click.Context]:
    return list(made.every_command())


def test_every_command_is_in_the_reference():
    text = made.commands()
    assert set(COMMANDS) <= {context.info_name for context in every_command()}
    for context in every_command():
        assert f"\n## {context.command_path}\n" in f"\n{text}"


def test_every_option_is_in_the_reference():
    pieces = re.split(r"^## (.+)$", made.commands(), flags=re.MULTILINE)
    sections = dict(zip(pieces[1::2], pieces[2::2], strict=True))
    for context in every_command():
        for param in context.command.params:
            if isinstance(param, click.Option) and not isinstance(context.command, click.Group) and not param.hidden:
                assert param.opts[0] in sections[context.command_path], (context.command_path, param.opts)


def test_help_is_text_and_no_markup():
    assert made._escaped("NAME_* of <x> [a|b], `--x=*` 1<=x<=3") == r"NAME\_\* of \<x\> \[a\|b\], `--x=*` from 1 to 3"


def test_every_limit_is_in_the_reference_with_its_reason():
    text = made.limits_of()
    rows = dict(re.findall(r"^\| `([A-Z0-9_]+)` \| ([^|]+) \| .+ \|$", text, flags=re.MULTILINE))
    assert rows.keys() == {name for name in vars(limits) if name.isupper()}


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("A_BYTES_MAX", 3 << 20, "3 MiB"),
        ("A_BYTES", 14, "14 bytes"),
        ("A_MS", 7000, "7,000 ms"),
        ("A_MAX", 4096, "4,096"),
    ],
)
def test_limits_have_their_unit(name: str, value: int, text: str):
    assert made.shown(name, value) == text
