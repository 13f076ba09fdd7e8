"""The page: whole, by itself, the same for every width, and it says what it shows."""

import re
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path

import pytest

from pycolo_lab.facts import RunFacts
from pycolo_lab.options import Control, LabOptions
from pycolo_lab.report import render, write_report
from pycolo_lab.verdict import judge
from support.labfacts import everything_lost, sound_facts, with_baseline
from support.pages import Element, read_page, rules

CSS = (files("pycolo_lab") / "report.css").read_text(encoding="utf-8")

NARROW_PX = 400
"""A telephone's width."""

READABLE_PX = 10


def untouched(_facts: RunFacts) -> None:
    """A run in which all went well."""


def never_begun(facts: RunFacts) -> None:
    facts.kill = facts.download = facts.upload = facts.sessions = facts.primary = facts.secondary = None


RUNS = pytest.mark.parametrize("change", [untouched, everything_lost, never_begun, with_baseline])


def page(change: Callable[[RunFacts], None] = untouched, control: Control = Control.NONE) -> tuple[str, Element]:
    facts = sound_facts()
    change(facts)
    options = LabOptions(control=control)
    text = render(facts, judge(facts, options), options)
    return text, read_page(text)


@RUNS
@pytest.mark.parametrize("control", list(Control))
def test_the_page_is_whole_and_needs_nothing_else(change: Callable[[RunFacts], None], control: Control) -> None:
    text, root = page(change, control)
    fetched = [e for e in root.all() if {"src", "href", "xlink:href", "srcset"} & set(e.attributes)]
    assert fetched == []
    assert "url(" not in text
    assert "@import" not in text
    assert root.all("script") == [], "what comes from a run is text, never markup"
    assert bool(root.all("svg")) is (change is not never_begun)
    assert "prefers-color-scheme: dark" in text


@RUNS
def test_ids_are_unique_and_headings_are_there(change: Callable[[RunFacts], None]) -> None:
    _, root = page(change)
    ids = [element.attributes["id"] for element in root.all() if "id" in element.attributes]
    assert len(ids) == len(set(ids))
    assert len(root.all("h1")) == 1
    assert all(section.all("h2") for section in root.all("section") if "id" in section.attributes)


@RUNS
def test_the_command_line_and_the_date_with_its_zone_are_told(change: Callable[[RunFacts], None]) -> None:
    _, root = page(change)
    (header,) = root.all("header")
    assert [code.text for code in header.all("code")] == ["colo demo --report 'my report.html'"]
    (time,) = header.all("time")
    assert time.text == "2026-11-28 20:01:52 UTC+01:00"
    assert time.attributes["datetime"] == "2026-11-28 20:01:52+01:00"


# ── before and after ────────────────────────────────────────────────────────────────────────────────────────


def card(root: Element, style: str) -> str:
    (found,) = [each for each in root.all("div", "card") if style in each.classes]
    return re.sub(r"\s+", " ", found.text)


def test_there_is_a_card_for_each_side_of_the_kill() -> None:
    _, root = page()
    assert card(root, "before").startswith("Protected")
    assert "80 MB/s" in card(root, "before")
    assert "400" not in card(root, "before")
    assert card(root, "after").startswith("After the kill")
    assert "400 MB/s" in card(root, "after")
    assert "160 ms" in card(root, "kill")


def test_the_page_says_why_it_is_faster_afterwards_and_only_if_it_is() -> None:
    text, root = page()
    assert any(section.attributes.get("id") == "why" for section in root.all("section"))
    assert "says nothing about protection" in text
    assert "the same 2 cores" in text

    def slower(facts: RunFacts) -> None:
        for transfer in (facts.download, facts.upload):
            assert transfer
            transfer.ended_ns += 60 * 10**9

    assert "says nothing about protection" not in page(slower)[0]


def test_a_control_is_not_called_protected() -> None:
    _, root = page(control=Control.COMPARE)
    assert card(root, "before").startswith("Before the kill")


def test_the_baseline_has_a_section_when_it_was_measured() -> None:
    _, root = page(with_baseline)
    (found,) = [each for each in root.all("section") if each.attributes.get("id") == "baseline"]
    assert len({cell.attributes["data-label"] for cell in found.all("td") if "data-label" in cell.attributes}) == 5
    assert "primary node" in found.text
    assert all(each.attributes.get("id") != "baseline" for each in page()[1].all("section"))


