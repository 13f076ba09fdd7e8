"""The verdict: a sound run passes, and every single thing that goes wrong is named."""

from collections.abc import Callable

import pytest

from pycolo_lab.demo import exit_code
from pycolo_lab.facts import Pause, RunFacts, Takeover
from pycolo_lab.observe import CLEAN
from pycolo_lab.options import Control, LabOptions
from pycolo_lab.summary import Summary, longest_pause_ms
from pycolo_lab.verdict import judge
from pycolo_lab.wording import rows
from support.labfacts import KILL, MS, S, everything_lost, sound_facts


def judged(change: Callable[[RunFacts], object], options: LabOptions | None = None) -> Summary:
    facts = sound_facts()
    change(facts)
    return judge(facts, options or LabOptions())


def test_a_sound_run_passes() -> None:
    summary = judged(lambda facts: None)
    assert summary.failures == []
    assert summary.ok
    assert exit_code(summary) == 0
    assert (summary.connections_kept, summary.connections_at_kill) == (7, 7)
    assert summary.verdict == "7 of 7 connections outlived host A"
    assert summary.download is not None
    assert (summary.download.pause_at_kill_ms, summary.download.pause_otherwise_ms) == (160, 9)
    assert summary.sessions is not None
    assert (summary.sessions.pause_at_kill_ms_p50, summary.sessions.pause_at_kill_ms_max) == (192, 194)
    assert summary.takeover is not None
    assert (summary.takeover.suspected_ms, summary.takeover.decided_ms, summary.takeover.done_ms) == (
        150,
        151,
        153,
    )


def _set(part: str, **values: object) -> Callable[[RunFacts], object]:
    def change(facts: RunFacts) -> None:
        for name, value in values.items():
            setattr(getattr(facts, part), name, value)

    return change


def _set_session(number: int, **values: object) -> Callable[[RunFacts], object]:
    def change(facts: RunFacts) -> None:
        assert facts.sessions
        for name, value in values.items():
            setattr(facts.sessions.sessions[number], name, value)

    return change


def _clear(*names: str) -> Callable[[RunFacts], object]:
    def change(facts: RunFacts) -> None:
        for name in names:
            setattr(facts, name, None)

    return change


def _count(name: str) -> Callable[[RunFacts], object]:
    return lambda facts: facts.counters[name].update(after=4)


FAULTS: list[tuple[str, Callable[[RunFacts], object]]] = [
    ("download: was not in flight", _set("kill", download_moving=False)),
    ("upload: was not in flight", _set("kill", upload_moving=False)),
    ("download: was not in flight", _set("kill", download_bytes=0)),
    ("download: wrong content", _set("download", error="wrong content")),
    ("upload: reset", _set("upload", error="reset by the other side")),
    ("download: the client left no result", _clear("download")),
    ("sessions: the client left no result", _clear("sessions")),
    ("new connection: the client left no result", _clear("probe")),
    ("new connection: timed out", _set("probe", error="timed out")),
    ("sessions: 1 of 5 did not go on (reset", _set_session(2, error="reset by the other side")),
    ("sessions: 1 of 5 did not go on (no correct answer", _set_session(2, after_kill=0)),
    (
        "sessions: 1 of 3 that were opened after the kill",
        _set_session(6, error="no connection for 10 s", opened_ns=None),
    ),
    ("client's kernel saw 2 connections reset", lambda facts: setattr(facts, "client_resets", 2)),
    ("host B did not take over", _set("secondary", takeover=None)),
    ("host B did not take over", _clear("secondary")),
    ("takeover; the machine was too busy", _set("secondary", takeover=Takeover(KILL - S, KILL - S, KILL - S, 0))),
    ("1 divergences", _set("primary", divergences=[{"text": "payload differs at 17"}])),
    ("payload differs at 17", _set("primary", divergences=[{"text": "payload differs at 17"}])),
    ("3 divergences", _set("primary", counters={"compared": 1, "released": 1, "divergences": 3})),
    ("nothing compared", _set("primary", counters={"released": 1})),
    ("nothing rewritten", _set("secondary", counters={})),
    ("did not answer on its control socket", _clear("primary")),
    ("never powered off", _clear("kill")),
    ("the node exploded", lambda facts: facts.trouble.append("the node exploded")),
    *[(f"counted {name} 1", _count(name)) for name in CLEAN],
]


@pytest.mark.parametrize(("said", "fault"), FAULTS, ids=[f"{i}-{said[:40]}" for i, (said, _) in enumerate(FAULTS)])
def test_each_fault_fails_the_run_and_is_named(said: str, fault: Callable[[RunFacts], object]) -> None:
    summary = judged(fault)
    assert any(said in failure for failure in summary.failures), summary.failures
    assert not summary.ok
    assert exit_code(summary) == 1
    assert summary.verdict.startswith("FAILED")


def test_a_transfer_with_a_size_that_was_through_was_not_in_flight() -> None:
    summary = judged(_set("kill", download_bytes=400_000_000), LabOptions(size_bytes=400_000_000))
    assert any("download: was not in flight" in failure for failure in summary.failures)
    assert not any("upload: was not in flight" in failure for failure in summary.failures)


@pytest.mark.parametrize("control", [Control.REWRITE, Control.COMPARE])
def test_a_control_that_fails_as_it_must(control: Control) -> None:
    summary = judged(everything_lost, LabOptions(control=control))
    assert summary.control is not None
    assert summary.control.shown
    assert "failed as it must" in summary.verdict
    assert any("TcpOutRsts 96" in seen for seen in summary.control.seen)
    assert not summary.ok
    assert exit_code(summary) == 1


def test_a_control_that_shows_nothing_is_worse_than_a_failure() -> None:
    summary = judged(lambda facts: None, LabOptions(control=Control.COMPARE))
    assert summary.control is not None
    assert not summary.control.shown
    assert "did NOT show" in summary.verdict
    assert exit_code(summary) == 3


@pytest.mark.parametrize("also", [_clear("probe"), _set("secondary", takeover=None)])
def test_a_control_in_which_the_survivor_is_broken_controls_nothing(
    also: Callable[[RunFacts], object],
) -> None:
    def change(facts: RunFacts) -> None:
        everything_lost(facts)
        also(facts)

    assert exit_code(judged(change, LabOptions(control=Control.REWRITE))) == 3


def test_pauses_belong_to_the_kill_when_they_overlap_the_time_after_it() -> None:
    pauses = [Pause(0, 90), Pause(95, 105), Pause(110, 140), Pause(5 * S, 6 * S)]
    assert longest_pause_ms([Pause(p.start_ns * MS, p.end_ns * MS) for p in pauses[:3]], 100 * MS, at_kill=True) == 30
    assert longest_pause_ms(pauses[3:], 0, at_kill=True) == 0
    assert longest_pause_ms(pauses[3:], 0, at_kill=False) == 1000


def test_every_number_a_person_asks_for_has_a_row() -> None:
    labels = [label for label, _ in rows(judged(lambda facts: None))]
    for wanted in (
        "connections kept",
        "download stood still",
        "sessions waited",
        "takeover",
        "frames",
        "latency added",
    ):
        assert wanted in labels
