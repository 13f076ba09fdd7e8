"""How each metric is read from a status answer: pure.

A status answer comes from a running node, perhaps of an older or newer release than this module: a value that is
missing or has the wrong type gives no sample, and an unknown key is ignored.
"""

from collections.abc import Callable, Collection, Iterator, Mapping
from itertools import islice
from math import isfinite
from typing import Any, Final

from pycolo.checkpoint.table import RUNNING
from pycolo.compare.kinds import PassReason
from pycolo.failover.health import Verdict
from pycolo.metrics.catalog import STATES

Labels = tuple[str, ...]
Reading = Iterator[tuple[Labels, float]]
Buckets = list[tuple[float, float]]

LABEL_VALUES_MAX: Final = 32
"""Different values of one label in a status answer; no label has more than about ten."""

LABEL_CHARACTERS_MAX: Final = 64
"""Characters of a label; a pair's name has at most as many."""

HOLD_BOUNDS_US: Final = tuple(1 << exponent for exponent in range(4, 24))
"""16 µs to 8.4 s, doubling: every fourth bound of the comparator's own buckets."""

_QEMU_RUNS: Final = ("running", "colo")
"""`query-status`: `colo` is a guest that a checkpoint pauses."""


def at(status: object, *path: str) -> Any:
    """The value at `path`, or None."""
    for name in path:
        status = status.get(name) if isinstance(status, Mapping) else None
    return status


def number(status: object, *path: str) -> float | None:
    """The number at `path`, if a float can represent it."""
    found = at(status, *path)
    if not isinstance(found, int | float):
        return None
    try:
        return float(found) if isfinite(found) else None
    except OverflowError:  # an integer too large for a float
        return None


def text(status: object, *path: str) -> str:
    """The text at `path`, truncated for a label; "" if there is none."""
    found = at(status, *path)
    return found[:LABEL_CHARACTERS_MAX] if isinstance(found, str) else ""


# ── kinds of reading ────────────────────────────────────────────────────────────────────────────────────────

Reader = Callable[[Mapping[str, Any]], Reading]


def plain(*path: str, per: float = 1) -> Reader:
    """The number at `path`, divided by `per`."""

    def read(status: Mapping[str, Any]) -> Reading:
        found = number(status, *path)
        if found is not None:
            yield (), found / per

    return read


def keyed(*path: str) -> Reader:
    """A mapping at `path`: its keys are the values of the label."""

    def read(status: Mapping[str, Any]) -> Reading:
        found = at(status, *path)
        if isinstance(found, Mapping):
            for key in islice(found, LABEL_VALUES_MAX):
                value = number(found, key)
                if isinstance(key, str) and value is not None:
                    yield (key[:LABEL_CHARACTERS_MAX],), value

    return read


def counters(names: Mapping[str, Labels], only_with: str | None = None) -> Reader:
    """The counters in `names`, each with its labels; none at all if the counter `only_with` is missing."""

    def read(status: Mapping[str, Any]) -> Reading:
        if only_with is None or number(status, "counters", only_with) is not None:
            for name, labels in names.items():
                value = number(status, "counters", name)
                if value is not None:
                    yield labels, value

    return read


def together(*readers: Reader) -> Reader:
    """One after the other."""

    def read(status: Mapping[str, Any]) -> Reading:
        for reader in readers:
            yield from reader(status)

    return read


def _is_there(*path: str) -> Reader:
    """1 if there is a value at `path`, 0 if it is null; no sample without the key."""

    def read(status: Mapping[str, Any]) -> Reading:
        above = at(status, *path[:-1]) if len(path) > 1 else status
        if isinstance(above, Mapping) and path[-1] in above:
            yield (), float(above[path[-1]] is not None)

    return read


def _is_one_of(*path: str, values: Collection[str]) -> Reader:
    def read(status: Mapping[str, Any]) -> Reading:
        found = at(status, *path)
        if isinstance(found, str):
            yield (), float(found in values)

    return read


# ── one by one ──────────────────────────────────────────────────────────────────────────────────────────────


def _state(status: Mapping[str, Any]) -> Reading:
    found = text(status, "state")
    if found:
        for state in STATES:
            yield (state,), float(state == found)
        if found not in STATES:
            yield (found,), 1


def _guest_up(status: Mapping[str, Any]) -> Reading:
    """A QEMU that does not report its guest's state counts as down."""
    found = at(status, "vm")
    if isinstance(found, Mapping) and "status" in found:
        yield (), float(found["status"] in _QEMU_RUNS)


def _link_up(status: Mapping[str, Any]) -> Reading:
    found = at(status, "link_up")
    if isinstance(found, bool):
        yield (), float(found)
    else:
        yield from _is_there("peer")(status)


def _pending(status: Mapping[str, Any]) -> Reading:
    found = at(status, "checkpoint", "pending")
    if isinstance(found, list):
        yield (), len(found)


def _sum_of_counters(*names: str) -> Reader:
    def read(status: Mapping[str, Any]) -> Reading:
        found = [value for name in names if (value := number(status, "counters", name)) is not None]
        if found:
            yield (), sum(found)

    return read


