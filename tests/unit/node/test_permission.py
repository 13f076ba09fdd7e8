"""The arbiter's part of a node, and the gate."""

import asyncio

import pytest

from pycolo.failover.arbiter import FirstToNoticeArbiter, ManualArbiter
from pycolo.failover.pairstates import Fact, Release
from pycolo.node.gate import WITHOUT_BOUND, Gate
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


def test_what_is_granted_is_not_granted_again_for_the_same_question():
    def work(permission):
        permission.ask()
        permission.peer_resigned("its guest is gone")
        permission.operator_confirmed()

    assert with_permission(FirstToNoticeArbiter(0), work) == [(Fact.GRANTED, 4)]


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


def test_an_answer_is_of_an_earlier_question_until_the_next_one():
    def work(permission):
        assert not permission.is_settled
        permission.peer_resigned("its guest is gone")
        assert permission.is_settled
        permission.ask()
        assert not permission.is_settled

    with_permission(ManualArbiter(0), work)


def test_what_is_said_of_a_lease_is_never_of_an_earlier_question():
    class Leased(ManualArbiter):
        def serve_until_ns(self):
            return 5

    def work(permission):
        permission.peer_resigned("its guest is gone")
        assert not permission.is_settled

    with_permission(Leased(0), work)


def test_a_node_that_serves_wants_the_lease_under_the_term_of_the_moment():
    class Leased(ManualArbiter):
        def acquire_wanted(self, term=0):
            wanted.append(term)

    wanted = []
    with_permission(Leased(0), lambda permission: permission.serves())
    assert wanted == [3]


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
