"""Numbers -> verdict. Pure: the same facts give the same verdict, and a test can make up any facts.

Requirements of a run:

1. both transfers were in flight at the kill; otherwise the run proves nothing
2. host B took over after the kill, not before it
3. every connection that was open at the kill goes on: transfers to their last byte, sessions with correct answers
4. every byte is correct, and no client saw a reset
5. connections opened after the kill work
6. the nodes did compare and rewrite, and found no difference between two deterministic guests
7. guest B's kernel saw no packet that a faulty proxy would cause (`pycolo_lab.observe.CLEAN`)

A negative control reverses 3 to 5: the failure must show, in the way that the missing part would cause.
"""

from typing import Final

from pycolo_lab.facts import RunFacts
from pycolo_lab.observe import CLEAN
from pycolo_lab.options import TOO_BUSY, Control, LabOptions
from pycolo_lab.summary import ControlSummary, Summary, measure

NOTHING_TO_JUDGE: Final = "ended at the prompt, before anything was done to host A: there is nothing to judge"

REASONS_SHOWN: Final = 3
"""Of the different ways in which sessions failed."""


def judge(facts: RunFacts, options: LabOptions) -> Summary:
    """Return the numbers of the run with the verdict on them."""
    summary = measure(facts, options)
    if facts.ended_at_prompt and not facts.trouble:
        summary.judged, summary.ok, summary.verdict = False, True, NOTHING_TO_JUDGE
        return summary
    summary.failures = [*facts.trouble, *_failures(facts, summary)]
    if options.control is Control.NONE:
        _conclude(summary)
    else:
        _conclude_control(facts, summary, options.control)
    return summary


def _conclude(summary: Summary) -> None:
    summary.ok = not summary.failures
    if summary.ok:
        kept = f"{summary.connections_kept} of {summary.connections_at_kill}"
        summary.verdict = f"{kept} connections outlived host A"
    else:
        more = f" (and {len(summary.failures) - 1} more)" if len(summary.failures) > 1 else ""
        summary.verdict = f"FAILED: {summary.failures[0]}{more}"


def _conclude_control(facts: RunFacts, summary: Summary, control: Control) -> None:
    lost = summary.connections_at_kill - summary.connections_kept
    seen = _evidence(facts, summary, lost, control)
    # Otherwise the survivor must be sound: a control that fails because a node crashed proves nothing.
    sound = not facts.trouble and summary.takeover is not None and summary.new_connection_ms is not None
    shown = sound and lost > 0
    summary.control = ControlSummary(without=control.value, shown=shown, seen=seen)
    if shown:
        summary.verdict = f"The control without {control.value} failed as it must: {seen[0]}"
    else:
        summary.verdict = f"The control without {control.value} did NOT show its failure"


def _evidence(facts: RunFacts, summary: Summary, lost: int, control: Control) -> list[str]:
    seen = [f"{lost} of {summary.connections_at_kill} connections did not survive the takeover"] if lost else []
    for name, transfer in (("download", summary.download), ("upload", summary.upload)):
        if transfer and transfer.error:
            seen.append(f"{name}: {transfer.error}")
    if facts.sessions:
        errors = [session.error for session in facts.sessions.sessions if session.error]
        seen += [f"{errors.count(error)} sessions: {error}" for error in sorted(set(errors))[:REASONS_SHOWN]]
    for name in ("TcpOutRsts", "TcpExtTCPChallengeACK"):
        counted = _grown(facts, name)
        if counted:
            why = "acknowledgements of bytes that it has not sent" if control is Control.COMPARE else "foreign numbers"
            seen.append(f"guest B's kernel: {name} {counted} ({why})")
    if summary.new_connection_ms is not None:
        seen.append("a connection opened afterwards works: only the old ones are broken")
    return seen


# ── what went wrong ─────────────────────────────────────────────────────────────────────────────────────────


def _failures(facts: RunFacts, summary: Summary) -> list[str]:
    if facts.kill is None:
        return [] if facts.trouble else ["host A was never powered off"]
    return [
        *_transfer_failures(summary),
        *_session_failures(facts, summary),
        *_new_connection_failures(facts, summary),
        *_takeover_failures(summary),
        *_proxy_failures(summary),
        *_kernel_failures(facts),
    ]


def _transfer_failures(summary: Summary) -> list[str]:
    found = []
    for name, transfer in (("download", summary.download), ("upload", summary.upload)):
        if transfer is None:
            found.append(f"{name}: the client left no result")
            continue
        if not transfer.in_flight_at_kill:
            found.append(
                f"{name}: was not in flight at the kill ({transfer.bytes_at_kill} bytes had come, "
                f"{transfer.bytes} in the end), so its result proves nothing; try a larger --size"
            )
        if transfer.error:
            found.append(f"{name}: {transfer.error}")
    return found


def _session_failures(facts: RunFacts, summary: Summary) -> list[str]:
    sessions = summary.sessions
    if sessions is None or facts.sessions is None:
        return ["sessions: the client left no result"]
    found = []
    lost = sessions.opened_before_kill - sessions.kept
    if sessions.opened_before_kill == 0:
        found.append("sessions: none was open at the kill")
    if lost:
        errors = [session.error for session in facts.sessions.sessions if session.error]
        reason = errors[0] if errors else "no correct answer to a question asked after the kill"
        found.append(f"sessions: {lost} of {sessions.opened_before_kill} did not go on ({reason})")
    if summary.resets_seen_by_clients:
        found.append(f"the client's kernel saw {summary.resets_seen_by_clients} connections reset")
    return found


def _new_connection_failures(facts: RunFacts, summary: Summary) -> list[str]:
    found = []
    if facts.probe is None:
        found.append("new connection: the client left no result")
    elif facts.probe.error:
        found.append(f"new connection: {facts.probe.error}")
    sessions = summary.sessions
    if sessions and sessions.opened_after_kill == 0:
        found.append("sessions: none was opened after the kill")
    if sessions and sessions.opened_after_kill_ok < sessions.opened_after_kill:
        bad = sessions.opened_after_kill - sessions.opened_after_kill_ok
        found.append(f"sessions: {bad} of {sessions.opened_after_kill} that were opened after the kill did not work")
    return found


def _takeover_failures(summary: Summary) -> list[str]:
    if summary.takeover is None:
        return ["host B did not take over"]
    if summary.takeover.decided_ms < 0:
        early_ms = -summary.takeover.decided_ms
        return [f"host B took over {early_ms:.0f} ms before the kill: a false takeover; {TOO_BUSY}"]
    return []


def _proxy_failures(summary: Summary) -> list[str]:
    proxy = summary.proxy
    if proxy is None:
        return ["the primary did not answer on its control socket before the kill"]
    found = []
    if proxy.divergences:
        found.append(f"{proxy.divergences} divergences of two deterministic guests ({proxy.first_divergence})")
    found += [
        f"the nodes report nothing {name}" for name in ("compared", "released", "rewritten") if not getattr(proxy, name)
    ]
    return found


def _kernel_failures(facts: RunFacts) -> list[str]:
    return [
        f"guest B's kernel counted {name} {_grown(facts, name)}, which must be 0"
        for name in CLEAN
        if _grown(facts, name)
    ]


def _grown(facts: RunFacts, name: str) -> int:
    """By how much a counter of guest B has grown since the load began."""
    values = facts.counters.get(name, {})
    before = values.get("before", 0)
    return values.get("after", values.get("kill", before)) - before
