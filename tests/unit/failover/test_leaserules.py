"""Open grants and the operator's word: what the store's keys allow, and what they do not."""

import pytest

from pycolo.failover.arbiter import Decision
from pycolo.failover.lease import SEIZE_MS
from pycolo.failover.leaserules import Goal, Standing, refusal, terms_with
from pycolo.failover.store import Claim, KeysRead, Record, TermRecord, Terms
from support.leases import TTL_MS, Driver, paired


def granted(a: Driver) -> Driver:
    """`a` is granted a term, and has not served under it."""
    a.core.suspected(a.now_ms)
    a.settle()
    assert a.core.verdict()[:2] == (Decision.GRANTED, 2)
    return a


def serves(a: Driver) -> Driver:
    """It serves under that term, and has renewed its lease since."""
    a.core.acquire_wanted(2)
    return a.settle(a.now_ms + 1_500)


# ── grants under which nothing may have served ──────────────────────────────────────────────────────────────


def test_a_grant_whose_holder_died_before_it_served_makes_no_replica_old():
    a, b = paired()
    granted(a)
    b.core.suspected(b.now_ms)
    b.settle(b.now_ms + 500)
    assert b.core.verdict().decision is Decision.WAIT, "refused for good, it would throw its guest away"
    assert "a holds the lease, under term 2" in b.core.verdict().text
    a.store._end(a.core._lease.id)
    b.settle(b.now_ms + 500)
    assert b.core.verdict().decision is Decision.WAIT
    assert "start its node, or run `colo failover` here" in b.core.verdict().text


def test_the_operator_decides_what_an_open_grant_has_come_to():
    a, b = paired()
    granted(a)
    a.store._end(a.core._lease.id)
    b.core.suspected(b.now_ms)
    b.core.operator_confirmed(b.now_ms)
    b.settle()
    assert b.core.verdict()[:2] == (Decision.GRANTED, 3)
    b.core.acquire_wanted(3)
    a.now_ms = b.settle(b.now_ms + 1_500).now_ms
    a.settle()
    assert a.core.verdict().decision is Decision.DENIED, "b has served since"


def test_a_node_that_comes_back_returns_the_grant_that_it_never_served_under():
    a, b = paired()
    granted(a)
    a.store._end(a.core._lease.id)
    b.core.suspected(b.now_ms)
    b.settle(b.now_ms + 500)
    back = Driver("a", 1, a.store)  # its record still says term 1
    back.settle()
    assert a.store.term[:4] == ("a", 1, 2, "")
    b.settle(b.now_ms + 500)
    assert b.core.verdict()[:2] == (Decision.GRANTED, 3), "no term is granted twice"


def test_a_node_that_may_have_served_returns_nothing():
    a, _ = paired()
    granted(a)
    a.store._end(a.core._lease.id)
    Driver("a", 2, a.store).settle()  # its record says term 2
    assert a.store.term[:4] == ("a", 1, 2, "a")


@pytest.mark.parametrize("has_served", [True, False])
def test_a_grant_that_came_too_late_is_returned_unless_the_node_may_have_served(has_served):
    a, b = paired()
    a.store._end(a.core._lease.id)
    b.core.suspected(b.now_ms)
    b.settle()
    assert b.core.verdict()[:2] == (Decision.GRANTED, 2)
    if has_served:
        b.core.acquire_wanted(2)
    b.core.resigned()
    b.settle()
    a.now_ms += 2_900
    a.settle(a.now_ms + 500)
    assert a.core.verdict().decision is Decision.WAIT
    assert (a.bound_ms() > a.now_ms) is not has_served
    assert a.store.term[3] == ("b" if has_served else "")


