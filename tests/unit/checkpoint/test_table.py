"""The state table is whole: every state is reached and left, every action exists, every command is given."""

import pytest

from pycolo.checkpoint.coordinator import Coordinator
from pycolo.checkpoint.table import RUNNING, TRANSITIONS, Action, Fact, State


def test_every_state_is_reached_and_left():
    reached = {transition.next for (state, _), transition in TRANSITIONS.items() if transition.next is not state}
    left = {state for (state, _), transition in TRANSITIONS.items() if transition.next is not state}
    assert reached == left == set(State)


def test_every_fact_and_action_is_used_and_every_action_is_done():
    assert {fact for _, fact in TRANSITIONS} == set(Fact)
    assert {transition.action for transition in TRANSITIONS.values()} == set(Action)
    assert set(Coordinator()._do) == set(Action)


@pytest.mark.parametrize("state", RUNNING)
def test_a_checkpoint_can_fail_in_every_state(state):
    assert TRANSITIONS[state, Fact.COLO_ENDED][:2] == (State.DISARMED, Action.ABANDON_AND_DISSOLVE)
    assert TRANSITIONS[state, Fact.TIMED_OUT].action is Action.SUSPECT
    assert TRANSITIONS[state, Fact.LOST].next is State.DISARMED


@pytest.mark.parametrize("fact", [Fact.LOST, Fact.COLO_ENDED])
@pytest.mark.parametrize("state", State)
def test_losing_the_pair_disarms_always(state, fact):
    assert TRANSITIONS[state, fact].next is State.DISARMED


@pytest.mark.rule("E1")
def test_only_a_checkpoint_whose_secondary_stopped_is_committed():
    committing = {state for (state, _), transition in TRANSITIONS.items() if transition.action is Action.COMMIT}
    assert committing == {State.SECONDARY_STOPPED, State.PRIMARY_STOPPED}
    into = {state for (state, _), transition in TRANSITIONS.items() if transition.next is State.SECONDARY_STOPPED}
    facts = {fact for (state, fact), t in TRANSITIONS.items() if t.next is State.SECONDARY_STOPPED is not state}
    assert facts == {Fact.SECONDARY_STOPPED}
    assert State.DISARMED not in into


def test_only_committed_counts_an_epoch():
    counting = [key for key, transition in TRANSITIONS.items() if transition.action is Action.COUNT_EPOCH]
    assert counting == [(State.LOADED, Fact.COMMITTED)]
