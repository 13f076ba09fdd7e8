"""The order of requests, as `colo status` and `colo explain` tell it."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any


def order_lines(ports: Sequence[Mapping[str, Any]], *, says_why: bool = False) -> Iterator[str]:
    """One line for each port that is ordered, or was: what is done. `says_why`: and why, and what it costs."""
    for port in ports:
        card = f" on {port['card']}" if port.get("card") else ""
        name = f"port {port['port']}{card}"
        if not port["is_ordered"]:
            yield f"{name}: not ordered: {port['why']}"
            continue
        at_once = "one request" if port["width"] == 1 else f"{port['width']} requests"
        yield f"{name}: {at_once} at once, mirrored {port['mirrored']}" + (f": {port['why']}" if says_why else "")
        if says_why:
            yield f"  {_counts(port)}"


def _counts(port: Mapping[str, Any]) -> str:
    mean_ms, longest_ms = port["waited_mean_us"] / 1000, port["waited_max_us"] / 1000
    parts = [
        f"{port['requests']} requests have waited {mean_ms:.1f} ms on average, {longest_ms:.1f} ms at most",
        f"{port['blocked']} waited for another one",
        f"{port['limited']} were not answered within the limit (now {port['limit_ms']} ms)",
        f"{port['differences']} differences",
    ]
    return "; ".join(parts)
