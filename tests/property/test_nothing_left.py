"""Law (c): after all deadlines have passed and nothing is open, memory, rows and records are zero.

For any frames of two guests, without any checkpoint but those that the comparator asks for: what is held, fragments
in the making, what is kept to compare again, what is owed. For any frames of a client and a guest: rows, frames that
wait for a handshake, copies for a takeover.
"""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pycolo import limits
from pycolo.compare.kinds import DivergencePolicy
from support.anything import GIVEN, PRIMARY
from support.rewritereferee import JudgedRewriting
from support.rewritescripts import SCRIPTS, play
from support.segments import Tcp
from support.streams import give, scripts
from support.traces import Comparing

EXAMPLES = settings(max_examples=80)
WAITS = st.sampled_from([1.0, 60.0, 3000.0, 70_000.0])
CLIENTS = st.builds(
    Tcp,
    st.integers(990, 1030),
    st.sampled_from(["A", "A", "FA", "R", "S"]),
    st.sampled_from([b"", b"a"]),
    st.integers(990, 1030),
    from_client=st.just(True),
)
STEPS = st.lists(GIVEN | GIVEN | GIVEN | WAITS | CLIENTS, max_size=40)


def answer(trace: Comparing) -> None:
    """As a shell: what leaves is taken, and a checkpoint that is asked for is made."""
    trace.frames()
    if any(command == "RequestCheckpoint" for command, _, _ in trace.commands()):
        trace.commit()
        trace.frames()


def assert_nothing_is_left(trace: Comparing) -> None:
    """No deadline is further away than that of an idle connection; a row that was pinned is met a second time."""
    for _ in range(40):
        trace.wait(0)
        trace.now_ms += limits.CONNECTION_IDLE_MS / 8
        trace.core.timer_fired(trace.now_us)
        answer(trace)
    core = trace.core
    assert core.table.used == 0
    assert (core.pool.used, core.pool.used_bytes) == (0, 0), "memory of what is held"
    assert (core.history.used, core.history.used_bytes) == (0, 0), "what is kept to compare again"
    assert core.held.asides.used == 0
    assert not any(core.held.asides.nothing()), "the place of all who have nothing aside was written to"
    assert core.primary_fragments.used == core.secondary_fragments.used == 0
    assert core.deadline_us() is None, "it wants to be called for nothing"
    trace.assert_empty()


@pytest.mark.rule("C10")
@EXAMPLES
@given(steps=STEPS, policy=st.sampled_from(list(DivergencePolicy)), needs_handshake=st.booleans())
def test_of_any_two_guests(steps, policy, needs_handshake):
    trace = Comparing(policy=policy, needs_handshake=needs_handshake)
    for step in steps:
        match step:
            case float(ms):
                trace.wait(ms)
            case Tcp():
                trace.client(step)
            case (side, octets):
                trace.primary(octets) if side == PRIMARY else trace.secondary(octets)
        answer(trace)
    assert_nothing_is_left(trace)


@pytest.mark.rule("C10")
@EXAMPLES
@given(script=scripts() | scripts(flipped=True), policy=st.sampled_from(list(DivergencePolicy)), kept=st.data())
def test_of_two_guests_that_say_the_same(script, policy, kept):
    """Or that would, if not some of it got lost."""
    trace = Comparing(policy=policy)
    is_lossy = kept.draw(st.booleans())
    for side, segment in script.facts:
        if not is_lossy or kept.draw(st.integers(0, 4)):
            give(trace, side, segment)
        answer(trace)
    assert_nothing_is_left(trace)


@pytest.mark.rule("C10", "R3")
@EXAMPLES
@given(script=SCRIPTS)
def test_of_a_client_and_a_guest(script):
    trace = JudgedRewriting()
    play(trace, script)
    for _ in range(2):
        trace.wait(limits.CONNECTION_IDLE_MS)
    trace.take_over()
    core = trace.core
    assert core.table.used == 0
    assert (core.copies.pool.used, core.copies.pool.used_bytes) == (0, 0)
    assert (core.held.count, core.held.used_bytes) == (0, 0)


@pytest.mark.parametrize("what", ["pool", "history"])
def test_the_law_can_be_broken(what):
    """The negative control: before the deadlines something is there."""
    trace = Comparing()
    for give_one in (trace.primary, trace.secondary):
        give_one(Tcp(1, "SA", ack=1))
        give_one(Tcp(2, "A", b"kept", ack=1))
    trace.frames()
    assert getattr(trace.core, what).used
    assert_nothing_is_left(trace)
