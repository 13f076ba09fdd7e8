"""How often something may be said: pure, the time is an argument."""

from collections.abc import Hashable
from typing import Final

REPEATS_PER_S: Final = 5
"""The same line more often than that says nothing new."""

KEYS_MAX: Final = 256
"""Different things remembered at once; the longest unheard one is forgotten first."""


class Limiter:
    """Admits each key `per_s` times within a second of `now_ms`, and counts what it did not admit."""

    def __init__(self, per_s: int = REPEATS_PER_S, keys_max: int = KEYS_MAX) -> None:
        self._per_s = per_s
        self._keys_max = keys_max
        self._seen: dict[Hashable, tuple[int, int, int]] = {}  # begin of its second, admitted in it, withheld

    def admit(self, key: Hashable, now_ms: int) -> int | None:
        """None: withhold it. Else say it, and how many of its kind were withheld since the last one said."""
        began_ms, admitted, withheld = self._seen.pop(key, (now_ms, 0, 0))
        if now_ms - began_ms >= 1000:
            began_ms, admitted = now_ms, 0
        is_admitted = admitted < self._per_s
        self._seen[key] = (began_ms, admitted + 1, 0) if is_admitted else (began_ms, admitted, withheld + 1)
        while len(self._seen) > self._keys_max:
            del self._seen[next(iter(self._seen))]
        return withheld if is_admitted else None
