"""Rows in memory that outlives the process: a rewriter that reads them goes on where the other one was killed."""

from hypothesis import given, settings
from hypothesis import strategies as st

from pycolo.core import SAVED_SLOT_BYTES
from support.offsetsteps import FLOWS, flows_without_answer, give, known, of_rows, segments
from support.segments import read
from support.traces import Rewriting

EXAMPLES = settings(max_examples=60)
SALT = 0x0123456789ABCDEF
VERSION_BYTES = SAVED_SLOT_BYTES // 2
STEPS = st.lists(segments(), max_size=20)


def survivor(before):
    """A rewriter after its takeover, and the memory of its rows."""
    trace = Rewriting()
    give(trace, before)
    trace.core.takeover()
    trace.to_client()
    memory = bytearray(trace.core.saved.needed_bytes())
    trace.core.saved.begin(memory, SALT)
    return trace, memory


def started_again(memory):
    """A rewriter that reads them, and how many it could not read."""
    trace = Rewriting()
    unreadable = trace.core.read_rows(bytearray(memory), SALT, 0)
    return trace, unreadable


@EXAMPLES
@given(before=STEPS, during=STEPS, after=st.lists(segments(), max_size=10))
def test_it_translates_as_the_one_that_was_killed(before, during, after):
    one, memory = survivor(before)
    give(one, during)
    two, unreadable = started_again(memory)
    assert unreadable == 0
    assert two.core.is_serving
    assert two.core.saved.used == one.core.saved.used == len(of_rows(one)) + awaiting(one)
    unanswered = flows_without_answer(before + during) | flows_without_answer(before) | flows_without_answer(during)
    assert of_rows(two) == of_rows(one)
    after = [step for step in after if read(step[1]).flow not in unanswered and "S" not in read(step[1]).flags]
    assert give(two, after) == give(one, after)


def awaiting(trace):
    """Connections whose offset the client's next segment will show."""
    return trace.core.saved.used - len(of_rows(trace))


@EXAMPLES
@given(before=STEPS, during=STEPS)
def test_any_number_of_restarts_change_nothing(before, during):
    one, memory = survivor(before)
    for step in during:
        give(one, [step])
        two, unreadable = Rewriting(), None
        unreadable = two.core.read_rows(memory, SALT, 0)
        assert unreadable == 0
        assert of_rows(two) == of_rows(one)
        one = two


@EXAMPLES
@given(before=STEPS, during=STEPS, data=st.data())
def test_killed_between_any_two_stores_each_row_is_the_old_one_or_the_new(before, during, data):
    """A change is a checksum of 0, then bytes of its version in order, then the checksum."""
    one, memory = survivor(before)
    for step in during:
        old, old_rows = bytes(memory), of_rows(one)
        give(one, [step])
        new, new_rows = bytes(memory), of_rows(one)
        changed = [
            at
            for at in range(0, len(old), VERSION_BYTES)
            if old[at : at + VERSION_BYTES] != new[at : at + VERSION_BYTES]
        ]
        if not changed:
            continue
        at = changed[0]
        kept = data.draw(st.integers(8, VERSION_BYTES), label="bytes stored")
        torn = bytearray(old)
        torn[at : at + kept] = bytes(8) + new[at + 8 : at + kept]
        two, unreadable = started_again(torn)
        found = of_rows(two)
        assert unreadable == 0
        for flow in FLOWS:
            assert found.get(flow) in (old_rows.get(flow), new_rows.get(flow))


@EXAMPLES
@given(data=st.data())
def test_damage_makes_a_row_old_or_absent_and_never_another_one(data):
    trace = Rewriting()
    for number, flow in enumerate(FLOWS):
        known(trace, flow, 100, 7000 + number)
    trace.core.takeover()
    memory = bytearray(trace.core.saved.needed_bytes())
    trace.core.saved.begin(memory, SALT)
    written = of_rows(trace)
    assert len(written) == len(FLOWS)
    for at, octets in data.draw(
        st.lists(st.tuples(st.integers(0, len(memory) - 1), st.binary(min_size=1)), max_size=8)
    ):
        memory[at : at + len(octets)] = octets[: len(memory) - at]
    two, unreadable = started_again(memory)
    found = of_rows(two)
    assert found.items() <= written.items()
    assert unreadable >= len(written) - len(found)


@EXAMPLES
@given(octets=st.binary(max_size=5 * SAVED_SLOT_BYTES), after=STEPS)
def test_whatever_the_memory_holds_the_rewriter_works_on(octets, after):
    two = Rewriting()
    assert two.core.read_rows(bytearray(octets), SALT, 0) == len(octets) // SAVED_SLOT_BYTES
    give(two, after)
