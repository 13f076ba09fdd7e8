"""Laws of the lease's core, without time or a network: what it asks next, and what it believes.

That two nodes never both serve is shown in tests/simulation/test_two_nodes_serve.py.
"""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pycolo.failover.arbiter import Decision
from pycolo.failover.store import (
    Claim,
    Claimed,
    GrantLease,
    KeysRead,
    LeaseGone,
    LeaseRenewed,
    ReadKeys,
    Record,
    RenewLease,
    RevokeLease,
    TermRecord,
)
from support.leases import MS, TTL_MS, Driver, ModelStore, paired

# ── the bound ───────────────────────────────────────────────────────────────────────────────────────────────


def test_the_bound_counts_from_before_the_request_and_leaves_a_margin():
    a = Driver().holding()
    assert [type(request) for request in a.asked] == [ReadKeys, GrantLease, Claim]
    assert a.bound_ms() == 1000 + TTL_MS - TTL_MS / 10
    a.now_ms = 2000
    request = a.core.request(a.now_ms * MS)
    assert isinstance(request, RenewLease)
    a.now_ms = 2400  # a slow answer
    a.core.answered(LeaseRenewed(3, a.store.raft_term), a.now_ms * MS)
    assert a.bound_ms() == 3700, "not confirmed yet"
    assert a.step()
    assert a.bound_ms() == 2000 + 2700


def test_a_renewal_of_an_old_leader_does_not_count():
    a = Driver().holding()
    a.now_ms = 2000
    a.core.request(a.now_ms * MS)
    a.core.answered(LeaseRenewed(3, a.store.raft_term - 1), a.now_ms * MS)
    a.step()
    assert a.bound_ms() == 3700
    assert not a.step(), "not again at once"
    a.now_ms = 2200
    a.step()
    a.step()
    assert a.bound_ms() == 2200 + 2700


def test_under_a_new_leader_the_key_moves_to_a_new_lease():
    a, _ = paired()
    old = a.store.server.lease
    a.store.change_leader(a.now_ms, 5000)
    a.now_ms = 2000
    a.asked.clear()
    a.settle()
    assert [type(request) for request in a.asked] == [RenewLease, ReadKeys, GrantLease, Claim]
    assert a.store.server.lease != old
    assert a.store.term.term == a.core.verdict().term == 1
    assert a.bound_ms() == 2000 + 2700
    a.now_ms = 3000
    a.settle()
    assert a.bound_ms() == 3000 + 2700


def test_a_lease_granted_while_the_leader_changed_is_not_used():
    a = Driver("a")
    a.core.acquire_wanted()
    a.step()
    a.store.raft_term += 1
    a.settle()
    assert [type(request) for request in a.asked] == [ReadKeys, GrantLease, ReadKeys, Claim]
    assert a.core._lease.raft_term == a.store.raft_term


def test_nothing_may_be_released_before_and_after():
    a = Driver()
    assert a.bound_ms() == 0
    a.holding()
    a.core.resigned()
    assert a.bound_ms() == 0
    a.settle()
    assert [type(request) for request in a.asked[-2:]] == [RevokeLease, ReadKeys]
    assert a.store.server is None
    assert not a.core.is_resigning


def test_a_lease_that_ran_out_is_taken_again_under_the_same_term():
    a, _ = paired()
    a.store._end(a.core._lease.id)
    a.now_ms = 5000
    assert a.bound_ms() < a.now_ms
    a.settle()
    assert a.core.verdict()[:2] == (Decision.WAIT, 1)
    assert a.bound_ms() > a.now_ms
    assert a.store.term.term == 1


def test_a_key_that_is_anothers_fences_and_what_is_left_is_given_back():
    a, _ = paired()
    a.store.server, a.store.term = Record("b", 5, 0, 99), TermRecord("b", 5, 5, "", 99)
    a.now_ms = 2000
    a.settle()
    assert a.core.verdict()[:2] == (Decision.DENIED, 5)
    assert a.bound_ms() == 0
    assert a.store.leases == {}


def test_a_key_of_another_process_of_this_node_fences():
    a, _ = paired()
    a.store.server = a.store.server._replace(lease=4711)
    a.now_ms = 2000
    a.settle()
    assert a.core.verdict().decision is Decision.DENIED


# ── permission ──────────────────────────────────────────────────────────────────────────────────────────────


def test_the_secondary_waits_until_the_key_is_gone():
    a, b = paired()
    b.core.suspected(b.now_ms)
    b.settle(5000)
    assert b.core.verdict().decision is Decision.WAIT
    assert "a holds the lease, under term 1" in b.core.verdict().text
    assert all(isinstance(request, ReadKeys) for request in b.asked)
    b.store._end(a.core._lease.id)
    b.settle(5400)
    assert b.core.verdict()[:2] == (Decision.GRANTED, 2)
    assert b.bound_ms() > 5000


def test_the_secondary_gives_up_when_the_other_is_heard_again():
    _, b = paired()
    b.core.suspected(b.now_ms)
    b.step()
    b.core.recovered(b.now_ms)
    assert b.core.due_ns() is None
    assert b.core.verdict().text == "the other node is not suspected"


