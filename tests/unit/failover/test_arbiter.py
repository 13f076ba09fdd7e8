"""Laws of permission: a suspicion alone grants nothing (but in the laboratory), a grant is final."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pycolo.errors import ConfigError
from pycolo.failover.arbiter import (
    ARBITERS,
    Arbiter,
    Decision,
    FirstToNoticeArbiter,
    ManualArbiter,
    make_arbiter,
)
from pycolo.failover.fencing import FencingArbiter
from pycolo.failover.kinds import ARBITER_KINDS
from pycolo.failover.lease import LeaseArbiter
from pycolo.failover.pacemaker import PacemakerArbiter

FACTS = st.lists(
    st.sampled_from(["suspected", "recovered", "operator_confirmed", "resigned", "timer_fired", "term 0", "term 9"]),
    max_size=12,
)


def apply(arbiter, facts):
    """The verdicts after each fact."""
    verdicts = [arbiter.verdict()]
    for now_ms, fact in enumerate(facts):
        if fact.startswith("term"):
            arbiter.term_seen(int(fact[5:]))
        elif fact == "resigned":
            arbiter.peer_resigned(now_ms, "its QEMU is gone")
        else:
            getattr(arbiter, fact)(now_ms)
        verdicts.append(arbiter.verdict())
    return verdicts


@given(st.sampled_from(sorted(ARBITERS)), FACTS)
def test_a_decision_is_final_and_terms_only_rise(name, facts):
    verdicts = apply(make_arbiter(name, 3), facts)
    for before, after in pairwise(verdicts):
        assert after.term >= before.term
        if before.decision is not Decision.WAIT:
            assert after == before
    for verdict in verdicts:
        assert verdict.text.isprintable()
        if verdict.decision is Decision.GRANTED:
            assert verdict.term == 4


@given(FACTS)
def test_manual_grants_only_what_the_operator_or_the_other_node_said(facts):
    granted = [verdict.decision is Decision.GRANTED for verdict in apply(ManualArbiter(3), facts)]
    said = next((number for number, fact in enumerate(facts) if fact in {"operator_confirmed", "resigned"}), len(facts))
    assert not any(granted[: said + 1])
    if said < len(facts) and "term 9" not in facts[:said]:
        assert all(granted[said + 1 :])


@pytest.mark.parametrize("kind", ARBITER_KINDS)
def test_a_resignation_is_not_called_an_operators_word(kind):
    arbiter = {FencingArbiter.name: FencingArbiter}.get(kind, ARBITERS.get(kind))
    if arbiter is None:
        return  # a lease: see test_arbiters_lease
    said = {"its QEMU is gone": "the other node has resigned: its QEMU is gone", "": "the other node has handed over"}
    for why, text in said.items():
        asked = arbiter(3)
        asked.peer_resigned(1, why)
        assert asked.verdict()[:2] == (Decision.GRANTED, 4)
        assert asked.verdict().text == text


@given(FACTS)
def test_first_to_notice_grants_at_the_first_suspicion(facts):
    verdicts = apply(FirstToNoticeArbiter(3), ["suspected", *facts])
    assert all(verdict.decision is Decision.GRANTED for verdict in verdicts[1:])


@pytest.mark.parametrize("name", ARBITERS)
def test_a_node_that_was_taken_over_from_is_denied(name):
    arbiter = make_arbiter(name, 3)
    arbiter.term_seen(3)
    assert arbiter.verdict().decision is Decision.WAIT
    arbiter.term_seen(5)
    arbiter.suspected(0)
    arbiter.operator_confirmed(1)
    assert arbiter.verdict()[:2] == (Decision.DENIED, 5)
    assert "term 5" in arbiter.verdict().text


def test_manual_tells_the_operator_what_to_do_and_takes_it_back():
    arbiter = ManualArbiter(1)
    idle = arbiter.verdict().text
    arbiter.suspected(0)
    assert "colo failover" in arbiter.verdict().text
    arbiter.recovered(1)
    assert arbiter.verdict().text == idle
    assert arbiter.deadline_ms() is None


def test_the_laboratory_arbiter_says_that_it_is_one():
    arbiter = FirstToNoticeArbiter(1)
    arbiter.suspected(0)
    assert "laboratory" in arbiter.verdict().text
    assert "link alone is cut" in (FirstToNoticeArbiter.__doc__ or "")


def test_a_wrong_name_is_answered_with_the_right_ones():
    with pytest.raises(ConfigError, match="--arbiter: expected one of manual, first-to-notice, found 'etcd'"):
        make_arbiter("etcd", 1)


def test_another_arbiter_is_one_subclass():
    class Lease(Arbiter):
        """Grants when its lease was free at the deadline."""

        name = "lease"

        def suspected(self, now_ms):
            self._wait("asking for the lease")
            self.deadline = now_ms + 100

        def recovered(self, now_ms):
            self.deadline = None

        def timer_fired(self, now_ms):
            self._grant("the lease was free")

        def deadline_ms(self):
            return self.deadline

    lease = Lease(1)
    lease.suspected(5)
    assert lease.verdict().decision is Decision.WAIT
    lease.timer_fired(lease.deadline_ms())
    assert lease.verdict()[:2] == (Decision.GRANTED, 2)


def test_a_node_that_has_resigned_opens_a_term_above_the_one_that_the_other_may_have_recorded() -> None:
    arbiter = ManualArbiter(3)
    arbiter.resigned()
    arbiter.resigned()
    arbiter.paired(3, 0)
    arbiter.operator_confirmed(0)
    assert arbiter.verdict()[:2] == (Decision.GRANTED, 5)


def test_what_was_granted_before_a_resignation_is_no_grant_any_more() -> None:
    arbiter = ManualArbiter(3)
    arbiter.operator_confirmed(0)
    arbiter.resigned()
    assert arbiter.verdict().decision is Decision.WAIT


def test_which_arbiters_may_be_asked_by_a_node_that_has_handed_over() -> None:
    """Those whose question can neither end the other node nor permit what that one does already."""
    kinds = (ManualArbiter, FirstToNoticeArbiter, FencingArbiter, PacemakerArbiter, LeaseArbiter)
    assert {kind.name for kind in kinds if not kind.harms} == {"manual", "etcd"}
