"""The facts of a run with a person's own server in which everything went well, for tests to spoil."""

from pycolo_lab.facts import Event, HoldTime, NodeStatus, Setting, Takeover
from pycolo_lab.own.facts import (
    ClientsResult,
    ConnectionRecord,
    DivergedConnection,
    Divergences,
    Fate,
    Fault,
    OwnFacts,
    Run,
)

MS = 1_000_000
S = 1_000 * MS
KILL = 100 * S
PORT = 8080


def run(number: int, start_s: float, end_s: float, code: int = 0, **more: object) -> Run:
    """Seconds from the kill."""
    return Run(
        number=number,
        started_ns=KILL + int(start_s * S),
        ended_ns=KILL + int(end_s * S),
        code=code,
        **more,  # type: ignore[arg-type]
    )


def connection(port: int, run_number: int | None, fate: Fate = Fate.CLOSED) -> ConnectionRecord:
    return ConnectionRecord(
        port=port,
        run=run_number,
        first_ns=KILL - S,
        moved_at_kill=1000,
        moved=9000,
        pause_ns=160 * MS,
        fate=fate,
    )


def divergence(port: int, octets: tuple[bytes, bytes] = (b"10:00:01", b"10:00:02"), before: bytes = b"Date: ") -> dict:
    return {
        "connection": f"tcp 10.9.0.2:{PORT} > 10.9.0.1:{port}",
        "kind": "payload",
        "seq": 4711,
        "waited_ms": 0,
        "text": f"tcp 10.9.0.2:{PORT} > 10.9.0.1:{port}: the streams differ at sequence number 4711",
        "primary": (before + octets[0]).hex(),
        "primary_index": len(before) + 7,
        "secondary": (before + octets[1]).hex(),
        "secondary_index": len(before) + 7,
        "at_ns": KILL - S // 2,
    }


def diverged(*ports: int, at_ns: int = KILL - S // 2) -> Divergences:
    return Divergences(
        total=len(ports),
        divergences=[divergence(port) for port in ports],
        connections=[DivergedConnection(divergence(port)["connection"], "payload", at_ns) for port in ports],
    )


def sound_facts() -> OwnFacts:
    """Two runs before the kill, two across it with a connection each, three after it."""
    return OwnFacts(
        setting=Setting(
            command="colo demo --serve 'serve {port}' --client 'ask {host} {port}'",
            began="2026-11-28 20:01:52+01:00",
            kernel="6.18",
            guest_port="tap",
            as_root=True,
            tls=True,
            ip_version=4,
            cpus=2,
            version="0.1.0",
        ),
        serve="serve {port}",
        client="ask {host} {port}",
        host="10.9.0.2",
        port=PORT,
        udp=False,
        started_ns=KILL - 4 * S,
        load_started_ns=KILL - 3 * S,
        ended_ns=KILL + 5 * S,
        fault=Fault(at_ns=KILL, how="kill"),
        clients=ClientsResult(
            runs=[
                run(1, -3, -1.1),
                run(2, -3, -1.1),
                run(3, -1, 0.9),
                run(4, -1, 0.9),
                run(5, 1, 2.9),
                run(6, 1, 2.9),
                run(7, 3, 4, code=130, ended_by_us=True),
            ],
            runs_ended_well=7,
            connections=[connection(40003, 3), connection(40004, 4)],
            accepted_after=3,
            resets_after=0,
        ),
        primary=NodeStatus(
            role="primary",
            state="protected",
            counters={"compared": 100, "released": 90, "discarded": 10},
            hold_us=HoldTime(p50=100, p99=900, max=1000),
        ),
        secondary=NodeStatus(
            role="secondary",
            state="serving",
            counters={"rewritten": 100},
            takeover=Takeover(
                suspected_ns=KILL + 140 * MS, decided_ns=KILL + 141 * MS, done_ns=KILL + 142 * MS, resent=3
            ),
        ),
        divergences=Divergences(),
        counters={"TcpOutRsts": {"before": 0, "kill": 0, "after": 0}},
        events=[Event(KILL, "host A is dead")],
    )
