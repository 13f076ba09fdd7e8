"""The manual pages say what `--help` says, in roff that has no meaning of its own for it."""

import re
from itertools import pairwise

import click
import pytest
from click.testing import CliRunner

from pycolo.cli import colo, manual
from support.commands import commands_of

PAGES = manual.pages("2030-01-01")


def contexts():
    waiting = [click.Context(colo, info_name="colo", **colo.context_settings)]
    while waiting:
        context = waiting.pop()
        yield context
        if isinstance(context.command, click.Group):
            for name, command in commands_of(context.command).items():
                waiting.append(click.Context(command, parent=context, info_name=name, **command.context_settings))


def plain(roff: str) -> str:
    """What a reader sees of a page, words apart by one space."""
    lines = []
    for line in roff.splitlines():
        macro = re.match(r"\.(BR) (.*)", line)
        if macro:
            lines.append(macro[2].replace(" (1) ,", "(1),").replace(" (1)", "(1)"))
        elif not line.startswith("."):
            lines.append(line)
    text = re.sub(r"\\\[u([0-9A-F]{4,})\]", lambda found: chr(int(found[1], 16)), " ".join(lines))
    text = re.sub(r"\\f[BIP]|\\&|\\:", "", text).replace("\\-", "-").replace("\\e", "\\")
    return " ".join(text.split())


def words(text: str) -> str:
    return " ".join(text.replace("`", "").replace("…", "...").split())


CONTEXTS = {context.command_path.replace(" ", "-"): context for context in contexts()}


def test_every_command_has_a_page_and_every_page_a_command():
    assert PAGES.keys() == {f"{name}.1" for name in CONTEXTS}


@pytest.mark.parametrize("name", CONTEXTS)
def test_a_page_says_what_the_help_says(name):
    context, text = CONTEXTS[name], plain(PAGES[f"{name}.1"])
    for param in context.command.get_params(context):
        record = param.get_help_record(context)
        if isinstance(param, click.Option) and record:
            assert f"{words(record[0])} {words(record[1])}" in text
    for paragraph in (context.command.help or "").split("\n\n"):
        if "\b" not in paragraph:
            assert words(paragraph) in text


@pytest.mark.parametrize("name", PAGES)
def test_lines_that_begin_with_a_dot_are_macros_that_man_knows(name):
    lines = PAGES[name].splitlines()
    macros = {line.split()[0] for line in lines if line.startswith((".", "'"))}
    assert macros <= {".TH", ".SH", ".TP", ".PP", ".BR", ".nh", ".ad", ".nr", ".ds"}
    assert PAGES[name].isascii(), "other characters are escapes, whatever the encoding of the terminal"
    assert not re.search(r"(?<!\\)-", "".join(line for line in lines if not line.startswith((".TH", '.\\"')))), (
        "hyphens"
    )
    empty = [a for a, b in pairwise(lines) if a == ".PP" and b.startswith((".TP", ".SH", ".PP"))]
    assert empty == []


@pytest.mark.parametrize("name", PAGES)
def test_whatis_finds_it(name):
    assert re.search(rf"\.SH NAME\n{name[:-2]} - \S", PAGES[name].replace("\\-", "-"))


@pytest.mark.parametrize(
    ("text", "roff"),
    [
        (".dot", "\\&.dot"),
        ("'quote", "\\&'quote"),
        ("a\\b", "a\\eb"),
        ("--x", "\\-\\-x"),
        ("`colo x`", "\\fBcolo x\\fP"),
        ("a… µ", "a... \\[u00B5]"),
    ],
)
def test_what_roff_would_misread_is_escaped(text, roff):
    assert manual._text(text) == roff


def test_the_options_of_qemu_are_a_list():
    page = PAGES["colo-proxy.1"]
    assert page.count(".TP\n\\fB\\-object\\fP") == 4
    assert "[,compare_timeout=MS] [" in plain(page) or "[,compare_timeout=MS][" in plain(page)


def test_they_are_written_with_a_date_that_can_be_given(tmp_path, monkeypatch):
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "0")
    done = CliRunner().invoke(manual.write, [str(tmp_path / "man1")])
    assert done.exit_code == 0, done.output
    assert {path.name for path in (tmp_path / "man1").iterdir()} == PAGES.keys()
    assert '"1970-01-01"' in (tmp_path / "man1" / "colo.1").read_text(encoding="ascii")
