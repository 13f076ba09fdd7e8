"""The rewriter against its specification, with an honest client, an honest guest, and a stranger who lies."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.examples import examples
from support.rewritereferee import JudgedRewriting
from support.rewritescripts import SCRIPTS, play
from support.segments import NEEDS_CSUM, vnet_header

EXAMPLES = examples(200)


@pytest.mark.rule("R1", "R2", "R3", "R4")
@EXAMPLES
@given(script=SCRIPTS, is_partial=st.booleans())
def test_any_trace(script, is_partial):
    vnet = vnet_header(NEEDS_CSUM) if is_partial else b""
    play(JudgedRewriting(12 if is_partial else None), script, vnet)