def _degraded(status: Mapping[str, Any]) -> Reading:
    found = at(status, "health", "verdict")
    if found in (Verdict.WELL, Verdict.DEGRADED):
        yield (), float(found == Verdict.DEGRADED)


def _target_missed(status: Mapping[str, Any]) -> Reading:
    found = at(status, "checkpoint", "pace", "is_held")
    if isinstance(found, bool):
        yield (), float(not found)


def _failover_seconds(status: Mapping[str, Any]) -> Reading:
    began = number(status, "takeover", "suspected_ns")
    ended = number(status, "takeover", "done_ns")
    if ended is None:
        ended = number(status, "takeover", "decided_ns")
    if began is not None and ended is not None:
        yield (), max(0.0, ended - began) / 1e9


def _unprotected(status: Mapping[str, Any]) -> Reading:
    if at(status, "protection", "wished") is True:
        yield (), (number(status, "protection", "unprotected_ms") or 0) / 1000


_COMPARES: Final = "primary_frames"
_REWRITES: Final = "client_frames"
# Which of the two counters a status has shows the node's kind; `guest_frames` and `refused` are in both.

_PORTS: Final = ("lan", "guest")
_EVICTED: Final = {f"evicted_{reason}": (reason,) for reason in ("idle", "closed", "half_open", "lru")}
_PRIMARY_FATES: Final = {
    "compared": ("primary", "compared"),
    "passed": ("primary", "passed"),
    "let_through": ("primary", "let_through"),
    "refused": ("primary", "refused"),
    "refused_marked": ("primary", "withheld"),
    "dropped": ("primary", "dropped"),
    "discarded": ("secondary", "discarded"),
}
_REASONS: Final = tuple(reason.name.lower() for reason in PassReason)
_REWRITER_FATES: Final = {
    "rewritten": ("rewriter", "rewritten"),
    "untouched": ("rewriter", "untouched"),
    "refused": ("rewriter", "refused"),
    "handshake_dropped": ("rewriter", "dropped"),
}


def _services(name: str, per: float = 1) -> Reader:
    return _each("costs", "services", name=name, per=per)


def _each(*place: str, name: str, per: float = 1) -> Reader:
    """A number of each of several things, with their names as labels."""

    def read(status: Mapping[str, Any]) -> Reading:
        found = at(status, *place)
        if isinstance(found, Mapping):
            for service in islice(found, LABEL_VALUES_MAX):
                value = number(found, service, name)
                if isinstance(service, str) and value is not None:
                    yield (service[:LABEL_CHARACTERS_MAX],), value / per

    return read


def _ports(name: str) -> Reader:
    return counters({f"{port}_{name}": (port,) for port in _PORTS})


def _ports_both_ways(name: str) -> Reader:
    return counters({f"{port}_{name}_{way}": (port, way) for port in _PORTS for way in ("in", "out")})


