"""Numbers -> verdict on a run with the user's own server and client. Pure: a test can make up any facts.

Requirements:

1. something was in flight at the kill: a connection, or a run of the client
2. host B took over after the kill, not before it
3. every run of the client across the kill ends well, or goes on until it is asked to end
4. every connection that was open at the kill goes on, or is closed in order; none is reset, given up or stands still
5. runs that begin after the kill end well, and new connections are established (with one client at a time that never
ends, there are none)
6. the nodes did compare

A connection that had diverged was not protected: its fate is counted separately and fails nothing. If all of them had
diverged, nothing was protected, and that is a failure.
"""

from typing import Final

from pycolo_lab.options import TOO_BUSY
from pycolo_lab.own.facts import Fate, Moment, OwnFacts, Run
from pycolo_lab.own.summary import Account, OwnSummary, measure
from pycolo_lab.verdict import NOTHING_TO_JUDGE

REASONS_SHOWN: Final = 3

_FATES: Final = {
    Fate.RESET: "was reset by the server's side",
    Fate.ABORTED: "was aborted by the client",
    Fate.STALLED: "stood still from the kill to the end",
    Fate.LOST: "was given up by the client's kernel",
}


def judge(facts: OwnFacts) -> OwnSummary:
    """Return the numbers of the run with the verdict on them."""
    summary = measure(facts)
    account = Account(facts)
    summary.failures = [*facts.trouble, *_failures(account, summary)]
    summary.remarks += _remarks(account, summary)
    summary.ok = not summary.failures
    if facts.fault is None and not summary.failures:
        summary.judged, summary.verdict = False, NOTHING_TO_JUDGE
    elif summary.ok:
        summary.verdict = _good_verdict(summary)
    else:
        more = f" (and {len(summary.failures) - 1} more)" if len(summary.failures) > 1 else ""
        summary.verdict = f"FAILED: {summary.failures[0]}{more}"
    return summary


def _good_verdict(summary: OwnSummary) -> str:
    assert summary.runs is not None
    assert summary.connections is not None
    found = []
    if summary.connections.at_kill:
        which = "protected connections" if summary.diverged and summary.diverged.at_kill else "connections"
        found.append(f"{summary.connections.protected_kept} of {summary.connections.protected} {which}")
    if summary.runs.across and summary.runs.across_ok == summary.runs.across:
        found.append(f"{summary.runs.across_ok} of {summary.runs.across} runs of the client")
    return f"{' and '.join(found)} outlived host A"


def _failures(account: Account, summary: OwnSummary) -> list[str]:
    facts = account.facts
    early = _early_failures(account, summary)
    if facts.fault is None or early or facts.clients is None:
        return early
    return [
        *_in_flight_failures(account),
        *_takeover_failures(summary),
        *_run_failures(account),
        *_connection_failures(account),
        *_new_connection_failures(account, summary),
        *_protection_failures(summary),
    ]


def _early_failures(account: Account, summary: OwnSummary) -> list[str]:
    """Failures after which the rest proves nothing."""
    facts = account.facts
    failed = [run for run in account.runs if run.failed and (not facts.fault or run.ended_ns < facts.fault.at_ns)]
    if failed:
        return [f"the client failed before anything was killed: {in_words(failed[0])}"]
    if facts.fault is not None and facts.clients is None and not facts.trouble:
        return ["the client runner left no result"]
    return []


def in_words(run: Run) -> str:
    """How a run ended."""
    return "it waited in vain, and was ended" if run.ended_by_us else f"exit {run.code}: {run.words}"


def _in_flight_failures(account: Account) -> list[str]:
    if account.connections or account.at(Moment.ACROSS):
        return []
    return [
        "nothing was in flight at the kill, so the run proves nothing: use a longer client command or more --clients"
    ]


def _takeover_failures(summary: OwnSummary) -> list[str]:
    if summary.takeover is None:
        return ["host B did not take over"]
    if summary.takeover.decided_ms < 0:
        return [f"host B took over {-summary.takeover.decided_ms:.0f} ms before the kill: a false takeover; {TOO_BUSY}"]
    return []


def _run_failures(account: Account) -> list[str]:
    across = account.at(Moment.ACROSS)
    failed = [run for run in across if account.is_lost(run) and not account.excused(run)]
    if not failed:
        return []
    reasons = sorted({in_words(run) for run in failed})[:REASONS_SHOWN]
    return [f"{len(failed)} of {len(across)} runs of the client across the kill failed ({'; '.join(reasons)})"]


def _connection_failures(account: Account) -> list[str]:
    found = []
    for fate, words in _FATES.items():
        lost = [each for each in account.connections if each.fate is fate and not account.has_diverged(each)]
        if fate is Fate.ABORTED:
            # A client may break its own connection off, and is content.
            runs = {run.number for run in account.runs if run.failed}
            lost = [each for each in lost if each.run in runs]
        if lost:
            of = f"{len(lost)} of {len(account.connections)} connections"
            ports = ", ".join(str(each.port) for each in lost[:REASONS_SHOWN])
            more = ", …" if len(lost) > REASONS_SHOWN else ""
            found.append(f"{of}: each {words} (from port {ports}{more})")
    return found


def _new_connection_failures(account: Account, summary: OwnSummary) -> list[str]:
    facts, clients = account.facts, account.facts.clients
    assert clients is not None
    found = []
    after = account.at(Moment.AFTER)
    failed = [run for run in after if run.failed]
    if failed:
        found.append(
            f"{len(failed)} of {len(after)} runs of the client that began after the kill failed ({in_words(failed[0])})"
        )
    if after and not facts.udp and clients.blind is None and not clients.accepted_after:
        found.append("no new connection was established after the kill")
    return found


def _protection_failures(summary: OwnSummary) -> list[str]:
    found = []
    if summary.proxy is None:
        found.append("the primary did not answer on its control socket before it died")
    elif not summary.proxy.compared:
        found.append("the nodes report nothing compared")
    connections = summary.connections
    if connections and connections.at_kill and not connections.protected:
        found.append(
            f"nothing was protected: all {connections.at_kill} connections that were open at the kill had diverged "
            f"before ({connections.kept} of them went on all the same)"
        )
    return found


def _remarks(account: Account, summary: OwnSummary) -> list[str]:
    """Remarks for the reader that are no failures."""
    diverged, connections = summary.diverged, summary.connections
    found = []
    if diverged and diverged.at_kill and connections:
        found.append(
            f"{diverged.at_kill} of {connections.at_kill} connections at the kill had diverged before, and were not "
            f"protected; {diverged.lost} of them were lost"
        )
    across = account.at(Moment.ACROSS)
    if across and not account.connections and not account.facts.udp:
        found.append(
            "no connection was established at the very moment of the kill: what was in flight are runs of the client "
            "between two connections"
        )
    excused = [run for run in across if account.is_lost(run) and account.excused(run)]
    if excused:
        of = f"{len(excused)} of {len(across)} runs across the kill lost"
        found.append(f"{of}: all {len(excused)} had diverged before ({in_words(excused[0])})")
    return found
