"""The facts of a run in which everything went well, for tests to spoil."""

from pycolo_lab.baseline.facts import CLIENT, SERVER_A, WHO, Arm, Load, Measured
from pycolo_lab.facts import (
    Event,
    HoldTime,
    Kill,
    Latency,
    NodeStatus,
    Pause,
    ProbeResult,
    RunFacts,
    Sample,
    SessionResult,
    SessionsResult,
    Setting,
    Takeover,
    TransferResult,
)
from pycolo_lab.observe import SHOWN

MS = 1_000_000
S = 1_000 * MS
KILL = 100 * S


def transfer(pause_ms: int = 160) -> TransferResult:
    pauses = [Pause(KILL - 2 * S, KILL - 2 * S + 9 * MS), Pause(KILL - MS, KILL + (pause_ms - 1) * MS)]
    return TransferResult(
        started_ns=KILL - 4 * S, ended_ns=KILL + 4 * S, bytes=moved(KILL + 4 * S, pause_ms), pauses=pauses, error=None
    )


def moved(at_ns: int, pause_ms: int = 160) -> int:
    """Bytes of a transfer: 80 MB/s before the kill, 400 after it."""
    before = min(at_ns, KILL - MS) - (KILL - 4 * S)
    after = min(at_ns, KILL + 4 * S) - (KILL + (pause_ms - 1) * MS)
    return max(0, before) * 80 // 1000 + max(0, after) * 400 // 1000


def sample(at_ns: int) -> Sample:
    return Sample(at_ns, moved(at_ns), moved(at_ns, 170), max(0, at_ns - KILL + 5 * S) // (10 * MS))


def session(number: int, opened_ns: int) -> SessionResult:
    pauses = [Pause(KILL + 10 * MS, KILL + (200 + number) * MS)] if opened_ns < KILL else []
    return SessionResult(
        number=number,
        opened_ns=opened_ns,
        ended_ns=KILL + 4 * S,
        answers=90,
        after_kill=40,
        pauses=pauses,
        error=None,
    )


def sound_facts() -> RunFacts:
    return RunFacts(
        setting=Setting(
            command="colo demo --report 'my report.html'",
            began="2026-11-28 20:01:52+01:00",
            kernel="6.18",
            guest_port="tap",
            as_root=True,
            tls=True,
            ip_version=4,
            cpus=2,
            version="0.1.0",
        ),
        started_ns=KILL - 6 * S,
        load_started_ns=KILL - 5 * S,
        ended_ns=KILL + 5 * S,
        kill=Kill(
            at_ns=KILL,
            download_bytes=moved(KILL),
            upload_bytes=moved(KILL, 170),
            download_moving=True,
            upload_moving=True,
        ),
        download=transfer(),
        upload=transfer(170),
        sessions=SessionsResult(
            sessions=[session(i, KILL - (5 - i) * S) for i in range(5)] + [session(5 + i, KILL + S) for i in range(3)],
            protected=Latency(answers=250, p50_us=900, p99_us=4000),
            after_kill=Latency(answers=310, p50_us=400, p99_us=1000),
        ),
        probe=ProbeResult(connect_ms=1.2, total_ms=20, error=None),
        primary=NodeStatus(
            role="primary",
            state="protected",
            counters={"compared": 1000, "released": 1200, "discarded": 900, "divergences": 0},
            hold_us=HoldTime(400, 3000, 9000),
        ),
        secondary=NodeStatus(
            role="secondary",
            state="serving",
            counters={"rewritten": 5000},
            takeover=Takeover(KILL + 150 * MS, KILL + 151 * MS, KILL + 153 * MS, 60),
        ),
        counters={name: {"before": 3, "kill": 3, "after": 3} for name in SHOWN},
        samples=[sample(KILL + i * 20 * MS) for i in range(-250, 225)],
        events=[Event(KILL, "host A is dead"), Event(KILL - 5 * S, "a <script>&</script> of lock-step")],
    )


def everything_lost(facts: RunFacts) -> None:
    assert facts.download
    assert facts.upload
    assert facts.sessions
    facts.download.error = facts.upload.error = "reset by the other side"
    for each in facts.sessions.sessions[:5]:
        each.error, each.after_kill = "reset by the other side", 0
    facts.counters["TcpOutRsts"]["after"] = 99


def with_baseline(facts: RunFacts) -> None:
    """Ten times slower through nodes, and half of that when they compare; each answer takes the inverse of it."""
    factors = {Arm.BRIDGE: 20, Arm.UNCOMPARED: 2, Arm.PROTECTED: 1}
    facts.baseline = [
        Measured(
            arm=arm,
            load=load,
            seconds=2.0,
            download_bytes=factor * 100_000_000 * ("download" in load.kinds),
            upload_bytes=factor * 60_000_000 * ("upload" in load.kinds),
            processor_ns=dict.fromkeys((SERVER_A, CLIENT) if arm is Arm.BRIDGE else WHO, S),
            answers_ns=[2 * MS // factor] * 9,
            checked_bytes=1 << 20,
        )
        for arm, factor in factors.items()
        for load in Load
    ]
