"""What a node's page is given: a busy pair, and what a hostile guest may have written into it."""

from ipaddress import IPv4Address
from time import monotonic_ns
from typing import Any

from pycolo.checkpoint.records import CheckpointRecord, Outcome, Reason, ReasonKind
from pycolo.compare.difference import Difference
from pycolo.compare.kinds import DifferenceKind
from pycolo.compare.wait import Wait
from pycolo.conntrack.key import ConnectionKey
from pycolo.costs.ledger import OVER, Ledger
from pycolo.metrics.pagedata import page_data
from support.statuses import checkpoint_record, vm_status

NOW_S = 1_795_970_000

MARKUP = "<img src=x onerror=document.title='owned'><script>document.title='owned'</script>&amp;\u202e\0"
"""If a browser took it for markup, the page's title would say so."""


def key(port: int, client: int = 40_001) -> ConnectionKey:
    return ConnectionKey(6, IPv4Address("10.0.0.2"), IPv4Address("10.0.0.9"), port, client)


def divergence(ours: bytes, theirs: bytes, at: int, port: int = 5432) -> dict[str, Any]:
    return {
        "connection": str(key(port)),
        "kind": "payload",
        "seq": 1000,
        "waited_ms": 0,
        "text": f"{key(port)}: the streams differ at sequence number 1000",
        "primary": ours.hex(),
        "primary_index": at,
        "secondary": theirs.hex(),
        "secondary_index": at,
        "at_ns": monotonic_ns() - 3_200_000_000,
    }


def ledger() -> Ledger:
    found = Ledger(NOW_S - 1200)
    facts = (
        (71, 5432, b"alice 10\nbob 20\nend", b"bob 20\nalice 10\nend", 0),
        (23, 443, b"\x16\x03\x03\x00\x7a\2\0\0\x76\3\3aaaa", b"\x16\x03\x03\x00\x7a\2\0\0\x76\3\3bbbb", 11),
    )
    epoch = 0
    for count, port, ours, theirs, at in facts:
        for _ in range(count):
            epoch += 1
            found.difference(Difference(DifferenceKind.PAYLOAD, key(port), 1, 0, ours, at, theirs, at), NOW_S - 5)
            found.waited(epoch, [Wait(key(port), 1, 43_000, 43_000, 320)], NOW_S - 5)
            reasons = (Reason(ReasonKind.DIVERGENCE, "text", str(key(port))),)
            record = CheckpointRecord(epoch, reasons, 0, 0, 0, 0, Outcome.COMMITTED, pause_us=17_600)
            found.checkpoint(record, NOW_S - 5)
    return found


def busy(epoch: int = 7, **changed: Any) -> dict[str, Any]:
    """As `Page.shown` answers it."""
    kinds = ("divergence", "divergence", "timeout", "divergence", "periodic", "mutual_wait", "divergence")
    records = [
        checkpoint_record(
            epoch=number,
            at=f"2026-11-29T17:{number // 6:02d}:{number % 6 * 10:02d}.123Z",
            pause_ms=6 + number * 7 % 23,
            reasons=[{"kind": kinds[number % 7], "text": f"{key(5432)}: the streams differ", "connection": None}],
        )
        for number in range(60)
    ]
    differences = [
        divergence(
            b"HTTP/1.1 200 OK\r\nDate: Sun, 29 Nov 2026 17:45:49",
            b"HTTP/1.1 200 OK\r\nDate: Sun, 29 Nov 2026 17:45:50",
            46,
            80,
        ),
        divergence(b"\0\1row alice 10\nbob 20\nend", b"\0\1row bob 20\nalice 10\nend", 6),
    ]
    status = vm_status(
        epoch=epoch,
        divergences=differences,
        other_vm={"qmp": "connected", "version": "7.2.22", "status": "paused", "colo": "secondary"},
    )
    status["checkpoint"] |= {"last": records}
    costs = ledger()
    takeovers = [
        {
            "at": "2026-11-29T16:02:11Z",
            "kind": "take-over",
            "cause": "the other node is fenced",
            "took_ms": 412.5,
            "resent": 7,
        }
    ]
    return page_data(
        {**status, **changed},
        {over: costs.answer("port", over, NOW_S) for over in OVER},
        takeovers,
        at_iso="2026-11-29T17:46:00.000Z",
        now_ns=monotonic_ns(),
    )


def just_started() -> dict[str, Any]:
    """Of a node that waits for its guest and for the other node."""
    nothing = dict.fromkeys(("checkpoint", "health", "vm", "peer", "hold_us", "takeover", "heartbeat_silence_ms"))
    status = vm_status(state="waiting", hold_histogram=[], divergences=[], counters={}, **nothing)
    costs = Ledger(NOW_S)
    answers = {over: costs.answer("port", over, NOW_S) for over in OVER}
    return page_data(status, answers, [], at_iso="2026-11-29T17:46:00.000Z", now_ns=monotonic_ns())


def hostile() -> dict[str, Any]:
    """The same, with markup wherever a guest, QEMU or the other node writes."""
    octets = MARKUP.encode()[:64]
    status = {
        "divergences": [{**divergence(octets, octets[::-1], 0), "text": MARKUP, "kind": MARKUP}],
        "vm": {"qmp": "connected", "version": MARKUP, "status": MARKUP, "colo": MARKUP},
        "peer": MARKUP,
        "pair": MARKUP,
        "masks": {MARKUP: {"matches": 7, "bytes": 12}},
        "bypassed": {MARKUP: {"packets": 3, "bytes": 9}},
        "warnings": [{"text": MARKUP}],
        "checkpoint": {"last": [checkpoint_record(reasons=[{"kind": MARKUP, "text": MARKUP}], why=MARKUP)]},
    }
    data = busy(**status)
    data["costs"]["hour"]["rows"][0]["words"] = MARKUP
    data["takeovers"][0]["cause"] = MARKUP
    return data
