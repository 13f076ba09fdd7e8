"""What the page shows, made from a node's answers: pure.

Everything is bounded: texts are cut, lists are short. Texts may have been written by a guest, by QEMU or by the other
node; the page shows them as they are.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Final, Literal

from pycolo.failover.health import Verdict
from pycolo.metrics.readings import at, hold_buckets, number

Data = dict[str, Any]
Level = Literal["good", "warning", "bad"]

TEXT_CHARACTERS_MAX: Final = 300
"""A reason with a connection over IPv6 and its sentence has some 200."""

DIVERGENCES_SHOWN: Final = 4
CHECKPOINTS_SHOWN: Final = 64
COST_ROWS_SHOWN: Final = 10
WARNINGS_SHOWN: Final = 8
TABLES_SHOWN: Final = 16
"""As many `[[mask]]` or `[[bypass]]` as a file may have."""

_BAD: Final = frozenset({"degraded", "suspect", "taking-over", "fenced"})
_PROTECTED: Final = "protected"
_UNPROTECTED: Final = frozenset({"linked", "alone", "serving"})

_SAYS: Final = {
    "waiting": "This node waits for its guest or for the other node.",
    "linked": "The nodes are linked, and the guest is not protected.",
    "protecting": "The guest is being copied to the other host.",
    "protected": "If either host fails, the other one carries every connection on.",
    "degraded": "Too much payload leaves uncompared: a failover would break connections.",
    "suspect": "The other node is silent, and this one has no permission yet to go on alone.",
    "alone": "The guest runs on this host only: it is not protected.",
    "handing-over": "The other host is about to serve.",
    "taking-over": "This host is about to serve.",
    "serving": "This host has taken over, and the guest is not protected.",
    "fenced": "The other node serves: this one must not.",
}


def page_data(
    status: Mapping[str, Any],
    costs: Mapping[str, Mapping[str, Any]],
    takeovers: Iterable[Mapping[str, Any]],
    *,
    at_iso: str,
    now_ns: int,
) -> Data:
    """`status`: as of `colo status`; `costs`: by port, for each window; `now_ns`: monotonic, as in the divergences."""
    checkpoint = at(status, "checkpoint") or {}
    return {
        "at": at_iso,
        **{name: at(status, name) for name in ("pair", "role", "state", "since_ms", "version", "term", "epoch")},
        "verdict": verdict(status),
        "hosts": [_this_host(status), _other_host(status)],
        "warnings": [
            _text(f"{at(note, 'where')}: {at(note, 'text')}")
            for note in (at(status, "warnings") or [])[:WARNINGS_SHOWN]
        ],
        "pauses": at(checkpoint, "pause_ms"),
        "pace": _text(at(checkpoint, "pace", "why")),
        "pause_target_ms": number(checkpoint, "pace", "target_ms"),
        "checkpoints": [_checkpoint(record) for record in (at(checkpoint, "last") or [])[-CHECKPOINTS_SHOWN:]],
        "holds": _holds(status),
        "costs": {window: _costs(answer) for window, answer in costs.items()},
        "divergences": [
            _divergence(one, now_ns) for one in reversed((at(status, "divergences") or [])[-DIVERGENCES_SHOWN:])
        ],
        "masks": _tables(at(status, "masks"), "matches"),
        "bypassed": _tables(at(status, "bypassed"), "packets"),
        "takeovers": [dict(one) for one in takeovers],
    }


def verdict(status: Mapping[str, Any]) -> Data:
    """What the pair is worth at the moment: `level`, `title` and a few sentences."""
    state = str(at(status, "state"))
    judged = at(status, "health", "verdict")
    if state == _PROTECTED and judged == Verdict.DEGRADED:  # the pair's state follows within a second
        state = Verdict.DEGRADED.value
    sentences = [_SAYS.get(state, "")]
    if state == _PROTECTED and judged == Verdict.UNSEEN:
        sentences.append("Nothing was compared yet: no client has asked the guest anything.")
    if state in _UNPROTECTED and at(status, "protection", "lacks"):
        sentences.append(f"Protection waits: {_text(at(status, 'protection', 'why'))}.")
    elif state in _UNPROTECTED and number(status, "protection", "failures"):
        sentences.append(f"The last attempt to protect it has failed: {_text(at(status, 'protection', 'why'))}.")
    sentences.append(_sentence(at(status, "health", "why")))
    blocked = _sentence(at(status, "blocked"))
    if blocked:
        sentences = [blocked, "It is tried again."]
    level: Level = "good" if state == _PROTECTED else "bad" if blocked or state in _BAD else "warning"
    return {"level": "bad" if blocked else level, "title": state, "text": " ".join(filter(None, sentences))}


def _sentence(found: object) -> str:
    text = _text(found)
    return f"{text[:1].upper()}{text[1:]}." if text else ""


def _this_host(status: Mapping[str, Any]) -> Data:
    role = str(at(status, "role"))
    return {"name": "this host", "role": role, "qemu": _qemu(at(status, "vm")), "link": _text(at(status, "peer"))}


def _other_host(status: Mapping[str, Any]) -> Data:
    role = {"primary": "secondary", "secondary": "primary"}.get(str(at(status, "role")), "")
    silence_ms = number(status, "heartbeat_silence_ms")
    heard = None if silence_ms is None else f"its heartbeat was confirmed {silence_ms:.0f} ms ago"
    if at(status, "peer") is None:
        return {"name": "the other host", "role": "", "qemu": "unknown", "link": "its node is not linked"}
    return {"name": "the other host", "role": role, "qemu": _qemu(at(status, "other_vm")), "link": heard or "linked"}


def _qemu(vm: object) -> str:
    if not isinstance(vm, Mapping):
        return "unknown"
    if at(vm, "qmp") != "connected":
        return "QEMU is absent"
    return _text(f"QEMU {at(vm, 'version')}, {at(vm, 'status')}, COLO {at(vm, 'colo')}")


def _checkpoint(record: Mapping[str, Any]) -> Data:
    reasons = at(record, "reasons") or [{}]
    return {
        "at": at(record, "at"),
        "epoch": at(record, "epoch"),
        "outcome": at(record, "outcome"),
        "pause_ms": number(record, "pause_ms"),
        "copied_bytes": number(record, "copied_bytes"),
        "reason": at(reasons[0], "kind"),
        "text": _text(at(record, "why") or at(reasons[0], "text")),
    }


def _holds(status: Mapping[str, Any]) -> list[list[float | None]]:
    """[upper bound in µs (None: none), packets in this bucket]."""
    found, before = [], 0.0
    for upper_us, count in hold_buckets(status):
        found.append([None if upper_us == float("inf") else upper_us, count - before])
        before = count
    return found


def _costs(answer: Mapping[str, Any]) -> Data:
    rows = list(answer["rows"][:COST_ROWS_SHOWN])
    if answer["others"]:
        rows.append(answer["others"])
    return {"seconds": answer["seconds"], "total": answer["total"], "rows": rows}


def _tables(found: object, counted: str) -> list[Data]:
    """Counters of the file's tables `[[mask]]` or `[[bypass]]`, those too that nothing was for."""
    tables = found if isinstance(found, Mapping) else {}
    return [
        {"name": _text(name), counted: number(table, counted), "bytes": number(table, "bytes")}
        for name, table in list(tables.items())[:TABLES_SHOWN]
    ]


def _divergence(one: Mapping[str, Any], now_ns: int) -> Data:
    sides = {name: at(one, name) for name in ("primary", "primary_index", "secondary", "secondary_index", "masked")}
    age_ms = max(0, now_ns - int(number(one, "at_ns") or now_ns)) // 1_000_000
    return {"text": _text(at(one, "text")), "kind": at(one, "kind"), "age_ms": age_ms, **sides}


def _text(found: object) -> str:
    return found[:TEXT_CHARACTERS_MAX] if isinstance(found, str) else ""
