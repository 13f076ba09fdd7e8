"""What the pair table hears of an arbiter: each fact once, whatever the arbiter is."""

from pycolo.failover.arbiter import ManualArbiter
from pycolo.failover.arbiternews import ArbiterNews
from pycolo.failover.fencing import Fence, Fenced, FencingArbiter
from pycolo.failover.lease import LeaseArbiter
from pycolo.failover.pairstates import Fact


def heard(news: ArbiterNews, core, now_ns: int = 0) -> list[tuple[Fact, int]]:
    return [(fact, told.term) for fact, told in news.facts(core, now_ns)]


def test_an_operators_word_is_a_grant_once():
    core, news = ManualArbiter(3), ArbiterNews()
    core.suspected(0)
    assert heard(news, core) == []
    core.operator_confirmed(1)
    assert heard(news, core) == [(Fact.GRANTED, 4)]
    assert heard(news, core) == []


def test_a_resignation_is_a_grant_where_there_is_no_lease():
    for core in (ManualArbiter(3), FencingArbiter(3)):
        core.peer_resigned(1, "its QEMU is gone")
        assert heard(ArbiterNews(), core) == [(Fact.GRANTED, 4)]
    assert heard(ArbiterNews(), LeaseArbiter(3, "a", 3_000)) == [(Fact.LEASE_ENDED, 0)]


def test_a_fencing_command_acts_fails_and_succeeds():
    core, news = FencingArbiter(3), ArbiterNews()
    core.suspected(0)
    assert core.request(0) == Fence(4)
    assert core.request(0) is None
    assert heard(news, core) == [(Fact.ARBITER_ACTS, 0)]
    core.answered(Fenced(1, "busy"), 0)
    assert heard(news, core) == [(Fact.ARBITER_FAILED, 0)]
    due_ns = core.due_ns()
    assert due_ns is not None
    assert core.request(due_ns) == Fence(4)
    core.answered(Fenced(0, ""), due_ns)
    assert heard(news, core) == [(Fact.GRANTED, 4)]


def test_a_takeover_that_was_seen_is_a_refusal():
    core, news = FencingArbiter(3), ArbiterNews()
    core.term_seen(5)
    assert heard(news, core) == [(Fact.REFUSED, 5)]
