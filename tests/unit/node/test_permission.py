"""The arbiter's part of a node, the gate, and what is said over a link."""

import asyncio

import pytest

from pycolo.errors import StateError
from pycolo.failover.arbiter import FirstToNoticeArbiter, ManualArbiter
from pycolo.failover.pairstates import Fact, Release
from pycolo.link.orders import Order, decode_order, encode_order
from pycolo.node.gate import WITHOUT_BOUND, Gate
from pycolo.node.peerrpc import OPEN_MAX, PeerRpc
from pycolo.node.permission import Permission, run_core


def with_permission(core, work, term=3):
    """What `work(permission)` has made it tell."""

    async def run():
        told = []
        permission = Permission(run_core(core), lambda fact, what: told.append((fact, what.term)), lambda: term)
        await permission.start()
        work(permission)
        await permission.close()
        return told

    return asyncio.run(run())


def test_a_grant_is_above_the_term_of_the_moment_not_above_that_of_the_start():
    assert with_permission(FirstToNoticeArbiter(0), lambda permission: permission.ask()) == [(Fact.GRANTED, 4)]


def test_each_suspicion_is_a_question_of_its_own():
    def work(permission):
        permission.ask()
        permission.ask()
        permission.withdraw()
        permission.ask()

    assert with_permission(FirstToNoticeArbiter(0), work) == [(Fact.GRANTED, term) for term in (4, 5, 6)]


def test_a_question_that_was_withdrawn_is_not_answered_by_a_later_word():
    def work(permission):
        permission.ask()
        assert permission.says.startswith("waiting for the operator")
        permission.withdraw()
        assert permission.says == "the other node is not suspected"
        permission.ask()
        permission.operator_confirmed()

    assert with_permission(ManualArbiter(0), work) == [(Fact.GRANTED, 4)]


def test_a_resignation_needs_no_question_before():
    told = with_permission(ManualArbiter(0), lambda permission: permission.peer_resigned("its guest is gone"))
    assert told == [(Fact.GRANTED, 4)]


@pytest.mark.parametrize(
    ("release", "trusted", "lease", "until"),
    [
        (Release.NOTHING, 9, None, 0),
        (Release.TRUSTED, 9, None, 9),
        (Release.TRUSTED, 9, 5, 5),
        (Release.FREELY, 9, None, WITHOUT_BOUND),
        (Release.FREELY, 9, 5, 5),
        (Release.FREELY, 9, 0, 0),
    ],
)
def test_what_may_leave_is_bounded_by_the_state_the_trust_and_the_lease(release, trusted, lease, until):
    gate = Gate(lambda: trusted, lambda: lease)
    assert gate.until_ns() == 0
    gate.set(release)
    assert gate.until_ns() == until


def test_an_answer_finds_its_question_once():
    sent, answers = [], []
    rpc = PeerRpc(lambda payload: sent.append(decode_order(payload)))
    rpc.ask("discard", {"term": 1}, answers.append)
    rpc.ask("discard", {"term": 1}, answers.append)
    rpc.say("prepare", {})
    assert len({order.id for order in sent}) == 3
    reply = Order(id=sent[1].id, answer={})
    for _ in range(2):
        assert rpc.heard(encode_order(reply)) is None
    assert answers == [reply]


def test_questions_that_are_never_answered_are_forgotten():
    answers, numbers = [], []
    rpc = PeerRpc(lambda payload: numbers.append(decode_order(payload).id))
    for _ in range(3 * OPEN_MAX):
        rpc.ask("discard", {}, answers.append)
    for number in numbers:
        rpc.heard(encode_order(Order(id=number, answer={})))
    assert [order.id for order in answers] == numbers[-OPEN_MAX:]


def test_questions_of_the_other_node_are_handed_on_and_nonsense_is_not():
    rpc = PeerRpc(lambda payload: None)
    question = Order(id=4, order="resign", arguments={"term": 2})
    assert rpc.heard(encode_order(question)) == question
    assert rpc.heard(b"\xff") is None
    assert rpc.heard(encode_order(Order(id=99, error="no"))) is None


def test_a_connection_that_takes_no_more_costs_a_line(capsys):
    def full(payload):
        raise StateError("link: send", "full", "fewer messages")

    PeerRpc(full).say("broken", {})
    assert "the other node is not told 'broken'" in capsys.readouterr().out
