"""docs/configuration.md has every key with what the code says of it."""

import re
from typing import get_args

import msgspec
import pytest

from pycolo.cli.logfile import LogFormat, LogLevel
from pycolo.config import ConfigFileError, PairConfig, parse
from pycolo.config.keys import PLACEHOLDERS
from pycolo.config.reading import is_array, section_and_key
from pycolo.config.section import Section
from pycolo.config.sections import LOG_FORMATS, LOG_LEVELS
from support.configs import EXAMPLE, PAGE, example

TEXT = PAGE.read_text(encoding="utf-8")
SECTIONS = {
    field.name: section
    for field in msgspec.structs.fields(PairConfig)
    if (section := section_and_key(field.type)[0]) is not None
}
TABLES: list[tuple[str, type[Section]]] = [("At the top", PairConfig), *SECTIONS.items()]


def documented(heading: str) -> list[tuple[str, str, str]]:
    """Key, value and default of the rows behind a heading."""
    text = TEXT.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| `(\w+)` \| (.*?) \| (.*?) \| (.+) \|$", text, flags=re.MULTILINE)
    assert all(meaning for *_, meaning in rows)
    return [(key, value, default) for key, value, default, _ in rows]


def declared(section: type[Section]) -> list[tuple[str, str, str]]:
    rows = []
    for field in msgspec.structs.fields(section):
        _, key = section_and_key(field.type)
        if key is not None:
            rows.append((field.name, key.expected, default_of(field, key.write)))
    return rows


def default_of(field, write) -> str:
    if field.required:
        return "required"
    if field.default is None or field.default is msgspec.NODEFAULT:
        return "none"
    return msgspec.json.encode(write(field.default)).decode()


@pytest.mark.parametrize(("heading", "section"), TABLES, ids=[name for name, _ in TABLES])
def test_every_key_is_described_as_it_is(heading: str, section: type[Section]):
    assert documented(heading) == declared(section)


def test_the_headings_are_the_tables():
    headings = re.findall(r"^## (\w+)$", TEXT, flags=re.MULTILINE)
    assert [name for name in headings if name != "Example"] == list(SECTIONS)


def test_the_example_has_every_table_that_needs_a_choice():
    arrays = {field.name for field in msgspec.structs.fields(PairConfig) if is_array(field.type)}  # may be empty
    needed = {name for name, section in SECTIONS.items() if any(row[2] == "required" for row in declared(section))}
    needed -= arrays | {"guest"}  # in the place of "qemu"
    assert needed <= EXAMPLE.keys()


def test_every_placeholder_is_described():
    (row,) = re.findall(r"^\| `command` .*fenced\..*$", TEXT, flags=re.MULTILINE)
    assert re.findall(r"`\{(\w+)\}`", row) == list(PLACEHOLDERS)


def test_the_formats_and_levels_of_the_log_are_those_that_there_are():
    assert get_args(LogFormat) == LOG_FORMATS
    assert get_args(LogLevel) == LOG_LEVELS


def test_the_errors_that_the_page_shows_are_those_of_the_code():
    shown = re.findall(r"^    colo: /etc/colo/vm1.toml: (.*)$", TEXT, flags=re.MULTILINE)
    wrong = example().replace('listen = "10.0.0.1:9000"', 'listen = "x"').replace("bridge = ", "brigde = 1\nbridge = ")
    with pytest.raises(ConfigFileError) as caught:
        parse(wrong.encode(), "vm.toml")
    assert [line.removeprefix("vm.toml: ") for line in str(caught.value).splitlines()] == shown
