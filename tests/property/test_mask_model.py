"""Noise masks against their definition: for any patterns and streams the same is hidden, and nothing else."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pycolo.compare.noise import tables
from pycolo.model.masks import may_end, rest
from support.examples import examples
from support.noise import EXPRESSIONS, LETTERS, masks, noisy, text
from support.referee import Judged
from support.streams import give

SHORT = st.lists(st.sampled_from(LETTERS), max_size=8).map(bytes)


@examples(200)
@given(expression=EXPRESSIONS, octets=SHORT)
def test_the_definition_is_that_of_the_library(expression, octets):
    matches = {expression}
    for octet in octets:
        matches = {left for match in matches for left in rest(match, octet)}
    assert any(map(may_end, matches)) == (re.fullmatch(text(expression).encode(), octets) is not None)


@pytest.mark.rule("C7", "C1", "C5", "C9")
@examples(300)
@given(
    script=noisy(),
    expressions=st.lists(EXPRESSIONS, max_size=3),
    waits=st.lists(st.sampled_from([0, 0, 1, 5]), max_size=5),
)
def test_scripts(script, expressions, waits):
    trace = Judged(masks=masks(expressions), expressions=expressions)
    assert tables(masks(expressions)).longest == trace.core.tcp.masks.longest
    for place, (side, segment) in enumerate(script.facts):
        if waits and place:
            trace.wait(waits[place % len(waits)])
        give(trace, side, segment)
    trace.wait(10)
    trace.commit()
    trace.wait(10)
