"""The cores as the shells use them: made in one place, with random keys; and the names of their counters."""

import secrets
from typing import Any

from pycolo import limits
from pycolo.core import Comparator, ConnectionTable, PrimaryOrder, Rewriter, SecondaryOrder

_KEY_BITS = 128


def new_comparator(**options: Any) -> Comparator:
    """A comparator with random hash keys, against aimed collisions. `options`: the class's, except the key."""
    return Comparator(secrets.randbits(_KEY_BITS), **options)


def node_ages(compare_timeout_ms: int) -> dict[str, int]:
    """Options of a node's comparator by which compare_timeout is honoured, and a mutual wait is seen."""
    cycle_ms = max(limits.AGE_CYCLE_MIN_MS, compare_timeout_ms // limits.AGE_PART)
    return {
        "compare_timeout_ms": compare_timeout_ms,
        "age_cycle_ms": min(cycle_ms, limits.EXPIRED_SCAN_CYCLE_MS),
        "mutual_wait_ms": min(limits.MUTUAL_WAIT_MS, compare_timeout_ms),
    }


def new_rewriter(*, keeps_copies: bool, **options: Any) -> Rewriter:
    """A rewriter with random hash keys, against aimed collisions. `options`: the class's, except the key.

    `keeps_copies`: of the guest's frames, for a takeover.
    """
    rewriter = Rewriter(secrets.randbits(_KEY_BITS), **options)
    rewriter.keeps_copies = keeps_copies
    return rewriter


def new_primary_order(*, has_vnet: bool) -> PrimaryOrder:
    """The primary's order of requests, with random hash keys."""
    return PrimaryOrder(secrets.randbits(_KEY_BITS), has_vnet)


def new_secondary_order(*, has_vnet: bool) -> SecondaryOrder:
    """The secondary's likewise."""
    return SecondaryOrder(secrets.randbits(_KEY_BITS), has_vnet)


def comparator_counters(comparator: Comparator) -> dict[str, int]:
    """All counters of a comparator since its start."""
    counters = _counters(comparator.stats, comparator.table) | {"refused_full": comparator.table.refused_full}
    for reason, (packets, octets) in comparator.held.uncompared.counts().items():
        name = f"uncompared_{reason.name.lower()}"
        counters |= {name: packets, f"{name}_bytes": octets}
    return counters


def masked(comparator: Comparator) -> dict[str, dict[str, int]]:
    """By mask: how many matches have hidden a difference, and how many bytes differed in them."""
    counts = comparator.tcp.masks.counts()
    return {name: {"matches": matches, "bytes": octets} for name, (matches, octets) in counts.items()}


def bypassed(comparator: Comparator) -> dict[str, dict[str, int]]:
    """By the number of the user's table: the primary's packets that it let pass uncompared, and their payload."""
    counts = comparator.openings.bypassed()
    return {str(table): {"packets": packets, "bytes": octets} for table, (packets, octets) in counts.items()}


def rewriter_counters(rewriter: Rewriter) -> dict[str, int]:
    """All counters of a rewriter since its start."""
    return _counters(rewriter.stats, rewriter.table)


def _counters(stats: object, table: ConnectionTable) -> dict[str, int]:
    counters: dict[str, int] = {name: getattr(stats, name) for name in dir(stats) if not name.startswith("_")}
    return counters | {
        "evicted_idle": table.evicted_idle,
        "evicted_closed": table.evicted_closed,
        "evicted_half_open": table.evicted_half_open,
        "evicted_lru": table.evicted_lru,
    }