@pytest.mark.parametrize("when", ["read", "asked"])
def test_an_answer_that_comes_after_the_other_was_heard_again_does_no_harm(when):
    a, b = paired()
    b.core.suspected(b.now_ms)
    request = b.core.request(b.now_ms * MS)
    b.core.recovered(b.now_ms)
    if when == "read":
        b.core.answered(b.store.apply(request, b.now_ms), b.now_ms * MS)
    else:
        b.core.unanswered("no answer", b.now_ms * MS)
    assert b.core.verdict().decision is Decision.WAIT
    b.settle(b.now_ms + 10_000)
    assert a.store.server.holder == "a"
    assert b.core.due_ns() is None


def test_going_alone_shuts_the_other_out_for_good():
    a, b = paired()
    a.core.suspected(a.now_ms)
    a.settle()
    a.core.acquire_wanted(2)
    a.settle(a.now_ms + 1_500)  # it serves, and has renewed its lease since
    assert a.core.verdict()[:2] == (Decision.GRANTED, 2)
    assert a.store.term[:4] == ("a", 2, 2, "")
    a.store._end(a.core._lease.id)  # and then it dies
    b.core.suspected(b.now_ms)
    b.settle()
    assert b.core.verdict()[:2] == (Decision.DENIED, 2)
    assert "this node's state is older" in b.core.verdict().text


def test_a_store_without_the_pairs_term_grants_no_takeover():
    a, b = paired()
    for forgotten in (None, a.store.term._replace(term=0, granted=0)):
        a.store.server, a.store.term = None, forgotten
        b.core.suspected(b.now_ms)
        b.settle(b.now_ms + 1000)
        assert b.core.verdict().decision is Decision.WAIT
        assert "is it the same etcd" in b.core.verdict().text


def test_a_node_that_comes_back_serves_only_if_the_other_has_not_since():
    a, _ = paired()
    a.store._end(a.core._lease.id)
    assert Driver("a", 1, a.store).holding().core.verdict()[:2] == (Decision.WAIT, 2)
    a.store.server = None
    late = Driver("b", 1, a.store).holding()
    assert late.core.verdict().decision is Decision.DENIED
    assert "a was granted term 2" in late.core.verdict().text


def test_a_higher_term_of_the_other_node_is_written_before_it_is_used():
    a = Driver("a").holding()
    a.core.acquire_wanted(7)
    assert a.core.is_acquiring
    a.settle()
    assert not a.core.is_acquiring
    assert a.store.term.term == a.core.verdict().term == 8


def test_a_suspicion_while_the_lease_is_asked_for_is_not_forgotten():
    a = Driver("a")
    a.core.acquire_wanted()
    a.core.suspected(a.now_ms)
    a.settle()
    assert a.core.verdict()[:2] == (Decision.GRANTED, 2)


# ── answers that never came ─────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("fault", ["lost", "dropped"])
def test_a_claim_without_an_answer_is_looked_up_and_the_same_claim_is_sent_again(fault):
    a, b = paired()
    a.store._end(a.core._lease.id)
    b.core.suspected(b.now_ms)
    while not isinstance(b.asked[-1] if b.asked else None, GrantLease):
        b.step()
    b.step(fault)
    assert b.core.verdict().decision is Decision.WAIT
    b.core.recovered(b.now_ms)
    assert b.core.verdict().decision is Decision.WAIT, "but the claim may have been done"
    b.settle(b.now_ms + 1000)
    assert b.core.verdict()[:2] == (Decision.GRANTED, 2)
    assert len({request for request in b.asked if isinstance(request, Claim)}) == 1


def test_a_claim_on_its_way_is_an_act_that_cannot_be_called_back():
    a, b = paired()
    a.core.resigned()
    a.settle()
    b.core.suspected(b.now_ms)
    assert not b.core.is_acting
    while not isinstance(request := b.core.request(b.now_ms * MS), Claim):
        b.core.answered(b.store.apply(request, b.now_ms), b.now_ms * MS)
    assert b.core.is_acting
    b.core.recovered(b.now_ms)
    b.core.unanswered("no answer", b.now_ms * MS)
    assert b.core.is_acting, "it may still be done"
    b.settle(b.now_ms + 1000)
    assert not b.core.is_acting


def test_a_claim_that_can_no_longer_be_done_is_given_up_with_the_suspicion():
    a, b = paired()
    a.store._end(a.core._lease.id)
    b.core.suspected(b.now_ms)
    b.step()
    b.step()
    b.step("dropped")
    b.core.recovered(b.now_ms)
    a.now_ms = 2000
    a.settle()
    b.settle(2000)
    assert a.store.server.holder == "a"
    assert b.core.verdict()[:2] == (Decision.WAIT, 1)
    assert b.core.due_ns() is None


def test_a_claim_whose_lease_is_gone_is_made_under_a_new_one():
    a, b = paired()
    a.store._end(a.core._lease.id)
    b.core.suspected(b.now_ms)
    b.step()
    b.step()
    b.store._end(b.core._spare.id)
    b.settle()
    assert b.core.verdict()[:2] == (Decision.GRANTED, 2)
    assert len([request for request in b.asked if isinstance(request, GrantLease)]) == 2


