"""Long random walks of two pair tables: deeper than the exhaustive search, with more that goes wrong at once.

And facts in any order, with any numbers, for one table: none is an error, and a term never goes back.
"""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pycolo.failover.pair import Pair, Record, Settings, Told, restarted
from pycolo.failover.pairstates import Fact, Role, State
from support.pairlife import Life
from support.pairworld import Budget, Rules, broken_law, protected, steps, unprotected

UNLUCKY = Budget(faults=4, cuts=4, repeats=4, pauses=4, words=3)


@pytest.mark.parametrize("arbiter", ["manual", "command", "etcd"])
@given(choices=st.lists(st.integers(0, 10_000), min_size=20, max_size=250), is_formed=st.booleans())
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
def test_walks_keep_the_laws(arbiter: str, choices: list[int], is_formed: bool) -> None:
    rules = Rules(arbiter, is_wished=True)
    world = protected(rules, UNLUCKY) if is_formed else unprotected(rules, UNLUCKY)
    way = []
    for choice in choices:
        possible = list(steps(world, rules))
        name, world = possible[choice % len(possible)]
        way.append(name)
        assert not broken_law(world, rules), f"{broken_law(world, rules)}, after {way}"
    for delivers in (True, False):
        law = Life(rules, delivers=delivers, restarts=True).law(world)
        assert not law, f"{law}, after {way}"


told = st.builds(
    Told, term=st.integers(0, 6), link=st.integers(0, 6), ask=st.integers(0, 6), role=st.sampled_from([None, *Role])
)


@given(
    facts=st.lists(st.tuples(st.sampled_from(list(Fact)), told, st.integers(0, 4_000)), max_size=80),
    role=st.sampled_from(list(Role)),
    was_protected=st.booleans(),
    has_guest=st.booleans(),
)
def test_no_fact_in_any_state_is_an_error_and_no_term_goes_back(facts, role, was_protected, has_guest) -> None:
    record = Record(role, 2, was_protected, True)
    pair, _ = restarted(Settings(timeout_ms=150, head_start_ms=2_000), record, has_guest=has_guest)
    now_ms = 0
    for fact, with_it, later_ms in facts:
        now_ms += later_ms
        passed, _ = pair.deadline_passed(now_ms)
        after, _ = passed.happened(fact, now_ms, with_it)
        assert after.term >= passed.term >= pair.term
        assert after.record().term >= after.term
        assert after.link in (0, after.last_link)
        assert after.deadline_ms is None or after.deadline_ms >= now_ms or after.deadline_ms == passed.deadline_ms
        pair = after


@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize("fact", Fact)
def test_every_fact_in_every_state(state: State, fact: Fact) -> None:
    pair = Pair(Settings(timeout_ms=150), state, 3, link=2, last_link=2, asked=1, doubt=1)
    for one in (Told(), Told(term=9), Told(link=2, ask=1), Told(link=3, ask=1)):
        after, _ = pair.happened(fact, 10, one)
        assert after.state in State
