"""Sums over checkpoint records."""

import json
from itertools import accumulate

from hypothesis import given
from hypothesis import strategies as st

from pycolo.metrics.tally import PAUSE_BOUNDS_US, CheckpointTally, PauseHistogram


@given(st.lists(st.integers(0, 10_000_000)))
def test_each_pause_is_in_the_first_bucket_that_has_room_for_it(pauses_us):
    histogram = PauseHistogram()
    for pause_us in pauses_us:
        histogram.add(pause_us)
    status = json.loads(json.dumps(histogram.status()))
    assert status["sum_us"] == sum(pauses_us)
    bounds = [bound for bound, _ in status["buckets"]]
    assert bounds == [*PAUSE_BOUNDS_US, None]
    cumulative = list(accumulate(count for _, count in status["buckets"]))
    for bound, count in zip(bounds[:-1], cumulative[:-1], strict=True):
        assert count == sum(pause_us <= bound for pause_us in pauses_us)
    assert cumulative[-1] == len(pauses_us)


def record(outcome="committed", pause_ms=6.2, kinds=("divergence",), **numbers):
    return {
        "epoch": 7,
        "reasons": [{"kind": kind, "text": "…", "connection": None} for kind in kinds],
        "outcome": outcome,
        "pause_ms": pause_ms,
        "released_frames": 12,
        "released_bytes": 3456,
        "discarded_frames": 3,
        **numbers,
    }


def test_a_committed_checkpoint_counts_once_for_the_reason_that_asked_first():
    tally = CheckpointTally()
    for kinds in (("divergence", "periodic"), ("periodic",), ("divergence", "timeout")):
        tally.take(record(kinds=kinds))
    assert tally.status()["count"] == {"divergence": 2, "periodic": 1}
    assert tally.status()["released_frames"] == 36
    assert tally.status()["released_bytes"] == 3 * 3456
    assert tally.status()["discarded_frames"] == 9


def test_the_parts_of_checkpoints_add_up():
    tally = CheckpointTally()
    for write_ms in (1.5, 2.25):
        tally.take(record() | {"parts_ms": {"write": write_ms, "load": 4.0}})
    tally.take(record() | {"parts_ms": None})
    assert tally.status()["parts_sum_s"] == {"write": 0.00375, "load": 0.008}


def test_an_aborted_one_counts_apart_and_its_pause_only_if_there_was_one():
    tally = CheckpointTally()
    tally.take(record("aborted", pause_ms=None, released_frames=0))
    tally.take(record("aborted", pause_ms=80.0, released_frames=None))
    status = tally.status()
    assert (status["count"], status["aborted"], status["released_frames"]) == ({}, 2, 0)
    assert status["pause_histogram"]["sum_us"] == 80_000
    assert sum(count for _, count in status["pause_histogram"]["buckets"]) == 1


def test_a_checkpoint_without_a_reason_is_counted_all_the_same():
    tally = CheckpointTally()
    tally.take(record(kinds=()))
    assert tally.status()["count"] == {"unknown": 1}