@given(st.lists(st.sampled_from(["", "", "lost", "dropped"]), max_size=30), st.sampled_from(["a", "b"]))
def test_no_loss_of_answers_grants_what_the_store_has_not(faults, who):
    a, b = paired()
    one = a if who == "a" else b
    if one is b:
        a.store._end(a.core._lease.id)
    one.core.suspected(one.now_ms)
    for fault in faults:
        one.now_ms += 50
        one.step(fault)
        verdict = one.core.verdict()
        server = a.store.server
        if verdict.decision is Decision.GRANTED:
            assert server is not None
            assert (server.holder, server.term) == (who, verdict.term)
    one.settle(one.now_ms + 1000)
    assert one.core.verdict()[:2] == (Decision.GRANTED, 2)


@given(
    st.lists(
        st.sampled_from(["suspected", "recovered", "operator", "paired", "acquire", "resign", "wait", "elect"])
        | st.sampled_from(["", "lost", "dropped", "else"]),
        max_size=60,
    )
)
def test_whatever_happens_the_bound_is_never_beyond_the_stores_lease(facts):
    """But by the operator's word; terms only rise; and the core asks one thing at a time."""
    a = Driver("a")
    terms = [0]
    for fact in facts:
        match fact:
            case "suspected" | "recovered":
                getattr(a.core, fact)(a.now_ms)
            case "operator":
                a.core.operator_confirmed(a.now_ms)
            case "paired":
                a.core.paired(a.core.verdict().term, a.now_ms)
            case "acquire":
                a.core.acquire_wanted()
            case "resign":
                a.core.resigned()
            case "wait":
                a.now_ms += 700
                a.store.scan(a.now_ms)
            case "elect":
                a.store.change_leader(a.now_ms, 1500)
            case "else":
                if a.store.server is None:
                    a.store.term = TermRecord("b", terms[-1] + 1, terms[-1] + 1, "", a.store.revision + 1)
                    a.store.revision += 2
            case _:
                a.step(fact)
        terms.append(a.core.verdict().term)
        bound_ms = a.bound_ms()
        if bound_ms is not None and bound_ms > a.now_ms:
            assert a.store.server is not None
            assert a.store.server.holder == "a"
            assert bound_ms <= a.store.leases[a.store.server.lease][1]
        a.now_ms += 10
    assert terms == sorted(terms)


def test_the_text_says_what_is_wrong_and_what_it_means():
    a, b = paired()
    a.now_ms = 2000
    a.step("dropped")
    assert a.core.verdict().text == (
        "etcd: no answer; this node goes on until its lease ends, then holds everything back"
    )
    b.core.suspected(b.now_ms)
    b.step("dropped")
    assert b.core.verdict().text == "etcd: no answer; nothing is granted without it"
    a.settle(2500)
    assert a.core.verdict().text == "the other node is not suspected"


def test_answers_of_the_wrong_kind_are_bugs():
    a = Driver("a")
    a.core.acquire_wanted()
    a.core.request(0)
    with pytest.raises(AssertionError, match="is no answer to"):
        a.core.answered(Claimed(is_done=True), 0)


def test_the_models_keys_are_those_of_the_store():
    store = ModelStore(random.Random(1))
    assert store.apply(ReadKeys(), 0) == KeysRead(None, None, 2)
    assert store.apply(RenewLease(1), 0) == LeaseGone()


# ── the key is handed over ──────────────────────────────────────────────────────────────────────────────────


def test_the_successor_gets_the_key_as_soon_as_it_is_returned():
    a, b = paired()
    b.core.peer_resigned(b.now_ms, "it hands over")
    b.settle(b.now_ms + 40)
    assert b.core.verdict().decision is Decision.WAIT
    a.now_ms = b.now_ms
    a.core.resigned()
    a.settle()
    b.settle(b.now_ms + 80)
    assert b.core.verdict().decision is Decision.GRANTED


@given(st.integers(1, 20_000))
def test_a_key_that_is_not_returned_is_asked_for_ever_less(waited_ms):
    a, b = paired()
    a.store.leases[a.store.server.lease] = (TTL_MS, 1e9)
    b.core.peer_resigned(b.now_ms, "it hands over")
    b.settle(b.now_ms + waited_ms)
    assert len(b.asked) <= 6 + waited_ms / 200


def test_two_takeovers_may_follow_each_other_at_once():
    """The pair that the second one ends works under the term of the first: its grant needs no renewal before."""
    a, b = paired()
    for term, (one, other) in enumerate(((a, b), (b, a)), start=2):
        one.core.resigned()
        one.settle()
        other.now_ms = one.now_ms
        other.core.peer_resigned(other.now_ms, "it hands over")
        other.settle()
        assert other.core.verdict().decision is Decision.GRANTED
        other.core.acquire_wanted(term)
        for node in (one, other):
            node.core.paired(term, node.now_ms)
    assert a.store.term.granted == 3
