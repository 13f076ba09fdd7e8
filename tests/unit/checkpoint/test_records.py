"""Records: bounded, and in the shape that the control socket shows."""

import json
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from pycolo.checkpoint.records import (
    HISTORY_RECORDS,
    PAUSES_KEPT,
    REASONS_PER_KIND_MAX,
    CheckpointRecord,
    History,
    Outcome,
    Reason,
    ReasonKind,
    ReasonList,
    summarise,
)

DIVERGENCE = Reason(ReasonKind.DIVERGENCE, "payload differs", "tcp 10.0.0.9:40000 - 10.0.0.5:80")
RECORD = CheckpointRecord(
    epoch=7,
    reasons=(DIVERGENCE,),
    more_reasons=2,
    requested_us=1_000,
    began_us=2_000,
    ended_us=8_000,
    outcome=Outcome.COMMITTED,
    resumed_us=9_100,
    pause_us=6_200,
    released_frames=12,
    released_bytes=3456,
    discarded_frames=3,
    copied_bytes=2_500_000,
)


def test_a_record_in_the_shape_of_the_control_socket():
    shown = RECORD.to_dict(unix_minus_monotonic_us=1_795_445_499_000_000 - 2_000)
    assert shown == {
        "epoch": 7,
        "reasons": [
            {
                "kind": "divergence",
                "text": "payload differs",
                "connection": "tcp 10.0.0.9:40000 - 10.0.0.5:80",
                "card": None,
            }
        ],
        "more_reasons": 2,
        "at": "2026-11-23T14:51:39.000Z",
        "outcome": "committed",
        "why": None,
        "request_to_resume_ms": 8.1,
        "pause_ms": 6.2,
        "released_frames": 12,
        "released_bytes": 3456,
        "discarded_frames": 3,
        "copied_bytes": 2_500_000,
        "parts_ms": None,
    }
    assert json.loads(json.dumps(shown)) == shown


def test_what_is_not_known_is_null():
    shown = replace(RECORD, resumed_us=None, pause_us=None, outcome=Outcome.ABORTED, why="QMP is gone").to_dict(0)
    assert (shown["request_to_resume_ms"], shown["pause_ms"]) == (None, None)
    assert (shown["outcome"], shown["why"]) == ("aborted", "QMP is gone")


@given(st.lists(st.tuples(st.sampled_from(ReasonKind), st.integers(0, 99)), max_size=100))
def test_a_list_of_reasons_is_bounded_by_kind_and_counts_the_rest(asked):
    reasons = ReasonList()
    for kind, at_us in asked:
        reasons.add(Reason(kind, str(at_us)), at_us)
    assert len(reasons) + reasons.more == len(asked)
    assert {one.kind for one in reasons.kept} == {kind for kind, _ in asked}
    assert all(sum(one.kind is kind for one in reasons.kept) <= REASONS_PER_KIND_MAX for kind in ReasonKind)
    assert reasons.since_us == min((at_us for _, at_us in asked), default=None)


@given(st.lists(st.sampled_from(ReasonKind)), st.lists(st.sampled_from(ReasonKind)))
def test_taking_another_list_loses_nothing(mine, theirs):
    lists = ReasonList(), ReasonList()
    for one, kinds in zip(lists, (mine, theirs), strict=True):
        for number, kind in enumerate(kinds):
            one.add(Reason(kind, str(number)), number)
    lists[0].take(lists[1])
    assert len(lists[0]) + lists[0].more == len(mine) + len(theirs)
    assert (len(lists[1]), lists[1].more, lists[1].since_us) == (0, 0, None)


def test_dropping_the_only_kind_forgets_since_when():
    reasons = ReasonList()
    reasons.add(Reason(ReasonKind.HYPERVISOR, "own"), 5)
    reasons.drop(ReasonKind.HYPERVISOR)
    assert (reasons.kept, reasons.since_us) == ((), None)


@given(st.lists(st.integers(0, 10**7), min_size=1, max_size=300))
def test_a_summary_names_pauses_that_were_seen(pauses_us):
    found = summarise(pauses_us)
    assert found is not None
    assert found.max_us == max(pauses_us)
    assert {found.median_us, found.p99_us} <= set(pauses_us)
    for bound_us, part in ((found.median_us, 0.5), (found.p99_us, 0.99)):
        assert sum(pause_us <= bound_us for pause_us in pauses_us) >= part * len(pauses_us)
    assert found.median_us <= found.p99_us


def test_no_pauses_no_summary():
    assert summarise([]) is None


def test_the_history_is_bounded_and_its_counts_are_not():
    history = History()
    rounds = PAUSES_KEPT + 10
    for number in range(rounds):
        history.add(replace(RECORD, epoch=number, pause_us=number))
    history.add(replace(RECORD, outcome=Outcome.ABORTED, pause_us=None))
    assert len(history.last) == HISTORY_RECORDS
    assert (history.committed, history.aborted) == (rounds, 1)
    assert history.count[ReasonKind.DIVERGENCE] == rounds
    pauses = history.pauses()
    assert pauses is not None
    assert pauses.max_us == rounds - 1
    assert summarise(history._pauses_us).median_us >= 10, "the oldest are gone"
