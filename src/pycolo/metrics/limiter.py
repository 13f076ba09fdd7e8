"""Limits repetition; pure, the time is an argument."""

from collections.abc import Hashable
from typing import Final

REPEATS_PER_S: Final = 5
"""Default rate per key: more of the same line adds no information."""

KEYS_MAX: Final = 256
"""Number of keys remembered; the least recent one is dropped first."""


class Limiter:
    """Admits each key `per_s` times per second of `now_ms`, and counts the rest as withheld."""

    def __init__(self, per_s: int = REPEATS_PER_S, keys_max: int = KEYS_MAX) -> None:
        self._per_s = per_s
        self._keys_max = keys_max
        self._seen: dict[Hashable, tuple[int, int, int]] = {}  # begin of its second, admitted in it, withheld

    def admit(self, key: Hashable, now_ms: int) -> int | None:
        """None: withhold it. Otherwise admit it; the number is how many were withheld since the last admitted one."""
        began_ms, admitted, withheld = self._seen.pop(key, (now_ms, 0, 0))
        if now_ms - began_ms >= 1000:
            began_ms, admitted = now_ms, 0
        is_admitted = admitted < self._per_s
        self._seen[key] = (began_ms, admitted + 1, 0) if is_admitted else (began_ms, admitted, withheld + 1)
        while len(self._seen) > self._keys_max:
            del self._seen[next(iter(self._seen))]
        return withheld if is_admitted else None
