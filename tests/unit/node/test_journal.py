"""What the user is told of a node's takeovers."""

import pytest

from pycolo.failover.pair import Pair, Settings
from pycolo.failover.pairstates import Fact, State
from pycolo.node.journal import Journal
from pycolo.node.takeovers import KEPT

PATHS = {
    "take-over": (State.SECONDARY_PROTECTED, State.TAKING_OVER, State.SERVING),
    "go-alone": (State.PRIMARY_SUSPECT, State.GOING_ALONE, State.ALONE),
}


def happens(journal, kind, cause="the other node is fenced"):
    """A permission is granted, and this node serves."""
    before, permitted, after = (Pair(Settings(timeout_ms=200), state) for state in PATHS[kind])
    journal.changed(Fact.GRANTED, before, permitted._replace(text=cause), suspected_ns=0)
    journal.done()
    journal.changed(None, permitted, after, suspected_ns=0)


@pytest.mark.parametrize("kind", PATHS)
def test_a_takeover_that_is_done_is_remembered_with_its_cause(kind):
    journal = Journal()
    happens(journal, kind)
    (found,) = journal.takeovers
    assert (found["kind"], found["cause"], found["resent"]) == (kind, "the other node is fenced", 0)
    assert found["took_ms"] >= 0
    assert found["at"].endswith("Z")


def test_frames_that_are_sent_again_may_be_told_before_or_after_it_is_done():
    journal = Journal()
    happens(journal, "take-over")
    journal.resent(7)
    assert [one["resent"] for one in journal.takeovers] == [7]
    assert journal.takeover["resent"] == 7


def test_one_that_is_not_done_is_not_among_them_and_the_last_ones_are_kept():
    journal = Journal()
    before, permitted, _ = (Pair(Settings(timeout_ms=200), state) for state in PATHS["take-over"])
    journal.changed(Fact.GRANTED, before, permitted, suspected_ns=0)
    assert not list(journal.takeovers)
    for number in range(KEPT + 3):
        happens(journal, "take-over", cause=str(number))
    assert [one["cause"] for one in journal.takeovers] == [str(number) for number in range(3, KEPT + 3)]
