"""The comparator against the specification: for every trace what left was allowed, and what must leave has left."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.examples import examples
from support.referee import Judged
from support.segments import Tcp
from support.streams import PRIMARY, SECONDARY, give, scripts

EXAMPLES = examples(300)


@pytest.mark.rule("C1", "C2", "C3", "C5", "C9", "C11")
@EXAMPLES
@given(
    script=scripts() | scripts(flipped=True),
    waits=st.lists(st.sampled_from([0, 0, 1, 5, 40]), max_size=5),
    commits_input=st.booleans(),
)
def test_scripts(script, waits, commits_input):
    trace = Judged(commits_input=commits_input)
    for place, (side, segment) in enumerate(script.facts):
        if waits and place:
            trace.wait(waits[place % len(waits)])
        give(trace, side, segment)
    trace.wait(10)
    trace.commit()
    trace.wait(10)


@pytest.mark.rule("C3")
def test_an_older_ack_waits_behind_one_that_runs_ahead():
    """Packets leave in the order in which the primary sent them, though the older ack is one of both (C3)."""
    trace = Judged()
    give(trace, PRIMARY, Tcp(0, "SA", ack=1))
    give(trace, SECONDARY, Tcp(0x51515151, "SA", ack=1))
    give(trace, SECONDARY, Tcp(4, "A", b"ahead", ack=2))
    give(trace, PRIMARY, Tcp(4, "A", ack=3))
    give(trace, PRIMARY, Tcp(1, "A", ack=2))
    assert [segment.ack for segment in trace.out()] == [1]
    give(trace, SECONDARY, Tcp(9, "A", ack=3))
    assert [segment.ack for segment in trace.out()] == [3, 2]
