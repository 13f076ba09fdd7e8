"""The comparator against the specification: for every trace what left was allowed, and what must leave has left."""

from hypothesis import given, settings
from hypothesis import strategies as st

from support.referee import Judged
from support.streams import give, scripts

EXAMPLES = settings(max_examples=300)


@EXAMPLES
@given(
    script=scripts() | scripts(flipped=True),
    waits=st.lists(st.sampled_from([0, 0, 1, 5, 40]), max_size=5),
    commits_input=st.booleans(),
)
def test_scripts(compiled, script, waits, commits_input):
    trace = Judged(compiled, commits_input=commits_input)
    for place, (side, segment) in enumerate(script.facts):
        if waits and place:
            trace.wait(waits[place % len(waits)])
        give(trace, side, segment)
    trace.wait(10)
    trace.commit()
    trace.wait(10)
