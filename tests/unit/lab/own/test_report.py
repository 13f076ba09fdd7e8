"""The page of a run with one's own server, and its words on the terminal."""

import pytest

from pycolo_lab.own.facts import Fate, OwnFacts
from pycolo_lab.own.report import render
from pycolo_lab.own.verdict import judge
from pycolo_lab.own.wording import divergence_text, rows
from support.ownfacts import diverged, divergence, run, sound_facts
from support.pages import read_page


def sound(_facts: OwnFacts) -> None:
    """As it is."""


def with_divergences(facts: OwnFacts) -> None:
    facts.divergences = diverged(40003, 40001)
    assert facts.clients is not None
    facts.clients.connections[0].fate = Fate.RESET
    facts.clients.runs[2] = run(3, -1, 0.2, code=1, words="<b>lost</b>")


def without_clients(facts: OwnFacts) -> None:
    facts.clients = facts.primary = facts.secondary = facts.divergences = None
    facts.trouble = ["server-b on host B ended by itself"]


def never_killed(facts: OwnFacts) -> None:
    facts.fault = facts.secondary = None


@pytest.mark.parametrize("change", [sound, with_divergences, without_clients, never_killed])
def test_the_page_is_whole_whatever_the_run_came_to(change):
    facts = sound_facts()
    change(facts)
    summary = judge(facts)
    text = render(facts, summary)
    root = read_page(text)
    assert root.all("script") == []
    assert "<b>lost" not in text
    assert summary.verdict in root.text
    assert bool(root.all("svg")) is (facts.fault is not None)
    for failure in summary.failures:
        assert failure in root.text


def test_both_sides_bytes_are_there_with_the_different_ones_marked():
    facts = sound_facts()
    facts.divergences = diverged(40003)
    root = read_page(render(facts, judge(facts)))
    assert [mark.text for mark in root.all("mark")] == ["31", "1", "32", "2"]
    assert [caption.text for caption in root.all("figcaption")] == ["guest A", "guest B"]


def test_divergences_that_look_alike_are_shown_once():
    facts = sound_facts()
    facts.divergences = diverged(40003, 40001, 40002)
    facts.divergences.divergences.append(divergence(40005, (b"\x07\x08", b"\x07\x09"), b"\0\0\x04\x3c\x06\x14"))
    summary = judge(facts)
    assert [group.count for group in summary.diverged.kinds] == [3, 1]
    text = "\n".join(divergence_text(summary.diverged))
    assert "3 like this, usually a Date header" in text
    assert "ssh key exchange" in text


def test_no_row_is_empty():
    for change in (sound, with_divergences, never_killed):
        facts = sound_facts()
        change(facts)
        for label, text in rows(judge(facts)):
            assert label
            assert text
            assert "\n" not in text