def test_the_primary_keeps_its_guest_until_the_other_has_kept_the_lease():
    a, b = paired()
    a.store._end(a.core._lease.id)
    b.core.suspected(b.now_ms)
    b.settle()
    a.now_ms += 2_900
    a.settle(a.now_ms + 300)
    assert a.bound_ms() < a.now_ms, "it releases nothing"
    assert a.core.verdict()[:2] == (Decision.WAIT, 1)
    assert "b holds the lease, under term 2, and may serve at any moment" in a.core.verdict().text
    b.settle(b.now_ms + 1_500)
    a.settle(a.now_ms + 300)
    assert a.core.verdict()[:2] == (Decision.WAIT, 1), "it has not served yet, as long as that takes"
    serves(b)
    a.settle(a.now_ms + 300)
    assert a.core.verdict()[:2] == (Decision.DENIED, 2)


@pytest.mark.parametrize("fault", ["lost", "dropped"])
def test_a_grant_is_closed_whatever_becomes_of_the_answer(fault):
    a, _ = paired()
    granted(a).core.acquire_wanted(2)
    a.now_ms += 1_200
    a.step()  # the renewal
    a.step()  # and the read that confirms it
    a.step(fault)
    a.settle(a.now_ms + 3_000)
    assert a.store.term[:4] == ("a", 2, 2, "")


# ── the operator ────────────────────────────────────────────────────────────────────────────────────────────


def test_the_operators_word_waits_until_the_other_nodes_lease_has_ended():
    a, b = paired()
    b.core.operator_confirmed(b.now_ms)
    b.settle(b.now_ms + 1_000)
    assert b.core.verdict().decision is Decision.WAIT
    assert "if it renews the lease, a is not down" in b.core.verdict().text
    assert a.store.server.holder == "a"
    a.store._end(a.core._lease.id)
    b.settle(b.now_ms + 500)
    assert b.core.verdict()[:2] == (Decision.GRANTED, 2)
    assert b.bound_ms() > b.now_ms
    a.now_ms = serves(b).now_ms
    a.settle()
    assert a.core.verdict()[:2] == (Decision.DENIED, 2)


def test_the_operators_word_ends_with_the_suspicion():
    a, b = paired()
    b.core.operator_confirmed(b.now_ms)
    b.settle(b.now_ms + 500)
    b.core.recovered(b.now_ms)
    a.store._end(a.core._lease.id)
    b.settle(b.now_ms + 5_000)
    assert b.core.verdict()[:2] == (Decision.WAIT, 1)
    assert not any(isinstance(request, Claim) for request in b.asked)


def test_the_operators_word_does_not_undo_what_was_served():
    a, b = paired()
    serves(granted(a))
    b.core.operator_confirmed(b.now_ms)
    b.settle()
    assert b.core.verdict()[:2] == (Decision.DENIED, 2)


def test_the_operators_word_makes_up_for_a_store_that_has_forgotten():
    a, b = paired()
    a.store.server = a.store.term = None
    b.core.operator_confirmed(b.now_ms)
    b.settle()
    assert b.core.verdict()[:2] == (Decision.GRANTED, 2)


def unbound() -> Driver:
    """A secondary that serves by the operator's word; the store does not answer."""
    _, b = paired()
    b.core.operator_confirmed(b.now_ms)
    began_ms = b.now_ms
    while b.core.verdict().decision is Decision.WAIT:
        assert b.step("dropped")
        b.now_ms += 250
    assert b.now_ms - began_ms >= max(SEIZE_MS, TTL_MS), "whatever the other node was granted last has ended"
    assert b.core.verdict()[:2] == (Decision.GRANTED, 2)
    assert b.bound_ms() is None
    b.core.acquire_wanted(2)
    return b


def test_the_operator_is_believed_when_the_store_does_not_answer():
    b = unbound()
    b.settle(b.now_ms + 500)
    assert b.bound_ms() > b.now_ms
    assert b.core.verdict().term == b.store.term.term == 2
    assert b.store.term.grantee == ""


