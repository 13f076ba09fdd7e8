"""Facts of a run with the user's own server -> numbers: the output of `colo demo --serve … --json`. Pure."""

from collections import Counter
from typing import Any, Final

import msgspec

from pycolo_lab.causes import common_cause
from pycolo_lab.facts import Setting
from pycolo_lab.own.facts import ConnectionRecord, Fate, Moment, OwnFacts, Run
from pycolo_lab.summary import ProxySummary, TakeoverSummary, proxy_summary, takeover_summary

MS: Final = 1_000_000
SHOWN_DIVERGENCES: Final = 8
"""Different ones; each with how many there were like it."""

FIRST_LOOK_NS: Final = 500 * MS
"""A connection may be that old when it is first looked at, on a busy machine."""

GOOD: Final = (Fate.OPEN, Fate.CLOSED)


class RunsSummary(msgspec.Struct, kw_only=True):
    """The client's runs. Those that ended with our signal at the end of the load count as good."""

    before: int
    across: int
    across_ok: int
    after: int
    after_ok: int
    failed_before: int


class ConnectionsSummary(msgspec.Struct, kw_only=True):
    """The TCP connections that were open at the kill. `protected` had not diverged."""

    at_kill: int
    kept: int
    protected: int
    protected_kept: int
    fates: dict[str, int]
    pause_ms_max: float
    new_after_kill: int


class DivergenceSummary(msgspec.Struct, kw_only=True):
    """Divergences that look alike: the first of them with its bytes, as in a node's status."""

    count: int
    cause: str
    first: dict[str, Any]


class DivergedSummary(msgspec.Struct, kw_only=True):
    """`connections`: all that diverged; `at_kill`: of those open at the kill; `lost`: of these, not kept."""

    reports: int
    connections: int
    at_kill: int
    lost: int
    kinds: list[DivergenceSummary]


class OwnSummary(msgspec.Struct, kw_only=True):
    """What `colo demo --serve … --json` prints. A part is null when the run did not get that far; `judged` as in
    `pycolo_lab.summary`."""

    judged: bool = True
    ok: bool
    verdict: str
    failures: list[str]
    remarks: list[str]
    setting: Setting
    serve: str
    client: str | None
    address: str
    protocol: str
    fault: str | None
    seconds: float
    connections_at_kill: int = 0
    connections_kept: int = 0
    resets_seen_by_clients: int = 0
    runs: RunsSummary | None = None
    connections: ConnectionsSummary | None = None
    diverged: DivergedSummary | None = None
    takeover: TakeoverSummary | None = None
    proxy: ProxySummary | None = None
    kernel_of_guest_b: dict[str, dict[str, int]] = {}
    kernel_of_client: dict[str, dict[str, int]] = {}


class Account:
    """The facts with the questions that verdict and numbers ask of them."""

    def __init__(self, facts: OwnFacts) -> None:
        self.facts = facts
        self.killed_ns = facts.fault.at_ns if facts.fault else 0
        clients = facts.clients
        self.runs: list[Run] = clients.runs if clients else []
        self.connections: list[ConnectionRecord] = clients.connections if clients else []
        self._diverged_ns = _diverged_ports(facts)

    def at(self, moment: Moment) -> list[Run]:
        """The runs that were under way then."""
        return [run for run in self.runs if run.moment(self.killed_ns) is moment]

    def has_diverged(self, connection: ConnectionRecord) -> bool:
        """Before host A died. A port may have belonged to another connection earlier."""
        return self._diverged_ns.get(connection.port, 0) >= connection.first_ns - FIRST_LOOK_NS

    def is_kept(self, connection: ConnectionRecord) -> bool:
        """It went on, or was closed in order, and the run that had it did not fail."""
        run = next((run for run in self.runs if run.number == connection.run), None)
        return connection.fate in GOOD and not (run is not None and run.failed)

    def connections_of(self, run: Run) -> list[ConnectionRecord]:
        """Those that it had open at the kill."""
        return [each for each in self.connections if each.run == run.number]

    def is_lost(self, run: Run) -> bool:
        """It failed; or it went on until we ended it, and only because it waited for a connection that was gone."""
        return run.failed or (run.ended_by_us and any(each.fate not in GOOD for each in self.connections_of(run)))

    def excused(self, run: Run) -> bool:
        """Of a lost run: one of its connections at the kill had diverged."""
        return any(self.has_diverged(each) for each in self.connections_of(run))


