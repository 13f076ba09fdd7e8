"""The verdict on a run with one's own server: what each way of going wrong is called, and what fails nothing."""

from collections.abc import Callable

import pytest

from pycolo_lab.facts import Takeover
from pycolo_lab.own.facts import Fate, Fault, Moment, OwnFacts
from pycolo_lab.own.summary import OwnSummary, client_port
from pycolo_lab.own.verdict import judge
from support.ownfacts import KILL, MS, S, connection, diverged, run, sound_facts


def judged(change: Callable[[OwnFacts], None]) -> OwnSummary:
    facts = sound_facts()
    change(facts)
    return judge(facts)


def clients(facts: OwnFacts):
    assert facts.clients is not None
    return facts.clients


def test_a_sound_run_is_good():
    summary = judged(lambda facts: None)
    assert summary.ok
    assert summary.failures == []
    assert summary.verdict == "2 of 2 connections and 2 of 2 runs of the client outlived host A"
    assert (summary.runs.before, summary.runs.across, summary.runs.after) == (2, 2, 3)


def test_a_run_that_we_ended_is_no_failure_and_one_that_ended_itself_so_is():
    ours = run(9, -1, 4, code=130, ended_by_us=True)
    its_own = run(9, -1, 4, code=130)
    for each, ok in ((ours, True), (its_own, False)):
        assert judged(lambda facts, each=each: clients(facts).runs.append(each)).ok is ok


def fails_before(facts: OwnFacts) -> None:
    facts.fault = None
    clients(facts).runs = [run(1, -3, -2.9, code=7, words="Connection refused")]


def nothing_in_flight(facts: OwnFacts) -> None:
    clients(facts).connections = []
    clients(facts).runs = [run(1, -3, -2), run(5, 1, 2)]


def no_takeover(facts: OwnFacts) -> None:
    facts.secondary.takeover = None


def false_takeover(facts: OwnFacts) -> None:
    facts.secondary.takeover = Takeover(KILL - 60 * MS, KILL - 50 * MS, KILL - 40 * MS)


def run_across_fails(facts: OwnFacts) -> None:
    clients(facts).runs[2] = run(3, -1, 0.3, code=56, words="Recv failure")


def run_after_fails(facts: OwnFacts) -> None:
    clients(facts).runs[4] = run(5, 1, 1.1, code=7, words="refused")


def stands_still(facts: OwnFacts) -> None:
    clients(facts).connections[0].fate = Fate.STALLED


def is_reset(facts: OwnFacts) -> None:
    clients(facts).connections[0].fate = Fate.RESET


def is_given_up(facts: OwnFacts) -> None:
    clients(facts).connections[0].fate = Fate.LOST


def none_is_new(facts: OwnFacts) -> None:
    clients(facts).accepted_after = 0


def nothing_compared(facts: OwnFacts) -> None:
    facts.primary.counters = {}


def everything_diverged(facts: OwnFacts) -> None:
    facts.divergences = diverged(40003, 40004)


def no_result(facts: OwnFacts) -> None:
    facts.clients = None


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (fails_before, "the client failed before anything was killed: exit 7: Connection refused"),
        (nothing_in_flight, "nothing was in flight at the kill, so the run proves nothing"),
        (no_takeover, "host B did not take over"),
        (false_takeover, "host B took over 50 ms before the kill"),
        (run_across_fails, "1 of 2 runs of the client across the kill failed (exit 56: Recv failure)"),
        (run_after_fails, "1 of 3 runs of the client that began after the kill failed (exit 7: refused)"),
        (stands_still, "1 of 2 connections: each stood still from the kill to the end (from port 40003)"),
        (is_reset, "1 of 2 connections: each was reset by the server's side (from port 40003)"),
        (is_given_up, "1 of 2 connections: each was given up by the client's kernel (from port 40003)"),
        (none_is_new, "no new connection was established after the kill"),
        (nothing_compared, "the nodes report nothing compared"),
        (
            everything_diverged,
            "nothing was protected: all 2 connections that were open at the kill had diverged before",
        ),
        (no_result, "the client runner left no result"),
    ],
)
def test_each_way_of_going_wrong_has_its_words(change: Callable[[OwnFacts], None], words: str):
    summary = judged(change)
    assert not summary.ok
    assert [failure for failure in summary.failures if failure.startswith(words)], summary.failures
    assert summary.verdict.startswith("FAILED: ")