@pytest.mark.parametrize("question", [False, True])
def test_a_new_question_does_not_stop_a_node_that_serves_by_the_operators_word(question):
    b = unbound()
    b.core.paired(2, b.now_ms)
    if question:
        b.core.suspected(b.now_ms)
    b.step("dropped")
    assert b.bound_ms() is None
    b.settle(b.now_ms + 500)
    assert b.bound_ms() > b.now_ms, "etcd answers again: its lease binds"
    expected = (Decision.GRANTED, 3) if question else (Decision.WAIT, 2)
    assert b.core.verdict()[:2] == expected


# ── the rules ───────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("server", "term", "node", "said", "is_final"),
    [
        (None, None, Standing("a", Goal.ACQUIRE, 0, 0), None, False),
        (("a", 1), ("a", 1, 1, ""), Standing("a", Goal.ACQUIRE, 1, 0), None, False),
        (("a", 1), ("a", 1, 1, ""), Standing("a", Goal.TAKE_OVER, 1, 0), "until it has run out", False),
        (("a", 1), ("a", 1, 1, ""), Standing("a", Goal.GO_ALONE, 1, 1), "must not serve", True),
        (("b", 1), ("b", 1, 1, ""), Standing("a", Goal.TAKE_OVER, 1, 0), "until it has run out", False),
        (("b", 2), ("b", 2, 2, ""), Standing("a", Goal.TAKE_OVER, 1, 0), "must not serve", True),
        (("b", 2), ("b", 2, 2, ""), Standing("a", Goal.SEIZE, 1, 0), "must not serve", True),
        (("b", 2), ("a", 1, 2, "b"), Standing("a", Goal.NONE, 1, 1), "this node waits", False),
        (("b", 2), ("a", 1, 2, ""), Standing("a", Goal.NONE, 1, 1), "this node waits", False),
        (None, ("a", 1, 2, "b"), Standing("a", Goal.NONE, 1, 1), "start its node", False),
        (None, ("a", 1, 2, "b"), Standing("a", Goal.SEIZE, 1, 1), None, False),
        (None, ("a", 1, 2, ""), Standing("a", Goal.GO_ALONE, 1, 1), None, False),
        (None, ("a", 1, 2, ""), Standing("b", Goal.TAKE_OVER, 1, 0), None, False),
        (None, ("b", 2, 2, ""), Standing("a", Goal.GO_ALONE, 1, 1), "state is older", True),
        (None, ("b", 2, 3, "b"), Standing("a", Goal.SEIZE, 1, 0), "state is older", True),
        (None, ("b", 1, 1, ""), Standing("a", Goal.ACQUIRE, 1, 0), "state is older", True),
        (None, ("a", 1, 1, ""), Standing("b", Goal.TAKE_OVER, 2, 0), "is it the same etcd", False),
        (None, ("a", 1, 2, ""), Standing("b", Goal.TAKE_OVER, 2, 0), None, False),
        (None, None, Standing("b", Goal.TAKE_OVER, 1, 0), "etcd holds no term", False),
        (None, None, Standing("b", Goal.SEIZE, 1, 0), None, False),
    ],
)
def test_what_the_keys_allow(server, term, node, said, is_final):
    keys = KeysRead(server and Record(*server, 7, 4), term and TermRecord(*term, 5), 2)
    found = refusal(keys, node)
    if said is None:
        assert found is None
    else:
        assert said in found.text
        assert found.is_final is is_final


def test_a_claim_of_a_node_that_serves_already_is_not_open():
    keys = KeysRead(None, TermRecord("a", 1, 3, "b", 5), 2)
    assert keys.highest_term == 3
    assert terms_with(keys, Standing("a", Goal.TAKE_OVER, 1, 0), 4) == Terms("a", 1, 4, "a")
    assert terms_with(keys, Standing("a", Goal.NONE, 1, 1), 1) == Terms("a", 1, 3)
    assert terms_with(KeysRead(None, None, 2), Standing("a", Goal.ACQUIRE, 0, 0), 1) == Terms("a", 1, 1)
