"""Status answers of a VM's node, complete ones."""

from typing import Any

from pycolo.metrics.tally import CheckpointTally


def checkpoint_record(**changed: Any) -> dict[str, Any]:
    return {
        "epoch": 7,
        "reasons": [{"kind": "divergence", "text": "payload differs", "connection": "tcp 10.0.0.9:5000 10.0.0.1:80"}],
        "at": "2026-11-23T15:00:00.123Z",
        "outcome": "committed",
        "why": None,
        "request_to_resume_ms": 8.1,
        "pause_ms": 6.2,
        "released_frames": 12,
        "released_bytes": 3456,
        "discarded_frames": 3,
        "copied_bytes": 1_500_000,
        "parts_ms": {"begin": 0.1, "write": 2.1},
        **changed,
    }


def pace(**changed: Any) -> dict[str, Any]:
    return {
        "target_ms": 100.0,
        "is_held": True,
        "why": None,
        "standing": 0.012,
        "missed": 0,
        "of": 4,
        "interval_ms": 7_400.0,
        "is_looking": True,
        "change_bytes_per_s": 12_000_000,
        "copy_bytes_per_s": 450_000_000,
        "fixed_ms": 6.0,
        "longest_ms": 25_000,
        **changed,
    }


def spacing(**changed: Any) -> dict[str, Any]:
    return {
        "cost_ms": 18.0,
        "of": 16,
        "busy_percent": 25,
        "distance_ms": 54.0,
        "next_distance_ms": 20.0,
        "wait_ms": 0.0,
        "why": "the last checkpoints have cost 18 ms each; for differences they are 54 ms apart; none waits for more",
        **changed,
    }


def vm_status(**changed: Any) -> dict[str, Any]:
    """What a primary with its QEMU says, with everything that there is a metric for."""
    tally = CheckpointTally()
    for _ in range(3):
        tally.take(checkpoint_record())
    tally.take(checkpoint_record(reasons=[{"kind": "periodic", "text": "", "connection": None}]))
    return {
        "role": "primary",
        "state": "protected",
        "blocked": None,
        "since_ms": 12_500,
        "pair": "vm1",
        "term": 2,
        "epoch": 7,
        "peer": "control link to 10.0.0.2:9000",
        "arbiter": {"name": "manual", "says": "nothing to decide"},
        "version": "0.1.0",
        "takeover": {"suspected_ns": 1_000_000_000, "decided_ns": 1_100_000_000, "done_ns": 1_150_000_000, "resent": 2},
        "divergences": [],
        "divergence_kinds": {"payload": 4, "timeout": 1},
        "failovers": {"take_over": 1, "go_alone": 0},
        "heartbeat_silence_ms": 26,
        "hold_us": {"p50": 10, "p99": 100, "max": 3000},
        "masks": {"date": {"matches": 7, "bytes": 12}},
        "bypassed": {"1": {"packets": 3, "bytes": 5_000}},
        "hold_histogram": [[8, 1], [10, 0], [16, 2], [20, 4], [32, 8], [40, 16], [1 << 24, 32]],
        "counters": counters_of_a_primary() | {"lan_frames": 9, "unheard_of": 3},
        "vm": {"qmp": "connected", "version": "7.2.22", "status": "running", "colo": "primary", "pid": 123},
        "other_vm": None,
        "checkpoint": {
            "phase": "idle",
            "epoch": 7,
            "pending": [],
            "pause_ms": {"median": 6.1, "p99": 9.0, "max": 9.1},
            "pace": pace(),
            "spacing": spacing(),
            "last": [checkpoint_record()],
            **tally.status(),
        },
        "plan": None,
        "protection": {
            "wished": True,
            "automatic": True,
            "unprotected_ms": None,
            "failures": 0,
            "why": "the pair is whole",
        },
        "costs": {"services": {"tcp port 80": {"checkpoints": 4, "waited_us": 250_000, "uncompared_bytes": 9_000}}},
        "health": {
            "verdict": "well",
            "why": "",
            "age_ms": 400,
            "window_ms": 10_000,
            "compared_bytes": 123_456,
            "uncompared_bytes": 0,
            "allowed_bytes": 0,
        },
        **changed,
    }


def counters_of_a_primary() -> dict[str, int]:
    return {
        "primary_frames": 100,
        "secondary_frames": 90,
        "compared": 80,
        "compared_bytes": 40_000,
        "uncompared_older": 1,
        "uncompared_older_bytes": 60,
        "passed": 5,
        "let_through": 1,
        "refused": 2,
        "refused_marked": 0,
        "dropped": 0,
        "discarded": 85,
        "released": 88,
        "divergences": 5,
        "guest_frames": 100,
        "held": 12,
        "held_bytes": 34_567,
        "ordered_requests": 4_800,
        "ordered_waited_us": 9_600_000,
        "ordered_blocked": 12,
        "ordered_limited": 3,
        "ordered_waiting": 2,
        "connections": 8,
        "evicted_idle": 3,
        "evicted_closed": 2,
        "evicted_lru": 1,
        "refused_full": 4,
        "link_bytes_sent": 1000,
        "link_bytes_received": 900,
        "rewritten": 0,
        "lan_frames_in": 50,
        "lan_frames_out": 60,
        "lan_dropped": 1,
        "guest_bytes_in": 7,
        "guest_bytes_out": 8,
        "guest_connections": 2,
        "guest_connected": 1,
    }


def counters_of_a_secondary() -> dict[str, int]:
    return {
        "client_frames": 100,
        "guest_frames": 90,
        "rewritten": 70,
        "untouched": 10,
        "refused": 1,
        "resent": 2,
        "handshake_dropped": 3,
        "table_full": 4,
        "copies": 5,
        "copies_bytes": 5000,
        "copies_skipped": 6,
        "connections": 8,
        "compared": 0,
        "released": 0,
        "discarded": 0,
        "held": 0,
        "divergences": 0,
        "passed": 0,
        "link_bytes_sent": 900,
        "link_bytes_received": 1000,
    }