# ── every width ─────────────────────────────────────────────────────────────────────────────────────────────


@RUNS
def test_text_in_charts_is_never_scaled_and_readable(change: Callable[[RunFacts], None]) -> None:
    _, root = page(change)
    for text in root.all("text"):
        scaled = [each for each in text.ancestors() if "viewbox" in each.attributes or "transform" in each.attributes]
        assert scaled == [], text.text
        assert text.attributes["x"].endswith("%"), "it finds its place at any width"
        assert 0 <= float(text.attributes["x"][:-1]) <= 100
    sizes = {selector: body["font-size"].strip() for selector, body in rules(CSS) if "font-size" in body}
    assert "svg text" in sizes
    assert all(float(size.removesuffix("px")) >= READABLE_PX for size in sizes.values())


@RUNS
def test_pictures_are_as_wide_as_there_is_room(change: Callable[[RunFacts], None]) -> None:
    _, root = page(change)
    for svg in root.all("svg"):
        if "cross" not in svg.classes:
            assert svg.attributes["width"] == "100%"
        if "viewbox" in svg.attributes:
            assert svg.attributes["preserveaspectratio"] == "none"
    for element in (each for svg in root.all("svg") for each in svg.all()):
        for name in ("x", "x1", "x2", "width"):
            value = element.attributes.get(name, "0%")
            assert value.endswith("%") or "cross" in element.classes, (element.tag, name, value)


def test_no_width_of_the_style_sheet_is_wider_than_a_telephone() -> None:
    for selector, body in rules(CSS):
        for name, value in body.items():
            if name.strip() in ("width", "min-width"):
                assert all(int(px) < NARROW_PX / 2 + 20 for px in re.findall(r"(\d+)px", value)), (selector, value)
            if name.strip() == "grid-template-columns" and "minmax" in value:
                assert "minmax(min(100%," in value, "a column gives way where the page is narrower"
            assert "nowrap" not in value or "timeline" in selector, (selector, value)


def test_long_words_break() -> None:
    breaking = {selector for selector, body in rules(CSS) if body.get("overflow-wrap", "").strip() == "anywhere"}
    assert {"body", "th, td", ".made code"} <= breaking


def test_colours_are_the_page_s_and_dark_has_each_of_them() -> None:
    light, dark = ({k.strip() for k in body if k.strip().startswith("--")} for s, body in rules(CSS) if s == ":root")
    assert dark == light
    used = set(re.findall(r"var\((--\w+)\)", CSS))
    assert used <= light


# ── legends ─────────────────────────────────────────────────────────────────────────────────────────────────


@RUNS
@pytest.mark.parametrize("control", [Control.NONE, Control.REWRITE])
def test_every_chart_has_a_legend_for_all_that_it_shows(change: Callable[[RunFacts], None], control: Control) -> None:
    _, root = page(change, control)
    charts = root.all("figure", "chart")
    assert len(charts) == (0 if change is never_begun else 4)
    for chart in charts:
        (legend,) = chart.all("p", "legend")
        keys = legend.all("span", "key")
        assert all(key.text for key in keys)
        shown = {
            style
            for element in chart.all()
            if element.tag in ("polyline", "rect", "line", "g", "path")
            for style in element.classes
        }
        explained = {style for key in keys for style in key.classes}
        axes = {"grid", "zero", "open", "life"}
        assert shown - axes <= explained
        for mark in chart.all("text", "mark"):
            assert mark.text in [key.text for key in keys]


# ── the file ────────────────────────────────────────────────────────────────────────────────────────────────


def test_words_keep_their_hyphens() -> None:
    assert "lock-step" in page()[0]


def test_a_report_that_cannot_be_written_leaves_what_was_there(tmp_path: Path) -> None:
    facts = sound_facts()
    summary = judge(facts, LabOptions())
    target = tmp_path / "report.html"
    write_report(target, facts, summary, LabOptions())
    assert target.read_text(encoding="utf-8").startswith("<!DOCTYPE html>")
    with pytest.raises(FileNotFoundError):
        write_report(tmp_path / "missing" / "report.html", facts, summary, LabOptions())
    with pytest.raises(OSError, match="No space left"):
        write_report(Path("/dev/full"), facts, summary, LabOptions())
    assert Path("/dev/full").is_char_device()