@pytest.mark.parametrize("fate", [Fate.RESET, Fate.STALLED, Fate.LOST, Fate.ABORTED])
def test_what_a_diverged_connection_comes_to_counts_apart(fate: Fate):
    def change(facts: OwnFacts) -> None:
        facts.divergences = diverged(40003)
        clients(facts).connections[0].fate = fate
        clients(facts).runs[2] = run(3, -1, 0.3, code=255, words="corrupted MAC")

    summary = judged(change)
    assert summary.ok, summary.failures
    assert summary.connections.kept == summary.connections.protected_kept == summary.connections.protected == 1
    assert summary.diverged.at_kill == summary.diverged.lost == 1
    assert any("1 of 2 connections at the kill had diverged before" in remark for remark in summary.remarks)
    assert any("1 of 2 runs across the kill lost: all 1 had diverged before" in remark for remark in summary.remarks)
    assert "1 of 1 protected connections" in summary.verdict


def test_a_run_that_waits_in_vain_until_we_end_it_is_lost():
    def change(facts: OwnFacts) -> None:
        clients(facts).runs[2] = run(3, -1, 4, code=130, ended_by_us=True)
        stands_still(facts)

    summary = judged(change)
    assert summary.runs.across_ok == 1
    assert any("waited in vain" in failure for failure in summary.failures)


def test_a_run_between_two_connections_is_in_flight_and_that_is_said():
    def change(facts: OwnFacts) -> None:
        clients(facts).connections = []

    summary = judged(change)
    assert summary.ok, summary.failures
    assert summary.verdict == "2 of 2 runs of the client outlived host A"
    assert any("between two connections" in remark for remark in summary.remarks)


def test_a_divergence_of_a_port_s_earlier_connection_excuses_nothing():
    def change(facts: OwnFacts) -> None:
        facts.divergences = diverged(40003, at_ns=KILL - 2 * S)
        is_reset(facts)

    assert not judged(change).ok


def test_a_loss_of_a_protected_connection_is_not_excused_by_another_ones_divergence():
    def change(facts: OwnFacts) -> None:
        facts.divergences = diverged(40003)
        clients(facts).connections[1].fate = Fate.RESET

    assert not judged(change).ok


def test_a_client_that_breaks_its_own_connection_off_and_ends_well_is_content():
    def change(facts: OwnFacts) -> None:
        clients(facts).connections[0].fate = Fate.ABORTED

    assert judged(change).failures == []


def test_with_udp_a_run_across_the_kill_is_in_flight():
    def change(facts: OwnFacts) -> None:
        facts.udp = True
        clients(facts).connections = []
        clients(facts).accepted_after = 0

    assert judged(change).ok


def test_a_run_that_was_ended_at_the_prompt_is_not_judged():
    def change(facts: OwnFacts) -> None:
        facts.fault = facts.secondary = None
        clients(facts).runs = [run(1, -3, -1)]
        clients(facts).connections = []

    summary = judged(change)
    assert not summary.judged
    assert summary.failures == []
    assert "nothing to judge" in summary.verdict


def test_a_failover_is_judged_as_a_kill():
    def change(facts: OwnFacts) -> None:
        facts.fault = Fault(at_ns=KILL, how="failover")

    assert judged(change).ok


def test_moments():
    assert run(1, -2, -1).moment(KILL) is Moment.BEFORE
    assert run(1, -2, 1).moment(KILL) is Moment.ACROSS
    assert run(1, 1, 2).moment(KILL) is Moment.AFTER


@pytest.mark.parametrize(
    ("text", "port"),
    [
        ("tcp 10.9.0.2:8080 > 10.9.0.1:40000", 40000),
        ("tcp [fd00:9::2]:8080 > [fd00:9::1]:40000", 40000),
        ("udp 10.9.0.2:8080 > 10.9.0.1:40000 vlan 7", 40000),
        ("tcp 10.9.0.2:80 > 10.9.0.1:40000", None),
        ("icmp 10.9.0.2 > 10.9.0.1", None),
    ],
)
def test_the_client_s_port_is_read_from_a_node_s_words(text: str, port: int | None):
    assert client_port(text, 8080) == port


def test_connections_of_an_unknown_owner_count_too():
    """A client that the person has started."""

    def change(facts: OwnFacts) -> None:
        facts.client = None
        clients(facts).runs = []
        clients(facts).connections = [connection(40000, None, Fate.OPEN)]

    summary = judged(change)
    assert summary.ok, summary.failures
    assert summary.verdict == "1 of 1 connections outlived host A"