def _diverged_ports(facts: OwnFacts) -> dict[int, int]:
    """The client's port of each connection that diverged -> when it did."""
    found: dict[int, int] = {}
    if facts.divergences is not None:
        for each in facts.divergences.connections:
            port = client_port(each.connection, facts.port)
            if port is not None:
                found[port] = max(found.get(port, 0), each.at_ns)
    return found


def client_port(connection: str, server_port: int) -> int | None:
    """From a node's words, `tcp 10.9.0.2:8080 > 10.9.0.1:40000`; None for a connection that is not the server's."""
    ends = connection.partition(" ")[2].split(" ")
    if len(ends) < 3 or ends[1] != ">" or not ends[0].endswith(f":{server_port}"):
        return None
    port = ends[2].rpartition(":")[2]
    return int(port) if port.isdigit() else None


def measure(facts: OwnFacts) -> OwnSummary:
    """Compute the numbers; the verdict on them is still empty."""
    account = Account(facts)
    summary = OwnSummary(
        ok=False,
        verdict="",
        failures=[],
        remarks=list(facts.notes),
        setting=facts.setting,
        serve=facts.serve,
        client=facts.client,
        address=f"[{facts.host}]:{facts.port}" if ":" in facts.host else f"{facts.host}:{facts.port}",
        protocol="udp" if facts.udp else "tcp",
        fault=facts.fault.how if facts.fault else None,
        seconds=round((facts.ended_ns - facts.started_ns) / 1e9, 1),
        diverged=_diverged(account),
        takeover=takeover_summary(facts.secondary, facts.fault.at_ns if facts.fault else None),
        proxy=proxy_summary(facts.primary, facts.secondary, _divergence_count(facts)),
        kernel_of_guest_b=facts.counters,
        kernel_of_client=facts.client_counters,
    )
    if facts.fault is not None and facts.clients is not None:
        summary.runs = _runs(account)
        summary.connections = _connections(account)
        summary.connections_at_kill = summary.connections.at_kill
        summary.connections_kept = summary.connections.kept
        summary.resets_seen_by_clients = facts.clients.resets_after
    return summary


def _runs(account: Account) -> RunsSummary:
    clients = account.facts.clients
    assert clients is not None
    before, across, after = (account.at(moment) for moment in Moment)
    # Of the runs about which there is nothing to tell only some are kept.
    unlisted = clients.runs_ended_well - sum(1 for run in account.runs if not run.failed)
    return RunsSummary(
        before=len(before) + unlisted,
        across=len(across),
        across_ok=sum(1 for run in across if not account.is_lost(run)),
        after=len(after),
        after_ok=sum(1 for run in after if not run.failed),
        failed_before=sum(1 for run in before if run.failed),
    )


def _connections(account: Account) -> ConnectionsSummary:
    clients = account.facts.clients
    assert clients is not None
    kept = [each for each in account.connections if account.is_kept(each)]
    protected = [each for each in account.connections if not account.has_diverged(each)]
    return ConnectionsSummary(
        at_kill=len(account.connections),
        kept=len(kept),
        protected=len(protected),
        protected_kept=sum(1 for each in kept if each in protected),
        fates=dict(Counter(each.fate.value for each in account.connections)),
        pause_ms_max=round(max((each.pause_ns for each in kept), default=0) / MS, 1),
        new_after_kill=clients.accepted_after,
    )


def _diverged(account: Account) -> DivergedSummary | None:
    facts = account.facts
    if facts.divergences is None:
        return None
    at_kill = [each for each in account.connections if account.has_diverged(each)]
    groups: dict[tuple[str, str], DivergenceSummary] = {}
    for divergence in facts.divergences.divergences:
        key = (divergence["kind"], common_cause(divergence))
        group = groups.setdefault(key, DivergenceSummary(count=0, cause=key[1], first=divergence))
        group.count += 1
    return DivergedSummary(
        reports=facts.divergences.total,
        connections=len(facts.divergences.connections),
        at_kill=len(at_kill),
        lost=sum(1 for each in at_kill if not account.is_kept(each)),
        kinds=sorted(groups.values(), key=lambda group: -group.count)[:SHOWN_DIVERGENCES],
    )


def _divergence_count(facts: OwnFacts) -> int:
    if facts.divergences:
        return facts.divergences.total
    return facts.primary.counters.get("divergences", 0) if facts.primary else 0
