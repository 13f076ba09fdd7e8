"""The law of TPC-B: what a client has seen committed is there, once, and the sums have changed alike."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pycolo_lab.work.tpcb import breaches, seen

COMMITS = st.dictionaries(st.integers(0, 9), st.integers(1, 20), min_size=1)


def rows_of(commits: dict[int, int]) -> list[str]:
    return [f"{client}/{number}" for client, last in commits.items() for number in range(1, last + 1)]


@given(commits=COMMITS, change=st.integers(), data=st.data())
def test_a_database_that_has_what_was_seen_holds_and_may_have_one_more_of_each_client(commits, change, data):
    more = data.draw(st.sets(st.sampled_from(sorted(commits))))
    rows = rows_of(commits) + [f"{client}/{commits[client] + 1}" for client in more]
    assert breaches(commits, rows, [change] * 4) == []


@given(commits=COMMITS, data=st.data())
def test_a_lost_commit_is_named(commits, data):
    rows = rows_of(commits)
    lost = data.draw(st.sampled_from(rows))
    assert breaches(commits, [row for row in rows if row != lost], [0] * 4) == [f"commit {lost} is lost"]


@given(commits=COMMITS, data=st.data())
def test_a_transaction_that_is_there_twice_or_was_never_asked_for_is_named(commits, data):
    rows = rows_of(commits)
    twice = data.draw(st.sampled_from(rows))
    assert breaches(commits, [*rows, twice], [0] * 4) == [f"transaction {twice} is in the history 2 times"]
    client = data.draw(st.sampled_from(sorted(commits)))
    (found,) = breaches(commits, [*rows, f"{client}/{commits[client] + 2}"], [0] * 4)
    assert found.endswith(f"its client has seen {commits[client]}")


@pytest.mark.parametrize("at", range(4))
def test_sums_that_have_not_changed_alike_are_named(at):
    changes = [5] * 4
    changes[at] += 1
    (found,) = breaches({}, [], changes)
    assert found.startswith("the sums of accounts, tellers, branches and history have changed by ")


def test_the_log_of_pgbench_says_what_each_client_has_seen():
    assert seen(["0 1 2300 0 1700000000 1", "1 1 900 0 1700000000 2", "0 2 800 0 1700000000 3"]) == {0: 2, 1: 1}