READERS: Final[dict[str, Reader]] = {
    "colo_state": _state,
    "colo_state_seconds": plain("since_ms", per=1000),
    "colo_unprotected_seconds": _unprotected,
    "colo_state_blocked": _is_there("blocked"),
    "colo_term": plain("term"),
    "colo_epoch": plain("epoch"),
    "colo_plan_running": _is_there("plan"),
    "colo_failovers_total": keyed("failovers"),
    "colo_failover_seconds": _failover_seconds,
    "colo_qmp_up": _is_one_of("vm", "qmp", values=("connected",)),
    "colo_guest_up": _guest_up,
    "colo_checkpoint_running": _is_one_of("checkpoint", "phase", values=RUNNING),
    "colo_checkpoint_pending_requests": _pending,
    "colo_checkpoints_total": keyed("checkpoint", "count"),
    "colo_checkpoints_aborted_total": plain("checkpoint", "aborted"),
    "colo_checkpoint_part_seconds_total": keyed("checkpoint", "parts_sum_s"),
    "colo_checkpoint_released_frames_total": plain("checkpoint", "released_frames"),
    "colo_checkpoint_released_bytes_total": plain("checkpoint", "released_bytes"),
    "colo_checkpoint_discarded_frames_total": plain("checkpoint", "discarded_frames"),
    "colo_checkpoint_copied_bytes_total": plain("checkpoint", "copied_bytes"),
    "colo_checkpoint_pause_target_seconds": plain("checkpoint", "pace", "target_ms", per=1000),
    "colo_checkpoint_pause_target_missed": _target_missed,
    "colo_checkpoint_change_bytes_per_second": plain("checkpoint", "pace", "change_bytes_per_s"),
    "colo_checkpoint_copy_bytes_per_second": plain("checkpoint", "pace", "copy_bytes_per_s"),
    "colo_checkpoint_cost_seconds": plain("checkpoint", "spacing", "cost_ms", per=1000),
    "colo_checkpoint_distance_seconds": plain("checkpoint", "spacing", "distance_ms", per=1000),
    "colo_checkpoint_wait_seconds": plain("checkpoint", "spacing", "wait_ms", per=1000),
    "colo_service_checkpoints_total": _services("checkpoints"),
    "colo_service_waited_seconds_total": _services("waited_us", per=1e6),
    "colo_service_uncompared_bytes_total": _services("uncompared_bytes"),
    "colo_ordered_requests_total": plain("counters", "ordered_requests"),
    "colo_ordered_waited_seconds_total": plain("counters", "ordered_waited_us", per=1e6),
    "colo_ordered_blocked_total": plain("counters", "ordered_blocked"),
    "colo_ordered_limited_total": plain("counters", "ordered_limited"),
    "colo_ordered_frames": plain("counters", "ordered_waiting"),
    "colo_held_packets": plain("counters", "held"),
    "colo_held_bytes": plain("counters", "held_bytes"),
    "colo_connections": plain("counters", "connections"),
    "colo_connections_evicted_total": counters(_EVICTED),
    "colo_connections_refused_total": _sum_of_counters("refused_full", "table_full"),
    "colo_frames_total": together(
        counters({"primary_frames": ("primary",), "secondary_frames": ("secondary",)}, _COMPARES),
        counters({"client_frames": ("client",), "guest_frames": ("guest",)}, _REWRITES),
    ),
    "colo_packets_total": together(counters(_PRIMARY_FATES, _COMPARES), counters(_REWRITER_FATES, _REWRITES)),
    "colo_released_frames_total": counters({"released": ()}, _COMPARES),
    "colo_divergences_total": counters({"divergences": ()}, _COMPARES),
    "colo_divergences_by_kind_total": keyed("divergence_kinds"),
    "colo_degraded": _degraded,
    "colo_health_age_seconds": plain("health", "age_ms", per=1000),
    "colo_compared_bytes_total": counters({"compared_bytes": ()}, _COMPARES),
    "colo_uncompared_bytes_total": counters(
        {f"uncompared_{reason}_bytes": (reason,) for reason in _REASONS}, _COMPARES
    ),
    "colo_uncompared_packets_total": counters({f"uncompared_{reason}": (reason,) for reason in _REASONS}, _COMPARES),
    "colo_masked_matches_total": _each("masks", name="matches"),
    "colo_masked_bytes_total": _each("masks", name="bytes"),
    "colo_bypassed_packets_total": _each("bypassed", name="packets"),
    "colo_bypassed_bytes_total": _each("bypassed", name="bytes"),
    "colo_copies": plain("counters", "copies"),
    "colo_copies_bytes": plain("counters", "copies_bytes"),
    "colo_copies_skipped_total": plain("counters", "copies_skipped"),
    "colo_resent_frames_total": plain("counters", "resent"),
    "colo_link_up": _link_up,
    "colo_link_bytes_total": counters({"link_bytes_sent": ("sent",), "link_bytes_received": ("received",)}),
    "colo_heartbeat_silence_seconds": plain("heartbeat_silence_ms", per=1000),
    "colo_port_up": _ports("connected"),
    "colo_port_connections_total": _ports("connections"),
    "colo_port_bytes_total": _ports_both_ways("bytes"),
    "colo_port_frames_total": _ports_both_ways("frames"),
    "colo_port_dropped_frames_total": _ports("dropped"),
}
"""How the samples of a gauge or counter are read."""


# ── histograms ──────────────────────────────────────────────────────────────────────────────────────────────


def hold_buckets(status: Mapping[str, Any]) -> Buckets:
    """(upper bound in µs, packets up to that bound); the last bound is infinite. Empty without data."""
    own = _buckets(at(status, "hold_histogram"))
    if not own:
        return []
    # The comparator's last bucket has no upper bound.
    bounded = own[:-1]
    coarse = [(float(bound), sum(count for upper, count in bounded if upper <= bound)) for bound in HOLD_BOUNDS_US]
    return [*coarse, (float("inf"), sum(count for _, count in own))]


def pause_buckets(status: Mapping[str, Any]) -> tuple[Buckets, float | None]:
    """As `hold_buckets`, and the sum in µs."""
    own = _buckets(at(status, "checkpoint", "pause_histogram", "buckets"))
    cumulative: Buckets = []
    total = 0.0
    for upper, count in own:
        total += count
        cumulative.append((upper, total))
    if cumulative and cumulative[-1][0] != float("inf"):
        cumulative.append((float("inf"), total))
    return cumulative, number(status, "checkpoint", "pause_histogram", "sum_us")


def _buckets(found: object) -> Buckets:
    """[(upper bound, count)] in rising order, or nothing: half a histogram is worse than none."""
    buckets: Buckets = []
    for pair in found if isinstance(found, list | tuple) else ():
        if not isinstance(pair, list | tuple) or len(pair) != 2:
            return []
        upper = float("inf") if pair[0] is None else number({"": pair[0]}, "")
        count = number({"": pair[1]}, "")
        if upper is None or count is None or count < 0 or upper < 0 or (buckets and upper <= buckets[-1][0]):
            return []
        buckets.append((upper, count))
    return buckets
